"""A module's text, its syntax tree, the exact characters of each node, and the full names that its imports give.

    ModuleText("import flytekit as fl\n\n@fl.task\ndef f(): …")    .source(node) → the characters of a node
    Names(tree).full_name(fl.task)                                  → "flytekit.task"

Reads the text only: nothing is run or imported, so the names of a star import stay unknown.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from bisect import bisect_left
from itertools import accumulate

DECORATORS = {
    "flytekit.task": "task",
    "flytekit.core.task.task": "task",
    "flytekit.workflow": "workflow",
    "flytekit.core.workflow.workflow": "workflow",
    "flytekit.dynamic": "dynamic",
    "flytekit.core.dynamic_workflow_task.dynamic": "dynamic",
    # An eager function is a task that calls tasks while it runs.
    "flytekit.eager": "task",
    "flytekit.core.task.eager": "task",
    "flytekit.experimental.eager": "task",
}
"""Dotted name of a decorator → the kind of Flyte entity it makes."""

_LAUNCH_PLANS = ("flytekit.LaunchPlan", "flytekit.core.launch_plan.LaunchPlan")
_LAUNCH_PLAN_CALLS = frozenset(f"{name}.{method}" for name in _LAUNCH_PLANS for method in ("create", "get_or_create"))
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
Function = ast.FunctionDef | ast.AsyncFunctionDef


class ModuleText:
    """Python source with positions in characters, where `ast` counts lines and bytes."""

    def __init__(self, text: str) -> None:
        """Parse the text.

        Raises:
            SyntaxError: if it is not Python.
            ValueError: if it contains a NUL.
        """
        self.text = text
        self.tree = ast.parse(text)
        # Split only at the line ends that Python's grammar knows: str.splitlines splits at ten other characters too.
        self.lines = [line for line in _LINE.findall(text) if line]
        self._starts = [0, *accumulate(len(line) for line in self.lines)]
        # Line → the column in bytes after each of its characters; for lines with other characters than ASCII.
        self._columns: dict[int, list[int]] = {}

    @functools.cached_property
    def names(self) -> Names:
        """The full names that the module's imports give."""
        return Names(self.tree)

    def line_start(self, line: int) -> int:
        """The first character of a line, counted from 1; the line after the last one starts at the end of the text."""
        return self._starts[line - 1]

    def start(self, node: ast.AST) -> int:
        """The first character of a node; for a decorated definition, that is its `def` or `class`."""
        return self._character(node.lineno, node.col_offset)  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        """The first character after a node."""
        return self._character(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def source(self, node: ast.AST) -> str:
        """The text of a node."""
        return self.text[self.start(node) : self.end(node)]

    def _character(self, line: int, column: int) -> int:
        # ast gives columns in UTF-8 bytes. No call reads the line again: a file may have all its nodes in one line.
        start = self.line_start(line)
        if line > len(self.lines):
            return start
        if self.lines[line - 1].isascii():
            return start + column
        if line not in self._columns:
            self._columns[line] = list(accumulate(len(character.encode()) for character in self.lines[line - 1]))
        return start + bisect_left(self._columns[line], column) + 1 if column else start


class Names:
    """Resolves names and attributes through the imports of one module, those inside functions included."""

    def __init__(self, tree: ast.Module) -> None:
        self.imported: dict[str, str] = {}
        """Name that an import binds → its full name."""

        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    # `import a.b` binds `a`; `import a.b as c` binds `c` to `a.b`.
                    bound = alias.asname or alias.name.partition(".")[0]
                    self.imported[bound] = alias.name if alias.asname else bound
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = f"{module}.{alias.name}"

    @property
    def uses_flyte(self) -> bool:
        """True if the module imports flytekit or anything from it."""
        return any(name.partition(".")[0] == "flytekit" for name in self.imported.values())

    def full_name(self, expression: ast.expr) -> str:
        """The full name of a name, an attribute or the function of a call; empty for any other expression."""
        if isinstance(expression, ast.Call):
            return self.full_name(expression.func)
        if isinstance(expression, ast.Attribute):
            base = self.full_name(expression.value)
            return f"{base}.{expression.attr}" if base else ""
        if isinstance(expression, ast.Name):
            return self.imported.get(expression.id, expression.id)
        return ""

    def flyte_decorator(self, function: ast.stmt) -> ast.expr | None:
        """The decorator that makes a function a Flyte entity, or None."""
        if not isinstance(function, Function):
            return None
        decorators = (each for each in function.decorator_list if self.full_name(each) in DECORATORS)
        return next(decorators, None)

    def launch_plan(self, statement: ast.stmt) -> ast.Call | None:
        """The call in `NAME = LaunchPlan.create(…)` or `get_or_create`, or None for any other statement."""
        if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
            return None
        if len(statement.targets) != 1 or not isinstance(statement.targets[0], ast.Name):
            return None
        return statement.value if self.full_name(statement.value) in _LAUNCH_PLAN_CALLS else None


def first_line(node: ast.stmt) -> int:
    """The first line of a statement, decorators included."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def code_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    """The body of a function without its docstring."""
    return function.body[0 if docstring_of(function.body) is None else 1 :]


def docstring_of(body: list[ast.stmt]) -> str | None:
    """The docstring of a body, without its indentation, or None."""
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return inspect.cleandoc(first.value.value)
    return None
