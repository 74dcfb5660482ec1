"""A fine-tuned folder and its report → a repository of the Hugging Face Hub, if the model beats its base."""

from __future__ import annotations

from pathlib import Path

from flyte_llama.config import PublishConfig
from flyte_llama.errors import PublishError
from flyte_llama.evaluation import PERPLEXITY
from flyte_llama.progress import say
from flyte_llama.report import EvaluationReport, model_card

# By name, so that nothing else that lies in the folder, a pickle say, is ever uploaded.
PUBLISHED = ["*.safetensors", "*.json", "*.jinja", "adapter/*.safetensors", "adapter/*.json"]


def passes_gate(report: EvaluationReport, config: PublishConfig) -> bool:
    """Whether publication is asked for and the model needs fewer bits than its base; says why if not.

    An encoder is never published: whoever loads it would expect it to write.
    """
    if config.repository is None:
        return False
    if report.protocol.measure != PERPLEXITY:
        say(
            f"not published to {config.repository}: trained by mlm, it is an encoder, which does not continue text; "
            f"its {report.protocol.measure} does not compare with a perplexity"
        )
        return False
    if not report.is_better:
        say(f"not published to {config.repository}: the fine-tuned model is not better than its base")
    return report.is_better


def publish_model(folder: Path, report: EvaluationReport, repository: str, *, private: bool, token: str | None) -> str:
    """Upload weights, tokenizer and model card; the URL of the commit.

    Raises:
        PublishError: without a token, or if the hub refuses.
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
            allow_patterns=[*PUBLISHED, "README.md"],
            commit_message=f"{report.overall.tuned_bits_per_byte:.3f} bits per byte held out",
        )
    except Exception as error:  # the client raises its own, its transport's and the system's
        raise PublishError(f"{repository}: the hub refused ({type(error).__name__}: {error}).") from None
    return str(commit.commit_url)
