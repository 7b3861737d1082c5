"""The pages people read after grading: everything from a submission is text on them, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from autograder.feedback import MAX_MESSAGE, anchor, class_page, feedback_page, line, printable, verdict_of
from autograder.verdict import STATUSES, Verdict

HOSTILE = [
    "<script>alert(1)</script>",
    "</pre></section><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</style><style>body{display:none}",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "'><a href=javascript:alert(1)>x</a>",
    "&lt;script&gt;",
    "ﬁ 𝔘𝔫𝔦 ﷽ 日本語 \u202egnp.exe",
    "a\x00b\x1b[31mred\x07",
    "\ud800 lone",
    "{{ 7*7 }} {% raw %}",
    "`<b>x</b>`",
]


def result(**fields: Any) -> dict[str, Any]:
    row = {
        "student": "anna",
        "assignment": "transformer-week2",
        "notebook": "attention",
        "check": "attention",
        "status": "wrong",
        "points": 0,
        "max_points": 4,
        "message": "The scores are not divided by √d_k.\n1 of 3 cases agrees.",
        "misconception": "no scaling",
        "matched_by": "grade_id",
        "seconds": 0.1,
    }
    return {**row, **fields}


class Seen(HTMLParser):
    """The tags, attributes and text of a page."""

    VOID = ("meta", "br", "img", "input", "link", "hr", "base")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


OWN_TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "footer",
        "aside",
        "section",
        "h1",
        "h2",
        "h3",
        "p",
    ),
    *("b", "span", "small", "div", "a", "code", "pre", "ul", "ol", "li", "figure", "figcaption", "details", "summary"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


def assert_harmless(page: str) -> Seen:
    seen = Seen(page)
    assert seen.open == [], "a tag was closed or opened by somebody else"
    assert set(seen.tags) <= OWN_TAGS
    for tag, name, value in seen.attributes:
        assert not name.startswith("on") and name not in ("style", "src", "srcdoc", "action"), (tag, name)
        if name == "href":
            assert re.fullmatch(r"#check-[\w-]+|\./[^:<>\"' ]+\.html(#check-[\w-]+)?", value or ""), value
    assert seen.tags.count("style") == 1
    page.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    return seen


def cells(
    source: str = "def attention(q, k, v):\n    return q", name: str = "attention"
) -> list[tuple[str, str | None, str, str]]:
    return [("setup", None, "import torch", "release"), ("exercise", name, source, "submission")]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_wherever_it_comes_from(text: str) -> None:
    row = result(
        student=text, message=f"{text}\nwith\n  {text}\nfound    [{text}\nexpected [{text}\n{text}", misconception=text
    )
    written = ("written", text, text, "submission")
    page = feedback_page(
        text, text, text, [row, result(check=text, status="error")], [*cells(text), written], [text] * 3
    )
    assert_harmless(page)
    assert_harmless(class_page([row, result(check=text, assignment=text, notebook=text)]))


def test_hostile_text_can_still_be_read() -> None:
    seen = assert_harmless(feedback_page("anna", "week", "Attention", [result(message=HOSTILE[0])], cells(HOSTILE[1])))
    assert HOSTILE[0] in "".join(seen.text)
    assert HOSTILE[1] in "".join(seen.text)


def test_a_page_may_run_and_load_nothing_and_use_its_own_style_alone() -> None:
    for page in (feedback_page("anna", "week", "Attention", [result()], cells()), class_page([result()])):
        style = re.search("<style>(.*?)</style>", page, re.DOTALL)
        policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', page)
        assert style and policy
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        assert policy[1] == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        assert policy.start() < style.start()
        assert "http:" not in page and "https:" not in page and "url(" not in page and "@import" not in page


def test_a_message_of_a_megabyte_is_clipped_and_says_so() -> None:
    page = feedback_page(
        "anna",
        "week",
        "Attention",
        [result(message="x\n" + "y" * 1_000_000)],
        cells("z = 1\n" * 200_000),
        ["f" * 100_000] * 999,
    )
    assert len(page) < 1_000_000
    assert "more characters are not shown" in page and "and 949 more" in page
    assert "y" * (MAX_MESSAGE + 1) not in page


def test_clipping_keeps_short_text_and_counts_what_is_left_out() -> None:
    assert printable("a\tb\r\nc\rd") == "a\tb\nc\nd"
    assert printable("x" * 10, 4) == "xxxx\n… (6 more characters are not shown)"
    assert printable(None) == ""
    assert line("  a \n b\t") == "a b"
    assert len(line("x" * 1000, 50)) == 50


def test_the_same_results_give_the_same_bytes() -> None:
    rows = [result(student=student, check=check) for student in ("ben", "anna") for check in ("one", "two")]
    assert class_page(rows) == class_page(rows[2:] + rows[:2])
    assert feedback_page("anna", "week", "T", rows, cells()) == feedback_page("anna", "week", "T", rows, cells())


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_is_shown_in_the_colour_and_words_of_a_notebook(status: str) -> None:
    page = feedback_page("anna", "week", "Attention", [result(status=status, misconception=None)], cells())
    in_notebook = Verdict("attention", status, 0, 4, "")._repr_html_()
    colour = re.search("solid (#[0-9a-f]{6})", in_notebook)
    variable = {"passed": "passed", "partial": "partial", "not_attempted": "idle"}.get(status, "failed")
    assert colour and f"--{variable}:{colour[1]};" in page.partition("@media")[0]
    assert STATUSES[status] in page
    assert f'<section class="{status}" id="check-attention">' in page


def test_an_unknown_status_is_shown_as_unreadable_and_not_as_a_crash() -> None:
    assert verdict_of(result(status="<b>")).status == "unreadable"
    assert_harmless(class_page([result(status="<b>")]))


def test_the_score_counts_points_and_names_the_misconception_and_the_way_of_matching() -> None:
    rows = [
        result(points=1.5, status="partial"),
        result(check="mask", status="passed", points=2, max_points=2, matched_by="name"),
    ]
    text = " ".join("".join(Seen(feedback_page("anna", "week", "Attention", rows, cells())).text).split())
    assert "3.5 of 6 points" in text
    assert "no scaling" in text
    assert "found by its name" in text
    assert "likeness" not in text


def test_input_found_and_expected_stand_in_blocks_of_their_own() -> None:
    message = "tiny: 1 of 2 values differ.\nwith\n  q = [[1., 2.],\n       [3., 4.]]\nfound    [1., 2.]\nexpected [1., 3.]\n0 of 1 cases agree."
    page = feedback_page("anna", "week", "Attention", [result(message=message)])
    assert "<figcaption>Input</figcaption><pre>q = [[1., 2.],\n     [3., 4.]]</pre>" in page
    assert "<figcaption>Found</figcaption><pre>[1., 2.]</pre>" in page
    assert "<figcaption>Expected</figcaption><pre>[1., 3.]</pre>" in page
    assert "<pre>0 of 1 cases agree.</pre>" in page


def test_the_code_shown_is_what_the_learner_handed_in_for_the_exercise() -> None:
    def shown(*given: tuple[str, str | None, str, str]) -> str:
        text = "".join(Seen(feedback_page("anna", "week", "Attention", [result()], given)).text)
        return text.partition("Your code")[2]

    assert "return 17" in shown(("exercise", "attention", "def attention(): return 17", "submission"))
    # two exercises in one cell: the plan names only one of them
    assert "return 17" in shown(("exercise", "mask", "def mask(): pass\ndef attention(): return 17", "submission"))
    assert shown(("exercise", "mask", "def mask(): pass", "submission")).strip() == ""
    assert "17" not in shown(("check", "attention", "def attention(): return 17", "release"))


def test_written_answers_are_shown_as_typed_and_said_to_wait() -> None:
    page = feedback_page("anna", "week", "Attention", [result()], [("written", "why", "**because** <b>", "submission")])
    assert "1 written answer will be graded by a person" in page
    assert "**because** &lt;b&gt;" in page


def test_next_steps_say_what_to_do_and_stop_at_the_first_three() -> None:
    rows = [result(check=f"c{n}", status="error", misconception=None) for n in range(5)]
    page = feedback_page("anna", "week", "Attention", rows)
    assert "hint(&quot;c2&quot;)" in page or 'hint("c2")' in page
    assert 'hint("c3")' not in page and "Then the other 2" in page
    assert "Every check of this notebook passed" in feedback_page("anna", "w", "A", [result(status="passed")])
    assert "hand it in again" in feedback_page("anna", "w", "A", [result(status="unreadable")])


def test_the_class_page_shows_shares_and_the_most_frequent_misconceptions_first() -> None:
    rows = [result(student=f"s{n}") for n in range(3)]
    rows += [result(student="s3", misconception="divides by d_k", message="Divided by d_k.")]
    rows += [result(student="s4", status="passed", points=4, misconception=None)]
    page = class_page(rows)
    text = " ".join("".join(Seen(page).text).split())
    assert "5 students handed in · median 0 of 4 points" in text
    assert text.index("3× no scaling") < text.index("1× divides by d_k")
    assert "20%" in text
    assert 'class="w20"' in page and ".w20{width:20%}" in page


def test_the_class_page_links_to_the_pages_by_safe_addresses() -> None:
    page = class_page([result(student='../a b"/javascript:x', check="a b")])
    assert f'href="./..%2Fa%20b%22%2Fjavascript%3Ax/transformer-week2/attention.html#{anchor("a b")}"' in page
    assert_harmless(page)


def test_the_last_of_several_results_about_a_check_counts_in_the_class() -> None:
    text = "".join(Seen(class_page([result(), result(status="passed", points=4, misconception=None)])).text)
    assert "100%" in text and "1 student handed in" in text


def test_a_class_without_results_is_an_empty_page() -> None:
    assert "0 students" in class_page([])


def test_a_thousand_students_are_one_page_in_seconds() -> None:
    rows = [result(student=f"s{s}", check=f"c{c}") for s in range(1000) for c in range(8)]
    assert len(class_page(rows)) < 3_000_000
