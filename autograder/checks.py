"""`@check`: runs an exercise's experiment and hands the answer on: to the judge in a learner's notebook, to a file when grading.

It holds no expected value and decides nothing. What happens with an answer depends on the environment:

    AUTOGRADER_MODE=learn    (default) judged at once against the shipped recording; the verdict is shown; not passing raises
    AUTOGRADER_MODE=answer   written to the folder AUTOGRADER_ANSWERS, for a judge elsewhere
    AUTOGRADER_MODE=record   as answer, and the misconceptions cells write what each known mistake answers
    AUTOGRADER_SEED          the run's seed
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autograder.answer import Answer, encode
from autograder.case import PUBLIC_SEED, Case, passing_random_state
from autograder.cells import cell_defining, checked_names, top_level_names
from autograder.forbid import Use, forbidden_uses
from autograder.judge import judge
from autograder.recording import NoRecording, shipped
from autograder.verdict import STATUSES, Verdict
from autograder.watch import watching

Experiment = Callable[[Case], None]


class CheckFailed(AssertionError):
    """A check that did not pass. Shown as the verdict alone: a traceback into the checks would not help anyone."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message.partition("\n")[0])
        self.verdict = verdict

    def _render_traceback_(self) -> list[str]:
        state = STATUSES[self.verdict.status]
        return [
            f"{self.verdict.check}: {state}. The notebook stops here; work on this exercise and run the cells again."
        ]


@dataclass(frozen=True)
class Check:
    """One check: its name (the exercise's), what it is worth, and its experiment."""

    name: str
    points: int
    experiment: Experiment
    forbid: tuple[str, ...] = ()
    paper: str = ""

    def run(self, seed: int, device: str = "cpu", watched: bool = False) -> Answer:
        """Run the experiment. Never raises for what the learner's code does: an exception is part of the answer.

        Args:
            watched: a forbidden call by the learner's code raises, under whatever name it was reached (see `autograder.watch`).
        """
        case = Case(self.name, seed, device)
        started = time.perf_counter()
        watch = watching(self.forbid if watched else (), self.experiment.__code__.co_filename)
        with _own_randomness(seed, self.name), _own_defaults(), torch.enable_grad(), watch:
            try:
                self.experiment(case)
            except (Exception, SystemExit) as error:
                case.fail(error)
        return case.answer(time.perf_counter() - started)


@dataclass
class Session:
    """The notebook this kernel runs and what its checks came to so far."""

    assignment: str = ""
    notebook: str = ""
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    checks: dict[str, Check] = field(default_factory=dict)
    capturing: list[Check] | None = None


session = Session()


def begin(assignment: str, notebook: str) -> None:
    """Say which notebook this kernel runs. The set-up cell calls it."""
    session.assignment, session.notebook = assignment, notebook
    session.verdicts.clear()
    session.checks.clear()


def check(name: str, *, points: int, forbid: Sequence[str] = (), paper: str = "") -> Callable[[Experiment], Experiment]:
    """Run the decorated experiment as the check of exercise `name`.

    Args:
        name: the exercise: the function or class that the exercise cell defines.
        points: what the check is worth.
        forbid: qualified names (with `*`) that the exercise may not call, since it asks to build them.
        paper: section or equation, quoted in the message when the check does not pass.

    Raises: CheckFailed in a learner's notebook, if the verdict is not `passed`.
    """

    def decorate(experiment: Experiment) -> Experiment:
        this = Check(name, points, experiment, tuple(forbid), paper)
        if session.capturing is not None:
            session.capturing.append(this)
            return experiment
        session.checks[name] = this
        if mode() == "learn":
            verdict = judge_here(this)
            session.verdicts[name] = verdict
            show(verdict)
            if not verdict.passed:
                raise CheckFailed(verdict)
        else:
            write_answer(f"{name}.answer", this.run(seed(), watched=mode() == "answer"))
        return experiment

    return decorate


def mode() -> str:
    return os.environ.get("AUTOGRADER_MODE", "learn")


def seed() -> int:
    return int(os.environ.get("AUTOGRADER_SEED", PUBLIC_SEED))


def judge_here(this: Check) -> Verdict:
    """The verdict in the learner's own kernel, against the shipped recording."""
    try:
        recording = shipped(session.assignment, session.notebook).checks[this.name]
    except KeyError:
        raise NoRecording(
            f"there is no recording of a check named {this.name!r} in {session.assignment}/{session.notebook}"
        ) from None
    answer = this.run(PUBLIC_SEED, watched=True)
    return judge(answer, recording, forbidden_here(this.name, recording.forbid))


def forbidden_here(name: str, patterns: Sequence[str]) -> list[Use]:
    """Forbidden calls in the cells run so far in this kernel (empty outside IPython)."""
    cells = cell_history()
    exercise = cell_defining(name, cells)
    return forbidden_uses(exercise, _latest_definitions(cells), patterns) if exercise else []


def write_answer(name: str, answer: Answer) -> None:
    """Write an answer into the run's answers folder; a first file of that name is kept, so that a check cannot be answered twice."""
    folder = Path(os.environ["AUTOGRADER_ANSWERS"])
    try:
        data = encode(answer)
    except ValueError as error:
        data = encode(Answer(answer.check, tuple(c for c in answer.cases if c.error), answer.parts))
        print(error, file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)  # a cell may have cleared its folder
    temporary = folder / f".{name}.part"
    temporary.write_bytes(data)
    temporary.rename(folder / name)


def show(thing: Any) -> None:
    """Display in a notebook, print elsewhere."""
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from IPython.display import display

        display(thing)
    else:
        print(thing)


# -- the cells of this kernel ----------------------------------------------------------------------------------------------


def cell_history() -> list[str]:
    """Sources of the cells run in this kernel so far, the current one included."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return [str(source) for source in shell.user_ns.get("In", [])] if shell is not None else []


def _latest_definitions(cells: Sequence[str]) -> list[str]:
    """Cells of which something is still current: a cell run anew takes the place of its earlier versions."""
    kept: list[str] = []
    taken: set[str] = set()
    for source in reversed(cells):
        names = top_level_names(source)
        if checked_names(source) or "@alternative(" in source or "misconceptions(" in source:
            continue  # the course's own cells may call what an exercise may not
        if not names or names - taken:
            kept.append(source)
            taken |= names
    return kept[::-1]


# -- variants: a mistake, an alternative, a mutant in place of the exercise ------------------------------------------------


@contextmanager
def capturing() -> Iterator[list[Check]]:
    """Within, `@check` only collects: nothing is run, judged or written."""
    before, session.capturing = session.capturing, []
    try:
        yield session.capturing
    finally:
        session.capturing = before


def answer_of_variant(name: str, exercise: str, check_cell: str, namespace: dict[str, Any], run_seed: int) -> Answer:
    """What check `name` answers when `exercise` stands in place of the exercise cell.

    Args:
        name: the check.
        exercise: source to run instead of the exercise cell.
        check_cell: source of the check's cell; it runs anew, so that all it defines sees the variant.
        namespace: the notebook's globals; left as they are.
        run_seed: the run's seed.
    """
    variant = dict(namespace)
    try:
        exec(compile(exercise, f"<variant of {name}>", "exec"), variant)
    except (Exception, SystemExit) as error:
        case = Case(name, run_seed)
        case.fail(error)
        return case.answer()
    with capturing() as checks:
        exec(compile(check_cell, f"<check of {name}>", "exec"), variant)
    return next(this for this in checks if this.name == name).run(run_seed)


@contextmanager
def _own_randomness(run_seed: int, name: str) -> Iterator[None]:
    """Global generators start from the run's seed inside and are as before afterwards, so a check neither sees nor disturbs the notebook's."""
    drawn = int(passing_random_state(run_seed, name).randint(0, 2**31 - 1, dtype=np.int64))
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []):
        # as torch.manual_seed, which formats a traceback each time in case its work has to wait
        torch.default_generator.manual_seed(drawn)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(drawn)
        random.seed(drawn)
        np.random.seed(drawn)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)


@contextmanager
def _own_defaults() -> Iterator[None]:
    """torch's default dtype inside is the one that the reference was recorded with, whatever a cell has set."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
