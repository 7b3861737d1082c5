"""What a learner's code can see and reach from inside the sandbox: nothing but what a notebook needs."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("papermill")

from autograder.engine import Kernel, Limits, Zygote
from autograder.sandbox import Sandbox, SandboxUnavailable, available

works, why_not = available()
pytestmark = pytest.mark.skipif(not works, reason=why_not)

CANARY = f"canary-{secrets.token_hex(8)}"


def shown(kernel: Kernel, source: str, timeout: float = 30.0) -> str:
    """Everything that a cell printed, returned or raised, as one text."""
    result = kernel.execute(source, timeout)
    texts = []
    for output in result.outputs:
        texts += [output.get("text", ""), output.get("evalue", ""), output.get("data", {}).get("text/plain", "")]
    return "\n".join(filter(None, texts))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of all mounts that holds a canary, world-readable so that only the sandbox protects it."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "canary.txt").write_text(CANARY)
    for path in (folder, *folder.parents):
        if str(path).startswith("/tmp/"):
            path.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module that the caller allows; closed to others, as a temporary folder is."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "allowed_chapter.py").write_text("VALUE = 41\n")
    folder.chmod(0o700)
    return folder


@pytest.fixture(scope="module")
def zygote(modules: Path) -> Iterator[Zygote]:
    os.environ["GRADER_CANARY"] = CANARY
    try:
        with Zygote(modules=[modules]) as started:
            yield started
    finally:
        del os.environ["GRADER_CANARY"]


@pytest.fixture
def kernel(zygote: Zygote) -> Iterator[Kernel]:
    if zygote.one_kernel_only:
        pytest.skip(f"kernels of one zygote cannot be kept apart here: {zygote.reason}")
    with zygote.spawn() as started:
        yield started


def test_a_kernel_is_kept_apart_from_its_neighbours(kernel: Kernel, zygote: Zygote) -> None:
    assert zygote.sandboxed and zygote.isolates_children and kernel.isolated
    assert not zygote.missing


def test_a_file_outside_of_the_mounts_does_not_exist_inside(kernel: Kernel, planted: Path) -> None:
    assert "FileNotFoundError" in shown(
        kernel, f"try:\n    open({str(planted / 'canary.txt')!r})\nexcept OSError as e:\n    print(repr(e))"
    )


def test_no_file_that_can_be_read_holds_the_canary(kernel: Kernel, planted: Path) -> None:
    source = f"""
import os
found = []
for top in os.listdir("/"):
    if top in ("usr", "lib", "lib64", "bin", "sbin", "sys"):
        continue
    for folder, folders, files in os.walk("/" + top):
        if folder == "/proc":
            folders[:] = [f for f in folders if not f.isdigit() or f == str(os.getpid())]
        folders[:] = [f for f in folders if f not in ("torch", "site-packages", "python3.11", "task", "map_files")]
        for name in files:
            path = os.path.join(folder, name)
            try:
                with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                    if {CANARY[:12]!r}.encode() + {CANARY[12:]!r}.encode() in (file.read(1 << 20) or b""):
                        found.append(path)
            except OSError:
                pass
print(found)
"""
    assert shown(kernel, source, 60).strip() == "[]"


def test_the_repository_and_the_home_folder_are_not_mounted(kernel: Kernel) -> None:
    root = Path(__file__).resolve().parents[1]
    source = f"""
import os
def listing(path):
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        return []
print(set(listing({str(root)!r})) - {{os.path.basename({sys.prefix!r})}},
      [name for name in ("solutions", "data", "tests", "notebooks") if os.path.exists({str(root)!r} + "/" + name)],
      set(listing({str(Path.home())!r})) - {{".pyenv"}})
"""
    assert shown(kernel, source).strip() == "set() [] set()"


def test_the_package_is_there_without_recordings(kernel: Kernel) -> None:
    source = """
import autograder, os
folder = list(autograder.__path__)[0]
print(folder, [n for n in ("recordings", "data") if os.path.isdir(f"{folder}/{n}") and os.listdir(f"{folder}/{n}")])
"""
    assert shown(kernel, source).strip() == "/opt/autograder/autograder []"


def test_installed_copies_of_the_package_are_hidden_by_every_path(kernel: Kernel) -> None:
    source = """
import glob, os
folders = [f for name in ("autograder", "papers", "solutions") for lib in ("lib", "lib64")
           for f in glob.glob(f"PREFIX/{lib}/python3*/site-packages/{name}")]
print([f for f in folders if os.listdir(f)])
"""
    for prefix in {sys.prefix, sys.base_prefix}:
        assert shown(kernel, source.replace("PREFIX", prefix)).strip() == "[]"


def test_an_allowed_module_can_be_imported_and_not_changed(kernel: Kernel) -> None:
    assert shown(kernel, "import allowed_chapter; print(allowed_chapter.VALUE + 1)").strip() == "42"
    said = shown(kernel, "open(allowed_chapter.__file__, 'a')")
    assert "Read-only" in said or "Permission denied" in said


def test_the_graders_environment_is_not_inherited(kernel: Kernel) -> None:
    said = shown(kernel, "import os\nprint(dict(os.environ), open('/proc/self/environ').read())")
    assert CANARY not in said and "GRADER_CANARY" not in said and "PYTHONHASHSEED" in said


def test_processes_outside_cannot_be_seen(kernel: Kernel) -> None:
    said = shown(
        kernel,
        "import os\nprint(sorted(int(n) for n in os.listdir('/proc') if n.isdigit()), os.getpid(), os.getppid())",
    )
    assert said.strip() == "[1] 1 0"
    assert "No such process" in shown(kernel, f"os.kill({os.getpid()}, 0)")


def test_a_program_started_from_a_cell_is_no_more_privileged(kernel: Kernel) -> None:
    said = shown(kernel, "print(open('/proc/self/status').read())\n!cat /proc/self/status")
    assert said.count("NoNewPrivs:\t1") == 2 and said.count("CapEff:\t0000000000000000") == 2
    assert said.count("CapBnd:\t0000000000000000") == 2 and "Uid:\t0" not in said


@pytest.mark.parametrize(
    "call", ["unshare(0x10000000)", "unshare(0x20000)", "mount(b'none', b'/tmp', b'tmpfs', 0, None)"]
)
def test_namespaces_and_mounts_are_refused(kernel: Kernel, call: str) -> None:
    source = f"import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nprint(libc.{call}, ctypes.get_errno())"
    assert shown(kernel, source).strip() == "-1 1"


def test_there_is_no_network(kernel: Kernel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        source = f"""
import socket
for address in (("127.0.0.1", {port}), ("8.8.8.8", 53)):
    try:
        socket.create_connection(address, timeout=2)
        print("connected")
    except OSError as error:
        print(type(error).__name__)
try:
    socket.socket(40, socket.SOCK_STREAM)
except OSError as error:
    print("vsock refused")
"""
        said = shown(kernel, source)
    assert "connected" not in said and said.startswith("ConnectionRefusedError\n") and "vsock refused" in said


def test_the_system_is_read_only(kernel: Kernel) -> None:
    source = """
import os, sys
written = []
for folder in ("/", "/usr", "/etc", "/dev", "/opt", "/opt/autograder", "/root", "/run", "/proc/sys/kernel", sys.prefix):
    try:
        open(os.path.join(folder, "note"), "w")
        written.append(folder)
    except OSError:
        pass
print(written)
"""
    assert shown(kernel, source).strip() == "[]"


def test_kernels_of_one_zygote_share_no_files(zygote: Zygote) -> None:
    places = "('/home/learner', '/tmp', '/dev/shm', '/var/tmp')"
    with zygote.spawn() as first, zygote.spawn() as second:
        write = f"import os\nfor p in {places}:\n    if os.path.isdir(p): open(p + '/note', 'w').write('x')"
        assert not first.execute(write, 10).error
        assert shown(second, f"import os\nprint([p for p in {places} if os.path.exists(p + '/note')])").strip() == "[]"
        assert shown(second, "print([n for n in os.listdir('/proc') if n.isdigit()])").strip() == "['1']"


def test_filling_the_disk_is_bounded(zygote: Zygote) -> None:
    source = """
import os
written = 0
for folder in (".", "/tmp", "/dev/shm"):
    try:
        for n in range(64):
            with open(f"{folder}/{n}", "wb") as file:
                written += file.write(bytes(1 << 20))
    except OSError as error:
        print(type(error).__name__, error.errno)
print("MiB", written >> 20)
"""
    with zygote.spawn(limits=Limits(disk=32 << 20)) as kernel:
        said = shown(kernel, source, 30)
        assert int(said.split("MiB")[1]) <= 32
        assert shown(kernel, "print('still here')").strip() == "still here"


def test_memory_outside_of_the_resident_set_is_refused(kernel: Kernel) -> None:
    source = """
import ctypes, os
try:
    os.memfd_create("hidden")
    print("made")
except OSError as error:
    print("refused")
print(ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600))
"""
    assert shown(kernel, source).split() == ["refused", "-1"]


def test_a_hidden_folder_under_a_mounted_one_is_empty(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "canary").write_text(CANARY)
    tmp_path.chmod(0o755)
    with Sandbox(binds={"/opt/given": tmp_path}, hide=[tmp_path / "secret"]) as sandbox:
        look = "import os; print(os.listdir('/opt/given'), os.listdir('/opt/given/secret'))"
        command = sandbox.command([sys.executable, "-I", "-S", "-c", look], sandbox.environment())
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, cwd="/")
    assert done.stdout.strip() == "['secret'] []", done.stderr


def test_a_bind_must_name_a_plain_target(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        Sandbox(binds={"../x": tmp_path})


def test_a_missing_bubblewrap_is_said_and_not_worked_around(monkeypatch: pytest.MonkeyPatch) -> None:
    import autograder.engine as engine

    monkeypatch.setattr(engine.sandboxes, "available", lambda: (False, "bubblewrap is not installed"))
    with pytest.raises(SandboxUnavailable, match="not installed"):
        Zygote()


def test_an_environment_below_home_or_tmp_is_there_in_every_kernel_and_read_only(tmp_path: Path) -> None:
    from autograder.engine import Zygote

    (tmp_path / "module.txt").write_text("still here")
    home = "/home/" + "another"  # somebody's, in whose home the environment lies
    code = (
        f"for path in ('{home}/env/module.txt', '/tmp/env/lib/module.txt'):\n"
        "    print(open(path).read())\n"
        "    try:\n        open(path + 'x', 'w')\n    except OSError as error:\n        print(error.errno)\n"
        "open('/tmp/own', 'w').write('1')\n"
    )
    with Zygote(binds={f"{home}/env": tmp_path, "/tmp/env/lib": tmp_path}) as zygote:
        for _ in range(2):
            with zygote.spawn() as kernel:
                result = kernel.execute(code, 30)
                assert not result.error, result.outputs
                assert result.outputs[0].text.split("\n")[::2] == ["still here", "still here", ""]
