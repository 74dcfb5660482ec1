"""Each file is dated by the first commit with its path or its bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte_llama.config import SourceConfig
from flyte_llama.errors import SourceError
from flyte_llama.sources import first_commits, open_tree, pin
from flyte_llama.sources import history as history_source
from tests.conftest import git
from tests.sources.hostile import FILE, FOLDER, SUBMODULE, RawRepository
from tests.sources.server import Behaviour, serve

A, B, C = b"a = 1\n", b"b = 2\n", b"c = 3\n"


def test_a_file_is_as_old_as_the_first_commit_with_its_path(raw: RawRepository):
    first = raw.commit_files({b"a.py": A}, time=100)
    second = raw.commit_files({b"a.py": B, b"c.py": C}, first, time=200)
    raw.commit_files({b"a.py": B, b"c.py": A + C}, second, time=300)
    assert first_commits(raw.pin()) == {"a.py": 100, "c.py": 200}


def test_the_pinned_commit_decides_and_not_what_came_after(raw: RawRepository):
    first = raw.commit_files({b"a.py": A}, time=100)
    raw.commit_files({b"a.py": A, b"b.py": B}, first, time=200)
    assert first_commits(raw.pin(first)) == {"a.py": 100}


def test_an_exact_rename_makes_no_file_younger_and_neither_does_one_after_an_edit(raw: RawRepository):
    first = raw.commit_files({b"old.py": A}, time=100)
    second = raw.commit_files({b"old.py": B}, first, time=200)
    third = raw.commit_files({b"moved.py": B}, second, time=300)
    raw.commit_files({b"again.py": B}, third, time=400)
    assert first_commits(raw.pin()) == {"again.py": 100}


def test_a_copy_is_as_old_as_its_bytes(raw: RawRepository):
    first = raw.commit_files({b"a.py": A}, time=100)
    second = raw.commit_files({b"a.py": B}, first, time=200)
    raw.commit_files({b"a.py": B, b"copy.py": A}, second, time=300)
    assert first_commits(raw.pin()) == {"a.py": 100, "copy.py": 100}


def test_a_rename_with_an_edit_makes_a_new_file(raw: RawRepository):
    first = raw.commit_files({b"old.py": A}, time=100)
    raw.commit_files({b"new.py": B}, first, time=200)
    assert first_commits(raw.pin()) == {"new.py": 200}


def test_an_empty_file_does_not_show_where_another_came_from(raw: RawRepository):
    """A commit deletes an empty `__init__.py` in one place and adds one in another, which is filled later."""
    first = raw.commit_files({b"old.py": b"", b"keep.py": A}, time=100)
    second = raw.commit_files({b"keep.py": A, b"new.py": b""}, first, time=200)
    raw.commit_files({b"keep.py": A, b"new.py": B}, second, time=300)
    assert first_commits(raw.pin()) == {"keep.py": 100, "new.py": 200}


def test_a_file_from_a_merged_branch_is_as_old_as_in_the_branch(raw: RawRepository):
    base = raw.commit_files({b"a.py": A}, time=100)
    side = raw.commit_files({b"a.py": A, b"side.py": B}, base, time=200)
    main = raw.commit_files({b"a.py": C}, base, time=300)
    raw.commit_files({b"a.py": C, b"side.py": B, b"in-merge.py": b"d = 4\n"}, main, side, time=400)
    assert first_commits(raw.pin()) == {"a.py": 100, "side.py": 200, "in-merge.py": 400}


def test_a_file_from_an_unrelated_root_is_as_old_as_there(raw: RawRepository):
    other = raw.commit_files({b"other.py": B}, time=50, ref="refs/heads/other")
    main = raw.commit_files({b"a.py": A}, time=100)
    raw.commit_files({b"a.py": A, b"other.py": B}, main, other, time=400)
    assert first_commits(raw.pin()) == {"a.py": 100, "other.py": 50}


def test_a_commit_with_a_clock_that_went_wrong_only_makes_files_older(raw: RawRepository):
    first = raw.commit_files({b"a.py": A}, time=500)
    raw.commit_files({b"a.py": B, b"b.py": C}, first, time=100)
    assert first_commits(raw.pin()) == {"a.py": 100, "b.py": 100}


def test_every_entry_has_a_time_whatever_its_kind_and_name(raw: RawRepository):
    inner = raw.tree([(FILE, b"commit 5", raw.blob(A)), (SUBMODULE, b"sub", "2" * 40)])
    names = [b":100644 100644", b"a\nb.py", b"esc\x1b.py", b"latin-\xfc.py"]
    raw.commit(raw.tree([*((FILE, name, raw.blob(name)) for name in names), (FOLDER, b"z", inner)]), time=100)
    with open_tree(raw.pin()) as tree:
        assert first_commits(raw.pin()) == {entry.path: 100 for entry in tree.entries()}


def test_the_time_of_the_pinned_commit_is_known_and_a_package_has_none(raw: RawRepository):
    first = raw.commit_files({b"a.py": A}, time=100)
    raw.commit_files({b"a.py": B}, first, time=200)
    with open_tree(raw.pin()) as newer, open_tree(raw.pin(first)) as older:
        assert (older.committed, newer.committed) == (100, 200)
    package = pin(SourceConfig(url="package:flytekit"))
    with open_tree(package) as tree:
        assert tree.committed == 0
    assert first_commits(package) == {}


def test_no_content_is_fetched_so_a_lost_blob_does_no_harm(raw: RawRepository):
    blob = raw.blob(B)
    first = raw.commit_files({b"a.py": B}, time=100)
    raw.commit_files({b"a.py": A}, first, time=200)
    raw.loose_path(blob).unlink()
    assert first_commits(raw.pin()) == {"a.py": 100}


def test_a_history_that_git_would_call_malformed_is_read(raw: RawRepository):
    inner = raw.tree([(FILE, b"a.py", raw.blob(A))])
    old = raw.commit(raw.tree([(b"040000", b"d", inner)]), time=100)
    raw.commit(raw.tree([(FOLDER, b"d", inner)]), old, time=200)
    assert first_commits(raw.pin()) == {"d/a.py": 100}


@pytest.mark.parametrize("filters", ["true", "false"])
def test_a_server_with_and_without_filters_gives_the_same(raw: RawRepository, filters: str):
    first = raw.commit_files({b"a.py": A}, time=100)
    raw.commit_files({b"a.py": B, b"c.py": C}, first, time=200)
    raw.git("config", "uploadpack.allowFilter", filters)
    with serve(raw.path.parent, Behaviour()) as url:
        assert first_commits(pin(SourceConfig(url=f"{url}/raw"))) == {"a.py": 100, "c.py": 200}


def test_a_commit_that_only_its_ref_leads_to_is_found_though_the_ref_moved(
    raw: RawRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = raw.commit_files({b"a.py": A}, time=100)
    pinned = raw.pin()
    raw.commit_files({b"a.py": B}, first, time=200)
    # Servers with protocol version 0 refuse a commit that no ref points to.
    raw.git("config", "uploadpack.allowAnySHA1InWant", "false")
    (tmp_path / "gitconfig").write_text("[protocol]\n\tversion = 0\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    assert first_commits(pinned) == {"a.py": 100}
    with pytest.raises(SourceError, match=f"refs/heads/main is now .*, no longer {first}"), open_tree(pinned):
        pass
    raw.commit_files({b"b.py": B}, time=300)
    with pytest.raises(SourceError, match=r"no longer part of refs/heads/main\. Run again"):
        first_commits(pinned)


def test_a_history_that_is_cut_off_is_refused_and_does_not_make_files_younger(raw: RawRepository, tmp_path: Path):
    first = raw.commit_files({b"a.py": A}, time=100)
    raw.commit_files({b"a.py": B}, first, time=200)
    git(tmp_path, "clone", "-q", "--bare", "--depth=1", f"file://{raw.path}", "shallow")
    with pytest.raises(SourceError, match="fetch --unshallow"):
        first_commits(pin(SourceConfig(url=str(tmp_path / "shallow"))))


def test_more_changes_than_any_repository_has_are_an_error(raw: RawRepository, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history_source, "MAX_CHANGES", 5)
    raw.commit_files({b"%d.py" % count: A for count in range(6)})
    with pytest.raises(SourceError, match="more than 5 changes"):
        first_commits(raw.pin())
