"""`pyflyte run` reads a configuration as `flyte-llama check` does, and a broken file in configs/ stops no other run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from flytekit.interaction.click_types import JsonParamType

from flyte_llama.config import ExperimentConfig, PromptsConfig
from flyte_llama.errors import ConfigError
from flyte_llama.launch_plans import make_weekly_refresh
from flyte_llama.tasks.config_option import read_config_option
from flyte_llama.tasks.shipped import load_usable

ROOT = Path(__file__).parents[2]
SOURCES = "corpus: {train: [{url: package:click}], heldout: [{url: package:jinja2}]}\n"


def convert(value: str, *, remote: bool = False) -> ExperimentConfig:
    """Convert a value of `--config` as `pyflyte run` does."""
    read_config_option()
    context = click.Context(click.Command("run"), obj=SimpleNamespace(is_remote=remote))
    return JsonParamType(ExperimentConfig).convert(value, None, context)


def test_the_file_is_read_as_by_the_command_line(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(SOURCES + "training: {learning_rate: 3e-3}\nmodel: {released: 2023-08-24}\n")
    config = convert(str(file))
    assert (config.name, config.training.learning_rate, config.model.released) == ("mine", 0.003, "2023-08-24")


def test_json_is_taken_in_place_of_a_file():
    config = ExperimentConfig.model_validate(json.loads('{"name": "x", "training": {"seq_len": 64}}'))
    assert convert(config.model_dump_json()) == config


@pytest.mark.parametrize("text", ["corpus: [", "corpus: {}\ncorpus: {}", "training: {lerning_rate: 1}", "[1]"])
def test_a_bad_file_is_one_message_with_exit_code_2(tmp_path: Path, text: str):
    (tmp_path / "bad.yaml").write_text(text)
    for value in (str(tmp_path / "bad.yaml"), str(tmp_path / "missing.yaml"), '{"corpus": ', '{"corpus": 3}'):
        with pytest.raises(ConfigError) as raised:
            convert(value)
        assert raised.value.exit_code == 2


def test_this_machine_is_checked_only_before_a_local_run():
    value = '{"corpus": {"train": [{"url": "/nowhere"}], "heldout": [{"url": "package:click"}]}}'
    with pytest.raises(ConfigError, match=r"corpus\.train\[0\]\.url = /nowhere"):
        convert(value)
    assert convert(value, remote=True).corpus.train[0].url == "/nowhere"


def test_a_source_by_ssh_is_refused_before_a_remote_run_whose_pods_get_no_key(monkeypatch: pytest.MonkeyPatch):
    value = '{"corpus": {"train": [{"url": "git@example.com:o/r"}], "heldout": [{"url": "package:click"}]}}'
    with pytest.raises(
        ConfigError, match=r"git@example\.com:o/r: pods get no key for ssh\. Set FLYTE_LLAMA_SSH_SECRET"
    ):
        convert(value, remote=True)
    monkeypatch.setenv("FLYTE_LLAMA_SSH_SECRET_GROUP", "git-ssh")
    assert convert(value, remote=True).corpus.train[0].url == "git@example.com:o/r"


def test_the_options_of_a_batch_are_a_file_or_json_and_their_problems_one_message(tmp_path: Path):
    read_config_option()
    options = JsonParamType(PromptsConfig)
    (tmp_path / "options.yaml").write_text("temperature: 1e-1\nsamples: 3\n")
    wanted = PromptsConfig(temperature=0.1, samples=3)
    for value in (str(tmp_path / "options.yaml"), '{"temperature": 0.1, "samples": 3}'):
        assert options.convert(value, None, None) == wanted
    with pytest.raises(ConfigError) as raised:
        options.convert('{"samples": 3, "shard": 2}', None, None)
    assert raised.value.problems == (
        "samples = 3: at temperature 0 all samples are the same. Set temperature above 0.",
        "shard: unknown key. Did you mean shards?",
    )


def test_other_inputs_are_converted_as_before():
    read_config_option()
    assert JsonParamType(list[int]).convert("[8, 16]", None, None) == [8, 16]


def test_a_file_that_cannot_be_used_is_named_in_a_line_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    texts = {
        "good": SOURCES,
        "cut": "corpus: [",
        "wrong": "training:\n  epochs: 0\n  seq_len: 1\n",
        "weekly_refresh": SOURCES,
    }
    files = {name: tmp_path / f"{name}.yaml" for name in texts}
    for name, text in texts.items():
        files[name].write_text(text)
    assert list(load_usable(files)) == ["good"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0].split(".")[-1] for line in lines] == ["cut", "wrong", "weekly_refresh"]
    assert f"{files['cut']}: is not valid YAML: line 1" in lines[0]
    assert f"{files['wrong']}: line 3: training.seq_len = 1: " in lines[1]
    assert lines[1].endswith("(1 more problem)")
    assert "another launch plan is called flyte_llama.weekly_refresh. Rename the file" in lines[2]


def test_without_its_configuration_there_is_no_weekly_refresh(capsys: pytest.CaptureFixture[str]):
    assert make_weekly_refresh({}) is None
    shown = capsys.readouterr().err
    assert "no launch plan flyte_llama.weekly_refresh: configs/code_llama_7b_lora.yaml does not exist or" in shown


@pytest.mark.slow
def test_a_real_run_ends_with_the_one_message_though_another_file_is_broken(tmp_path: Path):
    for name in ("flyte_llama", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "configs/other.yaml").write_text("corpus: [")
    (tmp_path / "mine.yaml").write_text("training: {epochs: 0}\ncorpus: {train: [{url: /nowhere}], heldout: []}\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "FLYTE_LLAMA_OUTPUT": str(tmp_path / "output")}
    command = [Path(sys.executable).with_name("pyflyte"), "run", "flyte_llama/workflows.py", "train_flyte_llama"]
    done = subprocess.run(
        [*command, "--config", "mine.yaml"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "other.yaml" not in done.stderr  # `pyflyte run` of a workflow reads no launch plan
    assert "mine.yaml: 3 problems; nothing was fetched or run" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "output").exists()
