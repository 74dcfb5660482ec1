"""A YAML or JSON file as an `ExperimentConfig`. Without Flyte; `pyflyte run --config` builds the same model itself."""

from __future__ import annotations

from pathlib import Path

import yaml

from flyte_llama.config.schema import ExperimentConfig
from flyte_llama.errors import ConfigError


def load_config(path: str | Path) -> ExperimentConfig:
    """The experiment that a file describes.

    Raises:
        ConfigError: if the file cannot be read or parsed, names a key twice, or has any problem; all are named.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506  # it is a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}). Give an existing YAML file, as in configs/.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is no valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: holds {type(data).__name__}, not a mapping. Start from a file in configs/.")
    return ExperimentConfig.model_validate(data)


class _UniqueKeyLoader(yaml.SafeLoader):
    """A key given twice would silently lose its first value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for index, key in enumerate(keys) if key in keys[:index]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)
