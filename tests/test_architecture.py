"""The architecture: imports go one way, and importing a module has no noticeable effect."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import flyte_llama

PACKAGE = Path(flyte_llama.__file__).parent
# A room imports only from rooms above it in this list. Documented in docs/house.md, "The line".
ROOMS = [
    "__init__",
    "redaction",
    "errors",
    "progress",
    "config",
    "settings",
    "storage",
    "workspace",
    "sources",
    "documents",
    "corpus",
    "encoding",
    "model",
    "plan",
    "inference",
    "trackers",
    "training",
    "flyte_eval",
    "evaluation",
    "report",
    "runs",
    "serving",
    "preflight",
    "tasks",
    "workflows",
    "launch_plans",
    "cluster",
    "cli",
    "__main__",
]
# `settings` looks up the accelerators that Flyte knows, flyte_eval runs Flyte code, and `cluster` asks a Flyte cluster.
FLYTE_ROOMS = {"settings", "flyte_eval", "tasks", "workflows", "launch_plans", "cluster"}
HEAVY = ["torch", "transformers", "datasets", "deepspeed", "peft", "accelerate", "bitsandbytes", "liger_kernel"]
# Flyte's Elastic imports torch as soon as it decorates a task. The others are imported only in functions that train.
NEED_TORCH = {
    "flyte_llama.model.adapters.adapted_linear",
    "flyte_llama.tasks.training",
    "flyte_llama.training.batches",
    "flyte_llama.training.tracking",
    "flyte_llama.training.trainer",
    "flyte_llama.training.update",
    "flyte_llama.training.validation",
    "flyte_llama.workflows",
    "flyte_llama.launch_plans",
    "flyte_llama.__main__",
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    return modules


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_a_room_imports_only_from_rooms_before_it():
    offenders = [
        f"{name_of(path)} imports {module}"
        for path in MODULES
        for module in sorted(imports_of(path))
        if module.startswith("flyte_llama.") and ROOMS.index(module.split(".")[1]) > ROOMS.index(room_of(path))
    ]
    assert offenders == []


def test_the_plan_imports_nothing_that_loads_weights():
    plan = [path for path in MODULES if room_of(path) == "plan"]
    assert not [name_of(path) for path in plan if any("flyte_llama.model" in name for name in imports_of(path))]


def test_only_tasks_and_workflows_know_flyte():
    flyte = ("flytekit", "flytekitplugins")
    offenders = [
        name_of(path)
        for path in MODULES
        if room_of(path) not in FLYTE_ROOMS and any(name.split(".")[0] in flyte for name in imports_of(path))
    ]
    assert offenders == []


def test_the_workflows_import_every_module_that_has_a_task():
    # The tests serialise what the workflows import, and registration what the whole package has.
    with_tasks = {name_of(path) for path in MODULES if "\n@task" in path.read_text(encoding="utf-8")}
    assert len(with_tasks) > 5
    assert with_tasks <= imports_of(PACKAGE / "workflows.py") | {"flyte_llama.workflows"}


def test_files_stay_under_300_lines():
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_no_function_has_the_name_of_its_module():
    offenders = [
        f"{name_of(path)}.{node.name}"
        for path in MODULES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == name_of(path).split(".")[-1]
    ]
    assert offenders == []


def test_the_package_docstring_draws_the_line():
    rooms = re.findall(r"^    (\w+) +[a-z]", flyte_llama.__doc__ or "", re.MULTILINE)
    assert rooms == [room for room in ROOMS if (PACKAGE / room).is_dir()]


def test_importing_a_module_imports_nothing_heavy():
    light = [name_of(path) for path in MODULES if name_of(path) not in NEED_TORCH]
    program = (
        f"import importlib, sys\nfor name in {light!r}:\n    importlib.import_module(name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
