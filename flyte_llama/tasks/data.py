"""The tasks from sources to packed rows. Does not import torch.

No task reads its input `generation`: it is part of the cache's key, see `cache`.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import NamedTuple

from flytekit import Cache, Deck, FlyteDirectory, task

from flyte_llama.config import (
    CompositionConfig,
    CorpusConfig,
    DocumentsConfig,
    ModelConfig,
    ObjectiveConfig,
    RunLength,
    TrainingConfig,
)
from flyte_llama.corpus import CorpusCard, read_sample
from flyte_llama.corpus import build_corpus as build
from flyte_llama.corpus import pin_sources as pin_all_sources
from flyte_llama.corpus.composition import ORIGINS_TABLE, compose_with_validation, write_origins
from flyte_llama.documents import read_documents, read_documents_in_batches, rules_version, write_source
from flyte_llama.encoding import VALIDATION_TABLE, DocumentTokenizer, add_keys, write_epochs, write_validation
from flyte_llama.inference.infilling import can_infill
from flyte_llama.model import PinnedModel
from flyte_llama.model import pin_model as pin_one_model
from flyte_llama.model import prepare_base as prepare
from flyte_llama.report import dataset_page
from flyte_llama.sources import PinnedSource
from flyte_llama.tasks.cache import CACHE, Hashed, settings_hash
from flyte_llama.tasks.folders import (
    Folder,
    download,
    local_output,
    new_folder,
    open_cache_folder,
    retry_network_errors,
    upload,
)
from flyte_llama.tasks.resources import CORPUS, GIT_SECRETS, HUB_SECRETS, READER, SMALL


class Corpus(NamedTuple):
    train: Folder
    heldout: Folder
    card: CorpusCard


@task(**SMALL, retries=3, secret_requests=GIT_SECRETS)
def pin_sources(corpus: CorpusConfig, released: str) -> list[Hashed[PinnedSource]]:
    """Every source at its current revision, held-out sources last. Never cached: it asks each remote."""
    with retry_network_errors():
        return pin_all_sources(corpus, released=released)


@task(**SMALL, retries=3, secret_requests=HUB_SECRETS)
def pin_model(model: ModelConfig) -> Hashed[PinnedModel]:
    """The base model at its current commit. Never cached: it may ask the hub."""
    with retry_network_errors():
        return pin_one_model(model)


@task(
    **READER,
    retries=3,
    secret_requests=GIT_SECRETS,
    cache=Cache(version=rules_version(), serialize=True),
)
def read_source(source: PinnedSource, documents: DocumentsConfig, generation: str) -> Folder:
    """The documents of one source. A map task: one pod per source. A local run reads only sources that changed."""
    is_local = local_output() is not None
    key = (rules_version(), settings_hash(source), settings_hash(documents), generation)
    known = CACHE.find_folder("read_source", *key) if is_local else None
    if known is not None:
        return upload(known)
    folder = new_folder("documents")
    with retry_network_errors(), open_cache_folder(source.cache_name) as cache_folder:
        write_source(source, documents, folder, cache_folder=cache_folder)
    made = upload(folder)
    if is_local:
        CACHE.note_folder("read_source", *key, folder=Path(made.path))
    return made


@task(**CORPUS, retries=1, enable_deck=True, deck_fields=(), cache=Cache(version="4", serialize=True))
def build_corpus(
    documents: list[FlyteDirectory],
    corpus: CorpusConfig,
    released: str,
    generation: str,
) -> Corpus:
    """Both sides of the split. `documents` has the order of `pin_sources`."""
    train, heldout = new_folder("train"), new_folder("heldout")
    num_train = len(corpus.train_sources)
    with retry_network_errors():
        folders = [download(folder) for folder in documents]
    release_date = date.fromisoformat(released) if released else None
    card = build(folders[:num_train], folders[num_train:], corpus, released=release_date, train=train, heldout=heldout)
    Deck("Dataset", dataset_page(card, read_sample(train, heldout)))
    return Corpus(upload(train), upload(heldout), card)


@task(
    **CORPUS,
    retries=3,
    secret_requests=HUB_SECRETS,
    cache=Cache(version="5", serialize=True),
)
def prepare_base(
    pinned: PinnedModel,
    model: ModelConfig,
    objective: ObjectiveConfig,
    training: TrainingConfig,
    train: FlyteDirectory,
    window: int,
    generation: str,
) -> Folder:
    """The base's config and tokenizer with the objective's control tokens; for a scratch model, its weights too."""
    folder = new_folder("base")
    with retry_network_errors():
        batches = read_documents_in_batches(download(train)) if model.is_scratch else []
        texts = (document.text for batch in batches for document in batch)
        prepare(
            pinned,
            model,
            texts,
            longest_input=max(training.seq_len, window),
            folder=folder,
            objective=objective,
            training=training,
        )
    return upload(folder)


@task(**CORPUS, retries=1, cache=Cache(version="4", serialize=True))
def encode(
    train: FlyteDirectory,
    base: FlyteDirectory,
    composition: CompositionConfig,
    objective: ObjectiveConfig,
    validation_share: float,
    seq_len: int,
    epochs: float,
    max_steps: int,
    global_batch_size: int,
    generation: str,
) -> Folder:
    """The train documents as packed rows of `seq_len` ids from the base's tokenizer, as many as training will read.

    The documents of the validation part are in rows of their own.
    """
    folder = new_folder("rows")
    with retry_network_errors():
        base_folder, train_folder = download(base), download(train)
    tokenizer = DocumentTokenizer(base_folder)
    texts, validation_texts = compose_with_validation(
        read_documents(train_folder), composition, validation_share=validation_share
    )
    other_tables = {ORIGINS_TABLE: write_origins(folder, texts)}
    if validation_texts:
        other_tables[VALIDATION_TABLE] = write_validation(
            folder, add_keys(validation_texts), objective, tokenizer, seq_len=seq_len
        )
    write_epochs(
        folder,
        add_keys(texts),
        objective,
        tokenizer,
        seq_len=seq_len,
        run_length=RunLength(epochs=epochs, max_steps=max_steps, global_batch_size=global_batch_size),
        infill_is_new=not can_infill(base_folder, tokenizer),
        other_tables=other_tables,
    )
    return upload(folder)
