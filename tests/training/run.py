"""One process of a launcher: `python -m torch.distributed.run … run.py RUNS_JSON` trains the runs one after the other.

A run is `{"base": …, "rows": …, "out": …, "training": {…}}`; its checkpoints go next to `out`.
"""

import json
import sys
from pathlib import Path

from flyte_llama.config import TrainingConfig
from flyte_llama.training import fine_tune
from flyte_llama.training.processes import process_group
from tests.conftest import TEXTS, document

HELDOUT = [document(text[::-1], url=f"https://example.com/o/{n % 2}", path=f"{n}") for n, text in enumerate(TEXTS)]

if __name__ == "__main__":
    with process_group():
        for run in json.loads(sys.argv[1]):
            base, rows, out = (Path(run[name]) for name in ("base", "rows", "out"))
            training = TrainingConfig(**run["training"])
            fine_tune(base, rows, out, training, heldout=HELDOUT, checkpoints=out.parent / "checkpoints")
