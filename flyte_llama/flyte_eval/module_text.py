"""A module's text, its syntax tree, and the exact characters of each node.

Does not run or import the module.
"""

from __future__ import annotations

import ast
import inspect
import re
from itertools import accumulate

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")


class ModuleText:
    """Python source with positions in characters, where `ast` counts lines and bytes."""

    def __init__(self, text: str) -> None:
        """Parse it.

        Raises:
            SyntaxError: if it is no Python.
            ValueError: if it holds a NUL.
        """
        self.text = text
        self.tree = ast.parse(text)
        # Only what Python holds for the end of a line: str.splitlines knows ten others.
        self.lines = [line for line in _LINE.findall(text) if line]
        self._starts = [0, *accumulate(len(line) for line in self.lines)]

    def line_start(self, number: int) -> int:
        """The character at which a line begins, counted from 1; one more than there are begins at the end."""
        return self._starts[number - 1]

    def start(self, node: ast.AST) -> int:
        """The first character of a node; of a decorated definition, of its `def` or `class`."""
        return self._character(node.lineno, node.col_offset)  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        """The character behind a node."""
        return self._character(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def source(self, node: ast.AST) -> str:
        return self.text[self.start(node) : self.end(node)]

    def _character(self, line: int, column: int) -> int:
        before = self.lines[line - 1].encode()[:column] if line <= len(self.lines) else b""
        return self.line_start(line) + len(before.decode())


def first_line(node: ast.stmt) -> int:
    """The line on which a statement begins, with its decorators."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def own_docstring(body: list[ast.stmt]) -> str | None:
    """What the docstring of a body says, without its indentation."""
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return inspect.cleandoc(first.value.value)
    return None
