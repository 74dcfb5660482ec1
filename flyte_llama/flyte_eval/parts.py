"""Functions of Flyte → small parts of them to mask: a statement, an argument, a type, a decorator; and wrong ones.

    @task(retries=2)                       decorator   the line
    def add(a: int, b: int) -> int:        type        ` int` after `b:`
        total = scale(a=a, by=3)           argument    ` by=3`
        return total + b                   statement   the line, with its indentation

The rest of the function is as it was written. So these are easier than a whole body, and small models differ in them.
A part has the blanks before it, since a model writes a blank and the next word as one token. Runs nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from flyte_llama.documents import draw
from flyte_llama.flyte_eval.edits import Edit, walk_code
from flyte_llama.flyte_eval.masking import Mask, find_functions
from flyte_llama.flyte_eval.module_source import DECORATORS, Function, ModuleText, code_of

STATEMENT, ARGUMENT, TYPE, DECORATOR = PARTS = ("statement", "argument", "type", "decorator")
"""The tiers of parts."""

_Span = tuple[int, int]
_SIMPLE = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr)
_TYPES = ("int", "str", "float", "bool", "list[str]")


def find_parts(module: ModuleText) -> list[Mask]:
    """Return one part of each kind for each function of Flyte that has one, in the order of the functions.

    Which one is drawn by the text of the parts, so that other code of the file does not change it.
    """
    parts = []
    for function, kind, decorator in find_functions(module):
        spans = {
            STATEMENT: _statements(module, function),
            ARGUMENT: [span for call in _calls(function) for span in _arguments(module, call)],
            TYPE: list(_types(module, function)),
            DECORATOR: [_lines(module, decorator)],
        }
        for tier, choice in spans.items():
            if choice:
                start, end = min(choice, key=lambda span: draw(function.name, tier, module.text[slice(*span)]))
                line = module.text.count("\n", 0, start) + 1
                parts.append(Mask(tier, function.name, kind, function, start, end, line, ""))
    return parts


def part_edits(module: ModuleText, mask: Mask, function: Function) -> Iterator[tuple[str, Edit]]:
    """Kind and edit of the wrong parts that are made for this kind of part alone.

    Another statement of the function, or a parameter as its result; another argument of the call, another type, another
    decorator of Flyte or the same without arguments; and nothing at all, in place of an argument.
    """
    span = (mask.start, mask.end)
    if mask.tier == STATEMENT:
        spans = _statements(module, function)
        index = spans.index(span)
        own = module.text[mask.start : mask.end]
        indent = own[: len(own) - len(own.lstrip())]
        for other in spans[max(0, index - 2) : index + 3]:
            yield "wrong statement", Edit(*span, indent + module.text[slice(*other)].lstrip())
        # a function that gives back what it was given proves nothing of its result
        if re.match(r"return\b", own.lstrip()):
            end = own[len(own.rstrip()) :]
            for parameter in _parameters(function):
                yield "wrong statement", Edit(*span, f"{indent}return {parameter.arg}{end}")
    elif mask.tier == ARGUMENT:
        call = next(call for call in _calls(function) if span in _arguments(module, call))
        yield from (("wrong argument", edit) for edit in _other_arguments(module, call, span))
        yield "empty", Edit(*span, "")
    elif mask.tier == TYPE:
        yield from (("wrong type", Edit(*span, f" {other}")) for other in _TYPES)
    elif decorator := module.names.flyte_decorator(function):
        yield from (("wrong decorator", edit) for edit in _other_decorators(module, decorator))


def _statements(module: ModuleText, function: Function) -> list[_Span]:
    """The lines of each simple statement of a function; none if it is the whole body."""
    spans = []
    for node in walk_code(function.body, into_functions=False):
        if isinstance(node, _SIMPLE):
            start, end = _lines(module, node)
            before, after = module.text[start : module.start(node)], module.text[module.end(node) : end].strip()
            if not before.strip() and (not after or after.startswith("#")):
                spans.append((start, end))
    body = code_of(function)
    return spans if len(body) > 1 or not isinstance(body[0], _SIMPLE) else []


def _calls(function: Function) -> list[ast.Call]:
    """The calls in a function's body, without those of text for people, such as `print`."""
    return [node for node in walk_code(function.body) if isinstance(node, ast.Call)]


def _arguments(module: ModuleText, call: ast.Call) -> list[_Span]:
    """Each argument of a call, with its name and the blanks before it."""
    return [
        span
        for argument in [*call.args, *call.keywords]
        if (span := _after(module, argument, "(", ","))  # a generator without brackets of its own follows neither
    ]


def _types(module: ModuleText, function: Function) -> Iterator[_Span]:
    """The annotation of each parameter, and of the result."""
    for annotation in [*(parameter.annotation for parameter in _parameters(function)), function.returns]:
        if annotation is not None and (span := _after(module, annotation, ":", ">")):
            yield span


def _parameters(function: Function) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _after(module: ModuleText, node: ast.AST, *signs: str) -> _Span | None:
    """The span of a node from the sign before it on; None if another character is before it."""
    start = module.start(node)
    while start and module.text[start - 1] in " \t\r\n":
        start -= 1
    return (start, module.end(node)) if start and module.text[start - 1] in signs else None


def _lines(module: ModuleText, node: ast.AST) -> _Span:
    """The whole lines of a node."""
    first, last = node.lineno, node.end_lineno  # type: ignore[attr-defined]
    return module.line_start(first), module.line_start(last + 1)


def _other_arguments(module: ModuleText, call: ast.Call, span: _Span) -> Iterator[Edit]:
    """Edits that give an argument the value of each other one of its call."""
    values: list[ast.expr] = [*call.args, *(keyword.value for keyword in call.keywords)]
    own = next(value for value in values if span[0] <= module.start(value) and module.end(value) <= span[1])
    yield from (Edit(module.start(own), span[1], module.source(value)) for value in values if value is not own)


def _other_decorators(module: ModuleText, decorator: ast.expr) -> Iterator[Edit]:
    """Edits that write another decorator that the module can name, and the same without arguments."""
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    start, end = module.start(function), module.end(function)
    kind = DECORATORS[module.names.full_name(function)]
    if isinstance(function, ast.Attribute):
        owner = module.source(function.value)
        others = [f"{owner}.{name}" for name in ("task", "workflow", "dynamic") if name != kind]
    else:
        known = module.names.imported
        others = [name for name, full in known.items() if DECORATORS.get(full, kind) != kind]
    yield from (Edit(start, end, name) for name in others)
    if end < module.end(decorator):
        yield Edit(end, module.end(decorator), "")
