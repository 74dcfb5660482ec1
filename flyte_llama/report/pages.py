"""The HTML pages: the report, and the decks of the training and tuning tasks; also the tables of trials for the log.

`rendering` fills in their templates, and escapes every text.
"""

from __future__ import annotations

from collections.abc import Sequence

from flyte_llama.report import plots, sentences
from flyte_llama.report.dots import draw_dots
from flyte_llama.report.markdown import protocol_text
from flyte_llama.report.rendering import render
from flyte_llama.report.report import EvaluationReport
from flyte_llama.report.tables import accuracy_table, align_columns, line_tables, output_tables, overall_table
from flyte_llama.training import TrainingSummary
from flyte_llama.training.trials import BatchTrial, SweepTrial, rank_trials

MAX_CHARS = 800
"""Characters shown of each text of a sample: the end of its prefix, the start of the others."""


def report_page(report: EvaluationReport) -> str:
    """Return the report as a complete HTML document."""
    statement, *verdicts = sentences.verdict_sentences(report) if report.change else [sentences.alone_sentence(report)]
    groups = report.heldout.by
    pictures = {
        "Loss by position in the document": plots.draw_positions(report.positions),
        "Documents by bits per byte": plots.draw_histogram(report.histogram),
    }
    return render(
        "page.html.j2",
        report=report,
        headline=sentences.overall_sentence(report),
        statement=statement,
        verdicts=verdicts if report.change else sentences.verdict_sentences(report),
        unchanged=sentences.unchanged_sentences(report),
        forgetting=sentences.forgetting_sentence(report),
        memorisation=sentences.memorisation_sentence(report),
        protocol=protocol_text(report),
        overall=overall_table(report),
        tables=line_tables(report),
        accuracy=accuracy_table(report),
        outputs=output_tables(report),
        inks=plots.choose_inks([model.name for model in report.models]),
        dots=[("", draw_dots(report.overall, groups["repository"]))]
        + ([("By language", draw_dots(report.overall, groups["language"]))] if len(groups["language"]) > 1 else []),
        pictures=[(title, picture) for title, picture in pictures.items() if picture],
        losses=plots.draw_losses(report.training.losses) if report.training else None,
        curves=plots.draw_training(report.training.losses) if report.training else [],
        max_chars=MAX_CHARS,
    )


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
