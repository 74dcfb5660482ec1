"""What decides the side of a file: its repository alone or, within one, its path or the date of its first commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from flyte_llama.config.source import FilePatterns
from flyte_llama.config.stage import Frozen, StageConfig, check_day


class SplitConfig(StageConfig):
    """How the files of the train repositories are divided; held-out sources are always held out."""

    by: Literal["repository", "date"] = "repository"
    """`repository` trains on all files of `train`, but for those that a held-out source of the same repository selects.
    `date` holds out the files of `train` that were first committed after a day, and trains on the others."""

    after: str = ""
    """With `by: date`, the last day whose files are trained on, such as 2026-06-01; days are in UTC. Empty: see
    `newest_days`."""

    newest_days: int | None = Field(None, ge=1, le=36_500)
    """With `by: date` and in place of `after`, how many days before the commit that is read held-out files begin. Meant
    for schedules: each run then measures on what is newest. null: see `after`."""

    @field_validator("after", mode="before")
    @classmethod
    def _day(cls, day: Any) -> Any:
        return check_day(day, otherwise="Write a day that has files after it")

    @model_validator(mode="after")
    def _one_date(self) -> SplitConfig:
        dates = [name for name in ("after", "newest_days") if getattr(self, name)]
        if self.by == "repository" and dates:
            raise ValueError(f"has {dates[0]}, which needs by: date. Add that, or remove {dates[0]}")
        if self.by == "date" and len(dates) != 1:
            problem = "has both after and newest_days" if dates else "has no date"
            raise ValueError(f"{problem}. With by: date, set either after, such as 2026-06-01, or newest_days")
        return self


class Selection(Frozen):
    """The files of one source that are read, as far as patterns and the split decide."""

    files: FilePatterns = FilePatterns()
    """As configured."""

    held_out: FilePatterns | None = None
    """Of a train source: the files that are held out by a held-out source of the same repository, and so not read."""

    age: Literal["", "older", "newer"] = ""
    """Which files a split by date selects: `older` ones are trained on, `newer` ones are held out; empty is all."""

    after: str = ""
    newest_days: int | None = None
    """As `SplitConfig` has them; one of them is set if `age` is."""

    @property
    def is_whole(self) -> bool:
        """Whether all files are read."""
        return self == Selection()

    @property
    def is_split(self) -> bool:
        """Whether this is the train side of a repository whose other part is held out."""
        return self.held_out is not None or self.age == "older"


class HeldOutPart(Frozen):
    """A part of a repository that is held out while other files of the same repository are trained on."""

    repository: str
    """The name to show."""

    url: str
    selection: Selection

    committed: str = ""
    """Day of the commit that was read; empty before it is known."""

    @property
    def text(self) -> str:
        """The part in words, such as `/services/payments/ of acme/mono`."""
        selection, files = self.selection, self.selection.files
        paths = ", ".join(files.paths)
        without = f" without {', '.join(files.exclude)}" if files.exclude else ""
        place = f"{paths} of {self.repository}" if paths else self.repository
        if not selection.age:
            return place + without
        text = f"files {'in' if paths else 'of'} {place}{without} first committed"
        if selection.after:
            return f"{text} after {selection.after}"
        days = "day" if selection.newest_days == 1 else f"{selection.newest_days:,} days"
        return f"{text} in the {days} before its commit{f' of {self.committed}' if self.committed else ''}"


def describe_split(parts: Sequence[HeldOutPart], whole: Sequence[str]) -> str:
    """Return what is held out in words; `split by repository` without parts.

    Args:
        whole: Names of the repositories that are held out as a whole.
    """
    if not parts:
        return "split by repository"
    return f"split within repositories; held out: {'; '.join([*(part.text for part in parts), *whole])}"
