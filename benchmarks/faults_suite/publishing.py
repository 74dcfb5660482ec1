"""Publishing to a hub that refuses, breaks off, or stores other bytes. A small server on this machine plays the hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from faults_suite.case import Case, Job, Seen, job
from faults_suite.experiment import TRAINS, Outcome, describe_end, outcome_of, write_config
from faults_suite.place import Ended, Place
from flyte_llama.errors import DataError
from flyte_llama.storage import verify
from tests.report.hub import ACCOUNT, Tree

SECTION = "Publishing"
REPOSITORY = "o/model"
PUBLISH = {
    "publish.repository": REPOSITORY,
    "publish.accept_few_repositories": True,
    # The plain experiment measures too little general code for an interval.
    "publish.forgetting_budget": None,
}
"""The changes that make an experiment publish its model."""


def publishing_jobs(references: dict[str, Outcome]) -> list[Job]:
    reference = references["plain"]
    elsewhere = {"publish.repository": "stranger/model"}
    return [
        _refused("token that the hub does not know", lambda place: place.hub.accounts.clear(), "token"),
        _refused("token that may only read", _make_reader, "write|permission"),
        _refused("repository of another owner", lambda _: None, "stranger|organi", elsewhere),
        _refused("repository that holds another model", _hold_another, "evaluation.published"),
        _refused("hub that is down", lambda place: setattr(place.hub, "is_down", True), "hub|reach"),
        _stored("hub that stores a flipped bit", _flip_stored),
        _stored("hub that cuts the weights", _cut_stored),
        _stored("hub that loses a file", _lose_stored),
        _stored("hub that adds weights", _add_stored),
        _whole_job(reference),
        _again_job(reference),
        _worse_job(),
    ]


def published_weights(place: Place) -> set[str]:
    """The digests of the weights in every commit of every repository of the hub."""
    trees = [tree for repository in place.hub.repositories.values() for tree in repository.commits.values()]
    return {_digest(tree) for tree in trees if _weights(tree)}


def _weights(tree: Mapping[str, bytes]) -> list[str]:
    return sorted(name for name in tree if name.endswith((".safetensors", ".bin", ".pt")))


def _digest(tree: Mapping[str, bytes]) -> str:
    """As `experiment.outcome_of` digests the weights of a folder."""
    digest = hashlib.sha256()
    for name in _weights(tree):
        digest.update(tree[name])
    return digest.hexdigest()


def _refused(name: str, prepare: Callable[[Place], Any], named: str, changes: dict[str, Any] | None = None) -> Job:
    """A run whose publication the hub would refuse, on an empty output: nothing may be trained."""

    def run(place: Place) -> Seen:
        place.empty()
        prepare(place)
        ended = place.run(write_config(place, "plain", PUBLISH | (changes or {})))
        trained = TRAINS in ended.output
        is_named = re.search(named, ended.output, re.IGNORECASE) is not None
        is_refused = ended.code == 2 and is_named and not ended.has_traceback and not trained
        return Seen(describe_end(ended) + ("; it had trained" if trained else ""), is_refused)

    expected = "refused before anything is trained, exit 2"
    return job(Case(SECTION, name, f"a run that publishes, with a {name}", expected, True, (47,)), run)


def _stored(name: str, damage: Callable[[Tree], None]) -> Job:
    """A publication that the hub stores wrongly."""

    def run(place: Place) -> Seen:
        place.restore("plain")
        place.hub.damage = damage
        ended = place.run(write_config(place, "plain", PUBLISH))
        named = "does not hold the model" in ended.output
        return Seen(describe_end(ended), ended.code == 2 and named and not ended.has_traceback)

    return job(Case(SECTION, name, f"a finished run publishes to a {name}", "one message that says so, exit 2"), run)


def _whole_job(reference: Outcome) -> Job:
    def run(place: Place) -> Seen:
        place.restore("plain")
        ended = place.run(write_config(place, "plain", PUBLISH))
        if ended.code != 0:
            return Seen(describe_end(ended), False)
        problem = _folder_problem(place, ended, reference)
        return Seen(problem or f"{len(place.hub.repositories[REPOSITORY].files)} files, all as sealed", not problem)

    case = Case(
        SECTION,
        "whole publication",
        "a finished run publishes",
        "the hub holds what the manifest names; the sealed folder is as before",
    )
    return job(case, run)


def _folder_problem(place: Place, ended: Ended, reference: Outcome) -> str:
    """What is wrong with the sealed folder, or with what the hub holds of it."""
    folder = place.data("model")[-1]
    try:
        files = verify(folder, strict=True)["files"]
    except DataError as error:
        return error.message
    held = place.hub.repositories[REPOSITORY].files
    for name, sealed in files.items():
        if name in held and hashlib.sha256(held[name]).hexdigest() != sealed["sha256"]:
            return f"{name} on the hub differs from the sealed one"
    difference = outcome_of(place, ended).difference(reference)
    if difference or published_weights(place) != {reference.weights}:
        return difference or "other weights were published"
    return "" if set(held) <= {*files, "README.md", ".gitattributes"} else "the hub holds files that are not sealed"


def _again_job(reference: Outcome) -> Job:
    def run(place: Place) -> Seen:
        place.restore("plain")
        place.hub.damage = _flip_stored
        config = write_config(place, "plain", PUBLISH)
        first = place.run(config)
        place.hub.damage = lambda _: None
        place.hub.repositories.clear()
        last = place.run(config)
        published = published_weights(place) == {reference.weights}
        text = f"{describe_end(first)}; then {'published the same weights' if published else describe_end(last)}"
        return Seen(text, first.code == 2 and last.code == 0 and published)

    case = Case(
        SECTION,
        "started again after a broken publication",
        "the hub stores a flipped bit; the repository is deleted, as the message says",
        "the same command publishes, without training",
    )
    return job(case, run, takes_s=20)


def _worse_job() -> Job:
    def run(place: Place) -> Seen:
        place.restore("plain")
        changes = {"training.learning_rate": 1e-12, "training.max_steps": 2}
        ended = place.run(write_config(place, "plain", PUBLISH | changes))
        said = next((line for line in ended.output.splitlines() if "not published" in line), "")
        return Seen(said or describe_end(ended), bool(said) and ended.code == 0 and not published_weights(place))

    case = Case(
        SECTION,
        "model that is not better",
        "a learning rate of 1e-12 for two steps, and a repository",
        "nothing is published, and the reason is said",
    )
    return job(case, run, takes_s=25)


def _make_reader(place: Place) -> None:
    account = {**ACCOUNT, "auth": {"accessToken": {"role": "read"}}}
    place.hub.accounts = dict.fromkeys(place.hub.accounts, account)
    place.hub.writable.clear()


def _hold_another(place: Place) -> None:
    place.hub.add(REPOSITORY, {"model.safetensors": b"another model", "config.json": b"{}"})


def _flip_stored(tree: Tree) -> None:
    for name in _weights(tree):
        content = bytearray(tree[name])
        content[len(content) // 2] ^= 1
        tree[name] = bytes(content)


def _cut_stored(tree: Tree) -> None:
    for name in _weights(tree):
        tree[name] = tree[name][:-1]


def _lose_stored(tree: Tree) -> None:
    tree.pop("tokenizer.json", None)


def _add_stored(tree: Tree) -> None:
    tree["pytorch_model.bin"] = b"a pickle"
