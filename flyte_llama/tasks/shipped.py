"""The configurations that come with the package, each of which becomes a launch plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flyte_llama.config import ExperimentConfig, load_config
from flyte_llama.errors import ConfigError
from flyte_llama.progress import say

WEEKLY_REFRESH = "weekly_refresh"
"""The short name of the scheduled launch plan."""


def shipped_configs() -> dict[str, Path]:
    """Name → file of the configurations in the installed package or, in a checkout, in configs/."""
    package = Path(__file__).resolve().parents[1]
    folder = package / "configs" if (package / "configs").is_dir() else package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_usable(files: Mapping[str, Path]) -> dict[str, ExperimentConfig]:
    """Name → configuration of each file. One that cannot be used is named on standard error, and left out."""
    configs = {}
    for name, path in files.items():
        try:
            if name == WEEKLY_REFRESH or name.startswith("workflows."):
                raise ConfigError(f"{path}: another launch plan is called flyte_llama.{name}. Rename the file.")
            configs[name] = load_config(path)
        except ConfigError as error:
            num_more = len(error.problems) - 1
            reason = f"{path}: {error.problems[0]}" if error.problems else error.message
            more = f" ({num_more} more problem{'s' if num_more > 1 else ''})" if num_more > 0 else ""
            say(f"no launch plan flyte_llama.{name}: {reason}{more}")
    return configs
