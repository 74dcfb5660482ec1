"""Checkouts and output folders in unusual places, two of one user, broken neighbours, and `make run`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from faults_suite.case import Case, Job, Seen, job
from faults_suite.experiment import TRAINS, Outcome, describe_end, same_as, write_config
from faults_suite.place import BIN, ROOT, Ended, Place

SECTION = "Checkouts"
_SAME = "same figures and weights"


def checkout_jobs(references: dict[str, Outcome]) -> list[Job]:
    reference = references["plain"]

    def case(name: str, done: str, expected: str, run: Callable[[Place, Outcome], Seen]) -> Job:
        return job(Case(SECTION, name, done, expected), lambda place: run(place, reference), takes_s=35)

    return [
        case("blanks, é and 世", "the code and its output in folders with such names", _SAME, _run_in_unusual_path),
        case(
            "two of one user", "two outputs, one HOME; one is removed, the other runs again", _SAME, _run_two_checkouts
        ),
        case(
            "output moved", "the output folder is moved, and the same command runs there", _SAME, _run_in_moved_output
        ),
        case(
            "broken neighbour",
            "two configurations in configs are broken; another one runs",
            "same figures and weights; a line names the broken ones",
            _run_beside_broken,
        ),
        case("make run", "make run twice, with the output in another place", "the second does not train", _run_make),
    ]


def _run_in_unusual_path(place: Place, reference: Outcome) -> Seen:
    place.empty()
    checkout = _copy_checkout(place.folder / "a checkout é 世")
    output = checkout / "out put é"
    config = write_config(place, "plain")
    ended = place.run(config, cwd=checkout, PYTHONPATH=str(checkout), FLYTE_LLAMA_OUTPUT=str(output))
    return same_as(place, _bring(place, output, ended), reference)


def _run_two_checkouts(place: Place, reference: Outcome) -> Seen:
    place.empty()
    config = write_config(place, "plain")
    first, second = place.folder / "first/output", place.folder / "second/output"
    for output in (first, second):
        shutil.rmtree(output.parent, ignore_errors=True)
        place.run(config, FLYTE_LLAMA_OUTPUT=str(output))
    shutil.rmtree(second)
    ended = place.run(config, FLYTE_LLAMA_OUTPUT=str(first))
    if str(second) in ended.output:
        return Seen("a path of the other output was printed", False)
    trained_again = TRAINS in ended.output
    same = same_as(place, _bring(place, first, ended), reference)
    return Seen("the first trained again" if trained_again else same.text, same.is_expected and not trained_again)


def _run_in_moved_output(place: Place, reference: Outcome) -> Seen:
    place.restore("plain")
    moved = place.folder / "moved"
    shutil.rmtree(moved, ignore_errors=True)
    place.output.rename(moved)
    ended = place.run(write_config(place, "plain"), FLYTE_LLAMA_OUTPUT=str(moved))
    return same_as(place, _bring(place, moved, ended), reference)


def _run_beside_broken(place: Place, reference: Outcome) -> Seen:
    place.empty()
    checkout = _copy_checkout(place.folder / "checkout")
    (checkout / "configs/broken.yaml").write_text("corpus: [\n")
    (checkout / "configs/unfinished.yaml").write_text("training: {lerning_rate: 1}\n")
    ended = place.run(write_config(place, "plain"), cwd=checkout, PYTHONPATH=str(checkout))
    named = all(name in ended.output for name in ("broken.yaml", "unfinished.yaml"))
    same = same_as(place, ended, reference)
    return Seen(same.text if named else "the broken ones are not named", same.is_expected and named)


def _run_make(place: Place, reference: Outcome) -> Seen:
    """`make run` twice; `--old-file` keeps it from installing packages."""
    place.empty()
    config = write_config(place, "plain")
    command = ["make", "--old-file=.venv/.installed", f"BIN={BIN}", "run", f"CONFIG={config}"]
    first, second = place.start_command(command).wait(), place.start_command(command).wait()
    same = same_as(place, second, reference)
    if first.code != 0 or TRAINS in second.output:
        return Seen(describe_end(first) if first.code else "the second trained again", False)
    return Seen(f"{same.text} after {second.wall_s:.0f} s", same.is_expected)


def _bring(place: Place, output: Path, ended: Ended) -> Ended:
    """Move an output folder to where the place has it, also in what the run printed."""
    shutil.rmtree(place.output, ignore_errors=True)
    if output.exists():
        output.rename(place.output)
    return replace(ended, output=ended.output.replace(str(output), str(place.output)))


def _copy_checkout(target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    for name in ("flyte_llama", "configs"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    return target
