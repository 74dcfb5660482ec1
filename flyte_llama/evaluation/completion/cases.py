"""Documents → cases: the lines and spans to complete, a random sample of all that qualify, the same for every model.

    from flytekit import task    ┐
    @task                        │ prefix
    def double(n: int) -> int:   ┘
        return 2 * n               span, for the task `line`
    def triple(n: int) -> int:   ┐
        return 3 * n             ┘ suffix, which a `line` is completed without

The sample depends only on the seed and on each span's name (document and position), not on the order of documents, on
shards or on the tokenizer. Therefore lengths are limited in characters, not tokens.
"""

from __future__ import annotations

import heapq
import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from flyte_llama.config import CompletionConfig
from flyte_llama.documents import Document, DocumentId, draw
from flyte_llama.storage import read_table, write_table

LINE, SINGLE_LINE, MULTI_LINE, RANDOM_SPAN = TASKS = ("line", "single-line", "multi-line", "random-span")
TABLE = "cases.parquet"

_CHARS_PER_TOKEN = 2
"""Most tokenizers have three or more characters of code per token, so a case fits in `max_new_tokens`."""

_MIN_PREFIX = 100
"""Minimum characters before a case: with fewer there is too little context."""

_MAX_SPAN = 200
"""Maximum characters of a random span."""

_MIN_LINES, _MAX_LINES = 2, 8
"""Lines of a multi-line span."""

# str.splitlines also splits at ten other characters.
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
# A line worth asking for: it has letters, and is not a comment, which no model could predict.
_HAS_CODE = re.compile(r"\s*(?!#|//|/\*|\*|<!--|--|;)(?=[^\n]*[^\W\d_])\S[^\n]{3,}")
_SCHEMA = pa.schema(
    {
        "task": pa.string(),
        **dict.fromkeys(("repository", "url", "path", "language"), pa.string()),
        **dict.fromkeys(("start", "span_begin", "span_end"), pa.int64()),
        "text": pa.large_string(),
    }
)


@dataclass(frozen=True, slots=True)
class Case:
    """A span of a document that a model has to write."""

    task: str
    """`line`: a whole line, given the text before it. The other tasks are also given the text after the span.
    `single-line`: a line without its indentation; `multi-line`: 2 to 8 whole lines; `random-span`: any run of
    characters."""

    repository: str
    url: str
    path: str
    language: str
    start: int
    """Byte offset in the file at which the document starts."""

    span_begin: int
    span_end: int
    """The span, in characters of `text`."""

    text: str
    """The text of the whole document."""

    @property
    def document(self) -> DocumentId:
        return DocumentId(self.url, self.path, self.start)

    @property
    def prefix(self) -> str:
        """The document's text before the span."""
        return self.text[: self.span_begin]

    @property
    def wanted(self) -> str:
        """The span that the model has to write."""
        return self.text[self.span_begin : self.span_end]

    @property
    def suffix(self) -> str:
        """The document's text after the span."""
        return self.text[self.span_end :]


def choose_cases(documents: Sequence[Document], config: CompletionConfig) -> list[Case]:
    """Choose `config.lines` lines and `config.spans` spans of each kind, or all if there are fewer."""
    max_chars = _CHARS_PER_TOKEN * config.max_new_tokens
    chosen: list[Case] = []
    for task in TASKS:
        count = config.lines if task == LINE else config.spans
        drawn: Iterator[tuple[bytes, int, Case]] = (
            (_key(config.seed, task, document, index), index, _make_case(task, document, begin, end))
            for document in documents
            for index, (begin, end) in enumerate(_spans(task, document, max_chars, config.seed))
        )
        # Keys are hashes, so the smallest ones are a random sample.
        chosen += [case for _, _, case in heapq.nsmallest(count, drawn, key=lambda entry: entry[:2])] if count else []
    return chosen


def write_cases(folder: Path, cases: Sequence[Case]) -> None:
    """Write the cases to a sealed folder."""
    write_table(folder, TABLE, cases, _SCHEMA)


def read_cases(folder: Path) -> list[Case]:
    """Read the cases in a sealed folder.

    Raises:
        DataError: if the folder is unfinished or damaged, or an earlier version wrote it.
    """
    return [Case(**row) for row in read_table(folder, TABLE, _SCHEMA.names)[0]]


def _spans(task: str, document: Document, max_chars: int, seed: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of every span in the document that qualifies for the task."""
    if task == RANDOM_SPAN:
        yield from _random_spans(document, min(max_chars, _MAX_SPAN), seed)
        return
    text = document.text
    bounds = [0, *itertools.accumulate(len(line) for line in _LINE.findall(text))]
    lines = list(itertools.pairwise(bounds))
    for index, (begin, end) in enumerate(lines):
        line = text[begin:end]
        if begin < _MIN_PREFIX or not _HAS_CODE.match(line):
            continue
        if task == MULTI_LINE:
            # a random number of lines, fewer at the end of the document or if they are too long
            random_number = int.from_bytes(_key(seed, task, document, begin)[:4], "big")
            num_lines = _MIN_LINES + random_number % (_MAX_LINES - _MIN_LINES + 1)
            last = min(index + num_lines, len(lines)) - 1
            while last > index and lines[last][1] - begin > max_chars:
                last -= 1
            if last > index:
                yield begin, lines[last][1]
        else:
            # Tokenizers join indentation and the word after it, so no training text stops between them: a `line` starts
            # before its indentation.
            first = begin if task == LINE else begin + len(line) - len(line.lstrip())
            last = begin + len(line.rstrip())
            if last - first <= max_chars:
                yield first, last


def _random_spans(document: Document, max_chars: int, seed: int) -> Iterator[tuple[int, int]]:
    """Draw about one span per 1024 characters."""
    length = len(document.text)
    rng = random.Random(_key(seed, RANDOM_SPAN, document, length))  # noqa: S311  # no secret
    for _ in range(1 + length // 1024):
        if length > _MIN_PREFIX:
            begin = rng.randrange(_MIN_PREFIX, length)
            end = min(length, begin + rng.randint(1, max_chars))
            if document.text[begin:end].strip():
                yield begin, end


def _make_case(task: str, document: Document, begin: int, end: int) -> Case:
    return Case(
        task=task,
        repository=document.repository,
        url=document.url,
        path=document.path,
        language=document.language,
        start=document.start,
        span_begin=begin,
        span_end=end,
        text=document.text,
    )


def _key(seed: int, task: str, document: Document, index: int) -> bytes:
    """A hash of the seed and the name of a span, which orders the spans at random."""
    return draw(seed, task, *document.id, index)
