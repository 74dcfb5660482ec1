"""The results of a whole run of the suite, as JSON: what was not as expected can be run again after a fix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from faults_suite.case import Case, Job, Result, Seen


@dataclass(frozen=True)
class Run:
    """A whole run."""

    seed: int
    """Of random moments and damages."""

    wall_s: float
    results: list[Result]
    num_again: int = 0
    """Cases that were run again since."""

    def jobs_again(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs with a case that was not as expected."""
        names = {_name(result.case) for result in self.results if not result.seen.is_expected}
        return [job for job in jobs if names & {_name(case) for case in job.cases}]

    def with_results(self, results: Sequence[Result], wall_s: float) -> Run:
        """The run with newer results of some of its cases, which took so many seconds more."""
        newer = {_name(result.case): result for result in results}
        merged = [newer.get(_name(result.case), result) for result in self.results]
        return Run(self.seed, self.wall_s + wall_s, merged, self.num_again + len(newer))


def write_run(path: Path, run: Run) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(run), indent=1) + "\n", encoding="utf-8")


def read_run(path: Path) -> Run:
    fields = json.loads(path.read_text(encoding="utf-8"))
    results = [
        Result(Case(**{**one["case"], "groups": tuple(one["case"]["groups"])}), Seen(**one["seen"]), one["wall_s"])
        for one in fields.pop("results")
    ]
    return Run(results=results, **fields)


def _name(case: Case) -> tuple[str, str]:
    return case.section, case.name
