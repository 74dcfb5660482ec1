"""Nothing that is shown or stored holds a secret: no message, no log line, no configuration and what refuses it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin
from urllib.parse import quote

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from flyte_llama.config import ExperimentConfig, load_config
from flyte_llama.errors import ConfigError, SourceError
from flyte_llama.progress import say, track
from flyte_llama.redaction import contains_secret, mask_secrets, may_hold_password
from tests.redaction.planted import BASE64, BODY, HEX, PLANTED, UPPER, WORD, armour, secret

PASSWORD = "Zq8-pw"  # noqa: S105  # planted
# Text before a secret, the secret, text after it: what a corpus may keep and what is shown may not.
SHOWN = [
    # URLs with a user and a password, right and wrong.
    ("https://jane:", PASSWORD, "@host/a/b"),
    ("HTTPS://JANE:", PASSWORD, "@HOST/A/B"),
    ("https://", PASSWORD, "@host/a/b"),
    ("https://:", PASSWORD, "@host"),
    ("https://jane:", f"a/{PASSWORD}", "@host/a"),
    ("https://jane:", f"a@{PASSWORD}", "@host/a"),
    ("https://jane@corp.io:", PASSWORD, "@host/a"),
    ("https://jane:", f"123/{PASSWORD}", "@host/a"),
    ("ssh://git:", PASSWORD, "@host/a"),
    ("git+https://jane:", PASSWORD, "@host/a"),
    ("https:/jane:", PASSWORD, "@host/a"),
    ("https:jane:", PASSWORD, "@host/a"),
    ("//jane:", PASSWORD, "@host/a"),
    ("oauth2:", PASSWORD, "@host:path"),
    ("jane@corp.io:", PASSWORD, "@host:path"),
    ("jane:", PASSWORD, "@[::1]:path"),
    ("jane:", PASSWORD, "@"),
    ("see (jane:", PASSWORD, "@host)"),
    # Queries, parameters and fragments.
    ("https://host/a/b?private_token=", PASSWORD, ""),
    ("https://host/a/b?", PASSWORD, ""),
    ("https://host/a/b?a=1&access_token=", PASSWORD, "&b=2"),
    ("https://host/a/b;token=", PASSWORD, ""),
    ("https://host/a/b#", PASSWORD, ""),
    ("https://host/a/b#token=", PASSWORD, ""),
    ("git@host:a/b?", PASSWORD, ""),
    ("host/a/b?private_token=", PASSWORD, ""),
    ("/srv/a;token=", PASSWORD, ""),
    ("./a&sig=", PASSWORD, ""),
    # Assignments, headers and JSON.
    ("token=", PASSWORD, ""),
    ("DB_PASSWORD=", PASSWORD, ""),
    ('{"password": "', PASSWORD, '"}'),
    ("Authorization: Basic ", "amFuZTpw", ""),
    ("bearer ", PASSWORD, ""),
    # Short and regular tokens, and those without a context.
    ("h" + "f_", "a" * 30, ""),
    ("gh" + "p_", "0" * 20, ""),
    ("gl" + "pat-", secret(16, WORD), ""),
    ("s" + "k-ant-", secret(20), ""),
    ("AK" + "IA", secret(16, UPPER), ""),
    ("v2gh" + "p_", secret(36), ".py"),
    ("", secret(86, BASE64) + "==", ""),
    ("", "00" + secret(40, WORD), ""),
    ("", secret(32, HEX) + "-" + secret(8, HEX) + "-" + secret(8, HEX), ""),
    ("-----BEGIN RSA PRIVATE " + "KEY-----\n", "MIIEpAIB" + PASSWORD[:3], "\n"),
]
# All kinds of secret, most of them in several forms.
SECRETS = [
    *((name, before, value, after) for name, before, value, after in PLANTED if name not in ("email", "ip_address")),
    *(("shown", *row) for row in SHOWN),
    ("private_key", armour("RSA ", BODY)[:32], BODY[:64], armour("RSA ", BODY)[96:]),
]
IDS = [f"{name} {before[:20]}" for name, before, *_ in SECRETS]
KINDS = [*{row[0]: row for row in SECRETS}.values(), *(("shown", *row) for row in SHOWN)]


@pytest.mark.parametrize(("name", "before", "value", "after"), SECRETS, ids=IDS)
def test_a_message_a_line_and_a_bar_show_no_secret(
    name: str, before: str, value: str, after: str, capfd: pytest.CaptureFixture[str]
):
    text = before + value + after
    error = SourceError(f"{text}: cannot be read ({text!r}). Check it.")
    config_error = ConfigError(text, problems=[f"corpus = {text!r}: is wrong"])
    say(f"reading {text}")
    list(track([1], what=text, total=1))
    shown = capfd.readouterr().err
    for part in (error.message, str(error), repr(error), str(error.args), *config_error.problems, shown):
        assert value not in part
    assert "reading" in shown
    assert "cannot be read" in error.message
    assert contains_secret(text)
    assert not contains_secret(mask_secrets(text))


def test_percent_encoding_hides_no_secret():
    for _, before, value, after in SECRETS:
        encoded = "".join(f"%{byte:02x}" for byte in (before + value + after).encode())
        for text in (encoded, quote(encoded), quote(quote(encoded)), quote(before + value + after, safe="") + "%20"):
            assert contains_secret(text), (before, text)
            assert not contains_secret(mask_secrets(text)), (before, text)


def leaf_fields(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield key path and annotation of each field that holds a value: a text, a number, a list, or free keys."""
    for name, field in model.model_fields.items():
        here = f"{path}.{name}".lstrip(".")
        types = [field.annotation, *get_args(field.annotation)]
        inner = next((kind for kind in types if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is not None:
            yield from leaf_fields(inner, f"{here}[0]" if get_origin(field.annotation) is list else here)
        else:
            yield here, field.annotation


FIELDS = dict(leaf_fields(ExperimentConfig))
# A date has a check of its own, which hides it too.
TEXTS = {
    key: kind
    for key, kind in FIELDS.items()
    if str in (kind, *get_args(kind)) and key not in ("model.released", "corpus.split.after")
}


def configure(text: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A configuration that holds the text in all these fields."""
    config: dict[str, Any] = {}
    for key_path, annotation in fields.items():
        *outer, last = key_path.split(".")
        node: Any = config
        for key in outer:
            name, is_list = key.removesuffix("[0]"), key.endswith("[0]")
            node = node.setdefault(name, [{}] if is_list else {})
            node = node[0] if is_list else node
        kind = get_origin(annotation)
        node[last] = [text] if kind is list else {text: 1} if kind is dict else text
    return config


def refuse(config: dict[str, Any], value: str, path: Path) -> str:
    """Return the message that refuses the configuration, and check that nothing of the error shows the value."""
    path.write_text(yaml.safe_dump(config, allow_unicode=True))
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    for shown in (raised.value.message, repr(raised.value), *raised.value.problems):
        assert value not in shown
    return raised.value.message


def test_every_field_refuses_a_secret_without_repeating_it(tmp_path: Path):
    assert len(FIELDS) > 50
    for text in ("gh" + "p_" + secret(36), f"https://jane:{PASSWORD}@host/a", f"/srv/a?private_token={PASSWORD}"):
        message = refuse({**configure(text, FIELDS), text: text}, text, tmp_path / "run.yaml")
        assert [key for key in FIELDS if f"{key} = (not shown): " not in message] == []
        assert PASSWORD not in message


@pytest.mark.parametrize(("name", "before", "value", "after"), KINDS)
def test_every_kind_of_secret_is_refused_in_every_text_of_a_configuration_without_being_repeated(
    name: str, before: str, value: str, after: str, tmp_path: Path
):
    message = refuse(configure(before + value + after, TEXTS), value, tmp_path / "run.yaml")
    assert [key for key in TEXTS if f"{key} = (not shown): contains a secret" not in message] == []


def test_the_kinds_of_secret_and_the_texts_of_a_configuration_are_many():
    assert len(KINDS) > 120
    assert {"corpus.train[0].url", "corpus.heldout[0].ref", "corpus.documents.opt_out", "model.name"} < TEXTS.keys()
    assert {"model.adapter", "evaluation.published", "publish.repository", "evaluation.general[0].url"} < TEXTS.keys()
    assert {"composition.language_weights", "corpus.documents.licences"} < TEXTS.keys()


def test_a_secret_in_a_file_that_is_no_configuration_is_not_shown(tmp_path: Path):
    for _, before, value, after in SECRETS:
        text = before + value + after
        for content in (f"a: [{text}", f"{text}: *{text}", text, f"corpus: {{train: [{text}]}}", f"model: !{text} 1"):
            (tmp_path / "run.yaml").write_text(content)
            with pytest.raises(ConfigError) as raised:
                load_config(tmp_path / "run.yaml")
            assert value not in raised.value.message


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/o/n at refs/heads/main",
        "git@github.com:o/n.git and ssh://git@ssh.github.com:443/o/n",
        "git@github.com:o/n@v1.2",
        "http://127.0.0.1:8080/o/r/.git: git cannot read it: exit code 128. Check the URL, the ref and the network.",
        "https://registry.corp.io:5000/a@b",
        "localhost:5000/llama@sha256:" + secret(64, HEX),
        "llama:v1@sha256:" + secret(64, HEX),
        "commit " + secret(40, HEX),
        "sha512-" + secret(86, BASE64) + "==",
        "6fa459ea-ee8a-3ca4-894e-db77e160355e",
        "TheBloke/CodeLlama-7B-Instruct-GPTQ@main",
        "training.global_batch_size = 4: must be a multiple of training.micro_batch_size = 5.",
        "HF_TOKEN: is not set. Set it, or FLYTE_LLAMA_SECRET_GROUP.",
        "eos_token=2, pad_token=None",
        "step 12:30:45 5 of 10: 1,024 tokens/s, 0:12 left",
        "output/data/model-99f5aa01bc23de45/model-00001-of-00002.safetensors",
        "flytekit/plugins/flytekit-kf-pytorch/tests/test_elastic_task_with_2_nodes.py",
    ],
)
def test_what_holds_no_secret_is_shown_as_it_is(text: str):
    assert mask_secrets(text) == text
    assert not contains_secret(text)


NAMES = """
transformers/models/jina_embeddings_v3/modeling_jina_embeddings_v3.py
jina_embeddings_v3_base_finetuned_on_code_search_net_2024
src/hf_transfer/download_manager_v2.py
configs/hf_llama3_8b_finetune.yaml
tests/test_hf_hub_integration_v2.py
hf_AutoModelForCausalLM_test.py
dependabot/npm_and_yarn/webpack-dev-middleware-5.3.4
dependabot/npm_and_yarn/frontend-app/lodash-4.17.21
myorg/hf_llama_3_8b_instruct
./hf_Qwen2_5_7B_Instruct
AIzawa/AIzawa-Llama-3-8B-Instruct-GGUF
sk-ai/sk-llama-3-8b-instruct-code-model
xai-org/xai-grok-1-mini-8b-v2
ASIA-Pacific-region-config-v2.yaml
ghs_client_v2_integration_test.py
pscale_integration_test_v2_client.go
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_a_name_that_begins_like_a_token_is_no_secret(name: str):
    assert mask_secrets(f"reading {name}") == f"reading {name}"
    assert not may_hold_password(name)


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("https://jane:", "Zq8 pw", "@host/a"),
        ("https://jane:", "Zq8<pw", "@host/a"),
        ("https://jane:", "Zq8'pw\"x", "@host/a"),
        ("https://jane:", "Zq8\\pw", "@host/a"),
        ("https://jane.doe:", "12345/Zq8pw", "@host/a"),
        ("https:/jane:", "Zq8 pw", "@host/a"),
        ("//jane:", "Zq8 pw", "@host/a"),
        ("jane:", "Zq8 pw", "@host:a"),
        ("https%3A%2F%2Fjane%3A", "Zq8%20pw", "%40host"),
    ],
)
def test_a_password_of_any_characters_is_refused_in_every_text_of_a_configuration_without_being_repeated(
    before: str, value: str, after: str, tmp_path: Path
):
    text = before + value + after
    message = refuse({**configure(text, TEXTS), text: text}, value, tmp_path / "run.yaml")
    assert [key for key in TEXTS if f"{key} = (not shown): contains a secret" not in message] == []
    (tmp_path / "twice.yaml").write_text(f"{json.dumps(text)}: 1\n" * 2)
    with pytest.raises(ConfigError, match="is given twice") as raised:
        load_config(tmp_path / "twice.yaml")
    assert value not in raised.value.message


def test_a_message_moves_no_cursor_and_turns_no_text(capfd: pytest.CaptureFixture[str]):
    text = "a\x1b[2Jb\x07\x00\x9b\u202ec\nd\te"
    shown = "a\\x1b[2Jb\\x07\\x00\\x9b\\u202ec\nd\te"
    error = ConfigError(text, problems=[text])
    assert (error.message, error.problems) == (shown, (shown,))
    say(text)
    assert shown in capfd.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "DJANGO_SECRET_KEY",
        "AZURE_STORAGE_KEY",
        "GIT_PASS",
        "FOO_CREDENTIALS",
        "CI_TOKEN_V2",
        "MYSQL_PWD",
        "GITHUB_PAT",
    ],
)
def test_a_secret_variable_may_have_any_usual_name_and_begin_with_a_slash(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, "/canary/one")
    assert mask_secrets("at /canary/one.") == "at xxxxxxxxxxx."


@pytest.mark.parametrize("name", ["FLYTE_LLAMA_SECRET_GROUP", "HF_TOKEN_PATH", "TOKENIZERS_PARALLELISM", "MONKEYS"])
def test_a_variable_about_a_secret_is_shown(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, "canary-one")
    assert mask_secrets("canary-one") == "canary-one"


def test_the_values_of_secret_variables_are_masked_whatever_they_look_like(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    key = tmp_path / "key"
    key.touch()
    monkeypatch.setenv("CORP_API_KEY", "canary-one")
    monkeypatch.setenv("_FSEC_GROUP_GIT_TOKEN", "canary-two")
    monkeypatch.setenv("SIGNING_PRIVATE_KEY", str(key))
    monkeypatch.setenv("SHORT_TOKEN", "one")
    text = mask_secrets(f"one canary-one two canary-two {key}")
    assert text == f"one xxxxxxxxxx two xxxxxxxxxx {key}"
    # What a corpus keeps must not depend on the environment.
    assert not contains_secret("canary-one")


pieces = st.lists(
    st.one_of(
        st.sampled_from([before + value + after for _, before, value, after in SECRETS]),
        st.sampled_from([value for _, _, value, _ in SECRETS]),
        st.sampled_from(
            ["://", "//", "@", ":", "?", "#", ";", "=", "token=", "%40", "%2", " ", "\n", "'", "a", "x", "é"]
        ),
        st.text(max_size=6),
    ),
    max_size=8,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=pieces)
def test_a_masked_text_keeps_its_length_and_holds_no_secret(text: str):
    masked = mask_secrets(text)
    assert len(masked) == len(text)
    assert (masked != text) == contains_secret(text)


@pytest.mark.parametrize(
    "piece",
    [
        *("a:", "//", "//a:", "a@", "u:p@", "?a", "?a=", "%41", "%2", "-----BEGIN PRIVATE KEY-----", "token=", "s.a"),
        *("://", "@://", "hf_" + "a" * 40 + "B1 ", "hf_" + "Ab" * 20 + "1c "),
    ],
)
def test_hostile_repetition_takes_no_more_than_linear_time(piece: str):
    seconds = []
    for repeats in (1_000, 10_000):
        start = time.process_time()
        may_hold_password(piece * repeats)
        seconds.append(time.process_time() - start)
    # CPU time of this process. For ten times the text, quadratic time grows a hundredfold.
    assert seconds[1] < 40 * max(seconds[0], 0.005)
