"""Cases and a model → completions: the model completes each case greedily, and its text is compared with the document.

A completion stores both texts and the comparison, so that every figure can be recomputed. Completions are counted and
shown in `report`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from flyte_llama.config import CompletionConfig
from flyte_llama.documents import DocumentId
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.evaluation.completion.cases import LINE, Case
from flyte_llama.inference import LEFT_TO_RIGHT, PSM, SPM, Filling, Gap, fill_gaps
from flyte_llama.storage import read_table, write_table

TABLE = "completions.parquet"
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("task", "layout", "repository", "url", "path", "language"), pa.string()),
        **dict.fromkeys(("start", "begin"), pa.int64()),
        **dict.fromkeys(("prefix", "suffix", "wanted", "written"), pa.string()),
        "exact": pa.bool_(),
        "similarity": pa.float64(),
        "stopped": pa.bool_(),
        "num_tokens": pa.int64(),
    }
)

# Characters of context stored with each completion, for display.
_SHOWN_BEFORE, _SHOWN_AFTER = 400, 200


@dataclass(frozen=True, slots=True)
class Completion:
    """The text that a model wrote for a case, compared with the text of the document."""

    task: str
    """As in `Case`."""

    layout: str
    """`left-to-right`, `PSM` or `SPM`."""

    repository: str
    """The name shown to people. Repositories on two hosts may share it, so look documents up by `document`."""

    url: str
    path: str
    language: str
    start: int
    """Byte offset in the file at which the document starts."""

    begin: int
    """Byte offset in the file at which `wanted` begins."""

    prefix: str
    """The last characters before `wanted`, for display."""

    suffix: str
    """The first characters after `wanted`, for display; empty if the model did not see them."""

    wanted: str
    """The document's text."""

    written: str
    """The model's text."""

    exact: bool
    """Whether both are equal, ignoring trailing whitespace."""

    similarity: float
    """0 to 1; see `edit_similarity`."""

    stopped: bool
    """Whether the model ended the text itself, not the token limit; a line also ends at a line feed."""

    num_tokens: int
    """Number of generated tokens."""

    @property
    def document(self) -> DocumentId:
        return DocumentId(self.url, self.path, self.start)


def complete_cases(
    model: Any,
    tokenizer: DocumentTokenizer,
    cases: Sequence[Case],
    config: CompletionConfig,
    *,
    window: int,
    batch_tokens: int,
) -> list[Completion]:
    """Complete lines from left to right, and spans in both infilling layouts if the tokenizer has infill tokens.

    A line ends at its line feed; a span ends when the model writes its end-of-infill token.

    Args:
        window: Maximum ids in a prompt and its completion together.
        batch_tokens: Tokens per batch; changes the figures only by rounding.
    """
    requests = [(case, gap) for case in cases for gap in _make_gaps(case, tokenizer)]
    fillings = fill_gaps(
        model,
        tokenizer,
        [gap for _, gap in requests],
        window=window,
        max_new_tokens=config.max_new_tokens,
        batch_tokens=batch_tokens,
        what="completing held-out",
    )
    return [
        _make_completion(case, gap.layout, filling) for (case, gap), filling in zip(requests, fillings, strict=True)
    ]


def edit_similarity(text: str, other: str) -> float:
    """Return 2·M / T: M characters in matching blocks (Ratcliff and Obershelp), T characters in both texts together.

    Two empty texts give 1. CodeXGLUE's edit similarity for line completion (arXiv 2102.04664) is the same figure in per
    cent: it uses fuzzywuzzy's ratio, which is the ratio of Python's difflib.
    """
    return difflib.SequenceMatcher(None, text, other, autojunk=False).ratio()


def write_completions(folder: Path, completions: Sequence[Completion], **facts: Any) -> None:
    """Write the completions to a sealed folder, with `facts` in its manifest."""
    write_table(folder, TABLE, completions, SCHEMA, **facts)


def read_completions(folder: Path) -> list[Completion]:
    """Read the completions in a sealed folder.

    Raises:
        DataError: if the folder is unfinished or damaged, or an earlier version wrote it.
    """
    return [Completion(**row) for row in read_table(folder, TABLE, SCHEMA.names)[0]]


def join_completions(parts: Sequence[Path], folder: Path) -> None:
    """Join the completions of all shards into one sealed folder, ordered by task, layout, repository and position."""
    completions = [completion for part in parts for completion in read_completions(part)]
    completions.sort(key=lambda each: (each.task, each.layout, each.repository, each.url, each.path, each.begin))
    write_completions(folder, completions)


def _make_gaps(case: Case, tokenizer: DocumentTokenizer) -> list[Gap]:
    """The gaps to fill for a case, one per layout; none for a span if the tokenizer has no infill tokens."""
    if case.task == LINE:
        # Tokenizers join a line feed with the indentation after it, so the prompt stops before the line feed, and the
        # model writes it.
        up_to_line = case.prefix.removesuffix("\n").removesuffix("\r")
        return [Gap(up_to_line, case.suffix, LEFT_TO_RIGHT, is_filled=_has_line)]
    layouts = () if tokenizer.infill is None else (PSM, SPM)
    return [Gap(case.prefix, case.suffix, layout) for layout in layouts]


def _has_line(text: str) -> bool:
    """Whether the line is complete: the first line feed ends the line before it (see `_make_gaps`)."""
    return text.count("\n") > 1


def _make_completion(case: Case, layout: str, filling: Filling) -> Completion:
    written = filling.text
    is_line = case.task == LINE
    if is_line:
        # the text between the first two line feeds
        written = written.partition("\n")[2].partition("\n")[0]
    return Completion(
        task=case.task,
        layout=layout,
        repository=case.repository,
        url=case.url,
        path=case.path,
        language=case.language,
        start=case.start,
        begin=case.start + len(case.prefix.encode()),
        prefix=case.prefix[-_SHOWN_BEFORE:],
        suffix="" if is_line else case.suffix[:_SHOWN_AFTER],
        wanted=case.wanted,
        written=written,
        exact=written.rstrip() == case.wanted.rstrip(),
        similarity=edit_similarity(written.rstrip(), case.wanted.rstrip()),
        stopped=filling.stopped,
        num_tokens=filling.num_tokens,
    )
