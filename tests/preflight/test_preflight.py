"""What needs no network is checked before a run starts, and every problem is reported at once."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM

from flyte_llama.config import (
    CompositionConfig,
    CorpusConfig,
    EvaluationConfig,
    ModelConfig,
    ObjectiveConfig,
    PublishConfig,
    TrainingConfig,
)
from flyte_llama.config.model import ScratchConfig
from flyte_llama.config.training import LoraConfig
from flyte_llama.encoding import DocumentTokenizer, add_control_tokens, control_names
from flyte_llama.errors import ModelError
from flyte_llama.model import pin_model, prepare_base
from flyte_llama.model.checks import model_folder_problems
from flyte_llama.preflight import folder_problems, preflight_problems, room_problems
from flyte_llama.storage import seal
from tests.conftest import MakeRepo, git
from tests.model.bases import COMMIT, HUB_MODEL, hub_folder, store_in_hub_cache

NO_GENERAL = EvaluationConfig(probe_bytes=0)
CPU = TrainingConfig(precision="fp32")


@pytest.fixture(autouse=True)
def _output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_LLAMA_OUTPUT", str(tmp_path / "output"))


def source_problems(*train: dict[str, Any], heldout: str = "package:click") -> list[str]:
    corpus = CorpusConfig.model_validate({"train": train, "heldout": [{"url": heldout}]})
    return preflight_problems({"corpus": corpus})


@pytest.fixture
def repo(make_repo: MakeRepo) -> Path:
    return make_repo("one", {"a.py": "x = 1\n", "b.py": "y = 2\n"})


def test_good_local_sources_in_every_spelling_have_no_problem_and_remote_ones_are_not_asked(repo: Path):
    head = git(repo, "rev-parse", "HEAD")
    git(repo, "branch", "side")
    git(repo, "commit", "-q", "--allow-empty", "-m", "newer")
    spellings = [{"url": str(repo)}, {"url": f"file://{repo}", "ref": "side"}, {"url": str(repo), "ref": head}]
    assert source_problems(*spellings, {"url": "https://example.invalid/a/b"}, {"url": "package:requests"}) == []


def test_every_source_that_cannot_be_read_is_named_with_its_place(repo: Path, tmp_path: Path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    blob = git(repo, "rev-parse", "HEAD:a.py")
    git(repo, "tag", "picture", blob)
    lines = source_problems(
        {"url": str(tmp_path / "missing")},
        {"url": str(tmp_path / "file")},
        {"url": str(tmp_path / "folder")},
        {"url": str(repo), "ref": "mian"},
        {"url": str(repo), "ref": "0" * 40},
        {"url": str(repo), "ref": blob},
        {"url": "package:no-such-package"},
        heldout="package:no-such-package-either",
    )
    assert [line.partition(".url = ")[0] for line in lines] == [
        *(f"corpus.train[{index}]" for index in range(7)),
        "corpus.heldout[0]",
    ]
    assert "main" in lines[3]
    assert "is not a commit" in lines[5]
    assert "is not installed" in lines[6]


def test_general_code_is_checked_only_if_it_is_measured():
    evaluation = {"general": [{"url": "package:no-such-package"}]}
    problems = preflight_problems({"evaluation": EvaluationConfig.model_validate(evaluation)})
    assert problems[0].startswith("evaluation.general[0].url = package:no-such-package: is not installed")
    unmeasured = EvaluationConfig.model_validate({**evaluation, "probe_bytes": 0})
    assert preflight_problems({"evaluation": unmeasured}) == []


@pytest.fixture
def model(tiny_base: Path, tmp_path: Path) -> Path:
    return hub_folder(tiny_base, tmp_path / "model")


def model_problems(model: Path, *, seq_len: int = 64, window: int = 64, **fields: Any) -> list[str]:
    stages = {
        "model": ModelConfig(name=str(model), **fields),
        "training": CPU.model_copy(update={"seq_len": seq_len}),
        "evaluation": NO_GENERAL.model_copy(update={"window": window}),
    }
    return preflight_problems(stages)


def test_a_whole_model_folder_has_no_problem(model: Path):
    assert model_problems(model) == []


def change_config(model: Path, name: str = "config.json", **changes: Any) -> None:
    config = json.loads((model / name).read_text())
    (model / name).write_text(json.dumps(config | changes))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES = {
    "holds no config.json": lambda model: (model / "config.json").unlink(),
    "its config.json cannot be read": lambda model: cut(model / "config.json"),
    "asks to run code from the model's repository": lambda model: change_config(model, auto_map={"A": "b.C"}),
    "is a mamba, an architecture not tested": lambda model: change_config(model, model_type="mamba"),
    "has no tokenizer.json": lambda model: (model / "tokenizer.json").unlink(),
    "tokenizer.json or tokenizer_config.json is missing or damaged": lambda model: cut(model / "tokenizer.json"),
    "holds only pickled weights (pytorch_model.bin)": lambda model: (model / "model.safetensors").rename(
        model / "pytorch_model.bin"
    ),
    "holds no weights": lambda model: (model / "model.safetensors").unlink(),
    "model.safetensors is damaged or cut off": lambda model: cut(model / "model.safetensors"),
    "lacks model-00001-of-00002.safetensors": lambda model: (model / "model.safetensors.index.json").write_text(
        '{"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}'
    ),
    "holds adapter_model.safetensors, but neither model.safetensors nor": lambda model: rename_weights(
        model, "adapter_model.safetensors"
    ),
    "holds model-00001-of-00001.safetensors, but neither": lambda model: rename_weights(
        model, "model-00001-of-00001.safetensors"
    ),
    "model.safetensors lacks the weight extra.weight": lambda model: write_index(
        model, {"weight_map": {"extra.weight": "model.safetensors"}}
    ),
    "model.safetensors lacks weights": lambda model: save_file({}, model / "model.safetensors"),
    "its model.safetensors.index.json lists no weights": lambda model: write_index(model, {"weight_map": {}}),
    "its model.safetensors.index.json lists no weights.": lambda model: (
        model / "model.safetensors.index.json"
    ).write_text("[" * 100_000),
    "names a token that is no text: 5": lambda model: change_config(model, "tokenizer_config.json", bos_token=5),
    "names a token that is no text: {}": lambda model: change_config(model, "tokenizer_config.json", eos_token={}),
    "differs from its manifest": lambda model: (seal(model), flip(model / "model.safetensors")),
    "does not exist": shutil.rmtree,
}


def rename_weights(model: Path, name: str) -> None:
    (model / "model.safetensors").rename(model / name)


def write_index(model: Path, content: dict[str, Any]) -> None:
    (model / "model.safetensors.index.json").write_text(json.dumps(content))


def flip(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("expected", DAMAGES)
def test_a_model_folder_that_cannot_be_used_is_named_with_its_reason(model: Path, expected: str):
    DAMAGES[expected](model)
    problems = model_problems(model)
    assert len(problems) == 1
    assert problems[0].startswith(f"model.name = {model}: ")
    assert expected in problems[0]


@pytest.mark.parametrize("positions", [True, -1, 0, "64", None])
def test_positions_that_are_no_count_are_no_limit(model: Path, positions: object):
    change_config(model, max_position_embeddings=positions)
    assert not any("exceeds" in problem for problem in model_problems(model))


def test_a_config_that_transformers_refuses_is_named(model: Path):
    change_config(model, max_position_embeddings="64")
    (problem,) = model_problems(model)
    assert problem.startswith(f"model.name = {model}: its config.json describes no model: Validation error for field")


@pytest.mark.parametrize("name", ["~no-such-user/x", "./" + "a" * 5000, "./a\0b"])
def test_a_path_that_cannot_be_looked_up_is_one_line_for_each_key(name: str):
    stages = {
        "model": ModelConfig.model_construct(name=name, adapter=name),
        "training": CPU,
        "evaluation": NO_GENERAL.model_copy(update={"published": name}),
    }
    problems = preflight_problems(stages)
    assert [problem.partition(" = ")[0] for problem in problems] == [
        "model.name",
        "model.adapter",
        "evaluation.published",
    ]
    assert all("does not exist" in problem or "cannot be read" in problem for problem in problems)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", ["", "model.safetensors", "config.json", "tokenizer.json", "manifest.json"])
def test_a_model_that_this_user_may_not_read_is_one_line(tiny_base: Path, closed: str):
    parent = Path(tempfile.mkdtemp(dir="/tmp"))  # every user may enter it
    model = hub_folder(tiny_base, parent / "model")
    try:
        seal(model)
        parent.chmod(0o755)
        (model / "model.safetensors").chmod(0o644)
        (model / closed).chmod(0)
        os.seteuid(65534)
        problems = model_folder_problems(model, {}, name="model.name = m")
    finally:
        os.seteuid(0)
        shutil.rmtree(parent)
    assert len(problems) == 1
    assert problems[0].startswith("model.name = m: ")
    assert "Permission denied" in problems[0]


def test_every_length_beyond_the_models_positions_is_named(model: Path):
    problems = model_problems(model, seq_len=257, window=300)
    assert [problem.partition(":")[0] for problem in problems] == ["training.seq_len = 257", "evaluation.window = 300"]
    assert "exceeds the 256 positions" in problems[0]


def test_an_adapter_that_cannot_be_used_and_one_given_as_a_model_are_named(model: Path, tmp_path: Path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    assert "holds no adapter_config.json" in model_problems(model, adapter=str(adapter))[0]
    (adapter / "adapter_config.json").write_text("{")
    assert "holds an adapter alone" in model_problems(adapter)[0]
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    assert "its adapter_config.json cannot be read" in model_problems(model, adapter=str(adapter))[0]
    (adapter / "adapter_config.json").write_text("[" * 100_000)
    assert "its adapter_config.json cannot be read" in model_problems(model, adapter=str(adapter))[0]
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (adapter / "adapter_model.safetensors").write_bytes(b"abc")
    assert "adapter_model.safetensors is damaged or cut off" in model_problems(model, adapter=str(adapter))[0]
    save_file({"lora_A": np.zeros(1)}, adapter / "adapter_model.safetensors")
    assert "this adapter lacks the tensor base_model" in model_problems(model, adapter=str(adapter))[0]
    (adapter / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "trainable_token_indices": {"embed_tokens": 5}}'
    )
    assert "is not a list of ids" in model_problems(model, adapter=str(adapter))[0]
    seal(adapter)
    flip(adapter / "adapter_model.safetensors")
    assert "differs from its manifest" in model_problems(model, adapter=str(adapter))[0]


def adapted_problems(model: ModelConfig, **training: Any) -> list[str]:
    return preflight_problems({"model": model, "training": CPU.model_copy(update={"seq_len": 64, **training})})


@pytest.mark.parametrize("kind", ["scratch", "local", "cached"])
def test_a_target_that_the_base_does_not_have_is_named_before_the_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    bases = {"scratch": ModelConfig(name="scratch"), "local": ModelConfig(name=str(model))}
    if kind == "cached":
        store_in_hub_cache(model, tmp_path / "cache", monkeypatch)
    base = bases.get(kind, ModelConfig(name=HUB_MODEL, revision=COMMIT))
    targets = LoraConfig(target_modules=["q_proj", "v_porj"])
    (problem,) = adapted_problems(base, lora=targets)
    assert problem.startswith(
        "training.lora.target_modules: v_porj matches no module of this base. Did you mean v_proj?"
    )
    assert adapted_problems(base, lora=targets, method="full") == []
    assert adapted_problems(base, lora=LoraConfig(target_modules=["q_proj", "lm_head"])) == []


def save_adapter(model: Path, folder: Path, *, num_new: int = 0, **settings: Any) -> ModelConfig:
    """Save an adapter by peft, perhaps with rows of new tokens; return the configuration that continues it."""
    original = AutoModelForCausalLM.from_pretrained(model)
    num_rows = original.config.vocab_size
    if num_new:
        original.resize_token_embeddings(num_rows + num_new, mean_resizing=False)
        settings["trainable_token_indices"] = {"embed_tokens": list(range(num_rows, num_rows + num_new))}
    config = PeftLoraConfig(**{"target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **settings})
    get_peft_model(original, config).save_pretrained(folder, save_embedding_layers=False)
    return ModelConfig(name=str(model), adapter=str(folder))


def test_an_adapter_is_tried_on_a_base_that_lacks_the_tokens_which_it_has_learned(model: Path, tmp_path: Path):
    assert adapted_problems(save_adapter(model, tmp_path / "adapter", num_new=2)) == []


@pytest.mark.parametrize("kind", ["fim", "causal_masked", "mlm"])
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"deepspeed": {"zero_stage": 3}}, "training.deepspeed.zero_stage = 3: the objective needs control tokens"),
        ({"lora": {"target_modules": ["q_proj", "lm_head"]}}, "beside an adapter on lm_head. Leave that out"),
        ({"lora": {"target_modules": ["model.embed_tokens"]}}, "beside an adapter on embed_tokens. Leave that out"),
        ({"method": "full", "deepspeed": {"zero_stage": 3}}, None),
        ({"lora": {"target_modules": ["all-linear"]}}, None),
    ],
)
def test_new_control_tokens_that_the_training_cannot_learn_are_named_with_the_key(
    model: Path, tmp_path: Path, kind: str, settings: dict[str, Any], reason: str | None
):
    training = TrainingConfig.model_validate({"precision": "fp32", "seq_len": 64, **settings})
    objective = ObjectiveConfig.model_validate({"kind": kind})
    config = ModelConfig(name=str(model))
    stages = {"model": config, "training": training, "objective": objective}
    problems = preflight_problems(stages)
    assert [reason in problem for problem in problems if reason] == ([True] if reason else [])
    prepare = functools.partial(prepare_base, pin_model(config), config, [], longest_input=64, training=training)
    if reason:
        with pytest.raises(ModelError, match=re.escape(reason)):
            prepare(folder=tmp_path / "base", objective=objective)
    else:
        prepare(folder=tmp_path / "base", objective=objective)

    # With clm, or a base that has the tokens, none is new.
    assert preflight_problems({**stages, "objective": ObjectiveConfig()}) == []
    prepare(folder=tmp_path / "clm", objective=ObjectiveConfig())
    add_control_tokens(model, control_names(objective, DocumentTokenizer(model)))
    assert preflight_problems(stages) == []


def test_an_adapter_with_tokens_that_have_no_name_is_named(model: Path, tmp_path: Path):
    stages = {
        "model": save_adapter(model, tmp_path / "adapter", num_new=2),
        "training": CPU.model_copy(update={"seq_len": 64}),
        "objective": ObjectiveConfig(kind="fim"),
    }
    (problem,) = preflight_problems(stages)
    assert problem.startswith(f"model.adapter = {tmp_path / 'adapter'}: has learned the embedding rows of 2 tokens")


def test_new_control_tokens_beside_an_adapter_on_the_output_are_named(model: Path, tmp_path: Path):
    stages = {
        "model": save_adapter(model, tmp_path / "adapter", target_modules=["lm_head", "q_proj"]),
        "training": CPU.model_copy(update={"seq_len": 64}),
        "objective": ObjectiveConfig(kind="fim"),
    }
    (problem,) = preflight_problems(stages)
    assert problem.startswith("model.adapter: the objective needs control tokens that the base lacks")


def test_a_published_folder_is_checked_too(tmp_path: Path):
    evaluation = NO_GENERAL.model_copy(update={"published": str(tmp_path / "gone")})
    assert preflight_problems({"evaluation": evaluation})[0].startswith("evaluation.published = ")
    nothing_yet = NO_GENERAL.model_copy(update={"published": "none"})
    assert preflight_problems({"evaluation": nothing_yet}) == []


def test_names_that_the_hub_does_not_allow_are_named_for_every_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "a token")
    stages = {
        "model": ModelConfig(name="a--b/c", adapter="a/b.git"),
        "evaluation": NO_GENERAL.model_copy(update={"published": "a/b."}),
        "publish": PublishConfig(repository="a/" + "b" * 100),
    }
    keys = [problem.partition(" = ")[0] for problem in preflight_problems(stages)]
    assert keys == ["model.name", "model.adapter", "evaluation.published", "publish.repository"]


def test_missing_packages_kernels_and_tokens_are_named_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    training = TrainingConfig.model_validate(
        {"report_to": ["mlflow"], "liger": True, "attention": "flash_attention_2", "precision": "fp32"}
    )
    stages = {
        "training": training,
        "publish": PublishConfig(repository="owner/model"),
        "composition": CompositionConfig(language_weights={"pyhton": 2}),
    }
    problems = preflight_problems(stages)
    for expected in (
        "'pyhton' is not a known language. Did you mean python?",
        "training.report_to = 'mlflow': the package is not installed",
        "training.attention = 'flash_attention_2'",
        "training.liger = true",
        "publish.repository = owner/model: there is no hub token. Set HF_TOKEN",
    ):
        assert [problem for problem in problems if expected in problem]
    monkeypatch.setenv("HF_TOKEN", "a token")
    assert not [problem for problem in preflight_problems(stages) if "HF_TOKEN" in problem]


def test_a_wrong_variable_is_one_problem_among_the_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYTE_LLAMA_GPU_CONT", "2")
    problems = preflight_problems({"composition": CompositionConfig(language_weights={"pyhton": 2})})
    assert [problem.partition(":")[0] for problem in problems] == [
        "composition.language_weights",
        "FLYTE_LLAMA_GPU_CONT",
    ]


def test_an_output_that_cannot_be_written_is_one_line_with_the_way_out(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    expected = {
        tmp_path / "file": "is a file, not a folder",
        tmp_path / "file/inner": "because",
        tmp_path / "link": "is a link to a folder that does not exist",
        Path("/proc/output"): "cannot be made in /proc",
    }
    for output, reason in expected.items():
        (problem,) = folder_problems(output)
        assert problem.startswith(f"{output}: ")
        assert reason in problem
        assert "FLYTE_LLAMA_OUTPUT" in problem


def test_an_output_that_can_be_written_stays_as_it_is(tmp_path: Path):
    (tmp_path / "output/data").mkdir(parents=True)
    assert folder_problems(tmp_path / "output") == []
    assert folder_problems(tmp_path / "new/output") == []
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "output").rglob("*")] == ["data"]


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/proc/nobody")
    assert "HOME = /proc/nobody: cannot be made in /proc" in folder_problems(tmp_path)[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_folders_of_another_user_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/tmp")  # noqa: S108  # every user may write there
    shared, own = Path("/tmp") / f"shared-{os.getpid()}", Path("/tmp") / f"own-{os.getpid()}"  # noqa: S108
    try:
        for folder in (shared, own / "data"):
            folder.mkdir(parents=True)
        shared.chmod(0o777)
        os.chown(own, 65534, 65534)
        os.seteuid(65534)
        (foreign,), (inner,) = folder_problems(shared), folder_problems(own)
    finally:
        os.seteuid(0)
        shutil.rmtree(shared)
        shutil.rmtree(own)
    assert "belongs to root, and you are" in foreign
    assert inner.startswith(f"{own / 'data'}: cannot be written (Permission denied)")


HUGE = ModelConfig(
    name="scratch",
    scratch=ScratchConfig(hidden_size=131_072, num_layers=1000, num_heads=1024, intermediate_size=1_000_000),
)


def test_a_run_that_the_disk_has_no_room_for_is_refused_before_it_starts(tmp_path: Path):
    (problem,) = room_problems(HUGE, CPU, tmp_path / "output")
    assert problem.startswith(f"disk of {tmp_path / 'output'}: a run needs ")
    assert "3 checkpoints" in problem
    tiny = ModelConfig(name="scratch", scratch=ScratchConfig(hidden_size=32, num_layers=1))
    assert room_problems(tiny, CPU, tmp_path / "output") == []


@pytest.mark.parametrize(
    ("heldout", "problem"),
    [
        ({}, "is both in train and in heldout, see corpus.train[0]. Keep it on one side, or give it `paths` here"),
        (
            {"paths": ["/src/"]},
            "is the repository of gh:acme/mono, see corpus.train[0]. Write the same URL in both places.",
        ),
    ],
)
def test_a_shorthand_of_the_users_git_and_the_address_behind_it_are_one_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heldout: dict[str, Any], problem: str
):
    (tmp_path / "gitconfig").write_text('[url "https://github.invalid/"]\n\tinsteadOf = gh:\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    address = {"url": "https://github.invalid/acme/mono.git", **heldout}
    corpus = CorpusConfig.model_validate({"train": [{"url": "gh:acme/mono"}], "heldout": [address]})
    (line,) = preflight_problems({"corpus": corpus})
    assert line.startswith(f"corpus.heldout[0]: https://github.invalid/acme/mono.git {problem}")


def test_what_the_file_shows_already_is_not_said_twice(repo: Path):
    corpus = CorpusConfig.model_validate({"train": [{"url": str(repo)}] * 2, "heldout": [{"url": "package:click"}]})
    assert preflight_problems({"corpus": corpus}) == []
