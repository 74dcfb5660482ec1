"""One readable report of every problem, before anything is fetched."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from flyte_llama.cli import main
from flyte_llama.config import ExperimentConfig, SourceConfig, load_config
from flyte_llama.config.location import same_repository_key
from flyte_llama.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
CORPUS = {
    "train": [{"url": "https://example.com/a/one"}],
    "heldout": [{"url": "https://example.com/a/two"}],
}


def problems(**changes: object) -> str:
    with pytest.raises(ConfigError) as raised:
        ExperimentConfig.model_validate({"corpus": CORPUS, **changes})
    return raised.value.message


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_loads(path: Path):
    config = load_config(path)
    assert ExperimentConfig.model_validate_json(config.model_dump_json()) == config


def test_the_five_configurations_are_shipped():
    names = {path.stem for path in CONFIGS}
    assert names == {"local", "code_llama_7b", "code_llama_7b_lora", "code_llama_13b_lora", "code_llama_34b_qlora"}


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem != "local"], ids=lambda path: path.stem)
def test_the_code_llama_configurations_name_the_nine_repositories(path: Path):
    corpus = load_config(path).corpus
    names = [source.name for source in corpus.train]
    assert names == [
        f"flyteorg/{name}"
        for name in (
            "flyte",
            "flytekit",
            "flytepropeller",
            "flyteplugins",
            "flyteidl",
            "flyteadmin",
            "flyteconsole",
        )
    ]
    assert corpus.train[0].ref == "master"
    assert [source.name for source in corpus.heldout] == ["flyteorg/flytesnacks", "flyteorg/flyte-conference-talks"]


def test_a_typo_names_the_nearest_key():
    assert "training.lerning_rate: unknown key. Did you mean learning_rate?" in problems(training={"lerning_rate": 1})
    assert "corpus.train[0].reff: unknown key. Did you mean ref?" in problems(
        corpus={**CORPUS, "train": [{"url": "https://example.com/a/one", "reff": "x"}]}
    )


def test_all_problems_are_reported_at_once():
    text = problems(training={"seq_len": 2.7, "epochs": float("nan"), "method": "foo"}, trainin={})
    assert text.startswith("4 problems in the configuration")
    for key in ("training.seq_len = 2.7", "training.epochs = nan", "training.method = 'foo'", "trainin: unknown key"):
        assert key in text


def test_problems_between_fields_are_reported_beside_those_of_fields():
    text = problems(training={"epochs": 0}, evaluation={"window": 20, "stride": 21}, model={"name": "x"})
    assert text.startswith("3 problems")


def test_a_folder_on_both_sides_is_found_in_any_spelling():
    for spelling in ("x", "./x/", "y/../x.git", f"file://{Path('x').resolve()}"):
        text = problems(corpus={"train": [{"url": "./x"}], "heldout": [{"url": spelling}]})
        assert "is both in train and in heldout" in text


def test_integers_that_the_console_sends_as_floats_are_taken():
    assert ExperimentConfig.model_validate({"corpus": CORPUS, "training": {"seq_len": 512.0}}).training.seq_len == 512


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"training": {"global_batch_size": 32, "micro_batch_size": 5}}, "must be a multiple of"),
        ({"training": {"epochs": 0}}, "training.epochs = 0: should be greater than 0"),
        ({"training": {"global_batch_size": -1}}, "training.global_batch_size = -1"),
        ({"evaluation": {"window": 10, "stride": 10, "batch_tokens": 10}}, "must be below evaluation.window = 10"),
        ({"evaluation": {"batch_tokens": 100}}, "must hold one window"),
        ({"evaluation": {"window": 15, "stride": 5}}, "evaluation.window = 15: is too short for prompts"),
        ({"model": {"name": "scratch"}}, "training.seq_len = 4096: exceeds model.scratch.max_positions = 1024"),
        ({"model": {"name": "scratch", "scratch": {"num_heads": 3}}}, "must cut hidden_size"),
        ({"model": {"name": "CodeLlama"}}, "is no hub id"),
        ({"model": {"name": "./folder", "revision": "v1"}}, "has no revisions"),
        ({"training": {"method": "qlora", "deepspeed": {"zero_stage": 3}}}, "4-bit weights cannot be split"),
        ({"training": {"deepspeed": {"offload_parameters": True}}}, "needs zero_stage: 3"),
        ({"objective": {"kind": "mlmm"}}, "objective.kind = 'mlmm'"),
        ({"objective": {"kind": "mixture"}}, "a mixture needs weights, as mixture: {clm: 1, fim: 3}"),
        ({"objective": {"kind": "mixture", "mixture": {"clm": 1, "fim": -1}}}, "finite numbers of at least 0"),
        ({"objective": {"kind": "mixture", "mixture": {"fm": 1}}}, "objective.mixture.fm"),
        ({"objective": {"kind": "mlm"}, "training": {"attention": "flash_attention_2"}}, "cannot see both ways"),
        ({"model": {"adapter": "./adapter", "adapter_revision": "v1"}}, "belongs to a hub adapter"),
        (
            {"model": {"adapter": "./a"}, "training": {"method": "full", "deepspeed": {"zero_stage": 3}}},
            "model.adapter: cannot be merged into weights that zero_stage: 3 splits",
        ),
        ({"training": {"seq_len": "4096"}}, "training.seq_len = '4096': should be a number, not str"),
        ({"training": {"epochs": True}}, "training.epochs = True: should be a number, not bool"),
        ({"publish": {"private": "no"}}, "publish.private = 'no': should be true or false"),
        ({"publish": {"repository": "https://example.com/a/b"}}, "publish.repository"),
        ({"training": {"lora": {"target_modules": ["all-linear", "q_proj"]}}}, "beside others"),
        ({"corpus": {**CORPUS, "documents": {"kinds": []}}}, "corpus.documents.kinds"),
    ],
)
def test_impossible_values_say_why(changes: dict, expected: str):
    assert expected in problems(**changes)


@pytest.mark.parametrize(
    "spelling",
    [
        "https://example.com/a/one.git",
        "https://EXAMPLE.com/A/one/",
        "http://example.com/a/one",
        "git@example.com:a/one.git",
        "ssh://git@example.com/a/one",
    ],
)
def test_a_repository_on_both_sides_is_found_in_any_spelling(spelling: str):
    assert same_repository_key(spelling) == same_repository_key("https://example.com/a/one")
    assert "is both in train and in heldout" in problems(corpus={**CORPUS, "heldout": [{"url": spelling}]})


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=touch /tmp/x",
        "-oProxyCommand=x",
        "ext::sh -c whoami",
        "fd::17",
        "https://user:secret@example.com/a/b",
        "https://user@example.com/a/b",
        "https://example.com/a/b?token=secret",
        "ftp://example.com/a/b",
        "https://-oProxyCommand=x/a/b",
        "https://example.com/a\nb",
        "",
        "package:../x",
        "package:",
    ],
)
def test_dangerous_or_senseless_urls_are_refused_and_secrets_not_repeated(url: str):
    text = problems(corpus={**CORPUS, "train": [{"url": url}]})
    assert "corpus.train[0].url" in text
    assert "secret@" not in text


@pytest.mark.parametrize("ref", ["-x", "a..b", "a b", "abc1234", "x.lock", "", "a:b", "@{1}"])
def test_refs_that_git_would_refuse_are_refused(ref: str):
    assert "corpus.train[0].ref" in problems(
        corpus={**CORPUS, "train": [{"url": "https://example.com/a/b", "ref": ref}]}
    )


def test_a_token_in_a_configuration_is_refused_and_not_repeated():
    token = "hf_" + "a" * 30
    assert token not in problems(model={"name": f"owner/{token}"})
    text = problems(corpus={**CORPUS, "train": [{"url": f"https://example.com/{token}/b"}]})
    assert "access token" in text
    assert token not in text


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://github.com/flyteorg/flyte", "flyteorg/flyte"),
        ("https://github.com/flyteorg/flyte.git/", "flyteorg/flyte"),
        ("git@github.com:flyteorg/flyte.git", "flyteorg/flyte"),
        ("/srv/git/flyte.git", "git/flyte"),
        ("package:flytekitplugins_kfpytorch", "package:flytekitplugins-kfpytorch"),
    ],
)
def test_a_source_has_one_name_in_every_spelling(url: str, name: str):
    assert SourceConfig(url=url).name == name


def test_a_duplicate_key_an_unreadable_and_a_missing_file_are_explained(tmp_path: Path):
    for text, expected in (("corpus: {}\ncorpus: {}\n", "given twice"), ("corpus: [", "no valid YAML"), ("3", "int")):
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(ConfigError, match=expected):
            load_config(tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "missing.yaml")


def test_check_prints_what_would_be_done_and_exits_with_2_on_a_bad_file(tmp_path: Path):
    good = CliRunner().invoke(main, ["check", "--config", str(CONFIGS[0])])
    assert good.exit_code == 0
    assert "https://github.com/flyteorg/flyte at master" in good.output
    (tmp_path / "x.yaml").write_text("corpus: {}\n")
    bad = CliRunner().invoke(main, ["check", "--config", str(tmp_path / "x.yaml")])
    assert bad.exit_code == 2
    assert "corpus.train: is missing" in bad.output


@pytest.mark.parametrize("near", [0.3, 0.59, 1.1])
def test_a_similarity_at_which_duplicates_are_not_found_is_refused(near: float):
    assert "corpus.deduplication.near" in problems(corpus={**CORPUS, "deduplication": {"near": near}})


@pytest.mark.parametrize(
    "line", ["o", " o/r", "o/r/", "o/r.git", "https://github.com/o/r", "o/r:", "o/r:[z-a]", "o/r:x\\"]
)
def test_a_line_that_would_opt_out_nothing_is_refused(line: str):
    assert "corpus.documents.opt_out" in problems(corpus={**CORPUS, "documents": {"opt_out": [line]}})


@pytest.mark.parametrize("name", ["", "o/r:"])
def test_a_token_is_not_repeated_by_the_message_that_refuses_it(name: str):
    token = "gh" + "p_" + "0123456789abcdefghijklmnopqrstuvwxyz"
    for changes in (
        {"corpus": {**CORPUS, "documents": {"opt_out": [name + token]}}},
        {"composition": {"language_weights": {token: 1}}},
    ):
        message = problems(**changes)
        assert "access token" in message
        assert token not in message


@pytest.mark.parametrize(("spdx", "hint"), [("Apache 2.0", "Apache-2.0"), ("MTI", "MIT"), ("apache-2.0", "Apache-2.0")])
def test_a_licence_that_is_no_spdx_id_is_refused_with_the_nearest_one(spdx: str, hint: str):
    message = problems(corpus={**CORPUS, "documents": {"licences": ["MIT", spdx]}})
    assert f"holds {spdx!r}, which is no SPDX id. Did you mean {hint}?" in message


def test_check_refuses_a_language_that_no_file_has_and_shows_what_is_never_read(tmp_path: Path):
    config = {"corpus": {**CORPUS, "documents": {"opt_out": ["A/one:docs/", "a/three"]}}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    shown = CliRunner().invoke(main, ["check", "--config", str(path)])
    assert "never read  A/one:docs/\n" in shown.output
    assert "never read  a/three (of no source above)\n" in shown.output
    path.write_text(yaml.safe_dump({**config, "composition": {"language_weights": {"pyhton": 2}}}))
    refused = CliRunner().invoke(main, ["check", "--config", str(path)])
    assert refused.exit_code == 2
    assert "'pyhton' is no language of a file. Did you mean python?" in refused.output


def test_the_day_of_release_is_read_as_yaml_and_as_text_give_it():
    for day in (date(2023, 8, 24), "2023-08-24"):
        config = ExperimentConfig.model_validate({"corpus": CORPUS, "model": {"released": day}})
        assert config.model.released == "2023-08-24"
    assert "model.released = '24.8.2023': is no day" in problems(model={"released": "24.8.2023"})


def test_a_weight_out_of_range_is_refused():
    assert "composition.language_weights" in problems(composition={"language_weights": {"go": -1}})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_pyflyte_can_read_every_shipped_configuration(path: Path):
    # It goes by way of JSON, which has no dates.
    json.dumps(yaml.safe_load(path.read_text()))
