"""One source of the corpus, and the patterns that select its files."""

from __future__ import annotations

import re
from typing import Any

from pathspec import GitIgnoreSpec
from pydantic import Field, ValidationInfo, field_validator

from flyte_llama.config.source_url import check_ref, check_url, source_name
from flyte_llama.config.stage import Frozen, StageConfig


class FilePatterns(Frozen):
    """The files of a repository that two lists of patterns select, as in .gitignore."""

    paths: list[str] = Field([])
    """Patterns of the files to read; empty reads all."""

    exclude: list[str] = Field([])
    """Patterns of files that are not read, also if `paths` has them."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no pattern, so that all files are read."""
        return not self.paths and not self.exclude


class SourceConfig(StageConfig):
    """A repository or an installed package to read."""

    url: str
    """A git URL, the path of a local git repository, or `package:NAME` for an installed Python distribution."""

    ref: str | None = None
    """Branch, tag, full ref or 40-hex commit; null is the remote's HEAD. Not allowed for a package."""

    paths: list[str] = Field([])
    """Files to read, as patterns of .gitignore such as `/services/payments/`; empty reads all. Each pattern must match
    a file. A held-out source with patterns may be of a repository that is trained on: its files are then held out, and
    the others are trained on."""

    exclude: list[str] = Field([])
    """Files that are never read of this source, as patterns of .gitignore, also if `paths` has them."""

    accept_unknown_licence: bool = False
    """Also read the source, or files of it, if the licence is not recognised. Meant for code of yours, such as private
    repositories, also if its files are marked as confidential."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_secrets(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse secrets as every stage does, but leave a URL to `check_url`, which says more about it."""
        is_url = info.field_name == "url" and isinstance(value, str)
        return value if is_url else super()._refuse_secrets(value, info)

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        return check_url(url)

    @field_validator("ref")
    @classmethod
    def _ref(cls, ref: str | None) -> str | None:
        return check_ref(ref)

    @field_validator("paths", "exclude")
    @classmethod
    def _patterns(cls, patterns: list[str]) -> list[str]:
        problems = [f"contains {pattern!r}. {fix}" for pattern in patterns if (fix := _pattern_fix(pattern))]
        if not problems and patterns and all(pattern.startswith("!") for pattern in patterns):
            problems.append("has exceptions alone. Add a pattern without an exclamation mark before them")
        if problems:
            raise ValueError(". It ".join(problems))
        return patterns

    @property
    def name(self) -> str:
        """`owner/name` for a URL in any spelling, the last two folders of a path, or `package:NAME`."""
        return source_name(self.url)

    @property
    def files(self) -> FilePatterns:
        return FilePatterns(paths=self.paths, exclude=self.exclude)


def is_pattern(pattern: str) -> bool:
    """Whether git would read the line as a pattern."""
    try:
        return GitIgnoreSpec.from_lines([pattern]).patterns[0].include is not None
    except (ValueError, IndexError, re.error):
        return False


def _pattern_fix(pattern: str) -> str:
    """Return what to write instead of a pattern that can match nothing; empty for any other."""
    path = pattern.removeprefix("!").removeprefix("/")
    if path.startswith(("./", "../")) or path in (".", ".."):
        return "Write it from the top of the repository, such as /src/"
    return "" if is_pattern(pattern) else "Write a pattern as in .gitignore"
