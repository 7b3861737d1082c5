"""Finds calls of what an exercise asks to build, in the learner's source. It reads source text only and runs none of it."""

from __future__ import annotations

import ast
import fnmatch
import functools
from collections.abc import Iterable, Iterator, Sequence
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


LOCAL = "?"
"""Stands in a scope for a name that a function binds itself, to nothing that can be resolved."""


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

    Only what is used counts: a name in an annotation, a docstring or an `isinstance` test is not a call. Neither is a method of the
    exercise's own classes, `layer.backward(…)` say: whose method it is shows when it runs, and autograder/watch.py looks then. Source that
    does not parse has no uses here; it also runs nowhere.
    """
    if not patterns:
        return []
    main = _parse(exercise)
    if main is None:
        return []
    known_names, known_definitions = _known(tuple(cells))
    names, definitions = dict(known_names), dict(known_definitions)
    _learn(main, names, definitions)

    found: dict[tuple[str, int], Use] = {}
    lines = exercise.splitlines()
    own_methods = {
        f"?.{member.name}"
        for node in ast.walk(main)
        if isinstance(node, ast.ClassDef)
        for member in node.body
        if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    seen: set[str] = set()
    queue: list[tuple[ast.stmt, bool]] = [(statement, True) for statement in main.body]
    while queue:
        statement, own = queue.pop()
        for expression, scope in _used(statement, names):
            name = _qualified(expression, scope)
            for pattern in patterns:
                if name not in own_methods and _matches(name, pattern):
                    line = expression.lineno
                    text = lines[line - 1].strip() if own and 0 < line <= len(lines) else ""
                    found.setdefault((pattern, line), Use(name, line, text[:100]))
            if isinstance(expression, ast.Name) and expression.id not in seen and scope.get(expression.id) != LOCAL:
                seen.add(expression.id)
                queue.extend(
                    (other, other in main.body)
                    for other in definitions.get(expression.id, ())
                    if other is not statement
                )
    return sorted(found.values(), key=lambda use: (use.line, use.name))


@functools.lru_cache(maxsize=2)
def _known(cells: tuple[str, ...]) -> tuple[dict[str, str], dict[str, tuple[ast.stmt, ...]]]:
    """What the names of a notebook's cells stand for, and the statements that define them. Each check of a notebook asks anew."""
    names: dict[str, str] = dict(KNOWN_ALIASES)
    definitions: dict[str, tuple[ast.stmt, ...]] = {}
    for tree in map(_parse, cells):
        if tree is not None:
            _learn(tree, names, definitions)
    return names, definitions


def _learn(tree: ast.Module, names: dict[str, str], definitions: dict[str, tuple[ast.stmt, ...]]) -> None:
    """Add what a cell binds to what is known."""
    for statement in tree.body:
        for name in _defined(statement):
            definitions[name] = (*definitions.get(name, ()), statement)
    _bind(_outside_functions(tree), names)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and any(
            isinstance(n, ast.Global) for n in node.body
        ):
            _bind(ast.walk(node), names)


def _parse(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    try:  # cell magics and shell lines
        from IPython.core.inputtransformer2 import TransformerManager

        return ast.parse(TransformerManager().transform_cell(source))
    except Exception:
        return None


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes whose assignments bind names of the notebook: those outside functions and lambdas."""
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from _outside_functions(child)


def _bind(nodes: Iterable[ast.AST], names: dict[str, str]) -> None:
    """Note what imports and assignments make names stand for: after `attend = F.scaled_dot_product_attention`, `attend` is that."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if alias.name == "*":
                    names[f"* {node.module}"] = node.module
                else:
                    names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                pairs = [(target, node.value)]
                if isinstance(target, (ast.Tuple, ast.List)) and isinstance(node.value, (ast.Tuple, ast.List)):
                    pairs = list(zip(target.elts, node.value.elts, strict=False))
                for name, value in pairs:
                    qualified = _qualified(value, names)
                    if isinstance(name, ast.Name) and _is_module(qualified):
                        names[name.id] = qualified


def _is_dynamic(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _callee(node) in ("getattr", "__import__", "import_module")


def _callee(node: ast.Call) -> str:
    return (
        node.func.id
        if isinstance(node.func, ast.Name)
        else node.func.attr
        if isinstance(node.func, ast.Attribute)
        else ""
    )


def _defined(statement: ast.AST) -> Iterator[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.For, ast.With, ast.If, ast.Try)):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield node.name


def _used(node: ast.AST, scope: dict[str, str]) -> Iterator[tuple[ast.expr, dict[str, str]]]:
    """(expression, names in its scope) of all that is called, subclassed or handed on by name.

    Annotations do not count, nor the second argument of isinstance. Parameters and local names hide the notebook's.
    """
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        arguments = node.args
        outer = [*arguments.defaults, *[default for default in arguments.kw_defaults if default is not None]]
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        if not isinstance(node, ast.Lambda):
            outer += node.decorator_list
        for expression in outer:
            yield from _used(expression, scope)
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        inner = {**scope, **{each.arg: LOCAL for each in every if each is not None}}
        nodes = [n for statement in body for n in [statement, *_outside_functions(statement)]]
        shared = {name for n in nodes if isinstance(n, (ast.Global, ast.Nonlocal)) for name in n.names}
        for n in nodes:
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and n.id not in shared:
                inner[n.id] = LOCAL
            elif isinstance(n, (ast.FunctionDef, ast.ClassDef)):
                inner[n.name] = LOCAL
        _bind(nodes, inner)
        for part in body:
            yield from _used(part, inner)
        return
    if isinstance(node, ast.AnnAssign):
        if node.value is not None:
            yield from _used(node.value, scope)
        return
    if isinstance(node, ast.Attribute):
        if isinstance(node.ctx, ast.Load):
            yield node, scope
        base: ast.expr = node.value
        while isinstance(base, ast.Attribute):  # only the whole dotted name counts
            base = base.value
        if not isinstance(base, ast.Name):
            yield from _used(base, scope)
        elif isinstance(base.ctx, ast.Load):
            yield base, scope
        return
    if isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Load):
            yield node, scope
        return
    if isinstance(node, ast.Call):
        if _is_dynamic(node):
            yield node, scope
        if _callee(node) in ("isinstance", "issubclass"):
            yield from _used(node.args[0], scope) if node.args else ()
            return
    for child in ast.iter_child_nodes(node):
        yield from _used(child, scope)


def _qualified(node: ast.AST | None, names: dict[str, str]) -> str:
    """The dotted name an expression stands for; "?.x" for an attribute of what cannot be resolved; "?" for anything else."""
    if isinstance(node, ast.Name):
        qualified = names.get(node.id)
        if qualified == LOCAL:
            return "?"
        if qualified is None:
            stars = [module for key, module in names.items() if key.startswith("* ")]
            qualified = f"{stars[-1]}.{node.id}" if stars else node.id
        return _canonical(qualified)
    if isinstance(node, ast.Attribute):
        base = _qualified(node.value, names)
        resolved = (
            base
            if isinstance(node.value, (ast.Attribute, ast.Name)) and _is_module(base)
            else _dynamic_base(node.value, names)
        )
        return _canonical(f"{resolved}.{node.attr}")
    if isinstance(node, ast.Call) and _is_dynamic(node):
        constants = [
            argument.value
            for argument in node.args
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
        ]
        if _callee(node) == "getattr" and constants:
            return _canonical(f"{_qualified(node.args[0], names)}.{constants[0]}")
        if constants:
            return _canonical(constants[0])
    return "?"


def _dynamic_base(node: ast.AST, names: dict[str, str]) -> str:
    return _qualified(node, names) if _is_dynamic(node) else "?"


def _is_module(name: str) -> bool:
    return name.split(".")[0] in (
        "torch",
        "torchvision",
        "numpy",
        "scipy",
        "sklearn",
        "math",
        "transformers",
        "papers",
        "jax",
        "tensorflow",
    )


def _canonical(name: str) -> str:
    for prefix, meaning in SYNONYMS.items():
        if name == prefix or name.startswith(prefix + "."):
            return meaning + name[len(prefix) :]
    return name


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("torch.Tensor."):
        return fnmatch.fnmatchcase(name, "?." + pattern.removeprefix("torch.Tensor.")) or fnmatch.fnmatchcase(
            name, pattern
        )
    # a method chained on a module, nn.Transformer(...).encoder, has been matched where the module is called
    return fnmatch.fnmatchcase(name, pattern)
