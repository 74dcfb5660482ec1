"""The problems between the fields of a configuration, one line each: the key, its value, the reason and the fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flyte_llama.config.corpus import CorpusConfig
from flyte_llama.config.evaluation import EvaluationConfig, PublishConfig
from flyte_llama.config.model import ModelConfig, names_model
from flyte_llama.config.objective import ObjectiveConfig
from flyte_llama.config.repositories import few_repositories_problems, general_problems, split_problems
from flyte_llama.config.training import TrainingConfig

_MIN_COMPLETION_WINDOW = 16
"""Shortest window, in tokens, for completion tasks: half of a window is for the generated tokens."""


def cross_stage_problems(stages: Mapping[str, Any]) -> list[str]:
    """Return one line for each problem between fields, which no single field can detect.

    Args:
        stages: Name → the stages that are valid by themselves. A check is skipped if a stage that it needs is absent.
    """
    corpus: CorpusConfig | None = stages.get("corpus")
    model: ModelConfig | None = stages.get("model")
    objective: ObjectiveConfig | None = stages.get("objective")
    training: TrainingConfig | None = stages.get("training")
    evaluation: EvaluationConfig | None = stages.get("evaluation")
    publish: PublishConfig | None = stages.get("publish")
    problems = []
    if corpus:
        problems += split_problems(corpus)
    if model:
        problems += _model_problems(model)
    if model and training and evaluation:
        problems += _scratch_problems(model, training, evaluation)
    if evaluation:
        problems += _evaluation_problems(evaluation)
    if training:
        problems += _training_problems(training)
    if model and training:
        problems += _adapter_problems(model, training)
    if objective and training:
        problems += _attention_problems(objective, training) + _rate_problems(objective, training)
    if publish and publish.repository is not None:
        if objective and objective.makes_encoder:
            problems.append(
                f"publish.repository = {publish.repository}: an encoder is never published, and objective.kind = "
                f"'{objective.kind}' makes one. Use another objective, or remove publish.repository."
            )
        if evaluation:
            problems += _gate_problems(publish, evaluation)
        if evaluation and corpus:
            problems += general_problems(publish, evaluation, corpus)
        if corpus:
            problems += few_repositories_problems(publish, corpus)
    return problems


def positions_problems(lengths: Mapping[str, int], max_positions: int | None, *, limit: str) -> list[str]:
    """Return one line for each length that exceeds the positions of the model.

    Args:
        lengths: Key in the configuration → number of tokens that the model is given at once.
        max_positions: None if the model has no limit.
        limit: The limit in words, for the message.
    """
    return [
        f"{key} = {num_tokens}: exceeds {limit}. Use at most {max_positions}."
        for key, num_tokens in lengths.items()
        if max_positions is not None and num_tokens > max_positions
    ]


def batch_problems(training: TrainingConfig, num_processes: int = 1) -> list[str]:
    """Return a line if the global batch cannot be split evenly into the micro-batches of the processes.

    A micro-batch that is `auto` can be one row.
    """
    is_auto = training.micro_batch_size == "auto"
    micro_batch_size = 1 if training.micro_batch_size == "auto" else training.micro_batch_size
    divisor = micro_batch_size * num_processes
    if training.global_batch_size % divisor == 0:
        return []
    if num_processes == 1:
        reason = f"must be a multiple of training.micro_batch_size = {micro_batch_size}."
    else:
        size = "" if is_auto else f" with micro_batch_size = {micro_batch_size}"
        reason = f"cannot be split evenly over {num_processes} processes{size}. Use a multiple of {divisor}."
    return [f"training.global_batch_size = {training.global_batch_size}: {reason}"]


def _model_problems(model: ModelConfig) -> list[str]:
    problems, scratch = [], model.scratch
    if not model.is_scratch and not names_model(model.name):
        problems.append(
            f"model.name = {model.name!r}: is not a hub id (owner/name), a path (/…, ./…, ~…) or scratch. Use one of "
            "these."
        )
    elif model.adapter is not None and not names_model(model.adapter):
        problems.append(
            f"model.adapter = {model.adapter!r}: is not a hub id (owner/name) or a path (/…, ./…, ~…). Use one of "
            "these."
        )
    if model.revision is not None and (model.is_scratch or model.is_local):
        problems.append(f"model.revision = {model.revision!r}: {model.name} has no revisions. Remove it.")
    if model.adapter_revision is not None and (model.adapter is None or model.adapter_is_local):
        problems.append(f"model.adapter_revision = {model.adapter_revision!r}: only a hub adapter has one. Remove it.")
    if model.is_scratch and (scratch.hidden_size % scratch.num_heads or scratch.hidden_size // scratch.num_heads % 2):
        problems.append(
            f"model.scratch.num_heads = {scratch.num_heads}: must divide hidden_size = {scratch.hidden_size} into "
            "heads of an even size."
        )
    return problems


def _scratch_problems(model: ModelConfig, training: TrainingConfig, evaluation: EvaluationConfig) -> list[str]:
    if not model.is_scratch:
        return []
    max_positions = model.scratch.max_positions
    lengths = {"training.seq_len": training.seq_len, "evaluation.window": evaluation.window}
    problems = positions_problems(lengths, max_positions, limit=f"model.scratch.max_positions = {max_positions}")
    if training.method == "qlora":
        problems.append("training.method = 'qlora': a scratch model has nothing to quantise. Use full or lora.")
    return problems


def _evaluation_problems(evaluation: EvaluationConfig) -> list[str]:
    problems = []
    if evaluation.stride >= evaluation.window:
        problems.append(
            f"evaluation.stride = {evaluation.stride}: must be below evaluation.window = {evaluation.window}."
        )
    if evaluation.batch_tokens < evaluation.window:
        problems.append(
            f"evaluation.batch_tokens = {evaluation.batch_tokens}: must hold one window of {evaluation.window} tokens."
        )
    completion, flyte_eval = evaluation.completion, evaluation.flyte_eval
    has_completions = completion.lines or completion.spans or flyte_eval.source != "none"
    if evaluation.window < _MIN_COMPLETION_WINDOW and has_completions:
        problems.append(
            f"evaluation.window = {evaluation.window}: is too short for a prompt and its completion. Use at least "
            f"{_MIN_COMPLETION_WINDOW}, or set completion: {{lines: 0, spans: 0}} and flyte_eval: {{source: none}}."
        )
    if flyte_eval.samples > 1 and not flyte_eval.temperature:
        problems.append(
            f"evaluation.flyte_eval.samples = {flyte_eval.samples}: at temperature 0 all answers are the same. "
            "Set flyte_eval.temperature above 0."
        )
    if evaluation.published_model is not None and not names_model(evaluation.published_model):
        problems.append(
            f"evaluation.published = {evaluation.published!r}: is not a hub id (owner/name), a path (/…, ./…, ~…) or "
            "none. Use one of these."
        )
    return problems


def _training_problems(training: TrainingConfig) -> list[str]:
    problems = batch_problems(training)
    deepspeed = training.deepspeed
    if deepspeed.offload_parameters and deepspeed.zero_stage != 3:
        problems.append("training.deepspeed.offload_parameters = true: needs zero_stage: 3.")
    if deepspeed.offload_optimizer and deepspeed.zero_stage == 0:
        problems.append("training.deepspeed.offload_optimizer = true: needs zero_stage: 1, 2 or 3.")
    if training.keep_best and not training.validation_share:
        problems.append(
            "training.keep_best = true: needs a validation loss. Set training.validation_share, e.g. to 0.02."
        )
    elif training.keep_best and not training.validate_every_steps:
        problems.append(
            "training.keep_best = true: needs several steps to choose from. Set training.validate_every_steps above 0."
        )
    if training.method == "qlora" and deepspeed.zero_stage == 3:
        problems.append("training.method = 'qlora': 4-bit weights cannot be sharded by zero_stage: 3. Use 2 or less.")
    if training.method == "qlora" and training.precision != "bf16":
        problems.append("training.method = 'qlora': computes in bf16. Set precision: bf16.")
    return problems


def _adapter_problems(model: ModelConfig, training: TrainingConfig) -> list[str]:
    if model.adapter is not None and training.method == "full" and training.deepspeed.zero_stage == 3:
        return [
            "model.adapter: cannot be merged into weights that zero_stage: 3 shards, and training.method = 'full' must "
            "merge it. Use zero_stage: 2, or start from the merged model of the earlier run."
        ]
    return []


def _attention_problems(objective: ObjectiveConfig, training: TrainingConfig) -> list[str]:
    if training.attention == "flash_attention_2" and "mlm" in objective.kinds:
        return [
            "training.attention = 'flash_attention_2': cannot attend in both directions within a document, as mlm "
            "requires. Use auto."
        ]
    return []


def _rate_problems(objective: ObjectiveConfig, training: TrainingConfig) -> list[str]:
    """Return a line if new tokens are given a learning rate that this training would not use."""
    if objective.new_token_lr_scale == 1.0:
        return []
    reasons = {
        "training.method = 'full' learns the whole table at one rate": training.method == "full",
        "DeepSpeed's own optimizer has one rate (training.deepspeed.offload_optimizer)": (
            training.deepspeed.offload_optimizer
        ),
    }
    return [
        f"objective.new_token_lr_scale = {objective.new_token_lr_scale:g}: is not used, since {reason}. Remove it."
        for reason, applies in reasons.items()
        if applies
    ][:1]


def _gate_problems(publish: PublishConfig, evaluation: EvaluationConfig) -> list[str]:
    """Return a line for each thing without which a model can never be published, however good it becomes."""
    problems = []
    if evaluation.published is None:
        problems.append(
            f"evaluation.published: is not set, and publish.repository = {publish.repository} would be written over. "
            "Set it to the model that is published now, or to none for the first one."
        )
    if publish.forgetting_budget is not None and not (evaluation.general and evaluation.probe_bytes):
        name = "evaluation.probe_bytes = 0" if evaluation.general else "evaluation.general = []"
        problems.append(
            f"{name}: measures no general code, and publish.forgetting_budget = {publish.forgetting_budget:g} is "
            "judged by it. Measure some, or set the budget to null."
        )
    return problems
