"""Mutants: the reference solution of an exercise with one plausible slip each, for the audit. Rewrites source text; runs none of it.

What every program has (arithmetic, comparisons, numbers, truth values, loops) is mutated by cosmic-ray's operators, each narrowed to swaps
that a person might make. What code on tensors has on top (axes, masks, gradients, layers) is mutated by the operators below.
Only what stands between `### BEGIN SOLUTION` and `### END SOLUTION` changes, and there no docstring, comment, annotation or message.

A mutant may loop forever or ask for too much memory: whoever runs one sets limits.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

from autograder.notebook import BEGIN_SOLUTION, END_SOLUTION

ORDINALS = {1: "st", 2: "nd", 3: "rd"}


@dataclass(frozen=True)
class Mutant:
    """One slip in an exercise's solution.

    operator: the kind of slip. line: where it is in the exercise cell, from 1. before, after: the statement (of a compound one its first line).
    source: the whole cell with the slip in it. occurrence: counts mutants of one cell that would read the same.
    """

    operator: str
    line: int
    before: str
    after: str
    source: str
    occurrence: int = 1

    @property
    def description(self) -> str:
        """One line that names this mutant among those of its exercise, whatever stands on other lines."""
        text = f"{self.operator}: `{self.before}` → `{self.after}`"
        return text if self.occurrence == 1 else f"{text} ({self.occurrence}{ORDINALS.get(self.occurrence, 'th')})"


def mutants(source: str) -> list[Mutant]:
    """All mutants of an exercise cell, in the order of the text; the same list for the same source.

    Args:
        source: an exercise cell, with its solution regions.

    Returns: mutants that compile and differ from the reference and from each other by more than layout.
    """
    code = Code(source)
    edits = {edit: None for operator in OPERATORS for edit in operator.edits(code) if code.allows(edit.start, edit.end)}
    seen, texts = {ast.dump(code.tree)}, Counter[str]()
    found = []
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        changed = source[: edit.start] + edit.text + source[edit.end :]
        try:
            tree = ast.parse(changed)
            compile(tree, "<mutant>", "exec")
        except (SyntaxError, ValueError):
            continue  # two right edits can make a wrong text, `return` outside a function, say
        if (dump := ast.dump(tree)) in seen:
            continue
        seen.add(dump)
        before, after = code.described(edit)
        mutant = Mutant(edit.operator, code.line(edit.start), before, after, changed)
        texts[mutant.description] += 1
        found.append(replace(mutant, occurrence=texts[mutant.description]))
    return found


@dataclass(frozen=True)
class Edit:
    """A replacement of `source[start:end]`."""

    operator: str
    start: int
    end: int
    text: str


Function = ast.FunctionDef | ast.AsyncFunctionDef
ATOMS = (
    ast.Name,
    ast.Attribute,
    ast.Call,
    ast.Subscript,
    ast.Constant,
    ast.List,
    ast.Dict,
    ast.Set,
    ast.ListComp,
    ast.DictComp,
)
MODULES = {
    "torch",
    "F",
    "nn",
    "math",
    "np",
    "numpy",
    "random",
    "copy",
    "itertools",
    "functools",
    "init",
    "optim",
    "einops",
    "json",
    "os",
    "re",
}


class Code:
    """An exercise cell: its syntax tree, where things stand in the text, and what may change."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tree = ast.parse(source)
        self._lines = source.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}
        self.clean = self._without_comments()

    # -- places ----------------------------------------------------------------------------------------------------------

    def offset(self, line: int, column: int, columns_are_bytes: bool = True) -> int:
        """The place in the text of a line (from 1) and column (from 0); the syntax tree counts columns in bytes."""
        if columns_are_bytes and not (text := self._lines[line - 1]).isascii():
            column = len(text.encode()[:column].decode())
        return self._starts[line - 1] + column

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Where a node stands, without brackets around it."""
        return (
            self.offset(node.lineno, node.col_offset),  # type: ignore[attr-defined]
            self.offset(node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
        )

    def line(self, offset: int) -> int:
        return self.source.count("\n", 0, offset) + 1

    def text(self, node: ast.AST) -> str:
        """A node's text, comments blanked."""
        start, end = self.span(node)
        return self.clean[start:end]

    def _without_comments(self) -> str:
        blanked = list(self.source)
        for token in tokenize.generate_tokens(io.StringIO(self.source).readline):
            if token.type == tokenize.COMMENT:
                start = self.offset(token.start[0], token.start[1], False)
                blanked[start : start + len(token.string)] = " " * len(token.string)
        return "".join(blanked)

    # -- what may change -------------------------------------------------------------------------------------------------

    @cached_property
    def regions(self) -> list[tuple[int, int]]:
        """The solution regions."""
        found, begin = [], None
        for number, line in enumerate(self._lines):
            if BEGIN_SOLUTION in line:
                begin = self._starts[number + 1]
            elif END_SOLUTION in line and begin is not None:
                found.append((begin, self._starts[number]))
                begin = None
        return found

    @cached_property
    def _untouched(self) -> list[tuple[int, int]]:
        """Annotations, messages, docstrings and formatted strings: nothing that a check should see."""
        nodes: list[ast.AST | None] = []
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.arg, ast.AnnAssign)):
                nodes.append(node.annotation)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                nodes.append(node.returns)
            elif isinstance(node, ast.Raise):
                nodes.append(node)
            elif isinstance(node, ast.Assert):
                nodes.append(node.msg)
            elif isinstance(node, ast.JoinedStr) or is_docstring(node) or is_print(node):
                nodes.append(node)
        return [self.span(node) for node in nodes if node is not None]

    def allows(self, start: int, end: int) -> bool:
        """Whether the text between the two places may change."""
        inside = any(first <= start and end <= last for first, last in self.regions)
        return inside and not any(start < last and first < end for first, last in self._untouched)

    # -- nodes -----------------------------------------------------------------------------------------------------------

    @cached_property
    def nodes(self) -> Sequence[ast.AST]:
        """Nodes of the solution regions."""
        placed = [node for node in ast.walk(self.tree) if isinstance(node, (ast.expr, ast.stmt, ast.keyword))]
        regions = self.regions
        inside = []
        for node in placed:
            start, _ = self.span(node)
            if any(first <= start < last for first, last in regions):
                inside.append(node)
        return inside

    def of(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        return (node for node in self.nodes if isinstance(node, kinds))

    @property
    def calls(self) -> Iterator[tuple[ast.Call, str, bool]]:
        """(call, the last name of what is called, whether it is a method of a value rather than a function of a module)."""
        for node in self.nodes:
            if isinstance(node, ast.Call):
                if isinstance(node.func, ast.Attribute):
                    yield node, node.func.attr, root_name(node.func) not in MODULES
                elif isinstance(node.func, ast.Name):
                    yield node, node.func.id, False

    def function_of(self, node: ast.AST) -> Function | None:
        """The innermost function around a node."""
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                return node
        return None

    def class_of(self, node: ast.AST) -> ast.ClassDef | None:
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, ast.ClassDef):
                return node
        return None

    def statement_of(self, node: ast.AST) -> ast.AST:
        while node in self.parents and not isinstance(node, ast.stmt):
            node = self.parents[node]
        return node

    def loops_freely(self, node: ast.AST) -> bool:
        """Whether a `while` stands around a node: change its steps, and it may never end."""
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, ast.While):
                return True
        return False

    def kept(self, child: ast.expr, instead_of: ast.AST) -> str:
        """The text of `child` to stand where `instead_of` stood, in brackets where it needs them."""
        text = self.text(child)
        parent = self.parents.get(instead_of)
        free = isinstance(parent, (ast.stmt, ast.keyword)) or (
            isinstance(parent, ast.Call) and instead_of is not parent.func
        )
        return text if free or isinstance(child, ATOMS) else f"({text})"

    # -- in words --------------------------------------------------------------------------------------------------------

    def described(self, edit: Edit) -> tuple[str, str]:
        """The statement before and after an edit, on one line, without comments; of a compound statement its head."""
        best: tuple[int, int] | None = None
        for node in self.of(ast.stmt):
            start, end = self.span(node)
            body = getattr(node, "body", None)
            if body and isinstance(body[0], ast.stmt):
                end = self.span(body[0])[0]
            if start <= edit.start and edit.end <= end and (best is None or end - start < best[1] - best[0]):
                best = (start, end)
        start, end = best or (edit.start, edit.end)
        before = self.clean[start:end]
        after = self.clean[start : edit.start] + edit.text + self.clean[edit.end : end]
        between = " " if best else "; "  # several statements
        return one_line(before, between), one_line(after, between)


def is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_print(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"


def one_line(text: str, between: str = " ") -> str:
    text = between.join(" ".join(line.split()) for line in text.splitlines() if line.strip()).removesuffix(":")
    return re.sub(r",? ([)\]])", r"\1", re.sub(r"([(\[]) ", r"\1", text))


def words(text: str) -> list[str]:
    return text.split()


def root_name(node: ast.AST) -> str | None:
    """`torch` of `torch.nn.functional.pad`; None if the chain does not begin with a name."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def integer(node: ast.AST | None) -> int | None:
    """The value of a literal integer, negative ones included."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = integer(node.operand)
        return None if value is None else -value
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None


def skeleton(node: ast.AST) -> str:
    """A node's structure without names and numbers: what two lines have in common of which one was made by copying the other."""
    return f"{type(node).__name__}({','.join(skeleton(child) for child in ast.iter_child_nodes(node))})"


class Operator(ABC):
    """A kind of slip."""

    name: ClassVar[str]

    @abstractmethod
    def edits(self, code: Code) -> Iterator[Edit]:
        """Every place where the slip can be made."""

    def put(self, code: Code, node: ast.AST, text: str) -> Edit:
        return Edit(self.name, *code.span(node), text)

    def swap(self, code: Code, one: ast.AST, other: ast.AST) -> Iterator[Edit]:
        """Two expressions change places, if they differ."""
        (start, middle), (other_start, end) = code.span(one), code.span(other)
        if code.text(one) != code.text(other):
            yield Edit(self.name, start, end, code.text(other) + code.clean[middle:other_start] + code.text(one))


# -- operators of every program, by cosmic-ray -----------------------------------------------------------------------------

GENERAL = {
    "arithmetic": [
        *(
            "ReplaceBinaryOperator_Add_Sub",
            "ReplaceBinaryOperator_Sub_Add",
            "ReplaceBinaryOperator_Mul_Div",
            "ReplaceBinaryOperator_Mul_Add",
        ),
        *("ReplaceBinaryOperator_Div_Mul", "ReplaceBinaryOperator_FloorDiv_Mul", "ReplaceBinaryOperator_Mod_FloorDiv"),
        *("ReplaceBinaryOperator_Pow_Mul", "ReplaceBinaryOperator_BitAnd_BitOr", "ReplaceBinaryOperator_BitOr_BitAnd"),
    ],
    "sign": ["ReplaceUnaryOperator_Delete_USub"],
    "negation": ["ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_Delete_Invert"],
    "comparison": [
        *("ReplaceComparisonOperator_Lt_LtE", "ReplaceComparisonOperator_LtE_Lt", "ReplaceComparisonOperator_Gt_GtE"),
        *(
            "ReplaceComparisonOperator_GtE_Gt",
            "ReplaceComparisonOperator_Eq_NotEq",
            "ReplaceComparisonOperator_NotEq_Eq",
        ),
        *("ReplaceComparisonOperator_Lt_Gt", "ReplaceComparisonOperator_Gt_Lt"),
        *("ReplaceComparisonOperator_LtE_GtE", "ReplaceComparisonOperator_GtE_LtE"),
    ],
    "truth value": ["ReplaceTrueWithFalse", "ReplaceFalseWithTrue"],
    "and, or": ["ReplaceAndWithOr", "ReplaceOrWithAnd"],
    "loop": ["ZeroIterationForLoop", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak"],
    "number": ["NumberReplacer"],
    "decorator dropped": ["RemoveDecorator"],
}
"""cosmic-ray's operators by the name under which their mutants are listed: of each group the swaps that a person might make."""


class General(Operator):
    """A slip of any program, made by one of cosmic-ray's operators."""

    def __init__(self, name: str, operator: str) -> None:
        self._name = name
        self._operator_name = operator
        self._operator = OperatorProvider()[operator]()

    def edits(self, code: Code) -> Iterator[Edit]:
        axes = {code.span(node) for node in [*axis_nodes(code), *open_sizes(code)]}
        occurrence = -1
        for node in parso_nodes(code.source):
            for first, last in self._operator.mutation_positions(node):
                occurrence += 1
                start, end = code.offset(first[0], first[1], False), code.offset(last[0], last[1], False)
                if not code.allows(start, end) or (
                    self._name in ("number", "sign") and self._unfit(code, start, end, axes)
                ):
                    continue
                changed = mutate_code(code.source, self._operator, occurrence)
                # cosmic-ray counts the blanks before a token to the token
                blanks = len(code.source[:start]) - len(code.source[:start].rstrip(" "))
                begin = next(
                    (start - n for n in range(blanks + 1) if changed.startswith(code.source[: start - n])), start
                )
                text = changed[begin : len(changed) - (len(code.source) - end)].strip()
                if self._name == "truth value" and re.search(
                    r"\b(strict|non_blocking|inplace)\s*=\s*$", code.source[:start]
                ):
                    continue  # changes no result
                if self._name == "number" and (text == "-1" or (text == "0" and code.source[start - 1] == "-")):
                    continue  # from 0 to −1, from −1 to −0: nobody counts like that
                if "BreakWith" in self._operator_name and code.loops_freely(self._statement_at(code, start)):
                    continue
                while not text and code.source[end : end + 1] == " ":
                    end += 1  # `not x` leaves `x`
                yield Edit(self._name, start, end, text)

    @staticmethod
    def _unfit(code: Code, start: int, end: int, axes: set[tuple[int, int]]) -> bool:
        """Axes are an operator of their own, and one more than 1e-6 is no slip."""
        on_axis = any(first <= start and end <= last for first, last in axes)
        return on_axis or not (code.source[start:end].isdigit() or code.source[start:end] == "-")

    @staticmethod
    def _statement_at(code: Code, offset: int) -> ast.AST:
        return next(node for node in code.of(ast.Break, ast.Continue) if code.span(node)[0] == offset)


_parsed: tuple[str, list[object]] = ("", [])


def parso_nodes(source: str) -> list[object]:
    """The nodes of cosmic-ray's syntax tree in the order in which it counts them; the latest source's are kept."""
    global _parsed
    if _parsed[0] != source:
        _parsed = (source, list(ast_nodes(get_ast(source))))
    return _parsed[1]


# -- axes and shapes -------------------------------------------------------------------------------------------------------

AXIS_ARGUMENT = {
    **dict.fromkeys(
        words(
            "sum mean prod softmax log_softmax unsqueeze squeeze size argmax argmin max min cumsum cumprod std var logsumexp all any amax amin median "
            "unbind select gather index_select index_add scatter scatter_ scatter_add scatter_add_ flip sort argsort flatten narrow unflatten"
        ),
        0,
    ),
    **dict.fromkeys(words("topk chunk split tensor_split repeat_interleave roll norm cat concat stack"), 1),
}
"""Which argument of a method is an axis. A function takes the tensor before it (`cat` and `stack` are functions only)."""

AXIS_KEYWORDS = {"dim", "axis", "dims", "start_dim", "end_dim", "dim0", "dim1", "normalized_dim"}


def axis_nodes(code: Code) -> Iterator[ast.expr]:
    """Literal axes: `dim=-1`, `x.sum(0)`, `torch.softmax(x, -1)`, `x.size(-1)`, `x.shape[0]`, `x.transpose(1, 2)`."""
    for call, name, method in code.calls:
        candidates = [keyword.value for keyword in call.keywords if keyword.arg in AXIS_KEYWORDS]
        if name in AXIS_ARGUMENT:
            place = AXIS_ARGUMENT[name] + (0 if method or name in ("cat", "concat", "stack") else 1)
            candidates += call.args[place : place + 1]
        elif name in ("transpose", "swapaxes", "permute", "movedim"):
            candidates += call.args[0 if method else 1 :]
        for node in candidates:
            yield from node.elts if isinstance(node, (ast.Tuple, ast.List)) else [node]
    for subscript in code.of(ast.Subscript):
        assert isinstance(subscript, ast.Subscript)
        if isinstance(subscript.value, ast.Attribute) and subscript.value.attr == "shape":
            yield subscript.slice


def open_sizes(code: Code) -> Iterator[ast.expr]:
    """The −1 of `x.view(n, -1)`: no size but "whatever is left"."""
    for call, name, _ in code.calls:
        if name in Shape.TAKES_SHAPE:
            yield from (node for node in ast.walk(call) if isinstance(node, ast.UnaryOp) and integer(node) == -1)


class Axis(Operator):
    """The operation runs along a neighbouring axis, or along one axis fewer."""

    name = "axis"

    def edits(self, code: Code) -> Iterator[Edit]:
        rearranged = {
            arg for call, name, _ in code.calls if name in REARRANGES for arg in ast.walk(call) if arg is not call.func
        }
        for node in axis_nodes(code):
            value = integer(node)
            parent = code.parents[node]
            if value is None or node in rearranged:
                continue
            if not isinstance(parent, (ast.Tuple, ast.List)):
                for other in neighbours(value):
                    yield self.put(code, node, str(other))
            elif len(parent.elts) > 1:
                rest = [code.text(item) for item in parent.elts if item is not node]
                yield self.put(code, parent, f"({', '.join(rest)}{',' if len(rest) == 1 else ''})")


def neighbours(axis: int) -> list[int]:
    if axis < 0:
        return [axis - 1, axis + 1]  # after −1 comes 0, the first axis: the usual other guess
    return [axis + 1, axis - 1]


REARRANGES = ("transpose", "swapaxes", "permute", "movedim")


class Transpose(Operator):
    """Axes are not swapped, or other ones are."""

    name = "transpose"

    def edits(self, code: Code) -> Iterator[Edit]:
        for node in code.of(ast.Attribute):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in ("T", "mT", "H", "mH")
                and isinstance(node.ctx, ast.Load)
            ):
                yield self.put(code, node, code.text(node.value))
        for call, name, method in code.calls:
            if name not in REARRANGES:
                continue
            tensor = call.func.value if method and isinstance(call.func, ast.Attribute) else call.args[0]
            yield self.put(code, call, code.kept(tensor, call))
            axes = call.args[0 if method else 1 :]
            if name == "permute":
                if len(axes) == 1 and isinstance(axes[0], (ast.Tuple, ast.List)):
                    axes = axes[0].elts
                for one, other in pairwise(axes):
                    yield from self.swap(code, one, other)
            elif len(axes) == 2:
                values = [integer(axis) for axis in axes]
                for axis, value in zip(axes, values, strict=True):
                    free = [other for other in neighbours(value) if other not in values] if value is not None else []
                    yield from (self.put(code, axis, str(other)) for other in free[:1])


class Shape(Operator):
    """Two neighbouring sizes of a shape change places."""

    name = "shape"
    TAKES_SHAPE: ClassVar = (
        "view",
        "reshape",
        "expand",
        "repeat",
        "zeros",
        "ones",
        "empty",
        "randn",
        "rand",
        "unflatten",
        "broadcast_to",
    )

    def edits(self, code: Code) -> Iterator[Edit]:
        for call, name, _ in code.calls:
            if name in self.TAKES_SHAPE:
                sizes: Sequence[ast.expr] = call.args
                for argument in call.args:
                    if isinstance(argument, (ast.Tuple, ast.List)):
                        sizes = argument.elts
                for one, other in pairwise(sizes):
                    if not isinstance(one, ast.Starred) and not isinstance(other, ast.Starred):
                        yield from self.swap(code, one, other)


class Index(Operator):
    """A subscript is left out, its items change places, or a slice ends one step off."""

    name = "index"

    def edits(self, code: Code) -> Iterator[Edit]:
        for node in code.of(ast.Subscript):
            assert isinstance(node, ast.Subscript)
            items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            if isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
                continue
            if isinstance(node.ctx, ast.Load) and any(isinstance(item, ast.Slice) or is_none(item) for item in items):
                yield self.put(code, node, code.text(node.value))
            for one, other in pairwise(items):
                yield from self.swap(code, one, other)
            for item in items:
                if isinstance(item, ast.Slice):
                    for bound in (item.lower, item.upper):
                        if bound is not None and integer(bound) is None:
                            yield self.put(code, bound, f"{code.text(bound)} - 1")


def is_none(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


# -- calls -----------------------------------------------------------------------------------------------------------------


class CallDropped(Operator):
    """A step of the computation is forgotten: `x.f(…)` or `f(x, …)` becomes `x`."""

    name = "call dropped"
    KEEP: ClassVar = words(
        # without them nothing runs, or nothing changes
        "contiguous size dim numel item append extend items keys values split join format parameters named_parameters buffers modules children "
        "zeros ones empty full arange linspace tensor as_tensor zeros_like ones_like full_like empty_like rand randn randint eye tril triu cat "
        "stack concat where einsum matmul bmm mm finfo iinfo no_grad enable_grad Generator manual_seed device autocast get "
        "new_zeros new_ones new_full new_tensor state_dict load_state_dict backward step zero_grad is_floating_point allclose equal isclose to "
        "transpose swapaxes permute movedim cpu cuda numpy tolist grad "
        "fork_rng index count copy_ fill_ cross_entropy mse_loss nll_loss view_as expand_as"
    )
    WRAPPERS: ClassVar = ("ModuleList", "ModuleDict", "Parameter", "ParameterList", "Identity")

    def edits(self, code: Code) -> Iterator[Edit]:
        for call, name, method in code.calls:
            if isinstance(code.parents[call], ast.Expr) or not isinstance(call.func, ast.Attribute):
                continue
            if self._forgets_line(code, call):
                continue
            root = root_name(call.func)
            if name in self.KEEP and not (name == "to" and casts(call)):
                continue
            if root in ("nn", "torch") and name[0].isupper():
                if name in self.WRAPPERS and call.args:
                    yield self.put(code, call, code.kept(call.args[0], call))
            elif not method:
                if call.args and not isinstance(call.args[0], ast.Starred):
                    yield self.put(code, call, code.kept(call.args[0], call))
            elif is_self(call.func.value):
                if len(call.args) == 1 and not isinstance(call.args[0], ast.Starred):  # a layer: self.norm(x)
                    yield self.put(code, call, code.kept(call.args[0], call))
            elif not isinstance(call.func.value, ast.Call) or root_name(call.func.value.func) != "super":
                yield self.put(code, call, code.text(call.func.value))

    @staticmethod
    def _forgets_line(code: Code, call: ast.Call) -> bool:
        """Whether `x = x.f()` would become `x = x`: another operator's mutant."""
        line = code.parents[call]
        if not isinstance(line, ast.Assign) or len(line.targets) != 1 or not isinstance(call.func, ast.Attribute):
            return False
        kept = {code.text(call.func.value), *(code.text(argument) for argument in call.args[:1])}
        return Statement.bound_before(code, line) and code.text(line.targets[0]) in kept


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def casts(call: ast.Call) -> bool:
    """Whether a `.to(…)` may change the dtype (a change of device alone changes nothing on the machine that checks)."""
    texts = [ast.unparse(argument) for argument in [*call.args, *(keyword.value for keyword in call.keywords)]]
    return any("dtype" in text or text.startswith("torch.") for text in texts)


class CallSwapped(Operator):
    """A sibling of the function is called: a mean for a sum, a triangle for the other, train() for eval()."""

    name = "call swapped"
    PAIRS: ClassVar = (
        *(
            "mean sum",
            "max min",
            "amax amin",
            "argmax argmin",
            "tril triu",
            "ones zeros",
            "ones_like zeros_like",
            "train eval",
            "sin cos",
        ),
        *(
            "exp log",
            "var std",
            "rand randn",
            "minimum maximum",
            "any all",
            "randn_like rand_like",
            "xavier_uniform_ xavier_normal_",
        ),
        *(
            "kaiming_normal_ xavier_normal_",
            "BatchNorm2d InstanceNorm2d",
            "ReLU LeakyReLU",
            "relu leaky_relu",
            "Tanh Sigmoid",
            "tanh sigmoid",
        ),
        *(
            "ones_ zeros_",
            "softmax log_softmax",
            "binary_cross_entropy_with_logits binary_cross_entropy",
            "floor ceil",
            "cat stack",
        ),
    )
    ONE_WAY: ClassVar = {
        "normal_": ["uniform_"],
        "no_grad": ["enable_grad"],
        "inference_mode": ["enable_grad"],
        "square": ["abs"],
        "abs": ["square"],
        "MaxPool2d": ["AvgPool2d"],
        "cumsum": ["cumprod"],
        "unbind": ["chunk"],
        "reshape": [],
    }

    def edits(self, code: Code) -> Iterator[Edit]:
        siblings: dict[str, list[str]] = {name: list(others) for name, others in self.ONE_WAY.items()}
        for one, other in (pair.split() for pair in self.PAIRS):
            siblings.setdefault(one, []).append(other)
            siblings.setdefault(other, []).append(one)
        for node in code.of(ast.Attribute):
            assert isinstance(node, ast.Attribute)
            parent = code.parents[node]
            called = isinstance(parent, ast.Call) and parent.func is node
            of_module = root_name(node) in MODULES  # nn.ReLU handed on without a call
            limit = isinstance(node.value, ast.Call) and getattr(node.value.func, "attr", "") in ("finfo", "iinfo")
            if called or of_module or limit:
                for other in siblings.get(node.attr, []):
                    _, end = code.span(node)
                    yield Edit(self.name, end - len(node.attr), end, other)


class Diagonal(Operator):
    """A triangle is one diagonal off."""

    name = "diagonal"

    def edits(self, code: Code) -> Iterator[Edit]:
        for call, name, method in code.calls:
            if name in ("tril", "triu") and not call.keywords and len(call.args) == (0 if method else 1):
                _, end = code.span(call)
                for diagonal in (1, -1):
                    yield Edit(self.name, end - 1, end - 1, f"{', ' if call.args else ''}diagonal={diagonal}")


class Arguments(Operator):
    """Two arguments change places."""

    name = "arguments swapped"
    SYMMETRIC: ClassVar = words(
        "mse_loss l1_loss maximum minimum add mul equal isclose allclose max min range logical_and logical_or dict set"
    )

    def edits(self, code: Code) -> Iterator[Edit]:
        for call, name, _ in code.calls:
            if name in self.SYMMETRIC or name in Shape.TAKES_SHAPE or name in REARRANGES or name in AXIS_ARGUMENT:
                continue
            for one, other in pairwise(call.args):
                kinds = {type(one), type(other)}
                if ("mask" in code.text(one)) != ("mask" in code.text(other)):
                    continue  # the only thing of its kind
                if is_self(getattr(one, "value", one)) != is_self(getattr(other, "value", other)):
                    continue  # a size, or a layer, beside a tensor
                if (
                    ast.Starred not in kinds
                    and ast.Constant not in kinds
                    and (name != "where" or one is not call.args[0])
                ):
                    if (
                        name
                        in (
                            "masked_fill",
                            "masked_fill_",
                            "register_buffer",
                            "einsum",
                            "isinstance",
                            "setattr",
                            "getattr",
                            "Linear",
                        )
                        and len(kinds) > 1
                    ):
                        continue
                    yield from self.swap(code, one, other)


class KeywordDropped(Operator):
    """An option is left at its default."""

    name = "option dropped"
    KEEP: ClassVar = words("dim axis device generator size diagonal non_blocking")

    def edits(self, code: Code) -> Iterator[Edit]:
        for call, _, _ in code.calls:
            arguments: list[ast.AST] = [*call.args, *call.keywords]
            for place, keyword in enumerate(arguments):
                if not isinstance(keyword, ast.keyword) or keyword.arg is None or keyword.arg in self.KEEP:
                    continue
                if isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, bool):
                    continue  # flipped already: that is its default
                if place:
                    yield Edit(self.name, code.span(arguments[place - 1])[1], code.span(keyword)[1], "")
                elif len(arguments) > 1:
                    yield Edit(self.name, code.span(keyword)[0], code.span(arguments[1])[0], "")
                else:
                    yield self.put(code, keyword, "")


class Bias(Operator):
    """A layer has no bias where it should."""

    name = "bias"

    def edits(self, code: Code) -> Iterator[Edit]:
        for call, name, _ in code.calls:
            if name in ("Linear", "Conv2d", "ConvTranspose2d") and "bias" not in {
                keyword.arg for keyword in call.keywords
            }:
                last = [*call.args, *call.keywords][-1]
                yield Edit(self.name, code.span(last)[1], code.span(last)[1], ", bias=False")


class Reduction(Operator):
    """A loss adds up where it should average, or the other way round."""

    name = "reduction"
    OTHER: ClassVar = {"mean": "sum", "sum": "mean", "batchmean": "mean", "none": "mean"}

    def edits(self, code: Code) -> Iterator[Edit]:
        for call, _, _ in code.calls:
            for keyword in call.keywords:
                if (
                    keyword.arg == "reduction"
                    and isinstance(keyword.value, ast.Constant)
                    and keyword.value.value in self.OTHER
                ):
                    yield self.put(code, keyword.value, f'"{self.OTHER[keyword.value.value]}"')


# -- arithmetic ------------------------------------------------------------------------------------------------------------


class TermDropped(Operator):
    """A term, a factor, a divisor or an exponent is forgotten."""

    name = "term dropped"

    def edits(self, code: Code) -> Iterator[Edit]:
        for node in code.of(ast.BinOp):
            assert isinstance(node, ast.BinOp)
            if isinstance(node.op, ast.MatMult):
                continue
            if isinstance(node.left, (ast.List, ast.JoinedStr)) or (
                isinstance(node.left, ast.Constant) and isinstance(node.left.value, str)
            ):
                continue
            yield self.put(code, node, code.kept(node.left, node))
            if isinstance(node.op, (ast.Add, ast.Mult, ast.Sub, ast.BitAnd, ast.BitOr)):
                yield self.put(code, node, code.kept(node.right, node))


class Operands(Operator):
    """The operands of a product of matrices, a difference or a quotient change places, or `*` is taken for `@`."""

    name = "operands"

    def edits(self, code: Code) -> Iterator[Edit]:
        for node in code.of(ast.BinOp):
            assert isinstance(node, ast.BinOp)
            if not isinstance(node.op, (ast.MatMult, ast.Sub, ast.Div)):
                continue
            if isinstance(node.op, ast.MatMult):
                yield self.put(code, node, f"{self._operand(code, node.left)} * {self._operand(code, node.right)}")
            if isinstance(node.right, ast.Constant):
                continue  # `n - 1` and `x / 2` are not written backwards
            symbol = {ast.MatMult: "@", ast.Sub: "-", ast.Div: "/"}[type(node.op)]
            yield self.put(code, node, f"{self._operand(code, node.right)} {symbol} {self._operand(code, node.left)}")

    @staticmethod
    def _operand(code: Code, node: ast.expr) -> str:
        return code.text(node) if isinstance(node, ATOMS) else f"({code.text(node)})"


class Constant(Operator):
    """A number with a point is ten times as large, 0, or of the other sign."""

    name = "constant"

    def edits(self, code: Code) -> Iterator[Edit]:
        for node in code.of(ast.Constant):
            assert isinstance(node, ast.Constant)
            if type(node.value) is not float:
                continue
            if node.value == 0.0:
                yield self.put(code, node, "1.0")
                continue
            yield self.put(code, node, f"{10 * node.value:.12g}")
            if not isinstance(code.parents[node], ast.BinOp):  # there the term is dropped
                yield self.put(code, node, "0.0")
            if not isinstance(code.parents[node], ast.UnaryOp) and node.value > 1e-3:
                yield self.put(code, node, f"-{code.text(node)}")


class Augmented(Operator):
    """An update overwrites or goes the other way."""

    name = "update"
    OTHER: ClassVar[dict[type[ast.operator], str]] = {ast.Add: "-=", ast.Sub: "+=", ast.Mult: "/=", ast.Div: "*="}

    def edits(self, code: Code) -> Iterator[Edit]:
        for node in code.of(ast.AugAssign):
            assert isinstance(node, ast.AugAssign)
            if code.loops_freely(node):
                continue
            target, value = code.text(node.target), code.text(node.value)
            yield self.put(code, node, f"{target} = {value}")
            if type(node.op) in self.OTHER:
                yield self.put(code, node, f"{target} {self.OTHER[type(node.op)]} {value}")


# -- masks, gradients, memory ----------------------------------------------------------------------------------------------


class MaskInverted(Operator):
    """True and False of a mask are taken for each other."""

    name = "mask inverted"

    def edits(self, code: Code) -> Iterator[Edit]:
        for call, name, _ in code.calls:
            if name in ("masked_fill", "masked_fill_", "where", "masked_select", "masked_scatter") and call.args:
                mask = call.args[0]
                if isinstance(mask, (ast.Name, ast.Attribute)):
                    yield self.put(code, mask, f"~{code.text(mask)}")
                elif isinstance(mask, ast.BinOp) and isinstance(mask.op, (ast.BitAnd, ast.BitOr)):
                    yield self.put(code, mask, f"~({code.text(mask)})")


class Detached(Operator):
    """The gradient is cut off where it should flow: at what is returned, or at a network's input."""

    name = "detach added"

    def edits(self, code: Code) -> Iterator[Edit]:
        for node in code.of(ast.Return):
            assert isinstance(node, ast.Return)
            value = node.value.elts[0] if isinstance(node.value, ast.Tuple) and node.value.elts else node.value
            if isinstance(value, ast.BinOp) and isinstance(
                value.op, (ast.MatMult, ast.Add, ast.Sub, ast.Mult, ast.Div)
            ):
                yield self.put(code, value, f"({code.text(value)}).detach()")
            elif isinstance(value, ast.Call) and root_name(value.func) in ("F", "self"):
                yield self.put(code, value, f"{code.text(value)}.detach()")
        for call, _, _ in code.calls:
            function = code.function_of(call)
            learns = function is not None and any(
                isinstance(node, ast.Attribute) and node.attr == "backward" for node in ast.walk(function)
            )
            arguments = {arg.arg for arg in function.args.args} if function is not None else set()
            if not learns or len(call.args) != 1:
                continue
            if (
                isinstance(call.args[0], ast.Name)
                and call.args[0].id not in arguments
                and isinstance(call.func, (ast.Name, ast.Attribute))
            ):
                callee = ast.unparse(call.func)
                if callee.split(".")[0] not in MODULES and re.search(
                    r"(?i)discriminator|generator|critic|model|net|\bd\b|\bg\b", callee
                ):
                    yield self.put(code, call.args[0], f"{code.text(call.args[0])}.detach()")


class InPlace(Operator):
    """An input of the function is changed in place."""

    name = "in place"
    METHODS: ClassVar = words("masked_fill add mul div sub clamp exp sqrt relu tanh sigmoid scatter index_fill")
    SYMBOLS: ClassVar[dict[type[ast.operator], str]] = {
        ast.Add: "add_",
        ast.Sub: "sub_",
        ast.Mult: "mul_",
        ast.Div: "div_",
    }

    def edits(self, code: Code) -> Iterator[Edit]:
        for call, name, method in code.calls:
            if not method or name not in self.METHODS or not isinstance(call.func, ast.Attribute):
                continue
            owner = call.func.value
            if isinstance(owner, ast.Name) and owner.id in tensor_arguments(
                code, call
            ):  # in what the function made itself it is no mistake
                _, end = code.span(call.func)
                yield Edit(self.name, end, end, "_")
        for node in code.of(ast.BinOp):
            assert isinstance(node, ast.BinOp)
            if (
                type(node.op) in self.SYMBOLS
                and isinstance(node.left, ast.Name)
                and node.left.id in tensor_arguments(code, node)
            ):
                yield self.put(code, node, f"{node.left.id}.{self.SYMBOLS[type(node.op)]}({code.text(node.right)})")


def tensor_arguments(code: Code, node: ast.AST) -> set[str]:
    """The arguments of the function around a node that may be tensors."""
    function = code.function_of(node)
    if function is None:
        return set()
    return {
        arg.arg
        for arg in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        if arg.arg != "self" and arg.annotation is not None and "Tensor" in ast.unparse(arg.annotation)
    }


class Buffer(Operator):
    """A buffer is kept as a plain attribute, so it is in no state_dict and moves to no device."""

    name = "buffer"

    def edits(self, code: Code) -> Iterator[Edit]:
        for call, name, _ in code.calls:
            if name != "register_buffer" or len(call.args) != 2 or not isinstance(code.parents[call], ast.Expr):
                continue
            if isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str):
                yield self.put(code, call, f"self.{call.args[0].value} = {code.text(call.args[1])}")


# -- statements and control ------------------------------------------------------------------------------------------------


class Statement(Operator):
    """A line is missing: a call, an update, a variable's new value."""

    name = "line missing"

    def edits(self, code: Code) -> Iterator[Edit]:
        for node in code.of(ast.Expr, ast.Assign, ast.AugAssign):
            branch = code.parents[node]
            alone = (
                isinstance(branch, ast.If) and not branch.orelse and len(branch.body) == 1
            )  # the condition's mutants say so already
            if alone or code.loops_freely(node):
                continue
            if isinstance(node, ast.Expr):
                text = code.text(node)
                if (
                    isinstance(node.value, ast.Call)
                    and not text.startswith("super()")
                    and "register_buffer" not in text
                ):
                    yield self.put(code, node, "pass")
            elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.Assign) and self.bound_before(code, node)):
                yield self.put(code, node, "pass")

    @staticmethod
    def bound_before(code: Code, node: ast.Assign) -> bool:
        """Whether all it assigns has a value already, so the line can be forgotten without an error."""
        function = code.function_of(node)
        if function is None:
            return False
        start, _ = code.span(node)
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        bound = {arg.arg for arg in arguments}
        for other in ast.walk(function):
            if isinstance(other, ast.Name) and isinstance(other.ctx, ast.Store) and code.span(other)[0] < start:
                bound.add(other.id)
        for target in node.targets:
            if isinstance(target, ast.Subscript):
                continue  # x[…] = y: x is there
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            if not all(isinstance(name, ast.Name) and name.id in bound for name in names):
                return False
        return True


class Order(Operator):
    """Two steps of training change places: zero_grad, backward, step."""

    name = "lines swapped"
    STEPS: ClassVar = words("zero_grad backward step clip_grad_norm_ clip_grad_value_ train eval")

    def edits(self, code: Code) -> Iterator[Edit]:
        for node in ast.walk(code.tree):
            body = getattr(node, "body", None)
            for one, other in pairwise(body if isinstance(body, list) else []):
                (owner, step), (other_owner, other_step) = self._step(one), self._step(other)
                # what two optimizers do one after the other can be done the other way round
                if (
                    step in self.STEPS
                    and other_step in self.STEPS
                    and (owner == other_owner or "backward" in (step, other_step))
                ):
                    yield from self.swap(code, one, other)

    @staticmethod
    def _step(line: ast.AST) -> tuple[str, str]:
        called = line.value.func if isinstance(line, ast.Expr) and isinstance(line.value, ast.Call) else None
        return (ast.unparse(called.value), called.attr) if isinstance(called, ast.Attribute) else ("", "")


class Return(Operator):
    """Results come back in another order, or one is forgotten."""

    name = "return"

    def edits(self, code: Code) -> Iterator[Edit]:
        for node in code.of(ast.Return):
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
                for one, other in pairwise(node.value.elts):
                    yield from self.swap(code, one, other)
                yield self.put(code, node.value, code.text(node.value.elts[0]))


class Condition(Operator):
    """A condition is always or never true, or the other way round."""

    name = "condition"
    INVERSE: ClassVar[dict[type[ast.cmpop], str]] = {ast.In: "not in", ast.NotIn: "in"}

    def edits(self, code: Code) -> Iterator[Edit]:
        tests: list[ast.expr] = []
        for node in ast.walk(code.tree):
            if isinstance(node, (ast.If, ast.IfExp)):
                tests.append(node.test)
            elif isinstance(node, ast.comprehension):
                tests += node.ifs
        for test in tests:
            operator = type(test.ops[0]) if isinstance(test, ast.Compare) and len(test.ops) == 1 else None
            against_none = isinstance(test, ast.Compare) and is_none(test.comparators[0])
            if not (against_none and operator is ast.IsNot):  # with None inside, it could only crash
                yield self.put(code, test, "True")
            if not (against_none and operator is ast.Is):
                yield self.put(code, test, "False")
            if operator is None and not isinstance(test, ast.UnaryOp):
                yield self.put(code, test, f"not ({code.text(test)})")
            elif operator in self.INVERSE and isinstance(test, ast.Compare):
                yield self.put(
                    code, test, f"{code.text(test.left)} {self.INVERSE[operator]} {code.text(test.comparators[0])}"
                )


class Range(Operator):
    """A loop begins or ends one step off."""

    name = "range"

    def edits(self, code: Code) -> Iterator[Edit]:
        for call, name, _ in code.calls:
            if name not in ("range", "arange") or not call.args:
                continue
            stop = call.args[0] if len(call.args) == 1 else call.args[1]
            if integer(stop) is None:  # a literal number is another operator's
                yield self.put(code, stop, f"{code.text(stop)} - 1")
                yield self.put(code, stop, f"{code.text(stop)} + 1")
            if len(call.args) == 1:
                yield self.put(code, stop, f"1, {code.text(stop)}")
            elif integer(call.args[0]) is None:
                yield self.put(code, call.args[0], f"{code.text(call.args[0])} + 1")


# -- names -----------------------------------------------------------------------------------------------------------------


class Variable(Operator):
    """A name of the same kind is taken: another argument, another layer, the other of two results."""

    name = "variable"

    def edits(self, code: Code) -> Iterator[Edit]:
        groups: dict[ast.AST, list[Siblings]] = {}
        for node in code.nodes:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                scope: ast.AST | None = code.function_of(node)
                name, prefix = node.id, ""
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and is_self(node.value):
                scope = code.class_of(node)
                name, prefix = node.attr, "self."
            else:
                continue
            if scope is None or self._is_size_of_layer(code, node):
                continue
            if scope not in groups:
                if isinstance(scope, ast.ClassDef):
                    groups[scope] = attributes(scope)
                elif isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    groups[scope] = [*arguments(scope), *results(scope)]
                else:
                    continue
            for siblings in groups[scope]:
                if name in siblings.names:
                    for other in others_in(siblings, name):
                        if siblings.alike or use_of(code, scope, other, prefix) & use_of_node(code, node):
                            yield self.put(code, node, prefix + other)
                    break

    @staticmethod
    def _is_size_of_layer(code: Code, node: ast.AST) -> bool:
        """Whether the name is a size in `nn.Linear(a, b)`: that is found by its shape alone, and swapped arguments are mutants already."""
        call = code.parents[node]
        return isinstance(call, ast.Call) and node is not call.func and root_name(call.func) == "nn"


@dataclass(frozen=True)
class Siblings:
    """Names that can be taken for each other.

    alike: whatever is done with one can be done with the other; otherwise only what both are used for. both: each is taken for both its neighbours.
    """

    names: tuple[str, ...]
    alike: bool = True
    both: bool = False


def arguments(function: Function) -> list[Siblings]:
    """Arguments with the same annotation."""
    kinds: dict[str, list[str]] = {}
    for arg in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]:
        if arg.arg != "self":
            kinds.setdefault(ast.unparse(arg.annotation) if arg.annotation else "", []).append(arg.arg)
    return [Siblings(tuple(names), "Tensor" in kind, both=True) for kind, names in kinds.items() if len(names) > 1]


def results(function: Function) -> list[Siblings]:
    """Variables unpacked together, and variables assigned by calls of one form."""
    found: list[Siblings] = []
    taken: set[str] = set()
    forms: dict[str, list[str]] = {}
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target = node.targets[0]
        if isinstance(target, ast.Tuple):
            names = [
                name.id
                for name in target.elts
                if isinstance(name, ast.Name) and name.id != "_" and name.id not in taken
            ]
            if len(names) > 1:
                found.append(Siblings(tuple(names)))
                taken.update(names)
        elif isinstance(target, ast.Name) and target.id not in taken and isinstance(node.value, ast.Call):
            names = forms.setdefault(skeleton(node.value), [])
            if target.id not in names:
                names.append(target.id)
    return found + [Siblings(tuple(names)) for names in forms.values() if len(names) > 1]


def attributes(owner: ast.ClassDef) -> list[Siblings]:
    """Attributes made by calls of the same constructor, and those that are sizes."""
    kinds: dict[str, list[str]] = {}
    for node in ast.walk(owner):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            targets = target.elts if isinstance(target, ast.Tuple) else [target]
            values = (
                node.value.elts
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                else [node.value] * len(targets)
            )
            for item, value in zip(targets, values, strict=False):
                if isinstance(item, ast.Attribute) and is_self(item.value):
                    kind = (
                        ast.unparse(value.func)
                        if isinstance(value, ast.Call)
                        else "a size"
                        if isinstance(value, (ast.Name, ast.BinOp))
                        else ""
                    )
                    names = kinds.setdefault(kind, [])
                    if kind and item.attr not in names:
                        names.append(item.attr)
    return [Siblings(tuple(names), kind != "a size") for kind, names in kinds.items() if len(names) > 1]


def others_in(siblings: Siblings, name: str) -> list[str]:
    """The next name, and the one before where both are likely."""
    names = siblings.names
    place = names.index(name)
    return list(dict.fromkeys(names[(place + step) % len(names)] for step in ((1, -1) if siblings.both else (1,))))


def use_of_node(code: Code, node: ast.AST) -> set[str]:
    """What is done with a name here: it is called, a method of it is, or it is a plain value."""
    parent = code.parents[node]
    if isinstance(parent, ast.Call) and parent.func is node:
        return {"called"}
    return {f".{parent.attr}"} if isinstance(parent, ast.Attribute) else {"a value"}


def use_of(code: Code, scope: ast.AST, name: str, prefix: str) -> set[str]:
    """All that is done with a name in a function or class."""
    found: set[str] = set()
    for node in ast.walk(scope):
        same = (
            node.attr == name and is_self(node.value)
            if isinstance(node, ast.Attribute)
            else isinstance(node, ast.Name) and node.id == name
        )
        if same and isinstance(node, ast.Attribute) == bool(prefix) and isinstance(node.ctx, ast.Load):  # type: ignore[attr-defined]
            found |= use_of_node(code, node)
    return found


OPERATORS: tuple[Operator, ...] = (
    Axis(), Transpose(), Shape(), Index(), CallDropped(), CallSwapped(), Diagonal(), Bias(), Reduction(), MaskInverted(), Detached(),
    InPlace(), Buffer(), TermDropped(), Operands(), Constant(), Augmented(), Return(), Condition(), Range(), Variable(), Arguments(),
    KeywordDropped(), Statement(), Order(), *(General(name, operator) for name, group in GENERAL.items() for operator in group),
)  # fmt: skip
"""All operators. Where two would make the same mutant, the earlier one names it."""
