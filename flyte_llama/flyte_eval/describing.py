"""A definition → the comment that replaces it in a prompt: all that is needed to write it, in words.

Takes the signature, the decorators' arguments and the docstring from the source. Adds nothing about the body.
"""

from __future__ import annotations

import ast

from flyte_llama.flyte_eval.module_source import Function, ModuleText


def describe_function(
    module: ModuleText, function: Function, kind: str, decorator: ast.expr, docstring: str | None
) -> str:
    """Return comment lines, such as

        # Task square(n: int) -> int with cache=True, cache_version="1.0": Return n squared.

    Args:
        kind: task, workflow or dynamic.
        decorator: The decorator that makes it a Flyte entity; the others are quoted as they are written.
        docstring: The docstring, or None if a comment above the function describes it instead.
    """
    kind = {"dynamic": "dynamic workflow"}.get(kind, kind)
    asynchronous = "async " if isinstance(function, ast.AsyncFunctionDef) else ""
    head = f"{asynchronous}{kind} {function.name}({ast.unparse(function.args)})"
    if function.returns is not None:
        head += f" -> {ast.unparse(function.returns)}"
    decorator_name = _decorator_name(decorator)
    if decorator_name not in ("task", "workflow", "dynamic"):
        head += f" by @{decorator_name}"
    if arguments := _arguments_text(module, decorator):
        head += f" with {arguments}"
    others = [f"@{_one_line(module, other)}" for other in function.decorator_list if other is not decorator]
    if others:
        position = function.decorator_list.index(decorator)
        head += f", decorated {'also ' if position == 0 else 'first '}by {', '.join(others)}"
    return _comment(module, head[0].upper() + head[1:], docstring)


def describe_launch_plan(module: ModuleText, entity: str, call: ast.Call) -> str:
    """Return a comment line, such as

    # Launch plan nightly, by LaunchPlan.get_or_create with workflow=report, fixed_inputs={"days": 1}
    """
    head = f"Launch plan {entity}, by {ast.unparse(call.func)} with {_arguments_text(module, call)}"
    return _comment(module, head, None)


def _decorator_name(decorator: ast.expr) -> str:
    return ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)


def _arguments_text(module: ModuleText, call: ast.expr) -> str:
    """The arguments of a call, separated by commas; empty for a decorator without parentheses."""
    if not isinstance(call, ast.Call):
        return ""
    positional = [_one_line(module, argument) for argument in call.args]
    named = [
        f"{keyword.arg}={_one_line(module, keyword.value)}" if keyword.arg else f"**{_one_line(module, keyword.value)}"
        for keyword in call.keywords
    ]
    return ", ".join([*positional, *named])


def _one_line(module: ModuleText, node: ast.expr) -> str:
    """The source of a node, or the form that Python gives it if the source takes several lines."""
    source = module.source(node)
    return ast.unparse(node) if "\n" in source or "\r" in source else source


def _comment(module: ModuleText, head: str, docstring: str | None) -> str:
    """Comment lines with the module's line ends: head and docstring on one line if the docstring has one."""
    newline = "\r\n" if module.lines[0].endswith("\r\n") else "\n"
    docstring_lines = (docstring or "").splitlines()
    lines = [f"{head}:", *docstring_lines] if docstring_lines else [head]
    if len(docstring_lines) == 1:
        lines = [f"{head}: {docstring_lines[0]}"]
    return "".join(f"# {line}".rstrip() + newline for line in lines)
