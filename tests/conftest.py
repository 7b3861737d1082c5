"""Fixtures shared by the tests: the repository's root and a small course of one notebook that builds in seconds."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
ROOT = Path(__file__).resolve().parent.parent

SMALL = '''# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Doubling
#     order: 1
#     exports: papers.small.doubling
#     minutes: 5
# ---

# %% [markdown]
# # Doubling

# %% tags=["export"]
import torch
from torch import Tensor

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% tags=["export"]
def double(x: Tensor) -> Tensor:
    """Twice x. May not call torch.add."""
    ### BEGIN SOLUTION
    secret_name = 2
    return secret_name * x
    ### END SOLUTION


# %%
@check("double", points=2, forbid=["torch.add"], paper="section 1")
def _(case):
    case.call("two numbers", double, case.normal(2))
    case.call("a matrix", double, case.normal(3, 4))
    ### BEGIN HIDDEN TESTS
    case.call("hidden: float64", double, case.normal(3, dtype=torch.float64))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, hints, misconceptions, mistake

hints("double", "A nudge.", "Section 1.", "The approach.")
misconceptions(
    "double",
    mistake("squares", ("return secret_name * x", "return x * x"), says="Your code squares the input; it has to be doubled."),
    mistake("triples", ("secret_name = 2", "secret_name = 3"), says="Your code triples the input; it has to be doubled."),
    mistake("in place", ("return secret_name * x", "return x.mul_(2)"), says="Your code changes its input."),
)

# %% tags=["alternative"]
@alternative("a sum")
def double(x):
    return x + x


# %%
class Affine(torch.nn.Module):
    """a·x + b with `a` and `b` of shape (n,)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.a, self.b = torch.nn.Parameter(torch.ones(n)), torch.nn.Parameter(torch.zeros(n))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        return double(self.a * x / 2) + self.b
        ### END SOLUTION


# %%
@check("Affine", points=3)
def _(case):
    module = case.initialise(Affine(3))
    y = case.call("one row", module, case.normal(1, 3))
    case.gradients("gradients", y, module)
    with case.part("many rows", points=1):
        case.call("rows", module, case.normal(5, 3))


# %% [markdown] written="why" points=2
# Why double?
# ### BEGIN SOLUTION
# Because the rubric says so.
# ### END SOLUTION

# %% tags=["picture"]
score()
'''


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A repository with one small notebook, small-week0/doubling, not built yet."""
    return make_course(tmp_path / "course")


@pytest.fixture(scope="session")
def built_course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, built once with its recording. Tests must leave it as it is."""
    from autograder.build import build

    folder = make_course(tmp_path_factory.mktemp("built") / "course")
    build(folder)
    return folder


def make_course(folder: Path) -> Path:
    (folder / "solutions" / "small-week0").mkdir(parents=True)
    (folder / "papers").mkdir()
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    shutil.copyfile(ROOT / "nbgrader_config.py", folder / "nbgrader_config.py")
    (folder / "papers" / "__init__.py").write_text('"""Papers."""\n')
    (folder / "solutions" / "small-week0" / "doubling.py").write_text(SMALL)
    return folder


def learners(course: Path, folder: Path, count: int, seconds: float = 0.3) -> Path:
    """Submissions to the small course, right and wrong, no two alike; each takes `seconds`, so that it can be lost in the middle."""
    for number in range(count):
        node = nbformat.read(course / "notebooks" / "small-week0" / "doubling.ipynb", as_version=4)
        for cell in node.cells:
            if cell.metadata.get("nbgrader", {}).get("grade_id") == "double":
                cell.source = (
                    f"import time\ntime.sleep({seconds})\ndef double(x):\n    return {2 + number % 2} * x  # {number}"
                )
        path = folder / f"learner-{number}" / "small-week0" / "doubling.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(node, path)
    return folder


def table(out: Path) -> bytes:
    """results.jsonl, with the clock's whole seconds taken out: a loaded machine may need one more."""
    return re.sub(rb'"seconds": \d+', b'"seconds": 0', (out / "results.jsonl").read_bytes())
