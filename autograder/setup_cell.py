"""The one set-up cell and the Colab badge that `autograder build` puts into every notebook. Text only; installs nothing itself."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from pathlib import Path

SETUP = """#@title Set-up: run this cell first
# Uses the course's package if it is installed, else installs it. The PyTorch you have stays as it is.
import importlib.util, os, pathlib, subprocess, sys, tempfile
from importlib.metadata import version

if importlib.util.find_spec("autograder.checks" if importlib.util.find_spec("autograder") else "autograder") is None:
    if importlib.util.find_spec("torch") is None:
        raise SystemExit("PyTorch is missing. Install torch and torchvision as pytorch.org says, then run this cell again.")
    source = os.environ.get("PAPER_TO_PYTORCH_SOURCE", "git+{repository}")
    present = [name for name in ("torch", "torchvision") if importlib.util.find_spec(name)]
    pins = pathlib.Path(tempfile.mkdtemp(), "constraints.txt")
    pins.write_text("".join(f"{{name}}=={{version(name)}}\\n" for name in present))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", str(pins), source]
    print("Installing the course's package …")
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit("The package could not be installed. Is there a network? In a terminal, try:\\n  "
                         + " ".join(pip) + "\\n" + done.stderr[-1000:])
    importlib.invalidate_caches()

import autograder
from autograder import check, hint, score

autograder.begin("{assignment}", "{notebook}")"""


def setup_source(assignment: str, notebook: str, repository: str) -> str:
    """The set-up cell of one notebook."""
    return SETUP.format(assignment=assignment, notebook=notebook, repository=repository)


def badge_source(assignment: str, notebook: str, repository: str) -> str:
    """The badge that opens the learner's notebook in Colab, for repositories on GitHub."""
    where = repository.removeprefix("https://github.com/")
    address = f"https://colab.research.google.com/github/{where}/blob/main/notebooks/{assignment}/{notebook}.ipynb"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({address})"


def repository_address(root: Path) -> str:
    """The repository's address, from the one place that holds it: pyproject.toml's project.urls.Repository."""
    return _address((root / "pyproject.toml").read_text(encoding="utf-8"))


@lru_cache(maxsize=8)
def _address(project: str) -> str:
    return str(tomllib.loads(project)["project"]["urls"]["Repository"]).rstrip("/")
