"""The command line: `autograder build | run | grade | audit | progress`. It parses, calls and prints; the work is in the modules it names.

Exit status: 0 done, 1 something failed, 2 bad usage.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from autograder import __version__

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def find_root() -> Path:
    """The course's repository: the nearest folder upwards that holds `solutions`, else the one the package was installed from."""
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parent.parent):
        if (folder / "solutions").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    raise click.UsageError("no `solutions` folder here or above: run this in a checkout of the course's repository")


def bar(description: str, total: int | None, quiet: bool) -> tuple[Progress, Any]:
    """A progress bar on stderr; silent when a program reads the output."""
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=errors, disable=quiet or not errors.is_terminal, transient=True,
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
    from autograder.notebook import SourceError

    progress, task = bar("building", None, as_json)
    try:
        with progress:
            report = build_all(
                find_root(), assignments, check, recordings, lambda step: progress.update(task, advance=1, description=step)
            )
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
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1, 20), help="Grading seeds on which right solutions have to pass.")
@click.option("--mutants/--no-mutants", default=True, help="Also try generated mutants of every reference.")
@click.option("-j", "--jobs", default=2, show_default=True, type=click.IntRange(1), help="Notebooks at a time.")
@click.option("--cache/--no-cache", default=True, help="Keep results by content, and try only what changed.")
@click.option("--write", is_flag=True, help="Write docs/checks.md.")
@click.option("-v", "--verbose", is_flag=True, help="Also list cases that tell no known mistake apart.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def audit(
    assignments: tuple[str, ...], seeds: int, mutants: bool, jobs: int, cache: bool, write: bool, verbose: bool, as_json: bool
) -> None:
    """Prove the checks: everything right passes, everything wrong is rejected, known mistakes are named."""
    from dataclasses import asdict

    from rich.table import Table

    from autograder.audit import Plan, checks_page
    from autograder.audit import audit as audit_all
    from autograder.notebook import SourceError

    root = find_root()
    progress, task = bar("auditing", None, as_json)
    try:
        with progress:
            results = audit_all(
                root, assignments, Plan(seeds, mutants), jobs, root / "data" / "cache" / "audit" if cache else None,
                lambda key, total: progress.update(task, advance=1, total=total, description=key),
            )
    except (SourceError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    faulty = [item for item in results if item.faults]
    if as_json:
        click.echo(json.dumps([asdict(item) for item in results]))
        sys.exit(1 if faulty else 0)
    table = Table("exercise", "points", "cases", "mistakes named", "alternatives", "mutants killed", "specific", "", box=None)
    notebook = ""
    for item in results:
        if item.notebook != notebook:
            notebook = item.notebook
            table.add_row(f"[bold]{notebook}[/bold]")
        table.add_row(
            item.check, str(item.points), f"{item.cases} + {item.hidden_cases}", f"{item.mistakes_named}/{item.mistakes}",
            f"{item.alternatives} × {item.seeds}", f"{item.mutants_killed}/{item.mutants - item.mutants_equivalent}",
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


if __name__ == "__main__":
    main()
