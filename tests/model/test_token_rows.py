"""Rows of control tokens that a base lacks: how they start, that every method learns them, and that they go by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from flyte_llama.config import ObjectiveConfig
from flyte_llama.encoding import (
    CONTROL_TOKENS_FILE,
    DocumentTokenizer,
    add_control_tokens,
    control_names,
    read_control_tokens,
)
from flyte_llama.errors import ModelError
from flyte_llama.model import ADAPTER_FOLDER, load_model, load_trainable_model, load_with_adapter
from flyte_llama.training.export import save_adapter
from tests.model.bases import hub_folder, learn, lora, prepare

CLM, FIM = ObjectiveConfig(), ObjectiveConfig(kind="fim")
SPANS = ObjectiveConfig(kind="causal_masked", max_spans=16)
MLM = ObjectiveConfig(kind="mlm")
SPARE = pytest.mark.parametrize("spare_rows", [0, 2, 40])
TABLES = ("get_input_embeddings", "get_output_embeddings")


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def tied(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def rows(model: Any, ids: list[int]) -> list[torch.Tensor]:
    return [getattr(model, table)().weight[ids].detach().clone() for table in TABLES]


def train(base: Path, folder: Path, *, steps: int = 8, method: str = "lora") -> tuple[Any, Path]:
    """Train the base's adapter on texts with all its control tokens, and save it as a run does."""
    model, record = load_trainable_model(base, lora(method)), read_control_tokens(base)
    assert record is not None
    ids = torch.tensor([[id_ for control in record.ids.values() for id_ in (control, 5, 80)] or [5, 80, 7]])
    learn(model, ids, steps=steps)
    save_adapter(model, base, folder / ADAPTER_FOLDER)
    return model, folder / ADAPTER_FOLDER


@SPARE
def test_new_tokens_are_those_that_were_added_whether_or_not_the_table_grew(
    tiny_base: Path, tmp_path: Path, tied: bool, spare_rows: int
):
    model = hub_folder(tiny_base, tmp_path / "mine", tied=tied, spare_rows=spare_rows)
    base = prepare(model, tmp_path / "base", objective=FIM)
    record, tokenizer = read_control_tokens(base), DocumentTokenizer(base)
    assert record is not None
    assert record.added == control_names(FIM, DocumentTokenizer(model))
    assert record.ids == {name: tokenizer.id_of(name) for name in record.added}
    trained = load_trainable_model(base, lora())
    learned = [p.shape[0] for name, p in trained.named_parameters() if p.requires_grad and "token" in name]
    assert learned == [len(record.added)] * (1 if tied else 2)


@SPARE
def test_new_rows_start_apart_with_the_mean_and_spread_of_the_rows_of_text(
    tiny_base: Path, tmp_path: Path, tied: bool, spare_rows: int
):
    model = hub_folder(tiny_base, tmp_path / "mine", tied=tied, spare_rows=spare_rows)
    base = prepare(model, tmp_path / "base", objective=SPANS.model_copy(update={"max_spans": 400}))
    record = read_control_tokens(base)
    assert record is not None
    loaded = load_model(base, dtype=torch.float32)
    for new, old in zip(rows(loaded, record.added_ids), rows(loaded, DocumentTokenizer(base).text_ids), strict=True):
        assert torch.corrcoef(new).fill_diagonal_(0).max() < 0.9
        torch.testing.assert_close(new.mean(0), old.mean(0), rtol=0, atol=float(4 * old.std(0).max() / 20))
        assert new.var(0).sum() == pytest.approx(float(old.var(0).sum()), rel=0.15)


def test_the_end_of_a_middle_starts_as_the_end_of_text(tiny_base: Path, tmp_path: Path, tied: bool):
    base = prepare(hub_folder(tiny_base, tmp_path / "mine", tied=tied), tmp_path / "base", objective=FIM)
    tokenizer = DocumentTokenizer(base)
    assert tokenizer.infill is not None
    loaded = load_model(base, dtype=torch.float32)
    for table in rows(loaded, [tokenizer.infill.end, tokenizer.eos_id]):
        torch.testing.assert_close(table[0], table[1], rtol=0, atol=0)


def test_the_mark_before_a_middle_starts_nearer_to_a_line_feed_than_the_other_marks(
    tiny_base: Path, tmp_path: Path, tied: bool
):
    base = prepare(hub_folder(tiny_base, tmp_path / "mine", tied=tied), tmp_path / "base", objective=FIM)
    tokenizer = DocumentTokenizer(base)
    assert tokenizer.infill is not None
    line_feed = int(tokenizer.encode_infix(["\n"])[0][-1])
    ids = [line_feed, tokenizer.infill.middle, tokenizer.infill.prefix, tokenizer.infill.suffix]
    for table in rows(load_model(base, dtype=torch.float32), ids):
        to_line_feed = (table[1:] - table[0]).norm(dim=1)
        assert to_line_feed[0] < 0.7 * to_line_feed[1:].min()


def test_a_row_starts_the_same_whatever_other_tokens_are_added(tiny_base: Path, tmp_path: Path):
    model = hub_folder(tiny_base, tmp_path / "mine", spare_rows=40)
    started = []
    for name, max_spans in (("few", 2), ("many", 30)):
        base = prepare(model, tmp_path / name, objective=SPANS.model_copy(update={"max_spans": max_spans}))
        id_ = DocumentTokenizer(base).id_of("<mask:1>")
        assert id_ is not None
        started.append(rows(load_model(base, dtype=torch.float32), [id_])[0])
    torch.testing.assert_close(started[0], started[1], rtol=0, atol=0)


def test_the_weights_of_a_finished_model_are_loaded_as_they_are(tiny_base: Path, tmp_path: Path):
    base = prepare(hub_folder(tiny_base, tmp_path / "mine"), tmp_path / "base", objective=FIM)
    finished = load_model(base, dtype=torch.float32)
    finished.get_input_embeddings().weight.data += 1
    finished.save_pretrained(tmp_path / "finished")
    for name in ("tokenizer.json", "tokenizer_config.json", CONTROL_TOKENS_FILE):
        shutil.copyfile(base / name, tmp_path / "finished" / name)
    again = load_model(tmp_path / "finished", dtype=torch.float32)
    torch.testing.assert_close(again.get_input_embeddings().weight, finished.get_input_embeddings().weight)


@pytest.mark.parametrize("second", [CLM, SPANS, MLM, FIM], ids=lambda objective: objective.kind)
@pytest.mark.parametrize("first", [FIM, SPANS], ids=lambda objective: objective.kind)
def test_going_on_carries_the_learned_rows_by_name_and_learns_the_new_ones(
    tiny_base: Path, tmp_path: Path, tied: bool, first: ObjectiveConfig, second: ObjectiveConfig
):
    model = hub_folder(tiny_base, tmp_path / "mine", tied=tied, spare_rows=10)
    trained, adapter = train(prepare(model, tmp_path / "first", objective=first), tmp_path / "first-out")
    names = control_names(first, DocumentTokenizer(model))
    learned = read_control_tokens(adapter)
    assert learned is not None
    expected = rows(trained.merge_and_unload(), [learned.ids[name] for name in names])

    base = prepare(model, tmp_path / "second", adapter=adapter, objective=second)
    record = read_control_tokens(base)
    assert record is not None
    assert record.added == list(dict.fromkeys([*names, *control_names(second, DocumentTokenizer(model))]))
    for measured in (load_model(base, dtype=torch.float32), load_trainable_model(base, lora()).merge_and_unload()):
        for before, after in zip(expected, rows(measured, [record.ids[name] for name in names]), strict=True):
            torch.testing.assert_close(after, before, rtol=0, atol=1e-6)

    started = rows(load_model(base, dtype=torch.float32), record.added_ids)
    _, adapter = train(base, tmp_path / "second-out")
    merged = load_with_adapter(base, adapter, dtype=torch.float32).merge_and_unload()
    for before, after in zip(started, rows(merged, record.added_ids), strict=True):
        assert ((after - before).abs().amax(dim=1) > 1e-4).all()


def test_rows_are_carried_to_a_base_that_numbers_the_tokens_otherwise(tiny_base: Path, tmp_path: Path):
    model = hub_folder(tiny_base, tmp_path / "mine", spare_rows=40)
    trained, adapter = train(prepare(model, tmp_path / "first", objective=FIM), tmp_path / "out")
    before, other = read_control_tokens(adapter), shutil.copytree(model, tmp_path / "other")
    add_control_tokens(other, ["<pad>", "▁<MID>"])
    base = prepare(other, tmp_path / "second", adapter=adapter)
    tokenizer = DocumentTokenizer(base)
    assert before is not None
    names = list(before.ids)
    ids = [id_ for name in names if (id_ := tokenizer.id_of(name)) is not None]
    assert ids != list(before.ids.values())
    expected = rows(trained.merge_and_unload(), list(before.ids.values()))[0]
    torch.testing.assert_close(rows(load_model(base, dtype=torch.float32), ids)[0], expected, rtol=0, atol=1e-6)


def unnamed(adapter: Path) -> Path:
    """The adapter as earlier versions wrote it: without names of tokens."""
    (adapter / CONTROL_TOKENS_FILE).unlink()
    (adapter / "tokenizer.json").unlink(missing_ok=True)
    return adapter


def test_an_adapter_without_names_is_continued_with_the_same_objective(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = hub_folder(tiny_base, tmp_path / "mine", spare_rows=10)
    trained, adapter = train(prepare(model, tmp_path / "first", objective=FIM), tmp_path / "out")
    base = prepare(model, tmp_path / "second", adapter=unnamed(adapter), objective=FIM)
    assert "they are taken for ▁<PRE>, ▁<SUF>, ▁<MID>" in capsys.readouterr().err
    record = read_control_tokens(base)
    assert record is not None
    expected = rows(trained.merge_and_unload(), record.added_ids)[0]
    torch.testing.assert_close(rows(load_model(base, dtype=torch.float32), record.added_ids)[0], expected)


@pytest.mark.parametrize("second", [CLM, SPANS, MLM], ids=lambda objective: objective.kind)
def test_an_adapter_without_names_is_refused_with_another_objective(
    tiny_base: Path, tmp_path: Path, second: ObjectiveConfig
):
    model = hub_folder(tiny_base, tmp_path / "mine", spare_rows=10)
    _, adapter = train(prepare(model, tmp_path / "first", objective=FIM), tmp_path / "out", steps=1)
    with pytest.raises(ModelError, match=r"model\.adapter = .*: has learned the embedding rows of \d tokens"):
        prepare(model, tmp_path / "second", adapter=unnamed(adapter), objective=second)


def test_the_tokenizer_beside_an_adapter_names_its_tokens(tiny_base: Path, tmp_path: Path):
    model = hub_folder(tiny_base, tmp_path / "mine", spare_rows=10)
    first = prepare(model, tmp_path / "first", objective=FIM)
    _, adapter = train(first, tmp_path / "out", steps=1)
    shutil.copyfile(first / "tokenizer.json", unnamed(adapter) / "tokenizer.json")
    record = read_control_tokens(prepare(model, tmp_path / "second", adapter=adapter, objective=CLM))
    assert record is not None
    assert record.added == control_names(FIM, DocumentTokenizer(model))


def test_a_base_that_infills_keeps_its_own_tokens_and_no_row_is_new(tiny_base: Path, tmp_path: Path):
    model = hub_folder(tiny_base, tmp_path / "mine", spare_rows=10)
    names = ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", "<｜end▁of▁sentence｜>"]  # noqa: RUF001
    add_control_tokens(model, names)
    base = prepare(model, tmp_path / "base", objective=FIM)
    record = read_control_tokens(base)
    assert record is not None
    assert (list(record.ids), record.added) == (names, [])
    assert (base / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()


def test_infill_tokens_of_an_unknown_family_are_named_when_others_are_added_beside_them(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = hub_folder(tiny_base, tmp_path / "mine")
    add_control_tokens(model, ["<my_fim_prefix>", "<my_fim_suffix>"])
    prepare(model, tmp_path / "base", objective=FIM)
    assert "has <my_fim_prefix>, <my_fim_suffix>, which are the infill tokens of no family" in capsys.readouterr().err


def test_a_damaged_record_is_one_message(tiny_base: Path, tmp_path: Path):
    model = hub_folder(tiny_base, tmp_path / "mine", spare_rows=10)
    _, adapter = train(prepare(model, tmp_path / "first", objective=FIM), tmp_path / "out", steps=1)
    (adapter / CONTROL_TOKENS_FILE).write_text(json.dumps({"ids": {"a": "b"}}))
    with pytest.raises(ModelError, match=r"control_tokens\.json: cannot be read"):
        prepare(model, tmp_path / "second", adapter=adapter, objective=FIM)


def test_an_adapter_holds_the_rows_of_its_tokens_alone(tiny_base: Path, tmp_path: Path, tied: bool):
    model = hub_folder(tiny_base, tmp_path / "mine", tied=tied, spare_rows=10)
    _, adapter = train(prepare(model, tmp_path / "first", objective=FIM), tmp_path / "out", steps=1)
    tensors = load_file(adapter / "adapter_model.safetensors")
    shapes = [tuple(tensor.shape) for name, tensor in tensors.items() if "lora_" not in name]
    assert shapes == [(len(control_names(FIM, DocumentTokenizer(model))), 32)] * (1 if tied else 2)
