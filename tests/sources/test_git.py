"""Git repositories are pinned, then read without a checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyte_llama.config import SourceConfig
from flyte_llama.errors import SourceError
from flyte_llama.sources import open_tree, pin
from flyte_llama.sources.entry import git_blob_id
from tests.conftest import MakeRepo, commit_files, git
from tests.sources.hostile import read_files


def test_every_file_comes_back_byte_for_byte(make_repo: MakeRepo):
    files = {"a.py": b"x = 1\r\n", "docs/ü ñ.md": "ü".encode(), "bin": bytes(range(256)) * 300, "empty": b""}
    pinned = pin(SourceConfig(url=str(make_repo("r", files))))
    assert read_files(pinned) == files
    with open_tree(pinned) as tree:
        for entry in tree.entries():
            blob = tree.read(entry)
            assert blob.blob_id == git_blob_id(blob.data)
            assert entry.num_bytes == len(blob.data)


def test_a_secret_or_an_address_in_a_branch_name_is_masked_and_the_branch_is_read(make_repo: MakeRepo):
    repo, token = make_repo("r", {"a": "1"}), "gh" + "p_" + "0123456789abcdefghijklmnopqrstuvwxyz"
    git(repo, "checkout", "-q", "-b", f"jane.doe@corp.io/{token}")
    pinned = pin(SourceConfig(url=str(repo)))
    assert pinned.ref == f"refs/heads/xxxx.xxx@xxxx.xx/{token[:4]}{'x' * 36}"
    assert read_files(pinned) == {"a": b"1"}
    with pytest.raises(SourceError) as raised:
        pin(SourceConfig(url=str(repo), ref="nothing"))
    assert token not in raised.value.message


def test_a_branch_a_tag_a_full_ref_and_a_commit_are_pinned(make_repo: MakeRepo):
    repo = make_repo("r", {"a": "1"})
    first = git(repo, "rev-parse", "HEAD")
    git(repo, "tag", "-a", "v1", "-m", "annotated")
    git(repo, "branch", "old")
    second = commit_files(repo, {"a": "2"})
    expected = {None: second, "main": second, "old": first, "v1": first, "refs/heads/old": first, first: first}
    for ref, commit in expected.items():
        pinned = pin(SourceConfig(url=str(repo), ref=ref))
        assert pinned.revision == commit, ref
        assert read_files(pinned) == {"a": b"1" if commit == first else b"2"}
    assert pin(SourceConfig(url=str(repo))).ref == "refs/heads/main"


def test_the_pinned_commit_is_read_even_if_the_branch_moved_since(make_repo: MakeRepo):
    repo = make_repo("r", {"a": "1"})
    pinned = pin(SourceConfig(url=str(repo)))
    commit_files(repo, {"a": "2"})
    assert read_files(pinned) == {"a": b"1"}


def test_a_file_url_and_a_path_read_the_same(make_repo: MakeRepo):
    repo = make_repo("r", {"a": "1"})
    assert read_files(pin(SourceConfig(url=f"file://{repo}"))) == read_files(pin(SourceConfig(url=str(repo))))


def test_the_users_insteadof_is_honoured(make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    repo = make_repo("r", {"a": "1"})
    (tmp_path / "gitconfig").write_text(f'[url "{repo}"]\n\tinsteadOf = https://example.invalid/o/r\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    pinned = pin(SourceConfig(url="https://example.invalid/o/r"))
    assert (pinned.name, read_files(pinned)) == ("o/r", {"a": b"1"})


@pytest.mark.parametrize("prefix", ["", "file://", "file://localhost"])
def test_a_path_that_is_no_repository_is_explained_in_one_sentence(make_repo: MakeRepo, tmp_path: Path, prefix: str):
    repo = make_repo("r", {"folder/a": "1"})
    (tmp_path / "plain").mkdir()
    (tmp_path / "file").write_text("x")
    reasons = {
        tmp_path / "none": "does not exist. Check the path.",
        tmp_path / "plain": "is not a git repository. Run git init there and commit its files, or give another path.",
        tmp_path / "file": "is a file, not a git repository. Give the folder of a repository.",
        repo / "folder": f"is a folder of the repository {repo}, not a repository. Give {repo}.",
    }
    for path, reason in reasons.items():
        with pytest.raises(SourceError) as caught:
            pin(SourceConfig(url=f"{prefix}{path}"))
        assert caught.value.message == f"{prefix}{path}: {reason}"


def test_a_bundle_is_read_by_its_path_alone(make_repo: MakeRepo, tmp_path: Path):
    bundle = tmp_path / "r.bundle"
    git(make_repo("r", {"a": "1"}), "bundle", "create", "-q", str(bundle), "--all")
    assert read_files(pin(SourceConfig(url=str(bundle)))) == {"a": b"1"}
    with pytest.raises(SourceError, match=rf"is a bundle, which git reads by its path alone\. Write {bundle}\.$"):
        pin(SourceConfig(url=f"file://{bundle}"))


def test_a_ref_that_is_missing_among_many_names_the_ten_nearest(make_repo: MakeRepo):
    repo = make_repo("r", {"a": "1"})
    commit = git(repo, "rev-parse", "HEAD")
    packed = "".join(f"{commit} refs/tags/v0.{minor}.0\n" for minor in range(90))
    (repo / ".git/packed-refs").write_text(packed)
    with pytest.raises(SourceError, match=r"no ref 'v0\.77'\. Nearest of 91: v0\.77\.0, (v[\d.]+, ){8}v[\d.]+\.$"):
        pin(SourceConfig(url=str(repo), ref="v0.77"))
    with pytest.raises(SourceError, match=r"Nearest of 91: main, "):
        pin(SourceConfig(url=str(repo), ref="mian"))


def test_a_missing_ref_lists_the_available_refs(make_repo: MakeRepo):
    repo = make_repo("r", {"a": "1"})
    git(repo, "tag", "v1")
    with pytest.raises(SourceError, match=r"no ref 'v9'\. Available: main, v1"):
        pin(SourceConfig(url=str(repo), ref="v9"))


def test_a_tag_of_digits_is_read_and_one_that_is_missing_says_what_to_write(make_repo: MakeRepo):
    repo = make_repo("r", {"a": "1"})
    git(repo, "tag", "20200225")
    assert pin(SourceConfig(url=str(repo), ref="20200225")).ref == "refs/tags/20200225"
    with pytest.raises(
        SourceError, match=r"needs all 40 digits; a tag would be refs/tags/20200226\. Available: main, 2"
    ):
        pin(SourceConfig(url=str(repo), ref="20200226"))


def test_a_name_that_is_branch_and_tag_asks_for_the_full_ref(make_repo: MakeRepo):
    repo = make_repo("r", {"a": "1"})
    git(repo, "tag", "both")
    git(repo, "branch", "both")
    with pytest.raises(SourceError, match="refs/tags/both, refs/heads/both"):
        pin(SourceConfig(url=str(repo), ref="both"))


def test_an_unborn_and_a_missing_repository_are_named(tmp_path: Path):
    git(tmp_path, "init", "-q", "unborn")
    with pytest.raises(SourceError, match="no commit yet"):
        pin(SourceConfig(url=str(tmp_path / "unborn")))
    with pytest.raises(SourceError, match=r"missing: does not exist\. Check the path\.$"):
        pin(SourceConfig(url=str(tmp_path / "missing")))


def test_a_commit_that_is_not_there_is_an_error_at_reading(make_repo: MakeRepo):
    pinned = pin(SourceConfig(url=str(make_repo("r", {"a": "1"})), ref="1" * 40))
    with pytest.raises(SourceError, match="git cannot read it"):
        read_files(pinned)


def test_symlinks_and_submodules_are_listed_by_their_modes_and_point_nowhere(make_repo: MakeRepo):
    repo = make_repo("r", {"a": "1"})
    os.symlink("/etc/passwd", repo / "link")
    git(repo, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    commit_files(repo, {})
    git(repo, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    git(repo, "commit", "-q", "-m", "submodule")
    with open_tree(pin(SourceConfig(url=str(repo)))) as tree:
        modes = {entry.path: entry.mode for entry in tree.entries()}
    assert modes == {"a": "100644", "link": "120000", "sub": "160000"}


def test_hooks_and_filters_of_the_remote_never_run(make_repo: MakeRepo, tmp_path: Path):
    repo = make_repo("r", {"a.txt": "id $Id$\n", ".gitattributes": "*.txt filter=evil ident eol=lf\n"})
    git(repo, "config", "filter.evil.smudge", f"touch {tmp_path}/ran")
    hook = repo / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    assert read_files(pin(SourceConfig(url=str(repo))))["a.txt"] == b"id $Id$\n"
    assert not (tmp_path / "ran").exists()


def test_a_clone_with_a_detached_head_is_pinned_to_its_head(make_repo: MakeRepo, tmp_path: Path):
    repo = make_repo("r", {"a": "1"})
    first = git(repo, "rev-parse", "HEAD")
    commit_files(repo, {"a": "2"})
    git(tmp_path, "clone", "-q", str(repo), "clone")
    git(tmp_path / "clone", "checkout", "-q", first)
    assert pin(SourceConfig(url=str(tmp_path / "clone"))).revision == first
