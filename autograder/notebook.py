"""The source form of a notebook: which cell of `solutions/<assignment>/<notebook>.py` plays which role. Reads and derives; runs nothing.

Nobody types nbgrader's metadata: names, points and locks are read off the cells themselves.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jupytext
import nbformat
from nbformat import NotebookNode

from autograder.cells import top_level_names

Role = Literal[
    "prose",
    "badge",
    "setup",
    "plain",
    "parameters",
    "exercise",
    "check",
    "misconceptions",
    "alternative",
    "picture",
    "written",
]

UNRELEASED: tuple[Role, ...] = ("misconceptions", "alternative")
"""Roles that no learner's notebook holds."""

NOT_GRADED: tuple[Role, ...] = ("prose", "badge", "picture", "written", "misconceptions", "alternative")
"""Roles whose cells do not run when a submission is graded: no check may depend on them."""

BEGIN_SOLUTION, END_SOLUTION = "### BEGIN SOLUTION", "### END SOLUTION"
BEGIN_HIDDEN, END_HIDDEN = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"


class SourceError(ValueError):
    """A solution source breaks a rule of the form; the message names the file, the cell and the rule."""


class UnknownAssignment(SourceError):
    """A name that no assignment or notebook has."""


@dataclass(frozen=True)
class CheckCall:
    """What a check cell's decorator says."""

    name: str
    points: int
    forbid: tuple[str, ...]
    paper: str


@dataclass(frozen=True)
class Cell:
    """One cell of a source: its role, the name it goes by (of its exercise, check or question), and its text."""

    role: Role
    source: str
    name: str | None = None
    points: int = 0
    export: bool = False
    check: CheckCall | None = None

    @property
    def kind(self) -> str:
        return "markdown" if self.role in ("prose", "badge", "written") else "code"

    @property
    def grade_id(self) -> str | None:
        """nbgrader's id of the cell; None for cells nbgrader need not know."""
        if self.role == "exercise":
            return self.name
        return f"{self.role}-{self.name}" if self.role in ("check", "written") else None

    @property
    def public(self) -> str:
        """The cell's text without hidden cases."""
        return without_region(self.source, BEGIN_HIDDEN, END_HIDDEN)


@dataclass(frozen=True)
class Notebook:
    """A solution source.

    cells: in order, badge and set-up cell included. order: its place in the assignment. exports: the module that cells tagged `export` go to.
    """

    path: Path
    title: str
    order: int
    minutes: int
    exports: str | None
    cells: tuple[Cell, ...]

    @property
    def assignment(self) -> str:
        return self.path.parent.name

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def key(self) -> str:
        return f"{self.assignment}/{self.name}"

    @cached_property
    def checks(self) -> dict[str, Cell]:
        return {cell.name: cell for cell in self.cells if cell.role == "check" and cell.name}

    @cached_property
    def exercises(self) -> dict[str, Cell]:
        return {cell.name: cell for cell in self.cells if cell.role == "exercise" and cell.name}

    @property
    def written(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.role == "written"]

    def alternatives(self, name: str) -> list[tuple[str, str]]:
        """(style, source without its decorator) of the other right solutions of exercise `name`."""
        found = []
        for cell in self.cells:
            if cell.role == "alternative" and cell.name == name:
                found.append(_undecorated(cell.source, "alternative"))
        return found

    @cached_property
    def stubs(self) -> dict[str, str]:
        """The messages of all stubs, with the exercise each belongs to."""
        return {message: name for name, cell in self.exercises.items() for message in stub_messages(cell.source)}

    def released_exercise(self, name: str) -> str:
        return stubbed(self.exercises[name].source)


def read(path: Path, setup: str | None = None, badge: str | None = None) -> Notebook:
    """Read a solution source. `setup` and `badge` are inserted after the title cell. Raises SourceError where a rule is broken."""
    notebook = _parsed(path)
    about = notebook.metadata.get("curriculum") or notebook.metadata.get("jupyter", {}).get("curriculum") or {}
    missing = [key for key in ("title", "order", "minutes") if key not in about]
    if missing:
        raise SourceError(f"{path}: the header's `curriculum` does not say {', '.join(missing)}")
    cells = [_cell(path, index, cell) for index, cell in enumerate(notebook.cells) if cell.source.strip()]
    if not cells or cells[0].role != "prose":
        raise SourceError(f"{path}: the first cell is the title, in Markdown")
    inserted = [Cell("badge", badge)] if badge else []
    inserted += [Cell("setup", setup)] if setup else []
    cells[1:1] = inserted
    _obey(path, cells)
    return Notebook(
        path, str(about["title"]), int(about["order"]), int(about["minutes"]), about.get("exports"), tuple(cells)
    )


def _parsed(path: Path) -> NotebookNode:
    """What jupytext makes of a source; kept by content in the repository's data/cache, since parsing costs a tenth of a second."""
    text = path.read_text(encoding="utf-8")
    name = hashlib.sha256(f"{jupytext.__version__}\n{text}".encode()).hexdigest()[:32]
    kept = path.resolve().parents[2] / "data" / "cache" / "sources" / f"{name}.json"
    try:
        return nbformat.from_dict(json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        notebook = jupytext.reads(text, fmt="py:percent")
    with contextlib.suppress(OSError):  # a checkout that may not be written is only slower
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(f".{name}.{os.getpid()}.{threading.get_ident()}")
        part.write_text(json.dumps(notebook), encoding="utf-8")
        part.replace(kept)
    return notebook


def _cell(path: Path, index: int, cell: NotebookNode) -> Cell:
    source, metadata = cell.source, cell.metadata
    tags = metadata.get("tags", [])
    where = f"{path}: cell {index + 1} ({source.strip().splitlines()[0][:50]!r})"
    if cell.cell_type == "markdown":
        if "written" in metadata:
            if BEGIN_SOLUTION not in source:
                raise SourceError(
                    f"{where}: a written question holds its model answer between {BEGIN_SOLUTION} and {END_SOLUTION}"
                )
            return Cell("written", source, str(metadata["written"]), int(metadata.get("points", 1)))
        return Cell("prose", source)
    if cell.cell_type != "code":
        raise SourceError(f"{where}: only code and Markdown cells")
    export = "export" in tags
    for role in ("parameters", "misconceptions", "picture"):
        if role in tags:
            return Cell(role, source, export=export)  # type: ignore[arg-type]
    if "alternative" in tags:
        return Cell("alternative", source, _alternative_name(source, where))
    call = _check_call(source, where)
    if call is not None:
        return Cell("check", source, call.name, call.points, check=call)
    if BEGIN_SOLUTION in source:
        return Cell("exercise", source, export=export)  # named after the check that follows
    return Cell("plain", source, export=export)


def _obey(path: Path, cells: list[Cell]) -> None:
    """Name exercises after their checks, and enforce the rules between cells."""
    pending: int | None = None
    seen: set[str] = set()
    for index, cell in enumerate(cells):
        if cell.role == "exercise":
            if pending is not None:
                raise SourceError(
                    f"{path}: an exercise cell without a check stands before another ({cells[pending].source[:60]!r})"
                )
            pending = index
        elif cell.role == "check":
            assert cell.name is not None
            if cell.name in seen:
                raise SourceError(f"{path}: two checks are named {cell.name!r}")
            seen.add(cell.name)
            if pending is None or cell.name not in top_level_names(cells[pending].source):
                raise SourceError(
                    f"{path}: check {cell.name!r} does not follow an exercise cell that defines {cell.name!r}"
                )
            before = cells[pending]
            cells[pending] = Cell("exercise", before.source, cell.name, export=before.export)
            pending = None
            _hidden_last(path, cell)
    if pending is not None:
        raise SourceError(f"{path}: the last exercise cell has no check")
    for cell in cells:
        if cell.role == "alternative" and cell.name not in seen:
            raise SourceError(f"{path}: an alternative of {cell.name!r}, which no check is named after")


def _hidden_last(path: Path, cell: Cell) -> None:
    """Hidden cases come last, so that what the public ones draw is the same with and without them."""
    if BEGIN_HIDDEN not in cell.source:
        return
    _, _, rest = cell.source.partition(BEGIN_HIDDEN)
    hidden, _, after = rest.partition(END_HIDDEN)
    if after.strip() or BEGIN_HIDDEN in hidden + after:
        raise SourceError(
            f"{path}: in check {cell.name!r} something stands behind the hidden cases; they come last, in one region"
        )


def _check_call(source: str, where: str) -> CheckCall | None:
    if "@check(" not in source:
        return None
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise SourceError(f"{where}: {error}") from None
    for statement in tree.body:
        for call in getattr(statement, "decorator_list", []):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "check":
                try:
                    name = ast.literal_eval(call.args[0])
                    options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
                    return CheckCall(
                        name, int(options["points"]), tuple(options.get("forbid", ())), options.get("paper", "")
                    )
                except (ValueError, IndexError, KeyError, TypeError):
                    raise SourceError(
                        f"{where}: @check takes a name, points=… and perhaps forbid=[…], paper=…, all literal"
                    ) from None
    return None


def _alternative_name(source: str, where: str) -> str:
    for statement in ast.parse(source).body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) and any(
            isinstance(call, ast.Call) and getattr(call.func, "id", "") == "alternative"
            for call in statement.decorator_list
        ):
            return statement.name
    raise SourceError(f'{where}: an alternative is a def or class under @alternative("its style")')


def _undecorated(source: str, decorator: str) -> tuple[str, str]:
    """(the decorator's text argument, the source with the decorator's lines blanked)."""
    for statement in ast.parse(source).body:
        for call in getattr(statement, "decorator_list", []):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == decorator:
                lines = source.splitlines()
                for line in range(call.lineno - 1, call.end_lineno or call.lineno):
                    lines[line] = ""
                return str(ast.literal_eval(call.args[0])), "\n".join(lines) + "\n"
    raise ValueError(f"no @{decorator} in this cell")


# -- what learners get in place of a solution ------------------------------------------------------------------------------


def without_region(source: str, begin: str, end: str) -> str:
    """The text without what stands between the two marks, marks included."""
    kept, inside = [], False
    for line in source.split("\n"):
        if begin in line:
            inside = True
        elif end in line:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept).rstrip("\n")


def stub_messages(source: str) -> list[str]:
    """What each region of an exercise cell asks for, by the function it stands in: "implement MultiHeadAttention.forward"."""
    lines = source.split("\n")
    begins = [number for number, line in enumerate(lines, start=1) if BEGIN_SOLUTION in line]
    scopes: list[tuple[int, int, str]] = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                qualified = f"{prefix}{child.name}"
                scopes.append((child.lineno, child.end_lineno or child.lineno, qualified))
                visit(child, qualified + ".")
            else:
                visit(child, prefix)

    visit(ast.parse(source), "")
    messages = []
    for begin in begins:
        inner = [name for first, last, name in scopes if first <= begin <= last + 1]
        name = inner[-1] if inner else next(iter(top_level_names(source)), "this")
        messages.append(f"implement {name}")
    return messages


def stubbed(source: str) -> str:
    """An exercise cell as released: each solution region becomes a `raise NotImplementedError` that says what to implement."""
    messages = iter(stub_messages(source))
    kept, inside = [], False
    for line in source.split("\n"):
        if BEGIN_SOLUTION in line:
            inside = True
            indent = re.match(r"\s*", line).group(0)  # type: ignore[union-attr]
            kept.append(f'{indent}raise NotImplementedError("{next(messages)}")')
        elif END_SOLUTION in line:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


# -- as a Jupyter notebook -------------------------------------------------------------------------------------------------


def to_ipynb(notebook: Notebook) -> NotebookNode:
    """The complete notebook with nbgrader's metadata; the same source gives the same bytes."""
    cells = []
    ids: set[str] = set()
    for cell in notebook.cells:
        node = (
            nbformat.v4.new_code_cell(cell.source)
            if cell.kind == "code"
            else nbformat.v4.new_markdown_cell(cell.source)
        )
        node.id = _unique_id(cell, ids)
        node.metadata = nbformat.from_dict(_metadata(cell))
        cells.append(node)
    result = nbformat.v4.new_notebook(cells=cells)
    result.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "curriculum": {"assignment": notebook.assignment, "notebook": notebook.name, "title": notebook.title},
        }
    )
    result.nbformat, result.nbformat_minor = 4, 5
    return result


def _unique_id(cell: Cell, taken: set[str]) -> str:
    """An id from the cell's name, or for unnamed cells from their text: an insertion elsewhere changes no other id."""
    stem = (
        f"{cell.role}-{cell.name}"
        if cell.name
        else f"{cell.role}-{hashlib.sha256(cell.source.encode()).hexdigest()[:8]}"
    )
    stem = re.sub(r"[^a-zA-Z0-9_-]", "-", stem)[:58]
    candidate, count = stem, 1
    while candidate in taken:
        count += 1
        candidate = f"{stem}-{count}"
    taken.add(candidate)
    return candidate


def _metadata(cell: Cell) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    tags: list[str] = (
        [cell.role] if cell.role in ("parameters", "misconceptions", "alternative", "picture", "setup") else []
    )
    tags += ["export"] if cell.export else []
    if tags:
        metadata["tags"] = tags
    if cell.grade_id:
        grade, solution = cell.role in ("check", "written"), cell.role in ("exercise", "written")
        metadata["nbgrader"] = {
            "grade": grade,
            "grade_id": cell.grade_id,
            "locked": cell.role == "check",
            "schema_version": 3,
            "solution": solution,
            "task": False,
            **({"points": cell.points} if grade else {}),
        }
    if cell.role == "setup":
        metadata["cellView"] = "form"  # Colab folds the cell away
    return metadata


def new_cell(cell_type: Literal["code", "markdown"], source: str, id: str = "cell") -> NotebookNode:
    """A cell as nbformat makes it, without asking a schema, which takes longer than running most cells."""
    more: dict[str, Any] = {"execution_count": None, "outputs": []} if cell_type == "code" else {}
    return NotebookNode(id=id, cell_type=cell_type, metadata=NotebookNode(), source=source, **more)


def dumps(notebook: NotebookNode) -> str:
    """The one way a notebook is written: nbformat's, keys sorted, a final newline."""
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def find(solutions: Path, names: list[str] | tuple[str, ...] = ()) -> Iterator[Path]:
    """Sources below `solutions`, in the curriculum's order of names; only those of the assignments (or "assignment/notebook") named.

    Raises UnknownAssignment for a name that matches nothing.
    """
    paths = sorted(solutions.glob("*/*.py"))
    known = {path.parent.name for path in paths} | {f"{path.parent.name}/{path.stem}" for path in paths}
    for name in names:
        if name.rstrip("/") not in known:
            assignments = ", ".join(sorted({path.parent.name for path in paths})) or "none"
            raise UnknownAssignment(f"there is no assignment {name!r}; there are {assignments}")
    wanted = {name.rstrip("/") for name in names}
    for path in paths:
        if not wanted or path.parent.name in wanted or f"{path.parent.name}/{path.stem}" in wanted:
            yield path
