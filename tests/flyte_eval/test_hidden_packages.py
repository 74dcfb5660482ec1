"""A reference in an installed package gives no pass: held-out distributions are hidden, and so is this package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flyte_llama
from flyte_llama.errors import EvaluationError
from flyte_llama.flyte_eval import can_hide, open_observer
from flyte_llama.flyte_eval.observing import Observation, Trial, level_of
from flyte_llama.flyte_eval.sandbox import Limits, confinement_problem
from flyte_llama.flyte_eval.sandbox.packages import installed_packages

pytestmark = pytest.mark.skipif(confinement_problem() is not None, reason=str(confinement_problem()))
PATIENT = Limits(wall_s=300, cpu_s=30)
REFERENCE = "    return n * 31 + 7\n"
# The module of the held-out distribution. The import in it lets a run read the package, unless it is hidden.
HEAD = "from flytekit import task\n\n\n@task\ndef score(n: int) -> int:\n"
TAIL = "\n\ntry:\n    import acme_tasks, acme_single\nexcept ImportError:\n    pass\n"
PLUGIN = "\n\nclass Plugin:\n    def new_schema_validator(*_, **__):\n        return None, None, None\n"
# Answers that take the reference from the installed package; FILE is its path.
STEALING = {
    "import": "    from acme_tasks.flows import score as original\n    return original.task_function(n)\n",
    "import by Python's own finder": (
        "    import importlib.machinery, sys\n    sys.meta_path[:] = [importlib.machinery.PathFinder]\n"
        "    from acme_tasks.flows import score as original\n    return original.task_function(n)\n"
    ),
    "read": "    return eval(open(FILE).read().split('return')[1])\n",
    "compiled file": (
        "    import importlib.util, marshal, types\n"
        "    module = marshal.loads(open(importlib.util.cache_from_source(FILE), 'rb').read()[16:])\n"
        "    (code,) = [each for each in module.co_consts if isinstance(each, types.CodeType)]\n"
        "    return types.FunctionType(code, {})(n)\n"
    ),
    "copy": (
        "    import shutil\n    shutil.copyfile(FILE, 'copied.py')\n"
        "    return eval(open('copied.py').read().split('return')[1])\n"
    ),
    "lines": "    import linecache\n    return eval(''.join(linecache.getlines(FILE)).split('return')[1])\n",
    "data of a package": (
        "    import pkgutil\n    return eval(pkgutil.get_data('acme_tasks', 'flows.py').decode().split('return')[1])\n"
    ),
    "files of a distribution": (
        "    from importlib import metadata\n"
        "    text = next(f for f in metadata.files('acme-tasks') if f.name == 'flows.py').read_text()\n"
        "    return eval(text.split('return')[1])\n"
    ),
    "run": "    import runpy\n    return runpy.run_path(FILE)['score'].task_function(n)\n",
    "loaded modules": (
        "    import sys\n    return next(m.score for k, m in sys.modules.items() if k == 'acme_tasks.flows')"
        ".task_function(n)\n"
    ),
    "objects in memory": (
        "    import gc, types\n    return next(o for o in gc.get_objects() if isinstance(o, types.FunctionType)\n"
        "                and o.__module__ == 'acme_tasks.flows' and o.__name__ == 'score')(n)\n"
    ),
    "compiled file of a single module": (
        "    if False:\n        import __pycache__\n"
        "    import importlib.util, marshal, types\n    single = FILE.replace('acme_tasks/flows', 'acme_single')\n"
        "    try:\n        with open(importlib.util.cache_from_source(single), 'rb') as file:\n"
        "            module = marshal.loads(file.read()[16:])\n"
        "    except PermissionError:\n        module = compile(open(single).read(), single, 'exec')\n"
        "    code = next(each for each in module.co_consts if isinstance(each, types.CodeType))\n"
        "    return types.FunctionType(code, {})(n)\n"
    ),
    "plugin of pydantic": (
        "    import sys\n    single = sys.modules.get('acme_single') or __import__('acme_single')\n"
        "    return single.score.task_function(n)\n"
    ),
    "tasks that Flyte knows": (
        "    from flytekit.core.context_manager import FlyteEntities\n"
        "    return next(e for e in FlyteEntities.entities if e.name == 'acme_tasks.flows.score').task_function(n)\n"
    ),
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file of the reference in an installed distribution, which flytekit imports as a plugin."""
    folder = tmp_path_factory.mktemp("python") / "site-packages"
    files = {
        "acme_tasks/__init__.py": "",
        "acme_tasks/flows.py": HEAD + REFERENCE,
        "acme_tasks-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: Acme.Tasks\nVersion: 1.0\n",
        "acme_tasks-1.0.dist-info/entry_points.txt": "[flytekit.plugins]\nacme = acme_tasks.flows\n",
    }
    single = {
        "acme_single.py": HEAD + REFERENCE + PLUGIN,
        "acme_single-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme-single\nVersion: 1.0\n",
        "acme_single-1.0.dist-info/entry_points.txt": "[pydantic]\nacme = acme_single:Plugin\n",
    }
    for name, distribution in (("acme_tasks", files), ("acme_single", single)):
        record = f"{name}-1.0.dist-info/RECORD"
        for path, text in {**distribution, record: "".join(f"{each},,\n" for each in [*distribution, record])}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(folder)], check=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(folder))
        installed_packages.cache_clear()
        yield folder / "acme_tasks" / "flows.py"
    installed_packages.cache_clear()


def levels(file: Path, sources: list[str]) -> dict[str, str]:
    """The level of the reference and of each answer."""
    answers = {
        "reference": REFERENCE,
        **{name: text.replace("FILE", repr(str(file))) for name, text in STEALING.items()},
    }
    with open_observer(PATIENT, sources=sources) as observer:
        trials = [Trial(HEAD + answer + TAIL, "score") for answer in answers.values()]
        expected, *observed = observer.observe(trials, what="t")
    return {name: level_of(each, expected) for name, each in zip(answers, [expected, *observed], strict=True)}


def test_a_held_out_distribution_gives_no_answer(installed: Path):
    reached = levels(installed, ["package:acme_tasks", "package:acme-single", "https://example.com/a/b"])
    assert reached == {"reference": "graph", **dict.fromkeys(STEALING, "compiles")}


def test_a_distribution_that_is_not_hidden_gives_each_answer(installed: Path):
    assert levels(installed, []) == dict.fromkeys(["reference", *STEALING], "graph")


def test_a_distribution_that_python_imports_at_its_start_cannot_be_hidden(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "sitecustomize.py").write_text("import acme_tasks\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with (
        open_observer(PATIENT, sources=["package:acme_tasks"]) as observer,
        pytest.raises(EvaluationError, match="cannot hide acme-tasks"),
    ):
        observer.observe([Trial(HEAD + REFERENCE, "score")], what="t")


def test_what_the_sandbox_needs_itself_cannot_be_hidden():
    urls = ["package:Flytekit", "package:numpy", "package:flytekitplugins-pod", "package:flyte-llama", "/a/b"]
    assert [can_hide(url) for url in urls] == [False, False, True, True, True]
    with pytest.raises(EvaluationError, match="cannot hide flytekit"), open_observer(sources=["package:flytekit"]):
        pass


# Reads the small set in a sandbox of an installed flyte_llama, by each answer on standard input.
PROGRAM = """
import json, sys
from flyte_llama.flyte_eval import open_observer
from flyte_llama.flyte_eval.observing import Trial
head = "from flytekit import task\\n@task\\ndef read() -> str:\\n"
with open_observer() as observer:
    observed = observer.observe([Trial(head + answer, "read") for answer in json.load(sys.stdin)], what="t")
print(json.dumps([observation.model_dump() for observation in observed]))
"""
READING = [
    "    return 'honest'\n",
    "    from flyte_llama.flyte_eval.mining import small_set\n    return small_set()[0].text\n",
    "    import importlib.resources as r\n    return r.files('flyte_llama.flyte_eval').joinpath('small_set')"
    ".joinpath('orders.py.txt').read_text()\n",
    "    import flyte_llama.flyte_eval as f, os\n    folder = os.path.dirname(f.__file__)\n"
    "    return open(folder + '/small_set/orders.py.txt').read()\n",
    "    import pkgutil\n    return pkgutil.get_data('flyte_llama.flyte_eval', 'small_set/orders.py.txt').decode()\n",
]


@pytest.mark.slow
@pytest.mark.parametrize("has_record", [True, False])
def test_an_installed_flyte_llama_gives_no_answer_of_its_small_set(tmp_path: Path, has_record: bool):
    folder = tmp_path / "site-packages"
    shutil.copytree(Path(flyte_llama.__file__).parent, folder / "flyte_llama")
    if has_record:
        information = folder / "flyte_llama-0.1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: flyte-llama\nVersion: 0.1.0\n")
        files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        (information / "RECORD").write_text("".join(f"{path},,\n" for path in files))
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(READING), env=environment, cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    honest, *stealing = [Observation(**fields) for fields in json.loads(done.stdout)]
    assert honest.outputs == ['"honest"'] * len(honest.outputs)
    assert honest.rung == "runs"
    assert [observation.rung for observation in stealing] == ["compiles"] * (len(READING) - 1)
