"""Nothing in a URL, a ref, a repository or its configuration is ever run."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from flyte_llama.config import SourceConfig
from flyte_llama.errors import SourceError
from flyte_llama.sources import PinnedSource, first_commits, open_tree, pin
from tests.conftest import MakeRepo, git
from tests.sources.hostile import FILE, RawRepository, read_files, wrap_git

COMMIT = "1" * 40


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that every attack here creates if it succeeds; the working directory is empty."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "ran"


@pytest.fixture
def raw(tmp_path: Path) -> RawRepository:
    raw = RawRepository(tmp_path / "raw")
    raw.commit_files({b"a.py": b"x = 1\n"})
    return raw


URLS = [
    "ext::sh -c 'touch {ran}'",
    "fd::17",
    "transport::address",
    "--upload-pack=touch {ran}",
    "-u touch {ran}",
    "ssh://-oProxyCommand=touch%20{ran}/o/r",
    "git@-oProxyCommand=touch:o/r",
    "ssh://127.0.0.1:9/--upload-pack=touch",
    "/srv/repo\ntouch {ran}",
]


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_would_run_something_runs_nothing(url: str, ran: Path):
    url = url.format(ran=ran)
    with pytest.raises((ValidationError, SourceError)):
        pin(SourceConfig(url=url), timeout_s=5)
    # A pinned source that bypassed the check of the configuration.
    pinned = PinnedSource(name="o/r", url=url, ref="refs/heads/main", revision=COMMIT)
    with pytest.raises(SourceError), open_tree(pinned, timeout_s=5):
        pass
    with pytest.raises(SourceError):
        first_commits(pinned, timeout_s=5)
    assert not ran.exists()


def test_an_instead_of_cannot_lead_to_a_command(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "gitconfig").write_text(
        f'[url "ext::sh -c touch% {ran} "]\n\tinsteadOf = https://example.invalid/\n'
        '[protocol "ext"]\n\tallow = always\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    with pytest.raises(SourceError, match="transport 'ext' not allowed"):
        pin(SourceConfig(url="https://example.invalid/o/r"))
    assert not ran.exists()


@pytest.mark.parametrize(
    "ref", ["--upload-pack=touch", "-u", "main:refs/heads/x", "+main", "main\nmain", "a..b", "@{u}"]
)
def test_a_ref_that_is_an_option_or_a_refspec_is_never_fetched_as_one(ref: str, raw: RawRepository, ran: Path):
    with pytest.raises((ValidationError, SourceError)):
        pin(SourceConfig(url=str(raw.path), ref=ref))
    for revision in (COMMIT, ref):
        pinned = PinnedSource(name="o/r", url=str(raw.path), ref=ref, revision=revision)
        with pytest.raises(SourceError), open_tree(pinned):
            pass
    assert not ran.exists()


def test_a_head_that_names_no_proper_ref_is_refused(raw: RawRepository):
    (raw.path / "refs/heads/..").mkdir(exist_ok=True)
    (raw.path / "HEAD").write_text("ref: refs/heads/a..b\n")
    with pytest.raises(SourceError):
        pin(SourceConfig(url=str(raw.path)))


def test_hooks_and_commands_of_a_repositorys_configuration_never_run(make_repo: MakeRepo, ran: Path):
    repo = make_repo("r", {"a.py": "x = 1\n"})
    command = f"touch {ran}; false"
    for key in (
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "core.editor",
        "core.askPass",
        "core.gitProxy",
        "core.alternateRefsCommand",
        "uploadpack.packObjectsHook",
        "credential.helper",
        "diff.external",
        "gpg.program",
        "alias.upload-pack",
        "trace2.eventTarget",
    ):
        git(repo, "config", key, f"!{command}" if key.startswith(("alias", "credential")) else command)
    hooks = repo / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in (
        "post-checkout",
        "post-merge",
        "pre-auto-gc",
        "reference-transaction",
        "post-index-change",
        "pre-push",
    ):
        (hooks / name).write_text(f"#!/bin/sh\n{command}\n")
        (hooks / name).chmod(0o755)
    git(repo, "config", "core.hooksPath", str(hooks))
    pinned = pin(SourceConfig(url=str(repo)))
    assert read_files(pinned) == {"a.py": b"x = 1\n"}
    assert set(first_commits(pinned)) == {"a.py"}
    assert not ran.exists()


def test_hooks_of_the_users_template_do_not_reach_the_fetched_repository(
    raw: RawRepository, ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hook = tmp_path / "template/hooks/reference-transaction"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(tmp_path / "template"))
    assert read_files(raw.pin()) == {"a.py": b"x = 1\n"}
    assert not ran.exists()


def test_a_partial_clone_that_lacks_a_blob_does_not_ask_its_remote(raw: RawRepository, ran: Path):
    """Its upload-pack would fetch the blob from a remote, with a command that the repository configures."""
    blob = raw.blob(b"gone = 1\n")
    raw.commit(raw.tree([(FILE, b"gone.py", blob)]))
    raw.loose_path(blob).unlink()
    for key, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": "/",
        "remote.origin.uploadpack": f"touch {ran};",
    }.items():
        raw.git("config", key, value)
    with pytest.raises(SourceError):
        read_files(raw.pin())
    assert not ran.exists()


def test_inside_a_hook_the_users_repository_is_not_touched(
    raw: RawRepository, make_repo: MakeRepo, monkeypatch: pytest.MonkeyPatch
):
    """A pre-push hook may call `pyflyte run`, and git sets these variables there."""
    users_repo = make_repo("own", {"own.py": "y = 2\n"})
    before = sorted(path.relative_to(users_repo) for path in users_repo.rglob("*"))
    for name, value in {
        "GIT_DIR": ".git",
        "GIT_WORK_TREE": ".",
        "GIT_INDEX_FILE": ".git/index",
        "GIT_PREFIX": "",
    }.items():
        monkeypatch.setenv(name, str(users_repo / value) if value else value)
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(users_repo / ".git/objects"))
    pinned = pin(SourceConfig(url=str(raw.path)))
    assert read_files(pinned) == {"a.py": b"x = 1\n"}
    assert set(first_commits(pinned)) == {"a.py"}
    assert sorted(path.relative_to(users_repo) for path in users_repo.rglob("*")) == before


def test_the_configuration_of_the_current_repository_is_not_used(
    raw: RawRepository, make_repo: MakeRepo, ran: Path, monkeypatch: pytest.MonkeyPatch
):
    users_repo = make_repo("own", {"own.py": "y = 2\n"})
    git(users_repo, "config", "url./nowhere/.insteadOf", str(raw.path.parent) + "/")
    monkeypatch.chdir(users_repo)
    assert read_files(pin(SourceConfig(url=str(raw.path)))) == {"a.py": b"x = 1\n"}


def test_unusual_defaults_of_the_user_change_nothing(
    raw: RawRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "gitconfig").write_text(
        "[init]\n\tdefaultObjectFormat = sha256\n\tdefaultBranch = x\n"
        "[fetch]\n\tprune = true\n\trecurseSubmodules = true\n"
        "[log]\n\tshowRoot = false\n\tshowSignature = true\n[diff]\n\trenames = copies\n\tnoprefix = true\n"
        "[core]\n\tquotePath = false\n\tautocrlf = true\n[transfer]\n\tfsckObjects = false\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
    pinned = raw.pin()
    assert read_files(pinned) == {"a.py": b"x = 1\n"}
    assert first_commits(pinned) == {"a.py": 1_700_000_000}


def test_git_gets_no_terminal(raw: RawRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(
        "PATH", wrap_git(tmp_path / "bin", f'(: < /dev/tty) 2>/dev/null && touch {tmp_path}/tty; exec $REAL "$@"')
    )
    assert read_files(raw.pin()) == {"a.py": b"x = 1\n"}
    assert not (tmp_path / "tty").exists()
