"""Licence files, package metadata, annotations and headers → what they state, and whether that is allowed.

    headers, words, names    the head of a file: tags, and notices in words
    files, texts             licence files: their names, and whole texts
    reuse                    annotations from outside
    tree                     the statement that governs a file
    spdx                     expressions, and the allow-list

Pure functions; no legal advice. What is not recognised falls to the strict side: it is a statement of its own.
"""

from flyte_llama.documents.licences.files import resolve_link
from flyte_llama.documents.licences.headers import header_statement
from flyte_llama.documents.licences.spdx import is_permissive
from flyte_llama.documents.licences.statement import NOTHING, Statement
from flyte_llama.documents.licences.tree import Licences, decides_licence

__all__ = [
    "NOTHING",
    "Licences",
    "Statement",
    "decides_licence",
    "header_statement",
    "is_permissive",
    "resolve_link",
]
