"""Completions → the JSON that clients read: OpenAI's, and llama.cpp's for `/infill`."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from flyte_llama.serving.completer import Completion
from flyte_llama.serving.requests import RequestError

DONE = "data: [DONE]\n\n"
"""The end of OpenAI's streams."""


class OpenAIAnswer:
    """The answer to one request to `/v1/completions`; all its parts have the same id."""

    def __init__(self, served: str) -> None:
        self._head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": served,
        }

    def part(self, index: int, text: str) -> dict[str, Any]:
        """A part of the text of the prompt with this index."""
        return self._head | {"choices": [_make_choice(index, text, None)]}

    def end(self, index: int, completion: Completion) -> dict[str, Any]:
        """The last part of a text."""
        return self._head | {"choices": [_make_choice(index, "", completion.finish_reason)]}

    def usage(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """The part of a stream that counts the tokens."""
        return self._head | {"choices": [], "usage": _count_tokens(completions)}

    def whole(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """The answer without a stream."""
        choices = [_make_choice(index, each.text, each.finish_reason) for index, each in enumerate(completions)]
        return self._head | {"choices": choices, "usage": _count_tokens(completions)}


class LlamaCppAnswer:
    """The answer to one request to `/infill`."""

    def __init__(self, served: str) -> None:
        self._served = served

    def part(self, index: int, text: str) -> dict[str, Any]:
        """A part of the text."""
        return {"index": index, "content": text, "stop": False}

    def end(self, index: int, completion: Completion) -> dict[str, Any]:
        """The last part of the text."""
        return self.whole([completion]) | {"content": ""}

    def whole(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """The answer without a stream; empty if nothing was asked for."""
        return {
            "index": 0,
            "content": "".join(each.text for each in completions),
            "model": self._served,
            "stop": True,
            "stop_type": "limit" if any(each.finish_reason == "length" for each in completions) else "eos",
            "tokens_predicted": sum(each.num_tokens for each in completions),
            "tokens_evaluated": sum(each.num_prompt_tokens for each in completions),
        }


def list_models(served: str, *, created: int, max_length: int) -> dict[str, Any]:
    """The answer to `/v1/models`; `max_model_len` is the name that vLLM has for the longest prompt and completion."""
    model = {
        "id": served,
        "object": "model",
        "created": created,
        "owned_by": "flyte-llama",
        "max_model_len": max_length,
    }
    return {"object": "list", "data": [model]}


def make_error(error: RequestError) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}


def format_event(content: Mapping[str, Any]) -> str:
    """One event of a stream."""
    return f"data: {json.dumps(content, separators=(',', ':'))}\n\n"


def _make_choice(index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _count_tokens(completions: Sequence[Completion]) -> dict[str, int]:
    prompt, completion = (
        sum(each.num_prompt_tokens for each in completions),
        sum(each.num_tokens for each in completions),
    )
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
