"""Pseudo-perplexity: every token is masked once and predicted from both sides."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flyte_llama.config import EvaluationConfig, ObjectiveConfig
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation import read_scores
from flyte_llama.evaluation.scoring import score_documents, score_suite
from flyte_llama.evaluation.suite import SuiteDocument
from flyte_llama.inference.nats import Window
from flyte_llama.inference.pseudo import mask_groups, pseudo_score_tokens
from flyte_llama.model import load_model, open_model
from tests.conftest import TEXTS, document
from tests.model.bases import hub_folder, prepare

DOCUMENTS = [SuiteDocument(document(text, path=f"{n}.py"), "heldout", "clean", "fresh") for n, text in enumerate(TEXTS)]
CONFIG = EvaluationConfig(window=64, stride=32, batch_tokens=512)
MLM = ObjectiveConfig(kind="mlm")
MASK = 1


@pytest.fixture(scope="module")
def base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    return prepare(hub_folder(tiny_base, folder / "mine"), folder / "base", tokens=["<mask>"])


def pseudo_nats(model: Any, documents: list[np.ndarray], config: EvaluationConfig, mask_share: float) -> list[float]:
    scores = pseudo_score_tokens(model, documents, config, mask_id=MASK, mask_share=mask_share)
    return [scored.sum_of_nats for scored in scores]


@pytest.fixture
def model(tiny_base: Path) -> Any:
    return load_model(tiny_base, dtype=torch.float32).eval()


@pytest.mark.parametrize("share", [0.01, 0.2, 0.34, 0.99])
def test_every_target_is_masked_in_one_group_and_groups_have_their_share(share: float):
    groups = mask_groups(Window(3, 63, 10), share)
    assert sorted(np.concatenate(groups).tolist()) == list(range(10, 63))
    assert {len(group) for group in groups[:-1]} <= {max(1, round(share * 53))}
    again = mask_groups(Window(3, 63, 10), share)
    assert [group.tolist() for group in again] == [group.tolist() for group in groups]


def test_one_token_at_a_time_equals_masking_by_hand(model: Any):
    ids = np.random.default_rng(0).integers(2, 300, 12)
    expected = 0.0
    for position in range(1, 12):
        masked = torch.from_numpy(ids.copy())[None]
        masked[0, position] = MASK
        with torch.no_grad():
            logits = model(masked, attention_mask=torch.ones((1, 1, 12, 12), dtype=torch.bool)).logits
        expected -= logits[0, position - 1].double().log_softmax(-1)[ids[position]].item()
    (nats,) = pseudo_nats(model, [ids], CONFIG, 1e-9)
    assert nats == pytest.approx(expected, rel=1e-6)


def test_a_token_is_predicted_from_the_tokens_on_both_sides_but_not_from_itself(model: Any):
    def nats_of(position: int, ids: list[int]) -> float:
        masked = torch.tensor([ids])
        masked[0, position] = MASK
        with torch.no_grad():
            logits = model(masked, attention_mask=torch.ones((1, 1, len(ids), len(ids)), dtype=torch.bool)).logits
        return -logits[0, position - 1].log_softmax(-1)[7].item()

    assert nats_of(2, [3, 4, 7, 5]) != pytest.approx(nats_of(2, [3, 4, 7, 6]), abs=1e-5)
    assert nats_of(2, [3, 4, 7, 5]) == nats_of(2, [3, 4, 9, 5])


@pytest.mark.parametrize("batch_tokens", [64, 200, 10_000])
def test_batch_size_and_order_do_not_move_the_figures(model: Any, batch_tokens: int):
    documents = [np.random.default_rng(n).integers(2, 300, n) for n in (5, 150, 64, 2, 33)]
    reference = pseudo_nats(model, documents, CONFIG, 0.2)
    other = CONFIG.model_copy(update={"batch_tokens": batch_tokens})
    nats = pseudo_nats(model, documents[::-1], other, 0.2)[::-1]
    assert nats == pytest.approx(reference, rel=1e-6)


def test_a_uniform_encoder_has_the_vocabulary_size_as_pseudo_perplexity(base: Path):
    model, tokenizer = load_model(base, dtype=torch.float32), DocumentTokenizer(base)
    with torch.no_grad():
        model.get_output_embeddings().weight = torch.nn.Parameter(torch.zeros(tokenizer.vocab_size, 32))
    for loss, _ in score_documents(model, DOCUMENTS, tokenizer, CONFIG, MLM):
        assert loss.nats / loss.num_tokens == pytest.approx(math.log(tokenizer.vocab_size), rel=1e-6)


def test_the_objective_chooses_the_measure_and_the_manifest_records_it(base: Path, tmp_path: Path):
    for name, objective in {"pseudo-perplexity": MLM, "perplexity": ObjectiveConfig()}.items():
        model, tokenizer = open_model(base, precision="fp32")
        out = tmp_path / name
        score_suite(model, tokenizer, [DOCUMENTS], CONFIG, objective=objective, precision="fp32", out=out)
    measures = {name: read_scores(tmp_path / name)[1]["measure"] for name in ("pseudo-perplexity", "perplexity")}
    assert measures == {name: name for name in measures}
    pseudo, plain = (read_scores(tmp_path / name)[0] for name in measures)
    assert [score.num_tokens for score in pseudo] == [score.num_tokens for score in plain]
    assert [score.nats for score in pseudo] != [score.nats for score in plain]


def test_an_encoder_without_a_mask_in_its_tokenizer_is_an_error(tiny_base: Path, model: Any):
    with pytest.raises(EvaluationError, match="the tokenizer has no <mask>"):
        score_documents(model, DOCUMENTS, DocumentTokenizer(tiny_base), CONFIG, MLM)
