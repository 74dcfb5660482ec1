"""Trials of tuning as a table: text for a log, HTML for a deck."""

from __future__ import annotations

from collections.abc import Sequence

from flyte_llama.report.table import aligned
from flyte_llama.report.template import render
from flyte_llama.tuning import BatchTrial, SweepTrial, ranked


def batch_table(trials: Sequence[BatchTrial]) -> str:
    """By micro-batch size."""
    rows = [
        (
            f"{trial.micro_batch_size:,}",
            "yes" if trial.fits else "no",
            "" if trial.tokens_per_s is None else f"{trial.tokens_per_s:,.0f}",
            "" if trial.peak_memory_bytes is None else f"{trial.peak_memory_bytes / 2**30:,.2f}",
        )
        for trial in sorted(trials, key=lambda trial: trial.micro_batch_size)
    ]
    return aligned(("micro_batch_size", "fits", "tokens/s", "peak GiB"), rows)


def sweep_table(trials: Sequence[SweepTrial]) -> str:
    """Best first."""
    rows = [
        (
            f"{trial.learning_rate:g}",
            f"{trial.rank or 'all weights'}",
            f"{trial.train_loss:.4f}",
            f"{trial.bits_per_byte:.4f}",
            f"{trial.perplexity:,.2f}",
            f"{trial.wall_s:,.0f}",
        )
        for trial in ranked(trials)
    ]
    columns = ("learning_rate", "rank", "train loss", "bits/byte held out", "perplexity", "s")
    return aligned(columns, rows)


def trials_page(title: str, table: str) -> str:
    """A whole HTML document, as the deck of a task."""
    return render("trials_page.html.j2", title=title, table=table)
