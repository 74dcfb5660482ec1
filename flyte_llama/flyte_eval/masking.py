"""A module → the spans of it that can be masked: bodies and whole definitions of Flyte entities, to the character.

Finds top-level tasks, workflows, dynamic workflows and launch plans by resolving their decorators and calls through the
module's imports. Runs nothing, and does not judge whether a span makes a good item.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from flyte_llama.flyte_eval.describing import describe_function, describe_launch_plan
from flyte_llama.flyte_eval.module_source import DECORATORS, Function, ModuleText, code_of, docstring_of, first_line

BODY, FUNCTION, WORKFLOW = ("body", "function", "workflow")


@dataclass(frozen=True, slots=True)
class Mask:
    """A span of a module for a model to write."""

    tier: str
    entity: str
    entity_kind: str
    node: ast.stmt
    """The definition that is masked, as a whole or in part."""

    start: int
    """The first character of the span."""

    end: int
    line: int
    """The line of the span's first character, counted from 1."""

    description: str
    """A comment before the span that describes the missing code; empty unless a whole definition is masked."""

    def parts(self, text: str) -> tuple[str, str, str]:
        """Prefix, reference and suffix of the module's text; the prefix ends with the description."""
        return text[: self.start] + self.description, text[self.start : self.end], text[self.end :]


def find_masks(module: ModuleText) -> list[Mask]:
    """Return every maskable span, in the order of the text: the body of a definition, then the whole.

    A whole definition is masked only if its description is enough to write it. A workflow needs a docstring, since its
    name does not give its graph; a task needs a docstring or a comment directly above it; a launch plan is described by
    its arguments. A name that the module binds twice is skipped.
    """
    bound = _count_bindings(module)
    functions: dict[ast.stmt, tuple[str, ast.expr]] = {}
    functions |= {function: (kind, decorator) for function, kind, decorator in find_functions(module)}
    spans: list[Mask] = []
    for statement in module.tree.body:
        plan = module.names.launch_plan(statement)
        if isinstance(statement, Function) and statement in functions:
            spans += _mask_function(module, statement, *functions[statement])
        elif plan is not None and (entity := _names_bound_by(statement)[0]) and bound[entity] == 1:
            description = describe_launch_plan(module, entity, plan)
            spans.append(_mask_whole(module, statement, FUNCTION, entity, "launch plan", description))
    return spans


def find_functions(module: ModuleText) -> Iterator[tuple[Function, str, ast.expr]]:
    """Yield the functions that are Flyte entities, with kind and decorator, unless the body is a placeholder.

    A name that the module binds twice is skipped.
    """
    bound = _count_bindings(module)
    for statement in module.tree.body:
        decorator = module.names.flyte_decorator(statement)
        if decorator is None or not isinstance(statement, Function) or bound[statement.name] > 1:
            continue
        body = code_of(statement)
        if body and not all(_is_placeholder(each) for each in body):
            yield statement, DECORATORS[module.names.full_name(decorator)], decorator


def _mask_function(
    module: ModuleText, function: ast.FunctionDef | ast.AsyncFunctionDef, kind: str, decorator: ast.expr
) -> list[Mask]:
    """The body and the whole of a function, as far as each can be masked."""
    spans = []
    docstring = docstring_of(function.body)
    span = _body_span(module, function, code_of(function))
    if span is not None:
        spans.append(Mask(BODY, function.name, kind, function, *span, ""))
    if docstring or (kind != "workflow" and _has_comment_above(module, function)):
        description = describe_function(module, function, kind, decorator, docstring)
        tier = WORKFLOW if kind == "workflow" else FUNCTION
        spans.append(_mask_whole(module, function, tier, function.name, kind, description))
    return spans


def _body_span(module: ModuleText, function: Function, body: list[ast.stmt]) -> tuple[int, int, int] | None:
    """Start, end and first line of a body, with the comments above its first statement and on its last line.

    The span covers whole lines, unless the body is on the line of its `def`: then it begins after the colon. None if
    the body shares a line with its docstring.
    """
    first, start = first_line(body[0]), module.start(body[0])
    end = _end_of_line(module, body[-1])
    line_start = module.line_start(first)
    if module.text[line_start:start].strip(" \t\f") and not getattr(body[0], "decorator_list", []):
        before = module.text[line_start:start].rstrip(" \t\f")
        follows_colon = before.endswith(":") and body[0] is function.body[0]
        return (line_start + len(before), end, first) if follows_colon else None
    # Comments and blank lines directly above belong to the body, up to the `def` or the docstring.
    docstring_end = 0 if body[0] is function.body[0] else int(function.body[0].end_lineno or 0)
    while first - 1 > docstring_end and _is_comment(module.lines[first - 2]):
        first -= 1
    return module.line_start(first), end, first


def _mask_whole(module: ModuleText, node: ast.stmt, tier: str, entity: str, kind: str, description: str) -> Mask:
    line = first_line(node)
    return Mask(tier, entity, kind, node, module.line_start(line), _end_of_line(module, node), line, description)


def _end_of_line(module: ModuleText, node: ast.stmt) -> int:
    """The first character after the last line of a node, so that a comment on that line belongs to it."""
    return module.line_start(int(node.end_lineno or 0) + 1)


def _count_bindings(module: ModuleText) -> Counter[str]:
    """Name → how often the module's top level binds it."""
    return Counter(name for statement in module.tree.body for name in _names_bound_by(statement))


def _is_comment(line: str) -> bool:
    """True for a line that is only a comment, or blank."""
    return not line.strip() or line.lstrip().startswith("#")


def _has_comment_above(module: ModuleText, function: Function) -> bool:
    line = first_line(function)
    return line > 1 and module.lines[line - 2].lstrip().startswith("#")


def _is_placeholder(statement: ast.stmt) -> bool:
    """True for `pass`, `...` or any other bare constant."""
    is_constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_constant or isinstance(statement, ast.Pass)


def _names_bound_by(statement: ast.stmt) -> list[str]:
    """The names that a top-level `def`, `class` or plain assignment binds."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    return []
