"""Publishes a fine-tuned model to a repository of the Hugging Face Hub, if its report passes the gate.

What a repository holds, and what would stop a publication, is read in `repository`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from flyte_llama.config import PublishConfig
from flyte_llama.errors import PublishError
from flyte_llama.evaluation import PERPLEXITY, Change
from flyte_llama.model import ADAPTER_FOLDER, verify_sealed
from flyte_llama.model.weights import WEIGHTS, listed_parts
from flyte_llama.progress import say
from flyte_llama.report.markdown import model_card
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
from flyte_llama.report.sentences import interval_text
from flyte_llama.storage import verify

CARD = "README.md"
# An allow list, so that nothing else in the folder, such as a pickle, is ever uploaded.
_PUBLISHED_SUFFIXES = {".safetensors", ".json", ".jinja"}
_PUBLISHED_FOLDERS = {"", ADAPTER_FOLDER}


def passes_gate(report: EvaluationReport, config: PublishConfig) -> bool:
    """Whether the configuration asks to publish the model and its report allows it; prints each reason if not.

    An encoder is never published: anyone who loads it would expect a model that continues text.
    """
    if config.repository is None:
        return False
    reasons = _refusals(report, config)
    for reason in reasons:
        say(f"not published to {config.repository}: {reason}")
    return not reasons


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
    card = model_card(report).encode()
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
        if path.suffix in _PUBLISHED_SUFFIXES and path.parent.as_posix().removeprefix(".") in _PUBLISHED_FOLDERS
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
    elif not report.is_better:
        reasons.append(f"the fine-tuned model is not better than its base ({_figures(report.change)})")
    if report.change_from_published is not None and not report.beats_published:
        reasons.append(f"it is not better than the published model ({_figures(report.change_from_published)})")
    budget, forgotten = config.forgetting_budget, report.forgotten
    if budget is not None and forgotten is None:
        reasons.append(
            f"publish.forgetting_budget = {budget:g}: general code was not measured. List some in evaluation.general, "
            "with evaluation.probe_bytes above 0, or set the budget to null"
        )
    elif budget is not None and forgotten is not None and forgotten > budget:
        reasons.append(
            f"it needs {forgotten:.3f} bits per byte more than its base for general code, which exceeds "
            f"publish.forgetting_budget = {budget:g}"
        )
    return reasons


def _figures(change: Change) -> str:
    """The change with the interval over documents, which decides."""
    interval = interval_text(change.documents) or "interval unknown: too few documents"
    return f"{change.difference:+.3f} bits per byte, 95 % {interval}"
