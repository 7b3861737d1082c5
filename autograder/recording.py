"""Recordings: what the reference and every known mistake answered, and how to compare. Written by trusted runs only, read by the judge."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from autograder.answer import Answer, TensorTable, UnreadableAnswer, answer_from_json, answer_to_json


class NoRecording(LookupError):
    """There is no recording where one is needed; the message says what to do."""


@dataclass(frozen=True)
class Mistake:
    """A known wrong solution: its short name, the sentence a learner should read, and what it answered."""

    name: str
    says: str
    answer: Answer


@dataclass(frozen=True)
class CheckRecording:
    """All the judge knows about one check.

    points: what the check is worth. paper: section or equation, for the message. forbid: patterns of calls that may not be made.
    stubs: the messages of the notebook's unimplemented stubs, with the exercise each belongs to.
    """

    check: str
    points: int
    reference: Answer
    mistakes: tuple[Mistake, ...] = ()
    hints: tuple[str, ...] = ()
    paper: str = ""
    forbid: tuple[str, ...] = ()
    stubs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Recording:
    """A notebook's recording: one CheckRecording a check, in the notebook's order."""

    assignment: str
    notebook: str
    checks: Mapping[str, CheckRecording]

    def save(self, stem: Path) -> None:
        """Write `stem`.safetensors and `stem`.json. The same recording gives the same bytes."""
        table = TensorTable()
        checks = [_check_to_json(check, table) for check in self.checks.values()]
        stem.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"assignment": self.assignment, "notebook": self.notebook, "checks": checks}, indent=1)
        stem.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        path = stem.with_suffix(".safetensors")
        save_file(dict(sorted(table.tensors.items())), path)
        path.chmod(0o644)  # safetensors writes files that only their owner may read

    @staticmethod
    def load(stem: Path) -> Recording:
        """Read what `save` wrote. Raises NoRecording where the files are missing or damaged."""
        try:
            data = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
            table = TensorTable(load_file(stem.with_suffix(".safetensors")))
            checks = [_check_from_json(item, table) for item in data["checks"]]
        except FileNotFoundError:
            raise NoRecording(f"there is no recording {stem}; `autograder build` makes it") from None
        except (UnreadableAnswer, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise NoRecording(
                f"the recording {stem} cannot be read ({error}); `autograder build` makes it anew"
            ) from error
        return Recording(data["assignment"], data["notebook"], {check.check: check for check in checks})


def folders() -> list[Path]:
    """Where recordings are looked for: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent
    return [package.parent / "data" / "recordings", package / "recordings"]


@functools.lru_cache(maxsize=32)
def shipped(assignment: str, notebook: str) -> Recording:
    """The recording on the public seed that comes with the package. Raises NoRecording."""
    for folder in folders():
        if (folder / assignment / f"{notebook}.json").exists():
            return Recording.load(folder / assignment / notebook)
    raise NoRecording(
        f"no recording of {assignment}/{notebook} was found: install the package again with the set-up cell, "
        "or run `autograder build` in a checkout"
    )


def _check_to_json(check: CheckRecording, table: TensorTable) -> dict[str, Any]:
    return {
        "check": check.check,
        "points": check.points,
        "paper": check.paper,
        "forbid": list(check.forbid),
        "hints": list(check.hints),
        "stubs": dict(check.stubs),
        "reference": _timeless(check.reference, table),
        "mistakes": [
            {
                "name": mistake.name,
                "says": mistake.says,
                "answer": _mistake_to_json(mistake.answer, check.reference, table),
            }
            for mistake in check.mistakes
        ],
    }


def _mistake_to_json(answer: Answer, reference: Answer, table: TensorTable) -> dict[str, Any]:
    """A mistake's cases as names alone where they equal the reference's, else their values: policies and inputs are the reference's."""
    right = {case["name"]: case for case in _timeless(reference, table)["cases"]}
    cases: list[Any] = []
    for case in _timeless(answer.without_inputs(), table)["cases"]:
        own = {key: case[key] for key in ("values", "modified", "error") if key in case}
        same = {
            key: value for key, value in right.get(case["name"], {}).items() if key in ("values", "modified", "error")
        }
        cases.append(case["name"] if own == same else {"name": case["name"], **own})
    return {"cases": cases}


def _mistake_from_json(data: Any, reference: Answer, table: TensorTable) -> Answer:
    answer = answer_from_json(
        {
            "check": reference.check,
            "parts": {},
            "cases": [{"name": c} if isinstance(c, str) else c for c in data["cases"]],
        },
        table,
    )
    same = {case for case in data["cases"] if isinstance(case, str)}
    cases = []
    for case in answer.cases:
        right = reference.case(case.name)
        if right is None:
            cases.append(case)
        elif case.name in same:
            cases.append(replace(right, inputs={}))
        else:
            cases.append(replace(case, policy=right.policy, labels=right.labels, part=right.part))
    return replace(answer, cases=tuple(cases), parts=dict(reference.parts))


def _timeless(answer: Answer, table: TensorTable) -> dict[str, Any]:
    """How long a run took differs from run to run; a recording says only what was answered."""
    return {**answer_to_json(answer, table), "seconds": 0.0}


def _check_from_json(data: Mapping[str, Any], table: TensorTable) -> CheckRecording:
    reference = answer_from_json(data["reference"], table)
    return CheckRecording(
        check=data["check"],
        points=data["points"],
        reference=reference,
        mistakes=tuple(
            Mistake(item["name"], item["says"], _mistake_from_json(item["answer"], reference, table))
            for item in data["mistakes"]
        ),
        hints=tuple(data["hints"]),
        paper=data["paper"],
        forbid=tuple(data["forbid"]),
        stubs=data["stubs"],
    )
