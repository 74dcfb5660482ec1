"""What is said about trackers before a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte_llama.config import TrainingConfig
from flyte_llama.preflight import remote_problems
from flyte_llama.settings import read_settings
from flyte_llama.trackers import checks, pod_tracker_problems, tracker_problems, unset_key_problems

ALL = TrainingConfig(report_to=["wandb", "mlflow", "tensorboard"])
GIVEN = {
    "FLYTE_LLAMA_TRACKER_SECRET_GROUP": "trackers",
    "FLYTE_LLAMA_TRACKER_KEYS": "wandb_api_key",
    "FLYTE_LLAMA_MLFLOW_TRACKING_URI": "https://mlflow.example.com",
    "FLYTE_LLAMA_CACHE": "s3://bucket/kept",
}


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: name)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"NETRC": str(tmp_path / "netrc"), "MLFLOW_TRACKING_URI": "http://localhost:5000"}


def test_a_local_run_needs_a_key_of_wandb_and_an_address_of_mlflow(environment: dict[str, str]):
    assert [problem.partition(":")[0] for problem in tracker_problems(ALL, {"NETRC": environment["NETRC"]})] == [
        "training.report_to = 'wandb'",
        "training.report_to = 'mlflow'",
    ]


@pytest.mark.parametrize("variables", [{"WANDB_API_KEY": "k"}, {"WANDB_MODE": "offline"}])
def test_a_key_or_the_offline_mode_is_enough_for_wandb(environment: dict[str, str], variables: dict[str, str]):
    assert tracker_problems(ALL, environment | variables) == []


def test_a_login_to_the_server_in_use_is_a_key_too(environment: dict[str, str]):
    Path(environment["NETRC"]).write_text("machine wandb.example.com login user password p\n", encoding="utf-8")
    (problem,) = tracker_problems(ALL, environment)
    assert "Run `wandb login`" in problem
    assert tracker_problems(ALL, environment | {"WANDB_BASE_URL": "https://wandb.example.com"}) == []


def test_an_address_of_wandb_that_is_none_is_a_problem(environment: dict[str, str]):
    (problem,) = tracker_problems(ALL, environment | {"WANDB_API_KEY": "k", "WANDB_BASE_URL": "https://[x"})
    assert problem.startswith("training.report_to = 'wandb': WANDB_BASE_URL is not the address of a server.")


def test_pods_need_what_registration_gives_them():
    assert pod_tracker_problems(ALL, read_settings(GIVEN)) == []
    problems = pod_tracker_problems(ALL, read_settings({}))
    assert [problem.partition(":")[0] for problem in problems] == [
        f"training.report_to = '{name}'" for name in ALL.report_to
    ]
    assert pod_tracker_problems(TrainingConfig(), read_settings({})) == []


def test_a_key_without_its_group_reaches_no_pod():
    without_group = {name: value for name, value in GIVEN.items() if "GROUP" not in name}
    (problem,) = pod_tracker_problems(ALL, read_settings(without_group))
    assert "FLYTE_LLAMA_TRACKER_SECRET_GROUP" in problem


def test_what_registration_lacks_is_named_before_a_pod_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    # The packages of this machine do not matter.
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    assert len(remote_problems({"training": ALL})) == 3
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)
    assert remote_problems({"training": ALL}) == []


def test_a_key_that_did_not_reach_its_pod_is_named_if_a_tracker_needs_it():
    settings = read_settings(GIVEN | {"FLYTE_LLAMA_TRACKER_KEYS": "wandb_api_key,mlflow_tracking_token"})
    problems = unset_key_problems(ALL, settings, {"MLFLOW_TRACKING_TOKEN": "t"})
    assert [problem.partition(". ")[0] for problem in problems] == [
        "training.report_to = 'wandb': trackers gave this pod no wandb_api_key"
    ]
    assert unset_key_problems(TrainingConfig(), settings, {}) == []


def test_a_package_that_the_image_lacks_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "find_spec", lambda name: None if name == "wandb" else name)
    (problem,) = pod_tracker_problems(ALL, read_settings(GIVEN))
    assert problem.startswith("training.report_to = 'wandb': the package is not installed. Build the images with it")
