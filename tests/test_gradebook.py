"""Results handed on to nbgrader and spreadsheets: what nbgrader reads is what was judged, and what people entered stays."""

from __future__ import annotations

import base64
import csv
import io
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbgrader.api import Comment, Grade, Gradebook, MissingEntry
from nbgrader.nbgraderformat import MetadataValidator

from autograder.gradebook import UnwritableGradebook, autograded_notebook, defused, grades_csv, write_gradebook
from autograder.notebook import Notebook, read, to_ipynb

SOURCE = """
    # ---
    # jupyter:
    #   curriculum: {{title: Small sums, order: {order}, minutes: 5}}
    # ---

    # %% [markdown]
    # # Small sums

    # %% tags=["parameters"]
    PROFILE = "quick"

    # %%
    def twice(x):
        ### BEGIN SOLUTION
        return 2 * x
        ### END SOLUTION

    # %%
    @check("twice", points=3)
    def _(case):
        case.call("one", twice, 1)
        ### BEGIN HIDDEN TESTS
        case.call("hidden", twice, 5)
        ### END HIDDEN TESTS

    # %% tags=["misconceptions"]
    misconceptions("twice", mistake("thrice", ("2 * x", "3 * x"), says="It triples."))

    # %%
    def half(x):
        ### BEGIN SOLUTION
        return x / 2
        ### END SOLUTION

    # %%
    @check("half", points=2)
    def _(case):
        case.call("one", half, 1)

    # %% [markdown] written="why" points=4
    # Why does halving undo doubling?
    #
    # ### BEGIN SOLUTION
    # Because the model answer says so.
    # ### END SOLUTION
"""


def source(folder: Path, name: str = "sums", assignment: str = "week1", order: int = 1, text: str = SOURCE) -> Notebook:
    path = folder / "solutions" / assignment / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text.format(order=order)).lstrip(), encoding="utf-8")
    return read(path)


@pytest.fixture
def sums(tmp_path: Path) -> Notebook:
    return source(tmp_path)


def row(student: str = "anna", check: str = "twice", points: float = 3, **fields: Any) -> dict[str, Any]:
    most = {"twice": 3, "half": 2}.get(check, 1)
    return {
        "student": student,
        "assignment": "week1",
        "notebook": "sums",
        "check": check,
        "status": "passed" if points == most else "wrong",
        "points": points,
        "max_points": most,
        "message": "message",
        "misconception": None,
        "matched_by": "grade_id",
        "seconds": 0.1,
        **fields,
    }


@contextmanager
def opened(path: Path) -> Iterator[Gradebook]:
    with Gradebook(f"sqlite:///{path}") as gradebook:
        yield gradebook


def scores(
    path: Path, student: str = "anna", notebook: str = "sums"
) -> dict[str, tuple[float | None, float | None, bool]]:
    """{grade id: (automatic score, manual score, waits for a person)}."""
    with opened(path) as gradebook:
        page = gradebook.find_submission_notebook(notebook, "week1", student)
        return {grade.name: (grade.auto_score, grade.manual_score, grade.needs_manual_grade) for grade in page.grades}


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return list(database.iterdump())


def test_a_checks_score_is_its_points_and_a_written_question_waits_for_a_person(tmp_path: Path, sums: Notebook) -> None:
    path = tmp_path / "new folder" / "grade?book#1.db"
    write_gradebook(path, [row(), row(check="half", points=0)], [sums])
    (tmp_path / "book.db").write_bytes(path.read_bytes())
    assert scores(tmp_path / "book.db") == {
        "check-twice": (3.0, None, False),
        "check-half": (0.0, None, False),
        "written-why": (None, None, True),
    }
    with opened(tmp_path / "book.db") as gradebook:
        submission = gradebook.find_submission("week1", "anna")
        assert (submission.score, submission.max_score, submission.needs_manual_grade) == (3.0, 9.0, True)
        assert submission.max_written_score == 4.0
        assert gradebook.find_submission_notebook("sums", "week1", "anna").failed_tests


def test_cells_are_kept_as_nbgrader_itself_would_keep_them(tmp_path: Path, sums: Notebook) -> None:
    write_gradebook(tmp_path / "ours.db", [row()], [sums])
    from nbgrader.converters import GenerateAssignment
    from nbgrader.coursedir import CourseDirectory

    from autograder.build import nbgrader_config

    (tmp_path / "solutions" / "week1" / "sums.ipynb").write_text(nbformat.writes(to_ipynb(sums)), encoding="utf-8")
    config = nbgrader_config()
    config.CourseDirectory.root = str(tmp_path)
    config.CourseDirectory.assignment_id = "week1"
    config.CourseDirectory.db_url = f"sqlite:///{tmp_path / 'theirs.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"])
        converter = GenerateAssignment(coursedir=CourseDirectory(config=config), config=config)
        converter.log.setLevel("ERROR")
        converter.start()

    def cells(path: Path) -> Any:
        with opened(path) as gradebook:
            notebook = gradebook.find_notebook("sums", "week1")
            own = [
                sorted(
                    (cell.name, cell.cell_type, cell.locked, cell.source, cell.checksum)
                    for cell in notebook.source_cells
                ),
                sorted((cell.name, cell.max_score, cell.cell_type) for cell in notebook.grade_cells),
                sorted(cell.name for cell in notebook.solution_cells),
                notebook.kernelspec,
            ]
        with closing(sqlite3.connect(path)) as database:
            own.append(database.execute("SELECT version_num FROM alembic_version").fetchall())
            own.append(
                sorted(
                    database.execute("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'alembic%'").fetchall(), key=str
                )
            )
        return own

    assert cells(tmp_path / "ours.db") == cells(tmp_path / "theirs.db")


def test_the_first_use_needs_no_alembic_on_the_path(tmp_path: Path, sums: Notebook) -> None:
    script = (
        "import sys; from pathlib import Path; from autograder.gradebook import write_gradebook; from autograder.notebook import read\n"
        f"write_gradebook(Path({str(tmp_path / 'book.db')!r}), [{row()!r}], [read(Path({str(sums.path)!r}))])"
    )
    root = Path(__file__).resolve().parent.parent
    environment = {"PATH": "/nowhere", "PYTHONPATH": str(root), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert scores(tmp_path / "book.db")["check-twice"] == (3.0, None, False)
    assert [path.name for path in tmp_path.glob("book*")] == ["book.db"]


def test_writing_the_same_results_again_changes_nothing(tmp_path: Path, sums: Notebook) -> None:
    path = tmp_path / "book.db"
    rows = [row(), row(check="half", points=1.5), row("ben", status="not_attempted", points=0)]
    write_gradebook(path, rows, [sums])
    before = dump(path)
    write_gradebook(path, rows, [sums])
    assert dump(path) == before


def test_more_results_add_students_and_newer_ones_replace_older_ones(tmp_path: Path, sums: Notebook) -> None:
    path = tmp_path / "book.db"
    write_gradebook(path, [row(points=0)], [sums])
    write_gradebook(path, [row(points=0), row("ben"), row(points=2)], [sums])
    assert scores(path)["check-twice"][0] == 2.0
    assert scores(path, "ben")["check-twice"][0] == 3.0
    write_gradebook(path, [row("chloe")], [sums])
    assert scores(path)["check-twice"][0] == 2.0, "who is not in the results keeps what they have"


def enter(path: Path, student: str = "anna", **given: float) -> None:
    """What a person does in the formgrader."""
    with opened(path) as gradebook:
        for name, points in given.items():
            grade = gradebook.find_grade(name.replace("_", "-"), "sums", "week1", student)
            grade.manual_score, grade.extra_credit, grade.needs_manual_grade = points, 0.5, False
        gradebook.find_comment("twice", "sums", "week1", student).manual_comment = "See me."
        gradebook.find_submission_notebook("sums", "week1", student).flagged = True
        gradebook.db.commit()


def test_what_a_person_entered_stays(tmp_path: Path, sums: Notebook) -> None:
    path = tmp_path / "book.db"
    rows = [row(), row(check="half", points=0)]
    write_gradebook(path, rows, [sums])
    enter(path, written_why=3.0, check_half=1.0)
    before = dump(path)
    write_gradebook(path, [*rows, row("ben")], [sums])
    assert set(before) <= set(dump(path))
    assert scores(path) == {
        "check-twice": (3.0, None, False),
        "check-half": (0.0, 1.0, False),
        "written-why": (None, 3.0, False),
    }
    with opened(path) as gradebook:
        assert gradebook.find_comment("twice", "sums", "week1", "anna").comment == "See me."
        assert gradebook.find_submission_notebook("sums", "week1", "anna").flagged
        assert gradebook.find_submission("week1", "anna").score == 3.0 + 1.5 + 3.5


def test_a_score_by_hand_is_looked_at_again_when_the_points_change(tmp_path: Path, sums: Notebook) -> None:
    path = tmp_path / "book.db"
    write_gradebook(path, [row(), row(check="half", points=0)], [sums])
    enter(path, check_half=1.0)
    write_gradebook(path, [row(), row(check="half", points=2)], [sums])
    assert scores(path)["check-half"] == (2.0, 1.0, True)


def test_an_unreadable_notebook_has_no_points_and_waits_for_nobody(tmp_path: Path, sums: Notebook) -> None:
    path = tmp_path / "book.db"
    write_gradebook(path, [row(check=check, points=0, status="unreadable") for check in ("twice", "half")], [sums])
    assert set(scores(path).values()) == {(0.0, None, False)}
    write_gradebook(path, [row(), row(check="half", points=2)], [sums])
    assert scores(path)["written-why"] == (None, None, True), "handed in again, it can be read"


@pytest.mark.parametrize(
    "text", [None, "", "YOUR ANSWER HERE", "Why does halving undo doubling?\n\nYOUR ANSWER HERE\n"]
)
def test_a_question_without_an_answer_has_no_points_and_waits_for_nobody(
    tmp_path: Path, sums: Notebook, text: str | None
) -> None:
    path, key = tmp_path / "book.db", ("anna", "week1", "sums")
    write_gradebook(path, [row()], [sums], {} if text is None else {key: {"why": text}})
    assert scores(path)["written-why"] == (0.0, None, False)
    with opened(path) as gradebook:
        assert gradebook.find_comment("written-why", "sums", "week1", "anna").comment == "No response."
    write_gradebook(path, [row()], [sums], {key: {"why": "Why does halving undo doubling?\n\nBecause."}})
    assert scores(path)["written-why"] == (None, None, True)
    with opened(path) as gradebook:
        assert gradebook.find_comment("written-why", "sums", "week1", "anna").comment is None


def test_a_check_without_a_result_has_no_points(tmp_path: Path, sums: Notebook) -> None:
    write_gradebook(tmp_path / "book.db", [row()], [sums])
    assert scores(tmp_path / "book.db")["check-half"] == (0.0, None, False)


def test_a_notebook_that_was_not_handed_in_with_the_others_has_no_points(tmp_path: Path, sums: Notebook) -> None:
    path = tmp_path / "book.db"
    more = source(tmp_path, "more", order=2)
    write_gradebook(path, [row()], [sums, more])
    assert set(scores(path, notebook="more").values()) == {(0.0, None, False)}
    write_gradebook(path, [row(notebook="more")], [sums, more])
    assert scores(path, notebook="more")["check-twice"] == (3.0, None, False)
    assert scores(path)["check-twice"] == (3.0, None, False), "a notebook graded before keeps its points"


def test_results_and_assignments_nobody_asked_about_are_passed_over(tmp_path: Path, sums: Notebook) -> None:
    other = source(tmp_path, "other", assignment="week2")
    rows = [row(), row(check="unknown"), row(notebook="unknown"), row(assignment="unknown")]
    write_gradebook(tmp_path / "book.db", rows, [sums, other])
    with opened(tmp_path / "book.db") as gradebook:
        assert [assignment.name for assignment in gradebook.assignments] == ["week1"]
        assert gradebook.find_submission("week1", "anna").score == 3.0


def test_a_source_that_changed_changes_the_gradebook_but_not_what_people_graded(tmp_path: Path, sums: Notebook) -> None:
    path = tmp_path / "book.db"
    write_gradebook(path, [row(), row("ben")], [sums])
    enter(path, written_why=2.0)
    changed = SOURCE.replace("half", "third").replace('written="why"', 'written="how"').replace("points=3", "points=5")
    write_gradebook(path, [row(points=5)], [source(tmp_path, text=changed)])
    assert scores(path) == {
        "check-twice": (5.0, None, False),
        "check-third": (0.0, None, False),
        "written-how": (None, None, True),
        "written-why": (None, 2.0, False),
    }
    assert "check-third" in scores(path, "ben")
    with opened(path) as gradebook:
        assert gradebook.find_grade_cell("check-twice", "sums", "week1").max_score == 5.0
        with pytest.raises(MissingEntry):
            gradebook.find_grade_cell("check-half", "sums", "week1")
        for kind in (Grade, Comment):
            assert gradebook.db.query(kind).filter(kind.cell_id.is_(None)).count() == 0


def test_not_attempted_exercises_are_marked_as_nbgrader_marks_them(tmp_path: Path, sums: Notebook) -> None:
    write_gradebook(tmp_path / "book.db", [row(status="not_attempted", points=0), row(check="half", points=2)], [sums])
    with opened(tmp_path / "book.db") as gradebook:
        assert gradebook.find_comment("twice", "sums", "week1", "anna").comment == "No response."
        assert gradebook.find_comment("half", "sums", "week1", "anna").comment is None


def test_the_time_of_handing_in_is_kept_in_utc(tmp_path: Path, sums: Notebook) -> None:
    times = {("anna", "week1"): datetime(2026, 5, 1, 12, tzinfo=UTC), ("ghost", "week1"): datetime(2026, 5, 1)}
    write_gradebook(tmp_path / "book.db", [row()], [sums], timestamps=times)
    with opened(tmp_path / "book.db") as gradebook:
        assert gradebook.find_submission("week1", "anna").timestamp == datetime(2026, 5, 1, 12)


def test_a_file_that_is_no_gradebook_is_named_with_what_to_do(tmp_path: Path, sums: Notebook) -> None:
    path = tmp_path / "book.db"
    path.write_text("this is no database, and long enough for sqlite to see it " * 20)
    with pytest.raises(UnwritableGradebook, match=r"book\.db cannot be written.*move it away"):
        write_gradebook(path, [row()], [sums])
    assert path.read_text().startswith("this is")


def test_an_empty_file_is_taken_for_a_new_gradebook(tmp_path: Path, sums: Notebook) -> None:
    (tmp_path / "book.db").touch()
    write_gradebook(tmp_path / "book.db", [row()], [sums])
    assert scores(tmp_path / "book.db")["check-twice"][0] == 3.0


def test_a_failure_halfway_leaves_what_was_there(tmp_path: Path, sums: Notebook) -> None:
    path = tmp_path / "book.db"
    write_gradebook(path, [row()], [sums])
    before = dump(path)
    with pytest.raises(ValueError):
        write_gradebook(path, [row("ben"), row("chloe", points="much")], [sums])  # type: ignore[arg-type]
    assert dump(path) == before


@pytest.mark.parametrize("student", ["ünï 日本", "a'; DROP TABLE student; --", "=cmd()", "\udcff", "a\x00b", "x" * 500])
def test_any_name_can_be_a_student(tmp_path: Path, sums: Notebook, student: str) -> None:
    path = tmp_path / "book.db"
    for _ in range(2):
        write_gradebook(path, [row(student)], [sums])
    with opened(path) as gradebook:
        assert len(gradebook.students) == 1
    assert len(list(csv.DictReader(io.StringIO(grades_csv([row(student)], [sums], path))))) == 1


def test_nbgrader_exports_what_was_written(tmp_path: Path, sums: Notebook) -> None:
    write_gradebook(tmp_path / "gradebook.db", [row(), row("ben", points=1)], [sums])
    command = [
        sys.executable,
        "-m",
        "nbgrader",
        "export",
        "--db",
        f"sqlite:///{tmp_path / 'gradebook.db'}",
        "--to",
        "out.csv",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out.csv").open() as file:
        exported = {line["student_id"]: (line["score"], line["max_score"]) for line in csv.DictReader(file)}
    assert exported == {"anna": ("3.0", "9.0"), "ben": ("1.0", "9.0")}


# -- the spreadsheet -------------------------------------------------------------------------------------------------------


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_spreadsheet_has_a_row_a_student_and_assignment_and_a_column_a_notebook(
    tmp_path: Path, sums: Notebook
) -> None:
    more = source(tmp_path, "more", order=2)
    late = source(tmp_path, "late", assignment="week0")
    rows = [
        row("ben"),
        row(),
        row(check="half", points=1.5),
        row(notebook="more"),
        row(assignment="week0", notebook="late"),
    ]
    written = grades_csv(rows, [sums, more, late])
    assert written.splitlines() == [
        "student,assignment,points,max_points,to_grade_by_hand,sums,more,late",
        "anna,week1,7.5,18,2,4.5,3,",
        "ben,week1,3,18,1,3,,",
        "anna,week0,3,9,1,,,3",
    ]
    assert grades_csv(rows[::-1], [sums, more, late]) == written


def test_without_sources_the_spreadsheet_counts_what_was_checked() -> None:
    assert table(grades_csv([row(), row(check="half", points=0)])) == [
        {
            "student": "anna",
            "assignment": "week1",
            "points": "3",
            "max_points": "5",
            "to_grade_by_hand": "0",
            "sums": "3",
        }
    ]


def test_with_a_gradebook_the_spreadsheet_counts_what_people_gave(tmp_path: Path, sums: Notebook) -> None:
    path = tmp_path / "book.db"
    rows = [row(), row("ben", status="unreadable", points=0)]
    write_gradebook(path, rows, [sums])
    assert [line["to_grade_by_hand"] for line in table(grades_csv(rows, [sums], path))] == ["1", "0"]
    enter(path, written_why=3.0)
    first = table(grades_csv(rows, [sums], path))[0]
    assert (first["points"], first["max_points"], first["to_grade_by_hand"]) == ("6.5", "9", "0")


@pytest.mark.parametrize("text", ["=cmd()", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "\x00=1", "a\n=1"])
def test_no_text_is_run_as_a_formula(text: str) -> None:
    written = grades_csv([row(text, notebook=text, assignment=text)])
    lines = table(written)
    assert len(lines) == 1 and "\x00" not in written
    for value in [*lines[0], lines[0]["student"], lines[0]["assignment"]]:
        assert not value.lstrip().startswith(("=", "+", "-", "@", "＝"))
    assert "\n=" not in written and ",=" not in written


def test_harmless_names_stay_as_they_are() -> None:
    assert defused('O"Neil, a') == 'O"Neil, a'
    assert table(grades_csv([row('O"Neil, a')]))[0]["student"] == 'O"Neil, a'


# -- notebooks for the formgrader ------------------------------------------------------------------------------------------

CELLS = [
    ("parameters", None, 'PROFILE = "quick"', "release"),
    ("exercise", "twice", "def twice(x):\n    return 3 * x", "submission"),
    ("free", None, "print('mine')", "submission"),
    ("check", "twice", "anything", "release"),
    ("check", "half", "anything", "release"),
    (
        "written",
        "why",
        "Why does halving undo doubling?\n\nBecause $x$ <script>alert(1)</script> ~~~ [a](javascript:b)",
        "submission",
    ),
]


def by_id(notebook: Any) -> dict[str, Any]:
    return {cell.metadata.nbgrader.grade_id: cell for cell in notebook.cells if "nbgrader" in cell.metadata}


def test_the_formgraders_notebook_is_valid_and_has_every_graded_cell(sums: Notebook) -> None:
    notebook = autograded_notebook(CELLS, [row(points=0, message="<b>tripled</b>")], sums)
    nbformat.validate(notebook)
    MetadataValidator().validate_nb(notebook)
    assert list(by_id(notebook)) == ["twice", "check-twice", "half", "check-half", "written-why"]
    assert [cell.cell_type for cell in notebook.cells] == ["code", "code", "code", "code", "code", "code", "markdown"]
    assert "No cell of the submission was found" in by_id(notebook)["half"].source
    assert nbformat.writes(notebook) == nbformat.writes(
        autograded_notebook(CELLS, [row(points=0, message="<b>tripled</b>")], sums)
    )


def test_graded_cells_carry_the_releases_metadata_and_checks_its_source(sums: Notebook, tmp_path: Path) -> None:
    write_gradebook(tmp_path / "book.db", [row()], [sums])
    cells = by_id(autograded_notebook(CELLS, [row()], sums))
    assert "anything" not in cells["check-twice"].source and "hidden" in cells["check-twice"].source
    with opened(tmp_path / "book.db") as gradebook:
        for name, cell in cells.items():
            saved = gradebook.find_source_cell(name, "sums", "week1")
            assert (cell.metadata.nbgrader.checksum, cell.cell_type) == (saved.checksum, saved.cell_type)
            if saved.locked:
                assert cell.source == saved.source


def test_the_verdict_is_the_only_output(sums: Notebook) -> None:
    notebook = autograded_notebook(CELLS, [row(points=0, message="<b>tripled</b>")], sums)
    outputs = [
        (cell.metadata.get("nbgrader", {}).get("grade_id"), out)
        for cell in notebook.cells
        for out in cell.get("outputs", [])
    ]
    assert [name for name, _ in outputs] == ["check-twice", "check-half"]
    data = outputs[0][1].data
    assert "<b>tripled</b>" in data["text/plain"] and "&lt;b&gt;tripled&lt;/b&gt;" in data["text/html"]
    assert "<b>tripled" not in data["text/html"]
    assert outputs[1][1].data == {"text/plain": "There is no result for this check."}


def test_only_real_pictures_are_shown(sums: Notebook) -> None:
    png = b"\x89PNG\r\n\x1a\n123"
    notebook = autograded_notebook(CELLS, [], sums, {1: [png, b"<svg onload=alert(1)>"], 5: [png]})
    cells = by_id(notebook)
    assert [dict(out.data) for out in cells["twice"].outputs] == [{"image/png": base64.b64encode(png).decode()}]
    assert list(cells["written-why"].attachments) == ["picture-1.png"]
    nbformat.validate(notebook)


def test_a_second_cell_of_the_same_exercise_is_shown_but_not_graded(sums: Notebook) -> None:
    notebook = autograded_notebook([*CELLS, CELLS[1], ("exercise", "unknown", "x", "submission")], [], sums)
    nbformat.validate(notebook)
    assert len(by_id(notebook)) == 5 and len(notebook.cells) == 9


def test_a_submission_of_nothing_still_shows_every_question(sums: Notebook) -> None:
    notebook = autograded_notebook([], [], sums)
    assert list(by_id(notebook)) == ["twice", "check-twice", "half", "check-half", "written-why"]
    assert "Why does halving" in by_id(notebook)["written-why"].source
    assert "model answer" not in nbformat.writes(notebook)


def test_an_answer_left_as_released_is_no_answer(sums: Notebook) -> None:
    released = "Why does halving undo doubling?\n\nYOUR ANSWER HERE"
    cell = by_id(autograded_notebook([("written", "why", released, "submission")], [], sums))["written-why"]
    assert cell.source == "Why does halving undo doubling?\n\n*No answer.*"


def pages(tmp_path: Path, sums: Notebook, cells: list[tuple[str, str | None, str, str]]) -> tuple[str, str]:
    """What nbgrader makes of our notebook: its feedback page, and the page its formgrader shows."""
    from nbconvert.exporters import HTMLExporter
    from nbgrader.converters import GenerateFeedback
    from nbgrader.coursedir import CourseDirectory
    from nbgrader.server_extensions.formgrader import handlers
    from traitlets.config import Config

    results = [row(points=0, message="<img src=x onerror=alert(1)>")]
    write_gradebook(tmp_path / "gradebook.db", results, [sums])
    path = tmp_path / "autograded" / "anna" / "week1" / "sums.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(autograded_notebook(cells, results, sums), path)
    config = Config()
    config.CourseDirectory.root = str(tmp_path)
    config.CourseDirectory.assignment_id = "week1"
    converter = GenerateFeedback(coursedir=CourseDirectory(config=config), config=config)
    converter.log.setLevel("ERROR")
    converter.start()
    templates = Path(handlers.__file__).parent / "templates"
    exporter = HTMLExporter(template_name="formgrade", extra_template_basedirs=[str(templates)])
    shown, _ = exporter.from_filename(str(path), resources={"index": 0, "total": 1, "base_url": ""})
    return (tmp_path / "feedback" / "anna" / "week1" / "sums.html").read_text(encoding="utf-8"), shown


def test_nbgraders_own_pages_open_it_and_run_nothing_of_the_learners(tmp_path: Path, sums: Notebook) -> None:
    hostile = "</pre><script>alert(1)</script>\n~~~\n<img src=x onerror=alert(1)>\n~~~~~\n[a](javascript:alert(1))\n\n$\\href{javascript:alert(1)}{x}$"
    cells = [("exercise", "twice", f"'''{hostile}'''", "submission"), ("written", "why", hostile, "submission")]
    for page in pages(tmp_path, sums, [*cells, ("prose", None, hostile, "submission")]):
        assert "twice" in page and "Why does halving" in page
        assert "<script>alert(1)" not in page and "<img src=x" not in page and 'href="javascript' not in page
        assert page.count("&lt;script&gt;alert(1)") >= 3


def test_the_formgraders_lists_show_the_submission(tmp_path: Path, sums: Notebook) -> None:
    from nbgrader.apps.api import NbGraderAPI
    from traitlets.config import Config

    pages(tmp_path, sums, CELLS)
    config = Config()
    config.CourseDirectory.root = str(tmp_path)
    config.CourseDirectory.source_directory = "solutions"
    api = NbGraderAPI(config=config)
    assert [entry["name"] for entry in api.get_assignments()] == ["week1"]
    entry = api.get_notebook_submissions("week1", "sums")[0]
    assert (entry["student"], entry["score"], entry["max_score"], entry["needs_manual_grade"]) == (
        "anna",
        0.0,
        9.0,
        True,
    )
    submission = api.get_submission("week1", "anna")
    assert (submission["autograded"], submission["needs_manual_grade"]) == (True, True)
    assert api.get_students()[0]["max_score"] == 9.0


@pytest.mark.slow
def test_a_class_of_a_thousand_is_written_in_seconds(tmp_path: Path) -> None:
    notebooks = [source(tmp_path, f"n{number}", order=number) for number in range(4)]
    rows = [
        row(f"s{student}", check, 1, notebook=notebook.name)
        for student in range(1000)
        for notebook in notebooks
        for check in ("twice", "half")
    ]
    write_gradebook(tmp_path / "book.db", rows, notebooks)
    write_gradebook(tmp_path / "book.db", rows, notebooks)
    with opened(tmp_path / "book.db") as gradebook:
        assert gradebook.db.query(Grade).count() == 1000 * 4 * 3
