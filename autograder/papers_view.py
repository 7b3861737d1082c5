"""The `papers` package as one notebook may see it: what was built before it, and nothing of what it asks to build."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from autograder.build import curriculum_order, papers_modules
from autograder.notebook import Notebook


def papers_before(notebook: Notebook, notebooks: Sequence[Notebook], root: Path, folder: Path) -> Path:
    """Write the package into `folder` and return it: exports of the notebooks before this one in its track, and the hand-written modules."""
    track = notebook.assignment.partition("-")[0]
    earlier = [
        other
        for other in notebooks
        if other.assignment.partition("-")[0] == track and curriculum_order(other) < curriculum_order(notebook)
    ]
    generated = papers_modules(notebooks)
    for path in (root / "papers").rglob("*.py"):
        relative = path.relative_to(root)
        if str(relative) not in generated:
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / relative)
    for relative_path, text in papers_modules(earlier).items():
        (folder / relative_path).parent.mkdir(parents=True, exist_ok=True)
        (folder / relative_path).write_text(text, encoding="utf-8")
    return folder
