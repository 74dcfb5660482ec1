"""Which installed files a run may read: those of the packages that it imports, and of no other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyte_llama.flyte_eval.exercise import imported_modules
from flyte_llama.flyte_eval.sandbox.interpreter import interpreter_files
from flyte_llama.flyte_eval.sandbox.packages import installed_packages, readable_files, required_packages

EXTENSION = "third.cpython-311-x86_64-linux-gnu.so"
# Distribution → its files and its requirements.
INSTALLED: dict[str, tuple[list[str], list[str]]] = {
    "First": (["first/__init__.py", "first/a/b.py", "first.libs/x.so", "../../bin/first"], ["Second_Part>=1"]),
    "second.part": (["second.py", "__pycache__/second.cpython-311.pyc"], ['third ; extra == "all"']),
    "third": ([EXTENSION], ['fourth (>2) ; python_version > "3"', "absent"]),
    "fourth": (["shared/fourth/__init__.py"], ['second-part; extra == "x"']),
    "fifth": (["shared/fifth.py", "shared/more/deep/fifth.py", "shared/more/__pycache__/fifth.pyc"], []),
    "sixth": (["shared/more/sixth.py"], []),
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The only package folder on the search path."""
    folder = tmp_path / "site-packages"
    for name, (files, requirements) in INSTALLED.items():
        information = folder / f"{name}-1.dist-info"
        information.mkdir(parents=True)
        lines = ["Metadata-Version: 2.1", f"Name: {name}", *[f"Requires-Dist: {each}" for each in requirements]]
        (information / "METADATA").write_text("\n".join(lines) + "\n")
        (information / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{name}-1.dist-info/RECORD"]))
    (folder / "alone.py").touch()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "path", [str(folder)])
        installed_packages.cache_clear()
        yield folder
    installed_packages.cache_clear()


@pytest.mark.parametrize(
    ("names", "hidden", "files"),
    [
        ([], [], []),
        (["os.path", "absent"], [], ["absent", "absent.py", "os", "os.py"]),
        (["first.a"], [], ["First-1.dist-info", "first", "first.libs", "second.part-1.dist-info", "second.py"]),
        (["first"], ["second-part"], ["First-1.dist-info", "first", "first.libs"]),
        (["first"], ["first"], []),
        (["third"], [], ["fourth-1.dist-info", "shared/fourth", "third-1.dist-info", EXTENSION]),
        (["shared.fifth"], [], ["fifth-1.dist-info", "shared/fifth.py", "shared/more/deep"]),
        (["shared.more.sixth.name"], [], ["shared/more/sixth.py", "sixth-1.dist-info"]),
        (["alone"], [], ["alone", "alone.py"]),
        (["flyte_llama.flyte_eval"], [], []),
        (["__pycache__", "*", "thi*"], [], []),
        (["shared.more.__pycache__"], ["sixth"], []),
    ],
)  # fmt: skip
def test_a_run_reads_what_it_imports_and_what_that_requires(
    folder: Path, names: list[str], hidden: list[str], files: list[str]
):
    readable = readable_files(names, installed_packages(), hidden)
    assert sorted(str(Path(path).relative_to(folder)) for path in readable) == files


def test_optional_requirements_count_for_imported_packages_alone(folder: Path):
    packages = installed_packages()
    assert required_packages(["second"], packages, optional=True) == {"second-part", "third", "fourth"}
    assert required_packages(["first"], packages, optional=True) == {"first", "second-part"}
    assert required_packages(["second"], packages, optional=False) == {"second-part"}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import a.b, c as d", {"a.b", "c"}),
        ("def f():\n    from a.b import c, d", {"a.b.c", "a.b.d"}),
        ("from . import a\nfrom .b import c", set()),
        ("from a import *", {"a.*"}),
        ("importlib.import_module('a.b')\n__import__('c')\nimport_module(n)", {"a.b", "c"}),
        ("importlib.import_module('../a')\n__import__('')", set()),
        ("def (", set()),
        ("n = '\\x00'" + "\x00", set()),
        ("-" * 100_000 + "1", set()),
    ],
)  # fmt: skip
def test_imports_are_found_anywhere_in_a_module(source: str, names: set[str]):
    request: dict[str, Any] = {"source": source}
    assert imported_modules(request) == names


def test_the_interpreters_files_hold_no_package_and_no_program_of_others():
    files = [Path(path) for path in interpreter_files()]
    assert Path(json_module()) in files or Path(json_module()).parent in files
    folders = [path for path in files if path.is_dir()]
    others = ["/usr/share/doc", "/usr/share/common-licenses", "/usr/src", "/usr/local/share", "/usr/bin", "/etc/passwd"]
    for other in [*map(Path, others), *map(Path, sys.path)]:
        if other.name in ("site-packages", "dist-packages") or str(other) in others:
            assert [str(folder) for folder in folders if other.is_relative_to(folder)] == []


def json_module() -> str:
    import json

    return json.__file__
