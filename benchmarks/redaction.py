"""Speed of redaction against detect-secrets, in one run on the same texts.

    python benchmarks/redaction.py [--repo PATH] [--sample MB]

Texts are the documentation, code and configuration of the installed flytekit, or of a git repository's HEAD, without
files that a corpus drops (vendored, generated, lock files). detect-secrets with its default plugins takes seconds per
megabyte, so the two are compared on a sample; the last row is redaction alone on all texts. All our detectors run,
even the one for people's addresses, which detect-secrets lacks. Needs `pip install detect-secrets`. Prints a
Markdown table with the fastest of three alternating rounds of each side.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from timing import best

from flyte_llama.config import SourceConfig
from flyte_llama.documents.generated import path_reason
from flyte_llama.documents.languages import language_of
from flyte_llama.documents.text import file_text
from flyte_llama.redaction import redact
from flyte_llama.sources import open_tree, pin


def texts_of(source: str) -> list[tuple[str, str]]:
    """Suffix and text of each file that a corpus would keep."""
    texts = []
    with open_tree(pin(SourceConfig(url=source))) as tree:
        for entry in tree.entries():
            language = language_of(entry.path)
            if not entry.mode.startswith("100") or path_reason(entry.path) or language is None:
                continue
            result = file_text(tree.read(entry).data, language)
            # A string is the reason to drop the file.
            if not isinstance(result, str):
                texts.append((Path(entry.path).suffix, result.text))
    return texts


def sample_of(texts: list[tuple[str, str]], num_bytes: int) -> list[tuple[str, str]]:
    """Texts in a shuffled order until they reach this number of bytes."""
    shuffled = random.Random(0).sample(texts, len(texts))  # noqa: S311  # the same sample each time, not a secret
    sample, total = [], 0
    for suffix, text in shuffled:
        if total < num_bytes:
            sample.append((suffix, text))
            total += len(text.encode())
    return sample


def megabytes(texts: list[tuple[str, str]]) -> float:
    return sum(len(text.encode()) for _, text in texts) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", type=Path, help="a git repository, bare or not; without it, the installed flytekit")
    parser.add_argument("--sample", type=float, default=1.0, help="megabytes of text for the comparison")
    arguments = parser.parse_args()
    try:
        from detect_secrets.core.scan import scan_file
        from detect_secrets.settings import default_settings
    except ImportError:
        parser.exit(2, "detect-secrets, the peer of this benchmark, is not installed: pip install detect-secrets\n")

    texts = texts_of(str(arguments.repo.resolve()) if arguments.repo else "package:flytekit")
    sample = sample_of(texts, int(arguments.sample * 1e6))

    with tempfile.TemporaryDirectory() as folder, default_settings():
        files = [Path(folder) / f"{index}{suffix}" for index, (suffix, _) in enumerate(sample)]
        for file, (_, text) in zip(files, sample, strict=True):
            file.write_bytes(text.encode())

        def ours() -> int:
            return sum(len(redact(file.read_bytes().decode(), people=True).counts) for file in files)

        def theirs() -> int:
            return sum(1 for file in files for _ in scan_file(str(file)))

        seconds, peer_seconds = best(ours, theirs)
    (whole_seconds,) = best(lambda: [redact(text, people=True) for _, text in texts])

    print("| texts | ours | detect-secrets | ratio |\n|---|---|---|---|")
    size = megabytes(sample)
    rates = f"{size / seconds:.1f} MB/s | {size / peer_seconds:.3f} MB/s | {peer_seconds / seconds:,.0f}"
    print(f"| sample of {len(sample)} files, {size:.1f} MB | {rates} |")
    size = megabytes(texts)
    print(f"| all {len(texts):,} files, {size:.1f} MB | {size / whole_seconds:.1f} MB/s | | |")


if __name__ == "__main__":
    main()
