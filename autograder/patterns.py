"""What all differences of an answer have in common: a sign, a factor, one result of several, one kind of case. For mistakes that nobody has listed.

Said only where it holds for everything that differs, so it points at a cause and not at one number.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

CLOSE = 2e-3
"""Relative difference up to which a relation holds. Looser than the judge: it only chooses words."""

ENOUGH = 3
"""Different values that have to agree with a relation before it is more than a coincidence."""

MOST = 1 << 16
"""Elements looked at; larger tensors are not searched for patterns."""


@dataclass(frozen=True)
class Compared:
    """One result of one case beside the reference's.

    wrong: where it differs, of the tensors' shape. inputs: what the case was given, by name.
    """

    case: str
    name: str
    expected: torch.Tensor
    found: torch.Tensor
    wrong: torch.Tensor
    inputs: tuple[tuple[str, torch.Tensor], ...] = ()

    @property
    def differs(self) -> bool:
        return bool(self.wrong.any())


def pattern(compared: Sequence[Compared], right: Sequence[str], failed: Sequence[str]) -> str | None:
    """One sentence on what the differences have in common, or None.

    Args:
        compared: results of equal shape, right and wrong ones. A failed case of which none is here (an exception, another shape) speaks for itself,
            and only what cases have in common is said.
        right: names of the cases that agree.
        failed: names of those that do not.
    """
    wrong = [one for one in compared if one.differs]
    every = {one.case for one in wrong} == set(failed) and all(one.expected.numel() <= MOST for one in wrong)
    relation = _relation(wrong) if every and wrong else None
    place = _results(compared, failed) if every else None
    place = place or _cases(right, failed) or (_positions(wrong) if every and wrong else None)
    if relation and place:
        return f"{place} In what is wrong, {relation}."
    return f"{relation[0].upper()}{relation[1:]}." if relation else place


# -- how the values are related ----------------------------------------------------------------------------------------------


def _relation(wrong: Sequence[Compared]) -> str | None:
    if all(one.expected.dtype is torch.bool for one in wrong):
        turned = all(torch.equal(one.found, ~one.expected) for one in wrong)
        return "True and False are the other way round" if turned and _distinct(wrong) > 1 else None
    if any(torch.bool in (one.expected.dtype, one.found.dtype) for one in wrong):
        return None
    pairs = [(one.expected.double(), one.found.double()) for one in wrong]
    if not all(bool(e.isfinite().all()) and bool(f.isfinite().all()) for e, f in pairs):
        return None
    return (
        _as_given(wrong)
        or _nearly(wrong, pairs)
        or _scaled(wrong, pairs)
        or _shifted(wrong, pairs)
        or _moved(pairs)
        or _constant(wrong, pairs)
        or _scaled_by_case(wrong, pairs)
    )


def _as_given(wrong: Sequence[Compared]) -> str | None:
    """The result is an input, unchanged."""
    for name, _ in wrong[0].inputs:
        given = [dict(one.inputs).get(name) for one in wrong]
        same = [g is not None and _same(g.double(), one.found.double()) for g, one in zip(given, wrong, strict=True)]
        if all(same) and _distinct(wrong) >= ENOUGH:
            return f"what comes back is `{name}` as it came in"
    return None


def _nearly(wrong: Sequence[Compared], pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> str | None:
    """The right values but for their last digits, and no factor that could be told."""
    if _distinct(wrong) < ENOUGH or not all(_same(e, f) for e, f in pairs):
        return None
    factor = _factor(*max(pairs, key=lambda pair: float(pair[0].abs().max())))
    off = max(float((e - f).abs().max()) for e, f in pairs)
    if factor and _number(factor) != "1" and all(bool(((factor * e - f).abs() <= 0.05 * off).all()) for e, f in pairs):
        return None
    digits = int(-math.log10(off / max(float(e.abs().max()) for e, _ in pairs)))
    if digits >= 6 and all(one.expected.dtype is torch.float64 for one in wrong):
        return f"every value is right to about {digits} digits: something is computed in float32 on the way"
    return (
        f"every value is right to about {digits} digits, not more: "
        "something small is added or left out, or computed in a lower precision on the way"
    )


def _scaled(wrong: Sequence[Compared], pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> str | None:
    factor = _factor(*max(pairs, key=lambda pair: float(pair[0].abs().max()) if pair[0].numel() else 0.0))
    if factor is None or _distinct(wrong) < ENOUGH or not all(_same(factor * e, f) for e, f in pairs):
        return None
    if abs(factor + 1) < CLOSE:
        return "every value has the other sign"
    return f"every value is {_number(factor)} times what is expected"


def _scaled_by_case(wrong: Sequence[Compared], pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> str | None:
    """One factor in each result, another in another: a mean over the wrong axis, or a scale that depends on a size."""
    factors = [_factor(e, f) for e, f in pairs]
    if any(len(e.unique()) < ENOUGH for e, _ in pairs) or len(pairs) < 2:
        return None
    if not all(k is not None and _same(k * e, f) for k, (e, f) in zip(factors, pairs, strict=True)):
        return None
    told = ", ".join(f"{_number(k)} in “{one.case}”" for k, one in list(zip(factors, wrong, strict=True))[:2] if k)
    return f"all values of a result are off by one and the same factor ({told}): a scale, or what is summed or averaged over"


def _shifted(wrong: Sequence[Compared], pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> str | None:
    shift = float((pairs[0][1] - pairs[0][0]).flatten()[0])
    if _distinct(wrong) < ENOUGH or not all(_same(e + shift, f) for e, f in pairs):
        return None
    return f"every value is {_number(abs(shift))} too {'large' if shift > 0 else 'small'}"


def _moved(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> str | None:
    """The right values in other places, and not just nearly right where they are."""
    if all(bool(((e - f).abs() <= 10 * CLOSE * e.abs().max()).all()) for e, f in pairs):
        return None
    if any(len(e.unique()) < ENOUGH or not _same(e.flatten().sort()[0], f.flatten().sort()[0]) for e, f in pairs):
        return None
    fewest = min(e.dim() for e, _ in pairs)
    for axis in range(-1, -fewest - 1, -1):
        if all(_same(e.flip(axis), f) for e, f in pairs):
            return f"the values are in reverse order along axis {axis}"
        for step in (1, -1):
            if all(_same(e.roll(step, axis), f) for e, f in pairs):
                return f"the values are moved by one place along axis {axis}"
        for other in range(axis - 1, -fewest - 1, -1):
            if all(e.shape[axis] == e.shape[other] and _same(e.transpose(axis, other), f) for e, f in pairs):
                return f"axes {other} and {axis} are exchanged"
    return "the values are the expected ones in other places: an axis, a reshape or an order is another"


def _constant(wrong: Sequence[Compared], pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> str | None:
    if _distinct(wrong) < ENOUGH:
        return None
    if all(not bool(f.any()) for _, f in pairs):
        return "every value is 0"
    values = torch.cat([f.flatten() for _, f in pairs])
    return (
        f"every value is the same, {_number(float(values[0]))}" if _same(values, values[:1].expand_as(values)) else None
    )


def _factor(expected: torch.Tensor, found: torch.Tensor) -> float | None:
    """found / expected where that is best known; None where there is nothing to divide by."""
    if not expected.numel():
        return None
    at = int(expected.abs().argmax())
    most = float(expected.flatten()[at])
    factor = float(found.flatten()[at]) / most if most else 0.0
    return factor if factor else None


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or not bool(one.isfinite().all()):
        return False
    scale = float(one.abs().max()) if one.numel() else 0.0
    return bool(((one - other).abs() <= CLOSE * (one.abs() + 1e-2 * scale)).all())


def _distinct(wrong: Iterable[Compared]) -> int:
    return len(torch.cat([one.expected.double().flatten() for one in wrong]).unique())


def _number(value: float) -> str:
    near = Fraction(value).limit_denominator(32) if abs(value) < 1e6 else Fraction(0)
    if near and abs(float(near) - value) <= 1e-4 * abs(value):
        return str(near)
    return f"{value:.4g}"


# -- where they are ------------------------------------------------------------------------------------------------------------


def _results(compared: Sequence[Compared], failed: Sequence[str]) -> str | None:
    """Which of several results are wrong, where the others are right in (nearly) all of the failed cases."""
    differing: dict[str, list[bool]] = {}
    for one in compared:
        if one.case in failed:
            differing.setdefault(one.name, []).append(one.differs)
    wrong = [name for name, states in differing.items() if any(states)]
    fine = [name for name, states in differing.items() if sum(states) <= len(states) / 4]
    wrong = [name for name in wrong if name not in fine]
    if not wrong or not fine or len(wrong) > 4:
        return None
    others = _listed(fine) if len(fine) <= 4 else f"the other {len(fine)} results"
    always = not any(any(differing[name]) for name in fine)
    return f"Wrong: {_listed(wrong)}. Right in {'every case' if always else 'most cases'}: {others}."


def _cases(right: Sequence[str], failed: Sequence[str]) -> str | None:
    """What the names of the failed cases share and those of the others lack, or the other way round."""
    if not right or not failed:
        return None
    if len(failed) == 1 and len(right) > 2:
        return f"Only the case “{failed[0]}” differs."
    if len(failed) > 1 and (shared := _only_in(failed, right, 0)):
        return f"Only the cases with {shared} differ."
    if len(right) > 1 and (shared := _only_in(right, failed, 0)):
        return f"Only the cases with {shared} agree."
    if len(right) == 1 and len(failed) > 2:
        return f"Only the case “{right[0]}” agrees."
    if len(failed) > 3 and (shared := _only_in(failed, right, len(failed) // 4)):
        return f"All cases that differ are cases with {shared}."
    if len(right) > 3 and (shared := _only_in(right, failed, len(right) // 4)):
        return f"All cases that agree are cases with {shared}."
    return None


def _only_in(these: Sequence[str], others: Sequence[str], exceptions: int) -> str | None:
    """The first words that all of these names have and at most so many of the others, quoted; as one phrase where they always stand together."""
    split = [_WORD.findall(name) for name in these]
    elsewhere = Counter(word for name in others for word in set(_WORD.findall(name)))
    shared = [word for word in split[0] if all(word in words for words in split) and elsewhere[word] <= exceptions]
    shared = [word for word in shared if sum(letter.isalpha() for letter in word) > 1 and word not in _LITTLE]
    phrases: list[str] = []
    for word in dict.fromkeys(shared[:4]):
        longer = f"{phrases[-1]} {word}" if phrases else word
        if phrases and all(longer in name for name in these):
            phrases[-1] = longer
        else:
            phrases.append(word)
    return _listed([f"“{phrase}”" for phrase in phrases]) if phrases else None


_WORD = re.compile(r"[^\s,;:“”()]+")
_LITTLE = {
    "a", "an", "the", "of", "in", "and", "with", "to", "by", "is", "as", "on", "at", "for", "from", "its", "than",
}  # fmt: skip
"""Words that tell nothing by themselves."""


def _positions(wrong: Sequence[Compared]) -> str | None:
    """Where in the tensors: at one end of an axis, or on the diagonal."""
    masks = [one.wrong for one in wrong if one.wrong.dim()]
    if len(masks) < len(wrong) or all(bool(mask.all()) for mask in masks):
        return None
    fewest = min(mask.dim() for mask in masks)
    for axis in range(-1, -fewest - 1, -1):
        if any(mask.shape[axis] < ENOUGH for mask in masks):
            continue
        touched = [_along(mask, axis) for mask in masks]
        for words, rows in (("last", slice(None, -1)), ("first", slice(1, None))):
            if not any(bool(line[rows].any()) for line in touched):
                return f"Only the {words} place along axis {axis} differs."
        for words, row in (("first", 0), ("last", -1)):
            if not any(bool(line[row]) for line in touched) and all(
                bool(line.sum() == len(line) - 1) for line in touched
            ):
                return f"Everything but the {words} place along axis {axis} differs."
    if fewest >= 2 and all(mask.shape[-1] == mask.shape[-2] >= ENOUGH for mask in masks):
        eye = [torch.eye(mask.shape[-1], dtype=torch.bool).expand_as(mask) for mask in masks]
        if not any(bool((mask & ~line).any()) for mask, line in zip(masks, eye, strict=True)):
            return "Only the diagonal differs."
    return None


def _along(mask: torch.Tensor, axis: int) -> torch.Tensor:
    """Which places along an axis hold a True."""
    return mask.movedim(axis, 0).flatten(1).any(1) if mask.dim() > 1 else mask


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
