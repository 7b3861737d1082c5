"""Reads the source text of cells: which names one defines, which checks it holds. It runs nothing and needs no library."""

from __future__ import annotations

import ast
from collections.abc import Sequence


def cell_defining(name: str, cells: Sequence[str]) -> str | None:
    """The latest cell that defines `name` at its top level, by `def`, `class` or assignment."""
    return next((source for source in reversed(cells) if name in top_level_names(source)), None)


def top_level_names(source: str) -> set[str]:
    """Names that a cell's top level defines by `def`, `class` or assignment; none if it does not parse."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return set()
    names = set()
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if not any(_is_call_of(decorator, "alternative") for decorator in statement.decorator_list):
                names.add(statement.name)
        elif isinstance(statement, ast.Assign):
            names.update(target.id for target in statement.targets if isinstance(target, ast.Name))
    return names


def checked_names(source: str) -> set[str]:
    """Names of the checks that a cell holds; none if it does not parse."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return set()
    calls = [decorator for statement in body for decorator in getattr(statement, "decorator_list", [])]
    return {
        call.args[0].value
        for call in calls
        if _is_call_of(call, "check")
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }


def _is_call_of(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
