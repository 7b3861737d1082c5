"""The learner's score so far in this kernel, as a table. For their own eyes: no grade is read from it."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

from autograder import checks
from autograder.recording import shipped
from autograder.verdict import STATUSES, status_chip


@dataclass(frozen=True)
class Score:
    """Rows of (exercise, status, points, points possible)."""

    rows: tuple[tuple[str, str, int, int], ...]

    @property
    def points(self) -> int:
        return sum(row[2] for row in self.rows)

    @property
    def max_points(self) -> int:
        return sum(row[3] for row in self.rows)

    def __str__(self) -> str:
        width = max((len(row[0]) for row in self.rows), default=0)
        lines = [
            f"{name:<{width}}  {points}/{possible}  {STATUSES[status]}" for name, status, points, possible in self.rows
        ]
        return "\n".join([*lines, f"{'Together':<{width}}  {self.points}/{self.max_points}"])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        rows = "".join(
            f'<tr><td style="text-align:left"><code>{html.escape(name)}</code></td><td>{points} / {possible}</td>'
            f'<td style="text-align:left">{status_chip(status)}</td></tr>'
            for name, status, points, possible in self.rows
        )
        total = f'<tr><td style="text-align:left"><b>together</b></td><td><b>{self.points} / {self.max_points}</b></td><td></td></tr>'
        return {"text/plain": str(self), "text/html": f"<table>{rows}{total}</table>"}


def score() -> Score:
    """What this notebook's checks came to so far, those not run yet included."""
    session = checks.session
    rows = []
    for name, recording in shipped(session.assignment, session.notebook).checks.items():
        verdict = session.verdicts.get(name)
        rows.append(
            (name, verdict.status if verdict else "not_attempted", verdict.points if verdict else 0, recording.points)
        )
    return Score(tuple(rows))
