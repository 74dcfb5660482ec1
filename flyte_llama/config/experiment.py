"""A whole experiment: one frozen model per stage, loaded from a YAML or JSON file.

The text under a field gives its unit and the meaning of 0 or null. Facts that a run finds out (paths, ranks, devices,
pinned commits) are never written back here. `load_config` does not use Flyte: `pyflyte run --config` builds the same
model itself.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ModelWrapValidatorHandler, ValidationError, model_validator

from flyte_llama.config.checks import cross_stage_problems, field_problems
from flyte_llama.config.corpus import CompositionConfig, CorpusConfig
from flyte_llama.config.evaluation import EvaluationConfig, PublishConfig
from flyte_llama.config.model import ModelConfig
from flyte_llama.config.objective import ObjectiveConfig
from flyte_llama.config.stage import StageConfig
from flyte_llama.config.training import TrainingConfig
from flyte_llama.errors import ConfigError


class ExperimentConfig(StageConfig):
    """A whole experiment. Building it checks everything and raises one `ConfigError` that lists every problem."""

    corpus: CorpusConfig = CorpusConfig()
    composition: CompositionConfig = CompositionConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    publish: PublishConfig = PublishConfig()

    @model_validator(mode="wrap")
    @classmethod
    def _all_problems_at_once(cls, data: Any, handler: ModelWrapValidatorHandler[ExperimentConfig]) -> ExperimentConfig:
        config, problems = None, []
        try:
            config = handler(data)
        except ValidationError as error:
            # Checks between stages still run on the stages that are valid, so that one run shows every problem.
            problems = field_problems(error.errors(include_url=False), cls, data)
        problems += cross_stage_problems(dict(config) if config else _valid_stages(cls, data))
        if config is None or problems:
            count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the configuration"
            raise ConfigError("\n  - ".join([f"{count}; nothing was fetched or run:", *problems])) from None
        return config


def load_config(path: str | Path) -> ExperimentConfig:
    """Return the experiment that a file describes.

    Raises:
        ConfigError: if the file cannot be read or parsed, has a duplicate key, or is invalid; lists every problem.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506  # the loader is a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}). Give an existing YAML file, as in configs/.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: contains {type(data).__name__}, not a mapping. Start from a file in configs/.")
    return ExperimentConfig.model_validate(data)


def _valid_stages(model: type[BaseModel], data: Any) -> dict[str, Any]:
    """Return the stages of `data` that are valid by themselves."""
    stages = {}
    for name, field in model.model_fields.items():
        stage, value = field.annotation, data.get(name) if isinstance(data, dict) else None
        if isinstance(stage, type) and issubclass(stage, BaseModel):
            with contextlib.suppress(ValidationError):
                stages[name] = stage.model_validate({} if value is None else value)
    return stages


class _UniqueKeyLoader(yaml.SafeLoader):
    """Rejects duplicate keys: PyYAML would silently keep only the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        duplicate = next((key for index, key in enumerate(keys) if key in keys[:index]), None)
        if duplicate is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {duplicate!r} is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep)
