"""The page of the fault suite counts what its tables show, and leaves nothing of the acceptance list out."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs/faults.md").read_text(encoding="utf-8")
CASES, GROUPS = PAGE.split("## The stock recipe")[0], PAGE.split("## Acceptance list")[1]


def last_cells(text: str) -> list[str]:
    """The last cell of each row of the tables."""
    rows = re.findall(r"^\|(?! case | group |---).*\|$", text, re.MULTILINE)
    return [row.strip("|").rsplit("|", 1)[-1].strip() for row in rows]


def test_the_last_line_counts_the_rows():
    survived, faults, refused, inputs = map(int, re.findall(r"\d+", PAGE.splitlines()[-1]))
    cells = last_cells(CASES)
    assert survived + refused == cells.count("yes")
    assert faults + inputs == len(cells) - cells.count("not run")


def test_every_case_went_as_expected():
    assert set(last_cells(CASES)) <= {"yes", "not run"}


def test_all_48_groups_of_the_acceptance_list_are_shown():
    assert last_cells(GROUPS) == ["yes"] * 48
