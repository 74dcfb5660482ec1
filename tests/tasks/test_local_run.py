"""The whole workflow by `pyflyte run`, with Flyte's cache on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flyte_llama.config import load_config
from flyte_llama.report import EvaluationReport
from tests.tasks.tiny import ROOT, new_repository, run_workflow, train_files, write_config

pytestmark = pytest.mark.slow


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """The configuration of a tiny experiment whose held-out repositories have one name."""
    train = new_repository(tmp_path / "remotes/train", train_files())
    sources: dict[str, list[dict[str, object]]] = {"train": [{"url": str(train), "accept_unknown_licence": True}]}
    texts = {side: f"def scale_{side}(value: float) -> float:\n    return value * len({side!r})\n" for side in "ab"}
    sources["heldout"] = [
        {"url": str(new_repository(tmp_path / f"remotes/{side}/acme/tools", {"b.py": text, "LICENSE": "MIT"}))}
        for side, text in texts.items()
    ]
    return write_config(tmp_path / "tiny.yaml", sources)


def test_pyflyte_run_reports_both_repositories_of_one_name_and_a_second_run_is_served_from_the_cache(
    config_file: Path, tmp_path: Path
):
    repositories = [str(source.url) for source in load_config(config_file).corpus.heldout]
    first = run_workflow(config_file, tmp_path)
    assert "step 24/24" in first
    report = EvaluationReport.model_validate(json.loads((tmp_path / "output/latest/report.json").read_text()))
    assert [line.name for line in report.heldout.by["repository"]] == repositories
    assert all(repository in first for repository in repositories)
    assert f"{report.overall.figures[-1].perplexity:,.2f}" in first
    run_folder = (tmp_path / "output/latest").resolve()
    assert str(run_folder / "report.html") in first
    assert load_config(run_folder / "config.yaml").corpus == load_config(config_file).corpus
    kinds = {path.name.split("-")[0] for path in (tmp_path / "output/data").iterdir()}
    assert (tmp_path / "output/latest/DATASET_CARD.md").read_text().startswith("---")
    sides = {"documents", "train", "heldout", "base", "rows", "model"}
    assert kinds == sides | {"items", "suite", "measured", "scores"}
    assert "flyte-llama compare" not in first
    second = run_workflow(config_file, tmp_path)
    assert "flyte-llama compare" in second
    assert "Nothing moved since" in second
    assert "step" not in second.replace("steps", "")
    assert f"{report.overall.figures[-1].perplexity:,.2f}" in second


def test_a_bad_configuration_ends_pyflyte_run_with_one_report_and_exit_code_2(config_file: Path, tmp_path: Path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(config_file.read_text().replace("seq_len: 64", "seq_len: 2.7").replace("max_steps", "max_stepz"))
    pyflyte = Path(sys.executable).with_name("pyflyte")
    command = [pyflyte, "run", str(ROOT / "flyte_llama/workflows.py"), "train_flyte_llama", "--config", str(bad)]
    environment = {**os.environ, "COLUMNS": "300"}  # the width of the frame around the message
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert f"{bad}: 2 problems; nothing was fetched or run:" in done.stderr
    assert "training.max_stepz: unknown key. Did you mean max_steps?" in done.stderr
    assert "Traceback" not in done.stderr
