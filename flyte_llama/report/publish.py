"""Publishes a fine-tuned model to a repository of the Hugging Face Hub, if its report passes the gate.

What a repository holds, and what would stop a publication, is read in `repository`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from flyte_llama.config import MIN_REPOSITORIES, Frozen, PublishConfig
from flyte_llama.errors import PublishError
from flyte_llama.evaluation import MIN_DOCUMENTS, PERPLEXITY, Change
from flyte_llama.model import ADAPTER_FOLDER, verify_sealed
from flyte_llama.model.adapters.folder import ADAPTER_CARD
from flyte_llama.model.weights import WEIGHTS, listed_parts
from flyte_llama.progress import say
from flyte_llama.report.markdown import model_card
from flyte_llama.report.objections import find_objections
from flyte_llama.report.report import EvaluationReport
from flyte_llama.report.repository import (
    TOKEN_PROBLEM,
    Content,
    HubFile,
    hub_errors,
    list_files,
    model_files,
    replacement_problem,
    visibility_problem,
)
from flyte_llama.report.sentences import count_text, forgetting_gap, interval_text
from flyte_llama.storage import verify

CARD = "README.md"
# An allow list, so that nothing else in the folder, such as a pickle, is ever uploaded.
_PUBLISHED_SUFFIXES = {".safetensors", ".json", ".jinja"}
_PUBLISHED_NAMES = {"tokenizer.model", f"{ADAPTER_FOLDER}/tokenizer.model", f"{ADAPTER_FOLDER}/{ADAPTER_CARD}"}
_PUBLISHED_FOLDERS = {"", ADAPTER_FOLDER}


class Verdict(Frozen):
    """What the gate says about a model, and the figures that decide it."""

    passed: bool
    reasons: list[str]
    """Why the model must not be published; empty if it passed."""

    change: Change | None
    """Fine-tuned minus base, in bits per byte of the held-out text."""

    change_from_published: Change | None
    """The same against the published model; None if none was measured."""

    general_change: Change | None
    """Fine-tuned minus base on general code; None if none was measured."""

    def __repr__(self) -> str:
        """One line, since `pyflyte run` prints the verdict."""
        return "Verdict(passed)" if self.passed else f"Verdict(not passed: {'; '.join(self.reasons)})"


def judge(report: EvaluationReport, config: PublishConfig, *, published: str | None) -> Verdict:
    """Whether a report allows to publish its model, also if the configuration names no repository.

    An encoder is never published: anyone who loads it would expect a model that continues text.

    Args:
        published: `evaluation.published`: the model that is published already, `none`, or None if that is not said,
            which is allowed without a repository.
    """
    reasons = _refusals(report, config)
    unsaid = published is None and config.repository is not None
    is_published = published is not None and published.lower() != "none"
    if unsaid or (is_published and report.change_from_published is None):
        name = "the model that is published already" if published is None else published
        reasons.append(f"it was not compared with {name}. Set evaluation.published, and start the same command again")
    return Verdict(
        passed=not reasons,
        reasons=reasons,
        change=report.change,
        change_from_published=report.change_from_published,
        general_change=report.general_change,
    )


def passes_gate(verdict: Verdict, config: PublishConfig) -> bool:
    """Whether the configuration asks to publish the model and the verdict allows it; prints each reason if not."""
    if config.repository is None:
        return False
    for reason in verdict.reasons:
        say(f"not published to {config.repository}: {reason}")
    return verdict.passed


def publish_model(folder: Path, report: EvaluationReport, repository: str, *, private: bool, token: str | None) -> str:
    """Upload a model that the report is about, with its card, in one commit; return the URL of the commit.

    The files are those that the manifest of `folder` names, of safe types. Nothing is written to the folder. The same
    commit removes the files of an earlier model, at the top and in the adapter's folder, and leaves all other files.
    Then the hub is asked what it holds. If it holds this model already, nothing is uploaded.

    Raises:
        DataError: if the folder is not as it was sealed.
        PublishError: if the token is missing; if the report is about another model; if the repository is not empty, and
            this model was not compared with the one there; if the hub rejects the upload, or then holds other files.
    """
    key = f"publish.repository = {repository}"
    if not token:
        raise PublishError(f"{key}: {TOKEN_PROBLEM}")
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    contents = _files_to_publish(folder, report)
    card = model_card(report, name=repository).encode()
    contents[CARD] = Content(card, len(card), hashlib.sha256(card).hexdigest())
    hub = HfApi(token=token)
    with hub_errors(repository):
        # see what is there
        hub.create_repo(repository, private=private, exist_ok=True)
        info = hub.model_info(repository)
        if problem := visibility_problem(info, private=private):
            raise PublishError(f"{key}: {problem}")
        held = list_files(hub, repository, str(info.sha))
        if not _differences(held, contents):
            say(f"{repository} holds this model already, at {info.sha}")
            return f"{hub.endpoint}/{repository}/commit/{info.sha}"
        published = next((model.identity for model in report.models if model.name == "published"), None)
        problem = replacement_problem(
            hub,
            repository,
            held,
            published=published.name if published else None,
            revision=published.revision if published else None,
        )
        if problem:
            raise PublishError(f"{key}: {problem}")

        # replace it in one commit, on the condition that nobody else has changed it
        stale = sorted(model_files(held).keys() - contents.keys())
        if stale:
            say(f"{repository}: removing files of an earlier model: {', '.join(stale)}")
        additions = [CommitOperationAdd(name, content.source) for name, content in contents.items()]
        for addition in additions:
            # The client sends what has this digest, so check it here: the file may have changed since it was verified.
            if addition.upload_info.sha256.hex() != contents[addition.path_in_repo].sha256:
                raise PublishError(
                    f"{folder / addition.path_in_repo}: has changed while it was published. Train again."
                )
        commit = hub.create_commit(
            repository,
            [*(CommitOperationDelete(name) for name in stale), *additions],
            commit_message=f"{report.overall.figures[-1].bits_per_byte:.3f} bits per byte held out",
            parent_commit=info.sha,
        )

        # ask what it holds now
        differences = _differences(list_files(hub, repository, commit.oid), contents)
    if differences:
        raise PublishError(
            f"{key}: after the upload the hub does not hold the model: {'; '.join(differences)}. Do not use commit "
            f"{commit.oid}. Delete the repository or revert the commit, then start the same command again."
        )
    return str(commit.commit_url)


def _files_to_publish(folder: Path, report: EvaluationReport) -> dict[str, Content]:
    """Return path → content of a sealed model folder's published files, after checking that the report is about it."""
    digest = verify_sealed(folder)
    if digest is None:
        raise PublishError(f"{folder}: has no manifest, so it is not a finished model. Train again.")
    measured = report.models[-1].identity.identity
    if digest != measured:
        raise PublishError(
            f"{folder}: is the model {digest}, but the report is about {measured}. Measure this model, then publish it."
        )
    listed = verify(folder, strict=True)["files"]
    paths = {name: PurePosixPath(name) for name in listed}
    names = [
        name
        for name, path in paths.items()
        if name in _PUBLISHED_NAMES
        or (path.suffix in _PUBLISHED_SUFFIXES and path.parent.as_posix().removeprefix(".") in _PUBLISHED_FOLDERS)
    ]
    weights = listed_parts(folder, name=str(folder)).keys() or {WEIGHTS}
    missing = sorted({"config.json", "tokenizer.json", *weights} - set(names))
    if missing:
        raise PublishError(f"{folder}: lacks {', '.join(missing)}, so nobody could load the model. Train again.")
    return {name: Content(folder / name, listed[name]["num_bytes"], listed[name]["sha256"]) for name in names}


def _differences(held: Mapping[str, HubFile], contents: Mapping[str, Content]) -> list[str]:
    """Return how the files of a repository differ from a model's, a phrase for each file."""
    missing = [f"{name} is missing" for name in contents if name not in held]
    other = [
        f"{name} has other content, {held[name].sha256 or held[name].blob_id}"
        for name, content in contents.items()
        if name in held and not held[name].holds(content)
    ]
    return [*missing, *other, *(f"{name} is left over" for name in sorted(model_files(held).keys() - contents.keys()))]


def _refusals(report: EvaluationReport, config: PublishConfig) -> list[str]:
    if report.protocol.measure != PERPLEXITY:
        return [
            "trained by mlm, it is an encoder, which does not continue text; "
            f"its {report.protocol.measure} is not comparable with a perplexity"
        ]
    reasons = []
    if report.change is None:
        reasons.append("there is no base to compare it with")
    reasons += [
        f"it is not better than {'its base' if change is report.change else 'the published model'} ({problem})"
        for change in report.overall.changes
        if (problem := _doubt(change, report, config))
    ]
    reasons += [f"it is {objection}" for objection in find_objections(report)]
    return reasons + _forgetting_reasons(report, config.forgetting_budget)


def _doubt(change: Change, report: EvaluationReport, config: PublishConfig) -> str:
    """Return why a model does not count as better than a reference; empty if it does."""
    if not change.is_better_here:
        return _figures(change)
    if report.parts and not config.accept_few_repositories:
        return (
            f"{_figures(change)} on these documents, but they have other files of {report.parts[0].repository}, which "
            f"was trained on, and say nothing of others. Hold out at least {MIN_REPOSITORIES} other repositories, or "
            "set publish.accept_few_repositories: true"
        )
    if change.is_better:
        return ""
    repositories = count_text(change.num_repositories, "repository")
    if not change.has_few_repositories and not report.parts:
        return (
            f"{_figures(change)} on these documents, but their {repositories} differ too much to say so of others: "
            f"mean {change.repository_mean:+.3f}, 95 % {interval_text(change.clustered)}"
        )
    if not config.accept_few_repositories:
        return (
            f"{_figures(change)} on these documents, but {repositories} "
            f"{'is' if change.num_repositories == 1 else 'are'} too few to say so of others. Hold out at least "
            f"{MIN_REPOSITORIES}, or set publish.accept_few_repositories: true"
        )
    if change.repository_mean >= 0:
        return f"{_figures(change)} on these documents, but the mean of {repositories} is {change.repository_mean:+.3f}"
    return ""


def _forgetting_reasons(report: EvaluationReport, budget: float | None) -> list[str]:
    if budget is None:
        return []
    key, change = f"publish.forgetting_budget = {budget:g}", report.general_change
    if report.general_clean is None:
        reason, remedy = forgetting_gap(report)
        return [f"{key}: {reason}. {remedy}, or set the budget to null"]
    if change is None:
        return []
    if change.difference > budget:
        return [
            f"it needs {change.difference:.3f} bits per byte more than its base for general code, which exceeds {key}"
        ]
    if change.documents is None:
        return [
            f"{key}: too little general code was measured, an interval needs {MIN_DOCUMENTS} documents, near-copies "
            "counted once. List more in evaluation.general, or set the budget to null"
        ]
    if change.documents.high > budget:
        return [
            f"it may need more bits per byte for general code than {key}: {_figures(change)}. Measure more general "
            "code, or raise the budget"
        ]
    return []


def _figures(change: Change) -> str:
    """The change with the interval over documents."""
    interval = interval_text(change.documents) or "interval unknown: too few documents"
    return f"{change.difference:+.3f} bits per byte, 95 % {interval}"
