"""What the names in a module stand for, as far as its imports say: `fl.task` → `flytekit.task`.

Does not import anything, so a star import tells nothing.
"""

from __future__ import annotations

import ast

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
LAUNCH_PLAN_CALLS = frozenset(f"{name}.{method}" for name in _LAUNCH_PLANS for method in ("create", "get_or_create"))

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Names:
    def __init__(self, tree: ast.Module) -> None:
        self._imported: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    bound = alias.asname or alias.name.partition(".")[0]
                    self._imported[bound] = alias.name if alias.asname else bound
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                for alias in node.names:
                    self._imported[alias.asname or alias.name] = f"{module}.{alias.name}"

    @property
    def uses_flyte(self) -> bool:
        return any(name.partition(".")[0] == "flytekit" for name in self._imported.values())

    def dotted(self, expression: ast.expr) -> str:
        """The full name of a name or attribute; of a call, that of what is called; empty for anything else."""
        if isinstance(expression, ast.Call):
            return self.dotted(expression.func)
        if isinstance(expression, ast.Attribute):
            base = self.dotted(expression.value)
            return f"{base}.{expression.attr}" if base else ""
        if isinstance(expression, ast.Name):
            return self._imported.get(expression.id, expression.id)
        return ""

    def flyte_decorator(self, function: ast.stmt) -> ast.expr | None:
        """The decorator that makes a function a Flyte entity."""
        if not isinstance(function, Function):
            return None
        found = (each for each in function.decorator_list if self.dotted(each) in DECORATORS)
        return next(found, None)

    def launch_plan(self, statement: ast.stmt) -> ast.Call | None:
        """The call of `NAME = LaunchPlan.create(…)` or `get_or_create`."""
        if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
            return None
        if len(statement.targets) != 1 or not isinstance(statement.targets[0], ast.Name):
            return None
        return statement.value if self.dotted(statement.value) in LAUNCH_PLAN_CALLS else None
