"""A masked definition → wrong answers made of its own text, each by one change.

An item is proven by them: its runs must tell every one from the reference. Each still parses, differs from the
reference in its syntax tree, and keeps a `return` where the reference has one, because flytekit refuses a task whose
annotated result is never returned, whatever else is wrong with it.

What only people read is not changed: docstrings, what is printed or logged, messages of exceptions.
"""

from __future__ import annotations

import ast
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from flyte_llama.flyte_eval.edits import Edit, constant_edits, name_edits, operator_edits, within
from flyte_llama.flyte_eval.masking import BODY, Masked
from flyte_llama.flyte_eval.module_text import ModuleText, first_line, own_docstring
from flyte_llama.flyte_eval.names import Function

KINDS = (
    *("wrong type", "missing decorator", "wrong operator", "wrong constant", "wrong name"),
    *("deleted statement", "empty"),
)
_DEFAULTS = {"int": "0", "float": "0.0", "str": '""', "bool": "False", "list": "[]", "dict": "{}"}


class Change(NamedTuple):
    kind: str
    text: str
    """In place of the reference."""


def changes_of(module: ModuleText, masked: Masked) -> list[Change]:
    """Every one, in the order of the kinds and of the text, none twice."""
    found: dict[str, Change] = {}
    prefix, _, suffix = masked.parts(module.text)
    reference = ast.dump(module.tree)
    for kind, edit in _edits(module, masked):
        text = edit.applied(module.text, masked.start, masked.end)
        try:
            tree = ast.parse(prefix + text + suffix)
        except (SyntaxError, ValueError):
            continue
        if ast.dump(tree) != reference and _returns(tree, masked) >= _returns(module.tree, masked, at_most=1):
            found.setdefault(text, Change(kind, text))
    return sorted(found.values(), key=lambda change: KINDS.index(change.kind))


def choose(changes: list[Change], *, a_kind: int, seed: int, name: str) -> list[Change]:
    """At most so many of each kind, by chance from (seed, item's name)."""
    by_kind = defaultdict(list)
    for change in changes:
        by_kind[change.kind].append(change)
    chosen: list[Change] = []
    for kind in KINDS:
        drawn = sorted(
            by_kind[kind], key=lambda change: hashlib.sha256(f"{seed}\0{name}\0{change.text}".encode()).digest()
        )
        chosen += drawn[:a_kind]
    return chosen


def _edits(module: ModuleText, masked: Masked) -> Iterator[tuple[str, Edit]]:
    node, whole = masked.node, masked.tier != BODY
    if not isinstance(node, Function):
        yield from (("wrong constant", edit) for edit in constant_edits(module, [node]))
        yield "empty", Edit(masked.start, masked.end, f"{masked.entity} = None\n")
        return
    body = node.body[0 if own_docstring(node.body) is None else 1 :]
    yield from (("wrong type", edit) for edit in _type_edits(module, node, whole=whole))
    if whole:
        for decorator in node.decorator_list:
            yield "missing decorator", _whole_lines(module, decorator)
    roots: list[ast.AST] = [*body]
    if whole:
        roots = [*node.decorator_list, *node.args.defaults, *(each for each in node.args.kw_defaults if each), *roots]
    yield from (("wrong operator", edit) for edit in operator_edits(module, roots))
    yield from (("wrong constant", edit) for edit in constant_edits(module, roots))
    yield from (("wrong name", edit) for edit in name_edits(module, node, body))
    for statement in _statements(body):
        start = module.start(statement)
        if getattr(statement, "decorator_list", []):
            start = module.start(statement.decorator_list[0]) - 1  # type: ignore[attr-defined]
        yield "deleted statement", Edit(start, module.end(statement), "pass")
    yield "empty", _emptied(module, node, body)


def _type_edits(module: ModuleText, function: Function, *, whole: bool) -> Iterator[Edit]:
    """The returned value in a list, and as text; and in a whole definition each annotation changed."""
    for statement in within(function.body, into_functions=False):
        if isinstance(statement, ast.Return) and statement.value is not None:
            # A tuple may stand without parentheses, and a value in parentheses over several lines.
            start, end = module.start(statement) + len("return"), module.end(statement)
            value = module.text[start:end].strip()
            yield Edit(start, end, f" [({value})]")
            if function.returns is None or module.source(function.returns) != "str":
                yield Edit(start, end, f" str(({value}))")
    if not whole:
        return
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    annotations = [argument.annotation for argument in arguments] + [function.returns]
    for annotation in annotations:
        if annotation is not None:
            other = "int" if module.source(annotation) == "str" else "str"
            yield Edit(module.start(annotation), module.end(annotation), other)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in within(body, into_functions=False):
        if isinstance(node, ast.stmt) and not isinstance(node, (ast.Return, ast.Pass, ast.Global, ast.Nonlocal)):
            yield node


def _emptied(module: ModuleText, function: Function, body: list[ast.stmt]) -> Edit:
    default = "pass" if _default(function.returns) is None and not _has_return(function) else "return "
    if default == "return ":
        default += _default(function.returns) or "None"
    start = module.line_start(first_line(body[0]))
    own = module.start(body[0])
    indent = module.text[start:own]
    if indent.strip():
        start, indent = (start if first_line(body[0]) < body[0].lineno else own), ""
    return Edit(start, module.end(body[-1]), indent + default)


def _default(annotation: ast.expr | None) -> str | None:
    """What says nothing, of an annotated type; None if there is no annotation, or it promises nothing."""
    if annotation is None or (isinstance(annotation, ast.Constant) and annotation.value is None):
        return None
    if isinstance(annotation, ast.Tuple):
        return "(" + "".join(f"{_default(each)}, " for each in annotation.elts) + ")"
    base = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    name = ast.unparse(base).rpartition(".")[2].lower()
    if name == "tuple" and isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple):
        return _default(annotation.slice)
    return _DEFAULTS.get(name, "None")


def _whole_lines(module: ModuleText, decorator: ast.expr) -> Edit:
    return Edit(module.line_start(decorator.lineno), module.line_start(int(decorator.end_lineno or 0) + 1), "")


def _has_return(function: ast.stmt) -> bool:
    return any(isinstance(node, ast.Return) for node in within(getattr(function, "body", []), into_functions=False))


def _returns(tree: ast.Module, masked: Masked, *, at_most: int = 1) -> int:
    """1 if the entity's function returns anywhere, else 0."""
    functions = [node for node in tree.body if isinstance(node, Function) and node.name == masked.entity]
    return min(at_most, sum(_has_return(function) for function in functions))
