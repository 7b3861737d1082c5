"""Hostile, broken and disguised submissions as data: how each is made from a released notebook, and what grading it has to say.

`python -m tests.hostile` writes them as the table docs/attacks.md. Nothing here is executed outside of the sandbox but by that name.
Each attack is bounded by itself (a fork bomb of a few hundred, memory within the machine, connections to loopback only).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import nbformat
from nbformat import NotebookNode

from autograder.notebook import Notebook
from autograder.sample_class import without_marks

ASSIGNMENT = "transformer-week2"
NOTEBOOK = "scaled_dot_product_attention"
TARGET = "scaled_dot_product_attention"
OTHERS = ("causal_mask", "padding_mask", "combine_masks")
ALL = (TARGET, *OTHERS)
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "attacks.md"

CELL_SECONDS = 4.0
MEMORY = 1536 << 20


@dataclass(frozen=True)
class Expected:
    """What a check has to come to: its status, the share of its points, and a pattern that its message has to hold."""

    status: str = "passed"
    points: float = 0.0
    says: str = ""


FULL = Expected("passed", 1.0)


class Draft:
    """A submission in the making: the released notebook with right answers filled in, and the ways to spoil it."""

    def __init__(self, notebook: Notebook, released: NotebookNode) -> None:
        self.notebook = notebook
        self.node = nbformat.from_dict(json.loads(nbformat.writes(released)))
        self.data: bytes | None = None
        for name in notebook.exercises:
            self.exercise(name).source = self.right(name)

    @property
    def cells(self) -> list[NotebookNode]:
        return self.node.cells

    def exercise(self, name: str = TARGET) -> NotebookNode:
        return next(cell for cell in self.cells if cell.cell_type == "code" and _grade_id(cell) == name)

    def check(self, name: str = TARGET) -> NotebookNode:
        return next(
            cell for cell in self.cells if cell.cell_type == "code" and re.search(rf'@check\(\s*"{name}"', cell.source)
        )

    def body(self, body: str, name: str = TARGET) -> None:
        """Replace the exercise by a function of this body."""
        arguments = {
            TARGET: "q, k, v, mask=None",
            "causal_mask": "n",
            "padding_mask": "tokens, pad_id",
            "combine_masks": "*masks",
        }
        self.exercise(name).source = f"def {name}({arguments[name]}):\n{indent(dedent(body).strip(), '    ')}\n"

    def add(self, source: str, before: str | None = TARGET, kind: str = "code") -> None:
        """A cell of the learner's own before an exercise; at the end with `before=None`."""
        make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
        cell = make(dedent(source).strip("\n"))
        at = len(self.cells) if before is None else self.cells.index(self.exercise(before))
        self.cells.insert(at, cell)

    def right(self, name: str = TARGET) -> str:
        """The reference's source as a learner would have written it, without what is planted there."""
        source = without_marks(self.notebook.exercises[name].source)
        return "\n".join(line for line in source.split("\n") if canaries.whole not in line)

    def bytes(self) -> bytes:
        return self.data if self.data is not None else json.dumps(self.node, ensure_ascii=True).encode()


def _grade_id(cell: NotebookNode) -> str | None:
    return cell.metadata.get("nbgrader", {}).get("grade_id")


Change = Callable[[Draft], None]


@dataclass(frozen=True)
class Attack:
    """One submission.

    Args:
        group: a heading of the table.
        name: the student's name.
        what: what is tried, in a sentence.
        change: makes it of a draft with right answers.
        why: why the outcome is what it is.
        expected: by check; what is not named passes with all its points.
        flag: a pattern that a remark to the instructor has to match.
        matched_by: how the exercise has to have been found.
        write: writes the file itself, where it is no ordinary file.
        slow: takes long to make.
        cell: seconds one of its cells may run.
    """

    group: str
    name: str
    what: str
    change: Change
    why: str
    expected: Mapping[str, Expected] = field(default_factory=dict)
    flag: str = ""
    matched_by: str = ""
    write: Callable[[Draft, Path], None] | None = None
    slow: bool = False
    cell: float = CELL_SECONDS

    @property
    def apart(self) -> bool:
        """Whether it is graded in a class of its own, since it takes long to make or its limits are not the others'."""
        return self.slow or self.cell != CELL_SECONDS

    def expects(self, check: str) -> Expected:
        return self.expected.get(check, FULL)

    @property
    def outcome(self) -> str:
        """The expectation in words."""
        wanted = {check: self.expects(check) for check in ALL}
        if all(item == FULL for item in wanted.values()):
            return "full marks"
        if len(set(wanted.values())) == 1:
            return f"{_words(wanted[TARGET])} for every check"
        other = [f"`{check}`: {_words(item)}" for check, item in wanted.items() if item != FULL]
        return "; ".join(other) + "; the rest full marks"


def _words(item: Expected) -> str:
    points = (
        "full marks" if item.points == 1 else "no points" if not item.points else f"{item.points:.0%} of the points"
    )
    return f"{item.status.replace('_', ' ')}, {points}" if item.status else points


# -- writing submissions -----------------------------------------------------------------------------------------------------------

ATTACKS: list[Attack] = []

# Right shapes and dtypes, wrong numbers: whatever it is graded as, only a trick could win points with it.
WRONG = "return torch.zeros(*q.shape[:-1], v.size(-1)), torch.zeros(*q.shape[:-1], k.size(-2))"
WRONG_ANSWER = Expected("wrong", 0, "values? differs?")


def disguise(name: str, what: str, why: str, **more: Any) -> Callable[[Change], Change]:
    """Honest work that looks odd: it keeps all its points."""
    return _attack("Honest work in disguise", name, what, why, **more)


def trick(
    name: str,
    what: str,
    why: str,
    expected: Expected = WRONG_ANSWER,
    group: str = "Tricks to be judged right",
    **more: Any,
) -> Callable[[Change], Change]:
    """A wrong answer to one exercise with a trick: no points for it, all for the others."""
    return _attack(group, name, what, why, expected={TARGET: expected}, **more)


def _attack(group: str, name: str, what: str, why: str, **more: Any) -> Callable[[Change], Change]:
    def register(change: Change) -> Change:
        ATTACKS.append(Attack(group, name, what, change, why, **more))
        return change

    return register


def free_trick(
    name: str, what: str, source: str, why: str, expected: Expected = WRONG_ANSWER, others: Expected = FULL, **more: Any
) -> None:
    """The wrong answer, with this cell before it; `others`: what comes of the checks below, where the trick spoils them too."""

    def change(draft: Draft) -> None:
        draft.add(source)
        draft.body(WRONG)

    spoilt = dict.fromkeys(OTHERS, others) if others != FULL else {}
    _attack("Tricks to be judged right", name, what, why, expected={TARGET: expected, **spoilt}, **more)(change)


def own_cell(name: str, what: str, source: str, why: str, before: str | None = TARGET, **more: Any) -> None:
    """Right answers, with this cell among them."""
    disguise(name, what, why, **more)(lambda draft: draft.add(source, before))


# == honest work in disguise =======================================================================================================

RELEASED = "Only the learner's sources are taken; set-up, checks, points and language come from the release."


@disguise(
    "tags-and-points",
    "`skip-execution` on every cell, points of 1,000, unlocked, kernelspec of another language",
    RELEASED,
)
def _(draft: Draft) -> None:
    for cell in draft.cells:
        cell.metadata["tags"] = ["skip-execution", "raises-exception", "remove_cell"]
        if "nbgrader" in cell.metadata:
            cell.metadata["nbgrader"].update(locked=False, points=1000, solution=True, grade=True, task=False)
    draft.node.metadata["kernelspec"] = {"display_name": "R", "language": "R", "name": "ir"}
    draft.node.metadata["language_info"] = {"name": "R"}


@disguise(
    "bare",
    "all metadata and ids removed, nbformat 4.4",
    "Exercises are found by the name they define.",
    matched_by="name",
    flag="^metadata",
)
def _(draft: Draft) -> None:
    _strip(draft, 4)


def _strip(draft: Draft, minor: int) -> None:
    draft.node.metadata = nbformat.from_dict({})
    draft.node.nbformat_minor = minor
    for cell in draft.cells:
        cell.metadata = nbformat.from_dict({})
        if minor < 5:
            cell.pop("id", None)


for _minor in range(6):

    @disguise(
        f"nbformat-4-{_minor}", f"saved as nbformat 4.{_minor}", "Every nbformat 4 is read.", matched_by="grade_id"
    )
    def _(draft: Draft, minor: int = _minor) -> None:
        draft.node.nbformat_minor = minor
        if minor < 5:
            for cell in draft.cells:
                cell.pop("id", None)


@disguise(
    "colab",
    "Colab's metadata, ids in the metadata, outputs with HTML",
    "Colab's ids are known, outputs are dropped before anything is parsed.",
    matched_by="cell_id",
)
def _(draft: Draft) -> None:
    draft.node.nbformat_minor = 0
    draft.node.metadata["colab"] = {"provenance": [], "gpuType": "T4", "toc_visible": True}
    draft.node.metadata["accelerator"] = "GPU"
    for cell in draft.cells:
        identifier = cell.pop("id", None)
        cell.metadata = nbformat.from_dict(
            {"id": identifier, "colab": {"base_uri": "https://localhost:8080/"}, "executionInfo": {"status": "ok"}}
        )
        if cell.cell_type == "code":
            cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": "<script>alert(1)</script>"})]


@disguise("cells-twice", "every cell twice", "Equal copies run once.", flag="")
def _(draft: Draft) -> None:
    draft.node.cells = [
        copy for cell in draft.cells for copy in (cell, nbformat.from_dict(json.loads(json.dumps(cell))))
    ]


@disguise("stub-below", "the released stub once more below the solution", "Work beats a stub.", flag="^duplicate")
def _(draft: Draft) -> None:
    from autograder.notebook import stubbed

    cell = draft.exercise()
    stub = nbformat.from_dict(json.loads(json.dumps(cell)))
    stub.source = stubbed(draft.notebook.exercises[TARGET].source)
    draft.cells.insert(draft.cells.index(cell) + 1, stub)


@disguise("split", "a helper in a cell of its own above the exercise", "Own cells run in their places.")
def _(draft: Draft) -> None:
    source = draft.right().replace(TARGET, "attend_by_equation_1")
    draft.add(source)
    draft.body("return attend_by_equation_1(q, k, v, mask)")


@disguise(
    "merged",
    "all exercises in one cell, their own cells deleted",
    "One cell may hold several exercises; it runs once.",
    flag="^merged",
)
def _(draft: Draft) -> None:
    cells = [draft.exercise(name) for name in ALL]
    cells[0].source = "\n\n\n".join(cell.source for cell in cells)
    for cell in cells[1:]:
        draft.cells.remove(cell)


@disguise("backwards", "all cells in reverse order", "The release's order is used.", flag="^moved")
def _(draft: Draft) -> None:
    draft.node.cells = draft.cells[::-1]


@disguise(
    "as-text",
    "the exercise's cell turned into a raw cell",
    "An exercise that became text is still taken as code.",
    flag="",
)
def _(draft: Draft) -> None:
    cell = draft.exercise()
    cell.cell_type = "raw"
    cell.pop("outputs", None)
    cell.pop("execution_count", None)


@disguise(
    "retyped-by-hand",
    "exercises typed anew at the end of a notebook without anything else",
    "Exercises are found by name; all the rest is the release's.",
    matched_by="name",
    flag="^missing: the check",
)
def _(draft: Draft) -> None:
    sources = [draft.right(name) for name in ALL]
    draft.node.cells = [nbformat.v4.new_code_cell(source) for source in sources]


@disguise("checks-deleted", "every check deleted", "Checks come from the release.", flag="^missing: the check")
def _(draft: Draft) -> None:
    draft.node.cells = [cell for cell in draft.cells if "@check(" not in cell.source]


@disguise(
    "extra-parameters",
    "more parameters with defaults, other names for the arguments' values, keyword-only options",
    "Checks call what the exercise promises and no more.",
)
def _(draft: Draft) -> None:
    draft.add(draft.right().replace(TARGET, "the_plain_one"))
    draft.body("return the_plain_one(q, k, v, mask)")
    draft.exercise().source = draft.exercise().source.replace(
        "mask=None):", "mask=None, dropout=0.0, *, verbose=False, **options):"
    )


@disguise(
    "unicode",
    "Greek, Chinese and right-to-left identifiers, comments with bidirectional overrides",
    "A source is text; what it computes counts.",
)
def _(draft: Draft) -> None:
    cell = draft.exercise()
    cell.source = (
        cell.source.replace("scores", "Ωσκορ").replace("weights =", "权重 = weights =")
        + "\n# \u202e}⁦if admin⁩ ⁦ begin only\u202c\nשלום = 1\n"
    )


@disguise(
    "two-hundred-megabytes",
    "200 MB of outputs",
    "Outputs are cut out of the bytes before anything is parsed.",
    slow=True,
)
def _(draft: Draft) -> None:
    mark = "\u0001"
    cell = draft.exercise()
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=mark)]
    text = json.dumps(draft.node, ensure_ascii=True)
    head, tail = text.split(json.dumps(mark)[1:-1])
    draft.data = b"".join([head.encode(), b"epoch 1, loss 0.5\\n" * ((200 << 20) // 19), tail.encode()])


own_cell(
    "error-in-a-cell",
    "an exception in a cell of their own",
    "raise ValueError('an experiment that failed')",
    "A notebook is run to its end, whatever a cell raises.",
)
own_cell(
    "syntax-error-in-a-cell",
    "a cell that is no Python",
    "this is not python (",
    "A notebook is run to its end, whatever a cell raises.",
)
own_cell(
    "warnings",
    "warnings on stderr, from Python and from C",
    "import warnings, os\nfor i in range(100):\n    warnings.warn(f'warning {i}')\nos.write(2, b'low-level warning\\n' * 1000)",
    "Nothing on stderr decides anything.",
)
own_cell(
    "a-million-lines",
    "a million lines of output",
    "for i in range(1_000_000):\n    print(i)",
    "Outputs are cut to a budget and never read for a score.",
)
own_cell("input", "`input()` in a cell", "name = input('Your name? ')", "There is no keyboard: it raises at once.")
own_cell(
    "sleeps",
    "a cell that sleeps past its time",
    "import time\ntime.sleep(60)",
    "The cell is interrupted at its limit, the rest runs.",
)
own_cell(
    "loops-in-a-cell",
    "an endless loop in a cell",
    "while True:\n    pass",
    "The cell is interrupted at its limit, the rest runs.",
)
own_cell(
    "loops-and-ignores-interrupts",
    "an endless loop that swallows interrupts",
    "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
    "The kernel is killed, and the notebook runs again without that cell.",
)
own_cell(
    "ends-its-process",
    "`os._exit` in a cell",
    "import os\nos._exit(0)",
    "The notebook runs again without the cell that its kernel died in.",
)
own_cell(
    "segfault",
    "a segmentation fault in a cell",
    "import ctypes\nctypes.string_at(1)",
    "The notebook runs again without the cell that its kernel died in.",
)
own_cell("exits", "`exit()` in a cell", "exit()", "The notebook runs again without the cell that its kernel died in.")
own_cell(
    "hangs-at-exit",
    "code that hangs at interpreter exit, in a thread and in a finaliser",
    """
    import atexit, threading, time, weakref
    atexit.register(time.sleep, 600)
    threading.Thread(target=time.sleep, args=(600,), daemon=False).start()
    class Slow:
        def __del__(self):
            time.sleep(600)
    slow = Slow()
    """,
    "A kernel is ended from outside; nothing waits for its exit handlers.",
)
own_cell(
    "hangs-on-import",
    "a module that hangs when it is imported",
    "open('slow_module.py', 'w').write('while True: pass')\nimport slow_module",
    "The cell is interrupted at its limit, the rest runs.",
)
own_cell(
    "seeds-changed",
    "global seeds set to something else before, and numbers drawn",
    "import random, numpy\nimport torch\ntorch.manual_seed(1234)\nrandom.seed(7)\nnumpy.random.seed(9)\ntorch.rand(17)",
    "A check starts its generators from the run's seed and leaves them as they were.",
)
own_cell(
    "default-dtype",
    "`torch.set_default_dtype(torch.float64)`",
    "import torch\ntorch.set_default_dtype(torch.float64)",
    "A check runs under the defaults that its reference ran under.",
)
own_cell(
    "names-of-modules",
    "`torch`, `math`, `F`, `check` and `case` given to other things in the last cell",
    "torch = math = F = check = case = Tensor = 'gone'",
    "Each cell sees what stands above it, as in the learner's own kernel.",
    before=None,
)
own_cell(
    "names-of-checks-things",
    "`F`, `plt`, `check` and `case` given to other things above the exercises",
    "F = plt = 64\ndef check(*a, **k):\n    return lambda f: None\ncase = None",
    "What a check needs from the release's imports it gets from there.",
)
own_cell(
    "odd-class",
    "objects with `__getattr__`, `__eq__` and `__del__` tricks lying about",
    """
    class Anything:
        def __getattr__(self, name):
            return self
        def __call__(self, *a, **k):
            return self
        def __eq__(self, other):
            return True
        def __del__(self):
            raise RuntimeError("no")
    odd = [Anything() for _ in range(100)]
    del odd
    """,
    "Nothing of it reaches the answer.",
)
own_cell(
    "deletes-files",
    "deletes everything it can",
    "import shutil, os\nfor folder in ('/', '/home', '/tmp', '/opt', os.getcwd()):\n    for name in os.listdir(folder):\n        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)",
    "The system is read-only; what is writable is the submission's own, and its end.",
    expected={},
)
own_cell(
    "fills-the-disk",
    "writes 600 MB",
    """
    import os
    try:
        with open('big', 'wb') as file:
            for _ in range(600):
                file.write(b'0' * (1 << 20))
    except OSError as error:
        print(error)
    if os.path.exists('big'):
        os.remove('big')
    """,
    "Files live in memory of their own, bounded for each submission.",
)
own_cell(
    "uses-the-network",
    "connects to and listens on loopback, asks for names",
    """
    import socket, threading
    for port in (22, 80, 8888):
        try:
            socket.create_connection(('127.0.0.1', port), timeout=0.2)
        except OSError as error:
            print(error)
    server = socket.create_server(('127.0.0.1', 0))
    """,
    "The kernel has a network of its own with nobody in it.",
)
own_cell(
    "leaves-processes",
    "threads and processes left over that go on writing",
    """
    import os, threading, time, subprocess
    def write():
        while True:
            try:
                for name in os.listdir(os.environ['AUTOGRADER_ANSWERS']):
                    open(os.path.join(os.environ['AUTOGRADER_ANSWERS'], name + '.late'), 'wb').write(b'late')
            except OSError:
                pass
            time.sleep(0.05)
    threading.Thread(target=write, daemon=True).start()
    if os.fork() == 0:
        os.setsid()
        write()
    subprocess.Popen(['sleep', '600'], start_new_session=True)
    """,
    "A file that is no check's answer is not read, and all ends with the kernel.",
)
own_cell(
    "hogs-memory",
    "allocates more than it may",
    "hog = []\nwhile sum(map(len, hog)) < 3 << 30:\n    hog.append(b'1' * (64 << 20))",
    "The monitor kills the kernel; the notebook runs again without that cell.",
)
own_cell(
    "fork-bomb",
    "a fork bomb of 300 processes that spin",
    """
    import os, time
    deadline = time.time() + 20
    for _ in range(300):
        try:
            pid = os.fork()
        except OSError:
            break
        if pid == 0:
            while time.time() < deadline:
                pass
            os._exit(0)
    """,
    "Processes are limited, slowed when they are many, and end with the kernel.",
)
own_cell(
    "prints-a-score",
    "prints scores as nbgrader and others read them",
    "print(5)\nprint('5 points')\nprint('{\"score\": 100}')\n100",
    "Nothing printed decides anything.",
)
own_cell(
    "patches-while-right",
    "patches what checks are made of, with right answers",
    """
    import torch, autograder.judge, builtins
    torch.allclose = torch.equal = lambda *a, **k: True
    autograder.judge.judge = lambda *a, **k: None
    """,
    "Patches reach the submission's own process alone.",
)


# == tricks to be judged right =====================================================================================================

OUTSIDE = "The verdict is computed in another process, which runs none of the submission's code."
UNKNOWN = "Whoever writes the answer has to know what the reference answers on a secret seed."

free_trick(
    "rewrites-asserts",
    "an AST transformer that removes every assert",
    """
    import ast
    class Yes(ast.NodeTransformer):
        def visit_Assert(self, node):
            return ast.Pass()
    get_ipython().ast_transformers.append(Yes())
    """,
    OUTSIDE,
)
free_trick(
    "rewrites-cells",
    "an input transformer that replaces the check by one that records nothing",
    """
    def nothing(lines):
        return ['pass\\n'] if any('@check' in line for line in lines) else lines
    get_ipython().input_transformers_cleanup.append(nothing)
    """,
    "No evidence, no points.",
    expected=Expected("missing", 0, "left no answer"),
    others=Expected("missing", 0),
)
free_trick(
    "patches-comparisons",
    "`torch.allclose`, `torch.equal` and `assert_close` say yes",
    "import torch\ntorch.allclose = torch.equal = torch.testing.assert_close = lambda *a, **k: True",
    OUTSIDE,
)
free_trick(
    "patches-seeds",
    "`torch.manual_seed` and `numpy.random` do nothing",
    "import torch, numpy as np, random\ntorch.manual_seed = np.random.seed = random.seed = lambda *a, **k: None",
    "Inputs come from generators of the check's own; the expected numbers come from elsewhere.",
)
free_trick(
    "patches-time",
    "`time` stands still",
    "import time\ntime.time = time.perf_counter = time.monotonic = lambda: 0.0",
    OUTSIDE,
)
free_trick(
    "replaces-modules",
    "`sys.modules` with a judge of their own",
    """
    import sys, types
    fake = types.ModuleType('autograder.judge')
    fake.judge = lambda *a, **k: 'passed'
    sys.modules['autograder.judge'] = sys.modules['autograder.verdict'] = fake
    """,
    OUTSIDE,
)
free_trick(
    "patches-the-judge",
    "`autograder.judge.judge` says passed",
    """
    import autograder.judge, autograder.checks, autograder.verdict
    yes = lambda answer, recording, *a: autograder.verdict.Verdict(recording.check, 'passed', 5, 5, 'All cases agree.')
    autograder.judge.judge = autograder.checks.judge = autograder.checks.judge_here = yes
    """,
    OUTSIDE,
)
free_trick(
    "patches-check",
    "`check` does nothing",
    "import autograder, autograder.checks\nautograder.check = autograder.checks.check = lambda *a, **k: (lambda f: f)",
    "No evidence, no points.",
    expected=Expected("missing", 0, "left no answer"),
    others=Expected("missing", 0),
)
free_trick(
    "constant-inputs",
    "`Case.normal` gives zeros",
    "import torch\nfrom autograder.case import Case\nCase.normal = Case.uniform = lambda self, *shape, **k: torch.zeros(shape)",
    UNKNOWN,
)
free_trick(
    "records-nothing",
    "`Case.call`, `record` and `gradients` record nothing",
    "import torch\nfrom autograder.case import Case\nCase.record = Case.gradients = Case._end = lambda *a, **k: None",
    "Every case of the reference has to be answered.",
    expected=Expected("wrong", 0, "did not record"),
    others=Expected("wrong", 0),
)
free_trick(
    "records-what-is-allowed",
    "records of another policy: any number will do, tolerance 10^9",
    """
    from autograder import case
    Policy = case.Policy
    class Lenient(Policy):
        pass
    case.Policy = lambda **k: Policy(tol=1e9, at_most=1e9, any_dtype=True)
    """,
    "Tolerances and bars come from the reference's recording.",
)
free_trick(
    "writes-its-own-answer",
    "`write_answer` writes an empty answer with full points",
    """
    import os, autograder.checks
    from autograder.answer import Answer, encode
    def write(name, answer):
        open(os.path.join(os.environ['AUTOGRADER_ANSWERS'], name), 'wb').write(encode(Answer(answer.check, (), {'all': 1000})))
    autograder.checks.write_answer = write
    """,
    "Every case of the reference has to be answered.",
    expected=Expected("wrong", 0, "did not record"),
    others=Expected("wrong", 0),
)
free_trick(
    "encodes-a-verdict",
    "`encode` writes a verdict instead of an answer",
    "import autograder.checks, json\nautograder.checks.encode = lambda answer: json.dumps({'status': 'passed', 'points': 5}).encode()",
    "What is no answer is no evidence.",
    expected=Expected("missing", 0, "cannot be read"),
    others=Expected("missing", 0),
)
free_trick(
    "pickles",
    "a pickle that runs a command where the answer should be",
    """
    import autograder.checks, os, pickle
    class Run:
        def __reduce__(self):
            return os.system, ('touch /tmp/autograder-pickle-was-loaded',)
    autograder.checks.encode = lambda answer: pickle.dumps(Run())
    """,
    "Answers are safetensors and JSON; nothing is ever unpickled.",
    expected=Expected("missing", 0, "cannot be read"),
    others=Expected("missing", 0),
)
free_trick(
    "answers-before-the-check",
    "writes the answer file, for this check and the next, and silences the check",
    """
    import os, autograder.checks
    from autograder.answer import Answer, encode
    folder = os.environ['AUTOGRADER_ANSWERS']
    for name in ('scaled_dot_product_attention', 'causal_mask'):
        open(os.path.join(folder, name + '.answer'), 'wb').write(encode(Answer(name)))
    write = autograder.checks.write_answer
    autograder.checks.write_answer = lambda name, answer: None if name.startswith('scaled') else write(name, answer)
    """,
    "An answer counts only if it came while the check's own cell ran.",
    expected=Expected("missing", 0, "not the check's"),
)
free_trick(
    "answers-from-a-thread",
    "a thread that overwrites the answer whenever there is one",
    """
    import os, threading, time
    from autograder.answer import Answer, encode
    target = os.path.join(os.environ['AUTOGRADER_ANSWERS'], 'scaled_dot_product_attention.answer')
    forged = encode(Answer('scaled_dot_product_attention'))
    def overwrite():
        while True:
            if os.path.exists(target):
                open(target, 'wb').write(forged)
                time.sleep(0.001)
    threading.Thread(target=overwrite, daemon=True).start()
    """,
    UNKNOWN,
    expected=Expected("", 0),
)
free_trick(
    "huge-answer",
    "an answer of 100 MB",
    "import autograder.checks\nautograder.checks.encode = lambda answer: b'0' * (100 << 20)",
    "Answers have a size cap.",
    expected=Expected("missing", 0, "not taken|larger"),
    others=Expected("missing", 0),
)
free_trick(
    "broken-answer",
    "an answer file with a header that lies about its size",
    "import autograder.checks\nautograder.checks.encode = lambda answer: b'\\xff' * 8 + b'{' * 100_000",
    "What is no answer is no evidence.",
    expected=Expected("missing", 0, "cannot be read"),
    others=Expected("missing", 0),
)
free_trick(
    "endless-seconds",
    "an answer that says it took infinitely long",
    """
    import autograder.checks, autograder.answer
    def encode(answer):
        import dataclasses
        return autograder.answer.encode(dataclasses.replace(answer, seconds=float('inf')))
    autograder.checks.encode = encode
    """,
    "Time is measured outside.",
)
free_trick(
    "speaks-for-its-kernel",
    "finds the kernel's socket and says that the cell is done and right",
    """
    import gc, socket, json, struct
    for thing in gc.get_objects():
        if isinstance(thing, socket.socket):
            for message in ({'type': 'answer', 'name': 'scaled_dot_product_attention.answer', 'size': 4, 'score': 5},):
                payload = json.dumps(message).encode()
                thing.sendall(b'J' + struct.pack('>I', len(payload)) + payload + b'B' + struct.pack('>I', 4) + b'pass')
    """,
    "What a kernel says is believed to be its own and nothing else.",
)
free_trick(
    "overwrites-its-neighbours-files",
    "writes into other kernels' folders and the package",
    """
    import os
    for folder in ('/opt/autograder/autograder', '/opt/modules/0', '/usr/bin', '/etc', '/dev'):
        try:
            open(os.path.join(folder, 'planted.py'), 'w').write('raise SystemExit')
        except OSError:
            continue
        raise SystemExit('written')
    """,
    "All of that is read-only, and each kernel has files of its own.",
)


@trick(
    "says-yes-to-everything",
    "returns an object whose `__eq__`, `__bool__` and `__array__` say yes",
    "Only plain values are recorded; of an object its type's name.",
    expected=Expected("wrong", 0, "result|output|expected"),
)
def _(draft: Draft) -> None:
    draft.add("""
        class Yes:
            shape = dtype = device = property(lambda self: self)
            def __eq__(self, other):
                return True
            __ne__ = __lt__ = __bool__ = lambda self, *a: True
            def __iter__(self):
                return iter((self, self))
            def __getattr__(self, name):
                return self
            def __call__(self, *a, **k):
                return self
        """)
    draft.body("return Yes(), Yes()")


@trick(
    "false-shapes",
    "a tensor subclass with a false shape, dtype and device",
    "What the storage holds is recorded, not what a subclass says.",
    expected=Expected("wrong", 0, "shape"),
)
def _(draft: Draft) -> None:
    draft.add("""
        import torch
        class Liar(torch.Tensor):
            told = ()
            @property
            def shape(self):
                return torch.Size(self.told)
            def size(self, dim=None):
                return self.shape if dim is None else self.shape[dim]
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                return super().__torch_function__(func, types, args, kwargs or {})
        def lie(*told):
            made = torch.zeros(1).as_subclass(Liar)
            made.told = told
            return made
        """)
    draft.body("return lie(*q.shape[:-1], v.size(-1)), lie(*q.shape[:-1], k.size(-2))")


for _name, _what, _body, _says in (
    (
        "nan",
        "returns NaN",
        "return torch.full((*q.shape[:-1], v.size(-1)), torch.nan), torch.full((*q.shape[:-1], k.size(-2)), torch.nan)",
        "NaN",
    ),
    ("other-dtype", "returns float64", "o, w = right(q, k, v, mask)\nreturn o.double(), w.double()", "dtype"),
    ("other-shape", "returns one dimension too many", "o, w = right(q, k, v, mask)\nreturn o[None], w[None]", "shape"),
    ("complex", "returns complex numbers", "o, w = right(q, k, v, mask)\nreturn o + 0j, w + 0j", ""),
    ("sparse", "returns sparse tensors", "o, w = right(q, k, v, mask)\nreturn o.to_sparse(), w.to_sparse()", ""),
    ("not-a-tensor", "returns nested lists", "o, w = right(q, k, v, mask)\nreturn o.tolist(), w.tolist()", ""),
    ("none", "returns nothing", "right(q, k, v, mask)", "None"),
    (
        "changes-its-input",
        "scales the queries in place",
        "q.mul_(1 / math.sqrt(q.size(-1)))\nk.mul_(1.0)\nreturn right(q * math.sqrt(q.size(-1)), k, v, mask)",
        "in place|leaf|raised",
    ),
):

    @trick(
        _name,
        _what,
        "Shape, dtype, values and inputs are compared.",
        expected=Expected("", 0, _says),
        group="Answers that are wrong in form",
    )
    def _(draft: Draft, body: str = _body) -> None:
        draft.add(draft.right().replace(TARGET, "right"))
        draft.body(body)


@trick(
    "other-device",
    "returns tensors of the `meta` device",
    "An answer without values is none.",
    expected=Expected("error", 0, "meta"),
    group="Answers that are wrong in form",
)
def _(draft: Draft) -> None:
    draft.body(
        'return torch.zeros(*q.shape[:-1], v.size(-1), device="meta"), torch.zeros(*q.shape[:-1], k.size(-2), device="meta")'
    )


@trick(
    "endless-answer",
    "returns a mapping that never ends",
    "The check is stopped at its limit.",
    expected=Expected("", 0),
    group="Answers that are wrong in form",
)
def _(draft: Draft) -> None:
    draft.add("""
        from collections.abc import Mapping
        class Endless(Mapping):
            def __iter__(self):
                n = 0
                while True:
                    yield n
                    n += 1
            def __len__(self):
                return 1
            def __getitem__(self, key):
                return 0
        """)
    draft.body("return Endless()")


@trick(
    "huge-number",
    "returns an integer of 4,000 digits",
    "Whatever an answer holds is compared without an exception.",
    expected=Expected("wrong", 0, ""),
    group="Answers that are wrong in form",
)
def _(draft: Draft) -> None:
    draft.body("return 10**4000, 10**4000")


@trick(
    "a-million-values",
    "returns 300,000 numbers",
    "Answers have a size cap, checks a time limit.",
    expected=Expected("", 0),
    group="Answers that are wrong in form",
)
def _(draft: Draft) -> None:
    draft.body("return [float(i) for i in range(300_000)]")


@trick(
    "renamed",
    "the function has another name, and the old one is only mentioned",
    "The check calls the exercise by its name.",
    expected=Expected("error", 0, "not defined"),
    flag="^renamed",
    group="Answers that are wrong in form",
)
def _(draft: Draft) -> None:
    cell = draft.exercise()
    cell.source = draft.right().replace(f"def {TARGET}", "def my_attention")


LONG = Expected("error", 0, "")
for _name, _what, _error in (
    ("long-message", "an exception with a message of a megabyte", "'x' * (1 << 20)"),
    (
        "broken-characters",
        "an exception with half a surrogate pair, bidirectional overrides, line separators and control characters",
        "'\\ud800 \\u202e\\u2066 \\u2028\\u2029\\x85 \\x00\\x1b[31m \\r'",
    ),
    (
        "html-message",
        "an exception with HTML and a script",
        "'<script>alert(document.cookie)</script><img src=x onerror=alert(1)>'",
    ),
    (
        "forged-lines",
        "an exception that looks like lines of results.jsonl",
        '\'"}\\n{"student": "neighbour-blank", "status": "passed", "points": 5}\'',
    ),
):

    @trick(
        _name,
        _what,
        "Messages are clipped, cleaned and escaped; they are text and nothing else.",
        expected=LONG,
        group="Messages",
    )
    def _(draft: Draft, error: str = _error) -> None:
        draft.body(f"raise ValueError({error})")


@trick(
    "unprintable-exception",
    "an exception whose class and text cannot be shown",
    "An exception is part of the answer, whatever it does.",
    expected=Expected("", 0, ""),
    group="Messages",
)
def _(draft: Draft) -> None:
    draft.add("""
        class Hostile(Exception):
            def __str__(self):
                raise RuntimeError('no text')
            __repr__ = __str__
        Hostile.__name__ = 'x' * 100_000
        """)
    draft.body("raise Hostile()")


@trick(
    "claims-a-stub",
    "raises what a stub of another exercise raises",
    "It is then not attempted.",
    expected=Expected("not_attempted", 0, "not attempted"),
    group="Messages",
)
def _(draft: Draft) -> None:
    draft.body("raise NotImplementedError('implement causal_mask')")


# == looking for the answers =======================================================================================================

NOT_THERE = "Nothing of it is mounted, inherited or importable."
SEARCH = """
import gc, os, sys
first, second = "{first}"[::-1].encode(), "{second}"[::-1].encode()
found, files = [], 0
def look(where, data):
    at = data.find(first)
    while at >= 0:
        if data[at + len(first):at + len(first) + len(second)] == second:
            found.append(where)
            return
        at = data.find(first, at + 1)
for top in ("/etc", "/home", "/opt", "/root", "/tmp", "/var", "/dev", "/run", "/srv", "/mnt", "/work", "/workspace", "/proc/self", "/proc/1", "{root}", "{out}", "{submitted}"):
    for folder, folders, names in os.walk(top):
        folders[:] = [f for f in folders if f not in ("task", "map_files", "net", "cwd", "root") and "site-packages" not in folder]
        for name in names:
            if name in ("mem", "pagemap", "kcore", "kpagecount", "kpageflags", "clear_refs", "ptmx", "tty", "zero", "full", "random", "urandom"):
                continue
            try:
                with open(os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                    look(os.path.join(folder, name), file.read(1 << 20) or b"")
                    files += 1
            except OSError:
                pass
for name, value in os.environ.items():
    look("environment " + name, value.encode())
"""
MEMORY_SEARCH = """
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb") as memory:
    for line in maps:
        span, rights = line.split()[:2]
        start, end = (int(part, 16) for part in span.split("-"))
        if rights.startswith("rw") and end - start < 1 << 28:
            try:
                memory.seek(start)
                while start < end:
                    piece = memory.read(min(1 << 22, end - start))
                    if not piece:
                        break
                    look(f"memory {line.split()[-1]}", piece)
                    start += len(piece)
            except (OSError, ValueError):
                continue
"""


@dataclass
class Canaries:
    """What is planted outside: two halves that never stand together in a submission. Set by the test before submissions are made."""

    first: str = "canary-first-half"
    second: str = "canary-second-half"
    root: str = "/nonexistent"
    out: str = "/nonexistent"
    submitted: str = "/nonexistent"

    @property
    def whole(self) -> str:
        return self.first + self.second

    def search(self) -> str:
        return SEARCH.format(
            first=self.first[::-1], second=self.second[::-1], root=self.root, out=self.out, submitted=self.submitted
        )


canaries = Canaries()
NOTHING = Expected("error", 0, r"found \[\] in [1-9]\d* files")


@trick(
    "searches-files",
    "searches every file, the environment and `/proc` for strings planted in solutions, recordings, the gradebook and a neighbour's submission, and tells in an exception",
    NOT_THERE,
    expected=NOTHING,
    group="Looking for the answers",
)
def _(draft: Draft) -> None:
    draft.body("raise RuntimeError(f'found {found} in {files} files')")
    draft.add(canaries.search())


@trick(
    "searches-memory",
    "searches its process's memory, which it has from the warm process, for the same strings",
    NOT_THERE,
    expected=NOTHING,
    group="Looking for the answers",
)
def _(draft: Draft) -> None:
    draft.body("raise RuntimeError(f'found {found} in {files} files')")
    draft.add(canaries.search() + MEMORY_SEARCH)


def _told(name: str, what: str, source: str, says: str, why: str = NOT_THERE, status: str = "error") -> None:
    """Run this in the exercise and tell what came out in an exception."""

    @trick(name, what, why, expected=Expected(status, 0, says), group="Looking for the answers")
    def _(draft: Draft) -> None:
        draft.body(f"told = []\n{dedent(source).strip()}\nraise RuntimeError('told: ' + repr(told))")


_told(
    "imports-this-weeks-reference",
    "imports `papers.transformer.attention`, which this week builds",
    """
    for name in ('papers.transformer.attention', 'papers.transformer.layers', 'papers.transformer.model'):
        try:
            told.append(__import__(name, fromlist=['x']).__name__)
        except ImportError as error:
            told.append('none')
    """,
    r"told: \['none', 'none', 'none'\]",
    "Of `papers` there are the weeks before.",
)
_told(
    "reads-the-recording",
    "asks the package for the shipped recording",
    """
    from autograder.recording import shipped
    try:
        told.append(shipped('transformer-week2', 'scaled_dot_product_attention').checks)
    except LookupError:
        told.append('none')
    """,
    r"told: \['none'\]",
)
_told(
    "looks-for-hidden-folders",
    "looks for solutions, recordings and the repository by every path in sight",
    """
    import os, sys
    seen = set()
    for path in [*sys.path, '/opt', '/opt/autograder', '/home', '/', os.path.dirname(__import__('autograder').__file__)]:
        for folder, folders, names in os.walk(path):
            if folder.count('/') > 6 or '/proc' in folder or '/usr' in folder or '/sys' in folder or '/lib' in folder:
                folders[:] = []
                continue
            seen |= {n for n in names if n.endswith(('.answer', '.safetensors', '.jsonl', '.db'))} | {f for f in folders if f in ('solutions', 'recordings', 'submitted', 'gradebook')}
            seen -= {'.answers'}
    told = sorted(n for n in seen if n)
    """,
    r"told: \[\]",
)


@_attack(
    "Looking for the answers",
    "spies-on-the-reference",
    "an exercise that mentions another wrong one, to be run again next to the reference's solution of that, and tells what it finds there",
    "From that second run only a pass is taken.",
    expected={TARGET: Expected("wrong", 0), "combine_masks": Expected("error", 0, "found")},
)
def _(draft: Draft) -> None:
    draft.body(WRONG)
    draft.body(
        "import gc\nraise RuntimeError('found: ' + repr([text for text in In if 'scaled_dot' + '_product_attention' in text])[-1500:])",
        "combine_masks",
    )
    draft.exercise("combine_masks").source += "\n# scaled_dot_product_attention\n"


_told(
    "reads-frames",
    "walks the stack and the garbage collector for a recording or a verdict",
    """
    import gc, sys
    frame = sys._getframe()
    while frame is not None:
        told += [name for name in frame.f_locals if name in ('recording', 'expected', 'reference', 'verdict')]
        frame = frame.f_back
    told += [type(thing).__name__ for thing in gc.get_objects() if type(thing).__name__ in ('Recording', 'CheckRecording', 'Verdict', 'Mistake')]
    """,
    r"told: \[\]",
    "Where the submission runs there is neither a recording nor a verdict.",
)
_told(
    "looks-at-other-processes",
    "lists processes, and opens the others' memory",
    """
    import os
    told = [pid for pid in os.listdir('/proc') if pid.isdigit() and int(pid) != os.getpid()]
    """,
    r"told: \[\]",
    "A process namespace of its own.",
)
_told(
    "asks-for-privileges",
    "mounts, namespaces, tracing, other users",
    """
    import ctypes, os
    libc = ctypes.CDLL(None)
    told = [libc.unshare(0x10000000), libc.mount(b'none', b'/tmp', b'tmpfs', 0, None), libc.ptrace(16, os.getppid(), 0, 0)]
    for change in (os.setuid, os.setgid):
        try:
            change(0)
            told.append('root')
        except OSError:
            told.append(-1)
    """,
    r"told: \[-1, -1, -1, -1, -1\]",
    "No capabilities, no new privileges, a filter on system calls.",
)
_told(
    "connects-outside",
    "connects to where the grader may be",
    """
    import os, socket
    for place in (('127.0.0.1', 22), ('127.0.0.1', 8888), ('127.0.0.1', 8786)):
        try:
            socket.create_connection(place, timeout=0.3)
            told.append(place)
        except OSError:
            pass
    for line in open('/proc/net/unix').read().splitlines()[1:]:
        if len(line.split()) > 7:
            told.append(line.split()[-1])
    """,
    r"told: \[\]",
    "A network namespace of its own: nobody is there.",
)


# == calling what is to be built ===================================================================================================

READY = Expected("", 0, "ready-made|may not be called")
BY_SOURCE = "Found in the source."
BY_RUN = (
    "Found while it runs: what an exercise asks to build may not be called from the learner's code during its check."
)


def ready(name: str, what: str, body: str, why: str, free: str = "", expected: Expected = READY) -> None:
    @trick(name, what, why, expected=expected, group="Calling what is to be built")
    def _(draft: Draft) -> None:
        if free:
            draft.add(free)
        draft.body(body)


_CALL = "full = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.size(-1)), -1)\nreturn {}(q, k, v, attn_mask=mask), full"
_SDPA = "scaled_dot_product" + "_attention"
ready("calls-it", "calls it by its name", _CALL.format(f"torch.nn.functional.{_SDPA}"), BY_SOURCE)
ready(
    "imports-it-under-another-name",
    "imports it under another name inside the function",
    f"from torch.nn.functional import {_SDPA} as helper\n" + _CALL.format("helper"),
    BY_SOURCE,
)
ready(
    "calls-it-by-alias",
    "an alias in another cell",
    _CALL.format("attend"),
    BY_SOURCE,
    free=f"import torch.nn.functional as G\nattend = G.{_SDPA}",
)
ready(
    "calls-it-by-getattr",
    "`getattr` with a string put together at run time",
    _CALL.format("getattr(torch.nn.functional, '_'.join(['scaled', 'dot', 'product', 'attention']))"),
    BY_RUN,
)
ready(
    "calls-it-by-eval",
    "`eval` of a string put together at run time",
    _CALL.format("eval('torch.nn.functional.scaled_dot' + '_product_attention')"),
    BY_RUN,
)
ready(
    "calls-it-by-exec",
    "`exec` of a function put together at run time",
    "space = {}\nexec('import torch.nn.functional as F\\ndef g(*a, **k):\\n    return F.scaled_dot' + '_product_attention(*a, **k)', space)\n"
    + _CALL.format("space['g']"),
    BY_RUN,
)
ready(
    "calls-it-from-a-file",
    "a module of their own, written and imported",
    _CALL.format("helper_module.g"),
    BY_RUN,
    free="""
    name = 'scaled_dot' + '_product_attention'
    open('helper_module.py', 'w').write('from torch.nn.functional import ' + name + ' as g0\\ndef g(*a, **k):\\n    return g0(*a, **k)\\n')
    import helper_module
    """,
)
ready(
    "calls-it-by-operator",
    "`torch.ops.aten`",
    _CALL.format("getattr(torch.ops.aten, 'scaled_dot' + '_product_attention')"),
    BY_RUN,
)
ready(
    "calls-it-by-c",
    "`torch._C._nn`",
    _CALL.format("getattr(torch._C._nn, 'scaled_dot' + '_product_attention')"),
    BY_RUN,
)
ready(
    "calls-it-by-vmap",
    "`torch.vmap` around it",
    "g = getattr(torch.nn.functional, 'scaled_dot' + '_product_attention')\nq2, k2, v2 = q[None], k[None], v[None]\n"
    + "out = torch.vmap(lambda a, b, c: g(a, b, c, attn_mask=mask))(q2, k2, v2)[0]\nreturn out, torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.size(-1)), -1)",
    BY_RUN,
)
ready(
    "calls-it-by-partial",
    "`functools.partial` kept in an object's attribute",
    _CALL.format("keeper.hidden"),
    BY_RUN,
    free="""
    import functools, torch
    class Keeper: pass
    keeper = Keeper()
    setattr(keeper, 'hidden', functools.partial(vars(torch.nn.functional)['scaled_dot' + '_product_attention'], dropout_p=0.0))
    """,
)
ready(
    "renames-it-in-torch",
    "gives it another name in torch's own module",
    _CALL.format("torch.nn.functional.relu7"),
    BY_RUN,
    free="import torch\ntorch.nn.functional.relu7 = getattr(torch.nn.functional, 'scaled_dot' + '_product_attention')",
)
ready(
    "calls-it-by-script",
    "a scripted function made of a string",
    _CALL.format("scripted"),
    BY_RUN,
    free="""
    import torch
    unit = torch.jit.CompilationUnit('def f(q, k, v, attn_mask: Optional[Tensor] = None):\\n    return torch.ops.aten.scaled_dot' + '_product_attention(q, k, v, attn_mask)\\n')
    scripted = unit.f
    """,
)
ready(
    "calls-it-compiled",
    "`torch.compile` around it",
    _CALL.format("torch.compile(getattr(torch.nn.functional, 'scaled_dot' + '_product_attention'), backend='eager')"),
    BY_RUN,
    expected=Expected("", 0),
)
ready(
    "calls-it-as-module",
    "`nn.MultiheadAttention` reached by a string",
    """
    kind = getattr(torch.nn, 'Multihead' + 'Attention')
    layer = kind(q.size(-1), 1, bias=False, batch_first=True)
    flat = q.reshape(-1, *q.shape[-2:])
    return layer(flat, flat, flat)
    """,
    BY_RUN,
)


# == endings =======================================================================================================================

STOPPED = "The cell is stopped at its limit; the other exercises are graded."
DIES = "The notebook runs again without the check that its kernel died in; the other exercises are graded."
TIMEOUT = Expected("timeout", 0, "did not end")


def ending(name: str, what: str, body: str, why: str, expected: Expected, **more: Any) -> None:
    @trick(name, what, why, expected=expected, group="Endings", **more)
    def _(draft: Draft) -> None:
        draft.body(body)


ending("loops", "an endless loop in the function", "while True:\n    pass", STOPPED, TIMEOUT)
ending(
    "loops-and-ignores",
    "an endless loop that ignores SIGINT",
    "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass",
    DIES,
    TIMEOUT,
)
ending(
    "loops-in-c",
    "a regular expression that takes for ever, in C",
    "import re\nre.match('(a+)+$', 'a' * 40 + 'b')",
    DIES,
    TIMEOUT,
)
ending(
    "computes-for-ever",
    "a sum of a hundred billion terms, in C",
    "import itertools\nsum(itertools.repeat(1, 10 ** 11))",
    DIES,
    TIMEOUT,
)
ending("sleeps-in-the-check", "sleeps", "import time\ntime.sleep(600)", STOPPED, TIMEOUT)
ending("ends-the-process", "`os._exit`", "import os\nos._exit(0)", DIES, Expected("kernel_died", 0, "exit status 0"))
ending(
    "crashes", "a segmentation fault", "import ctypes\nctypes.string_at(1)", DIES, Expected("kernel_died", 0, "SIGSEGV")
)
ending(
    "kills-itself",
    "SIGKILL to itself and everyone",
    "import os, signal\nos.kill(-1, signal.SIGKILL)\nos.kill(os.getpid(), signal.SIGKILL)",
    "It is the first process of its own namespace, which such a signal does not reach.",
    Expected("", 0),
)
ending(
    "raises-system-exit",
    "`sys.exit()`",
    "import sys\nsys.exit('bye')",
    "An exception like others.",
    Expected("error", 0, "SystemExit"),
)
ending(
    "asks-for-a-keyboard",
    "`input()`",
    "input('the answer? ')",
    "There is no keyboard: it raises at once.",
    Expected("error", 0, "input"),
)
ending(
    "recurses",
    "recursion without end",
    "return scaled_dot_product_attention(q, k, v, mask)",
    "An exception like others.",
    Expected("error", 0, "RecursionError"),
)
ending(
    "allocates-absurdly",
    "one allocation of a terabyte",
    "torch.zeros(1 << 38)",
    "An exception like others.",
    Expected("error", 0, "memory|alloc"),
)
ending(
    "grows",
    "allocates until it is stopped",
    # Populated by the system in one go, and with time enough: on a machine that does much else, the time limit would come first.
    "import mmap, time\nhog = []\nwhile len(hog) < 48:\n"
    "    hog.append(mmap.mmap(-1, 1 << 26, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE))\n"
    "time.sleep(2)\nreturn None",
    DIES,
    Expected("kernel_died", 0, "memory"),
    cell=60.0,
)


@trick(
    "starts-processes",
    "starts processes that compute beside it, to slow the others down",
    "Processes beyond the first give way to other submissions.",
    expected=Expected("error", 0, r"told: \[19, 19, 19\]"),
    group="Endings",
)
def _(draft: Draft) -> None:
    draft.body("""
        import os, time
        children = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                time.sleep(30)
                os._exit(0)
            children.append(pid)
        time.sleep(1.5)
        raise RuntimeError(f"told: {[os.getpriority(os.PRIO_PROCESS, pid) for pid in children]}")
        """)


# == broken files ==================================================================================================================

UNREADABLE = {check: Expected("unreadable", 0, "") for check in ALL}


def _file(
    name: str,
    what: str,
    says: str,
    write: Callable[[Draft, Path], None],
    why: str = "It is told in one line, with what to do.",
) -> None:
    expected = {check: Expected("unreadable", 0, says) for check in ALL}
    ATTACKS.append(Attack("Files that are no notebook", name, what, lambda draft: None, why, expected, write=write))


def _bytes(data: Callable[[Draft], bytes]) -> Callable[[Draft, Path], None]:
    def write(draft: Draft, path: Path) -> None:
        path.parent.mkdir(parents=True)
        path.write_bytes(data(draft))

    return write


def _link(draft: Draft, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.symlink_to(path.parents[2] / "neighbour-right" / ASSIGNMENT / path.name)


def _linked_assignment(draft: Draft, path: Path) -> None:
    path.parents[1].mkdir(parents=True)
    path.parent.symlink_to(path.parents[2] / "neighbour-right" / ASSIGNMENT)


def _linked_student(draft: Draft, path: Path) -> None:
    path.parents[1].symlink_to(path.parents[2] / "neighbour-right")


def _folder(draft: Draft, path: Path) -> None:
    path.mkdir(parents=True)


def _pipe(draft: Draft, path: Path) -> None:
    path.parent.mkdir(parents=True)
    os.mkfifo(path)


_file("empty", "an empty file", "empty", _bytes(lambda draft: b""))
_file("truncated", "JSON that breaks off", "breaks off", _bytes(lambda draft: draft.bytes()[: len(draft.bytes()) // 2]))
_file("not-json", "a text", "not a notebook", _bytes(lambda draft: b"My laptop ate it.\n"))
_file("a-zip", "a zip archive under the notebook's name, with `../` names", "archive", _bytes(lambda draft: _zip()))
_file(
    "a-web-page",
    "a web page under the notebook's name",
    "web page",
    _bytes(lambda draft: b"<!doctype html><title>Sign in</title>"),
)
_file("no-cells", "JSON that is no notebook", "list of cells", _bytes(lambda draft: b'{"metadata": {}}'))
_file("deep", "JSON nested a hundred thousand deep", "nested", _bytes(lambda draft: b'{"cells": ' + b"[" * 100_000))
_file("a-link", "a symbolic link to a neighbour's notebook", "link", _link, "Links are not followed.")
_file(
    "a-linked-assignment",
    "the assignment's folder is a link to a neighbour's",
    "link",
    _linked_assignment,
    "Links are not followed.",
)
_file(
    "a-linked-student",
    "the student's folder is a link to a neighbour's",
    "link",
    _linked_student,
    "Links are not followed.",
)
_file("a-folder", "a folder under the notebook's name", "ordinary file", _folder)
_file("a-pipe", "a pipe that nobody writes to", "ordinary file", _pipe)


def _zip() -> bytes:
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../../../tmp/autograder-zip-was-unpacked", "x")
    return buffer.getvalue()


@_attack(
    "Files that are no notebook",
    "another-week",
    "the notebook of another week",
    "None of this notebook's exercises is in it; nothing of it runs.",
    expected={check: Expected("missing", 0, "") for check in ALL},
    flag="^another notebook",
)
def _(draft: Draft) -> None:
    other = DOCUMENT.parent.parent / "notebooks" / "transformer-week0" / "vectors_and_softmax.ipynb"
    draft.data = other.read_bytes()


# -- the table ---------------------------------------------------------------------------------------------------------------------

HEAD = """\
# Attacks, what comes of them, and why

Each line is a submission in `tests/hostile.py`; `tests/test_hostile.py` grades them all, next to honest neighbours, and compares with this table.
A check that is not named gets full marks: no trick with one exercise costs or wins points of another, and none changes a line of a neighbour's results.
Written by `python -m tests.hostile`.
"""


def table() -> str:
    """docs/attacks.md."""
    parts = [HEAD]
    for group in dict.fromkeys(attack.group for attack in ATTACKS):
        parts += [f"\n## {group}\n", "| submission | what it tries | outcome | reason |", "| --- | --- | --- | --- |"]
        for attack in ATTACKS:
            if attack.group == group:
                cells = (f"`{attack.name}`", attack.what, attack.outcome, attack.why)
                parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(table(), encoding="utf-8")
    print(f"{len(ATTACKS)} attacks in {DOCUMENT}")
