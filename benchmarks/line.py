"""Speed of reading and packing, as ratios to peers from the package index in the same run.

    python benchmarks/line.py [--repo PATH]

Reading: every blob of a repository's HEAD through `GitTree`, against GitPython's tree traversal. Packing: the same
token ids into rows by `pack`, against the usual `group_texts` with `datasets.map`. Without --repo, a repository is
made from the installed flytekit. Prints a Markdown table with the fastest of three alternating rounds of each side.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import tempfile
from pathlib import Path

import datasets
import git
import numpy as np
from timing import best

from flyte_llama.config import SourceConfig
from flyte_llama.encoding import DocumentTokenizer, open_rows, train_tokenizer
from flyte_llama.encoding.objectives import clm
from flyte_llama.encoding.packing import pack
from flyte_llama.encoding.rows import RowsWriter
from flyte_llama.sources import open_tree, pin

SEQ_LEN = 2048


def flytekit_repository(folder: Path) -> Path:
    """Make a repository with flytekit's files in a single commit."""
    with open_tree(pin(SourceConfig(url="package:flytekit"))) as tree:
        for entry in tree.entries():
            file = folder / "work" / entry.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tree.read(entry).data)
    who = ["-c", "user.name=bench", "-c", "user.email=bench@example.com"]
    for command in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-q", "-m", "flytekit"]):
        subprocess.run(["git", *who, *command], cwd=folder / "work", check=True)  # noqa: S603  # fixed arguments
    return folder / "work"


def compare_reading(repo: Path) -> tuple[str, float, float, float]:
    """A description, megabytes, and the seconds of both sides."""
    with open_tree(pin(SourceConfig(url=str(repo)))) as tree:

        def ours() -> int:
            files = (entry for entry in tree.entries() if entry.mode.startswith("100"))
            return sum(len(tree.read(entry).data) for entry in files)

        def theirs() -> int:
            blobs = git.Repo(repo).head.commit.tree.traverse(predicate=lambda item, _: item.type == "blob")
            return sum(len(blob.data_stream.read()) for blob in blobs if blob.mode in (0o100644, 0o100755))

        if ours() != theirs():
            raise SystemExit("the two sides read different numbers of bytes, so their times do not compare")
        return (f"read blobs, {ours() / 1e6:.1f} MB", ours() / 1e6, *best(ours, theirs))


def compare_packing(texts: list[str], folder: Path) -> tuple[str, float, float, float]:
    """A description, millions of tokens, and the seconds of both sides."""
    train_tokenizer(texts[:200], vocab_size=4096, max_positions=SEQ_LEN, folder=folder)
    tokenizer = DocumentTokenizer(folder)
    documents = list(map(tokenizer.add_bos_eos, tokenizer.encode(texts)))
    table = datasets.Dataset.from_dict({"input_ids": [ids.tolist() for ids in documents]})
    datasets.disable_progress_bars()

    def ours() -> int:
        pieces = (clm(ids, seq_len=SEQ_LEN) for ids in documents)
        with RowsWriter(folder / "rows", seq_len=SEQ_LEN) as writer:
            writer.write_epoch(pack(pieces, seq_len=SEQ_LEN, pad_id=tokenizer.eos_id))
        return len(open_rows(folder / "rows")[0])

    def group_texts(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        ids = list(itertools.chain(*batch["input_ids"]))
        ends = range(0, len(ids) // SEQ_LEN * SEQ_LEN, SEQ_LEN)
        rows = [ids[begin : begin + SEQ_LEN] for begin in ends]
        return {"input_ids": rows, "labels": [list(row) for row in rows]}

    def theirs() -> int:
        grouped = table.map(group_texts, batched=True, load_from_cache_file=False)
        grouped.save_to_disk(folder / "grouped")
        return len(grouped)

    num_tokens = int(np.sum([len(ids) for ids in documents])) / 1e6
    return (f"pack and store rows, {num_tokens:.2f} M tokens", num_tokens, *best(ours, theirs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repo = arguments.repo or flytekit_repository(folder)
        with open_tree(pin(SourceConfig(url=str(repo)))) as tree:
            data = [tree.read(entry).data for entry in tree.entries() if entry.path.endswith((".py", ".go", ".md"))]
        texts = [text.decode("utf-8", "ignore") for text in data]
        results = [compare_reading(repo), compare_packing(texts, folder)]
    print("| step | ours | peer | ratio |\n|---|---|---|---|")
    for what, amount, ours, theirs in results:
        print(f"| {what} | {amount / ours:,.1f} M/s | {amount / theirs:,.1f} M/s | {theirs / ours:.1f} |")


if __name__ == "__main__":
    main()
