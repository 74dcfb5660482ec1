"""The grammar of schedules: five-field cron as Flyte's scheduler reads it (github.com/unionai/cron, `ParseStandard`).

It is stricter than other crons and than flytekit, which takes what the scheduler then refuses: the days of the week are
0 to 6 and Sunday is 0 only, and there is no L, W or #.
"""

from __future__ import annotations

import re

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, start=1)}),
    ("day of the week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Days of each month in a leap year."""


def check_cron(text: str) -> str:
    """Return the schedule with single blanks between its fields.

    Raises:
        ValueError: if Flyte's scheduler would refuse it, or if it names no day that exists.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        names = ", ".join(name for name, *_ in _FIELDS)
        raise ValueError(f"does not have five fields ({names}). Write it like 0 6 * * 1")
    values = [
        _field_values(field, name, low, high, names)
        for field, (name, low, high, names) in zip(fields, _FIELDS, strict=True)
    ]
    _, _, days, months, _ = values
    # With a restricted day of the week, either of the two days is enough; with * the day of the month decides.
    any_weekday = any(re.fullmatch(r"[*?](/1)?", part) for part in fields[4].split(","))
    if any_weekday and not any(min(days) <= _LONGEST[month - 1] for month in months):
        raise ValueError(f"never comes: no such month has a day {min(days)}. Name a day that exists")
    _check_with_flytekit(" ".join(fields))
    return " ".join(fields)


def _check_with_flytekit(text: str) -> None:
    """Raise ValueError if flytekit, which checks a schedule with another reader before it is sent, refuses it."""
    from flytekit import CronSchedule

    try:
        CronSchedule(schedule=text)
    except ValueError:
        raise ValueError("is not a schedule that flytekit reads. Write it like 0 6 * * 1") from None


def _field_values(field: str, name: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    """Return the numbers that a field names, such as {0, 20, 40} for */20 minutes."""
    values: set[int] = set()
    for part in field.split(","):
        match = re.fullmatch(r"(?:[*?]|(\w+)(?:-(\w+))?)(?:/(\d+))?", part, re.ASCII)
        first, last, step = match.groups() if match else (None, None, None)
        numbers = [names.get(text.lower(), text) for text in (first, last) if text]
        if not match or any(not str(number).isdigit() for number in numbers):
            also = f" or {next(iter(names))} to {list(names)[-1]}" if names else ""
            raise ValueError(
                f"the {name} {part!r} is not one that Flyte's scheduler reads. Use numbers from {low} to {high}{also}, "
                "with * , - and / only"
            )
        start = int(numbers[0]) if numbers else low
        # N/step means from N to the end
        end = int(numbers[1]) if last else start if first and not step else high
        if not low <= start <= end <= high or (step and not int(step)):
            fix = "Sunday is 0" if high == 6 and "7" in part else "Write the smaller number first, and a step from 1"
            raise ValueError(f"the {name} {part!r} is no part of {low} to {high}. {fix}")
        values |= set(range(start, end + 1, int(step or 1)))
    return values
