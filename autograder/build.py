"""Builds everything generated from `solutions/*.py`: complete and released notebooks, the `papers` library, the recordings.

The same sources give the same files, whatever the machine. It never writes into a source.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from autograder import lean  # noqa: F401  before nbformat

# isort: split
import nbformat
from traitlets.config import Config

from autograder import notebook as source_form
from autograder.notebook import Notebook
from autograder.setup_cell import badge_source, repository_address, setup_source


@dataclass
class Report:
    """What a build did: paths that changed (or would change), relative to the root."""

    changed: list[Path] = field(default_factory=list)
    unchanged: int = 0


def read_notebook(root: Path, path: Path) -> Notebook:
    """A solution source with its badge and set-up cell."""
    return _read_notebook(path, path.read_text(encoding="utf-8"), repository_address(root))


@lru_cache(maxsize=256)
def _read_notebook(path: Path, text: str, address: str) -> Notebook:
    """`text` is what the file holds: it is read again only where that has changed, since a process that grades asks for every source a few times."""
    assignment, name = path.parent.name, path.stem
    return source_form.read(path, setup_source(assignment, name, address), badge_source(assignment, name, address))


def read_all(root: Path, names: Sequence[str] = (), needed: Sequence[str] | None = None) -> list[Notebook]:
    """The notebooks of the named assignments (all if none is named), in the curriculum's order.

    Args:
        needed: keys of the notebooks that must be in order. Another one that breaks a rule of the form is left out, and said on standard
            error, so that work on one does not wait for a draft of another. None: all must be.
    """
    notebooks = []
    for path in source_form.find(root / "solutions", list(names)):
        try:
            notebooks.append(read_notebook(root, path))
        except source_form.SourceError as error:
            if needed is None or f"{path.parent.name}/{path.stem}" in needed:
                raise
            print(f"left out: {error}", file=sys.stderr)
    return sorted(notebooks, key=curriculum_order)


def curriculum_order(notebook: Notebook) -> tuple[str, int, int, str]:
    """Track, week (a project after the weeks), place in the week."""
    track, _, week = notebook.assignment.partition("-")
    number = int(week.removeprefix("week")) if week.startswith("week") else 99
    # the Transformer is the first track
    return ("0" if track == "transformer" else track, number, notebook.order, notebook.name)


def nbgrader_config() -> Config:
    """nbgrader's settings, for `nbgrader_config.py` and for the build itself."""
    from nbgrader.preprocessors import (
        CheckCellMetadata,
        ClearHiddenTests,
        ClearOutput,
        ComputeChecksums,
        LockCells,
        SaveCells,
    )

    from autograder.release import CleanRelease, DropUnreleasedCells, StubSolutions

    config = Config()
    config.CourseDirectory.source_directory = "solutions"
    config.CourseDirectory.release_directory = "notebooks"
    config.CourseDirectory.submitted_directory = "submitted"
    # nbgrader copies every other file of a source folder into the release: a source there would be the solution
    config.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "*.py", "*.safetensors"]
    config.ClearHiddenTests.begin_test_delimeter = "BEGIN HIDDEN TESTS"
    config.GenerateAssignment.preprocessors = [
        DropUnreleasedCells,
        LockCells,
        StubSolutions,
        ClearOutput,
        CheckCellMetadata,
        ComputeChecksums,
        SaveCells,
        ClearHiddenTests,
        CleanRelease,
        ComputeChecksums,
        CheckCellMetadata,
    ]
    return config


def build(
    root: Path,
    names: Sequence[str] = (),
    check: bool = False,
    recordings: bool = True,
    progress: Callable[[str], None] = lambda step: None,
) -> Report:
    """Regenerate what comes from the named assignments' sources (all if none is named).

    Args:
        check: change nothing; only report what differs.
        recordings: also run the solutions to make recordings (seconds a notebook).
        progress: told each step as it is done.
    """
    report = Report()
    notebooks = read_all(root, names)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        for notebook in notebooks:
            path = made / "solutions" / notebook.assignment / f"{notebook.name}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source_form.dumps(source_form.to_ipynb(notebook)), encoding="utf-8")
        for assignment in dict.fromkeys(notebook.assignment for notebook in notebooks):
            generate_assignment(made, assignment)
            progress(f"{assignment}: learner notebooks")
        every = read_all(root, needed=[notebook.key for notebook in notebooks] if names else None)
        for module, text in papers_modules(every).items():
            (made / module).parent.mkdir(parents=True, exist_ok=True)
            (made / module).write_text(text, encoding="utf-8")
        progress("papers")
        _sync(made, root, report, check)
    if recordings:
        _build_recordings(root, notebooks, report, check, progress)
    return report


def generate_assignment(root: Path, assignment: str) -> None:
    """nbgrader's own generate_assignment on `root`/solutions/`assignment`, without a database."""
    from nbgrader.converters import GenerateAssignment
    from nbgrader.coursedir import CourseDirectory

    config = nbgrader_config()
    config.CourseDirectory.root = str(root)
    config.CourseDirectory.assignment_id = assignment
    config.GenerateAssignment.no_database = True
    config.SaveCells.enabled = False
    converter = GenerateAssignment(coursedir=CourseDirectory(config=config), config=config)
    converter.log.setLevel("ERROR")
    converter.force = True
    converter.start()
    for path in (root / "notebooks" / assignment).rglob("*.ipynb"):
        # nbgrader writes notebooks in its own way; ours is the one way
        text = source_form.dumps(nbformat.read(path, as_version=4))
        path.unlink()
        path.write_text(text, encoding="utf-8")


# -- papers ----------------------------------------------------------------------------------------------------------------


def papers_modules(notebooks: Iterable[Notebook]) -> dict[str, str]:
    """{path: text} of the `papers` modules that these notebooks' exported cells make, packages' __init__ files included.

    Several notebooks may share a module; their cells follow one another in the curriculum's order.
    """
    parts: dict[str, list[Notebook]] = {}
    for notebook in notebooks:
        if notebook.exports:
            parts.setdefault(notebook.exports, []).append(notebook)
    modules: dict[str, str] = {}
    for module, contributors in parts.items():
        path = module.replace(".", "/") + ".py"
        imports: list[str] = []
        bodies: list[str] = []
        for notebook in contributors:
            for cell in notebook.cells:
                if cell.export:
                    before, body = _split_imports(_without_marks(cell.source))
                    own = f"from {module} import"
                    imports += [line for line in before if line not in imports and not line.startswith(own)]
                    if body.strip():
                        bodies.append(body.strip("\n"))
        titles = " and ".join(f"“{notebook.title}”" for notebook in contributors)
        weeks = ", ".join(dict.fromkeys(notebook.assignment for notebook in contributors))
        head = f'"""{titles} ({weeks}), as built in the notebooks. Generated by `autograder build`: change the solutions instead."""\n\n'
        imports = _merged(imports)
        modules[path] = (
            head
            + "from __future__ import annotations\n\n"
            + "\n".join(imports)
            + "\n\n\n"
            + "\n\n\n".join(bodies)
            + "\n"
        )
        package = Path(path).parent
        if str(package) != "papers":
            track = package.name
            modules[f"{package}/__init__.py"] = (
                f'"""What the {track} weeks have built so far. Generated by `autograder build`."""\n'
            )
    return modules


def _without_marks(text: str) -> str:
    return "\n".join(
        line
        for line in text.split("\n")
        if source_form.BEGIN_SOLUTION not in line and source_form.END_SOLUTION not in line
    )


def _split_imports(text: str) -> tuple[list[str], str]:
    """A cell's leading top-level import statements, one a line, and the rest."""
    lines = text.split("\n")
    imports: list[str] = []
    taken: set[int] = set()
    for statement in ast.parse(text).body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            imports.append(ast.unparse(statement))
            taken.update(range(statement.lineno - 1, statement.end_lineno or statement.lineno))
    return imports, "\n".join(line for number, line in enumerate(lines) if number not in taken)


def _merged(imports: list[str]) -> list[str]:
    """Import lines in the usual order, one `from` line a module, each name once."""
    plain: list[str] = []
    names: dict[str, list[str]] = {}
    for line in imports:
        statement = ast.parse(line).body[0]
        if isinstance(statement, ast.ImportFrom):
            names.setdefault(statement.module or "", []).extend(ast.unparse(alias) for alias in statement.names)
        else:
            plain.append(line)
    lines = [
        *dict.fromkeys(plain),
        *(f"from {module} import {', '.join(sorted(set(found)))}" for module, found in names.items()),
    ]
    return sorted(lines, key=_import_order)


def _import_order(line: str) -> tuple[int, int, str]:
    module = line.split()[1]
    standard = module.split(".")[0] in sys.stdlib_module_names
    own = module.split(".")[0] in ("papers", "autograder")
    return (0 if standard else 2 if own else 1, 0 if line.startswith("import") else 1, line)


# -- recordings ------------------------------------------------------------------------------------------------------------


def _build_recordings(
    root: Path, notebooks: Sequence[Notebook], report: Report, check: bool, progress: Callable[[str], None]
) -> None:
    from autograder.case import PUBLIC_SEED
    from autograder.record import same_recording
    from autograder.recording import NoRecording, Recording

    def one(notebook: Notebook) -> tuple[Notebook, Recording]:
        # an interpreter of its own a notebook: kernels inherit the environment, and two builds must not share one
        with tempfile.TemporaryDirectory() as folder:
            stem = Path(folder) / notebook.name
            command = [sys.executable, "-m", "autograder.record", str(root), notebook.key, str(PUBLIC_SEED), str(stem)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise source_form.SourceError(done.stderr.strip() or f"recording {notebook.key} failed")
            return notebook, Recording.load(stem)

    with ThreadPoolExecutor(max_workers=2) as pool:
        for notebook, made in pool.map(one, notebooks):
            stem = root / "data" / "recordings" / notebook.assignment / notebook.name
            try:
                kept: Recording | None = Recording.load(stem)
            except NoRecording:
                kept = None
            progress(f"{notebook.key}: recording")
            # other processors round differently: a recording that says the same within rounding stays as it is
            if kept is not None and same_recording(kept, made):
                report.unchanged += 1
                continue
            report.changed.append(stem.with_suffix(".safetensors").relative_to(root))
            if not check:
                made.save(stem)


# -- files -----------------------------------------------------------------------------------------------------------------


def _sync(made: Path, root: Path, report: Report, check: bool) -> None:
    """Bring what was made to where it belongs, touching only files that differ."""
    for path in sorted(path for path in made.rglob("*") if path.is_file()):
        target = root / path.relative_to(made)
        if target.exists() and target.read_bytes() == path.read_bytes():
            report.unchanged += 1
            continue
        report.changed.append(path.relative_to(made))
        if not check:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for folder, known in (("notebooks", "*/*.ipynb"), ("solutions", "*/*.ipynb")):
        for path in sorted((root / folder).glob(known)):
            if not (root / "solutions" / path.parent.name / f"{path.stem}.py").exists():
                report.changed.append(path.relative_to(root))
                if not check:
                    path.unlink()
