"""Installed distributions are sources too."""

import json
from pathlib import Path

import pytest

from flyte_llama.config import SourceConfig
from flyte_llama.errors import SourceError
from flyte_llama.sources import open_tree, pin


def test_a_distribution_is_pinned_to_its_version_and_read_whole():
    import flytekit

    pinned = pin(SourceConfig(url="package:flytekit"))
    assert pinned.revision == flytekit.__version__
    with open_tree(pinned) as tree:
        files = {entry.path: tree.read(entry).data for entry in tree.entries()}
    with open(flytekit.__file__, "rb") as file:
        assert files["flytekit/__init__.py"] == file.read()
    assert not any("__pycache__" in path or path.startswith("..") for path in files)


def test_a_distribution_that_is_not_installed_is_named():
    with pytest.raises(SourceError, match="package:no-such-thing: is not installed"):
        pin(SourceConfig(url="package:no-such-thing"))


def test_another_version_than_the_pinned_one_is_refused():
    pinned = pin(SourceConfig(url="package:flytekit")).model_copy(update={"revision": "0.0.1"})
    with pytest.raises(SourceError, match=r"pinned to 0\.0\.1"), open_tree(pinned):
        pass


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The metadata of an installed distribution `acme-tools` of one module."""
    (tmp_path / "acme.py").write_text("x = 1\n")
    info = tmp_path / "acme_tools-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-tools\nVersion: 1.0\n")
    (info / "RECORD").write_text("acme.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return info


@pytest.mark.parametrize(
    "direct",
    [
        {"url": "file:///d/acme_tools-1.0-py3-none-any.whl", "archive_info": {}},
        {"url": "file:///src", "dir_info": {}},
        {"url": "https://h/o/r", "vcs_info": {"vcs": "git", "commit_id": "1" * 40}},
    ],
)
def test_a_wheel_that_is_from_no_index_is_read_and_pinned_by_its_files(installed: Path, direct: dict):
    (installed / "direct_url.json").write_text(json.dumps(direct))
    pinned = pin(SourceConfig(url="package:acme-tools"))
    with open_tree(pinned) as tree:
        assert [(entry.path, tree.read(entry).data) for entry in tree.entries()] == [("acme.py", b"x = 1\n")]
    (installed / "RECORD").write_text("acme.py,sha256=another,\n")
    assert pin(SourceConfig(url="package:acme-tools")).revision != pinned.revision


def test_an_editable_distribution_is_refused(installed: Path):
    (installed / "direct_url.json").write_text('{"url": "file:///src", "dir_info": {"editable": true}}')
    with (
        pytest.raises(SourceError, match="Give the path of its repository"),
        open_tree(pin(SourceConfig(url="package:acme-tools"))),
    ):
        pass
