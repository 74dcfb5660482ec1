"""The stock recipe beside this package: a plain clone and `open` for hostile repositories, the Trainer for faults."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import git

from faults_suite.case import Result
from faults_suite.checkpoints import CHANGES, PARTS, SECTION
from faults_suite.page import StockRow
from faults_suite.place import ROOT, Place
from flyte_llama.errors import FlyteLlamaError
from flyte_llama.sources import open_tree
from tests.sources.hostile import FILE, FOLDER, SUBMODULE, SYMLINK, RawRepository

_PROGRAM = Path(__file__).with_name("stock_trainer.py")


def compare_resuming(place: Place, results: Sequence[Result]) -> list[StockRow]:
    """Resume the stock Trainer after the faults of `checkpoints`, and compare what it did with our results.

    Args:
        place: With a finished run, kept as `plain`, whose base and rows the Trainer uses.
        results: The results of this run of the suite.
    """
    place.restore("plain")
    base, rows = place.data("base")[-1], place.data("rows")[-1]
    work = place.folder / "stock"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    faults: list[dict[str, Any]] = [{"name": "undisturbed", "change": "undisturbed"}, {"name": "nothing", "change": ""}]
    faults += [
        {"name": f"{change} {part}", "change": change, "file": file}
        for part, (_, file) in PARTS.items()
        for change in CHANGES
        if file
    ]
    faults += [
        {"name": "empty checkpoint of a high number", "change": "empty"},
        {"name": "every checkpoint cut", "change": "all"},
        {"name": "other settings", "change": "", "settings": {"learning_rate": 8e-3}},
        {"name": "other rows", "change": "", "settings": {"num_rows": 200}},
        {"name": "other accumulation", "change": "", "settings": {"gradient_accumulation_steps": 2}},
    ]
    _run_program(place, base, rows, work, "kill")
    _run_program(place, base, rows, work, json.dumps(faults))
    lines = (work / "results.jsonl").read_text(encoding="utf-8").splitlines()
    seen = {result["name"]: result for result in map(json.loads, lines)}
    whole = seen["undisturbed"]["weights"]
    ours = {result.case.name: result for result in results if result.case.section == SECTION and result.ran}
    return [
        StockRow(name, _ours(ours.get(name)), _stock(fault, whole).replace(str(place.folder), "…"))
        for name, fault in seen.items()
        if name != "undisturbed"
    ]


def _run_program(place: Place, *arguments: object) -> None:
    environment = place.environment(PYTHONPATH=f"{ROOT}:{ROOT / 'benchmarks'}")
    command = [sys.executable, str(_PROGRAM), *map(str, arguments)]
    # The program that is killed ends with an error, as it shall; the results of the other are in a file.
    subprocess.run(command, env=environment, capture_output=True, cwd=ROOT)  # noqa: S603


def _ours(result: Result | None) -> str:
    if result is None:
        return "not tried"
    return result.seen.text if result.seen.is_expected else f"failed: {result.seen.text}"


def _stock(fault: dict[str, Any], whole: str) -> str:
    if "error" in fault:
        return f"crash: {fault['error']}"
    if fault.get("settings"):
        return "ignores the change, without a word" if fault["weights"] == whole else "goes on, without a word"
    return "same weights" if fault["weights"] == whole else "other weights, without a word"


def compare_reading(folder: Path) -> list[StockRow]:
    """Read hostile repositories by `open_tree`, and by a plain clone and `open`."""
    rows = []
    for name, make in _TREES.items():
        raw = RawRepository(folder / name.replace(" ", "-"))
        secret = folder / "secret.txt"
        secret.write_text("outside the repository")
        make(raw, secret)
        ours, stock = _read_tree(raw, secret), _read_clone(raw, folder / f"clone-{raw.path.name}", secret)
        rows.append(StockRow(name, ours.replace(f"{folder}/", ""), stock.replace(f"{folder}/", "")))
    return rows


def _read_tree(raw: RawRepository, secret: Path) -> str:
    try:
        pinned = raw.pin()
        with open_tree(pinned) as tree:
            entries = list(tree.entries())
            files = {entry.path: tree.read(entry).data for entry in entries if entry.mode.startswith("100")}
    except FlyteLlamaError as error:
        return f"refused: {error.message}"
    return _describe(files, secret, of=len(entries))


def _read_clone(raw: RawRepository, target: Path, secret: Path) -> str:
    try:
        git.Repo.clone_from(str(raw.path), target)
        files = {}
        for folder, _, names in os.walk(target):
            if "/.git" not in folder:
                for name in names:
                    path = Path(folder) / name
                    files[str(path.relative_to(target))] = path.open(encoding="utf-8").read().encode()
    except Exception as error:
        return f"crash: {type(error).__name__}: {str(error).splitlines()[0]}"
    return _describe(files, secret)


def _describe(files: dict[str, bytes], secret: Path, *, of: int | None = None) -> str:
    if secret.read_bytes() in files.values():
        return "read a file outside the repository"
    changed = [name for name, data in files.items() if data not in _TRUE_BYTES]
    counts = f"{len(files)} files" + (f" of {of} entries" if of is not None else "")
    return f"read other bytes than are in the repository ({changed[0]})" if changed else f"read {counts}, byte for byte"


_TRUE_BYTES = {b"print(1)\n", b"print(2)\r\n", b"caf\xe9\n", b"$Id$\n", b"* text eol=lf ident\n", b""}


def _link(raw: RawRepository, secret: Path) -> None:
    raw.commit(raw.tree([(SYMLINK, b"a.py", raw.blob(str(secret).encode())), (FILE, b"b.py", raw.blob(b"print(1)\n"))]))


def _linked_folder(raw: RawRepository, secret: Path) -> None:
    raw.commit(
        raw.tree([(SYMLINK, b"a", raw.blob(str(secret.parent).encode())), (FILE, b"b.py", raw.blob(b"print(1)\n"))])
    )


def _attributes(raw: RawRepository, _: Path) -> None:
    raw.commit_files({b".gitattributes": b"* text eol=lf ident\n", b"a.py": b"print(2)\r\n", b"b.py": b"$Id$\n"})


def _encoding(raw: RawRepository, _: Path) -> None:
    raw.commit_files({b"a.py": b"caf\xe9\n", b"b.py": b"print(1)\n"})


def _names(raw: RawRepository, _: Path) -> None:
    raw.commit_files({b"\xff\xfe.py": b"print(1)\n", b"a\nb.py": b"print(1)\n"})


def _dot_git(raw: RawRepository, _: Path) -> None:
    inner = raw.tree([(FILE, b"config", raw.blob(b"print(1)\n"))])
    raw.commit(raw.tree([(FOLDER, b".git", inner), (FILE, b"b.py", raw.blob(b"print(1)\n"))]))


def _parent(raw: RawRepository, _: Path) -> None:
    inner = raw.tree([(FILE, b"a.py", raw.blob(b"print(1)\n"))])
    raw.commit(raw.tree([(FOLDER, b"..", inner)]))


def _twice(raw: RawRepository, _: Path) -> None:
    blob = raw.blob(b"print(1)\n")
    raw.commit(raw.tree([(FILE, b"a.py", blob), (FILE, b"a.py", raw.blob(b""))]))


def _submodule(raw: RawRepository, _: Path) -> None:
    raw.commit(raw.tree([(SUBMODULE, b"a", "1" * 40), (FILE, b"b.py", raw.blob(b"print(1)\n"))]))


def _no_commit(raw: RawRepository, _: Path) -> None:
    raw.git("symbolic-ref", "HEAD", "refs/heads/main")


def _corrupt(raw: RawRepository, _: Path) -> None:
    raw.commit_files({b"a.py": b"print(1)\n", b"b.py": b""})
    raw.corrupt(raw.blob(b"print(1)\n"))


_TREES: dict[str, Callable[[RawRepository, Path], None]] = {
    "link to a file outside": _link,
    "link to a folder outside": _linked_folder,
    "attributes that rewrite": _attributes,
    "text in latin-1": _encoding,
    "names that are not UTF-8": _names,
    "folder named .git": _dot_git,
    "folder named ..": _parent,
    "a file twice": _twice,
    "submodule": _submodule,
    "no commit": _no_commit,
    "damaged object": _corrupt,
}
