"""What a user may choose, one frozen model a stage; the text under a field gives its unit and what 0 or null means.

What a run finds out (paths, ranks, devices, pinned commits) is never written back here.
"""

from __future__ import annotations

import contextlib
from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, Field, ModelWrapValidatorHandler, ValidationError, field_validator, model_validator

from flyte_llama.config.checks import cross_stage_problems, field_problems
from flyte_llama.config.corpus import CompositionConfig, CorpusConfig
from flyte_llama.config.evaluation import EvaluationConfig
from flyte_llama.config.objective import ObjectiveConfig
from flyte_llama.config.stage import StageConfig
from flyte_llama.errors import ConfigError

# How a path begins; anything else is the name of a hub repository.
_PATH = ("/", "./", "../", "~")


class ScratchConfig(StageConfig):
    """The shape of a Llama made from nothing; as many key-value heads as heads."""

    vocab_size: int = Field(4096, ge=300)
    """Entries of the byte-level BPE tokenizer trained on the corpus; 256 are bytes."""

    hidden_size: int = Field(256, ge=8)
    num_layers: int = Field(4, ge=1)
    num_heads: int = Field(4, ge=1)
    intermediate_size: int = Field(688, ge=8)

    max_positions: int = Field(1024, ge=8)
    """Longest input, in tokens."""


class ModelConfig(StageConfig):
    name: str = Field("codellama/CodeLlama-7b-hf", min_length=1)
    """A Hugging Face Hub id, the path of a folder in the hub's format (starts with `/`, `./` or `~`), or `scratch`."""

    revision: str | None = None
    """Branch, tag or commit of a hub model; pinned to the commit before anything is loaded. null is `main`."""

    released: str = ""
    """Day on which the base model came out, as "2023-08-24" with its quotes. A held-out file first committed later
    cannot have been in its training data; for that the history of held-out git sources is read. Empty reads none."""

    adapter: str | None = Field(None, min_length=1)
    """An earlier LoRA adapter to go on from: the hub id or the folder of what an earlier run wrote as `adapter/`. The
    base is then the model with that adapter. null starts a new one."""

    adapter_revision: str | None = None
    """Branch, tag or commit of a hub adapter; pinned like `revision`."""

    scratch: ScratchConfig = ScratchConfig()
    """Read only where `name` is `scratch`."""

    seed: int = Field(0, ge=0)
    """Of the weights of a scratch model."""

    @field_validator("released", mode="before")
    @classmethod
    def _day(cls, day: Any) -> Any:
        """YAML reads a bare date as one."""
        text = day.isoformat() if isinstance(day, date) else day
        if isinstance(text, str) and text:
            try:
                date.fromisoformat(text)
            except ValueError:
                raise ValueError("is no day. Write it as 2023-08-24") from None
        return text

    @property
    def is_scratch(self) -> bool:
        return self.name == "scratch"

    @property
    def is_local(self) -> bool:
        return self.name.startswith(_PATH)

    @property
    def adapter_is_local(self) -> bool:
        return self.adapter is not None and self.adapter.startswith(_PATH)


class LoraConfig(StageConfig):
    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    """The update is scaled by alpha / rank."""

    dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: list[str] = Field(["all-linear"], min_length=1)
    """Module names, or `all-linear` alone: every linear layer but the output head."""

    @field_validator("target_modules")
    @classmethod
    def _all_or_named(cls, names: list[str]) -> list[str]:
        if "all-linear" in names and len(names) > 1:
            raise ValueError("names all-linear beside others. Write either all-linear alone or the modules' names")
        return names


class DeepSpeedConfig(StageConfig):
    zero_stage: Literal[0, 1, 2, 3] = 2
    """What is split over the processes: 0 nothing, 1 optimizer state, 2 gradients too, 3 weights too."""

    offload_optimizer: bool = False
    """Keep optimizer state in host memory (stages 1 to 3)."""

    offload_parameters: bool = False
    """Keep weights in host memory (stage 3)."""


class TrainingConfig(StageConfig):
    method: Literal["full", "lora", "dora", "qlora"] = "lora"
    """`full` trains every weight; `lora` low-rank adapters; `dora` those and the norms of the adapted weights' columns
    (arXiv 2402.09353); `qlora` is `lora` on a base held in 4 bits (GPU)."""

    lora: LoraConfig = LoraConfig()

    seq_len: int = Field(4096, ge=2)
    """Tokens a row."""

    epochs: float = Field(1.0, gt=0, allow_inf_nan=False)
    max_steps: int = Field(0, ge=0)
    """Stop after this many optimizer steps; 0 goes by `epochs`."""

    learning_rate: float = Field(2e-4, gt=0, allow_inf_nan=False)
    warmup_share: float = Field(0.03, ge=0, lt=1)
    """Share of all steps over which the learning rate climbs to its peak; it then falls as a cosine."""

    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    max_grad_norm: float = Field(1.0, gt=0, allow_inf_nan=False)
    global_batch_size: int = Field(32, ge=1)
    """Rows an optimizer step, over all processes."""

    micro_batch_size: int = Field(1, ge=1)
    """Rows a process holds at once."""

    precision: Literal["bf16", "fp32"] = "bf16"
    """Of the forward and backward pass; master weights and optimizer state are float32 either way."""

    activation_checkpointing: bool = True
    """Recompute activations in the backward pass: less memory, about a third more arithmetic."""

    attention: Literal["auto", "sdpa", "eager", "flex_attention", "flash_attention_2"] = "auto"
    """How attention is computed. `auto` is torch's sdpa on each document of a row alone; `sdpa` and `eager` mask the
    whole row; `flex_attention` and `flash_attention_2` (`pip install flash-attn`) are for GPUs."""

    liger: bool = False
    """Use Liger's fused kernels (GPU, `pip install liger-kernel`)."""

    checkpoint_every_steps: int = Field(100, ge=0)
    """Optimizer steps between checkpoints; 0 writes one only when the pod is taken away."""

    keep_checkpoints: int = Field(2, ge=1)
    """Newest checkpoints kept."""

    log_every_steps: int = Field(10, ge=1)
    report_to: list[Literal["wandb", "mlflow", "tensorboard"]] = Field(default_factory=list)
    """Where else the curves go, through the Trainer's own integrations; each needs its package and its variables."""

    seed: int = Field(0, ge=0)
    """Of the order of rows, of dropout and of fresh adapters."""

    deepspeed: DeepSpeedConfig = DeepSpeedConfig()


class PublishConfig(StageConfig):
    repository: str | None = Field(None, pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
    """Hub repository, `owner/name`, that receives the fine-tuned model if it beats its base; null publishes nothing."""

    private: bool = True

    forgetting_budget: float | None = Field(0.05, ge=0, allow_inf_nan=False)
    """Bits per byte of `evaluation.general` that the fine-tuned model may need more than its base and still be
    published; null allows any."""


class ExperimentConfig(StageConfig):
    """One experiment, whole. Building it checks everything and raises one `ConfigError` naming every problem."""

    corpus: CorpusConfig
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
            problems = field_problems(error.errors(include_url=False), cls, data)
        problems += cross_stage_problems(dict(config) if config else _valid_stages(cls, data))
        if config is None or problems:
            count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the configuration"
            raise ConfigError("\n  - ".join([f"{count}; nothing was fetched or run:", *problems])) from None
        return config


def _valid_stages(model: type[BaseModel], data: Any) -> dict[str, Any]:
    """The stages of `data` that are valid by themselves, so that what does not fit between them is found too."""
    stages = {}
    for name, field in model.model_fields.items():
        stage, value = field.annotation, data.get(name) if isinstance(data, dict) else None
        if isinstance(stage, type) and issubclass(stage, BaseModel):
            with contextlib.suppress(ValidationError):
                stages[name] = stage.model_validate({} if value is None else value)
    return stages
