"""The user's git configuration reaches servers as it should, and changes no result."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte_llama.config import SourceConfig
from flyte_llama.documents import Document
from flyte_llama.errors import SourceError
from flyte_llama.sources import SSH_KEY, History, PinnedSource, open_tree, pin, read_history, resolve_url
from flyte_llama.sources.credential import GIT_HOST, GIT_TOKEN
from flyte_llama.sources.git_process import GitResult
from flyte_llama.sources.git_remote import git_error
from flyte_llama.sources.ssh import ssh_problems
from flyte_llama.sources.user_config import connect
from tests.conftest import MakeRepo, commit_files, git
from tests.sources.hostile import RawRepository, collect_all, read_files

HOSTILE = """
[core]
    attributesFile = {folder}/attributes
    autocrlf = true
    ignoreCase = true
    precomposeUnicode = true
    quotePath = false
    protectNTFS = true
    abbrev = 4
    alternateRefsCommand = false
    bigFileThreshold = 1
    hooksPath = {folder}
    commitGraph = false
    pager = false
    symlinks = false
    worktree = {folder}
[diff]
    ignoreSubmodules = all
    renames = copies
    orderFile = /not/there
    external = false
    noPrefix = true
    relative = true
    algorithm = bogus
[log]
    date = relative
    diffMerges = off
    follow = true
    mailmap = true
    showRoot = false
    showSignature = true
    decorate = full
    excludeDecoration = refs/heads/*
[format]
    pretty = oneline
[color]
    ui = always
[i18n]
    logOutputEncoding = UTF-16
    commitEncoding = UTF-16
[fetch]
    fsckObjects = true
    prune = true
    pruneTags = true
    recurseSubmodules = true
    negotiationAlgorithm = noop
    writeCommitGraph = true
[fetch "fsck"]
    skipList = /not/there
    badTimezone = error
[transfer]
    fsckObjects = true
    hideRefs = refs/heads
    unpackLimit = 1000000
[uploadpack]
    hideRefs = refs/heads
    allowFilter = false
[init]
    templateDir = {folder}/template
    defaultObjectFormat = sha256
    defaultRefFormat = reftable
[extensions]
    partialClone = origin
[grep]
    patternType = perl
[pack]
    packSizeLimit = 1
[remote "flyte-llama"]
    url = https://example.invalid/o/r
    tagOpt = --tags
    promisor = true
[submodule]
    recurse = true
"""
VARIABLES = {
    "GIT_ATTR_SOURCE": "HEAD",
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "diff.ignoreSubmodules",
    "GIT_CONFIG_VALUE_0": "all",
    "GIT_CONFIG_KEY_1": "log.showRoot",
    "GIT_CONFIG_VALUE_1": "false",
    "GIT_CONFIG_PARAMETERS": "'diff.orderFile'='/not/there'",
    "GIT_DEFAULT_HASH": "sha256",
    "GIT_DIFF_OPTS": "-u9",
    "GIT_DIR": "/not/there",
    "GIT_EXTERNAL_DIFF": "false",
    "GIT_ICASE_PATHSPECS": "1",
    "GIT_INDEX_FILE": "/not/there",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NAMESPACE": "other",
    "GIT_OBJECT_DIRECTORY": "/not/there",
    "GIT_REF_PARANOIA": "1",
    "GIT_SMART_HTTP": "0",
    "GIT_WORK_TREE": "/not/there",
    "LC_ALL": "de_DE.UTF-8",
    "TZ": "Asia/Tokyo",
}


def everything(repo: Path) -> tuple[PinnedSource, History, list[Document], int]:
    """All that is read of a source: its pin, dates and roots, documents, and the time of its commit."""
    pinned = pin(SourceConfig(url=str(repo), accept_unknown_licence=True)).model_copy(update={"dated": True})
    with open_tree(pinned) as tree:
        committed = tree.committed
    return pinned, read_history(pinned), collect_all(pinned).documents, committed


def test_hostile_settings_and_variables_change_nothing(
    make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    repo = make_repo("r", {"a.py": "x = 1\r\n", "ü ñ.py": "z = 3\n", ".gitattributes": "gen.py linguist-generated\n"})
    commit_files(repo, {"gen.py": "y = 2\n", "A.py": "x = 4\n"})
    git(repo, "mv", "a.py", "renamed.py")
    git(repo, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    git(repo, "commit", "-q", "-m", "submodule")
    expected = everything(repo)
    assert {document.path for document in expected[2]} == {"renamed.py", "ü ñ.py", "A.py"}

    (tmp_path / "template/info").mkdir(parents=True)
    for file in ("attributes", "template/info/attributes"):
        (tmp_path / file).write_text("*.py linguist-generated\n")
    home = tmp_path / "home"
    (home / ".config/git").mkdir(parents=True)
    (home / ".config/git/attributes").write_text("*.py linguist-vendored\n")
    (home / ".gitconfig").write_text(HOSTILE.format(folder=tmp_path))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    for name, value in (VARIABLES | {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}).items():
        monkeypatch.setenv(name, value)
    assert everything(repo) == expected


def test_a_history_with_a_malformed_commit_is_read_whatever_the_user_lets_git_check(
    raw: RawRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tree = raw.tree([])
    text = f"tree {tree}\nauthor A <a@b.c> 1313584730 +051800\ncommitter A <a@b.c> 1313584730 +051800\n\nx\n"
    old = raw.git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=text.encode())
    raw.commit(tree, old)
    (tmp_path / "gitconfig").write_text("[fetch]\n\tfsckObjects = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    assert read_history(raw.pin()).roots.own == old


def test_the_command_for_a_malformed_object_lets_it_through(
    raw: RawRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    text = f"tree {raw.tree([])}\nauthor A <a@b.c> 1 +051800\ncommitter A <a@b.c> 1 +051800\n\nx\n"
    commit = raw.git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=text.encode())
    raw.git("update-ref", "refs/heads/main", commit)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    with pytest.raises(SourceError, match=r"git config --global fetch\.fsck\.badTimezone ignore"):
        read_files(raw.pin())
    git(tmp_path, "config", "--global", "fetch.fsck.badTimezone", "ignore")
    assert read_files(raw.pin()) == {}


def test_what_reaches_servers_is_passed_on_with_odd_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = {
        "http.proxy": "http://proxy:1",
        "http.https://a.b/c.extraheader": 'X: "a\\b" # c',
        "credential.helper": "!f() { echo 'a;b'; }; f",
        "core.sshcommand": "ssh -i 'a b'",
        "url.git@github.com:.insteadof": "work:",
        "safe.directory": "/a b",
    }
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    for name, value in settings.items():
        git(tmp_path, "config", "--global", name, value)
    with (tmp_path / "gitconfig").open("a") as file:
        file.write("[http]\n\tsslVerify\n[diff]\n\trenames = copies\n")
    with connect("https://example.invalid/o/r") as connection:
        copy = Path(connection.environment["GIT_CONFIG_GLOBAL"])
        assert copy.stat().st_mode & 0o777 == 0o600
        listed = git(tmp_path, "config", "--file", str(copy), "--list", "-z").split("\0")
    assert not copy.exists()
    assert listed[: len(settings) + 1] == [*(f"{name}\n{value}" for name, value in settings.items()), "http.sslverify"]
    assert not [setting for setting in listed if setting.startswith("diff.")]


@pytest.mark.parametrize("short", ["gh:", "gh-", "work/"])
def test_a_shorthand_of_insteadof_is_read_and_is_no_path(
    short: str, make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_repo("acme/tools", {"a.py": "x = 1\n"})
    (tmp_path / "gitconfig").write_text(
        f'[url "https://example.invalid/"]\n\tinsteadOf = {short[:2]}\n'
        f'[url "file://{tmp_path}/remotes/acme/"]\n\tinsteadOf = {short}\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    url = f"{short}tools"
    assert resolve_url(url) == git(tmp_path, "ls-remote", "--get-url", url)
    assert read_files(pin(SourceConfig(url=url))) == {"a.py": b"x = 1\n"}


def test_a_shorthand_for_https_gets_the_token_and_needs_no_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "gitconfig").write_text('[url "https://git.example.com/"]\n\tinsteadOf = gh:\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv(GIT_HOST, "git.example.com")
    monkeypatch.setenv(GIT_TOKEN, "token-1")
    monkeypatch.setenv(SSH_KEY, "/not/there")
    with connect("gh:acme/tools") as connection:
        assert connection.environment[GIT_TOKEN] == "token-1"
    assert ssh_problems(resolve_url("gh:acme/tools")) == []


@pytest.mark.parametrize(
    ("url", "said", "remedy"),
    [
        (
            "gh-work:o/r",
            "ssh: Could not resolve hostname gh-work: Name or service not known",
            "git config --global url.https://HOST/.insteadOf gh-work:",
        ),
        ("github.com:o/r.git", "me@github.com: Permission denied (publickey).", "write git@github.com:o/r.git."),
    ],
)
def test_a_shorthand_that_nothing_knows_is_told_in_gits_words_and_with_what_mends_it(url: str, said: str, remedy: str):
    message = git_error(url, GitResult(128, said, timed_out=False)).message
    assert said.rstrip(".") in message
    assert remedy in message


def test_a_host_without_a_scheme_is_no_silent_path():
    with pytest.raises(SourceError, match=r"If it is on a server, write https://github\.com/acme/tools\.$"):
        pin(SourceConfig(url="github.com/acme/tools"))


@pytest.mark.parametrize("name", ["r", "with blank"])
def test_a_repository_of_another_owner_is_read_after_gits_own_command(
    name: str, make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    repo = make_repo(name, {"a.py": "x = 1\n"})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    # git's own switch for its tests
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(SourceError, match="dubious ownership") as caught:
        pin(SourceConfig(url=str(repo)))
    command = "git config --global --add safe.directory " + (f"'{repo}/.git'" if " " in name else f"{repo}/.git")
    assert caught.value.message.endswith(f" If you trust it: {command}")
    git(tmp_path, *command.replace("'", "").split(" ", 5)[1:])
    assert read_files(pin(SourceConfig(url=str(repo)))) == {"a.py": b"x = 1\n"}


def test_a_configuration_that_git_cannot_read_is_named(
    make_repo: MakeRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    repo = make_repo("r", {"a.py": "x = 1\n"})
    (tmp_path / "gitconfig").write_text("[diff\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    with pytest.raises(SourceError, match=r"cannot read your configuration: .*bad config line 1.*gitconfig"):
        pin(SourceConfig(url=str(repo)))
