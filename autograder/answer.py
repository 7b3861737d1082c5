"""What an experiment recorded: plain tensors, numbers and strings, and their form on disk. Never pickle, never a verdict.

An answer crosses from a process that runs a learner's code to one that judges it, so reading one trusts nothing: the
size is bounded, the layout is safetensors with one JSON string in its header, and every field is checked.
"""

from __future__ import annotations

import functools
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

MAX_BYTES = 16 * 2**20
"""Size cap of one check's answer, in bytes."""

KINDS = ("tensor", "ndarray", "number", "boolean", "string", "none", "other")


class UnreadableAnswer(ValueError):
    """The bytes are not an answer; the message says why."""


@dataclass(frozen=True)
class Value:
    """One recorded leaf.

    `kind` is one of `KINDS`; `content` is a tensor for "tensor" and "ndarray", else a float, int, bool, str or None. A value that
    cannot be recorded has kind "other" and its type's name as content.
    """

    kind: str
    content: Any = None

    @property
    def is_tensor(self) -> bool:
        return self.kind in ("tensor", "ndarray")


@dataclass(frozen=True)
class Policy:
    """How one case is compared; only ever read from the reference's recording.

    tol: relative tolerance that replaces the dtype's own (None: by dtype). exact: bitwise equality. at_least / at_most: the value is a
    metric and only its bar counts. any_dtype: values count, dtype does not. about: what the value is, for the message.
    references: the value is a list of texts, as many as these, and its ROUGE-1, -2 and -L against them (mean F1, computed by the judge) have to be
    higher than those of the texts of `baseline` by at least `margin` each.
    """

    tol: float | None = None
    exact: bool = False
    at_least: float | None = None
    at_most: float | None = None
    any_dtype: bool = False
    about: str | None = None
    references: tuple[str, ...] | None = None
    baseline: tuple[str, ...] = ()
    margin: float = 0.0

    @property
    def is_metric(self) -> bool:
        """Whether a bar decides, so that right answers may differ from the reference's."""
        return self.at_least is not None or self.at_most is not None or self.references is not None

    def to_json(self) -> dict[str, Any]:
        default = vars(Policy())
        return {name: value for name, value in vars(self).items() if value != default[name]}


def largest(tensor: torch.Tensor) -> float:
    """The largest finite magnitude in a tensor; 0 where there is none."""
    finite = tensor[tensor.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0


@dataclass(frozen=True)
class CaseRecord:
    """One named case of an experiment: its values by path ("" for a bare value, "0", "weights/1", …), and its inputs for the message."""

    name: str
    values: Mapping[str, Value] = field(default_factory=dict)
    inputs: Mapping[str, Value] = field(default_factory=dict)
    policy: Policy = Policy()
    labels: tuple[str, ...] = ()
    part: str | None = None
    modified: tuple[str, ...] = ()  # inputs that the call changed in place
    error: Failure | None = None

    @functools.cached_property
    def largest(self) -> float:
        """The largest finite magnitude in all floating-point tensors of the case; 0 where there is none."""
        tensors = [v.content for v in self.values.values() if v.is_tensor and v.content.dtype.is_floating_point]
        return max(map(largest, tensors), default=0.0)


@dataclass(frozen=True)
class Failure:
    """An exception: its type's name, message, and where in the learner's cell it happened ("line 7: `x = …`", or "")."""

    type: str
    message: str
    where: str = ""


@dataclass(frozen=True)
class Answer:
    """What one check's experiment recorded, in order. `parts` maps the name of each part to its points."""

    check: str
    cases: tuple[CaseRecord, ...] = ()
    parts: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def error(self) -> Failure | None:
        """The exception that ended the experiment's core, if one did."""
        return next((case.error for case in self.cases if case.error and case.part is None), None)

    def ending(self, part: str | None) -> Failure | None:
        """The exception because of which later cases of `part` (None: the core) were not reached."""
        return next((case.error for case in self.cases if case.error and case.part in (part, None)), None)

    def case(self, name: str) -> CaseRecord | None:
        return next((case for case in self.cases if case.name == name), None)

    def without_inputs(self) -> Answer:
        """The same answer without the inputs shown in messages (recordings keep those of the reference alone)."""
        return replace(self, cases=tuple(replace(case, inputs={}) for case in self.cases))


# -- JSON with tensors on the side ---------------------------------------------------------------------------------------


def number_to_json(number: float | int) -> Any:
    """JSON has no NaN and no infinities: those are written as strings."""
    return number if isinstance(number, int) or math.isfinite(number) else repr(number)


class TensorTable:
    """Tensors by key, written once each: two equal tensors share a key, so a recording does not repeat what a mistake leaves right."""

    def __init__(self, tensors: Mapping[str, torch.Tensor] | None = None) -> None:
        self.tensors: dict[str, torch.Tensor] = dict(tensors or {})
        self._keys: dict[tuple[Any, ...], str] = {}

    def add(self, tensor: torch.Tensor) -> str:
        tensor = tensor.detach().cpu().contiguous()
        identity = (
            str(tensor.dtype),
            tuple(tensor.shape),
            tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"",
        )
        if identity not in self._keys:
            self._keys[identity] = f"{len(self._keys):05d}"
            self.tensors[self._keys[identity]] = tensor.clone()
        return self._keys[identity]

    def get(self, key: Any) -> torch.Tensor:
        if not isinstance(key, str) or key not in self.tensors:
            raise UnreadableAnswer("an answer names a tensor that it does not hold")
        return self.tensors[key]


def value_to_json(value: Value, table: TensorTable) -> dict[str, Any]:
    if value.is_tensor:
        return {"kind": value.kind, "key": table.add(value.content)}
    content = number_to_json(value.content) if value.kind == "number" else value.content
    return {"kind": value.kind, "content": content}


def value_from_json(data: Any, table: TensorTable) -> Value:
    kind = _get(data, "kind", str)
    if kind not in KINDS:
        raise UnreadableAnswer("an answer holds a value of an unknown kind")
    if kind in ("tensor", "ndarray"):
        return Value(kind, table.get(data.get("key")))
    content = data.get("content")
    if kind == "number" and isinstance(content, str) and content in ("nan", "inf", "-inf"):
        content = float(content)
    types: dict[str, tuple[type, ...]] = {
        "number": (int, float), "boolean": (bool,), "string": (str,), "none": (type(None),), "other": (str,)
    }  # fmt: skip
    expected = types[kind]
    if not isinstance(content, expected) or (kind == "number" and isinstance(content, bool)):
        raise UnreadableAnswer("an answer holds a value that is not of its kind")
    return Value(kind, content)


def failure_to_json(failure: Failure | None) -> dict[str, str] | None:
    return None if failure is None else dict(vars(failure))


def failure_from_json(data: Any) -> Failure | None:
    if data is None:
        return None
    return Failure(*(_get(data, key, str)[:4000] for key in ("type", "message", "where")))


def answer_to_json(answer: Answer, table: TensorTable) -> dict[str, Any]:
    """A JSON-ready dict of an answer; its tensors go to `table`. What is empty is left out."""
    cases = [
        {
            "name": case.name,
            "values": {path: value_to_json(value, table) for path, value in case.values.items()},
            "inputs": {path: value_to_json(value, table) for path, value in case.inputs.items()},
            "policy": case.policy.to_json(),
            "labels": list(case.labels),
            "part": case.part,
            "modified": list(case.modified),
            "error": failure_to_json(case.error),
        }
        for case in answer.cases
    ]
    cases = [{key: value for key, value in case.items() if value} for case in cases]
    return {"check": answer.check, "cases": cases, "parts": dict(answer.parts), "seconds": answer.seconds}


def answer_from_json(data: Any, table: TensorTable) -> Answer:
    """The inverse of `answer_to_json`. Raises UnreadableAnswer for anything else."""
    cases = []
    for item in _get(data, "cases", list):
        part = item.get("part") if isinstance(item, dict) else None
        cases.append(
            CaseRecord(
                name=_get(item, "name", str),
                values={
                    str(path): value_from_json(value, table) for path, value in _get(item, "values", dict, {}).items()
                },
                inputs={
                    str(path): value_from_json(value, table) for path, value in _get(item, "inputs", dict, {}).items()
                },
                policy=_policy_from_json(_get(item, "policy", dict, {})),
                labels=tuple(str(label) for label in _get(item, "labels", list, [])),
                part=part if isinstance(part, str) else None,
                modified=tuple(str(name) for name in _get(item, "modified", list, [])),
                error=failure_from_json(item.get("error")),
            )
        )
    parts = {str(name): points for name, points in _get(data, "parts", dict).items() if isinstance(points, int)}
    seconds = data.get("seconds")
    return Answer(
        _get(data, "check", str), tuple(cases), parts, float(seconds) if isinstance(seconds, (int, float)) else 0.0
    )


def encode(answer: Answer) -> bytes:
    """One safetensors file whose header's metadata holds the answer as JSON. Raises ValueError above `MAX_BYTES`."""
    table = TensorTable()
    text = json.dumps(answer_to_json(answer, table))
    # safetensors writes an empty file without metadata, so there is always at least one tensor
    data: bytes = save_tensors({**table.tensors, "format": torch.tensor([1])}, metadata={"answer": text})
    if len(data) > MAX_BYTES:
        raise ValueError(
            f"the answer is {len(data) / 2**20:.0f} MiB; at most {MAX_BYTES / 2**20:.0f} MiB can be recorded"
        )
    return data


def decode(data: bytes) -> Answer:
    """Read an answer that anyone may have written. Raises UnreadableAnswer, and nothing else, for whatever is no answer."""
    if len(data) > MAX_BYTES:
        raise UnreadableAnswer("the answer is larger than an answer may be")
    try:
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + min(size, len(data))])
        text = header["__metadata__"]["answer"]
        table = TensorTable(load_tensors(data))
        return answer_from_json(json.loads(text), table)
    except UnreadableAnswer:
        raise
    except Exception as error:  # whatever a hostile file provokes in a parser
        raise UnreadableAnswer(f"the answer could not be read ({type(error).__name__})") from error


def _get(data: Any, key: str, kind: type, default: Any = None) -> Any:
    value = data.get(key, default) if isinstance(data, dict) else None
    if not isinstance(value, kind):
        raise UnreadableAnswer(f"an answer has no proper {key!r}")
    return value


def _policy_from_json(data: Mapping[str, Any]) -> Policy:
    known = {name: value for name, value in data.items() if name in Policy.__dataclass_fields__}
    for name in ("references", "baseline"):
        if name in known:
            known[name] = tuple(str(text) for text in _get(known, name, list))
    return Policy(**known)


# -- from live objects -----------------------------------------------------------------------------------------------------


def flatten(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Value]]:
    """Walk tuples, lists and dicts down to leaves, with their paths. Tensors are copied, so later changes do not reach the record."""
    if depth > 8:
        yield path, Value("other", "nested more than eight deep")
    elif isinstance(value, torch.Tensor):
        yield path, tensor_value(value)
    elif isinstance(value, Mapping):
        for key in value:
            yield from flatten(value[key], _join(path, str(key)), depth + 1)
        if not value:
            yield path, Value("other", "an empty dict")
    elif isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        for index, item in enumerate(value):
            yield from flatten(item, _join(path, str(index)), depth + 1)
        if not value:
            yield path, Value("other", f"an empty {type(value).__name__}")
    elif isinstance(value, (set, frozenset)):
        yield path, Value("string", "{" + ", ".join(sorted(map(str, value))) + "}")
    elif isinstance(value, torch.Size):
        yield path, Value("string", str(tuple(value)))
    elif isinstance(value, bool):
        yield path, Value("boolean", value)
    elif isinstance(value, (int, float)):
        yield path, Value("number", value)
    elif isinstance(value, str):
        yield path, Value("string", str(value)[:10_000])
    elif value is None:
        yield path, Value("none")
    else:
        yield path, _numpy_value(value)


def tensor_value(tensor: torch.Tensor) -> Value:
    """A plain copy on the CPU, as what the tensor's storage holds and not what a subclass says it holds."""
    with torch.no_grad(), torch._C.DisableTorchFunction():
        plain = torch.Tensor.detach(tensor)
        if plain.layout is not torch.strided or plain.is_complex() or plain.is_quantized:
            return Value("other", f"a {plain.dtype} tensor of layout {plain.layout}")
        return Value("tensor", torch.Tensor.clone(plain.to("cpu"), memory_format=torch.contiguous_format))


def _numpy_value(value: Any) -> Value:
    import numpy as np

    if isinstance(value, np.bool_):
        return Value("boolean", bool(value))
    if isinstance(value, (np.integer, np.floating)):
        return Value("number", value.item())
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return Value("ndarray", torch.from_numpy(np.ascontiguousarray(value).copy()))
    return Value("other", type(value).__name__)


def _join(path: str, item: str) -> str:
    return f"{path}/{item}" if path else item
