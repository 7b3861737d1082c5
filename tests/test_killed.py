"""The grader itself is killed, at any moment: nothing goes on without it, what was done stays, and the next run ends with the same table."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil
import pytest

from autograder import grade as grader
from autograder.sandbox import available
from autograder.workers import context, end_with_parent, how_it_ended
from tests.conftest import ROOT, learners, table

needs_sandbox = pytest.mark.skipif(not available()[0], reason=f"no sandbox: {available()[1]}")
COUNT = 12
STOPPED = (130, -signal.SIGINT)
"""How a run ends that Ctrl-C has stopped: Python itself may end a process by the signal that it was interrupted by."""


def ended(pids: Iterable[int]) -> bool:
    """Whether all of them are gone, within half a minute."""
    left, deadline = list(pids), time.monotonic() + 30
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [pid for pid in left if runs(pid)]
    return not left


def runs(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@needs_sandbox
@pytest.mark.slow
def test_killed_at_random_moments_the_next_run_ends_with_the_same_table(built_course: Path, tmp_path: Path) -> None:
    submitted, alone, out = tmp_path / "submitted", tmp_path / "alone", tmp_path / "out"
    # idle ones: however busy the machine is, some are left to be done
    learners(built_course, submitted, COUNT, seconds=1.0)
    began = time.monotonic()
    assert grader.grade(built_course, submitted, alone, jobs=2, seed=11).ran == COUNT
    whole = time.monotonic() - began
    chance = random.Random(20170612)

    def results() -> int:
        return len(list((out / "cache").glob("graded/*.json")))

    def run(until: Callable[[], bool], number: int = signal.SIGKILL) -> int:
        """The command, which gets a signal as soon as `until` says so; its exit status."""
        command = [sys.executable, "-m", "autograder.cli", "grade", submitted, "--out", out, "--seed", "11", "-j", "2"]
        process = subprocess.Popen(
            command, cwd=built_course, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            # where the tests run in a shell's background, it is ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        while process.poll() is None and not until():
            time.sleep(0.01)
        family: list[int] = []
        if process.poll() is None:
            family = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
            process.send_signal(number)
        said = process.communicate()[1]
        assert ended(family)
        assert (b"what is graded is kept" in said) == (process.returncode in STOPPED), said
        return process.returncode

    def after(seconds: float) -> Callable[[], bool]:
        end = time.monotonic() + seconds
        return lambda: time.monotonic() > end

    for number, statuses in ((signal.SIGKILL, (-signal.SIGKILL,)), (signal.SIGINT, STOPPED)):  # surely in the middle
        known = results()
        assert run(lambda known=known: results() > known, number) in statuses  # type: ignore[misc]
    assert 2 <= results() < COUNT
    for number in (signal.SIGKILL, signal.SIGTERM):
        run(after(whole * chance.uniform(0, 0.5)), number)
    assert run(lambda: False) == 0
    assert table(out) == table(alone)
    assert b'"status": "passed"' in table(out) and b'"status": "wrong"' in table(out)


def test_a_worker_that_is_being_ended_blames_no_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    ending = threading.Event()
    monkeypatch.setattr(grader, "_ending", ending)
    monkeypatch.setattr(grader, "_grade_one", lambda job: job)
    assert grader.grade_one("a job") == "a job"  # type: ignore[arg-type,comparison-overlap]
    monkeypatch.setattr(grader, "_turn", threading.Lock())  # the thread below keeps it
    ending.set()
    waits = threading.Thread(target=grader.grade_one, args=("a job",), daemon=True)
    waits.start()
    waits.join(0.3)
    assert waits.is_alive()


def begin(_: int) -> tuple[int, int]:
    """In a worker: start a process that would outlive it."""
    return os.getpid(), subprocess.Popen(["sleep", "300"]).pid


def stay(_: int) -> None:
    time.sleep(300)


def orphans() -> None:
    """Two workers that are busy and one that waits, and what they have started; then this process is gone."""
    pools = [ProcessPoolExecutor(1, mp_context=context(), initializer=end_with_parent) for _ in range(3)]
    pids = [pid for pool in pools for pid in pool.submit(begin, 0).result()]
    for pool in pools[:2]:
        pool.submit(stay, 0)
    print(*pids, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_end_with_the_process_they_work_for_and_so_does_what_they_have_started() -> None:
    command = [sys.executable, "-c", "from tests.test_killed import orphans; orphans()"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=120)
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 6 and ended(pids)


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("os.kill(os.getpid(), 9)", "it was ended by the signal SIGKILL"),
        ("os._exit(128 + 7)", "it was ended by the signal SIGBUS"),
        ("os._exit(3)", "it ended with exit status 3"),
    ],
)
def test_how_a_process_ended_is_said_in_words(ending: str, words: str) -> None:
    assert how_it_ended(subprocess.call([sys.executable, "-c", f"import os; {ending}"])) == words
