"""The command `flyte-llama why`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from flyte_llama.cli import main
from flyte_llama.corpus import read_sample
from flyte_llama.report import dataset_page
from flyte_llama.workspace import finish_run, new_run_folder
from tests.corpus.test_build import DOCUMENTS, build
from tests.report.foreign import read_html


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder with a finished run, of which the parts of the corpus are there."""
    folder = tmp_path / "output"
    build(folder / "data", DOCUMENTS)
    run = new_run_folder(folder, "mine")
    facts = {"finished": datetime.now(UTC).isoformat()}
    finish_run(run, "mine", {"train", "heldout"}, facts, {"train": "train", "heldout": "heldout"})
    monkeypatch.setenv("FLYTE_LLAMA_OUTPUT", str(folder))
    return folder


def why(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["why", *arguments])
    return result.exit_code, result.output


def test_it_prints_what_became_of_a_file_in_the_words_of_the_page(output: Path, tmp_path: Path):
    card = build(tmp_path / "again", DOCUMENTS)
    sample = read_sample(output / "data/train", output / "data/heldout")
    page = read_html(dataset_page(card, sample)).text
    for path in ("a.py", "copy.py", "leak.py", "y.py", "z.py"):
        code, text = why(path)
        assert code == 0
        name, *sentences = text.split("\n\n")[0].splitlines()
        assert name.startswith(f"o/{'heldout' if path in ('y.py', 'z.py') else 'train'}:{path} (")
        assert len(sentences) > 0
        for sentence in sentences:
            assert sentence.strip() in page


def test_a_run_is_named_by_its_folder_or_its_name(output: Path, tmp_path: Path):
    (run,) = (output / "runs").iterdir()
    for name in (run.name, str(run), str(output)):
        code, text = why("a.py", "--run", name)
        assert (code, text.splitlines()[-1]) == (0, f"run: {run}")
    code, text = why("a.py", "--run", str(tmp_path / "nowhere"))
    assert code == 2
    assert "holds no finished run. Name one with --run" in text


def test_a_path_of_no_file_is_an_error_with_the_nearest(output: Path):
    code, text = why("src/lake.py")
    assert code == 2
    assert "o/train:leak.py" in text
