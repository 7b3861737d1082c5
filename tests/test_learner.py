"""A learner's own notebook: verdicts shown at once, failing checks stop Run All, hints come one by one, nothing else is needed."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nbformat
import papermill
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from papermill.exceptions import PapermillExecutionError

from autograder.run import verdicts_in
from autograder.sample_class import without_marks
from tests.conftest import ROOT
from tests.test_build import NOTEBOOKS

KEY = "transformer-week2/scaled_dot_product_attention"
NOTEBOOK = next(notebook for notebook in NOTEBOOKS if notebook.key == KEY)


def learner_notebook(solved: int, then: str = "", wrong: str = "") -> nbformat.NotebookNode:
    """The released notebook with its first exercises solved, the next one `wrong`, and a cell run after the last of them."""
    node = nbformat.read(ROOT / "notebooks" / f"{KEY}.ipynb", as_version=4)
    names = list(NOTEBOOK.exercises)
    cells = []
    for cell in node.cells:
        if "picture" in cell.metadata.get("tags", []) and "score()" not in cell.source:
            continue  # pictures take seconds and are not what is tested here
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        if cell.cell_type == "code" and grade_id in names[:solved]:
            cell.source = without_marks(NOTEBOOK.exercises[grade_id].source)
        elif wrong and grade_id == names[solved]:
            cell.source = wrong
        cells.append(cell)
    if then:
        cells.append(nbformat.v4.new_code_cell(then))
    node.cells = cells
    return node


def execute(node: nbformat.NotebookNode, folder: Path, **options: object) -> tuple[nbformat.NotebookNode, str | None]:
    source, target = folder / "in.ipynb", folder / "out.ipynb"
    nbformat.write(node, source)
    error = None
    try:
        papermill.execute_notebook(
            str(source), str(target), progress_bar=False, kernel_name="python3", cwd=str(folder), **options
        )
    except PapermillExecutionError as failure:
        error = f"{failure.ename}: {failure.evalue}"
    return nbformat.read(target, as_version=4), error


def text_of(node: nbformat.NotebookNode) -> str:
    outputs = [output for cell in node.cells for output in cell.get("outputs", [])]
    plain = [
        output.get("text", "")
        + str(output.get("data", {}).get("text/plain", ""))
        + "\n".join(output.get("traceback", []))
        for output in outputs
    ]
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(plain))


def test_a_blank_notebook_stops_at_the_first_check_which_says_not_attempted(tmp_path: Path) -> None:
    node, error = execute(learner_notebook(0), tmp_path)
    assert error is not None and error.startswith("CheckFailed")
    (verdict,) = verdicts_in(node)
    assert (verdict["status"], verdict["points"]) == ("not_attempted", 0)
    text = text_of(node)
    assert "Not attempted yet: implement scaled_dot_product_attention" in text
    assert "autograder/checks.py" not in text, "a traceback into the checks helps nobody"


def test_a_solved_notebook_passes_and_the_score_is_full(tmp_path: Path) -> None:
    node, error = execute(learner_notebook(len(NOTEBOOK.exercises)), tmp_path)
    assert error is None
    assert [verdict["status"] for verdict in verdicts_in(node)] == ["passed"] * len(NOTEBOOK.checks)
    points = sum(cell.points for cell in NOTEBOOK.checks.values())
    assert f"{points}/{points}" in text_of(node)


def test_a_mistake_is_named_and_hints_come_one_by_one(tmp_path: Path) -> None:
    wrong = without_marks(NOTEBOOK.exercises["causal_mask"].source)
    wrong = re.sub(r"return .*", "return torch.ones(n, n, dtype=torch.bool).triu()", wrong)
    node = learner_notebook(1, wrong=wrong)
    for cell in node.cells:  # the learner runs the cells after the failed one by hand
        if cell.cell_type == "code":
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "raises-exception"]
    node.cells.append(
        nbformat.v4.new_code_cell('for _ in range(4):\n    hint("causal_mask")\nhint("scaled_dot_product_attention")')
    )
    out, _ = execute(node, tmp_path)
    verdict = {item["check"]: item for item in verdicts_in(out)}
    assert verdict["scaled_dot_product_attention"]["status"] == "passed"
    assert verdict["causal_mask"]["status"] == "wrong" and verdict["causal_mask"]["misconception"]
    text = text_of(out)
    assert text.index("Hint 1 of 3") < text.index("Hint 2 of 3") < text.index("Hint 3 of 3")
    assert "no hint needed" in text


def test_a_forbidden_call_is_named_with_its_line(tmp_path: Path) -> None:
    wrong = (
        "def scaled_dot_product_attention(q, k, v, mask=None):\n"
        "    return F.scaled_dot_product_attention(q, k, v, mask), None\n"
    )
    node, _ = execute(learner_notebook(0, wrong=wrong), tmp_path)
    assert "uses it ready-made: torch.nn.functional.scaled_dot_product_attention in line 2" in text_of(node)


def closure(names: list[str]) -> set[str]:
    """Distributions that these need here, themselves included."""
    seen: set[tuple[str, str]] = set()
    wanted = [Requirement(name) for name in names]
    while wanted:
        needed = wanted.pop()
        for extra in ("", *needed.extras):
            if (each := (canonicalize_name(needed.name), extra)) not in seen:
                seen.add(each)
                lines = map(Requirement, importlib.metadata.requires(needed.name) or [])
                wanted += [line for line in lines if line.marker is None or line.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with pip, torch, torchvision, matplotlib and a kernel, as Colab gives it: linked, not installed anew."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    target = Path(
        subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        ).strip()
    )
    own = {path.name for path in target.iterdir()}
    # Files, not folders: whatever is installed next to them must not be written into the environment that all tests share.
    for name in closure(["torch", "torchvision", "matplotlib", "ipykernel"]):
        files = [file for file in importlib.metadata.files(name) or [] if file.parts[0] != ".."]
        if not own.intersection(file.parts[0] for file in files):
            for file in files:
                place = target / file
                if not place.exists() and Path(str(file.locate())).exists():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.symlink_to(file.locate())
    return python


@pytest.mark.slow
def test_a_notebook_opened_alone_installs_what_it_needs_and_leaves_torch_as_it_is(
    bare_python: Path, tmp_path: Path
) -> None:
    def versions() -> str:
        code = "import torch, torchvision, matplotlib; print(torch.__version__, torch.__file__, torchvision.__version__, matplotlib.__version__)"
        return subprocess.check_output([bare_python, "-c", code], text=True, cwd=tmp_path)

    def shared() -> dict[str, tuple[int, int]]:
        """Every file that the tests' own environment has installed, by inode and time."""
        found = {}
        for path in Path(sysconfig.get_path("purelib")).rglob("*"):
            if path.suffix != ".pyc":
                about = path.lstat()
                found[str(path)] = (about.st_ino, about.st_mtime_ns if path.is_file() else 0)
        return found

    before, installed = versions(), shared()
    source = tmp_path / "source"  # what the repository's address would give: the committed tree
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(
            ".git", ".venv", "grading", "build", "executed", "__pycache__", ".*_cache", "cache"
        ),
    )
    cells = [cell.source for cell in learner_notebook(1).cells if cell.cell_type == "code"]
    script = tmp_path / "alone" / "cells.py"
    script.parent.mkdir()
    # cells run in an IPython shell in an empty folder, as a kernel would run them
    script.write_text(
        "import sys\nfrom IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell.instance()\n"
        f"for source in {cells!r}:\n    result = shell.run_cell(source, store_history=True)\n    if not result.success:\n        break\n"
        "print('STOPPED AT', type(result.error_in_exec).__name__)\n"
    )
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [bare_python, str(script)],
        cwd=script.parent,
        capture_output=True,
        text=True,
        env={**clean, "PAPER_TO_PYTORCH_SOURCE": str(source), "MPLBACKEND": "Agg", "HOME": str(tmp_path)},
    )
    assert "scaled_dot_product_attention: passed" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
    assert "STOPPED AT CheckFailed" in done.stdout, "the second exercise is blank, so its check stops the run"
    assert versions() == before
    assert shared() == installed, "nothing is written through the links"
    found = subprocess.check_output(
        [bare_python, "-c", "import autograder; print(autograder.__file__)"], text=True, cwd=tmp_path
    )
    assert str(tmp_path) not in found or "site-packages" in found


@pytest.mark.slow
def test_the_set_up_cell_says_what_to_do_when_it_cannot_install(tmp_path: Path) -> None:
    cell = next(cell.source for cell in learner_notebook(0).cells if "autograder.begin" in cell.source)
    # hide the installed package: a finder that knows nothing of it
    script = (
        "import importlib.util as u\nfind = u.find_spec\nu.find_spec = lambda n, *a: None if n.startswith('autograder') else find(n, *a)\n"
        + cell
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PAPER_TO_PYTORCH_SOURCE": str(tmp_path / "nowhere")},
    )
    assert done.returncode != 0 and "could not be installed" in done.stderr and "In a terminal, try:" in done.stderr
