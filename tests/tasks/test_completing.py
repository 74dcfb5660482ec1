"""The tasks of `complete_prompts` in a local run: what they refuse, and what they record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flytekit import FlyteDirectory

from flyte_llama.errors import ModelError
from flyte_llama.storage import seal, write_json
from flyte_llama.tasks import completing, folders
from flyte_llama.tasks.cache import OutputCache
from flyte_llama.workspace import stored_items


@pytest.mark.parametrize("address", ["hf://", "hf://a", "hf://scratch", "hf:///etc", "hf://a/b@x y", "hf://a/b c"])
def test_an_address_that_names_no_hub_model_is_refused_in_one_message(address: str):
    with pytest.raises(ModelError, match="is no address of a hub model") as refused:
        completing._hub_model(address)
    assert refused.value.message.startswith(f"{address}: ")


def test_a_hub_address_may_name_a_revision():
    model = completing._hub_model("hf://acme/llama@v1")
    assert (model.name, model.revision) == ("acme/llama", "v1")
    assert completing._hub_model("hf://acme/llama/").revision is None


def test_a_kept_batch_keeps_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = OutputCache(tmp_path)
    cache.run_name = completing.UNFINISHED
    monkeypatch.setattr(completing, "CACHE", cache)
    for module in (completing, folders):
        monkeypatch.setattr(module, "local_output", lambda: tmp_path)
    for name, file in (("model-1", "config.json"), ("completed-1", "completions.jsonl")):
        (tmp_path / "data" / name).mkdir(parents=True)
        write_json(tmp_path / "data" / name / file, {"file": "a.jsonl", "id": "1"})
    (tmp_path / "data/completed-1/completions.jsonl").write_text('{"file": "a.jsonl", "id": "1"}\n')
    for folder in (tmp_path / "data").iterdir():
        seal(folder)
    part, model = (FlyteDirectory(str(tmp_path / "data" / name)) for name in ("completed-1", "model-1"))
    completing.collect_completions.task_function(parts=[part], model=model)
    (record,) = (tmp_path / "batches").glob("prompts-*/run.json")
    facts = json.loads(record.read_text())
    assert facts["parts"] == {"model": "model-1"}
    owners = {item.path.name: item.needed_by for item in stored_items(tmp_path, keep_runs=1)}
    assert owners["model-1"] == record.parent.name
