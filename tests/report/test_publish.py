"""Only a model that its report is about and that beats its base is published, whole and alone in its repository."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flyte_llama.config import PublishConfig
from flyte_llama.errors import DataError, PublishError
from flyte_llama.evaluation.scores import DocumentScore
from flyte_llama.model import PinnedModel, verify_sealed
from flyte_llama.report import EvaluationReport
from flyte_llama.report.publish import publish_model
from flyte_llama.report.repository import check_publishing
from flyte_llama.storage import seal
from tests.report.hub import ACCOUNT, Hub, Tree
from tests.report.test_report import sample_report, score, scores, spread

TOKEN = "hf_test"  # noqa: S105  # the local server knows it


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import huggingface_hub.constants

    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A finished model, sealed with files that are not to be published."""
    folder = tmp_path / "model"
    (folder / "adapter").mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "tokenizer.json", "adapter/adapter_model.safetensors"):
        (folder / name).write_text(f"the {name}")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (folder / "metrics.jsonl").write_text("private")
    (folder / "adapter/README.md").write_text("the adapter's card")
    (folder / "adapter/notes.md").write_text("private")
    seal(folder)
    return folder


PUBLISHED = {
    "README.md",
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "adapter/adapter_model.safetensors",
    "adapter/README.md",
}


def with_general(nats: float, general: float) -> list[DocumentScore]:
    """Held-out documents of five repositories, and ten of general code."""
    code = [score(general, role="general", repository="package:click", path=f"{index}.py") for index in range(10)]
    return [*spread(scores(nats), 5), *code]


@pytest.fixture
def better(tmp_path: Path) -> EvaluationReport:
    return sample_report(tmp_path, with_general(500.0, 500.0), with_general(250.0, 500.0))


def report_on(model: Path, report: EvaluationReport, *, published: PinnedModel | None = None) -> EvaluationReport:
    """The report as it would be of the model in this folder, compared with the published one if there is one."""
    *others, last = report.models
    compared = [last.model_copy(update={"name": "published", "identity": published})] if published else []
    last = last.model_copy(update={"identity": PinnedModel(name=str(model), revision=str(verify_sealed(model)))})
    return report.model_copy(update={"models": [*others, *compared, last]})


def publish(model: Path, report: EvaluationReport, **changes: Any) -> str:
    return publish_model(model, report, **{"repository": "o/m", "private": True, "token": TOKEN, **changes})


def test_the_manifests_safe_files_and_the_card_are_uploaded_and_nothing_is_written_to_the_model(
    hub: Hub, model: Path, better: EvaluationReport
):
    before = verify_sealed(model)
    url = publish(model, report_on(model, better))
    repository = hub.repositories["o/m"]
    assert url == f"{hub.url}/o/m/commit/{repository.head}"
    assert set(repository.files) == PUBLISHED | {".gitattributes"}
    assert repository.files["model.safetensors"] == b"the model.safetensors"
    assert b"base_model: o/base" in repository.files["README.md"]
    assert repository.private is True
    assert verify_sealed(model) == before


def test_a_repository_that_holds_the_same_content_stays_as_it_is(
    hub: Hub, model: Path, better: EvaluationReport, capsys: pytest.CaptureFixture[str]
):
    first = publish(model, report_on(model, better))
    assert publish(model, report_on(model, better)) == first
    assert "o/m holds this model already" in capsys.readouterr().err
    assert sum("/commit/" in request for request in hub.requests) == 1


def test_a_commit_leaves_no_file_of_the_model_before(hub: Hub, model: Path, better: EvaluationReport):
    shards = {f"model-0000{n}-of-00002.safetensors": b"old" for n in (1, 2)}
    old = {**shards, "model.safetensors.index.json": b"{}", "tokenizer.model": b"old", "pytorch_model.bin": b"old"}
    repository = hub.add("o/m", {**old, "LICENSE": b"mine", "plot.png": b"mine"})
    published = PinnedModel(name="o/m", revision=repository.head)
    publish(model, report_on(model, better, published=published))
    assert set(repository.files) == PUBLISHED | {".gitattributes", "LICENSE", "plot.png"}
    assert len(repository.commits) == 2


FOREIGN = [
    *("weights.npz", "model.tflite", "model.nemo", "rust_model.ot", "model.onnx_data", "consolidated.00.pth.tar"),
    *("model.joblib", "dataset.parquet", "train.py", "plot.png", "data/part.json", "encoder/model.safetensors"),
]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_repository_in_use_is_not_written_to_if_nothing_is_said_to_be_published(
    hub: Hub, model: Path, better: EvaluationReport, name: str
):
    repository = hub.add("o/m", {name: b"theirs", "LICENSE-LLAMA": b"theirs"})
    assert f"is not empty, it holds {name}, but evaluation.published names none" in problems("o/m")
    with pytest.raises(PublishError, match="is not empty"):
        publish(model, report_on(model, better))
    assert len(repository.commits) == 1


def test_a_repository_with_a_licence_and_a_readme_alone_is_as_good_as_new(
    hub: Hub, model: Path, better: EvaluationReport
):
    repository = hub.add("o/m", {"README.md": b"soon", "LICENSE": b"mine", "license-llama.txt": b"mine"})
    assert problems("o/m") == ""
    publish(model, report_on(model, better))
    assert set(repository.files) == PUBLISHED | {".gitattributes", "LICENSE", "license-llama.txt"}


def test_only_files_of_the_model_before_are_removed(hub: Hub, model: Path, better: EvaluationReport):
    kept = dict.fromkeys([*FOREIGN, "LICENSE-LLAMA", "LICENSE.json", "USE_POLICY.md", "data.jsonl"], b"mine")
    old = dict.fromkeys(["model.safetensors", "pytorch_model.bin", "merges.txt", "adapter/adapter_model.bin"], b"old")
    repository = hub.add("o/m", kept | old)
    publish(model, report_on(model, better, published=PinnedModel(name="o/m", revision=repository.head)))
    assert set(repository.files) == PUBLISHED | kept.keys() | {".gitattributes"}


def flip(tree: Tree, path: str) -> None:
    tree[path] = bytes([tree[path][0] ^ 1]) + tree[path][1:]


@pytest.mark.parametrize(
    ("damage", "difference"),
    [
        (lambda tree: flip(tree, "model.safetensors"), r"model\.safetensors has other content"),
        (lambda tree: flip(tree, "config.json"), r"config\.json has other content"),
        (lambda tree: flip(tree, "README.md"), r"README\.md has other content"),
        (lambda tree: tree.update({"tokenizer.json": b""}), r"tokenizer\.json has other content"),
        (lambda tree: tree.pop("adapter/adapter_model.safetensors"), r"adapter/adapter_model\.safetensors is missing"),
        (lambda tree: tree.update({"pytorch_model.bin": b"a pickle"}), r"pytorch_model\.bin is left over"),
    ],
)
def test_a_hub_that_then_holds_something_else_is_an_error(
    hub: Hub, model: Path, better: EvaluationReport, damage: Callable[[Tree], None], difference: str
):
    hub.damage = damage
    with pytest.raises(PublishError, match=rf"does not hold the model: {difference}.*revert the commit"):
        publish(model, report_on(model, better))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "metrics.jsonl", "manifest.json"])
def test_a_damaged_model_is_not_uploaded(hub: Hub, model: Path, better: EvaluationReport, name: str):
    report = report_on(model, better)
    (model / name).write_bytes((model / name).read_bytes()[:-3])
    with pytest.raises(DataError, match=name):
        publish(model, report)
    assert not hub.requests


def test_another_model_than_the_measured_one_is_not_uploaded(hub: Hub, model: Path, better: EvaluationReport):
    report = report_on(model, better)
    (model / "model.safetensors").write_text("noise")
    seal(model)
    with pytest.raises(PublishError, match="but the report is about sha256:"):
        publish(model, report)
    assert not hub.requests


def test_a_model_without_all_its_weights_is_not_uploaded(hub: Hub, model: Path, better: EvaluationReport):
    (model / "model.safetensors").rename(model / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    seal(model)
    with pytest.raises(PublishError, match=r"lacks model-2\.safetensors"):
        publish(model, report_on(model, better))
    assert not hub.requests


def test_without_a_token_nothing_is_sent(hub: Hub, model: Path, better: EvaluationReport):
    with pytest.raises(PublishError, match="there is no hub token"):
        publish(model, report_on(model, better), token=None)
    assert not hub.requests


def test_a_model_that_was_not_compared_with_the_repositorys_does_not_replace_it(
    hub: Hub, model: Path, better: EvaluationReport
):
    repository = hub.add("o/m", {"model.safetensors": b"old"})
    measured = PinnedModel(name="o/m", revision=repository.head)
    with pytest.raises(PublishError, match=r"evaluation\.published names none"):
        publish(model, report_on(model, better))
    with pytest.raises(PublishError, match=r"evaluation\.published is another one, o/other"):
        publish(model, report_on(model, better, published=PinnedModel(name="o/other", revision="c" * 40)))
    repository.commit({"model.safetensors": b"newer"})
    with pytest.raises(PublishError, match="has changed since this run measured its model"):
        publish(model, report_on(model, better, published=measured))
    assert len(repository.commits) == 2


def test_a_private_model_does_not_go_to_a_public_repository(hub: Hub, model: Path, better: EvaluationReport):
    repository = hub.add("o/m", {}, private=False)
    with pytest.raises(PublishError, match=r"is public, but publish\.private = true"):
        publish(model, report_on(model, better))
    publish(model, report_on(model, better), private=False)
    assert set(repository.files) >= PUBLISHED


def account(**changes: Any) -> dict[str, Any]:
    return {**ACCOUNT, **changes}


def fine_grained(*scopes: tuple[str, str]) -> dict[str, Any]:
    scoped = [{"entity": {"type": "org", "name": name}, "permissions": [permission]} for name, permission in scopes]
    return account(auth={"accessToken": {"role": "fineGrained", "fineGrained": {"scoped": scoped}}})


def problems(repository: str = "o/new", published: str | None = None, token: str | None = TOKEN, **changes: Any) -> str:
    return "\n".join(check_publishing(PublishConfig(repository=repository, **changes), published, token))


def test_a_publication_that_nothing_stops_has_no_problems(hub: Hub):
    hub.add("o/empty", {"README.md": b"soon"})
    hub.add("o/m", {"model.safetensors": b"old"})
    assert check_publishing(PublishConfig(), None, None) == []
    assert problems("o/new") == problems("team/new") == problems("o/empty") == problems("o/m", "o/m") == ""
    assert not [request for request in hub.requests if request.startswith("POST")]


def test_what_would_stop_a_publication_is_found_before_the_run(hub: Hub):
    hub.add("o/m", {"pytorch_model.bin": b"old"})
    hub.add("o/public", {}, private=False)
    hub.add("theirs/m", {})
    assert "there is no hub token" in problems(token=None)
    assert "the hub does not accept the token in HF_TOKEN" in problems(token="hf_wrong")  # noqa: S106  # not known
    assert "is not a name that the hub allows" in problems("o/a--b")
    assert "who is not a member of theirs" in problems("theirs/new")
    assert "o may only read in readers" in problems("readers/new")
    assert "the token in HF_TOKEN may not write to it" in problems("theirs/m")
    assert "evaluation.published names none. Set evaluation.published: o/m" in problems("o/m")
    assert "evaluation.published is another one, o/other" in problems("o/m", "o/other")
    assert "is public, but publish.private = true" in problems("o/public")
    assert problems("o/public", private=False) == ""


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        (account(auth={"accessToken": {"role": "read"}}), "may only read. Use a token with write permission"),
        (fine_grained(("o", "repo.content.read")), "may not write to repositories of o"),
        (fine_grained(("team", "repo.write")), "may not write to repositories of o"),
        (fine_grained(("team", "repo.content.read"), ("o", "repo.write")), ""),
        (account(auth={"accessToken": {"role": "write"}}), ""),
    ],
)
def test_the_permissions_of_a_token_decide_whether_it_may_create_the_repository(
    hub: Hub, says: dict[str, Any], problem: str
):
    hub.accounts[TOKEN] = says
    assert problem in problems("o/new")
    assert bool(problem) == bool(problems("o/new"))


def test_a_hub_that_cannot_be_reached_is_a_transient_error(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub.constants

    hub.is_down = True
    with pytest.raises(PublishError, match="the hub refused a request") as down:
        problems()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PublishError, match="the hub cannot be reached") as unreachable:
        problems()
    assert down.value.transient
    assert unreachable.value.transient
