"""A few kilobytes can unfold to any number of bytes, files or folders: memory and time stay small."""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from flyte_llama.errors import SourceError
from flyte_llama.sources import git as git_source
from flyte_llama.sources import open_tree
from flyte_llama.sources.git_process import MEMORY_LIMIT_BYTES, run_git
from tests.sources.hostile import FILE, FOLDER, RawRepository, collect_all, cpu_s, list_entries

READER = """
import json, re, resource, sys
from flyte_llama.config import DocumentsConfig
from flyte_llama.documents.read import collect
from flyte_llama.sources import PinnedSource, open_tree
from tests.sources.hostile import count_skipped
pinned = PinnedSource(**json.loads(sys.argv[1]))
with open_tree(pinned) as tree:
    collected = collect(pinned, tree, DocumentsConfig())
# getrusage would include the moment between fork and exec, when this process was as large as its parent.
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
peaks = [peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]
print(json.dumps({"kib": peaks, "skipped": count_skipped(collected), "kept": [d.path for d in collected.documents]}))
"""


@pytest.mark.slow
def test_a_blob_of_one_gib_is_left_out_in_little_memory(raw: RawRepository):
    raw.commit(raw.tree([(FILE, b"a.py", raw.blob(b"x = 1\n")), (FILE, b"zeros.py", _write_zeros(raw, 1 << 30))]))
    raw.git("repack", "-adq", "--window=0")
    assert sum(file.stat().st_size for file in raw.path.rglob("*") if file.is_file()) < 2_000_000
    command = [sys.executable, "-c", READER, raw.pin().model_dump_json()]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (result["kept"], result["skipped"]) == (["a.py"], {"too_large": 1})
    # This adds the largest git process to the reader, although most end before the reader is at its largest.
    assert sum(result["kib"]) < 300 * 1024, result["kib"]


def test_a_large_file_that_git_itself_would_read_is_refused_at_the_fetch(raw: RawRepository):
    raw.commit(raw.tree([(FILE, b".gitmodules", _write_zeros(raw, 2 << 20))]))
    with pytest.raises(SourceError, match="gitmodulesLarge"):
        list_entries(raw.pin())


def test_a_file_over_the_limit_is_refused_unread(raw: RawRepository):
    raw.commit(raw.tree([(FILE, b"zeros.py", _write_zeros(raw, git_source.MAX_BLOB_BYTES + 1))]))
    with open_tree(raw.pin()) as tree:
        (entry,) = tree.entries()
        assert entry.num_bytes == git_source.MAX_BLOB_BYTES + 1
        with pytest.raises(SourceError, match=r"104,857,601 bytes in 'zeros\.py', too many"):
            tree.read(entry)


def test_ten_billion_files_in_a_few_kilobytes_are_an_error_within_seconds(raw: RawRepository):
    tree = raw.tree([(FILE, b"%d.py" % count, raw.blob(b"x = 1\n")) for count in range(10)])
    for _ in range(9):
        tree = raw.tree([(FOLDER, b"%d" % count, tree) for count in range(10)])
    raw.commit(tree)
    assert sum(file.stat().st_size for file in (raw.path / "objects").rglob("*") if file.is_file()) < 50_000
    start = cpu_s()
    with pytest.raises(SourceError, match="more than 1,000,000 files and folders"):
        collect_all(raw.pin())
    assert cpu_s() - start < 5


def test_ten_billion_empty_folders_are_an_error_within_seconds(raw: RawRepository):
    tree = raw.tree([])
    for _ in range(10):
        tree = raw.tree([(FOLDER, b"%d" % count, tree) for count in range(10)])
    raw.commit(tree)
    start = cpu_s()
    with pytest.raises(SourceError, match="more than 1,000,000 files and folders"):
        list_entries(raw.pin())
    assert cpu_s() - start < 5


@pytest.mark.slow
def test_paths_of_gigabytes_are_an_error(raw: RawRepository):
    """Sixteen names of 64 KiB in each of six levels: paths alone would be 6 TB."""
    tree = raw.tree([(FILE, b"a.py", raw.blob(b"x = 1\n"))])
    for _ in range(6):
        tree = raw.tree([(FOLDER, b"%x" % count + b"n" * (1 << 16), tree) for count in range(16)])
    raw.commit(tree)
    with pytest.raises(SourceError, match="more than 268,435,456 bytes"):
        list_entries(raw.pin())


def test_git_has_a_limit_on_its_memory(tmp_path: Path):
    limit, result = run_git("limit", config=["alias.limit=!ulimit -d"])
    assert result.status == 0
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    assert int(limit) << 10 == MEMORY_LIMIT_BYTES or hard != resource.RLIM_INFINITY


def _write_zeros(raw: RawRepository, size: int) -> str:
    """Write a loose object of `size` zeros without holding them in memory, and return its id."""
    header, block = b"blob %d\0" % size, b"\0" * (1 << 20)
    digest, packer, written = hashlib.sha1(header, usedforsecurity=False), zlib.compressobj(9), []
    written.append(packer.compress(header))
    for start in range(0, size, len(block)):
        part = block[: size - start]
        digest.update(part)
        written.append(packer.compress(part))
    written.append(packer.flush())
    path = raw.loose_path(digest.hexdigest())
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(written))
    return digest.hexdigest()
