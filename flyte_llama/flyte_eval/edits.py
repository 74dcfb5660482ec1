"""Small edits of Python text that change its behaviour: another operator, constant or name.

Nothing inside an f-string's braces is edited: Python 3.11 does not give the position of these nodes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from flyte_llama.flyte_eval.module_source import Function, ModuleText, docstring_of

# Operator → its text and its replacements. A comparison becomes its opposite, which most inputs reveal, and its
# neighbour (`<` → `<=`), which only inputs on the boundary reveal.
_REPLACEMENTS = {
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
NAMES_TRIED = 16
"""The most names that replace one name; few functions have more."""

_COMMENT = re.compile(r"#[^\r\n]*")
_QUOTE = re.compile(r"""[A-Za-z]*("{3}|'{3}|"|')""")
_LOGGERS = ("print", "pprint", "warn", "warning", "debug", "info", "error", "exception", "critical", "log", "echo")


class Edit(NamedTuple):
    """Replaces the characters from `start` to `end` of a module with `text`."""

    start: int
    end: int
    text: str

    def apply(self, text: str, begin: int, end: int) -> str:
        """The module's characters from `begin` to `end`, a span that contains the edit, after the edit."""
        return text[begin : self.start] + self.text + text[self.end : end]


def walk_code(roots: Iterable[ast.AST], *, into_functions: bool = True) -> Iterator[ast.AST]:
    """The nodes and their descendants, in the order of the text, without the parts that only people read.

    Args:
        into_functions: False leaves out the descendants of functions, lambdas and classes.
    """
    # A stack instead of recursion: code may be nested more deeply than Python calls functions.
    waiting = [*roots][::-1]
    while waiting:
        node = waiting.pop()
        if _is_for_people(node):
            continue
        yield node
        # A `raise` can be deleted, so it is yielded; its message is for people, so its descendants are not.
        if isinstance(node, (ast.JoinedStr, ast.Raise)):
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)) and not into_functions:
            continue
        children: Iterable[ast.AST] = [node.test] if isinstance(node, ast.Assert) else ast.iter_child_nodes(node)
        if (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            and docstring_of(node.body) is not None
        ):
            children = (child for child in children if child is not node.body[0])
        waiting += [*children][::-1]


def operator_edits(module: ModuleText, roots: Sequence[ast.AST]) -> Iterator[Edit]:
    """Edits that replace one operator, or remove one `not` or sign."""
    for node in walk_code(roots):
        if isinstance(node, ast.BinOp):
            yield from _replace_operator(module, node.left, node.op, node.right)
        elif isinstance(node, ast.BoolOp):
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield from _replace_operator(module, left, node.op, right)
        elif isinstance(node, ast.Compare):
            for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
                yield from _replace_operator(module, left, operator, right)
        elif isinstance(node, ast.AugAssign):
            yield from _replace_operator(module, node.target, node.op, node.value)
        elif isinstance(node, ast.UnaryOp):
            start = module.start(node)
            yield Edit(start, start + len("not" if isinstance(node.op, ast.Not) else "-"), "")


def constant_edits(module: ModuleText, roots: Sequence[ast.AST]) -> Iterator[Edit]:
    """Edits that change one constant: a number plus and minus 1, a text with an `x` in front, a boolean inverted."""
    for node in walk_code(roots):
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))):
            start = module.start(node)
            quote = _QUOTE.match(module.text, start)
            if quote:
                yield Edit(quote.end(), quote.end(), "x")
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield Edit(module.start(node), module.end(node), str(not node.value))
        elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            for value in (node.value + 1, node.value - 1):
                # A negative number needs parentheses: an operator before it may bind more tightly than its sign.
                text = repr(value) if value >= 0 else f"({value!r})"
                yield Edit(module.start(node), module.end(node), text)


def name_edits(module: ModuleText, function: Function, roots: Sequence[ast.AST]) -> Iterator[Edit]:
    """Edits that replace one name among a call's arguments with another parameter or variable of the function.

    Each with at most `NAMES_TRIED` others, those bound next: with many calls and many names there are too many pairs.
    """
    parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    bound = dict.fromkeys(parameter.arg for parameter in parameters)
    used = []
    for node in walk_code(roots):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound[node.id] = None
        elif isinstance(node, ast.Call):
            arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
            used += [argument for argument in arguments if isinstance(argument, ast.Name)]
    names = [*bound]
    positions = {name: position for position, name in enumerate(names)}
    for used_name in used:
        if used_name.id in positions:
            first = positions[used_name.id] + 1
            others = [*names[first : first + NAMES_TRIED], *names[: min(NAMES_TRIED, first - 1)]][:NAMES_TRIED]
            yield from (Edit(module.start(used_name), module.end(used_name), name) for name in others)


def _replace_operator(module: ModuleText, left: ast.expr, operator: ast.AST, right: ast.expr) -> Iterator[Edit]:
    """The edits of one operator, found in the text between its operands."""
    operator_text, replacements = _REPLACEMENTS[type(operator)]
    start, end = module.end(left), module.start(right)
    # The gap may also hold parentheses, blanks and comments; a comment may contain the operator's text.
    gap = _COMMENT.sub(lambda comment: " " * len(comment[0]), module.text[start:end])
    match = re.search(r"\s+".join(re.escape(word) for word in operator_text.split()), gap)
    if match:
        yield from (Edit(start + match.start(), start + match.end(), text) for text in replacements)


def _is_for_people(node: ast.AST) -> bool:
    """True for a call of print or a logger, a bare constant, and a list of parameters."""
    if isinstance(node, ast.Expr):
        value = node.value
        if isinstance(value, ast.Constant):
            return True
        return isinstance(value, ast.Call) and _function_name(value.func) in _LOGGERS
    return isinstance(node, ast.arguments)


def _function_name(function: ast.expr) -> str:
    """The last part of a dotted name; empty for any other expression."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
