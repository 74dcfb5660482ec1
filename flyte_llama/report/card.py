"""The model card: Markdown with the Hub's front matter, made from the report's figures."""

from __future__ import annotations

import yaml

from flyte_llama.report.summary import EvaluationReport
from flyte_llama.report.table import table


def model_card(report: EvaluationReport) -> str:
    """README.md of a published model."""
    front = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["code", "flyte"]}
    if report.base.name != "scratch":
        front["base_model"] = report.base.name
    base = f"{report.base.name}@{report.base.revision}" if report.base.revision else report.base.name
    training, protocol, sides = report.training, report.protocol, report.corpus
    sources = "\n".join(
        f"| {source.repository} | `{source.revision}` | {'held out' if source.held_out else 'train'} "
        f"| {source.num_documents} |"
        for source in sides.sources
    )
    return f"""---
{yaml.safe_dump(front, sort_keys=True).strip()}
---

# Flyte Llama

`{base}`, fine-tuned ({training.method}, causal language modelling) on the source code, tests and documentation of
the repositories below, and measured on repositories it did not see.

## Evaluation

```
{table(report)}
```

Every token of every held-out document is scored once: windows of {protocol.window} tokens moved by
{protocol.stride}, the last one ending with the document, {protocol.precision}, nats summed in float64 and divided
once, first token predicted from {protocol.start}. Bits per byte compare models with different tokenizers; perplexities
do not.

## Data

Split by repository; {sides.train.num_documents} documents ({sides.train.num_bytes:,} bytes) to learn from,
{sides.heldout.num_documents} ({sides.heldout.num_bytes:,} bytes) held out.

| source | revision | side | documents |
|---|---|---|---|
{sources}

## Limits

Perplexity says how well the model predicts such code, not whether what it writes runs. Review what it writes.
"""
