"""Grading a class: the sample class's table, resuming, copies, missing files, one bad submission among good ones."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

import autograder
from autograder import sample_class
from autograder.answer import decode, encode
from autograder.checks import capturing
from autograder.engine import Session, ZygoteDied
from autograder.grade import RESULT_FIELDS, GradingError, Limits, collect, grade
from autograder.recording import CheckRecording, Recording
from autograder.sandbox import available
from autograder.verdict import STATUSES
from tests.conftest import ROOT
from tests.test_build import NOTEBOOKS

pytestmark = pytest.mark.skipif(not available()[0], reason=f"no sandbox: {available()[1]}")
DEFAULT = Limits()
WEEK2 = [notebook for notebook in NOTEBOOKS if notebook.assignment == "transformer-week2"]


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, list[sample_class.Expected]]]:
    """The sample class, graded once: (submissions, grading folder, what has to come out)."""
    folder = tmp_path_factory.mktemp("class")
    expected = sample_class.make(ROOT, folder / "submitted")
    grade(ROOT, folder / "submitted", folder / "grading", jobs=2, seed=11, limits=Limits(cell=6.0))
    yield folder / "submitted", folder / "grading", expected


def lines(grading: Path) -> list[dict]:
    return [json.loads(line) for line in (grading / "results.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_every_row_of_the_sample_class_is_right(graded) -> None:
    _, grading, expected = graded
    assert sample_class.compare(expected, grading / "results.jsonl") == []
    assert {"passed", "not_attempted", "wrong", "error", "timeout", "kernel_died", "unreadable"} <= {
        item.status for item in expected
    }


@pytest.mark.slow
def test_results_have_their_fields_in_order_and_sum_up(graded) -> None:
    _, grading, _ = graded
    for line in lines(grading):
        assert tuple(line) == RESULT_FIELDS
        assert line["status"] in STATUSES and 0 <= line["points"] <= line["max_points"]
        assert (line["points"] == line["max_points"]) == (line["status"] == "passed")
    total = dict.fromkeys((line["student"] for line in lines(grading)), 0)
    for line in lines(grading):
        total[line["student"]] += line["points"]
    best = sum(cell.points for notebook in WEEK2 for cell in notebook.checks.values())
    assert total["perfect"] == best and total["blank"] == 0 and total["not-a-notebook"] == 0
    assert all(
        0 < points < best for student, points in total.items() if student not in ("perfect", "blank", "not-a-notebook")
    )
    rows = {row["student"]: row for row in csv.DictReader((grading / "grades.csv").read_text().splitlines())}
    assert {student: float(row["points"]) for student, row in rows.items()} == total


@pytest.mark.slow
def test_a_message_says_what_happened(graded) -> None:
    _, grading, _ = graded
    by = {(line["student"], line["check"]): line for line in lines(grading)}
    name = "scaled_dot_product_attention"
    assert "my_version" in by["renamed-the-function", name]["message"]
    assert "this shape is not supported" in by["raises-an-error", name]["message"]
    assert "loop that never ends" in by["loops-for-ever", name]["message"]
    assert "exit" in by["calls-exit", name]["message"]


@pytest.mark.slow
def test_no_message_or_page_shows_a_line_of_a_solution(graded) -> None:
    from autograder.audit import solution_lines

    _, grading, _ = graded
    secret = {
        line.split("  #")[0].strip()
        for notebook in WEEK2
        for cell in notebook.exercises.values()
        for line in solution_lines(cell.source)
    }
    secret = {line for line in secret if len(line) > 30 and not line.startswith("#")}
    blank = "\n".join(
        (grading / "feedback" / "blank" / "transformer-week2" / f"{notebook.name}.html").read_text()
        for notebook in WEEK2
    )
    text = "\n".join(line["message"] for line in lines(grading)) + blank
    assert secret and not {line for line in secret if line in text}


@pytest.mark.slow
def test_grading_again_gives_the_same_table_without_running_anything(graded) -> None:
    submitted, grading, _ = graded
    before = (grading / "results.jsonl").read_bytes()
    report = grade(ROOT, submitted, grading, jobs=1, limits=Limits(cell=6.0))  # the seed kept in the folder
    assert report.ran == 0 and report.kept > 0 and report.copies > 0
    assert (grading / "results.jsonl").read_bytes() == before


@pytest.mark.slow
def test_a_run_that_lost_half_its_results_goes_on_where_it_was(graded, tmp_path: Path) -> None:
    submitted, grading, _ = graded
    copy = tmp_path / "grading"
    shutil.copytree(grading, copy)
    stored = sorted((copy / "cache" / "graded").iterdir())
    for path in stored[::6]:
        path.unlink()
    stored[1].write_text("{half a li")
    for name in ("results.jsonl", "grades.csv"):
        (copy / name).unlink()
    report = grade(ROOT, submitted, copy, jobs=2, limits=Limits(cell=6.0))
    assert report.ran == len(stored[::6]) + 1
    assert (copy / "results.jsonl").read_bytes() == (grading / "results.jsonl").read_bytes()


@pytest.mark.slow
def test_the_seed_and_the_references_answers_are_for_the_graders_eyes_alone(graded) -> None:
    _, grading, _ = graded
    assert stat.S_IMODE((grading / "seed").stat().st_mode) == 0o600
    assert stat.S_IMODE((grading / "cache").stat().st_mode) == 0o700


@pytest.mark.slow
def test_the_score_is_the_same_with_and_without_the_notebooks_own_pictures(
    graded, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autograder import grade as grader

    submitted, grading, _ = graded
    pictures = 0
    for notebook in WEEK2:
        [recording] = (grading / "cache" / "recordings").glob(f"{notebook.assignment}--{notebook.name}--*.json")
        course = grader._course(str(ROOT), notebook.key)
        every = [replace(cell, role="plain") if cell.role == "picture" else cell for cell in course[1]]
        pictures += sum(cell.role == "picture" for cell in course[1])
        for student in ("perfect", "blank", "merge-heads--no-transpose", "combine-masks--or-instead-of-and"):
            path = submitted / student / notebook.assignment / f"{notebook.name}.ipynb"
            job = grader.Job(str(path), str(ROOT), notebook.key, 11, str(recording.with_suffix("")), Limits(), False)
            without = grader.grade_one(job)
            monkeypatch.setitem(grader._courses, (str(ROOT), notebook.key), (course[0], every, course[2]))
            with_pictures = grader.grade_one(job)
            monkeypatch.undo()
            assert len(with_pictures.cells) > len(without.cells)
            assert timeless(with_pictures.checks) == timeless(without.checks)
    assert pictures > 5
    grader._close_worker()


@pytest.mark.slow
def test_ordinary_kernels_give_the_same_results_as_forked_ones(graded, tmp_path: Path) -> None:
    submitted, grading, _ = graded
    students = ("calls-exit", "kernel-dies", "scaled-dot-product-attention--no-scaling")
    for student in students:
        shutil.copytree(submitted / student, tmp_path / "submitted" / student)
    shutil.copytree(grading / "cache" / "recordings", tmp_path / "grading" / "cache" / "recordings")
    report = grade(ROOT, tmp_path / "submitted", tmp_path / "grading", seed=11, unsafe=True, ordinary=True)
    assert report.ran == len(students) + 1 and report.cpu_seconds > 0
    before = [line for line in lines(grading) if line["student"] in students]
    assert timeless(report.results) == timeless(before)


def test_ordinary_kernels_ask_for_unsafe_since_no_sandbox_is_around_them(tmp_path: Path) -> None:
    with pytest.raises(GradingError, match="--unsafe"):
        grade(ROOT, tmp_path, tmp_path / "out", ordinary=True)


def timeless(rows: list[dict]) -> list[dict]:
    """Result lines without the clock: a loaded machine may need a second more."""
    return [{**row, "seconds": 0} for row in rows]


def test_a_result_is_kept_until_the_submission_its_checks_or_the_environment_change(
    course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autograder import grade as grader
    from autograder.build import read_all

    def keys(seed: int = 1, limits: Limits = DEFAULT, ordinary: bool = False) -> dict[str, str]:
        notebooks = read_all(course)
        plan = grader._plan(
            course, collect(tmp_path, notebooks), notebooks, seed, {notebooks[0].key: Path("r")}, limits, True, ordinary
        )
        return {item.submission.student: item.key for item in plan}

    for student, text in (("ada", "{}"), ("bea", "{}"), ("eve", "[]")):
        (tmp_path / student / "small-week0").mkdir(parents=True)
        (tmp_path / student / "small-week0" / "doubling.ipynb").write_text(text)
    before = keys()
    assert before["ada"] == before["bea"] != before["eve"] and keys() == before
    (tmp_path / "eve" / "small-week0" / "doubling.ipynb").write_text("[ ]")
    assert keys()["eve"] != before["eve"] and keys()["ada"] == before["ada"]
    changed = [keys(seed=2), keys(limits=Limits(cell=1.0)), keys(ordinary=True)]
    source = course / "solutions" / "small-week0" / "doubling.py"
    source.write_text(source.read_text().replace("case.normal(3, 4)", "case.normal(3, 5)"))
    changed.append(keys())
    (course / "papers" / "more.py").write_text("x = 1\n")
    changed.append(keys())
    monkeypatch.setattr(grader, "_environment_hash", lambda: "another torch")
    changed.append(keys())
    assert len({before["ada"], *(found["ada"] for found in changed)}) == 1 + len(changed)


def test_the_references_answers_are_made_once_for_each_content_and_seed(
    course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autograder import grade as grader
    from autograder.build import read_all
    from autograder.recording import Recording

    made = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        made.append(command[5])
        Recording("small-week0", "doubling", {}).save(Path(command[6]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(grader.subprocess, "run", run)

    def ask(seed: int) -> Path:
        return grader._make_recordings(course, read_all(course), seed, tmp_path, 1)["small-week0/doubling"]

    first = ask(1)
    assert ask(1) == first and made == ["1"]
    assert ask(2) != first and made == ["1", "2"]
    source = course / "solutions" / "small-week0" / "doubling.py"
    source.write_text(source.read_text().replace("return secret_name * x", "return x * secret_name"))
    assert ask(1) != first and made == ["1", "2", "1"]


def test_a_recording_that_ends_without_a_word_says_how(
    course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autograder import grade as grader
    from autograder.build import read_all

    killed = subprocess.CompletedProcess([], -signal.SIGKILL, "", "")
    monkeypatch.setattr(grader.subprocess, "run", lambda *_, **__: killed)
    with pytest.raises(grader.GradingError, match=r"small-week0/doubling gives no recording .*SIGKILL"):
        grader._make_recordings(course, read_all(course), 1, tmp_path, 1)


def test_a_seed_on_which_the_reference_fails_grades_nobody(course: Path, tmp_path: Path) -> None:
    from autograder import grade as grader
    from autograder.build import read_all

    source = course / "solutions" / "small-week0" / "doubling.py"
    bar = 'case.record("luck", float(case.uniform()), at_least=0.5)'  # 0.28 on seed 3, 0.78 on seed 4
    text = source.read_text()
    source.write_text(
        text.replace("    module = case.initialise(Affine(3))", f"    {bar}\n    module = case.initialise(Affine(3))")
    )

    def ask(seed: int) -> Path:
        return grader._make_recordings(course, read_all(course), seed, tmp_path, 1)["small-week0/doubling"]

    with pytest.raises(
        grader.GradingError, match=r"does not pass its own check 'Affine' \(another seed may do\): .*luck"
    ):
        ask(3)
    assert ask(4).with_suffix(".json").is_file()


def die_once(job: Grudge) -> int:
    """Stands for grading: the first who comes to a certain job is killed, as by a system short of memory."""
    if job.kills and not job.scene.exists():
        job.scene.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return job.number


@dataclass(frozen=True)
class Grudge:
    notebook: str
    number: int
    kills: bool
    scene: Path


def test_a_local_process_that_is_killed_costs_nobody_a_grade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autograder import grade as grader

    monkeypatch.setattr(grader, "grade_one", die_once)
    todo = {f"{n:02}": Grudge("ab"[n % 2], n, n in (0, 5), tmp_path / f"scene-{n}") for n in range(12)}
    assert dict(grader._graded_here(todo, 2)) == {key: job.number for key, job in todo.items()}


def test_two_runs_draw_two_secret_seeds(tmp_path: Path) -> None:
    from autograder.grade import _kept_seed

    one, two = _kept_seed(tmp_path, None), _kept_seed(tmp_path, None)
    assert one == two
    (tmp_path / "other").mkdir()
    assert _kept_seed(tmp_path / "other", None) != one


def test_a_copys_name_is_taken_where_the_notebook_itself_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "ada" / "transformer-week2"
    folder.mkdir(parents=True)
    (folder / "Copy of scaled_dot_product_attention.ipynb").write_text("{}")
    (folder / "multi_head_attention (1).ipynb").write_text("{}")
    (folder / "notes.ipynb").write_text("{}")
    found = {item.notebook: item for item in collect(tmp_path, WEEK2)}
    assert found["scaled_dot_product_attention"].path.name.startswith("Copy of")
    assert (
        found["multi_head_attention"].path.name == "multi_head_attention (1).ipynb"
        and found["multi_head_attention"].flags
    )
    (folder / "multi_head_attention (1).ipynb").unlink()
    assert {item.notebook: item.path for item in collect(tmp_path, WEEK2)}["multi_head_attention"] is None


@pytest.mark.parametrize("make", ["nothing", "empty", "a file"])
def test_where_there_is_nothing_to_grade_one_line_says_what_is_expected(tmp_path: Path, make: str) -> None:
    path = tmp_path / "submitted"
    if make == "empty":
        path.mkdir()
    elif make == "a file":
        path.write_text("")
    with pytest.raises(GradingError, match=r"<student>/<assignment>/<notebook>\.ipynb") as error:
        collect(path, WEEK2)
    assert "\n" not in str(error.value)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autograder.cli", *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("grade", "no-such-folder"), "is no folder"),
        (("grade", "tests", "--assignment", "no-such-week"), "there is no assignment 'no-such-week'"),
        (("build", "no-such-week"), "there is no assignment"),
        (("audit", "no-such-week"), "there is no assignment"),
        (("run", "no-such-week"), "there is no assignment"),
        (("progress", "no-such-folder"), "is no folder"),
        (("grade", "tests", "--scheduler", "tcp://127.0.0.1:1"), "no scheduler answers"),
    ],
)
def test_bad_usage_exits_2_with_one_line(arguments: tuple[str, ...], says: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2 and says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_progress_reads_a_folder_of_notebooks() -> None:
    done = command("progress", "notebooks", "--json")
    rows = json.loads(done.stdout)
    assert {row["notebook"] for row in rows} == {notebook.name for notebook in NOTEBOOKS}
    assert all(row["passed"] == 0 and row["next"] for row in rows)


# -- what is run, and where ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Waiting:
    notebook: str


def test_a_worker_that_is_done_takes_what_its_warm_process_serves_and_else_only_what_is_worth_a_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from autograder import grade as grader

    clock = [100.0]
    monkeypatch.setattr(grader, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    todo = {f"{notebook}{number:02}": Waiting(notebook) for notebook in "ab" for number in range(20)}
    order = sorted(todo)
    shares = grader._Shares([deque(order[:1]), deque(order[1:])], todo)
    assert [shares.take(0), shares.take(1)] == ["a00", "a01"]
    assert shares.take(0) == "a19"  # another's, but of the notebook that it serves
    for _ in range(17):
        shares.take(1)
    assert shares.waiting[1][0] == "b00" and shares.take(0) is None  # nothing is known yet of how long b takes
    clock[0] += 3  # a start
    shares.ended(0)
    for _ in range(3):
        shares.ended(1)
        clock[0] += 0.2
    assert shares.take(0) is None  # 20 of 0.2 seconds are sooner done than a start and half of them
    clock[0] += 5
    shares.ended(1)
    assert shares.take(0) == "b19"


def run_here(notebook: nbformat.NotebookNode, zygote: object, **options: object) -> Session:
    """Stands for kernels: runs cells in this process, and keeps what their checks answer."""
    session, namespace = Session(notebook=notebook), {"check": autograder.check, "score": lambda: None}
    for index, cell in enumerate(notebook.cells):
        with capturing() as checks:
            try:
                exec(compile(cell.source, f"<cell {index}>", "exec"), namespace)
            except NotImplementedError:
                session.errors.append(index)
        for check in checks:
            session.answers[f"{check.name}.answer"] = encode(check.run(11))
            session.answered_in[f"{check.name}.answer"] = index
    return session


BLANK_DOUBLE = 'def double(x):\n    """Twice x."""\n    raise NotImplementedError("implement double")'
BLANK_AFFINE = '''class Affine(torch.nn.Module):
    """a·x + b with `a` and `b` of shape (n,)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        raise NotImplementedError("implement Affine.__init__")

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError("implement Affine.forward")

# made of double, in the end'''
RIGHT_AFFINE = BLANK_AFFINE.replace(
    'raise NotImplementedError("implement Affine.__init__")',
    "self.a, self.b = torch.nn.Parameter(torch.ones(n)), torch.nn.Parameter(torch.zeros(n))",
).replace('raise NotImplementedError("implement Affine.forward")', "return double(self.a * x / 2) + self.b")
ELSEWHERE = """def _begin(self, n):
    torch.nn.Module.__init__(self)
    self.a, self.b = torch.nn.Parameter(torch.ones(n)), torch.nn.Parameter(torch.zeros(n))

Affine.__init__ = _begin
Affine.forward = lambda self, x: double(self.a * x / 2) + self.b"""


@pytest.mark.parametrize(
    ("cells", "kernels", "status"),
    [
        ([BLANK_DOUBLE, BLANK_AFFINE], 1, "not_attempted"),
        ([BLANK_DOUBLE, RIGHT_AFFINE], 2, "passed"),
        ([BLANK_DOUBLE, BLANK_AFFINE, ELSEWHERE], 2, "passed"),
    ],
    ids=["blank", "right but for what it uses", "written in a cell of its own"],
)
def test_an_exercise_is_run_again_with_the_references_others_unless_it_is_blank(
    course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: list[str], kernels: int, status: str
) -> None:
    (double, affine), ran = graded_here(course, tmp_path, monkeypatch, cells)
    assert (double["status"], affine["status"], ran) == ("not_attempted", status, kernels)
    assert "`double`" in affine["message"]


def test_a_warm_process_that_does_not_come_up_is_started_once_more(
    course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def start(_papers: Path, _preload: list[str], _job: Any, fresh: bool, fails: int = 1) -> None:
        asked.append(fresh)
        if len(asked) <= fails:
            raise ZygoteDied("the warm process did not start")

    cells = [BLANK_DOUBLE.replace('raise NotImplementedError("implement double")', "return 2 * x"), RIGHT_AFFINE]
    results, kernels = graded_here(course, tmp_path, monkeypatch, cells, start)
    assert [result["status"] for result in results] == ["passed", "passed"] and kernels == 1
    assert asked == [False, True]
    asked.clear()
    with pytest.raises(ZygoteDied):
        graded_here(course, tmp_path, monkeypatch, cells, partial(start, fails=2))
    assert asked == [False, True]


QUADRUPLE = """
# %%
def quadruple(x: Tensor) -> Tensor:
    \"""Four times x.\"""
    ### BEGIN SOLUTION
    return double(double(x))
    ### END SOLUTION


# %%
@check("quadruple", points=1)
def _(case):
    case.call("three numbers", quadruple, case.normal(3))

# %% [markdown] written"""


@pytest.mark.parametrize(
    ("affine", "quadruple", "kernels", "statuses"),
    [
        (RIGHT_AFFINE, "double(double(x))", 2, ("passed", "passed")),
        (RIGHT_AFFINE, "double(double(double(x)))", 2, ("passed", "wrong")),
        # what is wrong itself is replaced too for those who come after it, in a run of their own
        (RIGHT_AFFINE.replace("+ self.b", "- self.b - 1"), "Affine(3)(double(double(x)))", 3, ("wrong", "passed")),
    ],
    ids=["both right", "one wrong", "the second needs the first"],
)
def test_exercises_that_need_the_same_references_share_a_run(
    course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, affine: str, quadruple: str, kernels: int,
    statuses: tuple[str, str],
) -> None:  # fmt: skip
    source = course / "solutions" / "small-week0" / "doubling.py"
    source.write_text(source.read_text().replace("\n# %% [markdown] written", QUADRUPLE))
    wrong = 'def double(x):\n    """Twice x."""\n    return 3 * x'
    last = f'def quadruple(x):\n    """Four times x."""\n    return {quadruple}'
    (first, *others), ran = graded_here(course, tmp_path, monkeypatch, [wrong, affine, last])
    assert first["status"] == "wrong"
    assert (tuple(line["status"] for line in others), ran) == (statuses, kernels)


def graded_here(
    course: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cells: list[str],
    start: Callable[..., None] = lambda *_: None,
) -> tuple[list[dict[str, Any]], int]:
    """What a submission of these cells comes to, run in this process, and how many kernels it would have taken."""
    from autograder import grade as grader
    from autograder.build import read_all

    [notebook] = read_all(course)
    release = grader.release_cells(notebook)
    right = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                grader._reference(notebook, cell.name) if cell.role == "exercise" else cell.graded_source
            )
            for cell in release
            if cell.role in ("plain", "exercise", "check")
        ]
    )
    answers = run_here(right, None).answers
    recording = {
        name: CheckRecording(name, cell.points, decode(answers[f"{name}.answer"]), stubs=notebook.stubs)
        for name, cell in notebook.checks.items()
    }
    Recording("small-week0", "doubling", recording).save(tmp_path / "recording")
    submission = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    nbformat.write(submission, tmp_path / "doubling.ipynb")
    ran = []
    monkeypatch.setattr(grader.engine, "run_notebook", lambda *a, **options: ran.append(1) or run_here(*a, **options))
    monkeypatch.setattr(grader, "_zygote", start)
    job = grader.Job(
        str(tmp_path / "doubling.ipynb"), str(course), notebook.key, 11, str(tmp_path / "recording"), Limits(), True
    )
    try:
        return grader.grade_one(job).checks, len(ran)
    finally:
        grader._close_worker()


@pytest.mark.parametrize("module", ["autograder.grade", "autograder.engine", "autograder.build", "autograder.record"])
def test_importing_the_grader_makes_no_parser_for_addresses_and_takes_it_from_nobody(module: str) -> None:
    source = f"import sys, {module}; assert 'rfc3987_syntax' not in sys.modules; import rfc3987_syntax"
    subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=True)


def test_the_process_that_writes_pages_does_without_torch() -> None:
    source = (
        "import sys, autograder.grade, autograder.gradebook as book; book.prepare(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=True)
