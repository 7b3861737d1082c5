"""The audit: it is silent about good checks and names each way in which a check can be bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from autograder.audit import Plan, audit
from tests.conftest import SMALL

FAULTS = {
    "a mistake passes": (("return x * x", "return 2 * x"), "passes"),
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


def test_results_are_kept_by_content(course: Path, tmp_path: Path) -> None:
    import time

    def run() -> float:
        began = time.perf_counter()
        audit(course, (), Plan(seeds=1, mutants=False), workers=1, cache=tmp_path / "cache")
        return time.perf_counter() - began

    run()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(kept) == 2
    run()
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == kept
    source = course / "solutions" / "small-week0" / "doubling.py"
    source.write_text(SMALL.replace("double(self.a * x / 2) + self.b", "self.a * x + self.b"))
    run()
    changed = {path.name for path in (tmp_path / "cache").iterdir()} - set(kept)
    assert len(changed) == 1 and "Affine" in changed.pop()
