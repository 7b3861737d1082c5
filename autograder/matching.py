"""Finds a learner's cells in an untrusted notebook and plans what is executed; never executes, and never believes metadata.

Metadata and ids only say where to look first. Whatever they say, all that can be taken from a submission is source
text the learner could have typed anyway; set-up, parameters and checks always come from the release.
"""

from __future__ import annotations

import ast
import codecs
import json
import keyword
import os
import re
import stat
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from nbformat import NotebookNode
from rapidfuzz import fuzz
from rapidfuzz.distance import LCSseq

MIB = 1024 * 1024
#: Largest file that is read: 200 MB of outputs is honest work with a chatty training loop.
MAX_FILE = 256 * MIB
#: Largest notebook once its outputs are gone: sources and pasted pictures.
MAX_KEPT = 64 * MIB
#: JSON tokens parsed and skipped; they bound memory and time, since a million `[]` weigh far more parsed than written.
MAX_PIECES = 2_000_000
MAX_SKIPPED_PIECES = 10_000_000
MAX_DEPTH = 64
MAX_CELLS = 20_000
#: Characters of one cell, and of all cells together, that are parsed as Python; beyond, a regular expression decides.
MAX_PARSED_CELL = 100_000
MAX_PARSED = 1_000_000
#: Characters times magic lines given to IPython's transformer, which reads a cell once more for each magic in it.
MAX_TRANSFORMED = 500_000
#: Cells compared by similarity, and the characters of each that are looked at.
MAX_COMPARED_CELLS = 200
MAX_COMPARED = 8_000
MAX_FLAGS = 100
#: Share of a stub's words that must come back, in order, in a cell that is taken for it (percent).
SIMILAR = 70.0
SIMILAR_HEADER = 65.0
SIMILAR_QUESTION = 85.0


class UnreadableSubmission(ValueError):
    """The file is no notebook that can be graded; the text is one line: what is wrong and what to do."""


@dataclass(frozen=True)
class ReleaseCell:
    """One cell of the source of truth, as the learner got it (`source`) and as it is graded (`graded_source`).

    `role` is one of setup, plain, parameters, exercise, check, picture, written, prose. `name` is the exercise's name
    for an exercise and its check, the slug for a written question; no two exercises or questions share one.
    """

    role: str
    name: str | None
    grade_id: str | None
    cell_id: str
    source: str
    graded_source: str


@dataclass(frozen=True)
class FoundCell:
    """What the learner handed in for one exercise or written question.

    `matched_by` is grade_id, cell_id, name, similarity or missing. `cell` counts the submission's cells from 1 (None
    if missing); `place` is the index of the release cell at which the source is executed. Two exercises merged into
    one cell share `cell` and `place`. `attachments` are the pictures pasted into a written answer. `untouched`: the
    exercise's cell is the released one but for white space, comments and docstrings.
    """

    source: str
    matched_by: str
    notes: tuple[str, ...] = ()
    cell: int | None = None
    place: int = -1
    attachments: dict[str, dict[str, str]] = field(default_factory=dict)
    untouched: bool = False


class FreeCell(NamedTuple):
    """A cell of the learner's own: executed right after release cell `after` (-1: before all of them)."""

    source: str
    after: int
    cell: int


@dataclass(frozen=True)
class Match:
    """What was found in a submission; `flags` are sentences for the instructor, each beginning with its kind.

    The kinds: repaired, another notebook, missing, duplicate, moved, merged, split, retyped, renamed, edited, metadata.
    """

    found: dict[str, FoundCell]
    free: list[FreeCell]
    flags: list[str]


@dataclass(frozen=True)
class PlannedCell:
    """One cell to execute; `role` is a release role or free, `origin` is release or submission."""

    role: str
    name: str | None
    source: str
    origin: str


# --- reading -----------------------------------------------------------------------------------------------------


def read_submission(path: Path, max_bytes: int = MAX_FILE) -> NotebookNode:
    """Read an untrusted notebook of any nbformat as 4.5, without outputs and with only the metadata matching looks at.

    Memory is bounded by the file's size plus what MAX_KEPT and MAX_PIECES allow: outputs are cut out of the bytes
    before anything is parsed. What had to be repaired stands in `metadata["repairs"]`.

    Raises UnreadableSubmission for links, anything but an ordinary file, a file that is too large or empty, broken
    JSON, or JSON that is no notebook.
    """
    path = Path(path)
    try:
        data, repairs = _as_utf8(_read_bytes(path, max_bytes))
        raw = _parse_json(data)
        notebook = notebook_from(raw)
    except UnreadableSubmission as problem:
        raise UnreadableSubmission(f"{_printable(path.name)}: {problem}") from None
    notebook.metadata["repairs"] = repairs + notebook.metadata["repairs"]
    return notebook


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in name)[:120]


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    if path.is_symlink():
        raise UnreadableSubmission("is a link to another file. Submit the notebook itself.")
    # Not following links and not blocking on a pipe, should the file be exchanged between the test and the opening.
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise UnreadableSubmission("there is no such file. Submit the notebook under this name.") from None
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise UnreadableSubmission(f"cannot be opened ({reason}). Check the file and its permissions.") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableSubmission("is not an ordinary file. Submit the notebook itself.")
        size = status.st_size
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = b"" if size > max_bytes else file.read(max_bytes + 1)
    except OSError as problem:
        raise UnreadableSubmission(f"cannot be read ({problem.strerror}). Copy the file again.") from None
    finally:
        os.close(descriptor)
    if max(size, len(data)) > max_bytes:
        raise UnreadableSubmission(
            f"is larger than the {max_bytes / MIB:.0f} MiB that are read. Clear all outputs, save, and submit again."
        )
    if not data.strip():
        raise UnreadableSubmission("is empty. Save the notebook again and submit it.")
    return data


def _as_utf8(data: bytes) -> tuple[bytes, list[str]]:
    """The bytes as UTF-8 without a byte order mark, and what had to be repaired for it."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            return data[2:].decode(encoding, "replace").encode("utf-8", "replace"), [
                f"repaired: was saved as {encoding}"
            ]
    return data.removeprefix(codecs.BOM_UTF8), []


# An unterminated string matches up to the end, or each of its quotes would start a new search through the rest.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("|\\?\Z)'
_KEPT_TOKEN = re.compile(_STRING + rb"(\s*+:)?|[\[\]{},]", re.DOTALL)
_SKIPPED_TOKEN = re.compile(_STRING + rb"|[\[\]{}]", re.DOTALL)
_SPACE = re.compile(rb"\s*+")
_TRUNCATED = "breaks off before its end, as when an upload is cut short. Download the notebook and submit it again."


def _parse_json(data: bytes) -> object:
    if not data.lstrip().startswith(b"{"):
        raise UnreadableSubmission(_not_json(data))
    text = _without_outputs(data).decode("utf-8", "replace")
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        if problem.pos >= len(text.rstrip()) - 1:
            raise UnreadableSubmission(_TRUNCATED) from None
        raise UnreadableSubmission(
            f"is not valid JSON ({problem.msg.lower()} near line {problem.lineno}). Download the notebook and submit it again."
        ) from None
    except (ValueError, RecursionError):
        raise UnreadableSubmission("is not valid JSON. Download the notebook and submit it again.") from None


def _not_json(data: bytes) -> str:
    start = data.lstrip()[:64].lower()
    if start.startswith((b"pk\x03\x04", b"\x1f\x8b", b"rar!", b"7z\xbc\xaf")):
        return "is an archive, not a notebook. Unpack it and submit the .ipynb file inside."
    if start.startswith(b"<"):
        return "is a web page, not a notebook. Use File, Download, Download .ipynb and submit that file."
    return "is not a notebook. Use File, Download, Download .ipynb and submit that file."


def _without_outputs(data: bytes) -> bytes:
    """The JSON text with each cell's outputs replaced by `[]`; never parses a value, so its memory is the text's."""
    kept: list[bytes] = []
    start = position = depth = pieces = skipped = 0
    while (token := _KEPT_TOKEN.search(data, position)) is not None:
        position = token.end()
        pieces += 1
        if pieces > MAX_PIECES:
            raise UnreadableSubmission("has far too many pieces for a notebook. Submit the notebook itself.")
        opening = data[token.start() : token.start() + 1]
        if opening in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise UnreadableSubmission("is nested far too deeply for a notebook. Submit the notebook itself.")
        elif opening in b"]}":
            depth -= 1
        elif opening == b'"':
            if token[1] != b'"':
                raise UnreadableSubmission(_TRUNCATED)
            # A cell is at depth 3 (nbformat 4) or 5 (nbformat 3, in a worksheet).
            if token[2] and depth in (3, 5) and data.startswith(b'"outputs"', token.start()):
                end, count = _end_of_list(data, position)
                skipped += count
                if skipped > MAX_SKIPPED_PIECES:
                    raise UnreadableSubmission("has too many outputs. Clear all outputs, save, and submit again.")
                if end > position:
                    kept += [data[start:position], b"[]"]
                    start = position = end
    if depth > 0:
        raise UnreadableSubmission(_TRUNCATED)
    kept.append(data[start:])
    if sum(map(len, kept)) > MAX_KEPT:
        raise UnreadableSubmission(
            f"holds more than {MAX_KEPT / MIB:.0f} MiB besides its outputs. Remove pasted pictures and data, and submit again."
        )
    return b"".join(kept)


def _end_of_list(data: bytes, position: int) -> tuple[int, int]:
    """Where the list at `position` ends, and how many tokens it has; `position` itself if no list is there."""
    blank = _SPACE.match(data, position)
    start = blank.end() if blank else position
    if data[start : start + 1] != b"[":
        return position, 0
    depth = 0
    for count, token in enumerate(_SKIPPED_TOKEN.finditer(data, start), start=1):
        opening = data[token.start()]
        if opening == 0x22:
            if token[1] != b'"':
                raise UnreadableSubmission(_TRUNCATED)
        elif opening in b"[{":
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return token.end(), count
        if count > MAX_SKIPPED_PIECES:
            return token.end(), count
    raise UnreadableSubmission(_TRUNCATED)


_VALID_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def notebook_from(raw: object) -> NotebookNode:
    """A parsed notebook of nbformat 2 to 4, however damaged, as a valid 4.5 one with source, ids and attachments only.

    nbformat's own upgrade is not used: it raises on just the damage that is repaired here. The id a cell had before a
    duplicate was made unique is kept in its `metadata["id"]`, where Colab puts ids too.

    Raises UnreadableSubmission if there is no list of cells.
    """
    found = raw.get("cells") if isinstance(raw, dict) else None
    if isinstance(raw, dict) and not isinstance(found, list) and isinstance(raw.get("worksheets"), list):
        sheets = [sheet.get("cells") for sheet in raw["worksheets"] if isinstance(sheet, dict)]
        found = [cell for sheet in sheets if isinstance(sheet, list) for cell in sheet]
    if not isinstance(found, list):
        raise UnreadableSubmission(
            "is not a notebook: it has no list of cells. Use File, Download, Download .ipynb and submit that file."
        )
    repairs: list[str] = []
    if len(found) > MAX_CELLS:
        repairs.append(f"repaired: only the first {MAX_CELLS} of {len(found)} cells are read")
    taken: set[str] = set()
    cells = []
    for number, cell in enumerate(found[:MAX_CELLS], start=1):
        if not isinstance(cell, dict):
            repairs.append(f"repaired: cell {number} is not a cell and is left out")
            cell = {"cell_type": "raw", "source": ""}
        cells.append(_repaired_cell(cell, number, taken, repairs))
    if len(repairs) > 20:
        repairs[20:] = [f"repaired: {len(repairs) - 20} more cells"]
    metadata = NotebookNode(repairs=repairs)
    return NotebookNode(nbformat=4, nbformat_minor=5, metadata=metadata, cells=cells)


def _repaired_cell(cell: dict[str, Any], number: int, taken: set[str], repairs: list[str]) -> NotebookNode:
    kind = cell.get("cell_type")
    source = _text(cell.get("source", cell.get("input")))
    if kind == "heading":
        kind, source = "markdown", f"# {source}"
    elif kind == "html":
        kind = "markdown"
    elif kind not in ("code", "markdown", "raw"):
        # Kept as raw, so that an exercise in it is still found, by its name.
        repairs.append(f"repaired: cell {number} is of an unknown kind")
        kind = "raw"
    given = cell.get("metadata")
    given = given if isinstance(given, dict) else {}
    metadata = NotebookNode()
    marks = given.get("nbgrader")
    if isinstance(marks, dict) and isinstance(marks.get("grade_id"), str):
        metadata["nbgrader"] = NotebookNode(grade_id=_text(marks["grade_id"])[:200])
    ids = [name for name in (cell.get("id"), given.get("id")) if isinstance(name, str) and _VALID_ID.fullmatch(name)]
    if ids and (ids[0] in taken or len(ids) > 1):
        metadata["id"] = ids[0] if ids[0] in taken else ids[1]
    unique = next((name for name in ids if name not in taken), None)
    if unique is None:
        unique = f"cell-{number}"
        while unique in taken:
            unique += "-"
    unique = unique[:64]
    taken.add(unique)
    clean = NotebookNode(cell_type=kind, id=unique, metadata=metadata, source=source)
    if kind == "code":
        clean.update(execution_count=None, outputs=[])
    elif attachments := _attachments(cell.get("attachments")):
        clean["attachments"] = attachments
    return clean


def _text(value: object) -> str:
    if isinstance(value, list):
        value = "".join(line for line in value if isinstance(line, str))
    if not isinstance(value, str):
        return ""
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode()  # half a surrogate pair can be read but never written
    return value.replace("\r\n", "\n").replace("\r", "\n")


def _attachments(value: object) -> NotebookNode:
    clean = NotebookNode()
    for name, kinds in value.items() if isinstance(value, dict) else ():
        if isinstance(kinds, dict):
            data = {_text(kind): _text(content) for kind, content in kinds.items()}
            clean[_text(name)] = NotebookNode({kind: content for kind, content in data.items() if content})
    return clean


# --- what a cell's code defines ----------------------------------------------------------------------------------

_IMPORTED, _ASSIGNED, _DEFINED = 1, 2, 3
_DEFINITION = re.compile(r"^(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)", re.MULTILINE)
_ASSIGNMENT = re.compile(r"^(\w+)[ \t]*=(?!=)", re.MULTILINE)
_HEADER = re.compile(r"^(?:async[ \t]+)?(?:def|class)[ \t]+(\w+[ \t]*(?:\([^()]{0,400}\))?)", re.MULTILINE)
_CHECK = re.compile(r"^[ \t]*@[ \t]*(?:\w+\.)*check[ \t]*\([ \t\n]*['\"]([^'\"\n]*)['\"]", re.MULTILINE)
_MAGIC_LINE = re.compile(r"^[ \t]*[%!?]|[?][ \t]*$|=[ \t]*[%!]", re.MULTILINE)
# Cell magics that run the rest of the cell in the learner's namespace.
_BODY_MAGIC = re.compile(r"\A\s*%%(?:time|capture|prun)\b[^\n]*\n")
_STUB_LINE = re.compile(r"^[ \t]*raise NotImplementedError\b.*$", re.MULTILINE)
_UNPARSABLE = (SyntaxError, ValueError, MemoryError, RecursionError)
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class _Code:
    """Top-level facts about a cell's source: what it binds, what it extends, which checks it holds."""

    def __init__(self, source: str, text: str, module: ast.Module | None) -> None:
        self.source = source
        self.text = text  # what `module`'s line numbers refer to
        self.module = module
        self.binds: dict[str, int] = {}
        self.extends: set[str] = set()  # rebound from its own earlier value: `f = compile(f)`, `class A(A)`, `A.g = g`
        if module is None:
            self.binds.update((name, _ASSIGNED) for name in _ASSIGNMENT.findall(source))
            self.binds.update((name, _DEFINED) for name in _DEFINITION.findall(source))
        else:
            for statement in _statements(module):
                self._note(statement)

    def _note(self, statement: ast.stmt) -> None:
        uses: list[ast.AST] = []
        names: list[str] = []
        strength = _DEFINED
        if isinstance(statement, _Function):
            names, uses = [statement.name], [*statement.decorator_list]
        elif isinstance(statement, ast.ClassDef):
            names, uses = [statement.name], [*statement.decorator_list, *statement.bases]
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            strength = _IMPORTED
            names = [(alias.asname or alias.name).partition(".")[0] for alias in statement.names]
        elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and statement.value is not None:
            strength = _ASSIGNED
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                for part in target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]:
                    if isinstance(part, ast.Name):
                        names.append(part.id)
                    elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                        self.extends |= {part.value.id} - self.binds.keys()
            uses = [statement.target] if isinstance(statement, ast.AugAssign) else [statement.value]
        used = {node.id for use in uses for node in ast.walk(use) if isinstance(node, ast.Name)} if names else set()
        for name in names:
            if name in used and name not in self.binds:
                self.extends.add(name)
            self.binds[name] = max(strength, self.binds.get(name, 0))

    def defines(self, name: str) -> bool:
        """Whether the cell makes `name` itself, and not out of an earlier `name`."""
        return self.binds.get(name, 0) >= _ASSIGNED and name not in self.extends

    @cached_property
    def key(self) -> str:
        """Equal for two cells that are the same but for white space, comments and docstrings."""
        if self.module is not None:
            return _dump(self.module)
        return squeezed(self.source)

    @cached_property
    def checks(self) -> list[tuple[str, str]]:
        """Name and key of each check the cell defines; the key is empty where the cell does not parse."""
        if self.module is None:
            return [(name, "") for name in _CHECK.findall(self.source)]
        return [(name, _dump(node)) for node, name in self._check_nodes()]

    def _check_nodes(self) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, str]]:
        for statement in self.module.body if self.module else ():
            if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            for decorator in statement.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                label = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
                if label == "check":
                    first = decorator.args[0] if isinstance(decorator, ast.Call) and decorator.args else None
                    yield statement, str(first.value) if isinstance(first, ast.Constant) else ""
                    break

    def without_checks(self) -> str:
        """The source without the checks' functions; of a cell that does not parse, what stands before the first one."""
        if self.module is None:
            first = _CHECK.search(self.source)
            return self.source[: first.start()] if first else self.source
        return self._without([node for node, _ in self._check_nodes()])

    def without_stubs(self, name: str, stub: _Code) -> str:
        """The source without the definitions of `name` in which nothing has been written yet."""
        return self._without(self._stubs(name, stub))

    def _stubs(self, name: str, stub: _Code) -> list[_Definition]:
        released = {_dump(node) for node in stub._definitions(name)}
        return [
            node
            for node in self._definitions(name)
            if _dump(node) in released
            or (not isinstance(node, ast.ClassDef) and all(_does_nothing(statement) for statement in node.body))
        ]

    def _definitions(self, name: str) -> list[_Definition]:
        return [
            node
            for node in (self.module.body if self.module else ())
            if isinstance(node, _Definition) and node.name == name
        ]

    def _without(self, nodes: Iterable[_Definition]) -> str:
        lines = self.text.split("\n")
        for node in nodes:
            start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            for line in range(start - 1, node.end_lineno or node.lineno):
                lines[line] = ""
        return "\n".join(lines)

    def is_stub(self, name: str, stub: _Code) -> bool:
        """Whether nothing has been written yet: the released cell or definition, or a function that does nothing."""
        if self.key == stub.key:
            return True
        return bool(own := self._definitions(name)) and len(self._stubs(name, stub)) == len(own)

    def is_partly_stub(self, name: str, stub: _Code) -> bool:
        """Whether both a solution and a stub of `name` stand in the cell."""
        return 0 < len(self._stubs(name, stub)) < len(self._definitions(name))

    def additions(self, released: _Code) -> str:
        """Imports, definitions and assignments of new names that `released` does not have, as source."""
        if self.module is None or released.module is None:
            return ""
        known = {_dump(statement) for statement in released.module.body}
        new = []
        for statement in self.module.body:
            binds = _Code("", "", ast.Module([statement], [])).binds
            if binds and _dump(statement) not in known and not binds.keys() & released.binds.keys():
                new.append(statement)
        try:
            return ast.unparse(ast.Module(new, []))
        except RecursionError:
            return ""


def _dump(node: ast.AST) -> str:
    """The node's text, made once: each exercise is compared with every cell, and nothing changes a tree after it is read."""
    kept: str | None = getattr(node, "_dumped", None)
    if kept is None:
        try:
            kept = ast.dump(node)
        except RecursionError:  # too deep to be the release's own; equal to nothing but itself
            kept = f"<{id(node)}>"
        node._dumped = kept  # type: ignore[attr-defined]
    return kept


def _does_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise):
        error = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
        return isinstance(error, ast.Name) and error.id == "NotImplementedError"
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def _statements(module: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run at top level, those within if, try, with and loops included, in order."""
    waiting = list(reversed(module.body))
    while waiting:
        statement = waiting.pop()
        yield statement
        if isinstance(statement, (ast.If, ast.Try, ast.With, ast.For, ast.While)):
            inner = [*statement.body, *getattr(statement, "orelse", []), *getattr(statement, "finalbody", [])]
            for handler in getattr(statement, "handlers", []):
                inner += handler.body
            waiting += reversed(inner)


def squeezed(text: str) -> str:
    """The text without blank lines and trailing spaces."""
    return "\n".join(line.rstrip() for line in text.split("\n") if line.strip())


class _Reader:
    """Analyses sources within a budget, so that a huge notebook costs no more than a large one."""

    def __init__(self, known: Mapping[str, _Code] | None = None) -> None:
        """`known`: codes by their source that have been read before; they cost as much of the budget as if read again."""
        self.known = known or {}
        self.left = MAX_PARSED
        self.left_to_transform = MAX_TRANSFORMED

    def read(self, source: str) -> _Code:
        text = _BODY_MAGIC.sub("\n", source)
        if len(text) > min(self.left, MAX_PARSED_CELL):
            return _Code(source, text, None)
        self.left -= len(text)
        if (known := self.known.get(source)) is not None:
            return known
        module = _parsed(text)
        if module is None:
            text = self._transformed(text)
            module = _parsed(text) if text else None
        try:
            return _Code(source, text, module)
        except RecursionError:
            return _Code(source, source, None)

    def _transformed(self, text: str) -> str:
        """The Python that IPython makes of magics, shell lines, prompts and indented cells; empty where it fails."""
        cost = len(text) * (1 + len(_MAGIC_LINE.findall(text)))
        if cost > self.left_to_transform:
            return ""
        self.left_to_transform -= cost
        from IPython.core.inputtransformer2 import TransformerManager

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return str(TransformerManager().transform_cell(text))
        except Exception:  # its tokeniser raises many kinds of error on broken input
            return ""


@lru_cache(maxsize=1024)
def _read_released(source: str) -> _Code:
    """A cell of the release, read once for all submissions."""
    return _Reader().read(source)


def _parsed(text: str) -> ast.Module | None:
    """The module with docstrings and bare strings taken out, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(text)
    except _UNPARSABLE:
        return None
    for node in ast.walk(module):
        body = getattr(node, "body", None)
        if isinstance(node, (ast.Module, ast.ClassDef, *_Function)) and body and _is_docstring(body[0]):
            node.body = body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
    return module


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


# --- matching ----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Cell:
    """A cell of the submission; `number` counts from 1, and `own` is the release cell it is a copy of."""

    number: int
    kind: str
    source: str
    grade_id: str | None
    ids: frozenset[str]
    attachments: dict[str, dict[str, str]]
    code: _Code
    checks: list[tuple[str, str]] = field(default_factory=list)
    own: int | None = None
    unchanged: bool = False

    def found_by(self, released: ReleaseCell) -> str | None:
        if self.grade_id is not None and self.grade_id == released.grade_id:
            return "grade_id"
        return "cell_id" if released.cell_id in self.ids else None

    def edited_copy_of(self, release: Sequence[ReleaseCell], *roles: str) -> bool:
        return self.own is not None and not self.unchanged and release[self.own].role in roles


def match(submission: NotebookNode, release: Sequence[ReleaseCell]) -> Match:
    """Find each exercise, written answer and free cell of `release` in a notebook from `read_submission`.

    An exercise is looked for by nbgrader's grade_id, then the cell's id, then the name it defines, then similarity to
    the stub. Of several cells that qualify, one with work in it beats a stub, and the last before the learner's copy
    of the check wins, as when the notebook is run from the top. The work is bounded whatever the notebook holds.
    """
    return _Matching(submission, release).result()


class _Matching:
    """One submission's matching, step by step; holds nothing that outlives `match`."""

    def __init__(self, submission: NotebookNode, release: Sequence[ReleaseCell]) -> None:
        self.release = release
        self.released = [_read_released("" if cell.role in ("prose", "written") else cell.source) for cell in release]
        self.exercises = {cell.name: at for at, cell in enumerate(release) if cell.role == "exercise" and cell.name}
        self.check_at = {cell.name: at for at, cell in enumerate(release) if cell.role == "check" and cell.name}
        self.flags: list[str] = [str(flag) for flag in submission.metadata.get("repairs", [])]
        self.found: dict[str, FoundCell] = {}
        self.chosen: dict[str, _Cell] = {}
        self.rejected: dict[str, list[_Cell]] = {}  # cells that define an exercise but are not the one used
        self.gone: set[int] = set()  # numbers of cells that are accounted for and must not become free cells
        self.check_seen: dict[str, int] = {}  # the learner's last copy of each check
        self.anchors: dict[int, int] = {}  # number of a submitted cell -> index of the release cell it stands for
        self.written: set[int] = set()
        # Most cells are as they were released. A code never changes once it is read, so it may be shared; one that took a share of the
        # transformer's budget is read again.
        self.reader = _Reader(
            {code.source: code for code in self.released if code.module is not None and code.text == code.source}
        )
        self.cells = [self._read(cell, number) for number, cell in enumerate(submission.cells, start=1)]

    def _read(self, cell: NotebookNode, number: int) -> _Cell:
        source, kind = cell.source, cell.cell_type
        metadata = cell.get("metadata", {})
        # Text is parsed only where it may be an exercise that was turned into text.
        parse = kind == "code" or any(name in self.exercises for name in _DEFINITION.findall(source[:MAX_PARSED_CELL]))
        return _Cell(
            number=number,
            kind=kind,
            source=source,
            grade_id=metadata.get("nbgrader", {}).get("grade_id"),
            ids=frozenset(name for name in (cell.get("id"), metadata.get("id")) if isinstance(name, str)),
            attachments=cell.get("attachments", {}),
            code=self.reader.read(source) if parse else _Code("", "", None),
        )

    def result(self) -> Match:
        self._set_checks_aside()
        self._recognise_released_cells()
        for name in self.exercises:
            self._choose(name)
        if self._mostly_unknown():
            return self._nothing_found()
        self._compare_with_stubs()
        if self._is_another_notebook():
            return self._nothing_found()
        for name, at in self.exercises.items():
            self._record(name, at)
        self._find_written_answers()
        free = self._free_cells()
        self._flag_order()
        self._flag_metadata()
        order = {
            cell.name: at for at, cell in enumerate(self.release) if cell.role in ("exercise", "written") and cell.name
        }
        return Match({name: self.found[name] for name in order}, free, _shortened(self.flags))

    # Checks and other cells of the release

    def _set_checks_aside(self) -> None:
        """Take the checks out of the learner's cells; what else such a cell holds stays, if it makes anything."""
        edited: set[str] = set()
        for cell in self.cells:
            if not cell.code.checks:
                continue
            if cell.kind != "code":  # text may still turn out to be an exercise, but its checks never ran
                cell.source = cell.code.without_checks()
                cell.code = self.reader.read(cell.source)
                continue
            cell.checks = cell.code.checks
            at = None
            for name, key in cell.checks:
                at = self.check_at.get(name)
                if at is None:
                    self.flags.append(
                        f"edited: cell {cell.number} holds a check that this notebook does not have; it is left out"
                    )
                    continue
                if name not in self.check_seen:
                    self.anchors[cell.number] = max(at, self.anchors.get(cell.number, at))
                self.check_seen[name] = cell.number
                if (name, key) not in self.released[at].checks:
                    edited.add(name)
            rest = cell.code.without_checks()
            code = self.reader.read(rest)
            released = _Code("", "", ast.Module([], [])) if at is None else self.released[at]
            makes_something = code.additions(released) or (code.module is None and code.binds) or code.extends
            cell.source, cell.code = (rest.strip("\n"), code) if makes_something else ("", _Code("", "", None))
            if makes_something:
                self.flags.append(
                    f"edited: cell {cell.number} holds a check and other code; the check comes from the release"
                )
        for name in self.check_at:
            if name in edited:
                self.flags.append(f"edited: the check cell of {name} was edited; the release's is used")

    def _recognise_released_cells(self) -> None:
        """Tell which cells are copies of the release's own (set-up, parameters, imports, pictures, prose)."""
        roles = ("setup", "plain", "parameters", "picture", "prose")
        own = [at for at, cell in enumerate(self.release) if cell.role in roles]
        texts: dict[str, list[int]] = {}
        for at in own:
            keys = {squeezed(self.release[at].source)}
            if self.release[at].role != "prose":
                keys.add(self.released[at].key)
            for key in keys:
                texts.setdefault(key, []).append(at)
        by_grade_id = {self.release[at].grade_id: at for at in own if self.release[at].grade_id}
        by_cell_id = {self.release[at].cell_id: at for at in own}
        seen: set[int] = set()
        for cell in self.cells:
            if not cell.source.strip():
                continue
            same = texts.get(squeezed(cell.source)) or (texts.get(cell.code.key) if cell.code.module else None) or []
            marked = by_grade_id.get(cell.grade_id) if cell.grade_id else None
            if marked is None:
                marked = next((by_cell_id[name] for name in cell.ids if name in by_cell_id), None)
            if same:
                cell.own = marked if marked in same else next((at for at in same if at not in seen), same[0])
                cell.unchanged = True
                self.gone.add(cell.number)
            elif marked is not None:
                cell.own = marked
            if cell.own is not None and cell.own not in seen:
                seen.add(cell.own)
                self.anchors[cell.number] = max(cell.own, self.anchors.get(cell.number, cell.own))

    # Exercises

    def _choose(self, name: str) -> None:
        at = self.exercises[name]
        released, stub = self.release[at], self.released[at]
        worked: list[_Cell] = []
        renamed: list[_Cell] = []
        stubs: list[_Cell] = []
        imported: list[_Cell] = []
        extending: list[_Cell] = []
        for cell in self.cells:
            if cell.kind != "code" or cell.unchanged or not cell.source.strip():
                continue
            if cell.code.is_partly_stub(name, stub):
                self._drop_stub(cell, name, stub)
                self.flags.append(
                    f"duplicate: cell {cell.number} holds a solution and a stub of {name}; the stub is left out"
                )
            if cell.code.defines(name):
                (stubs if cell.code.is_stub(name, stub) else worked).append(cell)
            elif cell.found_by(released) and self._plausible(cell, name):
                (stubs if cell.code.is_stub(name, stub) else renamed).append(cell)
            elif name in cell.code.binds:
                (extending if name in cell.code.extends else imported).append(cell)
        text = [
            cell
            for cell in self.cells
            if cell.kind != "code"
            and cell.code.module
            and cell.code.defines(name)
            and not cell.code.is_stub(name, stub)
        ]
        candidates = worked or text or renamed or stubs or imported or extending
        if not candidates:
            return
        cell = self._preferred(candidates, released)
        self.chosen[name] = cell
        self.gone.add(cell.number)
        identical = [other for other in worked if other is not cell and other.code.key == cell.code.key]
        others = [other for other in worked if other is not cell and other.code.key != cell.code.key]
        self.rejected[name] = others
        unused = [other for other in stubs if other is not cell]
        self.gone.update(other.number for other in identical)
        for other in unused:
            self._drop_stub(other, name, stub)
        if len(worked) + len(stubs) + len(text) > 1:
            numbers = sorted({other.number for other in (*worked, *stubs, *text, cell)})
            kind = "the same each time" if len(identical) + 1 == len(numbers) else f"cell {cell.number} is used"
            self.flags.append(f"duplicate: {name} is in cells {_listed(numbers)}; {kind}")
        if cell.kind != "code":
            self.flags.append(
                f"retyped: the cell of {name} (cell {cell.number}) is a {cell.kind} cell; it is used as code"
            )

    def _plausible(self, cell: _Cell, name: str) -> bool:
        return not cell.checks and not any(cell.code.defines(other) for other in self.exercises if other != name)

    def _drop_stub(self, cell: _Cell, name: str, stub: _Code) -> None:
        """Take an unused stub out of its cell: executed after the learner's own cell, it would undo it."""
        rest = "" if cell.code.key == stub.key else cell.code.without_stubs(name, stub).strip("\n")
        if not _says_something(rest):
            self.gone.add(cell.number)
            return
        cell.source, cell.code = rest, self.reader.read(rest)

    def _preferred(self, candidates: list[_Cell], released: ReleaseCell) -> _Cell:
        check = self.check_seen.get(released.name or "")
        # A cell that holds exercise and check stands before its own check.
        before = [cell for cell in candidates if check is not None and cell.number <= check]
        if before:
            return before[-1]
        for way in ("grade_id", "cell_id"):
            for cell in candidates:
                if cell.found_by(released) == way:
                    return cell
        return candidates[-1]

    def _compare_with_stubs(self) -> None:
        """Give exercises that were not found the unclaimed cell most like their stub, the best pair first."""
        missing = [name for name in self.exercises if name not in self.chosen]
        rejected = {cell.number for cells in self.rejected.values() for cell in cells}
        claimed = self.gone | rejected | self.anchors.keys()
        pool = [
            cell
            for cell in self.cells
            if cell.kind == "code" and cell.number not in claimed and _DEFINITION.search(cell.source[:MAX_COMPARED])
        ]
        if not missing or not pool:
            return
        pool = pool[:MAX_COMPARED_CELLS]
        words = {cell.number: _words(cell.source) for cell in pool}
        scores = []
        for name in missing:
            stub = _STUB_LINE.sub("", self.release[self.exercises[name]].source)
            stub_words, stub_headers = _words(stub), _HEADER.findall(stub[:MAX_COMPARED])
            stub_header = next((header for header in stub_headers if re.match(rf"{re.escape(name)}\b", header)), name)
            for cell in pool:
                shared = 100 * LCSseq.similarity(stub_words, words[cell.number]) / max(len(stub_words), 1)
                headers = _HEADER.findall(cell.source[:MAX_COMPARED])[:50]
                header = max(fuzz.ratio(stub_header, other) for other in headers) if headers else 0.0
                if (shared >= SIMILAR and len(stub_words) >= 5) or header >= SIMILAR_HEADER:
                    scores.append((max(shared, header), -cell.number, name, cell))
        for _, _, name, cell in sorted(scores, key=lambda score: score[:2], reverse=True):
            if name not in self.chosen and cell.number not in self.gone:
                self.chosen[name] = cell
                self.gone.add(cell.number)

    def _record(self, name: str, at: int) -> None:
        cell = self.chosen.get(name)
        if cell is None:
            marked = [other for other in self.cells if other.found_by(self.release[at]) and not other.source.strip()]
            note = f"cell {marked[0].number} is empty" if marked else f"no cell for {name} was found"
            self.found[name] = FoundCell("", "missing", (note,))
            self.flags.append(f"missing: {note}" if not marked else f"missing: {note}; it should hold {name}")
            return
        notes = []
        way = cell.found_by(self.release[at])
        if name not in cell.code.binds:
            defined = [other for other, strength in cell.code.binds.items() if strength == _DEFINED]
            instead = f"defines {_listed(defined[:5])}, not {name}" if defined else f"does not define {name}"
            notes.append(f"the cell {instead}")
            self.flags.append(f"renamed: cell {cell.number}, found by {way or 'similarity'}, {instead}")
        if cell.code.is_stub(name, self.released[at]):
            notes.append("not attempted: the cell is as it was released")
        sharing = [other for other, its_cell in self.chosen.items() if its_cell is cell]
        if len(sharing) > 1:
            notes.append(f"one cell for {_listed(sharing)}")
            if sharing[0] == name:
                self.flags.append(
                    f"merged: cell {cell.number} holds {_listed(sharing)}; it runs once, at the first one's place"
                )
        # A cell that was overruled for another exercise by a later one must also run before that later one.
        overruled = [
            other for other, cells in self.rejected.items() if cell in cells and cell.number < self.chosen[other].number
        ]
        place = min(self.exercises[other] for other in (*sharing, *overruled))
        if cell.edited_copy_of(self.release, "setup", "plain", "parameters"):
            place = min(place, cell.own if cell.own is not None else place)
            self.flags.append(
                f"merged: cell {cell.number} holds {name} together with the {self.release[cell.own or 0].role} cell"
            )
        matched_by = way or ("name" if name in cell.code.binds else "similarity")
        untouched = cell.code.key == self.released[at].key
        self.found[name] = FoundCell(cell.source, matched_by, tuple(notes), cell.number, place, untouched=untouched)
        self.anchors[cell.number] = max(place, self.anchors.get(cell.number, place)) if cell.checks else place

    def _mostly_unknown(self) -> bool:
        grade_ids = {cell.grade_id for cell in self.cells if cell.grade_id}
        unknown = grade_ids - {cell.grade_id for cell in self.release}
        return not self.chosen and 2 * len(unknown) > len(grade_ids)

    def _is_another_notebook(self) -> bool:
        """Whether it defines things, but has no exercise, check, question or prose of this notebook."""
        if self.chosen:
            return False
        # Set-up, parameters and the closing cells are alike in every notebook and say nothing.
        written = [cell for cell in self.release if cell.role == "written"]
        known = bool(self.check_seen) or any(
            (cell.unchanged and self.release[cell.own or 0].role == "prose")
            or any(cell.found_by(question) for question in written)
            for cell in self.cells
        )
        return not known and any(cell.kind == "code" and _DEFINITION.search(cell.source) for cell in self.cells)

    def _nothing_found(self) -> Match:
        self.flags.insert(
            0, "another notebook: none of this notebook's exercises is in it; was the right file submitted?"
        )
        missing = FoundCell("", "missing", ("this is another notebook",))
        names = [cell.name for cell in self.release if cell.role in ("exercise", "written") and cell.name]
        return Match(dict.fromkeys(names, missing), [], _shortened(self.flags))

    # Written answers

    def _find_written_answers(self) -> None:
        texts = [
            cell for cell in self.cells if not cell.unchanged and cell.number not in self.gone and cell.source.strip()
        ]
        questions = [cell for cell in self.release if cell.role == "written"]
        for at, question in enumerate(self.release):
            if question.role != "written" or not question.name:
                continue
            marked = [cell for cell in texts if cell.found_by(question) and not cell.checks]
            asked = squeezed(question.source.replace("YOUR ANSWER HERE", ""))[:MAX_COMPARED]
            alike = [cell for cell in texts if cell.kind != "code" and not any(map(cell.found_by, questions))]
            alike = [cell for cell in alike[:MAX_COMPARED_CELLS] if _asks(asked, cell.source)]
            released = squeezed(question.source)
            candidates = [*marked, *alike]
            answered = [cell for cell in candidates if squeezed(cell.source) != released]
            if not candidates:
                self.found[question.name] = FoundCell("", "missing", (f"no answer to {question.name} was found",))
                self.flags.append(f"missing: no cell for the question {question.name} was found")
                continue
            cell = (answered or candidates)[0]
            self.written.update(other.number for other in candidates)
            self.anchors.setdefault(cell.number, at)
            notes = []
            different = {squeezed(other.source) for other in answered}
            if len(candidates) > 1:
                numbers = sorted(other.number for other in candidates)
                self.flags.append(
                    f"duplicate: the answer to {question.name} is in cells {_listed(numbers)}; cell {cell.number} is used"
                )
            if len(different) > 1:
                notes.append("there are several different answers; see the notebook")
            if cell.kind == "code":
                self.flags.append(
                    f"retyped: the answer to {question.name} (cell {cell.number}) is a code cell; it is used as text"
                )
            source, attachments = cell.source, dict(cell.attachments)
            for other in self._own_text_after(cell):
                self.written.add(other.number)
                source += f"\n\n{other.source}"
                attachments.update(other.attachments)
                notes.append(f"goes on in cell {other.number}")
            if squeezed(source) == released:
                notes.append("not attempted: the cell is as it was released")
            way = cell.found_by(question) or "similarity"
            self.found[question.name] = FoundCell(source, way, tuple(notes), cell.number, at, attachments)
        self.gone |= self.written

    def _own_text_after(self, cell: _Cell) -> list[_Cell]:
        """Text cells the learner put right below a question, to answer there."""
        own: list[_Cell] = []
        for other in self.cells[cell.number :]:
            known = other.number in self.anchors or other.number in self.gone or other.number in self.written
            marked = any(other.found_by(released) for released in self.release)
            if other.kind != "markdown" or known or marked or other.unchanged or len(own) == 20:
                break
            if other.source.strip():
                own.append(other)
        return own

    # Free cells

    def _free_cells(self) -> list[FreeCell]:
        """What else the learner wrote, each cell after the release cell it follows in the submission."""
        after = next((at for at, cell in enumerate(self.release) if cell.role == "setup"), -1)
        losing: dict[int, list[str]] = {}
        for name, cells in self.rejected.items():
            for cell in cells:
                losing.setdefault(cell.number, []).append(name)
        free: list[FreeCell] = []
        for cell in self.cells:
            place = after
            if cell.number in self.anchors:
                place = after = self.anchors[cell.number]
            if cell.number in self.gone or cell.kind != "code" or not _says_something(cell.source):
                continue
            if cell.own is not None:
                place = cell.own
            if not all(self._may_stay(name, cell, place) for name in losing.get(cell.number, ())):
                continue
            source = cell.source if cell.own is None else self._edited_source(cell)
            if source:
                free.append(FreeCell(source, place, cell.number))
                self._flag_split(cell)
        return sorted(free, key=lambda cell: (cell.after, cell.cell))

    def _edited_source(self, cell: _Cell) -> str:
        """What still runs of a release's cell that the learner edited; the release's own version always runs."""
        at = cell.own or 0
        role = self.release[at].role
        if role == "prose":
            return cell.source
        if role == "plain":
            self.flags.append(f"edited: cell {cell.number} was edited; it runs after the release's version of it")
            return cell.source
        if role == "picture":
            return cell.source if cell.code.binds.keys() - self.released[at].binds.keys() else ""
        self.flags.append(f"edited: the {role} cell (cell {cell.number}) was edited; the release's is used")
        return cell.code.additions(self.released[at])

    def _may_stay(self, name: str, cell: _Cell, place: int) -> bool:
        """Whether an unused definition keeps its place: only where it cannot undo the one that is used."""
        used = self.chosen[name].number
        at = self.exercises[name]
        return place < at if cell.number < used else place >= self.check_at.get(name, at + 1)

    def _flag_split(self, cell: _Cell) -> None:
        for name, chosen in self.chosen.items():
            given = {
                other for other, strength in self.released[self.exercises[name]].binds.items() if strength == _DEFINED
            }
            part = {other for other in given - chosen.code.binds.keys() if cell.code.defines(other)}
            if part or name in cell.code.extends:
                self.flags.append(
                    f"split: {name} is in cell {chosen.number} and goes on in cell {cell.number}; both run"
                )

    # Flags

    def _flag_order(self) -> None:
        latest, latest_name = 0, ""
        for name in self.exercises:
            number = self.chosen[name].number if name in self.chosen else None
            if number is None:
                continue
            if number < latest:
                self.flags.append(
                    f"moved: {name} (cell {number}) stands before {latest_name} (cell {latest}); the release's order is used"
                )
            if number > latest:
                latest, latest_name = number, name
            check = self.check_seen.get(name)
            if check is not None and check < number:
                self.flags.append(f"moved: {name} (cell {number}) stands after its check (cell {check})")
        for name in self.check_at:
            if name not in self.check_seen:
                self.flags.append(f"missing: the check cell of {name} is not there; the release's is used")

    def _flag_metadata(self) -> None:
        ways = [self.found[name].matched_by for name in self.exercises]
        lost = [way for way in ways if way in ("cell_id", "name", "similarity")]
        if lost:
            self.flags.append(f"metadata: {len(lost)} of {len(ways)} exercises were found without nbgrader's metadata")


def _shortened(flags: list[str]) -> list[str]:
    return flags if len(flags) <= MAX_FLAGS else [*flags[:MAX_FLAGS], f"and {len(flags) - MAX_FLAGS} more remarks"]


def _says_something(source: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith("#") for line in source.split("\n"))


def _words(source: str) -> list[str]:
    words = re.findall(r"[^\W\d]\w+", source[:MAX_COMPARED])
    return [word for word in words if not keyword.iskeyword(word)]


def _asks(question: str, text: str) -> bool:
    """Whether the text still holds the question, or nearly."""
    text = squeezed(text[:MAX_COMPARED])
    if not question:
        return False
    return question in text or (
        len(question) <= 1.2 * len(text) and fuzz.partial_ratio(question, text) >= SIMILAR_QUESTION
    )


def _listed(items: Iterable[object]) -> str:
    *most, last = [str(item)[:80] for item in items]
    if len(most) > 20:
        most = [*most[:20], "…"]
    return f"{', '.join(most)} and {last}" if most else last


# --- planning ----------------------------------------------------------------------------------------------------


def assemble(found: Match, release: Sequence[ReleaseCell]) -> list[PlannedCell]:
    """The cells to execute: the release's order, the learner's exercises in it, free cells in their places.

    Checks come as graded; pictures, prose and written questions are left out. An exercise that was not found leaves
    nothing, so that its check fails by itself. The parameters cell keeps its role, for papermill's tag.
    """
    learners: dict[int, dict[int, PlannedCell]] = {}
    names = {cell.name for cell in release if cell.role == "exercise"}
    for name, taken in found.found.items():
        if name in names and taken.cell is not None:
            planned = PlannedCell("exercise", name, taken.source, "submission")
            learners.setdefault(taken.place, {}).setdefault(taken.cell, planned)
    free: dict[int, list[FreeCell]] = {}
    for own in found.free:
        free.setdefault(own.after, []).append(own)
    plan = [PlannedCell("free", None, own.source, "submission") for own in free.get(-1, ())]
    for at, cell in enumerate(release):
        if cell.role in ("setup", "plain", "parameters", "check"):
            plan.append(PlannedCell(cell.role, cell.name, cell.graded_source, "release"))
        plan += [planned for _, planned in sorted(learners.get(at, {}).items())]
        plan += [PlannedCell("free", None, own.source, "submission") for own in free.get(at, ())]
    return plan
