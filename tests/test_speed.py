"""The learner's loop is quick, and the bench compares like with like. Bars are wide, in CPU time, and met once in four tries: a
loaded machine fails none."""

from __future__ import annotations

from pathlib import Path

import torch

from tests import bench
from tests.conftest import ROOT


def test_importing_the_package_costs_little_beside_torch() -> None:
    def share() -> float:
        torch_alone = bench._import_seconds("import torch")
        return bench._import_seconds("import torch, autograder; autograder.check") / torch_alone - 1

    assert any(share() < 0.5 for _ in range(4)), "0.3 s are meant, beside torch's 1.5 or more"


def test_a_check_costs_little_beside_its_experiment() -> None:
    # The threads of a pool wait for each other by computing, the longer the less of the machine is theirs: one alone is measured.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert any(bench.check_overhead(tries=3) < 0.2 for _ in range(4)), "0.05 s are meant"
    finally:
        torch.set_num_threads(threads)


def test_the_bench_grades_right_wrong_and_blank_notebooks_no_two_alike(tmp_path: Path) -> None:
    paths = bench.make_class(tmp_path / "class", 60)
    assert len(paths) == len({path.read_bytes() for path in paths}) == 60
    kinds = {path.parts[-3].partition("-")[2] for path in paths}
    assert {"perfect", "blank"} < kinds and len(kinds) > 10 and not kinds & set(bench.UNRULY)


def test_the_native_checks_accept_the_reference_and_reject_a_mistake(tmp_path: Path) -> None:
    from autograder import sample_class
    from autograder.build import read_all
    from autograder.checks import answer_of_variant

    [notebook] = read_all(ROOT, ["transformer-week2/scaled_dot_product_attention"])
    namespace: dict = {}
    for cell in notebook.cells:
        if cell.role in ("plain", "parameters", "exercise"):
            exec(compile(cell.source, "<cell>", "exec"), namespace)
    name = "causal_mask"
    source = notebook.exercises[name].source
    answer = answer_of_variant(
        name, source, notebook.checks[name].source, namespace | {"check": bench.check}, bench.SEED
    )
    native = bench.native_check(name, notebook, bench.save_expected(tmp_path / "expected.pt", {name: answer}))
    exec(compile(native, "<native>", "exec"), dict(namespace))
    mistake = sample_class._edits(ROOT, notebook)[name][0]["source"]
    wrong = dict(namespace)
    exec(compile(mistake, "<mistake>", "exec"), wrong)
    try:
        exec(compile(native, "<native>", "exec"), wrong)
    except AssertionError:
        return
    raise AssertionError("the mistake passes")


def test_the_page_says_what_the_bench_measured() -> None:
    text = bench.PAGE.read_text(encoding="utf-8")
    assert text.count(bench.BEGIN) == text.count(bench.END) == 1
    assert "`make bench`" in text
