"""Sources in any spelling are told apart, dangerous ones are refused, and the default is Flyte's nine repositories."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte_llama.config import ExperimentConfig, SourceConfig, load_config
from flyte_llama.config.source_url import distinct_names, same_repository_key
from tests.config.problems import CORPUS, problems

CODE_LLAMA = sorted((Path(__file__).parents[2] / "configs").glob("code_llama_*.yaml"))
# URL, ref and accept_unknown_licence of Flyte's nine repositories, the default.
FLYTE_TRAIN = [
    ("https://github.com/flyteorg/flyte", "master", False),
    ("https://github.com/flyteorg/flytekit", None, False),
    ("https://github.com/flyteorg/flytepropeller", None, False),
    ("https://github.com/flyteorg/flyteplugins", None, False),
    ("https://github.com/flyteorg/flyteidl", None, False),
    ("https://github.com/flyteorg/flyteadmin", None, False),
    ("https://github.com/flyteorg/flyteconsole", None, False),
]
FLYTE_HELDOUT = [
    ("https://github.com/flyteorg/flytesnacks", None, False),
    ("https://github.com/flyteorg/flyte-conference-talks", None, True),
]


def facts(sources: list[SourceConfig]) -> list[tuple[str, str | None, bool]]:
    return [(source.url, source.ref, source.accept_unknown_licence) for source in sources]


@pytest.mark.parametrize("path", CODE_LLAMA, ids=lambda path: path.stem)
def test_the_code_llama_configurations_use_the_nine_repositories(path: Path):
    corpus = load_config(path).corpus
    assert (facts(corpus.train), facts(corpus.heldout), corpus.extensions) == (FLYTE_TRAIN, FLYTE_HELDOUT, [])


def test_a_corpus_without_sources_is_flytes_nine_repositories():
    extension = {"url": "https://example.com/a/one"}
    for data in ({}, {"corpus": {}}, {"corpus": {"extensions": [extension], "documents": {"kinds": ["docs"]}}}):
        corpus = ExperimentConfig.model_validate(data).corpus
        assert (facts(corpus.train), facts(corpus.heldout)) == (FLYTE_TRAIN, FLYTE_HELDOUT)
    assert (corpus.train_sources[-1].url, corpus.documents.kinds) == (extension["url"], ["docs"])


@pytest.mark.parametrize(("side", "other"), [("train", "heldout"), ("heldout", "train")])
def test_one_side_alone_is_refused_and_never_combined_with_flytes(side: str, other: str):
    message = problems(corpus={side: CORPUS[side]})
    assert f"lists {side} but not {other}. Add {other}, or leave both out" in message
    assert message.startswith("1 problem")


def test_the_nine_repositories_are_held_to_the_rules_of_any_source():
    snacks = {"url": "git@github.com:flyteorg/flytesnacks.git"}
    assert "is both in extensions and in heldout" in problems(corpus={"extensions": [snacks]})


def test_a_folder_on_both_sides_is_found_in_any_spelling():
    for spelling in ("x", "./x/", "y/../x.git", f"file://{Path('x').resolve()}"):
        text = problems(corpus={"train": [{"url": "./x"}], "heldout": [{"url": spelling}]})
        assert "is both in train and in heldout" in text


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


@pytest.mark.parametrize("near", [0.3, 0.59, 1.1])
def test_a_similarity_too_low_to_detect_duplicates_is_refused(near: float):
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
def test_a_licence_that_is_not_an_spdx_id_is_refused_with_the_nearest_one(spdx: str, hint: str):
    message = problems(corpus={**CORPUS, "documents": {"licences": ["MIT", spdx]}})
    assert f"contains {spdx!r}, which is not an SPDX id. Did you mean {hint}?" in message


def test_a_weight_out_of_range_is_refused():
    assert "composition.language_weights" in problems(composition={"language_weights": {"go": -1}})


def test_repositories_of_one_name_are_told_apart_by_host_or_folder_and_others_keep_their_names():
    names = {
        "https://github.com/acme/Tools.git": "acme/Tools",
        "git@gitlab.com:acme/Tools": "acme/Tools",
        "/srv/a/acme/tools.git": "acme/tools",
        "/srv/b/acme/tools": "acme/tools",
        "https://github.com/acme/other": "acme/other",
        "package:click": "package:click",
    }
    assert list(distinct_names(names).values()) == [
        "github.com/acme/Tools",
        "gitlab.com/acme/Tools",
        "/srv/a/acme/tools",
        "/srv/b/acme/tools",
        "acme/other",
        "package:click",
    ]


def test_two_spellings_of_one_url_keep_two_names():
    urls = ["https://github.com/acme/tools", "https://github.com/acme/tools.git"]
    assert distinct_names(dict.fromkeys(urls, "acme/tools")) == dict(zip(urls, urls, strict=True))
