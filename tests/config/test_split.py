"""A corpus of one repository: which splits are accepted, which are refused, and with which way out."""

from __future__ import annotations

from typing import Any

import pytest

from flyte_llama.config import CorpusConfig, ExperimentConfig, FilePatterns, Selection, check_config, parse_config
from tests.config.problems import problems

MONO = "https://example.com/acme/mono"
FOLDER = {"url": MONO, "paths": ["/services/payments/"]}
BY_DATE = {"by": "date", "after": "2026-06-01"}


def corpus(**changes: Any) -> CorpusConfig:
    return ExperimentConfig.model_validate({"corpus": {"train": [{"url": MONO}], **changes}}).corpus


def test_a_folder_of_a_train_repository_is_held_out_and_train_reads_the_others():
    split = corpus(heldout=[FOLDER])
    folder = FilePatterns(paths=["/services/payments/"])
    assert split.select_train() == [Selection(held_out=folder)]
    assert split.select_heldout() == [Selection(files=folder)]
    assert [part.text for part in split.held_out_parts] == ["/services/payments/ of acme/mono"]


def test_a_split_by_date_needs_no_held_out_source_and_reads_each_train_source_on_both_sides():
    split = corpus(split=BY_DATE, extensions=[{"url": "https://example.com/acme/extra"}])
    assert [source.url for source in split.heldout_sources] == [MONO]
    assert [selection.age for selection in split.select_train()] == ["older", ""]
    assert [selection.age for selection in split.select_heldout()] == ["newer"]
    assert split.held_out_parts[0].text == "files of acme/mono first committed after 2026-06-01"


def test_paths_of_a_source_and_the_newest_days_are_in_the_words_of_the_split():
    source = {"url": MONO, "paths": ["/src/"], "exclude": ["*.md"]}
    (part,) = corpus(train=[source], split={"by": "date", "newest_days": 90}).held_out_parts
    text = "files in /src/ of acme/mono without *.md first committed in the 90 days before its commit"
    assert part.text == text
    assert part.model_copy(update={"committed": "2026-11-20"}).text == f"{text} of 2026-11-20"


@pytest.mark.parametrize("split", [{}, BY_DATE])
def test_a_corpus_is_the_same_after_it_was_written_as_json(split: dict[str, str]):
    """Flyte passes configurations on as JSON, with every field."""
    first = corpus(heldout=[] if split else [FOLDER], split=split)
    assert CorpusConfig.model_validate_json(first.model_dump_json()) == first


def test_a_day_is_a_date_in_yaml_with_and_without_quotes():
    for day in ("2026-06-01", "'2026-06-01'"):
        text = f"corpus:\n  train: [{{url: {MONO}}}]\n  split: {{by: date, after: {day}}}\n"
        assert check_config(parse_config(text, name="x.yaml")).corpus.split.after == "2026-06-01"


@pytest.mark.parametrize(
    ("split", "problem"),
    [
        ({"by": "date"}, "has no date. With by: date, set either after, such as 2026-06-01, or newest_days"),
        ({**BY_DATE, "newest_days": 90}, "has both after and newest_days. With by: date, set either"),
        ({"after": "2026-06-01"}, "has after, which needs by: date. Add that, or remove after"),
        ({"by": "date", "after": "2999-01-01"}, "is in the future. Write a day that has files after it"),
        ({"by": "date", "after": "June"}, "is not a date. Write YYYY-MM-DD"),
        ({"by": "date", "newest_days": 0}, "corpus.split.newest_days = 0"),
    ],
)
def test_a_split_that_says_no_date_or_two_is_refused(split: dict[str, Any], problem: str):
    assert problem in problems(corpus={"train": [{"url": MONO}], "split": split})


@pytest.mark.parametrize(
    ("sides", "problem"),
    [
        (
            {"heldout": [{"url": MONO}]},
            "is both in train and in heldout, see corpus.train[0]. Keep it on one side, or ",
        ),
        ({"heldout": [{"url": MONO}]}, "give it `paths` here: then only these files are held out"),
        ({"heldout": [FOLDER, {**FOLDER, "paths": ["/lib/"]}]}, "corpus.heldout[1]: " + MONO + " is listed twice"),
        ({"train": [{"url": MONO}, {"url": MONO, "paths": ["/a/"]}], "heldout": [FOLDER]}, "is listed twice"),
        (
            {"heldout": [{**FOLDER, "url": "git@example.com:acme/mono.git"}]},
            f"git@example.com:acme/mono.git is the repository of {MONO}, see corpus.train[0]. Write the same URL",
        ),
        ({"heldout": [FOLDER], "split": BY_DATE}, "is already split by date, see corpus.train[0]. Remove it from"),
        (
            {"train": [{"url": "package:click"}], "split": BY_DATE},
            "corpus.train[0]: package:click has no history, so it cannot be split by date.",
        ),
        ({"heldout": []}, "corpus.heldout = []: should have at least one item"),
        ({}, "lists train but not heldout."),
    ],
)
def test_a_repository_on_both_sides_that_nothing_separates_is_refused(sides: dict[str, Any], problem: str):
    assert problem in problems(corpus={"train": [{"url": MONO}], **sides})


@pytest.mark.parametrize(
    ("patterns", "fix"),
    [
        (["./src/"], "contains './src/'. Write it from the top of the repository, such as /src/"),
        ([""], "contains ''. Write a pattern as in .gitignore"),
        (["# src"], "contains '# src'. Write a pattern as in .gitignore"),
        (["!/src/"], "has exceptions alone. Add a pattern without an exclamation mark before them"),
    ],
)
@pytest.mark.parametrize("key", ["paths", "exclude"])
def test_a_pattern_that_can_match_nothing_is_refused(key: str, patterns: list[str], fix: str):
    assert fix in problems(corpus={"train": [{"url": MONO, key: patterns}], "split": BY_DATE})


def test_a_part_of_a_trained_repository_is_published_only_without_a_claim_about_others():
    stages = {"corpus": {"train": [{"url": MONO}], "heldout": [FOLDER]}, "evaluation": {"published": "none"}}
    text = problems(**stages, publish={"repository": "acme/model"})
    assert "a part of acme/mono, which is trained on, is no ground to say that a model is better on others" in text
    accepted = {"repository": "acme/model", "accept_few_repositories": True}
    assert ExperimentConfig.model_validate({**stages, "publish": accepted}).publish.accept_few_repositories
