"""The experiment: one YAML file of configs/ as frozen models, checked whole before anything is fetched."""

from flyte_llama.config.corpus import (
    CompositionConfig,
    CorpusConfig,
    DeduplicationConfig,
    DocumentsConfig,
    LeakageConfig,
    SourceConfig,
)
from flyte_llama.config.evaluation import CompletionConfig, EvaluationConfig, FlyteEvalConfig
from flyte_llama.config.loading import load_config
from flyte_llama.config.objective import ObjectiveConfig
from flyte_llama.config.schema import (
    DeepSpeedConfig,
    ExperimentConfig,
    LoraConfig,
    ModelConfig,
    PublishConfig,
    ScratchConfig,
    TrainingConfig,
)

__all__ = [
    "CompletionConfig",
    "CompositionConfig",
    "CorpusConfig",
    "DeduplicationConfig",
    "DeepSpeedConfig",
    "DocumentsConfig",
    "EvaluationConfig",
    "ExperimentConfig",
    "FlyteEvalConfig",
    "LeakageConfig",
    "LoraConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "PublishConfig",
    "ScratchConfig",
    "SourceConfig",
    "TrainingConfig",
    "load_config",
]
