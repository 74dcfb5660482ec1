"""The records of the suite: a case, the job that runs cases, and what was seen of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from faults_suite.place import Place


class CannotRunError(Exception):
    """This machine cannot run the job; the reason is shown, and its cases are not counted."""


@dataclass(frozen=True)
class Case:
    """One fault, which a run survives, or one bad input, which is refused."""

    section: str
    """The table of the page that it belongs to."""

    name: str
    done: str
    expected: str
    is_input: bool = False
    groups: tuple[int, ...] = ()
    """The case groups of the acceptance list that it shows."""


@dataclass(frozen=True)
class Seen:
    """What one case showed."""

    text: str
    is_expected: bool
    ran: bool = True
    """False if the fault did not come about, as when a run was faster than the signal: the case is not counted."""


@dataclass(frozen=True)
class Job:
    """Cases that run together in one place; `run` yields what each showed, in their order."""

    cases: tuple[Case, ...]
    run: Callable[[Place], Iterable[Seen]]
    takes_s: float = 10
    """About how long it takes on a quiet machine; longer ones start first."""


@dataclass(frozen=True)
class Result:
    """A case that ran, or that could not run here."""

    case: Case
    seen: Seen
    wall_s: float

    @property
    def ran(self) -> bool:
        return self.seen.ran


def job(case: Case, run: Callable[[Place], Seen], *, takes_s: float = 10) -> Job:
    """A job with a single case."""
    return Job((case,), lambda place: [run(place)], takes_s)
