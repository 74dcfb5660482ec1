"""Bad inputs: each is refused by one message and exit code 2, before anything is fetched or written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from faults_suite.case import Case, Job, Seen, job
from faults_suite.experiment import TRAINS, configuration, describe_end
from faults_suite.place import BIN, Ended, Place
from faults_suite.sources import commit, git

SECTION = "Bad inputs"
CHECK, RUN, PLAN, EVALUATE = "flyte-llama check", "pyflyte run", "flyte-llama plan", "flyte-llama evaluate"
# A password in no known form, so that only where it stands gives it away; written in parts, as all secrets here are.
PASSWORD = "corr" + "ect-horse-7"
HUB_TOKEN = "hf" + "_AbCdEfGhIjKlMnOpQrStUvWxYz0123"
GITHUB_TOKEN = "ghp" + "_0123456789abcdefghijABCDEFGHIJ012345"
GITLAB_TOKEN = "glpat" + "-xYz0123456789AbCdEf"
OPENAI_TOKEN = "sk-proj" + "-Abc123Def456Ghi789Jkl012Mno345Pqr678"


@dataclass(frozen=True)
class Input:
    """A configuration with something wrong, or a command with a wrong argument."""

    name: str
    groups: tuple[int, ...]
    named: str
    """A pattern that the message must have."""

    changes: dict[str, Any] = field(default_factory=dict)
    """Changes of the plain experiment; `{sources}` and `{folder}` stand for folders of the place."""

    text: str | bytes = ""
    """The whole file instead."""

    command: str = CHECK
    arguments: tuple[str, ...] = ()
    variables: dict[str, str | None] = field(default_factory=dict)
    secret: str = ""
    """Must not be repeated."""

    needs_reading: bool = False
    """Whether it can be known only once the sources are read; it is then refused before training."""

    prepare: Callable[[Path], None] | None = None
    """Makes what the configuration names, in the place's folder."""


def input_jobs(table: tuple[Input, ...]) -> list[Job]:
    """A job for each bad input."""
    return [job(_case(entry), _refuse(entry), takes_s=6 if entry.command == RUN else 3) for entry in table]


def _case(entry: Input) -> Case:
    wrong = ", ".join(f"{key}: {value}" for key, value in entry.changes.items())
    if isinstance(entry.text, str) and entry.text:
        wrong = entry.text if len(entry.text) < 100 else entry.text[:40] + "…"
    if entry.secret:
        wrong = wrong.replace(entry.secret, "SECRET")
    wrong = wrong or " ".join(entry.arguments) or " ".join(f"{key}={value}" for key, value in entry.variables.items())
    expected = "exit 2, one message that names it" + (", without the secret" if entry.secret else "")
    return Case(SECTION, entry.name, f"{entry.command}: {wrong}", expected, True, entry.groups)


def _refuse(entry: Input) -> Callable[[Place], Seen]:
    def run(place: Place) -> Seen:
        place.empty()
        shutil.rmtree(place.folder / "input", ignore_errors=True)
        (place.folder / "input").mkdir()
        if entry.prepare:
            entry.prepare(place.folder / "input")
        ended = _start(place, entry, _write(place, entry)).wait()
        named = re.search(entry.named, ended.output, re.IGNORECASE) is not None
        written = any((place.output / "data").glob("*")) if place.output.is_dir() else False
        problem = ""
        if entry.secret and entry.secret in ended.output:
            # Never into the page.
            return Seen("the message repeats the secret", False)
        if not named:
            problem = "the message does not name it; "
        if TRAINS in ended.output or (written and not entry.needs_reading):
            problem += "something was written; "
        is_refused = ended.code == 2 and not ended.has_traceback and not problem
        return Seen(problem + _describe(ended, entry.named), is_refused)

    return run


def _describe(ended: Ended, named: str) -> str:
    """The line of the message that names the problem, or how the command ended."""
    lines = [line.strip(" -│") for line in ended.output.splitlines()]
    line = next((line for line in lines if re.search(named, line, re.IGNORECASE)), "")
    return f"exit {ended.code}: {line}" if line and not ended.has_traceback else describe_end(ended)


def _write(place: Place, entry: Input) -> Path:
    suffix = "json" if isinstance(entry.text, str) and entry.text.startswith("{") else "yaml"
    path = place.folder / "input" / f"experiment.{suffix}"
    changes = {key: _filled(value, place) for key, value in entry.changes.items()}
    text = entry.text or yaml.safe_dump(configuration(place.sources, changes), sort_keys=False)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def _start(place: Place, entry: Input, config: Path) -> Any:
    """Start the command of an input on its configuration."""
    arguments = [_filled(argument, place) for argument in entry.arguments]
    if "--config" not in arguments:
        arguments += ["--config", str(config)]
    variables = {name: _filled(value, place) for name, value in entry.variables.items()}
    if entry.command == RUN:
        command = ["pyflyte", "run", "flyte_llama/workflows.py", "train_flyte_llama"]
    else:
        command = entry.command.split()
    return place.start_command([str(BIN / command[0]), *command[1:], *arguments], **variables)


def _filled(value: Any, place: Place) -> Any:
    """A value with the folders of the place filled in."""
    if isinstance(value, str):
        return value.replace("{sources}", str(place.sources)).replace("{folder}", str(place.folder / "input"))
    if isinstance(value, list):
        return [_filled(inner, place) for inner in value]
    if isinstance(value, dict):
        return {key: _filled(inner, place) for key, inner in value.items()}
    return value


def make_model(folder: Path, **config: Any) -> None:
    """A model folder with a configuration and a tokenizer, but without safetensors."""
    (folder / "model").mkdir()
    content = {"model_type": "llama", "max_position_embeddings": 128, "vocab_size": 512, "hidden_size": 48} | config
    (folder / "model/config.json").write_text(json.dumps(content))
    (folder / "model/tokenizer.json").write_text("{}")
    (folder / "model/pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")


def make_custom_model(folder: Path) -> None:
    make_model(folder, auto_map={"AutoModelForCausalLM": "modeling.Model"})


def make_fork(folder: Path) -> None:
    """A repository with the same first commit as another, and other commits after it."""
    commit(folder / "original", {"a.py": "def one() -> int:\n    return 1\n", "LICENSE": "MIT License\n"})
    git(folder, "clone", "-q", "original", "fork")
    commit(folder / "fork", {"b.py": "def two() -> int:\n    return 2\n"}, message="more")


def make_link(folder: Path) -> None:
    commit(folder / "original", {"a.py": "def one() -> int:\n    return 1\n"})
    (folder / "link").symlink_to(folder / "original")


def make_file(folder: Path) -> None:
    (folder / "file").write_text("no repository\n")


def make_folder(folder: Path) -> None:
    (folder / "plain").mkdir()
