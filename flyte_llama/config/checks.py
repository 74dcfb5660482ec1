"""Every problem of a configuration as one line: key, value, why, and what to write instead."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from flyte_llama.config.location import contains_token, same_repository_key
from flyte_llama.config.nearest import hint

if TYPE_CHECKING:
    from flyte_llama.config.schema import (
        CorpusConfig,
        EvaluationConfig,
        ModelConfig,
        ObjectiveConfig,
        PublishConfig,
        TrainingConfig,
    )


_LEAST_TO_WRITE = 16
"""Tokens of a window of which half is for what is written."""


def field_problems(errors: list[ErrorDetails], model: type[BaseModel], data: Any) -> list[str]:
    """One line for each of pydantic's errors; values are looked up in `data`, as the user wrote them."""
    places = [error["loc"] for error in errors]
    # A list whose items are all wrong is also reported as too short.
    real = [error for error in errors if not any(_lies_within(place, error["loc"]) for place in places)]
    return [_describe(error, model, data) for error in real]


def _lies_within(place: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(place) > len(outer) and place[: len(outer)] == outer


def _describe(problem: ErrorDetails, model: type[BaseModel], data: Any) -> str:
    keys = list(problem["loc"])
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".") or "the file"
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, keys[:-1])
        meant = hint(str(keys[-1]), known, otherwise=f"Known keys: {', '.join(known)}.")
        return f"{where}: unknown key. {meant}"
    if problem["type"] == "missing":
        return f"{where}: is missing and has no default. Add it."
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where} = {_shown(data, keys)}: {message}."


def cross_stage_problems(stages: dict[str, Any]) -> list[str]:
    """What single fields cannot see: values that do not fit each other. `stages` are those that are valid alone."""
    checks: list[Callable[..., list[str]]] = [
        _split_problems,
        _model_problems,
        _length_problems,
        _window_problems,
        _measuring_problems,
        _batch_problems,
        _adapter_problems,
        _attention_problems,
        _publish_problems,
    ]
    problems = []
    for check in checks:
        needed = inspect.signature(check).parameters
        if all(name in stages for name in needed):
            problems += check(**{name: stages[name] for name in needed})
    return problems


def _split_problems(corpus: CorpusConfig) -> list[str]:
    problems, seen = [], {}
    named = [("train", source) for source in corpus.train]
    named += [("extensions", source) for source in corpus.extensions]
    named += [("heldout", source) for source in corpus.heldout]
    for place, source in named:
        key = same_repository_key(source.url)
        if key not in seen:
            seen[key] = place
        elif (seen[key] == "heldout") != (place == "heldout"):
            problems.append(f"corpus: {source.url} is both in {seen[key]} and in {place}. Keep it on one side.")
        else:
            problems.append(f"corpus.{place}: {source.url} is named twice. Remove one.")
    for place, source in named:
        if source.url.startswith("package:") and source.ref is not None:
            problems.append(f"corpus.{place}: {source.url} has a ref. Remove it: the installed version is the pin.")
    return problems


def _model_problems(model: ModelConfig) -> list[str]:
    problems, scratch = [], model.scratch
    written = (model.name, model.revision, model.adapter, model.adapter_revision)
    if any(contains_token(text or "") for text in written):
        problems.append("model: holds an access token. Remove it, and use a Flyte secret.")
    elif not model.is_scratch and not model.is_local and not re.fullmatch(r"[\w.-]+/[\w.-]+", model.name):
        problems.append(
            f"model.name = {model.name!r}: is no hub id (owner/name), no path (/…, ./…, ~…) and not scratch."
        )
    if model.revision is not None and (model.is_scratch or model.is_local):
        problems.append(f"model.revision = {model.revision!r}: {model.name} has no revisions. Remove it.")
    if model.adapter_revision is not None and (model.adapter is None or model.adapter_is_local):
        problems.append(f"model.adapter_revision = {model.adapter_revision!r}: belongs to a hub adapter. Remove it.")
    if model.is_scratch and (scratch.hidden_size % scratch.num_heads or scratch.hidden_size // scratch.num_heads % 2):
        problems.append(
            f"model.scratch.num_heads = {scratch.num_heads}: must cut hidden_size = {scratch.hidden_size} into heads "
            "of an even size."
        )
    return problems


def _length_problems(model: ModelConfig, training: TrainingConfig, evaluation: EvaluationConfig) -> list[str]:
    if not model.is_scratch:
        return []
    longest = model.scratch.max_positions
    lengths = {"training.seq_len": training.seq_len, "evaluation.window": evaluation.window}
    problems = [
        f"{key} = {tokens}: exceeds model.scratch.max_positions = {longest}. Use at most {longest}."
        for key, tokens in lengths.items()
        if tokens > longest
    ]
    if training.method == "qlora":
        problems.append("training.method = 'qlora': a scratch model has nothing to quantise. Use full or lora.")
    return problems


def _window_problems(evaluation: EvaluationConfig) -> list[str]:
    problems = []
    if evaluation.stride >= evaluation.window:
        problems.append(
            f"evaluation.stride = {evaluation.stride}: must be below evaluation.window = {evaluation.window}."
        )
    if evaluation.batch_tokens < evaluation.window:
        problems.append(
            f"evaluation.batch_tokens = {evaluation.batch_tokens}: must hold one window of {evaluation.window}."
        )
    writes = evaluation.completion.lines or evaluation.completion.spans or evaluation.flyte_eval.source != "none"
    if evaluation.window < _LEAST_TO_WRITE and writes:
        problems.append(
            f"evaluation.window = {evaluation.window}: is too short for prompts and what is written. Use at least "
            f"{_LEAST_TO_WRITE}, or set completion: {{lines: 0, spans: 0}} and flyte_eval: {{source: none}}."
        )
    return problems


def _measuring_problems(evaluation: EvaluationConfig) -> list[str]:
    problems = []
    asked = evaluation.flyte_eval
    if asked.samples > 1 and not asked.temperature:
        problems.append(
            f"evaluation.flyte_eval.samples = {asked.samples}: at temperature 0 all answers are the same. "
            "Set flyte_eval.temperature."
        )
    if contains_token(evaluation.published or ""):
        problems.append("evaluation.published: holds an access token. Remove it, and use a Flyte secret.")
    return problems


def _batch_problems(training: TrainingConfig) -> list[str]:
    problems = []
    if training.global_batch_size % training.micro_batch_size:
        problems.append(
            f"training.global_batch_size = {training.global_batch_size}: must be a multiple of "
            f"training.micro_batch_size = {training.micro_batch_size}."
        )
    deepspeed = training.deepspeed
    if deepspeed.offload_parameters and deepspeed.zero_stage != 3:
        problems.append("training.deepspeed.offload_parameters = true: needs zero_stage: 3.")
    if deepspeed.offload_optimizer and deepspeed.zero_stage == 0:
        problems.append("training.deepspeed.offload_optimizer = true: needs zero_stage: 1, 2 or 3.")
    if training.method == "qlora" and deepspeed.zero_stage == 3:
        problems.append("training.method = 'qlora': 4-bit weights cannot be split by zero_stage: 3. Use 2 or less.")
    if training.method == "qlora" and training.precision != "bf16":
        problems.append("training.method = 'qlora': computes in bf16. Set precision: bf16.")
    return problems


def _adapter_problems(model: ModelConfig, training: TrainingConfig) -> list[str]:
    if model.adapter is not None and training.method == "full" and training.deepspeed.zero_stage == 3:
        return [
            "model.adapter: cannot be merged into weights that zero_stage: 3 splits, as training.method = 'full' "
            "would. Use zero_stage: 2, or start from the merged model of the earlier run."
        ]
    return []


def _attention_problems(objective: ObjectiveConfig, training: TrainingConfig) -> list[str]:
    if training.attention == "flash_attention_2" and "mlm" in objective.kinds:
        return [
            "training.attention = 'flash_attention_2': cannot see both ways within a document, as mlm must. Use auto."
        ]
    return []


def _publish_problems(publish: PublishConfig) -> list[str]:
    if contains_token(publish.repository or ""):
        return ["publish.repository: holds an access token. Remove it, and use a Flyte secret."]
    return []


def _known_keys(model: type[BaseModel], keys: list[int | str]) -> list[str]:
    for key in keys:
        if isinstance(key, str):
            annotation = model.model_fields[key].annotation
            inner = [annotation, *getattr(annotation, "__args__", ())]
            model = next(found for found in inner if isinstance(found, type) and issubclass(found, BaseModel))
    return list(model.model_fields)


def _shown(data: Any, keys: list[int | str]) -> str:
    """The value as written, shortened; a value that holds a token is not repeated."""
    for key in keys:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return "(default)"
    text = repr(data)
    if contains_token(text) or re.search(r"://[^/\s]*@", text):
        return "(not shown)"
    return text if len(text) <= 60 else text[:57] + "..."
