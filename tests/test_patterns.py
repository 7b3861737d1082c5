"""What the differences of a wrong answer have in common, said for mistakes that nobody has listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from autograder.case import Case
from autograder.judge import judge
from autograder.recording import CheckRecording
from tests.test_judge import answer


def said(reference: Callable[..., Any], learners: Callable[..., Any], experiment: Callable[..., None]) -> str | None:
    recording = CheckRecording("f", 4, answer(reference, experiment))
    verdict = judge(answer(learners, experiment), recording)
    assert not verdict.passed
    assert verdict.pattern is None or verdict.message.startswith(verdict.pattern)
    return verdict.pattern


def tensors(case: Case, f: Callable[..., Any]) -> None:
    for rows in (3, 4):
        case.call(f"{rows} rows", f, case.normal(rows, 5))


def squares(case: Case, f: Callable[..., Any]) -> None:
    for size in (3, 4):
        case.call(f"size {size}", f, case.normal(size, size))


@pytest.mark.parametrize(
    ("reference", "learners", "sentence"),
    [
        (torch.tanh, lambda x: -torch.tanh(x), "Every value has the other sign."),
        (torch.tanh, lambda x: 2 * torch.tanh(x), "Every value is 2 times what is expected."),
        (torch.tanh, lambda x: torch.tanh(x) / 3, "Every value is 1/3 times what is expected."),
        (torch.tanh, lambda x: torch.tanh(x) + 1, "Every value is 1 too large."),
        (torch.tanh, lambda x: torch.tanh(x) - 0.25, "Every value is 1/4 too small."),
        (torch.tanh, lambda x: x.clone(), "What comes back is `x` as it came in."),
        (torch.tanh, torch.zeros_like, "Every value is 0."),
        (torch.tanh, torch.ones_like, "Every value is the same, 1."),
        (torch.tanh, lambda x: torch.tanh(x).flip(-1), "The values are in reverse order along axis -1."),
        (torch.tanh, lambda x: torch.tanh(x).roll(1, -2), "The values are moved by one place along axis -2."),
        (lambda x: x > 0, lambda x: x <= 0, "True and False are the other way round."),
    ],
)  # fmt: skip
def test_how_values_are_related(reference: Callable[..., Any], learners: Callable[..., Any], sentence: str) -> None:
    named = learners if isinstance(learners, type(lambda: 0)) else lambda x: learners(x)
    assert said(lambda x: reference(x), named, tensors) == sentence


def test_a_factor_that_depends_on_a_size() -> None:
    assert said(lambda x: x / len(x), lambda x: x * 1.0, tensors) == "What comes back is `x` as it came in."
    found = said(lambda x: x.cos() / len(x), lambda x: x.cos(), tensors)
    assert found == (
        "All values of a result are off by one and the same factor (3 in “3 rows”, 4 in “4 rows”): "
        "a scale, or what is summed or averaged over."
    )


def test_axes_and_places() -> None:
    assert said(lambda x: x.cos(), lambda x: x.cos().T, squares) == "Axes -2 and -1 are exchanged."
    diagonal = said(lambda x: x.cos(), lambda x: x.cos() + torch.diag(x.diag().cosh()), squares)
    assert diagonal == "Only the diagonal differs."

    def last(x: torch.Tensor) -> torch.Tensor:
        y = x.cos()
        y[:, -1] = x[:, 0] * x[:, 1]
        return y

    assert said(lambda x: x.cos(), last, tensors) == "Only the last place along axis -1 differs."


def test_which_result_and_which_cases() -> None:
    def two(case: Case, f: Callable[..., Any]) -> None:
        for kind in ("causal, short", "causal, long", "padded, short", "padded, long"):
            case.call(kind, f, case.normal(4), "causal" in kind, labels=("output", "weights"))

    assert (
        said(lambda x, c: (x.cos(), x.sin()), lambda x, c: (x.cos(), x.sin() * x.cosh()), two)
        == "Wrong: weights. Right in every case: output."
    )
    assert (
        said(lambda x, c: (x.cos(), x.sin()), lambda x, c: (x.cos() * (x if c else 1), x.sin() * (x if c else 1)), two)
        == "Only the cases with “causal” differ."
    )
    assert (
        said(lambda x, c: (x.cos(), x.sin()), lambda x, c: (x.cos(), -x.sin()), two)
        == "Wrong: weights. Right in every case: output. In what is wrong, every value has the other sign."
    )


def test_nothing_is_called_right_beside_another_shape_or_dtype() -> None:
    def two(case: Case, f: Callable[..., Any]) -> None:
        for size in (3, 4, 5):
            case.call(f"size {size}", f, case.normal(size), labels=("output", "weights"))

    def reference(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.cos(), x.sin()

    for spoil in (lambda y: y[:2], lambda y: y.double()):
        found = said(
            reference, lambda x, spoil=spoil: (spoil(x.cos()) if len(x) == 4 else x.cos(), x.sin() * x.cosh()), two
        )
        assert found is None


def test_right_to_a_few_digits_is_no_factor_of_one_and_no_other_place() -> None:
    def doubles(case: Case, f: Callable[..., Any]) -> None:
        for rows in (3, 4):
            case.call(f"{rows} rows", f, case.normal(rows, 5, dtype=torch.float64), policy={"tol": 1e-9})

    found = said(lambda x: x.cos(), lambda x: x.float().cos().double(), doubles)
    assert found == "Every value is right to about 7 digits: something is computed in float32 on the way."
    found = said(lambda x: x.cos(), lambda x: x.cos() * (1 + 5e-4 * x.sin()), tensors)
    assert found == (
        "Every value is right to about 3 digits, not more: "
        "something small is added or left out, or computed in a lower precision on the way."
    )
    # a factor that can be told is told, however near to 1
    assert said(lambda x: x.cos(), lambda x: x.cos() * 1.001, tensors) == "Every value is 1.001 times what is expected."


def test_a_given_infinity_is_not_like_everything() -> None:
    def rows(case: Case, f: Callable[..., Any]) -> None:
        for some in (3, 4):
            x = case.normal(some, 5)
            x[0, 0] = float("-inf")
            case.call(f"{some} rows", f, x)

    assert said(lambda x: x.exp().cos(), torch.zeros_like, rows) == "Every value is 0."


def test_words_that_stand_apart_are_no_phrase_and_letters_are_no_words() -> None:
    def cases(*names: str) -> Callable[[Case, Callable[..., Any]], None]:
        def experiment(case: Case, f: Callable[..., Any]) -> None:
            for name in names:
                case.call(name, f, case.normal(4), "n = 2" in name or "causal" in name)

        return experiment

    def wrong_in(x: torch.Tensor, c: bool) -> torch.Tensor:
        return x.cos() * x.cosh() if c else x.cos()

    names = ("causal mask, short", "causal mask, long", "padded, short", "padded, long")
    assert said(lambda x, c: x.cos(), wrong_in, cases(*names)) == "Only the cases with “causal mask” differ."
    names = ("causal, one bias", "causal, a bias", "padded, short", "padded, long")
    assert said(lambda x, c: x.cos(), wrong_in, cases(*names)) == "Only the cases with “causal” and “bias” differ."
    names = ("n = 2, short", "n = 2, long", "m, short", "m, long")
    assert said(lambda x, c: x.cos(), wrong_in, cases(*names)) is None


def test_nothing_is_said_of_chance() -> None:
    def one(case: Case, f: Callable[..., Any]) -> None:
        case.call("a number", f, 3.0)

    assert said(lambda x: x, lambda x: 2 * x, one) is None  # any one number is some factor of another
    assert said(lambda x: x.cos(), lambda x: x.exp() - x**2, tensors) is None


def test_an_error_and_a_shape_speak_for_themselves() -> None:
    def fails(x: torch.Tensor) -> torch.Tensor:
        raise ValueError("no")

    assert said(lambda x: x, fails, tensors) is None
    assert said(lambda x: x, lambda x: x[:1], tensors) is None
    # NaN and infinity are no relation between values
    assert said(lambda x: x, lambda x: x / 0, tensors) is None
