"""The command `flyte-llama why`: what became of a file of a run, in the words of the corpus's page."""

from __future__ import annotations

from pathlib import Path

from flyte_llama.corpus import explain_path
from flyte_llama.errors import DataError
from flyte_llama.workspace import find_run


def explanation_text(path: str, run: str | None, output: Path) -> str:
    """Return what became of each file that a path means: a line with its name and source, then its sentences.

    Args:
        path: A path in a repository, `owner/name:path`, or the URL of a file.
        run: A run's folder, its name in `runs`, or an output folder; None means the newest run of `output`.

    Raises:
        DataError: if there is no such run, or its folders are gone.
        CorpusError: if it has no such file.
    """
    found = find_run(run or str(output), output)
    if found is None:
        raise DataError(f"{run or output}: holds no finished run. Name one with --run, or start one with `make run`.")
    traces = explain_path(found.part("train"), found.part("heldout"), path)
    blocks = []
    for trace in traces:
        revision = f" at {trace.revision[:12]}" if trace.revision else ""
        lines = [f"{trace.name} ({trace.side}{revision})", *(f"  {sentence}" for sentence in trace.sentences)]
        blocks.append("\n".join([*lines, *([f"  {trace.link}"] if trace.link else [])]))
    return "\n\n".join([*blocks, f"run: {found.folder}"])
