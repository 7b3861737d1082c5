"""Grades a class: submissions in, verdicts out. Learners' code runs in the sandbox; the verdict is computed here, where it never runs.

    submission → match cells → papermill in the sandbox, on a secret seed → answers → judge → results, gradebook, feedback

Nothing a kernel prints decides anything. A check without an answer scores 0 and says why.
"""

from __future__ import annotations

import ast
import atexit
import gc
import hashlib
import json
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import util
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from autograder import lean  # noqa: F401  before nbformat

# isort: split
import nbformat

from autograder import engine, gradebook, workers
from autograder.build import read_all
from autograder.forbid import forbidden_uses
from autograder.matching import Match, PlannedCell, ReleaseCell, UnreadableSubmission, assemble, match, read_submission
from autograder.notebook import BEGIN_SOLUTION, END_SOLUTION, Notebook, new_cell, stubbed, to_ipynb, without_region
from autograder.ordinary import OrdinaryKernels
from autograder.papers_view import papers_before, visible_papers
from autograder.verdict import Verdict

if TYPE_CHECKING:  # the workers' business: the process that writes pages does without torch, which takes long to import
    from autograder.recording import Recording

RESULT_FIELDS = (
    "student",
    "assignment",
    "notebook",
    "check",
    "status",
    "points",
    "max_points",
    "message",
    "misconception",
    "matched_by",
    "seconds",
)
"""The fields of a line of results.jsonl, in order. Others script against them."""

MOST_MESSAGE = 8000
"""Characters of a message in the results; an exception of the learner's may be of any length."""

MOST_HASHED = 1 << 30
"""Bytes; what is larger is refused unread, so its content does not matter."""

_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)


class GradingError(ValueError):
    """Grading cannot begin; the message is one line that says what to do."""


@dataclass(frozen=True)
class Limits:
    """Seconds for one cell, for one submission with all its attempts, and bytes of memory for all its processes together."""

    cell: float = 60.0
    submission: float = 300.0
    memory: int = 4 << 30


@dataclass(frozen=True)
class Submission:
    """One notebook of one student; `path` is None where it was not handed in."""

    student: str
    assignment: str
    notebook: str
    path: Path | None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """All that grading one submission depends on. Paths are of files that every worker can read."""

    path: str
    root: str
    notebook: str
    seed: int
    recording: str
    limits: Limits
    unsafe: bool
    ordinary: bool = False


@dataclass
class Graded:
    """What grading one notebook gave. The same for every student who handed in the same bytes.

    checks: per check its verdict's fields. cells: (role, name, source, origin) as run. written: {slug: text}. flags: for the instructor.
    """

    checks: list[dict[str, Any]]
    cells: list[tuple[str, str | None, str, str]] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0


# -- finding submissions -----------------------------------------------------------------------------------------------------


def collect(submitted: Path, notebooks: Sequence[Notebook]) -> list[Submission]:
    """The submissions below `submitted`/<student>/<assignment>/, one for each notebook of each assignment a student handed in.

    A file under a copy's name ("Copy of …", "… (1)") counts as the notebook if that itself is missing; a notebook that is not there at all is a
    submission without a path. Raises GradingError where there is nothing to grade.
    """
    if not submitted.is_dir():
        raise GradingError(
            f"{submitted} is no folder: give the folder that holds <student>/<assignment>/<notebook>.ipynb"
        )
    by_assignment: dict[str, list[str]] = {}
    for notebook in notebooks:
        by_assignment.setdefault(notebook.assignment, []).append(notebook.name)
    found: list[Submission] = []
    for student in sorted(path for path in submitted.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for assignment, names in by_assignment.items():
            folder = student / assignment
            link = next((path for path in (student, folder) if path.is_symlink()), None)
            if not folder.is_dir() and not folder.is_symlink():
                continue
            try:
                files = [] if link else sorted(path for path in folder.iterdir() if path.suffix.lower() == ".ipynb")
            except OSError:
                link = folder  # it cannot be opened, which reading it will say
            for name in names:
                path, flags = (link, ()) if link else _file_of(name, files, names)
                found.append(Submission(student.name, assignment, name, path, flags))
    if not found:
        known = ", ".join(by_assignment)
        raise GradingError(
            f"{submitted} holds no submissions to {known}: they are expected at {submitted}/<student>/<assignment>/<notebook>.ipynb"
        )
    return found


def _file_of(name: str, files: Sequence[Path], names: Sequence[str]) -> tuple[Path | None, tuple[str, ...]]:
    exact = [path for path in files if path.stem == name]
    if exact:
        return exact[0], ()
    alike = [path for path in files if path.stem not in names and _plain_name(path.stem) == _plain_name(name)]
    if alike:
        return alike[-1], (f"file name: taken from “{alike[-1].name}”",)
    return None, ()


def _plain_name(stem: str) -> str:
    """A file's name without what file managers, browsers and Colab add to copies."""
    stem = re.sub(r"^(copy of|kopie von|copie de)\s+", "", stem.strip(), flags=re.IGNORECASE)
    stem = re.sub(r"[-_ ]*(\(\d+\)|copy\d*|final|\d+)$", "", stem, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]", "", stem.lower())


# -- one submission ------------------------------------------------------------------------------------------------------------


def release_cells(notebook: Notebook) -> list[ReleaseCell]:
    """A notebook as the learner got it, with what is run in place of each cell when grading."""
    nodes = [
        node
        for node in to_ipynb(notebook).cells
        if not {"misconceptions", "alternative"} & set(node.metadata.get("tags", []))
    ]
    cells = [cell for cell in notebook.cells if cell.role not in ("misconceptions", "alternative")]
    released = []
    imports = _imports(notebook)
    for cell, node in zip(cells, nodes, strict=True):
        source = cell.public
        graded = cell.source
        if cell.role == "exercise":
            source = graded = stubbed(cell.source)
        elif cell.role == "written":
            source = graded = without_region(cell.source, BEGIN_SOLUTION, END_SOLUTION)
        elif cell.role == "check":
            # whatever the learner's own cells may have made of the name
            graded = "from autograder import check\n" + _with_own_imports(graded, imports)
        role = "prose" if cell.role == "badge" else cell.role
        released.append(ReleaseCell(role, cell.name, cell.grade_id, node.id, source, graded))
    return released


def _imports(notebook: Notebook) -> dict[str, str]:
    """{name: statement} of what the notebook's import cells bind, the exercises' own names excepted."""
    found: dict[str, str] = {}
    for cell in notebook.cells:
        for statement in ast.parse(cell.source).body if cell.role == "plain" else ():
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                for alias in statement.names:
                    one = (
                        ast.Import([alias])
                        if isinstance(statement, ast.Import)
                        else ast.ImportFrom(statement.module, [alias], statement.level)
                    )
                    found[alias.asname or alias.name.partition(".")[0]] = ast.unparse(one)
    return {name: text for name, text in found.items() if name not in notebook.exercises}


def _with_own_imports(source: str, imports: dict[str, str]) -> str:
    """A check's cell whose function imports what it uses itself, so that it does not depend on what cells above have made of `F` or `math`."""
    function = next((statement for statement in ast.parse(source).body if isinstance(statement, ast.FunctionDef)), None)
    if function is None or function.body[0].lineno == function.lineno:
        return source
    used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    lines, first = source.split("\n"), function.body[0]
    at = min([first.lineno, *(node.lineno for node in getattr(first, "decorator_list", []))]) - 1
    lines[at:at] = [" " * first.col_offset + text for name, text in imports.items() if name in used]
    return "\n".join(lines)


def grade_one(job: Job) -> Graded:
    """Grade one submission: a pure function of the job and the files it names. Never raises for what a submission holds."""
    with _turn:  # a cluster's worker may have several threads; what it keeps warm serves one submission at a time
        try:
            return _grade_one(job)
        finally:
            if _ending.is_set():  # kernels that this process has ended say nothing about a submission
                threading.Event().wait()


def _grade_one(job: Job) -> Graded:
    notebook, release, papers = _course(job.root, job.notebook)
    recording = _recording(job.recording)
    try:
        submission = read_submission(Path(job.path))
    except UnreadableSubmission as error:
        return _same_for_all(notebook, "unreadable", str(error))
    found = match(submission, release)
    plan = assemble(found, release)
    run = _Run(job, plan, papers, _preloads(notebook))
    run.go()
    checks = [_judge_check(name, notebook, recording, found, plan, run) for name in notebook.checks]
    checks = list(_carried_forward(checks, job, notebook, recording, found, plan, run))
    return Graded(
        checks,
        [(cell.role, cell.name, cell.source, cell.origin) for cell in plan],
        {
            cell.name: found.found[cell.name].source
            for cell in notebook.written
            if cell.name and cell.name in found.found
        },
        [*found.flags, *_curious(found)],
        run.cpu_seconds,
    )


_MACHINERY = re.compile(
    r"autograder\.\w+|AUTOGRADER_\w+|_getframe|\bf_back\b|\bgc\.get_\w+|\bgetrefcount|DisableTorchFunction\w*|_pop_mode\w*|"
    r"ast_transformers|input_transformers\w*|/proc/\w*|\bctypes\b|__code__|sys\.modules|ScriptFunction"
)


def _curious(found: Match) -> Iterator[str]:
    """Remarks on cells that reach for what checks are made of. They cost nothing: someone should have a look."""
    cells = {cell.cell: cell.source for cell in found.free} | {
        cell.cell: cell.source for cell in found.found.values() if cell.cell
    }
    for number, source in sorted(cells.items()):
        names = list(dict.fromkeys(match.group() for match in _MACHINERY.finditer(source)))
        if names:
            yield f"machinery: cell {number} mentions {', '.join(names[:5])}; have a look whether it works on the exercise or on its check"


def _judge_check(
    name: str, notebook: Notebook, recording: Recording, found: Match, plan: Sequence[PlannedCell], run: _Run
) -> dict[str, Any]:
    """One check's result line, less student and notebook."""
    from autograder.answer import UnreadableAnswer, decode
    from autograder.judge import judge

    expected = recording.checks[name]
    cell = found.found.get(name)
    matched_by = cell.matched_by if cell else "missing"

    def line(verdict: Verdict) -> dict[str, Any]:
        return {
            "check": name,
            "status": verdict.status,
            "points": verdict.points,
            "max_points": verdict.max_points,
            "message": _printable(verdict.message),
            "misconception": verdict.misconception,
            "matched_by": matched_by,
            # whole seconds, by our clock: what is worth knowing about a slow solution, and the same from run to run
            "seconds": int(run.seconds.get(name, 0.0)) if name in run.answers else 0,
        }

    def none(status: str, message: str) -> dict[str, Any]:
        return line(Verdict(name, status, 0, expected.points, message))

    if name in run.ends:
        return none(*run.ends[name])
    if cell is None or matched_by == "missing":
        note = f" {' '.join(cell.notes)}" if cell and cell.notes else ""
        return none("missing", f"No cell of the notebook defines `{name}`.{note}")
    data = run.answers.get(name)
    if data is None:
        return none(
            "missing", run.silence.get(name, "The check left no answer, so there is nothing to give points for.")
        )
    try:
        answer = decode(data)
    except UnreadableAnswer as error:
        return none("missing", f"The check's answer cannot be read: {error}.")
    own = [planned.source for planned in plan if planned.origin == "submission"]
    try:
        verdict = judge(answer, expected, forbidden_uses(cell.source, own, expected.forbid))
    except Exception as error:  # an answer is whatever a hostile process wrote
        return none("wrong", f"The answer cannot be compared with the reference's ({type(error).__name__}).")
    if (
        verdict.status == "error"
        and answer.error is not None
        and answer.error.type == "NameError"
        and f"'{name}'" in answer.error.message
    ):
        raised = run.raised.get(name)
        reason = raised or " ".join(cell.notes) or "the cell does not define it"
        verdict = replace(verdict, message=f"`{name}` is not defined when its check runs: {reason}")
    return line(verdict)


def _carried_forward(
    checks: Sequence[dict[str, Any]],
    job: Job,
    notebook: Notebook,
    recording: Recording,
    found: Match,
    plan: Sequence[PlannedCell],
    run: _Run,
) -> Iterator[dict[str, Any]]:
    """A right exercise does not lose its points to a wrong one that it builds on: it is run again with the reference's in that one's place.

    Only a pass is taken from that run. Anything else keeps its first verdict, so nothing that the code might say about the reference gets out.
    What is still the released stub is not run again: it cannot pass. Checks that need the same references share a run.
    """
    wrong: list[str] = []
    # by check: the references in the run that it took part in, and that run
    runs: dict[str, tuple[list[str], _Run]] = {}
    builds_on = {line["check"]: _builds_on(line["check"], plan) for line in checks if line["status"] in _IN_VAIN}

    def used_by(name: str) -> list[str]:
        return [other for other in wrong if other in builds_on[name]]

    for position, line in enumerate(checks):
        name = line["check"]
        used = used_by(name) if name in builds_on else []
        merged = {found.found[other].cell for other in used if other in found.found} & {
            found.found[name].cell if name in found.found else None
        }
        if used and not merged:
            listed = " and ".join(f"`{other}`" for other in used)
            if not _untouched(name, found, plan):
                if runs.get(name, ([], None))[0] != used:
                    later = [other["check"] for other in checks[position + 1 :] if other["check"] in builds_on]
                    together = [name, *(o for o in later if used_by(o) == used and not _untouched(o, found, plan))]
                    shared = _with_references(together, used, job, notebook, plan, run)
                    runs |= dict.fromkeys(together, (used, shared))
                second = runs[name][1]
                verdict = _judge_check(name, notebook, recording, found, plan, second)
                if verdict["status"] == "passed":  # right by itself: those that build on it may use it
                    yield {
                        **verdict,
                        "message": f"Right, and judged with the reference's {listed}, since yours is not right yet.",
                    }
                    continue
            line = {**line, "message": f"{line['message']}\nIt uses {listed}, which is not right yet: begin there."}
        if line["status"] != "passed":
            wrong.append(name)
        yield line


_IN_VAIN = ("wrong", "error", "partial", "not_attempted")
"""What a check may have come to because of what its exercise builds on."""


def _with_references(
    names: Sequence[str], used: Sequence[str], job: Job, notebook: Notebook, plan: Sequence[PlannedCell], run: _Run
) -> _Run:
    """The notebook run for these checks, the reference's exercises in place of those `used`; `run` is charged for it."""
    again = [
        replace(cell, source=_reference(notebook, cell.name or ""))
        if cell.role == "exercise" and cell.name in used
        else cell
        for cell in plan
        if cell.role != "check" or cell.name in names
    ]
    placed = {cell.name for cell in again if cell.role == "exercise"}
    at = next((index for index, cell in enumerate(again) if cell.role in ("exercise", "check")), 0)
    again[at:at] = [PlannedCell("exercise", o, _reference(notebook, o), "release") for o in used if o not in placed]
    second = _Run(job, again, run.papers, run.preload)
    second.time_left = run.time_left  # a submission has its time once
    if second.time_left > 1:
        second.go()
        run.time_left = second.time_left
    run.cpu_seconds += second.cpu_seconds
    return second


def _untouched(name: str, found: Match, plan: Sequence[PlannedCell]) -> bool:
    """Whether nothing was written for an exercise: its cell is the released one, and no other in which something was written speaks of it."""
    blank = {other for other, cell in found.found.items() if cell.untouched}
    return name in blank and not any(
        re.search(rf"\b{name}\b", cell.source)
        for cell in plan
        if cell.origin == "submission" and cell.name not in blank
    )


def _builds_on(name: str, plan: Sequence[PlannedCell]) -> set[str]:
    """The exercises that the learner's cell for `name` mentions, those mention, and so on; what free cells mention counts for all."""
    sources: dict[str, list[str]] = {}
    for cell in plan:
        if cell.origin == "submission":
            sources.setdefault(cell.name or "", []).append(cell.source)
    reached: set[str] = set()
    waiting = [name, ""]
    while waiting:
        text = "\n".join(sources.get(waiting.pop(), ()))
        for other in sources:
            if other and other not in reached and other != name and re.search(rf"\b{other}\b", text):
                reached.add(other)
                waiting.append(other)
    return reached


def _printable(text: str) -> str:
    """A message that can be written, shown and counted on to be one line of results: clipped, and what is not to be seen as �."""
    cut = text[:MOST_MESSAGE] + (
        f"\n… ({len(text) - MOST_MESSAGE} more characters)" if len(text) > MOST_MESSAGE else ""
    )
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", cut)


def _reference(notebook: Notebook, name: str) -> str:
    source = notebook.exercises[name].source
    return "\n".join(text for text in source.split("\n") if BEGIN_SOLUTION not in text and END_SOLUTION not in text)


def _same_for_all(notebook: Notebook, status: str, message: str) -> Graded:
    return Graded(
        [
            {
                "check": name,
                "status": status,
                "points": 0,
                "max_points": check.points,
                "message": _printable(message),
                "misconception": None,
                "matched_by": "missing",
                "seconds": 0,
            }
            for name, check in notebook.checks.items()
        ]
    )


class _Run:
    """Runs a planned notebook, again without the guilty cell where a kernel dies, and keeps what evidence it left."""

    def __init__(self, job: Job, plan: Sequence[PlannedCell], papers: Path, preload: Sequence[str]) -> None:
        self.job, self.plan, self.papers, self.preload = job, plan, papers, preload
        self.answers: dict[str, bytes] = {}
        self.ends: dict[str, tuple[str, str]] = {}  # check -> (status, message)
        self.silence: dict[str, str] = {}
        self.raised: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.time_left = job.limits.submission
        self.cpu_seconds = 0.0

    def go(self) -> None:
        left = self.time_left
        skipped: set[int] = set()
        for _ in (
            self.plan
        ):  # each time without the cell that the kernel died in, so that one bad exercise does not cost the others
            cells = [index for index in range(len(self.plan)) if index not in skipped]
            began = time.monotonic()
            session = self._run([self.plan[index] for index in cells], left)
            left -= time.monotonic() - began
            self.time_left = left
            self._take(session, cells)
            if session.died_at is None:
                return
            guilty = cells[min(session.died_at, len(cells) - 1)]
            self._blame(guilty, session.reason or "kernel_died", session.detail)
            skipped.add(guilty)
            skipped.update(
                index for index in cells if self.plan[index].role == "check" and self._settled(self.plan[index].name)
            )
            if left <= 1 or session.reason == "submission_timeout":
                break
            if all(
                cell.role != "check" or self._settled(cell.name)
                for index, cell in enumerate(self.plan)
                if index not in skipped
            ):
                return
        status = ("timeout", "The notebook took longer than a submission may.")
        for cell in self.plan:
            if cell.role == "check" and cell.name and not self._settled(cell.name):
                self.ends[cell.name] = status

    def _settled(self, name: str | None) -> bool:
        return name in self.answers or name in self.ends

    def _take(self, session: engine.Session, cells: Sequence[int]) -> None:
        """Evidence counts only if it came from the check's own cell."""
        for position, index in enumerate(cells):
            cell = self.plan[index]
            if cell.role == "check" and cell.name:
                self.seconds.setdefault(cell.name, session.seconds.get(position, 0.0))
                key = f"{cell.name}.answer"
                if position in session.timeouts:
                    self.ends.setdefault(
                        cell.name,
                        (
                            "timeout",
                            f"The check did not end within {self.job.limits.cell:g} s: is there a loop that never ends?",
                        ),
                    )
                elif key in session.answers and session.answered_in.get(key) == position:
                    self.answers.setdefault(cell.name, session.answers[key])
                elif key in session.answers:
                    self.silence[cell.name] = (
                        "An answer was written by a cell that is not the check's, so it is no evidence."
                    )
                elif key in session.refused:
                    self.silence[cell.name] = f"The check's answer was not taken: {session.refused[key]}."
            elif cell.role == "exercise" and cell.name:
                if position in session.timeouts:
                    self.ends.setdefault(
                        cell.name, ("timeout", f"The exercise's cell did not end within {self.job.limits.cell:g} s.")
                    )
                elif position in session.errors and session.notebook is not None:
                    self.raised[cell.name] = _error_in(session.notebook.cells[position])
        self.cpu_seconds += session.cpu_seconds or 0.0

    def _blame(self, index: int, reason: str, detail: str) -> None:
        """Say of the checks that cannot be answered any more what happened."""
        cell = self.plan[index]
        status = "timeout" if reason in ("timeout", "submission_timeout") else "kernel_died"
        what = {
            "memory": "It used more memory than a submission may",
            "timeout": f"It did not end within {self.job.limits.cell:g} s and could not be interrupted",
            "submission_timeout": "The notebook took longer than a submission may",
        }.get(reason, "The kernel died")
        where = (
            f"while the check of `{cell.name}` ran"
            if cell.role == "check"
            else "in the exercise's cell"
            if cell.role == "exercise"
            else "in a cell of your own"
        )
        message = f"{what} {where}" + (f": {detail}" if detail else ".")
        if cell.name and cell.role in ("check", "exercise"):
            self.ends.setdefault(cell.name, (status, message))

    def _run(self, cells: Sequence[PlannedCell], time_left: float) -> engine.Session:
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
        for number, cell in enumerate(cells):
            notebook.cells.append(new_cell("code", cell.source, id=f"c{number:04d}"))
        environment = {"AUTOGRADER_MODE": "answer", "AUTOGRADER_SEED": str(self.job.seed)}
        options: dict[str, Any] = {
            "env": environment,
            "cell_timeout": self.job.limits.cell,
            "submission_timeout": max(1.0, time_left),
            "limits": engine.Limits(memory=self.job.limits.memory),
            # what learners draw without a seed is the same from run to run: the same submission, the same result
            "random_seed": self.job.seed % 2**32,
        }
        for fresh in (False, True):  # a zygote that broke or never came up is replaced once: nobody else pays for it
            try:
                zygote = _zygote(self.papers, self.preload, self.job, fresh)
                return engine.run_notebook(notebook, zygote, **options)
            except engine.ZygoteDied:
                if fresh:
                    raise
        raise AssertionError("unreachable")


def _error_in(cell: nbformat.NotebookNode) -> str:
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            return f"its cell raises {output.ename}: {output.evalue}"
    return "its cell raises an error"


# -- what a worker keeps between submissions ---------------------------------------------------------------------------------

_turn = threading.Lock()
_ending = threading.Event()
_courses: dict[tuple[str, str], tuple[Notebook, list[ReleaseCell], Path]] = {}
_recordings: dict[str, Recording] = {}
_zygotes: dict[tuple[str, bool, bool], engine.Zygote | OrdinaryKernels] = {}
_folders: list[str] = []


def _course(root: str, key: str) -> tuple[Notebook, list[ReleaseCell], Path]:
    if (root, key) not in _courses:
        notebooks = read_all(Path(root))
        notebook = next(item for item in notebooks if item.key == key)
        folder = tempfile.mkdtemp(prefix="autograder-papers-")
        _folders.append(folder)
        papers = papers_before(notebook, notebooks, Path(root), Path(folder))
        _courses[root, key] = notebook, release_cells(notebook), papers
    return _courses[root, key]


def _recording(stem: str) -> Recording:
    from autograder.recording import Recording

    if stem not in _recordings:
        _recordings[stem] = Recording.load(Path(stem))
    return _recordings[stem]


def _preloads(notebook: Notebook) -> list[str]:
    """Modules that the notebook's own set-up imports: imported once in the warm process instead of once a submission."""
    names = set()
    for cell in notebook.cells:
        if cell.role == "plain":
            for line in cell.source.splitlines():
                found = re.match(r"(?:from|import)\s+([A-Za-z_][\w.]*)", line)
                if found and not found.group(1).startswith("papers"):
                    names.add(found.group(1))
    return sorted(names)


def _zygote(papers: Path, preload: Sequence[str], job: Job, fresh: bool) -> engine.Zygote | OrdinaryKernels:
    """The warm process for one notebook's submissions; one a worker at a time, since each holds torch in memory."""
    if _ending.is_set():
        raise engine.ZygoteDied("this worker is being ended")
    key = (str(papers), job.unsafe, job.ordinary)
    current = _zygotes.get(key)
    if current is not None and (fresh or current.one_kernel_only):
        current.close()
        del _zygotes[key]
    if key not in _zygotes:
        for other in list(_zygotes):
            _zygotes.pop(other).close()
        zygote: engine.Zygote | OrdinaryKernels
        if job.ordinary:
            zygote = OrdinaryKernels([papers])
        else:
            zygote = engine.Zygote(modules=[papers], preload=preload, unsafe=job.unsafe)
        zygote.start()
        _zygotes[key] = zygote
    return _zygotes[key]


def _begin_worker() -> None:
    """In a new worker process: end what it keeps warm with it, and leave what it has imported out of every later garbage collection."""
    util.Finalize(None, _close_worker, (), None, 10)
    workers.end_with_parent(_close_early)
    gc.freeze()


def _close_early() -> None:
    """In the middle of a worker's work, which is not to go on meanwhile."""
    _ending.set()
    _close_worker()


@atexit.register
def _close_worker() -> None:
    for zygote in list(_zygotes.values()):
        zygote.close()
    _zygotes.clear()
    for folder in _folders:
        shutil.rmtree(folder, ignore_errors=True)
    _folders.clear()


# -- a class -------------------------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """What grading a class came to: all result lines in order, and how many notebooks were run, taken from before, or are copies."""

    results: list[dict[str, Any]]
    ran: int = 0
    kept: int = 0
    copies: int = 0
    cpu_seconds: float = 0.0


def grade(
    root: Path,
    submitted: Path,
    out: Path,
    assignments: Sequence[str] = (),
    jobs: int = 2,
    seed: int | None = None,
    unsafe: bool = False,
    limits: Limits = Limits(),
    executor: Executor | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    ordinary: bool = False,
) -> Report:
    """Grade every submission below `submitted` and write results.jsonl, grades.csv, gradebook.db, feedback and autograded notebooks to `out`.

    Args:
        seed: the run's seed; None: the one kept in `out`, or a fresh secret one that is then kept there.
        unsafe: run learners' code without a sandbox, with all rights of this process.
        executor: where submissions are graded; None: `jobs` local processes.
        progress: told (done, total) as notebooks are finished.
        ordinary: start an ordinary kernel for each notebook, as where forking is not possible. Only with `unsafe`.

    Raises: GradingError where it cannot begin.
    """
    from autograder.sandbox import available

    if executor is None:
        workers.start_server()
    if ordinary and not unsafe:
        raise GradingError("there is no sandbox around ordinary kernels: say `--unsafe` with `--ordinary-kernels`")
    ordinary = ordinary or not engine.can_fork()[0]
    works, why = available()
    if not works and not unsafe:
        raise GradingError(
            f"no sandbox: {why}. Without one, learners' code would run with your rights; `--unsafe` says that you accept that"
        )
    notebooks = read_all(root, assignments)
    submissions = collect(submitted, notebooks)
    gradebook.prepare()  # while the server imports the grader: the first page, which waits for it, would hold up the workers
    handed_in = {submission.assignment for submission in submissions}
    notebooks = [notebook for notebook in notebooks if notebook.assignment in handed_in]
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        run_seed = _kept_seed(out, seed)
        recordings = _make_recordings(root, notebooks, run_seed, out / "cache", jobs)
        plan = _plan(root, submissions, notebooks, run_seed, recordings, limits, unsafe, ordinary)
        pages = _Pages(out, plan, notebooks)
        report = _grade_all(plan, pages.notebooks, out / "cache" / "graded", jobs, executor, progress, pages.write)
        pages.write_missing()
        report.results = pages.results()
        _write_tables(root, out, notebooks, report.results, pages.answers)
    return report


@dataclass(frozen=True)
class _Planned:
    submission: Submission
    job: Job | None
    key: str


def _plan(
    root: Path,
    submissions: Sequence[Submission],
    notebooks: Sequence[Notebook],
    seed: int,
    recordings: dict[str, Path],
    limits: Limits,
    unsafe: bool,
    ordinary: bool,
) -> list[_Planned]:
    environment = _environment_hash()
    stamps = _course_stamps(root, notebooks)
    planned = []
    for submission in submissions:
        notebook = f"{submission.assignment}/{submission.notebook}"
        if submission.path is None:
            planned.append(_Planned(submission, None, ""))
            continue
        job = Job(str(submission.path), str(root), notebook, seed, str(recordings[notebook]), limits, unsafe, ordinary)
        content = _file_hash(submission.path)
        parts = json.dumps([content, stamps[notebook], seed, asdict(limits), unsafe, ordinary, environment])
        planned.append(_Planned(submission, job, hashlib.sha256(parts.encode()).hexdigest()[:32]))
    return planned


def _grade_all(
    plan: Sequence[_Planned],
    notebooks: Mapping[str, Notebook],
    cache: Path,
    jobs: int,
    executor: Executor | None,
    progress: Callable[[int, int], None],
    finished: Callable[[str, Graded], None],
) -> Report:
    """Run what is not in the cache yet, each content once; every result is kept as soon as it is there, so a killed run goes on later."""
    cache.mkdir(parents=True, exist_ok=True)
    report = Report([])
    todo: dict[str, Job] = {}
    known: dict[str, Graded] = {}
    for item in plan:
        if item.job is None:
            continue
        if item.key in known or item.key in todo:
            report.copies += 1
            continue
        try:
            known[item.key] = Graded(**json.loads((cache / f"{item.key}.json").read_text(encoding="utf-8")))
            report.kept += 1
        except (OSError, ValueError, TypeError):
            todo[item.key] = item.job
    done, total = len(known), len(known) + len(todo)
    progress(done, total)
    for key, outcome in _graded(todo, jobs, executor):
        if isinstance(outcome, Graded):
            result = outcome
            _write_atomically(cache / f"{key}.json", json.dumps(asdict(result)))
        else:  # a fault of ours, not the learner's: said so, not cached, and nobody else's grade changes
            result = _same_for_all(
                notebooks[todo[key].notebook],
                "missing",
                f"The grader failed on this notebook and gave no points; grade it again ({outcome!r}).",
            )
        finished(key, result)
        report.ran += 1
        report.cpu_seconds += result.cpu_seconds
        done += 1
        progress(done, total)
    for key, result in known.items():
        finished(key, result)
    return report


def _graded(todo: dict[str, Job], jobs: int, executor: Executor | None) -> Iterator[tuple[str, Graded | Exception]]:
    """Each result as soon as it is there."""
    if not todo:
        return iter(())
    return _graded_here(todo, jobs) if executor is None else _graded_there(todo, executor)


def _by_notebook(todo: dict[str, Job]) -> list[str]:
    """Keys in the order of grading: a worker's warm process then serves many submissions before it is replaced."""
    return sorted(todo, key=lambda key: (todo[key].notebook, key))


def _graded_there(todo: dict[str, Job], executor: Executor) -> Iterator[tuple[str, Graded | Exception]]:
    """Results from somebody else's executor."""
    futures: dict[Future[Graded], str] = {executor.submit(grade_one, todo[key]): key for key in _by_notebook(todo)}
    for future in as_completed(futures):
        error = future.exception()
        yield futures[future], error if isinstance(error, Exception) else future.result()


def _graded_here(todo: dict[str, Job], jobs: int) -> Iterator[tuple[str, Graded | Exception]]:
    """Results from local processes.

    Each has its share, in the order of notebooks, so that it starts few warm processes; one that is done takes from the
    others' ends, where that saves time. A second submission waits at each, so that none idles while this process writes pages.
    """
    order = _by_notebook(todo)
    share = -(-len(order) // jobs)
    shares = _Shares([deque(order[at : at + share]) for at in range(0, len(order), share)], todo)
    places = range(len(shares.waiting))
    pools = [_one_process() for _ in places]
    running: dict[Future[Graded], tuple[str, int, ProcessPoolExecutor]] = {}
    again: set[str] = set()

    def submit(worker: int, key: str) -> Future[Graded]:
        try:
            return pools[worker].submit(grade_one, todo[key])
        except BrokenProcessPool:
            pools[worker] = _one_process()
            return pools[worker].submit(grade_one, todo[key])

    def begin() -> None:
        """Two submissions at each worker, as long as there are any that it should take."""
        for _ in range(2):
            busy = [worker for _, worker, _ in running.values()]
            for worker in places:
                key = shares.take(worker) if busy.count(worker) < 2 else None
                if key is not None:
                    running[submit(worker, key)] = key, worker, pools[worker]

    try:
        with workers.ended_by_errors():
            begin()
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    key, worker, pool = running.pop(future)
                    error = future.exception()
                    shares.ended(worker)
                    if isinstance(error, BrokenProcessPool):  # killed, for want of memory perhaps: the rest goes on
                        if pools[worker] is pool:
                            pools[worker] = _one_process()
                        if key not in again:  # it may have been the other one's fault
                            again.add(key)
                            shares.waiting[worker].appendleft(key)
                            begin()
                            continue
                    begin()
                    yield key, error if isinstance(error, Exception) else future.result()
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


class _Shares:
    """What waits for each worker, and who takes what.

    waiting: keys by worker, in the order of grading.
    """

    def __init__(self, waiting: list[deque[str]], todo: Mapping[str, Job]) -> None:
        self.waiting, self._todo = waiting, todo
        self._warm: list[str | None] = [None] * len(waiting)  # the notebook that a worker's process serves
        self._began = time.monotonic()
        self._ended: list[list[float]] = [[] for _ in waiting]  # when a worker's first and latest submission ended
        self._count = [0] * len(waiting)

    def take(self, worker: int) -> str | None:
        """The next submission for a worker, None where it had better do nothing."""
        key = self._own(worker) or self._alike(worker) or self._slowest(worker)
        if key is not None:
            self._warm[worker] = self._todo[key].notebook
        return key

    def ended(self, worker: int) -> None:
        """A submission of this worker's is done."""
        self._ended[worker][1:] = [time.monotonic()]
        self._count[worker] += 1

    def _own(self, worker: int) -> str | None:
        return self.waiting[worker].popleft() if self.waiting[worker] else None

    def _alike(self, worker: int) -> str | None:
        """Another's submission that this worker's warm process can serve."""
        for share in sorted(self.waiting, key=len, reverse=True):
            for key in reversed(share):
                if self._todo[key].notebook == self._warm[worker]:
                    share.remove(key)
                    return key
        return None

    def _slowest(self, worker: int) -> str | None:
        """The last one of whoever needs longest, if that is worth it: this worker has to start anew, and half of the rest stays with the other."""
        if not self._ended[worker]:
            return None
        start = self._ended[worker][0] - self._began  # the first one's end, since its start took longest
        left = [len(share) * self._pace(other) for other, share in enumerate(self.waiting)]
        slowest = max(range(len(left)), key=left.__getitem__)
        return self.waiting[slowest].pop() if left[slowest] > 2 * start else None

    def _pace(self, worker: int) -> float:
        """Seconds that a submission takes a worker, once it has started."""
        ended, count = self._ended[worker], self._count[worker]
        return (ended[-1] - ended[0]) / (count - 1) if count > 1 else 0.0


def _one_process() -> ProcessPoolExecutor:
    """One worker, forked from a process that has imported this module, where the system can do that."""
    return ProcessPoolExecutor(1, mp_context=workers.context(), initializer=_begin_worker)


@contextmanager
def cluster(address: str | None) -> Iterator[Executor | None]:
    """The executor of a dask.distributed cluster, or None for local processes. Raises GradingError where it cannot be reached."""
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError:
        raise GradingError('--scheduler needs dask.distributed: pip install "paper-to-pytorch[distributed]"') from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise GradingError(f"no scheduler answers at {address}: {error}") from None
    with client:
        yield client.get_executor()


class _Pages:
    """Writes what belongs to a notebook as soon as it is graded, and keeps of it only what the tables need."""

    def __init__(self, out: Path, plan: Sequence[_Planned], notebooks: Sequence[Notebook]) -> None:
        self.out, self.plan = out, plan
        self.notebooks = {notebook.key: notebook for notebook in notebooks}
        self.answers: dict[tuple[str, str, str], dict[str, str]] = {}
        self._lines: dict[Submission, list[dict[str, Any]]] = {}
        self._waiting: dict[str, list[Submission]] = {}
        for item in plan:
            self._waiting.setdefault(item.key, []).append(item.submission)

    def write(self, key: str, outcome: Graded) -> None:
        """The pages of all who handed in this content."""
        for submission in self._waiting.pop(key, ()):
            self._write(submission, outcome)

    def write_missing(self) -> None:
        """The pages of notebooks that were not handed in."""
        for submission in self._waiting.pop("", ()):
            notebook = self.notebooks[f"{submission.assignment}/{submission.notebook}"]
            message = f"{submission.notebook}.ipynb was not handed in."
            self._write(submission, _same_for_all(notebook, "missing", message))

    def results(self) -> list[dict[str, Any]]:
        """All result lines, in the plan's order."""
        return [line for item in self.plan for line in self._lines[item.submission]]

    def _write(self, submission: Submission, outcome: Graded) -> None:
        from autograder.feedback import feedback_page
        from autograder.gradebook import autograded_notebook

        student, assignment, name = submission.student, submission.assignment, submission.notebook
        notebook = self.notebooks[f"{assignment}/{name}"]
        about = {"student": _written(student), "assignment": assignment, "notebook": name}
        lines = [{field: (about | check)[field] for field in RESULT_FIELDS} for check in outcome.checks]
        self._lines[submission] = lines
        self.answers[student, assignment, name] = outcome.written
        cells = [(role, name, source, origin) for role, name, source, origin in outcome.cells]
        cells += [("written", slug, text, "submission") for slug, text in outcome.written.items()]
        page = feedback_page(student, assignment, notebook.title, lines, cells, [*submission.flags, *outcome.flags])
        _write_atomically(self.out / "feedback" / student / assignment / f"{name}.html", page)
        node = autograded_notebook(cells, lines, notebook)
        _write_atomically(
            self.out / "autograded" / student / assignment / f"{name}.ipynb",
            nbformat.v4.writes(node) + "\n",  # made here, so valid: nothing is gained by asking a schema about each
        )


def _write_tables(
    root: Path,
    out: Path,
    notebooks: Sequence[Notebook],
    results: list[dict[str, Any]],
    answers: dict[tuple[str, str, str], dict[str, str]],
) -> None:
    from autograder.feedback import class_page
    from autograder.gradebook import grades_csv, write_gradebook

    # for nbgrader's formgrader and exports, started in the grading folder
    config = f"c = get_config()\nc.CourseDirectory.source_directory = {str(root / 'solutions')!r}\n"
    _write_atomically(out / "nbgrader_config.py", config)
    _write_atomically(out / "results.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in results))
    write_gradebook(out / "gradebook.db", results, notebooks, answers=answers)
    _write_atomically(out / "grades.csv", grades_csv(results, notebooks, out / "gradebook.db"))
    _write_atomically(out / "feedback" / "index.html", class_page(results, notebooks))


def _make_recordings(root: Path, notebooks: Sequence[Notebook], seed: int, cache: Path, jobs: int) -> dict[str, Path]:
    """The reference's answers on this run's seed, hidden cases included: each solution runs once, then its content names the cached file."""
    stems: dict[str, Path] = {}
    stamps = _course_stamps(root, notebooks)
    for notebook in notebooks:
        stamp = hashlib.sha256(f"{stamps[notebook.key]} {seed} {_environment_hash()}".encode()).hexdigest()[:16]
        stems[notebook.key] = cache / "recordings" / f"{notebook.assignment}--{notebook.name}--{stamp}"

    def one(notebook: Notebook) -> None:
        stem = stems[notebook.key]
        if all(stem.with_suffix(suffix).exists() for suffix in (".json", ".safetensors")):
            return
        stem.parent.mkdir(parents=True, exist_ok=True)
        # a run that is killed leaves nothing under the name itself
        with tempfile.TemporaryDirectory(prefix=".part-", dir=stem.parent) as folder:
            part = Path(folder) / stem.name
            arguments = map(str, (root, notebook.key, seed, part))
            command = [sys.executable, "-m", "autograder.record", *arguments, "hidden"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                said = done.stderr.strip() or workers.how_it_ended(done.returncode)
                raise GradingError(
                    f"the solution of {notebook.key} gives no recording on this run's --seed, so nothing can be graded: {said}"
                )
            for suffix in (".safetensors", ".json"):
                part.with_suffix(suffix).replace(stem.with_suffix(suffix))

    with workers.temporary_files_in_one_folder(), ThreadPoolExecutor(max(1, jobs)) as pool:
        list(pool.map(one, notebooks))
    return stems


def _kept_seed(out: Path, seed: int | None) -> int:
    """The grading folder's seed: drawn once, kept for resuming and regrading, readable by the grader alone."""
    path = out / "seed"
    if seed is None and path.exists():
        return int(path.read_text())
    drawn = secrets.randbits(62) if seed is None else seed
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(f"{drawn}\n")
    return drawn


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Only one run at a time writes a grading folder."""
    (out / "cache").mkdir(mode=0o700, exist_ok=True)
    with (out / "cache" / "lock").open("w") as file:
        try:
            _lock(file)
        except OSError:
            raise GradingError(f"another run is grading into {out}: wait for it, or choose another --out") from None
        yield


def _lock(file: IO[str]) -> None:
    """Lock an open file until it is closed. Raises OSError where another process has it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _course_stamps(root: Path, notebooks: Sequence[Notebook]) -> dict[str, str]:
    """The content that decides a verdict on the course's side: a notebook's source, the package, and what it may import of `papers`."""
    package = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        package.update(path.name.encode() + path.read_bytes())
    every = read_all(root)
    stamps = {}
    for notebook in notebooks:
        digest = package.copy()
        digest.update(notebook.path.read_bytes())
        digest.update(json.dumps(visible_papers(notebook, every, root), sort_keys=True).encode())
        stamps[notebook.key] = digest.hexdigest()
    return stamps


def _environment_hash() -> str:
    import platform
    from importlib.metadata import version

    names = ("torch", "numpy", "safetensors", "ipython", "papermill", "nbformat")
    return hashlib.sha256(
        json.dumps([platform.python_version(), *[version(name) for name in names]]).encode()
    ).hexdigest()[:16]


def _file_hash(path: Path) -> str:
    """The content of a submitted file; of what is no ordinary file, or cannot be read, its kind and name: it is not run."""
    try:
        kind, size = stat.S_IFMT(path.lstat().st_mode), path.lstat().st_size
        if kind == stat.S_IFREG and size <= MOST_HASHED:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        return f"no file: {kind} {size > MOST_HASHED} {path.name}"
    except OSError as error:
        return f"no file: {error.errno} {path.name}"


def _written(name: str) -> str:
    """A file's name as text that can be written, whatever bytes it is made of."""
    return name.encode("utf-8", "backslashreplace").decode()


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
