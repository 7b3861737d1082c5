"""A sample class, made from the solutions: right, blank, mistaken, broken and misbehaving learners, and what grading each has to say.

`python -m autograder.sample_class FOLDER [ASSIGNMENT]` writes `FOLDER/<student>/<assignment>/<notebook>.ipynb`.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from autograder import notebook as source_form
from autograder.build import read_all
from autograder.notebook import Notebook


@dataclass(frozen=True)
class Expected:
    """What grading has to say on one check of one sample student."""

    student: str
    assignment: str
    notebook: str
    check: str
    status: str
    misconception: str | None = None


def make(root: Path, folder: Path, assignment: str = "transformer-week2") -> list[Expected]:
    """Write the sample class's submissions to one assignment below `folder` and return what grading has to find, in order."""
    notebooks = read_all(root, [assignment])
    released = {
        n.name: nbformat.read(root / "notebooks" / assignment / f"{n.name}.ipynb", as_version=4) for n in notebooks
    }
    expected: list[Expected] = []
    for student, changes in _students(root, notebooks):
        for notebook in notebooks:
            change = changes.get(notebook.name, {})
            node = _submission(
                notebook, released[notebook.name], {name: source for name, (source, _, _) in change.items()}
            )
            path = folder / student / assignment / f"{notebook.name}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            if student == "not-a-notebook":
                path.write_text("My laptop ate it.\n", encoding="utf-8")
            else:
                path.write_text(source_form.dumps(node), encoding="utf-8")
            for name in notebook.checks:
                _, status, misconception = change.get(name, ("", "passed", None))
                if student == "not-a-notebook":
                    status, misconception = "unreadable", None
                expected.append(Expected(student, assignment, notebook.name, name, status, misconception))
    return sorted(expected, key=lambda item: item.student)


Change = dict[str, tuple[str, str, str | None]]
"""{exercise: (source of its cell, status, misconception)}; what is not named is right."""


def _students(root: Path, notebooks: list[Notebook]) -> Iterator[tuple[str, dict[str, Change]]]:
    yield "perfect", {}
    yield (
        "blank",
        {
            n.name: {
                name: (source_form.stubbed(cell.source), "not_attempted", None) for name, cell in n.exercises.items()
            }
            for n in notebooks
        },
    )
    yield from _mistaken(root, notebooks)
    first = notebooks[0]
    name = next(iter(first.exercises))
    right = without_marks(first.exercises[name].source)

    def broken(status: str, source: str) -> dict[str, Change]:
        return {first.name: {name: (source, status, None)}}

    renamed = re.sub(rf"\b(def|class) {name}\b", r"\1 my_version", right)
    yield "renamed-the-function", broken("error", renamed)
    yield "raises-an-error", broken("error", _body(first, name, 'raise ValueError("this shape is not supported")'))
    yield "loops-for-ever", broken("timeout", _body(first, name, "while True:\n    pass"))
    yield "calls-exit", broken("kernel_died", right + "\n\nexit()\n")
    yield "kernel-dies", broken("kernel_died", _body(first, name, "import os\nos._exit(3)"))
    yield "not-a-notebook", {}


def _mistaken(root: Path, notebooks: list[Notebook]) -> Iterator[tuple[str, dict[str, Change]]]:
    """A student for each of several known mistakes: the first two of every exercise."""
    for notebook in notebooks:
        for name, edits in _edits(root, notebook).items():
            wanted = [edit for edit in edits if edit["status"] in ("wrong", "error", "partial")][:2]
            for edit in wanted:
                slug = re.sub(r"[^a-z0-9]+", "-", edit["name"].lower()).strip("-")
                yield (
                    f"{name.lower().replace('_', '-')}--{slug}",
                    {notebook.name: {name: (edit["source"], edit["status"], edit["name"])}},
                )


def _edits(root: Path, notebook: Notebook) -> dict[str, list[dict[str, str]]]:
    """{exercise: its mistakes as {name, source, status}}, the status from the shipped recording."""
    import autograder
    from autograder import authoring
    from autograder.judge import judge
    from autograder.recording import shipped

    recording = shipped(notebook.assignment, notebook.name)
    authoring.collected = {}
    namespace = {name: getattr(autograder, name) for name in autograder.__all__}
    try:
        for cell in notebook.cells:
            if cell.role == "misconceptions":
                exec(compile(cell.source, f"<{notebook.key}>", "exec"), namespace)
        collected = authoring.collected
    finally:
        authoring.collected = None
    result: dict[str, list[dict[str, str]]] = {}
    for name, edits in collected.items():
        source = notebook.exercises[name].source
        answers = {mistake.name: mistake.answer for mistake in recording.checks[name].mistakes}
        result[name] = [
            {
                "name": edit.name,
                "source": without_marks(edit.apply(source)),
                "status": judge(answers[edit.name], recording.checks[name]).status,
            }
            for edit in edits
        ]
    return result


def without_marks(source: str) -> str:
    """A solution's cell as a learner would have written it."""
    marks = (source_form.BEGIN_SOLUTION, source_form.END_SOLUTION)
    return "\n".join(line for line in source.split("\n") if not any(mark in line for mark in marks))


def _body(notebook: Notebook, name: str, body: str) -> str:
    """The exercise's stub with `body` in place of each `raise NotImplementedError`."""
    source = source_form.stubbed(notebook.exercises[name].source)

    def indented(match: re.Match[str]) -> str:
        return "\n".join(match.group(1) + line for line in body.split("\n"))

    return re.sub(r'^( *)raise NotImplementedError\(".*"\)$', indented, source, flags=re.MULTILINE)


def _submission(notebook: Notebook, released: NotebookNode, change: dict[str, str]) -> NotebookNode:
    """The learner's notebook with every exercise right, but for those in `change`."""
    node = nbformat.from_dict(json.loads(nbformat.writes(released)))
    for cell in node.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in notebook.exercises and cell.cell_type == "code":
            cell.source = change.get(name, without_marks(notebook.exercises[name].source))
    return node


def compare(expected: Iterable[Expected], results: Path) -> list[str]:
    """What grading said that it should not have: a sentence each, none if every row is right."""
    lines = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    found = {(line["student"], line["assignment"], line["notebook"], line["check"]): line for line in lines}
    wrong = []
    for item in expected:
        line = found.get((item.student, item.assignment, item.notebook, item.check))
        if line is None:
            wrong.append(f"{item.student}: no result for {item.check}")
        elif (line["status"], line["misconception"]) != (item.status, item.misconception):
            wrong.append(
                f"{item.student}, {item.check}: {line['status']} ({line['misconception']}), not {item.status} ({item.misconception})"
            )
    return wrong


def main(arguments: list[str]) -> None:
    """`python -m autograder.sample_class FOLDER [ASSIGNMENT]` makes the class; with `--compare RESULTS` it says whether every row is right."""
    from autograder.cli import find_root

    folder = Path(arguments[0])
    known = folder / "expected.json"
    if arguments[1:2] == ["--compare"]:
        expected = [Expected(*item) for item in json.loads(known.read_text(encoding="utf-8"))]
        wrong = compare(expected, Path(arguments[2]))
        print(
            "\n".join(
                [
                    *wrong,
                    f"{len(expected) - len(wrong)} of {len(expected)} results are what the sample class was made for",
                ]
            )
        )
        sys.exit(bool(wrong))
    shutil.rmtree(folder, ignore_errors=True)
    expected = make(find_root(), folder, *arguments[1:2])
    known.write_text(json.dumps([list(vars(item).values()) for item in expected]), encoding="utf-8")
    print(f"{len({item.student for item in expected})} students in {folder}")


if __name__ == "__main__":
    main(sys.argv[1:])
