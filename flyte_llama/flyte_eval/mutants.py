"""A masked definition → wrong answers, each made from its text by one edit.

They prove an item: its runs must tell each of them from the reference. Every mutant still parses and differs from the
reference in its syntax tree. It keeps a `return` if the reference has one: flytekit refuses to import a task that
declares a result and never returns, so the mutant would fail for that alone.

Text that only people read is not edited: docstrings, printed or logged messages, messages of exceptions.
"""

from __future__ import annotations

import ast
import heapq
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from flyte_llama.documents import draw
from flyte_llama.flyte_eval.edits import Edit, constant_edits, name_edits, operator_edits, walk_code
from flyte_llama.flyte_eval.masking import BODY, Mask
from flyte_llama.flyte_eval.module_source import Function, ModuleText, docstring_of, first_line
from flyte_llama.flyte_eval.parts import PARTS, part_edits

KINDS = (
    *("wrong type", "missing decorator", "wrong operator", "wrong constant", "wrong name"),
    *("wrong statement", "wrong argument", "wrong decorator", "deleted statement", "empty"),
)
NO_CODE = ("missing decorator", "deleted statement", "empty")
"""The kinds that write nothing, or no more than an empty value."""

MUTANTS_PER_ITEM = 64
"""The most mutants of one item. 99 of 100 definitions of Flyte's examples have fewer."""

MUTANTS_PER_KIND = 16
"""The most mutants of one kind for one item; few definitions have so many."""

TRIES_PER_KIND = 32
"""The most edits of one kind that are tried: some give no Python, or the same text again, but few."""

_EMPTY_VALUES = {"int": "0", "float": "0.0", "str": '""', "bool": "False", "list": "[]", "dict": "{}"}


class Mutation(NamedTuple):
    """A wrong answer and the kind of mistake in it."""

    kind: str
    text: str
    """The code that replaces the reference."""


def make_mutants(module: ModuleText, mask: Mask, *, seed: int, name: str) -> list[Mutation]:
    """Return at most `MUTANTS_PER_ITEM` different mutants, ordered by kind; a sample if there are more.

    Parses the definition once for each mutant that is tried, and never the module.

    Args:
        seed: With `name`, selects the sample.
        name: The item's name.
    """
    # The definition, in whole lines: whether a mutant parses, and differs, depends on them alone.
    begin, end = module.line_start(first_line(mask.node)), module.line_start(int(mask.node.end_lineno or 0) + 1)
    before, after = module.text[begin : mask.start], module.text[mask.end : end]
    reference = ast.dump(ast.parse(module.text[begin:end]))
    needs_return = _has_return(mask.node)

    # the edits of each kind, in random order
    edits = defaultdict(list)
    for kind, edit in _edits(module, mask):
        # of a part, only what changes nothing else
        if mask.start <= edit.start and edit.end <= mask.end:
            edits[kind].append(edit)
    tried: set[str] = set()

    def make(kind: str) -> Iterator[Mutation]:
        # drawn by their places, not their texts: the texts of all edits of a long function are its length squared
        for edit in heapq.nsmallest(TRIES_PER_KIND, edits[kind], key=lambda edit: _draw_edit(edit, mask, seed, name)):
            text = edit.apply(module.text, mask.start, mask.end)
            if text not in tried:
                tried.add(text)
                if _is_mutant(before + text + after, mask, reference, needs_return=needs_return):
                    yield Mutation(kind, text)

    # take one of each kind in turn, so that every kind has its share
    makers = {kind: make(kind) for kind in KINDS}
    mutations: list[Mutation] = []
    for kind in KINDS * MUTANTS_PER_KIND:
        if len(mutations) < MUTANTS_PER_ITEM and (mutation := next(makers[kind], None)):
            mutations.append(mutation)
    return sorted(mutations, key=lambda mutation: KINDS.index(mutation.kind))


def _draw_edit(edit: Edit, mask: Mask, seed: int, name: str) -> bytes:
    """A random key of an edit, which does not change when other code of the file does."""
    return draw(seed, name, edit.start - mask.start, edit.end - mask.start, edit.text)


def _is_mutant(definition: str, mask: Mask, reference: str, *, needs_return: bool) -> bool:
    """Whether a definition parses, differs from the reference in its tree, and has a `return` if it needs one."""
    try:
        tree = ast.parse(definition)
    except (SyntaxError, ValueError):
        return False
    return ast.dump(tree) != reference and (not needs_return or _entity_returns(tree, mask))


def _edits(module: ModuleText, mask: Mask) -> Iterator[tuple[str, Edit]]:
    """Kind and edit of every mutant, before it is known whether the result parses."""
    node, whole = mask.node, mask.tier != BODY
    if not isinstance(node, Function):
        # a launch plan: one assignment without a body
        yield from (("wrong constant", edit) for edit in constant_edits(module, [node]))
        yield "empty", Edit(mask.start, mask.end, f"{mask.entity} = None\n")
        return
    if mask.tier in PARTS:
        yield from part_edits(module, mask, node)
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
