"""Bases are pinned, prepared as a small folder, and loaded from the hub or a local folder.

Each architecture that may be trained on packed rows keeps the documents of a row apart.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, normalizers
from transformers import AutoConfig, AutoModelForCausalLM

from flyte_llama.config import ModelConfig, ObjectiveConfig, TrainingConfig
from flyte_llama.encoding import DocumentTokenizer, control_names
from flyte_llama.errors import ModelError
from flyte_llama.model import load_model, pin_model, prepare_base
from flyte_llama.model.attention import SDPA_BY_PIECE, register_kernels
from flyte_llama.model.base import PinnedModel, check_architecture
from flyte_llama.model.checks import TESTED_ARCHITECTURES, model_folder_problems
from flyte_llama.model.loss import use_lean_loss
from tests.conftest import TEXTS, TINY
from tests.model.bases import COMMIT, HUB_MODEL, TINY_SHAPE, hub_folder, store_in_hub_cache

IDS = torch.randint(2, 300, (1, 40), generator=torch.Generator().manual_seed(0))
POSITIONS = torch.tensor([[*range(25), *range(15)]])


@pytest.fixture
def local_model(tiny_base: Path, tmp_path: Path) -> Path:
    """The tiny Llama as a local folder in the hub's format."""
    return hub_folder(tiny_base, tmp_path / "mine")


@pytest.fixture
def hub_model(local_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny Llama as a downloaded hub model, in the layout of the hub's cache."""
    (local_model / "pytorch_model.bin").write_bytes(b"a pickle")
    store_in_hub_cache(local_model, tmp_path / "hub", monkeypatch)
    (local_model / "pytorch_model.bin").unlink()
    return HUB_MODEL


def prepare(config: ModelConfig, folder: Path, longest_input: int = 64) -> Path:
    prepare_base(pin_model(config), config, TEXTS, longest_input=longest_input, folder=folder)
    return folder


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return load_model(folder, dtype=torch.float32)(torch.arange(20)[None]).logits


def make_model(architecture: str, kernel: str) -> Any:
    register_kernels()
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **TINY_SHAPE))
    model.set_attn_implementation(kernel)
    return model.eval()


def test_a_scratch_model_is_the_same_every_time(tmp_path: Path):
    first, second = (prepare(TINY, tmp_path / name) for name in ("one", "two"))
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        p.name: p.read_bytes() for p in second.iterdir()
    }
    assert (first / "model.safetensors").is_file()


def test_a_local_folder_is_pinned_by_content_and_its_weights_stay_where_they_are(local_model: Path, tmp_path: Path):
    config = ModelConfig(name=str(local_model))
    before = pin_model(config)
    base = prepare(config, tmp_path / "base")
    assert not list(base.glob("*.safetensors"))
    torch.testing.assert_close(logits(base), logits(local_model), rtol=0, atol=0)
    (local_model / "generation_config.json").write_text("{}")
    assert pin_model(config).revision != before.revision


def test_a_base_is_prepared_with_a_tokenizer_that_cuts_no_text(local_model: Path, tmp_path: Path):
    saved = Tokenizer.from_file(str(local_model / "tokenizer.json"))
    saved.enable_truncation(max_length=5)
    saved.enable_padding(pad_id=1, pad_token="</s>")  # noqa: S106  # no secret
    saved.save(str(local_model / "tokenizer.json"))
    base = prepare(ModelConfig(name=str(local_model)), tmp_path / "base")
    prepared = Tokenizer.from_file(str(base / "tokenizer.json"))
    assert (prepared.truncation, prepared.padding) == (None, None)
    assert len(prepared.encode(TEXTS[0]).ids) > 5


def test_a_base_whose_tokenizer_loses_line_ends_is_refused(local_model: Path, tmp_path: Path):
    saved = Tokenizer.from_file(str(local_model / "tokenizer.json"))
    saved.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
    saved.save(str(local_model / "tokenizer.json"))
    with pytest.raises(ModelError, match=r"the tokenizer loses characters: .* comes back as"):
        prepare(ModelConfig(name=str(local_model)), tmp_path / "base")
    (problem,) = model_folder_problems(local_model, {}, name="model.name = m")
    assert problem.startswith("model.name = m: the tokenizer loses characters")


def test_a_base_whose_positions_change_within_a_row_is_refused(local_model: Path, tmp_path: Path):
    saved = json.loads((local_model / "config.json").read_text())
    saved["rope_parameters"] = {"rope_type": "longrope", "original_max_position_embeddings": 32}
    (local_model / "config.json").write_text(json.dumps(saved))
    config = ModelConfig(name=str(local_model))
    prepare_base(
        pin_model(config),
        config,
        [],
        longest_input=64,
        training=TrainingConfig(method="full", seq_len=32),
        folder=tmp_path / "base",
    )
    with pytest.raises(ModelError, match=r"training\.seq_len = 33: above 32 tokens .* Use at most 32"):
        prepare_base(
            pin_model(config),
            config,
            [],
            longest_input=64,
            training=TrainingConfig(method="full", seq_len=33),
            folder=tmp_path / "other",
        )


def test_a_hub_model_is_prepared_without_weights_and_loaded_at_its_commit(
    hub_model: str, local_model: Path, tmp_path: Path
):
    config = ModelConfig(name=hub_model, revision=COMMIT)
    assert pin_model(config) == PinnedModel(name=hub_model, revision=COMMIT)
    base = prepare(config, tmp_path / "base")
    assert {path.name for path in base.iterdir()} >= {"config.json", "tokenizer.json", "base.json"}
    assert not [path for path in base.iterdir() if path.suffix in (".safetensors", ".bin")]
    torch.testing.assert_close(logits(base), logits(local_model), rtol=0, atol=0)


def test_a_hub_model_that_cannot_be_fetched_is_named(hub_model: str, tmp_path: Path):
    with pytest.raises(ModelError, match="owner/none at main: cannot be fetched from the hub"):
        pin_model(ModelConfig(name="owner/none"))
    with pytest.raises(ModelError, match="owner/none"):
        prepare(ModelConfig(name="owner/none", revision=COMMIT), tmp_path / "base")


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(ModelError, match=r"nowhere: does not exist"):
        pin_model(ModelConfig(name=str(tmp_path / "nowhere")))
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        pin_model(ModelConfig(name=str(tmp_path)))
    for name in ("~no-such-user/model", "./" + "a" * 5000):
        with pytest.raises(ModelError, match=r"does not exist|cannot be read \(File name too long\)"):
            pin_model(ModelConfig(name=name))


def test_folders_pickles_and_code_beside_the_tokenizer_are_not_copied(local_model: Path, tmp_path: Path):
    (local_model / "tokenizer").mkdir()
    (local_model / "tokenizer_folder.json").mkdir()
    for name in ("tokenizer.pkl", "tokenizer_code.py", "tokenizer.model"):
        (local_model / name).write_bytes(b"x")
    base = prepare(ModelConfig(name=str(local_model)), tmp_path / "base")
    copied = {path.name for path in base.glob("tokenizer*")}
    assert copied == {"tokenizer.json", "tokenizer_config.json", "tokenizer.model"}


def test_a_model_that_brings_code_is_refused(local_model: Path, tmp_path: Path):
    config = json.loads((local_model / "config.json").read_text())
    (local_model / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(ModelError, match="auto_map"):
        prepare(ModelConfig(name=str(local_model)), tmp_path / "base")


def test_a_model_with_only_pickled_weights_is_refused(local_model: Path):
    (local_model / "model.safetensors").rename(local_model / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(local_model, dtype=torch.float32)


def test_an_input_longer_than_the_models_positions_is_refused_before_training(local_model: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="exceeds the 256 positions"):
        prepare(ModelConfig(name=str(local_model)), tmp_path / "base", longest_input=257)


@pytest.mark.parametrize("kind", ["fim", "causal_masked", "mlm"])
def test_a_base_gets_the_control_tokens_of_the_objective_and_a_scratch_model_gets_rows_for_them(
    local_model: Path, tmp_path: Path, kind: str
):
    objective = ObjectiveConfig.model_validate({"kind": kind, "max_spans": 3})
    known = DocumentTokenizer(local_model)
    for name, config in {"scratch": TINY, "mine": ModelConfig(name=str(local_model))}.items():
        folder = tmp_path / f"{name}-base"
        prepare_base(pin_model(config), config, TEXTS, longest_input=64, folder=folder, objective=objective)
        tokenizer = DocumentTokenizer(folder)
        names = control_names(objective, known)
        assert all(tokenizer.id_of(name) in tokenizer.control_ids for name in names)
        rows = load_model(folder, dtype=torch.float32).get_input_embeddings().num_embeddings
        if name == "scratch":
            assert rows == tokenizer.vocab_size
    assert tokenizer.vocab_size == known.vocab_size + len(names)


@pytest.mark.parametrize("kernel", [SDPA_BY_PIECE, "sdpa", "eager"])
@pytest.mark.parametrize("architecture", TESTED_ARCHITECTURES)
def test_documents_of_a_row_stay_apart(architecture: str, kernel: str):
    model = make_model(architecture, kernel)
    other = IDS.clone()
    other[0, :25] = 7
    with torch.no_grad():
        packed, changed = (model(input_ids=ids, position_ids=POSITIONS, use_cache=False).logits for ids in (IDS, other))
        alone = model(input_ids=IDS[:, 25:], use_cache=False).logits
    assert (packed[0, :25] - changed[0, :25]).abs().max() > 1e-3
    torch.testing.assert_close(packed[0, 25:], changed[0, 25:], rtol=0, atol=1e-6)
    torch.testing.assert_close(packed[0, 25:], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", TESTED_ARCHITECTURES)
def test_the_lean_loss_equals_the_loss_of_the_architecture(architecture: str):
    model = make_model(architecture, "sdpa")
    plain = model(input_ids=IDS, position_ids=POSITIONS, labels=IDS, use_cache=False).loss
    use_lean_loss(model)
    lean = model(input_ids=IDS, position_ids=POSITIONS, labels=IDS, use_cache=False).loss
    torch.testing.assert_close(lean, plain, rtol=1e-6, atol=0)


@pytest.mark.parametrize("architecture", ["jamba", "mamba", "falcon", "opt", "gemma2", "None"])
def test_an_untested_architecture_is_refused_with_a_list_of_the_tested_ones(architecture: str):
    with pytest.raises(ModelError, match=rf"is a {architecture}, .* Use one of gpt_neox, llama"):
        check_architecture(architecture, name="o/m")


def test_a_base_of_another_architecture_is_refused_before_anything_is_encoded(tmp_path: Path):
    (tmp_path / "falcon").mkdir()
    (tmp_path / "falcon" / "config.json").write_text('{"model_type": "falcon"}')
    config = ModelConfig(name=str(tmp_path / "falcon"))
    with pytest.raises(ModelError, match="is a falcon"):
        prepare_base(pin_model(config), config, [], longest_input=8, folder=tmp_path / "base")
