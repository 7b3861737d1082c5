"""A whole class of hostile, broken and disguised submissions, graded next to honest ones: no points won by tricks, none lost, nobody else's changed."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sysconfig
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("papermill")
import psutil
import torch

import autograder.grade
from autograder.answer import Answer, CaseRecord, Failure, Policy, Value, decode, encode
from autograder.build import read_all
from autograder.grade import GradingError, Limits, Report, grade
from autograder.judge import judge
from autograder.notebook import Notebook
from autograder.recording import CheckRecording, Recording
from autograder.sandbox import available
from autograder.watch import ForbiddenCall, watching
from tests import hostile
from tests.conftest import ROOT
from tests.hostile import ALL, ASSIGNMENT, ATTACKS, CELL_SECONDS, MEMORY, NOTEBOOK, TARGET, Attack, Draft

works, why_not = available()
needs_sandbox = pytest.mark.skipif(not works, reason=why_not)

SEED = 5_040_301
LIMITS = Limits(cell=CELL_SECONDS, submission=60, memory=MEMORY)
EARLIER, LATER = "transformer-week0", "transformer-week3"


# -- the class ---------------------------------------------------------------------------------------------------------------------


def _neighbours(notebook: Notebook, released: nbformat.NotebookNode) -> dict[str, Draft]:
    """Honest submissions, whose results nobody may change."""
    made = {
        name: Draft(notebook, released)
        for name in ("neighbour-right", "neighbour-blank", "neighbour-mistaken", "neighbour-error")
    }
    made["neighbour-right"].add(f"note = 'my own notes: {hostile.canaries.whole}'", before=None)
    made["neighbour-blank"].node = nbformat.from_dict(json.loads(nbformat.writes(released)))
    cell = made["neighbour-mistaken"].exercise()
    cell.source = re.sub(r" / math\.sqrt\([^\n]*?\)(?=\s|$)", "", cell.source, count=1)
    made["neighbour-error"].body("raise ValueError('not this shape')", "causal_mask")
    return made


def _write(draft: Draft, submitted: Path, student: str, write: Any = None) -> None:
    path = submitted / student / ASSIGNMENT / f"{NOTEBOOK}.ipynb"
    if write is not None:
        write(draft, path)
    else:
        path.parent.mkdir(parents=True)
        path.write_bytes(draft.bytes())


@dataclass
class Class:
    """The class as graded, twice: the honest ones alone, and all together."""

    folder: Path
    root: Path
    alone: Report
    together: Report
    lines: dict[tuple[str, str], dict[str, Any]]
    processes: set[int]

    def line(self, student: str, check: str) -> dict[str, Any]:
        return self.lines[student, check]


@pytest.fixture(scope="session")
def course_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The course's week before, this week's notebook and the week after, with canaries planted where no submission may look."""
    root = tmp_path_factory.mktemp("course") / "root"
    for assignment in (EARLIER, ASSIGNMENT, LATER):
        (root / "solutions" / assignment).mkdir(parents=True)
        for path in (ROOT / "solutions" / assignment).glob("*.py"):
            if assignment != ASSIGNMENT or path.stem == NOTEBOOK:
                shutil.copy(path, root / "solutions" / assignment)
    shutil.copytree(ROOT / "papers", root / "papers", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    source = root / "solutions" / ASSIGNMENT / f"{NOTEBOOK}.py"
    planted = hostile.Canaries("canary-" + secrets.token_hex(8), secrets.token_hex(8) + "-yranac")
    hostile.canaries.first, hostile.canaries.second = planted.first, planted.second
    text = source.read_text(encoding="utf-8")
    text = text.replace("### BEGIN SOLUTION\n", f"### BEGIN SOLUTION\n    # {planted.whole}\n", 1)
    source.write_text(text.replace('hints(\n    "', f'# {planted.whole}\nhints(\n    "', 1), encoding="utf-8")
    (root / "data" / "recordings" / ASSIGNMENT).mkdir(parents=True)
    (root / "data" / "recordings" / ASSIGNMENT / f"{NOTEBOOK}.json").write_text(json.dumps({"recorded": planted.whole}))
    return root


@pytest.fixture(scope="session")
def graded(course_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Class]:
    folder = tmp_path_factory.mktemp("class")
    notebook = next(item for item in read_all(course_root) if item.name == NOTEBOOK)
    released = nbformat.read(ROOT / "notebooks" / ASSIGNMENT / f"{NOTEBOOK}.ipynb", as_version=4)
    hostile.canaries.root, hostile.canaries.out, hostile.canaries.submitted = map(
        str, (course_root, folder / "together", folder / "all")
    )
    for submitted in ("honest", "all"):
        for student, draft in _neighbours(notebook, released).items():
            _write(draft, folder / submitted, student)
    for attack in ATTACKS:
        if not attack.apart:
            draft = Draft(notebook, released)
            attack.change(draft)
            _write(draft, folder / "all", attack.name, attack.write)
    before = {process.pid for process in psutil.process_iter()}
    stamps, known = autograder.grade._course_stamps, {}

    def once(root: Path, notebooks: list[Notebook]) -> dict[str, str]:
        """The course's stamps as they were first: whoever edits the package meanwhile makes nothing stale here."""
        found = stamps(root, notebooks)
        return known.setdefault(len(notebooks), found) if root == course_root else found

    with pytest.MonkeyPatch.context() as patch, ProcessPoolExecutor(2, mp_context=get_context("spawn")) as workers:
        patch.setattr(autograder.grade, "_course_stamps", once)
        yield _grade_both(folder, course_root, before, workers)  # the same warm processes for both


def _grade_both(folder: Path, course_root: Path, before: set[int], workers: Executor) -> Class:
    alone = grade(course_root, folder / "honest", folder / "alone", jobs=2, seed=SEED, limits=LIMITS, executor=workers)
    # The recordings are made once; a canary stands in the gradebook and beside it.
    shutil.copytree(folder / "alone" / "cache" / "recordings", folder / "together" / "cache" / "recordings")
    (folder / "together" / "grades-of-last-week.txt").write_text(hostile.canaries.whole)
    together = grade(
        course_root, folder / "all", folder / "together", jobs=2, seed=SEED, limits=LIMITS, executor=workers
    )
    lines = {(line["student"], line["check"]): line for line in together.results}
    # The warm processes of the workers live on; below them there may be nobody.
    ours = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    return Class(folder, course_root, alone, together, lines, _kernels(ours))


def _kernels(processes: list[psutil.Process]) -> set[int]:
    """Forks of a warm process among these. It is itself a fork of the one that bubblewrap started and that waits for its end."""

    def warm(process: psutil.Process | None) -> bool:
        words = _command(process)
        return bool(words) and "bwrap" not in words[0] and any(word.endswith("zygote.py") for word in words)

    return {
        process.pid
        for process in processes
        if warm(process) and (parent := process.parent()) and warm(parent) and warm(parent.parent())
    }


def _command(process: psutil.Process | None) -> list[str]:
    try:
        return list(process.cmdline()) if process is not None else []
    except psutil.Error:
        return []


def test_every_attack_has_a_name_of_its_own() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


def test_the_table_of_attacks_is_current() -> None:
    assert hostile.DOCUMENT.read_text(encoding="utf-8") == hostile.table(), "run `python -m tests.hostile`"


@needs_sandbox
@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if not attack.apart], ids=lambda attack: attack.name)
def test_an_attack_comes_to_what_the_table_says(graded: Class, attack: Attack) -> None:
    _compare(attack, {check: graded.line(attack.name, check) for check in ALL}, graded.folder / "together")


def _compare(attack: Attack, lines: dict[str, dict[str, Any]], out: Path) -> None:
    for check, line in lines.items():
        expected = attack.expects(check)
        assert line["points"] == expected.points * line["max_points"], line
        assert expected.status in ("", line["status"]), line
        assert re.search(expected.says, line["message"]), line
        if attack.matched_by:
            assert line["matched_by"] == attack.matched_by, line
    if attack.flag:
        page = (out / "feedback" / attack.name / ASSIGNMENT / f"{NOTEBOOK}.html").read_text(encoding="utf-8")
        assert attack.flag.lstrip("^").split(":")[0] in page


@needs_sandbox
def test_the_neighbours_results_are_the_same_bytes_as_without_the_attackers(graded: Class) -> None:
    assert len(_of_neighbours(graded.folder / "alone")) == 4 * len(ALL)
    assert _of_neighbours(graded.folder / "together") == _of_neighbours(graded.folder / "alone")


def _of_neighbours(out: Path) -> list[bytes]:
    return [line for line in (out / "results.jsonl").read_bytes().split(b"\n") if b'"student": "neighbour-' in line]


@needs_sandbox
def test_the_neighbours_feedback_is_the_same_bytes_as_without_the_attackers(graded: Class) -> None:
    pages = sorted((graded.folder / "alone" / "feedback").glob("neighbour-*/*/*.html"))
    assert len(pages) == 4
    for page in pages:
        other = graded.folder / "together" / "feedback" / page.relative_to(graded.folder / "alone" / "feedback")
        assert other.read_bytes() == page.read_bytes()


@needs_sandbox
def test_honest_neighbours_get_what_they_earned(graded: Class) -> None:
    assert {graded.line("neighbour-right", check)["status"] for check in ALL} == {"passed"}
    assert {graded.line("neighbour-blank", check)["status"] for check in ALL} == {"not_attempted"}
    mistaken = graded.line("neighbour-mistaken", TARGET)
    assert (mistaken["status"], mistaken["points"]) == ("wrong", 0) and mistaken["misconception"]
    assert graded.line("neighbour-error", "causal_mask")["status"] == "error"
    assert {graded.line("neighbour-error", check)["status"] for check in ALL if check != "causal_mask"} == {"passed"}


@needs_sandbox
def test_every_check_of_every_student_has_one_line_of_json(graded: Class) -> None:
    text = (graded.folder / "together" / "results.jsonl").read_text(encoding="utf-8")
    parsed = [json.loads(line) for line in text.splitlines()]
    students = {path.name for path in (graded.folder / "all").iterdir()}
    assert sorted((line["student"], line["check"]) for line in parsed) == sorted(
        (s, check) for s in students for check in ALL
    )
    assert all(len(line["message"]) < 9000 for line in parsed)


@needs_sandbox
def test_no_planted_string_is_in_anything_that_a_learner_is_shown(graded: Class) -> None:
    for name in ("results.jsonl", "feedback", "grades.csv"):
        place = graded.folder / "together" / name
        for path in place.rglob("*") if place.is_dir() else [place]:
            if path.is_file() and "neighbour-right" not in path.parts:  # whose own note it is
                assert hostile.canaries.whole not in path.read_text(encoding="utf-8"), path


@needs_sandbox
def test_nothing_that_a_submission_started_is_left(graded: Class) -> None:
    assert not graded.processes
    for mark in ("autograder-pickle-was-loaded", "autograder-zip-was-unpacked"):
        assert not Path("/tmp", mark).exists()


@needs_sandbox
def test_graded_again_everything_is_known_and_the_table_is_the_same_bytes(graded: Class) -> None:
    before = (graded.folder / "together" / "results.jsonl").read_bytes()
    report = grade(graded.root, graded.folder / "all", graded.folder / "together", jobs=2, limits=LIMITS)
    assert report.ran == 0
    assert (graded.folder / "together" / "results.jsonl").read_bytes() == before


@needs_sandbox
@pytest.mark.slow
@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if attack.apart], ids=lambda attack: attack.name)
def test_an_attack_in_a_class_of_its_own_comes_to_what_the_table_says(
    graded: Class, attack: Attack, tmp_path: Path
) -> None:
    notebook = next(item for item in read_all(graded.root) if item.name == NOTEBOOK)
    released = nbformat.read(ROOT / "notebooks" / ASSIGNMENT / f"{NOTEBOOK}.ipynb", as_version=4)
    submitted, out = tmp_path / "submitted", tmp_path / "out"
    draft = Draft(notebook, released)
    attack.change(draft)
    for student, each in {attack.name: draft, **_neighbours(notebook, released)}.items():
        _write(each, submitted, student)
    shutil.copytree(graded.folder / "alone" / "cache" / "recordings", out / "cache" / "recordings")
    limits = replace(LIMITS, cell=attack.cell, submission=attack.cell + LIMITS.submission)
    report = grade(graded.root, submitted, out, jobs=2, seed=SEED, limits=limits)
    _compare(attack, {line["check"]: line for line in report.results if line["student"] == attack.name}, out)
    assert _of_neighbours(out) == _of_neighbours(graded.folder / "alone")


# -- what the grader does with what it is handed -----------------------------------------------------------------------------------


def test_without_a_sandbox_nothing_is_graded_unless_told_so(
    course_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import autograder.sandbox

    monkeypatch.setattr(autograder.sandbox, "available", lambda: (False, "bubblewrap is not installed"))
    with pytest.raises(GradingError, match="--unsafe"):
        grade(course_root, tmp_path, tmp_path / "out")


def test_a_folder_whose_name_is_not_utf_8_is_a_student_like_others(course_root: Path, tmp_path: Path) -> None:
    from autograder.grade import _written, collect

    name = os.fsdecode(b"stud\xffent")
    folder = tmp_path / name / ASSIGNMENT
    folder.mkdir(parents=True)
    (folder / f"{NOTEBOOK}.ipynb").write_text("{}")
    notebooks = [item for item in read_all(course_root) if item.name == NOTEBOOK]
    (submission,) = collect(tmp_path, notebooks)
    json.dumps(_written(submission.student), ensure_ascii=False).encode()


def test_a_file_that_cannot_be_read_costs_only_its_owner(tmp_path: Path) -> None:
    from autograder.grade import _file_hash

    class Closed(type(tmp_path)):  # type: ignore[misc]
        def open(self, *arguments: Any, **more: Any) -> Any:
            raise PermissionError("no")

    (tmp_path / "closed.ipynb").write_text("{}")
    path = Closed(tmp_path / "closed.ipynb")
    assert _file_hash(path).startswith("no file")


def test_a_check_brings_its_own_imports_and_touches_nobody_elses_names() -> None:
    from autograder.grade import _with_own_imports

    source = 'before = 1\n@decorate\ndef _(case):\n    """Why."""\n    def inner():\n        return math.sqrt(F)\n    return inner()\n'
    names: dict[str, Any] = {"math": "gone", "F": 9, "decorate": lambda function: function}
    exec(
        _with_own_imports(source, {"math": "import math", "F": "from math import e as F", "torch": "import torch"}),
        names,
    )
    assert names["_"](None) == pytest.approx(1.6487, abs=1e-4)
    assert names["math"] == "gone" and names["F"] == 9
    assert "import torch" not in _with_own_imports(source, {"torch": "import torch"})


def test_every_check_of_the_course_compiles_with_its_own_imports() -> None:
    from autograder.grade import release_cells

    for notebook in read_all(ROOT):
        for cell in release_cells(notebook):
            if cell.role == "check":
                compile(cell.graded_source, cell.name or "", "exec")


@pytest.mark.parametrize("path", sorted((ROOT / "data" / "recordings").glob("*/*.json")), ids=lambda path: path.stem)
def test_no_check_rests_on_bars_alone_which_a_forged_number_would_clear(path: Path) -> None:
    for name, recording in Recording.load(path.with_suffix("")).checks.items():
        core = [case for case in recording.reference.cases if case.part is None]
        assert any(case.policy.at_least is None and case.policy.at_most is None for case in core), name


def test_cells_that_reach_for_the_machinery_are_remarked_on_and_others_are_not() -> None:
    from autograder.grade import _curious
    from autograder.matching import FreeCell, Match

    def remarks(*sources: str) -> list[str]:
        return list(_curious(Match({}, [FreeCell(source, 0, number) for number, source in enumerate(sources, 1)], [])))

    assert not remarks(
        "import torch\nx = torch.ones(3)",
        "from autograder import hint\nhint('softmax')",
        "# a score",
        "import sys\nsys.path",
    )
    (remark,) = remarks("x = 1", "import autograder.judge\nautograder.judge.judge = None")
    assert remark.startswith("machinery: cell 2 mentions autograder.judge")


@pytest.mark.parametrize(
    "text",
    ["\ud800", "a\u2028b", "\u202eabc", "x" * 1_000_000, "\x00\x1b[31m", "“√d_k” is fine\n\tas it is"],
    ids=range(6),
)
def test_a_message_can_be_written_and_is_one_line_of_json(text: str) -> None:
    from autograder.grade import MOST_MESSAGE, _printable

    shown = _printable(text)
    assert len(shown) < MOST_MESSAGE + 100
    assert len(json.dumps(shown, ensure_ascii=False).encode().decode().splitlines()) == 1
    assert "“√d_k”" not in text or shown == text


_REFERENCE = Answer(
    "f",
    (
        CaseRecord("tensor", {"": Value("tensor", torch.tensor([1.0, 2.0]))}),
        CaseRecord("number", {"": Value("number", 0.5)}),
        CaseRecord("whole number", {"": Value("number", 3)}),
        CaseRecord("metric", {"": Value("number", 0.99)}, policy=Policy(at_least=0.9)),
        CaseRecord("two", {"0": Value("tensor", torch.tensor([True])), "1": Value("none")}, labels=("a", "b")),
        CaseRecord("any", {"": Value("tensor", torch.ones(2, 2))}, policy=Policy(any_dtype=True)),
    ),
)
_RECORDING = CheckRecording("f", 3, _REFERENCE)
_DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int64, torch.bool, torch.uint8, torch.complex64,
           torch.float8_e4m3fn, torch.uint16]  # fmt: skip
_tensors = st.builds(
    lambda dtype, shape: torch.zeros(shape, dtype=torch.float32).to(dtype),
    st.sampled_from(_DTYPES),
    st.lists(st.integers(0, 3), max_size=3),
)
_values = st.one_of(
    st.builds(lambda t, kind: Value(kind, t), _tensors, st.sampled_from(["tensor", "ndarray"])),
    st.builds(lambda n: Value("number", n), st.one_of(st.integers(-(10**400), 10**400), st.floats())),
    st.builds(lambda b: Value("boolean", b), st.booleans()),
    st.builds(lambda s: Value("string", s), st.text(max_size=50)),
    st.builds(lambda s: Value("other", s), st.text(max_size=50)),
    st.just(Value("none")),
)
_paths = st.one_of(st.sampled_from(["", "0", "1"]), st.text(max_size=5))
_records = st.builds(
    CaseRecord,
    name=st.one_of(st.sampled_from([case.name for case in _REFERENCE.cases]), st.text(max_size=5)),
    values=st.dictionaries(_paths, _values, max_size=3),
    part=st.one_of(st.none(), st.text(max_size=3)),
    modified=st.lists(st.text(max_size=3), max_size=2).map(tuple),
    error=st.one_of(st.none(), st.builds(Failure, st.text(max_size=5), st.text(max_size=5))),
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_records, max_size=8))
def test_any_answer_is_judged_without_an_exception(cases: list[CaseRecord]) -> None:
    verdict = judge(Answer("f", tuple(cases)), _RECORDING)
    assert 0 <= verdict.points <= 3
    if verdict.points:
        assert all(any(found.name == case.name for found in cases) for case in _REFERENCE.cases)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_bytes_of_an_answer_that_were_changed_are_read_or_refused(data: st.DataObject) -> None:
    from autograder.answer import UnreadableAnswer

    raw = bytearray(encode(_REFERENCE))
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        answer = decode(bytes(raw))
    except UnreadableAnswer:
        return
    judge(answer, _RECORDING)


# -- the second line against forbidden calls ---------------------------------------------------------------------------------------

FORBID = ("torch.nn.functional.scaled_dot_product_attention", "torch.nn.MultiheadAttention", "torch.Tensor.softmax")
CHECK = "<the check's cell>"


def _run(source: str, filename: str = "<a learner's cell>", **names: Any) -> None:
    q = torch.randn(2, 3, 4)
    with watching(FORBID, CHECK):
        exec(compile(source, filename, "exec"), {"torch": torch, "q": q, **names})


@pytest.mark.parametrize(
    "source",
    [
        "torch.nn.functional.scaled_dot_product_attention(q, q, q)",
        "torch.ops.aten.scaled_dot_product_attention(q, q, q)",
        "torch.ops.aten._scaled_dot_product_attention_math(q, q, q)",
        "torch._C._nn.scaled_dot_product_attention(q, q, q)",
        "torch.vmap(lambda x: torch.nn.functional.scaled_dot_product_attention(x, x, x))(q)",
        "torch.func.grad(lambda x: torch.nn.functional.scaled_dot_product_attention(x, x, x).sum())(q)",
        "torch.utils.checkpoint.checkpoint(torch.nn.functional.scaled_dot_product_attention, q, q, q, use_reentrant=False)",
        "torch.nn.MultiheadAttention(4, 1)(q, q, q)",
        "torch.nn.Sequential(torch.nn.Identity())(torch.Tensor.softmax(q, -1))",
        "getattr(q, 'soft' + 'max')(-1)",
        "exec('torch.nn.functional.scaled_dot_product_attention(q, q, q)')",
    ],
)
def test_a_forbidden_call_is_seen_however_it_is_reached(source: str) -> None:
    with pytest.raises(ForbiddenCall):
        _run(source)


@pytest.mark.parametrize(
    "source",
    [
        "torch.softmax(q, -1)",
        "torch.nn.TransformerEncoderLayer(4, 1, 8, batch_first=True)(q)",  # not forbidden here, and made of what is
        "torch.nn.Softmax(-1)(q)",
        "torch.nn.functional.softmax(q, -1) @ q.transpose(1, 2)",
        "torch.nn.Linear(4, 4)(q).relu().sum().backward()",
        "isinstance(q, torch.nn.MultiheadAttention)",
        "torch.nn.MultiheadAttention(4, 1)",
    ],
)
def test_nothing_else_is_accused(source: str) -> None:
    _run(source)


def test_a_check_may_call_what_the_exercise_may_not() -> None:
    _run("torch.nn.MultiheadAttention(4, 1)(q, q, q)\ntorch.nn.functional.scaled_dot_product_attention(q, q, q)", CHECK)


def test_a_library_may_call_what_the_exercise_may_not() -> None:
    library = str(Path(sysconfig.get_path("purelib"), "some_library.py"))
    names: dict[str, Any] = {"torch": torch}
    exec(
        compile(
            "def attend(x):\n    return torch.nn.functional.scaled_dot_product_attention(x, x, x)", library, "exec"
        ),
        names,
    )
    _run("attend(q)", attend=names["attend"])


def test_watching_leaves_torch_as_it_was() -> None:
    call = torch._C.ScriptFunction.__call__
    with pytest.raises(ZeroDivisionError):
        _run("1 / 0")
    q = torch.randn(2, 3, 4)
    assert torch._C.ScriptFunction.__call__ is call
    torch.nn.MultiheadAttention(4, 1)(q, q, q)
    exec(
        compile("torch.nn.functional.scaled_dot_product_attention(q, q, q)", "<cell>", "exec"), {"torch": torch, "q": q}
    )
