"""A model infills in the order of its training, and not with tokens that were never trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.inference import PSM, SPM
from flyte_llama.inference.infilling import find_layout
from flyte_llama.storage import seal
from tests.model.bases import hub_folder


@pytest.mark.parametrize(
    ("facts", "layout"),
    [
        ({"summary": {"psm_share": 0.1}}, SPM),
        ({"summary": {"psm_share": 0.5}}, PSM),
        ({"summary": {"objective": "fim"}}, PSM),
        ({}, PSM),
    ],
)
def test_a_trained_model_has_the_layout_of_most_of_its_training(
    all_base: Path, tmp_path: Path, facts: dict[str, dict[str, object]], layout: str
):
    folder = hub_folder(all_base, tmp_path / "model")
    assert find_layout(folder, DocumentTokenizer(folder)) == PSM
    seal(folder, **facts)
    assert find_layout(folder, DocumentTokenizer(folder)) == layout


def test_a_base_infills_only_with_an_adapter_that_has_learned_its_tokens(all_base: Path, tmp_path: Path):
    folder = shutil.copytree(all_base, tmp_path / "base")
    assert find_layout(folder, DocumentTokenizer(folder)) is None
    (folder / "adapter").mkdir()
    assert find_layout(folder, DocumentTokenizer(folder)) == PSM


def test_a_model_without_infill_tokens_has_no_layout(tiny_base: Path):
    assert find_layout(tiny_base, DocumentTokenizer(tiny_base)) is None
