"""One process of a launcher: `python -m torch.distributed.run … run.py BASE ROWS OUT TRAINING_JSON`."""

import sys
from pathlib import Path

from flyte_llama.config import TrainingConfig
from flyte_llama.training import fine_tune
from flyte_llama.training.processes import process_group
from tests.conftest import TEXTS, document

HELDOUT = [document(text[::-1], url=f"https://example.com/o/{n % 2}", path=f"{n}") for n, text in enumerate(TEXTS)]

if __name__ == "__main__":
    base, rows, out = (Path(argument) for argument in sys.argv[1:4])
    with process_group():
        training = TrainingConfig.model_validate_json(sys.argv[4])
        fine_tune(base, rows, out, training, heldout=HELDOUT, checkpoints=out.parent / "checkpoints")
