"""A held-out repository that is a copy, a fork or a part of a train one is refused, however it is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flyte_llama.config import CorpusConfig, DocumentsConfig, SourceConfig
from flyte_llama.corpus import CorpusCard, build_corpus, pin_sources
from flyte_llama.documents import write_source
from flyte_llama.errors import CorpusError
from flyte_llama.sources import pin
from flyte_llama.storage import verify
from tests.conftest import MakeRepo, commit_files, git, lines_of, words_of


def long(seed: int) -> str:
    return lines_of(words_of(60, seed=seed))


def build(folder: Path, train: Path, heldout: Path) -> CorpusCard:
    source = {"accept_unknown_licence": True}
    config = CorpusConfig(
        train=[SourceConfig(url=str(train), **source)], heldout=[SourceConfig(url=str(heldout), **source)]
    )
    pinned = pin_sources(config, released="")
    folders = [folder / f"documents{index}" for index in range(2)]
    for one, target in zip(pinned, folders, strict=True):
        write_source(one, config.documents, target)
    sides = {"train": folder / "train", "heldout": folder / "heldout"}
    return build_corpus(folders[:1], folders[1:], config, released=None, **sides)


def mirror(repo: Path, to: Path) -> None:
    git(repo, "clone", "-q", "--mirror", str(repo), str(to))


def fork(repo: Path, to: Path) -> None:
    git(repo, "clone", "-q", str(repo), str(to))
    git(to, "rm", "-q", "-r", ".")
    commit_files(to, {"other.py": long(7)})


def renamed_copy(repo: Path, to: Path) -> None:
    shutil.copytree(repo, to)


def bundle(repo: Path, to: Path) -> None:
    git(repo, "bundle", "create", "-q", str(to), "--all")


def part_of_a_monorepo(repo: Path, to: Path) -> None:
    to.mkdir()
    git(to, "init", "-q", "-b", "main")
    commit_files(to, {"mono.py": long(8)})
    merge(to, repo)


def merge(into: Path, repo: Path) -> None:
    """Merge the history of another repository, and keep none of its files."""
    git(into, "fetch", "-q", str(repo), "main")
    git(into, "merge", "-q", "-s", "ours", "--allow-unrelated-histories", "-m", "merge", "FETCH_HEAD")


@pytest.mark.parametrize("copy", [mirror, fork, renamed_copy, bundle, part_of_a_monorepo])
@pytest.mark.parametrize("is_held_out", [True, False])
def test_a_copy_on_the_other_side_is_refused_and_both_are_named(
    make_repo: MakeRepo, tmp_path: Path, copy: Callable[[Path, Path], None], is_held_out: bool
):
    original = make_repo("original", {"a.py": long(1)})
    first = git(original, "rev-parse", "HEAD")
    commit_files(original, {"b.py": long(2)})
    copy(original, tmp_path / "elsewhere")
    train, heldout = (original, tmp_path / "elsewhere") if is_held_out else (tmp_path / "elsewhere", original)
    with pytest.raises(CorpusError) as caught:
        build(tmp_path, train, heldout)
    assert caught.value.message == (
        f"corpus.heldout = {heldout}: shares its history with {train} in corpus.train, since both contain the first "
        f"commit {first}. Hold out another repository, or take that one out of corpus.train."
    )


def test_a_third_repository_that_both_merged_makes_them_no_copies(make_repo: MakeRepo, tmp_path: Path):
    third = make_repo("third", {"c.py": long(3)})
    sides = [make_repo(name, {f"{name}.py": long(seed)}) for name, seed in (("a", 1), ("b", 2))]
    for repo in sides:
        merge(repo, third)
    assert build(tmp_path, *sides).train.documents.files == 1


def test_roots_that_are_not_known_are_said_once_and_the_corpus_is_built(
    make_repo: MakeRepo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    original = make_repo("original", {"a.py": long(1)})
    commit_files(original, {"a.py": long(2)})
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{original}", "shallow")
    assert build(tmp_path, make_repo("train", {"b.py": long(3)}), tmp_path / "shallow").heldout.documents.files == 1
    said = [line for line in capsys.readouterr().err.splitlines() if "root commits are not compared" in line]
    assert len(said) == 1
    assert f"{tmp_path / 'shallow'}: its history is cut off" in said[0]


def test_roots_are_fetched_once_for_a_commit_and_again_if_the_cache_is_damaged(
    make_repo: MakeRepo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    repo, cache = make_repo("r", {"a.py": long(1)}), tmp_path / "cache"

    def roots_and_fetches() -> tuple[dict, int]:
        folder = tmp_path / "out"
        shutil.rmtree(folder, ignore_errors=True)
        source = SourceConfig(url=str(repo), accept_unknown_licence=True)
        write_source(pin(source), DocumentsConfig(), folder, cache_folder=cache)
        return verify(folder)["roots"], capsys.readouterr().err.count("fetching the commits of")

    first, num_fetches = roots_and_fetches()
    assert (num_fetches, roots_and_fetches()) == (1, (first, 0))
    (manifest,) = cache.glob("roots-*/manifest.json")
    manifest.write_text(manifest.read_text().replace(first["own"], "0" * 40))
    assert roots_and_fetches() == (first, 1)
    commit_files(repo, {"b.py": long(2)})
    assert roots_and_fetches() == (first, 1)
    assert len(list(cache.glob("roots-*"))) == 1
