"""The judge's tolerances leave room: every bundled right solution passes on every seed, and how near it comes to failing is measured.

`python -m tests.test_numbers --seeds 200` (`make stress`) measures more, and writes the table that judge.TOLERANCE speaks of.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from autograder.answer import Answer, Policy
from autograder.build import read_all
from autograder.case import PUBLIC_SEED
from autograder.judge import SMALLEST_SCALE, TOLERANCE, judge, least_scale
from autograder.papers_view import papers_before
from autograder.recording import CheckRecording
from autograder.workbench import benches
from tests.conftest import ROOT

SEEDS = 2
"""Seeds tried by the ordinary tests; each exercise runs with every alternative on each."""

LEAST_ROOM = 1.0
"""The largest share of the allowed difference that a right solution may use up."""


@dataclass
class Room:
    """What right solutions of one notebook used of the allowed difference.

    worst: {(check, dtype and tolerance): (share, "case, by style, seed")}. failures: right solutions that did not pass.
    """

    notebook: str
    worst: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    tried: int = 0


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


def measure(key: str, seeds: Sequence[int], root: str = str(ROOT)) -> Room:
    """Run a notebook's exercises with every alternative on every seed. In a process of its own: it forks."""
    notebooks = read_all(Path(root))
    notebook = next(item for item in notebooks if item.key == key)
    room = Room(key)
    with tempfile.TemporaryDirectory() as folder:
        papers = papers_before(notebook, notebooks, Path(root), Path(folder))
        os.chdir(folder)
        for bench in benches(notebook, papers):
            cell = notebook.checks[bench.name]
            assert cell.check is not None
            for seed in seeds:
                reference = bench.answer(bench.exercise, seed)
                recording = CheckRecording(bench.name, cell.points, reference, stubs=notebook.stubs)
                for style, source in [("the reference again", bench.exercise), *notebook.alternatives(bench.name)]:
                    found = bench.answer(source, seed)
                    verdict = judge(found, recording)
                    room.tried += 1
                    if not verdict.passed:
                        room.failures.append(f"{key}, {bench.name}, “{style}”, seed {seed}: {verdict.message}")
                    for case, kind, used in shares(reference, found):
                        if used >= room.worst.get((bench.name, kind), (0.0, ""))[0]:
                            room.worst[bench.name, kind] = used, f"{case}, “{style}”, seed {seed}"
    return room


def measure_all(keys: Sequence[str], seeds: Sequence[int], workers: int) -> list[Room]:
    """`measure` for each notebook, each in a fresh process."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        rooms = []
        for room in pool.map(measure, keys, [seeds] * len(keys)):
            print(
                f"{room.notebook}: {room.tried} right answers, {len(room.failures)} failed", file=sys.stderr, flush=True
            )
            rooms.append(room)
        return rooms


def seeds(count: int) -> list[int]:
    """The public seed and then seeds that stand for secret ones."""
    return [PUBLIC_SEED, *range(1001, 1000 + count)]


@pytest.mark.parametrize("key", [notebook.key for notebook in read_all(ROOT)])
def test_every_right_solution_passes_with_room_to_spare(key: str) -> None:
    (room,) = measure_all([key], seeds(int(os.environ.get("STRESS_SEEDS", SEEDS))), 1)
    assert not room.failures
    assert room.tried
    for (check, kind), (used, where) in room.worst.items():
        assert used <= LEAST_ROOM, f"{check}, {kind}: {used:.0%} of the allowed difference at {where}"


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_a_share_of_one_is_where_the_judge_draws_the_line(dtype: torch.dtype) -> None:
    expected = torch.tensor([1.0, 4.0], dtype=torch.float64)
    tolerance = TOLERANCE[dtype]
    for factor, passes in ((0.9, True), (1.1, False)):
        found = expected + factor * tolerance * (expected + 4.0)
        used = share(expected, found, Policy(tol=tolerance))
        assert used is not None and used[1] == pytest.approx(factor, rel=1e-3)
        assert (used[1] <= 1) == passes


def table(rooms: Sequence[Room]) -> str:
    """The largest share by dtype and tolerance, and where."""
    kinds: dict[str, tuple[float, str]] = {}
    for room in rooms:
        for (check, kind), (used, where) in room.worst.items():
            if used >= kinds.get(kind, (0.0, ""))[0]:
                kinds[kind] = used, f"{room.notebook}, {check}: {where}"
    lines = [
        f"{kind:24} {used:8.2%}  {where}" for kind, (used, where) in sorted(kinds.items(), key=lambda item: -item[1][0])
    ]
    return "\n".join(["dtype and tolerance      of what is allowed, at worst", *lines])


def main() -> None:
    """Measure on many seeds, print the table and what failed; exit 1 if anything did."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("notebooks", nargs="*", help="ASSIGNMENT or ASSIGNMENT/NOTEBOOK; all if none is named")
    options = parser.parse_args()
    keys = [
        n.key
        for n in read_all(ROOT)
        if not options.notebooks or n.key in options.notebooks or n.assignment in options.notebooks
    ]
    rooms = measure_all(keys, seeds(options.seeds), options.jobs)
    print(f"{sum(room.tried for room in rooms)} right answers on {options.seeds} seeds, torch {torch.__version__}")
    print(table(rooms))
    failures = [failure for room in rooms for failure in room.failures]
    print("\n".join(failures) if failures else "no right solution failed")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
