"""Mutants: each operator makes its slip, only in the solution, and every mutant is another program that compiles."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest

from autograder.audit import solution_lines
from autograder.mutants import GENERAL, OPERATORS, General, mutants
from autograder.notebook import read

SOLUTIONS = Path(__file__).parents[1] / "solutions"
EXERCISES = [(path.stem, cell) for path in sorted(SOLUTIONS.glob("*/*.py")) for cell in read(path).exercises.values()]


def exercise(body: str, signature: str = "f(self, x: Tensor, y: Tensor, mask: Tensor, n: int)") -> str:
    """An exercise cell whose solution is `body`."""
    lines = "\n".join("    " + line for line in body.split("\n"))
    return f'def {signature}:\n    """Doc."""\n    ### BEGIN SOLUTION\n{lines}\n    ### END SOLUTION\n'


def after(body: str, operator: str) -> set[str]:
    return {mutant.after for mutant in mutants(exercise(body)) if mutant.operator == operator}


SHOWN = [
    ("axis", "return x.softmax(dim=-1)", "return x.softmax(dim=-2)"),
    ("axis", "return torch.stack([x, y], 1)", "return torch.stack([x, y], 0)"),
    ("axis", "return torch.softmax(x, 1)", "return torch.softmax(x, 2)"),
    ("axis", "return x.shape[-1]", "return x.shape[-2]"),
    ("axis", "return x.mean(dim=(0, 2, 3))", "return x.mean(dim=(2, 3))"),
    ("transpose", "return x @ y.mT", "return x @ y"),
    ("transpose", "return x @ y.transpose(-2, -1)", "return x @ y"),
    ("transpose", "return x.transpose(1, 2)", "return x.transpose(1, 3)"),
    ("transpose", "return (x + y).transpose(1, 2).sum()", "return (x + y).sum()"),
    ("transpose", "return x.permute(0, 2, 1)", "return x.permute(2, 0, 1)"),
    ("shape", "return x.view(n, 4, -1)", "return x.view(4, n, -1)"),
    ("index", "return mask[:, None, :]", "return mask[None, :, :]"),
    ("index", "return x[:, :-1]", "return x"),
    ("index", "return x[:n]", "return x[:n - 1]"),
    ("call dropped", "z = x.detach()", "z = x"),
    ("call dropped", "return x / math.sqrt(n + 1)", "return x / (n + 1)"),
    ("call dropped", "return self.norm(x)", "return x"),
    ("call dropped", "self.layers = nn.ModuleList([x])", "self.layers = [x]"),
    ("call swapped", "return x.mean()", "return x.sum()"),
    ("call swapped", "return x.tril()", "return x.triu()"),
    ("call swapped", "self.eval()", "self.train()"),
    ("call swapped", "with torch.no_grad():\n    return x", "with torch.enable_grad()"),
    ("call swapped", "return torch.finfo(x.dtype).min", "return torch.finfo(x.dtype).max"),
    ("diagonal", "return torch.tril(x)", "return torch.tril(x, diagonal=-1)"),
    ("bias", "self.w = nn.Linear(n, n)", "self.w = nn.Linear(n, n, bias=False)"),
    ("reduction", 'return F.mse_loss(x, y, reduction="sum")', 'return F.mse_loss(x, y, reduction="mean")'),
    ("mask inverted", "return x.masked_fill(mask, 0.0)", "return x.masked_fill(~mask, 0.0)"),
    ("detach added", "return x @ y", "return (x @ y).detach()"),
    ("detach added", "z = generator(x)\nloss = discriminator(z)\nloss.backward()", "loss = discriminator(z.detach())"),
    ("in place", "z = x.masked_fill(mask, 0.0)", "z = x.masked_fill_(mask, 0.0)"),
    ("in place", "z = x + y", "z = x.add_(y)"),
    ("buffer", 'self.register_buffer("table", x)', "self.table = x"),
    ("term dropped", "return x + self.f(x)", "return self.f(x)"),
    ("term dropped", "return x / n", "return x"),
    ("term dropped", "return x ** 0.5", "return x"),
    ("operands", "return x @ y", "return y @ x"),
    ("operands", "return x @ y", "return x * y"),
    ("operands", "return x - y * n", "return (y * n) - x"),
    ("constant", "return x * 0.5", "return x * 5"),
    ("constant", "z = f(x, eps=1e-6)", "z = f(x, eps=0.0)"),
    ("update", "n += 2", "n = 2"),
    ("update", "n += 2", "n -= 2"),
    ("return", "return x, y", "return y, x"),
    ("return", "return x, y", "return x"),
    ("condition", "if mask is not None:\n    x = y\n    y = x", "if False"),
    ("condition", "if n and x:\n    x = y", "if not (n and x)"),
    ("condition", "if n in x:\n    x = y", "if n not in x"),
    ("range", "for i in range(n):\n    f(i)", "for i in range(n - 1)"),
    ("range", "for i in range(n):\n    f(i)", "for i in range(1, n)"),
    ("variable", "return x.exp()", "return y.exp()"),
    ("variable", "B, T = n\nreturn x.view(B, 3)", "return x.view(T, 3)"),
    ("arguments swapped", "return F.binary_cross_entropy(x, y)", "return F.binary_cross_entropy(y, x)"),
    ("option dropped", "self.w = nn.Conv2d(n, 3, 4, stride=2)", "self.w = nn.Conv2d(n, 3, 4)"),
    ("line missing", "optimizer.zero_grad()", "pass"),
    ("line missing", "x = x + y", "pass"),
    ("lines swapped", "loss.backward()\noptimizer.step()", "optimizer.step(); loss.backward()"),
    ("arithmetic", "return x + y", "return x - y"),
    ("sign", "return -x", "return x"),
    ("negation", "return x.masked_fill(~mask, 0.0)", "return x.masked_fill(mask, 0.0)"),
    ("comparison", "return x < y", "return x <= y"),
    ("truth value", "return x.sum(-1, keepdim=True)", "return x.sum(-1, keepdim=False)"),
    ("and, or", "return x and y", "return x or y"),
    ("loop", "for i in x:\n    f(i)", "for i in []"),
    ("number", "return n // 2", "return n // 3"),
    ("decorator dropped", "@torch.no_grad()\ndef g():\n    return x\nreturn g", ""),
]


@pytest.mark.parametrize(("operator", "body", "expected"), SHOWN)
def test_an_operator_makes_its_slip(operator: str, body: str, expected: str) -> None:
    assert expected in after(body, operator)


def test_every_operator_is_shown_above() -> None:
    names = {operator.name for operator in OPERATORS if not isinstance(operator, General)} | set(GENERAL)
    assert names == {operator for operator, _, _ in SHOWN}


@pytest.mark.parametrize(
    ("body", "operator"),
    [
        ("x = x.contiguous()", "call dropped"),
        ("super().__init__()", "line missing"),
        ("return x.view(n, -1)", "number"),
        ("z = nn.ReLU(inplace=True)", "truth value"),
        ("a.step()\nb.zero_grad()", "lines swapped"),
        ("return x.to(y.device)", "call dropped"),
        ("z = x.cos()\nreturn z.masked_fill(mask, 0.0)", "in place"),
        ("while True:\n    n += 1\n    break", "loop"),
        ("z = x.f(1e-6)", "number"),
        ('return f"{n + 1} at {x}"', "arithmetic"),
        ('print("loss", n + 1)', "arithmetic"),
        ('raise ValueError(f"bad" + str(n - 1))', "arithmetic"),
        ("z: Tensor | None = x", "arithmetic"),
    ],
)
def test_what_changes_no_result_is_left_alone(body: str, operator: str) -> None:
    assert not after(body, operator)


def test_only_the_solution_changes() -> None:
    source = (
        "LIMIT = 3 + 4\n\n"
        "def f(x: int = 5, y: bool = True) -> int | None:\n"
        '    """x + 1, never -1."""\n'
        "    given = x + 1\n"
        "    ### BEGIN SOLUTION\n"
        "    # x + 1, or not\n"
        "    first = given * 2  # « 2 »\n"
        "    ### END SOLUTION\n"
        "    between = first + 1\n"
        "    ### BEGIN SOLUTION\n"
        "    return between - x\n"
        "    ### END SOLUTION\n"
        "\n\ndef after(z):\n    return z + 1\n"
    )
    lines = source.split("\n")
    changed = set()
    for mutant in mutants(source):
        difference = [i + 1 for i, (a, b) in enumerate(zip(lines, mutant.source.split("\n"), strict=True)) if a != b]
        assert difference == [mutant.line]
        changed |= set(difference)
    assert changed == {8, 12}


def test_text_around_a_slip_stays_also_beside_letters_of_several_bytes() -> None:
    source = exercise('z = g("é … ∞", x + y)  # größer − „α“')
    mutant = next(mutant for mutant in mutants(source) if mutant.operator == "arithmetic")
    assert mutant.source == source.replace("x + y", "x - y")


def test_a_description_does_not_depend_on_where_the_line_stands() -> None:
    one, other = exercise("return x + y"), exercise("# a comment\n\nz = 3\nreturn (\n    x  # first\n    + y\n)")
    found = {mutant.description for mutant in mutants(one)}
    assert "arithmetic: `return x + y` → `return x - y`" in found
    assert "arithmetic: `return (x + y)` → `return (x - y)`" in {mutant.description for mutant in mutants(other)}


def test_descriptions_are_different_where_two_lines_are_equal() -> None:
    descriptions = [mutant.description for mutant in mutants(exercise("x = x + y\nx = x + y\nreturn x"))]
    assert "arithmetic: `x = x + y` → `x = x - y`" in descriptions
    assert "arithmetic: `x = x + y` → `x = x - y` (2nd)" in descriptions
    assert len(set(descriptions)) == len(descriptions)


def test_an_exercise_without_a_solution_region_has_no_mutants() -> None:
    assert mutants("def f(x):\n    return x + 1\n") == []


@pytest.mark.parametrize(("notebook", "cell"), EXERCISES, ids=[f"{stem}-{cell.name}" for stem, cell in EXERCISES])
def test_mutants_of_the_curriculum_compile_differ_and_are_the_same_every_time(notebook: str, cell) -> None:  # type: ignore[no-untyped-def]
    started = time.process_time()
    found = mutants(cell.source)
    assert time.process_time() - started < 5.0
    solution = [line for line in solution_lines(cell.source) if line.strip() and not line.strip().startswith("#")]
    assert found or len(solution) == 1, f"{cell.name} in {notebook} has no mutants"
    assert found == mutants(cell.source)
    dumps = [ast.dump(ast.parse(mutant.source)) for mutant in found]
    for mutant in found:
        compile(mutant.source, "<mutant>", "exec")
    assert len({*dumps, ast.dump(ast.parse(cell.source))}) == len(found) + 1
    assert len({mutant.description for mutant in found}) == len(found)
    assert [mutant.line for mutant in found] == sorted(mutant.line for mutant in found)
