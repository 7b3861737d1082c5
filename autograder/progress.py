"""A learner's own notebooks, week by week: what has passed, how many points, what is next. Read from saved outputs; no grade is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autograder import lean  # noqa: F401  before nbformat

# isort: split
import nbformat

from autograder.build import read_all
from autograder.run import verdicts_in


@dataclass(frozen=True)
class NotebookProgress:
    """How far one notebook is. `next` is the first exercise that has not passed, None when all have."""

    assignment: str
    notebook: str
    title: str
    passed: int
    checks: int
    points: int
    max_points: int
    next: str | None
    started: bool


def progress(root: Path, folder: Path) -> list[NotebookProgress]:
    """Read the learner's notebooks below `folder` (<assignment>/<notebook>.ipynb, or the files by themselves)."""
    rows = []
    for notebook in read_all(root):
        candidates = [folder / notebook.assignment / f"{notebook.name}.ipynb", folder / f"{notebook.name}.ipynb"]
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
        verdicts: dict[str, dict[str, Any]] = {}
        if path is not None:
            try:
                verdicts = {verdict["check"]: verdict for verdict in verdicts_in(nbformat.read(path, as_version=4))}
            except Exception:
                verdicts = {}
        passed = [name for name in notebook.checks if verdicts.get(name, {}).get("status") == "passed"]
        points = sum(cell.points for name, cell in notebook.checks.items() if name in passed)
        rows.append(
            NotebookProgress(
                notebook.assignment,
                notebook.name,
                notebook.title,
                len(passed),
                len(notebook.checks),
                points,
                sum(cell.points for cell in notebook.checks.values()),
                next((name for name in notebook.checks if name not in passed), None),
                bool(verdicts),
            )
        )
    return rows


def to_json(rows: Sequence[NotebookProgress]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]
