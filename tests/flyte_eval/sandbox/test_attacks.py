"""No attack of the table succeeds in the sandbox, as this user or as another one; without the sandbox they do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from flyte_llama.flyte_eval.sandbox import confinement_problem
from tests.flyte_eval.sandbox.attacks import ATTACKS

pytestmark = pytest.mark.skipif(confinement_problem() is not None, reason=str(confinement_problem()))
NOBODY = 65534
ROOT = Path(__file__).parents[3]


def run_as(user: int, how: str) -> dict[str, Any]:
    """Run the table in a process of a user, and return what it prints."""
    folder = tempfile.mkdtemp()
    os.chown(folder, user, -1)
    command = [sys.executable, "-B", "-m", "tests.flyte_eval.sandbox.attacks", how]
    if user != os.getuid():
        # The parent may need this right to read an interpreter in root's home; a run drops it.
        right = "dac_read_search"
        change = ["--reuid", str(user), "--regid", str(user), "--clear-groups"]
        command = ["setpriv", *change, f"--inh-caps=+{right}", f"--ambient-caps=+{right}", *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": folder}
    try:
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module", params=["this user", "another user"])
def user(request: pytest.FixtureRequest) -> int:
    if request.param == "another user" and not (os.getuid() == 0 and shutil.which("setpriv")):
        pytest.skip("only root can become another user, with setpriv")
    return os.getuid() if request.param == "this user" else NOBODY


@pytest.fixture(scope="module")
def confined(user: int) -> dict[str, Any]:
    return run_as(user, "sandbox")


@pytest.fixture(scope="module")
def alone(user: int) -> dict[str, Any]:
    return run_as(user, "alone")


def test_no_attack_succeeds(confined: dict[str, Any]):
    assert len(confined["ends"]) == len(ATTACKS) > 60
    assert [name for name, end in confined["ends"].items() if "error" not in end.lower()] == []


def test_no_attack_ends_because_it_is_misspelt(confined: dict[str, Any]):
    own_mistakes = ("NameError", "TypeError", "AttributeError", "SyntaxError", "KeyError")
    assert [name for name, end in confined["ends"].items() if any(mistake in end for mistake in own_mistakes)] == []


def test_no_victim_is_harmed(confined: dict[str, Any]):
    assert confined["harm"] == []


def test_the_attacks_ran_as_the_user(confined: dict[str, Any], user: int):
    assert confined["user"] == user


@pytest.mark.slow
def test_without_the_sandbox_each_attack_that_can_be_tried_succeeds(alone: dict[str, Any], user: int):
    assert len(alone["ends"]) > 60
    assert {name: end for name, end in alone["ends"].items() if end != "could"} == {}
