"""From sources to packed rows. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple

from flytekit import Cache, FlyteDirectory, task

from flyte_llama.config import CorpusConfig, DocumentsConfig, ModelConfig, ObjectiveConfig
from flyte_llama.corpus import CorpusCard
from flyte_llama.corpus import build_corpus as build
from flyte_llama.documents import RULES_VERSION, collect, read_documents, write_documents
from flyte_llama.model import PinnedModel
from flyte_llama.model import pin_model as pin_one_model
from flyte_llama.model import prepare_base as prepare
from flyte_llama.packing import pack, write_rows
from flyte_llama.sources import PinnedSource, pin
from flyte_llama.tasks.resources import (
    CORPUS,
    HUB_SECRETS,
    READER,
    SMALL,
    Folder,
    finished,
    local,
    new_folder,
    retried,
)
from flyte_llama.tokens import DocumentTokenizer


class Corpus(NamedTuple):
    train: Folder
    heldout: Folder
    card: CorpusCard


@task(**SMALL, retries=3)
def pin_sources(corpus: CorpusConfig) -> list[PinnedSource]:
    """Every source at the revision it has now. Never cached: it asks each remote."""
    with retried():
        return [pin(source) for source in corpus.train_sources + corpus.heldout]


@task(**SMALL, retries=3, secret_requests=HUB_SECRETS)
def pin_model(model: ModelConfig) -> PinnedModel:
    """The base model at the commit it has now. Never cached: it may ask the hub."""
    with retried():
        return pin_one_model(model)


@task(**READER, retries=3, cache=Cache(version=RULES_VERSION, serialize=True))
def read_source(source: PinnedSource, documents: DocumentsConfig) -> Folder:
    """One source's documents; mapped, one pod a source."""
    with retried():
        collected = collect(source, documents)
    folder = new_folder("documents")
    counts = {"num_entries": collected.num_entries, "skipped": collected.skipped}
    provenance = {"repository": source.name, "url": source.url, "revision": source.revision}
    write_documents(folder, collected.documents, source=provenance | counts)
    return finished(folder)


@task(**CORPUS, retries=1, cache=Cache(version="1", serialize=True))
def build_corpus(sources: list[PinnedSource], documents: list[FlyteDirectory], corpus: CorpusConfig) -> Corpus:
    """Both sides of the split. `sources` and `documents` are in the order of the configuration, held-out last."""
    train, heldout = new_folder("train"), new_folder("heldout")
    heldout_urls = [source.url for source in sources[len(corpus.train_sources) :]]
    card = build([local(folder) for folder in documents], heldout_urls, train=train, heldout=heldout)
    return Corpus(finished(train), finished(heldout), card)


@task(
    **CORPUS,
    retries=3,
    secret_requests=HUB_SECRETS,
    cache=Cache(version="1", serialize=True),
)
def prepare_base(pinned: PinnedModel, model: ModelConfig, train: FlyteDirectory, seq_len: int, window: int) -> Folder:
    """The base's config and tokenizer, and a scratch model's weights."""
    folder = new_folder("base")
    texts = [document.text for document in read_documents(local(train))] if model.is_scratch else []
    with retried():
        prepare(pinned, model, texts, longest_input=max(seq_len, window), folder=folder)
    return finished(folder)


@task(**CORPUS, retries=1, cache=Cache(version="1", serialize=True))
def encode(
    train: FlyteDirectory, base: FlyteDirectory, objective: ObjectiveConfig, seq_len: int, min_rows: int
) -> Folder:
    """Train documents as packed rows of `seq_len` ids of the base's tokenizer, enough for one optimizer step."""
    folder = new_folder("rows")
    tokenizer = DocumentTokenizer(local(base))
    ids = tokenizer.training_ids([document.text for document in read_documents(local(train))])
    rows = pack(ids, seq_len=seq_len, pad_id=tokenizer.eos_id)
    facts = {"objective": objective.kind, "tokenizer_sha256": tokenizer.sha256}
    write_rows(folder, rows, seq_len=seq_len, min_rows=min_rows, **facts)
    return finished(folder)
