"""Small changes of Python text that change what it does: another operator, constant or name.

Nothing is changed inside an f-string's braces: Python 3.11 does not know where in the text they stand.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from flyte_llama.flyte_eval.module_text import ModuleText, own_docstring
from flyte_llama.flyte_eval.names import Function

# As it is written → what it becomes. Of comparisons the opposite and the neighbour, which inputs on the boundary show.
_OTHERS = {
    ast.Add: ("+", ("-", "*")),
    ast.Sub: ("-", ("+", "*")),
    ast.Mult: ("*", ("+", "-")),
    ast.Div: ("/", ("*", "//")),
    ast.FloorDiv: ("//", ("*", "/")),
    ast.Mod: ("%", ("*", "+")),
    ast.Pow: ("**", ("+", "*")),
    ast.MatMult: ("@", ("*",)),
    ast.BitAnd: ("&", ("|",)),
    ast.BitOr: ("|", ("&",)),
    ast.BitXor: ("^", ("&",)),
    ast.LShift: ("<<", (">>",)),
    ast.RShift: (">>", ("<<",)),
    ast.Lt: ("<", (">=", "<=")),
    ast.GtE: (">=", ("<", ">")),
    ast.Gt: (">", ("<=", ">=")),
    ast.LtE: ("<=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
    ast.And: ("and", ("or",)),
    ast.Or: ("or", ("and",)),
}
_COMMENT = re.compile(r"#[^\r\n]*")
_QUOTE = re.compile(r"""[A-Za-z]*("{3}|'{3}|"|')""")
_LOGGERS = ("print", "pprint", "warn", "warning", "debug", "info", "error", "exception", "critical", "log", "echo")


class Edit(NamedTuple):
    """Characters `start` to `end` of a module become `text`."""

    start: int
    end: int
    text: str

    def applied(self, text: str, begin: int, end: int) -> str:
        """The module's characters `begin` to `end`, which hold the change, after it."""
        return text[begin : self.start] + self.text + text[self.end : end]


def within(roots: Iterable[ast.AST], *, into_functions: bool = True) -> Iterator[ast.AST]:
    """The nodes and those below them in the order of the text, without what only people read."""
    for node in roots:
        if _for_people(node):
            continue
        yield node
        # What an exception says is for people; that it is raised is not.
        if isinstance(node, (ast.JoinedStr, ast.Raise)):
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)) and not into_functions:
            continue
        below: Iterable[ast.AST] = [node.test] if isinstance(node, ast.Assert) else ast.iter_child_nodes(node)
        if (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            and own_docstring(node.body) is not None
        ):
            below = (child for child in below if child is not node.body[0])
        yield from within(below, into_functions=into_functions)


def operator_edits(module: ModuleText, roots: Sequence[ast.AST]) -> Iterator[Edit]:
    """Each operator in turn replaced by others, and each `not` and sign taken away."""
    for node in within(roots):
        if isinstance(node, ast.BinOp):
            yield from _between(module, node.left, node.op, node.right)
        elif isinstance(node, ast.BoolOp):
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield from _between(module, left, node.op, right)
        elif isinstance(node, ast.Compare):
            for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
                yield from _between(module, left, operator, right)
        elif isinstance(node, ast.AugAssign):
            yield from _between(module, node.target, node.op, node.value)
        elif isinstance(node, ast.UnaryOp):
            start = module.start(node)
            yield Edit(start, start + len("not" if isinstance(node.op, ast.Not) else "-"), "")


def constant_edits(module: ModuleText, roots: Sequence[ast.AST]) -> Iterator[Edit]:
    """Each number made one more and one less, each text begun with another letter, each truth its opposite."""
    for node in within(roots):
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))):
            start = module.start(node)
            quote = _QUOTE.match(module.text, start)
            if quote:
                yield Edit(quote.end(), quote.end(), "x")
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield Edit(module.start(node), module.end(node), str(not node.value))
        elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            for value in (node.value + 1, node.value - 1):
                # In parentheses: what is less than 0 has a sign, and an operator before it may bind more tightly.
                text = repr(value) if value >= 0 else f"({value!r})"
                yield Edit(module.start(node), module.end(node), text)


def name_edits(module: ModuleText, function: Function, roots: Sequence[ast.AST]) -> Iterator[Edit]:
    """Each name among a call's arguments replaced by each other one of the function, parameters and what it binds."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    bound = dict.fromkeys(argument.arg for argument in arguments)
    used = []
    for node in within(roots):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound[node.id] = None
        elif isinstance(node, ast.Call):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            used += [own for own in given if isinstance(own, ast.Name)]
    for own in used:
        if own.id in bound:
            yield from (Edit(module.start(own), module.end(own), name) for name in bound if name != own.id)


def _between(module: ModuleText, left: ast.expr, operator: ast.AST, right: ast.expr) -> Iterator[Edit]:
    """The edits of an operator: parentheses, blanks and comments may stand around it."""
    written, others = _OTHERS[type(operator)]
    start, end = module.end(left), module.start(right)
    gap = _COMMENT.sub(lambda comment: " " * len(comment[0]), module.text[start:end])
    found = re.search(r"\s+".join(re.escape(word) for word in written.split()), gap)
    if found:
        yield from (Edit(start + found.start(), start + found.end(), other) for other in others)


def _for_people(node: ast.AST) -> bool:
    """A print or a logger's call, a text that nobody uses, an annotation."""
    if isinstance(node, ast.Expr):
        value = node.value
        if isinstance(value, ast.Constant):
            return True
        return isinstance(value, ast.Call) and _called(value.func) in _LOGGERS
    return isinstance(node, ast.arguments)


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
