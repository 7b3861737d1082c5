"""Kernels forked from a warm process: faithful to an ordinary one, ended for certain, and believed in nothing."""

from __future__ import annotations

import ast
import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import papermill
import psutil
import pytest
from nbformat import NotebookNode

from autograder.engine import (
    CellTimeout,
    Kernel,
    KernelDied,
    Limits,
    Session,
    Zygote,
    ZygoteDied,
    can_fork,
    clean_outputs,
    run_notebook,
)
from autograder.sandbox import Sandbox, available
from autograder.zygote import use_huge_pages

forks, no_fork = can_fork()
pytestmark = pytest.mark.skipif(not forks, reason=no_fork)
sandboxed, no_sandbox = available()


@pytest.fixture(scope="module", params=["sandboxed", "unsafe"])
def zygote(request: pytest.FixtureRequest) -> Iterator[Zygote]:
    if request.param == "sandboxed" and not sandboxed:
        pytest.skip(no_sandbox)
    with Zygote(unsafe=request.param == "unsafe") as started:
        if started.one_kernel_only:
            pytest.skip(f"kernels of one zygote cannot be kept apart here: {started.reason}")
        yield started


@pytest.fixture
def kernel(zygote: Zygote) -> Iterator[Kernel]:
    with zygote.spawn() as started:
        yield started


def shown(kernel: Kernel, source: str, timeout: float = 30.0) -> str:
    """Everything that a cell printed, returned or raised, as one text."""
    texts = []
    for output in kernel.execute(source, timeout).outputs:
        texts += [output.get("text", ""), output.get("evalue", ""), output.get("data", {}).get("text/plain", "")]
    return "\n".join(filter(None, texts)).strip()


def notebook(*sources: str) -> NotebookNode:
    """A notebook of code cells."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}}
    )


def family(kernel: Kernel) -> list[psutil.Process]:
    process = psutil.Process(kernel.pid)
    return [process, *process.children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not any(
            p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes if psutil.pid_exists(p.pid)
        ):
            return True
        time.sleep(0.02)
    return False


# Faithful --------------------------------------------------------------------------------------------------------------------------


def test_results_prints_and_history_are_those_of_a_notebook(kernel: Kernel) -> None:
    result = kernel.execute("print('to the screen')\n1 + 1", 10)
    assert [o.output_type for o in result.outputs] == ["stream", "execute_result"]
    assert (
        result.outputs[1].data["text/plain"] == "2" and result.outputs[1].execution_count == result.execution_count == 1
    )
    assert shown(kernel, "_ + 1") == "3"
    assert shown(kernel, "print(In[1:], Out)").startswith(
        "[\"print('to the screen')\\n1 + 1\", '_ + 1', 'print(In[1:], Out)'] {1: 2, 2: 3}"
    )
    assert not kernel.execute("3;", 10).outputs


def test_a_new_kernel_holds_no_names_of_the_warm_process(kernel: Kernel) -> None:
    names = shown(kernel, "print([n for n in dir() if not n.startswith('_')])")
    assert names == "['In', 'Out', 'exit', 'get_ipython', 'open', 'quit']"


def test_an_error_is_shown_and_the_next_cell_runs(kernel: Kernel) -> None:
    result = kernel.execute("def f():\n    raise ValueError('no')\nf()", 10)
    assert (
        result.error
        and result.outputs[-1].ename == "ValueError"
        and any("f()" in line for line in result.outputs[-1].traceback)
    )
    assert kernel.execute("1 +", 10).outputs[-1].ename == "SyntaxError"
    assert shown(kernel, "'on'") == "'on'"


def test_a_figure_comes_out_as_png(kernel: Kernel) -> None:
    result = kernel.execute("import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nprint('drawn')", 30)
    pictures = [o for o in result.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 1 and not result.error


def test_text_and_figures_come_in_their_order_and_each_figure_once(kernel: Kernel) -> None:
    source = "import matplotlib.pyplot as plt\nprint('a')\nplt.plot([1, 2])\nplt.show()\nprint('b')\nplt.plot([2, 1]);"
    kinds = [output.output_type for output in kernel.execute(source, 30).outputs]
    assert kinds == ["stream", "display_data", "stream", "display_data"]
    assert [output.output_type for output in kernel.execute("print('c')", 10).outputs] == ["stream"]


def test_a_display_can_be_cleared_and_updated(kernel: Kernel) -> None:
    clear = "from IPython.display import clear_output, display\nfor i in range(3):\n    clear_output(wait=True)\n    print(i)"
    assert shown(kernel, clear) == "2"
    assert shown(kernel, "handle = display('first', display_id=True)\nhandle.update('second');") == "'second'"


def test_an_objects_own_representations_are_used(kernel: Kernel) -> None:
    kernel.execute(
        "class Rich:\n    def _repr_html_(self): return '<b>rich</b>'\n    def __repr__(self): return 'plain'", 10
    )
    [output] = kernel.execute("Rich()", 10, rich=True).outputs
    assert output.data == {"text/plain": "plain", "text/html": "<b>rich</b>"}
    assert shown(kernel, "Rich()") == "plain"


def test_no_gpu_was_touched_before_the_fork(kernel: Kernel) -> None:
    assert (
        shown(kernel, "import torch\nprint(torch.cuda.is_initialized(), torch.cuda._is_in_bad_fork())") == "False False"
    )


def test_what_a_notebooks_set_up_imports_is_there_before_the_fork(kernel: Kernel) -> None:
    source = "import sys\nbefore = set(sys.modules)\nfrom autograder import check, hint, score\nprint(set(sys.modules) - before)"
    assert shown(kernel, source) == "set()"


def test_magics_and_shell_lines_work(kernel: Kernel) -> None:
    assert "per loop" in shown(kernel, "%timeit -n 2 -r 1 sum(range(3))")
    assert "from a program" in shown(kernel, "!echo from a program")
    assert shown(kernel, "%%capture kept\nprint('hidden')") == ""
    assert shown(kernel, "kept.stdout") == "'hidden\\n'"


def test_python_is_left_as_it_is_and_all_else_read_as_ipython_reads_it(kernel: Kernel) -> None:
    sources = [
        "%precision 3", "a = %time 1", "b = !echo b", "!echo c", "print?", "?print", "%%time\n1", ">>> 1 + 1", "    1 + 1", "/print 1",
        ", print 1 2", "x = (5\n%time\n)", "if True:\n    %time 1", "s = \"\"\"\n%time 1\n!ls\n\"\"\"", "1 +", "x = 7\\\n%3", "await nothing()",
        "f = lambda: 0\nf()\n\n# the end?", "x = 1;", "", "\n\n1", "In [1]: 2", "class A:\n    pass\n!ls", "print('\\d')",
    ]  # fmt: skip
    read = """
from IPython.core.inputtransformer2 import TransformerManager
ours = get_ipython().input_transformer_manager
print([source for source in SOURCES if ours.transform_cell(source) != TransformerManager().transform_cell(source)])
"""
    assert shown(kernel, f"SOURCES = {sources!r}" + read).strip() == "[]"


def test_a_notebooks_own_input_transformers_are_heard(kernel: Kernel) -> None:
    own = """
class Tenfold:
    priority = 5

    def __init__(self, start):
        self.start_line, self.start_col = start[0] - 1, start[1]

    @classmethod
    def find(cls, lines):
        for line in lines:
            for token in line:
                if token.string == "ten":
                    return cls(token.start)

    def transform(self, lines):
        line = lines[self.start_line]
        return [*lines[: self.start_line], line.replace("ten", "10"), *lines[self.start_line + 1 :]]

get_ipython().input_transformer_manager.token_transformers.append(Tenfold)
"""
    assert not kernel.execute(own, 10).error
    assert shown(kernel, "ten + 1") == "11"


def test_a_kernel_is_a_fork_of_the_warm_process_itself(zygote: Zygote) -> None:
    with zygote.spawn() as one, zygote.spawn() as other:
        parents = {psutil.Process(kernel.pid).ppid() for kernel in (one, other)}
        if not zygote.isolates_children:  # a process of its own waits for each kernel and ends what it leaves
            assert len(parents) == 2
            return
        assert len(parents) == 1
        assert shown(one, "import os; os.getpid()") == "1"
        spaces = "import os; print({name: os.readlink(f'/proc/self/ns/{name}') for name in ('user', 'pid', 'mnt', 'net', 'ipc', 'uts')})"
        first, second = (ast.literal_eval(shown(kernel, spaces)) for kernel in (one, other))
        assert all(first[name] != second[name] for name in first)


def test_the_warm_process_is_on_huge_pages_where_the_system_has_them(zygote: Zygote) -> None:
    state = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    known = tuple(map(int, re.findall(r"\d+", platform.release())[:2])) >= (6, 1)
    has_them = known and state.exists() and "[never]" not in state.read_text()
    assert zygote.huge_pages > 25 or not has_them


def test_where_the_system_does_not_tell_of_memory_none_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)
    assert use_huge_pages() == 0


def test_top_level_await_works(kernel: Kernel) -> None:
    assert shown(kernel, "import asyncio\nawait asyncio.sleep(0.01, 'waited')") == "'waited'"


def test_output_of_programs_and_of_c_is_shown(kernel: Kernel) -> None:
    said = shown(kernel, "import os, subprocess\nos.write(1, b'one ')\nsubprocess.run(['echo', 'two'])\nprint('zero')")
    assert "zero" in said and "one two" in said


def test_input_says_that_there_is_no_keyboard(kernel: Kernel) -> None:
    result = kernel.execute("input('name? ')", 10)
    assert result.error and "no keyboard" in result.outputs[-1].evalue


def test_html_is_dropped_unless_asked_for(kernel: Kernel) -> None:
    source = "from IPython.display import HTML, Javascript, display\ndisplay(HTML('<script>x</script>'), Javascript('x'))\nHTML('<b>')"
    for output in kernel.execute(source, 10).outputs:
        assert set(output.data) == {"text/plain"}
    assert any("text/html" in output.data for output in kernel.execute(source, 10, rich=True).outputs)


def test_random_numbers_differ_between_kernels_unless_seeded(zygote: Zygote) -> None:
    source = "import torch, numpy, random\nprint(torch.rand(1).item(), numpy.random.rand(), random.random())"
    drawn = []
    for seed in (None, None, 5, 5, 6):
        with zygote.spawn(seed=seed) as kernel:
            drawn.append(shown(kernel, source).split())
    for numbers in zip(*drawn, strict=True):
        assert numbers[2] == numbers[3] and len(set(numbers)) == 4


def test_kernels_share_no_globals_and_torch_is_single_threaded(zygote: Zygote) -> None:
    with zygote.spawn() as first, zygote.spawn() as second:
        first.execute("secret = 1\nimport torch\ntorch.spoiled = True\nimport builtins\nbuiltins.spoiled = True", 10)
        assert (
            shown(
                second, "import torch\nprint('secret' in globals(), hasattr(torch, 'spoiled'), torch.get_num_threads())"
            )
            == "False False 1"
        )
        assert "NameError" in [o.get("ename") for o in second.execute("spoiled", 10).outputs]


# Answers ---------------------------------------------------------------------------------------------------------------------------


def test_answer_files_come_with_the_cell_that_wrote_them(kernel: Kernel) -> None:
    write = "import os\nopen(os.environ['AUTOGRADER_ANSWERS'] + '/{}', 'wb').write({!r})"
    assert kernel.execute(write.format("a.safetensors", b"\0\1"), 10).answers == {"a.safetensors": b"\0\1"}
    assert kernel.execute("pass", 10).answers == {}
    assert kernel.execute(write.format("a.safetensors", b"longer"), 10).answers == {"a.safetensors": b"longer"}


def test_links_pipes_and_odd_names_are_no_answers(kernel: Kernel) -> None:
    source = """
import os
folder = os.environ['AUTOGRADER_ANSWERS']
os.symlink('/etc/passwd', folder + '/link')
os.mkfifo(folder + '/pipe')
os.mkdir(folder + '/folder')
open(folder + '/.hidden', 'w').write('x')
open(folder + '/bad\\nname', 'w').write('x')
"""
    result = kernel.execute(source, 10)
    assert not result.answers and set(result.refused) == {".hidden", "bad\nname"}


def test_answers_too_large_are_refused_and_named(zygote: Zygote) -> None:
    with zygote.spawn(limits=Limits(answer=1000, answers=1500)) as kernel:
        source = "import os\nfor name, size in (('a', 1001), ('b', 900), ('c', 900)):\n"
        result = kernel.execute(
            source + "    open(os.environ['AUTOGRADER_ANSWERS'] + '/' + name, 'wb').write(bytes(size))", 10
        )
        assert list(result.answers) == ["b"] and set(result.refused) == {"a", "c"}


# Ended for certain -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["while True: pass", "import time; time.sleep(60)"])
def test_a_loop_is_interrupted_and_the_next_cell_runs(kernel: Kernel, source: str) -> None:
    start = time.monotonic()
    with pytest.raises(CellTimeout) as caught:
        kernel.execute("print('before')\n" + source, 0.5)
    assert time.monotonic() - start < 2 and caught.value.result.outputs[-1].ename == "KeyboardInterrupt"
    assert "before" in caught.value.result.outputs[0].text
    assert shown(kernel, "'on'") == "'on'"


@pytest.mark.parametrize(
    "source",
    [
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        "import time\nwhile True:\n    try:\n        while True: time.sleep(0.01)\n    except BaseException: pass",
        "sum(iter(int, 1))",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\nwhile True: pass",
    ],
    ids=["ignores the interrupt", "catches the interrupt", "loops in C", "masks the interrupt"],
)
def test_what_does_not_answer_an_interrupt_is_killed(zygote: Zygote, source: str) -> None:
    start = time.monotonic()
    with zygote.spawn() as kernel:
        processes = family(kernel)
        with pytest.raises(KernelDied) as caught:
            kernel.execute(source, 0.3)
        assert caught.value.reason == "timeout" and not kernel.alive
    assert time.monotonic() - start < 5 and gone(processes)
    with zygote.spawn() as following:
        assert shown(following, "1") == "1"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os; os._exit(3)", "exit status 3"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("import ctypes; ctypes.CDLL(None).abort()", "signal"),
    ],
)
def test_a_kernel_that_ends_itself_died_with_a_reason(zygote: Zygote, source: str, words: str) -> None:
    with zygote.spawn() as kernel:
        with pytest.raises(KernelDied, match=words) as caught:
            kernel.execute(source, 20)
        assert caught.value.reason == "kernel_died"
        with pytest.raises(KernelDied, match=words):
            kernel.execute("1", 5)


@pytest.mark.parametrize("source", ["exit()", "quit()", "exit"])
def test_exit_ends_the_kernel_after_its_cell(zygote: Zygote, source: str) -> None:
    with zygote.spawn() as kernel:
        result = kernel.execute(f"print('last')\n{source}" if "(" in source else source, 10)
        assert result.exited and not kernel.alive
        with pytest.raises(KernelDied, match=r"exit\(\)"):
            kernel.execute("1", 5)


def test_sys_exit_is_an_error_of_its_cell_alone(kernel: Kernel) -> None:
    assert kernel.execute("import sys; sys.exit(1)", 10).error
    assert shown(kernel, "'on'") == "'on'"


def test_processes_and_threads_left_over_end_with_the_kernel(zygote: Zygote) -> None:
    source = """
import os, subprocess, threading, time
subprocess.Popen(["sleep", "300"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(300)
    os._exit(0)
threading.Thread(target=time.sleep, args=(300,)).start()
import atexit
atexit.register(time.sleep, 300)
"""
    with zygote.spawn() as kernel:
        kernel.execute(source, 10)
        time.sleep(0.2)
        processes = family(kernel)
        assert len(processes) >= 3
        start = time.monotonic()
    assert time.monotonic() - start < 5 and gone(processes)


def test_a_forked_copy_of_the_kernel_answers_nothing(kernel: Kernel) -> None:
    assert shown(
        kernel, "import os\npid = os.fork()\nprint('child' if pid == 0 else 'parent')\nif pid: os.waitpid(pid, 0)"
    ).split() == ["parent", "child"]
    assert shown(kernel, "1") == "1"


def test_a_memory_hog_is_killed(zygote: Zygote) -> None:
    source = "import time\nkept = []\nfor _ in range(60):\n    kept.append(bytearray(b'x') * (32 << 20))\n    time.sleep(0.02)\ntime.sleep(5)"
    with zygote.spawn(limits=Limits(memory=1 << 30)) as kernel:
        with pytest.raises(KernelDied) as caught:
            kernel.execute(source, 30)
        assert caught.value.reason == "memory" and kernel.peak_memory > 1 << 30


def test_an_absurd_allocation_fails_at_once(kernel: Kernel) -> None:
    result = kernel.execute("import torch\ntorch.empty(1 << 40)", 10)
    assert result.error and kernel.alive


def test_a_small_fork_bomb_is_contained(zygote: Zygote) -> None:
    source = """
import os, time
started = 0
for _ in range(300):
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        started += 1
    except OSError:
        break
print(started)
time.sleep(3)
"""
    with zygote.spawn(limits=Limits(processes=40)) as kernel:
        processes = family(kernel)
        try:
            assert int(shown(kernel, source, 30)) <= 40
        except KernelDied as error:
            assert "40 processes" in error.detail
        processes = family(kernel) if kernel.alive else processes
    assert gone(processes)
    with zygote.spawn() as following:
        assert shown(following, "1") == "1"


def test_threads_are_counted(zygote: Zygote) -> None:
    source = """
import threading, time
try:
    for _ in range(100):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
except RuntimeError as error:
    print(error)
time.sleep(2)
"""
    with zygote.spawn(limits=Limits(processes=30)) as kernel:
        try:
            assert "can't start new thread" in shown(kernel, source)
        except KernelDied as error:
            assert "30 processes" in error.detail


def test_a_million_lines_neither_stall_nor_fill_memory(kernel: Kernel) -> None:
    result = kernel.execute("for i in range(1_000_000): print('line', i)", 30)
    text = "".join(o.text for o in result.outputs)
    assert text.startswith("line 0\nline 1\n") and "truncated" in text and len(text) < 250_000
    result = kernel.execute("import os\nfor i in range(20000): os.write(1, b'x' * 1000 + b'\\n')", 30)
    assert sum(len(o.text) for o in result.outputs) < 250_000 and "truncated" in result.outputs[-1].text


def test_a_kernel_outlives_the_loss_of_its_streams(kernel: Kernel) -> None:
    source = "import os, sys, json\nfor fd in (0, 1, 2): os.close(fd)\nsys.stdout = sys.stderr = None\njson.dumps = json.loads = None\nos.closerange(3, 256)"
    kernel.execute(source, 10)
    assert shown(kernel, "print('printed')\n5") == "printed\n\n5"


# Believed in nothing ---------------------------------------------------------------------------------------------------------------

FIND_SOCKET = """
import os, stat, struct, json
def is_socket(fd):
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False
fd = next(fd for fd in range(3, 1024) if is_socket(fd))
def frame(kind, payload): os.write(fd, kind + struct.pack('>I', len(payload)) + payload)
"""


@pytest.mark.parametrize(
    "source",
    [
        "os.write(fd, os.urandom(100_000))",
        "os.write(fd, b'J\\xff\\xff\\xff\\xff')",
        "frame(b'J', b'[' * 200_000)",
        "frame(b'J', b'not json')",
        "frame(b'J', b'[]')",
        "frame(b'J', b'9' * 10_000)",
        "frame(b'B', b'bytes without announcement')",
        "frame(b'J', json.dumps({'type': 'answer', 'name': 'x', 'size': 10**15}).encode())",
        "frame(b'J', json.dumps({'type': 'answer', 'name': ['x'], 'size': -1}).encode())",
        "frame(b'J', json.dumps({'type': 'answer', 'name': 'x', 'size': 5}).encode()); frame(b'B', b'123456')",
        "while True: frame(b'J', json.dumps({'type': 'done', 'id': 'x'}).encode())",
        "os.close(fd)",
        "os.dup2(os.open('/dev/null', os.O_RDWR), fd)",
    ],
)
def test_garbage_on_the_socket_ends_the_kernel_and_nothing_else(zygote: Zygote, source: str) -> None:
    with zygote.spawn() as kernel:
        kernel.execute(FIND_SOCKET, 10)
        with pytest.raises((KernelDied, CellTimeout)):
            for _ in range(3):
                kernel.execute(source, 5)
            raise AssertionError("the garbage was not noticed")
    with zygote.spawn() as following:
        assert shown(following, "1") == "1"


def test_a_forged_message_for_another_cell_is_ignored(kernel: Kernel) -> None:
    kernel.execute(FIND_SOCKET, 10)
    result = kernel.execute(
        "frame(b'J', json.dumps({'type': 'done', 'id': 'guess', 'error': False}).encode())\n1/0", 10
    )
    assert result.error


def test_forged_outputs_are_cut_to_what_a_notebook_may_show() -> None:
    raw: list[object] = [
        {"output_type": "stream", "name": "\x1b[31m", "text": "red \x1b[31m text \ud800", "extra": 1},
        {"output_type": "display_data", "data": {"text/html": "<script>", "image/png": "bm8=", "text/plain": 7, "application/javascript": "x"}},
        {"output_type": "execute_result", "data": {"image/svg+xml": "<svg>", "text/plain": "shown"}, "execution_count": "1", "metadata": {"a": 1}},
        {"output_type": "error", "ename": ["x"], "evalue": None, "traceback": [1, "line", {}]},
        {"output_type": "update"}, 5, None, [],
    ]  # fmt: skip
    outputs = clean_outputs(raw, Limits())
    assert [o.output_type for o in outputs] == ["stream", "display_data", "execute_result", "error"]
    assert outputs[0] == {"output_type": "stream", "name": "stdout", "text": "red [31m text ?"}
    assert (
        outputs[1].data == {"text/plain": ""}
        and outputs[2].data == {"text/plain": "shown"}
        and outputs[2].metadata == {}
    )
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)])
    nbformat.validate(nb)
    json.dumps(nb).encode()
    assert clean_outputs("nonsense", Limits()) == []
    many = [{"output_type": "stream", "name": "stdout", "text": "x" * 10_000}] * 10_000
    assert sum(len(o.text) for o in clean_outputs(many, Limits())) <= 220_000


def test_cells_that_patch_the_kernels_own_modules_spoil_only_themselves(zygote: Zygote) -> None:
    source = """
import json, struct, os, socket, sys, base64
for module in (json, struct, base64): 
    for name in list(vars(module)):
        if callable(getattr(module, name)): setattr(module, name, None)
sys.modules.clear()
"""
    with zygote.spawn() as kernel:
        try:
            kernel.execute(source, 10)
            kernel.execute("1", 5)
        except (KernelDied, CellTimeout):
            pass
    with zygote.spawn() as following:
        assert shown(following, "import json; json.dumps([1])") == "'[1]'"


def test_a_source_with_broken_characters_is_an_error_of_its_cell(kernel: Kernel) -> None:
    assert kernel.execute("print('\ud800 \0')", 10).error
    assert shown(kernel, "print('\\ud800 \\x1b[31mred')") == "? [31mred"


def test_kernels_run_side_by_side(zygote: Zygote) -> None:
    def compute(number: int) -> str:
        with zygote.spawn() as kernel:
            return shown(kernel, f"import torch, time\ntime.sleep(0.2)\nint(torch.full((3,), {number}).sum())")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(compute, range(8))) == [str(3 * number) for number in range(8)]


def test_the_warm_process_has_one_thread_and_all_it_was_asked_to_import(zygote: Zygote) -> None:
    assert zygote.warm_threads == 1 and zygote.missing == []


def test_nothing_of_a_kernel_is_left_on_the_machine(zygote: Zygote) -> None:
    with zygote.spawn() as kernel:
        kernel.execute("open('note', 'w').write('x' * 100)", 10)
        folder = kernel._work
        pid = kernel.pid
    assert not psutil.pid_exists(pid) and (folder is None or not folder.exists())


@pytest.mark.skipif(not sandboxed, reason=no_sandbox)
def test_where_kernels_cannot_be_kept_apart_a_zygote_serves_one(monkeypatch: pytest.MonkeyPatch) -> None:
    command = Sandbox.command

    def without_namespaces(self: Sandbox, argv: list[str], environment: dict[str, str]) -> list[str]:
        words = command(self, argv, environment)
        if words[-2].endswith("sandbox.py"):  # started by root: the command is inside the plan
            plan = json.loads(words[-1])
            plan["command"][1:1] = ["--unshare-user", "--disable-userns"]
            return [*words[:-1], json.dumps(plan)]
        return [words[0], "--unshare-user", "--disable-userns", *words[1:]]

    monkeypatch.setattr(Sandbox, "command", without_namespaces)
    with Zygote() as zygote:
        assert zygote.sandboxed and not zygote.isolates_children and zygote.one_kernel_only
        with zygote.spawn() as kernel:
            assert not kernel.isolated and kernel.filtered
            assert shown(kernel, "6 * 7") == "42"
            kernel.execute("import subprocess\nsubprocess.Popen(['sleep', '300'], start_new_session=True)", 10)
            processes = family(kernel)
            assert len(processes) == 2
            refused = shown(kernel, "import socket; socket.create_connection(('127.0.0.1', 1), timeout=1)")
            assert "refused" in refused or "unreachable" in refused
        with pytest.raises(RuntimeError, match="new zygote"):
            zygote.spawn()
    assert gone(processes)


# Papermill -------------------------------------------------------------------------------------------------------------------------


def test_papermill_runs_the_engine_unmodified(zygote: Zygote, tmp_path: Path) -> None:
    nb = notebook(
        "SEED = 0", "import os\nopen(os.environ['AUTOGRADER_ANSWERS'] + '/a', 'w').write(str(SEED))", "SEED + 1"
    )
    nb.cells[0].metadata["tags"] = ["parameters"]
    nb.cells[2].metadata["tags"] = ["skip-execution"]
    session, out = Session(), tmp_path / "out.ipynb"
    nbformat.write(nb, tmp_path / "in.ipynb")
    papermill.execute_notebook(
        tmp_path / "in.ipynb", out, parameters={"SEED": 7}, engine_name="autograder", zygote=zygote, session=session,
        cell_timeout=20, submission_timeout=60, allow_errors=True, progress_bar=False,
    )  # fmt: skip
    assert session.answers == {"a": b"7"} and session.answered_in == {"a": 2} and session.died_at is None
    assert nbformat.read(out, 4).cells[-1].outputs[0].data["text/plain"] == "8"
    assert set(session.seconds) == {0, 1, 2, 3} and session.cpu_seconds is not None and session.cpu_seconds > 0


def test_a_cell_that_raises_stops_nothing_when_errors_are_allowed(zygote: Zygote) -> None:
    session = run_notebook(notebook("1/0", "while True: pass", "6 * 7"), zygote, cell_timeout=0.5)
    assert (
        session.errors == [0, 1]
        and session.timeouts == [1]
        and session.died_at is None
        and session.notebook is not None
    )
    assert [cell.cell_type for cell in session.notebook.cells] == ["code"] * 3
    assert session.notebook.cells[2].outputs[0].data["text/plain"] == "42"
    assert run_notebook(notebook("1/0", "5"), zygote, allow_errors=False).seconds.keys() == {0}


def test_a_kernel_that_dies_ends_the_run_and_keeps_what_was_done(zygote: Zygote) -> None:
    write = "import os\nopen(os.environ['AUTOGRADER_ANSWERS'] + '/a', 'w').write('kept')"
    session = run_notebook(notebook(write, "os._exit(1)", "print('never')"), zygote)
    assert (session.died_at, session.reason, session.answers) == (
        1,
        "kernel_died",
        {"a": b"kept"},
    ) and "status 1" in session.detail
    assert session.notebook is not None and session.notebook.cells[2].outputs == []
    session = run_notebook(notebook("exit()", "1"), zygote)
    assert (session.died_at, session.reason) == (0, "kernel_died") and 1 not in session.seconds


def test_a_notebook_without_metadata_runs(zygote: Zygote) -> None:
    nb = notebook("SEED", "1 + 1")
    nb.metadata.clear()
    session = run_notebook(nb, zygote, parameters={"SEED": 3})
    assert session.notebook is not None and session.notebook.cells[-1].outputs[0].data["text/plain"] == "2"


def test_the_limit_of_the_submission_comes_before_the_cells(zygote: Zygote) -> None:
    start = time.monotonic()
    session = run_notebook(
        notebook("import time", *["time.sleep(0.4)"] * 10), zygote, cell_timeout=30, submission_timeout=1
    )
    assert session.reason == "submission_timeout" and session.died_at is not None and time.monotonic() - start < 4


def test_the_engine_itself_imports_no_torch() -> None:
    package = Path(__file__).resolve().parents[1] / "autograder"
    source = f"""
import sys, types
sys.modules["autograder"] = types.ModuleType("autograder")
sys.modules["autograder"].__path__ = [{str(package)!r}]
import autograder.engine
print(sorted(name for name in sys.modules if name in ("torch", "numpy", "matplotlib")))
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("unsafe", "ending", "words"),
    [
        # the first process of a namespace, as a sandboxed one is, cannot be killed from within
        (True, "os.kill(os.getpid(), 9)", "it was ended by the signal SIGKILL: no message$"),
        *(
            (unsafe, *rest)
            for unsafe in (False, True)
            for rest in (
                ("import ctypes; ctypes.string_at(0)", "it was ended by the signal SIGSEGV: (?s:.*)crashes.py"),
                ("os._exit(3)", "it ended with exit status 3: no message$"),
                ("time.sleep(60)", "it was not ready after 2 s: no message$"),
            )
        ),
    ],
)
def test_a_warm_process_that_does_not_come_up_says_how_it_ended(
    tmp_path: Path, unsafe: bool, ending: str, words: str
) -> None:
    if not unsafe and not sandboxed:
        pytest.skip(no_sandbox)
    (tmp_path / "crashes.py").write_text(f"import os, time\n{ending}\n")
    timeout = 2.0 if "sleep" in ending else 180.0
    with pytest.raises(ZygoteDied, match=f"^the warm process did not start; {words}"):
        Zygote([tmp_path], preload=["crashes"], unsafe=unsafe, start_timeout=timeout).start()


def test_the_warm_process_ends_with_its_starter(tmp_path: Path) -> None:
    source = f"""
import os, sys
from autograder.engine import Zygote
zygote = Zygote(unsafe={not sandboxed})
zygote.start()
kernel = zygote.spawn()
print(zygote._process.pid, kernel.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[1],
    )
    pids = list(map(int, done.stdout.split()))
    deadline = time.monotonic() + 5
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(pids) == 2 and not any(map(psutil.pid_exists, pids)), done.stderr
