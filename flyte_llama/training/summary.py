"""What a run did, as the report tells it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from flyte_llama.plan import Flops
from flyte_llama.training.metrics import LossPoint


class VerifiedArtefact(BaseModel):
    """One thing that a run wrote, loaded in a fresh process and scored on a sample of the held-out documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    artefact: str
    """`model`, the folder itself, or `adapter`, on its base."""

    trained_perplexity: float
    """Of the model in memory, at the end of training."""

    loaded_perplexity: float


class TrainingSummary(BaseModel):
    """What a run did, for the report."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    objective: str
    """`objective.kind` of the rows."""

    num_steps: int
    num_tokens: int
    """Tokens of documents given to the model over all steps and processes; a token read twice counts twice, padding
    does not."""

    num_parameters: int
    num_trainable: int
    num_processes: int
    device: str
    wall_s: float
    """Seconds of the steps, over all starts of a run that was interrupted; no loading, no saving, and nothing that was
    done after a checkpoint and had to be done again."""

    flops: Flops | None
    """Of the model, and again to save memory; None for an architecture that is not counted."""

    losses: list[LossPoint]
    verified: list[VerifiedArtefact]
