"""The experiment: one YAML file of configs/ as frozen models, checked whole before anything is fetched."""

from flyte_llama.config.loading import load_config
from flyte_llama.config.schema import (
    CorpusConfig,
    DeepSpeedConfig,
    DocumentsConfig,
    EvaluationConfig,
    ExperimentConfig,
    LoraConfig,
    ModelConfig,
    ObjectiveConfig,
    PublishConfig,
    ScratchConfig,
    SourceConfig,
    TrainingConfig,
)

__all__ = [
    "CorpusConfig",
    "DeepSpeedConfig",
    "DocumentsConfig",
    "EvaluationConfig",
    "ExperimentConfig",
    "LoraConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "PublishConfig",
    "ScratchConfig",
    "SourceConfig",
    "TrainingConfig",
    "load_config",
]
