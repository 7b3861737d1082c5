"""Runs a solution notebook by papermill and gathers what its reference and its mistakes answer. Trusted code only."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from autograder import lean  # noqa: F401  before nbformat

# isort: split
import nbformat
import papermill
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from autograder.answer import Answer, decode
from autograder.judge import _difference, judge
from autograder.notebook import Notebook, SourceError
from autograder.ordinary import papermill_kernel
from autograder.recording import CheckRecording, Mistake, Recording
from autograder.workers import end_with_parent


def experiment_cells(notebook: Notebook, hidden: bool) -> list[tuple[str, str]]:
    """(role, source) of what runs to record: set-up, exercises, checks (with hidden cases or not) and misconceptions."""
    roles = ("setup", "plain", "parameters", "exercise", "check", "misconceptions")
    return [(cell.role, cell.source if hidden else cell.public) for cell in notebook.cells if cell.role in roles]


def as_notebook(cells: list[tuple[str, str]]) -> NotebookNode:
    """Code cells as a notebook that papermill can run; the parameters cell keeps its tag."""
    nodes = []
    for index, (role, source) in enumerate(cells):
        node = nbformat.v4.new_code_cell(source, id=f"c{index:04d}")
        if role == "parameters":
            node.metadata["tags"] = ["parameters"]
        nodes.append(node)
    result = nbformat.v4.new_notebook(cells=nodes)
    result.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return result


def record(notebook: Notebook, seed: int, hidden: bool, papers: Path | None = None) -> Recording:
    """Run a solution notebook on `seed` and gather its recording.

    Args:
        hidden: with the hidden cases (grading) or without (what is shipped).
        papers: a folder that holds the `papers` package as this notebook may see it; None for the installed one.

    Raises: SourceError if a cell fails, with the cell's own error, or if the kernel dies.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as sockets:
        answers = Path(folder) / "answers"
        answers.mkdir()
        environment = {
            "AUTOGRADER_MODE": "record",
            "AUTOGRADER_SEED": str(seed),
            "AUTOGRADER_ANSWERS": str(answers),
            "MPLBACKEND": "Agg",
            "OMP_NUM_THREADS": "1",  # as where submissions run: the same order of summation
        }
        lines = ["import os, sys", f"os.environ.update({environment!r})"]
        if papers is not None:
            lines.append(f"sys.path.insert(0, {str(papers)!r})")
        cells = [("plain", "\n".join(lines)), *experiment_cells(notebook, hidden)]
        try:
            papermill.execute_notebook(
                as_notebook(cells), None, parameters={}, progress_bar=False, cwd=folder, **papermill_kernel(sockets)
            )
        except PapermillExecutionError as error:
            raise SourceError(
                f"{notebook.path}: a cell fails: {error.ename}: {error.evalue}\n{_plain(error.traceback)}"
            ) from error
        except RuntimeError as error:  # the kernel died, or did not come up
            raise SourceError(f"{notebook.path}: {error}") from error
        return gather(notebook, {path.name: path.read_bytes() for path in answers.iterdir()})


def gather(notebook: Notebook, files: Mapping[str, bytes]) -> Recording:
    """The recording that a record run's files make."""
    checks = {}
    for name, cell in notebook.checks.items():
        assert cell.check is not None
        if f"{name}.answer" not in files:
            raise SourceError(f"{notebook.path}: the solution's check {name!r} left no answer")
        reference = decode(files[f"{name}.answer"])
        failed = next((case for case in reference.cases if case.error), None)
        if failed is not None and failed.error is not None:
            raise SourceError(
                f"{notebook.path}: the reference fails its own check {name!r} at “{failed.name}”: "
                f"{failed.error.type}: {failed.error.message} {failed.error.where}"
            )
        if sum(reference.parts.values()) > cell.points:
            raise SourceError(f"{notebook.path}: the parts of {name!r} are worth more than its {cell.points} points")
        notes = json.loads(files.get(f"{name}.mistakes.json", b"[]"))
        mistakes = [
            Mistake(note["name"], note["says"], decode(files[f"{name}--m{index:03d}.answer"]))
            for index, note in enumerate(notes)
        ]
        hints = tuple(json.loads(files.get(f"{name}.hints.json", b"[]")))
        checks[name] = CheckRecording(
            name, cell.points, reference, tuple(mistakes), hints, cell.check.paper, cell.check.forbid, notebook.stubs
        )
        # a bar may be out of reach for what is drawn from one seed: whoever is right would lose the points
        own = judge(reference, checks[name])
        if not own.passed:
            raise SourceError(
                f"{notebook.path}: on this seed the reference does not pass its own check {name!r} (another seed may do): {own.message}"
            )
    return Recording(notebook.assignment, notebook.name, checks)


def same_recording(one: Recording, other: Recording) -> bool:
    """Whether two recordings say the same: all but the values to the letter, the values within the judge's tolerance.

    A mistake may compute what is rounding and nothing else (directions of no variance, say), so its values may differ where both are wrong.
    """
    if list(one.checks) != list(other.checks):
        return False
    for a, b in zip(one.checks.values(), other.checks.values(), strict=True):
        if (a.points, a.hints, a.paper, a.forbid, dict(a.stubs)) != (
            b.points,
            b.hints,
            b.paper,
            b.forbid,
            dict(b.stubs),
        ):
            return False
        if [(m.name, m.says) for m in a.mistakes] != [(m.name, m.says) for m in b.mistakes]:
            return False
        if not _same_answer(a.reference, b.reference):
            return False
        if not all(_same_answer(m.answer, n.answer, a.reference) for m, n in zip(a.mistakes, b.mistakes, strict=True)):
            return False
    return True


def _same_answer(one: Answer, other: Answer, right: Answer | None = None) -> bool:
    if len(one.cases) != len(other.cases) or dict(one.parts) != dict(other.parts):
        return False
    for a, b in zip(one.cases, other.cases, strict=True):
        if (a.name, a.policy, a.part, a.labels, set(a.inputs)) != (b.name, b.policy, b.part, b.labels, set(b.inputs)):
            return False
        if a.policy.is_metric:
            # a metric's value may differ from machine to machine; on which side of its bar it lies may not
            same = (_difference(a, a, a.policy) is None) == (_difference(b, b, b.policy) is None)
        else:
            same = _difference(a, b, a.policy) is None or (
                right is not None
                and (expected := right.case(a.name)) is not None
                and _difference(expected, a, expected.policy) is not None
                and _difference(expected, b, expected.policy) is not None
            )
        if not same or set(a.modified) != set(b.modified):
            return False
    return True


def _plain(traceback: list[str]) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(traceback))[-4000:]


def main(arguments: list[str]) -> None:
    """`python -m autograder.record ROOT ASSIGNMENT/NOTEBOOK SEED STEM [hidden]`: one recording, in an interpreter of its own."""
    from autograder.build import read_all
    from autograder.papers_view import papers_before

    root, key, seed, stem = Path(arguments[0]), arguments[1], int(arguments[2]), Path(arguments[3])
    os.environ.setdefault("PYTHONHASHSEED", "0")
    notebooks = read_all(root, needed=[key])
    notebook = next(item for item in notebooks if item.key == key)
    with tempfile.TemporaryDirectory() as folder:
        papers = papers_before(notebook, notebooks, root, Path(folder))
        try:
            record(notebook, seed, "hidden" in arguments[4:], papers).save(stem)
        except SourceError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    end_with_parent()
    main(sys.argv[1:])
