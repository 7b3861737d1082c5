"""The trusted side of a run: starts the warm process, sends cells to forked kernels, believes nothing they say, and ends them.

Holds the papermill engine ``autograder``. It never imports torch, never runs a learner's code in its own process, and never judges.
"""

# ruff: noqa: PTH112, PTH123, PTH208
from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import secrets
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from autograder import lean  # before nbformat

# isort: split
import nbformat
from nbformat import NotebookNode

from autograder import sandbox as sandboxes
from autograder.sandbox import HOME, Sandbox, SandboxUnavailable
from autograder.workers import how_it_ended


class _LateEngine:
    """Stands for ForkedEngine until this module is complete."""

    def __getattr__(self, name: str) -> Any:
        return getattr(ForkedEngine, name)


def __getattr__(name: str) -> Any:
    # papermill loads its entry points, this module's among them, while it is itself imported in the next lines.
    if name == "ForkedEngine":
        return _LateEngine()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# papermill looks for pyarrow's file system at import, for notebooks on Hadoop; it would bring numpy and its threads into this process
with lean.without("pyarrow"):
    import papermill
    from papermill.engines import Engine, papermill_engines
    from papermill.exceptions import PapermillExecutionError

PRELOAD = (
    "matplotlib.pyplot", "IPython", "safetensors.torch", "torch.nn.functional", "torch.utils.data",
    "autograder.authoring", "autograder.checks", "autograder.tally",
)  # fmt: skip
GRACE = 1.0  # seconds a cell has to answer an interrupt
ANSWER_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
MOST_EQUAL = 8  # threads of a kernel that run at the ordinary priority
MOST_FRAME = 6 << 20
MOST_SOURCE = 4 << 20
MOST_OUTPUTS = 300
MOST_PIXELS = 50_000_000


@dataclass(frozen=True)
class Limits:
    """What one submission may use. Bytes, except `processes` (processes and threads together) and `files` (open descriptors)."""

    memory: int = 4 << 30
    processes: int = 256
    disk: int = 512 << 20
    files: int = 1024
    answer: int = 32 << 20
    """Largest answer file."""
    answers: int = 128 << 20
    """All answers of a submission together."""
    output: int = 200_000
    """Text shown by one cell, in characters."""
    images: int = 3 << 20
    """Pictures shown by one cell, in base64 characters."""


class ExecutionFailure(RuntimeError):
    """A cell could not be executed to its end."""


class KernelDied(ExecutionFailure):
    """The kernel is gone. `reason`: ``timeout``, ``submission_timeout``, ``memory`` or ``kernel_died``; `detail`: a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class CellTimeout(ExecutionFailure):
    """The cell was interrupted at its time limit; the kernel lives. `result` holds what the cell left."""

    def __init__(self, result: CellResult, limit: float) -> None:
        super().__init__(f"the cell was stopped after {limit:g} s")
        self.result, self.limit = result, limit


class ZygoteDied(RuntimeError):
    """The warm process ended or never started; the text holds its last words."""


@dataclass
class CellResult:
    """What one cell left: checked outputs (nbformat v4), answer files by name, and whether it raised."""

    outputs: list[NotebookNode] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)
    error: bool = False
    execution_count: int | None = None
    exited: bool = False
    """The cell asked the kernel to end (``exit()``); the next execution raises KernelDied."""
    refused: dict[str, str] = field(default_factory=dict)
    """Answer files that were not taken: name -> why."""
    seconds: float = 0.0


def can_fork() -> tuple[bool, str]:
    """Whether warm kernels work on this system at all; if not, why (then use papermill's ordinary engine)."""
    if sys.platform != "linux":
        return False, f"forked kernels need Linux (this is {sys.platform}); papermill's ordinary engine is used"
    if not os.path.isdir("/proc/self/task"):
        return False, "forked kernels need /proc; papermill's ordinary engine is used"
    return True, ""


# --------------------------------------------------------------------------------------------------------------------------------
# Reading what a kernel shows
# --------------------------------------------------------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def clean_text(value: object, most: int) -> str:
    """`value` as text of at most `most` characters without control characters and lone surrogates; "" if it is no string."""
    if not isinstance(value, str):
        return ""
    return _CONTROL.sub("", value[:most].encode("utf-8", "replace").decode())


def clean_png(value: object) -> str | None:
    """`value` if it is base64 of a PNG of a sensible size, re-encoded; else None."""
    if not isinstance(value, str):
        return None
    try:
        data = base64.b64decode(value.replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(data) < 33 or not data.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"):
        return None
    width, height = struct.unpack(">II", data[16:24])
    return base64.b64encode(data).decode() if 0 < width * height <= MOST_PIXELS else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31 else None


def clean_outputs(raw: object, limits: Limits, *, rich: bool = False) -> list[NotebookNode]:
    """Outputs in nbformat v4 rebuilt from what a kernel sent; unknown kinds, types and keys are dropped.

    Only text and PNG pictures stay, so that opening a graded notebook runs no learner's markup, unless `rich` asks for the rest.
    """
    kept: list[NotebookNode] = []
    text_left, image_left = limits.output + 20_000, limits.images

    def text(value: object) -> str:
        nonlocal text_left
        cleaned = clean_text(value, text_left)
        text_left -= len(cleaned)
        return cleaned

    for item in raw[:MOST_OUTPUTS] if isinstance(raw, list) else ():
        if not isinstance(item, dict):
            continue
        kind = item.get("output_type")
        if kind == "stream":
            name = "stderr" if item.get("name") == "stderr" else "stdout"
            kept.append(nbformat.v4.new_output("stream", name=name, text=text(item.get("text"))))
        elif kind == "error":
            lines = item.get("traceback")
            traceback = [text(line) for line in lines[:2000]] if isinstance(lines, list) else []
            name, value = clean_text(item.get("ename"), 200), clean_text(item.get("evalue"), 4000)
            kept.append(nbformat.v4.new_output("error", ename=name, evalue=value, traceback=traceback))
        elif kind in ("display_data", "execute_result"):
            offered = item.get("data")
            data: dict[str, str] = {}
            for mime, value in list(offered.items())[:20] if isinstance(offered, dict) else ():
                if mime == "text/plain":
                    data[mime] = text(value)
                elif mime == "image/png":
                    picture = clean_png(value)
                    if picture is not None and len(picture) <= image_left:
                        image_left -= len(picture)
                        data[mime] = picture
                elif rich and isinstance(value, str):
                    data[clean_text(mime, 100)] = text(value)
            if data and kind == "execute_result":
                count = _whole(item.get("execution_count"))
                kept.append(nbformat.v4.new_output(kind, data=data, execution_count=count))
            elif data:
                kept.append(nbformat.v4.new_output(kind, data=data))
    return kept


class _Frames:
    """Frames from a kernel's socket, bounded in length and in total, each read against a deadline."""

    def __init__(self, connection: socket.socket, pidfd: int) -> None:
        self._socket, self._pidfd = connection, pidfd
        self._buffer = bytearray()
        self.allowance = 0
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        if pidfd >= 0:
            self._poll.register(pidfd, select.POLLIN)
        connection.setblocking(False)

    def _fill(self, size: int, deadline: float) -> None:
        """Until `size` bytes are there. Raises TimeoutError, EOFError (the kernel is gone) or ValueError (it sent too much)."""
        while len(self._buffer) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            ready = dict(self._poll.poll(min(left, 3600) * 1000 + 1))
            if self._socket.fileno() in ready:
                try:
                    piece = self._socket.recv(1 << 20)
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise EOFError from error
                if not piece:
                    raise EOFError
                self.allowance -= len(piece)
                if self.allowance < 0:
                    raise ValueError("it sent more than it may")
                self._buffer += piece
            elif (
                ready
            ):  # the process is gone and its socket is drained, though a process it left may hold the other end
                raise EOFError

    def next(self, deadline: float, kind: bytes, size: int | None = None) -> bytes:
        """The payload of the next frame, of this kind (and size). The buffer keeps a frame cut short by the deadline."""
        self._fill(5, deadline)
        length = int.from_bytes(self._buffer[1:5], "big")
        if self._buffer[:1] != kind or (length > MOST_FRAME if size is None else length != size):
            raise ValueError("it sent a frame that was not expected")
        self._fill(5 + length, deadline)
        payload = bytes(self._buffer[5 : 5 + length])
        del self._buffer[: 5 + length]
        return payload

    def message(self, deadline: float) -> dict[str, Any]:
        """The next frame as a JSON object."""
        try:
            value = json.loads(self.next(deadline, b"J"))
        except RecursionError as error:
            raise ValueError("it sent JSON that is nested too deeply") from error
        if not isinstance(value, dict):
            raise ValueError("it sent JSON that is no object")
        return value

    def send(self, payload: bytes, deadline: float) -> None:
        """Send all. Raises TimeoutError or EOFError."""
        view = memoryview(payload)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError from None
                select.select([], [self._socket], [], min(left, 1.0))
            except OSError as error:
                raise EOFError from error


# --------------------------------------------------------------------------------------------------------------------------------
# Kernels
# --------------------------------------------------------------------------------------------------------------------------------


def _descendants(pid: int) -> list[int]:
    """`pid` and all processes below it (a kernel's orphans stay below it: it is pid 1 of their namespace)."""
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        found.append(current)
        if len(found) > 20_000:
            break
        try:
            for task in os.listdir(f"/proc/{current}/task"):
                with open(f"/proc/{current}/task/{task}/children") as file:
                    waiting += map(int, file.read().split())
        except (OSError, ValueError):
            continue
    return found


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    """Resident memory with shared pages divided among their sharers; the plain resident size where the system will not say."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return _resident(pid)


class Kernel:
    """One submission's process. Not for construction: :meth:`Zygote.spawn` makes it. Close it, or use it as a context manager."""

    def __init__(
        self, connection: socket.socket, status: int, limits: Limits, start_deadline: float, work: Path | None
    ) -> None:
        self.limits = limits
        self.died: KernelDied | None = None
        self.peak_memory = 0
        """Largest memory of all its processes together that the monitor saw, in bytes."""
        self.cpu_seconds: float | None = None
        """Processor time of the kernel, known once it has ended by itself or been closed."""
        self._socket, self._status, self._work = connection, status, work
        self._answers_left = limits.answers
        self._announced: tuple[str, int] | None = None  # an answer whose bytes come next, perhaps after an interrupt
        self._closed = False
        self._lock = threading.Lock()
        self._said: dict[str, Any] | None = None
        self.pid, self._pidfd = 0, -1
        self._frames = _Frames(connection, -1)
        try:
            self.pid = self._first_words(start_deadline)
            try:
                self._pidfd = os.pidfd_open(self.pid)
            except (OSError, AttributeError):
                self._pidfd = -1
            self._frames = _Frames(connection, self._pidfd)
            self._frames.allowance = 1 << 16
            ready = self._frames.message(start_deadline)
            if ready.get("type") != "ready":
                raise ValueError("it did not say that it is ready")
            self.isolated = ready.get("isolated") is True
            """Apart from other kernels: files, processes and network of its own."""
            self.filtered = ready.get("filtered") is True
            """System calls are filtered."""
        except (TimeoutError, EOFError, ValueError, OSError) as error:
            said = self._last_words(1.0)
            self.close()
            raise ZygoteDied(f"a kernel could not be started: {said.get('failed', error)!s}") from error

    def _first_words(self, deadline: float) -> int:
        """Wait for the first bytes and take the sender's process id, in our own numbering, from the system's word for it."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._status, select.POLLIN)
        events = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
        if self._socket.fileno() not in events:
            raise TimeoutError("no word from it" if not events else "it ended at once")
        size = struct.calcsize("3i")
        data, ancillary, _, _ = self._socket.recvmsg(1, socket.CMSG_SPACE(size), socket.MSG_PEEK)
        if not data:
            raise EOFError("it ended at once")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        for level, kind, credentials in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(credentials) >= size:
                pid: int = struct.unpack("3i", credentials[:size])[0]
                if pid > 1:
                    return pid
        raise ValueError("the system does not tell its process id")

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether cells can still be executed."""
        return self.died is None and not self._closed

    def _signal(self, number: int) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError, PermissionError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)
            elif self.pid and self._said is None:
                os.kill(self.pid, number)

    def interrupt(self) -> None:
        """SIGINT to the kernel, as the stop button sends."""
        self._signal(signal.SIGINT)

    def kill(self, reason: str = "kernel_died", detail: str = "the kernel was ended") -> KernelDied:
        """End the kernel and everything it started. The first reason given stays."""
        with self._lock:
            if self.died is None:
                self.died = KernelDied(reason, detail)
        self._signal(signal.SIGKILL)
        return self.died

    def _last_words(self, timeout: float) -> dict[str, Any]:
        """How the kernel ended, from the process that waited for it and ran none of the learner's code."""
        if self._said is None and self._status >= 0:
            ready, _, _ = select.select([self._status], [], [], timeout)
            if ready:
                try:
                    said = json.loads(os.read(self._status, 8192).decode() or "{}")
                    self._said = said if isinstance(said, dict) else {}
                except (ValueError, OSError):
                    self._said = {}
        return self._said or {}

    def _gone(self) -> KernelDied:
        said = self._last_words(5.0)
        if "signal" in said:
            name = (
                signal.Signals(said["signal"]).name if said["signal"] in list(signal.Signals) else str(said["signal"])
            )
            detail = f"the kernel was ended by the signal {name}"
            if said["signal"] == signal.SIGKILL:
                detail += " (the system may have been short of memory)"
        elif "exit" in said:
            detail = f"the code ended its own process with exit status {said['exit']}"
        else:
            detail = "the kernel ended without a word"
        return self.kill("kernel_died", detail)

    def execute(self, source: str, timeout: float, *, rich: bool = False) -> CellResult:
        """Execute one cell.

        Args:
            source: the cell's text, magics and all.
            timeout: seconds. Then an interrupt; one second after that everything is killed.
            rich: keep HTML and other markup in the outputs.

        Raises:
            CellTimeout: the cell was interrupted; the kernel goes on. KernelDied: the kernel is gone.
        """
        if self.died is not None:
            raise self.died
        if self._closed:
            raise KernelDied("kernel_died", "the kernel was closed")
        token = secrets.token_hex(8)
        payload = json.dumps({"type": "execute", "id": token, "source": source}).encode()
        if len(payload) > MOST_SOURCE:
            raise ValueError(f"the cell's source is larger than {MOST_SOURCE} bytes")
        start = time.monotonic()
        deadline = start + timeout
        result = CellResult()
        self._frames.allowance = MOST_FRAME + self._answers_left + self.limits.answer + (1 << 20)
        late = False
        try:
            try:
                self._frames.send(struct.pack(">I", len(payload)) + payload, deadline)
                self._collect(result, token, deadline, rich)
            except TimeoutError:
                late = True
                self.interrupt()
                self._collect(result, token, time.monotonic() + GRACE, rich)
        except TimeoutError:
            detail = f"the cell ran longer than {timeout:g} s and did not answer an interrupt"
            raise self.kill("timeout", detail) from None
        except EOFError:
            raise self._gone() from None
        except ValueError as error:
            raise self.kill("kernel_died", f"the kernel broke the protocol: {error}") from None
        result.seconds = time.monotonic() - start
        if result.exited:
            self.kill("kernel_died", "the code ended the kernel with exit()")
        elif late:
            raise CellTimeout(result, timeout)
        return result

    def _collect(self, result: CellResult, token: str, deadline: float, rich: bool) -> None:
        """Messages until the cell is done, into `result`."""
        messages = 0
        while True:
            if self._announced is not None:
                coming, length = self._announced
                self._take_answer(result, coming, self._frames.next(deadline, b"B", length))
                self._announced = None
            message = self._frames.message(deadline)
            messages += 1
            if messages > 2000:
                raise ValueError("it sent too many messages")
            kind = message.get("type")
            if kind == "answer":
                name, size = message.get("name"), _whole(message.get("size"))
                if not isinstance(name, str) or size is None:
                    raise ValueError("it announced an answer without name or size")
                if message.get("refused") is True or size > self.limits.answer:
                    result.refused[clean_text(name, 200)] = f"larger than {self.limits.answer} bytes"
                    if message.get("refused") is not True:
                        raise ValueError("it sent an answer larger than allowed")
                    continue
                self._announced = (name, size)
            elif kind == "done" and message.get("id") == token:
                result.outputs = clean_outputs(message.get("outputs"), self.limits, rich=rich)
                result.execution_count = _whole(message.get("execution_count"))
                result.error = message.get("error") is not False
                result.exited = message.get("exiting") is True
                return
            # Anything else, a late "done" of an earlier cell for one, is not for us.

    def _take_answer(self, result: CellResult, name: str, data: bytes) -> None:
        if not ANSWER_NAME.fullmatch(name):
            result.refused[clean_text(name, 200)] = "not a plain file name"
        elif len(data) > self._answers_left:
            result.refused[name] = f"all answers together are larger than {self.limits.answers} bytes"
        else:
            self._answers_left -= len(data)
            result.answers[name] = data

    def _has_ended(self) -> bool:
        """Whether the process is gone, so that what was just measured under its number may be another's."""
        with self._lock:
            return self._pidfd >= 0 and bool(select.select([self._pidfd], [], [], 0)[0])

    def check(self) -> None:
        """Measure all its processes and kill it if they exceed the limits. Called by the monitor."""
        if self.died is not None or self._closed or not self.pid:
            return
        family = _descendants(self.pid)
        resident = sum(map(_resident, family))
        if len(family) == 1:
            self.peak_memory = max(self.peak_memory, resident)
        if resident > self.limits.memory:  # forks share pages, so count again, carefully, before killing
            resident = sum(map(_proportional, family))
            self.peak_memory = max(self.peak_memory, resident)
            if resident > self.limits.memory and not self._has_ended():
                self.kill("memory", f"its processes together used more than {self.limits.memory >> 20} MiB of memory")
                return
        count = 0
        for pid in family:
            try:
                tasks = os.listdir(f"/proc/{pid}/task")
            except OSError:
                continue
            count += len(tasks)
            if (
                pid != self.pid or len(tasks) > MOST_EQUAL
            ):  # a crowd waits for the other submissions, each with its one process
                for task in tasks:
                    with contextlib.suppress(OSError, ValueError):
                        os.setpriority(os.PRIO_PROCESS, int(task), 19)
        if count > self.limits.processes and not self._has_ended():
            self.kill("kernel_died", f"it had more than {self.limits.processes} processes and threads")

    def close(self) -> None:
        """End the kernel and everything it started, and wait until it is gone. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._signal(signal.SIGKILL)
        try:
            self._socket.close()
        finally:
            said = self._last_words(10.0)
            if isinstance(said.get("cpu"), (int, float)):
                self.cpu_seconds = float(said["cpu"])
            if isinstance(said.get("peak"), int):
                self.peak_memory = max(self.peak_memory, said["peak"])
            with self._lock:
                if self._pidfd >= 0:
                    os.close(self._pidfd)
                    self._pidfd = -1
            os.close(self._status)
            self._status = -1
            if self._work is not None:
                shutil.rmtree(self._work, ignore_errors=True)


# --------------------------------------------------------------------------------------------------------------------------------
# The warm process
# --------------------------------------------------------------------------------------------------------------------------------


class Zygote:
    """The warm process that forks kernels. A context manager; starting it costs an import of torch.

    Args:
        modules: folders on the kernels' ``PYTHONPATH`` (mounted read-only), for example the allowed part of ``papers``.
        binds: further read-only binds, target inside -> source outside (sandbox only).
        hide: paths that must stay invisible even if something mounted contains them (sandbox only).
        preload: modules imported before the fork, beside :data:`PRELOAD`.
        threads: of torch, in each kernel.
        unsafe: no sandbox. The learner's code then runs with the rights of this process.
        poll: seconds between two looks at each kernel's memory and processes.
        start_timeout: seconds the start may take.

    Raises SandboxUnavailable where a sandbox is wanted and there is none, ZygoteDied if the process does not come up.
    """

    def __init__(
        self,
        modules: Sequence[str | os.PathLike[str]] = (),
        binds: Mapping[str, str | os.PathLike[str]] | None = None,
        hide: Sequence[str | os.PathLike[str]] = (),
        *,
        preload: Sequence[str] = (),
        threads: int = 1,
        unsafe: bool = False,
        poll: float = 0.05,
        start_timeout: float = 180.0,
    ) -> None:
        works, why = can_fork()
        if not works:
            raise ZygoteDied(why)
        if not unsafe:
            works, why = sandboxes.available()
            if not works:
                raise SandboxUnavailable(why)
        self.sandboxed = not unsafe
        self.isolates_children = False
        """Whether each kernel has files, processes and a network of its own, apart from other kernels of this zygote."""
        self.missing: list[str] = []
        """Preloads that could not be imported, with the reason."""
        self.start_seconds = 0.0
        self.warm_threads: int | None = None
        """Threads of the warm process when it was ready; more than 1 would make forking unsafe."""
        self.huge_pages = 0
        """How many huge pages the warm process lies on: the more, the faster it forks."""
        self.reason = ""
        self._modules, self._binds, self._hide = modules, binds, hide
        self._options = {"preload": [*PRELOAD, *preload], "threads": threads, "sandboxed": self.sandboxed}
        self._threads, self._poll, self._start_timeout = threads, poll, start_timeout
        self._kernels: set[Kernel] = set()
        self._spawned = 0
        self._owner = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._sandbox: Sandbox | None = None
        self._folder: Path | None = None

    @property
    def one_kernel_only(self) -> bool:
        """Sandboxed, but kernels could not be kept apart from each other: take a new zygote for each submission."""
        return self.sandboxed and not self.isolates_children

    def __enter__(self) -> Zygote:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the process and wait until it has imported everything."""
        if self._process is not None:
            raise RuntimeError("this zygote was started before")
        began = time.monotonic()
        self._owner = os.getpid()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        options = json.dumps(self._options)
        if self.sandboxed:
            self._sandbox = Sandbox(self._modules, self._binds, self._hide)
            argv = [sys.executable, "-P", "-s", self._sandbox.inside("zygote.py"), str(theirs.fileno()), options]
            command = self._sandbox.command(argv, self._sandbox.environment(threads=self._threads))
            environment: dict[str, str] = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
        else:
            self._folder = Path(tempfile.mkdtemp(prefix="autograder-"))
            script = Path(__file__).with_name("zygote.py")
            path = os.pathsep.join([*map(str, self._modules), str(script.parent.parent)])
            command = [sys.executable, "-P", "-s", str(script), str(theirs.fileno()), options]
            environment = sandboxes.plain_environment(
                str(self._folder), path, os.environ.get("PATH", ""), self._threads
            )
            environment["TMPDIR"] = tempfile.gettempdir()
        started = threading.Event()
        failure: list[BaseException] = []

        def keep() -> None:
            # The process is to die with this one. The system ties that to the thread which started it, so a thread that lives
            # as long as the process does must do so; it then serves as the monitor.
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors, env=environment, cwd="/",
                    pass_fds=(theirs.fileno(),), start_new_session=True,
                )  # fmt: skip
            except BaseException as error:
                failure.append(error)
                return
            finally:
                theirs.close()
                started.set()
            self._watch()

        self._keeper = threading.Thread(target=keep, name="autograder-zygote", daemon=True)
        self._keeper.start()
        started.wait()
        if failure:
            self.close()
            raise ZygoteDied(f"the warm process could not be started: {failure[0]}") from failure[0]
        self._control.settimeout(self._start_timeout)
        message, how = {}, ""
        try:
            message = json.loads(self._control.recv(1 << 16) or b"{}")
        except TimeoutError:
            how = f"it was not ready after {self._start_timeout:g} s"
        except (OSError, ValueError) as error:
            how = f"what it says cannot be read ({error})"
        if message.get("type") != "ready":
            how, words = how or self._how_it_ended(), self._stderr()
            self.close()
            raise ZygoteDied(f"the warm process did not start; {how}: {words or 'no message'}")
        self.isolates_children = message.get("isolates") is True
        self.reason = str(message.get("reason", ""))
        self.missing = [str(line) for line in message.get("missing", [])]
        self.warm_threads = message.get("threads")
        self.huge_pages = int(message.get("huge", 0))
        self.start_seconds = time.monotonic() - began

    def _how_it_ended(self) -> str:
        """In words, once its socket is closed."""
        try:
            return how_it_ended(self._process.wait(5.0) if self._process is not None else 0)
        except subprocess.TimeoutExpired:
            return "it closed its socket"

    def _stderr(self) -> str:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 2000))
        return self._errors.read().decode(errors="replace").strip()

    def _watch(self) -> None:
        """The monitor: looks at each kernel's memory and processes until the zygote ends."""
        while not self._ended.wait(self._poll):
            with self._lock:
                kernels = list(self._kernels)
            began = time.monotonic()
            for kernel in kernels:
                if kernel._closed:
                    with self._lock:
                        self._kernels.discard(kernel)
                    continue
                try:
                    kernel.check()
                except Exception as error:  # blind is not safe
                    kernel.kill("kernel_died", f"its memory and processes could not be measured: {error!r}")
            # A family of hundreds takes long to measure: never more than half of one core for the monitor.
            time.sleep(min(0.5, time.monotonic() - began))
        if self._process is not None:
            # Its socket is closed, so it ends by itself; killed, it would take its kernels' processor time out of the system's books.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
            self._process.kill()
            self._process.wait()

    def spawn(
        self, env: Mapping[str, str] | None = None, limits: Limits | None = None, *, seed: int | None = None
    ) -> Kernel:
        """Fork a kernel for one submission.

        Args:
            env: variables added to its environment; ``AUTOGRADER_ANSWERS`` defaults to ``.answers`` in its work folder. They pass
                through the warm process, whose memory later kernels inherit: nothing one submission may know and the next may not.
            limits: see :class:`Limits`.
            seed: of Python's, numpy's and torch's generators, so that code which never seeds answers twice alike; None: from the system.

        Raises ZygoteDied if the zygote or the new kernel does not come up; RuntimeError for a second kernel where
        :attr:`one_kernel_only`.
        """
        if self._control is None or self._process is None or self._ended.is_set():
            raise ZygoteDied("the warm process is not running")
        if os.getpid() != self._owner:
            raise ZygoteDied("this zygote was started by another process, which has its monitor: start one here")
        limits = limits or Limits()
        work = None if self.sandboxed else Path(tempfile.mkdtemp(prefix="autograder-work-"))
        folder = HOME if work is None else str(work)
        variables = {
            "HOME": folder,
            "MPLCONFIGDIR": f"{folder}/.matplotlib",
            "AUTOGRADER_ANSWERS": f"{folder}/.answers",
            **(env or {}),
        }
        request = {
            "env": variables,
            "work": folder,
            "limits": asdict(limits),
            "sandboxed": self.sandboxed,
            "seed": seed,
        }
        payload = json.dumps(request).encode()
        if len(payload) > 100_000:
            raise ValueError("the environment for a kernel is larger than 100 kB")
        with self._lock:
            if self.one_kernel_only and self._spawned:
                raise RuntimeError(
                    "kernels of this zygote cannot be kept apart here: start a new zygote for each submission"
                )
            self._spawned += 1
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            reader, writer = os.pipe()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            try:
                socket.send_fds(self._control, [payload], [theirs.fileno(), writer])
            except OSError as error:
                ours.close()
                os.close(reader)
                raise ZygoteDied(f"the warm process is gone: {self._stderr()}") from error
            finally:
                theirs.close()
                os.close(writer)
        kernel = Kernel(ours, reader, limits, time.monotonic() + 60, work)
        if self.sandboxed and self.isolates_children and not kernel.isolated:
            kernel.close()
            raise ZygoteDied("a kernel came up without walls of its own")
        with self._lock:
            self._kernels.add(kernel)
        return kernel

    def close(self) -> None:
        """End all kernels and the process. Safe to call twice."""
        with self._lock:
            kernels, self._kernels = list(self._kernels), set()
        for kernel in kernels:
            kernel.close()
        if self._control is not None:
            self._control.close()
        self._ended.set()
        if getattr(self, "_keeper", None) is not None:
            self._keeper.join(10)
        if self._sandbox is not None:
            self._sandbox.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


# --------------------------------------------------------------------------------------------------------------------------------
# Papermill
# --------------------------------------------------------------------------------------------------------------------------------


class Kernels(Protocol):
    """What starts a kernel for each submission: a :class:`Zygote`, or where nothing can be forked `autograder.ordinary`."""

    def spawn(
        self, env: Mapping[str, str] | None = None, limits: Limits | None = None, *, seed: int | None = None
    ) -> Any:
        """A kernel, as a context manager."""


@dataclass
class Session:
    """What a run of one notebook left beside its outputs; pass one to the engine and read it afterwards.

    Indices count all cells of the notebook that ran (papermill's injected parameters included), from 0.
    """

    answers: dict[str, bytes] = field(default_factory=dict)
    """Answer files by name; of two with one name the later."""
    answered_in: dict[str, int] = field(default_factory=dict)
    """Index of the cell each answer came from."""
    refused: dict[str, str] = field(default_factory=dict)
    died_at: int | None = None
    """Index of the cell in which the kernel ended; later cells did not run."""
    reason: str | None = None
    """``timeout``, ``submission_timeout``, ``memory`` or ``kernel_died``."""
    detail: str = ""
    seconds: dict[int, float] = field(default_factory=dict)
    timeouts: list[int] = field(default_factory=list)
    """Cells that were interrupted at their limit, the kernel going on (the one it died in is not among them)."""
    errors: list[int] = field(default_factory=list)
    peak_memory: int = 0
    cpu_seconds: float | None = None
    notebook: NotebookNode | None = None
    """The executed notebook, without the marker cells that papermill adds when a cell raised."""

    def _take(self, index: int, result: CellResult) -> None:
        for name, data in result.answers.items():
            self.answers[name] = data
            self.answered_in[name] = index
        self.refused.update(result.refused)


class ForkedEngine(Engine):  # type: ignore[misc]
    """The papermill engine ``autograder``: runs a notebook's code cells in a kernel forked from a warm process."""

    @classmethod
    def nb_kernel_name(cls, nb: NotebookNode, name: str | None = None) -> str:
        """Always Python: a submission's own kernelspec decides nothing."""
        return "python3"

    @classmethod
    def nb_language(cls, nb: NotebookNode, language: str | None = None) -> str:
        """Always Python."""
        return "python"

    @classmethod
    def execute_managed_notebook(  # type: ignore[override]
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        zygote: Kernels | None = None,
        session: Session | None = None,
        limits: Limits | None = None,
        env: Mapping[str, str] | None = None,
        cell_timeout: float = 60.0,
        submission_timeout: float = 600.0,
        allow_errors: bool = False,
        rich: bool = False,
        random_seed: int | None = None,
        **_ignored: Any,
    ) -> None:
        """Run all code cells, whatever their tags say.

        Args:
            zygote: a started :class:`Zygote`; without one a sandboxed one is started for this notebook alone.
            session: filled with answers and with how the run went.
            limits, env: of the kernel.
            cell_timeout, submission_timeout: seconds.
            allow_errors: go on after a cell that raised or was interrupted.
            rich: keep HTML and other markup in outputs.
            random_seed: of the kernel's generators, see :meth:`Zygote.spawn`.
        """
        session = session if session is not None else Session()
        if zygote is None:
            with Zygote() as own:
                cls._run(
                    nb_man, own, session, limits, env, cell_timeout, submission_timeout, allow_errors, rich, random_seed
                )
        else:
            cls._run(
                nb_man, zygote, session, limits, env, cell_timeout, submission_timeout, allow_errors, rich, random_seed
            )

    @classmethod
    def _run(
        cls,
        nb_man: Any,
        zygote: Kernels,
        session: Session,
        limits: Limits | None,
        env: Mapping[str, str] | None,
        cell_timeout: float,
        submission_timeout: float,
        allow_errors: bool,
        rich: bool,
        random_seed: int | None,
    ) -> None:
        with zygote.spawn(env, limits, seed=random_seed) as kernel:
            deadline = time.monotonic() + submission_timeout
            for index, cell in enumerate(nb_man.nb.cells):
                if cell.cell_type != "code" or not isinstance(cell.source, str) or not cell.source.strip():
                    continue
                nb_man.cell_start(cell, index)
                began = time.monotonic()
                try:
                    going = cls._run_cell(
                        nb_man, kernel, session, cell, index, deadline, cell_timeout, submission_timeout, rich
                    )
                finally:
                    session.seconds[index] = time.monotonic() - began
                    nb_man.cell_complete(cell, index)
                if session.died_at is not None or not (going or allow_errors):
                    break
        session.peak_memory, session.cpu_seconds = kernel.peak_memory, kernel.cpu_seconds
        nb = nb_man.nb
        session.notebook = NotebookNode({**nb, "cells": list(nb.cells)})

    @staticmethod
    def _run_cell(
        nb_man: Any,
        kernel: Kernel,
        session: Session,
        cell: NotebookNode,
        index: int,
        deadline: float,
        cell_timeout: float,
        submission_timeout: float,
        rich: bool,
    ) -> bool:
        """One cell into the notebook and the session; False if it raised."""
        left = deadline - time.monotonic()
        whole = left < cell_timeout  # the submission's limit comes first
        problem: tuple[str, str] | None = None
        try:
            if left <= 0:
                raise kernel.kill("submission_timeout", f"the notebook ran longer than {submission_timeout:g} s")
            result = kernel.execute(cell.source, min(cell_timeout, left), rich=rich)
            if result.exited and kernel.died is not None:
                session.died_at, session.reason, session.detail = index, kernel.died.reason, kernel.died.detail
        except CellTimeout as error:
            result = error.result
            session.timeouts.append(index)
            problem = ("CellTimeout", str(error))
            if whole:
                kernel.kill("submission_timeout", f"the notebook ran longer than {submission_timeout:g} s")
                session.died_at, session.reason, session.detail = index, "submission_timeout", str(kernel.died)
        except KernelDied as error:
            result = CellResult()
            session.died_at, session.reason, session.detail = index, error.reason, error.detail
            if whole and error.reason == "timeout":
                session.reason, session.detail = (
                    "submission_timeout",
                    f"the notebook ran longer than {submission_timeout:g} s",
                )
            problem = ("KernelDied", session.detail)
        except ValueError as error:  # a source too large to send
            result = CellResult(error=True)
            problem = ("ValueError", str(error))
        session._take(index, result)
        cell.outputs = result.outputs
        cell.execution_count = result.execution_count
        if problem is not None:
            cell.outputs.append(
                nbformat.v4.new_output("error", ename=problem[0], evalue=problem[1], traceback=[problem[1]])
            )
        if problem is not None or result.error:
            session.errors.append(index)
            nb_man.cell_exception(cell, index)
            return False
        return True


papermill_engines.register("autograder", ForkedEngine)


def run_notebook(
    notebook: NotebookNode | str | os.PathLike[str],
    zygote: Kernels,
    session: Session | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
    **engine_options: Any,
) -> Session:
    """Run a notebook by papermill through this engine and give back the session, whatever its cells raised.

    papermill ends with an exception whenever an output is an error; a submission with an error is an ordinary one, so that exception
    stops here. `engine_options` are :meth:`ForkedEngine.execute_managed_notebook`'s.
    """
    session = session if session is not None else Session()
    options: dict[str, Any] = {
        "allow_errors": True,
        "progress_bar": False,
        "kernel_name": "python3",
        "language": "python",
    }
    options |= engine_options
    source = notebook if isinstance(notebook, NotebookNode) else str(notebook)
    try:
        papermill.execute_notebook(
            source,
            None,
            parameters=dict(parameters or {}),
            engine_name="autograder",
            zygote=zygote,
            session=session,
            **options,
        )
    except PapermillExecutionError:
        if session.notebook is None:
            raise
    return session
