"""The environment variables that registration reads."""

import pytest

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
