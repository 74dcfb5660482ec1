"""A model's answers to items: the text it writes in place of the mask, cut where the body or definition ends.

There are two prompt layouts. `PSM`, for models with infill tokens, shows prefix and suffix, in Code Llama's order
(prefix, suffix, middle); the model itself ends the answer. `left-to-right`, for every model, shows as many whole lines
of the prefix as fit into the window. Its answer is cut where the masked code would end, see `endings`.

Does not run the answers; `grading` does.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from flyte_llama.config import FlyteEvalConfig
from flyte_llama.documents import draw
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.flyte_eval.endings import find_end
from flyte_llama.flyte_eval.items import Item
from flyte_llama.inference import LEFT_TO_RIGHT, PSM, Gap, fill_gaps
from flyte_llama.storage import read_table, write_table

TABLE = "answers.parquet"
SCHEMA = pa.schema([("item", pa.string()), ("layout", pa.string()), ("sample", pa.int64()), ("text", pa.string())])


@dataclass(frozen=True, slots=True)
class Answer:
    """The code that a model wrote for one item."""

    item: str
    """The item's name."""

    layout: str
    sample: int
    text: str
    """The code that replaces the reference."""


class _Request(NamedTuple):
    """One answer to generate."""

    item: Item
    layout: str
    sample: int


def answer_items(
    model: Any,
    tokenizer: DocumentTokenizer,
    items: Sequence[Item],
    config: FlyteEvalConfig,
    *,
    window: int,
    batch_tokens: int,
) -> list[Answer]:
    """Return `config.samples` answers to each item in each layout that the model supports."""
    layouts = [LEFT_TO_RIGHT, PSM] if tokenizer.infill is not None else [LEFT_TO_RIGHT]
    requests = [
        _Request(item, layout, sample) for item in items for layout in layouts for sample in range(config.samples)
    ]
    fillings = fill_gaps(
        model,
        tokenizer,
        [_make_gap(request, config.seed) for request in requests],
        window=window,
        max_new_tokens=config.max_new_tokens,
        batch_tokens=batch_tokens,
        temperature=config.temperature,
        what="answering FlyteEval",
    )
    return [
        Answer(request.item.name, request.layout, request.sample, _answer_text(request, filling.text))
        for request, filling in zip(requests, fillings, strict=True)
    ]


def write_answers(folder: Path, answers: Sequence[Answer], **facts: Any) -> None:
    """Write `answers.parquet` and seal the folder, with `facts` in its manifest."""
    write_table(folder, TABLE, answers, SCHEMA, **facts)


def read_answers(folder: Path) -> list[Answer]:
    """The answers of a sealed folder, in the order written.

    Raises:
        DataError: if the folder is unfinished or damaged.
    """
    return [Answer(**row) for row in read_table(folder, TABLE, SCHEMA.names)[0]]


def _make_gap(request: _Request, seed: int) -> Gap:
    item, layout, sample = request
    # Seeded by the answer's name, so that shards and other items do not change the sampled text.
    answer_seed = int.from_bytes(draw(seed, item.name, layout, sample)[:8], "big")
    is_filled = functools.partial(_has_end, item) if layout == LEFT_TO_RIGHT else None
    return Gap(item.prefix, item.suffix, layout, is_filled, answer_seed)


def _has_end(item: Item, text: str) -> bool:
    return find_end(item.tier, text) is not None


def _answer_text(request: _Request, written: str) -> str:
    """The part of the written text that belongs to the answer."""
    if request.layout == PSM:
        return written
    end = find_end(request.item.tier, written)
    text = written if end is None else written[:end]
    # The suffix begins at a new line, even if the model stopped before the end of one.
    return text if text.endswith("\n") or not request.item.reference.endswith("\n") else text + "\n"
