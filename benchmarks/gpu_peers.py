"""The peers of `gpu.py`: transformers' Trainer and TRL's SFTTrainer, set up as one would for a large GPU.

Both get Liger's kernels and bf16. LoRA puts peft's adapters on a base in bf16, two rows at a time, and keeps the
activations. Full fine-tuning has float32 weights under bf16 autocast, since ours keeps float32 weights too; with their
gradients and AdamW's moments they take 16 bytes a weight, so the activations are recomputed. A row is one sequence for
them: neither keeps the documents of a ready row apart.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

MICRO_BATCH = 2


class PeerRun(NamedTuple):
    """A peer's timed steps."""

    settings: str
    """For the table."""

    seconds: float
    device: str
    peak_bytes: int


def train_by_peer(
    who: str, method: str, base: Path, rows_folder: Path, out: Path, *, rows_per_step: int, warm_up: int, timed: int
) -> PeerRun:
    """Train in this process, and measure the steps after the first `warm_up`.

    Args:
        who: `Trainer` or `SFTTrainer`.
        out: Folder for the trainer's files; nothing is saved.
    """
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments, default_data_collator

    from flyte_llama.encoding import open_rows
    from flyte_llama.training.metrics import peak_memory_bytes

    on_gpu, ends = torch.cuda.is_available(), []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if on_gpu:
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    # Load the weights straight to the GPU.
    dtype = torch.float32 if method == "full" else torch.bfloat16
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, device_map={"": 0} if on_gpu else None)
    rows = open_rows(rows_folder)[0].select_columns(["input_ids"])
    options: dict[str, Any] = {
        "output_dir": str(out),
        "max_steps": warm_up + timed,
        "per_device_train_batch_size": MICRO_BATCH,
        "gradient_accumulation_steps": rows_per_step // MICRO_BATCH,
        "gradient_checkpointing": method == "full",
        "learning_rate": 1e-5,
        "bf16": True,
        "use_liger_kernel": on_gpu,
        "use_cpu": not on_gpu,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    trainer: Any
    if who == "SFTTrainer":
        from trl import SFTConfig, SFTTrainer

        # Rows have ids already, so nothing is tokenized.
        arguments = SFTConfig(**options, max_length=None)
        trainer = SFTTrainer(
            model=model, args=arguments, train_dataset=rows, peft_config=_adapters(method), callbacks=[Clock()]
        )
    else:
        if method == "lora":
            from peft import get_peft_model

            model = get_peft_model(model, _adapters(method))
        rows = rows.map(lambda row: {"labels": row["input_ids"]})
        trainer = Trainer(
            model=model,
            args=TrainingArguments(**options),
            train_dataset=rows,
            data_collator=default_data_collator,
            callbacks=[Clock()],
        )
    trainer.train()
    settings = f"micro-batch {MICRO_BATCH}, activations {'recomputed' if method == 'full' else 'kept'}"
    return PeerRun(
        settings=settings + (", float32 weights" if method == "full" else "") + (", Liger" if on_gpu else ""),
        seconds=ends[-1] - ends[warm_up - 1],
        device=torch.cuda.get_device_name() if on_gpu else "CPU",
        peak_bytes=peak_memory_bytes() or 0,
    )


def _adapters(method: str) -> Any:
    """peft's configuration of the adapters that `LoraConfig` has by default, or None in full fine-tuning."""
    if method == "full":
        return None
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
