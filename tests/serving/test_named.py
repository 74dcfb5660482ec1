"""The name of a model means a run, a folder or a hub model, and each is opened as it was trained."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flyte_llama.errors import DataError, ModelError
from flyte_llama.inference import PSM, SPM
from flyte_llama.serving import CompletionRequest, find_base, find_model, open_completer
from flyte_llama.storage import seal
from flyte_llama.workspace import finish_run, new_run_folder
from tests.model.bases import COMMIT, HUB_MODEL, hub_folder, store_in_hub_cache


def store_run(
    output: Path, model: Path, base: Path, *, name: str = "local", summary: dict[str, Any] | None = None
) -> Path:
    """Store a finished run with copies of its model and its base, and the summary of its training."""
    for part, folder in (("model", model), ("base", base)):
        shutil.copytree(folder, output / "data" / f"{part}-{name}", dirs_exist_ok=True)
    seal(output / "data" / f"model-{name}", summary=summary or {})
    folder = new_run_folder(output, name)
    parts = {"model": f"model-{name}", "base": f"base-{name}"}
    finish_run(folder, name, set(parts.values()), {"finished": datetime.now(UTC).isoformat()}, parts)
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def test_a_run_is_found_by_its_output_folder_its_link_its_folder_and_its_name(
    output: Path, infilling: Path, all_base: Path
):
    store_run(output, infilling, all_base, name="old")
    newest = store_run(output, infilling, all_base)
    for name in (None, str(output), str(output / "latest"), str(newest), newest.name):
        named = find_model(name, output)
        assert (named.name, named.served_name, named.source) == (newest.name, "local", output / "data/model-local")
    assert find_model("old-" + newest.name.removeprefix("local-"), output).served_name == "old"


def test_a_runs_model_infills_and_its_base_with_untrained_tokens_does_not(
    output: Path, infilling: Path, all_base: Path
):
    store_run(output, infilling, all_base)
    named = find_model(None, output)
    assert open_completer(named).infills
    base = find_base(named)
    assert base.name == f"base of {named.name}"
    assert not open_completer(base).infills


@pytest.mark.parametrize(
    ("summary", "layout"),
    [({}, PSM), ({"objective": "fim", "psm_share": 0.1}, SPM), ({"objective": "fim", "psm_share": 0.5}, PSM)],
)
def test_an_infill_prompt_has_the_layout_of_most_of_the_training(
    output: Path, infilling: Path, all_base: Path, summary: dict[str, Any], layout: str
):
    store_run(output, infilling, all_base, summary=summary)
    assert find_model(None, output).layout == layout


def test_a_folder_is_opened_as_it_is(infilling: Path, tiny_base: Path, tmp_path: Path, output: Path):
    assert open_completer(find_model(str(infilling), output)).infills
    plain = find_model(str(hub_folder(tiny_base, tmp_path / "plain")), output)
    assert plain.served_name == "plain"
    assert not open_completer(plain).infills


def test_an_adapter_is_opened_on_the_base_that_it_names(tiny_base: Path, tmp_path: Path, output: Path):
    from peft import LoraConfig, get_peft_model

    from flyte_llama.model import load_model, torch_dtype

    base = hub_folder(tiny_base, tmp_path / "base")
    adapted = get_peft_model(
        load_model(base, dtype=torch_dtype("fp32")), LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(base)
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(settings))

    completer = open_completer(find_model(str(tmp_path / "adapter"), output))
    weight = completer._model.model.layers[0].self_attn.q_proj.weight
    assert (weight == adapted.merge_and_unload().model.layers[0].self_attn.q_proj.weight).all()


def test_a_hub_model_is_opened_at_its_revision(
    tiny_base: Path, tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = hub_folder(tiny_base, tmp_path / "model")
    store_in_hub_cache(folder, tmp_path / "cache", monkeypatch)
    named = find_model(f"{HUB_MODEL}@{COMMIT}", output)
    assert named.served_name == HUB_MODEL
    request = CompletionRequest("def ", max_tokens=5)
    expected = open_completer(find_model(str(folder), output)).complete(request)
    assert open_completer(named).complete(request) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "holds no finished run. `make run` makes one"),
        ("", "the name of the model is empty"),
        ("nonsense", "nonsense: is no run of .*, no folder and no hub id"),
        ("./nowhere", "does not exist"),
        ("a/b@x y", "a/b@x y: is no run of .*, no folder and no hub id"),
        ("{folder}", "holds no run, no config.json and no adapter_config.json"),
    ],
)
def test_a_name_that_means_nothing_is_refused(name: str | None, message: str, tmp_path: Path, output: Path):
    with pytest.raises(ModelError, match=message):
        find_model(name and name.replace("{folder}", str(tmp_path)), output)


def test_a_run_whose_model_was_removed_is_refused(output: Path, infilling: Path, all_base: Path):
    store_run(output, infilling, all_base)
    shutil.rmtree(output / "data/model-local")
    with pytest.raises(DataError, match=r"model-local: no longer exists"):
        find_model(None, output)


def test_an_encoder_is_refused(output: Path, infilling: Path, all_base: Path):
    store_run(output, infilling, all_base, summary={"objective": "mlm"})
    for name in (None, str(output / "data/model-local")):
        with pytest.raises(ModelError, match=r"is an encoder \(objective.kind: mlm\), which writes no text"):
            find_model(name, output)


def test_only_a_runs_model_has_a_base(infilling: Path, output: Path):
    with pytest.raises(ModelError, match=r"its base is unknown\. Name it with --base-model"):
        find_base(find_model(str(infilling), output))


def test_the_window_is_the_models_length_and_no_more(infilling: Path, output: Path):
    named = find_model(str(infilling), output)
    assert open_completer(named).window == 256
    assert open_completer(named, window=100).window == 100
    with pytest.raises(ModelError, match=r"--window 300: .* reads at most 256 tokens"):
        open_completer(named, window=300)
