"""Executes solution notebooks by papermill, whole, with a profile's parameters, and keeps what was executed. It grades nobody.

A notebook that succeeded is not executed again until its source, what it may import, the parameters or the environment change.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from autograder import lean  # noqa: F401  before nbformat

# isort: split
import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from autograder.build import read_all
from autograder.notebook import Notebook, SourceError
from autograder.ordinary import papermill_kernel
from autograder.papers_view import papers_before, visible_papers
from autograder.verdict import MIME
from autograder.workers import end_with_parent, ended_by_errors


@dataclass(frozen=True)
class NotebookRun:
    """One executed notebook: seconds of wall-clock, checks passed of checks run, and the error that stopped it, if one did."""

    notebook: str
    seconds: float
    passed: int
    checks: int
    path: str
    error: str | None = None
    kept: bool = False
    """Nothing it depends on has changed since it was executed, so it was not executed again."""

    @property
    def ok(self) -> bool:
        return self.error is None and self.passed == self.checks


def run(
    root: Path,
    names: Sequence[str] = (),
    parameters: dict[str, Any] | None = None,
    jobs: int = 1,
    out: Path = Path("executed"),
    progress: Callable[[NotebookRun, int], None] = lambda done, total: None,
    cache: Path | None = None,
) -> list[NotebookRun]:
    """Execute the solution notebooks of the named assignments (all if none is named).

    Args:
        parameters: for the notebooks' parameters cell: PROFILE, DEVICE, DATA_DIR, SEED.
        out: executed notebooks are kept as `out`/<assignment>/<notebook>.ipynb, also where a cell failed.
        progress: called with each finished notebook and how many there are.
        cache: where it is noted what succeeded on which inputs; None: everything is executed.

    Raises: SourceError for a notebook that is not built.
    """
    notebooks = read_all(root, names)
    for notebook in notebooks:
        if not _built(root, notebook.key).is_file():
            raise SourceError(f"{notebook.key} is not built yet: run `autograder build {notebook.key}` first")
    times = _last_times(out)
    stamps = _stamps(root, notebooks, parameters or {})
    results: dict[str, NotebookRun] = {}
    for notebook in notebooks:
        kept = None if cache is None else _kept(cache, stamps[notebook.key], notebook, out)
        if kept is not None:
            results[notebook.key] = kept
            progress(kept, len(notebooks))
    # the longest first, so that none is left running alone at the end; one never run by what its author says of it
    order = sorted(
        (notebook for notebook in notebooks if notebook.key not in results),
        key=lambda notebook: (notebook.key in times, -times.get(notebook.key, notebook.minutes)),
    )
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), max_tasks_per_child=1, initializer=end_with_parent
    )
    with pool, ended_by_errors():
        futures = [
            pool.submit(run_one, root, notebook.key, parameters or {}, out.resolve(), jobs) for notebook in order
        ]
        for future in as_completed(futures):
            done = future.result()
            results[done.notebook] = done
            if cache is not None and done.ok:
                cache.mkdir(parents=True, exist_ok=True)
                note = {"seconds": done.seconds, "executed": _digest(Path(done.path))}
                (cache / f"{stamps[done.notebook]}.json").write_text(json.dumps(note), encoding="utf-8")
            progress(done, len(notebooks))
    finished = [results[notebook.key] for notebook in notebooks]
    out.mkdir(parents=True, exist_ok=True)
    times.update({done.notebook: round(done.seconds, 1) for done in finished if not done.kept})
    (out / "times.json").write_text(json.dumps(times, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return finished


def _built(root: Path, key: str) -> Path:
    """Where the solution notebook is that `autograder build` writes."""
    return root / "solutions" / f"{key}.ipynb"


def _stamps(root: Path, notebooks: Sequence[Notebook], parameters: dict[str, Any]) -> dict[str, str]:
    """What an execution depends on, by content: the notebook, the package, recordings, `papers` as it may see it, parameters, installed packages."""
    every = read_all(root, needed=[notebook.key for notebook in notebooks])
    installed = sorted(f"{found.metadata['Name']} {found.version}" for found in distributions())
    common = hashlib.sha256(json.dumps([parameters, platform.python_version(), platform.machine(), installed]).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        common.update(path.name.encode() + path.read_bytes())
    stamps = {}
    for notebook in notebooks:
        digest = common.copy()
        digest.update(_built(root, notebook.key).read_bytes())
        for path in sorted((root / "data" / "recordings" / notebook.assignment).glob(f"{notebook.name}.*")):
            digest.update(path.read_bytes())
        digest.update(json.dumps(visible_papers(notebook, every, root), sort_keys=True).encode())
        stamps[notebook.key] = digest.hexdigest()[:32]
    return stamps


def _kept(cache: Path, stamp: str, notebook: Notebook, out: Path) -> NotebookRun | None:
    """The run that is noted for these inputs, if its executed copy is still there as it was."""
    target = out.resolve() / notebook.assignment / f"{notebook.name}.ipynb"
    try:
        note = json.loads((cache / f"{stamp}.json").read_text(encoding="utf-8"))
        if note["executed"] != _digest(target):
            return None
        checks = len(notebook.checks)
        return NotebookRun(notebook.key, float(note["seconds"]), checks, checks, str(target), kept=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_one(root: Path, key: str, parameters: dict[str, Any], out: Path, jobs: int = 1) -> NotebookRun:
    """Execute one solution notebook in an ordinary kernel, in an empty folder, with `papers` as the notebook may see it."""
    notebooks = read_all(root, needed=[key])
    notebook = next(item for item in notebooks if item.key == key)
    target = out / notebook.assignment / f"{notebook.name}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as papers,
        tempfile.TemporaryDirectory() as work,
        tempfile.TemporaryDirectory() as sockets,
    ):
        os.environ["PYTHONPATH"] = str(papers_before(notebook, notebooks, root, Path(papers)))
        if jobs > 1:  # kernels side by side must not fight over the cores
            os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
        began = time.perf_counter()
        error = None
        try:
            papermill.execute_notebook(
                str(_built(root, key)), str(target),
                parameters=parameters, progress_bar=False, cwd=work, **papermill_kernel(sockets),
            )  # fmt: skip
        except PapermillExecutionError as failure:
            error = f"cell {failure.exec_count}: {failure.ename}: {failure.evalue}"
        except RuntimeError as failure:  # the kernel died, or did not come up; the copy shows how far it came
            error = str(failure)
        seconds = time.perf_counter() - began
    verdicts = verdicts_in(nbformat.read(target, as_version=4))
    return NotebookRun(
        key, seconds, sum(v["status"] == "passed" for v in verdicts), len(notebook.checks), str(target), error
    )


def verdicts_in(notebook: nbformat.NotebookNode) -> list[dict[str, Any]]:
    """The verdicts shown in an executed notebook's outputs, for display; the last one of each check. No grade is made of them."""
    found: dict[str, dict[str, Any]] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {}).get(MIME)
            if isinstance(data, dict) and isinstance(data.get("check"), str):
                found[data["check"]] = dict(data)
    return list(found.values())


def to_json(runs: Sequence[NotebookRun]) -> list[dict[str, Any]]:
    return [{**asdict(item), "ok": item.ok} for item in runs]


def _last_times(out: Path) -> dict[str, float]:
    try:
        return {
            str(key): float(value)
            for key, value in json.loads((out / "times.json").read_text(encoding="utf-8")).items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
