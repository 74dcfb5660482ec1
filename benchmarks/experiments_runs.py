"""The experiments of `experiments.py`, and one run of each: documents → rows → model → measurements."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments_table import BASE, FACTS, LINES
from infilling import choose_lines, measure_costs

from flyte_llama.config import (
    CompositionConfig,
    EvaluationConfig,
    FlyteEvalConfig,
    ObjectiveConfig,
    TrainingConfig,
)
from flyte_llama.config.evaluation import CompletionConfig
from flyte_llama.corpus.composition import compose
from flyte_llama.documents import read_documents
from flyte_llama.encoding import DocumentTokenizer, add_keys, write_epochs
from flyte_llama.evaluation.measure import SCORES, measure_model
from flyte_llama.evaluation.scores import read_scores, write_scores
from flyte_llama.inference.infilling import can_infill
from flyte_llama.model import open_model
from flyte_llama.plan import base_shape, choose_settings
from flyte_llama.plan.choice import describe_pair
from flyte_llama.training.devices import device_name, find_devices
from flyte_llama.training.launch import TrainingJob, launch_training

FIM = ObjectiveConfig(kind="fim", rate=0.5)
ONE_BY_ONE = CompositionConfig()
LORA = {"method": "lora", "lora": {"rank": 32, "alpha": 64}}
ANSWERS = FlyteEvalConfig(max_new_tokens=192)


@dataclass(frozen=True)
class Amounts:
    """How much of each kind is measured."""

    cases: int
    """Lines that the model completes. It infills a quarter as many spans, and half as many lines are scored, left to
    right and as infillings."""

    probe_bytes: int
    """Of general code."""

    @property
    def completion(self) -> CompletionConfig:
        return CompletionConfig(lines=self.cases, spans=self.cases // 4, max_new_tokens=48)


@dataclass(frozen=True)
class Experiment:
    """What a run changes of the reference."""

    objective: ObjectiveConfig = FIM
    training: dict[str, Any] = field(default_factory=dict)
    rate_scale: float = 1.0
    """Learning rate, as a multiple of the reference's."""

    composition: CompositionConfig = ONE_BY_ONE

    @property
    def base_name(self) -> str:
        """The folder of the base that is prepared for the objective."""
        return f"base-{self.objective.kind}"


# In the order in which they are wanted; the seeds of a group come one after the other.
GROUPS: list[dict[str, Experiment]] = [
    {
        "clm": Experiment(ObjectiveConfig(kind="clm")),
        "fim 0.5": Experiment(),
        "fim 0.9": Experiment(ObjectiveConfig(kind="fim", rate=0.9)),
    },
    {"lora, lr x 2": Experiment(training=LORA, rate_scale=2)},
    {"2 epochs": Experiment(training={"epochs": 2})},
    {
        "no whole lines": Experiment(ObjectiveConfig(kind="fim", rate=0.5, line_share=0)),
        "fim 0.9, 2 epochs": Experiment(ObjectiveConfig(kind="fim", rate=0.9), training={"epochs": 2}),
    },
    {
        "neighbours": Experiment(composition=CompositionConfig(neighbours=True)),
        "path comments": Experiment(composition=CompositionConfig(path_comments=True)),
        # About as many tokens as without: the train side has more Go than Python, the held-out side hardly any.
        "python 2, go 0.5": Experiment(composition=CompositionConfig(language_weights={"python": 2, "go": 0.5})),
    },
    {
        "full, lr x 2": Experiment(rate_scale=2),
        "lora, lr x 4": Experiment(training=LORA, rate_scale=4),
    },
    {"4 epochs": Experiment(training={"epochs": 4})},
]
EXPERIMENTS = {name: experiment for group in GROUPS for name, experiment in group.items()}


@dataclass(frozen=True)
class Run:
    """One experiment with one seed."""

    name: str
    seed: int
    work: Path
    """Holds the prepared bases, the documents and the suite, and while it runs, the rows and the model."""

    out: Path
    jobs: int
    seq_len: int
    batch: int
    learning_rate: float
    """Of the reference."""

    precision: str
    amounts: Amounts

    @property
    def folder(self) -> Path:
        return self.out / f"{self.name.replace(' ', '-')}-{self.seed}"

    @property
    def is_done(self) -> bool:
        return (self.folder / FACTS).is_file()

    @property
    def training(self) -> TrainingConfig:
        experiment = EXPERIMENTS.get(self.name, Experiment())
        settings = {
            "method": "full",
            "learning_rate": self.learning_rate * experiment.rate_scale,
            "seq_len": self.seq_len,
            "global_batch_size": self.batch,
            "precision": self.precision,
            "seed": self.seed,
            "checkpoint_every_steps": 0,
            **experiment.training,
        }
        return TrainingConfig.model_validate(settings)

    @property
    def evaluation(self) -> EvaluationConfig:
        on_cpu = find_devices(self.training, num_processes=1) is None
        return EvaluationConfig(
            window=self.seq_len,
            stride=self.seq_len // 2,
            # A small model leaves room for large batches, which the host launches less often.
            batch_tokens=16_384 if on_cpu else 131_072,
            probe_bytes=self.amounts.probe_bytes,
            completion=self.amounts.completion,
            flyte_eval=ANSWERS,
        )


def do_run(run: Run) -> None:
    """Encode, train and measure in this process and its children; log to a file beside the results."""
    begin = time.monotonic()
    log_to(run.folder / "log")
    experiment = EXPERIMENTS[run.name]
    work = run.work / run.folder.name
    shutil.rmtree(work, ignore_errors=True)
    base, objective = run.work / experiment.base_name, experiment.objective.model_copy(update={"seed": run.seed})

    texts = compose(read_documents(run.work / "train"), experiment.composition)
    tokenizer = DocumentTokenizer(base)
    write_epochs(
        work / "rows",
        add_keys(texts),
        objective,
        tokenizer,
        seq_len=run.seq_len,
        run_length=run.training.run_length,
        infill_is_new=not can_infill(base, tokenizer),
    )
    encoded = time.monotonic()
    # Runs that share a GPU must share its memory, so `auto` is decided here.
    devices = find_devices(run.training, num_processes=1)
    if devices is not None and devices.memory_bytes is not None:
        devices = replace(devices, memory_bytes=devices.memory_bytes // run.jobs)
    training = choose_settings(base_shape(base, run.training), run.training, devices).training
    job = TrainingJob(base=base, rows=work / "rows", out=work / "model", training=training)
    summary = launch_training(job, work / "training")
    trained = time.monotonic()
    measure(run, work / "model", objective)
    facts = {
        "name": run.name,
        "seed": run.seed,
        "objective": objective.model_dump(mode="json"),
        "composition": experiment.composition.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "batch": describe_pair(training),
        "device": device_name(),
        "num_steps": summary.num_steps,
        "num_tokens": summary.num_tokens,
        "train_s": summary.wall_s,
        "seconds": [encoded - begin, trained - encoded, time.monotonic() - trained],
        "train_loss": summary.losses[-1].loss,
    }
    (run.folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(work)


def measure_base(run: Run) -> None:
    """Measure the base as it is, prepared for infilling."""
    log_to(run.folder / "log")
    measure(run, run.work / Experiment().base_name, FIM)
    facts = {"name": BASE, "seed": 0, "device": device_name()}
    (run.folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def measure(run: Run, model: Path, objective: ObjectiveConfig) -> None:
    suite = run.work / "suite"
    measure_model(model, suite, run.evaluation, objective=objective, precision=run.precision, out=run.folder)
    # The nats of single tokens are most of the bytes, and no figure here needs them.
    scores, manifest = read_scores(run.folder / SCORES)
    facts = {name: fact for name, fact in manifest.items() if name not in ("files", "sha256_of_the_rest")}
    shutil.rmtree(run.folder / SCORES)
    write_scores(run.folder / SCORES, scores, **facts)
    opened, tokenizer = open_model(model, precision="fp32")
    lines = choose_lines(read_documents(run.work / "heldout"), tokenizer, run.amounts.cases // 2)
    costs = measure_costs(opened, tokenizer, lines)
    (run.folder / LINES).write_text(json.dumps(costs._asdict(), indent=1) + "\n", encoding="utf-8")


def log_to(file: Path) -> None:
    """Send all that this process and its children print to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
