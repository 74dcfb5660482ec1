"""The report as Markdown, and the model card: the page's sentences and tables, without its pictures and samples.

The model card adds the Hub's front matter, the data, and the limits of the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from flyte_llama.corpus import CorpusCard
from flyte_llama.evaluation.scoring import PSEUDO_PERPLEXITY
from flyte_llama.report.quotation import quote_code, quote_name, quote_text
from flyte_llama.report.report import EvaluationReport
from flyte_llama.report.sentences import (
    forgetting_sentence,
    memorisation_sentence,
    overall_sentence,
    unchanged_sentences,
    verdict_sentences,
)
from flyte_llama.report.tables import (
    Table,
    accuracy_table,
    completion_tables,
    flyte_eval_tables,
    line_tables,
    overall_table,
)

CHANGES_NOTE = (
    "Changes are in bits per byte; negative is better. Intervals resample documents within their repositories; "
    "near-copies count once."
)

OBJECTIVE_NAMES = {
    "clm": "causal language modelling",
    "fim": "fill-in-the-middle",
    "causal_masked": "causal masking",
    "mlm": "masked next-token prediction, which makes an encoder",
    "mixture": "a mixture of objectives",  # in rows of an earlier version
}


def report_markdown(report: EvaluationReport) -> str:
    """Return the complete report under one heading."""
    parts = [
        "# Evaluation",
        markdown_head(report),
        *map(quote_text, unchanged_sentences(report)),
        "## Held-out text in detail",
        CHANGES_NOTE,
        markdown_lines(report),
        "## Next tokens",
        *([] if report.same_tokens else ["The models' tokenizers differ: do not compare perplexities or accuracies."]),
        _table_markdown(accuracy_table(report)),
    ]
    outputs = completion_tables(report) + flyte_eval_tables(report)
    if outputs:
        parts += ["## What the models wrote", *(_table_markdown(table) for table in outputs)]
    parts += ["## Protocol", quote_text(protocol_text(report))]
    return "\n\n".join(parts) + "\n"


def model_card(report: EvaluationReport, *, name: str | None = None) -> str:
    """Return the README.md of a published model. A section is left out if the report has no data for it.

    Args:
        name: The model's repository on the hub; None if it is only in a folder.
    """
    base = report.models[0].identity
    front = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["code", "flyte"]}
    if base.name != "scratch" and not base.is_local:
        front["base_model"] = base.name
    base_name = Path(base.name).name if base.is_local else base.name
    base_name = quote_code(f"{base_name}@{base.revision}" if base.revision else base_name)
    is_encoder = report.protocol.measure == PSEUDO_PERPLEXITY
    unseen = "files" if report.parts else "repositories"
    protocol, training = quote_text(protocol_text(report)), report.training
    method = quote_text(f" ({training.method}, {_objective_text(training.objective)})") if training else ""
    return f"""---
{yaml.safe_dump(front, sort_keys=True).strip()}
---

# Flyte Llama

{base_name}, fine-tuned{method} on source code, tests and documentation, and evaluated on {unseen} it did not see.
{_use_section(name, infills="fim" in training.objective) if training and not is_encoder else ""}
## Evaluation

{markdown_head(report)}

{CHANGES_NOTE}

{markdown_lines(report)}

{protocol} Models with different tokenizers can be compared by bits per byte, not by perplexity.
{_data_section(report.corpus) if report.corpus else ""}
## Limits

Perplexity measures how well the model predicts such code, not whether the code it writes runs. Review its output.
"""


def markdown_head(report: EvaluationReport) -> str:
    """Return the headline and its verdicts, forgetting and memorisation, and the overall table."""
    parts = [
        quote_text(" ".join([overall_sentence(report), *verdict_sentences(report)])),
        f"- Forgetting: {quote_text(forgetting_sentence(report))}\n"
        f"- Memorisation: {quote_text(memorisation_sentence(report))}",
        _table_markdown(overall_table(report)),
    ]
    return "\n\n".join(parts)


def markdown_lines(report: EvaluationReport) -> str:
    """Return the tables of held-out text by repository, language and so on, then the table of general code."""
    return "\n\n".join(_table_markdown(table) for table in line_tables(report))


def protocol_text(report: EvaluationReport) -> str:
    """Return one paragraph on how the figures were measured."""
    settings, digests = report.protocol, {model.tokenizer_sha256[:16] for model in report.models}
    starts = " or ".join(sorted({model.start for model in report.models}))
    return (
        f"Every token of every held-out document is scored once, in windows of {settings.window:,} tokens that move by "
        f"{settings.stride:,}; the last window ends with the document. Precision is {settings.precision}; nats are "
        f"summed in float64 and divided once; the first token is predicted from {starts}; tokenizer sha256 "
        f"{', '.join(sorted(digests))}. Intervals over documents are 95 % percentile intervals of a paired bootstrap "
        "with 10,000 replicates, near-copies as one document; intervals over repositories are Student's, of the mean "
        "of the repositories' changes."
    )


def _objective_text(objective: str) -> str:
    """Return the names of a summary's kinds of objective, as `clm, fim`."""
    return " and ".join(OBJECTIVE_NAMES[kind] for kind in objective.split(", "))


def _use_section(name: str | None, *, infills: bool) -> str:
    """Return how to load the model and continue a text."""
    where = "" if name else "`FOLDER` stands for the folder that holds the model. "
    name = name or "FOLDER"
    infill = f"flyte-llama complete --model {name} --file main.py --line 3\n" if infills else ""
    return f"""
## Use

{where}The model continues text, and follows no instructions.

```
flyte-llama complete --model {name} "def main():"
{infill}```

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
ids = tokenizer("def main():", return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens=64)[0]))
```
"""


def _data_section(card: CorpusCard) -> str:
    """Return the split in sentences, then a table of all sources and their revisions."""
    names = card.source_names
    sources = "\n".join(
        f"| {quote_name(names[source.url])} | {quote_code(source.revision)} | {side} | {source.documents.files} |"
        for side, count in (("train", card.train), ("held out", card.heldout))
        for source in count.sources
    )
    return f"""
## Data

{card.train.documents.files} train documents ({card.train.documents.num_bytes:,} bytes) and
{card.heldout.documents.files} held-out documents ({card.heldout.documents.num_bytes:,} bytes),
{quote_text(card.split_text)}. Train text that shares
{card.leakage.num_words} consecutive words with a held-out document was removed.

| source | revision | side | documents |
|---|---|---|---|
{sources}
"""


def _table_markdown(table: Table) -> str:
    rule = ["---" if column < table.num_texts else "---:" for column in range(len(table.columns))]
    rows = [map(quote_text, table.columns), rule, *(_quote_cells(row, table.num_texts) for row in table.rows)]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"**{quote_text(table.title)}**\n\n{text}"


def _quote_cells(row: Sequence[str], num_texts: int) -> list[str]:
    """Return the cells with names quoted in the columns of text, and the figures as they are."""
    return [*map(quote_name, row[:num_texts]), *map(quote_text, row[num_texts:])]
