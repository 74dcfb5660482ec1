"""A source's files as documents with provenance, or a counted reason why not."""

from flyte_llama.documents.cache import VerdictCache
from flyte_llama.documents.count import Amount, SourceCount, total
from flyte_llama.documents.document import (
    Document,
    documents_in_batches,
    open_documents,
    read_documents,
    write_documents,
)
from flyte_llama.documents.read import Collected, collect
from flyte_llama.documents.version import rules_version

__all__ = [
    "Amount",
    "Collected",
    "Document",
    "SourceCount",
    "VerdictCache",
    "collect",
    "documents_in_batches",
    "open_documents",
    "read_documents",
    "rules_version",
    "total",
    "write_documents",
]
