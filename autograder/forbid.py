"""Finds calls of what an exercise asks to build, in the learner's source. It reads source text only and runs none of it."""

from __future__ import annotations

import ast
import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

KNOWN_ALIASES = {"F": "torch.nn.functional", "nn": "torch.nn", "np": "numpy", "optim": "torch.optim"}
"""What the notebooks' own import cells bind, in case a learner's cells are looked at without them."""

SYNONYMS = {
    "torch.functional": "torch",
    "torch.nn.modules.activation": "torch.nn",
    "torch.nn.modules.transformer": "torch.nn",
    "torch.nn.modules.normalization": "torch.nn",
    "torch.nn.modules.conv": "torch.nn",
    "torch.nn.modules.rnn": "torch.nn",
    "torch.nn.modules": "torch.nn",
    "torch.special": "torch",
    "torch._C._nn": "torch.nn.functional",
    "torch.ops.aten": "torch.nn.functional",
}
"""Other doors to the same room: a prefix on the left means the one on the right."""


@dataclass(frozen=True)
class Use:
    """One forbidden call: what, and the line of the cell it stands in."""

    name: str
    line: int
    text: str = ""

    def __str__(self) -> str:
        return f"{self.name} in line {self.line}" + (f" (`{self.text}`)" if self.text else "")


def forbidden_uses(exercise: str, cells: Sequence[str], patterns: Sequence[str]) -> list[Use]:
    """Forbidden calls that the exercise's code reaches.

    Args:
        exercise: source of the exercise cell.
        cells: sources of the learner's other cells: what the exercise calls from them counts as its own.
        patterns: qualified names with `*` wildcards ("torch.nn.Transformer*"); "torch.Tensor.softmax" means a method of that name.

    Only what is used counts: a name in an annotation, a docstring or an `isinstance` test is not a call. Source that does not parse has no
    uses here; it also runs nowhere.
    """
    if not patterns:
        return []
    trees = [tree for tree in (_parse(source) for source in [*cells, exercise]) if tree is not None]
    main = _parse(exercise)
    if main is None:
        return []
    names = dict(KNOWN_ALIASES)
    definitions: dict[str, list[ast.AST]] = {}
    for tree in trees:
        for node in ast.walk(tree):
            _bind_imports(node, names)
        for statement in tree.body:
            for name in _defined(statement):
                definitions.setdefault(name, []).append(statement)
        _bind_assignments(tree, names)

    found: dict[tuple[str, int], Use] = {}
    lines = exercise.splitlines()
    seen: set[str] = set()
    queue: list[tuple[ast.AST, bool]] = [(statement, True) for statement in main.body]
    while queue:
        node, own = queue.pop()
        scope = dict(names)
        for inner in ast.walk(node):
            _bind_imports(inner, scope)
        _bind_assignments(node, scope)
        for expression in _used(node):
            name = _qualified(expression, scope)
            for pattern in patterns:
                if _matches(name, pattern):
                    line = getattr(expression, "lineno", 0)
                    text = lines[line - 1].strip() if own and 0 < line <= len(lines) else ""
                    found.setdefault((pattern, line), Use(name, line, text[:100]))
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and inner.id in definitions and inner.id not in seen:
                seen.add(inner.id)
                queue.extend((statement, statement in main.body) for statement in definitions[inner.id] if statement is not node)
    return sorted(found.values(), key=lambda use: (use.line, use.name))


def _parse(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    try:  # cell magics and shell lines
        from IPython.core.inputtransformer2 import TransformerManager

        return ast.parse(TransformerManager().transform_cell(source))
    except Exception:  # noqa: BLE001 - whatever a learner typed; it does not run either
        return None


def _bind_imports(node: ast.AST, names: dict[str, str]) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            names[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else alias.name.split(".")[0]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
            if alias.name == "*":
                names[f"* {node.module}"] = node.module
            else:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"


def _bind_assignments(tree: ast.AST, names: dict[str, str]) -> None:
    """`attention = F.scaled_dot_product_attention` makes `attention` another name of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Call) or isinstance(node, ast.NamedExpr):
            qualified = _qualified(node.value, names)
            if "." in qualified and not qualified.startswith("?."):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name):
                        names[target.id] = qualified
        elif isinstance(node, ast.Assign) and _is_dynamic(node.value):
            qualified = _qualified(node.value, names)
            for target in node.targets:
                if isinstance(target, ast.Name) and not qualified.startswith("?"):
                    names[target.id] = qualified


def _is_dynamic(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _callee(node) in ("getattr", "__import__", "import_module")


def _callee(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""


def _defined(statement: ast.AST) -> Iterator[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.For, ast.With, ast.If, ast.Try)):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield node.name


def _used(node: ast.AST) -> Iterator[ast.expr]:
    """Expressions that are called, subclassed, or handed on by name; not annotations, not the second argument of isinstance."""
    skip: set[int] = set()
    for inner in ast.walk(node):
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = inner.args
            for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
                if argument is not None and argument.annotation is not None:
                    skip.update(map(id, ast.walk(argument.annotation)))
            if inner.returns is not None:
                skip.update(map(id, ast.walk(inner.returns)))
        elif isinstance(inner, ast.AnnAssign):
            skip.update(map(id, ast.walk(inner.annotation)))
        elif isinstance(inner, ast.Call) and _callee(inner) in ("isinstance", "issubclass"):
            for argument in inner.args[1:]:
                skip.update(map(id, ast.walk(argument)))
        elif isinstance(inner, ast.Attribute):
            skip.add(id(inner.value))  # only the whole dotted name counts
    for inner in ast.walk(node):
        if id(inner) in skip:
            continue
        if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Load) or isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
            yield inner
        elif isinstance(inner, ast.Call) and _is_dynamic(inner):
            yield inner
        elif isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and isinstance(inner.func.value, ast.expr):
            yield inner.func


def _qualified(node: ast.AST | None, names: dict[str, str]) -> str:
    """The dotted name an expression stands for; "?.x" for an attribute of what cannot be resolved; "?" for anything else."""
    if isinstance(node, ast.Name):
        qualified = names.get(node.id)
        if qualified is None:
            stars = [module for key, module in names.items() if key.startswith("* ")]
            qualified = f"{stars[-1]}.{node.id}" if stars else node.id
        return _canonical(qualified)
    if isinstance(node, ast.Attribute):
        base = _qualified(node.value, names)
        resolved = base if isinstance(node.value, (ast.Attribute, ast.Name)) and _is_module(base) else _dynamic_base(node.value, names)
        return _canonical(f"{resolved}.{node.attr}")
    if isinstance(node, ast.Call) and _is_dynamic(node):
        constants = [argument.value for argument in node.args if isinstance(argument, ast.Constant) and isinstance(argument.value, str)]
        if _callee(node) == "getattr" and constants:
            return _canonical(f"{_qualified(node.args[0], names)}.{constants[0]}")
        if constants:
            return _canonical(constants[0])
    return "?"


def _dynamic_base(node: ast.AST, names: dict[str, str]) -> str:
    return _qualified(node, names) if _is_dynamic(node) else "?"


def _is_module(name: str) -> bool:
    return name.split(".")[0] in ("torch", "torchvision", "numpy", "scipy", "sklearn", "math", "transformers", "papers", "jax", "tensorflow")


def _canonical(name: str) -> str:
    for prefix, meaning in SYNONYMS.items():
        if name == prefix or name.startswith(prefix + "."):
            return meaning + name[len(prefix) :]
    return name


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("torch.Tensor."):
        return fnmatch.fnmatchcase(name, "?." + pattern.removeprefix("torch.Tensor.")) or fnmatch.fnmatchcase(name, pattern)
    # a method chained on a module, nn.Transformer(...).encoder, has been matched where the module is called
    return fnmatch.fnmatchcase(name, pattern)
