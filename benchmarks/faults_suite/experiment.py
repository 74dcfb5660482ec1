"""The experiment of the suite, its undisturbed runs, and the comparison of a disturbed run with them."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from faults_suite.case import Seen
from faults_suite.place import Ended, Place

STEPS, LOG_EVERY, CHECKPOINT_EVERY = 80, 10, 20
TRAINS = "tokens/s"
"""Is printed only by a run that trains."""

_TRAINING = {
    "method": "full",
    "seq_len": 128,
    "max_steps": STEPS,
    "learning_rate": 1e-2,
    "global_batch_size": 4,
    "micro_batch_size": 4,
    "precision": "fp32",
    "activation_checkpointing": False,
    "checkpoint_every_steps": CHECKPOINT_EVERY,
    "log_every_steps": LOG_EVERY,
    "deepspeed": {"zero_stage": 2},
}
_EVALUATION = {
    "window": 128,
    "stride": 64,
    "batch_tokens": 4096,
    "general": [{"url": "package:click"}],
    "probe_bytes": 20_000,
    "completion": {"lines": 4, "spans": 0, "max_new_tokens": 8},
    "flyte_eval": {"source": "none"},
    "published": "none",
}
# Name → the changes of the plain experiment. Each makes other stages read what the plain run has stored.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "other stride": {"evaluation.stride": 32},
    "other rate": {"training.learning_rate": 8e-3},
    "FlyteEval": {"evaluation.flyte_eval": {"source": "heldout", "tasks": 1, "max_new_tokens": 16}},
}
# The parts of a report that the data decides, without times, dates and paths of this machine.
_FIGURES = ("heldout", "general", "memorisation", "positions", "completions", "flyte_eval", "corpus")
# A point of the curve has the mean loss since the point before, which an interrupted run has elsewhere.
_CURVE = ("step", "learning_rate", "grad_norm", "num_tokens")


@dataclass(frozen=True)
class Outcome:
    """What a finished run gave: every figure to nine digits, and the digest of its weights."""

    figures: Mapping[str, Any]
    weights: str

    def difference(self, reference: Outcome) -> str:
        """The first difference from a reference, or an empty text."""
        for key in sorted(reference.figures.keys() | self.figures.keys()):
            ours, theirs = self.figures.get(key), reference.figures.get(key)
            if ours != theirs:
                return f"{key} is {ours}, not {theirs}"
        return "" if self.weights == reference.weights else "the weights differ"


def configuration(sources: Path, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The plain experiment on these sources, with changes as `training.seq_len` → value."""
    config: dict[str, Any] = {
        "corpus": {
            "train": [{"url": str(sources / "train-a")}, {"url": str(sources / "train-b")}],
            "heldout": [{"url": str(sources / "heldout")}],
        },
        "model": {
            "name": "scratch",
            "scratch": {
                "vocab_size": 512,
                "hidden_size": 48,
                "num_layers": 2,
                "num_heads": 4,
                "intermediate_size": 128,
                "max_positions": 128,
            },
        },
        "training": copy.deepcopy(_TRAINING),
        "evaluation": copy.deepcopy(_EVALUATION),
    }
    for key, value in (changes or {}).items():
        *stages, name = key.split(".")
        inner = config
        for stage in stages:
            inner = inner.setdefault(stage, {})
        inner[name] = value
    return config


def write_config(place: Place, name: str, changes: Mapping[str, Any] | None = None) -> Path:
    """Write a variant of the experiment, with further changes, and return its path."""
    path = place.folder / "configs" / f"{name.replace(' ', '_')}.yaml"
    path.parent.mkdir(exist_ok=True)
    content = configuration(place.sources, VARIANTS.get(name, {}) | dict(changes or {}))
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def outcome_of(place: Place, ended: Ended) -> Outcome:
    """The outcome of a run that ended well.

    Raises:
        ValueError: if the run did not print where its model and report lie.
    """
    model = re.search(r"^model: +(\S.*)$", ended.output, re.MULTILINE)
    report = next((path for name in ("latest/", "") if (path := place.output / f"{name}report.json").is_file()), None)
    if model is None or report is None:
        raise ValueError("the run printed no model, or wrote no report")
    content = json.loads(report.read_text(encoding="utf-8"))
    figures = {key: value for part in _FIGURES for key, value in _flatten(part, content[part])}
    for point in content["training"]["losses"]:
        # An interrupted run logs the step after which it stops too.
        if point["step"] == 1 or point["step"] % LOG_EVERY == 0:
            figures |= {f"training.{point['step']}.{name}": _rounded(point[name]) for name in _CURVE}
    weights = hashlib.sha256()
    for file in sorted(Path(model[1]).glob("*.safetensors")):
        weights.update(file.read_bytes())
    return Outcome(figures, weights.hexdigest())


def same_as(place: Place, ended: Ended, reference: Outcome) -> Seen:
    """Whether a run ended well with the reference's outcome."""
    if ended.code != 0:
        return Seen(describe_end(ended), False)
    difference = outcome_of(place, ended).difference(reference)
    return Seen(f"exit 0, but {difference}" if difference else "same figures and weights", not difference)


def same_or_refused(place: Place, ended: Ended, reference: Outcome) -> Seen:
    """Whether a run gave the reference's outcome, or ended with exit code 2 and a message that names the damage."""
    if ended.code == 0:
        return same_as(place, ended, reference)
    named = str(place.output) in ended.last_words
    return Seen(describe_end(ended), ended.code == 2 and named and not ended.has_traceback)


def describe_end(ended: Ended) -> str:
    """The exit code and the last line of a run that did not end well."""
    traceback = ", with a traceback" if ended.has_traceback else ""
    return f"exit {ended.code}{traceback}: {ended.last_words}"


def run_undisturbed(place: Place, name: str) -> Outcome:
    """Run a variant of the experiment on what the place has, and return its outcome.

    Raises:
        SystemExit: if it fails: then there is nothing to compare with.
    """
    ended = place.run(write_config(place, name))
    if ended.code != 0:
        raise SystemExit(f"the undisturbed run ({name}) failed, so no case can run:\n{ended.output[-3000:]}")
    return outcome_of(place, ended)


def _flatten(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value inside nested mappings and lists but URLs, under a key such as `heldout.overall.num_bytes`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield key, _rounded(value)
        return
    for name, inner in items:
        # A source may be read from a copy in another folder.
        if name != "url":
            yield from _flatten(f"{key}.{name}", inner)


def _rounded(value: Any) -> Any:
    return float(f"{value:.9g}") if isinstance(value, float) else value
