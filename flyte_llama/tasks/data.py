"""From sources to packed rows. Imports no torch."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from flytekit import Cache, Deck, FlyteDirectory, task

from flyte_llama.composition import ORIGINS_TABLE, compose, write_origins
from flyte_llama.config import CompositionConfig, CorpusConfig, DocumentsConfig, ModelConfig, ObjectiveConfig
from flyte_llama.corpus import CorpusCard
from flyte_llama.corpus import build_corpus as build
from flyte_llama.documents import VerdictCache, collect, read_documents, rules_version, write_documents
from flyte_llama.model import PinnedModel
from flyte_llama.model import pin_model as pin_one_model
from flyte_llama.model import prepare_base as prepare
from flyte_llama.objective import keyed
from flyte_llama.packing import write_epochs
from flyte_llama.report import dataset_page
from flyte_llama.sources import PinnedSource, first_commits, open_tree, pin
from flyte_llama.tasks.resources import (
    CORPUS,
    GIT_ENVIRONMENT,
    GIT_SECRETS,
    HUB_SECRETS,
    READER,
    SMALL,
    Folder,
    finished,
    kept_between_runs,
    local,
    new_folder,
    retried,
)
from flyte_llama.tokens import DocumentTokenizer


class Corpus(NamedTuple):
    train: Folder
    heldout: Folder
    card: CorpusCard


@task(**SMALL, retries=3, secret_requests=GIT_SECRETS, environment=GIT_ENVIRONMENT)
def pin_sources(corpus: CorpusConfig, released: str) -> list[PinnedSource]:
    """Every source at the revision it has now, held-out last. Never cached: it asks each remote.

    With a day on which the base model was released, held-out sources are to be read with the dates of their files.
    """
    with retried():
        train = [pin(source) for source in corpus.train_sources]
        return train + [pin(source).model_copy(update={"dated": bool(released)}) for source in corpus.heldout]


@task(**SMALL, retries=3, secret_requests=HUB_SECRETS)
def pin_model(model: ModelConfig) -> PinnedModel:
    """The base model at the commit it has now. Never cached: it may ask the hub."""
    with retried():
        return pin_one_model(model)


@task(
    **READER,
    retries=3,
    secret_requests=GIT_SECRETS,
    environment=GIT_ENVIRONMENT,
    cache=Cache(version=rules_version(), serialize=True),
)
def read_source(source: PinnedSource, documents: DocumentsConfig) -> Folder:
    """One source's documents; mapped, one pod a source."""
    with retried(), kept_between_runs(source.url) as kept:
        dates = first_commits(source) if source.dated else {}
        cache = VerdictCache(kept, url=source.url)
        with open_tree(source) as tree:
            collected = collect(source, tree, documents, cache=cache, first_commits=dates)
    folder = new_folder("documents")
    write_documents(folder, collected.documents, source=collected.count.model_dump())
    return finished(folder)


@task(**CORPUS, retries=1, enable_deck=True, cache=Cache(version="2", serialize=True))
def build_corpus(
    sources: list[PinnedSource], documents: list[FlyteDirectory], corpus: CorpusConfig, released: str
) -> Corpus:
    """Both sides of the split. `sources` and `documents` are in the order of the configuration, held-out last."""
    train, heldout = new_folder("train"), new_folder("heldout")
    heldout_urls = [source.url for source in sources[len(corpus.train_sources) :]]
    folders = [local(folder) for folder in documents]
    day = date.fromisoformat(released) if released else None
    card = build(folders, heldout_urls, corpus, released=day, train=train, heldout=heldout)
    Deck("Dataset", dataset_page(card))
    return Corpus(finished(train), finished(heldout), card)


@task(
    **CORPUS,
    retries=3,
    secret_requests=HUB_SECRETS,
    cache=Cache(version="2", serialize=True),
)
def prepare_base(
    pinned: PinnedModel,
    model: ModelConfig,
    objective: ObjectiveConfig,
    train: FlyteDirectory,
    seq_len: int,
    window: int,
) -> Folder:
    """The base's config and tokenizer, with the control tokens that the objective needs; a scratch model's weights."""
    folder = new_folder("base")
    texts = [document.text for document in read_documents(local(train))] if model.is_scratch else []
    with retried():
        prepare(pinned, model, texts, longest_input=max(seq_len, window), folder=folder, objective=objective)
    return finished(folder)


@task(**CORPUS, retries=1, cache=Cache(version="3", serialize=True))
def encode(
    train: FlyteDirectory,
    base: FlyteDirectory,
    composition: CompositionConfig,
    objective: ObjectiveConfig,
    seq_len: int,
    epochs: float,
    max_steps: int,
    global_batch_size: int,
) -> Folder:
    """Train documents as packed rows of `seq_len` ids of the base's tokenizer, as many as training will read."""
    folder = new_folder("rows")
    tokenizer = DocumentTokenizer(local(base))
    texts = compose(read_documents(local(train)), composition)
    beside = {ORIGINS_TABLE: write_origins(folder, texts)}
    write_epochs(
        folder,
        keyed(texts),
        objective,
        tokenizer,
        seq_len=seq_len,
        epochs=epochs,
        max_steps=max_steps,
        global_batch_size=global_batch_size,
        beside=beside,
    )
    return finished(folder)
