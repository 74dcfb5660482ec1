"""A sealed folder and its tables are read as they were written, or not at all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from flyte_llama.errors import DataError
from flyte_llama.storage import read_table, seal, sha256_folder, verify, write_table, write_unsealed_table


@dataclass(frozen=True)
class Row:
    name: str
    count: int


SCHEMA = pa.schema([("name", pa.string()), ("count", pa.int64())])
ROWS = [Row("b", 2), Row("a\n\0é", -1)]


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(b"0123456789")
    seal(tmp_path, {"a.bin": 10}, why="test")
    return tmp_path


def test_a_sealed_folder_verifies_and_keeps_its_facts(sealed: Path):
    manifest = verify(sealed)
    assert manifest["files"]["a.bin"]["rows"] == 10
    assert manifest["why"] == "test"


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b"012345678"),
        lambda file: file.write_bytes(b"0123456788"),
        lambda file: file.unlink(),
    ],
    ids=["truncated", "flipped", "missing"],
)
def test_damage_names_the_file(sealed: Path, damage):
    damage(sealed / "a.bin")
    with pytest.raises(DataError, match=r"a\.bin"):
        verify(sealed)


def test_subfolders_are_sealed_too(tmp_path: Path):
    (tmp_path / "b/c").mkdir(parents=True)
    (tmp_path / "b/c/d.bin").write_bytes(b"d")
    seal(tmp_path)
    assert list(verify(tmp_path, strict=True)["files"]) == ["b/c/d.bin"]
    (tmp_path / "b/e.bin").write_bytes(b"")
    assert verify(tmp_path)["files"]
    with pytest.raises(DataError, match=r"b/e\.bin: is not in the manifest"):
        verify(tmp_path, strict=True)


def test_a_changed_manifest_counts_as_damage(sealed: Path):
    text = (sealed / "manifest.json").read_text()
    (sealed / "manifest.json").write_text(text.replace('"why": "test"', '"why": "tess"'))
    with pytest.raises(DataError, match="has changed since it was sealed"):
        verify(sealed)


def test_an_unsealed_folder_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"manifest\.json"):
        verify(tmp_path)


def test_the_hash_of_a_folder_depends_on_contents_and_file_names_but_not_on_its_path(tmp_path: Path):
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("b" if name == "three" else "a")).write_text("x")
    assert sha256_folder(tmp_path / "one") == sha256_folder(tmp_path / "two") != sha256_folder(tmp_path / "three")


@pytest.mark.parametrize("rows", [ROWS, []])
def test_rows_are_read_as_they_were_written_in_the_same_order(tmp_path: Path, rows: list[Row]):
    write_table(tmp_path / "made", "some.parquet", rows, SCHEMA, commit="abc")
    records, manifest = read_table(tmp_path / "made", "some.parquet", SCHEMA.names)
    assert records == [asdict(row) for row in rows]
    assert manifest["commit"] == "abc"
    assert manifest["files"]["some.parquet"]["rows"] == len(rows)


def test_a_damaged_table_is_not_read(tmp_path: Path):
    write_table(tmp_path, "some.parquet", ROWS, SCHEMA)
    with (tmp_path / "some.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="damaged"):
        read_table(tmp_path, "some.parquet", SCHEMA.names)


def test_a_table_of_an_earlier_version_is_refused_with_its_missing_columns(tmp_path: Path):
    write_table(tmp_path, "some.parquet", ROWS, SCHEMA)
    with pytest.raises(
        DataError, match=r"some\.parquet: has no column url, start, so an earlier version .* Measure again"
    ):
        read_table(tmp_path, "some.parquet", ["name", "url", "start"])


def test_several_tables_are_sealed_together(tmp_path: Path):
    table = pa.Table.from_pylist([asdict(row) for row in ROWS], schema=SCHEMA)
    rows = {name: write_unsealed_table(tmp_path / "made", name, table) for name in ("a.parquet", "b.parquet")}
    with pytest.raises(DataError, match=r"manifest\.json"):
        read_table(tmp_path / "made", "a.parquet", ["name"])
    seal(tmp_path / "made", rows)
    records, manifest = read_table(tmp_path / "made", "b.parquet", ["name"])
    assert records == [{"name": row.name} for row in ROWS]
    assert {name: file["rows"] for name, file in manifest["files"].items()} == {"a.parquet": 2, "b.parquet": 2}
