"""A model's answers to items: what it writes behind a prompt, cut where the masked thing ends.

Two layouts. `left-to-right`, for every model: all before the mask that the window holds, cut on the left at a line.
`PSM`, for models with infill tokens: what stands behind the mask too, in Code Llama's order (prefix, suffix, middle),
ended by the model itself.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from flyte_llama.config import FlyteEvalConfig
from flyte_llama.flyte_eval.ending import end_of_body, end_of_definition
from flyte_llama.flyte_eval.items import Item
from flyte_llama.flyte_eval.masking import BODY
from flyte_llama.generation import LEFT_TO_RIGHT, PSM, generate, infill_prompt, plain_prompt
from flyte_llama.rows import read_rows, write_rows
from flyte_llama.tokens import DocumentTokenizer

TABLE = "answers.parquet"
SCHEMA = pa.schema([("item", pa.string()), ("layout", pa.string()), ("sample", pa.int64()), ("text", pa.string())])


@dataclass(frozen=True, slots=True)
class Answer:
    item: str
    """Its name."""

    layout: str
    sample: int
    text: str
    """To stand in the reference's place."""


class _Asked(NamedTuple):
    item: Item
    layout: str
    sample: int
    ids: np.ndarray


def answer(
    model: Any,
    tokenizer: DocumentTokenizer,
    items: Sequence[Item],
    config: FlyteEvalConfig,
    *,
    window: int,
    batch_tokens: int,
) -> list[Answer]:
    """`config.samples` answers to each item in each layout that the model has."""
    most = min(config.max_new_tokens, window // 2)
    layouts = [LEFT_TO_RIGHT, PSM] if tokenizer.infill is not None else [LEFT_TO_RIGHT]
    asked = [
        _Asked(item, layout, sample, _prompt(item, layout, tokenizer, window - most))
        for item in items
        for layout in layouts
        for sample in range(config.samples)
    ]
    written = generate(
        model,
        [own.ids for own in asked],
        max_new_tokens=most,
        stop_ids=tokenizer.stop_ids,
        batch_tokens=batch_tokens,
        ends=functools.partial(_ends, asked, tokenizer),
        temperature=config.temperature,
        seeds=[_seed(config.seed, own) for own in asked],
        what="answering FlyteEval",
    )
    return [
        Answer(own.item.name, own.layout, own.sample, _text(own, tokenizer, found.ids))
        for own, found in zip(asked, written, strict=True)
    ]


def write_answers(folder: Path, answers: Sequence[Answer], **facts: Any) -> None:
    write_rows(folder, TABLE, answers, SCHEMA, **facts)


def read_answers(folder: Path) -> list[Answer]:
    """Raises DataError if the folder is unfinished or damaged."""
    return [Answer(**row) for row in read_rows(folder, TABLE)[0]]


def _seed(seed: int, own: _Asked) -> int:
    """Of the answer's name, so that neither shards nor other items change what is drawn."""
    name = f"{seed}\0{own.item.name}\0{own.layout}\0{own.sample}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _prompt(item: Item, layout: str, tokenizer: DocumentTokenizer, most: int) -> np.ndarray:
    infill = tokenizer.infill
    if layout == LEFT_TO_RIGHT or infill is None:
        return plain_prompt(item.prefix, tokenizer, most=most)
    return infill_prompt(item.prefix, item.suffix, tokenizer, infill, layout=layout, most=most)


def _ends(asked: Sequence[_Asked], tokenizer: DocumentTokenizer, number: int, ids: Sequence[int]) -> bool:
    own = asked[number]
    if own.layout == PSM:
        return False
    text = tokenizer.decode_infix(ids)
    return "\n" in text and _end(own.item, text) is not None


def _text(own: _Asked, tokenizer: DocumentTokenizer, ids: Sequence[int]) -> str:
    text = tokenizer.decode_infix(ids)
    if own.layout == PSM:
        return text
    end = _end(own.item, text)
    text = text if end is None else text[:end]
    # What stands behind the mask begins a line.
    return text if text.endswith("\n") or not own.item.reference.endswith("\n") else text + "\n"


def _end(item: Item, text: str) -> int | None:
    return end_of_body(text) if item.tier == BODY else end_of_definition(text)
