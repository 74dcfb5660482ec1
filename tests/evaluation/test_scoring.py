"""Scores agree with closed forms and with one full forward pass."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertLMHeadModel

from flyte_llama.config import EvaluationConfig, ObjectiveConfig
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.errors import DataError, EvaluationError, ModelError
from flyte_llama.evaluation import read_scores
from flyte_llama.evaluation.scores import join_scores, total_loss, write_scores
from flyte_llama.evaluation.scoring import score_documents, score_suite
from flyte_llama.evaluation.suite import SuiteDocument, split_into_shards
from flyte_llama.inference import token_nats
from flyte_llama.model import load_model, open_model
from flyte_llama.model.checks import TESTED_ARCHITECTURES
from flyte_llama.storage import seal, write_unsealed_table
from tests.conftest import TEXTS, document
from tests.model.bases import hub_folder
from tests.model.test_base import make_model

DOCUMENTS = [
    SuiteDocument(document(text * n, path=f"{n}.py"), "heldout", "clean", "fresh") for n, text in enumerate(TEXTS, 1)
]


class Bigrams(torch.nn.Module):
    """A model that predicts the next token from the last one alone, by a table of log probabilities."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table, self.device = table, torch.device("cpu")

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[input_ids])


def config(window: int = 256, stride: int = 128, batch_tokens: int = 4096) -> EvaluationConfig:
    return EvaluationConfig(window=window, stride=stride, batch_tokens=batch_tokens)


@pytest.fixture
def model(tiny_base: Path):
    return load_model(tiny_base, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> DocumentTokenizer:
    return DocumentTokenizer(tiny_base)


def test_a_uniform_model_has_the_vocabulary_size_as_perplexity(model, tokenizer: DocumentTokenizer):
    with torch.no_grad():
        model.get_output_embeddings().weight = torch.nn.Parameter(torch.zeros(tokenizer.vocab_size, 32))
    overall = total_loss([score for score, _ in score_documents(model, DOCUMENTS, tokenizer, config())])
    assert overall.perplexity == pytest.approx(tokenizer.vocab_size, rel=1e-6)
    assert overall.num_bytes == sum(len(entry.document.text.encode()) for entry in DOCUMENTS)
    bits = overall.num_tokens * math.log2(tokenizer.vocab_size) / overall.num_bytes
    assert overall.bits_per_byte == pytest.approx(bits, rel=1e-6)


def test_a_bigram_table_is_scored_as_by_hand():
    # 0 is followed by 1 with 3/4 and by 2 with 1/4; 1 always by 2; 2 by 0, 1 or 2 with 1/3 each.
    table = torch.tensor([[1e-30, 3 / 4, 1 / 4], [1e-30, 1e-30, 1.0], [1 / 3, 1 / 3, 1 / 3]]).log()
    by_hand = -(math.log(3 / 4) + math.log(1.0) + math.log(1 / 3) + math.log(1 / 4))
    nats = token_nats(Bigrams(table), [np.array([0, 1, 2, 0, 2])], config(window=3, stride=1))
    assert nats == pytest.approx([by_hand], rel=1e-6)


def test_a_deterministic_cycle_has_perplexity_1():
    table = torch.full((3, 3), -1e9)
    table[[0, 1, 2], [1, 2, 0]] = 0.0
    assert token_nats(Bigrams(table), [np.arange(300) % 3], config(window=7, stride=3)) == [0.0]


def test_a_document_within_one_window_equals_one_full_forward_pass(model, tokenizer: DocumentTokenizer):
    (ids,) = tokenizer.encode([DOCUMENTS[0].document.text])
    whole = torch.tensor([[tokenizer.bos_id, *ids.tolist()]])
    with torch.no_grad():
        logits = model(whole).logits[0, :-1].double()
    expected = torch.nn.functional.cross_entropy(logits, whole[0, 1:], reduction="sum").item()
    ((score, _),) = score_documents(model, DOCUMENTS[:1], tokenizer, config())
    assert score.nats == pytest.approx(expected, rel=1e-6)
    assert score.num_tokens == len(ids)


def test_rolling_windows_equal_windows_run_one_by_one(model):
    ids = np.random.default_rng(0).integers(2, 300, 100)
    expected = 0.0
    for begin, end, first in [(0, 16, 1), *((end - 16, end, end - 4) for end in range(20, 101, 4))]:
        window = torch.from_numpy(ids[begin:end])[None]
        with torch.no_grad():
            log_p = model(window).logits[0].double().log_softmax(-1)
        expected -= sum(log_p[target - begin - 1, ids[target]].item() for target in range(first, end))
    (nats,) = token_nats(model, [ids], config(window=16, stride=4))
    assert nats == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("batch_tokens", [256, 300, 1000, 100_000])
def test_batch_size_and_order_do_not_move_the_figures(model, tokenizer: DocumentTokenizer, batch_tokens: int):
    reference = score_documents(model, DOCUMENTS, tokenizer, config(batch_tokens=512))
    other = score_documents(model, DOCUMENTS[::-1], tokenizer, config(batch_tokens=batch_tokens))[::-1]
    assert [s.nats for s, _ in other] == pytest.approx([s.nats for s, _ in reference], rel=1e-6)


def test_a_broken_model_is_an_error_that_names_the_document(model, tokenizer: DocumentTokenizer):
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(EvaluationError, match=r"o/r 1\.py: scored nan nats"):
        score_documents(model, DOCUMENTS, tokenizer, config())


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(model, tokenizer: DocumentTokenizer):
    model.resize_token_embeddings(100)
    with pytest.raises(EvaluationError, match="the model has 100 ids"):
        score_documents(model, DOCUMENTS, tokenizer, config())


def word_tokenizer(folder: Path, *, unknown: str | None, more: int = 0) -> DocumentTokenizer:
    """A tokenizer with an id for each of a few words; all others become `unknown`, or are dropped if it is None."""
    names = ["</s>", "def", "return", "<unk>", *(f"w{index}" for index in range(more))]
    words = {word: index for index, word in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=unknown) if unknown else models.BPE(words, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    return DocumentTokenizer(folder)


def test_a_second_id_before_a_text_is_not_scored(model, tokenizer: DocumentTokenizer, tiny_base: Path, tmp_path: Path):
    folder = hub_folder(tiny_base, tmp_path / "two")
    saved = Tokenizer.from_file(str(folder / "tokenizer.json"))
    saved.post_processor = processors.TemplateProcessing("</s> <s> $A", special_tokens=[("<s>", 0), ("</s>", 1)])
    saved.save(str(folder / "tokenizer.json"))
    (_, scored), *_ = score_documents(model, DOCUMENTS, DocumentTokenizer(folder), config())
    ids = next(tokenizer.encode([DOCUMENTS[0].document.text])).tolist()
    expected = torch.log_softmax(model(torch.tensor([[1, 0, *ids]])).logits[0, 1:-1].double(), -1)
    assert scored.nats == pytest.approx(-expected[range(len(ids)), ids].detach().numpy(), rel=1e-4)


@pytest.mark.parametrize("unknown", ["<unk>", None])
def test_a_tokenizer_that_loses_characters_is_refused(model, tmp_path: Path, unknown: str | None):
    lossy = word_tokenizer(tmp_path / "lossy", unknown=unknown)
    with pytest.raises(EvaluationError, match=r"o/r 1\.py: the tokenizer loses characters of it"):
        score_documents(model, DOCUMENTS, lossy, config())


def test_a_model_that_sees_its_targets_is_refused(tiny_base: Path, tmp_path: Path):
    folder = hub_folder(tiny_base, tmp_path / "bert")
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    # Weights as large as a trained model's: with tiny random ones a later token hardly changes a logit.
    shape["initializer_range"] = 0.5
    torch.manual_seed(0)
    BertLMHeadModel(BertConfig(vocab_size=400, is_decoder=False, **shape)).save_pretrained(folder)
    with pytest.raises(ModelError, match="sees the tokens that it is to predict"):
        open_model(folder, precision="fp32")


def test_a_model_with_the_larger_tokenizer_of_another_is_refused(tiny_base: Path, tmp_path: Path):
    folder = hub_folder(tiny_base, tmp_path / "foreign")
    word_tokenizer(folder, unknown="<unk>", more=400)
    with pytest.raises(ModelError, match="the tokenizer has 404 entries, the model"):
        open_model(folder, precision="fp32")


def score_to_folder(base: Path, suite: list[SuiteDocument], out: Path) -> Path:
    """Score the documents in batches of two."""
    model, tokenizer = open_model(base, precision="fp32")
    batches = [suite[begin : begin + 2] for begin in range(0, len(suite), 2)]
    score_suite(model, tokenizer, batches, config(), objective=ObjectiveConfig(), precision="fp32", out=out)
    return out


def test_sums_are_kept_and_divided_once(tmp_path: Path, tiny_base: Path):
    scores, manifest = read_scores(score_to_folder(tiny_base, DOCUMENTS, tmp_path))
    total = total_loss(scores)
    expected = math.exp(sum(s.nats for s in scores) / sum(s.num_tokens for s in scores))
    assert total.perplexity == pytest.approx(expected, rel=1e-12)
    assert (manifest["window"], manifest["stride"], manifest["start"]) == (256, 128, "bos")


def test_every_sum_in_the_table_equals_the_sum_over_its_tokens(tmp_path: Path, tiny_base: Path):
    rows = pq.read_table(score_to_folder(tiny_base, DOCUMENTS, tmp_path) / "scores.parquet").to_pylist()
    assert [row["path"] for row in rows] == [entry.document.path for entry in DOCUMENTS]
    for row in rows:
        assert row["nats"] == math.fsum(row["token_nats"])
        assert len(row["token_nats"]) == row["num_tokens"] == sum(row["position_tokens"])
        bounds = np.cumsum([0, *row["position_tokens"]])
        assert row["position_tokens"][:-1] == [2**power for power in range(len(bounds) - 2)]
        by_position = [math.fsum(row["token_nats"][a:b]) for a, b in itertools.pairwise(bounds)]
        assert row["position_nats"] == by_position
        assert 0 <= row["top1"] <= row["top5"] <= row["num_tokens"]


def test_joined_shards_equal_the_whole(tmp_path: Path, tiny_base: Path):
    whole = score_to_folder(tiny_base, DOCUMENTS, tmp_path / "whole")
    shards = [shard for shard in split_into_shards(DOCUMENTS, 3) if shard]
    parts = [score_to_folder(tiny_base, shard, tmp_path / f"{n}") for n, shard in enumerate(shards)]
    join_scores(parts[::-1], tmp_path / "joined")
    (scores, facts), (joined, same_facts) = read_scores(whole), read_scores(tmp_path / "joined")
    assert [s.document for s in scores] == [s.document for s in joined]
    assert [s.nats for s in scores] == pytest.approx([s.nats for s in joined], rel=1e-6)
    assert {**facts, "files": 0} == {**same_facts, "files": 0}


def test_joined_shards_keep_repositories_of_one_name_apart(tmp_path: Path, tiny_base: Path):
    (score,), manifest = read_scores(score_to_folder(tiny_base, DOCUMENTS[:1], tmp_path / "one"))
    elsewhere = replace(score, url="https://example.com/a/copy", nats=1.0)
    write_scores(tmp_path / "two", [elsewhere], **{**manifest, "files": {}})
    join_scores([tmp_path / "one", tmp_path / "two"], tmp_path / "joined")
    assert read_scores(tmp_path / "joined")[0] == [elsewhere, score]


def test_shards_of_an_earlier_version_are_not_joined(tmp_path: Path, tiny_base: Path):
    folder = score_to_folder(tiny_base, DOCUMENTS[:1], tmp_path / "scores")
    table = pq.read_table(folder / "scores.parquet").drop_columns(["url"])
    seal(folder, {"scores.parquet": write_unsealed_table(folder, "scores.parquet", table)})
    with pytest.raises(DataError, match=r"scores\.parquet: has no column url.*Measure again"):
        join_scores([folder], tmp_path / "joined")


def test_shards_that_were_measured_differently_are_not_joined(tmp_path: Path, tiny_base: Path):
    parts = [score_to_folder(tiny_base, DOCUMENTS[:1], tmp_path / "one"), tmp_path / "two"]
    scores, manifest = read_scores(parts[0])
    write_scores(parts[1], scores, **{**manifest, "files": {}, "stride": 1})
    with pytest.raises(EvaluationError, match="measured with different stride"):
        join_scores(parts, tmp_path / "joined")


def test_a_model_that_knows_nothing_is_not_right_by_chance(model, tokenizer: DocumentTokenizer):
    with torch.no_grad():
        model.get_output_embeddings().weight = torch.nn.Parameter(torch.zeros(400, 32))
    for score, scored in score_documents(model, DOCUMENTS, tokenizer, config()):
        assert score.top1 == (scored.ranks == 0).sum() == 0


def test_an_architecture_that_caps_its_logits_is_scored_with_capped_logits(model, tokenizer: DocumentTokenizer):
    plain = model.forward

    def forward_capped(**inputs: Any) -> Any:
        output = plain(**inputs)
        output.logits = torch.tanh(output.logits)
        return output

    (ids,) = tokenizer.encode([DOCUMENTS[1].document.text])
    whole = torch.tensor([[tokenizer.bos_id, *ids.tolist()]])
    with torch.no_grad():
        logits = torch.tanh(model(whole).logits[0, :-1].double())
    model.forward = forward_capped
    ((score, _),) = score_documents(model, DOCUMENTS[1:2], tokenizer, config())
    expected = torch.nn.functional.cross_entropy(logits, whole[0, 1:], reduction="sum").item()
    assert score.nats == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("architecture", [*TESTED_ARCHITECTURES, "cohere", "gemma2", "granite"])
def test_every_architecture_is_scored_as_its_own_forward_pass_says(architecture: str):
    model = make_model(architecture, "eager")
    ids = np.random.default_rng(0).integers(2, 300, 40)
    with torch.no_grad():
        log_p = model(torch.from_numpy(ids)[None]).logits[0].double().log_softmax(-1)
    expected = -sum(log_p[position - 1, ids[position]].item() for position in range(1, 40))
    assert token_nats(model, [ids], config()) == pytest.approx([expected], rel=1e-6)
