"""The command `flyte-llama verify`: verify a model again that failed its verification after training."""

from __future__ import annotations

from pathlib import Path

from flyte_llama.model.files import find_folder
from flyte_llama.training.unverified import verify_again


def verification_text(path: str) -> str:
    """Verify the model in a folder again; a line for each artefact, with its perplexity and the trained model's.

    Args:
        path: The folder that the run's message named, perhaps with `~` for a home.

    Raises:
        FlyteLlamaError: if the folder holds no such model or is damaged, or if it still is not the trained model.
    """
    folder: Path = find_folder(path, name=path)
    lines = [f"{each.artefact}: {each}" for each in verify_again(folder)]
    return "\n".join(
        [*lines, "", "This is the trained model. The next start of its run takes it from the output folder."]
    )
