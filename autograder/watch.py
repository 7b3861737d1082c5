"""Watches a check's experiment for calls of what the exercise asks to build, made by the learner's code. A second line behind `forbid`.

`forbid` reads sources; this sees what runs, under whatever name it was reached. It never accuses the check, the package, `papers` or a
library: only a call whose nearest caller is the learner's. Code that works against it in its own process can evade it.
"""

# ruff: noqa: PTH100, PTH109, PTH111, PTH118, PTH120
from __future__ import annotations

import fnmatch
import functools
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import BuiltinFunctionType, FrameType, FunctionType, MethodDescriptorType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_MODULES = os.path.join(_TORCH, "nn", "modules") + os.sep
_CONTAINERS = (_MODULES + "module.py", _MODULES + "container.py")
# Where code may come from that is not the learner's: what was importable when the package was, the working folder excepted.
_LIBRARIES = tuple(
    dict.fromkeys(
        os.path.join(os.path.abspath(path), "")
        for path in [
            *sys.path,
            *sysconfig.get_paths().values(),
            os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        ]
        if path and os.path.abspath(path) not in (os.getcwd(), os.path.expanduser("~"), "/")
    )
)
_STANDARD = tuple(os.path.join(sysconfig.get_paths()[name], "") for name in ("stdlib", "platstdlib"))
_PACKAGES = tuple(os.path.join(sysconfig.get_paths()[name], "") for name in ("purelib", "platlib"))


class ForbiddenCall(RuntimeError):
    """The learner's code calls what the exercise asks to build."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the exercise asks you to build this yourself; {name} may not be called instead")


_PLACES: dict[str, Any] = {
    "torch": torch, "torch.nn.functional": nn.functional, "torch.nn": nn, "torch.Tensor": torch.Tensor, "torch.special": torch.special,
}  # fmt: skip
_WILDCARD = re.compile(r"[*?\[]")
_OPERATORS = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)


@functools.lru_cache(maxsize=64)
def _forbidden(patterns: tuple[str, ...]) -> tuple[dict[Any, str], tuple[type, ...], frozenset[str]]:
    """What the patterns stand for: functions (with their names), modules' classes, and names of operators."""
    functions: dict[Any, str] = {}
    classes: list[type] = []
    operators: set[str] = set()
    for pattern in patterns:
        for place, holder in _PLACES.items():
            for name in _matching(place, pattern.removeprefix(place + ".")) if pattern.startswith(place + ".") else ():
                thing = getattr(holder, name, None)
                if isinstance(thing, type):
                    if issubclass(thing, nn.Module) and thing is not nn.Module:
                        classes.append(thing)
                elif isinstance(thing, (FunctionType, BuiltinFunctionType, MethodDescriptorType)):
                    functions[thing] = f"{place}.{name}"
                    if place != "torch.Tensor":
                        operators.add(name)
    return functions, tuple(classes), frozenset(operators)


def _matching(place: str, pattern: str) -> list[str]:
    """Names in one of the places that the pattern stands for. Each kernel asks anew, so a place's thousands of names are listed only if need be."""
    wildcard = _WILDCARD.search(pattern)
    if "." in pattern[: wildcard.start() if wildcard else None]:
        return []  # of a place further in: no name here has a point in it
    if wildcard is None:
        names = [pattern] if any(pattern in vars(holder) for holder in _holders(place)) else []
    else:
        matches = re.compile(fnmatch.translate(pattern)).match
        names = [name for name in _listed(place) if matches(name)]
    return [name for name in names if not name.startswith("__")]


def _holders(place: str) -> tuple[Any, ...]:
    """What a name of the place may stand in: the module, or the class and its bases."""
    holder = _PLACES[place]
    return holder.__mro__ if isinstance(holder, type) else (holder,)


@functools.cache
def _listed(place: str) -> list[str]:
    return dir(_PLACES[place])


def _is_learners(frame: FrameType | None, check: str) -> bool:
    """Whether the nearest caller that is neither torch's machinery nor the standard library's is the learner's."""
    while frame is not None:
        path = frame.f_code.co_filename
        if path == check:
            return False
        if path.startswith(_MODULES) and path not in _CONTAINERS:
            return False  # a ready-made layer that may be used may call what it is made of
        if (
            path.startswith(_TORCH)
            or (path.startswith(_STANDARD) and not path.startswith(_PACKAGES))
            or path.startswith("<frozen ")
        ):
            frame = frame.f_back
            continue
        return not path.startswith(_LIBRARIES)
    return False


def _names(function: str, operator: str) -> bool:
    """Whether an operator is the function or one of its variants, as `_scaled_dot_product_flash_attention_for_cpu` is."""
    return set(function.strip("_").split("_")) <= set(operator.strip("_").split("_"))


class _Calls(TorchFunctionMode):
    """Sees every torch function that takes a tensor, however it was reached."""

    def __init__(self, functions: dict[Any, str], operators: frozenset[str], check: str) -> None:
        super().__init__()
        self._functions, self._operators, self._check = functions, operators, check

    def _operator(self, func: Any) -> str | None:
        operator = str(func).split(".")[1]
        return f"torch.ops.aten.{operator}" if any(_names(each, operator) for each in self._operators) else None

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # A check comes here thousands of times: for an ordinary function no more than one look-up and one test of its type.
        try:
            name = self._functions.get(func)
            if name is None and isinstance(func, _OPERATORS):
                name = self._operator(func)
        except TypeError:  # it cannot be looked up
            name = None
        if name is not None and _is_learners(sys._getframe(1), self._check):
            raise ForbiddenCall(name)
        return func(*args, **kwargs) if kwargs else func(*args)


@contextmanager
def watching(patterns: Sequence[str], check: str) -> Iterator[None]:
    """Within, a forbidden call by the learner's code raises ForbiddenCall.

    Args:
        patterns: of qualified names, as a check's `forbid`; those that name torch's functions, methods or modules are watched.
        check: file name of the check's own code, which may call what it likes.
    """
    functions, classes, operators = _forbidden(tuple(patterns))
    if not functions and not classes:
        yield
        return

    def hook(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, classes) and _is_learners(sys._getframe(1), check):
            kind = next(kind for kind in classes if isinstance(module, kind))
            raise ForbiddenCall(f"torch.nn.{kind.__name__}")

    def scripted(call: Any) -> Any:
        @functools.wraps(call)
        def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = re.findall(r"aten::(\w+)", str(getattr(self, "inlined_graph", self.graph)))
            name = next((name for name in found if any(_names(each, name) for each in operators)), None)
            if name is not None and _is_learners(sys._getframe(1), check):
                raise ForbiddenCall(f"{name} in a scripted function")
            return call(self, *args, **kwargs)

        return checked

    handle = register_module_forward_pre_hook(hook) if classes else None
    kinds = [torch._C.ScriptFunction, torch._C.ScriptMethod]  # they run in C++, out of the mode's sight
    calls = [kind.__call__ for kind in kinds]
    try:
        for kind, call in zip(kinds, calls, strict=True):
            kind.__call__ = scripted(call)  # type: ignore[method-assign]
        with _Calls(functions, operators, check):
            yield
    finally:
        for kind, call in zip(kinds, calls, strict=True):
            kind.__call__ = call  # type: ignore[method-assign]
        if handle is not None:
            handle.remove()
