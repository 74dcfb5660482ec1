"""The problems between the repositories that a configuration names: on which side each is, and what that allows to say.

One line for each problem, as in `checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from flyte_llama.config.corpus import CorpusConfig
from flyte_llama.config.evaluation import MIN_REPOSITORIES, EvaluationConfig, PublishConfig
from flyte_llama.config.source import SourceConfig
from flyte_llama.config.source_url import is_package, same_repository_key


def split_problems(corpus: CorpusConfig, key_of: Callable[[str], str] = same_repository_key) -> list[str]:
    """Return one line for each repository that is listed twice, or is on both sides and not split between them.

    Args:
        key_of: URL → a key that is the same for all spellings of a repository.
    """
    problems = []
    lists = {"train": corpus.train, "extensions": corpus.extensions, "heldout": corpus.heldout}
    sources = [
        (f"corpus.{name}[{index}]", name, source)
        for name, listed in lists.items()
        for index, source in enumerate(listed)
    ]
    # Side, and repository in any spelling → where it is named first.
    first: dict[tuple[bool, str], tuple[str, str, SourceConfig]] = {}
    for key, name, source in sources:
        repository, is_held_out = key_of(source.url), name == "heldout"
        first_key, *_ = first.setdefault((is_held_out, repository), (key, name, source))
        if first_key != key:
            problems.append(f"{key}: {source.url} is listed twice, see {first_key}. Remove one.")
        elif is_held_out and (other := first.get((False, repository))):
            problems += [f"{key}: {source.url} {problem}" for problem in _sharing_problems(source, *other, corpus)]
    for key, name, source in sources:
        if is_package(source.url) and source.ref is not None:
            problems.append(f"{key}: {source.url} has a ref. Remove it: the installed version of a package is used.")
        if is_package(source.url) and name == "train" and corpus.split.by == "date":
            problems.append(
                f"{key}: {source.url} has no history, so it cannot be split by date. Give the URL of its repository, "
                "or list it in corpus.extensions."
            )
    return problems


def few_repositories_problems(publish: PublishConfig, corpus: CorpusConfig) -> list[str]:
    """Return a line if the held-out repositories allow no claim about others, which publishing asks for."""
    parts = corpus.held_out_parts
    count = len({same_repository_key(source.url) for source in corpus.heldout_sources})
    if publish.accept_few_repositories or (count >= MIN_REPOSITORIES and not parts):
        return []
    if parts:
        few, verb = f"a part of {parts[0].repository}, which is trained on,", "is no ground"
    else:
        few, verb = (
            f"{count} {'repository' if count == 1 else 'repositories'}",
            f"{'is' if count == 1 else 'are'} too few",
        )
    return [
        f"corpus.heldout: {few} {verb} to say that a model is better on others, so it would not be published. Hold out "
        f"at least {MIN_REPOSITORIES}{' other repositories' if parts else ''}, or set "
        "publish.accept_few_repositories: true."
    ]


def general_problems(publish: PublishConfig, evaluation: EvaluationConfig, corpus: CorpusConfig) -> list[str]:
    """Return a line if all general code is in the corpus, where it is not measured as general code."""
    in_corpus = {same_repository_key(source.url) for source in [*corpus.train_sources, *corpus.heldout_sources]}
    general = [same_repository_key(source.url) for source in evaluation.general]
    if publish.forgetting_budget is None or not general or not in_corpus.issuperset(general):
        return []
    names, budget = ", ".join(source.url for source in evaluation.general), publish.forgetting_budget
    return [
        f"evaluation.general = {names}: is in the corpus, so no general code is measured, and "
        f"publish.forgetting_budget = {budget:g} is judged by it. Name other packages, or set the budget to null."
    ]


def _sharing_problems(
    source: SourceConfig, other_key: str, other_name: str, other: SourceConfig, corpus: CorpusConfig
) -> Iterator[str]:
    """Yield what is wrong with a held-out source whose repository is trained on too."""
    if other_name == "train" and corpus.split.by == "date":
        yield f"is already split by date, see {other_key}. Remove it from corpus.heldout."
    elif source.files.is_empty:
        yield (
            f"is both in {other_name} and in heldout, see {other_key}. Keep it on one side, or give it `paths` here: "
            "then only these files are held out, and the others are trained on."
        )
    elif source.url != other.url:
        yield f"is the repository of {other.url}, see {other_key}. Write the same URL in both places."
