"""nbgrader preprocessors that make a learner's notebook out of a solution notebook. Named in `nbgrader_config.py`; they never add a solution.

nbgrader's own preprocessors clear outputs and hidden tests and check the metadata; these three do what nbgrader has no option for.
"""

from __future__ import annotations

from typing import Any

from nbformat import NotebookNode
from nbgrader.preprocessors import ClearSolutions, NbGraderPreprocessor

from autograder.notebook import UNRELEASED, stubbed


class DropUnreleasedCells(NbGraderPreprocessor):
    """Remove the cells that no learner sees: misconceptions with hints, and alternative solutions."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        nb.cells = [cell for cell in nb.cells if not set(cell.metadata.get("tags", [])) & set(UNRELEASED)]
        return nb, resources


class StubSolutions(ClearSolutions):
    """Replace each solution region in code by `raise NotImplementedError("implement <its function>")`, in text by nbgrader's stub."""

    def _replace_solution_region(self, cell: NotebookNode, language: str) -> bool:
        if cell.cell_type != "code":
            return bool(super()._replace_solution_region(cell, language))
        if self.begin_solution_delimeter not in cell.source:
            return False
        cell.source = stubbed(cell.source)
        return True


class CleanRelease(NbGraderPreprocessor):
    """Drop what only matters in a source: the `export` tag, and what nbgrader adds to notebook metadata."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        for cell in nb.cells:
            tags = [tag for tag in cell.metadata.get("tags", []) if tag != "export"]
            cell.metadata.pop("tags", None)
            if tags:
                cell.metadata["tags"] = tags
            cell.source = cell.source.rstrip("\n")
        return nb, resources
