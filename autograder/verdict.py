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
_RED = "#b42318"
_CASE_COLOURS = {"passed": "#1a7f37", "failed": _RED, "error": _RED, "not reached": "#57606a"}
_SIGNS = {"passed": "✓", "partial": "◐", "not_attempted": "○"}
_CAPTIONS = {"with": "input", "found": "found", "expected": "expected"}
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
    """What a check came to. The first line of `message` says what matters most; `misconception` names a recognised mistake;
    where there is none, `pattern` says what all differences have in common, if anything.
    """

    check: str
    status: str
    points: int
    max_points: int
    message: str
    misconception: str | None = None
    cases: tuple[CaseVerdict, ...] = ()
    pattern: str | None = None

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
        # text keeps the theme's own colour, so it reads in a light and in a dark notebook; colours of ours stand behind white text only
        colour = _COLOURS.get(self.status, _RED)
        head = (
            f"{status_chip(self.status)}<b>{html.escape(self.check)}</b>"
            f'<span style="opacity:.75"> · {self.points} of {_points(self.max_points)}</span>'
        )
        body = ""
        if not self.passed:
            first, _, rest = self.message.partition("\n")
            weight = 600 if self.misconception else 400
            body += f'<div style="margin-top:.4em;font-weight:{weight}">{html.escape(first)}</div>{_blocks_html(rest)}'
        if self.cases and not self.passed:
            chips = "".join(
                _chip(f"{_CASE_SIGNS[case.state]} {case.name}", _CASE_COLOURS[case.state], case.detail[:300])
                for case in self.cases
            )
            body += f'<div style="margin-top:.3em;font-size:90%">{chips}</div>'
        if self.status in ("wrong", "error", "partial"):
            body += f'<div style="margin-top:.4em;font-size:90%">Stuck? <code>hint("{html.escape(self.check)}")</code> gives a hint.</div>'
        return (
            f'<div style="border-left:4px solid {colour};padding:.5em .8em;margin:.2em 0;font-family:system-ui,sans-serif;line-height:1.45;'
            f'background:{colour}12;border-radius:0 4px 4px 0">{head}{body}</div>'
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        summary = {key: value for key, value in self.to_json().items() if key not in ("message", "cases")}
        return {"text/plain": str(self), "text/html": self._repr_html_(), MIME: summary}


def _points(points: int) -> str:
    return f"{points} point" if points == 1 else f"{points} points"


def message_blocks(text: str) -> list[tuple[str, str]]:
    """What follows a message's first line, as (kind, text): "with", "found" and "expected" hold values, "" everything else as it stands."""
    blocks: list[tuple[str, list[str]]] = []
    for line in text.split("\n") if text else []:
        word, _, after = line.partition(" ")
        if word == "with" and not after:
            blocks.append(("with", []))
        elif word in ("found", "expected") and after.lstrip().startswith(("[", "(")):
            blocks.append((word, [" " * (len(line) - len(after.lstrip())) + after.lstrip()]))
        elif blocks and (not blocks[-1][0] or line.startswith("  ")):
            blocks[-1][1].append(line)
        else:
            blocks.append(("", [line]))
    dedented = []
    for kind, lines in blocks:
        margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        dedented.append((kind, "\n".join(line[margin:] for line in lines).strip("\n")))
    return [(kind, block) for kind, block in dedented if block.strip()]


def _blocks_html(text: str) -> str:
    """Values in a fixed width, side by side where they fit; prose as prose."""
    parts = []
    for kind, block in message_blocks(text):
        if kind:
            caption = f'<div style="font-size:85%;opacity:.75">{_CAPTIONS[kind]}</div>'
            values = (
                '<pre style="margin:0;padding:0;border:0;background:none;color:inherit;font-size:90%;line-height:1.3;white-space:pre;overflow-x:auto;'
                f'font-family:ui-monospace,Menlo,Consolas,monospace">{html.escape(block)}</pre>'
            )
            parts.append(f'<div style="max-width:100%">{caption}{values}</div>')
        else:
            parts.append(f'<div style="flex-basis:100%;white-space:pre-wrap">{html.escape(block)}</div>')
    return (
        f'<div style="display:flex;flex-wrap:wrap;gap:.4em 2em;margin-top:.4em">{"".join(parts)}</div>' if parts else ""
    )


def status_chip(status: str) -> str:
    """A status as HTML: its sign and words on its colour, to be read on a light and on a dark page."""
    return _chip(f"{_SIGNS.get(status, '✗')} {STATUSES[status]}", _COLOURS.get(status, _RED))


def _chip(text: str, colour: str, title: str = "") -> str:
    told = f' title="{html.escape(title, quote=True)}"' if title else ""
    return (
        f'<span{told} style="display:inline-block;margin:.1em .4em .1em 0;padding:0 .6em;border-radius:.8em;font-size:90%;color:#fff;background:{colour}">'
        f"{html.escape(text)}</span>"
    )
