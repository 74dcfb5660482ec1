"""The command `flyte-llama serve`: a model on this machine, for editors and OpenAI's clients."""

from __future__ import annotations

import importlib.util
import ipaddress
import re
import socket
from pathlib import Path
from typing import Any

import click

from flyte_llama.cli.complete import MODEL_HELP
from flyte_llama.errors import DataError, ModelError
from flyte_llama.progress import say
from flyte_llama.serving import find_model, open_completer
from flyte_llama.serving.server import make_app, make_server, run_server
from flyte_llama.serving.turns import Turns
from flyte_llama.settings import read_settings

_NEEDED = ("starlette", "uvicorn")


@click.command("serve")
@click.option("--model", help=MODEL_HELP)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8012, show_default=True, help="0 takes a free one.")
@click.option("--name", help="What clients call the model; default: the name of its configuration.")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="A file with a key that clients must send.")
@click.option("--window", type=click.IntRange(16), help="Most tokens of a prompt and completion; default: up to 4096.")
@click.option("--max-tokens", type=click.IntRange(1), default=512, show_default=True, help="Most tokens written.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=1, show_default=True, help="Completions at once.")
@click.option("--waiting", type=click.IntRange(0, 64), default=8, show_default=True, help="Requests that may wait.")
def serve_http(model: str | None, **options: Any) -> None:
    """Serve a model to editors and to OpenAI's clients, on this machine only.

    POST /v1/completions, POST /infill, GET /v1/models and GET /health. Nothing is logged, stored or sent elsewhere.
    """
    serve_model(model, **options)


def serve_model(
    model: str | None,
    *,
    host: str,
    port: int,
    name: str | None,
    api_key_file: Path | None,
    window: int | None,
    max_tokens: int,
    concurrency: int,
    waiting: int,
) -> None:
    """Serve a model until Ctrl-C or SIGTERM.

    Args:
        model: A run, a folder or a hub id; None is the newest run.
        port: 0 takes a free one.
        name: What clients call the model; None is the name of its configuration, or its own.
        api_key_file: A file whose content clients must send; None lets everyone in who reaches the address.
        window: The most tokens of a prompt and its completion together; None is the model's, see `open_completer`.
        max_tokens: The most tokens of a completion.
        concurrency: Completions at the same time.
        waiting: How many more requests may wait.

    Raises:
        ModelError: if packages are missing, or the model cannot be loaded.
        DataError: if the address cannot be used, or the key cannot be read.
    """
    missing = [package for package in _NEEDED if importlib.util.find_spec(package) is None]
    if missing:
        raise ModelError(f"serve needs {' and '.join(missing)}. pip install -r requirements-serve.txt")
    key = None if api_key_file is None else _read_key(api_key_file)
    named = find_model(model, read_settings().output_folder)
    served = name or named.served_name
    with _bind(host, port) as listener:
        say(f"{named.name}: loading")
        completer = open_completer(named, window=window)
        turns = Turns(completer.make_copies(concurrency), max_waiting=waiting)
        is_local = _is_loopback(host)
        name_here = host if is_local else None
        app = make_app(turns, completer, served=served, max_tokens=max_tokens, host=name_here, api_key=key)
        if not is_local:
            who = (
                "anyone who has the key" if key else "anyone who reaches this address, since there is no --api-key-file"
            )
            say(f"--host {host}: {who} can use the model, and texts cross the network unencrypted")
        # From here on connections wait to be answered; before, they are refused.
        listener.listen()
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        way = "infills and completes" if completer.infills else "completes from left to right"
        say(f"{address}/v1 serves {named.name} as {served}. It {way}, up to {completer.window} tokens. Ctrl-C ends it.")
        run_server(make_server(app, turns), turns, listener)


def _bind(host: str, port: int) -> socket.socket:
    """Take the address before the model is loaded; connections are refused until the server runs."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{host}:{port}: cannot be used ({reason}). Choose --port or --host.") from None
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_key(file: Path) -> str:
    try:
        key = file.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"--api-key-file {file}: cannot be read ({getattr(error, 'strerror', None) or error})."
        ) from None
    if not re.fullmatch(r"[!-~]{8,}", key):
        raise DataError(f"--api-key-file {file}: holds no key. Write one line of 8 or more letters, digits and signs.")
    return key
