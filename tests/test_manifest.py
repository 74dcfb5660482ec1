"""A sealed folder is read whole or not at all."""

from pathlib import Path

import pytest

from flyte_llama.errors import DataError
from flyte_llama.manifest import seal, sha256_folder, verify


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


def test_folders_in_the_folder_are_sealed_with_it(tmp_path: Path):
    (tmp_path / "b/c").mkdir(parents=True)
    (tmp_path / "b/c/d.bin").write_bytes(b"d")
    seal(tmp_path)
    assert list(verify(tmp_path, alone=True)["files"]) == ["b/c/d.bin"]
    (tmp_path / "b/e.bin").write_bytes(b"")
    assert verify(tmp_path)["files"]
    with pytest.raises(DataError, match=r"b/e\.bin: is not in the manifest"):
        verify(tmp_path, alone=True)


def test_a_changed_manifest_is_damage(sealed: Path):
    text = (sealed / "manifest.json").read_text()
    (sealed / "manifest.json").write_text(text.replace('"why": "test"', '"why": "tess"'))
    with pytest.raises(DataError, match="is not as it was sealed"):
        verify(sealed)


def test_an_unsealed_folder_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"manifest\.json"):
        verify(tmp_path)


def test_the_hash_of_a_folder_knows_content_and_names_but_not_its_own_place(tmp_path: Path):
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("b" if name == "three" else "a")).write_text("x")
    assert sha256_folder(tmp_path / "one") == sha256_folder(tmp_path / "two") != sha256_folder(tmp_path / "three")
