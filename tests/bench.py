"""How fast a class is graded, beside plain nbgrader, on the same submissions: `make bench` measures and writes docs/performance.md.

Every number on the page is measured by the run that wrote it. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import ctypes
import importlib
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import torch

from autograder import sample_class
from autograder.answer import Answer
from autograder.build import read_all
from autograder.checks import check
from autograder.engine import _descendants, _proportional
from autograder.notebook import Notebook, dumps
from autograder.recording import Recording
from tests.conftest import ROOT

ASSIGNMENT = "transformer-week2"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured: `make bench` writes what follows -->", "<!-- end of what is measured -->"
UNRULY = ("loops-for-ever", "calls-exit", "kernel-dies", "not-a-notebook")
"""Students of the sample class who are left out: what they cost is a time limit, not a speed."""
SEED = 11
BIN = Path(sys.executable).parent


# -- measuring ---------------------------------------------------------------------------------------------------------------


@dataclass
class Usage:
    """What a command took: wall-clock and CPU seconds of all its processes, and their memory in bytes over time."""

    seconds: float
    cpu: float
    memory: list[tuple[float, int]] = field(default_factory=list)

    @property
    def peak(self) -> int:
        return max((size for _, size in self.memory), default=0)


def measure(command: Sequence[str], cwd: Path = ROOT, every: float = 0.25) -> Usage:
    """Run `command` to its end. Processes it orphans come to this one, so that their time is counted too."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    _reap()  # what earlier processes left is theirs
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=cwd, stdout=said, stderr=said, env=environment)
        memory = []
        while process.poll() is None:
            # shared pages counted once
            memory.append((time.perf_counter() - began, sum(map(_proportional, _descendants(process.pid)))))
            time.sleep(every)
        seconds = time.perf_counter() - began
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{said.read().decode(errors='replace')[-4000:]}")
    _reap()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Usage(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, memory)


def _reap() -> None:
    """Wait for all children, the adopted ones included."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


# -- the same class for both -----------------------------------------------------------------------------------------------


def make_class(folder: Path, count: int) -> list[Path]:
    """`count` notebooks below `folder`, right, wrong and blank mixed, no two alike: the sample class again and again, each cell signed."""
    sample = folder.with_name(folder.name + "-sample")
    sample_class.make(ROOT, sample, ASSIGNMENT)
    students = [path for path in sorted(sample.iterdir()) if path.name not in UNRULY]
    names = [notebook.name for notebook in read_all(ROOT, [ASSIGNMENT])]
    made = []
    for index in range(count):
        turn, name = index // len(names), names[index % len(names)]
        source = students[turn % len(students)]
        student = f"{turn:04d}-{source.name}"
        node = nbformat.read(source / ASSIGNMENT / f"{name}.ipynb", as_version=4)
        for cell in node.cells:
            if cell.metadata.get("nbgrader", {}).get("solution") and cell.cell_type == "code":
                cell.source += f"\n# {student}"
        path = folder / student / ASSIGNMENT / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dumps(node), encoding="utf-8")
        made.append(path)
    shutil.rmtree(sample)
    return made


def native_course(folder: Path, recordings: Path) -> None:
    """An nbgrader course of the same assignment: each check's experiment as it is, then plain assertions on what it gives."""
    source = folder / "source" / ASSIGNMENT
    source.mkdir(parents=True)
    for notebook in read_all(ROOT, [ASSIGNMENT]):
        stem = next(recordings.glob(f"{notebook.assignment}--{notebook.name}--*.json")).with_suffix("")
        recording = Recording.load(stem)
        expected = save_expected(
            folder / f"{notebook.name}.pt", {name: one.reference for name, one in recording.checks.items()}
        )
        node = nbformat.read(ROOT / "solutions" / ASSIGNMENT / f"{notebook.name}.ipynb", as_version=4)
        for cell in node.cells:
            name = cell.metadata.get("nbgrader", {}).get("grade_id", "").removeprefix("check-")
            if cell.metadata.get("nbgrader", {}).get("grade") and name in notebook.checks:
                cell.source = native_check(name, notebook, expected)
        nbformat.write(node, source / f"{notebook.name}.ipynb")
    # a cell's time limit is not what is measured, even on a loaded machine
    settings = "c = get_config()\nc.CourseDirectory.course_id = 'bench'\nc.ExecutePreprocessor.timeout = 600\n"
    (folder / "nbgrader_config.py").write_text(settings)


def save_expected(path: Path, answers: Mapping[str, Answer]) -> Path:
    """What an instructor would keep beside such a notebook: the reference's values, check by check and case by case."""
    values = {
        name: [[value.content for _, value in sorted(case.values.items())] for case in answer.cases]
        for name, answer in answers.items()
    }
    torch.save(values, path)
    return path


def native_check(name: str, notebook: Notebook, expected: Path) -> str:
    """A check's cell as a plain nbgrader notebook would have it: the same experiment, then assertions."""
    source = notebook.checks[name].source
    [definition] = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    experiment = "\n".join(
        source.splitlines()[definition.lineno - 1 :]
    )  # without the decorator, however many lines it has
    return f"""import torch
from autograder.case import Case
{experiment}

case = Case({name!r}, {SEED})
_(case)
expected = torch.load({str(expected)!r})[{name!r}]
got = [[value.content for _, value in sorted(record.values.items())] for record in case.answer().cases]
assert len(got) == len(expected)
for values, wanted in zip(got, expected):
    assert len(values) == len(wanted)
    for value, right in zip(values, wanted):
        if isinstance(right, torch.Tensor):
            assert value.shape == right.shape
            torch.testing.assert_close(value, right, rtol=1e-4, atol=1e-5, equal_nan=True, check_dtype=False)
        else:
            assert value == right
"""


# -- what the learners' code takes by itself -------------------------------------------------------------------------------


def learners_seconds(paths: Sequence[Path]) -> float:
    """CPU seconds a notebook of the learners' cells and the checks' experiments alone, in plain processes that have all imports done."""
    listed = [[str(path), f"{path.parent.name}/{path.stem}"] for path in paths]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--learners-code"], input=json.dumps(listed), cwd=ROOT,
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def _learners_code(listed: list[list[str]]) -> float:
    """Each notebook in a fork of its own, as any kernel is: what torch sets up at its first operation is part of running it."""
    from autograder.checks import capturing
    from autograder.grade import _preloads, release_cells
    from autograder.matching import assemble, match, read_submission

    notebooks = {notebook.key: notebook for notebook in read_all(ROOT, [ASSIGNMENT])}
    for module in {module for notebook in notebooks.values() for module in _preloads(notebook)}:
        importlib.import_module(module)
    taken = []
    for path, key in listed:
        release = release_cells(notebooks[key])
        plan = assemble(match(read_submission(Path(path)), release), release)
        reader, writer = os.pipe()
        if os.fork() == 0:
            namespace: dict[str, Any] = {"__name__": "__main__", "check": check}
            began = time.process_time()
            for cell in plan:
                with capturing() as checks:
                    try:
                        exec(compile(cell.source, "<cell>", "exec"), namespace)
                        for one in checks:
                            one.run(SEED)
                    except Exception:  # as in a notebook: the next cell runs
                        continue
            os.write(writer, str(time.process_time() - began).encode())
            os._exit(0)
        os.close(writer)
        os.wait()
        taken.append(float(os.read(reader, 100)))
        os.close(reader)
    return statistics.fmean(taken)


def same_points(course: Path, grading: Path, paths: Sequence[Path]) -> int:
    """On how many of these notebooks nbgrader's checks gave the points that ours gave."""
    from nbgrader.api import Gradebook

    ours: Counter[tuple[str, str]] = Counter()
    for text in (grading / "results.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        ours[line["student"], line["notebook"]] += line["points"]
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        return sum(
            book.find_submission_notebook(path.stem, ASSIGNMENT, path.parts[-3]).score
            == ours[path.parts[-3], path.stem]
            for path in paths
        )


# -- the bench ---------------------------------------------------------------------------------------------------------------


def grade(submitted: Path, out: Path, jobs: int, every: float = 0.25) -> Usage:
    command = [BIN / "autograder", "grade", submitted, "--out", out, "-j", jobs, "--seed", SEED, "--json"]
    return measure([*map(str, command)], every=every)


def learners_loop() -> tuple[float, float]:
    """CPU seconds of `import autograder` beyond torch's, and of a check beyond the experiment in it (the best of some tries)."""
    imports = min(_import_seconds("import torch, autograder; autograder.check") for _ in range(3))
    torch_alone = min(_import_seconds("import torch") for _ in range(3))
    return max(0.0, imports - torch_alone), check_overhead()


def _import_seconds(source: str) -> float:
    timed = f"import time; began = time.process_time()\n{source}\nprint(time.process_time() - began)"
    done = subprocess.run([sys.executable, "-c", timed], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def check_overhead(tries: int = 5) -> float:
    """CPU seconds of a check in a learner's notebook (watched, judged, shown) beyond its experiment: the largest of transformer-week2's."""
    from autograder import checks
    from autograder.case import PUBLIC_SEED, Case

    worst = 0.0
    for notebook in read_all(ROOT, [ASSIGNMENT]):
        namespace: dict[str, Any] = {}
        checks.begin(notebook.assignment, notebook.name)
        for cell in notebook.cells:
            if cell.role in ("plain", "parameters", "exercise"):
                exec(compile(cell.source, "<cell>", "exec"), namespace)
            elif cell.role == "check":
                with checks.capturing() as found:
                    exec(compile(cell.public, "<check>", "exec"), {**namespace, "check": check})
                [this] = found
                whole = _best(partial(checks.judge_here, this), tries)
                worst = max(
                    worst, whole - _best(lambda this=this: this.experiment(Case(this.name, PUBLIC_SEED)), tries)
                )
    return worst


def _best(what: Callable[[], object], tries: int) -> float:
    taken = []
    for _ in range(tries):
        began = time.process_time()
        what()
        taken.append(time.process_time() - began)
    return min(taken)


PARTS = {
    "reading and matching cells": ("read_submission", "match", "assemble"),
    "papermill, and reading what kernels say": ("engine.run_notebook",),
    "judging": ("_judge_check",),
}


def profile(paths: Sequence[Path], grading: Path) -> list[tuple[str, float]]:
    """CPU seconds a notebook by where they go, of notebooks graded one after another in a process of its own."""
    listed = [[str(path), f"{path.parent.name}/{path.stem}"] for path in paths]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--profile", str(grading)], input=json.dumps(listed), cwd=ROOT, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    return [(name, seconds) for name, seconds in json.loads(done.stdout.splitlines()[-1])]


def _profile(listed: list[list[str]], grading: Path) -> list[tuple[str, float]]:
    from autograder import grade as grader

    stems = {
        tuple(path.stem.split("--")[:2]): path.with_suffix("")
        for path in (grading / "cache" / "recordings").glob("*.json")
    }
    jobs = [
        grader.Job(path, str(ROOT), key, SEED, str(stems[tuple(key.split("/"))]), grader.Limits(), False)
        for path, key in sorted(listed, key=lambda item: item[1])
    ]
    for job in {job.notebook: job for job in jobs}.values():
        grader.grade_one(job)  # what is done once: the course is read, a warm process started
    spent: Counter[str] = Counter()

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                spent[part] += time.process_time() - began

        return wrapper

    for part, names in PARTS.items():
        for name in names:
            owner = grader.engine if name.startswith("engine.") else grader
            attribute = name.removeprefix("engine.")
            setattr(owner, attribute, timed(part, getattr(owner, attribute)))
    done = [timed("whole", grader.grade_one)(job) for job in jobs]
    rest = spent.pop("whole") - spent.total()
    rows = [
        *spent.items(),
        ("the rest of the grader", rest),
        ("the kernel's process", sum(one.cpu_seconds for one in done)),
    ]
    return [(part, seconds / len(jobs)) for part, seconds in rows]


def empty_kernel(count: int = 200) -> float:
    """CPU seconds of a kernel that runs nothing: its forks, namespaces, mounts and end, in all processes."""
    few, many = (
        measure([sys.executable, "-m", "tests.bench", "--empty-kernels", str(number)]).cpu for number in (1, count + 1)
    )
    return (many - few) / count


def _empty_kernels(count: int) -> None:
    from autograder.engine import PRELOAD, Zygote

    zygote = Zygote(modules=[], preload=PRELOAD)
    zygote.start()
    for _ in range(count):
        zygote.spawn().close()
    zygote.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60, help="notebooks in the class")
    parser.add_argument("--nbgrader", default="10", help="how many of them nbgrader grades, or `all`")
    parser.add_argument("--long", type=int, default=1000, help="notebooks in the long run; 0: none")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--page", type=Path, default=PAGE, help="the page whose tables are written")
    parser.add_argument("--learners-code", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--profile", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--empty-kernels", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.learners_code:
        print(_learners_code(json.load(sys.stdin)))
    elif chosen.empty_kernels:
        _empty_kernels(chosen.empty_kernels)
    elif chosen.profile:
        print(json.dumps(_profile(json.load(sys.stdin), chosen.profile)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            text = bench(Path(folder), chosen)
        before, _, rest = chosen.page.read_text(encoding="utf-8").partition(BEGIN)
        chosen.page.write_text(before + BEGIN + "\n\n" + text + "\n" + END + rest.partition(END)[2], encoding="utf-8")


def bench(folder: Path, chosen: argparse.Namespace) -> str:
    """Measure all, tell on the way, and return the page's measured part."""
    count, rows = chosen.count, []

    def tell(what: str, usage: Usage, notebooks: int, learners: float) -> None:
        rows.append((what, usage, notebooks, learners))
        print(
            f"{what}: {notebooks / usage.seconds:.2f} a second, {usage.cpu / notebooks:.3f} CPU s each, {usage.peak >> 20} MiB",
            flush=True,
        )

    paths = make_class(folder / "class", count)
    learners = learners_seconds(paths)
    few = count if chosen.nbgrader == "all" else min(count, int(chosen.nbgrader))
    spread = [paths[at * count // few] for at in range(few)]

    tell(
        "`autograder grade`, nothing cached", grade(folder / "class", folder / "grading", chosen.jobs), count, learners
    )
    shutil.rmtree(folder / "grading" / "cache" / "graded")
    tell(
        "`autograder grade`, reference answers cached",
        grade(folder / "class", folder / "grading", chosen.jobs),
        count,
        learners,
    )
    tell(
        "`autograder grade` once more: nothing is new",
        grade(folder / "class", folder / "grading", chosen.jobs),
        count,
        0.0,
    )

    course = folder / "nbgrader"
    native_course(course, folder / "grading" / "cache" / "recordings")
    for path in spread:
        target = course / "submitted" / path.relative_to(folder / "class")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    measure([str(BIN / "nbgrader"), "generate_assignment", ASSIGNMENT], course)
    plain = measure([str(BIN / "nbgrader"), "autograde", ASSIGNMENT], course)
    same = same_points(course, folder / "grading", spread)
    print(f"the same points on {same} of {few}")
    tell(f"`nbgrader autograde`, {'all' if few == count else few} of the {count}", plain, few, learners_seconds(spread))

    flat = ""
    if chosen.long:
        shutil.rmtree(folder / "class")
        make_class(folder / "class", chosen.long)
        long = grade(folder / "class", folder / "grading", chosen.jobs, every=1.0)
        tell(f"`autograder grade`, {chosen.long} notebooks", long, chosen.long, learners)
        flat = _memory_table(long)
    loop, overhead = learners_loop()
    return _page(
        chosen, rows, plain.seconds / few, f"{same} of {few}", flat, profile(spread, folder / "grading"), empty_kernel(), loop, overhead
    )  # fmt: skip


def _memory_table(usage: Usage, columns: int = 10) -> str:
    """The largest memory of all processes together in each tenth of a run."""
    tenths = [[size for at, size in usage.memory if columns * at // usage.seconds == tenth] for tenth in range(columns)]
    head = "| tenth of the run | " + " | ".join(str(number + 1) for number in range(columns)) + " |"
    body = "| memory, MiB | " + " | ".join(str(max(sizes, default=0) >> 20) for sizes in tenths) + " |"
    return "\n".join([head, "| --- " * (columns + 1) + "|", body])


def _page(
    chosen: argparse.Namespace, rows: list[tuple[str, Usage, int, float]], plain: float, same: str, flat: str,
    parts: list[tuple[str, float]], empty: float, loop: float, overhead: float,
) -> str:  # fmt: skip
    lines = [
        f"`make bench`: {chosen.count} notebooks of {ASSIGNMENT}, `-j {chosen.jobs}`, on {_machine()}.",
        "",
        "| | notebooks a second | beside nbgrader | CPU-s a notebook | learners' code | everything else | peak memory, MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for what, usage, count, learners in rows:
        lines.append(
            f"| {what} | {count / usage.seconds:.2f} | {plain * count / usage.seconds:.1f} × | {usage.cpu / count:.3f} | {learners:.3f} | "
            f"{usage.cpu / count - learners:.3f} | {usage.peak >> 20} |"
        )
    lines += [
        "",
        f"Both gave the same points on {same} notebooks; ours gives part of a check's points, and does not make a right exercise pay for a wrong one it uses.",
    ]
    if flat:
        short, long = rows[1], rows[-1]
        notebook = (long[1].cpu - short[1].cpu) / (long[2] - short[2])
        speed = (long[2] - short[2]) / (long[1].seconds - short[1].seconds)
        start = short[1].cpu - notebook * short[2]
        lines += [
            "",
            f"From the runs of {short[2]} and {long[2]}: a run's start costs {start:.1f} CPU-seconds, and each notebook {notebook:.3f}, of which "
            f"{notebook - short[3]:.3f} are not the learner's code; once started, {speed:.1f} notebooks a second, {speed * plain:.0f} × nbgrader's.",
            "", f"Memory of all processes over the run of {long[2]} (pages that they share counted once):", "", flat,
        ]  # fmt: skip
    lines += [
        "",
        "Where a notebook's CPU-seconds go, after the start; pages and the gradebook come on top:",
        "",
        "| | CPU-s |",
        "| --- | ---: |",
    ]
    lines += [f"| {name} | {seconds:.4f} |" for name, seconds in parts]
    lines += [
        "",
        f"A kernel that runs nothing costs {empty:.3f} CPU-s in all processes: forks, namespaces, mounts, and its end.",
    ]
    lines += [
        "",
        f"In a learner's notebook: `import autograder` takes {loop:.2f} CPU-s beyond torch's own; a check takes at most {1000 * overhead:.0f} ms beyond its experiment.",
    ]
    return "\n".join(lines) + "\n"


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    model = next(
        (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores of an {model}, Python {platform.python_version()}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
