"""The warm process: imports torch once, forks a kernel for each submission and runs its cells; it never judges and holds no secret.

This file is run as a script, usually inside bubblewrap, by :class:`autograder.engine.Zygote`. It talks to that process alone:

* over a control socket (``SOCK_SEQPACKET``) come requests, each with two file descriptors: the kernel's own socket and a pipe for
  its exit status;
* over the kernel's socket come frames ``length (4 bytes, big-endian), JSON`` and go frames ``kind (1 byte), length, payload`` where
  kind ``J`` is JSON and ``B`` the bytes of the answer file just announced.

The learner's code runs in the same process as the kernel's end of that socket, so the other end believes nothing it reads.
What a kernel may not do is set from outside of its reach, before its first cell: namespaces, capabilities, limits, system calls.
"""

# ruff: noqa: PTH101, PTH102, PTH103, PTH108, PTH118, PTH123, PTH208
from __future__ import annotations

import array
import ast
import base64
import builtins
import contextlib
import ctypes
import errno
import faulthandler
import fcntl
import importlib
import json
import os
import platform
import re
import resource
import select
import shutil
import signal
import socket
import stat
import struct
import sys
import threading
import time
import traceback
import warnings
from typing import Any

DATA_FD = 700
HOME = "/home/learner"

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_PRIVATE = 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_SECCOMP = 1, 4, 24, 22
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(value: int, what: str) -> int:
    if value < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return value


def unshare(flags: int) -> None:
    """``unshare(2)``. Raises OSError."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """``mount(2)``. Raises OSError."""
    code = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _checked(code, f"mount {target}")


def prctl(option: int, *values: int) -> None:
    """``prctl(2)``. Raises OSError."""
    padded = [*values, 0, 0, 0, 0][:4]
    _checked(_libc.prctl(ctypes.c_int(option), *(ctypes.c_ulong(v) for v in padded)), f"prctl {option}")


# --------------------------------------------------------------------------------------------------------------------------------
# Walls around a kernel
# --------------------------------------------------------------------------------------------------------------------------------

# name: (x86_64, aarch64). None: the call does not exist there.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "swapon": (167, 224),
    "swapoff": (168, 225), "reboot": (169, 142), "quotactl": (179, 60), "acct": (163, 89), "syslog": (103, 116),
    "personality": (135, 92), "modify_ldt": (154, None), "iopl": (172, None), "ioperm": (173, None),
    # Memory that belongs to no process's resident set, so that the monitor would not see it:
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190),
}  # fmt: skip
_CLONE, _CLONE3, _SOCKET = (56, 220), (435, 435), (41, 198)
_AUDIT_ARCH = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_NEW_NAMESPACES = (
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET
)


def seccomp_program(machine: str) -> bytes | None:
    """The filter of system calls as classic BPF, or None for a machine whose numbers are not known here.

    Denies what a notebook has no use for and an escape would begin with: namespaces, mounts, keys, BPF, io_uring, tracing, memory
    outside of every resident set, and sockets other than UNIX and internet ones (vsock, for one, reaches a virtual machine's host
    from any network namespace).
    """
    if machine not in _AUDIT_ARCH:
        return None
    arch, column = _AUDIT_ARCH[machine]
    load, equal, at_least, has_bit, ret = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill = 0x7FFF0000, 0x80000000

    def refuse(number: int) -> int:
        return 0x00050000 | number

    steps: list[tuple[int, int, int, int]] = [(load, 0, 0, 4), (equal, 1, 0, arch), (ret, 0, 0, kill), (load, 0, 0, 0)]
    if machine == "x86_64":  # the x32 calls have numbers of their own
        steps += [(at_least, 0, 1, 0x40000000), (ret, 0, 0, refuse(errno.ENOSYS))]
    for name, numbers in _DENIED.items():
        if (number := numbers[column]) is not None:
            answer = errno.ENOSYS if name.startswith(("memfd", "io_uring")) else errno.EPERM
            steps += [(equal, 0, 1, number), (ret, 0, 0, refuse(answer))]
    steps += [
        (equal, 0, 1, _CLONE3[column]),
        (ret, 0, 0, refuse(errno.ENOSYS)),
    ]  # its flags are behind a pointer; libc falls back
    steps += [
        (equal, 0, 4, _CLONE[column]), (load, 0, 0, 16), (has_bit, 0, 1, _NEW_NAMESPACES), (ret, 0, 0, refuse(errno.EPERM)),
        (ret, 0, 0, allow),
    ]  # fmt: skip
    steps += [(equal, 0, 5, _SOCKET[column]), (load, 0, 0, 16)]
    steps += [
        (equal, 3, 0, int(socket.AF_UNIX)),
        (equal, 2, 0, int(socket.AF_INET)),
        (equal, 1, 0, int(socket.AF_INET6)),
    ]
    steps += [(ret, 0, 0, refuse(errno.EAFNOSUPPORT)), (ret, 0, 0, allow)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def filter_system_calls() -> bool:
    """Install the filter for this process and all it starts; False where the machine is unknown. Needs PR_SET_NO_NEW_PRIVS."""
    program = seccomp_program(platform.machine())
    if program is None or struct.calcsize("P") != 8:
        return False
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@H6xP", len(program) // 8, ctypes.addressof(buffer))
    holder = ctypes.create_string_buffer(header, len(header))
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(holder))
    return True


def drop_privileges() -> None:
    """Give up every capability for good: effective, permitted, inheritable, ambient and bounding."""
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) != 0:
            break
    _libc.prctl(PR_CAP_AMBIENT, ctypes.c_ulong(4), 0, 0, 0)
    header = struct.pack("=II", 0x20080522, 0)
    _checked(_libc.capset(header, b"\0" * 24), "capset")
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def own_user_namespace(more: int = 0) -> None:
    """Enter a new user namespace, as the same user, and new ones of the kinds `more`. Raises OSError where that is forbidden."""
    uid, gid = os.getuid(), os.getgid()
    unshare(CLONE_NEWUSER | more)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


class Nursery:
    """Forks processes that are each the first of a pid namespace, and stays in its own.

    That takes one fork, where unshare(2) as a rule takes two: what it says of the next child is taken back after it. For that a process
    needs rights over its own pid namespace. So what makes a nursery goes on in a child, in new user and pid namespaces, and the
    process itself waits for that child's end and ends like it. Raises OSError where the system forbids it, in the process itself.
    """

    def __init__(self) -> None:
        own_user_namespace(CLONE_NEWPID)
        if child := os.fork():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            os._exit(code if code >= 0 else 128 - code)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        self.home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def fork(self) -> int:
        """As ``os.fork``. Raises OSError also where no more namespaces are to be had."""
        unshare(CLONE_NEWPID)
        child = -1
        try:
            child = os.fork()
        finally:
            if child != 0:
                _checked(_libc.setns(self.home, CLONE_NEWPID), "setns")
        return child


def folders_with_mounts(parents: tuple[str, ...]) -> list[str]:
    """Folders directly below `parents`, a kernel's home excepted, in which something is mounted."""
    found: dict[str, None] = {}
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            # spaces and the like stand there as octal escapes
            point = line.split()[4].encode().decode("unicode_escape").encode("latin-1").decode()
            for parent in parents:
                name = point.removeprefix(parent + "/").split("/")[0] if point.startswith(parent + "/") else ""
                if name and f"{parent}/{name}" != HOME:
                    found[f"{parent}/{name}"] = None
    return list(found)


def private_files(disk: int) -> None:
    """In new namespaces: one tmpfs of `disk` bytes serves the home, /tmp and /dev/shm; /proc shows only this pid namespace."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    # An environment that lives below /home or /tmp has to be found after those are covered: hold it, and mount it again.
    kept = {path: os.open(path, os.O_PATH | os.O_DIRECTORY) for path in folders_with_mounts(("/home", "/tmp"))}
    mount("tmpfs", "/home", "tmpfs", MS_NOSUID | MS_NODEV, f"size={disk},nr_inodes={max(1024, disk // 8192)},mode=0755")
    for path, where, mode in ((HOME, None, 0o755), ("/home/.tmp", "/tmp", 0o1777), ("/home/.shm", "/dev/shm", 0o1777)):
        os.mkdir(path)
        os.chmod(path, mode)
        if where:
            mount(path, where, None, MS_BIND)
    for path, fd in kept.items():
        os.mkdir(path)
        mount(f"/proc/self/fd/{fd}", path, None, MS_BIND | MS_REC)
        os.close(fd)
        mount("none", path, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for path in ("/", "/dev"):  # another kernel of this zygote must not find a note left in the shared root
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            continue
        mount("none", path, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | (MS_NODEV if path == "/" else 0))
    for name in ("sys", "irq", "bus", "sysrq-trigger"):  # nothing there is ours to write; a second wall for uid 0
        try:
            mount(f"/proc/{name}", f"/proc/{name}", None, MS_BIND | MS_REC)
            mount("none", f"/proc/{name}", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
        except OSError as error:
            if error.errno != errno.ENOENT and os.access(f"/proc/{name}", os.W_OK):
                raise


def raise_walls(disk: int) -> None:
    """In the first process of a pid namespace: namespaces of its own for all else, private files, and no rights left. Raises OSError."""
    unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
    loopback_up()
    private_files(disk)
    own_user_namespace()  # the system counts a user's processes for each apart, and what was made until here is out of its rights
    drop_privileges()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of rights has taken it back


def loopback_up() -> None:
    """Bring up the loopback interface of this (private, otherwise empty) network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, 0x8914, struct.pack("16sH22x", b"lo", 0x1 | 0x40))


def limit_resources(limits: dict[str, int], own_user: bool) -> None:
    """Hard limits of the kernel process and all it starts; the monitor outside counts memory and processes besides.

    The system counts a user's processes for each user namespace apart since Linux 5.14; before that (`own_user` False) its limit
    would count all that the instructor runs, and the monitor alone counts.
    """
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, limits["disk"]),
        (resource.RLIMIT_NOFILE, limits["files"]),
        *([(resource.RLIMIT_NPROC, limits["processes"])] if own_user else []),
        (resource.RLIMIT_MEMLOCK, 1 << 16),
        (resource.RLIMIT_MSGQUEUE, 0),
        # One absurd request fails at once with MemoryError; what is really used is the monitor's business. (The warm process
        # itself has most of a gigabyte mapped.)
        (resource.RLIMIT_DATA, 2 * limits["memory"] + (1 << 30)),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


# --------------------------------------------------------------------------------------------------------------------------------
# What a cell shows
# --------------------------------------------------------------------------------------------------------------------------------


class CellOutputs:
    """Outputs of the running cell as nbformat v4 dictionaries, kept up to a budget; what exceeds it is counted and dropped."""

    MOST = 256

    def __init__(self, text: int, images: int) -> None:
        self.text_budget, self.image_budget = text, images
        self.pid = os.getpid()
        self.clear()

    def clear(self) -> None:
        """Forget everything: a new cell begins."""
        self.items: list[dict[str, Any]] = []
        self.text_left, self.image_left, self.dropped, self.clear_first = self.text_budget, self.image_budget, 0, False

    def _room(self) -> bool:
        if self.clear_first:
            self.items, self.clear_first = [], False
        return len(self.items) < self.MOST

    def _cut(self, text: str) -> str:
        kept = text[: self.text_left] if len(text) > self.text_left else text
        self.text_left -= len(kept)
        self.dropped += len(text) - len(kept)
        return kept

    def stream(self, name: str, text: str) -> None:
        """Append printed text."""
        if not self.text_left:
            self.dropped += len(text)
            return
        if not self._room() and not (self.items and self.items[-1].get("name") == name):
            self.dropped += len(text)
            return
        kept = self._cut(text)
        last = self.items[-1] if self.items else None
        if last is not None and last["output_type"] == "stream" and last["name"] == name:
            last["text"].append(kept)
        else:
            self.items.append({"output_type": "stream", "name": name, "text": [kept]})

    def rich(self, kind: str, data: dict[str, Any], **more: Any) -> None:
        """Append a displayed value; `data` maps MIME types to text or bytes."""
        if not self._room():
            self.dropped += 1
            return
        kept: dict[str, str] = {}
        for mime, value in data.items():
            if isinstance(value, (bytes, bytearray)):
                value = base64.b64encode(value).decode()
            if not isinstance(value, str):
                continue
            if mime.startswith("image/") and mime != "image/svg+xml":
                if len(value) <= self.image_left:
                    self.image_left -= len(value)
                    kept[mime] = value
                else:
                    self.dropped += len(value)
            else:
                kept[mime] = self._cut(value)
        if kept:
            self.items.append({"output_type": kind, "data": kept, "metadata": {}, **more})

    def update(self, identity: object, data: dict[str, Any]) -> None:
        """Show `data` in place of what this cell displayed under the same id, as ``DisplayHandle.update`` asks for."""
        shown = [item for item in self.items if identity is not None and item.get("display_id") == identity]
        count = len(self.items)
        self.rich("display_data", data)
        if shown and len(self.items) > count:
            new = self.items.pop()["data"]
            for item in shown:
                item["data"] = new

    def error(self, name: str, value: str, lines: list[str]) -> None:
        """Append an exception. A few thousand characters are kept for it whatever was printed before."""
        self._room()
        room = max(self.text_left, 8000)
        text = "\n".join(lines)
        if len(text) > room:
            text = text[: room // 2] + "\n…\n" + text[-room // 2 :]
        self.items.append(
            {"output_type": "error", "ename": name[:200], "evalue": value[:4000], "traceback": text.split("\n")}
        )

    def finished(self) -> list[dict[str, Any]]:
        """The outputs, with streams joined and a line that says how much was dropped."""
        for item in self.items:
            if item["output_type"] == "stream":
                item["text"] = "".join(item["text"])
        if self.dropped:
            note = f"\n… output truncated: {self.dropped} more characters\n"
            self.items.append({"output_type": "stream", "name": "stdout", "text": note})
        return self.items


class CellStream:
    """Stands for ``sys.stdout`` or ``sys.stderr`` in a kernel: a text stream into the cell's outputs."""

    encoding, errors, newlines, closed, line_buffering, mode = "utf-8", "replace", None, False, True, "w"

    def __init__(self, name: str, outputs: CellOutputs, fd: int) -> None:
        self.name, self._outputs, self._fd = f"<{name}>", outputs, fd
        self._stream = name

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if os.getpid() != self._outputs.pid:  # a process the cell forked: its copy of the outputs is never read
            os.write(self._fd, text.encode("utf-8", "replace"))
        else:
            self._outputs.stream(self._stream, text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        return None

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return False

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        return None

    def reconfigure(self, **_: Any) -> None:
        return None

    def __enter__(self) -> CellStream:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @property
    def buffer(self) -> _CellBytes:
        return _CellBytes(self)


class _CellBytes:
    """``sys.stdout.buffer`` of a kernel."""

    def __init__(self, stream: CellStream) -> None:
        self._text = stream

    def write(self, data: bytes) -> int:
        self._text.write(bytes(data).decode("utf-8", "replace"))
        return len(data)

    def flush(self) -> None:
        return None


class NoKeyboard(EOFError):
    """``input()`` was called where nobody can type."""


def _no_input(prompt: object = "") -> str:
    raise NoKeyboard(
        "input() was called, but there is no keyboard when a notebook is graded: give the value in the code"
    )


def make_shell(outputs: CellOutputs) -> Any:
    """An IPython shell whose display, results and tracebacks go to `outputs`. Made before the fork: it costs as much as a cell."""
    from IPython.core.compilerop import CachingCompiler
    from IPython.core.displayhook import DisplayHook
    from IPython.core.displaypub import DisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets import Type
    from traitlets.config import Config

    class Publisher(DisplayPublisher):  # type: ignore[misc]
        def publish(
            self, data: Any, metadata: Any = None, *, transient: Any = None, update: bool = False, **_: Any
        ) -> None:
            identity = dict(transient or {}).get("display_id")
            if update:
                outputs.update(identity, dict(data))
            else:
                outputs.rich(
                    "display_data", dict(data), **({"display_id": identity} if isinstance(identity, str) else {})
                )

        def clear_output(self, wait: bool = False) -> None:
            if wait:
                outputs.clear_first = True
            else:
                outputs.items = []

    class Hook(DisplayHook):  # type: ignore[misc]
        def write_output_prompt(self) -> None:
            return None

        def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
            outputs.rich("execute_result", dict(format_dict), execution_count=self.prompt_count)

        def log_output(self, format_dict: Any) -> None:
            self.shell.history_manager.output_hist_reprs[self.prompt_count] = format_dict.get("text/plain", "")

        def finish_displayhook(self) -> None:
            self._is_active = False

    class Compiler(CachingCompiler):  # type: ignore[misc]
        """Takes the tree of a cell that has just been read."""

        read: tuple[str, Any] | None = None

        def ast_parse(self, source: str, filename: str = "<unknown>", symbol: str = "exec") -> Any:
            text, tree = self.read or ("", None)
            self.read = None
            if tree is not None and source == text and symbol == "exec":
                return tree
            return super().ast_parse(source, filename, symbol)

    class KernelShell(InteractiveShell):  # type: ignore[misc]
        compiler_class = Type(Compiler)
        displayhook_class = Type(Hook)
        display_pub_class = Type(Publisher)
        exit_asked = False

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            manager = self.input_transformer_manager
            by_token = manager.do_token_transforms

            def do_token_transforms(lines: list[str]) -> list[str]:
                # They find magics, `!` and `?`, none of which can stand in Python; and to find none, they read every token in Python.
                text, flags = "".join(lines), ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
                if manager.token_transformers == own:
                    with contextlib.suppress(Exception), warnings.catch_warnings(record=True) as warned:
                        tree = compile(text, "<cell>", "exec", flags)
                        if not warned:  # else it is read again, for the warning to be shown
                            self.compile.read = text, tree
                        return lines
                return by_token(lines)

            own = list(manager.token_transformers)
            manager.do_token_transforms = do_token_transforms

        def should_run_async(self, raw_cell: str, **options: Any) -> bool:
            # It compiles the whole cell to find out.
            return ("await" in raw_cell or "async" in raw_cell) and super().should_run_async(raw_cell, **options)

        def ask_exit(self) -> None:
            self.exit_asked = True

        def enable_gui(self, gui: Any = None) -> None:
            return None

        def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
            try:
                value = str(evalue)
            except BaseException:
                value = "<exception without a text>"
            lines = stb if isinstance(stb, list) else str(stb).split("\n")
            outputs.error(getattr(etype, "__name__", str(etype)), value, [str(line) for line in lines])

    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.history_load_length = 0
    config.InteractiveShell.xmode = "Plain"  # "Context" costs 20 ms an error: it walks all modules for each frame
    return KernelShell.instance(config=config)


# --------------------------------------------------------------------------------------------------------------------------------
# A kernel: the process that runs one submission
# --------------------------------------------------------------------------------------------------------------------------------


class Kernel:
    """Runs cells sent over a socket in the shell made before the fork; its process ends with the submission."""

    def __init__(
        self, shell: Any, outputs: CellOutputs, connection: socket.socket, limits: dict[str, int], answers: str
    ) -> None:
        self.shell, self.outputs, self.connection, self.limits, self.answers = (
            shell,
            outputs,
            connection,
            limits,
            answers,
        )
        self.pid = os.getpid()
        self.running = False
        self.seen: dict[str, tuple[int, int, int]] = {}
        # Taken now, so that a cell that patches these modules spoils its own values only.
        self._encode = json.JSONEncoder(ensure_ascii=True).encode
        self._decode = json.JSONDecoder().decode
        self._handle = signal.signal
        self.captured: int | None = None

    def on_interrupt(self, signum: int, frame: Any) -> None:
        """SIGINT stops a cell, and nothing between cells."""
        if self.running:
            raise KeyboardInterrupt

    def capture_descriptors(self, folder: str) -> None:
        """fd 0 reads nothing; fds 1 and 2 write to an unnamed file in the work folder, so the disk limit holds for them."""
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        try:
            path = os.path.join(folder, f".output-{self.pid}")
            captured = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.unlink(path)
            self.captured = fcntl.fcntl(captured, fcntl.F_DUPFD_CLOEXEC, DATA_FD + 1)
            os.dup2(captured, 1)
            os.dup2(captured, 2)
            os.close(captured)
        except OSError:
            os.dup2(null, 1)
            os.dup2(null, 2)
        if null > 2:
            os.close(null)

    def _drain_descriptors(self) -> None:
        if self.captured is None:
            return
        try:
            size = os.fstat(self.captured).st_size
            if size:
                text = os.pread(self.captured, min(size, self.outputs.text_budget), 0).decode("utf-8", "replace")
                os.ftruncate(self.captured, 0)
                self.outputs.stream("stdout", text)
                self.outputs.dropped += max(0, size - self.outputs.text_budget)
        except OSError:
            self.captured = None

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self.connection.recv(min(size - len(data), 1 << 20))
            if not piece:
                os._exit(0)
            data += piece
        return bytes(data)

    def send(self, kind: bytes, payload: bytes) -> None:
        """One frame to the other side."""
        self.connection.sendall(kind + struct.pack(">I", len(payload)) + payload)

    def send_json(self, message: dict[str, Any]) -> None:
        """One JSON frame."""
        self.send(b"J", self._encode(message).encode())

    def send_answers(self) -> None:
        """Files that came or changed since the last cell, each announced and sent; too large ones are announced only."""
        try:
            names = sorted(os.listdir(self.answers))[:256]
        except OSError:
            return
        for name in names:
            try:
                fd = os.open(
                    os.path.join(self.answers, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                )
            except OSError:
                continue
            try:
                about = os.fstat(fd)
                mark = (about.st_ino, about.st_size, about.st_mtime_ns)
                if not stat.S_ISREG(about.st_mode) or self.seen.get(name) == mark:
                    continue
                self.seen[name] = mark
                if about.st_size > self.limits["answer"]:
                    self.send_json({"type": "answer", "name": name, "size": about.st_size, "refused": True})
                    continue
                data = bytearray()
                while len(data) < about.st_size and (piece := os.read(fd, about.st_size - len(data))):
                    data += piece
                self.send_json({"type": "answer", "name": name, "size": len(data)})
                self.send(b"B", bytes(data))
            finally:
                os.close(fd)

    def run(self, source: str) -> tuple[list[dict[str, Any]], int | None, bool]:
        """Execute one cell; the outputs, its number, and whether it raised."""
        self.outputs.clear()
        sys.stdout, sys.stderr = CellStream("stdout", self.outputs, 1), CellStream("stderr", self.outputs, 2)
        self._handle(2, self.on_interrupt)
        number, failed = self.shell.execution_count, True
        try:
            self.running = True
            result = self.shell.run_cell(source, store_history=True, silent=False)
            failed = not result.success
            self.running = False
            self._handle(2, self.on_interrupt)
        except BaseException as error:  # an interrupt outside of the cell's own code, or a shell that the cell broke
            self.running = False
            self.outputs.error(type(error).__name__, _text(error), traceback.format_exception_only(type(error), error))
        if os.getpid() != self.pid:  # a process the cell forked and did not end
            os._exit(0)
        self._drain_descriptors()
        return self.outputs.finished(), number if isinstance(number, int) else None, failed

    def serve(self) -> None:
        """Cells until the other side closes, or a cell asks to exit."""
        while True:
            try:
                (size,) = struct.unpack(">I", self._receive(4))
                message = self._decode(self._receive(size).decode())
                outputs, number, failed = self.run(message["source"])
                self.send_answers()
                leaving = bool(getattr(self.shell, "exit_asked", False))
                done = {
                    "type": "done",
                    "id": message["id"],
                    "outputs": outputs,
                    "execution_count": number,
                    "error": failed,
                }
                try:
                    self.send_json({**done, "exiting": leaving})
                except (TypeError, ValueError, RecursionError):
                    self.send_json({**done, "outputs": [], "exiting": leaving})
                if leaving:
                    os._exit(0)
            except KeyboardInterrupt:
                continue


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return ""


def fresh_random_state(seed: int | None) -> None:
    """Python's, numpy's and torch's generators: from `seed`, or from the system as in a fresh process."""
    import random

    random.seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(None if seed is None else seed % (1 << 32))
    if (torch := sys.modules.get("torch")) is not None:
        if seed is None:
            torch.default_generator.seed()
        else:
            torch.default_generator.manual_seed(seed % (1 << 63))


def run_kernel(
    shell: Any, outputs: CellOutputs, request: dict[str, Any], data: int, status: int, isolated: bool, own_user: bool
) -> None:
    """In the kernel process: raise the walls, then serve cells. Returns never."""
    limits: dict[str, int] = request["limits"]
    folder: str = request["work"]
    if isolated:
        raise_walls(limits["disk"])
    elif request["sandboxed"]:
        drop_privileges()
    else:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    os.chdir(folder)
    # The end of the socket sits high and is not inherited by programs, out of the way of code that closes 3 to 255.
    moved = fcntl.fcntl(data, fcntl.F_DUPFD_CLOEXEC, DATA_FD)
    connection = socket.socket(fileno=moved)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd not in (moved, status):
            try:
                os.close(fd)
            except OSError:
                continue
    limit_resources(limits, own_user)
    environment: dict[str, str] = request["env"]
    os.environ.update(environment)
    answers = environment.get("AUTOGRADER_ANSWERS") or os.path.join(folder, ".answers")
    os.makedirs(answers, exist_ok=True)
    fresh_random_state(request["seed"])
    outputs.__init__(limits["output"], limits["images"])  # type: ignore[misc]
    kernel = Kernel(shell, outputs, connection, limits, answers)
    kernel.capture_descriptors(folder)
    builtins.input = _no_input
    import getpass

    getpass.getpass = _no_input  # type: ignore[assignment]
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.argv = [""]
    sys.path.insert(0, "")
    # Short of memory, the system should take this process first.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    prctl(PR_SET_DUMPABLE, 1)
    signal.signal(signal.SIGINT, kernel.on_interrupt)
    filtered = filter_system_calls() if request["sandboxed"] else False
    os.close(status)  # from here on only the process outside of the walls says how this one ended
    kernel.send_json({"type": "ready", "isolated": isolated, "filtered": filtered, "loaded": len(sys.modules)})
    kernel.serve()


# --------------------------------------------------------------------------------------------------------------------------------
# The zygote
# --------------------------------------------------------------------------------------------------------------------------------


def _linux() -> tuple[int, int]:
    numbers = [int(word) for word in re.findall(r"\d+", platform.release())[:2]]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def _end_descendants() -> None:
    """Without a pid namespace: kill whatever the kernel left, adopted by this process as its subreaper."""
    for _ in range(200):
        try:
            with open(f"/proc/self/task/{threading.get_native_id()}/children") as file:
                children = [int(pid) for pid in file.read().split()]
        except OSError:
            return
        if not children:
            return
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)


def begin_kernel(
    shell: Any, outputs: CellOutputs, request: dict[str, Any], fds: list[int], isolated: bool, own_user: bool
) -> None:
    """In a fork: be the kernel. Returns never."""
    data, status = fds
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        run_kernel(shell, outputs, request, data, status, isolated, own_user and _linux() >= (5, 14))
    except BaseException:
        os.write(status, json.dumps({"failed": traceback.format_exc()[-2000:]}).encode())
    finally:
        os._exit(70)


def how_it_ended(pid: int) -> dict[str, Any]:
    """Wait for a kernel: its exit status or signal, processor time in seconds and largest memory in bytes, its children's included."""
    _, code, usage = os.wait4(pid, 0)
    report = {"cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss * 1024}
    return report | ({"signal": os.WTERMSIG(code)} if os.WIFSIGNALED(code) else {"exit": os.WEXITSTATUS(code)})


def attend_kernel(shell: Any, outputs: CellOutputs, request: dict[str, Any], fds: list[int]) -> None:
    """In a fork, where kernels cannot be kept apart: fork the kernel, wait for its end and end what it left, say how it ended. Returns never."""
    data, status = fds
    report: dict[str, Any] = {}
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        own_user = bool(request["sandboxed"])
        try:  # a pid namespace alone still ends everything with the kernel
            own_user_namespace(CLONE_NEWPID)
            own_user = True
        except OSError:
            prctl(PR_SET_CHILD_SUBREAPER, 1)
        kernel = os.fork()
        if kernel == 0:
            begin_kernel(shell, outputs, request, fds, False, own_user)
        os.close(data)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        report = how_it_ended(kernel)
        _end_descendants()
    except BaseException:
        report = {"failed": traceback.format_exc()[-2000:]}
    finally:
        try:
            os.write(status, json.dumps(report).encode())
        finally:
            os._exit(0)


def can_isolate() -> tuple[bool, str]:
    """Whether kernels that are kept apart from each other can be forked here (tried, in a fork), and if not, why."""
    reader, writer = os.pipe()
    trial = os.fork()
    if trial == 0:
        try:
            nursery = Nursery()
            kernel = nursery.fork()
            if kernel == 0:
                raise_walls(1 << 20)
                os.write(writer, b"ok")
            else:
                os.close(os.pidfd_open(kernel))
                os.waitpid(kernel, 0)
        except BaseException as error:
            os.write(writer, repr(error).encode()[:500])
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(trial, 0)
    said = os.read(reader, 1000).decode(errors="replace")
    os.close(reader)
    return said == "ok", said


def _import_all(names: list[str]) -> list[str]:
    missing = []
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a preload is a matter of speed; the notebook's own import will say what is wrong
            missing.append(f"{name}: {type(error).__name__}: {_text(error)}"[:300])
    return missing


def use_huge_pages() -> int:
    """Put this process's own memory on huge pages where the system can (Linux 6.1), and return how many.

    A fork copies an entry for every page, and its end gives each back: for the 300 MB of a process that has imported torch, on pages of
    4 kB, that takes longer than all else it does.
    """
    size, collapse, count = 1 << 21, 25, 0
    try:
        with open("/proc/self/maps") as file:
            lines = [line.split() for line in file]
    except OSError:  # no Linux
        return 0
    for where, rights, _, _, _, *name in lines:
        if rights != "rw-p" or name not in ([], ["[heap]"]):
            continue
        first, last = (int(end, 16) for end in where.split("-"))
        for start in range(-(-first // size) * size, last // size * size, size):
            # it fails for a page that has nothing in it, and everywhere on a system that does not know of it
            count += _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), collapse) == 0
    return count


def _receive_request(control: socket.socket) -> tuple[bytes, list[int]]:
    fds = array.array("i")
    message, ancillary, _, _ = control.recvmsg(1 << 17, socket.CMSG_SPACE(2 * fds.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return message, list(fds)


def main(control_fd: int, options: dict[str, Any]) -> None:
    """Import, report, then fork a kernel for each request until the control socket closes."""
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    faulthandler.enable()  # a crash of an import says where; kernels go without
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not options["sandboxed"]:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    started = time.perf_counter()
    # before an import can start a thread: only a process of one thread may enter a user namespace
    isolates, reason = can_isolate() if options["sandboxed"] else (False, "not sandboxed")
    nursery = Nursery() if isolates else None
    missing = _import_all(["numpy", "torch"])
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(options["threads"])
        torch.set_num_interop_threads(options["threads"])
    missing += _import_all(options["preload"])
    # Imported lazily by the first random number, the first array made a tensor, the first tensor printed; not every version has each.
    _import_all(["numpy.random", "numpy.ctypeslib", "torch._tensor_str", "torch._subclasses.schema_check_mode"])
    outputs = CellOutputs(1 << 16, 1 << 20)
    shell = make_shell(outputs)
    # What the shell imports lazily for a result, a display and a traceback is imported here, not by each submission.
    for source in ("from IPython.display import display\ndisplay(1)\n1", "1 / 0", "1 +"):
        shell.run_cell(source, store_history=False, silent=False)
    traceback.format_stack()  # torch does so whenever it is seeded; the sources of the files in it are read once
    shell.reset(new_session=True)
    if "matplotlib.pyplot" in sys.modules:
        _import_all(["matplotlib.backends.backend_agg", "matplotlib_inline.backend_inline"])
    import gc

    gc.collect()
    huge = use_huge_pages()
    gc.freeze()  # the collector of a fork leaves these objects, and so their pages, alone
    faulthandler.disable()
    tasks = len(os.listdir("/proc/self/task"))
    ready = {
        "type": "ready",
        "isolates": isolates,
        "reason": reason,
        "missing": missing,
        "threads": tasks,
        "huge": huge,
    }
    control.send(json.dumps({**ready, "seconds": time.perf_counter() - started}).encode())
    if nursery is None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that attend kernels need no one to wait for them
    poll = select.poll()
    poll.register(control, select.POLLIN)
    kernels: dict[int, tuple[int, int]] = {}  # {pidfd: (pid, descriptor of the pipe for its status)}
    while True:
        for ready_fd, _ in poll.poll():
            if ready_fd in kernels:
                pid, status = kernels.pop(ready_fd)
                poll.unregister(ready_fd)
                os.close(ready_fd)
                _say(status, how_it_ended(pid))
                continue
            message, fds = _receive_request(control)
            if not message:
                return
            request, (data, status) = json.loads(message), fds
            if nursery is None:
                if os.fork() == 0:
                    control.close()
                    attend_kernel(shell, outputs, request, fds)
                os.close(status)
            else:
                try:
                    pid = nursery.fork()
                except OSError as error:
                    _say(status, {"failed": f"no process of its own for it: {error}"})
                else:
                    if pid == 0:
                        begin_kernel(shell, outputs, request, fds, True, True)
                    pidfd = os.pidfd_open(pid)
                    kernels[pidfd] = pid, status
                    poll.register(pidfd, select.POLLIN)
            os.close(data)


def _say(status: int, report: dict[str, Any]) -> None:
    """Write how a kernel ended, unless nobody wants to know any more."""
    with contextlib.suppress(BrokenPipeError):
        os.write(status, json.dumps(report).encode())
    os.close(status)


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
    shutil.rmtree(os.environ.get("MPLCONFIGDIR", "/nonexistent"), ignore_errors=True)
    os._exit(0)  # nothing is left to tidy up but torch, which takes a while
