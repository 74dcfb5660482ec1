"""Rules that changed are never served from a cache."""

from __future__ import annotations

import re
from importlib import metadata

import pytest

from flyte_llama.documents import version
from flyte_llama.documents.version import rules_version


@pytest.fixture(autouse=True)
def _anew() -> None:
    rules_version.cache_clear()


def test_the_version_is_that_of_the_code_and_stays():
    first = rules_version()
    rules_version.cache_clear()
    assert re.fullmatch(r"[0-9a-f]{16}", first)
    assert rules_version() == first


def test_another_library_or_module_is_another_version(monkeypatch: pytest.MonkeyPatch):
    found = {rules_version()}
    rules_version.cache_clear()
    with monkeypatch.context() as changed:
        changed.setattr(metadata, "version", lambda name: "0" if name == "jupytext" else "1")
        found.add(rules_version())
    rules_version.cache_clear()
    with monkeypatch.context() as changed:
        changed.setattr(version, "_ROOMS", ("ngrams.py", "redaction", "licences", "rules"))
        found.add(rules_version())
    assert len(found) == 3
