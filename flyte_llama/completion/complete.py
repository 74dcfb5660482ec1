"""Cases → what a model writes for them, greedily, held against what stands there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from flyte_llama.completion.cases import LINE, Case
from flyte_llama.completion.completion import Completion, similarity
from flyte_llama.config import CompletionConfig
from flyte_llama.generation import LEFT_TO_RIGHT, PSM, SPM, Generated, generate, infill_prompt, plain_prompt
from flyte_llama.tokens import DocumentTokenizer

_SHOWN_BEFORE, _SHOWN_BEHIND = 400, 200


class _Asked(NamedTuple):
    case: Case
    layout: str
    ids: np.ndarray


def complete(
    model: Any,
    tokenizer: DocumentTokenizer,
    cases: Sequence[Case],
    config: CompletionConfig,
    *,
    window: int,
    batch_tokens: int,
) -> list[Completion]:
    """Lines from left to right; spans in both infilling layouts, if the model has infill tokens, which end them.

    Args:
        window: Most ids of a prompt and what is written, together.
        batch_tokens: Tokens of a batch; does not move the figures but for rounding.
    """
    most = min(config.max_new_tokens, window // 2)
    asked = [own for case in cases for own in _asked(case, tokenizer, window - most)]

    def ends(number: int, ids: Sequence[int]) -> bool:
        return asked[number].case.task == LINE and tokenizer.decode_infix(ids).count("\n") > 1

    written = generate(
        model,
        [own.ids for own in asked],
        max_new_tokens=most,
        stop_ids=tokenizer.stop_ids,
        batch_tokens=batch_tokens,
        ends=ends,
        what="completing held-out",
    )
    return [_completion(own, found, tokenizer) for own, found in zip(asked, written, strict=True)]


def _asked(case: Case, tokenizer: DocumentTokenizer, most: int) -> list[_Asked]:
    before, behind = case.text[: case.begin], case.text[case.end :]
    if case.task == LINE:
        # Tokenizers join the end of a line with the next one's indentation, so the model writes that end too.
        last_line = before.removesuffix("\n").removesuffix("\r")
        return [_Asked(case, LEFT_TO_RIGHT, plain_prompt(last_line, tokenizer, most=most))]
    tokens = tokenizer.infill
    if tokens is None:
        return []
    return [
        _Asked(case, layout, infill_prompt(before, behind, tokenizer, tokens, layout=layout, most=most))
        for layout in (PSM, SPM)
    ]


def _completion(asked: _Asked, found: Generated, tokenizer: DocumentTokenizer) -> Completion:
    case, written = asked.case, tokenizer.decode_infix(found.ids)
    is_line = case.task == LINE
    if is_line:
        written = written.partition("\n")[2].partition("\n")[0]
    wanted = case.text[case.begin : case.end]
    return Completion(
        task=case.task,
        layout=asked.layout,
        repository=case.repository,
        path=case.path,
        language=case.language,
        start=case.start + len(case.text[: case.begin].encode()),
        prefix=case.text[max(0, case.begin - _SHOWN_BEFORE) : case.begin],
        suffix="" if is_line else case.text[case.end : case.end + _SHOWN_BEHIND],
        wanted=wanted,
        written=written,
        exact=written.rstrip() == wanted.rstrip(),
        similarity=similarity(written.rstrip(), wanted.rstrip()),
        stopped=found.stopped,
        num_tokens=len(found.ids),
    )
