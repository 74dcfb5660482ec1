"""The shape of the house: imports go one way, and importing a module does nothing that can be felt."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import flyte_llama

PACKAGE = Path(flyte_llama.__file__).parent
# A room imports only from rooms before it. Documented in README.md, "Where to change what".
ROOMS = [
    "__init__",
    "errors",
    "config",
    "settings",
    "manifest",
    "rows",
    "progress",
    "sources",
    "ngrams",
    "redaction",
    "licences",
    "rules",
    "documents",
    "corpus",
    "composition",
    "tokens",
    "objective",
    "packing",
    "deepspeed_config",
    "model",
    "plan",
    "evaluation",
    "generation",
    "completion",
    "sandbox",
    "flyte_eval",
    "measuring",
    "training",
    "tuning",
    "report",
    "publish",
    "tasks",
    "workflows",
    "cli",
    "__main__",
]
# FlyteEval judges Flyte code: its subject is Flyte.
FLYTE_ROOMS = {"settings", "flyte_eval", "tasks", "workflows"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_from_rooms_before_it(path: Path):
    own = ROOMS.index(room_of(path))
    for module in imported(path):
        if module.startswith("flyte_llama."):
            room = module.split(".")[1]
            assert ROOMS.index(room) <= own, f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_tasks_and_workflows_know_flyte(path: Path):
    if room_of(path) not in FLYTE_ROOMS:
        assert not any(module.split(".")[0] in ("flytekit", "flytekitplugins") for module in imported(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_stay_under_300_lines(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_importing_a_module_imports_nothing_heavy():
    # Flyte's Elastic imports torch when a task is decorated with it, so modules that need it may; the Trainer's
    # subclass is imported by the function that trains.
    light = [name_of(path) for path in MODULES if name_of(path) not in NEED_TORCH]
    program = (
        f"import importlib, sys\nfor name in {light!r}:\n    importlib.import_module(name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


HEAVY = ["torch", "transformers", "datasets", "deepspeed", "peft", "accelerate"]
NEED_TORCH = {
    "flyte_llama.tasks.training",
    "flyte_llama.tasks.tuning",
    "flyte_llama.training.trainer",
    "flyte_llama.workflows",
    "flyte_llama.__main__",
}
