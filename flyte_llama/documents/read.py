"""A pinned source → its documents, and how many entries were left out for which reason.

Rules are in layers, each in a module of its own: the repository's `.gitattributes`, paths, then the text. Every entry
of the tree is counted once: documents + Σ skipped = entries.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from flyte_llama.config import DocumentsConfig
from flyte_llama.documents.cache import VerdictCache
from flyte_llama.documents.count import Amount, SourceCount, total
from flyte_llama.documents.document import Document
from flyte_llama.documents.tree_facts import TreeFacts
from flyte_llama.documents.verdict import judge
from flyte_llama.errors import SourceError
from flyte_llama.progress import track
from flyte_llama.rules import kind_of
from flyte_llama.sources import PinnedSource, Tree

FILTERS = (
    *("mode", "name", "opt_out", "attributes", "path", "type", "kind", "size"),
    *("encoding", "header", "output", "statistics", "secrets", "licence"),
)

MAX_SOURCE_CHARS = 1_000_000_000
"""Of all documents of a source; a repository of kilobytes can name one file of a megabyte a million times."""


@dataclass(frozen=True)
class Collected:
    documents: list[Document]
    """Ordered by path."""

    count: SourceCount


def collect(
    pinned: PinnedSource,
    tree: Tree,
    config: DocumentsConfig,
    *,
    cache: VerdictCache | None = None,
    first_commits: Mapping[str, int] | None = None,
) -> Collected:
    """Read a tree whole.

    Args:
        cache: Verdicts of an earlier run.
        first_commits: Path → when it was first committed, in seconds since 1970.

    Raises:
        SourceError: if the source cannot be read to its end, never fewer documents in silence; or if its licence is
            not one that the configuration allows.
    """
    cache = cache or VerdictCache(None, url=pinned.url)
    entries = sorted(tree.entries())
    facts = TreeFacts(pinned, tree, entries, config)
    committed = tree.committed
    documents: list[Document] = []
    skipped: defaultdict[str, Amount] = defaultdict(Amount)
    redacted = Counter[str]()
    kept, num_chars = Amount(), 0
    for entry in track(entries, what=f"reading {pinned.name}", total=len(entries)):
        amount = Amount(files=1, num_bytes=entry.num_bytes)
        reason = facts.entry_reason(entry)
        if reason is None:
            language = str(facts.language(entry.path))
            kind, blob_id = kind_of(entry.path, language), tree.blob_id(entry)
            switches = {"redact_people": config.redact_people, "is_written": facts.is_written(entry.path)}
            key = " ".join([blob_id, language, kind, *(name for name, on in switches.items() if on)])
            verdict = cache.get(key) or judge(tree.read(entry).data, language, kind, **switches)
            cache.put(key, verdict)
            licence = verdict.licence or facts.licence(entry.path)
            num_bytes = len(verdict.text.encode())
            reason = verdict.reason or facts.text_reason(num_bytes, licence)
        if reason is not None:
            skipped[reason] += amount
            continue
        kept += amount
        num_chars += len(verdict.text)
        if num_chars > MAX_SOURCE_CHARS:
            raise SourceError(
                f"{pinned.url}: holds more than {MAX_SOURCE_CHARS:,} characters of text, more than people write. Leave "
                "out a part by corpus.documents.opt_out."
            )
        redacted.update(verdict.redacted)
        documents.append(
            Document(
                repository=pinned.name,
                url=pinned.url,
                ref=pinned.ref,
                revision=pinned.revision,
                committed=committed,
                path=entry.path,
                blob_id=blob_id,
                start=verdict.skipped_bytes,
                end=verdict.skipped_bytes + num_bytes,
                encoding=verdict.encoding,
                language=verdict.language,
                kind=kind,
                licence=licence,
                first_commit=(first_commits or {}).get(entry.path, 0),
                filters=FILTERS,
                signature=verdict.signature,
                text=verdict.text,
            )
        )
    cache.save()
    count = SourceCount(
        repository=pinned.name,
        url=pinned.url,
        ref=pinned.ref,
        revision=pinned.revision,
        committed=committed,
        licence=facts.licences.of_folder(),
        licence_files=facts.licences.files,
        entries=total(Amount(files=1, num_bytes=entry.num_bytes) for entry in entries),
        documents=kept,
        skipped=dict(sorted(skipped.items())),
        redacted=dict(sorted(redacted.items())),
    )
    return Collected(documents, count)
