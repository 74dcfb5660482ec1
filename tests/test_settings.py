"""The environment variables that registration reads."""

import re
from pathlib import Path

import pytest

import flyte_llama
from flyte_llama.errors import ConfigError
from flyte_llama.settings import read_settings


def test_defaults_follow_the_number_of_gpus():
    settings = read_settings({"FLYTE_LLAMA_GPU_COUNT": "2", "IMAGE": "r/i:t"})
    assert (settings.gpu_cpu, settings.gpu_memory, settings.image) == ("16", "200Gi", "r/i:t")


def test_the_schedule_is_inactive_unless_the_environment_opts_in():
    assert not read_settings({}).activate_schedule
    assert read_settings({"FLYTE_LLAMA_ACTIVATE_SCHEDULE": "1"}).activate_schedule


def test_every_bad_variable_is_named():
    with pytest.raises(ConfigError) as raised:
        read_settings({"FLYTE_LLAMA_GPU": "H9000", "FLYTE_LLAMA_GPU_COUNT": "0", "FLYTE_LLAMA_SCHEDULE": "@weekly"})
    for name in ("FLYTE_LLAMA_GPU = 'H9000'", "FLYTE_LLAMA_GPU_COUNT = '0'", "FLYTE_LLAMA_SCHEDULE = '@weekly'"):
        assert name in raised.value.message


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
