"""`flyte-llama serve` answers on this machine, says what it serves, and ends when it is told to."""

from __future__ import annotations

import http.client
import importlib.util
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flyte_llama.cli import main
from tests.model.bases import hub_folder


@contextmanager
def serving(model: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A process that serves a model, its host and port, and what it said until it answered."""
    command = [sys.executable, "-m", "flyte_llama", "serve", "--model", str(model), "--port", "0", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = ""
        for line in process.stderr:
            said += line
            if "/v1 serves" in line:
                break
        yield process, said.rpartition("http://")[2].partition("/v1")[0], said
    finally:
        process.kill()
        process.wait()


def post(address: str, body: Any) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    return connection.getresponse()


@pytest.fixture
def model(tiny_base: Path, tmp_path: Path) -> Path:
    return hub_folder(tiny_base, tmp_path / "mine")


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_server_ends_within_5_seconds_even_while_it_writes(model: Path, sent: signal.Signals, code: int):
    with serving(model) as (process, address, said):
        assert "serves" in said
        assert "as mine. It completes from left to right, up to 256 tokens. Ctrl-C ends it." in said
        assert "--host" not in said
        response = post(address, {"model": "mine", "prompt": "def ", "stream": True, "max_tokens": 100})
        assert response.status == 200
        process.send_signal(sent)
        start = time.monotonic()
        assert process.wait(10) == code
        assert time.monotonic() - start < 5
        assert process.stderr is not None
        assert process.stderr.read().split() == (["interrupted"] if sent is signal.SIGINT else [])


@pytest.mark.slow
def test_a_server_says_nothing_of_the_texts_and_warns_when_others_can_reach_it(model: Path):
    with serving(model, "--host", "0.0.0.0") as (process, address, said):  # noqa: S104  # what is tested
        assert "anyone who reaches this address, since there is no --api-key-file" in said
        # under any name, since this machine's are unknown
        for body in ({"prompt": "a hidden text"}, {"prompt": ["a hidden text"], "n": 3}):
            post(address, body).read()
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert process.stderr.read() == ""


def serve(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["serve", *map(str, arguments)])


def test_a_missing_package_is_named_with_the_command_that_installs_it(model: Path, monkeypatch: pytest.MonkeyPatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    result = serve("--model", model)
    assert result.exit_code == 2
    assert "serve needs uvicorn. pip install -r requirements-serve.txt" in result.stderr


def test_an_address_that_is_taken_is_refused_before_the_model_is_loaded(model: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = serve("--model", model, "--port", taken.getsockname()[1])
    assert result.exit_code == 2
    assert "cannot be used (Address already in use). Choose --port or --host." in result.stderr
    assert "loading" not in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file"),
        (b"", "holds no key"),
        (b"short", "holds no key"),
        (b"\xff" * 9, "cannot"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused(model: Path, tmp_path: Path, content: bytes | None, message: str):
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    result = serve("--model", model, "--api-key-file", tmp_path / "key")
    assert result.exit_code == 2
    assert message in result.stderr
