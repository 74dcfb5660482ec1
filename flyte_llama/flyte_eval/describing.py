"""A definition → the comment that stands in its place: all that is needed to write it, in words.

The signature, the decorators' arguments and the docstring are those of the source; what the body does is not told
beyond the docstring.
"""

from __future__ import annotations

import ast

from flyte_llama.flyte_eval.module_text import ModuleText
from flyte_llama.flyte_eval.names import Function


def describe_function(
    module: ModuleText, function: Function, kind: str, decorator: ast.expr, documented: str | None
) -> str:
    """Comment lines, such as

        # Task square(n: int) -> int with cache=True, cache_version="1.0": Return n squared.

    Args:
        kind: task, workflow or dynamic.
        decorator: The one that makes it a Flyte entity; others are named by how they are written.
        documented: The docstring, if there is one; without, what it does stands in the comment above.
    """
    kind = {"dynamic": "dynamic workflow"}.get(kind, kind)
    asynchronous = "async " if isinstance(function, ast.AsyncFunctionDef) else ""
    head = f"{asynchronous}{kind} {function.name}({ast.unparse(function.args)})"
    if function.returns is not None:
        head += f" -> {ast.unparse(function.returns)}"
    written = _written(decorator)
    if written not in ("task", "workflow", "dynamic"):
        head += f" by @{written}"
    if arguments := _arguments(module, decorator):
        head += f" with {arguments}"
    others = [f"@{_one_line(module, other)}" for other in function.decorator_list if other is not decorator]
    if others:
        position = function.decorator_list.index(decorator)
        head += f", decorated {'also ' if position == 0 else 'first '}by {', '.join(others)}"
    return _comment(module, head[0].upper() + head[1:], documented)


def describe_launch_plan(module: ModuleText, entity: str, call: ast.Call) -> str:
    """A comment line, such as

    # Launch plan nightly, by LaunchPlan.get_or_create with workflow=report, fixed_inputs={"days": 1}
    """
    head = f"Launch plan {entity}, by {ast.unparse(call.func)} with {_arguments(module, call)}"
    return _comment(module, head, None)


def _written(decorator: ast.expr) -> str:
    return ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)


def _arguments(module: ModuleText, call: ast.expr) -> str:
    if not isinstance(call, ast.Call):
        return ""
    positional = [_one_line(module, argument) for argument in call.args]
    named = [
        f"{keyword.arg}={_one_line(module, keyword.value)}" if keyword.arg else f"**{_one_line(module, keyword.value)}"
        for keyword in call.keywords
    ]
    return ", ".join([*positional, *named])


def _one_line(module: ModuleText, node: ast.expr) -> str:
    """As written, or as Python would write it if that takes several lines."""
    source = module.source(node)
    return ast.unparse(node) if "\n" in source or "\r" in source else source


def _comment(module: ModuleText, head: str, documented: str | None) -> str:
    newline = "\r\n" if module.lines[0].endswith("\r\n") else "\n"
    lines = (documented or "").splitlines()
    told = [f"{head}:", *lines] if lines else [head]
    if len(lines) == 1:
        told = [f"{head}: {lines[0]}"]
    return "".join(f"# {line}".rstrip() + newline for line in told)
