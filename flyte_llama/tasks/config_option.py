"""The option `--config` of `pyflyte run`: the file is read and checked as `flyte-llama check` does it.

flytekit would read the file itself, with a YAML reader that takes 3e-3 for a text and the last of two equal keys, and
would end in a traceback where the file is malformed.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import click
from flytekit.interaction.click_types import JsonParamType

from flyte_llama.config import ExperimentConfig, check_config, load_config, parse_config
from flyte_llama.preflight import preflight_problems, remote_problems
from flyte_llama.progress import INTERRUPTED, exit_on_interrupt


def read_config_option() -> None:
    """Let `pyflyte run` read every input that is an `ExperimentConfig` by `load_config`; other inputs stay as they are.

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
        if self._python_type is not ExperimentConfig or not isinstance(value, str):
            return convert(self, value, param, ctx)
        is_remote = bool(ctx and getattr(ctx.obj, "is_remote", False))
        check = remote_problems if is_remote else preflight_problems
        if not is_remote:
            exit_on_interrupt(INTERRUPTED)
        # A launch plan gives its configuration as JSON, and so may the user.
        if value.lstrip().startswith("{") and not os.path.lexists(value):
            return check_config(parse_config(value, name="--config"), check=check)
        return load_config(value, check=check)

    JsonParamType.convert = convert_config
