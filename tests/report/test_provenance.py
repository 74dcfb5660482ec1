"""Where a report comes from: its configuration can be loaded again, and the cost is that of the steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte_llama.config import TrainingConfig, load_config
from flyte_llama.report import collect_versions, record_provenance
from flyte_llama.report.pages import report_page
from flyte_llama.report.provenance import estimate_cost
from tests.report.test_report import CONFIG, TRAINING, sample_report, scores


def test_the_recorded_configuration_makes_the_same_run(tmp_path: Path):
    recorded = record_provenance(CONFIG, TRAINING, collect_versions())
    (tmp_path / "again.yaml").write_text(recorded.config)
    assert load_config(tmp_path / "again.yaml") == CONFIG
    assert (recorded.name, recorded.hyperparameters["learning_rate"]) == ("mine", "0.0002")
    assert recorded.hyperparameters["lora.rank"] == "16"


def test_hyperparameters_are_those_that_the_training_had():
    full = CONFIG.model_copy(update={"training": TrainingConfig(method="full", max_steps=7)})
    recorded = record_provenance(full, TRAINING, collect_versions()).hyperparameters
    assert recorded["max_steps"] == "7"
    assert not {"epochs", "lora.rank"} & recorded.keys()
    assert record_provenance(CONFIG, None, collect_versions()).hyperparameters == {}


def test_the_cost_is_the_price_of_all_gpus_for_the_time_of_the_steps():
    cost = estimate_cost(TRAINING.model_copy(update={"device": "NVIDIA H100", "num_processes": 8, "wall_s": 900.0}))
    assert cost.dollars == pytest.approx(8 * 0.25 * cost.dollars_an_hour)
    assert estimate_cost(TRAINING) is None


def test_the_page_shows_date_configuration_versions_and_cost(tmp_path: Path):
    report = sample_report(tmp_path, scores(500.0), scores(250.0))
    assert "dollars" not in report_page(report)
    assert "How to make it again" not in report_page(report)
    versions = collect_versions() | {"finished": "2026-01-05T06:30:00+00:00"}
    on_gpu = TRAINING.model_copy(update={"device": "NVIDIA H100", "wall_s": 7200.0})
    provenance = record_provenance(CONFIG, on_gpu, versions)
    page = report_page(report.model_copy(update={"provenance": provenance, "training": on_gpu}))
    for text in ("2026-01-05 06:30 UTC", "<dd>mine</dd>", "8.00 dollars", "torch ", "<dd>2 h 0 min on 1 "):
        assert text in page
