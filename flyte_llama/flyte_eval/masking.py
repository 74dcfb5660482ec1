"""A module → what of it can be masked: bodies and whole definitions of Flyte entities, to the character.

Looks at top-level tasks, workflows, dynamic workflows and launch plans, as their decorators and calls resolve through
the module's imports. Does not run anything, and does not say whether a mask makes a good item.
"""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass

from flyte_llama.flyte_eval.describing import describe_function, describe_launch_plan
from flyte_llama.flyte_eval.module_text import ModuleText, first_line, own_docstring
from flyte_llama.flyte_eval.names import DECORATORS, Function, Names

BODY, FUNCTION, WORKFLOW = TIERS = ("body", "function", "workflow")


@dataclass(frozen=True, slots=True)
class Masked:
    """A span of a module that is to be written anew."""

    tier: str
    entity: str
    entity_kind: str
    node: ast.stmt
    """The definition that is masked, or whose body is."""

    start: int
    """The first character of the span."""

    end: int
    line: int
    """Of the span's first character, counted from 1."""

    description: str
    """A comment that says what is to be written, to stand before the span; empty for a body, which has its `def`."""

    def parts(self, text: str) -> tuple[str, str, str]:
        """Prefix, reference and suffix of the module's text, the description at the prefix's end."""
        return text[: self.start] + self.description, text[self.start : self.end], text[self.end :]


def maskable(module: ModuleText) -> list[Masked]:
    """Every span, in the order of the text; a definition as a body and as a whole.

    A whole definition is masked only if it can be written from what is told of it: a workflow, whose graph no name
    says, needs a docstring; a task needs one, or a comment directly above it; a launch plan is told by its arguments.
    A name that the module binds twice is passed over.
    """
    names = Names(module.tree)
    bound = Counter(name for statement in module.tree.body for name in _binds(statement))
    found: list[Masked] = []
    for statement in module.tree.body:
        decorator, plan = names.flyte_decorator(statement), names.launch_plan(statement)
        if decorator is not None and isinstance(statement, Function) and bound[statement.name] == 1:
            found += _of_function(module, statement, DECORATORS[names.dotted(decorator)], decorator)
        elif plan is not None and (entity := _binds(statement)[0]) and bound[entity] == 1:
            described = describe_launch_plan(module, entity, plan)
            found.append(_whole(module, statement, FUNCTION, entity, "launch plan", described))
    return found


def _of_function(
    module: ModuleText, function: ast.FunctionDef | ast.AsyncFunctionDef, kind: str, decorator: ast.expr
) -> list[Masked]:
    found = []
    documented = own_docstring(function.body)
    body = function.body[0 if documented is None else 1 :]
    if not body or all(_says_nothing(statement) for statement in body):
        return []
    span = _body_span(module, function, body)
    if span is not None:
        found.append(Masked(BODY, function.name, kind, function, *span, ""))
    if documented or (kind != "workflow" and _commented(module, function)):
        described = describe_function(module, function, kind, decorator, documented)
        tier = WORKFLOW if kind == "workflow" else FUNCTION
        found.append(_whole(module, function, tier, function.name, kind, described))
    return found


def _body_span(module: ModuleText, function: Function, body: list[ast.stmt]) -> tuple[int, int, int] | None:
    """Start, end and first line of the statements, with the comments above the first and behind the last of them.

    Whole lines, but for a body on the line of its `def`: that begins behind the colon. None for one that shares a line
    with its docstring.
    """
    first, start = first_line(body[0]), module.start(body[0])
    end = _end_of_line(module, body[-1])
    line_start = module.line_start(first)
    if module.text[line_start:start].strip(" \t\f") and not getattr(body[0], "decorator_list", []):
        before = module.text[line_start:start].rstrip(" \t\f")
        behind_colon = before.endswith(":") and body[0] is function.body[0]
        return (line_start + len(before), end, first) if behind_colon else None
    # Comments and blank lines directly above belong to the body; above them stands the colon, or the docstring.
    docstring_end = 0 if body[0] is function.body[0] else int(function.body[0].end_lineno or 0)
    while first - 1 > docstring_end and _is_comment(module.lines[first - 2]):
        first -= 1
    return module.line_start(first), end, first


def _whole(module: ModuleText, node: ast.stmt, tier: str, entity: str, kind: str, description: str) -> Masked:
    line = first_line(node)
    return Masked(tier, entity, kind, node, module.line_start(line), _end_of_line(module, node), line, description)


def _end_of_line(module: ModuleText, node: ast.stmt) -> int:
    return module.line_start(int(node.end_lineno or 0) + 1)


def _is_comment(line: str) -> bool:
    """Or blank."""
    return not line.strip() or line.lstrip().startswith("#")


def _commented(module: ModuleText, function: Function) -> bool:
    line = first_line(function)
    return line > 1 and module.lines[line - 2].lstrip().startswith("#")


def _says_nothing(statement: ast.stmt) -> bool:
    ellipsis = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return ellipsis or isinstance(statement, ast.Pass)


def _binds(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    return []
