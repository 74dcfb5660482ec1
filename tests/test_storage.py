"""A sealed folder and its tables are read as they were written, or not at all."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyte_llama.errors import DataError
from flyte_llama.storage import (
    content_digest,
    read_manifest,
    read_table,
    seal,
    sha256_folder,
    verify,
    write_table,
    write_unsealed_table,
)


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


def test_a_link_to_a_folder_is_neither_sealed_nor_accepted_later(tmp_path: Path):
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "a.bin").write_bytes(b"a")
    seal(folder)
    (folder / "adapter").symlink_to(elsewhere)
    with pytest.raises(DataError, match="adapter: is not in the manifest"):
        verify(folder, strict=True)
    with pytest.raises(DataError, match="adapter: is no file, so it cannot be sealed"):
        seal(folder)


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


def sealed_with(folder: Path, *, weights: str = "w", log: str = "l", **facts: object) -> dict[str, object]:
    """The manifest of a folder of two files and these facts, where the log and `seconds` are records."""
    folder.mkdir()
    (folder / "weights").write_text(weights)
    (folder / "log").write_text(log)
    seal(folder, records=["log", "seconds"], **facts)
    return read_manifest(folder)


def test_records_are_no_part_of_the_content_and_all_else_is(tmp_path: Path):
    content = content_digest(sealed_with(tmp_path / "a", kind=1, seconds=1))
    assert content_digest(sealed_with(tmp_path / "b", kind=1, seconds=2, log="other")) == content
    others = {"weights": {"weights": "x"}, "fact": {"kind": 2}}
    for name, changes in others.items():
        assert content_digest(sealed_with(tmp_path / name, **{"kind": 1, "seconds": 1, **changes})) != content


@pytest.mark.parametrize("name", ["log", "manifest.json"])
def test_a_damaged_record_is_damage(tmp_path: Path, name: str):
    sealed_with(tmp_path / "a", seconds=1)
    file = tmp_path / "a" / name
    file.write_text(file.read_text().replace("l", "1"))
    with pytest.raises(DataError, match=name):
        verify(tmp_path / "a", strict=True)


def test_a_manifest_that_was_changed_has_no_content(tmp_path: Path):
    sealed_with(tmp_path / "a", seconds=1)
    manifest = tmp_path / "a/manifest.json"
    manifest.write_text(manifest.read_text().replace('"seconds": 1', '"seconds": 2'))
    with pytest.raises(DataError, match="has changed since it was sealed"):
        read_manifest(tmp_path / "a")


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


NAMES = st.text("ab.é -", min_size=1, max_size=4).filter(lambda name: name not in (".", "..") and name.strip())
FOLDERS = st.recursive(
    st.binary(max_size=40), lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=4), max_leaves=8
).filter(lambda tree: isinstance(tree, dict))


def write_tree(folder: Path, tree: dict[str, Any]) -> None:
    for name, content in tree.items():
        if isinstance(content, dict):
            (folder / name).mkdir()
            write_tree(folder / name, content)
        else:
            (folder / name).write_bytes(content)


def damage_folder(folder: Path, data: st.DataObject) -> None:
    """Do one thing that changes the content of a file or the set of files, the manifest's included."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file = data.draw(st.sampled_from(files))
    content = file.read_bytes()
    others = [path for path in files if path.read_bytes() != content]
    kinds = ["append", "remove", "add", *(["flip", "cut"] if len(content) > 1 else []), *(["swap"] if others else [])]
    kind = data.draw(st.sampled_from(kinds))
    if kind == "append":
        file.write_bytes(content + data.draw(st.binary(min_size=1, max_size=3).filter(bytes.strip)))
    elif kind == "remove":
        file.unlink()
    elif kind == "add":
        (file.parent / "added").write_bytes(data.draw(st.binary(max_size=3)))
    elif kind == "flip":
        position, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
        changed = bytearray(content)
        changed[position] ^= 1 << bit
        file.write_bytes(changed)
    elif kind == "cut":
        # The manifest ends in a line break, which alone is no content.
        file.write_bytes(content[: data.draw(st.integers(0, len(content) - 2))])
    else:
        other = data.draw(st.sampled_from(others))
        file.write_bytes(other.read_bytes())
        other.write_bytes(content)


@settings(max_examples=60, deadline=None)
@given(tree=FOLDERS, data=st.data())
def test_a_sealed_tree_verifies_and_after_any_one_damage_it_does_not(tree: dict[str, Any], data: st.DataObject):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tree(folder, tree)
        seal(folder, fact=data.draw(st.none() | st.integers() | st.text(max_size=4)))
        verify(folder, strict=True)
        damage_folder(folder, data)
        with pytest.raises(DataError):
            verify(folder, strict=True)


def test_a_change_that_keeps_size_and_times_is_noticed_by_a_process_that_verified_before(sealed: Path):
    file = sealed / "a.bin"
    times = (0, 0)
    os.utime(file, ns=times)
    for _ in range(2):
        verify(sealed)
    file.write_bytes(b"0123456788")
    os.utime(file, ns=times)
    with pytest.raises(DataError, match="damaged"):
        verify(sealed)
