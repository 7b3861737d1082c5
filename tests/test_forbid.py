"""Forbidden calls are found by whatever door they come in, and nothing else is."""

from __future__ import annotations

import pytest
import torch

from autograder.build import read_all
from autograder.forbid import forbidden_uses
from autograder.watch import ForbiddenCall, watching
from tests.conftest import ROOT

ATTENTION = ["torch.nn.functional.scaled_dot_product_attention", "torch.nn.MultiheadAttention", "torch.nn.Transformer*"]
SOFTMAX = ["torch.softmax", "torch.nn.functional.softmax", "torch.nn.Softmax", "torch.Tensor.softmax"]

FOUND = {
    "the usual alias": "def f(q, k, v):\n    return F.scaled_dot_product_attention(q, k, v)",
    "the whole name": "import torch\ndef f(q):\n    return torch.nn.functional.scaled_dot_product_attention(q, q, q)",
    "an import of its own": "from torch.nn.functional import scaled_dot_product_attention as sdpa\ndef f(q):\n    return sdpa(q, q, q)",
    "an import inside the function": "def f(q):\n    from torch.nn import functional as g\n    return g.scaled_dot_product_attention(q, q, q)",
    "another name by assignment": "a = F.scaled_dot_product_attention\ndef f(q):\n    return a(q, q, q)",
    "two assignments in a tuple": "def f(q):\n    x, a = 1, F.scaled_dot_product_attention\n    return a(q, q, q)",
    "getattr": "def f(q):\n    return getattr(F, 'scaled_dot_product_attention')(q, q, q)",
    "importlib": "import importlib\ndef f(q):\n    return importlib.import_module('torch.nn.functional').scaled_dot_product_attention(q, q, q)",
    "__import__": "def f(q):\n    return __import__('torch').nn.functional.scaled_dot_product_attention(q, q, q)",
    "a module built": "def f(q):\n    return nn.MultiheadAttention(4, 2)(q, q, q)",
    "a subclass": "class A(nn.TransformerEncoderLayer):\n    pass",
    "handed on": "import functools\ndef f(q):\n    return functools.partial(F.scaled_dot_product_attention, q)()",
    "a default argument": "def f(q, a=F.scaled_dot_product_attention):\n    return a(q, q, q)",
    "the C function": "def f(q):\n    return torch._C._nn.scaled_dot_product_attention(q, q, q)",
    "a star import": "from torch.nn.functional import *\ndef f(q):\n    return scaled_dot_product_attention(q, q, q)",
    "a lambda": "f = lambda q: F.scaled_dot_product_attention(q, q, q)",
}


@pytest.mark.parametrize("source", FOUND.values(), ids=FOUND.keys())
def test_a_forbidden_call_is_found(source: str) -> None:
    assert forbidden_uses(source, [], ATTENTION)


def test_a_call_in_another_cell_counts_if_the_exercise_reaches_it() -> None:
    exercise = "def f(q):\n    return g(q)"
    assert forbidden_uses(exercise, ["def g(q):\n    return F.scaled_dot_product_attention(q, q, q)"], ATTENTION)
    assert forbidden_uses(exercise, ["g = F.scaled_dot_product_attention"], ATTENTION)
    assert not forbidden_uses(
        exercise,
        ["def g(q):\n    return q", "def h(q):\n    return F.scaled_dot_product_attention(q, q, q)"],
        ATTENTION,
    )


def test_a_method_is_found_by_its_name_and_a_function_of_a_module_is_not_taken_for_one() -> None:
    assert forbidden_uses("def f(x):\n    return (x * 2).softmax(-1)", [], SOFTMAX)
    assert forbidden_uses("def f(x):\n    return x.softmax(dim=0)", [], SOFTMAX)
    assert not forbidden_uses("import scipy.special\ndef f(x):\n    return scipy.special.softmax(x)", [], SOFTMAX)


ALLOWED = {
    "an annotation": "def f(m: nn.MultiheadAttention) -> nn.MultiheadAttention:\n    return m",
    "isinstance": "def f(m):\n    return isinstance(m, nn.MultiheadAttention)",
    "a docstring": 'def f(m):\n    """Not F.scaled_dot_product_attention."""\n    return m',
    "a function of the learner's own with that name": "def scaled_dot_product_attention(q):\n    return q\ndef f(q):\n    return scaled_dot_product_attention(q)",
    "other modules": "def f(q):\n    return nn.Linear(3, 4)(q)",
    "source that does not parse": "def f(q:\n    F.scaled_dot_product_attention(",
}


@pytest.mark.parametrize("source", ALLOWED.values(), ids=ALLOWED.keys())
def test_what_is_no_call_is_allowed(source: str) -> None:
    assert not forbidden_uses(source, [], ATTENTION)


def test_a_local_name_is_not_looked_up_in_other_cells() -> None:
    exercise = "def f(x):\n    N, _, H, W = x.shape\n    return x * N"
    others = [
        "x = F.scaled_dot_product_attention(q, k, v)",
        "def _(case):\n    F.scaled_dot_product_attention(1, 2, 3)",
        "N = nn.Transformer",
    ]
    assert not forbidden_uses(exercise, others, ATTENTION)
    assert forbidden_uses("def f(x):\n    return N(x)", others, ATTENTION)


def test_magics_do_not_hide_a_call() -> None:
    assert forbidden_uses("%time 1 + 1\ndef f(q):\n    return F.scaled_dot_product_attention(q, q, q)", [], ATTENTION)


def test_the_line_and_its_text_are_told() -> None:
    (use,) = forbidden_uses("def f(q):\n    x = 1\n    return F.scaled_dot_product_attention(q, q, q)", [], ATTENTION)
    assert use.line == 3
    assert "return F.scaled_dot_product_attention(q, q, q)" in str(use)


def test_a_method_of_the_exercises_own_class_is_no_tensors() -> None:
    patterns = ["torch.Tensor.backward", "torch.autograd.backward"]
    own = "class Affine:\n    def backward(self, d):\n        return d @ self.W.T\n\ndef gradients(x):\n    return Affine().backward(x)"
    assert not forbidden_uses(own, [], patterns)
    assert forbidden_uses(own.replace("def backward", "def back"), [], patterns)
    assert forbidden_uses(own + "\n\ndef cheat(loss):\n    torch.autograd.backward(loss)", [], patterns)


CALLS = {"softmax": "x.softmax(-1)", "log_softmax": "x.log_softmax(-1)", "backward": "loss.backward()", "requires_grad_": "x.requires_grad_()",
         "cov": "x.cov()", "corrcoef": "x.corrcoef()"}  # fmt: skip
METHODS = sorted(
    {
        pattern.removeprefix("torch.Tensor.")
        for notebook in read_all(ROOT)
        for cell in notebook.checks.values()
        for pattern in cell.check.forbid
        if pattern.startswith("torch.Tensor.")
    }
)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_of_ones_own_is_no_cover_for_a_tensors(method: str) -> None:
    source = f"class Cover:\n    def {method}(self): ...\n\n{CALLS[method]}"
    assert not forbidden_uses(source, [], [f"torch.Tensor.{method}"])
    names = {"x": torch.randn(3, 3), "loss": torch.randn(3, requires_grad=True).sum()}
    with pytest.raises(ForbiddenCall), watching([f"torch.Tensor.{method}"], "<the check's cell>"):
        exec(compile(source, "<a learner's cell>", "exec"), names)
