"""The table of the files that did not become documents."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from flyte_llama.config import SourceConfig
from flyte_llama.documents.left_out import LeftOutFile, join_left_out, largest_by_reason, shown_path, write_left_out
from flyte_llama.documents.read import write_source
from flyte_llama.sources import pin
from flyte_llama.storage import verify
from tests.documents.planted import CONFIG, KEPT, SKIPPED, TOKEN


def left_out(repository: str, path: str, num_bytes: int = 1, reason: str = "type") -> LeftOutFile:
    return LeftOutFile(repository=repository, path=path, num_bytes=num_bytes, reason=reason)


def test_every_file_that_is_no_document_is_in_the_table_with_its_reason(repo: Path, tmp_path: Path):
    count = write_source(pin(SourceConfig(url=str(repo))), CONFIG, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out/left_out.parquet").to_pylist()
    assert "left_out.parquet" in verify(tmp_path / "out")["files"]
    assert sum(row["num_bytes"] for row in rows) == sum(amount.num_bytes for amount in count.skipped.values())
    reasons = {row["path"]: row["reason"] for row in rows}
    # A secret in a path is masked.
    planted = {path: reason for path, (_, reason) in SKIPPED.items() if reason not in ("secret_path", "name")}
    assert planted.items() <= reasons.items()
    assert len(rows) == len(SKIPPED) + 3
    assert reasons.keys() & KEPT.keys() == {".gitattributes"}


def test_paths_are_shown_without_secrets_addresses_and_control_characters():
    paths = [f"a/{TOKEN}.py", "mail/jane@" + "corp.io.txt", "a\nb.py", "plain.py"]
    shown = [shown_path(path) for path in paths]
    assert shown[3] == "plain.py"
    assert TOKEN not in shown[0]
    assert "jane" not in shown[1]
    assert shown[2].isprintable()


def test_the_tables_of_several_sources_are_joined_by_reason_and_size(tmp_path: Path):
    for name, sizes in (("a", [1, 30]), ("b", range(100, 115))):
        (tmp_path / name).mkdir()
        files = [left_out(f"o/{name}", f"{size}.x", size) for size in sizes]
        write_left_out(tmp_path / name, [*files, left_out(f"o/{name}", "go.sum", 9, "lock")], url=f"https://{name}")
    joined = join_left_out([tmp_path / "a", tmp_path / "b", tmp_path / "none"])
    assert joined["reason"].to_pylist() == ["lock"] * 2 + ["type"] * 17
    largest = largest_by_reason(joined)
    assert [file.num_bytes for file in largest["type"]] == list(range(114, 104, -1))
    assert [file.repository for file in largest["lock"]] == ["o/a", "o/b"]
