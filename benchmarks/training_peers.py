"""The peers of `training.py`: other ways to fine-tune the same model on the same documents, one a process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SEQ_LEN = 4096
BATCH = 4
"""Rows, or in the padded recipe chunks, of at most `SEQ_LEN` tokens at once."""

SETTINGS: dict[str, Any] = {
    "use_cpu": True,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "num_train_epochs": 1,
    "logging_steps": 1,
    "logging_first_step": True,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "seed": 0,
}


class Side(NamedTuple):
    """What one way to train took."""

    real_tokens: int
    """Without padding, after the first step."""

    given_tokens: int
    """With padding, over all steps."""

    all_real_tokens: int
    seconds: float
    """From the end of the first step to the end of the last."""

    losses: list[float]

    @property
    def tokens_per_s(self) -> float:
        return self.real_tokens / self.seconds

    @property
    def padding(self) -> float:
        return 1 - self.all_real_tokens / self.given_tokens


def padded(base: Path, texts: list[str]) -> Side:
    """transformers' Trainer on documents cut into chunks, in batches padded to their longest."""
    from datasets import Dataset
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling, Trainer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.eos_token
    ids = tokenizer(texts, return_token_type_ids=False)["input_ids"]
    chunks = [one[begin : begin + SEQ_LEN] for one in ids for begin in range(0, len(one), SEQ_LEN)]
    rows = Dataset.from_dict({"input_ids": chunks})
    collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    return _trained(Trainer, base, rows, collate, batch=BATCH)


def stock(base: Path, rows: Path) -> Side:
    """transformers' Trainer on our rows in our order: the logits of whole batches, a mask of the whole row."""
    from transformers import Trainer

    from flyte_llama.packing import num_steps, open_rows
    from flyte_llama.training.batches import OrderedRows, collate, row_order

    table, manifest = open_rows(rows)
    steps = num_steps(manifest["rows_per_epoch"][0], epochs=1.0, max_steps=0, global_batch_size=BATCH)
    order = row_order(manifest["rows_per_epoch"], num_rows=steps * BATCH, seed=0)
    ordered = OrderedRows(table, order)
    settings = {"train_sampling_strategy": "sequential", "remove_unused_columns": False}
    return _trained(Trainer, base, ordered, collate, batch=BATCH, **settings)


def trl(base: Path, ids: list[list[int]]) -> Side:
    """TRL's SFTTrainer with its packing; documents are cut into rows beforehand, or it would drop what is longer."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    pieces = [one[begin : begin + SEQ_LEN] for one in ids for begin in range(0, len(one), SEQ_LEN)]
    settings = {"packing": True, "max_length": SEQ_LEN, "gradient_checkpointing": False, "bf16": False}

    def trainer(**arguments: Any) -> Any:
        return SFTTrainer(processing_class=AutoTokenizer.from_pretrained(base), **arguments)

    rows = Dataset.from_dict({"input_ids": pieces})
    return _trained(trainer, base, rows, None, batch=BATCH, configuration=SFTConfig, **settings)


def _trained(
    make: Callable[..., Any],
    base: Path,
    rows: Any,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]] | None,
    *,
    batch: int,
    configuration: Callable[..., Any] | None = None,
    **settings: Any,
) -> Side:
    import tempfile

    import torch
    from transformers import AutoModelForCausalLM, PrinterCallback, TrainerCallback, TrainingArguments

    ends: list[float] = []
    real: list[int] = []
    given: list[int] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = (configuration or TrainingArguments)(
            output_dir=folder, per_device_train_batch_size=batch, **SETTINGS, **settings
        )
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="sdpa")
        trainer = make(model=model, args=arguments, train_dataset=rows, callbacks=[Clock()], data_collator=collate)
        trainer.remove_callback(PrinterCallback)
        inner = trainer.data_collator

        def counted(examples: list[dict[str, Any]]) -> dict[str, Any]:
            made = inner(examples)
            given.append(made["input_ids"].numel())
            # A first token of a document is no target, and is real; what is neither is padding.
            lengths = [sum(example["length"]) if "length" in example else 0 for example in examples]
            mask = made.get("attention_mask")
            real.append(sum(lengths) or (int(mask.sum()) if mask is not None else given[-1]))
            return made

        trainer.data_collator = counted
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    steps = len(ends)
    return Side(sum(real[1:steps]), sum(given[:steps]), sum(real[:steps]), ends[-1] - ends[0], losses)
