"""A canary for secrets: planted everywhere a run reads, then sought in everything that it leaves behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from faults_suite.case import Case, Job, Seen, job
from faults_suite.experiment import describe_end, write_config
from faults_suite.inputs import GITHUB_TOKEN, GITLAB_TOKEN, HUB_TOKEN, OPENAI_TOKEN
from faults_suite.place import Place
from faults_suite.sources import commit, git
from tests.redaction.planted import PLANTED

SECTION = "Secrets"
# Names as a user's shell may have them; the hub's token also opens the hub of the place.
_VARIABLES = {
    "FLYTE_LLAMA_GIT_TOKEN": GITHUB_TOKEN[::-1],
    "WANDB_API_KEY": "f" * 20 + "0123456789abcdef0123",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI" + "K7MDENGbPxRfiCYzzTESTKEYabc",
}


def canary_jobs() -> list[Job]:
    names = (
        f"{len(PLANTED)} kinds in files, tokens in a file's name, a branch, a commit, and {len(_VARIABLES)} variables"
    )
    case = Case(
        SECTION, "canary", names, "found in no file of the output, of HOME, of TMPDIR and of the log", groups=(16,)
    )
    return [job(case, _plant_and_seek, takes_s=35)]


def _plant_and_seek(place: Place) -> Seen:
    place.empty()
    repo = place.folder / "private"
    shutil.rmtree(repo, ignore_errors=True)
    planted = _plant(repo, place.sources / "train-a")
    # A branch with a token in its name is refused in a configuration, but may be the default of a repository.
    changes: dict[str, Any] = {
        "corpus.train": [
            {"url": str(repo), "accept_unknown_licence": True},
            {"url": str(place.sources / "train-b")},
        ],
        "composition.path_comments": True,
    }
    ended = place.run(write_config(place, "plain", changes), FLYTE_LLAMA_DEBUG="1", **_VARIABLES)
    sought = planted | {f"variable {name}": value for name, value in _VARIABLES.items()}
    found = sorted(find_secrets([place.output, place.home, place.temporary, place.logs], sought))
    if ended.code != 0:
        return Seen(describe_end(ended), False)
    return Seen("; ".join(found[:5]) if found else f"none of {len(sought)} secrets found", not found)


def _plant(repo: Path, like: Path) -> dict[str, str]:
    """Make a repository with a secret in every place, and return where → secret."""
    files: dict[str, str | bytes] = {
        path.relative_to(like).as_posix(): path.read_bytes()
        for path in like.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    planted = {}
    for index, (kind, before, value, after) in enumerate(PLANTED):
        files[f"settings/part_{index}.py"] = (
            f'"""Settings, part {index}."""\n\n# {before}{value}{after}\nPART = {index}\n'
        )
        planted[f"{kind} in file {index}"] = value
    files[f"keys/{HUB_TOKEN}.py"] = "def read_keys() -> list[str]:\n    return []\n"
    planted["token in a file's name"] = HUB_TOKEN
    commit(repo, files, message=f"Use {OPENAI_TOKEN}")
    planted["token in a commit's message"] = OPENAI_TOKEN
    git(repo, "checkout", "-q", "-b", f"user/{GITLAB_TOKEN}")
    planted["token in a branch's name"] = GITLAB_TOKEN
    return planted


def find_secrets(paths: Iterable[Path], secrets: Mapping[str, str]) -> set[str]:
    """Where each secret was found: its name and the file; tables are searched as text too."""
    found = set()
    for path in paths:
        for file in [path] if path.is_file() else path.rglob("*"):
            if not file.is_file():
                continue
            content = file.read_bytes() + _table_text(file)
            found |= {f"{name}: {file.name}" for name, value in secrets.items() if value.encode() in content}
    return found


def _table_text(file: Path) -> bytes:
    """The values of a Parquet table as text; empty for another file."""
    if file.suffix != ".parquet":
        return b""
    try:
        return repr(pq.read_table(file).to_pylist()).encode()
    except pa.ArrowInvalid:
        return b""
