"""Writes the pages people read after grading: one a notebook for its learner, one a class for its instructor. Decides nothing.

Everything from a submission (names, code, answers, exception texts) is hostile here: it is shown as text, clipped and
escaped, on pages that may run no script and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any, NamedTuple
from urllib.parse import quote

from pygments import highlight  # type: ignore[import-untyped]
from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
from pygments.lexers import PythonLexer  # type: ignore[import-untyped]

from autograder.notebook import Notebook
from autograder.verdict import STATUSES, Verdict, message_blocks

Result = Mapping[str, Any]
"""A line of results.jsonl: student, assignment, notebook, check, status, points, max_points, message, misconception, matched_by."""

MAX_MESSAGE = 8_000
MAX_CODE = 40_000
MAX_FLAGS = 50
MAX_NAME = 200
MAX_SIDE = 46
"""Characters of one message, one cell and one name, and flags, that a page shows (it says so where it leaves something
out), and the longest line of values that stand side by side."""

SIGNS = {
    "passed": "✓",
    "partial": "◐",
    "not_attempted": "○",
    "wrong": "✗",
    "error": "!",
    "missing": "∅",
    "timeout": "∞",
    "kernel_died": "†",
    "unreadable": "?",
}
"""A sign for every status, so that nobody has to tell colours apart."""

_MATCHED = {
    "name": "found by its name",
    "similarity": "found by its likeness to the released cell",
    "missing": "no cell found",
}

_STEPS = {
    "partial": "The core is right. Look at the case in the message; it is the part that is still open.",
    "not_attempted": "Not attempted yet. Read the exercise again and start with the smallest case of its check.",
    "wrong": "Compare what was found with what was expected, by hand, on the small input in the message.",
    "error": "Run the exercise's cell and then its check in your notebook: the same error will show where it comes from.",
    "missing": "Leave the exercise's function under its own name in the notebook, restart the kernel, run all cells, and hand in again.",
    "timeout": "Look for a loop that never ends, or one that a single tensor operation could replace.",
    "kernel_died": "The process ended, most likely out of memory or by an exit. Look for very large tensors.",
    "unreadable": "The file could not be read as a notebook. Download it again from Colab or JupyterLab as .ipynb and hand it in again.",
}


class ShownCell(NamedTuple):
    """A cell as it was graded: its role and name in the release, its source, and where it came from (release or submission)."""

    role: str
    name: str | None
    source: str
    origin: str


# -- hostile text ----------------------------------------------------------------------------------------------------------

# Control characters break files and terminals; bidirectional marks make code read otherwise than it runs;
# lone surrogates cannot be written as UTF-8.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def printable(text: object, limit: int = MAX_MESSAGE) -> str:
    """Any text as text that can be shown and written: at most about `limit` characters, unprintable ones as �."""
    whole = "" if text is None else text if isinstance(text, str) else str(text)
    shown = whole[: limit + 1].replace("\r\n", "\n").replace("\r", "\n")
    shown = _UNPRINTABLE.sub("\ufffd", shown)
    if len(whole) <= limit:
        return shown
    return f"{shown[:limit]}\n… ({len(whole) - limit} more characters are not shown)"


def line(text: object, limit: int = MAX_NAME) -> str:
    """As `printable`, on one line."""
    shown = " ".join(printable(str(text)[: limit + 1], limit + 1).split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def verdict_of(result: Result) -> Verdict:
    """A result as the verdict a notebook would show, from printable text alone."""
    status = result["status"] if result["status"] in STATUSES else "unreadable"
    misconception = result.get("misconception")
    return Verdict(
        line(result["check"]),
        status,
        number(result["points"]),  # type: ignore[arg-type]
        number(result["max_points"]),  # type: ignore[arg-type]
        printable(result.get("message")),
        line(misconception) if misconception else None,
    )


def number(value: float) -> int | float:
    """Points as people write them: 3, not 3.0."""
    rounded = round(float(value), 4)
    return int(rounded) if rounded.is_integer() else rounded


def anchor(check: str) -> str:
    """Where on a learner's page a check stands."""
    return "check-" + re.sub(r"[^A-Za-z0-9_-]", "-", str(check))[:80]


# -- the learner's page ----------------------------------------------------------------------------------------------------


def feedback_page(
    student: str,
    assignment: str,
    notebook_title: str,
    results_for_it: Sequence[Result],
    cells: Iterable[tuple[str, str | None, str, str]] = (),
    flags: Sequence[str] = (),
) -> str:
    """The page about one notebook of one student; the same input gives the same text.

    Args:
        results_for_it: the results of this notebook, in the order of its checks.
        cells: (role, name, source, origin) of the cells as graded; those of the roles exercise and written are shown.
        flags: sentences about how the notebook was read ("check cell edited: the released one was used").
    """
    written = [ShownCell(*cell) for cell in cells]
    got, most = _sum(results_for_it)
    answers = [cell for cell in written if cell.role == "written" and cell.origin == "submission"]
    parts = [
        "<header>",
        f'<p class="where">{escape(line(assignment))}</p>',
        f"<h1>{escape(line(notebook_title))}</h1>",
        f'<p class="who">{escape(line(student))}</p>',
        f'<p class="score"><b>{got}</b> of {most} points</p>',
        _bar(got, most),
        _counts(results_for_it),
    ]
    if answers:
        parts.append(
            f'<p class="note">{_plural(len(answers), "written answer")} will be graded by a person and {_is(answers)} not counted yet.</p>'
        )
    parts.append("</header>")
    parts += _flags(flags)
    parts += _table(results_for_it)
    parts += _next_steps(results_for_it)
    for result in results_for_it:
        parts += _exercise(result, written)
    for cell in answers:
        parts += [
            '<section class="grey">',
            f"<h2><span>Written answer: {escape(line(cell.name))}</span><small>graded by a person</small></h2>",
            f'<pre class="text">{escape(printable(cell.source, MAX_CODE))}</pre>',
            "</section>",
        ]
    return _page(f"{line(notebook_title)} · {line(student)}", parts)


def _flags(flags: Sequence[str]) -> list[str]:
    if not flags:
        return []
    more = len(flags) - MAX_FLAGS
    items = [f"<li>{_with_code(line(flag, 400))}</li>" for flag in flags[:MAX_FLAGS]]
    items += [f"<li>and {more} more</li>"] if more > 0 else []
    return ['<aside><h2>How the notebook was read</h2><ul class="flags">', *items, "</ul></aside>"]


def _with_code(text: str) -> str:
    """Escaped text, with what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _table(results: Sequence[Result]) -> list[str]:
    rows = []
    notes = [_MATCHED.get(result.get("matched_by") or "", "") for result in results]
    told = any(notes)
    for result, note in zip(results, notes, strict=True):
        verdict = verdict_of(result)
        cell = f"<td>{note}</td>" if told else ""
        rows.append(
            f'<tr><td><a href="#{anchor(verdict.check)}"><code>{escape(verdict.check)}</code></a></td>'
            f'<td class="{verdict.status}"><span class="sign">{SIGNS[verdict.status]}</span> {STATUSES[verdict.status]}</td>'
            f'<td class="points">{verdict.points} of {verdict.max_points}</td>'
            f"<td>{_misconception(verdict)}</td>{cell}</tr>"
        )
    titles = ["Exercise", "Result", "Points", "Recognised as", *(["Its cell"] if told else [])]
    head = f"<tr>{''.join(f'<th>{title}</th>' for title in titles)}</tr>"
    return ['<table class="list"><thead>', head, "</thead><tbody>", *rows, "</tbody></table>"]


def _misconception(verdict: Verdict) -> str:
    return f'<span class="badge">{escape(verdict.misconception)}</span>' if verdict.misconception else ""


def _next_steps(results: Sequence[Result]) -> list[str]:
    verdicts = [verdict_of(result) for result in results]
    todo = [verdict for verdict in verdicts if not verdict.passed]
    if not verdicts:
        return []
    if not todo:
        return [
            '<section class="passed"><h2>Next steps</h2><p>Every check of this notebook passed. On to the next one.</p></section>'
        ]
    steps = []
    if {verdict.status for verdict in verdicts} == {"unreadable"}:
        steps.append(f"<li>{_STEPS['unreadable']}</li>")
    else:
        # a later exercise often fails because an earlier one does
        for verdict in todo[:3]:
            name = escape(verdict.check)
            known = (
                f" This is “{escape(verdict.misconception)}”: start from the sentence about it."
                if verdict.misconception
                else ""
            )
            advice = "" if known else f" {_STEPS[verdict.status]}"
            hint = (
                f' <code>hint("{name}")</code> gives a hint.'
                if verdict.status in ("partial", "wrong", "error", "not_attempted")
                else ""
            )
            steps.append(f'<li><a href="#{anchor(verdict.check)}"><code>{name}</code></a>:{known}{advice}{hint}</li>')
        if len(todo) > 3:
            steps.append(
                f"<li>Then the other {len(todo) - 3}, from top to bottom: later exercises use earlier ones.</li>"
            )
    return ['<section class="grey"><h2>Next steps</h2><ol>', *steps, "</ol></section>"]


def _exercise(result: Result, cells: Sequence[ShownCell]) -> list[str]:
    verdict = verdict_of(result)
    parts = [
        f'<section class="{verdict.status}" id="{anchor(verdict.check)}">',
        f'<h2><span><span class="sign">{SIGNS[verdict.status]}</span> <code>{escape(verdict.check)}</code> {_misconception(verdict)}</span>'
        f"<small>{STATUSES[verdict.status]} · {verdict.points} of {verdict.max_points}</small></h2>",
    ]
    first, _, rest = verdict.message.partition("\n")
    if first:
        parts.append(f'<p class="first">{escape(first)}</p>')
    parts += _details(rest)
    found = _MATCHED.get(result.get("matched_by") or "")
    if found:
        parts.append(f'<p class="note">Your cell: {found}.</p>')
    code = _code_of(str(result["check"]), cells)
    if code is not None:
        opened = "" if verdict.passed else " open"
        parts.append(f"<details{opened}><summary>Your code</summary>{coloured(code)}</details>")
    parts.append("</section>")
    return parts


_BLOCKS = {"with": "Input", "found": "Found", "expected": "Expected"}


def _details(rest: str) -> list[str]:
    """The rest of a message: input, found and expected values in blocks of their own, everything else as it stands."""
    parts = []
    for kind, block in message_blocks(rest):
        # values side by side where they fit
        size = " broad" if any(len(each) > MAX_SIDE for each in block.split("\n")) else ""
        label = f"<figcaption>{_BLOCKS[kind]}</figcaption>" if kind else ""
        parts.append(f'<figure class="{kind or "plain"}{size}">{label}<pre>{escape(block)}</pre></figure>')
    return ['<div class="values">', *parts, "</div>"] if parts else []


def _code_of(check: str, cells: Sequence[ShownCell]) -> str | None:
    """The source the learner handed in for an exercise; where two exercises share a cell, that cell."""
    own = [cell for cell in cells if cell.origin == "submission" and cell.role in ("exercise", "free")]
    for cell in own:
        if cell.role == "exercise" and cell.name == check:
            return cell.source
    definition = re.compile(rf"^(?:async )?(?:def|class) {re.escape(check)}\b", re.MULTILINE)
    for cell in reversed(own):
        if definition.search(cell.source[:MAX_CODE]):
            return cell.source
    return None


_LEXER, _FORMATTER = PythonLexer(stripnl=False), HtmlFormatter(cssclass="code", wrapcode=True)


@lru_cache(maxsize=256)
def coloured(source: str) -> str:
    """Python source as escaped, highlighted HTML."""
    return str(highlight(printable(source, MAX_CODE), _LEXER, _FORMATTER)).rstrip("\n")


# -- the class's page ------------------------------------------------------------------------------------------------------


def class_page(results: Iterable[Result], notebooks: Sequence[Notebook] = (), folder: str = ".") -> str:
    """The instructor's page: what to talk about, how each check went, and everybody's results at a glance.

    Args:
        notebooks: sources, for the order of assignments and notebooks; others follow by name.
        folder: where the learners' pages (<student>/<assignment>/<notebook>.html) are, seen from this page.
    """
    latest = {(row["assignment"], row["notebook"], row["student"], row["check"]): row for row in results}
    ranks = {(source.assignment, source.name): rank for rank, source in enumerate(notebooks)}
    # checks stay in the notebook's order: sorting keeps it
    keys = sorted(latest, key=lambda key: (ranks.get(key[:2], len(ranks)), key[:3]))
    rows = [latest[key] for key in keys]
    assignments: dict[str, list[Result]] = defaultdict(list)
    for row in rows:
        assignments[row["assignment"]].append(row)
    students = {row["student"] for row in rows}
    parts = [
        "<header><h1>The class</h1>",
        f'<p class="who">{_plural(len(students), "student")}, {_plural(len(assignments), "assignment")}</p></header>',
    ]
    for assignment, own in assignments.items():
        parts += _assignment(assignment, own, folder)
    legend = " ".join(
        f'<span class="chip {status}">{SIGNS[status]} {words}</span>' for status, words in STATUSES.items()
    )
    parts.append(f'<footer><p class="legend">{legend}</p></footer>')
    return _page("The class", parts, wide=True)


def _assignment(assignment: str, rows: Sequence[Result], folder: str) -> list[str]:
    by_check: dict[tuple[str, str], list[Result]] = {}
    by_student: dict[str, dict[tuple[str, str], Result]] = defaultdict(dict)
    for row in rows:
        key = (row["notebook"], row["check"])
        by_check.setdefault(key, []).append(row)
        by_student[row["student"]][key] = row
    totals = sorted(float(_sum(list(own.values()))[0]) for own in by_student.values())
    middle = len(totals) // 2
    median = totals[middle] if len(totals) % 2 else (totals[middle - 1] + totals[middle]) / 2
    most = sum(max(float(row["max_points"]) for row in own) for own in by_check.values())
    parts = [
        f"<h2>{escape(line(assignment))}</h2>",
        f'<p class="note">{_plural(len(by_student), "student")} handed in · median {number(median)} of {number(most)} points</p>',
    ]
    parts += _to_talk_about(by_check)
    parts += _checks(by_check)
    parts += _heat(assignment, list(by_check), by_student, number(most), folder)
    return parts


def _to_talk_about(by_check: Mapping[tuple[str, str], Sequence[Result]]) -> list[str]:
    """The class's most frequent misconceptions, each with the sentence its learners read."""
    seen: Counter[tuple[str, str]] = Counter()
    says: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for (_, check), rows in by_check.items():
        for row in rows:
            if row.get("misconception"):
                key = (line(check), line(row["misconception"]))
                seen[key] += 1
                says[key][line(str(row.get("message") or "").partition("\n")[0], 400)] += 1
    if not seen:
        return []
    top = sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:5]
    items = [
        f'<li><b>{count}×</b> <span class="badge">{escape(name)}</span> in <code>{escape(check)}</code>'
        f'<span class="says">{escape(min(says[check, name].items(), key=lambda item: (-item[1], item[0]))[0])}</span></li>'
        for (check, name), count in top
    ]
    return ['<section class="grey"><h3>To talk about</h3><ul class="talk">', *items, "</ul></section>"]


def _checks(by_check: Mapping[tuple[str, str], Sequence[Result]]) -> list[str]:
    parts = [
        '<table class="list"><thead><tr><th>Check</th><th>Passed</th><th></th><th>Not passed because</th>'
        "<th>Most frequent misconceptions</th></tr></thead><tbody>"
    ]
    notebook = None
    for (belongs, check), rows in by_check.items():
        if belongs != notebook:
            notebook = belongs
            parts.append(f'<tr class="notebook"><th colspan="5">{escape(line(belongs))}</th></tr>')
        counts = Counter(_status(row) for row in rows)
        known = Counter(line(row["misconception"]) for row in rows if row.get("misconception"))
        badges = [
            f'<span class="counted"><span class="badge">{escape(name)}</span> ×{count}</span>'
            for name, count in sorted(known.items(), key=lambda item: (-item[1], item[0]))[:3]
        ]
        reasons = [
            f'<span class="chip {status}">{SIGNS[status]} {STATUSES[status]} ×{count}</span>'
            for status in STATUSES
            if status != "passed" and (count := counts[status])
        ]
        share = counts["passed"] / len(rows)
        parts.append(
            f'<tr><td><code>{escape(line(check))}</code></td><td class="points">{share:.0%}</td>'
            f'<td class="barcell">{_bar(counts["passed"], len(rows))}</td><td>{" ".join(reasons)}</td><td>{" ".join(badges)}</td></tr>'
        )
    return [*parts, "</tbody></table>"]


def _heat(
    assignment: str,
    columns: Sequence[tuple[str, str]],
    by_student: Mapping[str, Mapping[tuple[str, str], Result]],
    most: float,
    folder: str,
) -> list[str]:
    spans = Counter(notebook for notebook, _ in columns)
    starts = {column for at, column in enumerate(columns) if at and columns[at - 1][0] != column[0]}
    above = "".join(
        f'<th colspan="{span}">{escape(line(notebook)).replace("_", "_<wbr>")}</th>' for notebook, span in spans.items()
    )
    heads = "".join(
        f'<th class="up{_edge(column, starts)}"><span>{escape(line(column[1]))}</span></th>' for column in columns
    )
    parts = [
        '<div class="scroll"><table class="heat"><thead>',
        f'<tr class="notebook"><th></th><th></th>{above}</tr><tr><th>Student</th><th>Points</th>{heads}</tr></thead><tbody>',
    ]
    for student in sorted(by_student):
        own = by_student[student]
        got, _ = _sum(list(own.values()))
        pages = {notebook: _address(folder, student, assignment, notebook) for notebook, _ in own}
        squares = []
        for column in columns:
            row = own.get(column)
            if row is None:
                squares.append(f'<td class="none{_edge(column, starts)}"></td>')
                continue
            status = _status(row)
            squares.append(
                f'<td class="{status}{_edge(column, starts)}"><a href="{pages[column[0]]}#{anchor(column[1])}">{SIGNS[status]}</a></td>'
            )
        name = escape(line(student, 60))
        linked = f'<a href="{next(iter(pages.values()))}">{name}</a>' if len(pages) == 1 else name
        parts.append(f'<tr><th>{linked}</th><td class="points">{got}/{most}</td>{"".join(squares)}</tr>')
    return [*parts, "</tbody></table></div>"]


def _edge(column: tuple[str, str], starts: set[tuple[str, str]]) -> str:
    return " edge" if column in starts else ""


def _address(folder: str, *names: str) -> str:
    """A relative address; a name with a slash, a quote or a scheme in it stays a name."""
    # U+DC80 to U+DCFF stand for the bytes of a folder's name that are no UTF-8
    whole = (re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", str(name)) for name in names)
    path = "/".join(quote(name.encode("utf-8", "surrogateescape"), safe="") for name in whole)
    return escape(f"{folder}/{path}.html", quote=True)


def _status(row: Result) -> str:
    return row["status"] if row["status"] in STATUSES else "unreadable"


# -- what both share -------------------------------------------------------------------------------------------------------


def _sum(results: Sequence[Result]) -> tuple[int | float, int | float]:
    return number(sum(float(row["points"]) for row in results)), number(
        sum(float(row["max_points"]) for row in results)
    )


def _bar(got: float, most: float) -> str:
    share = round(100 * got / most) if most else 0
    return f'<div class="bar"><div class="w{min(max(share, 0), 100)}"></div></div>'


def _counts(results: Sequence[Result]) -> str:
    counts = Counter(_status(row) for row in results)
    chips = [
        f'<span class="chip {status}">{SIGNS[status]} {words} ×{counts[status]}</span>'
        for status, words in STATUSES.items()
        if counts[status]
    ]
    return f'<p class="legend">{" ".join(chips)}</p>'


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _is(items: Sequence[object]) -> str:
    return "is" if len(items) == 1 else "are"


def _page(title: str, parts: Sequence[str], wide: bool = False) -> str:
    body = "\n".join(parts)
    widths = sorted({int(width) for width in re.findall(r'<div class="w(\d+)">', body)})
    css = _CSS + "\n".join(f".w{width}{{width:{width}%}}" for width in widths)
    # the page's own style sheet is allowed by its hash: nothing that slipped into the text could bring one
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title)}</title>\n<style>{css}</style>\n</head>\n"
        f"<body{' class=wide' if wide else ''}>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


# Light colours are those of verdict.py; the dark ones have the same hues, lighter.
_CSS = """
:root{--ink:#1f2328;--soft:#57606a;--paper:#fff;--panel:#f6f8fa;--line:#d0d7de;--link:#0969da;
--passed:#1a7f37;--partial:#9a6700;--idle:#57606a;--failed:#b42318;
--passed-bg:#dafbe1;--partial-bg:#fff1c2;--idle-bg:#eaeef2;--failed-bg:#ffe3df;
--k:#8250df;--s:#0a3069;--c:#6e7781;--m:#0550ae;--f:#953800}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--paper:#0d1117;--panel:#161b22;--line:#30363d;--link:#58a6ff;
--passed:#3fb950;--partial:#d29922;--idle:#9198a1;--failed:#ff7b72;
--passed-bg:#12351d;--partial-bg:#3a2c05;--idle-bg:#21262d;--failed-bg:#4a1a16;
--k:#d2a8ff;--s:#a5d6ff;--c:#8b949e;--m:#79c0ff;--f:#ffa657}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:54rem;margin:0 auto;padding:2rem 1.25rem 4rem}
.wide main{max-width:80rem}
h1{font-size:1.75rem;line-height:1.2;margin:.1em 0}
h2{font-size:1.15rem;margin:0 0 .5rem}
.wide h2{font-size:1.35rem;margin:2.2rem 0 .1rem}
h3{font-size:1rem;margin:0 0 .4rem}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.875em}
.where,.who,.note{color:var(--soft);margin:0 0 .6rem}
.score{margin:.8rem 0 .3rem;font-size:1.1rem}.score b{font-size:1.6rem}
.bar{height:.6rem;border-radius:.3rem;background:var(--failed-bg);overflow:hidden;print-color-adjust:exact;-webkit-print-color-adjust:exact}
.bar div{height:100%;background:var(--passed)}
.legend{margin:.7rem 0}
.chip,.badge{display:inline-block;border-radius:1em;padding:.05em .65em;margin:.1em .1em .1em 0;font-size:.82rem;font-weight:500;print-color-adjust:exact;-webkit-print-color-adjust:exact}
.badge{background:var(--failed-bg);color:var(--failed);border:1px solid var(--failed)}
.chip.passed,.heat .passed{background:var(--passed-bg);color:var(--passed)}
.chip.partial,.heat .partial{background:var(--partial-bg);color:var(--partial)}
.chip.not_attempted,.heat .not_attempted{background:var(--idle-bg);color:var(--idle)}
.chip.wrong,.chip.error,.chip.missing,.chip.timeout,.chip.kernel_died,.chip.unreadable,
.heat .wrong,.heat .error,.heat .missing,.heat .timeout,.heat .kernel_died,.heat .unreadable{background:var(--failed-bg);color:var(--failed)}
table{border-collapse:collapse;width:100%}
.list{margin:1.2rem 0}
.list th,.list td{text-align:left;padding:.4rem .6rem .4rem 0;border-bottom:1px solid var(--line);vertical-align:top}
.list th{color:var(--soft);font-weight:600;font-size:.85rem}
.counted{white-space:nowrap}.counted .badge{white-space:normal}
.list .points,.heat .points{white-space:nowrap;font-variant-numeric:tabular-nums}
td.passed{color:var(--passed)}td.partial{color:var(--partial)}td.not_attempted{color:var(--idle)}
td.wrong,td.error,td.missing,td.timeout,td.kernel_died,td.unreadable{color:var(--failed)}
.list .notebook th{padding-top:1rem;color:var(--ink)}
.barcell{width:9rem}.barcell .bar{margin-top:.45rem}
aside{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.7rem 1rem;margin:1.2rem 0;font-size:.92rem}
aside h2{font-size:.95rem}.flags{margin:0;padding-left:1.1rem}
section{--edge:var(--failed);border:1px solid var(--line);border-left:4px solid var(--edge);border-radius:.4rem;padding:.9rem 1.1rem;margin:1.2rem 0}
section.passed{--edge:var(--passed)}section.partial{--edge:var(--partial)}section.not_attempted,section.grey{--edge:var(--idle)}
section h2{display:flex;flex-wrap:wrap;justify-content:space-between;gap:.2rem 1rem;align-items:baseline}
section h2 small{font-weight:500;font-size:.9rem;color:var(--edge)}
section .sign{color:var(--edge)}
section ol{margin:.2rem 0;padding-left:1.3rem}
.first{margin:.2rem 0 .6rem;font-weight:600;overflow-wrap:anywhere}
.passed .first{font-weight:400}
.values{display:grid;grid-template-columns:1fr 1fr;gap:.6rem}
figure{margin:0;min-width:0;grid-column:1/-1}
figure.found,figure.expected{grid-column:auto}figure.broad{grid-column:1/-1}
figcaption{font-size:.8rem;font-weight:600;color:var(--soft)}
.found figcaption{color:var(--failed)}.expected figcaption{color:var(--passed)}
pre{margin:.2rem 0 0;white-space:pre-wrap;overflow-wrap:anywhere}
figure pre,.code pre,pre.text{background:var(--panel);border:1px solid var(--line);border-radius:.35rem;padding:.55rem .75rem}
figure.plain pre{background:none;border:0;padding:0;font:inherit}
figure.with pre,figure.found pre,figure.expected pre,.code pre{white-space:pre;overflow-x:auto}
details{margin-top:.8rem}summary{cursor:pointer;color:var(--soft);font-size:.9rem}
.code .k,.code .kn,.code .kd,.code .kc,.code .ow{color:var(--k)}
.code .s1,.code .s2,.code .sd,.code .sa,.code .si,.code .se,.code .s{color:var(--s)}
.code .c1,.code .c,.code .ch{color:var(--c);font-style:italic}
.code .mi,.code .mf,.code .mh,.code .nb,.code .bp{color:var(--m)}
.code .nf,.code .nc,.code .nd,.code .fm{color:var(--f)}
.talk{list-style:none;margin:0;padding:0}.talk li{margin:.35rem 0}.says{display:block;color:var(--soft);font-size:.92rem}
.scroll{overflow-x:auto;margin:1.2rem 0}
.heat{width:auto;font-size:.9rem}
.heat th,.heat td{padding:.2rem .45rem;text-align:center;border:1px solid var(--paper);print-color-adjust:exact;-webkit-print-color-adjust:exact}
.heat tbody th{text-align:left;font-weight:500;white-space:nowrap;padding-left:0}
.heat thead th{vertical-align:bottom;text-align:left;color:var(--soft);font-weight:600}
.heat .notebook th{text-align:center;font-size:.75rem;max-width:1rem;overflow-wrap:anywhere;line-height:1.2}
.heat .up{padding:.3rem 0;width:2.4rem}.heat .up span{writing-mode:vertical-rl;transform:rotate(180deg);font-weight:500;max-height:14rem;overflow:hidden}
.heat .edge{border-left:5px solid var(--paper)}
.heat td{min-width:2.3rem}.heat td a{color:inherit;display:block;font-weight:700}
.heat .none{background:none}
@media (max-width:40rem){.values{grid-template-columns:1fr}.list{font-size:.85rem}.list code{overflow-wrap:anywhere}.barcell{width:4rem}}
@media print{@page{margin:1.5cm}body{font-size:11pt}main,.wide main{max-width:none;padding:0}section{break-inside:avoid}
section.passed details{display:none}.scroll{overflow:visible}figure pre,.code pre{white-space:pre-wrap!important}a{color:inherit}}
"""
