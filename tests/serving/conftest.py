"""A tiny Llama that infills, and servers for it in this process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.inference import PSM
from flyte_llama.model import load_model
from flyte_llama.serving import Completer
from flyte_llama.serving.server import make_app, make_server
from flyte_llama.serving.turns import Turns
from tests.model.bases import hub_folder

WINDOW = 120


class Served(NamedTuple):
    """A server that answers."""

    url: str
    turns: Turns


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Steps of a tiny model take longer on two threads that wait for each other than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def infilling(all_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose tokenizer has infill tokens, as a run with `fim` writes it."""
    return hub_folder(all_base, tmp_path_factory.mktemp("served") / "infilling")


@pytest.fixture
def completer(infilling: Path) -> Completer:
    return make_completer(infilling)


def make_completer(folder: Path, *, layout: str | None = PSM) -> Completer:
    model = load_model(folder, dtype=torch.float32)
    torch.manual_seed(0)
    for name, weight in model.named_parameters():  # a freshly initialised model repeats one token
        if weight.ndim > 1 and "norm" not in name:
            torch.nn.init.normal_(weight, std=0.3)
    return Completer(model, DocumentTokenizer(folder), window=WINDOW, layout=layout)


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Return a function that serves completers until the end of the test; options as for `make_app`."""
    servers: list[tuple[Any, threading.Thread]] = []

    def start(*completers: Completer, max_waiting: int = 2, **options: Any) -> Served:
        turns = Turns(completers, max_waiting=max_waiting)
        app = make_app(turns, completers[0], **({"served": "tiny", "max_tokens": 50} | options))
        server = make_server(app, turns)
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        servers.append((server, thread))
        return Served(f"http://127.0.0.1:{listener.getsockname()[1]}", turns)

    yield start
    for server, thread in servers:
        server.handle_exit(15, None)
        thread.join(10)
        assert not thread.is_alive()


def wait_until(is_true: Callable[[], bool], *, seconds: float = 10) -> bool:
    """Whether it becomes true in this time."""
    end = time.monotonic() + seconds
    while not is_true() and time.monotonic() < end:
        time.sleep(0.01)
    return is_true()
