"""A source by ssh is read with the key that was given, from a host that is known, and with nothing else."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from flyte_llama.config import SourceConfig
from flyte_llama.errors import SourceError
from flyte_llama.sources import SSH_KEY, SSH_KNOWN_HOSTS, open_tree, pin
from flyte_llama.sources.git_process import GitResult
from flyte_llama.sources.git_remote import git_error
from flyte_llama.sources.ssh import ssh_environment, ssh_problems
from tests.conftest import MakeRepo

URL = "git@git.example.com:o/r.git"
PLAIN_KEY = "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3Blbg==\n-----END OPENSSH " + "PRIVATE KEY-----\n"
KEY = PLAIN_KEY.rstrip("\n").replace("\n", "\r\n")
HOSTS = "git.example.com ssh-ed25519 AAAA\n"


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A secret as Kubernetes mounts it: all may read it, and the key lacks its last line break."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    for variable, name, text in ((SSH_KEY, "ssh_key", KEY), (SSH_KNOWN_HOSTS, "known_hosts", HOSTS)):
        (folder / name).write_bytes(text.encode())
        (folder / name).chmod(0o644)
        monkeypatch.setenv(variable, str(folder / name))
    return folder


def options_of(command: str) -> dict[str, str]:
    """The options of a command of ssh, as ssh itself understands them; one that is given twice has both values."""
    shown = subprocess.run([*shlex.split(command), "-G", "git.example.com"], check=True, capture_output=True, text=True)
    options: dict[str, str] = {}
    for name, _, value in (line.partition(" ") for line in shown.stdout.splitlines()):
        options[name] = f"{options[name]} {value}" if name in options else value
    return options


def test_ssh_gets_the_key_alone_and_talks_only_to_known_hosts(secret: Path):
    with ssh_environment(URL) as environment:
        command = environment["GIT_SSH_COMMAND"]
        options = options_of(command)
    # ssh takes the home of a user from the system, so a test cannot give it another ~/.ssh/config.
    assert command.startswith("ssh -F none ")
    assert Path(options["identityfile"]).name == SSH_KEY
    assert Path(options["userknownhostsfile"]).name == SSH_KNOWN_HOSTS
    assert options["globalknownhostsfile"] == "/dev/null"
    assert options["stricthostkeychecking"] == "true"
    assert (options["identitiesonly"], options["batchmode"], options["updatehostkeys"]) == ("yes", "yes", "false")


def test_ssh_gets_copies_that_it_accepts_and_that_are_gone_afterwards(secret: Path):
    with ssh_environment(URL) as environment:
        options = options_of(environment["GIT_SSH_COMMAND"])
        key, hosts = Path(options["identityfile"]), Path(options["userknownhostsfile"])
        assert (key.read_bytes(), hosts.read_text()) == (PLAIN_KEY.encode(), HOSTS)
        assert key.stat().st_mode & 0o777 == 0o600
    assert not key.parent.exists()


def test_a_source_is_read_by_ssh_with_the_key(
    secret: Path, tmp_path: Path, make_repo: MakeRepo, monkeypatch: pytest.MonkeyPatch
):
    # in place of ssh, a program that reads the key and then does on this machine what the host would do
    repository = make_repo("o/r", {"a.py": "x = 1\n"})
    (tmp_path / "bin").mkdir()
    ssh, seen = tmp_path / "bin/ssh", tmp_path / "seen"
    ssh.write_text(
        f'#!/bin/sh\ncat "$4" >> {seen}\nfor word; do last="$word"; done\n'
        f'test "$last" = "git-upload-pack \'o/r.git\'" && exec git upload-pack {repository}\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    pinned = pin(SourceConfig(url=URL, accept_unknown_licence=True), timeout_s=20)
    with open_tree(pinned) as tree:
        assert [entry.path for entry in tree.entries()] == ["a.py"]
    assert seen.read_text() == PLAIN_KEY * 2


@pytest.mark.parametrize("url", ["https://git.example.com/o/r", "/srv/r", "package:flytekit", "file:///srv/r"])
def test_other_sources_need_no_key(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SSH_KEY, "/not/there")
    with ssh_environment(url) as environment:
        assert environment == {}
    assert ssh_problems(url) == []


def test_without_the_variables_the_configuration_of_the_user_decides(monkeypatch: pytest.MonkeyPatch):
    with ssh_environment(URL) as environment:
        assert environment == {}
    assert ssh_problems(URL) == []
    monkeypatch.setenv("PATH", "/not/there")
    assert ssh_problems(URL) == [
        "needs ssh, which is not on the PATH. Install ssh (Debian's openssh-client), or use https and a token."
    ]


def test_a_key_without_known_hosts_is_refused(secret: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(SSH_KNOWN_HOSTS)
    (problem,) = ssh_problems("ssh://git@git.example.com/o/r")
    assert problem.startswith(f"{SSH_KNOWN_HOSTS}: is not set.")


def test_a_secret_that_lacks_its_key_says_which(secret: Path):
    (secret / "ssh_key").unlink()
    with pytest.raises(SourceError) as raised:
        pin(SourceConfig(url=URL))
    assert raised.value.message.startswith(f"{SSH_KEY} names ")
    assert raised.value.message.endswith("(No such file or directory). In a pod this is ssh_key of the secret group.")


CLOSING = (
    "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\n"
    "and the repository exists."
)


def test_the_warning_of_a_changed_host_is_cut_to_its_reason():
    frame = "@" * 59
    warning = f"{frame}\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n{frame}\nIT IS POSSIBLE …\n"
    reason = "Host key for x has changed and you have requested strict checking.\nHost key verification failed."
    error = git_error(URL, GitResult(128, f"{warning}{reason}\n{CLOSING}", timed_out=False))
    assert error.message.startswith(f"{URL}: git cannot read it: {reason} The known hosts lack this key of the host")


@pytest.mark.parametrize(
    ("said", "is_transient", "remedy"),
    [
        ("Host key verification failed.", False, "Compare it with the one that the host publishes, and add it."),
        ("git@x: Permission denied (publickey).", False, "Allow it to read this repository;"),
        ('Load key "k": invalid format\ngit@x: Permission denied (publickey).', False, "without a passphrase."),
        ("No user exists for uid 4321", False, "run pods as user 1000 of the image."),
        ("error: cannot run ssh: No such file or directory", False, "Install ssh (Debian's openssh-client)"),
        ("ssh: connect to host x port 22: Connection timed out", True, "Check the URL"),
        ("ssh: Could not resolve hostname x: Name or service not known", True, "Check the URL"),
        ("Connection closed by 192.0.2.1 port 22", True, "Check the URL"),
        ("ERROR: Repository not found.", False, "Check the URL"),
    ],
)
def test_a_failure_of_ssh_says_what_to_do_and_one_of_the_network_is_retried(said: str, is_transient: bool, remedy: str):
    error = git_error(URL, GitResult(128, f"{said}\n{CLOSING}", timed_out=False))
    assert remedy in error.message
    assert error.transient == is_transient
