"""Runs in an older transformers: `older_reader.py MODELS_JSON OUT.npz` stores the logits that it computes.

MODELS_JSON is `{folder: [lengths]}`. The ids of a length are those of `ids_of`. A folder with a tokenizer is also
asked for a text's ids, its number of ids, and what the model generates after the text.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

TEXT = "def double(n):\n    return <mask:0>"


def ids_of(length: int) -> torch.Tensor:
    return (torch.arange(length) * 7 % 300)[None]


def read_models(models: dict[str, list[int]]) -> dict[str, np.ndarray]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    answers = {}
    for folder, lengths in models.items():
        model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype="auto").eval()
        answers[f"{folder} bits"] = np.array(8 * next(model.parameters()).element_size())
        with torch.no_grad():
            for length in lengths:
                answers[f"{folder} {length}"] = model(ids_of(length)).logits.float().numpy()
            if (Path(folder) / "tokenizer.json").is_file():
                tokenizer = AutoTokenizer.from_pretrained(folder)
                ids = tokenizer(TEXT, return_tensors="pt").input_ids
                answers[f"{folder} ids"], answers[f"{folder} vocabulary"] = ids.numpy(), np.array(len(tokenizer))
                answers[f"{folder} text"] = model.generate(ids, max_new_tokens=5, do_sample=False).numpy()
    return answers


if __name__ == "__main__":
    np.savez(sys.argv[2], **read_models(json.loads(sys.argv[1])))
