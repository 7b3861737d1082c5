"""The judge: one pure function from an answer and a recording to a verdict. It runs no learner's code and reads no file.

Everything that decides (tolerances, bars, points) comes from the recording. Nothing is taken from the answer but its values.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from autograder.answer import Answer, CaseRecord, Failure, Policy, Value, largest
from autograder.forbid import Use
from autograder.patterns import Compared, pattern
from autograder.recording import CheckRecording, Mistake
from autograder.verdict import CaseVerdict, Verdict

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""Allowed difference by dtype, relative to the value plus as much of the tensor's largest expected magnitude.

Each is four times (bfloat16) to millions of times (float64) the dtype's rounding (2.2e-16, 1.2e-7, 7.8e-3, 9.8e-4): room for another order of summation and for
an intermediate in lower precision, and far below what any mistake changes. `make stress` (`python -m tests.test_numbers --seeds 200`) measures
what right solutions in other styles use of it: docs/numbers.md.
"""

SMALLEST_SCALE = 1e-4
"""Where everything expected in a tensor is (nearly) zero, differences are measured against this fraction of 1: rounding of terms that cancel."""

SHARE_OF_A_CASE = 1e-2
"""Tensors of one case are one result, the gradients of a module's parameters say. One whose values are all below this fraction of the case's largest is
measured against that fraction: the bias of the keys, for instance, has no influence on attention, and what is computed as its gradient is rounding alone,
another on each processor.
"""

SMALLEST_NUMBER = 1e-6
"""The same for single numbers, which are results by themselves and may be small (a learning rate)."""

ENOUGH_EVIDENCE = 4
"""How much has to agree with a known mistake before it is named although it does not explain the whole answer."""

SHOWN = 64
"""Tensors of at most so many elements are written out in a message."""


def judge(answer: Answer | None, recording: CheckRecording, forbidden: Sequence[Use] = ()) -> Verdict:
    """Compare an answer with a recording.

    Args:
        answer: what the learner's code answered, or None when it left no evidence.
        recording: the reference's answer, the known mistakes' answers, and the policies.
        forbidden: forbidden calls found in the source of the exercise.

    Returns: the verdict; `passed` only if every case of the recording was answered as the reference answered it.
    """
    if answer is None:
        return _verdict(recording, "missing", "This check left no answer, so there is nothing to give points for.")
    if forbidden:
        uses = "; ".join(str(use) for use in forbidden)
        return _verdict(
            recording,
            "wrong",
            f"The exercise asks you to build this yourself, and your code uses it ready-made: {uses}.",
        )
    stub = _unattempted(answer, recording)
    if stub is not None:
        return _verdict(recording, "not_attempted", stub)

    cases = [_judge_case(case, answer) for case in recording.reference.cases]
    failed = [case for case in cases if case.state != "passed"]
    if not failed:
        return _verdict(recording, "passed", "All cases agree.", cases=cases, points=recording.points)

    match = _recognise(answer, recording, {case.name for case in failed})
    common = None
    lines = []
    if match is not None:
        lines.append(match.mistake.says if match.whole else f"Perhaps: {match.mistake.says}")
        if not match.whole:
            lines.append(f"(That explains “{match.case}”; another case differs in some other way.)")
    elif answer.error is None:
        common = _in_common(answer, recording, cases)
        lines += [common] if common else []
    # an exception says more than the cases that were not reached because of it
    first = (
        next((case for case in failed if case.state == "error"), failed[0])
        if failed[0].state == "not reached"
        else failed[0]
    )
    lines.append(f"{first.name}: {first.detail}" if first.name else first.detail)
    passed = len(cases) - len(failed)
    lines.append(
        f"{passed} of {len(cases)} cases agree." + (f" See the paper: {recording.paper}." if recording.paper else "")
    )

    core = [case for case in failed if case.part is None]
    if not core:
        lost = sum(recording.reference.parts[name] for name in {case.part for case in failed if case.part})
        status, points = "partial", recording.points - lost
    else:
        status, points = (
            ("error" if answer.error is not None and core[0].state in ("error", "not reached") else "wrong"),
            0,
        )
    return _verdict(
        recording,
        status,
        "\n".join(lines),
        cases=cases,
        points=points,
        misconception=match.mistake.name if match else None,
        pattern=common,
    )


def _verdict(
    recording: CheckRecording,
    status: str,
    message: str,
    cases: Sequence[CaseVerdict] = (),
    points: int = 0,
    misconception: str | None = None,
    pattern: str | None = None,
) -> Verdict:
    return Verdict(recording.check, status, points, recording.points, message, misconception, tuple(cases), pattern)


def _unattempted(answer: Answer, recording: CheckRecording) -> str | None:
    """The sentence for a stub that still raises, if that is what ended the experiment."""
    error = answer.error
    if error is None or error.type != "NotImplementedError" or error.message not in recording.stubs:
        return None
    exercise = recording.stubs[error.message]
    if exercise == recording.check:
        return f"Not attempted yet: {error.message}."
    return f"This needs `{exercise}` first, which is not attempted yet: {error.message}."


# -- one case --------------------------------------------------------------------------------------------------------------


def _judge_case(expected: CaseRecord, answer: Answer) -> CaseVerdict:
    found = answer.case(expected.name)
    if found is None:
        error = answer.ending(expected.part)
        if error is not None:
            detail = f"not reached: {_describe(error)}"
        else:
            detail = "the experiment did not record this case"
        return CaseVerdict(expected.name, "not reached", detail, expected.part)
    if found.error is not None and expected.error is None:
        return CaseVerdict(
            expected.name, "error", f"your code raised {_describe(found.error)}" + _inputs(expected), expected.part
        )
    difference = _difference(expected, found, expected.policy)
    if difference is None:
        return CaseVerdict(expected.name, "passed", "", expected.part)
    return CaseVerdict(expected.name, "failed", difference.text + _inputs(expected) + difference.shown, expected.part)


def _describe(error: Failure) -> str:
    text = f"{error.type}: {error.message}" if error.message else error.type
    return f"{text} (in {error.where})" if error.where else text


@dataclass(frozen=True)
class Difference:
    """How a case differs: a sentence, and the two tensors in question, to be written out where they are small."""

    text: str
    expected: torch.Tensor | None = None
    found: torch.Tensor | None = None

    @property
    def shown(self) -> str:
        return "" if self.expected is None or self.found is None else _both(self.expected, self.found)


def _difference(expected: CaseRecord, found: CaseRecord, policy: Policy) -> Difference | None:
    """The first difference between two records of a case, or None where they agree under the policy."""
    if (expected.error is None) != (found.error is None) or (
        expected.error is not None and found.error is not None and not _same_error(expected.error, found.error)
    ):
        return Difference("raised an error" if found.error else "raised no error")
    least = least_scale(expected)
    for path, value in expected.values.items():
        name = _name_of(path, expected, policy)
        if path not in found.values:
            return Difference(_structure(expected, found, name))
        difference = _value_difference(value, found.values[path], policy, name, least)
        if difference is not None:
            return difference
    extra = [path for path in found.values if path not in expected.values]
    if extra:
        return Difference(_structure(expected, found, _name_of(extra[0], expected, policy)))
    if set(found.modified) - set(expected.modified):
        return Difference(f"your code changes its input {', '.join(found.modified)} in place; a caller still needs it.")
    if policy.references is not None:
        return _rouge_difference([found.values[path].content for path in expected.values], policy)
    return None


def _in_common(answer: Answer, recording: CheckRecording, cases: Sequence[CaseVerdict]) -> str | None:
    """What the differences of an answer have in common, whatever mistake it is."""
    compared: list[Compared] = []
    for case in recording.reference.cases:
        found = answer.case(case.name)
        if found is not None and found.error is None and found.values.keys() == case.values.keys():
            compared += _all_compared(case, found)
    state = {passed: [case.name for case in cases if (case.state == "passed") is passed] for passed in (True, False)}
    return pattern(compared, state[True], state[False])


def _all_compared(case: CaseRecord, found: CaseRecord) -> list[Compared]:
    """The results of a case that can be compared value by value; none where one of them differs otherwise, in its shape, say: nothing is to be
    called right beside it.
    """
    results, least = [], least_scale(case)
    for path, value in case.values.items():
        one = _compared(case, found, path)
        if one is not None:
            results.append(one)
        if (one is None or not one.differs) and _value_difference(value, found.values[path], case.policy, "", least):
            return []
    return results


def _compared(case: CaseRecord, found: CaseRecord, path: str) -> Compared | None:
    """One result beside the reference's, numbers as tensors without axes; None for what is no number or no tensor of the same shape and family."""
    expected, policy = _as_tensor(case.values[path]), case.policy
    value = _as_tensor(found.values[path])
    if expected is None or value is None or policy.is_metric or policy.references is not None:
        return None
    if expected.shape != value.shape or _family(expected.dtype) != _family(value.dtype):
        return None
    least = least_scale(case)
    if case.values[path].is_tensor:
        wrong = _wrong_places(expected, value, policy, least)
    else:
        wrong = torch.tensor(_value_difference(case.values[path], found.values[path], policy, "", least) is not None)
    inputs = tuple((name, one.content) for name, one in case.inputs.items() if one.is_tensor)
    return Compared(case.name, _name_of(path, case, policy), expected, value, wrong, inputs)


def _as_tensor(value: Value) -> torch.Tensor | None:
    if value.is_tensor:
        return value.content
    if value.kind not in ("number", "boolean"):
        return None
    return torch.tensor(value.content if isinstance(value.content, bool) else float(_real(value.content)))


def _same_error(one: Failure, other: Failure) -> bool:
    return one.type == other.type and one.message == other.message


def _name_of(path: str, case: CaseRecord, policy: Policy) -> str:
    head, _, rest = path.partition("/")
    if case.labels and head.isdigit() and int(head) < len(case.labels):
        head = case.labels[int(head)]
        return f"{head}/{rest}" if rest else head
    if policy.about:
        return f"{policy.about} {path}".strip()
    return path or "result"


def _structure(expected: CaseRecord, found: CaseRecord, name: str) -> str:
    if list(found.values) == [""] and found.values[""].kind == "none":
        return "your code returned None: is there a `return`?"
    names = [_name_of(path, expected, expected.policy) for path in expected.values]
    wanted, there = (_cut(", ".join(some)) for some in (names, found.values))
    if list(expected.values) == [""]:
        only = expected.values[""]
        one = _kind(only) if only.kind == "other" else "one result"  # an empty list, say
        if len(found.values) == 1 and only.kind != "other":
            return f"expected one result by itself, found a list, tuple or dict that holds one ({there})."
        return f"expected {one}, found {len(found.values)} ({there})."
    if list(found.values) == [""]:
        return f"expected {len(names)} results ({wanted}), found one: {_kind(found.values[''])}."
    state = "is missing" if name in names else "was not expected"
    return f"{name} {state}: expected {len(names)} results ({wanted}), found {len(found.values)}."


def least_scale(case: CaseRecord) -> float:
    """What differences in a case's tensors are measured against at least: SMALLEST_SCALE, or SHARE_OF_A_CASE of the largest of several tensors."""
    tensors = sum(value.is_tensor and value.content.dtype.is_floating_point for value in case.values.values())
    return max(SMALLEST_SCALE, SHARE_OF_A_CASE * (case.largest if tensors > 1 else 0.0))


def _value_difference(
    expected: Value, found: Value, policy: Policy, name: str, least: float = SMALLEST_SCALE
) -> Difference | None:
    if policy.references is not None:
        return None if found.kind == "string" else Difference(f"{name} is {_kind(found)}; expected a string.")
    if policy.is_metric:
        return _bar_difference(found, policy, name)
    if (
        expected.kind == "number"
        and found.kind == "tensor"
        and found.content.dim() == 0
        and found.content.dtype is not torch.bool
    ):
        found = Value("number", found.content.item())
    if (
        expected.kind == "boolean"
        and found.kind == "tensor"
        and found.content.dim() == 0
        and found.content.dtype is torch.bool
    ):
        found = Value("boolean", bool(found.content))
    if expected.kind != found.kind:
        if found.kind == "none":
            return Difference(
                f"{name} is None{'; is there a `return`?' if name == 'result' else ''}: expected {_kind(expected)}."
            )
        return Difference(f"{name} is {_kind(found)}; expected {_kind(expected)}.")
    if expected.kind == "tensor" or expected.kind == "ndarray":
        return _tensor_difference(expected.content, found.content, policy, name, least)
    if expected.kind == "number":
        return _number_difference(expected.content, found.content, policy, name)
    if expected.content != found.content:
        return Difference(f"{name} is {_clip(found.content)!s}; expected {_clip(expected.content)!s}.")
    return None


def _bar_difference(found: Value, policy: Policy, name: str) -> Difference | None:
    value = found.content.item() if found.kind == "tensor" and found.content.numel() == 1 else found.content
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return Difference(f"{name} is {_kind(found)}; expected a number.")
    value = _real(value)
    if policy.at_least is not None and not value >= policy.at_least:
        return Difference(f"{name} is {value:.4g}; at least {policy.at_least:.4g} is needed.")
    if policy.at_most is not None and not value <= policy.at_most:
        return Difference(f"{name} is {value:.4g}; at most {policy.at_most:.4g} is allowed.")
    return None


def _rouge_difference(texts: Sequence[str], policy: Policy) -> Difference | None:
    """The texts themselves were recorded, so their score is computed here, where no learner's code runs."""
    references = policy.references or ()
    if len(texts) != len(references):
        return Difference(f"{len(texts)} texts were recorded; expected {len(references)}.")
    found = _rouge(tuple(texts), references)
    bars = _rouge(policy.baseline, references) if policy.baseline else dict.fromkeys(found, 0.0)
    for name, value in found.items():
        if not value >= bars[name] + policy.margin:
            label = f"ROUGE-{name.removeprefix('rouge')}"
            beside = f" (the baseline has {100 * bars[name]:.1f})" if policy.baseline else ""
            return Difference(
                f"{label} of the texts is {100 * value:.1f}; at least {100 * (bars[name] + policy.margin):.1f} is needed{beside}."
            )
    return None


@functools.lru_cache(maxsize=256)
def _rouge(texts: tuple[str, ...], references: tuple[str, ...]) -> dict[str, float]:
    """Mean F1 of ROUGE-1, -2 and -L, without a stemmer; by the package that papers report."""
    from rouge_score.rouge_scorer import RougeScorer  # a second to import, and few checks need it

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    scores = [scorer.score(reference, text) for text, reference in zip(texts, references, strict=True)]
    return {name: sum(score[name].fmeasure for score in scores) / len(scores) for name in scorer.rouge_types}


def _real(value: float) -> float:
    """An integer may have thousands of digits; beyond what a float holds it is infinite."""
    return value if not isinstance(value, int) or abs(value) < 1e300 else float("inf") if value > 0 else float("-inf")


def _number_difference(expected: float, found: float, policy: Policy, name: str) -> Difference | None:
    found = _real(found)
    both_nan = expected != expected and found != found
    if isinstance(expected, int) or policy.exact:
        same = both_nan or expected == found
    else:
        tolerance = policy.tol if policy.tol is not None else TOLERANCE[torch.float32]
        same = (
            both_nan
            or expected == found
            or abs(found - expected) <= tolerance * (abs(expected) + max(abs(expected), SMALLEST_NUMBER))
        )
    return None if same else Difference(f"{name} is {found:.6g}; expected {expected:.6g}.")


def _tensor_difference(
    expected: torch.Tensor, found: torch.Tensor, policy: Policy, name: str, least: float
) -> Difference | None:
    if expected is found:  # a mistake's case that is the reference's
        return None
    if expected.shape != found.shape:
        return Difference(f"{name} has shape {tuple(found.shape)}; expected {tuple(expected.shape)}.", expected, found)
    if _family(expected.dtype) != _family(found.dtype) or (
        expected.dtype.is_floating_point and expected.dtype != found.dtype and not policy.any_dtype
    ):
        return Difference(f"{name} has dtype {_dtype(found.dtype)}; expected {_dtype(expected.dtype)}.")
    wrong = _wrong_places(expected, found, policy, least)
    if not wrong.any():
        return None
    if found.dtype.is_floating_point and (nan := found.double().isnan() & ~expected.isnan()).any():
        return Difference(f"{name} has {int(nan.sum())} NaN, the first at {_index(nan)}.", expected, found)
    count = int(wrong.sum())
    if expected.numel() == 0:
        return None
    where = _worst(expected, found, wrong)
    share = f"{count} of {expected.numel()} values differ" if expected.numel() > 1 else "the value differs"
    return Difference(
        f"{name}: {share}, most at {list(where)}: {_scalar(found[where])} where {_scalar(expected[where])} was expected.",
        expected,
        found,
    )


def _wrong_places(expected: torch.Tensor, found: torch.Tensor, policy: Policy, least: float) -> torch.Tensor:
    """Where two tensors of one shape and family of dtypes differ under the policy; of their shape, bool."""
    if not expected.dtype.is_floating_point or policy.exact:
        return (expected != found) & ~((expected != expected) & (found != found))  # NaN where NaN was expected
    if expected.dtype == found.dtype and torch.equal(expected, found):
        return torch.zeros(expected.shape, dtype=torch.bool)
    # half precisions are compared as what they hold; the tolerance is the coarser dtype's
    tolerance = (
        policy.tol if policy.tol is not None else max(TOLERANCE[expected.dtype], TOLERANCE.get(found.dtype, 0.0))
    )
    a, b = expected.double(), found.double()
    finite = a.isfinite()
    allowed = tolerance * (torch.where(finite, a.abs(), 0.0) + max(largest(a), least))
    return torch.where(finite, ~((a - b).abs() <= allowed), ~((a == b) | (a.isnan() & b.isnan())))


def _family(dtype: torch.dtype) -> str:
    return "bool" if dtype is torch.bool else "float" if dtype.is_floating_point else "integer"


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _index(mask: torch.Tensor) -> list[int]:
    return [int(i) for i in mask.nonzero()[0]] if mask.dim() else []


def _worst(expected: torch.Tensor, found: torch.Tensor, wrong: torch.Tensor) -> tuple[int, ...]:
    error = torch.nan_to_num((expected.double() - found.double()).abs(), nan=float("inf"))
    flat = torch.where(wrong, error, -1.0).flatten().argmax()
    return tuple(int(i) for i in np.unravel_index(int(flat), tuple(expected.shape))) if expected.dim() else ()


def _scalar(value: torch.Tensor) -> str:
    item = value.item()
    return f"{item:.4g}" if isinstance(item, float) else str(item)


def _kind(value: Value) -> str:
    if value.is_tensor:
        noun = "tensor" if value.kind == "tensor" else "numpy array"
        return f"a {_dtype(value.content.dtype)} {noun} of shape {tuple(value.content.shape)}"
    if value.kind == "none":
        return "None"
    if value.kind == "other":
        return f"{value.content}"
    return f"the {value.kind} {_clip(value.content)!s}"


def _clip(value: object) -> str:
    return _cut(repr(value) if isinstance(value, str) and "'" not in value and len(value) < 40 else str(value))


def _cut(text: str, width: int = 200) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _write(tensor: torch.Tensor) -> str:
    values = tensor.double().numpy() if tensor.dtype.is_floating_point else tensor.numpy()
    finite = np.abs(values[np.isfinite(values)])
    small = bool(finite.size) and 0 < finite.max() < 1e-2  # as 0.0000, it would look like nothing
    return np.array2string(values, precision=4, suppress_small=not small, separator=", ", max_line_width=100)


def _inputs(case: CaseRecord) -> str:
    lines = [
        f"\n  {name} = {_indent(_write(value.content), len(name) + 5)}"
        if value.is_tensor
        else f"\n  {name} = {value.content!r}"
        for name, value in case.inputs.items()
    ]
    return (
        "\nwith" + "".join(lines)
        if lines and sum(v.content.numel() if v.is_tensor else 1 for v in case.inputs.values()) <= SHOWN
        else ""
    )


def _both(expected: torch.Tensor, found: torch.Tensor) -> str:
    if max(expected.numel(), found.numel()) > SHOWN or not max(expected.numel(), found.numel()) > 1:
        return ""
    return f"\nfound    {_indent(_write(found), 9)}\nexpected {_indent(_write(expected), 9)}"


def _indent(text: str, width: int) -> str:
    return text.replace("\n", "\n" + " " * width)


# -- which mistake it is ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Match:
    """A known mistake that explains the answer; `whole` if it explains all of it, else `case` is one that it explains."""

    mistake: Mistake
    whole: bool
    case: str


def _recognise(answer: Answer, recording: CheckRecording, failed: set[str]) -> Match | None:
    """The known mistake that gave this answer.

    A mistake explains the whole answer if the two agree on every case. Where none does (two mistakes at once), the one that
    explains most failing cases is named, if it explains two of them, or half, by values and not merely by failing too: a single case may
    agree by chance. What it would have got wrong and the learner has right speaks against it.
    """
    best: tuple[int, Match] | None = None
    for mistake in recording.mistakes:
        agrees: dict[str, bool] = {}
        explained: list[str] = []
        evidence = 0
        for case in recording.reference.cases:
            theirs, found = mistake.answer.case(case.name), answer.case(case.name)
            if theirs is None or found is None:
                agrees[case.name] = theirs is found and _same_end(mistake.answer, answer, case.part)
                continue
            agrees[case.name] = _agrees_with_mistake(case, theirs, found)
            if agrees[case.name] and case.name in failed and (weight := _evidence(case, theirs)):
                explained.append(case.name)
                evidence += weight
        whole = all(agrees.values())
        if whole and (explained or _ends_early(mistake.answer) or _alone(mistake, recording)):
            return Match(mistake, True, explained[0] if explained else "")
        against = sum(1 for name, agree in agrees.items() if not agree and name not in failed)
        weight = len(explained) - against
        if len(explained) < 2 and 2 * len(explained) < len(failed):
            continue
        if evidence >= ENOUGH_EVIDENCE and weight > 0 and (best is None or weight > best[0]):
            best = (weight, Match(mistake, False, explained[0]))
    return best[1] if best else None


def _ends_early(answer: Answer) -> bool:
    return any(case.error for case in answer.cases)


def _same_end(one: Answer, other: Answer, part: str | None) -> bool:
    """Whether two answers lack a case for the same reason: the same exception, or neither raised and neither recorded it."""
    ends = one.ending(part), other.ending(part)
    if ends[0] is None or ends[1] is None:
        return ends[0] is ends[1]
    return _same_error(ends[0], ends[1])


def _agrees_with_mistake(case: CaseRecord, theirs: CaseRecord, found: CaseRecord) -> bool:
    if (
        case.policy.references is not None
    ):  # a known mistake is recognised by the very texts: another model may fail the bar for another reason
        same = {path: value.content for path, value in theirs.values.items()} == {
            path: value.content for path, value in found.values.items()
        }
        return same or (
            _difference(case, theirs, case.policy) is None and _difference(case, found, case.policy) is None
        )
    if case.policy.is_metric:
        return (_difference(case, theirs, case.policy) is None) == (_difference(case, found, case.policy) is None)
    return _difference(theirs, found, case.policy) is None and set(theirs.modified) == set(found.modified)


def _evidence(case: CaseRecord, theirs: CaseRecord) -> int:
    """How telling it is to agree with a mistake on this case: wrong finite numbers weigh 4, wrong truth values and constants 1."""
    if (case.policy.is_metric and case.policy.references is None) or _difference(case, theirs, case.policy) is None:
        return 0
    if case.policy.references is not None:
        return ENOUGH_EVIDENCE
    if theirs.error is not None:
        return ENOUGH_EVIDENCE
    weight = len(set(theirs.modified) - set(case.modified)) * ENOUGH_EVIDENCE
    for path, wrong in theirs.values.items():
        right = case.values.get(path)
        if wrong.is_tensor:
            value = wrong.content.flatten()
            if right is None or not right.is_tensor or right.content.dtype != wrong.content.dtype or not value.numel():
                weight += ENOUGH_EVIDENCE
            elif right.content.shape == wrong.content.shape:
                value = value[(right.content.flatten() != value)]
            if value.dtype.is_floating_point:
                telling = value[value.isfinite() & (value != 0) & (value != 1)]
                weight += 4 * int(telling.unique().numel()) + int(value.numel() > 0)
            else:
                weight += int(value.numel())
        elif right is None or right.kind != wrong.kind or right.content != wrong.content:
            weight += 4 if wrong.kind in ("number", "string") else 1
    return weight


def _alone(mistake: Mistake, recording: CheckRecording) -> bool:
    """Whether no other known mistake fails the same cases (all that a metric's bar can tell)."""

    def pattern(other: Mistake) -> set[str]:
        cases = recording.reference.cases
        return {
            case.name
            for case in cases
            if (r := other.answer.case(case.name)) is None or _difference(case, r, case.policy)
        }

    return all(other is mistake or pattern(other) != pattern(mistake) for other in recording.mistakes)
