"""A solution notebook loaded in this process, so that variants of an exercise can be tried at the cost of one experiment each.

Trusted code only: solutions, their mistakes, alternatives and mutants. A variant runs in a forked child with a time limit, since a mutant
may loop for ever or leave things behind.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder import authoring, checks
from autograder.answer import Answer, CaseRecord, Failure, decode, encode
from autograder.authoring import Edit
from autograder.notebook import Notebook
from autograder.zygote import use_huge_pages


@dataclass
class Bench:
    """One exercise on the bench: the notebook's globals as they are when its check runs.

    namespace: the globals. mistakes: the hand-written misconceptions. equivalents: {description: reason} of mutants that are no mistakes.
    """

    notebook: Notebook
    name: str
    namespace: dict[str, Any]
    mistakes: tuple[Edit, ...] = ()
    equivalents: Mapping[str, str] = field(default_factory=dict)

    @property
    def exercise(self) -> str:
        return self.notebook.exercises[self.name].source

    def answer(self, source: str, seed: int, hidden: bool = True, time_limit: float = 60.0) -> Answer:
        """What the check answers with `source` as the exercise cell."""
        return self.answers(source, [seed], hidden, time_limit)[0]

    def answers(self, source: str, seeds: Sequence[int], hidden: bool = True, time_limit: float = 60.0) -> list[Answer]:
        """`answer` on several seeds, one after the other in the same child: a child costs more than most experiments.

        Args:
            time_limit: seconds for each seed.
        """
        cell = self.notebook.checks[self.name]
        check_cell = cell.source if hidden else cell.public
        return _in_child(
            self.name,
            [
                functools.partial(checks.answer_of_variant, self.name, source, check_cell, self.namespace, seed)
                for seed in seeds
            ],
            time_limit,
        )


def benches(notebook: Notebook, papers: Path) -> Iterator[Bench]:
    """Run a solution notebook cell by cell and stop at each exercise whose check and misconceptions have been met.

    Args:
        papers: folder that holds the `papers` package as the notebook may see it.
    """
    import torch

    torch.set_num_threads(1)  # no thread pool: the children are forked
    torch.optim.SGD(
        [torch.zeros(1)], lr=0.1
    )  # the first optimiser imports for more than a second: here, not in every child
    os.environ["MPLBACKEND"] = "Agg"
    sys.path.insert(0, str(papers))
    for module in [module for module in sys.modules if module == "papers" or module.startswith("papers.")]:
        del sys.modules[module]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    authoring.collected = {}
    authoring.equivalents_collected.clear()
    ready: list[str] = []
    try:
        cells = [
            cell
            for cell in notebook.cells
            if cell.role in ("setup", "plain", "parameters", "exercise", "check", "misconceptions")
        ]
        for index, cell in enumerate(cells):
            if cell.role == "check":
                ready.append(cell.name or "")
            else:
                exec(compile(cell.source, f"<{notebook.key}>", "exec"), namespace)
            following = cells[index + 1].role if index + 1 < len(cells) else "end"
            if ready and following != "misconceptions":
                gc.collect()
                use_huge_pages()
                gc.freeze()  # children share these pages until they write to them
                for name in ready:
                    yield Bench(
                        notebook,
                        name,
                        dict(namespace),
                        authoring.collected.get(name, ()),
                        authoring.equivalents_collected.get(name, {}),
                    )
                ready = []
    finally:
        authoring.collected = None
        sys.path.remove(str(papers))


def _in_child(name: str, experiments: Sequence[Callable[[], Answer]], time_limit: float) -> list[Answer]:
    """Run experiments in a forked child, one after the other; an answer that says so for each that takes too long or is not reached."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            gc.disable()
            os.close(read)
            devnull = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(devnull, descriptor)
            with os.fdopen(write, "wb") as stream:
                for experiment in experiments:
                    data = encode(experiment())
                    stream.write(struct.pack("<Q", len(data)) + data)
                    stream.flush()
                    gc.collect()
        finally:
            os._exit(0)
    os.close(write)
    with contextlib.suppress(OSError):  # the child has done so itself, or has ended
        os.setpgid(child, child)
    answers: list[Answer] = []
    received = bytearray()
    what = "ended the process"
    deadline = time.monotonic() + time_limit
    try:
        with os.fdopen(read, "rb", buffering=0) as stream:
            while len(answers) < len(experiments):
                ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
                if not ready:
                    what = f"took longer than {time_limit:.0f} s"
                    break
                chunk = stream.read(1 << 20)
                if not chunk:
                    break
                received += chunk
                while len(received) >= 8 and len(received) - 8 >= (size := struct.unpack("<Q", received[:8])[0]):
                    answers.append(decode(bytes(received[8 : 8 + size])))
                    del received[: 8 + size]
                    deadline = time.monotonic() + time_limit
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # with what it has started: a data loader's workers, say
        os.waitpid(child, 0)
    kind = "Died" if what == "ended the process" else "Timeout"
    missing = Answer(name, (CaseRecord("before the first case", error=Failure(kind, what)),))
    return answers + [missing] * (len(experiments) - len(answers))
