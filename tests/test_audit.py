"""The audit: it is silent about good checks and names each way in which a check can be bad."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

import autograder.audit as audit_module
from autograder.audit import ExerciseAudit, Plan, audit, drawn, read_kept
from autograder.build import read_all
from autograder.workbench import Bench
from autograder.workers import temporary_files_in_one_folder
from tests.conftest import SMALL


@pytest.fixture
def good_course(course: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small course, with as few variants of an exercise as it has counted as enough."""
    monkeypatch.setattr(audit_module, "MINIMUM", {"mistakes": 0, "alternatives": 0})
    return course


FAULTS = {
    "a mistake passes": (("return x * x", "return 2 * x"), "passes"),
    "a mistake that loses a name": (("return x * x", "return secret_nane * x"), "is a slip in its own source"),
    "two mistakes that cannot be told apart": (("secret_name = 3", "secret_name = 2 * 2 - 1"), None),
    "a right solution is rejected": (("return x + x", "return x + x + 1"), "the right solution “a sum” is wrong"),
    "the reference fails its own check": (
        ("return secret_name * x\n", "return secret_name * x.nonsense\n"),
        "the reference raises",
    ),
    "a check that sees nothing": (
        (
            'case.call("two numbers", double, case.normal(2))\n    case.call("a matrix", double, case.normal(3, 4))',
            'case.call("two numbers", double, torch.zeros(2))',
        ),
        "passes",
    ),
}


def faults(course: Path, mutants: bool = False) -> list[str]:
    return [fault for item in audit(course, (), Plan(seeds=1, mutants=mutants), workers=1) for fault in item.faults]


def test_a_good_check_has_no_fault_but_too_few_variants(course: Path) -> None:
    assert all("only" in fault for fault in faults(course))


@pytest.mark.parametrize(("edit", "says"), FAULTS.values(), ids=FAULTS.keys())
def test_a_bad_check_is_named_with_what_is_bad(course: Path, edit: tuple[str, str], says: str | None) -> None:
    assert edit[0] in SMALL
    (course / "solutions" / "small-week0" / "doubling.py").write_text(SMALL.replace(*edit))
    found = [fault for fault in faults(course) if "only" not in fault]
    assert any(says in fault for fault in found) if says else not found


def test_a_surviving_mutant_is_reported(course: Path) -> None:
    blind = SMALL.replace("case.normal(2)", "torch.tensor([2.0, 0.0])").replace(
        "case.normal(3, 4)", "torch.zeros(3, 4)"
    )
    blind = blind.replace("case.normal(3, dtype=torch.float64)", "torch.zeros(3, dtype=torch.float64)")
    (course / "solutions" / "small-week0" / "doubling.py").write_text(blind)
    assert any("the mutant" in fault and "passes" in fault for fault in faults(course, mutants=True))


def test_results_are_kept_by_content(good_course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    exercise = audit_module.audit_exercise

    def counted(bench: Bench, plan: Plan) -> ExerciseAudit:
        tried.append(bench.name)
        return exercise(bench, plan)

    two_seeds = Plan(seeds=2, mutants=False)

    def run(plan: Plan = two_seeds, again: Sequence[str] = ()) -> list[str]:
        monkeypatch.setattr(audit_module, "audit_exercise", counted)
        monkeypatch.chdir(tmp_path)
        tried.clear()
        key = "small-week0/doubling"
        results = audit_module.audit_notebook(good_course, key, plan, tmp_path / "kept", again)
        assert [item.check for item in results] == ["double", "Affine"]
        assert not [fault for item in results for fault in item.faults]
        return list(tried)

    assert run() == ["double", "Affine"]
    assert run() == []
    assert run(Plan(seeds=1, mutants=False)) == [], "what holds on two seeds holds on one of them"
    assert run(Plan(seeds=3, mutants=False)) == ["double", "Affine"], "three seeds are more than two"
    assert run(again=["Affine"]) == ["Affine"]
    source = good_course / "solutions" / "small-week0" / "doubling.py"
    source.write_text(SMALL.replace("double(self.a * x / 2) + self.b", "self.a * x + self.b"))
    assert run() == ["Affine"]


def test_a_result_with_a_fault_is_not_kept(course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = audit_module.audit_notebook(course, "small-week0/doubling", Plan(1, False), tmp_path / "kept")
    assert all(item.faults for item in results)  # too few variants
    assert read_kept(tmp_path / "kept", "small-week0/doubling") == {}


def test_what_is_tried_again_is_drawn_by_a_text_and_has_the_asked_size(course: Path) -> None:
    notebooks = read_all(course)
    assert drawn(notebooks, 0, "a") == {}
    assert drawn(notebooks, 1, "a") == drawn(notebooks, 1, "a")
    assert {next(iter(drawn(notebooks, 1, str(text)).values()))[0] for text in range(20)} == {"double", "Affine"}
    assert sum(map(len, drawn(notebooks, 99, "a").values())) == 2


def test_a_modules_comments_and_docstrings_do_not_count_and_all_else_does(tmp_path: Path) -> None:
    said = '"""A module."""\n# why\nX = 1\n"""Says what X is."""\ndef f(x):\n    """Twice."""\n    return x * 2\n'
    silent, other = "X = 1\ndef f(x):\n    return x * 2", "X = 1\ndef f(x):\n    return x * 3"
    digests = []
    for number, text in enumerate((said, silent, other)):
        (path := tmp_path / f"{number}.py").write_text(text)
        digests.append(audit_module.code(path))
    assert digests[0] == digests[1] != digests[2]


def test_an_orphan_audits_nothing_more(course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    gone = SimpleNamespace(is_alive=lambda: False)
    monkeypatch.setattr(audit_module.multiprocessing, "parent_process", lambda: gone)
    monkeypatch.setattr(audit_module, "audit_exercise", lambda *_: pytest.fail("it went on"))
    with pytest.raises(SystemExit):
        audit_module.audit_notebook(course, "small-week0/doubling", Plan(1, False))


def test_what_a_killed_process_leaves_behind_goes_with_the_audits_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", before := tempfile.gettempdir())
    source = "import os, tempfile; print(tempfile.mkdtemp(), flush=True); os.kill(os.getpid(), 9)"
    with temporary_files_in_one_folder():
        left = Path(subprocess.run([sys.executable, "-c", source], capture_output=True, text=True).stdout.strip())
        assert left.is_dir() and left.parent.parent == Path(before)
    assert not left.exists() and os.environ["TMPDIR"] == before
