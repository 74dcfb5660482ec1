"""What the README says is so."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from flyte_llama.config import ExperimentConfig
from flyte_llama.settings import PREFIX, Settings
from flyte_llama.sources import GIT_TOKEN
from tests.test_architecture import ROOMS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))))
def test_every_make_target_it_names_exists(target: str):
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_the_check_command_works():
    (command,) = [line for _, text in BLOCKS for line in text.splitlines() if " check --config" in line]
    program, *arguments = shlex.split(command)
    assert program == ".venv/bin/flyte-llama"
    flyte_llama = Path(sys.executable).with_name("flyte-llama")
    done = subprocess.run([flyte_llama, *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("valid; train_flyte_llama would")


def test_the_configuration_it_shows_is_valid():
    import yaml

    (text,) = [text for language, text in BLOCKS if language == "yaml"]
    ExperimentConfig.model_validate(yaml.safe_load(text))


def test_it_lists_the_shipped_configurations():
    listed = re.findall(r"^\| `(\w+)` \| (?:Code Llama|[\d.]+ M)", README, re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))


def test_its_table_of_rooms_is_the_house():
    table = README[README.index("## Where to change what") :]
    listed = [
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)/?`", row)
    ]
    assert listed == [room for room in ROOMS if not room.startswith("__")]


def test_the_variables_it_names_are_read():
    named = set(re.findall(rf"{PREFIX}([A-Z_]+)", README))
    assert {PREFIX + name for name in named} <= {PREFIX + name.upper() for name in Settings.model_fields} | {GIT_TOKEN}
