"""Finished runs, made without training: sealed documents and measurements, a report, a configuration and a record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flyte_llama.config import ExperimentConfig
from flyte_llama.corpus import CorpusCard
from flyte_llama.corpus.card import count_leakage, count_side, name_sources
from flyte_llama.corpus.leakage import remove_leaks
from flyte_llama.documents import Document, SourceCount, write_documents
from flyte_llama.evaluation.completion import Completion, write_completions
from flyte_llama.evaluation.scores import DocumentScore, write_scores
from flyte_llama.flyte_eval import Grade, write_grades
from flyte_llama.model import PinnedModel
from flyte_llama.report import EvaluationReport, MeasuredModel, make_report, write_files
from flyte_llama.workspace import finish_run
from tests.conftest import document, source_count
from tests.report.test_report import PROTOCOL, TRAINING, score
from tests.report.test_writing import completion, grade

TRAIN_URL = "https://example.com/o/train"
HELDOUT_URLS = [f"https://example.com/o/{name}" for name in ("one", "two", "three")]
TRAIN = [document(f"train = {n}\n" * 20, url=TRAIN_URL, path=f"{n}.py") for n in range(4)]
HELDOUT = [document(f"held_out = {n}\n" * 20, url=url, path=f"{n}.py") for url in HELDOUT_URLS for n in range(4)]
"""Twelve documents of three repositories: enough for both intervals."""


def config(**changes: Any) -> ExperimentConfig:
    """Return a configuration of the sources above; `changes` replace whole stages."""
    stages = {
        "corpus": {"train": [{"url": TRAIN_URL}], "heldout": [{"url": url} for url in HELDOUT_URLS]},
        "evaluation": {"flyte_eval": {"source": "small"}},
    }
    return ExperimentConfig.model_validate(stages | changes)


def card(train: Sequence[Document], heldout: Sequence[Document]) -> CorpusCard:
    """Return the card of a corpus that dropped nothing."""
    sources = [_sources(side) for side in (train, heldout)]
    names = name_sources([*sources[0], *sources[1]])
    sides = [
        count_side(of_side, side, [], side, names=names, left_out={})
        for of_side, side in zip(sources, (train, heldout), strict=True)
    ]
    cleaned = remove_leaks(train, heldout, n=13, remove="spans")
    leakage = count_leakage(13, train, cleaned, residual_words=0, freshness=["unknown"] * len(heldout))
    return CorpusCard(train=sides[0], heldout=sides[1], leakage=leakage)


def heldout_scores(documents: Sequence[Document], bits: float) -> list[DocumentScore]:
    """Return scores of about so many bits per byte; each document differs a little, the same for every model."""
    return [
        score(
            document.num_bytes * (bits + n % 4 / 10) * 0.6931,
            repository=document.repository,
            url=document.url,
            path=document.path,
            num_bytes=document.num_bytes,
            near_copies=n,
        )
        for n, document in enumerate(documents)
    ]


def write_measurements(
    folder: Path,
    identity: str,
    scores: Sequence[DocumentScore],
    *,
    completions: Sequence[Completion] = (),
    grades: Sequence[Grade] = (),
    **protocol: Any,
) -> None:
    write_scores(folder / "scores", scores, **{**PROTOCOL, "model_identity": identity, **protocol})
    write_completions(folder / "completions", completions)
    write_grades(folder / "grades", grades)


def make_run(
    output: Path,
    name: str,
    *,
    day: int = 1,
    bits: float = 2.0,
    train: Sequence[Document] = TRAIN,
    heldout: Sequence[Document] = HELDOUT,
    experiment: ExperimentConfig | None = None,
    passed: Sequence[str] = (),
    items: Sequence[str] = "abc",
    similarities: Sequence[float] = (0.2, 0.4, 1.0),
    scores: Sequence[DocumentScore] | None = None,
    **protocol: Any,
) -> Path:
    """Make the run `runs/NAME`, and return its folder.

    Args:
        day: The day of November on which it finished.
        bits: Bits per byte of its fine-tuned model; the base has 4.
        passed: Those of the `items` of FlyteEval that its model passed.
        similarities: Of its completions with the documents' text.
        scores: The fine-tuned model's; the default are of all held-out documents.
    """
    tuned = PinnedModel(name=f"/models/{name}", revision=f"sha256:{name}")
    base = PinnedModel(name="o/base", revision="c" * 40)
    data = {part: output / "data" / f"{part}-{name}" for part in ("base_scores", "tuned_scores", "train", "heldout")}
    (output / "data" / f"model-{name}").mkdir(parents=True)
    (output / "data" / f"model-{name}" / "weights").write_bytes(b"x" * 2048)
    own = heldout_scores(heldout, bits) if scores is None else list(scores)
    rows = [completion(n, similarity, written=f"{similarity}") for n, similarity in enumerate(similarities)]
    grades = [grade(item, item in passed) for item in items]
    before = [score_of_base(each) for each in own]
    write_measurements(data["base_scores"], base.identity, before, completions=rows, grades=grades, **protocol)
    write_measurements(data["tuned_scores"], tuned.identity, own, completions=rows, grades=grades, **protocol)
    for part, documents in (("train", train), ("heldout", heldout)):
        write_documents(data[part], documents)
    models = [
        MeasuredModel("base", base, data["base_scores"]),
        MeasuredModel("fine-tuned", tuned, data["tuned_scores"]),
    ]
    corpus = card(train, heldout)
    folder = output / "runs" / name
    folder.mkdir(parents=True)
    write_files(folder, make_report(models, corpus=corpus, training=TRAINING), experiment or config(), corpus)
    parts = {part: path.name for part, path in data.items()} | {"model": f"model-{name}"}
    facts = {"finished": f"2026-11-{day:02}T10:00:00+00:00"}
    finish_run(folder, name, {*parts.values()}, facts, parts)
    return folder


def score_of_base(tuned: DocumentScore) -> DocumentScore:
    """Return the same document's score of a model that needs 4 bits for each byte."""
    return score(
        tuned.num_bytes * 4 * 0.6931,
        repository=tuned.repository,
        url=tuned.url,
        path=tuned.path,
        num_bytes=tuned.num_bytes,
        near_copies=tuned.near_copies,
    )


def make_evaluation(folder: Path, *, bits: float = 1.5, model: str = "o/other") -> EvaluationReport:
    """Make a folder as `flyte-llama evaluate` leaves it, of one model on the held-out documents above."""
    pinned = PinnedModel(name=model, revision="d" * 40)
    measured = folder / "evaluated" / "measured"
    write_measurements(measured, pinned.identity, heldout_scores(HELDOUT, bits))
    write_documents(folder / "corpus" / "train", TRAIN)
    write_documents(folder / "corpus" / "heldout", HELDOUT)
    report = make_report([MeasuredModel("evaluated", pinned, measured)], corpus=card(TRAIN, HELDOUT), training=None)
    write_files(folder, report, config())
    return report


def _sources(documents: Sequence[Document]) -> list[SourceCount]:
    urls = dict.fromkeys(document.url for document in documents)
    return [source_count([document for document in documents if document.url == url]) for url in urls]
