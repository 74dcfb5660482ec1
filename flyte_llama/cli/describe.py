"""Describes a configuration in words: the steps that `train_flyte_llama` would take."""

from __future__ import annotations

from flyte_llama.config import ExperimentConfig, ObjectiveConfig, SourceConfig, TrainingConfig, describe_split
from flyte_llama.config.corpus import OPT_OUT_LINE
from flyte_llama.redaction import escape_line, mask_secrets


def describe_config(config: ExperimentConfig) -> str:
    """Return the steps of `train_flyte_llama` for this configuration, one a line, without secrets."""
    # phrases that need several fields
    corpus, model, training, evaluation = config.corpus, config.model, config.training, config.evaluation
    steps = (
        f"{training.max_steps:,} steps"
        if training.max_steps
        else f"{training.epochs:g} epoch{'' if training.epochs == 1 else 's'}"
    )
    method: str = training.method
    if method != "full":
        method += f" (rank {training.lora.rank}, alpha {training.lora.alpha})"
    zero = f"ZeRO-{training.deepspeed.zero_stage}"
    offloaded = [name for name in ("optimizer", "parameters") if getattr(training.deepspeed, f"offload_{name}")]

    # one line per step, in the order of the workflow
    lines = [
        "valid; train_flyte_llama would",
        *_source_lines("read to train on", corpus.train_sources),
        *_source_lines("read and hold out", corpus.heldout_sources),
        f"  split       {_split_text(config)}",
        f"  keep        {', '.join(corpus.documents.kinds)}; files up to {corpus.documents.max_bytes:,} bytes, under "
        f"{len(corpus.documents.licences)} licences",
        f"  mask        access tokens{', e-mail and public IP addresses' if corpus.documents.redact_people else ''}",
        f"  drop        {_drop_text(config)}",
        *_opt_out_lines(config),
        f"  start from  {_model_text(config)}",
        f"  encode      {_objective_text(config.objective)}, rows of {training.seq_len:,} tokens",
        f"  fine-tune   {method}, {steps}, {training.global_batch_size:,} rows per step "
        f"({_at_once_text(training)}), learning rate {training.learning_rate:g}, "
        f"{training.precision}, {zero}{', offloading ' + ' and '.join(offloaded) if offloaded else ''}",
        f"  evaluate    {_models_text(config)}, windows of {evaluation.window:,} tokens moved by {evaluation.stride:,}",
        f"  complete    {_completion_text(config)}",
        f"  publish     {_publish_text(config)}",
    ]
    if model.is_scratch:
        lines.append("a scratch model knows nothing but this corpus: its figures only show that the workflow runs")
    return mask_secrets("\n".join(map(escape_line, lines)))


def _at_once_text(training: TrainingConfig) -> str:
    if training.micro_batch_size == "auto":
        return "as many at once per process as the run chooses"
    return f"{training.micro_batch_size} at once per process"


def _objective_text(objective: ObjectiveConfig) -> str:
    details = {
        "fim": f" (rate {objective.rate:g}, prefix first {objective.psm_share:g}, lines {objective.line_share:g})",
        "causal_masked": f" ({objective.mean_spans:g} spans on average, at most {objective.max_spans})",
        "mlm": f" ({objective.mask_share:.0%} masked; makes an encoder)",
    }
    total = sum(objective.mixture.values()) if objective.kind == "mixture" else 1.0
    names = [
        f"{objective.mixture[kind] / total:.0%} {kind}" if objective.kind == "mixture" else kind
        for kind in objective.kinds
    ]
    return ", ".join(name + details.get(kind, "") for name, kind in zip(names, objective.kinds, strict=True))


def _drop_text(config: ExperimentConfig) -> str:
    deduplication, leakage = config.corpus.deduplication, config.corpus.leakage
    copies = ["copies"]
    if deduplication.lineage:
        copies.append("older versions of a file")
    if deduplication.near:
        copies.append(f"near-duplicates from a similarity of {deduplication.near:g}")
    parts = "paragraphs" if leakage.remove == "spans" else "documents"
    return f"{', '.join(copies)}; train {parts} that share {leakage.num_words} words in a row with a held-out document"


def _opt_out_lines(config: ExperimentConfig) -> list[str]:
    names = {source.name.casefold() for source in config.corpus.train_sources + config.corpus.heldout_sources}
    lines = config.corpus.documents.opt_out
    # Point out a line that matches no source: it is probably misspelt.
    matches = [(line, match["name"].casefold() in names) for line in lines if (match := OPT_OUT_LINE.fullmatch(line))]
    return [f"  never read  {line}{'' if known else ' (not a source above)'}" for line, known in matches]


def _model_text(config: ExperimentConfig) -> str:
    model = config.model
    if model.is_scratch:
        shape = model.scratch
        return (
            f"a Llama from scratch: {shape.num_layers} layers of {shape.hidden_size}, "
            f"vocabulary {shape.vocab_size:,} trained on the corpus"
        )
    return model.name if model.is_local else f"{model.name} at {model.revision or 'main'}"


def _source_lines(title: str, sources: list[SourceConfig]) -> list[str]:
    return [f"  {title}", *(f"    {_source_text(source)}" for source in sources)]


def _source_text(source: SourceConfig) -> str:
    ref = f" at {source.ref}" if source.ref else ""
    paths = f", only {', '.join(source.paths)}" if source.paths else ""
    return f"{source.url}{ref}{paths}{', without ' + ', '.join(source.exclude) if source.exclude else ''}"


def _split_text(config: ExperimentConfig) -> str:
    """Return what is held out, as the text of the line `split`."""
    parts = config.corpus.held_out_parts
    urls = {part.url for part in parts}
    whole = [source.name for source in config.corpus.heldout_sources if source.url not in urls]
    return describe_split(parts, whole).removeprefix("split ")


def _models_text(config: ExperimentConfig) -> str:
    published = config.evaluation.published_model
    return f"base, {published} and fine-tuned" if published else "base and fine-tuned"


def _publish_text(config: ExperimentConfig) -> str:
    publish = config.publish
    if publish.repository is None:
        return "nothing"
    where = "on the held-out documents" if publish.accept_few_repositories else "beyond the held-out repositories"
    return f"{publish.repository}, if the model is better than its base {where} and nothing speaks against it"


def _completion_text(config: ExperimentConfig) -> str:
    completion, flyte_eval = config.evaluation.completion, config.evaluation.flyte_eval
    if config.objective.makes_encoder:
        return "nothing: an encoder does not continue text"
    source = {"heldout": "of held-out code", "small": "of this package's own examples", "none": ""}[flyte_eval.source]
    items = f"at most {flyte_eval.tasks:,} FlyteEval items {source}" if source else "no FlyteEval items"
    return f"{completion.lines:,} lines, {completion.spans:,} spans of each kind, {items}"
