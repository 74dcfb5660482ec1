"""`flyte-llama runs` and `flyte-llama compare`: which runs they mean, and what they print and write."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flyte_llama.cli import main
from flyte_llama.runs import RunComparison
from flyte_llama.workspace import stored_items
from tests.runs.made_runs import make_evaluation, make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("made")
    for day, name in enumerate(("oldest", "older", "newest"), start=1):
        make_run(output, name, day=day, bits=2.0 - day / 10)
    make_evaluation(output / "evaluation")
    return output


@pytest.fixture(autouse=True)
def output(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "output"
    shutil.copytree(made, folder, symlinks=True)
    monkeypatch.setenv("FLYTE_LLAMA_OUTPUT", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def sides(result: Result) -> list[str]:
    """The names of A and B."""
    assert result.exit_code == 0, result.output
    return [line.split()[1].rstrip(",") for line in result.stdout.split("\n")[:2]]


def test_the_runs_are_listed_newest_first():
    result = call("runs")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.split("\n")[2:5]] == ["newest", "older", "oldest"]


def test_another_output_folder_can_be_listed_and_one_without_runs_says_how_to_make_one(tmp_path: Path, output: Path):
    output.rename(tmp_path / "moved")
    assert "has no finished runs yet. `make run` makes one." in call("runs").stdout
    assert "oldest" in call("runs", "--output", "moved").stdout


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ["older", "newest"]),
        (["oldest"], ["oldest", "newest"]),
        (["output/evaluation"], ["evaluation", "newest"]),
        (["newest", "oldest"], ["newest", "oldest"]),
        (["output/runs/older", "output"], ["older", "newest"]),
        (["output/latest", "output/runs/older/report.json"], ["newest", "report.json"]),
    ],
)
def test_a_run_is_named_in_any_way_and_left_out_if_it_is_a_newest_one(arguments: list[str], names: list[str]):
    assert sides(call("compare", *arguments)) == names


def test_the_page_is_written_to_the_comparisons_of_the_output_folder_and_its_path_is_the_last_line(output: Path):
    result = call("compare", "oldest", "older")
    page = output.resolve() / "comparisons" / "oldest--older.html"
    assert result.stdout.rstrip().split("\n")[-1] == f"page: {page}"
    assert page.read_text().startswith("<!doctype html>")
    (item,) = [item for item in stored_items(output) if item.path.name == "comparisons"]
    assert item.needed_by


def test_another_page_can_be_named_and_only_a_page(tmp_path: Path, output: Path):
    report = output / "runs/older/report.json"
    before = report.read_text()
    refused = call("compare", "--output", report)
    assert refused.exit_code == 2
    assert "ends with .html" in refused.output
    assert report.read_text() == before
    assert call("compare", "--output", tmp_path / "new/page.html").exit_code == 0
    assert (tmp_path / "new/page.html").is_file()
    assert not (output / "comparisons").exists()


def test_the_json_form_is_the_whole_comparison_and_nothing_else(output: Path):
    result = call("compare", "--json")
    comparison = RunComparison.model_validate(json.loads(result.stdout))
    assert comparison.report is not None
    assert comparison.report.change is not None
    assert comparison.report.change.is_better
    assert not (output / "comparisons").exists()


def test_the_newest_run_alone_is_compared_with_nothing():
    result = call("compare", "newest")
    assert result.exit_code == 2
    assert "is the newest run itself" in result.output


def test_too_few_runs_are_one_message(output: Path):
    for name in ("older", "newest"):
        shutil.rmtree(output / "runs" / name)
    result = call("compare")
    assert result.exit_code == 2
    assert "has 1 finished run, too few to compare" in result.output


def test_a_damaged_run_does_not_keep_the_others_from_being_compared(output: Path):
    (output / "runs/newest/run.json").write_text("{")
    assert sides(call("compare")) == ["oldest", "older"]
    assert "newest: " in call("runs").stdout


@pytest.mark.parametrize("name", ["unknown", "~nobody/runs", "", "output/comparisons"])
def test_an_unknown_name_is_one_message(name: str):
    result = call("compare", name)
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert "`flyte-llama runs` lists the runs" in result.output
