"""The exception tree.

    FlyteLlamaError
    ├── ConfigError      an invalid configuration: all its problems in one message
    ├── SourceError      a source that cannot be pinned or read
    ├── CorpusError      documents that cannot be split into two usable sides
    ├── DataError        a stored file that is damaged or does not match its manifest
    ├── ModelError       a base model that cannot be loaded, or does not fit the configuration
    ├── TrainingError    a training run that cannot continue
    │   └── OutOfMemoryError  training that does not fit the device or the host
    ├── EvaluationError  a score that would be wrong
    └── PublishError     a model that cannot be published

No message shows a secret (`redaction.mask_secrets`) or holds a control character other than a line break or tab,
whatever text it was made of.

All of them are click exceptions with exit code 2, so `pyflyte run` and `flyte-llama` stop and print only the message,
without a traceback. An error in a process that trains reaches its launcher as the same kind, see `training.failures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from flyte_llama.redaction import escape_invisible, mask_secrets


class FlyteLlamaError(click.ClickException):
    """The base class. The message gives the expected value, the actual one, and the next step to take."""

    exit_code = 2

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(escape_invisible(mask_secrets(message)))
        self.transient = transient
        """Whether a retry may succeed, as after a network failure."""


class ConfigError(FlyteLlamaError):
    """An invalid configuration: every problem, one a line."""

    def __init__(self, message: str, *, problems: Sequence[str] = (), stages: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.problems = tuple(escape_invisible(mask_secrets(problem)) for problem in problems)
        """The lines of the message; empty if the file could not even be parsed."""
        self.stages = dict(stages or {})
        """Name → the stages that are valid by themselves, for further checks."""


class SourceError(FlyteLlamaError):
    """A source that cannot be pinned or read."""


class CorpusError(FlyteLlamaError):
    """Documents that cannot be split into two usable sides."""


class DataError(FlyteLlamaError):
    """A stored file that is damaged or does not match its manifest."""


class ModelError(FlyteLlamaError):
    """A base model that cannot be loaded, or does not fit the configuration."""


class TrainingError(FlyteLlamaError):
    """A training run that cannot continue."""


class OutOfMemoryError(TrainingError):
    """Training that does not fit the device or the host, in the plan or when it ran."""


class EvaluationError(FlyteLlamaError):
    """A score that would be wrong."""


class PublishError(FlyteLlamaError):
    """A model that cannot be published."""


def hub_error(name: str, revision: str, error: Exception) -> ModelError:
    """The error to raise for an exception of the hub's client; transient if a retry may succeed."""
    status = getattr(getattr(error, "response", None), "status_code", 500)
    return ModelError(
        f"{name} at {revision}: cannot be fetched from the hub ({type(error).__name__}). Check name, revision and "
        "network; a gated model needs a token (HF_TOKEN, on a cluster through FLYTE_LLAMA_SECRET_GROUP).",
        transient=is_transient_status(status),
    )


def is_transient_status(status: int) -> bool:
    """Whether a server that answered with this HTTP status may answer otherwise a moment later."""
    return status == 429 or status >= 500
