"""Solution notebooks executed: the longest first, and never twice on the same inputs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import nbformat
import pytest

from autograder import run as runner
from autograder.cli import BadUsage, _cut_off
from autograder.notebook import SourceError
from autograder.ordinary import papermill_kernel, sockets_in
from autograder.run import NotebookRun, run
from autograder.sandbox import available, without_network
from tests.conftest import ROOT, SMALL

SLOW_TO_FINISH = """
import time

handlers = get_ipython().kernel.shell_handlers
answer = handlers["kernel_info_request"]


async def slow(*message):
    await answer(*message)
    time.sleep(1)


handlers["kernel_info_request"] = slow
"""


class Inline:
    """Stands for the pool: what is submitted runs at once, here."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture
def executed(course: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The notebooks executed so far in a course of two; executing one only writes its file."""
    done: list[str] = []
    other = (
        SMALL.replace("order: 1", "order: 2")
        .replace("papers.small.doubling", "papers.small.other")
        .replace("minutes: 5", "minutes: 9")
    )
    (course / "solutions" / "small-week0" / "other.py").write_text(other)
    for name in ("doubling", "other"):
        (course / "solutions" / "small-week0" / f"{name}.ipynb").write_text(name)

    def run_one(root: Path, key: str, parameters: dict[str, Any], out: Path, jobs: int) -> NotebookRun:
        done.append(key.partition("/")[2])
        path = out / f"{key}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{key} {parameters}")
        seconds = {"doubling": 30.0, "other": 10.0}[done[-1]]
        return NotebookRun(key, seconds, 2, 2, str(path), None if parameters.get("SEED") != 666 else "cell 1: fails")

    monkeypatch.setattr(runner, "run_one", run_one)
    monkeypatch.setattr(runner, "ProcessPoolExecutor", Inline)
    return done


def test_the_longest_is_begun_first(course: Path, executed: list[str], tmp_path: Path) -> None:
    run(course, out=tmp_path / "out")
    assert executed == ["other", "doubling"]  # by the minutes that their authors say
    run(course, out=tmp_path / "out")
    assert executed[2:] == ["doubling", "other"]  # by the time that each took
    assert json.loads((tmp_path / "out" / "times.json").read_text()) == {
        "small-week0/doubling": 30.0,
        "small-week0/other": 10.0,
    }


def test_a_notebook_is_executed_again_only_when_its_inputs_changed(
    course: Path, executed: list[str], tmp_path: Path
) -> None:
    def again(**parameters: Any) -> list[str]:
        before = len(executed)
        runs = run(course, (), parameters, out=tmp_path / "out", cache=tmp_path / "cache")
        assert [item.kept for item in runs] == [
            item.notebook.partition("/")[2] not in executed[before:] for item in runs
        ]
        assert all(item.seconds > 1 and Path(item.path).exists() for item in runs)
        return sorted(executed[before:])

    assert again() == ["doubling", "other"]
    assert again() == []
    (course / "solutions" / "small-week0" / "other.ipynb").write_text("changed")
    assert again() == ["other"]
    (course / "papers" / "more.py").write_text("x = 1\n")
    assert again() == ["doubling", "other"]
    (tmp_path / "out" / "small-week0" / "doubling.ipynb").write_text("somebody's notes")
    assert again() == ["doubling"]
    assert again(PROFILE="full") == ["doubling", "other"]
    assert again(SEED=666) == again(SEED=666) == ["doubling", "other"], "what failed is tried again"


def test_without_the_cache_everything_is_executed(course: Path, executed: list[str], tmp_path: Path) -> None:
    for _ in range(2):
        assert not any(item.kept for item in run(course, out=tmp_path / "out"))
    assert len(executed) == 4 and not (tmp_path / "cache").exists()


def test_a_notebook_that_is_not_built_is_named_with_what_to_do(course: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="small-week0/doubling is not built yet: run `autograder build"):
        run(course, out=tmp_path / "out")


def test_a_draft_does_not_keep_another_notebook_from_being_run(
    course: Path, executed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draft = course / "solutions" / "small-week0" / "other.py"
    draft.write_text(draft.read_text().replace("minutes: 9", ""))
    run(course, ["small-week0/doubling"], out=tmp_path / "out", cache=tmp_path / "cache")
    assert executed == ["doubling"]
    assert "left out: " in capsys.readouterr().err


def test_a_notebook_is_executed_quietly_and_by_sockets_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "")  # which run_one changes, in a process of its own elsewhere
    made: list[Path] = []
    monkeypatch.setattr(
        runner, "papermill_kernel", lambda folder: made.append(Path(folder)) or papermill_kernel(folder)
    )
    done = runner.run_one(ROOT, "transformer-week1/architecture", {}, tmp_path)
    assert done.ok and done.checks, done.error
    assert capfd.readouterr() == ("", "")
    assert len(made) == 1 and not made[0].exists()


def test_a_kernel_that_is_slow_to_finish_its_last_answer_is_not_interrupted_at_it(
    course: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SLOW_TO_FINISH)])
    nbformat.write(notebook, course / "solutions" / "small-week0" / "doubling.ipynb")
    assert runner.run_one(course, "small-week0/doubling", {}, tmp_path / "out").error is None
    assert capfd.readouterr() == ("", "")


def test_a_kernel_that_dies_is_that_notebooks_error(course: Path, tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in ("print('so far')", "import os; os._exit(3)", "1")]
    path = course / "solutions" / "small-week0" / "doubling.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    (done,) = run(course, out=tmp_path / "out")
    assert not done.ok and done.error == "Kernel died"
    shown = nbformat.read(done.path, as_version=4).cells
    assert shown[0].outputs[0].text == "so far\n" and not shown[2].outputs


def test_a_folder_whose_name_is_too_long_for_sockets_leaves_the_kernel_its_ports() -> None:
    assert sockets_in("/tmp/short") == {"transport": "ipc", "ip": "/tmp/short/kernel"}
    assert sockets_in("/scratch/" + "é" * 45) == {}


@pytest.mark.skipif(not available()[0], reason=available()[1])
def test_without_a_network_only_the_machine_itself_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        reach = [sys.executable, "-c", f"import socket; socket.create_connection({address!r}, 5)"]
        assert subprocess.run(reach, capture_output=True).returncode == 0
        cut_off = subprocess.run(without_network(reach), capture_output=True, text=True)
        assert "ConnectionRefusedError" in cut_off.stderr  # a loopback interface of its own, with nobody listening
    ask = [sys.executable, "-c", "from autograder.sandbox import connected; print(connected())"]
    told = subprocess.run(without_network(ask), cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


def test_who_is_cut_off_already_needs_no_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command becomes itself without a network, once; a machine that has none runs it as it is."""
    became: list[list[str]] = []
    monkeypatch.setattr("os.execvp", lambda program, command: became.append(command))
    monkeypatch.setattr("autograder.sandbox.available", lambda: (True, ""))
    for way_out in (True, False):
        monkeypatch.setattr("autograder.sandbox.connected", lambda way_out=way_out: way_out)
        _cut_off()
    assert len(became) == 1 and "--unshare-net" in became[0]
    monkeypatch.setattr("autograder.sandbox.available", lambda: (False, "bubblewrap is not installed"))
    monkeypatch.setattr("autograder.sandbox.connected", lambda: True)
    with pytest.raises(BadUsage, match="bubblewrap is not installed"):
        _cut_off()


@pytest.mark.skipif(not available()[0], reason=available()[1])
def test_language_models_are_fine_tuned_without_a_network() -> None:
    """Week 4 and the project: pretrained weights, tokenisers and data are all there. (Executed unless `run --no-network` has done it already.)"""
    command = [sys.executable, "-m", "autograder.cli", "run", "transformer-week4", "transformer-project", "-j", "2"]
    done = subprocess.run([*command, "--no-network", "--json"], cwd=ROOT, capture_output=True, text=True)
    runs = json.loads(done.stdout)
    assert len(runs) == 5 and all(run["ok"] for run in runs), [run["error"] for run in runs] + [done.stderr[-2000:]]
