"""The bubblewrap command around a warm process: what it may see of the machine; it starts no notebook and judges nothing.

Mounted, all read-only: the system's programs and libraries, this Python with its installed packages, the ``autograder`` package
under a neutral path, and the folders that the caller names. Never mounted: the repository, the home folder, solutions, recordings,
submissions, the grading folder. Started by root, the sandbox is entered as an unprivileged user: root's number is exempt from
``RLIMIT_NPROC`` and owns files in ``/proc/sys``, user namespace or not.
"""

# ruff: noqa: PTH102, PTH110, PTH112, PTH114, PTH115, PTH117, PTH120
from __future__ import annotations

import ctypes
import functools
import json
import os
import shutil
import site
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

HOME = "/home/learner"
LIBRARY = "/opt/autograder"
MODULES = "/opt/modules"
NOBODY = 65534
INNER_ID = 1000
PRIVATE_PACKAGES = (
    "autograder",
    "papers",
    "solutions",
)  # in site-packages: hidden, since the sandbox mounts its own choice
PRIVATE_FOLDERS = ("recordings", "solutions", "data")  # inside the autograder package

_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin")
_SYSTEM_FILES = (
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/fonts", "/etc/ssl/certs", "/etc/ssl/openssl.cnf",
    "/etc/localtime", "/etc/alternatives", "/etc/mime.types", "/sys/devices/system/cpu", "/var/cache/fontconfig",
)  # fmt: skip


class SandboxUnavailable(RuntimeError):
    """The sandbox cannot be made on this machine; the text says why."""


class Sandbox:
    """What one warm process may see, as a bubblewrap command.

    Args:
        modules: folders put on ``PYTHONPATH``, in order (for example a generated folder with the allowed part of ``papers``).
        binds: further read-only binds, target inside -> source outside.
        hide: paths outside that must stay invisible even if something mounted contains them.
        tmp_bytes: size of the warm process's own ``/tmp``; each kernel has another (``Limits.disk``).

    Use as a context manager, or call :meth:`close`: it owns a small temporary folder. Raises FileNotFoundError for a source that
    does not exist.
    """

    def __init__(
        self,
        modules: Sequence[str | os.PathLike[str]] = (),
        binds: Mapping[str, str | os.PathLike[str]] | None = None,
        hide: Iterable[str | os.PathLike[str]] = (),
        tmp_bytes: int = 256 << 20,
    ) -> None:
        self.modules = [Path(path).resolve(strict=True) for path in modules]
        self.binds = {target: Path(source).resolve(strict=True) for target, source in (binds or {}).items()}
        for target in self.binds:
            if not os.path.isabs(target) or ".." in Path(target).parts:
                raise ValueError(f"the target of a bind must be an absolute path without '..': {target!r}")
        self.hide = [Path(path).resolve() for path in hide]
        self.tmp_bytes = tmp_bytes
        self._package = Path(__file__).resolve().parent
        self._as_root = os.geteuid() == 0
        # Under /tmp and open to all: the unprivileged user that root becomes must reach it.
        self._folder = Path(tempfile.mkdtemp(prefix="autograder-", dir="/tmp" if self._as_root else None))
        self._folder.chmod(0o755)
        (self._folder / "stage").mkdir()
        (self._folder / "passwd").write_text(f"learner:x:{INNER_ID}:{INNER_ID}::{HOME}:/bin/sh\n")
        (self._folder / "group").write_text(f"learner:x:{INNER_ID}:\n")
        (self._folder / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pythonpath(self) -> list[str]:
        """``PYTHONPATH`` inside, in order."""
        return [f"{MODULES}/{index}" for index in range(len(self.modules))] + [LIBRARY]

    def inside(self, name: str) -> str:
        """The path inside of the file `name` of the autograder package."""
        return f"{LIBRARY}/autograder/{name}"

    def _readable(self, source: Path) -> Path:
        """`source`, or a copy that everyone may read where the user the sandbox runs as could not read it."""
        if not self._as_root:
            return source
        entries = [source, *source.rglob("*")] if source.is_dir() else [source]
        wanted = {True: stat.S_IROTH | stat.S_IXOTH, False: stat.S_IROTH}
        if all(
            entry.is_symlink() or entry.stat().st_mode & wanted[entry.is_dir()] == wanted[entry.is_dir()]
            for entry in entries
        ):
            return source
        copy = self._folder / f"copy{len(list(self._folder.iterdir()))}"
        if source.is_dir():
            shutil.copytree(source, copy, symlinks=True)
            entries = [copy, *copy.rglob("*")]
        else:
            shutil.copy(source, copy)
            entries = [copy]
        for entry in entries:
            if not entry.is_symlink():
                entry.chmod(0o755 if entry.is_dir() else 0o644)
        return copy

    def _python_folders(self) -> list[Path]:
        found: list[Path] = []
        for prefix in dict.fromkeys((sys.base_prefix, sys.base_exec_prefix, sys.prefix, sys.exec_prefix)):
            if prefix == "/usr":
                continue
            # Not the prefix as a whole: pip's configuration, which may hold passwords, lies beside these.
            found += [Path(prefix, name) for name in ("bin", "lib", "lib64", "include", "pyvenv.cfg")]
        found.append(Path(os.path.realpath(sys.executable)).parent)
        for entry in [*sys.path, *site.getsitepackages()]:
            if Path(entry).name in ("site-packages", "dist-packages"):
                found.append(Path(entry))
        kept: list[Path] = []
        for path in found:
            if path.exists() and not any(path == other or other in path.parents for other in [*kept, Path("/usr")]):
                kept.append(path)
        return kept

    def _steps(self) -> list[tuple[str, ...]]:
        """Mount operations in order; ``("bind", source, target)`` is staged by root, the rest are bubblewrap's own words."""
        steps: list[tuple[str, ...]] = []
        mounted: list[tuple[Path, Path]] = []  # source, target
        masks: list[str] = []

        def bind(source: str | Path, target: str | Path | None = None) -> None:
            target = str(target or source)
            if os.path.islink(source) and target == str(source) and target in _SYSTEM:
                steps.append(("--symlink", os.readlink(source), target))
            elif os.path.exists(source):
                steps.append(("bind", str(source), target))
                mounted.append((Path(source).resolve(), Path(target)))

        def mask(target: str | Path) -> None:
            if str(target) not in masks:
                steps.extend([("--perms", "0755"), ("--size", "4096"), ("--tmpfs", str(target))])
                masks.append(str(target))

        def hide(paths: Iterable[Path]) -> None:
            """Cover each path wherever what is mounted so far shows it."""
            for path in paths:
                for source, target in mounted:
                    if source == path or source in path.parents:
                        place = target / path.relative_to(source)
                        if path.is_dir():
                            mask(place)
                        elif path.exists():
                            steps.append(("--ro-bind", "/dev/null", str(place)))

        # first, since an environment may live below it
        steps += [("--perms", "1777"), ("--size", str(self.tmp_bytes)), ("--tmpfs", "/tmp")]
        for known in (*_SYSTEM, *_SYSTEM_FILES):
            bind(known)
        for name in ("passwd", "group", "hosts"):
            bind(self._folder / name, f"/etc/{name}")
        repository = self._package.parent
        installed = repository.name in ("site-packages", "dist-packages")
        hide([*self.hide, *([] if installed else [repository])])
        mounted.clear()
        python = self._python_folders()
        for path in python:
            bind(path)
        for path in [*python, *(Path(entry) for entry in [*sys.path, *site.getsitepackages()])]:
            for folder in (path, *path.glob("python3*/site-packages")) if path.is_dir() else ():
                if folder.name in ("site-packages", "dist-packages"):
                    hide(folder.resolve() / name for name in PRIVATE_PACKAGES)  # also where "lib64" shows "lib" again
        bind(self._package, f"{LIBRARY}/autograder")
        for name in PRIVATE_FOLDERS:
            if (self._package / name).is_dir():
                mask(f"{LIBRARY}/autograder/{name}")
        for index, path in enumerate(self.modules):
            bind(self._readable(path), f"{MODULES}/{index}")
            mounted.append((path, Path(f"{MODULES}/{index}")))
        for inside, source in self.binds.items():
            bind(self._readable(source), inside)
            mounted.append((source, Path(inside)))
        hide(self.hide)
        steps += [("--proc", "/proc"), ("--dev", "/dev")]
        steps += [("--perms", "1777"), ("--size", str(self.tmp_bytes)), ("--tmpfs", "/dev/shm")]
        steps += [("--perms", "0755"), ("--size", str(self.tmp_bytes)), ("--tmpfs", HOME)]
        steps += [("--remount-ro", path) for path in [*masks, "/dev", "/"]]
        return steps

    def environment(self, extra: Mapping[str, str] | None = None, threads: int = 1) -> dict[str, str]:
        """The whole environment inside: nothing of the caller's own."""
        bins = dict.fromkeys((os.path.dirname(sys.executable), "/usr/local/bin", "/usr/bin", "/bin"))
        return plain_environment(HOME, ":".join(self.pythonpath), ":".join(bins), threads) | dict(extra or {})

    def command(self, argv: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        """The command line that runs `argv` inside with `environment`. Open file descriptors pass through."""
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            raise SandboxUnavailable("bubblewrap is not installed: install the package 'bubblewrap' (Linux only)")
        words = [
            bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--hostname", "notebook",
            "--uid", str(INNER_ID), "--gid", str(INNER_ID), "--cap-drop", "ALL",
        ]  # fmt: skip
        staged: list[tuple[str, str]] = []
        for step in self._steps():
            if step[0] != "bind":
                words += step
            elif self._as_root:
                place = str(self._folder / "stage" / str(len(staged)))
                staged.append((step[1], place))
                words += ["--ro-bind", place, step[2]]
            else:
                words += ["--ro-bind", step[1], step[2]]
        for name, value in environment.items():
            words += ["--setenv", name, value]
        words += ["--chdir", HOME, "--", *argv]
        if not self._as_root:
            return words
        plan = {"stage": str(self._folder / "stage"), "binds": staged, "user": NOBODY, "command": words}
        return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), json.dumps(plan)]


def plain_environment(home: str, pythonpath: str, path: str, threads: int = 1) -> dict[str, str]:
    """Environment of a warm process: one hash seed for all, no bytecode, no thread pools before the fork."""
    count = str(threads)
    return {
        "HOME": home, "PATH": path, "PYTHONPATH": pythonpath, "LANG": "C.UTF-8", "USER": "learner", "LOGNAME": "learner",
        "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline", "MPLCONFIGDIR": f"{home}/.matplotlib",
        "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "NUMEXPR_NUM_THREADS": count,
        "TORCHDYNAMO_DISABLE": "1",  # compiling takes a compiler, and longer than a check; what is compiled runs as it is written
        "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TMPDIR": "/tmp",
    }  # fmt: skip


@functools.cache
def available() -> tuple[bool, str]:
    """Whether a sandbox really starts here, and if not the reason in one line (tried once in a process's life)."""
    if sys.platform != "linux":
        return False, f"bubblewrap needs Linux; this is {sys.platform}"
    if shutil.which("bwrap") is None:
        return False, "bubblewrap is not installed: install the package 'bubblewrap'"
    try:
        with Sandbox() as sandbox:
            command = sandbox.command([sys.executable, "-I", "-S", "-c", "print('inside')"], sandbox.environment())
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, cwd="/"
            )
    except (OSError, subprocess.SubprocessError) as error:
        return False, f"bubblewrap could not be started: {error}"
    if done.returncode == 0 and done.stdout.strip() == "inside":
        return True, ""
    said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return False, f"bubblewrap does not work here (are user namespaces off?): {said[:300]}"


def connected() -> bool:
    """Whether this process has a way out: a route through another interface than loopback. Where the system does not tell, it counts as connected."""
    try:
        routes = Path("/proc/net/route").read_text().splitlines()[1:]
        six = Path("/proc/net/ipv6_route")
        further = six.read_text().splitlines() if six.exists() else []
    except OSError:
        return True
    interfaces = [line.split()[0] for line in routes] + [line.split()[-1] for line in further]
    return any(interface != "lo" for interface in interfaces)


def without_network(command: Sequence[str]) -> list[str]:
    """The command to run `command` where there is no network but the loopback interface; all else is as it is. For our own code: it contains nothing."""
    return ["bwrap", "--dev-bind", "/", "/", "--unshare-net", "--die-with-parent", "--", *command]


def _enter_stage(plan: dict[str, object]) -> None:
    """As root, in a process of its own: bind the sources where an unprivileged user can reach them, become that user, exec."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: str, target: str, kind: bytes | None, flags: int, data: bytes | None = None) -> None:
        if libc.mount(source.encode(), target.encode(), kind, ctypes.c_ulong(flags), data) != 0:
            number = ctypes.get_errno()
            raise SystemExit(f"mount {target}: {os.strerror(number)}")

    if libc.unshare(0x00020000) != 0:
        raise SystemExit(f"a mount namespace is refused: {os.strerror(ctypes.get_errno())}")
    mount("none", "/", None, 16384 | (1 << 18))
    stage = str(plan["stage"])
    mount("tmpfs", stage, b"tmpfs", 2 | 4, b"mode=0755,size=1m")
    for source, place in plan["binds"]:  # type: ignore[attr-defined]
        if os.path.isdir(source):
            os.mkdir(place)
        else:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
        mount(source, place, None, 4096 | 16384)
    os.chdir("/")
    user = int(plan["user"])  # type: ignore[call-overload]
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    command: list[str] = plan["command"]  # type: ignore[assignment]
    os.execv(command[0], command)


if __name__ == "__main__":
    _enter_stage(json.loads(sys.argv[1]))
