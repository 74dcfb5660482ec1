"""The model card: Markdown with the Hub's front matter, made from the report's figures."""

from __future__ import annotations

import yaml

from flyte_llama.report.summary import EvaluationReport
from flyte_llama.report.table import table

OBJECTIVES = {
    "clm": "causal language modelling",
    "fim": "fill-in-the-middle",
    "causal_masked": "causal masking",
    "mlm": "masked next-token prediction, which makes an encoder",
    "mixture": "a mixture of objectives",
}


def model_card(report: EvaluationReport) -> str:
    """README.md of a published model."""
    front = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["code", "flyte"]}
    if report.base.name != "scratch":
        front["base_model"] = report.base.name
    base = f"{report.base.name}@{report.base.revision}" if report.base.revision else report.base.name
    training, protocol, sides = report.training, report.protocol, report.corpus
    sources = "\n".join(
        f"| {source.repository} | `{source.revision}` | {side} | {source.documents.files} |"
        for side, count in (("train", sides.train), ("held out", sides.heldout))
        for source in count.sources
    )
    return f"""---
{yaml.safe_dump(front, sort_keys=True).strip()}
---

# Flyte Llama

`{base}`, fine-tuned ({training.method}, {OBJECTIVES[training.objective]}) on the source code, tests and
documentation of the repositories below, and measured on repositories it did not see.

## Evaluation

```
{table(report)}
```

Every token of every held-out document is scored once: windows of {protocol.window} tokens moved by
{protocol.stride}, the last one ending with the document, {protocol.precision}, nats summed in float64 and divided
once, first token predicted from {protocol.start}. Bits per byte compare models with different tokenizers; perplexities
do not.

## Data

Split by repository; {sides.train.documents.files} documents ({sides.train.documents.num_bytes:,} bytes) to learn from,
{sides.heldout.documents.files} ({sides.heldout.documents.num_bytes:,} bytes) held out. Train text that has
{sides.leakage.num_words} words in a row in common with a held-out document was removed.

| source | revision | side | documents |
|---|---|---|---|
{sources}

## Limits

Perplexity says how well the model predicts such code, not whether what it writes runs. Review what it writes.
"""
