"""Verdicts: what the judge found, and how it looks in a notebook (HTML) and in a terminal (text). Presentation only; decides nothing."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import Any

STATUSES = {
    "passed": "passed",
    "partial": "partly right",
    "not_attempted": "not attempted yet",
    "wrong": "not right yet",
    "error": "raises an error",
    "missing": "no answer",
    "timeout": "ran out of time",
    "kernel_died": "the kernel died",
    "unreadable": "cannot be read",
}
"""Every status a check can have, with the words people read."""

MIME = "application/vnd.autograder.verdict+json"
"""A verdict in a notebook's outputs, for `autograder progress`. It is for the learner's own eyes: no grade is ever read from it."""

_COLOURS = {"passed": "#1a7f37", "partial": "#9a6700", "not_attempted": "#57606a"}
_SIGNS = {"passed": "✓", "partial": "◐", "not_attempted": "○"}
_CASE_SIGNS = {"passed": "✓", "failed": "✗", "error": "✗", "not reached": "·"}


@dataclass(frozen=True)
class CaseVerdict:
    """One case: its name, its state ("passed", "failed", "error", "not reached"), what differs, and the part it belongs to."""

    name: str
    state: str
    detail: str
    part: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What a check came to. The first line of `message` says what matters most; `misconception` names a recognised mistake."""

    check: str
    status: str
    points: int
    max_points: int
    message: str
    misconception: str | None = None
    cases: tuple[CaseVerdict, ...] = ()

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        head = f"{_SIGNS.get(self.status, '✗')} {self.check}: {STATUSES[self.status]} ({self.points} of {_points(self.max_points)})"
        if self.passed:
            return head
        cases = "   ".join(f"{_CASE_SIGNS[case.state]} {case.name}" for case in self.cases)
        body = "\n".join(f"  {line}" for line in self.message.splitlines())
        lines = [head, body]
        if cases:
            lines.append(f"  cases: {cases}")
        if self.status in ("wrong", "error", "partial"):
            lines.append(f'  Stuck? hint("{self.check}") gives a hint.')
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        colour = _COLOURS.get(self.status, "#b42318")
        head = (
            f'<b style="color:{colour}">{_SIGNS.get(self.status, "✗")} {html.escape(self.check)}</b>'
            f'<span style="color:{colour}"> · {STATUSES[self.status]} · {self.points} of {_points(self.max_points)}</span>'
        )
        body = ""
        if not self.passed:
            first, _, rest = self.message.partition("\n")
            body += f'<div style="margin-top:.35em"><b>{html.escape(first)}</b></div>' if self.misconception else f"<div style='margin-top:.35em'>{html.escape(first)}</div>"
            if rest:
                body += (
                    '<pre style="margin:.35em 0 0;padding:0;background:none;white-space:pre-wrap;font-size:90%;color:inherit">'
                    f"{html.escape(rest)}</pre>"
                )
        if self.cases and not self.passed:
            chips = " ".join(
                f'<span title="{html.escape(case.detail[:300], quote=True)}" style="display:inline-block;margin:.2em .3em 0 0;padding:0 .5em;'
                f"border-radius:.8em;font-size:85%;color:#fff;background:"
                f'{"#1a7f37" if case.state == "passed" else "#8c959f" if case.state == "not reached" else "#b42318"}">'
                f"{_CASE_SIGNS[case.state]} {html.escape(case.name)}</span>"
                for case in self.cases
            )
            body += f'<div style="margin-top:.35em">{chips}</div>'
        if self.status in ("wrong", "error", "partial"):
            body += f'<div style="margin-top:.35em;font-size:90%">Stuck? <code>hint("{html.escape(self.check)}")</code> gives a hint.</div>'
        return (
            f'<div style="border-left:4px solid {colour};padding:.4em .8em;margin:.2em 0;font-family:system-ui,sans-serif;'
            f'background:{colour}12;border-radius:0 4px 4px 0">{head}{body}</div>'
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        summary = {key: value for key, value in self.to_json().items() if key not in ("message", "cases")}
        return {"text/plain": str(self), "text/html": self._repr_html_(), MIME: summary}


def _points(points: int) -> str:
    return f"{points} point" if points == 1 else f"{points} points"
