"""A loaded model, a cursor in a text → the text that the model writes there, shown while it is written.

The text is shown as soon as it is final: a character that is still missing bytes waits, and so does the beginning of
what may become a stop string. What was shown is the text of the completion, to the character.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.inference.batches import copy_sharing_weights
from flyte_llama.inference.gaps import Gap, choose_layout, make_prompt
from flyte_llama.inference.generation import Prompt, decode_batch

_REPLACEMENT = "\ufffd"
_WRITTEN_REPLACEMENTS = ("\ufffd", "ï¿½", "<0xEF><0xBF><0xBD>")
"""It as tokens name it that have it or its bytes: whole, byte-level and SentencePiece."""


@dataclass(frozen=True)
class CompletionRequest:
    """A cursor in a text, and how to write there."""

    prefix: str
    """The text before the cursor; its last lines are read if it is too long."""

    suffix: str = ""
    """The text after the cursor; read only if the model infills."""

    max_tokens: int = 64
    temperature: float = 0.0
    """0 takes the likeliest token; above 0, tokens are sampled."""

    top_p: float = 1.0
    """Sample among the likeliest tokens whose probabilities sum to this share."""

    seed: int | None = None
    """Seed for sampling; None draws one."""

    stop: tuple[str, ...] = ()
    """The completion ends before the first of these texts."""

    max_seconds: float | None = None
    """After this time a completion with a line break ends at once, and any other at its first line break."""


class Completion(NamedTuple):
    """What a model wrote."""

    text: str
    finish_reason: str
    """`stop` if the model, a stop string or the time ended it, `length` if the limit of tokens did, or `cancelled`."""

    num_prompt_tokens: int
    num_tokens: int
    """The tokens that the model wrote, with those of a stop string."""


class Completer:
    """A model that completes one text at a time; `make_copies` lets it complete several."""

    def __init__(self, model: Any, tokenizer: DocumentTokenizer, *, window: int, layout: str | None) -> None:
        """
        Args:
            window: The most tokens of a prompt and its completion together.
            layout: Of an infill prompt, PSM or SPM; None for a model that does not infill.
        """
        self._model, self._tokenizer, self._layout = model, tokenizer, layout
        self.window = window
        self.max_tokens = window // 2
        """The most tokens of a completion; a request for more gets these."""

    @property
    def infills(self) -> bool:
        """Whether the model reads a suffix."""
        return self._layout is not None

    @property
    def infill_names(self) -> tuple[str, str, str] | None:
        """The names of the tokens before the prefix, the suffix and the middle; None for a model without them."""
        ids = self._tokenizer.infill if self.infills else None
        names = [self._tokenizer.name_of(id_) or "" for id_ in ids[:3]] if ids else []
        return (names[0], names[1], names[2]) if names else None

    def make_copies(self, number: int) -> list[Completer]:
        """Return completers that can run at the same time, and share their weights; the first is this one."""
        settings: dict[str, Any] = {"window": self.window, "layout": self._layout}
        others = [copy_sharing_weights(self._model) for _ in range(number - 1)]
        return [self, *(Completer(model, self._tokenizer, **settings) for model in others)]

    def complete(
        self,
        request: CompletionRequest,
        *,
        show: Callable[[str], object] = lambda text: None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Completion:
        """Write at the cursor. The model infills if it can and there is a suffix; otherwise it reads the prefix alone.

        Args:
            show: Called with each new part of the text.
            is_cancelled: Called after each token; True ends the completion.

        Raises:
            EvaluationError: if the model gives logits that are not finite.
        """
        import torch

        max_tokens = min(request.max_tokens, self.max_tokens)
        gap = Gap(request.prefix, request.suffix, choose_layout(self._layout, request.suffix))
        ids = make_prompt(gap, self._tokenizer, self.window - max_tokens)
        # An operating system's random bytes, so that requests of the same moment differ.
        seed = int.from_bytes(os.urandom(4)) if request.seed is None else request.seed
        text = _FinalText(self._tokenizer, request.stop)
        deadline = None if request.max_seconds is None else time.monotonic() + request.max_seconds
        cancelled = False

        def ends(_: int, written: Sequence[int]) -> bool:
            nonlocal cancelled
            if part := text.add(written):
                show(part)
            cancelled = is_cancelled()
            is_late = deadline is not None and time.monotonic() > deadline and "\n" in text.shown
            return text.is_stopped or cancelled or is_late

        # No control token is text, so each ends the completion.
        stops = frozenset(self._tokenizer.stop_ids | self._tokenizer.control_ids)
        with torch.inference_mode():
            ((_, written, stopped),) = decode_batch(
                self._model,
                [Prompt(0, ids, max_tokens, seed)],
                stops=stops,
                ends=ends,
                temperature=request.temperature,
                top_p=request.top_p,
            )
        if rest := text.finish(written):
            show(rest)
        reason = "cancelled" if cancelled else "stop" if stopped else "length"
        return Completion(text.shown, reason, len(ids), len(written))


class _FinalText:
    """The text of a growing list of ids, up to the first stop string."""

    def __init__(self, tokenizer: DocumentTokenizer, stop: Sequence[str]) -> None:
        self._tokenizer, self._stop = tokenizer, [text for text in stop if text]
        self.shown = ""
        self.is_stopped = False
        """Whether a stop string was found; the text then ends before it."""

    def add(self, ids: Sequence[int]) -> str:
        """Return what became final since the last call."""
        text = self._decode(ids)
        longest_start = max(
            (n for stop in self._stop for n in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:n])),
            default=0,
        )
        return self._show(text, len(text) - longest_start)

    def finish(self, ids: Sequence[int]) -> str:
        """Return the rest, after the last id."""
        names = "".join(self._tokenizer.name_of(id_) or "" for id_ in ids[-3:])
        is_whole = names.endswith(_WRITTEN_REPLACEMENTS)
        text = self._tokenizer.decode_infix(ids) if is_whole else self._decode(ids)
        return self._show(text, len(text))

    def _decode(self, ids: Sequence[int]) -> str:
        # A character whose last bytes are not there yet decodes to this.
        return self._tokenizer.decode_infix(ids).rstrip(_REPLACEMENT)

    def _show(self, text: str, end: int) -> str:
        begins = [begin for stop in self._stop if (begin := text.find(stop)) >= 0]
        if begins:
            end, self.is_stopped = min(begins), True
        part = text[len(self.shown) : end]
        self.shown += part
        return part
