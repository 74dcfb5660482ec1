"""Documents → the lines and spans to be written: drawn by chance from all that qualify, the same for every model.

What is drawn hangs on the seed and on a place's name alone, not on the order of documents, shards or the tokenizer. So
lengths are bounded in characters.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from flyte_llama.config import CompletionConfig
from flyte_llama.documents import Document
from flyte_llama.rows import read_rows, write_rows

LINE, SINGLE_LINE, MULTI_LINE, RANDOM_SPAN = TASKS = ("line", "single-line", "multi-line", "random-span")
TABLE = "cases.parquet"

_CHARS_A_TOKEN = 2
"""Code has three or more in most tokenizers, so `max_new_tokens` are enough for what is asked."""

_LEAST_BEFORE = 100
"""Characters of a document before the place: less says little."""

_LONGEST_SPAN = 200
_SEVERAL_LINES = (2, 8)
# str.splitlines would know ten other ends.
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
# A line of which a reader could write nothing, or anything: no letters, or a comment.
_TELLING = re.compile(r"\s*(?!#|//|/\*|\*|<!--|--|;)(?=[^\n]*[^\W\d_])\S[^\n]{3,}")
_SCHEMA = pa.schema(
    {
        "task": pa.string(),
        **dict.fromkeys(("repository", "url", "path", "language"), pa.string()),
        **dict.fromkeys(("start", "begin", "end"), pa.int64()),
        "text": pa.large_string(),
    }
)


@dataclass(frozen=True, slots=True)
class Case:
    task: str
    """`line`: a whole line, with all before it; `single-line`: a line behind its indentation, with what stands behind
    it too; `multi-line`: 2 to 8 whole lines; `random-span`: characters from anywhere to anywhere."""

    repository: str
    url: str
    path: str
    language: str
    start: int
    """Byte of the file at which the document begins."""

    begin: int
    end: int
    """The wanted characters of the text."""

    text: str
    """The whole document's."""


def choose_cases(documents: Sequence[Document], config: CompletionConfig) -> list[Case]:
    """`config.lines` lines, and of each kind of span `config.spans`, or all that there are."""
    most = _CHARS_A_TOKEN * config.max_new_tokens
    chosen: list[Case] = []
    for task in TASKS:
        number = config.lines if task == LINE else config.spans
        drawn: Iterator[tuple[bytes, int, Case]] = (
            (_key(config.seed, task, document, place), place, _case(task, document, begin, end))
            for document in documents
            for place, (begin, end) in enumerate(_spans(task, document, most, config.seed))
        )
        chosen += [case for _, _, case in heapq.nsmallest(number, drawn, key=lambda found: found[:2])] if number else []
    return chosen


def write_cases(folder: Path, cases: Sequence[Case]) -> None:
    write_rows(folder, TABLE, cases, _SCHEMA)


def read_cases(folder: Path) -> list[Case]:
    """Raises DataError if the folder is unfinished or damaged."""
    return [Case(**row) for row in read_rows(folder, TABLE)[0]]


def _spans(task: str, document: Document, most: int, seed: int) -> Iterator[tuple[int, int]]:
    if task == RANDOM_SPAN:
        yield from _random_spans(document, min(most, _LONGEST_SPAN), seed)
        return
    text = document.text
    bounds = [0, *itertools.accumulate(len(line) for line in _LINE.findall(text))]
    lines = list(itertools.pairwise(bounds))
    for number, (begin, end) in enumerate(lines):
        line = text[begin:end]
        if begin < _LEAST_BEFORE or not _TELLING.match(line):
            continue
        if task == MULTI_LINE:
            several = _SEVERAL_LINES[0] + int.from_bytes(_key(seed, task, document, begin)[:4], "big") % (
                _SEVERAL_LINES[1] - _SEVERAL_LINES[0] + 1
            )
            last = min(number + several, len(lines)) - 1
            while last > number and lines[last][1] - begin > most:
                last -= 1
            if last > number:
                yield begin, lines[last][1]
        else:
            # Tokenizers join indentation and word, so a prompt that ends between them is like none that was learned.
            first = begin if task == LINE else begin + len(line) - len(line.lstrip())
            last = begin + len(line.rstrip())
            if last - first <= most:
                yield first, last


def _random_spans(document: Document, most: int, seed: int) -> Iterator[tuple[int, int]]:
    """One a kilobyte."""
    length = len(document.text)
    rng = random.Random(_key(seed, RANDOM_SPAN, document, length))  # noqa: S311  # no secret
    for _ in range(1 + length // 1024):
        if length > _LEAST_BEFORE:
            begin = rng.randrange(_LEAST_BEFORE, length)
            end = min(length, begin + rng.randint(1, most))
            if document.text[begin:end].strip():
                yield begin, end


def _case(task: str, document: Document, begin: int, end: int) -> Case:
    whole = (document.repository, document.url, document.path, document.language, document.start)
    return Case(task, *whole, begin, end, document.text)


def _key(seed: int, task: str, document: Document, place: int) -> bytes:
    name = f"{seed}\0{task}\0{document.url}\0{document.path}\0{document.start}\0{place}"
    return hashlib.sha256(name.encode()).digest()
