"""A token opens a private repository and appears nowhere; neither do the user's credentials."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flyte_llama.config import DocumentsConfig, SourceConfig
from flyte_llama.documents import write_documents
from flyte_llama.documents.read import collect
from flyte_llama.errors import SourceError
from flyte_llama.sources import first_commits, open_tree, pin
from flyte_llama.sources.credential import GIT_HOST, GIT_TOKEN, GIT_USER, credential_for
from tests.conftest import MakeRepo
from tests.sources.hostile import wrap_git
from tests.sources.server import Behaviour, serve

CANARY = "canary-7f3a9c51e2"
ANOTHER = "another-0d41"
ENCODED = base64.b64encode(f"x-access-token:{CANARY}".encode()).decode()


@pytest.fixture(autouse=True)
def _the_host_is_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GIT_HOST, "127.0.0.1")


@pytest.fixture
def root(make_repo: MakeRepo) -> Path:
    """Root folder of the server; it holds the repository `o/r/.git`."""
    return make_repo("o/r", {"a.py": "x = 1\n"}).parent.parent


def read_everything(url: str, folder: Path) -> dict[str, int]:
    """Take a source all the way: pin, collect and write it, and read its history."""
    pinned = pin(SourceConfig(url=url, accept_unknown_licence=True), timeout_s=20)
    assert CANARY not in pinned.model_dump_json()
    with open_tree(pinned) as tree:
        collected = collect(pinned, tree, DocumentsConfig())
    write_documents(folder / "documents", collected.documents, source=pinned.model_dump())
    return first_commits(pinned)


@pytest.fixture
def errors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[BaseException]]:
    """A list for the errors that a test catches; afterwards the canary is searched for everywhere.

    It must be absent from git's arguments, the configuration of the fetched repositories, the log, both outputs, the
    errors with their chains, and the files that the test wrote to `out`.
    """
    caplog.set_level(logging.DEBUG)
    log = tmp_path / "arguments"
    script = f'(printf "%s\\n" "$@"; cat "$GIT_DIR/config") >> {log} 2>/dev/null; exec $REAL "$@"'
    monkeypatch.setenv("PATH", wrap_git(tmp_path / "bin", script))
    errors: list[BaseException] = []
    yield errors
    captured = capfd.readouterr()
    texts = [caplog.text, captured.out, captured.err, log.read_text()]
    assert "ls-remote" in texts[-1]
    for error in errors:
        chain: BaseException | None = error
        while chain is not None:
            texts += [str(chain), repr(chain), repr(vars(chain)), repr(chain.args)]
            chain = chain.__cause__ or chain.__context__
    texts += [path.read_bytes().decode("latin-1") for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for text in texts:
        assert CANARY not in text
        assert ENCODED not in text


def test_the_token_opens_a_private_repository_and_appears_nowhere(
    root: Path, tmp_path: Path, errors: list[BaseException], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(GIT_TOKEN, CANARY + "\n")
    behaviour = Behaviour(token=CANARY)
    with serve(root, behaviour) as url:
        assert set(read_everything(f"{url}/o/r/.git", tmp_path / "out")) == {"a.py"}
    assert set(behaviour.authorizations) == {f"x-access-token:{CANARY}"}


def test_the_user_that_is_set_goes_with_the_token(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(GIT_TOKEN, CANARY)
    monkeypatch.setenv(GIT_USER, "$(x)'%s")
    behaviour = Behaviour(token=CANARY)
    with serve(root, behaviour) as url:
        pin(SourceConfig(url=f"{url}/o/r/.git"))
    assert set(behaviour.authorizations) == {f"$(x)'%s:{CANARY}"}


@pytest.mark.parametrize(
    ("host", "user"),
    [
        ("github.com", "x-access-token"),
        ("gitlab.com", "oauth2"),
        ("gitlab.example.com", "oauth2"),
        ("bitbucket.org", "x-token-auth"),
        ("git.example.com", "x-access-token"),
    ],
)
def test_each_host_gets_the_user_that_it_expects(host: str, user: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(GIT_TOKEN, CANARY)
    monkeypatch.setenv(GIT_HOST, host)
    assert credential_for(f"https://{host}/o/r").environment[GIT_USER] == user


def test_a_refused_token_is_an_error_without_it(
    root: Path, tmp_path: Path, errors: list[BaseException], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(GIT_TOKEN, CANARY)
    with serve(root, Behaviour(token=ANOTHER)) as url:
        with pytest.raises(SourceError, match=f"refused the token in {GIT_TOKEN}") as caught:
            pin(SourceConfig(url=f"{url}/o/r/.git"))
        errors.append(caught.value)
    assert not caught.value.transient


def test_without_a_token_the_error_says_what_to_set(root: Path):
    with (
        serve(root, Behaviour(token=CANARY)) as url,
        pytest.raises(SourceError, match=f"set {GIT_TOKEN} and its {GIT_HOST}, or git's") as caught,
    ):
        pin(SourceConfig(url=f"{url}/o/r/.git"))
    assert not caught.value.transient


def test_a_redirect_to_another_host_does_not_get_the_token(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(GIT_TOKEN, CANARY)
    thief = Behaviour(token=CANARY)
    with serve(root, thief) as other, serve(root, Behaviour(redirect=other)) as url, pytest.raises(SourceError):
        pin(SourceConfig(url=f"{url}/o/r/.git"))
    assert thief.authorizations == []


def test_an_instead_of_to_another_host_does_not_get_the_token(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(GIT_TOKEN, CANARY)
    thief = Behaviour(token=CANARY)
    with serve(root, thief) as url:
        (tmp_path / "gitconfig").write_text(f'[url "{url}/"]\n\tinsteadOf = https://example.invalid/\n')
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
        with pytest.raises(SourceError):
            pin(SourceConfig(url="https://example.invalid/o/r/.git"))
    assert thief.authorizations == []


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://github.com/o/r", "https://github.com"),
        ("https://gitlab.example.com:8443/o/r", "https://gitlab.example.com:8443"),
        ("http://127.0.0.1:8080/o/r", "http://127.0.0.1:8080"),
        ("http://localhost/o/r", "http://localhost"),
        ("http://github.com/o/r", None),
        ("http://localhost.example.com/o/r", None),
        ("http://127.0.0.1.example.com/o/r", None),
        ("ssh://git@github.com/o/r", None),
        ("git@github.com:o/r", None),
        ("git://github.com/o/r", None),
        ("file:///srv/r", None),
        ("/srv/r", None),
    ],
)
def test_only_https_and_this_machine_get_the_token(url: str, origin: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(GIT_TOKEN, CANARY)
    monkeypatch.setenv(GIT_HOST, urlsplit(url).hostname or "")
    config, environment = credential_for(url)
    assert CANARY not in str(config)
    assert [setting.partition("=")[0] for setting in config] == ([f"credential.{origin}.helper"] * 2 if origin else [])
    assert environment[GIT_TOKEN] == (CANARY if origin else "")


@pytest.mark.parametrize("host", [None, "gitlab.example.com", "GitLab.example.com"])
def test_the_token_is_for_one_host_alone(host: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(GIT_TOKEN, CANARY)
    monkeypatch.delenv(GIT_HOST)
    if host:
        monkeypatch.setenv(GIT_HOST, host)
    hosts = {name for name in ("github.com", "gitlab.example.com", "evil.example.com") if gets_token(name)}
    assert hosts == {(host or "github.com").lower()}


def gets_token(host: str) -> bool:
    return bool(credential_for(f"https://{host}/o/r").config)


@pytest.mark.parametrize("token", ["q7 z", "q7\nusername=b", "q7\x1b", "q7ü"])
def test_an_invalid_token_is_refused_without_being_shown(token: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(GIT_TOKEN, token)
    with pytest.raises(SourceError, match="not an access token") as caught:
        pin(SourceConfig(url="https://127.0.0.1:9/o/r"))
    assert token not in caught.value.message


def test_the_users_helper_is_not_asked_to_store_the_token(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = tmp_path / "stored"
    (tmp_path / "gitconfig").write_text(f"[credential]\n\thelper = store --file={store}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv(GIT_TOKEN, CANARY)
    with serve(root, Behaviour(token=CANARY)) as url:
        read_everything(f"{url}/o/r/.git", tmp_path / "out")
    assert not store.exists()


@pytest.mark.parametrize("way", ["helper", "askpass", "insteadOf"])
@pytest.mark.parametrize("right", [True, False])
def test_a_users_credential_works_without_a_token_and_appears_nowhere(
    way: str,
    right: bool,
    root: Path,
    tmp_path: Path,
    errors: list[BaseException],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("CANARY", CANARY)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    behaviour = Behaviour(token=CANARY if right else ANOTHER)
    with serve(root, behaviour) as url:
        source_url, config = f"{url}/o/r/.git", ""
        if way == "helper":
            config = '[credential]\n\thelper = "!f() { echo username=u; echo password=$CANARY; }; f"\n'
        elif way == "askpass":
            (tmp_path / "askpass").write_text("#!/bin/sh\necho $CANARY\n")
            (tmp_path / "askpass").chmod(0o755)
            monkeypatch.setenv("GIT_ASKPASS", str(tmp_path / "askpass"))
        else:
            with_password = url.replace("://", f"://u:{CANARY}@")
            config = f'[url "{with_password}/"]\n\tinsteadOf = https://example.invalid/\n'
            source_url = "https://example.invalid/o/r/.git"
        (tmp_path / "gitconfig").write_text(config)
        if right:
            assert set(read_everything(source_url, tmp_path / "out")) == {"a.py"}
        else:
            with pytest.raises(SourceError, match="It asks for credentials") as caught:
                read_everything(source_url, tmp_path / "out")
            errors.append(caught.value)
    assert behaviour.authorizations[-1].endswith(f":{CANARY}")


def test_only_the_host_of_a_url_in_the_users_configuration_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serve(tmp_path, Behaviour(status=404)) as url:
        (tmp_path / "gitconfig").write_text(f'[url "{url}/{CANARY}/"]\n\tinsteadOf = https://example.invalid/\n')
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
        with pytest.raises(SourceError, match=f"{url}/…") as caught:
            pin(SourceConfig(url="https://example.invalid/o/r"))
    assert CANARY not in caught.value.message
