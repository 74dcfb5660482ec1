"""The HTML pages: the report, and the decks of the training and tuning tasks; also the tables of trials for the log.

`rendering` fills in their templates, and escapes every text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flyte_llama.flyte_eval import LEVELS
from flyte_llama.report import plots, sentences
from flyte_llama.report.code import Piece, find_differences, highlight
from flyte_llama.report.dots import draw_groups
from flyte_llama.report.ladder import MOST_ITEMS, BestAnswer, ItemLevels, level_index
from flyte_llama.report.markdown import protocol_text
from flyte_llama.report.provenance import estimate_cost
from flyte_llama.report.rendering import render
from flyte_llama.report.report import EvaluationReport
from flyte_llama.report.samples import Sample
from flyte_llama.report.tables import (
    accuracy_table,
    align_columns,
    completion_tables,
    flyte_eval_tables,
    line_tables,
    overall_table,
)
from flyte_llama.training import TrainingSummary
from flyte_llama.training.trials import BatchTrial, SweepTrial, rank_trials

_MAX_CHARS = 800
"""Characters shown of each text of a sample: the end of its prefix, the start of the others."""

_METHODS = {"full": "Full", "lora": "LoRA", "dora": "DoRA", "qlora": "QLoRA"}

_SHOWN_ITEMS = 12
"""Items of FlyteEval that are not folded away."""


class Panel(NamedTuple):
    """One text of a sample, in pieces of one look each."""

    title: str
    verdict: str
    pieces: list[Piece]
    is_cut: bool


class ShownSample(NamedTuple):
    """A sample as the page draws it: what stands before, the panels side by side, and what follows."""

    sample: Sample
    prefix: list[Piece]
    panels: list[Panel]
    suffix: list[Piece]


class Rung(NamedTuple):
    """One model's steps on the ladder of an item."""

    answer: BestAnswer
    ink: plots.Ink
    steps: int


class Ladder(NamedTuple):
    """An item of FlyteEval and the steps of every model."""

    item: ItemLevels
    rungs: list[Rung]


def report_page(report: EvaluationReport) -> str:
    """Return the report as a complete HTML document."""
    # One model alone has no verdict.
    alone = [] if report.change else [sentences.alone_sentence(report)]
    statement, *verdicts = alone + sentences.verdict_sentences(report)
    pictures = {
        "Loss by position in the document": plots.draw_positions(report.positions),
        "Documents by bits per byte": plots.draw_histogram(report.histogram),
    }
    return render(
        "page.html.j2",
        report=report,
        headline=sentences.overall_sentence(report),
        statement=statement,
        verdicts=verdicts,
        unchanged=sentences.unchanged_sentences(report),
        forgetting=sentences.forgetting_sentence(report),
        memorisation=sentences.memorisation_sentence(report),
        protocol=protocol_text(report),
        split=sentences.split_sentence(report),
        overall=overall_table(report),
        tables=line_tables(report),
        accuracy=accuracy_table(report),
        completions=completion_tables(report),
        answers=flyte_eval_tables(report),
        inks=plots.choose_inks([model.name for model in report.models]),
        dots=draw_groups(report.overall, report.heldout.by),
        pictures=[(title, picture) for title, picture in pictures.items() if picture],
        losses=plots.draw_losses(report.training.losses) if report.training else None,
        curves=plots.draw_training(report.training.losses) if report.training else [],
        method=_METHODS.get(report.training.method, report.training.method) if report.training else "",
        cost=estimate_cost(report.training) if report.training else None,
        samples=[show_sample(sample) for sample in report.samples],
        ladders=_show_ladders(report),
        levels=LEVELS[1:],
        num_shown=_SHOWN_ITEMS,
        most_items=MOST_ITEMS,
        commits=report.corpus.commits if report.corpus else {},
    )


def show_sample(sample: Sample) -> ShownSample:
    """Return the texts of a sample in pieces: syntax, and what differs if the sample is compared.

    In the expected text that is what the last model did not write; in a model's text, what was not expected. Texts are
    compared whole, and then cut for the page. Blanks at their ends do not count, so they are not shown.
    """
    wanted, *written = _dedent(sample.wanted.rstrip(), *(writing.text.rstrip() for writing in sample.written))
    missing: list[bool] = []
    panels = []
    for writing, text in zip(sample.written, written, strict=True):
        missing, extra = find_differences(wanted, text) if sample.is_compared else ([], [])
        panels.append(_panel(writing.model, writing.verdict, text, sample.language, extra))
    (prefix,) = _dedent(sample.prefix[-_MAX_CHARS:])
    return ShownSample(
        sample,
        highlight(prefix, sample.language),
        [_panel("expected", "", wanted, sample.language, missing), *panels],
        highlight(sample.suffix[:_MAX_CHARS], sample.language),
    )


def _show_ladders(report: EvaluationReport) -> list[Ladder]:
    """Return the items of FlyteEval as ladders."""
    inks = {ink.model: ink for ink in plots.choose_inks([model.name for model in report.models])}
    return [
        Ladder(item, [Rung(answer, inks[answer.model], level_index(answer.rung)) for answer in item.answers])
        for item in report.flyte_eval_levels
    ]


def training_page(summary: TrainingSummary) -> str:
    """Return the deck of a training task: its figures in words, and its curves."""
    return render(
        "deck.html.j2",
        title="Training",
        training=summary,
        losses=plots.draw_losses(summary.losses),
        curves=plots.draw_training(summary.losses),
    )


def trials_page(title: str, table: str) -> str:
    """Return the deck of a tuning task: the table of its trials, as `batch_table` or `sweep_table` makes it."""
    return render("deck.html.j2", title=title, table=table)


def batch_table(trials: Sequence[BatchTrial]) -> str:
    """Return one line per trial, smallest micro-batch first."""
    rows = [
        (
            f"{trial.micro_batch_size:,}",
            "yes" if trial.fits else "no",
            "" if trial.tokens_per_s is None else f"{trial.tokens_per_s:,.0f}",
            "" if trial.peak_memory_bytes is None else f"{trial.peak_memory_bytes / 2**30:,.2f}",
        )
        for trial in sorted(trials, key=lambda trial: trial.micro_batch_size)
    ]
    return align_columns(("micro_batch_size", "fits", "tokens/s", "peak GiB"), rows)


def sweep_table(trials: Sequence[SweepTrial]) -> str:
    """Return one line per trial, best first."""
    rows = [
        (
            f"{trial.learning_rate:g}",
            f"{trial.rank or 'all weights'}",
            f"{trial.train_loss:.4f}",
            f"{trial.validation_loss:.4f}",
            f"{trial.step:,}",
            f"{trial.wall_s:,.0f}",
        )
        for trial in rank_trials(trials)
    ]
    columns = ("learning_rate", "rank", "train loss", "validation loss", "step", "s")
    return align_columns(columns, rows)


def _dedent(*texts: str) -> list[str]:
    """Remove the blanks that all lines of all texts begin with, so that deeply nested code fits a narrow screen."""
    lines = [line for text in texts for line in text.split("\n") if line.strip()]
    indent = min((len(line) - len(line.lstrip(" ")) for line in lines), default=0)
    return ["\n".join(line[indent:] if line.strip() else line for line in text.split("\n")) for text in texts]


def _panel(title: str, verdict: str, text: str, language: str, different: Sequence[bool]) -> Panel:
    shown = text[:_MAX_CHARS]
    return Panel(title, verdict, highlight(shown, language, different[:_MAX_CHARS]), len(text) > _MAX_CHARS)
