"""Only a model that beats its base is published, and only its listed files. A small local server plays the Hub."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flyte_llama.config import PublishConfig
from flyte_llama.errors import PublishError
from flyte_llama.evaluation.scores import DocumentScore
from flyte_llama.report import EvaluationReport, make_report
from flyte_llama.report.publish import passes_gate, publish_model
from tests.report.test_report import measured_model, sample_report, score, scores


class Hub(ThreadingHTTPServer):
    """Stores every upload, and treats every file as a regular one (no LFS)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.private: bool | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.answer({"sha": "c" * 40, "id": "o/m", "siblings": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.add(self.headers.get("Authorization"))
        if self.path == "/api/repos/create":
            self.server.private = json.loads(body)["visibility"] == "private"
            self.answer({"url": f"{self.server.url}/o/m"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            answers = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            self.answer({"files": answers})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"commitUrl": f"{self.server.url}/o/m/commit/{'c' * 40}", "commitOid": "c" * 40})
        else:
            self.answer({})

    def answer(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import huggingface_hub.constants

    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", server.url)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "adapter").mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "tokenizer.json", "adapter/adapter_model.safetensors"):
        (folder / name).write_text(f"the {name}")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (folder / "notes.txt").write_text("private")
    return folder


def with_general(nats: float, general: float) -> list[DocumentScore]:
    return [*scores(nats), score(general, role="general", repository="package:click", path="core.py")]


@pytest.fixture
def better(tmp_path: Path) -> EvaluationReport:
    return sample_report(tmp_path, with_general(500.0, 500.0), with_general(250.0, 500.0))


def test_weights_tokenizer_and_card_are_uploaded_and_nothing_else(hub: Hub, model: Path, better: EvaluationReport):
    url = publish_model(model, better, "o/m", private=True, token="hf_test")  # noqa: S106  # the double accepts any token
    assert url.endswith("c" * 40)
    assert set(hub.files) == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "adapter/adapter_model.safetensors",
        "README.md",
    }
    assert hub.files["model.safetensors"] == b"the model.safetensors"
    assert b"base_model: o/base" in hub.files["README.md"]
    assert hub.tokens == {"Bearer hf_test"}
    assert hub.private is True


def test_without_a_token_nothing_is_sent(hub: Hub, model: Path, better: EvaluationReport):
    with pytest.raises(PublishError, match="there is no hub token"):
        publish_model(model, better, "o/m", private=True, token=None)
    assert not hub.tokens


def test_the_gate_opens_for_a_better_model_that_is_to_be_published(better: EvaluationReport, tmp_path: Path):
    assert passes_gate(better, PublishConfig(repository="o/m"))
    assert not passes_gate(better, PublishConfig())
    worse_folder = tmp_path / "worse"
    worse_folder.mkdir()
    assert not passes_gate(
        sample_report(worse_folder, with_general(500.0, 500.0), with_general(500.0, 500.0)),
        PublishConfig(repository="o/m"),
    )


def test_the_gate_stays_shut_for_an_encoder_however_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    encoder = sample_report(tmp_path, scores(500.0), scores(250.0))
    protocol = encoder.protocol.model_copy(update={"measure": "pseudo-perplexity"})
    assert not passes_gate(encoder.model_copy(update={"protocol": protocol}), PublishConfig(repository="o/m"))
    assert "not published to o/m: trained by mlm, it is an encoder" in capsys.readouterr().err


def test_forgetting_beyond_the_budget_shuts_the_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    # 20 nats over 400 bytes are 0.072 bits per byte.
    report = sample_report(tmp_path, with_general(500.0, 500.0), with_general(250.0, 520.0))
    assert not passes_gate(report, PublishConfig(repository="o/m", forgetting_budget=0.05))
    assert "needs 0.072 bits per byte more than its base for general code" in capsys.readouterr().err
    assert passes_gate(report, PublishConfig(repository="o/m", forgetting_budget=0.08))
    assert passes_gate(report, PublishConfig(repository="o/m", forgetting_budget=None))


def test_a_forgetting_budget_without_measured_general_code_shuts_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    report = sample_report(tmp_path, scores(500.0), scores(250.0))
    assert not passes_gate(report, PublishConfig(repository="o/m"))
    assert "publish.forgetting_budget = 0.05: general code was not measured" in capsys.readouterr().err
    assert passes_gate(report, PublishConfig(repository="o/m", forgetting_budget=None))


def test_a_model_that_the_published_one_beats_stays_unpublished(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    names = {"base": 500.0, "published": 250.0, "fine-tuned": 300.0}
    models = [measured_model(tmp_path, name, with_general(nats, 500.0)) for name, nats in names.items()]
    report = make_report(models, corpus=None, training=None)
    assert not passes_gate(report, PublishConfig(repository="o/m"))
    messages = capsys.readouterr().err
    assert "not better than the published model (+0.159 bits per byte, 95 % [" in messages
    assert "not better than its base" not in messages
