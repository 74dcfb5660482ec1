"""Whether the sources of a configuration can be read here, and whether two of them are one repository.

Two URLs may be one repository only by the user's git configuration: `gh:acme/mono` and its address.
"""

from __future__ import annotations

import re

from flyte_llama.config import CorpusConfig, SourceConfig
from flyte_llama.config.repositories import split_problems
from flyte_llama.config.source_url import is_package, is_path, same_repository_key
from flyte_llama.errors import SourceError
from flyte_llama.sources import open_tree, pin, resolve_url, ssh_problems

LOCAL_TIMEOUT_S = 60
"""Seconds that git may take to read a repository on this machine."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


def source_problems(corpus: CorpusConfig, *, in_pods: bool = False) -> list[str]:
    """Return a line for each source of the corpus of which this machine, or a pod, knows that it cannot read it."""
    lists = {"train": corpus.train, "extensions": corpus.extensions, "heldout": corpus.heldout}
    return [
        problem
        for name, sources in lists.items()
        for index, source in enumerate(sources)
        for problem in one_source_problems(f"corpus.{name}[{index}]", source, in_pods=in_pods)
    ]


def hidden_split_problems(corpus: CorpusConfig) -> list[str]:
    """Return the `split_problems` that only the user's `insteadOf` shows; none if git cannot read its configuration."""
    try:
        resolved = split_problems(corpus, lambda url: same_repository_key(resolve_url(url)))
    except SourceError:
        # Each source is reported with this error already.
        return []
    known = split_problems(corpus)
    return [problem for problem in resolved if problem not in known]


def one_source_problems(key: str, source: SourceConfig, *, in_pods: bool = False) -> list[str]:
    """Return a line if the source is on this machine and cannot be read, or if ssh is needed and cannot start."""
    try:
        address = source.url if in_pods else resolve_url(source.url)
        if in_pods or not (is_package(address) or is_path(address) or address.startswith("file:")):
            return [f"{key}.url = {source.url}: {problem}" for problem in ssh_problems(address, in_pods=in_pods)]
        pinned = pin(source, timeout_s=LOCAL_TIMEOUT_S)
        # A commit is taken as it is when it is pinned, so only opening it shows whether the repository has it.
        if is_package(source.url) or (_COMMIT.fullmatch(source.ref or "") and not _is_head(source)):
            with open_tree(pinned, timeout_s=LOCAL_TIMEOUT_S):
                pass
    except SourceError as error:
        return [f"{key}.url = {error.message}"]
    except OSError as error:
        return [f"{key}.url = {source.url}: cannot be read ({error.strerror})."]
    return []


def _is_head(source: SourceConfig) -> bool:
    try:
        return pin(source.model_copy(update={"ref": None}), timeout_s=LOCAL_TIMEOUT_S).revision == source.ref
    except SourceError:
        return False
