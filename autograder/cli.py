"""The command line: `autograder build | run | grade | audit | progress`. It parses, calls and prints; the work is in the modules it names.

Exit status: 0 done, 1 something failed, 2 bad usage.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from autograder import __version__
from autograder.workers import start_server, temporary_files_in_one_folder

# where nobody sees a terminal (logs, CI), names are not cut to its width
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
errors = Console(stderr=True, highlight=False)


class BadUsage(click.ClickException):
    """One line that says what is wrong and what to do; exit status 2."""

    exit_code = 2


class Stopped(click.ClickException):
    """Ctrl-C, with one line that says what is kept; exit status 130, as of a program that the signal ended."""

    exit_code = 130


def find_root() -> Path:
    """The course's repository: the nearest folder upwards that holds `solutions`, else the one the package was installed from."""
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parent.parent):
        if (folder / "solutions").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    raise BadUsage("no `solutions` folder here or above: run this in a checkout of the course's repository")


def bar(description: str, total: int | None, quiet: bool) -> tuple[Progress, Any]:
    """A progress bar on stderr; silent when a program reads the output."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        disable=quiet or not errors.is_terminal,
        transient=True,
    )
    return progress, progress.add_task(description, total=total)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """Build, run, grade and audit the course's notebooks."""


@main.command()
@click.argument("assignments", nargs=-1)
@click.option("--check", is_flag=True, help="Change nothing; only say whether anything differs.")
@click.option("--recordings/--no-recordings", default=True, help="Also run the solutions to make recordings.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def build(assignments: tuple[str, ...], check: bool, recordings: bool, as_json: bool) -> None:
    """Regenerate notebooks, `papers` and recordings from solutions/*.py."""
    from autograder.build import build as build_all
    from autograder.notebook import SourceError, UnknownAssignment

    progress, task = bar("building", None, as_json)
    try:
        with progress, temporary_files_in_one_folder():
            report = build_all(
                find_root(),
                assignments,
                check,
                recordings,
                lambda step: progress.update(task, advance=1, description=step),
            )
    except UnknownAssignment as error:
        raise BadUsage(str(error)) from error
    except SourceError as error:
        raise click.ClickException(str(error)) from error
    changed = sorted(str(path) for path in report.changed)
    if as_json:
        click.echo(json.dumps({"changed": changed, "unchanged": report.unchanged}))
    else:
        for path in changed:
            click.echo(f"{'differs' if check else 'written'}: {path}")
        click.echo(f"{len(changed)} {'differ' if check else 'written'}, {report.unchanged} up to date")
    if check and changed:
        errors.print("The files above are not what the sources make: run `autograder build` and commit the result.")
        sys.exit(1)


@main.command()
@click.argument("assignments", nargs=-1)
@click.option(
    "--seeds",
    default=3,
    show_default=True,
    type=click.IntRange(1, 20),
    help="Grading seeds on which right solutions have to pass.",
)
@click.option("--mutants/--no-mutants", default=True, help="Also try generated mutants of every reference.")
@click.option("-j", "--jobs", default=2, show_default=True, type=click.IntRange(1), help="Notebooks at a time.")
@click.option(
    "--cache/--no-cache", default=True, help="Keep results by content in data/audit, and try only what changed."
)
@click.option(
    "--again", default=0, type=click.IntRange(0), help="Try so many exercises anew although their results are kept."
)
@click.option("--draw", default="", help="Which they are: drawn by this text, the commit's number say.")
@click.option("--write", is_flag=True, help="Write docs/checks.md.")
@click.option("-v", "--verbose", is_flag=True, help="Also list cases that tell no known mistake apart.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def audit(
    assignments: tuple[str, ...],
    seeds: int,
    mutants: bool,
    jobs: int,
    cache: bool,
    again: int,
    draw: str,
    write: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Prove the checks: everything right passes, everything wrong is rejected, known mistakes are named."""
    from dataclasses import asdict

    from rich.table import Table

    from autograder.audit import Plan, checks_page
    from autograder.audit import audit as audit_all
    from autograder.notebook import UnknownAssignment

    root = find_root()
    progress, task = bar("auditing", None, as_json)
    try:
        with progress, temporary_files_in_one_folder():
            results = audit_all(
                root,
                assignments,
                Plan(seeds, mutants),
                jobs,
                root / "data" / "audit" if cache else None,
                again,
                draw,
                lambda key, total: progress.update(task, advance=1, total=total, description=key),
            )
    except UnknownAssignment as error:
        raise BadUsage(str(error)) from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    faulty = [item for item in results if item.faults]
    if as_json:
        click.echo(json.dumps([asdict(item) for item in results]))
        sys.exit(1 if faulty else 0)
    table = Table(
        "exercise", "points", "cases", "mistakes named", "alternatives", "mutants killed", "specific", "", box=None
    )
    notebook = ""
    for item in results:
        if item.notebook != notebook:
            notebook = item.notebook
            table.add_row(f"[bold]{notebook}[/bold]")
        table.add_row(
            item.check,
            str(item.points),
            f"{item.cases} + {item.hidden_cases}",
            f"{item.mistakes_named}/{item.mistakes}",
            f"{item.alternatives} × {item.seeds}",
            f"{item.mutants_killed}/{item.mutants - item.mutants_equivalent}",
            f"{100 * item.mutants_named / item.mutants_killed:.0f} %" if item.mutants_killed else "",
            "[red]✗[/red]" if item.faults else "[green]✓[/green]",
        )
    console.print(table)
    for item in faulty:
        for fault in item.faults:
            console.print(f"[red]✗[/red] {item.notebook} {item.check}: {fault}", markup=True, soft_wrap=True)
    if verbose:
        for item in results:
            for name in item.weak_cases:
                console.print(f"· {item.notebook} {item.check}: no known mistake fails “{name}”", soft_wrap=True)
    if write:
        (root / "docs").mkdir(exist_ok=True)
        (root / "docs" / "checks.md").write_text(checks_page(results), encoding="utf-8")
    console.print(f"{len(results)} exercises, {len(faulty)} with faults")
    sys.exit(1 if faulty else 0)


def _cut_off() -> None:
    """Become this command once more where there is no network; nothing to do where there is none anyway."""
    from autograder.sandbox import available, connected, without_network

    if not connected():
        return
    works, why = available()
    if not works:
        raise BadUsage(f"--no-network cuts the network off with bubblewrap: {why}")
    sys.stdout.flush()
    command = without_network([sys.executable, "-m", "autograder.cli", *sys.argv[1:]])
    os.execvp(command[0], command)


@main.command()
@click.argument("assignments", nargs=-1)
@click.option("--profile", type=click.Choice(["quick", "full"]), default="quick", show_default=True)
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with real datasets already downloaded.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("-j", "--jobs", default=1, show_default=True, type=click.IntRange(1), help="Notebooks at a time.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("executed"), show_default=True)
@click.option("--cache/--no-cache", default=True, help="Execute only what changed since it succeeded.")
@click.option(
    "--network/--no-network", default=True, help="Without: as on a machine that is not connected. Needs bubblewrap."
)
@click.option("--json", "as_json", is_flag=True, help="Print the runs as JSON.")
def run(
    assignments: tuple[str, ...],
    profile: str,
    data: Path | None,
    device: str,
    jobs: int,
    out: Path,
    cache: bool,
    network: bool,
    as_json: bool,
) -> None:
    """Execute solution notebooks and keep them."""
    if not network:
        _cut_off()
    from rich.table import Table

    from autograder.notebook import SourceError
    from autograder.run import NotebookRun, to_json
    from autograder.run import run as run_all

    parameters = {"PROFILE": profile, "DEVICE": device, "DATA_DIR": str(data.resolve()) if data else ""}
    progress, task = bar("running", None, as_json)

    def tell(done: NotebookRun, total: int) -> None:
        progress.update(task, advance=1, total=total, description=done.notebook)

    root = find_root()
    try:
        with progress, temporary_files_in_one_folder():
            known = root / "build" / ("runs" if network else "runs-without-network") if cache else None
            runs = run_all(root, assignments, parameters, jobs, out, tell, known)
    except SourceError as error:
        raise BadUsage(str(error)) from error
    except KeyboardInterrupt as error:
        rest = "; what has run is kept, and the same command runs the rest" if cache else ""
        raise Stopped(f"stopped{rest}") from error
    failed = [item for item in runs if not item.ok]
    if as_json:
        click.echo(json.dumps(to_json(runs)))
    else:
        table = Table("notebook", "seconds", "checks passed", "", box=None)
        for item in runs:
            table.add_row(
                item.notebook,
                f"{item.seconds:.1f}",
                f"{item.passed} of {item.checks}",
                "✓ kept" if item.kept else "✓" if item.ok else f"✗ {item.error or ''}",
            )
        console.print(table)
        kept = sum(item.kept for item in runs)
        console.print(f"{len(runs)} notebooks, {kept} kept, {len(failed)} failed; executed copies are in {out}")
    sys.exit(1 if failed else 0)


@main.command()
@click.argument("submitted", type=click.Path(path_type=Path))
@click.option(
    "--assignment", "assignments", multiple=True, help="Grade only this assignment (may be given several times)."
)
@click.option("-j", "--jobs", default=2, show_default=True, type=click.IntRange(1), help="Notebooks at a time.")
@click.option("--scheduler", metavar="ADDRESS", help="Grade on a dask.distributed cluster instead of local processes.")
@click.option(
    "--seed", type=int, help="The run's seed; by default a secret one is drawn once and kept in the grading folder."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("grading"), show_default=True)
@click.option("--unsafe", is_flag=True, help="Run learners' code WITHOUT a sandbox, with all your rights.")
@click.option(
    "--ordinary-kernels", is_flag=True, help="Start a kernel for each notebook instead of forking one; needs --unsafe."
)
@click.option(
    "--cell-timeout", default=60.0, show_default=True, type=click.FloatRange(0.1), help="Seconds a cell may take."
)
@click.option(
    "--timeout", default=300.0, show_default=True, type=click.FloatRange(1), help="Seconds a notebook may take."
)
@click.option("--memory", default=4.0, show_default=True, type=click.FloatRange(0.5), help="GiB a notebook may use.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON.")
def grade(
    submitted: Path,
    assignments: tuple[str, ...],
    jobs: int,
    scheduler: str | None,
    seed: int | None,
    out: Path,
    unsafe: bool,
    ordinary_kernels: bool,
    cell_timeout: float,
    timeout: float,
    memory: float,
    as_json: bool,
) -> None:
    """Grade a class: SUBMITTED holds <student>/<assignment>/<notebook>.ipynb."""
    if scheduler is None:
        start_server()  # first of all: it imports on another core what this process imports in the next lines
    from autograder.grade import GradingError, Limits, cluster
    from autograder.grade import grade as grade_class
    from autograder.notebook import SourceError

    gc.freeze()  # what is imported by now lives as long as this process: no collection need look at it
    limits = Limits(cell_timeout, timeout, int(memory * 2**30))
    progress, task = bar("grading", None, as_json)
    try:
        with progress, cluster(scheduler) as executor:
            report = grade_class(
                find_root(),
                submitted,
                out,
                assignments,
                jobs,
                seed,
                unsafe,
                limits,
                executor,
                lambda done, total: progress.update(task, completed=done, total=total),
                ordinary_kernels,
            )
    except (GradingError, SourceError) as error:
        raise BadUsage(str(error)) from error
    except KeyboardInterrupt as error:
        raise Stopped("stopped; what is graded is kept, and the same command goes on from there") from error
    if as_json:
        click.echo(
            json.dumps(
                {"results": len(report.results), "ran": report.ran, "kept": report.kept, "copies": report.copies}
            )
        )
    else:
        _print_class(report.results)
        errors.print(
            f"{report.ran} notebooks run, {report.kept} known from before, {report.copies} copies · {out}/results.jsonl, "
            f"grades.csv, gradebook.db, feedback/index.html",
            soft_wrap=True,
        )
    if unsafe:
        errors.print("[bold]No sandbox was used (--unsafe): the submissions ran with your rights.[/bold]")


def _print_class(results: list[dict[str, Any]]) -> None:
    """The class as a table: a row a student and notebook, what each check came to, the mistakes by name."""
    from rich.markup import escape
    from rich.table import Table

    from autograder.verdict import STATUSES

    signs = {"passed": "[green]✓[/green]", "partial": "[yellow]◐[/yellow]", "not_attempted": "[dim]○[/dim]"}
    table = Table("student", "notebook", "points", "checks", "what went wrong", box=None, pad_edge=False)
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for line in results:
        groups.setdefault((line["student"], line["assignment"], line["notebook"]), []).append(line)
    last = ""
    for (student, _, notebook), lines in groups.items():
        points, possible = sum(line["points"] for line in lines), sum(line["max_points"] for line in lines)
        wrong = []
        for status in dict.fromkeys(
            line["status"] for line in lines if line["status"] not in ("passed", "not_attempted")
        ):
            for line in lines:
                if line["status"] == status:
                    what = f"“{line['misconception']}”" if line["misconception"] else STATUSES[status]
                    wrong.append(f"{line['check']}: {what}" if status not in ("unreadable",) else what)
        text = "; ".join(dict.fromkeys(wrong))
        marks = "".join(signs.get(line["status"], "[red]✗[/red]") for line in lines)
        table.add_row(escape(student) if student != last else "", notebook, f"{points}/{possible}", marks, escape(text))
        last = student
    console.print(table)


@main.command("progress")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("notebooks"))
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def progress_command(folder: Path, as_json: bool) -> None:
    """Your own notebooks, week by week: what has passed, points, what is next."""
    from rich.table import Table

    from autograder.progress import progress, to_json

    if not folder.is_dir():
        raise BadUsage(f"{folder} is no folder: give the one that holds your notebooks")
    rows = progress(find_root(), folder)
    if as_json:
        click.echo(json.dumps(to_json(rows)))
        return
    table = Table("week", "notebook", "passed", "points", "next", box=None)
    last = ""
    for row in rows:
        state = "[green]done[/green]" if row.next is None else row.next if row.started else "[dim]not started[/dim]"
        table.add_row(
            row.assignment if row.assignment != last else "",
            row.title,
            f"{row.passed}/{row.checks}",
            f"{row.points}/{row.max_points}",
            state,
        )
        last = row.assignment
    console.print(table)


if __name__ == "__main__":
    main()
