"""Every problem of a configuration is reported, readably and at once, before anything is fetched."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from flyte_llama.cli import main
from flyte_llama.config import ExperimentConfig, load_config
from flyte_llama.errors import ConfigError
from tests.config.problems import CORPUS, problems

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_loads(path: Path):
    config = load_config(path)
    assert ExperimentConfig.model_validate_json(config.model_dump_json()) == config


def test_the_six_configurations_are_shipped():
    names = {path.stem for path in CONFIGS}
    code_llama = {"code_llama_7b", "code_llama_7b_lora", "code_llama_13b_lora", "code_llama_34b_qlora"}
    assert names == {"local", "smollm2_135m", *code_llama}


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


def test_problems_between_fields_are_reported_together_with_problems_of_single_fields():
    text = problems(training={"epochs": 0}, evaluation={"window": 20, "stride": 21}, model={"name": "x"})
    assert text.startswith("3 problems")


def test_integers_that_the_console_sends_as_floats_are_accepted():
    assert ExperimentConfig.model_validate({"corpus": CORPUS, "training": {"seq_len": 512.0}}).training.seq_len == 512


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"training": {"global_batch_size": 32, "micro_batch_size": 5}}, "must be a multiple of"),
        ({"training": {"epochs": 0}}, "training.epochs = 0: should be greater than 0"),
        ({"training": {"global_batch_size": -1}}, "training.global_batch_size = -1"),
        ({"evaluation": {"window": 10, "stride": 10, "batch_tokens": 10}}, "must be below evaluation.window = 10"),
        ({"evaluation": {"batch_tokens": 100}}, "must hold one window"),
        ({"evaluation": {"window": 15, "stride": 5}}, "evaluation.window = 15: is too short for a prompt"),
        ({"model": {"name": "scratch"}}, "training.seq_len = 4096: exceeds model.scratch.max_positions = 1024"),
        ({"model": {"name": "scratch", "scratch": {"num_heads": 3}}}, "must divide hidden_size"),
        ({"model": {"name": "CodeLlama"}}, "is not a hub id"),
        ({"model": {"name": "./folder", "revision": "v1"}}, "has no revisions"),
        ({"training": {"method": "qlora", "deepspeed": {"zero_stage": 3}}}, "4-bit weights cannot be sharded"),
        ({"training": {"deepspeed": {"offload_parameters": True}}}, "needs zero_stage: 3"),
        ({"training": {"keep_best": True}}, "needs a validation loss. Set training.validation_share"),
        (
            {"training": {"keep_best": True, "validation_share": 0.02, "validate_every_steps": 0}},
            "Set training.validate_every_steps above 0",
        ),
        ({"objective": {"kind": "mlmm"}}, "objective.kind = 'mlmm'"),
        ({"objective": {"kind": "mixture"}}, "a mixture needs weights, such as mixture: {clm: 1, fim: 3}"),
        ({"objective": {"kind": "mixture", "mixture": {"clm": 1, "fim": -1}}}, "finite numbers of at least 0"),
        ({"objective": {"kind": "mixture", "mixture": {"fm": 1}}}, "objective.mixture.fm"),
        (
            {"objective": {"kind": "mlm"}, "training": {"attention": "flash_attention_2"}},
            "training.attention = 'flash_attention_2': cannot attend in both directions",
        ),
        (
            {"objective": {"new_token_lr_scale": 3}, "training": {"method": "full"}},
            "objective.new_token_lr_scale = 3: is not used, since training.method = 'full' learns the whole table",
        ),
        (
            {"objective": {"new_token_lr_scale": 3}, "training": {"deepspeed": {"offload_optimizer": True}}},
            "objective.new_token_lr_scale = 3: is not used, since DeepSpeed's own optimizer has one rate",
        ),
        ({"model": {"adapter": "./adapter", "adapter_revision": "v1"}}, "only a hub adapter has one"),
        ({"model": {"adapter_revision": "v1"}}, "model.adapter_revision = 'v1': only a hub adapter has one"),
        ({"model": {"adapter": "hf_" + "a" * 30}}, "model.adapter = (not shown): contains a secret"),
        (
            {"model": {"adapter": "./a"}, "training": {"method": "full", "deepspeed": {"zero_stage": 3}}},
            "model.adapter: cannot be merged into weights that zero_stage: 3 shards",
        ),
        ({"training": {"seq_len": "4096"}}, "training.seq_len = '4096': should be a number, not a text"),
        ({"training": {"epochs": True}}, "training.epochs = True: should be a number, not true or false"),
        ({"publish": {"private": "no"}}, "publish.private = 'no': should be true or false"),
        ({"publish": {"repository": "https://example.com/a/b"}}, "publish.repository"),
        ({"training": {"lora": {"target_modules": ["all-linear", "q_proj"]}}}, "together with other names"),
        ({"corpus": {**CORPUS, "documents": {"kinds": []}}}, "corpus.documents.kinds"),
        ({"corpus": {"train": []}}, "corpus.train = []"),
        ({"corpus": {**CORPUS, "heldout": []}}, "corpus.heldout = []"),
    ],
)
def test_an_impossible_value_is_refused_with_its_reason(changes: dict, expected: str):
    assert expected in problems(**changes)


def test_a_hub_adapter_with_a_revision_and_flash_attention_on_causal_rows_are_fine():
    stages = {
        "model": {"adapter": "owner/adapter", "adapter_revision": "main"},
        "training": {"attention": "flash_attention_2"},
    }
    assert not ExperimentConfig.model_validate({"corpus": CORPUS, **stages}).model.adapter_is_local


def test_a_token_in_a_configuration_is_refused_and_not_repeated():
    token = "hf_" + "a" * 30
    assert token not in problems(model={"name": f"owner/{token}"})
    text = problems(corpus={**CORPUS, "train": [{"url": f"https://example.com/{token}/b"}]})
    assert "access token" in text
    assert token not in text


def test_a_duplicate_key_an_unreadable_and_a_missing_file_are_explained(tmp_path: Path):
    for text, expected in (("corpus: {}\ncorpus: {}\n", "given twice"), ("corpus: [", "not valid YAML"), ("3", "int")):
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(ConfigError, match=expected):
            load_config(tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "missing.yaml")


def test_check_prints_what_would_be_done_and_exits_with_2_on_a_bad_file(tmp_path: Path):
    good = CliRunner().invoke(main, ["check", "--config", str(CONFIGS[0])])
    assert good.exit_code == 0
    assert "https://github.com/flyteorg/flyte at master" in good.output
    (tmp_path / "x.yaml").write_text("corpus: {train: [{ref: main}]}\n")
    bad = CliRunner().invoke(main, ["check", "--config", str(tmp_path / "x.yaml")])
    assert bad.exit_code == 2
    assert "corpus.train[0].url: is missing" in bad.output


def test_check_refuses_an_unknown_language_and_shows_the_opt_outs(tmp_path: Path):
    config = {"corpus": {**CORPUS, "documents": {"opt_out": ["A/one:docs/", "a/three"]}}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    shown = CliRunner().invoke(main, ["check", "--config", str(path)])
    assert "never read  A/one:docs/\n" in shown.output
    assert "never read  a/three (not a source above)\n" in shown.output
    path.write_text(yaml.safe_dump({**config, "composition": {"language_weights": {"pyhton": 2}}}))
    refused = CliRunner().invoke(main, ["check", "--config", str(path)])
    assert refused.exit_code == 2
    assert "'pyhton' is not a known language. Did you mean python?" in refused.output


def test_the_release_date_may_be_a_yaml_date_or_text():
    for day in (date(2023, 8, 24), "2023-08-24"):
        config = ExperimentConfig.model_validate({"corpus": CORPUS, "model": {"released": day}})
        assert config.model.released == "2023-08-24"
    assert "model.released = '24.8.2023': is not a date" in problems(model={"released": "24.8.2023"})


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("20240101", "is not a date. Write YYYY-MM-DD"),
        ("2024-W01-1", "is not a date. Write YYYY-MM-DD"),
        ("2023-02-30", "there is no such day"),
        ("2999-01-01", "is in the future"),
        (date.max, "is in the future"),
    ],
)
def test_a_release_date_is_a_day_in_the_past_in_one_notation(day: str | date, expected: str):
    assert f"{expected}" in problems(model={"released": day})


@pytest.mark.parametrize("key", ["revision", "adapter_revision"])
@pytest.mark.parametrize("ref", ["", "a\0b", "../", "x" * 5000, "-x y"])
def test_the_revision_of_a_model_or_adapter_is_a_ref(key: str, ref: str):
    assert f"model.{key} = " in problems(model={"adapter": "owner/adapter", key: ref})


def test_every_bad_item_of_a_list_or_mapping_is_told():
    licences, opt_out = ["mit", "Apache 2.0", "GPL-3.0-only OR MIT"], ["a", "b/c:[z-a]", "d"]
    text = problems(
        corpus={**CORPUS, "documents": {"licences": licences, "opt_out": opt_out}},
        composition={"language_weights": {"go": -1, "python": 101}},
        objective={"kind": "mixture", "mixture": {"clm": "a", "fim": True}},
        evaluation={"general": [{"url": "/a"}, {"url": "https://b/c/d"}, {"url": "package:e", "ref": "v1"}]},
    )
    for part in (*map(repr, licences), *map(repr, opt_out), "go: -1.0", "python: 101.0", "/a, https://b/c/d"):
        assert part in text
    assert "clm should be a number, not a text, and fim should be a number, not true or false" in text
    assert "has a ref for package:e" in text
    assert text.startswith("5 problems")


def test_what_is_listed_twice_is_told_once():
    general = [{"url": "package:Click"}, {"url": "package:click"}]
    text = problems(evaluation={"general": general}, training={"report_to": ["wandb", "wandb"]})
    assert "lists package:click more than once" in text
    assert "training.report_to = ['wandb', 'wandb']: lists wandb more than once" in text
    assert text.startswith("2 problems")


def test_a_name_that_is_no_model_is_told_once(tmp_path: Path):
    path = tmp_path / "config.yaml"
    names = {"model": {"name": "a/b/c", "adapter": "owner/adapter"}, "evaluation": {"published": "d/e/f"}}
    path.write_text(yaml.safe_dump({"corpus": CORPUS, **names}))
    output = CliRunner().invoke(main, ["check", "--config", str(path)]).output
    assert [output.count(name) for name in ("a/b/c", "d/e/f")] == [1, 1]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_pyflyte_can_read_every_shipped_configuration(path: Path):
    # pyflyte converts a configuration to JSON, which has no dates.
    json.dumps(yaml.safe_load(path.read_text()))


PUBLISH = {"repository": "owner/model", "accept_few_repositories": True}
ENCODER = {"kind": "mixture", "mixture": {"mlm": 2, "clm": 0}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "evaluation.published: is not set"),
        (
            {"evaluation": {"published": None}},
            "Set it to the model that is published now, or to none for the first one",
        ),
        ({"evaluation": {"published": "none"}, "objective": ENCODER}, "an encoder is never published"),
        ({"evaluation": {"published": "none", "general": []}}, "evaluation.general = []: measures no general code"),
        (
            {"evaluation": {"published": "none", "probe_bytes": 0}},
            "evaluation.probe_bytes = 0: measures no general code",
        ),
        (
            {
                "evaluation": {"published": "none", "general": [{"url": "package:Some_Thing"}]},
                "corpus": {**CORPUS, "extensions": [{"url": "package:some-thing"}]},
            },
            "evaluation.general = package:Some_Thing: is in the corpus",
        ),
    ],
)
def test_a_model_that_could_never_be_published_is_refused_before_it_is_trained(changes: dict, expected: str):
    assert expected in problems(publish=PUBLISH, **changes)


@pytest.mark.parametrize(("count", "words"), [(1, "1 repository is"), (2, "2 repositories are"), (3, "")])
def test_held_out_repositories_that_are_too_few_to_publish_are_refused_unless_accepted(count: int, words: str):
    corpus = {"train": [{"url": "/a"}], "heldout": [{"url": f"/held/{index}"} for index in range(count)]}
    stages = {"corpus": corpus, "evaluation": {"published": "none"}}
    if words:
        text = problems(**stages, publish={"repository": "owner/model"})
        assert f"corpus.heldout: {words} too few to say that a model is better on others" in text
    config = ExperimentConfig.model_validate({**stages, "publish": {**PUBLISH, "accept_few_repositories": bool(words)}})
    assert config.publish.repository == "owner/model"


@pytest.mark.parametrize(("published", "model"), [("none", None), ("None", None), ("a/b", "a/b"), (None, None)])
def test_the_published_model_is_none_where_nothing_is_published_yet(published: str | None, model: str | None):
    config = ExperimentConfig.model_validate({"corpus": CORPUS, "evaluation": {"published": published}})
    assert config.evaluation.published_model == model


def test_without_a_budget_general_code_need_not_be_measured():
    stages = {"publish": {**PUBLISH, "forgetting_budget": None}, "evaluation": {"published": "none", "general": []}}
    assert ExperimentConfig.model_validate({"corpus": CORPUS, **stages}).publish.repository == "owner/model"


def test_a_repository_on_both_sides_names_both_places():
    text = problems(corpus={"train": [{"url": "/a"}, {"url": "/b"}], "heldout": [{"url": "/c"}, {"url": "/b/"}]})
    assert "corpus.heldout[1]: /b/ is both in train and in heldout, see corpus.train[1]." in text
