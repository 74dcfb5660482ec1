"""The problems of a configuration, one line each: the key, its value, the reason and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from flyte_llama.config.corpus import CorpusConfig
from flyte_llama.config.evaluation import EvaluationConfig, PublishConfig
from flyte_llama.config.model import ModelConfig
from flyte_llama.config.objective import ObjectiveConfig
from flyte_llama.config.source_url import contains_token, same_repository_key
from flyte_llama.config.stage import hint
from flyte_llama.config.training import TrainingConfig

_MIN_COMPLETION_WINDOW = 16
"""Shortest window, in tokens, for completion tasks: half of a window is for the generated tokens."""


def field_problems(errors: list[ErrorDetails], model: type[BaseModel], data: Any) -> list[str]:
    """Return one line for each of pydantic's errors, with the value as the user wrote it in `data`."""
    locations = [error["loc"] for error in errors]
    # If all items of a list are invalid, pydantic also reports the list as too short. Only the items matter.
    innermost = [error for error in errors if not any(_is_inside(location, error["loc"]) for location in locations)]
    return [_describe(error, model, data) for error in innermost]


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
        problems += _split_problems(corpus)
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
        problems += _attention_problems(objective, training)
    if publish:
        problems += _publish_problems(publish)
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
    """Return a line if the global batch cannot be split evenly into the micro-batches of the processes."""
    divisor = training.micro_batch_size * num_processes
    if training.global_batch_size % divisor == 0:
        return []
    if num_processes == 1:
        reason = f"must be a multiple of training.micro_batch_size = {training.micro_batch_size}."
    else:
        reason = (
            f"cannot be split evenly over {num_processes} processes with micro_batch_size = "
            f"{training.micro_batch_size}. Use a multiple of {divisor}."
        )
    return [f"training.global_batch_size = {training.global_batch_size}: {reason}"]


def _split_problems(corpus: CorpusConfig) -> list[str]:
    problems = []
    # Repository, in any spelling → the list that names it first.
    first_lists: dict[str, str] = {}
    sources = [("train", source) for source in corpus.train]
    sources += [("extensions", source) for source in corpus.extensions]
    sources += [("heldout", source) for source in corpus.heldout]
    for name, source in sources:
        key = same_repository_key(source.url)
        if key not in first_lists:
            first_lists[key] = name
        elif (first_lists[key] == "heldout") != (name == "heldout"):
            problems.append(f"corpus: {source.url} is both in {first_lists[key]} and in {name}. Keep it on one side.")
        else:
            problems.append(f"corpus.{name}: {source.url} is listed twice. Remove one.")
    for name, source in sources:
        if source.url.startswith("package:") and source.ref is not None:
            problems.append(
                f"corpus.{name}: {source.url} has a ref. Remove it: the installed version of a package is used."
            )
    return problems


def _model_problems(model: ModelConfig) -> list[str]:
    problems, scratch = [], model.scratch
    texts = (model.name, model.revision, model.adapter, model.adapter_revision)
    if any(contains_token(text or "") for text in texts):
        problems.append("model: contains an access token. Remove it, and use a Flyte secret.")
    elif not model.is_scratch and not model.is_local and not re.fullmatch(r"[\w.-]+/[\w.-]+", model.name):
        problems.append(
            f"model.name = {model.name!r}: is not a hub id (owner/name), a path (/…, ./…, ~…) or scratch. Use one of "
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
    if contains_token(evaluation.published or ""):
        problems.append("evaluation.published: contains an access token. Remove it, and use a Flyte secret.")
    return problems


def _training_problems(training: TrainingConfig) -> list[str]:
    problems = batch_problems(training)
    deepspeed = training.deepspeed
    if deepspeed.offload_parameters and deepspeed.zero_stage != 3:
        problems.append("training.deepspeed.offload_parameters = true: needs zero_stage: 3.")
    if deepspeed.offload_optimizer and deepspeed.zero_stage == 0:
        problems.append("training.deepspeed.offload_optimizer = true: needs zero_stage: 1, 2 or 3.")
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


def _publish_problems(publish: PublishConfig) -> list[str]:
    if contains_token(publish.repository or ""):
        return ["publish.repository: contains an access token. Remove it, and use a Flyte secret."]
    return []


def _is_inside(location: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(location) > len(outer) and location[: len(outer)] == outer


def _describe(error: ErrorDetails, model: type[BaseModel], data: Any) -> str:
    keys = list(error["loc"])
    # For example corpus.train[0].url.
    key_path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".") or "the file"
    if error["type"] == "extra_forbidden":
        known = _keys_of_model(model, keys[:-1])
        suggestion = hint(str(keys[-1]), known, otherwise=f"Known keys: {', '.join(known)}.")
        return f"{key_path}: unknown key. {suggestion}"
    if error["type"] == "missing":
        return f"{key_path}: is missing and has no default. Add it."
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{key_path} = {_value_text(data, keys)}: {message}."


def _keys_of_model(model: type[BaseModel], keys: list[int | str]) -> list[str]:
    """Return the field names of the model that `keys` lead to from `model`."""
    for key in keys:
        if isinstance(key, str):
            annotation = model.model_fields[key].annotation
            # The model is the annotation itself, or an argument of it, as in list[SourceConfig].
            types = [annotation, *getattr(annotation, "__args__", ())]
            model = next(inner for inner in types if isinstance(inner, type) and issubclass(inner, BaseModel))
    return list(model.model_fields)


def _value_text(data: Any, keys: list[int | str]) -> str:
    """Return the value as the user wrote it, shortened. A value that contains a credential is never shown."""
    for key in keys:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return "(default)"
    text = repr(data)
    if contains_token(text) or re.search(r"://[^/\s]*@", text):
        return "(not shown)"
    return text if len(text) <= 60 else text[:57] + "..."
