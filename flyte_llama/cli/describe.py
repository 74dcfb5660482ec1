"""A configuration in words: what `train_flyte_llama` would do with it."""

from __future__ import annotations

from flyte_llama.config import ExperimentConfig, ObjectiveConfig, SourceConfig
from flyte_llama.config.corpus import OPTED_OUT


def describe(config: ExperimentConfig) -> str:
    """The steps of `train_flyte_llama` for this configuration, in words."""
    corpus, model, training, evaluation = config.corpus, config.model, config.training, config.evaluation
    steps = (
        f"{training.max_steps:,} steps"
        if training.max_steps
        else f"{training.epochs:g} epoch{'' if training.epochs == 1 else 's'}"
    )
    method: str = training.method
    if method != "full":
        method += f" (rank {training.lora.rank}, alpha {training.lora.alpha})"
    stage = f"ZeRO-{training.deepspeed.zero_stage}"
    offloaded = [name for name in ("optimizer", "parameters") if getattr(training.deepspeed, f"offload_{name}")]
    lines = [
        "valid; train_flyte_llama would",
        *_sources("read to learn from", corpus.train_sources),
        *_sources("read and hold out", corpus.heldout),
        f"  keep        {', '.join(corpus.documents.kinds)}; files up to {corpus.documents.max_bytes:,} bytes, under "
        f"{len(corpus.documents.licences)} licences",
        f"  mask        access tokens{', e-mail and public IP addresses' if corpus.documents.redact_people else ''}",
        f"  drop        {_dropped(config)}",
        *_opted_out(config),
        f"  start from  {_model(config)}",
        f"  encode      {_objective(config.objective)}, rows of {training.seq_len:,} tokens",
        f"  fine-tune   {method}, {steps}, {training.global_batch_size:,} rows a step "
        f"({training.micro_batch_size} at once a process), learning rate {training.learning_rate:g}, "
        f"{training.precision}, {stage}{', offloading ' + ' and '.join(offloaded) if offloaded else ''}",
        f"  evaluate    {_measured(config)}, windows of {evaluation.window:,} tokens moved by {evaluation.stride:,}",
        f"  write       {_written(config)}",
        f"  publish     {config.publish.repository or 'nothing'}"
        + (", if the model beats its base" if config.publish.repository else ""),
    ]
    if model.is_scratch:
        lines.append("a scratch model learns from nothing else: its figures show that the line works, no more")
    return "\n".join(lines)


def _objective(objective: ObjectiveConfig) -> str:
    shares = {
        "fim": f" (rate {objective.rate:g}, prefix first {objective.psm_share:g})",
        "causal_masked": f" ({objective.mean_spans:g} spans on average, at most {objective.max_spans})",
        "mlm": f" ({objective.mask_share:.0%} masked; makes an encoder)",
    }
    total = sum(objective.mixture.values()) if objective.kind == "mixture" else 1.0
    weighed = [
        f"{objective.mixture[kind] / total:.0%} {kind}" if objective.kind == "mixture" else kind
        for kind in objective.kinds
    ]
    return ", ".join(name + shares.get(kind, "") for name, kind in zip(weighed, objective.kinds, strict=True))


def _dropped(config: ExperimentConfig) -> str:
    deduplication, leakage = config.corpus.deduplication, config.corpus.leakage
    copies = ["copies"]
    if deduplication.lineage:
        copies.append("older lives of a file")
    if deduplication.near:
        copies.append(f"near-duplicates from {deduplication.near:g} on")
    what = "paragraphs" if leakage.remove == "spans" else "documents"
    return f"{', '.join(copies)}; train {what} with {leakage.num_words} words in a row of a held-out document"


def _opted_out(config: ExperimentConfig) -> list[str]:
    names = {source.name.casefold() for source in config.corpus.train_sources + config.corpus.heldout}
    lines = config.corpus.documents.opt_out
    found = [(line, match["name"].casefold() in names) for line in lines if (match := OPTED_OUT.fullmatch(line))]
    return [f"  never read  {line}{'' if known else ' (of no source above)'}" for line, known in found]


def _model(config: ExperimentConfig) -> str:
    model = config.model
    if model.is_scratch:
        shape = model.scratch
        return (
            f"a Llama from scratch: {shape.num_layers} layers of {shape.hidden_size}, "
            f"vocabulary {shape.vocab_size:,} trained on the corpus"
        )
    return model.name if model.is_local else f"{model.name} at {model.revision or 'main'}"


def _sources(what: str, sources: list[SourceConfig]) -> list[str]:
    named = [f"{source.url}{' at ' + source.ref if source.ref else ''}" for source in sources]
    return [f"  {what}", *(f"    {name}" for name in named)]


def _measured(config: ExperimentConfig) -> str:
    published = config.evaluation.published
    return f"base, {published} and fine-tuned" if published else "base and fine-tuned"


def _written(config: ExperimentConfig) -> str:
    completion, asked = config.evaluation.completion, config.evaluation.flyte_eval
    if config.objective.makes_encoder:
        return "nothing: an encoder does not write"
    source = {"heldout": "of held-out code", "small": "of this package's own examples", "none": ""}[asked.source]
    tasks = f"at most {asked.tasks:,} FlyteEval tasks {source}" if source else "no FlyteEval tasks"
    return f"{completion.lines:,} lines, {completion.spans:,} spans of each kind, {tasks}"
