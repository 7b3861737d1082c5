"""Local worker processes: forked from a server that has imported the grader, where the system has such a thing. Imports nothing heavy itself."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children, connection, get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext

PRELOAD = ["autograder.lean", "autograder.cli", "autograder.grade", "autograder.judge", "autograder.recording"]
"""The last two bring torch: workers judge with it, and the process that writes pages does without."""


def context() -> BaseContext:
    """How local workers are started."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    found = get_context("forkserver")
    found.set_forkserver_preload(PRELOAD)
    return found


def start_server() -> None:
    """Start the server that workers are forked from, if there is none yet: it imports while this process does something else."""
    if context().get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        ensure_running()


def end_with_parent(tidy: Callable[[], None] = lambda: None) -> None:
    """In a process that works for another: once that is gone, and on SIGINT or SIGTERM, `tidy` and end, whatever is being done, with
    all that was started.

    A pool's workers hold both ends of what they wait at: killed, the process they work for would leave them waiting for ever.
    """
    parent, starter = parent_process(), os.getppid()
    once = threading.Lock()

    def end() -> None:
        if not once.acquire(blocking=False):
            return
        try:
            with contextlib.suppress(Exception):  # nobody is there to be told
                tidy()
            import psutil  # here it is no loss of time

            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    process.kill()
        finally:
            os._exit(1)

    def watch() -> None:
        if parent is not None:
            connection.wait([parent.sentinel])
        else:  # no worker of a pool
            while os.getppid() == starter:
                time.sleep(0.5)
        end()

    threading.Thread(target=watch, name="autograder-orphan", daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as a shell leaves it to what runs in its background
            # in a thread: what this one was doing may hold a lock that `tidy` needs
            signal.signal(number, lambda *_: threading.Thread(target=end, daemon=True).start())


def how_it_ended(code: int) -> str:
    """A process's exit status (a signal's number, negative or as a shell and bubblewrap report it) in words."""
    number = -code if code < 0 else code - 128
    if number in {int(each) for each in signal.Signals}:
        return f"it was ended by the signal {signal.Signals(number).name}"
    return f"it ended with exit status {code}"


@contextlib.contextmanager
def ended_by_errors() -> Iterator[None]:
    """Workers started in here are ended at once by whatever interrupts it: nobody waits for what they are doing."""
    before = active_children()
    try:
        yield
    except BaseException:
        for child in active_children():
            if child not in before:
                child.terminate()
        raise


@contextlib.contextmanager
def temporary_files_in_one_folder() -> Iterator[None]:
    """Processes started in here put their temporary files into one folder, which goes with all that those that were killed left in it."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="autograder-", ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before
