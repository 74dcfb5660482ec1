"""The options `--config` and `--options` of `pyflyte run`: read and checked as `flyte-llama check` does it.

flytekit would read such a file itself, with a YAML reader that takes 3e-3 for a text and the last of two equal keys,
and would end in a traceback where the file is malformed.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import click
from flytekit.interaction.click_types import JsonParamType

from flyte_llama.config import ExperimentConfig, PromptsConfig, check_config, load_config, parse_config
from flyte_llama.config.config_file import read_config_file
from flyte_llama.config.prompts import read_prompts_config
from flyte_llama.preflight import preflight_problems, remote_problems
from flyte_llama.progress import INTERRUPTED, exit_on_interrupt


def read_config_option() -> None:
    """Let `pyflyte run` read each `ExperimentConfig` and `PromptsConfig` as this package does; no other input changes.

    flytekit has no hook for the conversion of one type, so the method of its parameter type is wrapped. To call it
    again changes nothing.
    """
    convert = JsonParamType.convert
    if hasattr(convert, "__wrapped__"):
        return

    @functools.wraps(convert)
    def convert_config(
        self: JsonParamType, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        if self._python_type not in (ExperimentConfig, PromptsConfig) or not isinstance(value, str):
            return convert(self, value, param, ctx)
        # A launch plan gives its configuration as JSON, and so may the user.
        is_json = value.lstrip().startswith("{") and not os.path.lexists(value)
        if self._python_type is PromptsConfig:
            file = parse_config(value, name="--options") if is_json else read_config_file(value)
            return read_prompts_config(file)
        is_remote = bool(ctx and getattr(ctx.obj, "is_remote", False))
        check = remote_problems if is_remote else preflight_problems
        if not is_remote:
            exit_on_interrupt(INTERRUPTED)
        if is_json:
            return check_config(parse_config(value, name="--config"), check=check)
        return load_config(value, check=check)

    JsonParamType.convert = convert_config
