"""Hands results on to what instructors already use: nbgrader's gradebook, notebooks for its formgrader, a spreadsheet. Decides no score.

The gradebook is nbgrader's own schema, written through nbgrader's own models in one transaction: a run killed halfway
leaves what was there before. What a person entered (manual scores, extra credit, comments, flags) is never changed.
Only one process writes it.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from autograder.feedback import MAX_CODE, Result, ShownCell, line, number, printable, verdict_of
from autograder.notebook import Notebook, new_cell, to_ipynb

ANSWER_STUB = "YOUR ANSWER HERE"
"""nbgrader's place for a written answer in a released notebook."""

_Submission = tuple[str, str]  # student, assignment
_Handed = tuple[str, str, str]  # student, assignment, notebook


class UnwritableGradebook(RuntimeError):
    """The gradebook cannot be written; the text is one line: what is wrong and what to do."""


# -- the database ----------------------------------------------------------------------------------------------------------


def write_gradebook(
    path: Path,
    results: Iterable[Result],
    notebooks: Sequence[Notebook],
    answers: Mapping[_Handed, Mapping[str, str]] | None = None,
    timestamps: Mapping[_Submission, datetime] | None = None,
) -> None:
    """Bring nbgrader's gradebook at `path` up to these results; made if there is none.

    A check's score is its points. A written question waits for a person, unless it has no answer, or its notebook could
    not be read or was not handed in with the rest of the assignment: that gives 0, as nbgrader does. Where a person has scored a check and
    its points change, the person's score stays and the cell is marked to be looked at again. Cells new in a source are
    added to submissions already there; cells gone from it are removed unless a person has graded them.

    Args:
        results: any number of lines of results.jsonl; of several about the same check the last counts. Those about
            notebooks not in `notebooks` are passed over.
        notebooks: sources of the assignments; assignments without results are passed over.
        answers: what (student, assignment, notebook) says to each written question, by its slug; a question that is not
            there, or says what the release says, has no answer. Without `answers` every question waits for a person.
        timestamps: when (student, assignment) was handed in, if known.

    Raises: UnwritableGradebook if the file is no gradebook, is locked, or comes from another version of nbgrader.
    """
    from sqlalchemy.exc import DatabaseError, SQLAlchemyError

    handed = _by_handed(results)
    wanted: dict[str, list[Notebook]] = defaultdict(list)
    for notebook in notebooks:
        wanted[notebook.assignment].append(notebook)
    try:
        with _opened(path) as session:
            for assignment, sources in wanted.items():
                known = {source.name for source in sources}
                own = {key: rows for key, rows in handed.items() if key[1] == assignment and key[2] in known}
                if own:
                    said = (
                        None
                        if answers is None
                        else {(_student(key[0]), *key[1:]): texts for key, texts in answers.items()}
                    )
                    _write_assignment(session, assignment, sources, own, said, timestamps or {})
            session.commit()
    except DatabaseError as error:
        reason = str(error.orig).splitlines()[0] if str(error.orig) else type(error).__name__
        if "locked" in reason:
            advice = "close what has it open (the formgrader, a database browser) and grade again"
        elif "no such column" in reason or "no such table" in reason:
            advice = "it comes from another version of nbgrader; `nbgrader db upgrade` brings it up to date"
        else:
            advice = "move it away and grade again"
        raise UnwritableGradebook(f"{path} cannot be written ({reason}): {advice}.") from error
    except SQLAlchemyError as error:
        raise UnwritableGradebook(f"{path} cannot be written: {str(error).splitlines()[0]}") from error


def _by_handed(results: Iterable[Result]) -> dict[_Handed, dict[str, Result]]:
    """{(student, assignment, notebook): {check: its last result}}."""
    handed: dict[_Handed, dict[str, Result]] = defaultdict(dict)
    for row in results:
        handed[_student(row["student"]), row["assignment"], row["notebook"]][row["check"]] = row
    return handed


def _student(name: object) -> str:
    # a folder's name need not be UTF-8; SQLite's text is
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\ufffd")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A session of nbgrader's Gradebook at `path`; what is not committed is undone."""
    from nbgrader.api import Gradebook
    from sqlalchemy import URL

    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.stat().st_size == 0:
        _create(path)
    gradebook = Gradebook(URL.create("sqlite", database=str(path)))
    try:
        yield gradebook.db
    finally:
        gradebook.db.rollback()
        gradebook.close()


def _create(path: Path) -> None:
    """An empty gradebook, there whole or not at all.

    nbgrader would ask an `alembic` found on PATH for the schema's version, and fail, leaving tables without a version,
    where the environment is not activated. alembic's library knows it as well.
    """
    from alembic.script import ScriptDirectory
    from nbgrader.api import Base
    from nbgrader.dbutil import ALEMBIC_DIR
    from sqlalchemy import URL, create_engine, text

    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    engine = create_engine(URL.create("sqlite", database=str(fresh)))
    Base.metadata.create_all(bind=engine)
    version = ScriptDirectory(ALEMBIC_DIR).get_current_head()
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (:version)"), {"version": version})
    engine.dispose()
    fresh.replace(path)


def prepare() -> None:
    """Import nbgrader, which everything here needs and takes long to import. Without it, the first call of another function does."""
    import nbgrader.api
    import nbgrader.preprocessors  # noqa: F401


@lru_cache(maxsize=64)
def _as_saved(notebook: Notebook) -> NotebookNode:
    """The notebook as nbgrader's generate_assignment sees it when it saves cells: stubs, checksums, hidden cases still in."""
    from nbgrader.preprocessors import SaveCells

    from autograder.build import nbgrader_config

    config = nbgrader_config()
    node = to_ipynb(notebook)
    for preprocessor in config.GenerateAssignment.preprocessors:
        if preprocessor is SaveCells:
            break
        node, _ = preprocessor(config=config).preprocess(node, {})
    return node


def _write_assignment(
    session: Any,
    assignment: str,
    sources: Sequence[Notebook],
    handed: Mapping[_Handed, Mapping[str, Result]],
    answers: Mapping[_Handed, Mapping[str, str]] | None,
    timestamps: Mapping[_Submission, datetime],
) -> None:
    from nbgrader import api

    master = session.query(api.Assignment).filter_by(name=assignment).one_or_none()
    if master is None:
        master = api.Assignment(name=assignment)
        session.add(master)
        session.flush()
    cells = {source.name: _write_cells(session, master, source) for source in sources}
    submissions = _write_submissions(session, master, {key[0] for key in handed}, timestamps)
    _write_scores(session, master, {source.name: source for source in sources}, cells, submissions, handed, answers)


class _Cells:
    """Database ids of a notebook and of its grade and solution cells, by grade id."""

    def __init__(self, notebook: str, grade: dict[str, str], solution: dict[str, str]) -> None:
        self.notebook, self.grade, self.solution = notebook, grade, solution


def _write_cells(session: Any, master: Any, source: Notebook) -> _Cells:
    from nbgrader import api, utils

    saved = _as_saved(source)
    notebook = session.query(api.Notebook).filter_by(name=source.name, assignment_id=master.id).one_or_none()
    if notebook is None:
        notebook = api.Notebook(name=source.name, assignment=master)
        session.add(notebook)
    notebook.kernelspec = json.dumps(saved.metadata.get("kernelspec", {}))
    session.flush()
    there: dict[type, dict[str, Any]] = {
        kind: {cell.name: cell for cell in session.query(kind).filter_by(notebook_id=notebook.id)}
        for kind in (api.GradeCell, api.SolutionCell, api.SourceCell)
    }
    kept: dict[type, dict[str, Any]] = {kind: {} for kind in there}

    def put(kind: type, name: str, **fields: object) -> None:
        cell = there[kind].get(name)
        if cell is None:
            cell = kind(name=name, notebook_id=notebook.id, **fields)
            session.add(cell)
        for field, value in fields.items():
            if getattr(cell, field) != value:
                setattr(cell, field, value)
        kept[kind][name] = cell

    for cell in saved.cells:
        about = cell.metadata.get("nbgrader")
        if about is None:
            continue
        if utils.is_grade(cell):
            put(api.GradeCell, about["grade_id"], max_score=float(about["points"]), cell_type=cell.cell_type)
        if utils.is_solution(cell):
            put(api.SolutionCell, about["grade_id"])
        put(
            api.SourceCell,
            about["grade_id"],
            cell_type=cell.cell_type,
            locked=utils.is_locked(cell),
            source=cell.source,
            checksum=about.get("checksum"),
        )
    for kind, cells in there.items():
        for name in cells.keys() - kept[kind].keys():
            _remove_cell(session, cells[name])
    session.flush()
    return _Cells(
        notebook.id,
        {name: cell.id for name, cell in kept[api.GradeCell].items()},
        {name: cell.id for name, cell in kept[api.SolutionCell].items()},
    )


def _remove_cell(session: Any, cell: Any) -> None:
    """Remove a cell that its source no longer has, with its automatic scores; not one that a person has graded."""
    from nbgrader import api

    if isinstance(cell, api.GradeCell):
        given = session.query(api.Grade).filter_by(cell_id=cell.id)
        if (
            given.filter((api.Grade.manual_score.is_not(None)) | (api.Grade.extra_credit.is_not(None))).first()
            is not None
        ):
            return
        given.delete(synchronize_session=False)
    elif isinstance(cell, api.SolutionCell):
        given = session.query(api.Comment).filter_by(cell_id=cell.id)
        if given.filter(api.Comment.manual_comment.is_not(None)).first() is not None:
            return
        given.delete(synchronize_session=False)
    session.expire(cell)
    session.delete(cell)


def _write_submissions(
    session: Any, master: Any, students: Collection[str], timestamps: Mapping[_Submission, datetime]
) -> dict[str, str]:
    """{student: id of the submission} of everybody who has handed in the assignment, now or before."""
    from nbgrader import api
    from sqlalchemy import insert, select, update

    known = set(session.scalars(select(api.Student.id)))
    if new := sorted(set(students) - known):
        session.execute(insert(api.Student), [{"id": student} for student in new])
    of_master = select(api.SubmittedAssignment.student_id, api.SubmittedAssignment.id)
    there = dict(session.execute(of_master.where(api.SubmittedAssignment.assignment_id == master.id)).tuples().all())
    rows = [
        {"id": api.new_uuid(), "assignment_id": master.id, "student_id": student, "timestamp": None}
        for student in sorted(set(students) - there.keys())
    ]
    if rows:
        session.execute(insert(api.SubmittedAssignment), rows)
        there.update({row["student_id"]: row["id"] for row in rows})
    times = [
        {"id": there[student], "timestamp": _utc(time)}
        for student in sorted(students)
        if (time := timestamps.get((student, master.name))) is not None
    ]
    if times:
        session.execute(update(api.SubmittedAssignment), times)
    return there


def _utc(time: datetime) -> datetime:
    # nbgrader keeps UTC without saying so
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time


def _write_scores(
    session: Any,
    master: Any,
    sources: Mapping[str, Notebook],
    cells: Mapping[str, _Cells],
    submissions: Mapping[str, str],
    handed: Mapping[_Handed, Mapping[str, Result]],
    answers: Mapping[_Handed, Mapping[str, str]] | None,
) -> None:
    from nbgrader import api
    from sqlalchemy import insert, select, update

    in_master = api.SubmittedAssignment.assignment_id == master.id
    of_notebook = (
        select(api.SubmittedNotebook.assignment_id, api.SubmittedNotebook.notebook_id, api.SubmittedNotebook.id)
        .join(api.SubmittedAssignment, api.SubmittedAssignment.id == api.SubmittedNotebook.assignment_id)
        .where(in_master)
    )
    pages = {(submission, notebook): page for submission, notebook, page in session.execute(of_notebook)}
    new_pages = []
    for submission in submissions.values():
        for ids in cells.values():
            if (submission, ids.notebook) not in pages:
                page = pages[submission, ids.notebook] = api.new_uuid()
                new_pages.append(
                    {"id": page, "assignment_id": submission, "notebook_id": ids.notebook, "flagged": False}
                )
    if new_pages:
        session.execute(insert(api.SubmittedNotebook), new_pages)

    def existing(model: Any, *columns: Any) -> dict[tuple[str, str], Any]:
        query = (
            select(model.notebook_id, model.cell_id, model.id, *columns)
            .join(api.SubmittedNotebook, api.SubmittedNotebook.id == model.notebook_id)
            .join(api.SubmittedAssignment, api.SubmittedAssignment.id == api.SubmittedNotebook.assignment_id)
            .where(in_master)
        )
        return {(row[0], row[1]): row[2:] for row in session.execute(query)}

    grades = existing(api.Grade, api.Grade.auto_score, api.Grade.manual_score, api.Grade.needs_manual_grade)
    comments = existing(api.Comment, api.Comment.auto_comment)
    students = {key[0] for key in handed}
    new_grades, changed_grades, new_comments, changed_comments = [], [], [], []
    for student, submission in submissions.items():
        for name, source in sources.items():
            ids, rows = cells[name], handed.get((student, master.name, name))
            page = pages[submission, ids.notebook]
            scores = _scores(source, rows, None if answers is None else answers.get((student, master.name, name), {}))
            for grade_id, cell in ids.grade.items():
                there = grades.get((page, cell))
                before = there[1] if there else None
                if rows is not None:
                    score = scores[grade_id]
                elif there is not None and (before is not None or there[2] is not None):
                    score = before  # graded in an earlier run
                else:
                    score = 0.0 if student in students else None
                if there is None:
                    new_grades.append(
                        {"notebook_id": page, "cell_id": cell, "auto_score": score, "needs_manual_grade": score is None}
                    )
                elif before != score or (there[2] is None and there[3] != (score is None)):
                    # a score that a person gave to something that has changed wants another look
                    wants = score is None if there[2] is None else True
                    changed_grades.append({"id": there[0], "auto_score": score, "needs_manual_grade": wants})
            for grade_id, cell in ids.solution.items():
                there = comments.get((page, cell))
                row = (rows or {}).get(grade_id)
                silent = (
                    scores[grade_id] == 0
                    if grade_id in scores
                    else row is not None and row["status"] == "not_attempted"
                )
                said = "No response." if rows is not None and silent else None
                if there is None:
                    new_comments.append({"notebook_id": page, "cell_id": cell, "auto_comment": said})
                elif rows is not None and there[1] != said:
                    changed_comments.append({"id": there[0], "auto_comment": said})
    for model, rows_to_add in ((api.Grade, new_grades), (api.Comment, new_comments)):
        if rows_to_add:
            session.execute(insert(model), rows_to_add)
    for model, rows_to_change in ((api.Grade, changed_grades), (api.Comment, changed_comments)):
        if rows_to_change:
            session.execute(update(model), rows_to_change)


def _scores(
    source: Notebook, rows: Mapping[str, Result] | None, answers: Mapping[str, str] | None
) -> dict[str, float | None]:
    """{grade id: automatic score, None where a person has to give it}. A check without a result has 0 points."""
    rows = rows or {}
    scores: dict[str, float | None] = {
        str(cell.grade_id): float(rows[name]["points"]) if name in rows else 0.0 for name, cell in source.checks.items()
    }
    unread = _unread(rows.values())
    for cell in source.written:
        silent = answers is not None and not _answer(
            _released(source)[str(cell.grade_id)].source, answers.get(str(cell.name))
        )
        scores[str(cell.grade_id)] = 0.0 if unread or silent else None
    return scores


def _released(source: Notebook) -> dict[str, NotebookNode]:
    """{grade id: cell} of the cells that nbgrader knows, in order."""
    return {cell.metadata.nbgrader["grade_id"]: cell for cell in _as_saved(source).cells if "nbgrader" in cell.metadata}


def _unread(rows: Collection[Result]) -> bool:
    return bool(rows) and all(row["status"] == "unreadable" for row in rows)


# -- the spreadsheet -------------------------------------------------------------------------------------------------------


def grades_csv(results: Iterable[Result], notebooks: Sequence[Notebook] = (), gradebook: Path | None = None) -> str:
    """A row a student and assignment: student, assignment, points, max_points, to_grade_by_hand, then a column a notebook.

    A notebook's column holds its points and is empty where it was not handed in. `to_grade_by_hand` counts the cells
    that wait for a person. Text that a spreadsheet would run as a formula is led in by an apostrophe. Sorted by
    assignment and student; notebooks stand in the order of `notebooks`, others behind them by name.

    Args:
        notebooks: sources; with them, max_points counts written questions and notebooks that were not handed in.
        gradebook: nbgrader's gradebook; with it, points include what people gave by hand. Late penalties are left to
            `nbgrader export`.
    """
    handed = _by_handed(results)
    own: dict[_Submission, dict[str, Mapping[str, Result]]] = defaultdict(dict)
    for (student, assignment, notebook), rows in handed.items():
        own[student, assignment][notebook] = rows
    sources: dict[str, dict[str, Notebook]] = defaultdict(dict)
    for source in notebooks:
        sources[source.assignment][source.name] = source
    ranks = {assignment: rank for rank, assignment in enumerate(sources)}
    present = {key[2] for key in handed}
    columns = [name for name in dict.fromkeys(source.name for source in notebooks) if name in present]
    columns += sorted(present - set(columns))
    by_hand = _by_hand(gradebook) if gradebook is not None else {}

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["student", "assignment", "points", "max_points", "to_grade_by_hand", *map(defused, columns)])
    for student, assignment in sorted(own, key=lambda key: (ranks.get(key[1], len(ranks)), key[1], key[0])):
        points: dict[str, float] = {}
        waiting, most = 0, 0.0
        for notebook, checks in own[student, assignment].items():
            known = sources[assignment].get(notebook)
            points[notebook] = sum(float(row["points"]) for row in checks.values())
            waits = len(known.written) if known and not _unread(checks.values()) else 0
            if (student, assignment, notebook) in by_hand:
                points[notebook], waits = by_hand[student, assignment, notebook]
            waiting += waits
            if known is None:
                most += sum(float(row["max_points"]) for row in checks.values())
        most += sum(
            cell.points
            for source in sources[assignment].values()
            for cell in [*source.checks.values(), *source.written]
        )
        each = [number(points[name]) if name in points else "" for name in columns]
        writer.writerow(
            [defused(student), defused(assignment), number(sum(points.values())), number(most), waiting, *each]
        )
    return out.getvalue()


def defused(text: object) -> str:
    """Text that no spreadsheet takes for a formula; a leading apostrophe says that it is text."""
    shown = line(text, 500)
    return "'" + shown if shown.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")) else shown


def _by_hand(path: Path) -> dict[_Handed, tuple[float, int]]:
    """{(student, assignment, notebook): points including those given by hand, cells that wait for a person}."""
    from nbgrader import api
    from sqlalchemy import Integer, cast, func, select
    from sqlalchemy.exc import SQLAlchemyError

    query = (
        select(
            api.SubmittedAssignment.student_id,
            api.Assignment.name,
            api.Notebook.name,
            func.sum(api.Grade.score),
            func.sum(cast(api.Grade.needs_manual_grade, Integer)),
        )
        .join(api.SubmittedNotebook, api.SubmittedNotebook.id == api.Grade.notebook_id)
        .join(api.Notebook, api.Notebook.id == api.SubmittedNotebook.notebook_id)
        .join(api.SubmittedAssignment, api.SubmittedAssignment.id == api.SubmittedNotebook.assignment_id)
        .join(api.Assignment, api.Assignment.id == api.SubmittedAssignment.assignment_id)
        .group_by(api.SubmittedAssignment.student_id, api.Assignment.name, api.Notebook.name)
    )
    try:
        with _opened(path) as session:
            return {(row[0], row[1], row[2]): (float(row[3]), int(row[4])) for row in session.execute(query)}
    except SQLAlchemyError as error:
        raise UnwritableGradebook(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


# -- notebooks for the formgrader ------------------------------------------------------------------------------------------

_IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def autograded_notebook(
    cells: Iterable[tuple[str, str | None, str, str]],
    results_for_it: Iterable[Result],
    release: Notebook,
    images: Mapping[int, Sequence[bytes]] | None = None,
) -> NotebookNode:
    """The notebook that nbgrader's formgrader shows for a submission: autograded/<student>/<assignment>/<notebook>.ipynb.

    nbgrader's metadata comes from the release, whatever the submission said; graded cells that are not among `cells` are
    put in their places, empty. A check's only output is its verdict. A learner's Markdown is shown as the text they
    typed, never rendered: the formgrader would run the HTML and scripts in it as the instructor.

    Args:
        cells: (role, name, source, origin) in order; written questions with role "written", the slug as name.
        results_for_it: the results of this notebook.
        release: its source.
        images: PNG or JPEG files to show, by the index in `cells` of the cell they belong to; anything else is dropped.

    Returns: a valid notebook of format 4.5, the same for the same input. It holds the hidden cases, as nbgrader's do.
    """
    results = {row["check"]: row for row in results_for_it}
    graded = _released(release)
    nodes: list[NotebookNode] = []
    placed: set[str] = set()
    numbers: Counter[str] = Counter()
    for index, cell in enumerate(ShownCell(*four) for four in cells):
        grade_id = _grade_id(cell)
        if grade_id is not None and grade_id in graded and grade_id not in placed:
            placed.add(grade_id)
            node = _graded_cell(graded[grade_id], cell, results)
        else:
            node = _other_cell(cell)
            role = re.sub("[^a-z]", "", cell.role)[:20] or "cell"
            numbers[role] += 1
            node.id = f"shown-{role}-{numbers[role]}"
        _show_images(node, (images or {}).get(index, ()))
        nodes.append(node)
    before: str | None = None
    for grade_id, master in graded.items():
        if grade_id not in placed:
            positions = [
                at for at, node in enumerate(nodes) if node.metadata.get("nbgrader", {}).get("grade_id") == before
            ]
            nodes.insert(positions[0] + 1 if before is not None else 0, _graded_cell(master, None, results))
        before = grade_id
    notebook = nbformat.v4.new_notebook(cells=nodes)
    notebook.metadata = _as_saved(release).metadata.copy()
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def _grade_id(cell: ShownCell) -> str | None:
    if cell.role == "exercise":
        return cell.name
    return f"{cell.role}-{cell.name}" if cell.role in ("check", "written") else None


def _graded_cell(master: NotebookNode, handed: ShownCell | None, results: Mapping[str, Result]) -> NotebookNode:
    """A cell that nbgrader knows, with the learner's source (None: nothing was found) or, for a check, the release's."""
    about = master.metadata.nbgrader
    if master.cell_type == "markdown":
        node = new_cell("markdown", _answered(master.source, handed.source if handed else None))
    elif about["solution"]:
        nothing = "# No cell of the submission was found for this exercise."
        node = new_cell("code", printable(handed.source, MAX_CODE) if handed else nothing)
    else:
        node = new_cell("code", master.source)
        result = results.get(about["grade_id"].removeprefix("check-"))
        node.outputs = [_verdict_output(result)]
    node.id = master.id
    node.metadata = nbformat.from_dict({"nbgrader": dict(about)})
    return node


def _other_cell(cell: ShownCell) -> NotebookNode:
    trusted = cell.origin == "release"
    if cell.role in ("written", "prose", "badge"):
        return new_cell("markdown", cell.source if trusted else _verbatim(cell.source))
    node = new_cell("code", cell.source if trusted else printable(cell.source, MAX_CODE))
    if trusted and cell.role in ("parameters", "setup"):
        node.metadata["tags"] = [cell.role]
    return node


def _verdict_output(result: Result | None) -> NotebookNode:
    if result is None:
        data = {"text/plain": "There is no result for this check."}
    else:
        verdict = verdict_of(result)
        data = {"text/plain": str(verdict), "text/html": verdict._repr_html_()}
    return NotebookNode(output_type="display_data", data=NotebookNode(data), metadata=NotebookNode())


def _question(released: str) -> str:
    return released.replace(ANSWER_STUB, "").strip()


def _answer(released: str, handed: str | None) -> str:
    """What a learner added to a written question; nothing if they left it as it was released."""
    question, answer = _question(released), (handed or "").strip()
    if answer.startswith(question):
        answer = answer[len(question) :].strip()
    return "" if answer == ANSWER_STUB else answer


def _answered(released: str, handed: str | None) -> str:
    """The question as released and the learner's answer as typed."""
    question, answer = _question(released), _answer(released, handed)
    if handed is None:
        return f"{question}\n\n*No cell of the submission was found for this question.*"
    return f"{question}\n\n{_verbatim(answer) if answer else '*No answer.*'}"


def _verbatim(text: str) -> str:
    """Text as a Markdown block that shows it as it is; its fence is longer than any in the text."""
    shown = printable(text, MAX_CODE)
    fence = "~" * (max(map(len, re.findall("~+", shown)), default=0) + 3)
    return f"{fence}text\n{shown}\n{fence}"


def _show_images(node: NotebookNode, images: Sequence[bytes]) -> None:
    for place, image in enumerate(images, start=1):
        mime = next((mime for start, mime in _IMAGES.items() if image.startswith(start)), None)
        if mime is None:
            continue
        data = base64.b64encode(image).decode()
        if node.cell_type == "code":
            node.outputs.append(nbformat.v4.new_output("display_data", data={mime: data}))
        else:
            name = f"picture-{place}.{mime.partition('/')[2]}"
            node.setdefault("attachments", NotebookNode())[name] = NotebookNode({mime: data})
            node.source += f"\n\n![Picture {place} of the answer](attachment:{name})"
