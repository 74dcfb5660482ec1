"""`flyte-llama check` and `plan` report every problem of a configuration at once, in one message, with exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flyte_llama.cli import main
from tests.conftest import MakeRepo

LOCAL = Path(__file__).parents[2] / "configs/local.yaml"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.mark.parametrize("command", [["check"], ["plan", "--gpus", "1"]], ids=["check", "plan"])
def test_the_file_is_an_argument_or_an_option(command: list[str]):
    as_argument, as_option = run(*command, LOCAL), run(*command, "--config", LOCAL)
    assert as_argument.exit_code == as_option.exit_code == 0
    assert as_argument.output == as_option.output
    for wrong in (run(*command), run(*command, LOCAL, "--config", LOCAL)):
        assert wrong.exit_code == 2
        assert "Give one configuration, as FILE or as --config FILE." in wrong.output


@pytest.mark.parametrize("command", [[], ["check"], ["plan"], ["evaluate"]])
def test_h_is_help(command: list[str]):
    assert run(*command, "-h").output == run(*command, "--help").output


@pytest.mark.parametrize(
    ("accepts", "words"), [("true", "on the held-out documents"), ("false", "beyond the held-out repositories")]
)
def test_check_says_what_a_model_must_show_to_be_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accepts: str, words: str
):
    monkeypatch.setenv("HF_TOKEN", "a token")
    file = tmp_path / "publishing.yaml"
    file.write_text(
        f"{LOCAL.read_text()}  published: none\n"
        f"publish: {{repository: owner/model, accept_few_repositories: {accepts}}}\n"
    )
    result = run("check", file)
    assert result.exit_code == 0, result.output
    assert f"owner/model, if the model is better than its base {words} and nothing speaks against it" in result.output


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        ("{train: [{url: URL}], heldout: [{url: URL, paths: [/a/], exclude: [b]}]}", "/a/ of acme/mono without b"),
        (
            "{train: [{url: URL}], split: {by: date, after: 2026-06-01}}",
            "files of acme/mono first committed after 2026-06-01",
        ),
        (
            "{train: [{url: URL}], split: {by: date, newest_days: 1}, heldout: [{url: https://example.com/a/b}]}",
            "files of acme/mono first committed in the day before its commit; a/b",
        ),
    ],
)
def test_check_names_the_part_that_is_held_out(tmp_path: Path, sides: str, words: str):
    file = tmp_path / "mono.yaml"
    _, key, others = LOCAL.read_text().partition("model:")
    file.write_text(f"corpus: {sides.replace('URL', 'https://example.com/acme/mono')}\n{key}{others}")
    result = run("check", "--remote", file)
    assert result.exit_code == 0, result.output
    assert f"  split       within repositories; held out: {words}\n" in result.output


def test_problems_of_the_file_and_of_this_machine_come_in_one_report(make_repo: MakeRepo, tmp_path: Path):
    repo = make_repo("one", {"a.py": "x = 1\n"})
    file = tmp_path / "wip.yaml"
    file.write_text(
        "corpus:\n"
        f"  train: [{{url: {repo}, ref: mian}}, {{url: /nowhere}}]\n"
        "  heldout: [{url: package:no-such-package}]\n"
        "model: {name: /no/model}\n"
        "training: {epochs: 0}\n"
        "publish: {repository: owner/model}\n"
        "composition: {language_weights: {pyhton: 2}}\n"
    )
    result = run("check", file)
    assert result.exit_code == 2
    assert f"Error: {file}: 9 problems; nothing was fetched or run:" in result.output
    for expected in (
        "line 5: training.epochs = 0",
        "line 6: publish.repository = owner/model: there is no hub token",
        "evaluation.published: is not set",
        "line 3: corpus.heldout: 1 repository is too few",
        "line 2: corpus.train[0].url = ",
        "line 2: corpus.train[1].url = /nowhere",
        "line 3: corpus.heldout[0].url = package:no-such-package",
        "line 4: model.name = /no/model: does not exist",
        "line 7: composition.language_weights: 'pyhton' is not a known language. Did you mean python?",
    ):
        assert expected in result.output


def test_a_run_on_a_cluster_is_checked_without_this_machine(tmp_path: Path):
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "corpus: {train: [{url: /srv/only/there}], heldout: [{url: /srv/other}]}\ntraining: {liger: true}\n"
    )
    assert run("check", file).exit_code == 2
    assert run("check", "--remote", file).exit_code == 0


def test_a_number_of_gpus_that_was_not_given_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("FLYTE_LLAMA_GPU_COUNT", raising=False)
    result = run("plan", LOCAL)
    assert result.exit_code == 2
    assert "8 GPUs per node are the default of FLYTE_LLAMA_GPU_COUNT; --gpus gives another number." in result.output
    monkeypatch.setenv("FLYTE_LLAMA_GPU_COUNT", "3")
    assert "3 GPUs per node come from FLYTE_LLAMA_GPU_COUNT" in run("plan", LOCAL).output
    assert "FLYTE_LLAMA_GPU_COUNT" not in run("plan", LOCAL, "--gpus", "3").output


@pytest.mark.parametrize(
    ("option", "gone", "expected"),
    [
        ("--heldout", "/no/such/folder", "is not the folder of an earlier run, or damaged"),
        ("--heldout", "~no-such-user/folder", "is not the folder of an earlier run, or damaged"),
        ("--model", "/no/such/folder", "does not exist"),
        ("--model", "~no-such-user/folder", "does not exist"),
        ("--base", "/no/such/folder", "does not exist"),
        ("--base", "./" + "a" * 5000, "cannot be read (File name too long)"),
    ],
)
def test_evaluate_checks_its_folders_before_any_work(tmp_path: Path, option: str, gone: str, expected: str):
    options = {"--model": "owner/model", option: gone, "--output": tmp_path / "out"}
    result = run("evaluate", LOCAL, *(text for pair in options.items() for text in pair))
    assert result.exit_code == 2
    assert f"{LOCAL}: 1 problem; nothing was fetched or run:" in result.output
    assert f"{option} {gone}: {expected}" in result.output
    assert list(tmp_path.iterdir()) == []
