"""Small but real fixtures: git repositories, documents, and a tiny Llama in the hub's format."""

from __future__ import annotations

import os
import random
import subprocess
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from flyte_llama.config import ModelConfig, ObjectiveConfig
from flyte_llama.config.model import ScratchConfig
from flyte_llama.documents import Amount, Document, SourceCount
from flyte_llama.documents.ngrams import signature
from flyte_llama.encoding.packing import Row
from flyte_llama.encoding.rows import RowsWriter
from flyte_llama.sources.entry import git_blob_id

# With models of a few thousand weights, several threads are slower than one, and tests run side by side. Torch reads
# this when it is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

MakeRepo = Callable[..., Path]

TEXTS = [
    "def add(a: int, b: int) -> int:\n    return a + b\n",
    "from flytekit import task\n\n\n@task\ndef double(n: int) -> int:\n    return 2 * n\n",
    "# Flyte\n\nA workflow is made of tasks; it says </s> and <s> in plain text.\n",
    'package main\n\nfunc main() {\n\tprintln("grüße, 世界 🦙")\n}\n',
]


@pytest.fixture(autouse=True)
def _without_git_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hide the user's git configuration from the tests."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


def git(repo: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *arguments], cwd=repo, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def make_repo(tmp_path: Path) -> MakeRepo:
    """Return a function that makes a repository of text or binary files, with one commit on `main`."""

    def make(name: str, files: dict[str, str | bytes]) -> Path:
        repo = tmp_path / "remotes" / name
        repo.mkdir(parents=True)
        git(repo, "init", "-q", "-b", "main")
        commit_files(repo, files)
        return repo

    return make


def commit_files(repo: Path, files: dict[str, str | bytes]) -> str:
    for path, content in files.items():
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_bytes(content.encode() if isinstance(content, str) else content)
    git(repo, "add", "-A", "-f")
    git(repo, "commit", "-q", "--allow-empty", "-m", "files")
    return git(repo, "rev-parse", "HEAD")


def peak_bytes(run: Callable[[], object]) -> int:
    """The most memory that Python objects and arrays take at once while `run` runs, beyond what they take before."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def document(
    text: str,
    *,
    url: str = "https://example.com/o/r",
    path: str = "a.py",
    language: str = "python",
    kind: str = "source",
    committed: int = 0,
    first_commit: int = 0,
) -> Document:
    return Document(
        repository=url.removeprefix("https://example.com/"),
        url=url,
        ref="refs/heads/main",
        revision="0" * 40,
        committed=committed,
        path=path,
        blob_id=git_blob_id(text.encode()),
        start=0,
        end=len(text.encode()),
        encoding="utf-8",
        language=language,
        kind=kind,
        licence="Apache-2.0",
        first_commit=first_commit,
        filters=("mode", "name"),
        signature=signature(text),
        text=text,
    )


def source_count(documents: Sequence[Document], **changes: Any) -> SourceCount:
    """The counts of one source that kept all its files."""
    first = documents[0]
    total = Amount(files=len(documents), num_bytes=sum(document.num_bytes for document in documents))
    facts = {
        "repository": first.repository,
        "url": first.url,
        "ref": first.ref,
        "revision": first.revision,
        "committed": first.committed,
        "licence": "Apache-2.0",
        "licence_files": ["LICENSE"],
        "entries": total,
        "documents": total,
        "skipped": {},
        "unread": {},
        "not_permitted": {},
        "redacted": {},
    }
    return SourceCount(**(facts | changes))


def words_of(num_words: int, *, seed: int = 0, vocabulary: int = 100_000) -> list[str]:
    """Random words that almost never repeat, so that two texts made of them share nothing by chance."""
    rng = random.Random(seed)  # noqa: S311  # no secret
    return [f"w{rng.randrange(vocabulary)}" for _ in range(num_words)]


def lines_of(words: Sequence[str], *, a_line: int = 8) -> str:
    return "".join(" ".join(words[start : start + a_line]) + "\n" for start in range(0, len(words), a_line))


CODE_LLAMA_7B = {
    "model_type": "llama",
    "vocab_size": 32016,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "max_position_embeddings": 16384,
}
"""The part of its config.json that a plan uses."""

TINY = ModelConfig(
    name="scratch",
    scratch=ScratchConfig(
        vocab_size=400, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, max_positions=256
    ),
)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scratch Llama and its tokenizer, as `prepare_base` makes them."""
    from flyte_llama.model import pin_model, prepare_base

    folder = tmp_path_factory.mktemp("tiny") / "base"
    prepare_base(pin_model(TINY), TINY, TEXTS * 20, longest_input=256, folder=folder)
    return folder


ALL_KINDS = ObjectiveConfig(kind="mixture", mixture={"clm": 1, "fim": 1, "causal_masked": 1, "mlm": 1})


@pytest.fixture(scope="session")
def all_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like `tiny_base`, with every control token that an objective may need."""
    from flyte_llama.model import pin_model, prepare_base

    folder = tmp_path_factory.mktemp("all") / "base"
    prepare_base(pin_model(TINY), TINY, TEXTS * 20, longest_input=256, folder=folder, objective=ALL_KINDS)
    return folder


def write_rows(folder: Path, epochs: Iterable[Iterable[Row]], *, seq_len: int, **options: Any) -> None:
    """Write rows that are already packed; `options` as for `RowsWriter`."""
    with RowsWriter(folder, seq_len=seq_len, **options) as writer:
        for rows in epochs:
            writer.write_epoch(rows)
