"""The summary of a training run, for the report."""

from __future__ import annotations

from flyte_llama.config import Frozen
from flyte_llama.plan import Flops
from flyte_llama.training.metrics import LossPoint


class VerifiedArtefact(Frozen):
    """A model or adapter that was written, loaded in a fresh process and scored on a sample of held-out documents."""

    artefact: str
    """`model` for the model folder, or `adapter` for the adapter on its base."""

    trained_perplexity: float
    """Perplexity of the model in memory at the end of training."""

    loaded_perplexity: float
    """Perplexity of the written files, loaded again."""

    def __str__(self) -> str:
        return f"perplexity {self.loaded_perplexity:.4f}, {self.trained_perplexity:.4f} in memory"


class TrainingSummary(Frozen):
    """The results of a training run."""

    method: str
    objective: str
    """The kinds of objective of the rows, such as `fim`, or `clm, fim` of a mixture."""

    psm_share: float = 0.5
    """`objective.psm_share` of the rows; 0.5, its default, if an earlier version wrote them."""

    num_steps: int
    exported_step: int
    """The step whose weights the model has: the last, or with `training.keep_best` that with the lowest validation
    loss."""

    num_tokens: int
    """Tokens fed to the model over all steps and processes, without padding; a token read twice counts twice."""

    num_parameters: int
    num_trainable: int
    num_processes: int
    device: str
    micro_batch_size: int
    activation_checkpointing: bool
    liger: bool
    """The settings that can be `auto`, as the run took them last."""

    wall_s: float
    """Seconds of the steps, over all starts of the run. Loading and saving are left out, and a step that was lost and
    done again counts once."""

    flops: Flops | None
    """FLOPs of all steps; None for an architecture that a plan does not cover."""

    losses: list[LossPoint]
    verified: list[VerifiedArtefact]
    tracker_run: str | None = None
    """Id of the run in the trackers of `training.report_to`; None without trackers."""

    @property
    def validation_loss(self) -> float | None:
        """Nats per token of the model on the validation rows; None if they were not measured."""
        return next((point.validation_loss for point in self.losses if point.step == self.exported_step), None)
