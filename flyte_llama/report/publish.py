"""Publishes a fine-tuned model to a repository of the Hugging Face Hub, if its report passes the gate."""

from __future__ import annotations

import glob
from pathlib import Path

from flyte_llama.config import PublishConfig
from flyte_llama.errors import PublishError
from flyte_llama.evaluation import PERPLEXITY, Change
from flyte_llama.progress import say
from flyte_llama.report.markdown import model_card
from flyte_llama.report.report import EvaluationReport
from flyte_llama.report.sentences import interval_text

# An allow list, so that nothing else in the folder, such as a pickle, is ever uploaded.
PUBLISHED_FILES = ("*.safetensors", "*.json", "*.jinja", "adapter/*.safetensors", "adapter/*.json", "README.md")


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
    """Upload the weights, tokenizer and model card; return the URL of the commit.

    Raises:
        PublishError: if the token is missing, or the hub rejects the upload.
    """
    if not token:
        raise PublishError(
            f"publish.repository = {repository}: there is no hub token. Set HF_TOKEN, or on a cluster register "
            "with FLYTE_LLAMA_SECRET_GROUP."
        )
    from huggingface_hub import HfApi

    (folder / "README.md").write_text(model_card(report), encoding="utf-8")
    hub = HfApi(token=token)
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            # Expand the patterns here: in the client's patterns, `*` also matches across folders.
            allow_patterns=[
                glob.escape(file.relative_to(folder).as_posix())
                for name in PUBLISHED_FILES
                for file in folder.glob(name)
            ],
            commit_message=f"{report.overall.figures[-1].bits_per_byte:.3f} bits per byte held out",
        )
    except Exception as error:  # the client also raises errors of its HTTP library and of the system
        raise PublishError(f"{repository}: the hub rejected the upload ({type(error).__name__}: {error}).") from None
    return str(commit.commit_url)


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
