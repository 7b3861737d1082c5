"""Grading over dask.distributed: the same table whatever the workers, and whatever happens to one of them."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

import pytest

from autograder.grade import GradingError, Report, cluster, grade
from autograder.sandbox import available
from tests.conftest import learners, table

dask = pytest.importorskip("dask")
# workers are forked from the process that the grader's own are forked from, which has torch imported: the tests are quicker
dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.skipif(not available()[0], reason=f"no sandbox: {available()[1]}"), pytest.mark.slow]
COUNT = 8


@pytest.fixture(scope="module")
def submitted(built_course: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learners(built_course, tmp_path_factory.mktemp("submitted"), COUNT)


@pytest.fixture(scope="module")
def alone(built_course: Path, submitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The grading folder of the same class, graded without Dask."""
    out = tmp_path_factory.mktemp("alone")
    report = grade(built_course, submitted, out, jobs=1, seed=11)
    assert report.ran == COUNT
    return out


@pytest.fixture(scope="module")
def local_cluster(alone: Path) -> Iterator[distributed.LocalCluster]:
    with distributed.LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None) as started:
        yield started


def graded_there(course: Path, submitted: Path, alone: Path, out: Path, executor: Executor) -> Report:
    shutil.copytree(alone / "cache" / "recordings", out / "cache" / "recordings")
    return grade(course, submitted, out, seed=11, executor=executor)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_cluster_gives_the_same_table_with_one_worker_and_with_four(
    workers: int, built_course: Path, submitted: Path, alone: Path, local_cluster, tmp_path: Path
) -> None:
    with distributed.Client(local_cluster) as client:
        some = list(client.scheduler_info(n_workers=-1)["workers"])[:workers]
        report = graded_there(built_course, submitted, alone, tmp_path, client.get_executor(workers=some))
    assert len(some) == workers and report.ran == COUNT
    assert table(tmp_path) == table(alone)
    assert b'"status": "passed"' in table(alone) and b'"misconception": "triples"' in table(alone)


def test_a_worker_killed_in_the_middle_changes_nothing(
    built_course: Path, submitted: Path, alone: Path, local_cluster, tmp_path: Path
) -> None:
    reports = []
    with distributed.Client(local_cluster) as client:
        # on one worker, so that the one which is killed surely has something to do; its nanny starts another
        [address] = list(client.scheduler_info(n_workers=-1)["workers"])[:1]
        pid = client.run(os.getpid, workers=[address])[address]
        executor = client.get_executor(workers=[address], allow_other_workers=True)
        thread = threading.Thread(
            target=lambda: reports.append(graded_there(built_course, submitted, alone, tmp_path, executor))
        )
        thread.start()
        while thread.is_alive() and not list((tmp_path / "cache").glob("graded/*.json")):
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        thread.join()
    assert reports and reports[0].ran == COUNT
    assert table(tmp_path) == table(alone)


def test_the_command_reaches_a_cluster_by_its_schedulers_address(local_cluster) -> None:
    with cluster(local_cluster.scheduler_address) as executor:
        assert executor is not None and executor.submit(sum, (1, 2)).result() == 3
    with pytest.raises(GradingError, match="no scheduler answers"), cluster("tcp://127.0.0.1:1"):
        pass
