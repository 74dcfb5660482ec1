"""The experiment configuration: a YAML file as frozen models, validated as a whole before anything is fetched."""

from flyte_llama.config.checks import batch_problems, positions_problems
from flyte_llama.config.corpus import (
    CompositionConfig,
    CorpusConfig,
    DeduplicationConfig,
    DocumentsConfig,
    SourceConfig,
)
from flyte_llama.config.evaluation import CompletionConfig, EvaluationConfig, FlyteEvalConfig, PublishConfig
from flyte_llama.config.experiment import ExperimentConfig, load_config
from flyte_llama.config.model import ModelConfig
from flyte_llama.config.objective import ObjectiveConfig
from flyte_llama.config.stage import Frozen
from flyte_llama.config.training import LoraConfig, RunLength, TrainingConfig

__all__ = [
    "CompletionConfig",
    "CompositionConfig",
    "CorpusConfig",
    "DeduplicationConfig",
    "DocumentsConfig",
    "EvaluationConfig",
    "ExperimentConfig",
    "FlyteEvalConfig",
    "Frozen",
    "LoraConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "PublishConfig",
    "RunLength",
    "SourceConfig",
    "TrainingConfig",
    "batch_problems",
    "load_config",
    "positions_problems",
]
