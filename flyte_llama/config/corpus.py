"""The corpus: its sources, the files to read from them, and how their text is cleaned and combined.

Without `corpus`, an experiment uses Flyte's nine repositories.
"""

from __future__ import annotations

import re
from typing import Literal

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import Field, ValidationInfo, field_validator, model_validator

from flyte_llama.config.source import SourceConfig, is_pattern
from flyte_llama.config.split import HeldOutPart, Selection, SplitConfig
from flyte_llama.config.stage import MAX_SEED, StageConfig, hint

# SPDX ids of licences that allow copying, changing and any use, and require no more than a notice. Left out, for you to
# add: BSD-4-Clause, which requires a line in advertisements, and CC-BY-4.0, which requires credit in every copy.
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

OPT_OUT_LINE = re.compile(r"(?P<name>package:[\w.-]+|[^\s:/]+/[^\s:/]+(?<!\.git))(?::(?P<pattern>\S.*))?")


class DocumentsConfig(StageConfig):
    """The files of a source to keep as documents."""

    kinds: list[Literal["source", "test", "docs", "config"]] = Field(["source", "test", "docs", "config"], min_length=1)
    """Kinds of document to keep."""

    max_bytes: int = Field(1_000_000, ge=1, le=100_000_000)
    """Files larger than this many bytes are skipped without being read. A notebook is skipped if its text without
    outputs is larger, or if the whole file is twenty times as large."""

    licences: list[str] = Field(PERMISSIVE, min_length=1)
    """SPDX ids of the licences under which files may be read. A source under another licence is an error; a file or a
    folder that states another licence, or one that is not recognised, is skipped."""

    opt_out: list[str] = Field([])
    """Repositories and paths that are never read: `owner/name` in any case, or `owner/name:pattern` with a pattern of
    .gitignore. `package:NAME` also counts as a repository."""

    languages: dict[str, str] = Field(default_factory=dict)
    """Suffix, such as `.abap`, or file name → language, for files that are not read otherwise, or as another language.
    docs/your-repositories.md lists what is read without it."""

    redact_people: bool = True
    """Replace e-mail addresses and public IP addresses with placeholders. Access tokens are always replaced."""

    @field_validator("opt_out")
    @classmethod
    def _opt_out_lines(cls, lines: list[str]) -> list[str]:
        problems = []
        for line in lines:
            match = OPT_OUT_LINE.fullmatch(line)
            if not match:
                problems.append(f"contains {line!r}. Write owner/name, or owner/name:pattern")
                continue
            if not is_pattern(match["pattern"] or "*"):
                problems.append(f"contains {line!r}. Write the pattern as in .gitignore")
        if problems:
            raise ValueError(". It ".join(problems))
        return lines

    @field_validator("languages")
    @classmethod
    def _languages_of_files(cls, languages: dict[str, str]) -> dict[str, str]:
        for file, language in languages.items():
            if "/" in file or not file.strip("."):
                raise ValueError(f"has the key {file!r}. Write a suffix, such as .abap, or the name of a file")
            if not re.fullmatch(r"[a-z][a-z0-9+#.-]{0,30}", language):
                raise ValueError(f"has the language {language!r}. Write it in lower case, without blanks")
        return {file.lower(): language for file, language in languages.items()}

    @field_validator("licences")
    @classmethod
    def _spdx(cls, licences: list[str]) -> list[str]:
        problems = []
        for spdx in licences:
            try:
                known = str(canonicalize_license_expression(spdx))
            except InvalidLicenseExpression:
                known = ""
            if " " in known:
                problems.append(f"contains {spdx!r}, which joins several SPDX ids. List each of them by itself.")
            elif known != spdx:
                suggestion = f"Did you mean {known}?" if known else hint(spdx, PERMISSIVE, otherwise=_SPDX_LIST)
                problems.append(f"contains {spdx!r}, which is not an SPDX id. {suggestion}")
        if problems:
            raise ValueError(f"{' It '.join(problems)} List SPDX ids")
        return licences


class DeduplicationConfig(StageConfig):
    """The copies to drop besides exact ones, which are always dropped."""

    lineage: bool = True
    """If a repository was merged into another as a folder with its name, keep only the newer of two files at the same
    path."""

    near: float = Field(0.7, ge=0, le=1)
    """Drop a document if it is at least this similar to a kept one (Jaccard similarity of 5-grams of words, 0.6 to 1);
    0 keeps near-duplicates."""

    @field_validator("near")
    @classmethod
    def _can_be_detected(cls, near: float) -> float:
        if 0 < near < 0.6:
            raise ValueError(
                "is below 0.6, where too many pairs are missed. Use 0.6 to 1, or 0 to keep near-duplicates"
            )
        return near


class LeakageConfig(StageConfig):
    """How to remove held-out text from the train documents, which is always done."""

    num_words: int = Field(13, ge=5, le=10_000)
    """Remove train text that shares this many words in a row with a held-out document."""

    remove: Literal["spans", "documents"] = "spans"
    """`spans` removes only the paragraphs that leak, `documents` the whole document."""


_FLYTE = "https://github.com/flyteorg/"
_FLYTE_TRAIN = [
    # `main` is Flyte 2; `master` is Flyte 1, to which flytekit 1.16 belongs.
    SourceConfig(url=_FLYTE + "flyte", ref="master"),
    SourceConfig(url=_FLYTE + "flytekit"),
    SourceConfig(url=_FLYTE + "flytepropeller"),
    SourceConfig(url=_FLYTE + "flyteplugins"),
    SourceConfig(url=_FLYTE + "flyteidl"),
    SourceConfig(url=_FLYTE + "flyteadmin"),
    SourceConfig(url=_FLYTE + "flyteconsole"),
]
_FLYTE_HELDOUT = [
    SourceConfig(url=_FLYTE + "flytesnacks"),
    # Has a licence (Apache-2.0) for only some of the talks.
    SourceConfig(url=_FLYTE + "flyte-conference-talks", accept_unknown_licence=True),
]


class CorpusConfig(StageConfig):
    """The sources of both sides, and the rules that turn them into documents.

    `train` and `heldout` default to Flyte's nine repositories, and are given together or not at all. A split by date
    needs no `heldout`.
    """

    split: SplitConfig = SplitConfig()
    """What is held out of the train repositories; by default nothing but what `heldout` selects."""

    train: list[SourceConfig] = Field(_FLYTE_TRAIN, min_length=1)
    """Sources to train on. The default is flyte (Flyte 1), flytekit, flytepropeller, flyteplugins, flyteidl, flyteadmin
    and flyteconsole."""

    heldout: list[SourceConfig] = Field(default_factory=lambda valid: _default_heldout(valid.get("split")))
    """Sources to measure on; never trained on. The default is flytesnacks and flyte-conference-talks, or nothing
    further if the train sources are split by date."""

    extensions: list[SourceConfig] = Field([])
    """Further sources to train on, such as community code that uses Flyte. Added to `train`, also to its default; a
    split by date trains on all of their files."""

    documents: DocumentsConfig = DocumentsConfig()
    deduplication: DeduplicationConfig = DeduplicationConfig()
    leakage: LeakageConfig = LeakageConfig()

    @field_validator("heldout")
    @classmethod
    def _some_held_out(cls, heldout: list[SourceConfig], info: ValidationInfo) -> list[SourceConfig]:
        split = info.data.get("split")
        if not heldout and split is not None and split.by != "date":
            raise ValueError("should have at least one item, unless corpus.split is by date")
        return heldout

    @model_validator(mode="after")
    def _both_sides_or_none(self) -> CorpusConfig:
        """Reject one side alone: the user hardly means Flyte's repositories, the default, to be the other."""
        given = self.model_fields_set & {"train", "heldout"}
        if given == {"train"} and self.split.by != "date":
            raise ValueError(
                "lists train but not heldout. Add heldout, or leave both out to use Flyte's nine repositories. To hold "
                "out a part of a train repository, list it in heldout with paths, or set split: {by: date, after: …}"
            )
        if given == {"heldout"}:
            raise ValueError(
                "lists heldout but not train. Add train, or leave both out to use Flyte's nine repositories"
            )
        return self

    @property
    def train_sources(self) -> list[SourceConfig]:
        return self.train + self.extensions

    @property
    def heldout_sources(self) -> list[SourceConfig]:
        """The sources that are read for the held-out side: those of a split by date, then those of `heldout`."""
        return (self.train if self.split.by == "date" else []) + self.heldout

    def select_train(self) -> list[Selection]:
        """Return which files of each of `train_sources` are read."""
        held_out = {source.url: source.files for source in self.heldout}
        selections = [Selection(files=source.files, held_out=held_out.get(source.url)) for source in self.train_sources]
        if self.split.by != "date":
            return selections
        older = [self._dated(selection, "older") for selection in selections[: len(self.train)]]
        return older + selections[len(self.train) :]

    def select_heldout(self) -> list[Selection]:
        """Return which files of each of `heldout_sources` are read."""
        selections = [Selection(files=source.files) for source in self.heldout_sources]
        num_split = len(selections) - len(self.heldout)
        return [self._dated(selection, "newer") for selection in selections[:num_split]] + selections[num_split:]

    @property
    def held_out_parts(self) -> list[HeldOutPart]:
        """The held-out parts of repositories that train has other files of."""
        trained_on = {source.url for source in self.train_sources}
        return [
            HeldOutPart(repository=source.name, url=source.url, selection=selection)
            for source, selection in zip(self.heldout_sources, self.select_heldout(), strict=True)
            if source.url in trained_on
        ]

    def _dated(self, selection: Selection, age: Literal["older", "newer"]) -> Selection:
        split = {"age": age, "after": self.split.after, "newest_days": self.split.newest_days}
        return selection.model_copy(update=split)


def _default_heldout(split: SplitConfig | None) -> list[SourceConfig]:
    return [] if split is not None and split.by == "date" else _FLYTE_HELDOUT


class CompositionConfig(StageConfig):
    """How train documents become training texts. Each switch stays off by default until an evaluation shows a gain."""

    language_weights: dict[str, float] = Field({})
    """Language → how often each of its documents is used in an epoch: 2 is twice, 0 is never, 0.5 uses about half of
    them, chosen by `seed`. Languages that are not listed have 1."""

    neighbours: bool = False
    """Join a source file and its test into one text. Leaks are not searched for across the seam."""

    path_comments: bool = False
    """Begin each text with a comment that names its repository and path."""

    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Seed of the choice of documents for weights that are not whole numbers."""

    @field_validator("language_weights")
    @classmethod
    def _weights(cls, weights: dict[str, float]) -> dict[str, float]:
        wrong = [f"{language}: {weight}" for language, weight in weights.items() if not 0 <= weight <= 100]
        if wrong:
            raise ValueError(f"has {', '.join(wrong)}. Use numbers from 0 to 100")
        return weights
