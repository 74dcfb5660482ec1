"""What the corpus is made of: sources, which of their files, and what is done to them."""

from __future__ import annotations

import re
from typing import Literal

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pathspec import GitIgnoreSpec
from pydantic import Field, field_validator

from flyte_llama.config.location import check_location, check_ref, contains_token, source_name
from flyte_llama.config.nearest import hint
from flyte_llama.config.stage import StageConfig


class SourceConfig(StageConfig):
    url: str
    """A git URL, the path of a local git repository, or `package:NAME`, an installed Python distribution."""

    ref: str | None = None
    """Branch, tag, full ref or 40-hex commit; null is the remote's HEAD. A package takes none: its version is it."""

    accept_unknown_licence: bool = False
    """Also read it where it states no licence that is recognised, such as your own private code."""

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        return check_location(url)

    @field_validator("ref")
    @classmethod
    def _ref(cls, ref: str | None) -> str | None:
        return check_ref(ref)

    @property
    def name(self) -> str:
        """`owner/name` of a URL, the folder's name of a path, `package:NAME`; the same for every spelling of a URL."""
        return source_name(self.url)


# SPDX ids of licences that allow copies, changes and any use, and ask for no more than a notice. Not here, for you to
# add: BSD-4-Clause, which asks for a line in advertisements, and CC-BY-4.0, which asks for credit wherever shared.
PERMISSIVE = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CNRI-Python",
    "ECL-2.0",
    "HPND",
    "ISC",
    "MIT",
    "MIT-0",
    "NCSA",
    "PostgreSQL",
    "PSF-2.0",
    "Python-2.0",
    "Python-2.0.1",
    "UPL-1.0",
    "Unlicense",
    "WTFPL",
    "X11",
    "Zlib",
]
_SPDX_LIST = "Look it up at spdx.org/licenses."

OPTED_OUT = re.compile(r"(?P<name>package:[\w.-]+|[^\s:/]+/[^\s:/]+(?<!\.git))(?::(?P<pattern>\S.*))?")


class DocumentsConfig(StageConfig):
    kinds: list[Literal["source", "test", "docs", "config"]] = Field(["source", "test", "docs", "config"], min_length=1)
    """Kinds of document to keep."""

    max_bytes: int = Field(1_000_000, ge=1)
    """Files larger than this many bytes are left out, unread; notebooks if their text without outputs is, or if they
    are twenty times as large."""

    licences: list[str] = Field(PERMISSIVE, min_length=1)
    """SPDX ids of the licences under which files may be read. A source under another one is an error; a file of it
    that states one of its own is left out."""

    opt_out: list[str] = Field([])
    """Repositories, `owner/name` in any case, and paths in them, `owner/name:pattern` as in .gitignore, that are never
    read; `package:NAME` is a repository too."""

    redact_people: bool = True
    """Replace e-mail addresses and public IP addresses by placeholders. Access tokens are always replaced."""

    @field_validator("opt_out")
    @classmethod
    def _named(cls, lines: list[str]) -> list[str]:
        for line in lines:
            if contains_token(line):
                raise ValueError("holds an access token. Remove it")
            found = OPTED_OUT.fullmatch(line)
            if not found:
                raise ValueError(f"holds {line!r}. Write owner/name, or owner/name:pattern")
            try:
                GitIgnoreSpec.from_lines([found["pattern"] or "*"])
            except (ValueError, re.error):
                raise ValueError(f"holds {line!r}, whose pattern is none of .gitignore. Write it as there") from None
        return lines

    @field_validator("licences")
    @classmethod
    def _spdx(cls, licences: list[str]) -> list[str]:
        for spdx in licences:
            try:
                known = str(canonicalize_license_expression(spdx))
            except InvalidLicenseExpression:
                known = ""
            if known != spdx or " " in spdx:
                meant = f"Did you mean {known}?" if known else hint(spdx, PERMISSIVE, otherwise=_SPDX_LIST)
                raise ValueError(f"holds {spdx!r}, which is no SPDX id. {meant} Write ids")
        return licences


class DeduplicationConfig(StageConfig):
    """Exact copies are always dropped."""

    lineage: bool = True
    """Of a repository that was merged into another one as a folder of its name, keep the newer of two files at the
    same path."""

    near: float = Field(0.7, ge=0, le=1)
    """Drop a document whose words share at least this much with one kept (Jaccard similarity of 5-grams, 0.6 or more);
    0 keeps near-duplicates."""

    @field_validator("near")
    @classmethod
    def _can_be_found(cls, near: float) -> float:
        if 0 < near < 0.6:
            raise ValueError("is below 0.6, where too many pairs are not found. Give 0.6 to 1, or 0 for none")
        return near


class LeakageConfig(StageConfig):
    """Held-out text is always removed from train."""

    num_words: int = Field(13, ge=5)
    """Train text that has this many words in a row in common with a held-out document is removed."""

    remove: Literal["spans", "documents"] = "spans"
    """`spans` removes the paragraphs that leak, `documents` the whole document."""


class CorpusConfig(StageConfig):
    train: list[SourceConfig] = Field(min_length=1)
    """Sources to learn from."""

    heldout: list[SourceConfig] = Field(min_length=1)
    """Sources to measure on; nothing of them is trained on."""

    extensions: list[SourceConfig] = Field([])
    """Community sources that use Flyte, added to `train`."""

    documents: DocumentsConfig = DocumentsConfig()
    deduplication: DeduplicationConfig = DeduplicationConfig()
    leakage: LeakageConfig = LeakageConfig()

    @property
    def train_sources(self) -> list[SourceConfig]:
        return self.train + self.extensions


class CompositionConfig(StageConfig):
    """How train documents become the texts that are learned. The switches are off until an evaluation shows a gain."""

    language_weights: dict[str, float] = Field({})
    """Language → how often its documents are taken in an epoch: 0.5 takes every second one, 2 each twice, 0 none.
    Languages that are not named have 1."""

    neighbours: bool = False
    """Join a source file and its test to one text; held-out words are not looked for across the seam."""

    path_comments: bool = False
    """Begin each text with a comment that names its repository and path."""

    seed: int = Field(0, ge=0)
    """Of the choice of documents where a weight is no whole number."""

    @field_validator("language_weights")
    @classmethod
    def _weights(cls, weights: dict[str, float]) -> dict[str, float]:
        for language, weight in weights.items():
            if contains_token(language):
                raise ValueError("holds an access token. Remove it")
            if not 0 <= weight <= 100:
                raise ValueError(f"has {language}: {weight}. Give a number from 0 to 100")
        return weights
