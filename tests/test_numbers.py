"""The judge's tolerances leave room: every bundled right solution passes on every seed, and how near it comes to failing is measured.

`make stress` (`python -m tests.test_numbers --seeds 200 --write`) measures more: it keeps what it has measured in data/stress, goes on where
it was, and writes docs/numbers.md, the table that judge.TOLERANCE speaks of. `--first 50001` tries other seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from autograder.answer import Answer, Policy
from autograder.audit import JUDGING, Plan, content
from autograder.build import read_all
from autograder.case import PUBLIC_SEED
from autograder.judge import SMALLEST_SCALE, TOLERANCE, judge, least_scale
from autograder.papers_view import papers_before
from autograder.recording import CheckRecording
from autograder.workbench import Bench, benches
from autograder.workers import temporary_files_in_one_folder
from tests.conftest import ROOT

FIRST = 1001
"""The seeds are the public one, this one and those after it."""

SEEDS = 2
"""Seeds tried by the ordinary tests; each exercise runs with every alternative on each."""

LEAST_ROOM = 1.0
"""The largest share of the allowed difference that a right solution may use up."""

DECIDING = tuple(module for module in JUDGING if module not in ("audit", "mutants", "patterns"))
"""The package's modules that decide whether an answer passes: what was measured stays right where others change."""

TIME_LIMIT = 600.0
"""Seconds for one answer: numbers are measured here, and the machine may be busy."""

KEPT = ROOT / "data" / "stress"
PAGE = ROOT / "docs" / "numbers.md"


@dataclass
class Room:
    """What right solutions of one exercise used of the allowed difference.

    content: digest of all that it depends on. seeds: tried so far. worst: {dtype and tolerance: [share, "case, by style, seed"]}.
    failures: right solutions that did not pass. tried: right answers judged.
    """

    content: str = ""
    seeds: int = 0
    tried: int = 0
    seconds: float = 0.0
    worst: dict[str, tuple[float, str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def shares(reference: Answer, found: Answer) -> Iterator[tuple[str, str, float]]:
    """(case, "dtype, tolerance", share of the allowed difference used) of every tensor and number compared by closeness."""
    for case in reference.cases:
        other = found.case(case.name)
        policy = case.policy
        if other is None or policy.exact or policy.at_least is not None or policy.at_most is not None:
            continue
        least = least_scale(case)
        for path, value in case.values.items():
            if (
                path in other.values
                and value.kind in ("tensor", "ndarray", "number")
                and value.kind == other.values[path].kind
            ):
                used = share(value.content, other.values[path].content, policy, least)
                if used is not None:
                    yield case.name, used[0], used[1]


def share(expected: object, found: object, policy: Policy, least: float = SMALLEST_SCALE) -> tuple[str, float] | None:
    """What part of the allowed difference is used, by the judge's formula; None where values are compared exactly or not at all."""
    a = expected if isinstance(expected, torch.Tensor) else torch.tensor(expected)
    b = found if isinstance(found, torch.Tensor) else torch.tensor(found)
    if not a.dtype.is_floating_point or a.shape != b.shape or not a.numel():
        return None
    tolerance = policy.tol if policy.tol is not None else TOLERANCE[a.dtype]
    name = f"{str(a.dtype).removeprefix('torch.')} {tolerance:g}"
    a, b = a.double(), b.double()
    finite = a.isfinite() & b.isfinite()
    if not finite.any():
        return None
    scale = max(float(a[finite].abs().max()), least)
    allowed = tolerance * (a.abs() + scale)
    return name, float(((a - b).abs() / allowed)[finite].max())


def measure(
    key: str, count: int, kept: Path | None = None, root: str = str(ROOT), first: int = FIRST
) -> dict[str, Room]:
    """Run a notebook's exercises with every alternative on `count` seeds. In a process of its own: it forks.

    Args:
        kept: folder of what was measured before, which is not measured again where it is the same; it is added to as the work goes on.
        first: see `seeds`.
    """
    parent = parent_process()
    notebooks = read_all(Path(root))
    notebook = next(item for item in notebooks if item.key == key)
    with tempfile.TemporaryDirectory() as folder:
        papers = papers_before(notebook, notebooks, Path(root), Path(folder))
        contents = {name: content(notebook, name, Plan(), papers, DECIDING) for name in notebook.checks}
        before = read_kept(kept, key)
        rooms = {
            name: room if (room := before.get(name, Room())).content == digest else Room(digest)
            for name, digest in contents.items()
        }
        if all(room.seeds >= count for room in rooms.values()):
            return rooms
        os.chdir(folder)
        for bench in benches(notebook, papers):
            room = rooms[bench.name]
            while room.seeds < count and (parent is None or parent.is_alive()):  # nobody waits for an orphan
                began, some = time.monotonic(), seeds(count, first)[room.seeds : room.seeds + 25]
                measure_exercise(bench, some, room)
                room.seconds = round(room.seconds + time.monotonic() - began, 1)
                write_kept(kept, key, rooms)
    return rooms


def measure_exercise(bench: Bench, some: Sequence[int], room: Room) -> None:
    """Add to `room` what right solutions of an exercise use on these seeds."""
    notebook, points = bench.notebook, bench.notebook.checks[bench.name].points
    references = bench.answers(bench.exercise, some, time_limit=TIME_LIMIT)
    for style, source in [("the reference again", bench.exercise), *notebook.alternatives(bench.name)]:
        answers = bench.answers(source, some, time_limit=TIME_LIMIT)
        for seed, reference, found in zip(some, references, answers, strict=True):
            verdict = judge(found, CheckRecording(bench.name, points, reference, stubs=notebook.stubs))
            room.tried += 1
            if not verdict.passed:
                room.failures.append(f"{notebook.key}, {bench.name}, “{style}”, seed {seed}: {verdict.message}")
            for case, kind, used in shares(reference, found):
                if used >= room.worst.get(kind, (0.0, ""))[0]:
                    room.worst[kind] = used, f"{case}, “{style}”, seed {seed}"
    room.seeds += len(some)


def read_kept(folder: Path | None, key: str) -> dict[str, Room]:
    path = folder / f"{key}.json" if folder is not None else None
    if path is None or not path.is_file():
        return {}
    return {name: Room(**room) for name, room in json.loads(path.read_text(encoding="utf-8")).items()}


def write_kept(folder: Path | None, key: str, rooms: Mapping[str, Room]) -> None:
    if folder is not None:
        path = folder / f"{key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".part")
        text = json.dumps({name: asdict(room) for name, room in rooms.items()}, indent=1, ensure_ascii=False)
        new.write_text(text + "\n", encoding="utf-8")
        new.rename(path)


def measure_all(
    keys: Sequence[str], count: int, workers: int, kept: Path | None = None, tell: bool = True, first: int = FIRST
) -> dict[str, dict[str, Room]]:
    """`measure` for each notebook, each in a fresh process; those that took longest before come first."""

    def seconds(key: str) -> float:
        return -sum(room.seconds / max(1, room.seeds) for room in read_kept(kept, key).values())

    began, done = time.monotonic(), {}
    spawn = get_context("spawn")
    with temporary_files_in_one_folder(), ProcessPoolExecutor(workers, spawn, max_tasks_per_child=1) as pool:
        running = {pool.submit(measure, key, count, kept, first=first): key for key in sorted(keys, key=seconds)}
        for future in as_completed(running):
            key, rooms = running[future], future.result()
            done[key] = rooms
            if tell:
                tried, failed = sum(r.tried for r in rooms.values()), sum(len(r.failures) for r in rooms.values())
                minutes = (time.monotonic() - began) / 60
                print(
                    f"{len(done)} of {len(keys)}, {minutes:.0f} min: {key}, {tried} right answers, {failed} failed",
                    file=sys.stderr,
                    flush=True,
                )
    return {key: done[key] for key in keys}


def seeds(count: int, first: int = FIRST) -> list[int]:
    """The public seed and then seeds from `first` on, which stand for secret ones."""
    return [PUBLIC_SEED, *range(first, first + count - 1)]


@pytest.mark.parametrize("key", [notebook.key for notebook in read_all(ROOT)])
def test_every_right_solution_passes_with_room_to_spare(key: str) -> None:
    rooms = measure_all([key], int(os.environ.get("STRESS_SEEDS", SEEDS)), 1, tell=False)[key]
    assert all(room.tried for room in rooms.values())
    for check, room in rooms.items():
        assert not room.failures
        for kind, (used, where) in room.worst.items():
            assert used <= LEAST_ROOM, f"{check}, {kind}: {used:.0%} of the allowed difference at {where}"


def test_what_was_measured_is_kept_and_gone_on_with(
    built_course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    [notebook] = read_all(built_course)
    first = measure(notebook.key, 2, tmp_path, str(built_course))
    assert {name: (room.seeds, room.failures) for name, room in first.items()} == {"double": (2, []), "Affine": (2, [])}
    assert first["double"].tried == 4  # the reference again, and an alternative
    more = measure(notebook.key, 3, tmp_path, str(built_course))
    assert more["double"].tried == 6
    assert read_kept(tmp_path, notebook.key) == {
        name: Room(**{**asdict(room), "worst": {kind: list(worst) for kind, worst in room.worst.items()}})
        for name, room in more.items()
    }
    write_kept(tmp_path, notebook.key, {**more, "double": Room("another content", 3, 6)})
    assert measure(notebook.key, 3, tmp_path, str(built_course))["double"].content == first["double"].content


def test_an_orphan_measures_nothing_more(built_course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [notebook] = read_all(built_course)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tests.test_numbers.parent_process", lambda: SimpleNamespace(is_alive=lambda: False))
    rooms = measure(notebook.key, 2, tmp_path, str(built_course))
    assert [room.seeds for room in rooms.values()] == [0, 0]


def test_the_page_of_numbers_says_what_is_kept() -> None:
    keys = [notebook.key for notebook in read_all(ROOT)]
    kept = {key: read_kept(KEPT, key) for key in keys}
    assert all(kept.values()), "run make stress"
    assert PAGE.read_text(encoding="utf-8") == page(kept)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_a_share_of_one_is_where_the_judge_draws_the_line(dtype: torch.dtype) -> None:
    expected = torch.tensor([1.0, 4.0], dtype=torch.float64)
    tolerance = TOLERANCE[dtype]
    for factor, passes in ((0.9, True), (1.1, False)):
        found = expected + factor * tolerance * (expected + 4.0)
        used = share(expected, found, Policy(tol=tolerance))
        assert used is not None and used[1] == pytest.approx(factor, rel=1e-3)
        assert (used[1] <= 1) == passes


def table(rooms: Mapping[str, Mapping[str, Room]]) -> list[tuple[str, float, str]]:
    """(dtype and tolerance, the largest share of what is allowed, where), the largest first."""
    kinds: dict[str, tuple[float, str]] = {}
    for key, exercises in rooms.items():
        for check, room in exercises.items():
            for kind, (used, where) in room.worst.items():
                if used >= kinds.get(kind, (0.0, ""))[0]:
                    kinds[kind] = used, f"{key}, `{check}`: {where}"
    return [
        (kind, used, where) for kind, (used, where) in sorted(kinds.items(), key=lambda item: (-item[1][0], item[0]))
    ]


def page(rooms: Mapping[str, Mapping[str, Room]]) -> str:
    """`docs/numbers.md`: how much of the allowed differences right solutions use, and on how many seeds that was tried."""
    every = [room for exercises in rooms.values() for room in exercises.values()]
    failures = [failure for room in every for failure in room.failures]
    fewest, most = min(room.seeds for room in every), max(room.seeds for room in every)
    lines = [
        "# What rounding is allowed, and how much of it right solutions use",
        "",
        "Written by `make stress`. Each exercise is solved by the reference again and by every other right solution in the notebook's source, on",
        "many seeds, and each answer is judged by the reference's on that seed. A value may differ by the tolerance of its type times the sum of its",
        "magnitude and of the largest in its tensor (`TOLERANCE` in autograder/judge.py; a few cases set another). The share is the difference over that",
        "bound: at 100 % a right solution would be turned away. An exercise that has changed since it was tried counts with what it was until the next",
        "`make stress`, which tries it anew.",
        "",
        f"**{sum(room.tried for room in every):,} right answers to {len(every)} exercises on "
        + (f"{fewest}" if fewest == most else f"{fewest} to {most}")
        + f" seeds each: {len(failures) or 'none'} failed.**",
        "",
        "| type and tolerance | share used, at most | where |",
        "| --- | ---: | --- |",
        *(f"| {kind} | {used:.2%} | {where} |" for kind, used, where in table(rooms)),
        "",
        "| notebook | exercises | right answers | seeds |",
        "| --- | ---: | ---: | ---: |",
    ]
    for key, exercises in rooms.items():
        counts = sorted({room.seeds for room in exercises.values()})
        tried = sum(room.tried for room in exercises.values())
        lines.append(
            f"| {key} | {len(exercises)} | {tried:,} | {' to '.join(map(str, counts[:1] + counts[1:][-1:]))} |"
        )
    return "\n".join([*lines, *([""] + [f"- {failure}" for failure in failures] if failures else [])]) + "\n"


def main() -> None:
    """Measure on many seeds, print the table and what failed; exit 1 if anything did."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument(
        "--first", type=int, default=FIRST, help=f"other seeds than {FIRST} and those after it; not with --write"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="keep what is measured in data/stress, go on from it, and write docs/numbers.md",
    )
    parser.add_argument("notebooks", nargs="*", help="ASSIGNMENT or ASSIGNMENT/NOTEBOOK; all if none is named")
    options = parser.parse_args()
    if options.write and options.first != FIRST:
        parser.error(f"what is kept was measured from seed {FIRST} on: leave out --write or --first")
    every = [notebook.key for notebook in read_all(ROOT)]
    keys = [
        key
        for key in every
        if not options.notebooks or key in options.notebooks or key.partition("/")[0] in options.notebooks
    ]
    if not keys:
        parser.error(f"no notebook is named {', '.join(options.notebooks)}; there are {', '.join(every)}")
    try:
        rooms = measure_all(keys, options.seeds, options.jobs, KEPT if options.write else None, first=options.first)
    finally:  # stopped in the middle, too
        if options.write:
            kept = {key: read_kept(KEPT, key) for key in every}
            PAGE.write_text(page({key: rooms for key, rooms in kept.items() if rooms}), encoding="utf-8")
    tried = sum(room.tried for exercises in rooms.values() for room in exercises.values())
    print(f"{tried} right answers on {options.seeds} seeds, torch {torch.__version__}")
    for kind, used, where in table(rooms):
        print(f"{kind:24} {used:8.2%}  {where}")
    failures = [failure for exercises in rooms.values() for room in exercises.values() for failure in room.failures]
    print("\n".join(failures) if failures else "no right solution failed")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
