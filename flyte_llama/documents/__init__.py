"""Turn a source's files into documents with provenance, and count the files left out by reason.

    read_source(pinned, config) → documents, SourceCount     one document a file, in memory
    write_source(pinned, config, folder) → SourceCount       the same, written batch by batch
    write_documents, read_documents                          their sealed folder
    rules_version()                                          part of every cache key of documents

A file passes `filters` (its path and its tree), then `text` (its bytes), which masks secrets by `redaction`. Whatever
decides a document's text is in these two rooms, and `rules_version` changes with any line of them.
"""

from flyte_llama.documents.cache import rules_version
from flyte_llama.documents.document import (
    Amount,
    Document,
    DocumentId,
    SourceCount,
    commit_address,
    draw,
    file_address,
    largest,
    open_documents,
    read_documents,
    read_documents_in_batches,
    sum_amounts,
    write_documents,
)
from flyte_llama.documents.languages import KNOWN_LANGUAGES, comment_line
from flyte_llama.documents.left_out import LEFT_OUT_TABLE, LeftOutFile, join_left_out, largest_by_reason
from flyte_llama.documents.read import read_source, write_source

__all__ = [
    "KNOWN_LANGUAGES",
    "LEFT_OUT_TABLE",
    "Amount",
    "Document",
    "DocumentId",
    "LeftOutFile",
    "SourceCount",
    "comment_line",
    "commit_address",
    "draw",
    "file_address",
    "join_left_out",
    "largest",
    "largest_by_reason",
    "open_documents",
    "read_documents",
    "read_documents_in_batches",
    "read_source",
    "rules_version",
    "sum_amounts",
    "write_documents",
    "write_source",
]
