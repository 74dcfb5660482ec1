"""A model's answers to items: the text it writes in place of the mask, cut where the body or definition ends.

There are two prompt layouts. `PSM`, for models with infill tokens, shows prefix and suffix, in Code Llama's order
(prefix, suffix, middle); the model itself ends the answer. `left-to-right`, for every model, shows as many whole lines
of the prefix as fit into the window. Its answer is cut at the first line that no longer belongs to the body or
definition. A line inside brackets or a triple-quoted string continues the line before it, however it is indented:

        return f(       the body of a function: an indented line
    1)                  continues that line, for its bracket is open
    x = 1               no longer belongs to the body: the answer is cut before this line

Of a part, a statement or decorator ends with its line, an argument at the comma or bracket after it, and a type also at
the colon, the equals sign or the end of its line.

Does not run the answers; `grading` does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from flyte_llama.config import FlyteEvalConfig
from flyte_llama.documents import draw
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.flyte_eval.items import Item
from flyte_llama.flyte_eval.masking import BODY
from flyte_llama.flyte_eval.parts import ARGUMENT, DECORATOR, STATEMENT, TYPE
from flyte_llama.inference import LEFT_TO_RIGHT, PSM, Gap, fill_gaps
from flyte_llama.storage import read_table, write_table

TABLE = "answers.parquet"
SCHEMA = pa.schema([("item", pa.string()), ("layout", pa.string()), ("sample", pa.int64()), ("text", pa.string())])
# A comment, the opening of a triple-quoted string, a single-quoted string, a bracket, a backslash at a line's end.
_TOKEN = re.compile(
    r"#[^\n]*|(?P<open>\"\"\"|''')|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|(?P<in>[(\[{])|(?P<out>[)\]}])"
    r"|(?P<on>\\\r?\n)"
)
_CLOSING = {quotes: re.compile(rf"(?:\\.|[^\\])*?{quotes}", re.DOTALL) for quotes in ('"""', "'''")}


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


def end_of_body(text: str) -> int | None:
    """The first character of the first code line that is not indented, or None if the body has not ended yet."""
    for start, line in _logical_lines(text):
        if start and line[0] not in " \t#\n\r)]}":
            return start
    return None


def end_of_definition(text: str) -> int | None:
    """The first character of the second top-level statement, or None if there is only one so far.

    Decorators and comments belong to the `def` below them.
    """
    begun = False
    for start, line in _logical_lines(text):
        if line[0] in " \t#\n\r)]}":
            continue
        if begun:
            return start
        begun = not line.startswith("@")
    return None


def end_of_statement(text: str) -> int | None:
    """The first character of the line after the first one with code, or None if there is none so far."""
    begun = False
    for start, line in _logical_lines(text):
        if begun:
            return start
        begun = bool(line.strip()) and not line.lstrip().startswith("#")
    return None


def end_of_argument(text: str, signs: str = ",)]}") -> int | None:
    """The first of these characters outside the brackets and texts that the argument itself opens, or None."""
    depth = position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if not depth and text[position] in signs:
            return position
        if token and token["open"]:
            closing = _CLOSING[token["open"]].match(text, token.end())
            position = closing.end() if closing else len(text)
            continue
        if token:
            depth += bool(token["in"]) - bool(token["out"])
        position = token.end() if token else position + 1
    return None


def end_of_type(text: str) -> int | None:
    """The same for a type: also the equals sign of a default, the colon of the `def`, and the end of a line."""
    return end_of_argument(text, ",)]}=:\n")


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
    return _find_end(item, text) is not None


def _answer_text(request: _Request, written: str) -> str:
    """The part of the written text that belongs to the answer."""
    if request.layout == PSM:
        return written
    end = _find_end(request.item, written)
    text = written if end is None else written[:end]
    # The suffix begins at a new line, even if the model stopped before the end of one.
    return text if text.endswith("\n") or not request.item.reference.endswith("\n") else text + "\n"


def _find_end(item: Item, text: str) -> int | None:
    return _ENDS.get(item.tier, end_of_definition)(text)


_ENDS: dict[str, Callable[[str], int | None]] = {
    BODY: end_of_body,
    STATEMENT: end_of_statement,
    DECORATOR: end_of_statement,
    ARGUMENT: end_of_argument,
    TYPE: end_of_type,
}
"""Tier → what finds the end of an answer; a whole definition has its own."""


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Start and text of each line, joined with the lines that continue it; the last one may be incomplete."""
    start = depth = 0
    position = 0
    while start < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end + 1
        inside = ""
        while position < end:
            token = _TOKEN.search(text, position, end)
            if not token:
                position = end
                break
            position = token.end()
            if token["in"]:
                depth += 1
            elif token["out"]:
                depth = max(0, depth - 1)
            elif token["on"]:
                end = text.find("\n", position) + 1 or len(text)
            elif token["open"]:
                closing = _CLOSING[token["open"]].match(text, position)
                if not closing:
                    inside, position = token["open"], len(text)
                    break
                position = closing.end()
                end = max(end, text.find("\n", position) + 1 or len(text))
        if not depth or inside:
            yield start, text[start:end]
            start = position
        elif position >= len(text):
            yield start, text[start:]
            return
