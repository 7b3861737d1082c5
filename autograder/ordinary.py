"""Kernels of the ordinary kind, one started for each submission: where forking is not possible. There is no sandbox around them.

Both classes stand in for `engine.Zygote` and `engine.Kernel`, so that everything above them is the same. They never judge.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import nbformat
import psutil
from jupyter_client.manager import AsyncKernelManager, KernelManager
from traitlets.config import Config

from autograder.engine import (
    ANSWER_NAME,
    GRACE,
    MOST_OUTPUTS,
    MOST_SOURCE,
    CellResult,
    CellTimeout,
    KernelDied,
    Limits,
    ZygoteDied,
    clean_outputs,
    clean_text,
)
from autograder.sandbox import plain_environment

START = 180.0  # seconds a kernel may take to start: it imports torch
LONGEST_SOCKET = 100  # bytes of a path, a number behind it; macOS allows 104, Linux 108
_SEEDING = """def _seed(seed):
    import random, numpy, torch
    random.seed(seed)
    numpy.random.seed(None if seed is None else seed % (1 << 32))
    torch.default_generator.seed() if seed is None else torch.default_generator.manual_seed(seed % (1 << 63))
_seed({seed!r})
del _seed
"""


def sockets_in(folder: str | os.PathLike[str]) -> dict[str, str]:
    """Traits of a `KernelManager` that talks to its kernel by sockets in `folder`: no ports to collide, nothing for others on the machine to hear.

    Empty, which leaves it TCP, where there are none, or where the folder's name is too long for one.
    """
    name = Path(folder) / "kernel"
    if os.name != "posix" or len(os.fsencode(name)) > LONGEST_SOCKET:
        return {}
    return {"transport": "ipc", "ip": str(name)}


class _Uninterrupted(AsyncKernelManager):
    """Shuts a kernel down without interrupting it first.

    papermill asks the kernel what it is and shuts it down on the answer. An interrupt that comes before the kernel is done with answering
    puts an error on stderr, under a notebook that has succeeded.
    """

    async def _async_interrupt_kernel(self) -> None:
        if not self.shutting_down:
            await super()._async_interrupt_kernel()


def papermill_kernel(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Arguments of `papermill.execute_notebook` for a kernel that says nothing of its own and has its sockets in `folder`."""
    config = Config(KernelManager=sockets_in(folder))
    return {"kernel_name": "python3", "kernel_manager_class": _Uninterrupted, "config": config}


class OrdinaryKernels:
    """Starts a kernel for each submission.

    Args:
        modules: folders on the kernels' ``PYTHONPATH``.
    """

    one_kernel_only = False

    def __init__(self, modules: Sequence[str | os.PathLike[str]] = ()) -> None:
        self._path = os.pathsep.join([*map(str, modules), str(Path(__file__).resolve().parent.parent)])

    def start(self) -> None:
        """Nothing is warm here."""

    def close(self) -> None:
        """Nothing outlives its submission."""

    def spawn(
        self, env: Mapping[str, str] | None = None, limits: Limits | None = None, *, seed: int | None = None
    ) -> OrdinaryKernel:
        """Start a kernel; the arguments are :meth:`autograder.engine.Zygote.spawn`'s. Raises ZygoteDied if it does not come up."""
        return OrdinaryKernel(self._path, dict(env or {}), limits or Limits(), seed)


class OrdinaryKernel:
    """One submission's kernel. Close it, or use it as a context manager."""

    def __init__(self, path: str, env: dict[str, str], limits: Limits, seed: int | None) -> None:
        self.limits = limits
        self.died: KernelDied | None = None
        self.peak_memory = 0
        self.cpu_seconds: float | None = None
        self._work = Path(tempfile.mkdtemp(prefix="autograder-work-"))
        self._answers = Path(env.setdefault("AUTOGRADER_ANSWERS", str(self._work / ".answers")))
        self._answers.mkdir(parents=True, exist_ok=True)
        self._seen: dict[str, tuple[int, int]] = {}
        self._answers_left = limits.answers
        self._closed = threading.Event()
        own = plain_environment(str(self._work), path, os.environ.get("PATH", ""))
        self._sockets = tempfile.mkdtemp(prefix="autograder-sockets-")  # not where the submission works, and may delete
        self._manager = KernelManager(kernel_name="python3", **sockets_in(self._sockets))
        try:
            self._manager.start_kernel(
                env={**os.environ, **own, "TMPDIR": tempfile.gettempdir(), **env},
                cwd=str(self._work),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._started = cast(Any, self._manager.provisioner)
            self._process = psutil.Process(self._started.process.pid)
            self._client = self._manager.client()
            self._client.start_channels()
            self._client.wait_for_ready(timeout=START)
            threading.Thread(target=self._watch, daemon=True).start()
            self._run(
                self._client.execute(_SEEDING.format(seed=seed), silent=True), CellResult(), time.monotonic() + START
            )
        except (OSError, RuntimeError, TimeoutError, EOFError) as error:
            self.close()
            raise ZygoteDied(f"a kernel could not be started: {error}") from error

    def __enter__(self) -> OrdinaryKernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def kill(self, reason: str = "kernel_died", detail: str = "the kernel was ended") -> KernelDied:
        """End the kernel and everything it started that can be found. The first reason given stays."""
        self.died = self.died or KernelDied(reason, detail)
        for process in reversed(self._family()):
            with contextlib.suppress(psutil.Error):
                process.kill()
        return self.died

    def execute(self, source: str, timeout: float, *, rich: bool = False) -> CellResult:
        """Execute one cell, as :meth:`autograder.engine.Kernel.execute` does."""
        if self.died is not None:
            raise self.died
        if len(source.encode("utf-8", "surrogatepass")) > MOST_SOURCE:
            raise ValueError(f"the cell's source is larger than {MOST_SOURCE} bytes")
        began, late, result = time.monotonic(), False, CellResult()
        request = self._client.execute(
            source.encode("utf-8", "replace").decode(), allow_stdin=False, stop_on_error=False
        )
        try:
            try:
                self._run(request, result, began + timeout)
            except TimeoutError:
                late = True
                self._manager.interrupt_kernel()
                self._run(request, result, time.monotonic() + GRACE)
        except TimeoutError:
            detail = f"the cell ran longer than {timeout:g} s and did not answer an interrupt"
            raise self.kill("timeout", detail) from None
        except EOFError:
            raise self.died or self.kill("kernel_died", self._how_it_ended()) from None
        result.outputs = clean_outputs(result.outputs, self.limits, rich=rich)
        result.seconds = time.monotonic() - began
        self._take_answers(result)
        if result.exited:
            self.kill("kernel_died", "the code ended the kernel with exit()")
        elif late:
            raise CellTimeout(result, timeout)
        return result

    def _run(self, request: str, result: CellResult, deadline: float) -> None:
        """Messages until the request is done, into `result`. Raises TimeoutError, or EOFError where the kernel is gone."""
        answered, idle = False, False
        while not (answered and idle):
            if time.monotonic() > deadline:
                raise TimeoutError
            try:
                if not idle:
                    message = self._client.get_iopub_msg(timeout=0.1)
                else:
                    message = self._client.get_shell_msg(timeout=0.1)
            except queue.Empty:
                if self._process.status() == psutil.STATUS_ZOMBIE or self._started.process.poll() is not None:
                    raise EOFError from None
                continue
            except psutil.Error:
                raise EOFError from None
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status":
                idle = content.get("execution_state") == "idle"
            elif kind == "execute_reply":
                answered = True
                result.error = content.get("status") != "ok"
                result.execution_count = content.get("execution_count")
                result.exited = any(part.get("source") == "ask_exit" for part in content.get("payload", ()))
            elif kind == "clear_output":
                result.outputs = []
            elif kind in ("stream", "display_data", "execute_result", "error"):
                _append(result.outputs, message, self.limits)

    def _take_answers(self, result: CellResult) -> None:
        """Files that came or changed since the last cell."""
        for path in sorted(self._answers.iterdir()) if self._answers.is_dir() else ():
            about = path.lstat()
            mark = (about.st_size, about.st_mtime_ns)
            if not stat.S_ISREG(about.st_mode) or self._seen.get(path.name) == mark:
                continue
            self._seen[path.name] = mark
            if not ANSWER_NAME.fullmatch(path.name):
                result.refused[clean_text(path.name, 200)] = "not a plain file name"
            elif about.st_size > self.limits.answer:
                result.refused[path.name] = f"larger than {self.limits.answer} bytes"
            elif about.st_size > self._answers_left:
                result.refused[path.name] = f"all answers together are larger than {self.limits.answers} bytes"
            else:
                self._answers_left -= about.st_size
                result.answers[path.name] = path.read_bytes()

    def _how_it_ended(self) -> str:
        with contextlib.suppress(Exception):
            self._started.process.wait(2)
        code = self._started.process.poll()
        if code is None:
            return "the kernel ended without a word"
        return (
            f"the code ended its own process with exit status {code}"
            if code >= 0
            else f"the kernel was ended by the signal {-code}"
        )

    def _family(self) -> list[psutil.Process]:
        try:
            return [self._process, *self._process.children(recursive=True)]
        except (psutil.Error, AttributeError):
            return []

    def _watch(self) -> None:
        """Memory of all its processes together, as far as the system tells; processor time on the way."""
        while not self._closed.wait(0.1):
            resident, cpu = 0, 0.0
            for process in self._family():
                with contextlib.suppress(psutil.Error):
                    resident += process.memory_info().rss
                    cpu += sum(process.cpu_times()[:4])
            self.peak_memory = max(self.peak_memory, resident)
            self.cpu_seconds = max(self.cpu_seconds or 0.0, cpu)
            if resident > self.limits.memory:
                self.kill("memory", f"its processes together used more than {self.limits.memory >> 20} MiB of memory")

    def close(self) -> None:
        """End the kernel and what it started. Safe to call twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        family = self._family()
        with contextlib.suppress(Exception):
            self._client.stop_channels()
        with contextlib.suppress(Exception):
            self._manager.shutdown_kernel(now=True)
        for process in family[1:]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        for folder in (self._work, self._sockets):
            shutil.rmtree(folder, ignore_errors=True)


def _append(outputs: list[Any], message: dict[str, Any], limits: Limits) -> None:
    """One more output; printed text joins what was printed before, and what nobody would keep is dropped."""
    output = nbformat.v4.output_from_msg(message)
    last = outputs[-1] if outputs else None
    if output.output_type == "stream" and last is not None and last.get("name") == output.name:
        last["text"] += output.text[: max(0, limits.output - len(last["text"]))]
    elif len(outputs) < MOST_OUTPUTS:
        outputs.append(output)
