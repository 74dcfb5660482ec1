"""A masked definition → wrong answers, each made from its text by one edit.

They prove an item: its runs must tell each of them from the reference. Every mutant still parses and differs from the
reference in its syntax tree. It keeps a `return` if the reference has one: flytekit refuses to import a task that
declares a result and never returns, so the mutant would fail for that alone.

Text that only people read is not edited: docstrings, printed or logged messages, messages of exceptions.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from flyte_llama.documents import draw
from flyte_llama.flyte_eval.edits import Edit, constant_edits, name_edits, operator_edits, walk_code
from flyte_llama.flyte_eval.masking import BODY, Mask
from flyte_llama.flyte_eval.module_source import Function, ModuleText, docstring_of, first_line

KINDS = (
    *("wrong type", "missing decorator", "wrong operator", "wrong constant", "wrong name"),
    *("deleted statement", "empty"),
)
_EMPTY_VALUES = {"int": "0", "float": "0.0", "str": '""', "bool": "False", "list": "[]", "dict": "{}"}


class Mutation(NamedTuple):
    """A wrong answer and the kind of mistake in it."""

    kind: str
    text: str
    """The code that replaces the reference."""


def mutations_of(module: ModuleText, mask: Mask) -> list[Mutation]:
    """Return every mutant once, ordered by kind, then by position."""
    mutations: dict[str, Mutation] = {}
    prefix, _, suffix = mask.parts(module.text)
    reference = ast.dump(module.tree)
    needs_return = _entity_returns(module.tree, mask)
    for kind, edit in _edits(module, mask):
        text = edit.apply(module.text, mask.start, mask.end)
        try:
            tree = ast.parse(prefix + text + suffix)
        except (SyntaxError, ValueError):
            continue
        if ast.dump(tree) != reference and (_entity_returns(tree, mask) or not needs_return):
            mutations.setdefault(text, Mutation(kind, text))
    return sorted(mutations.values(), key=lambda mutation: KINDS.index(mutation.kind))


def sample_mutations(mutations: list[Mutation], *, per_kind: int, seed: int, name: str) -> list[Mutation]:
    """Return at most `per_kind` mutants of each kind, sampled by (seed, item's name)."""
    by_kind = defaultdict(list)
    for mutation in mutations:
        by_kind[mutation.kind].append(mutation)
    chosen: list[Mutation] = []
    for kind in KINDS:
        shuffled = sorted(by_kind[kind], key=lambda mutation: draw(seed, name, mutation.text))
        chosen += shuffled[:per_kind]
    return chosen


def _edits(module: ModuleText, mask: Mask) -> Iterator[tuple[str, Edit]]:
    """Kind and edit of every mutant, before it is known whether the result parses."""
    node, whole = mask.node, mask.tier != BODY
    if not isinstance(node, Function):
        # a launch plan: one assignment without a body
        yield from (("wrong constant", edit) for edit in constant_edits(module, [node]))
        yield "empty", Edit(mask.start, mask.end, f"{mask.entity} = None\n")
        return
    body = node.body[0 if docstring_of(node.body) is None else 1 :]

    # types and decorators
    yield from (("wrong type", edit) for edit in _type_edits(module, node, whole=whole))
    if whole:
        for decorator in node.decorator_list:
            yield "missing decorator", _delete_lines(module, decorator)

    # operators, constants and names; in a whole definition, decorators and defaults are edited as well
    roots: list[ast.AST] = [*body]
    if whole:
        roots = [*node.decorator_list, *node.args.defaults, *(each for each in node.args.kw_defaults if each), *roots]
    yield from (("wrong operator", edit) for edit in operator_edits(module, roots))
    yield from (("wrong constant", edit) for edit in constant_edits(module, roots))
    yield from (("wrong name", edit) for edit in name_edits(module, node, body))

    # statements
    for statement in _statements(body):
        start = module.start(statement)
        if getattr(statement, "decorator_list", []):
            # one character back, to include the `@`
            start = module.start(statement.decorator_list[0]) - 1  # type: ignore[attr-defined]
        yield "deleted statement", Edit(start, module.end(statement), "pass")
    yield "empty", _empty_body(module, node, body)


def _type_edits(module: ModuleText, function: Function, *, whole: bool) -> Iterator[Edit]:
    """Edits that return the value in a list or as text and, in a whole definition, edits that change an annotation."""
    for statement in walk_code(function.body, into_functions=False):
        if isinstance(statement, ast.Return) and statement.value is not None:
            # Parentheses around the value: it may be a tuple without any, or span several lines.
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
    """The statements that are deleted one at a time: all but `return`, `pass`, `global` and `nonlocal`."""
    for node in walk_code(body, into_functions=False):
        if isinstance(node, ast.stmt) and not isinstance(node, (ast.Return, ast.Pass, ast.Global, ast.Nonlocal)):
            yield node


def _empty_body(module: ModuleText, function: Function, body: list[ast.stmt]) -> Edit:
    """The edit that replaces a body with a `return` of an empty value, or with `pass`."""
    statement = "pass" if _empty_value(function.returns) is None and not _has_return(function) else "return "
    if statement == "return ":
        statement += _empty_value(function.returns) or "None"
    start = module.line_start(first_line(body[0]))
    statement_start = module.start(body[0])
    indent = module.text[start:statement_start]
    # Text before the first statement is a `def` on the same line, or a decorator on the lines above.
    if indent.strip():
        start, indent = (start if first_line(body[0]) < body[0].lineno else statement_start), ""
    return Edit(start, module.end(body[-1]), indent + statement)


def _empty_value(annotation: ast.expr | None) -> str | None:
    """The code of an empty value of an annotated type, such as `0` for int; None for no annotation or `-> None`."""
    if annotation is None or (isinstance(annotation, ast.Constant) and annotation.value is None):
        return None
    if isinstance(annotation, ast.Tuple):
        return "(" + "".join(f"{_empty_value(each)}, " for each in annotation.elts) + ")"
    base = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    name = ast.unparse(base).rpartition(".")[2].lower()
    if name == "tuple" and isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple):
        return _empty_value(annotation.slice)
    return _EMPTY_VALUES.get(name, "None")


def _delete_lines(module: ModuleText, decorator: ast.expr) -> Edit:
    """The edit that deletes the lines of a decorator."""
    return Edit(module.line_start(decorator.lineno), module.line_start(int(decorator.end_lineno or 0) + 1), "")


def _has_return(function: ast.stmt) -> bool:
    return any(isinstance(node, ast.Return) for node in walk_code(getattr(function, "body", []), into_functions=False))


def _entity_returns(tree: ast.Module, mask: Mask) -> bool:
    """True if the entity's function has a `return`."""
    functions = [node for node in tree.body if isinstance(node, Function) and node.name == mask.entity]
    return any(_has_return(function) for function in functions)
