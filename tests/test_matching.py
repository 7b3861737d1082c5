"""The learner's cells are found whatever happened to the notebook, and what happened is said; nothing is executed."""

from __future__ import annotations

import copy
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autograder import matching
from autograder.matching import (
    Match,
    ReleaseCell,
    UnreadableSubmission,
    assemble,
    match,
    notebook_from,
    read_submission,
)

STUBS = {
    "softmax": 'def softmax(x, dim):\n    """Softmax of `x` over `dim`."""\n    raise NotImplementedError("implement softmax")',
    "attention": 'def attention(q, k, v, mask=None):\n    """(B, L, d) queries, keys, values -> (output, weights)."""\n'
    '    raise NotImplementedError("implement attention")',
    "Head": "class Head(nn.Module):\n    def __init__(self, width):\n        super().__init__()\n"
    '        raise NotImplementedError("implement Head.__init__")\n\n    def forward(self, x):\n'
    '        raise NotImplementedError("implement Head.forward")',
}
ANSWERS = {
    "softmax": 'def softmax(x, dim):\n    """Softmax of `x` over `dim`."""\n    e = torch.exp(x - x.max(dim, keepdim=True).values)\n'
    "    return e / e.sum(dim, keepdim=True)",
    "attention": 'def attention(q, k, v, mask=None):\n    """(B, L, d) queries, keys, values -> (output, weights)."""\n'
    "    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])\n    weights = softmax(scores, -1)\n"
    "    return weights @ v, weights",
    "Head": "class Head(nn.Module):\n    def __init__(self, width):\n        super().__init__()\n"
    "        self.w_q = nn.Linear(width, width)\n\n    def forward(self, x):\n"
    "        q = self.w_q(x)\n        return attention(q, x, x)[0]",
}
QUESTION = "**Question.** Why are the scores divided by the square root of the width of the keys?\n\nYOUR ANSWER HERE"
ANSWER = QUESTION.replace("YOUR ANSWER HERE", "Their variance grows with the width, and softmax saturates.")
IMPORTS = "import math\n\nimport torch\nfrom torch import nn"


def check_source(name: str, *, hidden: bool = False) -> str:
    source = f'@check("{name}", points=2)\ndef _(case):\n    case.call("tiny", {name}, case.normal(2, 2))'
    return source + (f'\n    case.call("hidden", {name}, case.normal(3, 4))' if hidden else "")


def release() -> list[ReleaseCell]:
    """Three exercises with checks, pictures and prose, and one written question."""
    cells = [
        ReleaseCell("prose", None, None, "title", "# Attention", "# Attention"),
        ReleaseCell("setup", None, "setup", "setup", "import autograder\nautograder.begin('week', 'attention')", ""),
        ReleaseCell("plain", None, "imports", "imports", IMPORTS, IMPORTS),
        ReleaseCell("parameters", None, "parameters", "parameters", 'PROFILE = "quick"\nSEED = 0', ""),
    ]
    for name, stub in STUBS.items():
        shown, graded = check_source(name), check_source(name, hidden=True)
        cells += [
            ReleaseCell("prose", None, None, f"about-{name}", f"## {name}\n\nEquation.", f"## {name}\n\nEquation."),
            ReleaseCell("exercise", name, name, f"exercise-{name}", stub, stub),
            ReleaseCell("check", name, f"check-{name}", f"check-{name}", shown, graded),
            ReleaseCell("picture", None, None, f"picture-{name}", f"plot({name})", f"plot({name})"),
        ]
    cells.append(ReleaseCell("written", "why-scale", "why-scale", "why-scale", QUESTION, QUESTION))
    return [
        cell
        if cell.graded_source
        else ReleaseCell(cell.role, cell.name, cell.grade_id, cell.cell_id, cell.source, cell.source)
        for cell in cells
    ]


RELEASE = release()


def submitted(sources: dict[str, str] | None = None) -> dict[str, Any]:
    """The notebook file a learner hands in, every exercise solved unless `sources` says otherwise."""
    sources = {**ANSWERS, "why-scale": ANSWER, **(sources or {})}
    cells = []
    for cell in RELEASE:
        kind = "markdown" if cell.role in ("prose", "written") else "code"
        node: dict[str, Any] = {"cell_type": kind, "id": cell.cell_id, "metadata": {}}
        node["source"] = (
            sources.get(cell.name or "", cell.source) if cell.role in ("exercise", "written") else cell.source
        )
        if cell.grade_id:
            node["metadata"] = {"nbgrader": {"grade_id": cell.grade_id, "locked": cell.role == "check", "points": 2}}
        if kind == "code":
            node |= {
                "execution_count": None,
                "outputs": [{"output_type": "stream", "name": "stdout", "text": "passed"}],
            }
        cells.append(node)
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"language": "python"}}, "cells": cells}


def matched(raw: dict[str, Any]) -> Match:
    return match(notebook_from(json.loads(json.dumps(raw))), RELEASE)


def cell_of(raw: dict[str, Any], cell_id: str) -> dict[str, Any]:
    return next(cell for cell in raw["cells"] if cell.get("id") == cell_id)


def place_of(raw: dict[str, Any], cell_id: str) -> int:
    return next(at for at, cell in enumerate(raw["cells"]) if cell.get("id") == cell_id)


def code(source: str, **more: Any) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None, **more}


def text(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def without_metadata(raw: dict[str, Any]) -> dict[str, Any]:
    raw = copy.deepcopy(raw)
    for cell in raw["cells"]:
        cell["metadata"] = {}
        cell.pop("id", None)
    return raw


def planned(found: Match) -> list[tuple[str, str]]:
    return [(cell.role, cell.source) for cell in assemble(found, RELEASE)]


def flagged(found: Match, kind: str) -> bool:
    return any(flag.startswith(f"{kind}:") for flag in found.flags)


def sources(found: Match) -> dict[str, str]:
    return {name: found.found[name].source for name in ANSWERS}


PLAN = [
    ("setup", RELEASE[1].source),
    ("plain", IMPORTS),
    ("parameters", RELEASE[3].source),
    *(pair for name in ANSWERS for pair in (("exercise", ANSWERS[name]), ("check", check_source(name, hidden=True)))),
]


# --- the plan ----------------------------------------------------------------------------------------------------


def test_an_untouched_notebook_runs_the_learners_exercises_between_the_releases_own_cells():
    found = matched(submitted())
    assert planned(found) == PLAN
    assert found.flags == [] and found.free == []
    assert {cell.matched_by for cell in found.found.values()} == {"grade_id"}
    assert found.found["why-scale"].source == ANSWER


def test_a_notebook_without_metadata_and_ids_is_matched_by_name_and_runs_the_same():
    found = matched(without_metadata(submitted()))
    assert planned(found) == PLAN
    assert [found.found[name].matched_by for name in ANSWERS] == ["name"] * 3
    assert found.found["why-scale"].matched_by == "similarity" and found.found["why-scale"].source == ANSWER
    assert flagged(found, "metadata")


def test_ids_alone_are_enough_even_where_colab_keeps_them_in_the_metadata():
    raw = submitted()
    for cell in raw["cells"]:
        cell["metadata"] = {"id": cell.pop("id"), "outputId": "abc", "colab": {"base_uri": "https://localhost/"}}
    raw["metadata"] = {"colab": {"provenance": []}, "accelerator": "GPU"}
    raw["nbformat_minor"] = 0
    found = matched(raw)
    assert planned(found) == PLAN
    assert {cell.matched_by for cell in found.found.values()} == {"cell_id"}


def test_a_notebook_as_released_is_found_and_not_attempted():
    found = matched(submitted({**STUBS, "why-scale": QUESTION}))
    assert all("not attempted" in " ".join(cell.notes) for cell in found.found.values())
    assert sources(found) == STUBS


def test_an_exercise_that_was_deleted_leaves_nothing_in_the_plan_and_is_named():
    raw = submitted()
    del raw["cells"][place_of(raw, "exercise-attention")]
    found = matched(raw)
    assert found.found["attention"].matched_by == "missing" and flagged(found, "missing")
    assert planned(found) == [pair for pair in PLAN if pair != ("exercise", ANSWERS["attention"])]


def test_an_emptied_exercise_cell_is_reported_as_empty():
    found = matched(submitted({"attention": "  \n"}))
    assert found.found["attention"].matched_by == "missing"
    assert "is empty" in found.found["attention"].notes[0]


def test_deleted_checks_are_the_releases_and_said_to_be_missing():
    raw = submitted()
    raw["cells"] = [cell for cell in raw["cells"] if not cell["id"].startswith("check-")]
    found = matched(raw)
    assert planned(found) == PLAN and flagged(found, "missing")


def test_edited_checks_set_up_and_parameters_are_not_believed():
    raw = submitted()
    cell_of(raw, "check-softmax")["source"] = '@check("softmax", points=99)\ndef _(case):\n    pass'
    cell_of(raw, "setup")["source"] = "print('no set-up')"
    cell_of(raw, "parameters")["source"] = 'PROFILE = "full"\nSEED = 1'
    found = matched(raw)
    assert planned(found) == PLAN
    assert sum(flag.startswith("edited:") for flag in found.flags) == 3


@pytest.mark.parametrize("cell_id", ["setup", "parameters", "imports", "picture-softmax", "check-softmax"])
def test_an_import_added_to_a_released_cell_still_runs(cell_id):
    raw = submitted()
    cell_of(raw, cell_id)["source"] += "\nimport random"
    found = matched(raw)
    own = [source for role, source in planned(found) if role == "free"]
    assert len(own) == 1 and "import random" in own[0]
    assert "SEED" not in own[0] and "begin" not in own[0] and "@check" not in own[0]


def test_playing_with_a_picture_adds_nothing_to_the_run():
    raw = submitted()
    cell_of(raw, "picture-softmax")["source"] = "plot(softmax, temperature=3)"
    assert planned(matched(raw)) == PLAN


def test_helper_cells_and_imports_keep_their_places():
    raw = submitted()
    raw["cells"].insert(place_of(raw, "exercise-attention"), code("def scale(x):\n    return x / 2"))
    raw["cells"].insert(0, code("import random"))
    found = matched(raw)
    plan = planned(found)
    assert plan.index(("free", "import random")) == 1
    assert plan[plan.index(("exercise", ANSWERS["attention"])) - 1] == ("free", "def scale(x):\n    return x / 2")
    assert [pair for pair in plan if pair[0] != "free"] == PLAN


def test_methods_patched_on_in_a_later_cell_run_after_their_class():
    raw = submitted()
    patch = "def forward(self, x):\n    return x\n\nHead.forward = forward"
    raw["cells"].insert(place_of(raw, "exercise-Head") + 1, code(patch))
    plan = planned(matched(raw))
    assert plan[plan.index(("exercise", ANSWERS["Head"])) + 1] == ("free", patch)
    assert flagged(matched(raw), "split")


@pytest.mark.parametrize(
    "again",
    ["attention = torch.compile(attention)", "class Head(Head):\n    def forward(self, x):\n        return x"],
)
def test_a_definition_built_on_the_first_one_does_not_replace_it(again):
    raw = submitted()
    name = "Head" if "Head" in again else "attention"
    raw["cells"].insert(place_of(raw, f"exercise-{name}") + 1, code(again))
    found = matched(raw)
    assert sources(found) == ANSWERS
    plan = planned(found)
    assert plan[plan.index(("exercise", ANSWERS[name])) + 1] == ("free", again)


# --- several cells for one exercise ------------------------------------------------------------------------------


@pytest.mark.parametrize("below", [True, False])
def test_a_solution_next_to_the_stub_wins_over_the_stub(below):
    raw = submitted({"softmax": STUBS["softmax"]})
    raw["cells"].insert(place_of(raw, "exercise-softmax") + below, code(ANSWERS["softmax"]))
    found = matched(raw)
    assert planned(found) == PLAN and flagged(found, "duplicate")
    assert found.found["softmax"].matched_by == "name"


def test_a_later_version_before_the_check_wins_and_one_after_it_does_not():
    old, new = ANSWERS["softmax"].replace("max(dim", "amax(dim"), ANSWERS["softmax"]
    raw = submitted({"softmax": old})
    raw["cells"].insert(place_of(raw, "exercise-softmax") + 1, code(new))
    found = matched(raw)
    assert sources(found) == ANSWERS and flagged(found, "duplicate")
    plan = planned(found)  # the older one runs as it did in the learner's notebook, and is overruled
    assert plan.index(("free", old)) < plan.index(("exercise", new))

    raw = submitted()
    raw["cells"].append(code(old))
    found = matched(raw)
    assert sources(found) == ANSWERS and flagged(found, "duplicate")
    plan = planned(found)
    assert plan.index(("free", old)) > plan.index(("check", check_source("softmax", hidden=True)))


def test_identical_copies_run_once():
    raw = submitted()
    raw["cells"].append(copy.deepcopy(cell_of(raw, "exercise-softmax")))
    found = matched(raw)
    assert planned(found) == PLAN and flagged(found, "duplicate")


def test_two_exercises_merged_into_one_cell_run_once_at_the_first_place():
    raw = submitted()
    merged = ANSWERS["softmax"] + "\n\n\n" + ANSWERS["attention"]
    cell_of(raw, "exercise-softmax")["source"] = merged
    del raw["cells"][place_of(raw, "exercise-attention")]
    found = matched(raw)
    assert [pair for pair in planned(found) if pair[0] == "exercise"] == [
        ("exercise", merged),
        ("exercise", ANSWERS["Head"]),
    ]
    assert found.found["attention"].cell == found.found["softmax"].cell and flagged(found, "merged")


def test_an_exercise_merged_with_its_check_loses_the_check_alone():
    raw = submitted()
    cell_of(raw, "exercise-softmax")["source"] += "\n\n" + check_source("softmax")
    del raw["cells"][place_of(raw, "check-softmax")]
    found = matched(raw)
    assert planned(found) == PLAN


def test_a_whole_notebook_merged_into_one_cell_keeps_every_exercise():
    raw = submitted()
    whole = "\n\n".join(cell["source"] for cell in raw["cells"] if cell["cell_type"] == "code")
    raw["cells"] = [code(whole)]
    found = matched(raw)
    plan = planned(found)
    assert {cell.matched_by for name, cell in found.found.items() if name in ANSWERS} == {"name"}
    assert [role for role, _ in plan].count("exercise") == 1 and [role for role, _ in plan].count("check") == 3
    assert all("@check" not in source for role, source in plan if role != "check")
    assert all(answer in plan[[role for role, _ in plan].index("exercise")][1] for answer in ANSWERS.values())


def test_a_cell_split_in_two_runs_both_parts_in_order():
    raw = submitted({"attention": "def scale(x):\n    return x / 2"})
    raw["cells"].insert(place_of(raw, "exercise-attention") + 1, code(ANSWERS["attention"]))
    plan = planned(matched(raw))
    at = plan.index(("exercise", ANSWERS["attention"]))
    assert plan[at - 1] == ("free", "def scale(x):\n    return x / 2")


def test_exercises_in_another_order_run_in_the_releases_order():
    raw = submitted()
    first, last = place_of(raw, "exercise-softmax"), place_of(raw, "exercise-Head")
    raw["cells"][first], raw["cells"][last] = raw["cells"][last], raw["cells"][first]
    found = matched(raw)
    assert planned(found) == PLAN and flagged(found, "moved")


def test_an_unused_version_never_runs_between_the_one_that_is_used_and_its_check():
    raw = submitted()
    raw["cells"][place_of(raw, "check-softmax")] = code(ANSWERS["softmax"].replace("max(dim", "amax(dim"))
    found = matched(raw)
    assert planned(found) == PLAN and flagged(found, "duplicate")


def test_a_merged_cell_overruled_for_one_exercise_runs_before_the_later_version():
    merged = "def softmax(x, dim):\n    return x\n\n\n" + ANSWERS["attention"]
    raw = submitted({"softmax": merged})
    del raw["cells"][place_of(raw, "exercise-attention")]
    raw["cells"].insert(place_of(raw, "exercise-softmax") + 1, code(ANSWERS["softmax"]))
    plan = planned(matched(raw))
    assert plan.index(("exercise", merged)) < plan.index(("exercise", ANSWERS["softmax"]))


def test_a_solution_above_a_stub_in_the_same_cell_wins_and_the_stub_is_left_out():
    for name in ("softmax", "Head"):
        found = matched(submitted({name: f"{ANSWERS[name]}\n\n{STUBS[name]}"}))
        assert STUBS[name] not in found.found[name].source and ANSWERS[name] in found.found[name].source
        assert flagged(found, "duplicate")


def test_a_stub_next_to_other_work_in_its_cell_does_not_undo_the_solution():
    raw = submitted({"Head": f"{STUBS['softmax']}\n\n{ANSWERS['Head']}"})
    raw["cells"].insert(place_of(raw, "exercise-softmax"), code(ANSWERS["softmax"]))
    assert [squeeze(source) for _, source in planned(matched(raw))] == [squeeze(source) for _, source in PLAN]


# --- cells that were changed in kind or name -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["markdown", "raw", "something-else"])
def test_an_exercise_that_became_text_is_still_taken_as_code(kind):
    raw = submitted()
    cell_of(raw, "exercise-softmax")["cell_type"] = kind
    found = matched(raw)
    assert planned(found) == PLAN and flagged(found, "retyped")


def test_prose_that_became_code_and_an_answer_that_became_code_do_no_harm():
    raw = submitted()
    for cell in raw["cells"]:
        cell["cell_type"] = "code"
    found = matched(raw)
    assert planned(found) == PLAN
    assert found.found["why-scale"].source == ANSWER and flagged(found, "retyped")


@pytest.mark.parametrize("marked", [True, False])
def test_a_renamed_function_is_the_exercises_cell_and_its_new_name_is_told(marked):
    raw = submitted({"attention": ANSWERS["attention"].replace("def attention(", "def my_attention(")})
    found = matched(raw if marked else without_metadata(raw))
    assert found.found["attention"].matched_by == ("grade_id" if marked else "similarity")
    assert "defines my_attention, not attention" in found.found["attention"].notes[0]
    assert flagged(found, "renamed")


def test_marks_of_another_exercise_on_a_cell_are_not_believed():
    raw = submitted()
    a, b = cell_of(raw, "exercise-softmax"), cell_of(raw, "exercise-attention")
    a["metadata"], b["metadata"] = b["metadata"], a["metadata"]
    a["id"], b["id"] = b["id"], a["id"]
    found = matched(raw)
    assert planned(found) == PLAN
    assert found.found["softmax"].matched_by == "name"


def test_marks_of_a_deleted_exercise_on_another_one_do_not_stand_for_it():
    raw = submitted()
    cell_of(raw, "exercise-softmax")["metadata"] = cell_of(raw, "exercise-attention")["metadata"]
    del raw["cells"][place_of(raw, "exercise-attention")]
    found = matched(raw)
    assert found.found["attention"].matched_by == "missing" and found.found["softmax"].source == ANSWERS["softmax"]


def test_marks_of_an_exercise_on_a_check_do_not_make_the_check_an_exercise():
    raw = submitted()
    cell_of(raw, "check-softmax")["metadata"]["nbgrader"]["grade_id"] = "softmax"
    assert planned(matched(raw)) == PLAN


@pytest.mark.parametrize("line", ["%matplotlib inline", "!pip install einops", "x = !ls", "softmax?", "%time y = 1"])
def test_magics_and_shell_lines_do_not_hide_an_exercise_and_are_kept(line):
    source = f"{line}\n{ANSWERS['softmax']}"
    found = matched(without_metadata(submitted({"softmax": source})))
    assert found.found["softmax"].source == source and found.found["softmax"].matched_by == "name"


def test_a_cell_magic_that_runs_its_body_does_not_hide_an_exercise():
    source = f"%%time\n{ANSWERS['softmax']}"
    found = matched(without_metadata(submitted({"softmax": source})))
    assert found.found["softmax"].source == source and not found.found["softmax"].notes


def test_an_exercise_with_a_syntax_error_is_found_by_its_name():
    source = "def softmax(x, dim):\n    return x /"
    found = matched(without_metadata(submitted({"softmax": source})))
    assert found.found["softmax"].source == source and found.found["softmax"].matched_by == "name"


# --- written answers -----------------------------------------------------------------------------------------------


def test_an_answer_written_below_its_question_belongs_to_it_with_its_pictures():
    raw = submitted({"why-scale": QUESTION})
    raw["cells"].append(text("Because of the variance.") | {"attachments": {"a.png": {"image/png": "aGk="}}})
    found = matched(raw).found["why-scale"]
    assert found.source.endswith("Because of the variance.")
    assert found.attachments == {"a.png": {"image/png": "aGk="}}


def test_a_lost_question_is_reported_as_missing():
    raw = submitted()
    del raw["cells"][place_of(raw, "why-scale")]
    found = matched(raw)
    assert found.found["why-scale"].matched_by == "missing" and flagged(found, "missing")


# --- another notebook ----------------------------------------------------------------------------------------------


def another_notebook() -> dict[str, Any]:
    raw = submitted()
    for cell in raw["cells"]:
        if cell["id"] != "setup":
            cell["id"] = "other-" + cell["id"]
            cell["metadata"] = {"nbgrader": {"grade_id": cell["id"]}}
            for name in (*ANSWERS, "Attention", "Question"):
                cell["source"] = cell["source"].replace(name, "generator" + name[:1])
    return raw


@pytest.mark.parametrize("stripped", [False, True])
def test_another_weeks_notebook_is_told_and_nothing_of_it_runs(stripped):
    raw = another_notebook()
    raw["cells"] = [
        cell for cell in raw["cells"] if cell["cell_type"] == "code" and "def _(case)" not in cell["source"]
    ]
    for cell in raw["cells"]:
        if cell["id"].startswith("other-exercise"):
            cell["source"] = (
                "class Discriminator(nn.Module):\n    def forward(self, image):\n        return self.net(image)"
            )
    found = matched(without_metadata(raw) if stripped else raw)
    assert found.flags[0].startswith("another notebook:")
    assert {cell.matched_by for cell in found.found.values()} == {"missing"}
    assert planned(found) == [pair for pair in PLAN if pair[0] != "exercise"]


def test_a_notebook_without_cells_has_every_exercise_missing():
    found = matched({"nbformat": 4, "cells": []})
    assert {cell.matched_by for cell in found.found.values()} == {"missing"}


# --- disguises, at random ------------------------------------------------------------------------------------------


def strip_metadata(raw: dict[str, Any], draw: random.Random) -> None:
    for cell in raw["cells"]:
        cell["metadata"] = {}


def strip_ids(raw: dict[str, Any], draw: random.Random) -> None:
    for cell in raw["cells"]:
        cell.pop("id", None)


def damage_ids(raw: dict[str, Any], draw: random.Random) -> None:
    for cell in raw["cells"]:
        cell["id"] = draw.choice(["same", "", None, 7, "not valid!", "x" * 99, cell.get("id")])


def colab(raw: dict[str, Any], draw: random.Random) -> None:
    for cell in raw["cells"]:
        cell["metadata"] = cell["metadata"] | {"id": cell.pop("id", None) or "aZ09_-", "outputId": "1234", "colab": {}}
    raw["nbformat_minor"] = 0


def split_lines(raw: dict[str, Any], draw: random.Random) -> None:
    for cell in raw["cells"]:
        if isinstance(cell["source"], str):
            cell["source"] = cell["source"].replace("\n", draw.choice(["\n", "\r\n"])).splitlines(keepends=True)


def retype(raw: dict[str, Any], draw: random.Random) -> None:
    """White space and comments, as when a cell is typed again."""
    for cell in raw["cells"]:
        if cell["cell_type"] == "code" and isinstance(cell["source"], str):
            lines = cell["source"].split("\n")
            cell["source"] = "\n".join(line + draw.choice(["", "  ", "  # mine"]) for line in lines) + "\n\n# end"


def duplicate(raw: dict[str, Any], draw: random.Random) -> None:
    for _ in range(draw.randint(1, 3)):
        raw["cells"].insert(draw.randint(0, len(raw["cells"])), copy.deepcopy(draw.choice(raw["cells"])))


def reorder(raw: dict[str, Any], draw: random.Random) -> None:
    draw.shuffle(raw["cells"])


def delete_the_releases(raw: dict[str, Any], draw: random.Random) -> None:
    raw["cells"] = [cell for cell in raw["cells"] if is_work(cell) or draw.random() < 0.5]


def add_cells(raw: dict[str, Any], draw: random.Random) -> None:
    for source in (
        "import random",
        "print('hello')",
        "this is no Python",
        "",
        "# nothing",
        "def help(x):\n    return x",
    ):
        raw["cells"].insert(draw.randint(0, len(raw["cells"])), code(source))


def add_stubs(raw: dict[str, Any], draw: random.Random) -> None:
    for stub in STUBS.values():
        raw["cells"].insert(draw.randint(0, len(raw["cells"])), code(stub))


def downgrade(raw: dict[str, Any], draw: random.Random) -> None:
    raw["nbformat_minor"] = draw.randint(0, 4)
    strip_ids(raw, draw)


def to_version_3(raw: dict[str, Any], draw: random.Random) -> None:
    for cell in raw["cells"]:
        if cell["cell_type"] == "code":
            cell["input"] = cell.pop("source")
    raw["worksheets"] = [{"cells": raw.pop("cells")}]
    raw["nbformat"] = 3


def merge(raw: dict[str, Any], draw: random.Random) -> None:
    """Merge two neighbours of a kind, as the editors do it: the first one's metadata stays."""
    cells = raw["cells"]
    pairs = [at for at in range(len(cells) - 1) if cells[at]["cell_type"] == cells[at + 1]["cell_type"] == "code"]
    if pairs and all(isinstance(cell["source"], str) for cell in cells):
        at = draw.choice(pairs)
        cells[at]["source"] += "\n\n" + cells.pop(at + 1)["source"]


def wrong_kind(raw: dict[str, Any], draw: random.Random) -> None:
    draw.choice(raw["cells"])["cell_type"] = draw.choice(["raw", "markdown", "code", "nonsense"])


def shout(raw: dict[str, Any], draw: random.Random) -> None:
    """Metadata that asks for things."""
    for cell in raw["cells"]:
        cell["metadata"] = cell["metadata"] | {"tags": ["skip-execution", "parameters", "injected-parameters"]}
        if isinstance(cell["metadata"].get("nbgrader"), dict):
            cell["metadata"]["nbgrader"] |= {"points": 10**9, "grade": True, "solution": True, "locked": False}
    raw["metadata"] = {"kernelspec": {"name": "bash", "language": "bash"}}


def is_work(cell: dict[str, Any]) -> bool:
    source = "".join(cell["source"])
    return any(f"{kind} {name}(" in source for name in ANSWERS for kind in ("def", "class")) or "Question" in source


DISGUISES = [
    strip_metadata, strip_ids, damage_ids, colab, retype, duplicate, reorder, delete_the_releases, add_cells, add_stubs,
    downgrade, merge, wrong_kind, shout, split_lines,
]  # fmt: skip


def defined_in_order(found: Match) -> list[str]:
    """What the plan's exercise cells define, by the words of the solutions alone, and the checks in between."""
    told = []
    for role, source in planned(found):
        if role == "check":
            told.append("check " + source.partition('"')[2].partition('"')[0])
        if role == "exercise":
            told += [name for name, answer in ANSWERS.items() if squeeze(answer) in squeeze(source)]
    return told


def squeeze(source: str) -> str:
    return "".join(line.split("#")[0].strip() for line in source.splitlines())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(DISGUISES), min_size=1, max_size=5), st.booleans(), st.integers(0, 10**6))
def test_right_work_in_any_disguise_is_planned_before_its_check(disguises, old_format, seed):
    raw, draw = submitted(), random.Random(seed)
    for disguise in disguises:
        disguise(raw, draw)
    if old_format:
        to_version_3(raw, draw)
    notebook = notebook_from(json.loads(json.dumps(raw)))
    nbformat.validate(copy.deepcopy(notebook))
    found = match(notebook, RELEASE)
    told = defined_in_order(found)
    for name in ANSWERS:
        assert name in told and told.index(name) < told.index(f"check {name}"), found.flags
    plan = assemble(found, RELEASE)
    own = [(cell.role, cell.source) for cell in plan if cell.origin == "release"]
    assert own == [pair for pair in PLAN if pair[0] != "exercise"]
    assert all("@check" not in cell.source for cell in plan if cell.origin == "submission")
    assert all(STUBS[name] not in cell.source for name in ANSWERS for cell in plan)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from([strip_metadata, strip_ids, colab, split_lines, downgrade, shout, delete_the_releases]),
        max_size=7,
    ),
    st.integers(0, 10**6),
)
def test_disguises_that_touch_no_source_change_nothing_in_the_plan(disguises, seed):
    raw, draw = submitted(), random.Random(seed)
    for disguise in disguises:
        disguise(raw, draw)
    assert planned(matched(raw)) == PLAN


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([duplicate, reorder, wrong_kind]), min_size=1, max_size=3), st.integers(0, 10**6))
def test_a_disguise_that_changes_the_plan_or_the_exercises_places_is_flagged(disguises, seed):
    raw, draw = submitted(), random.Random(seed)
    for disguise in disguises:
        disguise(raw, draw)
    found = matched(raw)
    names = [name for cell in raw["cells"] for name in ANSWERS if "".join(cell["source"]) == ANSWERS[name]]
    assert planned(found) == PLAN
    assert names == list(ANSWERS) or flagged(found, "moved") or flagged(found, "duplicate")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["cells", "cell_type", "source", "metadata", "id", "nbgrader", "grade_id", "outputs", "attachments", "worksheets", "code"]
    ) | st.text(max_size=5), inner, max_size=5),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(ANYTHING, st.booleans())
def test_any_json_is_read_as_a_valid_notebook_or_refused_in_one_line(raw, wrap):
    try:
        notebook = notebook_from(
            {"cells": [raw, {"cell_type": "code", "source": raw, "metadata": raw}]} if wrap else raw
        )
    except UnreadableSubmission as problem:
        assert "\n" not in str(problem)
    else:
        nbformat.validate(copy.deepcopy(notebook))
        assemble(match(notebook, RELEASE), RELEASE)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.text(alphabet=st.sampled_from(list("def class(x):\n \t@check\"'=%!?#softmax\\\0\ud800é")), max_size=60),
        max_size=6,
    )
)
def test_any_source_is_matched_without_an_error(cells):
    raw = {"cells": [{"cell_type": "code", "source": source} for source in cells]}
    assemble(match(notebook_from(raw), RELEASE), RELEASE)


# --- reading -------------------------------------------------------------------------------------------------------


def written_to(folder: Path, data: bytes | str | dict[str, Any]) -> Path:
    path = folder / "attention.ipynb"
    if isinstance(data, dict):
        data = json.dumps(data)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


GOOD = json.dumps(submitted(), indent=1)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (GOOD[: len(GOOD) // 2], "breaks off"),
        (GOOD[:-2], "breaks off"),
        (GOOD[: GOOD.index("softmax") + 3], "breaks off"),
        (GOOD.replace('"cells": [', '"cells": [,', 1), "not valid JSON"),
        ("<<<<<<< HEAD\n" + GOOD, "web page"),
        ("<!DOCTYPE html><html>", "web page"),
        (b"PK\x03\x04rest of a zip", "archive"),
        (b"\x1f\x8brest of a gzip", "archive"),
        ("print('hello')", "not a notebook"),
        ("[1, 2]", "not a notebook"),
        ("{}", "no list of cells"),
        ('{"cells": {"a": 1}}', "no list of cells"),
        ('{"cells": ' + "[" * 100_000, "nested"),
        ('{"cells": [{"source": ' + '{"a":' * 60_000 + "1" + "}" * 60_000 + "}]}", "nested"),
        ('{"cells": [], "n": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"cells": ["' + '\\"' * 200_000, "breaks off"),
        (b"\x80\x81\x82", "not a notebook"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_with_one_line_that_says_why(tmp_path, data, says):
    with pytest.raises(UnreadableSubmission, match=says) as refused:
        read_submission(written_to(tmp_path, data))
    assert str(refused.value).startswith("attention.ipynb: ") and "\n" not in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_links_folders_pipes_and_absent_files_are_refused(tmp_path):
    target = written_to(tmp_path, GOOD)
    (tmp_path / "link.ipynb").symlink_to(target)
    (tmp_path / "dangling.ipynb").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.ipynb").mkdir()
    os.mkfifo(tmp_path / "pipe.ipynb")
    for name, says in [
        ("link", "link"),
        ("dangling", "link"),
        ("folder", "not an ordinary"),
        ("pipe", "not an ordinary"),
        ("none", "no such"),
    ]:
        with pytest.raises(UnreadableSubmission, match=says):
            read_submission(tmp_path / f"{name}.ipynb")


def test_a_file_over_the_limit_is_refused_without_being_read(tmp_path):
    path = tmp_path / "sparse.ipynb"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnreadableSubmission, match="Clear all outputs"):
        read_submission(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_notebook_in_any_of_the_usual_encodings_is_read(tmp_path, encoding):
    raw = submitted({"why-scale": ANSWER + " √d"})
    found = match(read_submission(written_to(tmp_path, json.dumps(raw, ensure_ascii=False).encode(encoding))), RELEASE)
    assert found.found["why-scale"].source.endswith("√d") and planned(found) == PLAN


def test_a_notebook_with_huge_outputs_is_read_without_them(tmp_path):
    raw = submitted()
    lines = [f'step {step} \\ "loss" [{{\n' for step in range(200_000)]
    cell_of(raw, "exercise-softmax")["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": lines},
        {"output_type": "display_data", "data": {"image/png": "A" * 40_000_000}, "metadata": {"outputs": [[], {}]}},
    ]
    path = written_to(tmp_path, raw)
    start = time.process_time()
    notebook = read_submission(path)
    assert time.process_time() - start < 5
    assert planned(match(notebook, RELEASE)) == PLAN
    assert all(cell.get("outputs", []) == [] for cell in notebook.cells)


def test_copies_of_an_id_are_made_unique_and_the_id_is_kept_aside():
    notebook = notebook_from({"cells": [code("x", id="a"), code("y", id="a"), code("z", id="no good")]})
    assert [cell.id for cell in notebook.cells] == ["a", "cell-2", "cell-3"]
    assert notebook.cells[1].metadata["id"] == "a"


def test_half_a_surrogate_pair_in_a_source_can_be_written_again():
    notebook = notebook_from({"cells": [code("x = '\ud800√'")]})
    assert notebook.cells[0].source.encode() == "x = '?√'".encode()


def test_a_source_that_speaks_of_outputs_is_not_cut(tmp_path):
    source = ANSWERS["softmax"] + '\nkept = {"outputs": [1, 2]}'
    found = match(read_submission(written_to(tmp_path, submitted({"softmax": source}))), RELEASE)
    assert found.found["softmax"].source == source


@pytest.mark.parametrize(
    "data", ['{"cells": [' + "[]," * 3_000_000 + "[]]}", '{"cells": [{"outputs": [' + "[]," * 6_000_000 + "[]]}]}"]
)
def test_a_file_of_nothing_but_brackets_is_refused_early(tmp_path, data):
    path = written_to(tmp_path, data)
    with pytest.raises(UnreadableSubmission, match="too many"):
        read_submission(path)


@pytest.mark.parametrize("minor", range(6))
def test_every_nbformat_4_is_read_as_a_valid_4_5(tmp_path, minor):
    raw = submitted()
    raw["nbformat_minor"] = minor
    if minor < 5:
        strip_ids(raw, random.Random(0))
    notebook = read_submission(written_to(tmp_path, raw))
    nbformat.validate(copy.deepcopy(notebook))
    assert planned(match(notebook, RELEASE)) == PLAN


def test_what_nbformat_itself_writes_as_version_3_is_read(tmp_path):
    old = nbformat.v3.downgrade(nbformat.v4.downgrade(nbformat.from_dict(submitted())))
    found = match(read_submission(written_to(tmp_path, nbformat.v3.writes_json(old))), RELEASE)
    assert planned(found) == PLAN


# --- bounded work --------------------------------------------------------------------------------------------------


HUGE = {
    "ten thousand copies of a solution": [code(ANSWERS["softmax"] + f"\n# {n}") for n in range(10_000)],
    "ten thousand different solutions": [code(f"{ANSWERS['softmax']}\nn = {n}") for n in range(10_000)],
    "ten thousand helpers": [code(f"def help_{n}(q, k, v, mask=None):\n    return q") for n in range(10_000)],
    "ten thousand checks": [code(check_source("softmax") + f"\nn = {n}") for n in range(10_000)],
    "ten thousand questions": [text(f"{QUESTION} {n}") for n in range(10_000)],
    "ten thousand texts": [text(f"def softmax(x, dim): pass # {n}") for n in range(10_000)],
    "a cell of ten megabytes": [code("x = 1\n" * 1_700_000)],
    "a solution of ten megabytes": [code(ANSWERS["softmax"] + "\n" + "#" * 10_000_000)],
    "a line of ten megabytes": [code("a" * 10_000_000)],
    "ten megabytes of spaces": [code(" " * 10_000_000 + "x")],
    "ten megabytes of decorators": [code("@a.b.check" * 1_000_000)],
    "a hundred cells of magics": [code("%time x\n!ls\ny?\n" * 1000) for _ in range(100)],
    "brackets": [code("(" * 90_000), code("[" * 90_000 + "]" * 90_000)],
    "signs": [code("-" * 90_000 + "1"), code("x = " + "not " * 20_000 + "1")],
    "chains": [code("x" + ".a" * 45_000), code("x" + "()" * 45_000), code("x = " + "1+" * 45_000 + "1")],
    "nested blocks": [code("\n".join(" " * n + "if 1:" for n in range(99)) + "\n" + " " * 99 + "pass")],
    "nested checks": [code('@check("softmax")\ndef _(case):\n    x' + "()" * 900)],
    "elifs": [code("if 1: pass\n" + "elif 1: pass\n" * 5_000)],
    "targets": [code("a = " * 20_000 + "1"), code("def f(): 1\n" * 9_000)],
    "a string of brackets": [code("f'" + "{x}" * 30_000 + "'")],
}  # fmt: skip


@pytest.mark.parametrize("cells", HUGE.values(), ids=HUGE.keys())
def test_a_huge_notebook_is_matched_in_bounded_time(cells):
    raw = submitted()
    raw["cells"] += cells
    start = time.process_time()
    notebook = notebook_from(raw)
    found = match(notebook, RELEASE)
    plan = assemble(found, RELEASE)
    assert time.process_time() - start < 6
    assert len(found.flags) <= matching.MAX_FLAGS + 1
    assert sum(cell.role == "check" for cell in plan) == 3
