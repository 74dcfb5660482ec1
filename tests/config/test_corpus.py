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


def test_a_folder_on_both_sides_is_found_in_any_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a b" / ".git").mkdir(parents=True)
    (tmp_path / "bare.git").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a b")
    (tmp_path / "folder").symlink_to(tmp_path)
    (tmp_path / "short").symlink_to(tmp_path / "bare.git")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    spellings = {
        "./a b": ["a b", "./a b/", "y/../a b", "~/a b", "link", "link/.git", "folder/a b", "./a b/.git/"],
        "./bare": ["bare.git", "./bare.git/", "short", "folder/bare", f"//{tmp_path}/bare.git", f"{tmp_path}//bare"],
    }
    spellings["./a b"] += [
        f"file://{tmp_path}/a%20b",
        f"file://localhost{tmp_path}/a%20b/.git",
        f"FILE://{tmp_path}/link",
    ]
    for folder, others in spellings.items():
        for spelling in others:
            text = problems(corpus={"train": [{"url": folder}], "heldout": [{"url": spelling}]})
            assert "is both in train and in heldout" in text, spelling
    assert same_repository_key("./a b") != same_repository_key("./bare")


@pytest.mark.parametrize(
    "spelling",
    [
        "https://example.com/a/one.git",
        "https://EXAMPLE.com/A/one/",
        "http://example.com/a/one",
        "git@example.com:a/one.git",
        "ssh://git@example.com/a/one",
        "HTTPS://example.com/a/one",
        "https://example.com./a/one",
        "https://www.example.com/a/one",
        "https://example.com:443/a/one",
        "https://example.com/a/%6Fne",
        "https://%65xample.com/a/one",
        "https://example.com//a//one//",
        "https://example.com/a/./b/../one",
        "https://example.com/a/one.git/",
        "https://example.com/a/one/.git",
        "git://example.com:9418/a/one",
        "ssh://git@example.com:22/a/one",
        "ssh://example.com/a/one",
        "git@example.com:/a/one/",
        "git@example.com:a//one.git",
        "example.com:a/one",
    ],
)
def test_a_repository_on_both_sides_is_found_in_any_spelling(spelling: str):
    assert same_repository_key(spelling) == same_repository_key("https://example.com/a/one")
    assert "is both in train and in heldout" in problems(corpus={**CORPUS, "heldout": [{"url": spelling}]})


@pytest.mark.parametrize(
    ("host", "other"),
    [
        ("github.com", "ssh.github.com:443"),
        ("gitlab.com", "altssh.gitlab.com:443"),
        ("bitbucket.org", "altssh.bitbucket.org:443"),
        ("huggingface.co", "hf.co"),
    ],
)
def test_the_other_names_of_a_host_are_known(host: str, other: str):
    key = same_repository_key(f"https://{host}/a/one")
    assert key == f"{host}/a/one"
    for url in (f"ssh://git@{other}/a/one.git", f"https://{other}/a/one", f"ssh://git@www.{other}/A/One"):
        assert same_repository_key(url) == key


@pytest.mark.parametrize(
    ("first", "others"),
    [
        (
            "https://dev.azure.com/org/Project/_git/repo",
            [
                "git@ssh.dev.azure.com:v3/org/Project/repo",
                "ssh://git@ssh.dev.azure.com:22/v3/org/Project/repo",
                "https://org.visualstudio.com/Project/_git/repo",
                "https://org.visualstudio.com/DefaultCollection/Project/_git/repo",
                "org@vs-ssh.visualstudio.com:v3/org/Project/repo",
            ],
        ),
        ("https://dev.azure.com/org/repo/_git/repo", ["https://dev.azure.com/org/_git/repo"]),
        ("https://git.corp.io/scm/proj/repo.git", ["ssh://git@git.corp.io:7999/proj/repo.git"]),
        (
            "/work/x",
            ["ssh://localhost/work/x", "localhost:/work/x", "ssh://me@127.0.0.1:22/work/x.git", "file:///work/x"],
        ),
        ("~/x", ["localhost:x", "ssh://localhost/~/x", "localhost:~/x"]),
        ("https://h.io/a/tools", ["https://h.io/a/tools.GIT", "https://h.io/a/tools/.Git"]),
    ],
)
def test_the_spellings_of_a_host_with_several_are_one_repository(first: str, others: list[str]):
    assert {same_repository_key(url) for url in others} == {same_repository_key(first)}


def test_other_repositories_have_other_keys():
    urls = ["https://h.io/a/b", "https://h.io/a/c", "https://i.io/a/b", "/a/b", "file://h.io/a/c/d", "package:b"]
    urls += ["https://localhost/a/b", "https://gitlab.com/scm/a/b", "https://gitlab.com/a/b"]
    assert len({same_repository_key(url) for url in urls}) == len(urls)


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
        "https://example.com/a/b#secret",
        "https://example.com/a/b;token=secret",
        "https:/user:secret@example.com/a/b",
        "https:/example.com/a/b",
        "//user:secret@example.com/a/b",
        "user:secret@example.com:a/b",
        "example.com/a/b?token=secret",
        "git@-oProxyCommand:a/b",
        "https://[bad/a/b",
        "https://h:abc/a/b",
        "https://h:99999999/a/b",
        "https://h/a\x9bb",
        "https://h/a\u202eb",
        "C:\\repos\\x",
        "https://jane.doe:12345/secret@example.com/a/b",
        "https://example.com/a%0ab",
        "https://example.com/a\nb",
        "",
        "package:../x",
        "package:",
    ],
)
def test_dangerous_or_senseless_urls_are_refused_and_secrets_not_repeated(url: str):
    text = problems(corpus={**CORPUS, "train": [{"url": url}]})
    assert "corpus.train[0].url" in text
    assert "secret" not in text.replace("contains a secret", "").replace("a Flyte secret", "")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://org@dev.azure.com/org/p/_git/r", "what stands before an @"),
        ("ssh:git@github.com/a/b", "lacks a slash. Write ssh://, and then git@github.com/a/b"),
    ],
)
def test_a_url_with_a_user_says_what_to_write(url: str, expected: str):
    assert expected in problems(corpus={**CORPUS, "train": [{"url": url}]})


@pytest.mark.parametrize(
    "ref",
    [
        *("-x", "a..b", "a b", "abc1234", "x.lock", "", "a:b", "@{1}", "a//b", "a/.b", "a.lock/b", "@"),
        *("ABCDEF1234567", "ABCDEF1234" * 4, "a\u202eb", "x" * 300),
    ],
)
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
