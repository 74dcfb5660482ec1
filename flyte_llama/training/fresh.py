"""Score a saved model in a new process, so that the result depends on the files alone, not on this process's memory.

`python -m flyte_llama.training.fresh` reads a request as JSON from standard input and prints the answer as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flyte_llama.config import EvaluationConfig
from flyte_llama.errors import EvaluationError, FlyteLlamaError
from flyte_llama.inference.nats import token_nats
from flyte_llama.model import load_model, load_with_adapter, torch_dtype
from flyte_llama.training.failures import killed_error
from flyte_llama.training.memory import out_of_memory_kills
from flyte_llama.training.processes import end_with_parent

# A launcher sets these variables for its processes; with them, the new process would wait to join their group.
_LAUNCHED = ("RANK", "LOCAL_", "WORLD_SIZE", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "ACCELERATE_", "PET_")


def fresh_nats(
    folder: Path,
    documents: Sequence[np.ndarray],
    config: EvaluationConfig,
    *,
    precision: str,
    adapter: Path | None = None,
    in_4_bits: bool = False,
) -> list[float]:
    """Return `token_nats` of the model in a folder, computed in a new process.

    Args:
        adapter: A saved adapter; `folder` is then its base, and the adapter is loaded onto it without merging.

    Raises:
        EvaluationError: if the model is incomplete, damaged or cannot be loaded; the message ends with the last line
            that the process wrote to standard error.
        OutOfMemoryError: if the process was killed.
    """
    request = {
        "folder": str(folder),
        "documents": [ids.tolist() for ids in documents],
        "config": config.model_dump(),
        "precision": precision,
        "adapter": str(adapter) if adapter else None,
        "in_4_bits": in_4_bits,
        "parent": os.getpid(),
    }
    former_kills = out_of_memory_kills()
    done = subprocess.run(  # noqa: S603  # this interpreter and module; the request goes in as data
        [sys.executable, "-m", __spec__.name],
        input=json.dumps(request),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=fresh_environment(),
    )
    if done.returncode < 0:
        what = "the process that loads the written model"
        killed = killed_error(what, -done.returncode, former_kills=former_kills)
        # The model is kept, see `unverified`. Another attempt would write one more, and load it in the same memory.
        killed.transient = False
        raise killed
    if done.returncode:
        message = done.stderr.strip().splitlines() or ["the process gave no reason"]
        raise EvaluationError(f"{adapter or folder}: cannot be loaded in a fresh process: {message[-1]}")
    # Libraries may print above it; the answer is the last line.
    nats: list[float] = json.loads(done.stdout.splitlines()[-1])
    return nats


def fresh_environment() -> dict[str, str]:
    """This process's environment without the launcher's variables, and with its `sys.path` as PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHED)}
    return environment | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _answer_request(request: dict[str, Any]) -> list[float]:
    """Load the model of a request and return the nats of each document."""
    import torch

    dtype = torch_dtype(request["precision"])
    folder = Path(request["folder"])
    model: Any
    if request["adapter"] is None:
        model = load_model(folder, dtype=dtype)
    else:
        model = load_with_adapter(folder, Path(request["adapter"]), dtype=dtype, in_4_bits=request["in_4_bits"])
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise EvaluationError(f"the weight {name} has values that are not finite")
    num_bytes = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    # The trained model may still fill the GPU; the extra half leaves room for activations and logits.
    if torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > 1.5 * num_bytes:
        model.to("cuda")
    documents = [np.array(ids, dtype=np.int32) for ids in request["documents"]]
    return token_nats(model, documents, EvaluationConfig(**request["config"]))


if __name__ == "__main__":
    try:
        request = json.loads(sys.stdin.read())
        end_with_parent(request["parent"])
        print(json.dumps(_answer_request(request)))
    except FlyteLlamaError as error:
        sys.exit(error.message.replace("\n", " "))
