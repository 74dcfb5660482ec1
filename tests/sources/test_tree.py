"""Installed distributions are sources too."""

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
