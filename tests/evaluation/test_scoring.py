"""Against closed forms, and against one full forward pass."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flyte_llama.config import EvaluationConfig, ObjectiveConfig
from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation import breakdown, read_scores, score, score_folder, token_nats
from flyte_llama.model import load_model
from flyte_llama.tokens import DocumentTokenizer
from tests.conftest import TEXTS, document

DOCUMENTS = [document(text * n, path=f"{n}.py") for n, text in enumerate(TEXTS, start=1)]


class Bigrams(torch.nn.Module):
    """A model whose next token depends on the last one alone, by a table of log probabilities."""

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
    overall = breakdown(score(model, DOCUMENTS, tokenizer, config())).overall
    assert overall.perplexity == pytest.approx(tokenizer.vocab_size, rel=1e-6)
    assert overall.num_bytes == sum(len(d.text.encode()) for d in DOCUMENTS)
    bits = overall.num_tokens * math.log2(tokenizer.vocab_size) / overall.num_bytes
    assert overall.bits_per_byte == pytest.approx(bits, rel=1e-6)


def test_a_bigram_table_is_scored_as_by_hand():
    # From 0: to 1 with 3/4, to 2 with 1/4; from 1: to 2 always; from 2: to 0, 1, 2 alike.
    table = torch.tensor([[1e-30, 3 / 4, 1 / 4], [1e-30, 1e-30, 1.0], [1 / 3, 1 / 3, 1 / 3]]).log()
    by_hand = -(math.log(3 / 4) + math.log(1.0) + math.log(1 / 3) + math.log(1 / 4))
    nats = token_nats(Bigrams(table), [np.array([0, 1, 2, 0, 2])], config(window=3, stride=1))
    assert nats == pytest.approx([by_hand], rel=1e-6)


def test_a_deterministic_cycle_has_perplexity_1():
    table = torch.full((3, 3), -1e9)
    table[[0, 1, 2], [1, 2, 0]] = 0.0
    assert token_nats(Bigrams(table), [np.arange(300) % 3], config(window=7, stride=3)) == [0.0]


def test_a_document_within_one_window_equals_one_full_forward_pass(model, tokenizer: DocumentTokenizer):
    (ids,) = tokenizer.encode([DOCUMENTS[0].text])
    whole = torch.tensor([[tokenizer.bos_id, *ids.tolist()]])
    with torch.no_grad():
        logits = model(whole).logits[0, :-1].double()
    expected = torch.nn.functional.cross_entropy(logits, whole[0, 1:], reduction="sum").item()
    (found,) = score(model, DOCUMENTS[:1], tokenizer, config())
    assert found.nats == pytest.approx(expected, rel=1e-6)
    assert found.num_tokens == len(ids)


def test_rolling_windows_equal_windows_run_one_by_one(model):
    ids = np.random.default_rng(0).integers(2, 300, 100)
    expected = 0.0
    for begin, end, first in [(0, 16, 1), *((end - 16, end, end - 4) for end in range(20, 101, 4))]:
        window = torch.from_numpy(ids[begin:end])[None]
        with torch.no_grad():
            log_p = model(window).logits[0].double().log_softmax(-1)
        expected -= sum(log_p[target - begin - 1, ids[target]].item() for target in range(first, end))
    (found,) = token_nats(model, [ids], config(window=16, stride=4))
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("batch_tokens", [256, 300, 1000, 100_000])
def test_batch_size_and_order_do_not_move_the_figures(model, tokenizer: DocumentTokenizer, batch_tokens: int):
    reference = score(model, DOCUMENTS, tokenizer, config(batch_tokens=512))
    other = score(model, DOCUMENTS[::-1], tokenizer, config(batch_tokens=batch_tokens))[::-1]
    assert [s.nats for s in other] == pytest.approx([s.nats for s in reference], rel=1e-6)


def test_a_broken_model_is_an_error_that_names_the_document(model, tokenizer: DocumentTokenizer):
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(EvaluationError, match=r"o/r 1\.py: scored nan nats"):
        score(model, DOCUMENTS, tokenizer, config())


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(model, tokenizer: DocumentTokenizer):
    model.resize_token_embeddings(100)
    with pytest.raises(EvaluationError, match="the model has 100"):
        score(model, DOCUMENTS, tokenizer, config())


def test_sums_are_kept_and_divided_once(tmp_path: Path, tiny_base: Path):
    languages = ["python", "go", "python", "go"]
    documents = [document(text, path=f"{n}", language=languages[n]) for n, text in enumerate(TEXTS)]
    score_folder(tiny_base, documents, config(), objective=ObjectiveConfig(), precision="fp32", out=tmp_path)
    scores, manifest = read_scores(tmp_path)
    found = breakdown(scores)
    assert set(found.by_language) == {"go", "python"}
    assert math.fsum(loss.nats for loss in found.by_language.values()) == pytest.approx(found.overall.nats, rel=1e-12)
    go = [s for s in scores if s.language == "go"]
    expected = math.exp(sum(s.nats for s in go) / sum(s.num_tokens for s in go))
    assert found.by_language["go"].perplexity == pytest.approx(expected, rel=1e-12)
    assert (manifest["window"], manifest["stride"], manifest["start"]) == (256, 128, "bos")
