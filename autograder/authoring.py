"""What stands beside an exercise in its source and is never released: hints, known mistakes, other right solutions."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from autograder import checks
from autograder.answer import Answer
from autograder.cells import cell_defining, checked_names
from autograder.judge import judge
from autograder.recording import CheckRecording, Mistake, NoRecording, shipped

Definition = TypeVar("Definition")


@dataclass(frozen=True)
class Edit:
    """A known mistake as an edit of the solution: (old, new) pairs, or the whole source in its place."""

    name: str
    says: str
    replacements: tuple[tuple[str, str], ...] = ()
    source: str | None = None

    def apply(self, source: str) -> str:
        """The solution's source with the mistake made. Raises ValueError if an edit does not fit exactly once."""
        if self.source is not None:
            return self.source
        for old, new in self.replacements:
            count = source.count(old)
            if count != 1:
                raise ValueError(
                    f"mistake {self.name!r}: {old!r} occurs {count} times in the exercise; an edit has to fit exactly once"
                )
            source = source.replace(old, new)
        return source


def mistake(name: str, *edits: tuple[str, str] | str, says: str) -> Edit:
    """A known mistake: `(old, new)` edits of the solution's source, or one string that replaces it; `says` is what the learner reads."""
    if not edits:
        raise ValueError(f"mistake {name!r} has no edit")
    if isinstance(edits[0], str):
        if len(edits) != 1:
            raise ValueError(f"mistake {name!r}: one string replaces the whole exercise; several make no sense")
        return Edit(name, says, source=edits[0])
    return Edit(name, says, tuple(edits))  # type: ignore[arg-type]


collected: dict[str, tuple[Edit, ...]] | None = None
"""Set by the audit: then `misconceptions` only hands its mistakes over."""

equivalents_collected: dict[str, dict[str, str]] = {}


def equivalents(name: str, reasons: dict[str, str]) -> None:
    """Generated mutants of exercise `name` that compute the same after all: {mutant's description: why}. Only the audit reads them."""
    equivalents_collected.setdefault(name, {}).update(reasons)


def misconceptions(name: str, *mistakes: Edit) -> None:
    """Make each mistake in turn and record what it answers. In an instructor's notebook: show whether each is rejected and named.

    Runs after the check of exercise `name`, in a solution notebook; the exercise's and the check's sources are the cells run before.
    """
    _unique([edit.name for edit in mistakes], f"mistakes of {name}")
    if collected is not None:
        collected[name] = mistakes
        return
    cells = checks.cell_history()
    exercise = cell_defining(name, cells)
    check_cell = next((source for source in reversed(cells[:-1]) if name in checked_names(source)), None)
    if exercise is None or check_cell is None:
        raise LookupError(f"no cell that defines {name!r}, or none that checks it, was run before its misconceptions")
    namespace = _notebook_globals()
    seed = checks.seed()
    answers = [checks.answer_of_variant(name, edit.apply(exercise), check_cell, namespace, seed) for edit in mistakes]
    if checks.mode() == "record":
        for index, answer in enumerate(answers):
            checks.write_answer(f"{name}--m{index:03d}.answer", answer)
        _write_note(name, "mistakes", [{"name": edit.name, "says": edit.says} for edit in mistakes])
    elif checks.mode() == "learn":
        _show_matrix(name, mistakes, answers)


def hints(name: str, nudge: str, pointer: str, approach: str) -> None:
    """Three hints to exercise `name`: a nudge, a pointer into the paper, the approach in words. `hint(name)` gives them one by one."""
    if checks.mode() == "record":
        _write_note(name, "hints", [nudge, pointer, approach])


def alternative(style: str) -> Callable[[Definition], Definition]:
    """Mark another right solution of an exercise. The audit runs it; the notebook goes on with the reference."""

    def give_back(definition: Definition) -> Definition:
        frame = inspect.currentframe()
        scope = frame.f_back.f_globals if frame is not None and frame.f_back is not None else {}
        return scope.get(definition.__name__, definition)  # type: ignore[attr-defined]

    return give_back


_given: dict[str, int] = {}


def hint(name: str) -> None:
    """Show the next hint to exercise `name`, after its check did not pass."""
    session = checks.session
    recording = shipped(session.assignment, session.notebook)
    if name not in recording.checks:
        names = ", ".join(recording.checks)
        raise NoRecording(f"this notebook has no exercise named {name!r}; it has {names}")
    texts = recording.checks[name].hints
    if not texts:
        checks.show(Hint("There is no hint to this exercise."))
        return
    verdict = session.verdicts.get(name)
    if verdict is None:
        checks.show(Hint("Try the exercise and run its check first: then there is something to give a hint on."))
        return
    if verdict.passed:
        checks.show(Hint("This check has passed: no hint needed."))
        return
    index = min(_given.get(name, 0), len(texts) - 1)
    _given[name] = index + 1
    checks.show(Hint(texts[index], f"Hint {index + 1} of {len(texts)}"))


@dataclass(frozen=True)
class Hint:
    """A hint, as HTML and text."""

    text: str
    title: str = "Hint"

    def __str__(self) -> str:
        return f"{self.title}: {self.text}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        import html

        body = html.escape(self.text)
        box = (
            '<div style="border-left:4px solid #0969da;padding:.4em .8em;margin:.2em 0;font-family:system-ui,sans-serif;'
            f'background:#0969da12;border-radius:0 4px 4px 0"><b style="color:#0969da">{self.title}</b> {body}</div>'
        )
        return {"text/plain": str(self), "text/html": box}


def _notebook_globals() -> dict[str, Any]:
    return (
        sys.modules["IPython"].get_ipython().user_ns if "IPython" in sys.modules else sys.modules["__main__"].__dict__
    )


def _unique(names: Sequence[str], what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {what} are named {name!r}")


def _write_note(name: str, key: str, value: Any) -> None:
    path = Path(os.environ["AUTOGRADER_ANSWERS"]) / f"{name}.{key}.json"
    path.write_text(json.dumps(value), encoding="utf-8")


def _show_matrix(name: str, mistakes: Sequence[Edit], answers: Sequence[Answer]) -> None:
    """For an instructor: each mistake, the verdict on it, and whether it was named."""
    this = checks.session.checks[name]
    recording = CheckRecording(
        name,
        this.points,
        this.run(checks.seed()),
        tuple(Mistake(edit.name, edit.says, answer) for edit, answer in zip(mistakes, answers, strict=True)),
    )
    for edit, answer in zip(mistakes, answers, strict=True):
        verdict = judge(answer, recording)
        named = "named" if verdict.misconception == edit.name else f"NOT NAMED ({verdict.misconception})"
        rejected = "rejected" if not verdict.passed else "ACCEPTED"
        print(f"{edit.name}: {rejected}, {named}")
