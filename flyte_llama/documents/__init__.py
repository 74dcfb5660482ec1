"""A source's files as documents with provenance, or a counted reason why not."""

from flyte_llama.documents.document import Document, open_documents, read_documents, write_documents
from flyte_llama.documents.read import RULES_VERSION, Collected, collect

__all__ = ["RULES_VERSION", "Collected", "Document", "collect", "open_documents", "read_documents", "write_documents"]
