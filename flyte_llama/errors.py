"""The exception tree.

    FlyteLlamaError
    ├── ConfigError      the configuration: every problem of it, in one message
    ├── SourceError      a source that cannot be pinned or read
    ├── CorpusError      documents that make no usable split
    ├── DataError        a stored file that is damaged or does not fit its manifest
    ├── ModelError       a base model that cannot be loaded, or does not fit the configuration
    ├── TrainingError    a training run that must not go on
    │   └── OutOfMemoryError  one that does not fit the device or the host
    ├── EvaluationError  a score that would not be true
    └── PublishError     a model that cannot be published

All of them are click exceptions with exit code 2, so that `pyflyte run` and `flyte-llama` print the message
alone, without a traceback, and stop. Only out of training, which Elastic runs in processes of its own, Flyte makes
its own exception with a traceback; the message stands above it.
"""

from __future__ import annotations

import click


class FlyteLlamaError(click.ClickException):
    """What was expected, what came, and what to do next."""

    exit_code = 2

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
        """Whether a second try may succeed, as after a network's failure."""


class ConfigError(FlyteLlamaError):
    """Every problem of a configuration, one a line."""


class SourceError(FlyteLlamaError):
    """A source that cannot be pinned or read."""


class CorpusError(FlyteLlamaError):
    """Documents that make no usable split."""


class DataError(FlyteLlamaError):
    """A stored file that is damaged or does not fit its manifest."""


class ModelError(FlyteLlamaError):
    """A base model that cannot be loaded, or does not fit the configuration."""


class TrainingError(FlyteLlamaError):
    """A training run that must not go on."""


class OutOfMemoryError(TrainingError):
    """Training that does not fit the device or the host, by its plan or when tried."""


class EvaluationError(FlyteLlamaError):
    """A score that would not be true."""


class PublishError(FlyteLlamaError):
    """A model that cannot be published."""
