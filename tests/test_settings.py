"""The environment variables that registration reads."""

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

import flyte_llama
from flyte_llama.cli import main
from flyte_llama.errors import ConfigError
from flyte_llama.settings import Settings, pod_environment, read_settings, settings_digest
from tests.conftest import MakeRepo, git


def test_defaults_follow_the_number_of_gpus():
    settings = read_settings({"FLYTE_LLAMA_GPU_COUNT": "2", "IMAGE": "r/i:t"})
    assert (settings.gpu_cpu, settings.gpu_memory, settings.image) == ("16", "200Gi", "r/i:t")


def test_tasks_without_gpus_have_the_same_image_unless_it_is_set():
    assert read_settings({"IMAGE": "r/i:t"}).image_cpu == "r/i:t"
    assert read_settings({"IMAGE": "r/i:t", "IMAGE_CPU": ""}).image_cpu == "r/i:t"
    assert read_settings({"IMAGE": "r/i:t", "IMAGE_CPU": "r/i:t-cpu"}).image_cpu == "r/i:t-cpu"


def test_the_schedule_is_inactive_unless_the_environment_opts_in():
    assert not read_settings({}).activate_schedule
    assert read_settings({"FLYTE_LLAMA_ACTIVATE_SCHEDULE": "1"}).activate_schedule


def test_every_bad_variable_is_named():
    with pytest.raises(ConfigError) as raised:
        read_settings({"FLYTE_LLAMA_GPU": "V5E", "FLYTE_LLAMA_GPU_COUNT": "0", "FLYTE_LLAMA_SCHEDULE": "@weekly"})
    assert [problem.split(":")[0] for problem in raised.value.problems] == [
        "FLYTE_LLAMA_GPU = 'V5E'",
        "FLYTE_LLAMA_GPU_COUNT = '0'",
        "FLYTE_LLAMA_SCHEDULE = '@weekly'",
    ]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("GPU", "V5E", "is a TPU, and training runs on GPUs. Name a GPU, or none for any node with GPUs."),
        ("GPU", "tpu-v6e-slice", "is a TPU, and training runs on GPUs. Name a GPU, or none for any node with GPUs."),
        ("GPU", "two words", "cannot be the value of a node label. Name a GPU, or none for any node with GPUs."),
        ("GPU_COUNT", "8.0", "is not a whole number from 1 to 999999. Write it like 8."),
        ("GPU_CPU", "eight", "is not a number of CPUs. Write it like 8 or 500m."),
        ("EVAL_CPU", "0", "is not a number of CPUs. Write it like 8 or 500m."),
        ("GPU_MEMORY", "100GB", "is not an amount of bytes. Write it like 400Gi."),
        ("DATA_MEMORY", "16", "is less than 64Mi, in which no pod could start. Give the unit, as in 400Gi."),
        ("SPOT", "maybe", "is neither 1 nor 0. Set one of them."),
        ("GRACE_SECONDS", "2m", "is not a whole number from 1 to 999999. Write it like 8."),
        ("TIMEOUT_HOURS", "0", "is not a number of hours above 0. Write it like 6 or 0.5."),
        ("TRAINING_TIMEOUT_HOURS", "3d", "is not a number of hours above 0. Write it like 6 or 0.5."),
        (
            "GIT_HOST",
            "https://x",
            "is not the name of a host. Write it like git.example.com, without https:// and port.",
        ),
        (
            "GIT_USER",
            "user:password",
            "is not the name of a user. Write it without blanks and colons, like x-token-auth.",
        ),
        ("CACHE", "bucket/kept", "is no address of a folder. Write it like s3://bucket/flyte-llama."),
        (
            "MLFLOW_TRACKING_URI",
            "sqlite:///x.db",
            "is not the address of a server. Write it like https://mlflow.example.com.",
        ),
        (
            "WANDB_BASE_URL",
            "https://[x",
            "is not the address of a server. Write it like https://mlflow.example.com.",
        ),
        (
            "TRACKER_KEYS",
            "wandb_api_key,mlflow_token",
            "has an entry that is not a key of a tracker. Keys: wandb_api_key, mlflow_tracking_token, "
            "mlflow_tracking_username, mlflow_tracking_password.",
        ),
        ("NOTIFY_EMAIL", "a@x.org,b", "'b' is not an e-mail address. Write them like a@example.com,b@example.com."),
    ],
)
def test_a_bad_value_is_one_line_with_the_fix(name: str, value: str, problem: str):
    with pytest.raises(ConfigError) as raised:
        read_settings({f"FLYTE_LLAMA_{name}": value})
    assert raised.value.problems == (f"FLYTE_LLAMA_{name} = {value!r}: {problem}",)


@pytest.mark.parametrize(
    ("gpu", "label"),
    [
        ("A100_80GB", "nvidia-a100-80gb"),
        ("nvidia-h100-80gb", "nvidia-h100-80gb"),
        ("NVIDIA-B200", "NVIDIA-B200"),
        ("none", None),
        ("", None),
    ],
)
def test_a_gpu_is_a_name_of_flytekit_or_a_node_label_or_none(gpu: str, label: str | None):
    assert read_settings({"FLYTE_LLAMA_GPU": gpu}).gpu_label == label


def test_an_evaluation_gets_the_share_of_one_gpu_unless_it_is_set():
    small = {"FLYTE_LLAMA_GPU_COUNT": "4", "FLYTE_LLAMA_GPU_CPU": "30", "FLYTE_LLAMA_GPU_MEMORY": "118Gi"}
    settings = read_settings(small)
    assert (settings.eval_cpu, settings.eval_memory) == ("7500m", "30208Mi")
    assert read_settings(small | {"FLYTE_LLAMA_EVAL_MEMORY": "20Gi"}).eval_memory == "20Gi"


def test_pods_read_every_setting_but_those_of_the_launch_plans_and_of_local_runs():
    fields = set(Settings.model_fields)
    passed = {name.removeprefix("FLYTE_LLAMA_").lower() for name in pod_environment(read_settings({}))}
    images = {"image", "image_cpu"}
    launch_plans = {"refresh_config", "schedule", "activate_schedule"}
    assert fields - passed == {"output"} | images | launch_plans | {name for name in fields if "notify" in name}


def test_pods_have_what_trackers_read_under_the_names_that_these_read():
    settings = {"FLYTE_LLAMA_WANDB_PROJECT": "llama", "FLYTE_LLAMA_MLFLOW_TRACKING_URI": "https://mlflow.example.com"}
    passed = pod_environment(read_settings(settings))
    assert passed["WANDB_PROJECT"] == "llama"
    assert passed["MLFLOW_TRACKING_URI"] == "https://mlflow.example.com"
    # Set to nothing, it would be an invalid address to wandb.
    assert "WANDB_BASE_URL" not in passed


def test_a_password_in_the_address_of_a_tracker_is_refused_without_repeating_it():
    with pytest.raises(ConfigError) as raised:
        read_settings({"FLYTE_LLAMA_MLFLOW_TRACKING_URI": "https://user:hunter2secret@mlflow.example.com"})
    assert "may hold a password" in raised.value.message
    assert "hunter2secret" not in raised.value.message


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name != "output"])
def test_the_digest_changes_with_every_setting(name: str):
    images = dict.fromkeys(("image", "image_cpu"), "r/i:t")
    other = images | {"cache": "s3://b/k", "git_host": "x.org", "schedule": "1 1 * * *", "spot": "0"}
    other |= {
        "activate_schedule": "1",
        **dict.fromkeys(("notify_email", "notify_slack", "notify_pagerduty"), "a@b.org"),
    }
    other |= {"tracker_keys": "wandb_api_key", **dict.fromkeys(("wandb_base_url", "mlflow_tracking_uri"), "http://x")}
    memory = dict.fromkeys((each for each in Settings.model_fields if "memory" in each or "storage" in each), "9Gi")
    variable = name.upper() if name in images else f"FLYTE_LLAMA_{name.upper()}"
    changed = read_settings({variable: (other | memory).get(name, "7")})
    assert settings_digest(changed) != settings_digest(read_settings({}))
    assert settings_digest(changed) == settings_digest(read_settings({variable: (other | memory).get(name, "7")}))


def test_the_folder_of_local_runs_does_not_change_the_digest():
    assert settings_digest(read_settings({"FLYTE_LLAMA_OUTPUT": "x"})) == settings_digest(read_settings({}))


@pytest.mark.parametrize(
    "schedule",
    ["0 6 * * 1", "*/15 1-5 * jan-mar MON-fri", "5/15 0 ? * ?", "0 0 31 2 1", "0 0 29 2 *", "0 6 1,15 * 0-6/2"],
)
def test_a_schedule_that_flytes_scheduler_reads_is_taken(schedule: str):
    assert read_settings({"FLYTE_LLAMA_SCHEDULE": schedule}).schedule == schedule


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("0 6 * * 7", "the day of the week '7' is no part of 0 to 6. Sunday is 0."),
        ("0 6 * * 1-7", "the day of the week '1-7' is no part of 0 to 6. Sunday is 0."),
        ("0 6 L * *", "the day of the month 'L' is not one that Flyte's scheduler reads."),
        ("0 6 15W * *", "the day of the month '15W' is not one that Flyte's scheduler reads."),
        ("0 6 * * MON#1", "the day of the week 'MON#1' is not one that Flyte's scheduler reads."),
        ("0 6 * * 5L", "the day of the week '5L' is not one that Flyte's scheduler reads."),
        ("0 6 * * Monday", "the day of the week 'Monday' is not one that Flyte's scheduler reads."),
        ("0 24 * * *", "the hour '24' is no part of 0 to 23."),
        ("30-10 * * * *", "the minute '30-10' is no part of 0 to 59. Write the smaller number first"),
        ("*/0 * * * *", "the minute '*/0' is no part of 0 to 59. Write the smaller number first, and a step from 1."),
        ("0 6 1, * *", "the day of the month '' is not one that Flyte's scheduler reads."),
        ("0 6 * *", "does not have five fields"),
        ("@weekly", "does not have five fields"),
        ("0 0 30 2 *", "never comes: no such month has a day 30. Name a day that exists."),
    ],
)
def test_a_schedule_that_flytes_scheduler_refuses_is_refused(schedule: str, problem: str):
    with pytest.raises(ConfigError) as raised:
        read_settings({"FLYTE_LLAMA_SCHEDULE": schedule})
    (line,) = raised.value.problems
    assert line.startswith(f"FLYTE_LLAMA_SCHEDULE = {schedule!r}: {problem}")


def test_the_command_shows_what_would_be_registered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYTE_LLAMA_GPU", "H100")
    shown = CliRunner().invoke(main, ["settings"]).stdout
    assert "* FLYTE_LLAMA_GPU = H100\n  FLYTE_LLAMA_GPU_COUNT = 8\n" in shown
    assert "GPU pods require the accelerator label nvidia-h100." in shown


def test_a_bad_setting_ends_every_command_with_one_message_and_exit_code_2(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYTE_LLAMA_SPOT", "maybe")
    done = CliRunner().invoke(main, ["settings", "--version", "v"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("FLYTE_LLAMA_SPOT") == 1


def test_another_version_leaves_the_tag_of_the_image_alone():
    command = ["make", "--dry-run", "image", "image-cpu", "register", "COMMIT=abc", "VERSION=mine", "IMAGE_CPU="]
    shown = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True).stdout
    assert "--tag localhost:30000/flyte-llama:abc-cpu ." in shown
    assert "--tag localhost:30000/flyte-llama:abc ." in shown
    assert "--image 'localhost:30000/flyte-llama:abc'" in shown
    assert "settings --version 'mine'" in shown
    assert 'register  --copy none --version "$version"' in shown


def test_a_launch_takes_the_image_of_the_commit_also_if_files_differ_from_it(make_repo: MakeRepo):
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    repo = make_repo("checkout", {"Makefile": makefile, "requirements.txt": "", "pyproject.toml": ""})
    (repo / "requirements.txt").write_text("click\n")
    shown = {}
    for target in ("register", "launch"):
        command = ["make", "--dry-run", target, "REGISTRY=r.example.com"]
        shown[target] = subprocess.run(command, cwd=repo, check=True, capture_output=True, text=True).stdout
    commit = git(repo, "rev-parse", "--short=12", "HEAD")
    assert f"--image 'r.example.com/flyte-llama:{commit}-dirty'" in shown["register"]
    assert f"--image 'r.example.com/flyte-llama:{commit}'" in shown["launch"]


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("GPU_CONT", "Did you mean FLYTE_LLAMA_GPU_COUNT?"), ("NODE", "Did you mean FLYTE_LLAMA_NODES?")],
)
def test_a_mistyped_variable_names_the_nearest_setting(name: str, suggestion: str):
    with pytest.raises(ConfigError) as raised:
        read_settings({f"FLYTE_LLAMA_{name}": "1", "FLYTE_LLAMA_GPU_COUNT": "0"})
    assert f"FLYTE_LLAMA_{name}: no setting has this name. {suggestion}" in raised.value.message
    assert "FLYTE_LLAMA_GPU_COUNT = '0'" in raised.value.message


def test_variables_that_kubernetes_sets_for_a_service_of_this_name_are_ignored():
    names = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP_ADDR", "CHAT_SERVICE_HOST")
    assert read_settings({f"FLYTE_LLAMA_{name}": "x" for name in names}) == read_settings({})


def test_every_variable_that_the_package_reads_is_known():
    package = Path(flyte_llama.__file__).parent
    sources = [path.read_text(encoding="utf-8") for path in package.rglob("*.py")]
    names = {name for source in sources for name in re.findall(r"\bFLYTE_LLAMA_[A-Z_]*[A-Z]\b", source)}
    assert "FLYTE_LLAMA_GIT_TOKEN" in names
    read_settings(dict.fromkeys(names, ""))
