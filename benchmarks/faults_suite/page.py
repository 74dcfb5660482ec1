"""Renders docs/faults.md: what each case did, what was expected, what was seen, and how many seconds it took."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faults_suite.case import Result


@dataclass(frozen=True)
class GroupRow:
    """A case group of the acceptance list, and what shows it."""

    number: int
    name: str
    shown_by: str
    is_shown: bool


@dataclass(frozen=True)
class StockRow:
    """A fault with the stock recipe and with this package, measured in the same run."""

    fault: str
    ours: str
    stock: str


def render_page(
    facts: str,
    results: Sequence[Result],
    groups: Sequence[GroupRow],
    stock: Mapping[str, Sequence[StockRow]],
) -> str:
    """The whole page; its last line counts."""
    lines = ["# Faults and bad inputs", "", "Written by `make faults`; do not edit. " + facts, ""]
    lines += [
        "Every case runs the commands of the package as a user does. A fault is survived if the run, or the same",
        "command started again, gives the undisturbed run's figures to nine digits and its weights to the bit, or",
        "stops with one message and exit code 2, as the case says. A bad input is refused if the command ends with",
        "exit code 2, names the input, shows no traceback, repeats no secret, and writes nothing.",
        "",
    ]
    for section, group in itertools.groupby(sorted(results, key=lambda result: result.case.section), key=_section):
        rows = list(group)
        lines += [f"## {section}", "", _counts(rows), "", *_case_table(rows), ""]
    lines += ["## The stock recipe", "", *itertools.chain.from_iterable(map(_stock_table, stock.items()))]
    lines += ["## Acceptance list", "", *_group_table(groups), "", summary(results), ""]
    return "\n".join(lines)


def summary(results: Sequence[Result]) -> str:
    """The counts, as one line: a case that did not run is not counted."""
    faults = [result.seen.is_expected for result in results if result.ran and not result.case.is_input]
    inputs = [result.seen.is_expected for result in results if result.ran and result.case.is_input]
    return f"{sum(faults)} of {len(faults)} faults survived, {sum(inputs)} of {len(inputs)} bad inputs refused"


def _section(result: Result) -> str:
    return result.case.section


def _counts(rows: Sequence[Result]) -> str:
    ran = [result for result in rows if result.ran]
    as_expected = sum(result.seen.is_expected for result in ran)
    missing = f"; {len(rows) - len(ran)} could not run here" if len(ran) < len(rows) else ""
    return f"{as_expected} of {len(ran)} as expected{missing}."


def _case_table(rows: Sequence[Result]) -> list[str]:
    lines = ["| case | done | expected | seen | time | |", "|---|---|---|---|---|---|"]
    for result in rows:
        case, mark = result.case, "not run" if not result.ran else "yes" if result.seen.is_expected else "**no**"
        cells = (case.name, case.done, case.expected, result.seen.text, f"{result.wall_s:.0f} s", mark)
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return lines


def _stock_table(table: tuple[str, Sequence[StockRow]]) -> list[str]:
    name, rows = table
    lines = [f"### {name}", "", "| fault | this package | stock recipe |", "|---|---|---|"]
    lines += ["| " + " | ".join(map(_cell, (row.fault, row.ours, row.stock))) + " |" for row in rows]
    return [*lines, ""]


def _group_table(groups: Sequence[GroupRow]) -> list[str]:
    lines = ["| group | case | shown by | |", "|---|---|---|---|"]
    for row in groups:
        cells = (str(row.number), row.name, row.shown_by, "yes" if row.is_shown else "**no**")
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return lines


def _cell(text: str) -> str:
    """Text in a cell of a table: in one line, as it is, and not too long."""
    text = re.sub(r"\s+", " ", "".join(character if character.isprintable() else " " for character in text)).strip()
    text = text if len(text) <= 240 else f"{text[:150]} … {text[-80:]}"
    # No code and no links: messages are plain text.
    plain = text.replace("`", "'").replace("](", "] (")
    return text if text == "**no**" else re.sub(r"([\\*_|<>\[\]])", r"\\\1", plain)
