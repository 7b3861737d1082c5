"""Proves the checks: reference, stub, mistakes, alternatives and generated mutants of every exercise, each judged as it should be.

It measures; it never changes a check or a solution.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from autograder.answer import Answer
from autograder.build import read_all
from autograder.case import PUBLIC_SEED
from autograder.forbid import forbidden_uses
from autograder.judge import _difference, judge
from autograder.notebook import Notebook, stubbed
from autograder.papers_view import papers_before
from autograder.recording import CheckRecording, Mistake
from autograder.verdict import Verdict
from autograder.workbench import Bench, benches

GRADING_SEEDS = tuple(range(101, 121))
"""Seeds that stand for secret ones when right solutions are tried."""

JUDGING = (
    "answer", "audit", "authoring", "case", "checks", "forbid", "judge", "mutants", "notebook", "patterns", "workbench",
)  # fmt: skip
"""The package's modules that a result of the audit depends on."""

SLIPS = ("NameError", "SyntaxError", "IndentationError")
"""What no known mistake is about: a name that an edit has lost, say."""

MINIMUM = {"mistakes": 5, "alternatives": 4}
"""What every exercise needs at least."""


@dataclass
class ExerciseAudit:
    """What the audit found on one exercise. `faults` are sentences; none means that the check is as it should be."""

    notebook: str
    check: str
    points: int = 0
    cases: int = 0
    hidden_cases: int = 0
    mistakes: int = 0
    mistakes_named: int = 0
    alternatives: int = 0
    seeds: int = 0
    pairs: int = 0
    pairs_named: int = 0
    mutants: int = 0
    mutants_killed: int = 0
    mutants_equivalent: int = 0
    mutants_named: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    weak_cases: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What to try: grading seeds for right solutions, whether to generate mutants, pairs of mistakes, seconds that one experiment may take."""

    seeds: int = 3
    mutants: bool = True
    pairs: int = 6
    time_limit: float = 60.0


def audit(
    root: Path,
    names: Sequence[str] = (),
    plan: Plan = Plan(),
    workers: int = 2,
    kept: Path | None = None,
    again: int = 0,
    draw: str = "",
    progress: Callable[[str, int], None] = lambda key, total: None,
) -> list[ExerciseAudit]:
    """Audit every exercise of the named assignments, a notebook a process.

    Args:
        kept: folder of results by content, so that only what changed is tried anew; None: all is.
        again: so many exercises are tried anew although their results are kept, drawn by the text `draw`.
        progress: called with each notebook's key as it is done, and how many there are.
    """
    notebooks = read_all(root, names)
    chosen = drawn(notebooks, again, draw)
    results: dict[str, list[ExerciseAudit]] = {}
    context = multiprocessing.get_context(
        "spawn"
    )  # a fresh interpreter a notebook: it forks, and must not have run torch before
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        futures = {
            pool.submit(audit_notebook, root, notebook.key, plan, kept, chosen.get(notebook.key, ())): notebook
            for notebook in notebooks
        }
        for future, notebook in futures.items():
            results[notebook.key] = future.result()
            progress(notebook.key, len(notebooks))
    return [item for notebook in notebooks for item in results[notebook.key]]


def audit_notebook(
    root: Path, key: str, plan: Plan, kept: Path | None = None, again: Sequence[str] = ()
) -> list[ExerciseAudit]:
    """Audit one notebook, in this process. `again`: exercises to audit anew although a result is kept."""
    notebooks = read_all(root, needed=[key])
    notebook = next(item for item in notebooks if item.key == key)
    with tempfile.TemporaryDirectory() as folder:
        papers = papers_before(notebook, notebooks, root, Path(folder))
        contents = {name: content(notebook, name, plan, papers) for name in notebook.checks}
        before = read_kept(kept, key)
        results = {
            name: before[name].result
            for name in notebook.checks
            if name in before
            and name not in again
            and before[name].content == contents[name]
            and before[name].result.seeds >= plan.seeds
        }
        if len(results) < len(contents):
            os.chdir(folder)
            parent = multiprocessing.parent_process()
            for bench in benches(notebook, papers):
                if parent is not None and not parent.is_alive():
                    sys.exit("nobody waits for this audit any more")
                if bench.name not in results:
                    results[bench.name] = audit_exercise(bench, plan)
            write_kept(kept, key, {name: Kept(contents[name], results[name]) for name in notebook.checks})
        return [results[name] for name in notebook.checks]


# -- results kept by content -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """A result and the content it holds for."""

    content: str
    result: ExerciseAudit


def read_kept(folder: Path | None, key: str) -> dict[str, Kept]:
    """Results kept of the exercises of one notebook, `folder`/<assignment>/<notebook>.json; none where there is no such file."""
    try:
        entries = json.loads((folder / f"{key}.json").read_text(encoding="utf-8")) if folder is not None else {}
        return {name: Kept(entry.pop("content"), ExerciseAudit(key, name, **entry)) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def write_kept(folder: Path | None, key: str, kept: Mapping[str, Kept]) -> None:
    """Keep results. One with faults is not kept: it is tried again."""
    if folder is None:
        return
    entries = {}
    for name, one in kept.items():
        if not one.result.faults:
            values = {
                key: value for key, value in asdict(one.result).items() if key not in ("notebook", "check", "faults")
            }
            entries[name] = {"content": one.content, **values}
    path = folder / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def drawn(notebooks: Sequence[Notebook], count: int, draw: str) -> dict[str, list[str]]:
    """{notebook: exercises} of `count` exercises to audit anew, drawn by a text (a commit's number): nobody knows beforehand which."""
    every = [(notebook.key, name) for notebook in notebooks for name in notebook.checks]
    every.sort(key=lambda item: hashlib.sha256("/".join((draw, *item)).encode()).digest())
    chosen: dict[str, list[str]] = {}
    for key, name in every[:count]:
        chosen.setdefault(key, []).append(name)
    return chosen


def audit_exercise(bench: Bench, plan: Plan) -> ExerciseAudit:
    """Try one exercise: everything right has to pass, everything wrong has to fail, and known mistakes have to be named."""
    notebook, name = bench.notebook, bench.name
    cell = notebook.checks[name]
    result = ExerciseAudit(notebook.key, name, cell.points, seeds=plan.seeds)
    for hidden, seed in ((False, PUBLIC_SEED), (True, GRADING_SEEDS[0])):
        recording = make_recording(bench, seed, hidden, plan.time_limit)
        cases = recording.reference.cases
        if hidden:
            result.hidden_cases = len(cases) - result.cases
        else:
            result.cases = len(cases)
        result.faults += _audit_reference(bench, recording, seed, hidden, plan)
        result.faults += _audit_mistakes(bench, recording, hidden, result)
        if hidden:
            result.weak_cases = _weak_cases(recording)
            result.faults += _audit_messages(bench, recording)
            _measure_pairs(bench, recording, seed, plan, result)
            if plan.mutants:
                result.faults += _audit_mutants(bench, recording, seed, plan, result)
    result.faults += _audit_alternatives(bench, GRADING_SEEDS[: plan.seeds], plan, result)
    if result.mistakes < MINIMUM["mistakes"]:
        result.faults.append(f"only {result.mistakes} misconceptions; at least {MINIMUM['mistakes']} are wanted")
    if result.alternatives < MINIMUM["alternatives"]:
        result.faults.append(f"only {result.alternatives} alternatives; at least {MINIMUM['alternatives']} are wanted")
    return result


def make_recording(bench: Bench, seed: int, hidden: bool, time_limit: float) -> CheckRecording:
    """The recording of one check, made on the bench."""
    cell = bench.notebook.checks[bench.name]
    assert cell.check is not None
    reference = bench.answer(bench.exercise, seed, hidden, time_limit)
    mistakes = tuple(
        Mistake(edit.name, edit.says, bench.answer(edit.apply(bench.exercise), seed, hidden, time_limit))
        for edit in bench.mistakes
    )
    return CheckRecording(
        bench.name, cell.points, reference, mistakes, (), cell.check.paper, cell.check.forbid, bench.notebook.stubs
    )


def _verdict(bench: Bench, recording: CheckRecording, source: str, answer: Answer) -> Verdict:
    return judge(answer, recording, forbidden_uses(source, [], recording.forbid))


def _audit_reference(bench: Bench, recording: CheckRecording, seed: int, hidden: bool, plan: Plan) -> Iterator[str]:
    where = "with hidden cases" if hidden else "on public cases"
    again = bench.answer(bench.exercise, seed, hidden, plan.time_limit)
    if any(case.error for case in recording.reference.cases):
        failed = next(case for case in recording.reference.cases if case.error)
        yield f"the reference raises at “{failed.name}” {where}: {failed.error}"
        return
    verdict = _verdict(bench, recording, bench.exercise, again)
    if not verdict.passed or verdict.points != recording.points:
        yield f"the reference does not pass {where}: {verdict.message}"
    blank = stubbed(bench.exercise)
    verdict = _verdict(bench, recording, blank, bench.answer(blank, seed, hidden, plan.time_limit))
    if verdict.status != "not_attempted" or verdict.points:
        yield f"the blank stub is {verdict.status} with {verdict.points} points {where}, not not_attempted: {verdict.message}"


def _audit_mistakes(bench: Bench, recording: CheckRecording, hidden: bool, result: ExerciseAudit) -> Iterator[str]:
    where = "with hidden cases" if hidden else "on public cases"
    named = 0
    for edit, mistake in zip(bench.mistakes, recording.mistakes, strict=True):
        verdict = _verdict(bench, recording, edit.apply(bench.exercise), mistake.answer)
        if (error := mistake.answer.error) is not None and error.type in SLIPS:
            yield f"mistake “{edit.name}” is a slip in its own source and simulates nothing {where}: {error.type}: {error.message}"
        if verdict.passed:
            yield f"mistake “{edit.name}” passes {where}"
        elif verdict.misconception != edit.name:
            yield f"mistake “{edit.name}” is taken for “{verdict.misconception}” {where}"
        elif verdict.message.partition("\n")[0] != edit.says:
            yield f"mistake “{edit.name}”: its sentence is not the first line {where}"
        else:
            named += 1
    result.mistakes, result.mistakes_named = len(bench.mistakes), named


def _audit_alternatives(bench: Bench, seeds: Sequence[int], plan: Plan, result: ExerciseAudit) -> Iterator[str]:
    alternatives = bench.notebook.alternatives(bench.name)
    result.alternatives = len(alternatives)
    cell = bench.notebook.checks[bench.name]
    assert cell.check is not None
    recordings = [
        CheckRecording(bench.name, cell.points, reference, forbid=cell.check.forbid, stubs=bench.notebook.stubs)
        for reference in bench.answers(bench.exercise, seeds, True, plan.time_limit)
    ]
    for style, source in alternatives:
        answers = bench.answers(source, seeds, True, plan.time_limit)
        for seed, recording, answer in zip(seeds, recordings, answers, strict=True):
            verdict = _verdict(bench, recording, source, answer)
            if not verdict.passed:
                yield f"the right solution “{style}” is {verdict.status} on seed {seed}: {verdict.message}"


def _audit_messages(bench: Bench, recording: CheckRecording) -> Iterator[str]:
    """No message or hint may hold a line of the solution."""
    lines = {line.split("#")[0].strip() for line in solution_lines(bench.exercise)}
    telling = {line for line in lines if len(line) > 12 and not line.startswith(("if ", "for ", "else", "return None"))}
    for mistake in recording.mistakes:
        for line in telling:
            if line in mistake.says:
                yield f"mistake “{mistake.name}” gives away a line of the solution: {line}"


def _measure_pairs(bench: Bench, recording: CheckRecording, seed: int, plan: Plan, result: ExerciseAudit) -> None:
    """Two mistakes at once: how often one of them is named. A measurement, no fault: some pairs cannot be told apart, some cancel out."""
    edits = bench.mistakes
    pairs = [
        (one, other)
        for index, one in enumerate(edits)
        for other in edits[index + 1 :]
        if one.source is None and other.source is None
    ]
    for one, other in pairs[:: max(1, len(pairs) // plan.pairs)] if plan.pairs else ():
        try:
            source = other.apply(one.apply(bench.exercise))
        except ValueError:
            continue  # they edit the same place
        if result.pairs == plan.pairs:
            break
        verdict = _verdict(bench, recording, source, bench.answer(source, seed, True, plan.time_limit))
        if not verdict.passed:
            result.pairs += 1
            result.pairs_named += verdict.misconception in (one.name, other.name)


def solution_lines(source: str) -> Iterator[str]:
    """The lines between the solution marks of an exercise cell."""
    inside = False
    for line in source.split("\n"):
        if "### BEGIN SOLUTION" in line:
            inside = True
        elif "### END SOLUTION" in line:
            inside = False
        elif inside:
            yield line


def _weak_cases(recording: CheckRecording) -> list[str]:
    """Cases on which no known mistake differs from the reference: they tell nothing apart."""
    weak = []
    for case in recording.reference.cases:
        differs = [
            m
            for m in recording.mistakes
            if (r := m.answer.case(case.name)) is None or _difference(case, r, case.policy)
        ]
        if not differs and recording.mistakes:
            weak.append(case.name)
    return weak


def _audit_mutants(
    bench: Bench, recording: CheckRecording, seed: int, plan: Plan, result: ExerciseAudit
) -> Iterator[str]:
    from autograder.mutants import mutants

    unused = set(bench.equivalents)
    for mutant in mutants(bench.exercise):
        result.mutants += 1
        answer = bench.answer(mutant.source, seed, True, min(plan.time_limit, 20.0))
        verdict = _verdict(bench, recording, mutant.source, answer)
        if mutant.description in bench.equivalents:
            unused.discard(mutant.description)
            result.mutants_equivalent += 1
            if not verdict.passed:
                yield f"the mutant {mutant.description} is listed as equivalent and is not: {verdict.message}"
        elif verdict.passed:
            yield f"the mutant {mutant.description} passes"
        else:
            result.mutants_killed += 1
            result.mutants_named += verdict.misconception is not None or _specific(verdict)
    for description in sorted(unused):
        yield f"the list of equivalent mutants names one that is not generated: {description}"


def _specific(verdict: Verdict) -> bool:
    """Whether the message says more than that numbers differ: an exception, a shape, a dtype, None, NaN, an input changed, a property by its name,
    or what all differences have in common."""
    failed = [case for case in verdict.cases if case.state != "passed"]
    return (
        verdict.pattern is not None
        or any(case.state == "error" for case in failed)
        or bool(failed and not _BARE.search(failed[0].detail.partition("\n")[0]))
    )


_BARE = re.compile(
    r"values? differs?, most at|is (-?\d\S*|-?inf|nan); expected|at (least|most) \S+ is (needed|allowed)|not reached|did not record"
)
"""What is said of a case that differs in its numbers alone, or that there is nothing of."""


def content(notebook: Notebook, name: str, plan: Plan, papers: Path, modules: Sequence[str] = JUDGING) -> str:
    """A digest of all that the result on one exercise depends on.

    That is the cells that run before its check, the check, its mistakes and alternatives, the package's `modules` (by :func:`code`),
    those of `papers` that it imports, what is tried, and versions.
    """
    package = Path(__file__).parent
    tried = {name: value for name, value in asdict(plan).items() if name != "seeds"}
    digest = hashlib.sha256(json.dumps([tried, platform.python_version(), notebook.path.name]).encode())
    for cell in notebook.cells:
        if cell.role == "check" and cell.name == name:
            digest.update(cell.source.encode())
            break
        if cell.role in ("setup", "plain", "parameters", "exercise"):
            digest.update(cell.source.encode())
    for cell in notebook.cells:
        if (cell.role == "misconceptions" and f'"{name}"' in cell.source) or (
            cell.role == "alternative" and cell.name == name
        ):
            digest.update(cell.source.encode())
    for module in modules:
        digest.update(code(package / f"{module}.py"))
    for path in imported_papers(notebook, papers):
        digest.update(path.read_bytes())
    digest.update(" ".join(importlib.metadata.version(library) for library in ("torch", "numpy")).encode())
    return digest.hexdigest()[:16]


@functools.cache
def code(path: Path) -> bytes:
    """A module's syntax tree: what it does, without comments and docstrings, which change no result."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [  # type: ignore[attr-defined]
                statement
                for statement in body
                if not (
                    isinstance(statement, ast.Expr)
                    and isinstance(statement.value, ast.Constant)
                    and isinstance(statement.value.value, str)
                )
            ]
    return ast.dump(tree).encode()


def imported_papers(notebook: Notebook, papers: Path) -> list[Path]:
    """The modules of `papers` that a notebook imports, and those that they import."""
    found: dict[Path, None] = {}
    texts = ["\n".join(cell.source for cell in notebook.cells if cell.role not in ("prose", "written", "badge"))]
    while texts:
        text = texts.pop()
        names = {name.replace(".", "/") for name in re.findall(r"\bpapers(?:\.\w+)+", text)}
        names |= {
            f"papers/{name}"
            for line in re.findall(r"\bfrom papers import (.+)", text)
            for name in re.findall(r"\w+", line)
        }
        for path in (papers / f"{part}.py" for name in names for part in (name, name.rpartition("/")[0])):
            if path not in found and path.is_file():
                found[path] = None
                texts.append(path.read_text(encoding="utf-8"))
    return sorted(found)


def checks_page(results: Sequence[ExerciseAudit]) -> str:
    """`docs/checks.md`: what every check was proved on, a row an exercise."""
    rows = [
        "# What the checks are proved on",
        "",
        "Written by `autograder audit --write`. Cases are public + hidden. A mistake counts as named when its sentence is the first line of the verdict.",
        "“Two at once” are pairs of mistakes made together, and how many verdicts name one of the two.",
        "A mutant is an edit of the reference made by a rule; killed means rejected, equivalent means shown to compute the same (the reason stands in",
        "the source), specific means that the verdict said more than that numbers differ.",
        "",
        "| exercise | points | cases | mistakes named | two at once | right solutions accepted × seeds | mutants killed | equivalent | specific |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    notebook = ""
    for item in results:
        if item.notebook != notebook:
            notebook = item.notebook
            rows.append(f"| **{notebook}** | | | | | | | | |")
        wrong = item.mutants - item.mutants_equivalent
        share = f"{100 * item.mutants_named / item.mutants_killed:.0f} %" if item.mutants_killed else ""
        rows.append(
            f"| `{item.check}` | {item.points} | {item.cases} + {item.hidden_cases} | {item.mistakes_named} of {item.mistakes} | "
            f"{item.pairs_named} of {item.pairs} | "
            f"{item.alternatives} × {item.seeds} | {item.mutants_killed} of {wrong} | {item.mutants_equivalent} | {share} |"
        )
    killed, named = sum(item.mutants_killed for item in results), sum(item.mutants_named for item in results)
    wrong = sum(item.mutants - item.mutants_equivalent for item in results)
    share = f"{100 * named / killed:.0f} %" if killed else "none"
    rows += [
        "",
        f"Together: {len(results)} exercises, {killed} of {wrong} mutants killed, {share} of them with a specific message.",
    ]
    return "\n".join(rows) + "\n"
