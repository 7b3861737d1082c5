"""The judge: what passes, what does not, what it says, and that it crashes on nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autograder.answer import MAX_BYTES, Answer, UnreadableAnswer, decode, encode
from autograder.case import Case
from autograder.judge import judge
from autograder.recording import CheckRecording, Mistake


def answer(
    function: Callable[..., Any], experiment: Callable[[Case, Callable[..., Any]], None], seed: int = 5
) -> Answer:
    case = Case("f", seed)
    try:
        experiment(case, function)
    except Exception as error:  # as the check does
        case.fail(error)
    return decode(encode(case.answer()))


def plain(case: Case, f: Callable[..., Any]) -> None:
    case.call("two numbers", f, case.normal(2))
    case.call("a matrix", f, case.normal(3, 4))
    case.call("half precision", f, case.normal(3, 4, dtype=torch.bfloat16))


def right(x: torch.Tensor) -> torch.Tensor:
    return x.exp()


def recording(experiment: Callable[..., None] = plain, **mistakes: Callable[..., Any]) -> CheckRecording:
    wrong = tuple(Mistake(name, f"You made the mistake {name}.", answer(f, experiment)) for name, f in mistakes.items())
    reference = answer(right, experiment)
    return CheckRecording("f", 4, reference, wrong, paper="equation 1", stubs={"implement f": "f", "implement g": "g"})


RIGHT: dict[str, Callable[..., Any]] = {
    "another formula": lambda x: torch.e**x,
    "float64 inside": lambda x: x.double().exp().to(x.dtype),
    "not contiguous": lambda x: x.t().exp().t() if x.dim() == 2 else x.exp(),
    "requires grad": lambda x: x.exp().requires_grad_(),
    "a Parameter": lambda x: torch.nn.Parameter(x.exp()),
}


@pytest.mark.parametrize("function", RIGHT.values(), ids=RIGHT.keys())
def test_a_right_answer_passes_however_it_is_written(function: Callable[..., Any]) -> None:
    verdict = judge(answer(function, plain), recording())
    assert verdict.passed and verdict.points == 4, verdict.message


WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "values": (lambda x: x.exp() * 1.01, "values differ"),
    "shape": (lambda x: x.exp()[None], "has shape (1, 2); expected (2,)"),
    "dtype": (lambda x: x.exp().double(), "has dtype float64; expected float32"),
    "NaN": (lambda x: x.log() * torch.nan, "NaN"),
    "infinity": (lambda x: x.exp() + torch.inf, "differ"),
    "None": (lambda x: None, "is there a `return`?"),
    "a numpy array": (lambda x: x.float().exp().numpy(), "numpy array"),
    "a list": (lambda x: x.exp().tolist(), "expected one result"),
    "one in a list": (lambda x: [x.exp()], "expected one result by itself, found a list, tuple or dict that holds one"),
    "a pair": (lambda x: (x.exp(), x), "expected one result, found 2"),
    "a number": (lambda x: 3.0, "expected a float32 tensor"),
    "no elements": (lambda x: x[:0], "has shape"),
    "an object": (lambda x: object(), "object"),
    "integers": (lambda x: x.exp().long(), "has dtype int64"),
    "changes its input": (lambda x: x.exp_(), "in place"),
    "raises": (lambda x: x.nonsense(), "AttributeError"),
    "exits": (lambda x: (_ for _ in ()).throw(ValueError("no")), "ValueError: no"),
    "half precision in single": (
        lambda x: x.exp() if x.dtype == torch.float32 else x.float().exp(),
        "has dtype float32",
    ),
}


@pytest.mark.parametrize(("function", "says"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_answer_gets_nothing_and_a_reason(function: Callable[..., Any], says: str) -> None:
    verdict = judge(answer(function, plain), recording(other=lambda x: x, empty=lambda x: x[:0]))
    assert not verdict.passed and verdict.points == 0
    assert says in verdict.message
    assert str(verdict) and verdict._repr_html_()


def test_no_answer_gets_no_points() -> None:
    verdict = judge(None, recording())
    assert (verdict.status, verdict.points) == ("missing", 0)


def test_an_empty_answer_gets_no_points() -> None:
    verdict = judge(Answer("f"), recording())
    assert (verdict.status, verdict.points) == ("wrong", 0)


def test_a_stub_is_not_attempted_and_one_it_needs_is_named() -> None:
    def stub(x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("implement f")

    def other(x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("implement g")

    assert judge(answer(stub, plain), recording()).status == "not_attempted"
    verdict = judge(answer(other, plain), recording())
    assert verdict.status == "not_attempted" and "needs `g` first" in verdict.message


def test_a_not_implemented_error_of_the_learners_own_is_an_error() -> None:
    def unfinished(x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("no half precision")

    assert judge(answer(unfinished, plain), recording()).status == "error"


def test_a_known_mistake_is_named_first() -> None:
    verdict = judge(
        answer(lambda x: x.exp() + 1, plain), recording(shifted=lambda x: x.exp() + 1, doubled=lambda x: 2 * x.exp())
    )
    assert verdict.misconception == "shifted"
    assert verdict.message.splitlines()[0] == "You made the mistake shifted."


def test_of_two_mistakes_at_once_one_that_explains_two_cases_is_named() -> None:
    def both(x: torch.Tensor) -> torch.Tensor:
        return x.exp() + 1 if x.dim() == 2 else x.exp() * 7

    verdict = judge(answer(both, plain), recording(shifted=lambda x: x.exp() + 1))
    assert verdict.misconception == "shifted" and "another case differs" in verdict.message
    assert verdict.message.startswith("Perhaps: You made the mistake shifted.")


def test_one_case_of_many_that_agrees_with_a_mistake_may_be_chance() -> None:
    def other(x: torch.Tensor) -> torch.Tensor:
        return x.exp() + 1 if x.dim() == 1 else x.exp() * 7

    assert judge(answer(other, plain), recording(shifted=lambda x: x.exp() + 1)).misconception is None


def test_an_unknown_mistake_is_not_given_a_name() -> None:
    assert judge(answer(lambda x: x.exp() - 3, plain), recording(shifted=lambda x: x.exp() + 1)).misconception is None


def test_a_mistake_that_only_raises_is_named_by_its_error() -> None:
    def fails(x: torch.Tensor) -> torch.Tensor:
        return x.exp() @ torch.ones(17)

    assert judge(answer(fails, plain), recording(fails=fails)).misconception == "fails"


def test_the_smallest_failing_case_is_written_out_with_its_input() -> None:
    message = judge(answer(lambda x: x.exp() + 1, plain), recording()).message
    assert message.startswith("two numbers:") and "x = [" in message and "found" in message and "expected" in message
    assert "See the paper: equation 1." in message


def parts(case: Case, f: Callable[..., Any]) -> None:
    case.call("core", f, case.normal(3))
    with case.part("half", points=1):
        case.call("bfloat16", f, case.normal(3, dtype=torch.bfloat16))
    with case.part("empty", points=1):
        case.call("nothing", f, case.normal(0))


def test_a_part_costs_its_own_points_and_the_core_costs_all() -> None:
    def no_half(x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.bfloat16:
            raise RuntimeError("no half")
        return x.exp()

    verdict = judge(answer(no_half, parts), recording(parts))
    assert (verdict.status, verdict.points) == ("partial", 3)
    verdict = judge(answer(lambda x: x.exp() if x.dtype == torch.bfloat16 else x, parts), recording(parts))
    assert (verdict.status, verdict.points) == ("wrong", 0)


def test_the_policy_is_the_recordings_whatever_the_answer_says() -> None:
    def strict(case: Case, f: Callable[..., Any]) -> None:
        case.record("values", f(case.normal(4)))

    def lenient(case: Case, f: Callable[..., Any]) -> None:
        case.record("values", f(case.normal(4)), tol=1e9)

    assert not judge(answer(lambda x: x, lenient), recording(strict)).passed


def test_a_metric_counts_by_its_bar_alone() -> None:
    def bar(case: Case, f: Callable[..., Any]) -> None:
        case.record("accuracy", float(f(torch.tensor(0.0))), at_least=0.9)

    assert judge(answer(lambda x: 0.91, bar), recording(bar)).passed
    assert "at least 0.9 is needed" in judge(answer(lambda x: 0.89, bar), recording(bar)).message
    assert not judge(answer(lambda x: float("nan"), bar), recording(bar)).passed


REFERENCES = ("a cat sat on the mat", "two dogs ran home")


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ({"a, b": 1, "c": 2}, {"c": 2}, "a, b is missing: expected 2 results (a, b, c), found 1."),
        ({"c": 2, "d": 3}, {"a, b": 1, "c": 2, "d": 3}, "a, b was not expected"),
        ([], [1, 2], "expected an empty list, found 2 (0, 1)."),
        ([], [1], "expected an empty list, found 1 (0)."),
    ],
)
def test_results_that_are_missing_or_too_many(right: object, wrong: object, said: str) -> None:
    def one(case: Case, f: Callable[..., Any]) -> None:
        case.record("everything", f())

    verdict = judge(answer(lambda: wrong, one), CheckRecording("f", 4, answer(lambda: right, one)))
    assert not verdict.passed and said in verdict.message


LEAD = ("a cat sat there. it was late", "it rained all day")


def summaries(case: Case, f: Callable[..., Any]) -> None:
    case.record(
        "summaries", f(["text one", "text two"]), references=REFERENCES, baseline=LEAD, margin=0.2, about="text"
    )


SUMMARIES: dict[str, tuple[Callable[..., Any], str]] = {
    "the references": (lambda texts: list(REFERENCES), ""),
    "other words, near enough": (lambda texts: ("A cat sat on a mat.", "two dogs, they ran home"), ""),
    "the baseline itself": (lambda texts: list(LEAD), "ROUGE-1 of the texts is"),
    "the other way round": (lambda texts: list(REFERENCES[::-1]), "at least"),
    "one alone": (lambda texts: REFERENCES[:1], "text 1 is missing"),
    "one too many": (lambda texts: [*REFERENCES, "x"], "text 2 was not expected"),
    "numbers": (lambda texts: [1.0, 1.0], "text 0 is the number 1.0; expected a string"),
    "a score of one's own": (lambda texts: 1.0, "expected 2 results"),
    "nothing": (lambda texts: None, "is there a `return`?"),
    "empty texts": (lambda texts: ["", ""], "ROUGE-1 of the texts is 0.0"),
}


@pytest.mark.parametrize("name", SUMMARIES)
def test_summaries_are_scored_by_the_judge_from_the_very_texts(name: str) -> None:
    function, says = SUMMARIES[name]
    reference = CheckRecording("f", 4, answer(lambda texts: list(REFERENCES), summaries))
    verdict = judge(answer(function, summaries), reference)
    assert verdict.passed == (says == "") and says in verdict.message


def test_references_in_an_answer_count_for_nothing_and_the_recordings_survive_the_disk() -> None:
    def forged(case: Case, f: Callable[..., Any]) -> None:
        case.record("summaries", ["nonsense", "nonsense"], references=("nonsense", "nonsense"), margin=-1.0)

    reference = CheckRecording("f", 4, answer(lambda texts: list(REFERENCES), summaries))
    assert reference.reference.cases[0].policy.references == REFERENCES
    assert reference.reference.cases[0].policy.margin == 0.2
    assert not judge(answer(right, forged), reference).passed


def test_a_mistake_in_summaries_is_named_by_the_very_texts_alone() -> None:
    lead = Mistake("lead", "You return the lead.", answer(lambda texts: list(LEAD), summaries))
    reference = CheckRecording("f", 4, answer(lambda texts: list(REFERENCES), summaries), (lead,))
    assert judge(answer(lambda texts: list(LEAD), summaries), reference).misconception == "lead"
    assert judge(answer(lambda texts: ["a cat", "dogs"], summaries), reference).misconception is None


def test_answers_of_another_seed_do_not_pass() -> None:
    assert not judge(answer(right, plain, seed=6), recording()).passed


@pytest.mark.parametrize("data", [b"", b"abc", b"\x00" * 64, b"\xff" * 1000, b"\x80" + b"\x00" * 7 + b"{}" * 64])
def test_bytes_that_are_no_answer_are_refused_in_one_way(data: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        decode(data)


def test_an_answer_that_is_too_large_is_not_written_and_not_read() -> None:
    case = Case("f")
    case.record("huge", torch.zeros(MAX_BYTES))
    with pytest.raises(ValueError, match="MiB"):
        encode(case.answer())
    with pytest.raises(UnreadableAnswer):
        decode(b"\0" * (MAX_BYTES + 1))


def test_a_tensor_subclass_is_recorded_as_what_it_holds() -> None:
    class Liar(torch.Tensor):
        @property
        def shape(self) -> torch.Size:  # type: ignore[override]
            return torch.Size([3, 4])

        def __eq__(self, other: object) -> bool:  # type: ignore[override]
            return True

    verdict = judge(answer(lambda x: torch.zeros(7).as_subclass(Liar), plain), recording())
    assert "has shape (7,)" in verdict.message


def test_draws_are_the_same_everywhere() -> None:
    # numbers of numpy's frozen RandomState: they may never change, or recordings would not fit any more
    case = Case("f", 2017)
    assert case.normal(2).tolist() == pytest.approx([0.15998585522174835, -2.3822829723358154])
    assert case.integers(0, 10, 3).tolist() == [7, 9, 2]


def test_gradients_draw_from_a_stream_of_their_own() -> None:
    def with_gradients(shape: tuple[int, ...]) -> torch.Tensor:
        case = Case("f")
        x = case.normal(3).requires_grad_()
        case.gradients("g", x.sum().expand(shape), x)
        return case.normal(2)

    assert torch.equal(with_gradients((1,)), with_gradients((5, 2)))


def test_rounding_is_measured_on_the_scale_of_the_case() -> None:
    def gradients(case: Case, f: Callable[..., Any]) -> None:
        case.record("gradients", f({"weight": torch.tensor([2.0, -3.0]), "no influence": torch.tensor([1e-7, -2e-7])}))
        case.record("alone", f(torch.tensor([1e-7, -2e-7])))

    def moved(by: float, only: str) -> Callable[..., Any]:
        def f(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: item + by * (key == only) for key, item in value.items()}
            return value + by * (only == "alone")

        return f

    assert judge(
        answer(moved(5e-7, "no influence"), gradients), CheckRecording("f", 4, answer(moved(0, ""), gradients))
    ).passed
    for by, only in ((1e-4, "no influence"), (1e-2, "weight"), (5e-7, "alone")):
        found = answer(moved(by, only), gradients)
        assert not judge(found, CheckRecording("f", 4, answer(moved(0, ""), gradients))).passed, only


def test_messages_of_errors_name_no_temporary_folder() -> None:
    def fails(case: Case, f: Callable[..., Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            case.call("a file", f, Path(folder) / "last.pt")

    one, other = (answer(lambda path: path.read_text(), fails) for _ in range(2))
    assert one.error is not None and one.error == other.error and "last.pt" in one.error.message


def test_tiny_numbers_are_not_shown_as_zeros() -> None:
    def tiny(case: Case, f: Callable[..., Any]) -> None:
        case.call("as small as eps", f, torch.tensor([1e-8, -2e-8]))

    verdict = judge(answer(lambda x: 3 * x, tiny), CheckRecording("f", 4, answer(lambda x: x, tiny)))
    assert "found    [ 3.e-08, -6.e-08]\nexpected [ 1.e-08, -2.e-08]" in verdict.message


def test_a_bar_of_zero_survives_the_disk() -> None:
    def counted(case: Case, f: Callable[..., Any]) -> None:
        case.record("left over", f(-1), at_most=0)

    kept = decode(encode(answer(lambda x: x, counted)))
    assert kept.cases[0].policy.at_most == 0
    assert judge(answer(lambda x: 2 * x, counted), CheckRecording("f", 4, kept)).passed


def test_a_mistake_that_the_rest_speaks_against_is_not_named() -> None:
    def four(case: Case, f: Callable[..., Any]) -> None:
        for number in range(4):
            case.record(f"case {number}", f(number))

    doubled = Mistake("doubled", "You double it.", answer(lambda n: 2.0 * (n + 1), four))
    reference = CheckRecording("f", 4, answer(lambda n: n + 1.0, four), (doubled,))
    assert judge(answer(lambda n: 2.0 * (n + 1), four), reference).misconception == "doubled"
    assert judge(answer(lambda n: 2.0 * (n + 1) if n < 3 else 7.5, four), reference).misconception == "doubled"
    assert judge(answer(lambda n: 2.0 * (n + 1) if n == 3 else n + 1.0, four), reference).misconception is None
