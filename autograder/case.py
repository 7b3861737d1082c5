"""The experiment's hands: a `Case` draws inputs from the run's seed and records what came out. It never holds an expected value."""

from __future__ import annotations

import hashlib
import inspect
import linecache
import re
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from autograder.answer import Answer, CaseRecord, Failure, Policy, Value, flatten, tensor_value

PUBLIC_SEED = 2017
"""The seed in the learner's own notebook (the year of the first paper). A grading run draws a secret one."""

SHOWN_INPUT = 64
"""Inputs of at most so many elements are kept with a case, for the message."""


def random_state(seed: int, *names: object) -> np.random.RandomState:
    """numpy's frozen generator, seeded from a run's seed and names: the same numbers on every machine and version."""
    return np.random.RandomState(_words(seed, *names))


def _words(seed: int, *names: object) -> np.ndarray:
    digest = hashlib.sha256("/".join([str(seed), *map(str, names)]).encode()).digest()
    return np.frombuffer(digest, dtype="<u4")


_passing = np.random.RandomState(0)


def passing_random_state(seed: int, *names: object) -> np.random.RandomState:
    """As `random_state`, but always the same object, for use at once: making one costs more than what most draw from it."""
    _passing.seed(_words(seed, *names))
    return _passing


class Case:
    """Inputs for one check's experiment and the record of it.

    Args:
        check: the check's name; with `seed` it decides every number drawn.
        seed: the run's seed.
        device: where drawn tensors live.
    """

    def __init__(self, check: str, seed: int = PUBLIC_SEED, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self._check = check
        self._seed = seed
        self._random = random_state(seed, check)
        self._modules = 0
        self._records: list[CaseRecord] = []
        self._parts: dict[str, int] = {}
        self._part: str | None = None
        self._running: str | None = None

    # -- drawing ---------------------------------------------------------------------------------------------------------

    def normal(self, *shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """N(0, scale²) of the given shape."""
        return self._tensor(self._random.standard_normal(shape) * scale, dtype)

    def uniform(
        self, *shape: int, low: float = 0.0, high: float = 1.0, dtype: torch.dtype = torch.float32
    ) -> torch.Tensor:
        """U[low, high) of the given shape."""
        return self._tensor(self._random.random_sample(shape) * (high - low) + low, dtype)

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """int64 in [low, high), of the given shape."""
        return self._tensor(self._random.randint(low, high, size=shape, dtype=np.int64), torch.int64)

    def integer(self, low: int, high: int) -> int:
        """One int in [low, high)."""
        return int(self._random.randint(low, high))

    def boolean(self, *shape: int, p: float = 0.5) -> torch.Tensor:
        """True with probability p."""
        return self._tensor(self._random.random_sample(shape) < p, torch.bool)

    def permutation(self, n: int) -> torch.Tensor:
        """A random order of 0 … n-1, int64."""
        return self._tensor(self._random.permutation(n), torch.int64)

    def cast(self, dtype: torch.dtype, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """The tensors in another dtype."""
        with torch._C.DisableTorchFunction():
            return [tensor.to(dtype) for tensor in tensors]

    def initialise(self, module: nn.Module, by: str = "name", scale: float = 1.0) -> nn.Module:
        """Fill a module's parameters from the seed, in place, and record their shapes.

        Matrices and kernels are N(0, scale²/fan_in), biases N(0, ½²), the weights of normalisations N(1, 0.2²). With `by="name"`
        the values hang on each parameter's qualified name, with `by="order"` on its place in registration order; either way a
        learner's module and the reference's get the same numbers, and the recorded case says where names or shapes differ.
        """
        if by not in ("name", "order"):
            raise ValueError(f'by is "name" or "order", not {by!r}')
        self._modules += 1
        number = f" {self._modules}" if self._modules > 1 else ""
        named = list(module.named_parameters())
        keys = [name for name, _ in named] if by == "name" else [f"parameter {i + 1}" for i in range(len(named))]
        shapes = {key: str(tuple(parameter.shape)) for key, (_, parameter) in zip(keys, named, strict=True)}
        kind = "names and shapes" if by == "name" else "shapes, in order of registration"
        self.record(
            f"parameters of {type(module).__name__}{number}",
            {key: shapes[key] for key in (sorted(shapes) if by == "name" else shapes)} or "no parameters",
            about=f"parameter {kind}",
        )
        for key, (name, parameter) in zip(keys, named, strict=True):
            random = passing_random_state(self._seed, self._check, "initialise", self._modules, key)
            values = random.standard_normal(tuple(parameter.shape))
            if parameter.dim() >= 2:
                values *= scale / max(1.0, float(np.prod(parameter.shape[1:]))) ** 0.5
            elif name.rsplit(".", 1)[-1] == "weight":
                values = 1 + 0.2 * values
            else:
                values *= 0.5
            with torch.no_grad(), torch._C.DisableTorchFunction():
                parameter.copy_(torch.as_tensor(values))
        return module

    def _tensor(self, values: Any, dtype: torch.dtype) -> torch.Tensor:
        with torch._C.DisableTorchFunction():  # what watches the learner's calls need not see ours
            return torch.as_tensor(np.asarray(values)).to(dtype=dtype, device=self.device)

    # -- recording -------------------------------------------------------------------------------------------------------

    def call(
        self,
        name: str,
        function: Callable[..., Any],
        *args: Any,
        labels: Sequence[str] = (),
        policy: Mapping[str, Any] | None = None,
        keeps_inputs: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Run `function(*args, **kwargs)` as the case `name`: record what comes out, small inputs, and inputs changed in place.

        Args:
            labels: names of a tuple's items, for the message ("output", "weights").
            policy: how to compare, as the keywords of `record`.
            keeps_inputs: an input that the function changed in place fails the case. False where that is allowed.

        Returns: what the function returned.
        """
        self._begin(name)
        inputs = dict(_named_tensors(_argument_names(function, len(args)), args, kwargs))
        with torch._C.DisableTorchFunction():
            before = {key: tensor.detach().clone() for key, tensor in inputs.items()} if keeps_inputs else {}
        result = function(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            modified = [key for key, copy in before.items() if not _same(copy, inputs[key])]
            shown = {
                key: tensor_value(before.get(key, tensor))
                for key, tensor in inputs.items()
                if tensor.numel() <= SHOWN_INPUT
            }
        for key, argument in kwargs.items():
            if isinstance(argument, (bool, int, float, str)):
                shown[key] = dict(flatten(argument))[""]
        self._end(name, result, Policy(**(policy or {})), labels=labels, inputs=shown, modified=modified)
        return result

    def record(self, name: str, value: Any, *, labels: Sequence[str] = (), **policy: Any) -> None:
        """Record a value as the case `name`. Keywords: tol, exact, at_least, at_most, any_dtype, references, baseline, margin, about (see `Policy`)."""
        self._begin(name)
        self._end(name, value, Policy(**policy), labels=labels)

    def gradients(self, name: str, output: Any, *inputs: Any, **policy: Any) -> None:
        """Record the gradient of Σ output · weights, for fixed random weights, with respect to each input.

        Args:
            output: a tensor, or a tuple of tensors of which the floating-point ones count.
            inputs: tensors that require grad, dicts of them by name, or modules (all parameters).
        """
        self._begin(name)
        targets: dict[str, torch.Tensor] = {}
        for index, item in enumerate(inputs):
            if isinstance(item, nn.Module):
                targets.update({key: value for key, value in item.named_parameters() if value.requires_grad})
            elif isinstance(item, Mapping):
                targets.update({str(key): value for key, value in item.items()})
            else:
                targets[str(index)] = item
        outputs = [
            item
            for item in (output if isinstance(output, (tuple, list)) else [output])
            if isinstance(item, torch.Tensor)
        ]
        outputs = [item for item in outputs if item.is_floating_point()]
        # weights of their own, so that an output of another shape leaves what later cases draw as it is
        random = passing_random_state(self._seed, self._check, "gradients", name)
        weights = [self._tensor(random.standard_normal(tuple(item.shape)), torch.float64) for item in outputs]
        total = sum((item.double() * weight).sum() for item, weight in zip(outputs, weights, strict=True))
        if isinstance(total, torch.Tensor) and total.requires_grad:
            found: Sequence[torch.Tensor | None] = torch.autograd.grad(
                total, list(targets.values()), retain_graph=True, allow_unused=True
            )
        else:
            found = [None for _ in targets]
        policy.setdefault("about", "gradient")
        self._end(name, dict(zip(targets, found, strict=True)), Policy(**policy))

    def raises(
        self,
        name: str,
        function: Callable[..., Any],
        *args: Any,
        errors: tuple[type[BaseException], ...] = (ValueError,),
        **kwargs: Any,
    ) -> None:
        """Record whether `function(*args, **kwargs)` raises one of `errors`, as it should where its input makes no sense."""
        self._begin(name)
        try:
            function(*args, **kwargs)
            outcome = "no error"
        except NotImplementedError:
            raise  # a stub has not been attempted: that is no answer to this question
        except errors:
            outcome = "raises " + " or ".join(error.__name__ for error in errors)
        self._end(name, outcome, Policy(about="what happens"))

    @contextmanager
    def part(self, name: str, points: int | None = None) -> Iterator[None]:
        """Cases inside are worth `points` of the check's points; an exception inside is recorded for this part alone.

        The same part can be opened again further down (among the hidden cases, say), without its points.
        """
        if self._part is not None:
            raise ValueError("parts do not nest")
        if (points is None) == (name not in self._parts):
            raise ValueError(f"the part {name!r} says its points once, where it is first opened")
        if points is not None:
            self._parts[name] = points
        self._part = name
        try:
            yield
        except (Exception, SystemExit) as error:
            self.fail(error)
        finally:
            self._part = None

    def fail(self, error: BaseException) -> None:
        """Record an exception as the end of the case that was running."""
        name = (
            self._running or f"after “{self._records[-1].name}”"
            if self._records
            else self._running or "before the first case"
        )
        self._records.append(CaseRecord(name, error=failure(error), part=self._part))
        self._running = None

    def answer(self, seconds: float = 0.0) -> Answer:
        """Everything recorded so far."""
        return Answer(self._check, tuple(self._records), dict(self._parts), seconds)

    def _begin(self, name: str) -> None:
        if any(record.name == name for record in self._records):
            raise ValueError(f"two cases of this check are named {name!r}")
        self._running = name

    def _end(
        self,
        name: str,
        result: Any,
        policy: Policy,
        labels: Sequence[str] = (),
        inputs: Mapping[str, Value] | None = None,
        modified: Sequence[str] = (),
    ) -> None:
        self._records.append(
            CaseRecord(
                name, dict(flatten(result)), dict(inputs or {}), policy, tuple(labels), self._part, tuple(modified)
            )
        )
        self._running = None


_TEMPORARY = re.compile(re.escape(tempfile.gettempdir()) + r"/[^/\s'\"]+")


def failure(error: BaseException) -> Failure:
    """An exception in the words a learner needs: its type, its message, and the line of their own cell it came from."""
    where = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = frame.f_code.co_filename
        if _is_cell(path) and frame.f_code.co_name != "<module>":
            text = linecache.getline(path, line).strip()
            if "case." in text:
                continue  # the check's own line, not the learner's
            where = (
                f"line {line} of {frame.f_code.co_name}: {text}" if text else f"line {line} of {frame.f_code.co_name}"
            )
    # a temporary folder has another name each time, and the same mistake must read the same
    message = _TEMPORARY.sub("…", str(error).strip())
    return Failure(type(error).__name__, message[:2000], where[:300])


def _is_cell(path: str) -> bool:
    """Cells are compiled under names that are no installed module's: <ipython-input-…>, …/ipykernel_123/456.py, or our own <cell …>."""
    return path.startswith("<") or "ipykernel" in Path(path).parent.name


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names the function gives its first `count` arguments, for the message; "input 1", … where it does not say."""
    names: list[str] = []
    try:
        target = function.forward if isinstance(function, nn.Module) else function
        for parameter in inspect.signature(target).parameters.values():
            if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                break
            names.append(parameter.name)
    except (TypeError, ValueError):
        pass
    return (names + [f"input {index + 1}" for index in range(len(names), count)])[:count]


def _named_tensors(
    names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, torch.Tensor]]:
    for key, value in [*zip(names, args, strict=True), *kwargs.items()]:
        if isinstance(value, torch.Tensor):
            yield key, value
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                if isinstance(item, torch.Tensor):
                    yield f"{key}[{index}]", item
        elif isinstance(value, Mapping):
            for name, item in value.items():
                if isinstance(item, torch.Tensor):
                    yield f"{key}[{name!r}]", item


def _same(before: torch.Tensor, after: torch.Tensor) -> bool:
    if before.shape != after.shape or before.dtype != after.dtype:
        return False
    return bool(
        torch.equal(
            torch.nan_to_num(before) if before.is_floating_point() else before,
            torch.nan_to_num(after.detach()) if after.is_floating_point() else after,
        )
    )
