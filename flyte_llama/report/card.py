"""The model card: Markdown with the Hub's front matter, made from the report's figures."""

from __future__ import annotations

from pathlib import Path

import yaml

from flyte_llama.corpus import CorpusCard
from flyte_llama.report.markdown import CHANGES, markdown_head, markdown_lines, protocol
from flyte_llama.report.summary import EvaluationReport

OBJECTIVES = {
    "clm": "causal language modelling",
    "fim": "fill-in-the-middle",
    "causal_masked": "causal masking",
    "mlm": "masked next-token prediction, which makes an encoder",
    "mixture": "a mixture of objectives",
}


def model_card(report: EvaluationReport) -> str:
    """README.md of a published model; what the report does not know of it is left out."""
    base = report.models[0].identity
    front = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["code", "flyte"]}
    if base.name != "scratch" and not base.is_local:
        front["base_model"] = base.name
    name = Path(base.name).name if base.is_local else base.name
    name = f"{name}@{base.revision}" if base.revision else name
    training = report.training
    how = f" ({training.method}, {OBJECTIVES[training.objective]})" if training else ""
    return f"""---
{yaml.safe_dump(front, sort_keys=True).strip()}
---

# Flyte Llama

`{name}`, fine-tuned{how} on source code, tests and documentation, and measured on repositories it did not see.

## Evaluation

{markdown_head(report)}

{CHANGES}

{markdown_lines(report)}

{protocol(report)} Bits per byte compare models with different tokenizers; perplexities do not.
{_data(report.corpus) if report.corpus else ""}
## Limits

Perplexity says how well the model predicts such code, not whether what it writes runs. Review what it writes.
"""


def _data(sides: CorpusCard) -> str:
    sources = "\n".join(
        f"| {source.repository} | `{source.revision}` | {side} | {source.documents.files} |"
        for side, count in (("train", sides.train), ("held out", sides.heldout))
        for source in count.sources
    )
    return f"""
## Data

Split by repository; {sides.train.documents.files} documents ({sides.train.documents.num_bytes:,} bytes) to learn from,
{sides.heldout.documents.files} ({sides.heldout.documents.num_bytes:,} bytes) held out. Train text that has
{sides.leakage.num_words} words in a row in common with a held-out document was removed.

| source | revision | side | documents |
|---|---|---|---|
{sources}
"""
