"""What the commands print stays in its line and moves no cursor, whatever a configuration or a folder is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from flyte_llama.cli import main
from flyte_llama.cli.describe import describe_config
from flyte_llama.config import ExperimentConfig

HOSTILE = "\x1b[2J\x1b]8;;https://evil.example\x07\u202e\n  publish     everything\t"
ESCAPED = r"\x1b[2J\x1b]8;;https://evil.example\x07\u202e\n  publish     everything\t"


def test_a_model_is_described_in_one_line():
    config = ExperimentConfig.model_validate({"model": {"name": f"/models/{HOSTILE}"}})
    lines = describe_config(config).split("\n")
    assert f"  start from  /models/{ESCAPED}" in lines
    assert all(line.isprintable() for line in lines)
    assert len(lines) == len(describe_config(ExperimentConfig()).split("\n"))


def test_a_folder_is_listed_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLYTE_LLAMA_OUTPUT", str(tmp_path / "output"))
    folder = tmp_path / "output/data" / HOSTILE.replace("/", "-")
    folder.mkdir(parents=True)
    (folder / "file").write_text("content")
    result = CliRunner().invoke(main, ["clean"])
    assert result.exit_code == 0
    (line,) = [line for line in result.output.split("\n") if "evil" in line]
    assert line.endswith(f"data/{ESCAPED.replace('/', '-')}  not needed")
