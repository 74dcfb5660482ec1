"""A whole experiment: one frozen model per stage, loaded from a YAML or JSON file.

The text under a field gives its unit and the meaning of 0 or null. Facts that a run finds out (paths, ranks, devices,
pinned commits) are never written back here. `load_config` does not use Flyte; `tasks.config_option` calls it for
`pyflyte run --config`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import (
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from flyte_llama.config.checks import cross_stage_problems
from flyte_llama.config.config_file import ConfigFile, read_config_file
from flyte_llama.config.corpus import CompositionConfig, CorpusConfig
from flyte_llama.config.evaluation import EvaluationConfig, PublishConfig
from flyte_llama.config.model import ModelConfig
from flyte_llama.config.objective import ObjectiveConfig
from flyte_llama.config.problems import field_problems, report_problems
from flyte_llama.config.source import SourceConfig
from flyte_llama.config.split import SplitConfig
from flyte_llama.config.stage import StageConfig
from flyte_llama.config.training import TrainingConfig
from flyte_llama.errors import ConfigError


class ExperimentConfig(StageConfig):
    """A whole experiment. Building it checks everything and raises one `ConfigError` that lists every problem."""

    name: str = Field("", max_length=100)
    """The name of the run and of its output folder; empty is the name of the file, without `.yaml`."""

    corpus: CorpusConfig = CorpusConfig()
    composition: CompositionConfig = CompositionConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    publish: PublishConfig = PublishConfig()

    @field_validator("name")
    @classmethod
    def _name_of_a_folder(cls, name: str) -> str:
        if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError("should begin with a letter or digit, and have only these, dots, dashes and underscores")
        return name

    @model_validator(mode="wrap")
    @classmethod
    def _all_problems_at_once(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        file: ConfigFile | None = (info.context or {}).get("file")
        config, problems = None, []
        try:
            config = handler(data)
        except ValidationError as error:
            # Checks between stages still run on the stages that are valid, so that one run shows every problem.
            problems = field_problems(error.errors(include_url=False), cls, data, file)
        stages = dict(config) if config else _valid_stages(cls, data)
        problems += cross_stage_problems(stages)
        if config is None or problems:
            lines = [file.with_line(problem) for problem in problems] if file else problems
            raise report_problems(lines, file=file, stages=stages) from None
        return config


def check_nothing(stages: Mapping[str, Any]) -> list[str]:
    """Return no problems: the default of `load_config`, which then checks the file alone."""
    return []


def load_config(
    path: str | Path, *, check: Callable[[Mapping[str, Any]], list[str]] = check_nothing
) -> ExperimentConfig:
    """Return the experiment that a file describes; its name is that of the file, unless the file gives one.

    Args:
        check: Gets the stages that are valid by themselves, and returns a line for each further problem. They are
            reported together with those of the file.

    Raises:
        ConfigError: if the file cannot be read or parsed, has a duplicate key, or is invalid; lists every problem.
    """
    config = check_config(read_config_file(path), check=check)
    return config if config.name else config.model_copy(update={"name": _name_of(path)})


def check_config(
    file: ConfigFile, *, check: Callable[[Mapping[str, Any]], list[str]] = check_nothing
) -> ExperimentConfig:
    """Return the experiment that a parsed file describes; as `load_config`."""
    stages: Mapping[str, Any]
    config, problems = None, []
    try:
        config = ExperimentConfig.model_validate(file.values, context={"file": file})
        stages = dict(config)
    except ConfigError as error:
        stages, problems = error.stages, list(error.problems)
    problems += [file.with_line(problem) for problem in check(stages)]
    if config is None or problems:
        raise report_problems(problems, file=file, stages=stages)
    return config


def _name_of(path: str | Path) -> str:
    """Return the file's name as the name of a run: `my run.yaml` is `my-run`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).stem).strip("-._")[:100] or "run"


def _valid_stages(model: type[BaseModel], data: Any) -> dict[str, Any]:
    """Return the stages of `data` that are valid by themselves."""
    stages: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        stage, value = field.annotation, data.get(name) if isinstance(data, dict) else None
        if isinstance(stage, type) and issubclass(stage, BaseModel):
            try:
                stages[name] = stage.model_validate({} if value is None else value)
            except ValidationError:
                if stage is CorpusConfig and isinstance(value, dict):
                    stages[name] = _corpus_of_valid_sources(value)
    return stages


def _corpus_of_valid_sources(data: Mapping[str, Any]) -> CorpusConfig:
    """Return a corpus of the sources that are valid by themselves, so that they too are checked at once.

    In place of each other source stands a URL that is like no other, so that the rest keep their places in the list.
    """
    sides: dict[str, Any] = {"train": [], "heldout": [], "extensions": []}
    for side, sources in sides.items():
        for index, source in enumerate(data[side] if isinstance(data.get(side), list) else []):
            try:
                sources.append(SourceConfig.model_validate(source))
            except ValidationError:
                sources.append(SourceConfig(url=f"https://invalid.invalid/{side}/{index}"))
    return CorpusConfig.model_construct(**sides, split=_valid_split(data.get("split")))


def _valid_split(data: Any) -> SplitConfig:
    """Return the split, or the default if it is not valid."""
    try:
        return SplitConfig.model_validate({} if data is None else data)
    except ValidationError:
        return SplitConfig()
