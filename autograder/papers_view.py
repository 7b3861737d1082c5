"""The `papers` package as one notebook may see it: what was built before it, and nothing of what it asks to build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autograder.build import curriculum_order, papers_modules
from autograder.notebook import Notebook


def visible_papers(notebook: Notebook, notebooks: Sequence[Notebook], root: Path) -> dict[str, str]:
    """{path: text} of the modules: exports of the notebooks before this one in its track, and the hand-written modules."""
    track = notebook.assignment.partition("-")[0]
    earlier = [
        other
        for other in notebooks
        if other.assignment.partition("-")[0] == track and curriculum_order(other) < curriculum_order(notebook)
    ]
    generated = papers_modules(notebooks)
    hand_written = {
        str(path.relative_to(root)): path.read_text(encoding="utf-8")
        for path in sorted((root / "papers").rglob("*.py"))
        if str(path.relative_to(root)) not in generated
    }
    return {**hand_written, **papers_modules(earlier)}


def papers_before(notebook: Notebook, notebooks: Sequence[Notebook], root: Path, folder: Path) -> Path:
    """Write the package as `notebook` may see it into `folder`, and return that."""
    for path, text in visible_papers(notebook, notebooks, root).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder
