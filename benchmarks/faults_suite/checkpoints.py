"""Damage to the checkpoints of a killed run: the next run resumes from a whole one, or says that none is left."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from faults_suite.case import Case, Job, Seen, job
from faults_suite.experiment import STEPS, Outcome, describe_end, same_as, write_config
from faults_suite.place import Place

SECTION = "Damage to checkpoints"
KILLED_AT = STEPS - STEPS // 4
"""The step after which the run is killed: the checkpoint of this step is sealed, and an earlier one is kept."""

# Part of a training state → where this package and where transformers' Trainer write it.
PARTS = {
    "the weights": ("*model_states.pt", "model.safetensors"),
    "the optimizer": ("*optim_states.pt", "optimizer.pt"),
    "the schedule": ("scheduler.pt", "scheduler.pt"),
    "the random states": ("rng_state.pth", "rng_state.pth"),
    "the step": ("trainer_state.json", "trainer_state.json"),
    "the manifest": ("manifest.json", ""),
    "the name of the state": ("latest", ""),
}
CHANGES = ("remove", "cut", "flip a bit of")


def make_killed_run(place: Place) -> None:
    """Keep the state of a run that was killed after its checkpoints, as `killed`."""
    place.empty()
    run = place.start(write_config(place, "plain"))
    run.wait_until(lambda: f"step {KILLED_AT}/{STEPS}" in run.text())
    run.kill()
    place.keep("killed")


def checkpoint_jobs(references: dict[str, Outcome]) -> list[Job]:
    reference = references["plain"]
    named = "the checkpoint is set aside by name; the earlier one gives the same figures and weights"
    jobs = [
        _job(f"{change} {part}", _damage_part(change, pattern), named, reference, says="damaged", groups=group)
        for part, (pattern, _) in PARTS.items()
        for change, group in zip(CHANGES, ((19,), (20,), (21,)), strict=True)
    ]
    again = "it is said that the run starts again; same figures and weights"
    return [
        *jobs,
        _job("empty checkpoint of a high number", _add_empty, named, reference, says="damaged", groups=(22,)),
        _job("every checkpoint cut", _damage_all, again, reference, says="starts again", groups=(23,)),
        _job("every checkpoint removed", _remove_all, "same figures and weights", reference, groups=(23,)),
        _job(
            "nothing", lambda _: None, "same figures and weights", reference, says="resuming after step", groups=(17,)
        ),
        _changed_settings_job(),
    ]


def damage_file(file: Path, change: str) -> None:
    """Damage one file of a checkpoint."""
    if change == "remove":
        file.unlink()
        return
    content = bytearray(file.read_bytes())
    if change == "cut":
        del content[len(content) * 2 // 3 :]
    else:
        content[random.Random(0).randrange(len(content) // 3, len(content))] ^= 4  # noqa: S311  # no secret
    file.write_bytes(content)


def _job(
    name: str,
    damage: Callable[[Path], None],
    expected: str,
    reference: Outcome,
    *,
    says: str = "",
    groups: tuple[int, ...] = (),
) -> Job:
    def run(place: Place) -> Seen:
        place.restore("killed")
        damage(_node_folder(place))
        ended = place.run(write_config(place, "plain"))
        same = same_as(place, ended, reference)
        said = next((line.strip() for line in ended.output.splitlines() if says and says in line), "")
        text = f"{same.text}; {said.replace(str(place.folder), '…')}" if said else same.text
        return Seen(text, same.is_expected and bool(said or not says))

    done = f"{name} in the newest checkpoint of a killed run"
    return job(Case(SECTION, name, done, expected, groups=groups), run, takes_s=20)


def _changed_settings_job() -> Job:
    def run(place: Place) -> Seen:
        place.restore("killed")
        ended = place.run(write_config(place, "other rate"))
        named = "learning_rate" in ended.output and "0.008" in ended.output
        return Seen(describe_end(ended), ended.code == 2 and named and not ended.has_traceback)

    case = Case(
        SECTION, "other settings", "another learning rate over the checkpoints of a killed run",
        "refused with the difference, exit 2", groups=(31,),
    )  # fmt: skip
    return job(case, run, takes_s=15)


def _node_folder(place: Place) -> Path:
    return next(place.output.glob("checkpoints/**/node-0"))


def _steps(node: Path) -> list[Path]:
    """The folders of sealed checkpoints, newest first."""
    return sorted(node.glob("step-*"), key=lambda folder: int(folder.name.split("-")[1]), reverse=True)


def _damage_part(change: str, pattern: str) -> Callable[[Path], None]:
    return lambda node: damage_file(next(_steps(node)[0].rglob(pattern)), change)


def _add_empty(node: Path) -> None:
    (node / "step-99").mkdir()


def _damage_all(node: Path) -> None:
    for folder in _steps(node):
        damage_file(next(folder.rglob("*model_states.pt")), "cut")


def _remove_all(node: Path) -> None:
    for folder in _steps(node):
        shutil.rmtree(folder)
