"""In a local run, a source whose ref moved is read alone again, and one whose folder is damaged too."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flytekit import FlyteDirectory, map_task, workflow
from flytekit.core.local_cache import LocalTaskCache

from flyte_llama.config import CorpusConfig, DocumentsConfig
from flyte_llama.corpus import pin_sources
from flyte_llama.documents import read_documents
from flyte_llama.sources import PinnedSource
from flyte_llama.tasks import cache, data, folders
from flyte_llama.tasks.cache import OutputCache
from tests.conftest import MakeRepo, commit_files


@workflow
def read_all(sources: list[PinnedSource], documents: DocumentsConfig, generation: str) -> list[FlyteDirectory]:
    read = functools.partial(data.read_source, documents=documents, generation=generation)
    return map_task(read)(source=sources)


class Run:
    """A local run that reads repositories, and counts which it reads."""

    def __init__(self, repos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        self.repos, self._monkeypatch = repos, monkeypatch
        self.read: list[str] = []
        self.folders: list[Path] = []
        write_source = data.write_source

        def count_and_write(source: PinnedSource, *arguments: Any, **options: Any) -> Any:
            self.read.append(source.name)
            return write_source(source, *arguments, **options)

        monkeypatch.setattr(data, "write_source", count_and_write)

    def __call__(self, output: Path, *, documents: DocumentsConfig | None = None, generation: str = "") -> list[str]:
        """Run as a new process in this output folder, and return the names of the sources that were read."""
        here = OutputCache(output)
        for method in ("get", "set"):
            self._monkeypatch.setattr(LocalTaskCache, method, staticmethod(getattr(here, method)))
        for module in (cache, data, folders):
            self._monkeypatch.setattr(module, "CACHE", here)
        self._monkeypatch.setattr(folders, "_output", lambda: output)
        self.read.clear()
        train, *heldout = [{"url": str(repo), "accept_unknown_licence": True} for repo in self.repos]
        corpus = CorpusConfig.model_validate({"train": [train], "heldout": heldout})
        sources = pin_sources(corpus, released="")
        made = read_all(sources=sources, documents=documents or DocumentsConfig(), generation=generation)
        self.folders = [Path(folder.path) for folder in made]
        assert [read_documents(folder)[0].url for folder in self.folders] == [source.url for source in sources]
        return self.read


@pytest.fixture
def run(make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    repos = [make_repo(name, {f"{name}.py": f"print('this is {name}')\n"}) for name in ("one", "two", "three")]
    run = Run(repos, monkeypatch)
    assert run(tmp_path / "output") == ["remotes/one", "remotes/two", "remotes/three"]
    return run


def test_a_source_whose_ref_moved_is_read_alone(run: Run, tmp_path: Path):
    assert run(tmp_path / "output") == []
    before = run.folders
    commit_files(run.repos[1], {"new.py": "print('new')\n"})
    assert run(tmp_path / "output") == ["remotes/two"]
    assert [run.folders[index] == before[index] for index in range(3)] == [True, False, True]
    assert run(tmp_path / "output") == []


def test_a_source_that_is_added_or_removed_reads_no_other_again(run: Run, tmp_path: Path, make_repo: MakeRepo):
    run.repos.append(make_repo("four", {"four.py": "print(4)\n"}))
    assert run(tmp_path / "output") == ["remotes/four"]
    del run.repos[1]
    assert run(tmp_path / "output") == []
    # Nothing was made, so the report can say that nothing moved.
    assert data.CACHE.made == set()


@pytest.mark.parametrize(
    "damage",
    [
        shutil.rmtree,
        lambda folder: (folder / "documents.parquet").write_bytes(b"PAR1"),
        lambda folder: folder.rename(folder.parent / "elsewhere"),
    ],
    ids=["gone", "damaged", "moved"],
)
def test_a_folder_that_is_not_as_it_was_made_is_read_again(run: Run, tmp_path: Path, damage: Callable[[Path], object]):
    damage(run.folders[2])
    assert run(tmp_path / "output") == ["remotes/three"]
    assert run(tmp_path / "output") == []


def test_other_filters_another_generation_or_another_output_folder_read_all_again(run: Run, tmp_path: Path):
    output = tmp_path / "output"
    assert len(run(output, documents=DocumentsConfig(max_bytes=500))) == 3
    assert len(run(output, generation="1")) == 3
    assert len(run(tmp_path / "other")) == 3
    assert run(output) == []


def test_an_output_folder_that_was_moved_keeps_its_documents(run: Run, tmp_path: Path):
    (tmp_path / "output").rename(tmp_path / "moved")
    commit_files(run.repos[0], {"new.py": "print('new')\n"})
    assert run(tmp_path / "moved") == ["remotes/one"]


def test_overwriting_the_cache_reads_all_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYTE_LOCAL_CACHE_OVERWRITE", "true")
    assert len(run(tmp_path / "output")) == 3
