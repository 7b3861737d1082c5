"""Checks for the notebooks of “From paper to PyTorch”: what a learner's notebook imports. The grader's modules are imported by name."""

from autograder.authoring import alternative, equivalents, hint, hints, misconceptions, mistake
from autograder.checks import CheckFailed, begin, check
from autograder.score import score

__all__ = ["CheckFailed", "alternative", "begin", "check", "equivalents", "hint", "hints", "misconceptions", "mistake", "score"]
__version__ = "0.1.0"
