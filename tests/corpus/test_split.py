"""One repository on both sides, by paths or by date: no file and no text on both, and the card names the split."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from flyte_llama.config import CorpusConfig, SourceConfig
from flyte_llama.corpus import CorpusCard, build_corpus, funnel, pin_sources, read_parts, sides
from flyte_llama.documents import read_documents, write_source
from flyte_llama.errors import CorpusError, SourceError
from flyte_llama.sources import PinnedSource, pin
from tests.conftest import MakeRepo, commit_files, git, lines_of, words_of

ANY = {"accept_unknown_licence": True}
OLD, NEW = "2025-03-01", "2026-06-02"


def long(seed: int) -> str:
    return lines_of(words_of(60, seed=seed))


@pytest.fixture
def mono(make_repo: MakeRepo) -> Path:
    """A repository with two services, and a library that both copied a paragraph from."""
    shared = "\n" + lines_of(words_of(30, seed=99)) + "\n"
    return make_repo(
        "mono",
        {
            "lib/a.py": long(1) + shared + long(2),
            "services/billing/b.py": long(3),
            "services/payments/c.py": long(4) + shared,
            "services/payments/README.md": long(5),
        },
    )


def config(train: list[dict[str, Any]], heldout: list[dict[str, Any]] | None = None, **changes: Any) -> CorpusConfig:
    sides = {name: [ANY | source for source in side] for name, side in (("train", train), ("heldout", heldout)) if side}
    return CorpusConfig.model_validate({**sides, **changes})


def build(folder: Path, corpus: CorpusConfig) -> CorpusCard:
    shutil.rmtree(folder, ignore_errors=True)
    pinned, num_train = pin_sources(corpus, released=""), len(corpus.train_sources)
    folders = [folder / f"documents{index}" for index in range(len(pinned))]
    for source, target in zip(pinned, folders, strict=True):
        write_source(source, corpus.documents, target, cache_folder=folder / "cache")
    sides = {"train": folder / "train", "heldout": folder / "heldout"}
    return build_corpus(folders[:num_train], folders[num_train:], corpus, released=None, **sides)


def paths(folder: Path, side: str) -> set[str]:
    return {document.path for document in read_documents(folder / side)}


def runs(folder: Path, side: str, n: int = 13) -> set[tuple[str, ...]]:
    """All runs of n words of a side, found without the code under test."""
    texts = [re.findall(r"\w+", document.text) for document in read_documents(folder / side)]
    return {tuple(text[start : start + n]) for text in texts for start in range(len(text) - n + 1)}


def commit_on(repo: Path, day: str, files: dict[str, str | bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"):
        monkeypatch.setenv(name, f"{day}T12:00:00+0000")
    commit_files(repo, files)


def test_a_folder_is_held_out_and_what_it_shares_with_the_others_is_removed_from_train(mono: Path, tmp_path: Path):
    card = build(tmp_path / "c", config([{"url": str(mono)}], [{"url": str(mono), "paths": ["/services/payments/"]}]))
    assert paths(tmp_path / "c", "train") == {"lib/a.py", "services/billing/b.py"}
    assert paths(tmp_path / "c", "heldout") == {"services/payments/c.py", "services/payments/README.md"}
    assert not runs(tmp_path / "c", "train") & runs(tmp_path / "c", "heldout")
    assert (card.leakage.covered_words, card.leakage.residual_words) == (30, 0)


def test_the_card_and_the_held_out_folder_name_the_part(mono: Path, tmp_path: Path):
    heldout = {"url": str(mono), "paths": ["/services/payments/"], "exclude": ["*.md"]}
    card = build(tmp_path / "c", config([{"url": str(mono)}], [heldout]))
    text = "/services/payments/ of remotes/mono without *.md"
    assert card.split_text == f"split within repositories; held out: {text}"
    assert read_parts(tmp_path / "c/heldout") == card.parts
    assert [part.text for part in card.parts] == [text]


def test_files_of_the_other_side_and_files_that_are_not_selected_are_counted_and_listed(mono: Path, tmp_path: Path):
    heldout = {"url": str(mono), "paths": ["/services/payments/"], "exclude": ["*.md"]}
    card = build(tmp_path / "c", config([{"url": str(mono), "exclude": ["/lib/"]}], [heldout]))
    # README.md is not held out, so it is trained on.
    assert {reason: amount.files for reason, amount in card.train.sources[0].skipped.items()} == {
        "not_selected": 1,
        "other_side": 1,
    }
    assert {reason: amount.files for reason, amount in card.heldout.sources[0].skipped.items()} == {"not_selected": 3}
    assert [step.name for step in funnel(card, held_out=False)][1:3] == [
        "not selected by paths or exclude",
        "on the other side of the split",
    ]
    assert [file.path for file in card.train.left_out["other_side"]] == ["services/payments/c.py"]


def test_a_file_moved_into_the_held_out_folder_leaves_no_text_in_train(mono: Path, tmp_path: Path):
    git(mono, "mv", "services/billing/b.py", "services/payments/b.py")
    # A near-copy stays behind, and a copy of the whole text within another file.
    commit_files(
        mono, {"services/billing/near.py": long(3).replace("w", "w", 1) + "x = 1\n", "lib/d.py": long(6) + long(3)}
    )
    build(tmp_path / "c", config([{"url": str(mono)}], [{"url": str(mono), "paths": ["/services/payments/"]}]))
    assert "services/payments/b.py" in paths(tmp_path / "c", "heldout")
    assert not runs(tmp_path / "c", "train") & runs(tmp_path / "c", "heldout")


def test_by_date_the_files_first_committed_later_are_held_out(
    make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    repo = make_repo("dated", {})
    commit_on(repo, OLD, {"old.py": long(1), "moved.py": long(2), "edited.py": long(3)}, monkeypatch)
    git(repo, "mv", "moved.py", "renamed.py")
    changes = {"copy.py": long(1), "edited.py": long(3) + long(4), "new.py": long(5), "from_old.py": long(6) + long(1)}
    commit_on(repo, NEW, changes, monkeypatch)
    by_date = {"by": "date", "after": "2026-06-01"}
    card = build(tmp_path / "c", config([{"url": str(repo)}], split=by_date))
    # A renamed or copied file is as old as its bytes, and an edit makes none younger.
    assert paths(tmp_path / "c", "heldout") == {"new.py", "from_old.py"}
    assert paths(tmp_path / "c", "train") == {"renamed.py", "edited.py"}
    assert not runs(tmp_path / "c", "train") & runs(tmp_path / "c", "heldout")
    assert card.parts[0].text == "files of remotes/dated first committed after 2026-06-01"
    assert card.train.sources[0].skipped["other_side"].files == 2
    assert card.heldout.sources[0].skipped["other_side"].files == 4


def test_the_day_itself_is_trained_on_and_the_next_one_is_held_out(
    make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    repo = make_repo("dated", {})
    commit_on(repo, "2026-06-01", {"a.py": long(1)}, monkeypatch)
    commit_on(repo, "2026-06-02", {"b.py": long(2)}, monkeypatch)
    build(tmp_path / "c", config([{"url": str(repo)}], split={"by": "date", "after": "2026-06-01"}))
    assert (paths(tmp_path / "c", "train"), paths(tmp_path / "c", "heldout")) == ({"a.py"}, {"b.py"})


def test_a_repository_without_new_files_holds_out_no_part(
    make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    active = make_repo("active", {})
    commit_on(active, OLD, {"a.py": long(2)}, monkeypatch)
    quiet = make_repo("quiet", {"q.py": long(1)})  # on the same day
    commit_on(active, NEW, {"b.py": long(3)}, monkeypatch)
    sources = [{"url": str(quiet)}, {"url": str(active)}]
    card = build(tmp_path / "c", config(sources, split={"by": "date", "after": "2026-06-01"}))
    assert [part.repository for part in card.parts] == ["remotes/active"]


def test_the_newest_days_move_with_the_commit(make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    repo = make_repo("dated", {})
    corpus = config([{"url": str(repo)}], split={"by": "date", "newest_days": 60})
    held_out = {}
    commit_on(repo, OLD, {"old.py": long(1)}, monkeypatch)
    for seed, day in enumerate(["2026-03-01", "2026-04-15", "2026-05-15"], 2):
        commit_on(repo, day, {f"{day[5:7]}.py": long(seed)}, monkeypatch)
        card = build(tmp_path / "c", corpus)
        assert card.parts[0].text == f"files of remotes/dated first committed in the 60 days before its commit of {day}"
        held_out[day] = paths(tmp_path / "c", "heldout")
    assert list(held_out.values()) == [{"03.py"}, {"03.py", "04.py"}, {"04.py", "05.py"}]
    assert paths(tmp_path / "c", "train") == {"old.py", "03.py"}


@pytest.mark.parametrize(
    ("after", "remedy"),
    [
        (
            "2020-01-01",
            "train documents are left. {} Add sources to corpus.train, or set corpus.split.after to a later",
        ),
        (NEW, "heldout documents are left. {} Add sources to corpus.heldout, or set corpus.split.after to an earlier"),
    ],
)
def test_a_side_that_the_date_empties_names_the_split_and_its_remedy(
    make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str, remedy: str
):
    repo = make_repo("dated", {})
    commit_on(repo, OLD, {"a.py": long(1)}, monkeypatch)
    with pytest.raises(CorpusError) as caught:
        build(tmp_path / "c", config([{"url": str(repo)}], split={"by": "date", "after": after}))
    seen = remedy.format("1 file seen: 1 on the other side of the split.")
    assert caught.value.message == f"0 {seen} day than {after}."


def test_a_file_that_is_on_both_sides_is_refused(mono: Path, tmp_path: Path):
    source = pin(SourceConfig(url=str(mono), **ANY))
    write_source(source, CorpusConfig().documents, tmp_path / "d")
    sides = {"train": tmp_path / "train", "heldout": tmp_path / "heldout"}
    with pytest.raises(CorpusError, match=r"lib/a\.py is on both sides\. Hold it out, or train on it\."):
        build_corpus([tmp_path / "d"], [tmp_path / "d"], CorpusConfig(), released=None, **sides)


def test_extensions_are_trained_on_whole_and_further_repositories_are_held_out_whole(
    mono: Path, make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    commit_on(mono, OLD, {}, monkeypatch)
    dated = make_repo("dated", {"a.py": long(11)})
    commit_on(dated, NEW, {"b.py": long(12)}, monkeypatch)
    others = {name: str(make_repo(name, {f"{name}.py": long(seed)})) for name, seed in (("extra", 13), ("more", 14))}
    corpus = config(
        [{"url": str(dated)}],
        [{"url": others["more"]}],
        extensions=[ANY | {"url": others["extra"]}],
        split={"by": "date", "after": "2026-06-01"},
    )
    card = build(tmp_path / "c", corpus)
    assert paths(tmp_path / "c", "train") == {"a.py", "extra.py"}
    assert paths(tmp_path / "c", "heldout") == {"b.py", "more.py"}
    assert card.split_text.endswith("held out: files of remotes/dated first committed after 2026-06-01; remotes/more")


def test_both_sides_of_a_repository_are_pinned_to_one_commit(mono: Path, monkeypatch: pytest.MonkeyPatch):
    corpus = config([{"url": str(mono)}], [{"url": str(mono), "paths": ["/lib/"]}])

    def pin_and_push(source: SourceConfig) -> PinnedSource:
        pinned = pin(source)
        commit_files(mono, {"pushed.py": long(20)})
        return pinned

    monkeypatch.setattr(sides, "pin", pin_and_push)
    train, heldout = pin_sources(corpus, released="")
    assert train.revision == heldout.revision
    assert train.cache_name != heldout.cache_name


@pytest.mark.parametrize("age", ["", "date"])
def test_a_fork_under_another_url_stays_refused(mono: Path, tmp_path: Path, age: str):
    git(mono, "clone", "-q", str(mono), str(tmp_path / "fork"))
    train = [{"url": str(mono)}, {"url": str(tmp_path / "fork")}]
    corpus = config(train, [{"url": str(mono), "paths": ["/lib/"]}])
    if age:
        corpus = config(train, split={"by": "date", "after": "2020-01-01"})
    with pytest.raises(CorpusError, match="shares its history with"):
        build(tmp_path / "c", corpus)


def test_the_same_part_gives_the_same_documents_from_the_cache_and_neither_side_empties_that_of_the_other(
    mono: Path, tmp_path: Path
):
    corpus = config([{"url": str(mono)}], [{"url": str(mono), "paths": ["/services/payments/"]}])
    build(tmp_path / "c", corpus)
    first = {file.name: file.read_bytes() for file in (tmp_path / "c/cache").glob("*.parquet")}
    assert len(first) == 2
    for index, source in enumerate(pin_sources(corpus, released="")):
        write_source(source, corpus.documents, tmp_path / f"again{index}", cache_folder=tmp_path / "c/cache")
        assert read_documents(tmp_path / f"again{index}") == read_documents(tmp_path / f"c/documents{index}")
    assert {file.name: file.read_bytes() for file in (tmp_path / "c/cache").glob("*.parquet")} == first


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("/services/paymets/", "Did you mean one of these: /services/payments/"),
        ("/payments/", "Did you mean one of these: /services/payments/"),
        ("/lib/z.py", "Did you mean one of these: /lib/a.py"),
        ("/tools/", "There are: /lib/, /services/"),
    ],
)
def test_paths_that_match_no_file_are_an_error_that_names_the_nearest(
    mono: Path, tmp_path: Path, pattern: str, named: str
):
    source = pin(SourceConfig(url=str(mono), paths=[pattern]))
    with pytest.raises(SourceError) as caught:
        write_source(source, CorpusConfig().documents, tmp_path / "d")
    assert caught.value.message == f"{mono}: paths has {pattern!r}, which matches no file. {named}"
