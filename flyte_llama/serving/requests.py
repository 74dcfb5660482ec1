"""The body of an HTTP request → the completions that it asks for; or one message with all that is wrong with it.

Two forms are read, and their unknown fields are ignored:

    POST /v1/completions    OpenAI's: `prompt`, `suffix`, `max_tokens` …
    POST /infill            llama.cpp's: `input_prefix`, `prompt`, `input_suffix`, `n_predict` …

Some editors write infill tokens into the prompt themselves: `split_prompt` takes such a prompt apart again.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator

from flyte_llama.config import Frozen
from flyte_llama.config.stage import MAX_SEED
from flyte_llama.serving.completer import CompletionRequest

MAX_PROMPTS = 8
"""The most prompts in one request."""

MAX_STOPS = 32
"""The most stop strings of a request; OpenAI takes 4, and editors send about 10."""

MAX_STOP_LENGTH = 1000
"""The most characters of a stop string: it is looked for after each token."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class RequestError(Exception):
    """A request that is not answered; the message is for its sender."""

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None, headers: Any = None
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.param, self.code, self.headers = message, status, param, code, headers


class Job(NamedTuple):
    """What a request asks for."""

    requests: list[CompletionRequest]
    stream: bool
    """Whether each part of a text is sent as soon as it is there."""

    with_usage: bool = False
    """Whether the last event of a stream counts the tokens."""


def _as_texts(value: Any) -> Any:
    """One text or a list of texts as a tuple of texts."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("give a text or a list of texts")
    return tuple(texts)


def _check_text(text: str) -> str:
    if _SURROGATE.search(text):
        raise ValueError("has half of a surrogate pair, which is no character")
    return text


Text = Annotated[str, AfterValidator(_check_text)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_as_texts)]
StopText = Annotated[Text, Field(max_length=MAX_STOP_LENGTH)]
StopTexts = Annotated[tuple[StopText, ...], BeforeValidator(_as_texts), Field(max_length=MAX_STOPS)]


class _Body(Frozen, strict=True, extra="ignore", allow_inf_nan=False):
    """What both forms have; null is the same as a field that is left out."""

    model: str | None = None
    stream: bool | None = None
    stop: StopTexts | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = None

    @property
    def seed_or_none(self) -> int | None:
        """llama.cpp's -1 draws a seed, as a missing one does."""
        return None if self.seed is None or self.seed < 0 else self.seed % (MAX_SEED + 1)


class _StreamOptions(Frozen, strict=True, extra="ignore"):
    include_usage: bool | None = None


class _OpenAIBody(_Body):
    prompt: Annotated[Texts, Field(min_length=1, max_length=MAX_PROMPTS)]
    suffix: Text | None = None
    max_tokens: int | None = Field(None, ge=1)
    stream_options: _StreamOptions | None = None
    # What would change the answer, and is not done here.
    n: int | None = None
    best_of: int | None = None
    echo: bool | None = None
    logprobs: int | bool | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None

    @field_validator("n", "best_of")
    @classmethod
    def _only_one(cls, value: int | None) -> int | None:
        if value not in (None, 1):
            raise ValueError("only 1 completion of a prompt is made")
        return value

    @field_validator("logprobs")
    @classmethod
    def _no_logprobs(cls, value: Any) -> Any:
        if value is not None and value is not False:  # 0 asks for those of the tokens
            raise ValueError("is not supported. Leave it out")
        return value

    @field_validator("echo", "presence_penalty", "frequency_penalty", "logit_bias")
    @classmethod
    def _not_done(cls, value: Any) -> Any:
        # Clients send the neutral values too.
        if value:
            raise ValueError("is not supported. Leave it out")
        return value


class _LlamaCppBody(_Body):
    input_prefix: Text | None = None
    input_suffix: Text | None = None
    prompt: Text | None = None
    n_predict: int | None = Field(None, ge=-2)
    t_max_predict_ms: float | None = None


def read_openai(body: Any, *, served: str, infill_names: tuple[str, str, str] | None, max_tokens: int) -> Job:
    """Read a request to `/v1/completions`, with OpenAI's defaults: 16 tokens, temperature 1.

    Args:
        served: The name of the model.
        infill_names: The names of its infill tokens, for prompts that contain them as text; None if it does not infill.
        max_tokens: The most tokens of a completion.

    Raises:
        RequestError: if it cannot be answered as it is.
    """
    checked = _check(_OpenAIBody, body)
    _check_model(checked.model, served)
    if checked.suffix and infill_names is None:
        message = f"suffix: {served} was not trained to infill. Leave it out, or serve a model that was"
        raise RequestError(f"{message} (objective.kind: fim).", param="suffix")
    requests = []
    for prompt in checked.prompt:
        prefix, suffix = prompt, checked.suffix or ""
        if not suffix and infill_names and (parts := split_prompt(prompt, infill_names)):
            prefix, suffix = parts
        request = CompletionRequest(
            prefix,
            suffix,
            max_tokens=min(16 if checked.max_tokens is None else checked.max_tokens, max_tokens),
            temperature=1.0 if checked.temperature is None else checked.temperature,
            top_p=1.0 if checked.top_p is None else checked.top_p,
            seed=checked.seed_or_none,
            stop=checked.stop or (),
        )
        requests.append(request)
    options = checked.stream_options
    return Job(requests, bool(checked.stream), with_usage=bool(options and options.include_usage))


def read_llama_cpp(body: Any, *, served: str, max_tokens: int) -> Job:
    """Read a request to `/infill`. Without a temperature, the likeliest tokens are taken.

    A model that does not infill gets the prefix alone: an editor asks for what may stand at the cursor. `n_predict: 0`
    asks for nothing. `input_extra`, text of other files, is not read: models are trained on one file at a time.

    Raises:
        RequestError: if it cannot be answered as it is.
    """
    checked = _check(_LlamaCppBody, body)
    _check_model(checked.model, served)
    wanted = -1 if checked.n_predict is None else checked.n_predict
    milliseconds = checked.t_max_predict_ms or 0
    request = CompletionRequest(
        (checked.input_prefix or "") + (checked.prompt or ""),
        checked.input_suffix or "",
        max_tokens=max_tokens if wanted < 0 else min(wanted, max_tokens),
        temperature=checked.temperature or 0.0,
        top_p=1.0 if checked.top_p is None else checked.top_p,
        seed=checked.seed_or_none,
        stop=checked.stop or (),
        max_seconds=milliseconds / 1000 if milliseconds > 0 else None,
    )
    return Job([request] if wanted else [], bool(checked.stream))


def split_prompt(prompt: str, names: tuple[str, str, str]) -> tuple[str, str] | None:
    """Return the prefix and the suffix of a prompt that contains infill tokens as text; None if it is plain text.

    A client's prompt begins with the token before the prefix, and has each of the three once and in this order. What
    follows the last one, as in prompts with the suffix first, belongs to the prefix. Code Llama's names begin with `▁`,
    for a blank: there one blank on each side of a name, or a `▁` before it, belongs to it, except before a suffix.

    Args:
        names: The names of the tokens before the prefix, the suffix and the middle.
    """
    words = [name.removeprefix("▁") for name in names]
    if any(prompt.count(word) != 1 for word in words):
        return None
    parts, rest = [], prompt
    for word in words:
        part, found, rest = rest.partition(word)
        if not found:
            return None
        parts.append(part)
    before, prefix, suffix = parts
    if before.strip(" ▁"):
        return None
    if names[0].startswith("▁"):
        prefix, suffix, rest = (
            re.sub(r"[ ▁]\Z", "", prefix.removeprefix(" ")),
            re.sub(r"[ ▁]\Z", "", suffix),
            rest.removeprefix(" "),
        )
    return prefix + rest, suffix


def _check_model(model: str | None, served: str) -> None:
    if model and model != served:
        message = f"model: {model[:200]!r} is not served here. Use {served!r}, or leave it out."
        raise RequestError(message, status=404, param="model", code="model_not_found")


def _check(form: type[Any], body: Any) -> Any:
    try:
        return form.model_validate(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
    # Only names of known fields are in a message: with `extra="ignore"` no other field can have a problem.
    lines = [f"{problem['loc'][0]}: {_reason(problem)}" for problem in problems if problem["loc"]]
    if not lines:
        raise RequestError('The body is not a JSON object. Send one, such as {"prompt": "def "}.')
    raise RequestError("; ".join(dict.fromkeys(lines)) + ".", param=str(problems[0]["loc"][0]))


def _reason(problem: Any) -> str:
    if problem["type"] == "missing":
        return "is missing. Give the text to complete"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return message[0].lower() + message[1:]
