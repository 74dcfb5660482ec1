"""The two sides of a corpus: which revision and which files of each source they read, and that they stay apart.

`pin_sources` decides what is read. `build` calls the other functions with the folders of documents that were read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from flyte_llama.config import CorpusConfig, HeldOutPart, SplitConfig
from flyte_llama.corpus.card import explain_losses
from flyte_llama.corpus.deduplication import DroppedDocument
from flyte_llama.documents import Document, SourceCount, open_documents
from flyte_llama.errors import CorpusError
from flyte_llama.progress import say, track
from flyte_llama.redaction import escape_line
from flyte_llama.sources import PinnedSource, RootCommits, pin
from flyte_llama.storage import verify


class Side(NamedTuple):
    """One side as it was read."""

    name: str
    """Its key in the configuration: `train` or `heldout`."""

    sources: list[SourceCount]
    roots: list[RootCommits]
    """One for each source."""

    documents: list[Document]
    folders: list[Path]


def pin_sources(config: CorpusConfig, *, released: str) -> list[PinnedSource]:
    """Pin every source at its current revision: first `config.train_sources`, then `config.heldout_sources`.

    A repository that is on both sides is pinned once, so that both see the same commit.

    Args:
        released: Day of the base model's release, or empty. If it is known, held-out sources are marked to be read with
            the dates of their files, so that `build_corpus` can tell which of them are newer than the model.
    """
    pinned: dict[tuple[str, str | None], PinnedSource] = {}
    sources = []
    for source, selection in zip(config.train_sources, config.select_train(), strict=True):
        pinned[source.url, source.ref] = pin(source)
        facts = {"selection": selection, "dated": bool(selection.age)}
        sources.append(pinned[source.url, source.ref].model_copy(update=facts))
    for source, selection in zip(config.heldout_sources, config.select_heldout(), strict=True):
        known = pinned.get((source.url, source.ref)) or pin(source)
        facts = {"selection": selection, "dated": bool(selection.age or released)}
        facts |= {"accept_unknown_licence": source.accept_unknown_licence}
        sources.append(known.model_copy(update=facts))
    return sources


def read_side(name: str, folders: Sequence[Path]) -> Side:
    """Read the documents and the facts of each source of one side.

    Raises:
        DataError: if a folder is damaged.
    """
    side = Side(name, [], [], [], [])
    for folder in track(folders, what=f"reading {name}", total=len(folders)):
        documents, manifest = open_documents(folder)
        side.sources.append(SourceCount.model_validate(manifest["source"]))
        side.roots.append(RootCommits.model_validate(manifest.get("roots", {})))
        side.documents.extend(documents)
        side.folders.append(folder)
    return side


def find_parts(train: Side, heldout: Side, left: Sequence[Document], names: Mapping[str, str]) -> list[HeldOutPart]:
    """Return the held-out parts of repositories that train has other files of.

    Args:
        left: The held-out documents; a source without any holds out no part.
        names: URL → the name to show.
    """
    shared = {source.url for source in train.sources} & {document.url for document in left}
    return [
        HeldOutPart(
            repository=names[source.url],
            url=source.url,
            selection=source.selection,
            committed=f"{datetime.fromtimestamp(source.committed, UTC):%Y-%m-%d}" if source.committed else "",
        )
        for source in heldout.sources
        if source.url in shared
    ]


def read_parts(heldout: Path) -> list[HeldOutPart]:
    """Return the parts that a held-out folder records: train has other files of their repositories.

    Raises:
        DataError: if the folder is damaged.
    """
    return [HeldOutPart.model_validate(part) for part in verify(heldout).get("parts", [])]


def check_histories(train: Side, heldout: Side) -> None:
    """Raise an error if a held-out source is a copy, a fork or a part of a train source, or contains one.

    That is so if the first commit of one's main line is anywhere in the other's history. A root that both only merged
    does not count: it is the history of a third repository, and its text is found as leaked text. One repository may be
    on both sides if the split separates its files.
    """
    trained_on = {(document.url, document.path) for document in train.documents}
    problems = [
        f"{document.url}: {escape_line(document.path)} is on both sides. Hold it out, or train on it."
        for document in heldout.documents
        if (document.url, document.path) in trained_on
    ][:1]
    split = {source.url for source in train.sources if source.selection.is_split}
    for held_out, roots in zip(heldout.sources, heldout.roots, strict=True):
        for source, others in zip(train.sources, train.roots, strict=True):
            if source.url == held_out.url and source.url in split:
                continue
            shared = ({roots.own} & {others.own, *others.merged}) | ({others.own} & {*roots.merged})
            problems += [
                f"corpus.heldout = {held_out.url}: shares its history with {source.url} in corpus.train, since both "
                f"contain the first commit {commit}. Hold out another repository, or take that one out of corpus.train."
                for commit in sorted(shared - {""})
            ]
    if problems:
        raise CorpusError("\n".join(problems))
    for side in (train, heldout):
        for source, roots in zip(side.sources, side.roots, strict=True):
            if roots.problem:
                say(f"{source.url}: its root commits are not compared with the other side's: {roots.problem}")


def check_losses(
    side: Side,
    split: SplitConfig,
    kept: Sequence[Document],
    dropped: Sequence[DroppedDocument],
    left: Sequence[Document],
) -> None:
    """Say where the files of each source went of which nothing is left; raise an error if that is so of all of them.

    Args:
        kept: The documents before held-out text was removed.
        left: The documents after it.
    """
    urls_left, files_left = {document.url for document in left}, {(document.url, document.path) for document in left}
    # A file that lost its last piece as a copy counts as a copy, not as held-out text.
    files_left |= {(drop.document.url, drop.document.path) for drop in dropped}
    leaked = Counter(document.url for document in kept if (document.url, document.path) not in files_left)
    if not left:
        losses = explain_losses(side.sources, dropped, num_leaked=leaked.total())
        remedy = _remedy(side, split, is_leaked=bool(leaked))
        raise CorpusError(
            f"0 {side.name} documents are left. {losses}. Add sources to corpus.{side.name}, or {remedy}."
        )
    for source in side.sources:
        if source.url not in urls_left:
            own = [drop for drop in dropped if drop.document.url == source.url]
            losses = explain_losses([source], own, num_leaked=leaked[source.url])
            say(f"{source.url}: 0 documents of corpus.{side.name} are left. {losses}")


def _remedy(side: Side, split: SplitConfig, *, is_leaked: bool) -> str:
    """Return what, besides more sources, brings documents to a side that has none left."""
    skipped = {reason for source in side.sources for reason in source.skipped}
    if split.by == "date" and "other_side" in skipped:
        is_held_out = side.name == "heldout"
        if split.after:
            return f"set corpus.split.after to {'an earlier' if is_held_out else 'a later'} day than {split.after}"
        return f"{'raise' if is_held_out else 'lower'} corpus.split.newest_days = {split.newest_days:,}"
    if is_leaked:
        what = "files" if "other_side" in skipped else "repositories"
        return f"hold out {what} that share less text with it"
    if "other_side" in skipped:
        return "hold out fewer paths of it"
    if any(source.unread for source in side.sources):
        return "name more types in corpus.documents.languages"
    return (
        f"select more files by paths in corpus.{side.name}" if "not_selected" in skipped else "loosen corpus.documents"
    )
