"""How fast a base without infill tokens learns to infill: trains it on one repository, and measures before and after.

    python benchmarks/infilling.py --base FOLDER [--source URL] [--method lora] [--steps 60] [--batch 4] [--seq-len 256]
        [--learning-rate 5e-4] [--new-token-lr-scale S] [--line-share S] [--short-infills N] [--cases 32]
        [--only-after]

`--base` is a pretrained model in the hub's format. `--source` is a repository, a folder or `package:NAME`, an installed
package. Every eighth file is held out. The run is the package's own: `prepare_base`, packed rows of the objective
`fim`, and the launcher.

Of the held-out files, single lines are measured three ways: left to right, and infilled as PSM and as SPM, each time as
the same tokens. `first token` is the mean cost of a line's first token, `end` that of the end-of-middle token after it,
in nats. `ended` is the share of lines, written by the model itself, that it ended within 48 tokens, and `exact` the
share that is right. Prints Markdown.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flyte_llama.config import (
    CompletionConfig,
    DocumentsConfig,
    ModelConfig,
    ObjectiveConfig,
    RunLength,
    SourceConfig,
    TrainingConfig,
)
from flyte_llama.documents import Document, draw, read_source
from flyte_llama.encoding import DocumentTokenizer, write_epochs
from flyte_llama.encoding.pieces import KeyedText
from flyte_llama.evaluation.completion import choose_cases
from flyte_llama.inference import LEFT_TO_RIGHT, PSM, SPM
from flyte_llama.inference.gaps import Gap, fill_gaps
from flyte_llama.inference.infilling import can_infill
from flyte_llama.model import open_model, pin_model, prepare_base
from flyte_llama.sources import pin
from flyte_llama.training.launch import TrainingJob, launch_training

PREFIX_CHARS, SUFFIX_CHARS = 600, 300
NEW_TOKENS = 48


class Line(NamedTuple):
    """A held-out line, the text around it, and the ids of each."""

    prefix: str
    wanted: str
    suffix: str
    prefix_ids: list[int]
    wanted_ids: list[int]
    suffix_ids: list[int]


def choose_lines(documents: Sequence[Document], tokenizer: DocumentTokenizer, count: int) -> list[Line]:
    """Choose lines that are the same tokens alone as after their prefix."""
    lines: list[Line] = []
    for case in choose_cases(documents, CompletionConfig(lines=0, spans=4 * count, max_new_tokens=NEW_TOKENS)):
        # Tokenizers join the last blank of an indentation with the word after it.
        for begin in (case.span_begin, case.span_begin - 1):
            prefix = case.text[max(0, begin - PREFIX_CHARS) : begin].partition("\n")[2]
            wanted, suffix = case.text[begin : case.span_end], case.text[case.span_end :][:SUFFIX_CHARS]
            both, first, second = (ids.tolist() for ids in tokenizer.encode_batch([prefix + wanted, prefix, wanted]))
            if case.task == "single-line" and prefix and both == first + second:
                (after,) = tokenizer.encode_infix([suffix])
                lines.append(Line(prefix, wanted, suffix, first, second, after.tolist()))
                break
    return lines[:count]


class LineCosts(NamedTuple):
    """What held-out lines cost a model."""

    bits_per_byte: dict[str, float]
    """By how the lines are given: left to right, or by the layout of an infilling."""

    first_nats: dict[str, float]
    """Mean cost of a line's first token, in nats, by how the lines are given."""

    end_nats: dict[str, float]
    """Mean cost of the end-of-middle token after a line, in nats, by layout."""


def measure_costs(model: Any, tokenizer: DocumentTokenizer, lines: Sequence[Line]) -> LineCosts:
    """Measure what the lines cost: left to right, and as infillings if the model has tokens for them."""
    import torch

    tokens = tokenizer.infill
    num_bytes = sum(len(line.wanted.encode()) for line in lines)
    nats, first_nats, end_nats = (defaultdict[str, float](float) for _ in range(3))
    for line in lines:
        prompts = {LEFT_TO_RIGHT: line.prefix_ids}
        if tokens is not None:
            prompts[PSM] = [tokens.prefix, *line.prefix_ids, tokens.suffix, *line.suffix_ids, tokens.middle]
            prompts[SPM] = [tokens.prefix, tokens.suffix, *line.suffix_ids, tokens.middle, *line.prefix_ids]
        for layout, prompt in prompts.items():
            start = tokenizer.start_id if layout == LEFT_TO_RIGHT else tokenizer.bos_id
            context = [*([] if start is None else [start]), *prompt]
            text_ids = [*context, *line.wanted_ids, *([] if tokens is None else [tokens.end])]
            ids = torch.tensor([text_ids], device=model.device)
            with torch.inference_mode():
                logits = model(ids, use_cache=False).logits[0, len(context) - 1 : -1].float()
            costs = torch.nn.functional.cross_entropy(logits, ids[0, len(context) :], reduction="none")
            nats[layout] += float(costs[: len(line.wanted_ids)].sum())
            first_nats[layout] += float(costs[0])
            if layout != LEFT_TO_RIGHT:
                end_nats[layout] += float(costs[-1])
    return LineCosts(
        {layout: each / math.log(2) / num_bytes for layout, each in nats.items()},
        {layout: each / len(lines) for layout, each in first_nats.items()},
        {layout: each / len(lines) for layout, each in end_nats.items()},
    )


def measure(folder: Path, lines: Sequence[Line]) -> list[str]:
    """The figures of a model, as the cells of a table."""
    model, tokenizer = open_model(folder, precision="fp32")
    if tokenizer.infill is None:
        raise SystemExit(f"{folder}: has no infill tokens")
    costs = measure_costs(model, tokenizer, lines)
    gaps = [Gap(line.prefix, line.suffix, layout) for layout in (PSM, SPM) for line in lines]
    limits = {"window": 1024, "max_new_tokens": NEW_TOKENS, "batch_tokens": 4096}
    written = fill_gaps(model, tokenizer, gaps, **limits, what="infilling held-out lines")
    halves = (written[: len(lines)], written[len(lines) :])
    return [
        *(f"{costs.bits_per_byte[layout]:.3f}" for layout in (LEFT_TO_RIGHT, PSM, SPM)),
        *(f"{costs.first_nats[layout]:.2f}" for layout in (LEFT_TO_RIGHT, PSM, SPM)),
        *(f"{costs.end_nats[layout]:.2f}" for layout in (PSM, SPM)),
        *(f"{np.mean([each.stopped for each in half]):.0%}" for half in halves),
        *(
            f"{np.mean([each.text.strip() == line.wanted.strip() for each, line in zip(half, lines, strict=True)]):.0%}"
            for half in halves
        ),
    ]


def train(base: Path, documents: Sequence[Document], objective: ObjectiveConfig, arguments: Any, folder: Path) -> Path:
    """Train on the documents by the package's launcher; the folder of the model."""
    run_length = RunLength(epochs=1.0, max_steps=arguments.steps, global_batch_size=arguments.batch)
    texts = [KeyedText(document.path, document.text) for document in documents]
    tokenizer = DocumentTokenizer(base)
    write_epochs(
        folder / "rows",
        texts,
        objective,
        tokenizer,
        seq_len=arguments.seq_len,
        run_length=run_length,
        infill_is_new=not can_infill(base, tokenizer),
    )
    training = TrainingConfig.model_validate(
        {
            "method": arguments.method,
            "seq_len": arguments.seq_len,
            "max_steps": arguments.steps,
            "learning_rate": arguments.learning_rate,
            "global_batch_size": arguments.batch,
            "micro_batch_size": arguments.batch,
            "precision": arguments.precision,
            "activation_checkpointing": False,
            "checkpoint_every_steps": 0,
            "lora": {"rank": 16, "dropout": 0.0},
            "deepspeed": {"zero_stage": 0},
        }
    )
    job = TrainingJob(base=base, rows=folder / "rows", training=training, out=folder / "model")
    launch_training(job, folder / "work")
    return folder / "model"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--source", default="package:flytekit")
    parser.add_argument("--method", choices=["full", "lora", "dora"], default="lora")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=4, help="rows in a step")
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--new-token-lr-scale", type=float, default=None)
    parser.add_argument("--line-share", type=float, default=None)
    parser.add_argument("--short-infills", type=int, default=None)
    parser.add_argument("--cases", type=int, default=32, help="held-out lines")
    parser.add_argument("--only-after", action="store_true", help="do not measure the base")
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in ("new_token_lr_scale", "line_share", "short_infills")}
    objective = ObjectiveConfig.model_validate(
        {"kind": "fim", **{name: value for name, value in given.items() if value is not None}}
    )
    documents = read_source(pin(SourceConfig(url=arguments.source)), DocumentsConfig()).documents
    heldout = [document for document in documents if draw(*document.id)[0] % 8 == 0]
    trained = [document for document in documents if draw(*document.id)[0] % 8]
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / "base"
        model = ModelConfig(name=str(arguments.base.resolve()))
        prepare_base(pin_model(model), model, [], longest_input=1024, folder=base, objective=objective)
        lines = choose_lines(heldout, DocumentTokenizer(base), arguments.cases)
        print(
            f"{len(trained)} documents to train on, {len(lines)} lines of {len(heldout)} held-out documents, "
            f"new_token_lr_scale {objective.new_token_lr_scale:g}\n"
        )
        print(
            "| model | left to right, bits/byte | PSM | SPM | first token, nats | PSM | SPM "
            "| end in PSM, nats | in SPM | ended | | exact | |"
        )
        print(f"|{'---|' * 13}")
        if not arguments.only_after:
            print(f"| base | {' | '.join(measure(base, lines))} |", flush=True)
        begin = time.monotonic()
        out = train(base, trained, objective, arguments, Path(name))
        minutes = (time.monotonic() - begin) / 60
        label = f"{arguments.method}, {arguments.steps} steps, {minutes:.0f} min"
        print(f"| {label} | {' | '.join(measure(out, lines))} |")


if __name__ == "__main__":
    main()
