"""The experiment configuration: a YAML file as frozen models, validated as a whole before anything is fetched."""

from flyte_llama.config.checks import batch_problems, positions_problems
from flyte_llama.config.config_file import parse_config, write_config
from flyte_llama.config.corpus import (
    CompositionConfig,
    CorpusConfig,
    DeduplicationConfig,
    DocumentsConfig,
)
from flyte_llama.config.evaluation import (
    MIN_REPOSITORIES,
    CompletionConfig,
    EvaluationConfig,
    FlyteEvalConfig,
    PublishConfig,
)
from flyte_llama.config.experiment import ExperimentConfig, check_config, load_config
from flyte_llama.config.model import ModelConfig
from flyte_llama.config.objective import ObjectiveConfig
from flyte_llama.config.prompts import PromptsConfig
from flyte_llama.config.source import FilePatterns, SourceConfig
from flyte_llama.config.split import HeldOutPart, Selection, SplitConfig, describe_split
from flyte_llama.config.stage import Frozen
from flyte_llama.config.training import LoraConfig, ResolvedTraining, RunLength, TrainingConfig

__all__ = [
    "MIN_REPOSITORIES",
    "CompletionConfig",
    "CompositionConfig",
    "CorpusConfig",
    "DeduplicationConfig",
    "DocumentsConfig",
    "EvaluationConfig",
    "ExperimentConfig",
    "FilePatterns",
    "FlyteEvalConfig",
    "Frozen",
    "HeldOutPart",
    "LoraConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "PromptsConfig",
    "PublishConfig",
    "ResolvedTraining",
    "RunLength",
    "Selection",
    "SourceConfig",
    "SplitConfig",
    "TrainingConfig",
    "batch_problems",
    "check_config",
    "describe_split",
    "load_config",
    "parse_config",
    "positions_problems",
    "write_config",
]
