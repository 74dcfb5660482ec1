"""A configuration's file is read as it looks, or refused with its line and with how to write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flyte_llama.config import ExperimentConfig, ModelConfig, check_config, load_config, parse_config, write_config
from flyte_llama.errors import ConfigError

CORPUS = "corpus:\n  train: [{url: https://example.com/a/one}]\n  heldout: [{url: https://example.com/a/two}]\n"


def load(text: str) -> ExperimentConfig:
    """Load a corpus of two sources, and `text` from line 4 on."""
    return check_config(parse_config(CORPUS + text, name="wip.yaml"))


def refusal(text: str) -> str:
    """The message that refuses a corpus of two sources, and `text` from line 4 on."""
    with pytest.raises(ConfigError) as raised:
        load(text)
    return raised.value.message


@pytest.mark.parametrize(
    ("text", "number"),
    [("3e-3", 0.003), ("1E-4", 0.0001), ("+2.5e-1", 0.25), (".5e0", 0.5), ("1.e-2", 0.01), ("0.02", 0.02), ("1_0", 10)],
)
def test_a_number_is_read_as_it_looks(text: str, number: float):
    assert load(f"training: {{learning_rate: {text}}}").training.learning_rate == number


def test_a_number_with_an_exponent_is_a_number_for_every_field_and_from_every_reader():
    config = load("training: {seq_len: 1e3}\nobjective: {kind: mixture, mixture: {clm: 3e-1}}")
    assert (config.training.seq_len, config.objective.mixture) == (1000, {"clm": 0.3})
    # Other YAML readers, such as that of flytekit, take it for a text.
    data = {"training": {"learning_rate": "3e-3"}, "objective": {"kind": "mixture", "mixture": {"clm": "3e-1"}}}
    config = ExperimentConfig.model_validate(data)
    assert (config.training.learning_rate, config.objective.mixture) == (0.003, {"clm": 0.3})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training: {seq_len: 010}", "training.seq_len = 010: YAML reads 010 as 8. Write 10, or '010' in quotes"),
        ("training: {seq_len: 1:30}", "training.seq_len = 1:30: YAML reads 1:30 as 90. Write 90, or '1:30' in quotes"),
        ("composition: {language_weights: {python: 010}}", "YAML reads 010 as 8"),
        ("model: {revision: 1.0}", "model.revision = 1.0: YAML does not take it for a text. Write '1.0' in quotes"),
        ("model: {revision: 1e5}", "model.revision = 1e5: YAML does not take it for a text. Write '1e5' in quotes"),
        (f"model: {{revision: {'12' * 20}}}", f"Write '{'12' * 20}' in quotes"),
        (f"model: {{revision: {'0' * 39}1}}", f"YAML does not take it for a text. Write '{'0' * 39}1' in quotes"),
        ("model: {revision: 2024-13-01}", "Write '2024-13-01' in quotes"),
        ("model: {released: 20230824}", "model.released = 20230824: is not a date. Write YYYY-MM-DD"),
        ("model: {revision: 2024-01-01}", "Write '2024-01-01' in quotes"),
        ("model: {name: no}", "model.name = no: YAML does not take it for a text. Write 'no' in quotes"),
        ("model: {released: 2023-02-30}", "YAML takes 2023-02-30 for a date, and there is no such one"),
        (f"training: {{seq_len: {'9' * 5000}}}", "is not a number that can be read. Write one of fewer digits"),
        ("publish: {private: !!bool maybe}", "is neither true nor false. Write one of them"),
        ("training: {report_to: [on]}", "training.report_to[0] = on: should be 'wandb'"),
        ("objective: {kind: no}", "objective.kind = no: should be clm or fim"),
        (
            "training: {deepspeed: {zero_stage: true}}",
            "training.deepspeed.zero_stage = true: should be 0 or 1 or 2 or 3",
        ),
        ("publish: {forgetting_budget: yes}", "publish.forgetting_budget = yes: should be a number"),
        ("publish: {forgetting_budget: '0.1'}", "publish.forgetting_budget = '0.1': should be a number"),
        ("training: {max_steps: 1e300}", "training.max_steps = 1e300: is too large"),
        ("training: {epochs: 1e300}", "training.epochs = 1e300: should be at most 10,000"),
        ("training: {seed: 4294967296}", "training.seed = 4294967296: should be at most 4,294,967,295"),
        ("training:", "training: is empty. Remove the key, or write something under it"),
        ("training: 3", "training = 3: should be keys and values"),
        ("name: a/b", "name = 'a/b': should begin with a letter or digit"),
        ("learning_rate: 1", "learning_rate: unknown key. Did you mean training.learning_rate?"),
        ("training: {lr: 1}", "training.lr: unknown key. Did you mean learning_rate?"),
    ],
)
def test_a_value_that_yaml_misreads_or_no_field_takes_says_how_to_write_it(text: str, expected: str):
    message = refusal(text)
    assert expected in message
    assert message.startswith("wip.yaml: 1 problem; nothing was fetched or run:\n  - line 4: ")


def test_a_source_that_is_a_text_is_told_the_key_to_write():
    with pytest.raises(ConfigError) as raised:
        check_config(parse_config("corpus:\n  train:\n  - /srv/a\n  heldout:\n  - {url: /srv/b}\n", name="x.yaml"))
    expected = "line 3: corpus.train[0] = '/srv/a': is a text, and a source has keys. Write {url: /srv/a}."
    assert expected in raised.value.message


def test_a_problem_between_fields_names_the_line_of_its_key():
    message = refusal("training:\n  global_batch_size: 32\n  micro_batch_size: 5\nevaluation:\n  window: 10\n")
    assert "line 5: training.global_batch_size = 32: must be a multiple" in message
    # The stride is the default, so its line is that of the stage.
    assert "line 7: evaluation.stride = 2048: must be below" in message


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
CHAIN = "".join(f"a{n}: &a{n} [{f'*a{n - 1}' if n else ''}]\n" for n in range(400))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("corpus: [", "is not valid YAML: line 1, column 10"),
        ("corpus: {}\ncorpus: {}\n", "line 2, column 1: the key 'corpus' is given twice"),
        ("on: 1", "YAML does not take the key on for a text. Write 'on' in quotes"),
        ("?\n: 1", "line 1, column 2: a key is empty. Write its name before the colon"),
        ("a: {b: [}", "while parsing a flow node, expected the node content"),
        ("? [a]\n: 1", "a key is a list or a mapping"),
        ("a: " + "[" * 5000, "more than 40 lists and mappings lie in each other"),
        ("- " * 5000, "more than 40 lists and mappings lie in each other"),
        ("a: *b", "found undefined alias 'b'"),
        ("a: &a [*a]", "an alias stands for a value that contains it"),
        (BOMB, "the aliases stand for more than 100,000 values"),
        (CHAIN, "more than 40 lists and mappings lie in each other"),
        ("a: 1\nb: \0", "line 2: the character 0 is not allowed"),
        ('a: "\\UFFFFFFFF"', "it names a character that does not exist"),
        ("a: !!python/object:os.system x", "is not supported. Remove it"),
        ("a: !!bool maybe", "unknown key"),
        ("a: 1\n---\nb: 2", "is not valid YAML: line 2"),
        ("", "contains nothing, not keys and values"),
        ("[1, 2]", "contains a list, not keys and values"),
        (b"\xff\xfe\x00binary", "is not text in UTF-8"),
        (b"a: 1\n" * 300_000, "has more than 1,048,576 bytes"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_file_that_is_no_configuration_is_one_message_that_names_it(
    tmp_path: Path, content: str | bytes, expected: str
):
    file = tmp_path / "wip.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as raised:
        load_config(file)
    assert raised.value.exit_code == 2
    assert raised.value.message.startswith(f"{file}: ")
    assert expected in raised.value.message


@pytest.mark.parametrize("path", ["missing.yaml", ".", "file/inner.yaml", "x" * 300, "a\0b"])
def test_a_path_that_cannot_be_read_is_one_message(tmp_path: Path, path: str):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="Give an existing YAML file"):
        load_config(tmp_path / path)


def test_aliases_and_merged_keys_keep_their_meaning():
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: *b\nd: {<<: [*b, *a]}\n"
    values = parse_config(text, name="x.yaml").values
    assert values == {"a": {"x": 1, "y": 2}, **{key: {"x": 1, "y": 3} for key in "bcd"}}


@pytest.mark.parametrize("text", ["1e5", "010", "1:30", "no", "~", "2024-01-01", f"{'1' * 35}e{'2' * 4}", "a: b", "é"])
def test_a_configuration_is_written_so_that_it_is_read_back_the_same(text: str):
    config = load("training: {learning_rate: 3e-5}").model_copy(update={"model": ModelConfig(adapter=text)})
    written = write_config(config)
    assert ModelConfig.model_validate(parse_config(written, name="x").values["model"]) == config.model
    assert parse_config(written, name="x").values["training"]["learning_rate"] == 3e-5


def test_json_with_tabs_is_read(tmp_path: Path):
    file = tmp_path / "mine.json"
    file.write_text('{\n\t"training": {"learning_rate": 3e-3}\n}')
    assert load_config(file).training.learning_rate == 0.003


@pytest.mark.parametrize(
    ("file", "name"), [("mine.yaml", "mine"), ("my run!.yaml", "my-run"), ("世界.yaml", "run"), (".x.yaml", "x")]
)
def test_a_run_is_named_after_its_file_unless_the_file_gives_a_name(tmp_path: Path, file: str, name: str):
    (tmp_path / file).write_text("{}")
    assert load_config(tmp_path / file).name == name
    (tmp_path / file).write_text("name: other")
    assert load_config(tmp_path / file).name == "other"


def test_further_problems_are_in_the_same_report_and_see_every_valid_source(tmp_path: Path):
    file = tmp_path / "wip.yaml"
    file.write_text(
        "corpus:\n  train:\n  - /bad\n  - {url: /good}\n  heldout: [{url: /other}]\ntraining: {epochs: 0}\n"
    )
    seen: dict[str, Any] = {}

    def check(stages: Any) -> list[str]:
        seen.update(stages)
        return ["corpus.train[1].url = /good: does not exist."]

    with pytest.raises(ConfigError) as raised:
        load_config(file, check=check)
    lines = raised.value.message.splitlines()
    assert lines[0] == f"{file}: 3 problems; nothing was fetched or run:"
    assert lines[-1] == "  - line 4: corpus.train[1].url = /good: does not exist."
    assert seen["corpus"].train[1].url == "/good"
    assert "training" not in seen
