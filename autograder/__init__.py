"""Checks for the notebooks of “From paper to PyTorch”: what a learner's notebook imports. The grader's modules are imported by name.

Names are looked up when first used, so that the command line and the grader's own process do not import torch before they need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autograder.authoring import alternative, equivalents, hint, hints, misconceptions, mistake
    from autograder.checks import CheckFailed, begin, check
    from autograder.tally import score

__all__ = [
    "CheckFailed",
    "alternative",
    "begin",
    "check",
    "equivalents",
    "hint",
    "hints",
    "misconceptions",
    "mistake",
    "score",
]
__version__ = "0.1.0"

_HOMES = {
    "autograder.authoring": ("alternative", "equivalents", "hint", "hints", "misconceptions", "mistake"),
    "autograder.checks": ("CheckFailed", "begin", "check"),
    "autograder.tally": ("score",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(home), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
