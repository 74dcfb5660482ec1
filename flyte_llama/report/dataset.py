"""The dataset card in the Hub's format, and a page of the corpus for people and for Flyte's deck.

Every figure in them comes from the corpus card. The documents and files of the page come from a `CorpusSample`.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import yaml

from flyte_llama.corpus import CorpusCard, CorpusSample, FunnelStep, SideCount, funnel
from flyte_llama.documents import Amount, largest, sum_amounts
from flyte_llama.report.code import highlight
from flyte_llama.report.quotation import Markdown, quote_text
from flyte_llama.report.rendering import render, script_hash

# The Hub's size categories, by number of rows.
_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
_HUES = 8
"""The largest languages get a hue each in the picture; the others share grey."""

_MOST_SENTENCES = 10
"""Sentences that the page has of a file, such as one for each removed span."""


class Side(NamedTuple):
    """One side of the split, as the templates read it."""

    title: str
    counts: SideCount
    funnel: list[FunnelStep]

    @property
    def languages(self) -> list[str]:
        """The languages of its documents, those with the most bytes first."""
        return list(self.counts.by_language)

    @property
    def redacted(self) -> dict[str, int]:
        """Detector → number of placeholders in all sources."""
        names = sorted({name for source in self.counts.sources for name in source.redacted})
        return {name: sum(source.redacted.get(name, 0) for source in self.counts.sources) for name in names}

    @property
    def not_permitted(self) -> dict[str, Amount]:
        """Licence that is not allowed, or the line that states one that is not recognised → files of all sources."""
        names = {name for source in self.counts.sources for name in source.not_permitted}
        return largest(
            {
                name: sum_amounts(source.not_permitted.get(name, Amount()) for source in self.counts.sources)
                for name in names
            }
        )


def dataset_card(card: CorpusCard) -> str:
    """Return the README.md of the dataset, which consists of the folders `train` and `heldout`."""
    front = Markdown(yaml.safe_dump(_front_matter(card), sort_keys=True).strip())
    split = quote_text(card.split_text)
    return render(
        "dataset.md.j2", card=card, names=card.source_names, sides=_sides(card), front_matter=front, split=split
    )


def dataset_page(card: CorpusCard, sample: CorpusSample | None = None) -> str:
    """Return a complete HTML document: funnels, languages and lengths in pictures, documents to read, and every file.

    Args:
        sample: Of the same corpus; None leaves out the documents and the files.
    """
    totals = card.train.by_language | card.heldout.by_language
    named = sorted(totals, key=lambda language: -totals[language].num_bytes)[:_HUES]
    return render(
        "dataset.html.j2",
        card=card,
        sides=_sides(card),
        num_hues=_HUES,
        hues={language: str(index) for index, language in enumerate(named, start=1)},
        commits=card.commits,
        sample=sample,
        documents=[
            (document, highlight(document.text, document.language)) for document in (sample.documents if sample else [])
        ],
        # Runs of files of one source, in the order of the sample.
        sources=[
            (*source, list(files))
            for source, files in itertools.groupby(
                sample.files if sample else [], key=lambda file: (file.side, file.repository)
            )
        ],
        most_sentences=_MOST_SENTENCES,
        script_hash=script_hash("look_up.js.j2"),
    )


def _sides(card: CorpusCard) -> list[Side]:
    return [
        Side("Train", card.train, funnel(card, held_out=False)),
        Side("Held out", card.heldout, funnel(card, held_out=True)),
    ]


def _front_matter(card: CorpusCard) -> dict[str, Any]:
    rows = card.train.documents.files + card.heldout.documents.files
    # The Hub writes SPDX ids in lower case, and takes one licence; `other` stands for several or an expression.
    licences = {spdx.lower() for side in (card.train, card.heldout) for spdx in side.by_licence}
    single = next(iter(licences)) if len(licences) == 1 else ""
    files = {"train": "train/documents.parquet", "test": "heldout/documents.parquet"}
    return {
        "pretty_name": "Code corpus of Flyte Llama",
        "task_categories": ["text-generation"],
        "tags": ["code", "flyte"],
        "license": single if single and " " not in single else "other",
        "size_categories": [next((name for limit, name in _SIZES.items() if rows < limit), "n>10M")],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": path} for split, path in files.items()],
            }
        ],
    }
