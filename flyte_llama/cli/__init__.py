"""The command line `flyte-llama`: the commands that `pyflyte` does not have.

Results go to standard output, errors to standard error with exit code 2.
"""

from __future__ import annotations

from pathlib import Path

import click

from flyte_llama import __version__
from flyte_llama.cli.describe import describe_config
from flyte_llama.cli.evaluate import run_evaluation
from flyte_llama.cli.plan import make_plan_from_settings, plan_text
from flyte_llama.config import ExperimentConfig, load_config
from flyte_llama.config.stage import hint
from flyte_llama.documents import KNOWN_LANGUAGES
from flyte_llama.errors import ConfigError
from flyte_llama.plan import ACCELERATORS
from flyte_llama.report import report_table


@click.group()
@click.version_option(__version__, prog_name="flyte-llama")
def main() -> None:
    """Fine-tune a code model on repositories, and measure on other repositories how much better it got."""


@main.command("check")
@click.option("--config", "path", required=True, type=click.Path(), help="A YAML file, as in configs/.")
def print_steps(path: str) -> None:
    """Validate a configuration and print the steps of a run; nothing is fetched."""
    click.echo(describe_config(_load(path)))


@main.command("plan")
@click.option("--config", "path", required=True, type=click.Path(), help="A YAML file, as in configs/.")
@click.option("--gpu", type=click.Choice(list(ACCELERATORS)), help="Accelerator; default: FLYTE_LLAMA_GPU.")
@click.option("--gpus", type=click.IntRange(1), help="GPUs per node; default: FLYTE_LLAMA_GPU_COUNT.")
@click.option("--nodes", type=click.IntRange(1), help="Nodes; default: FLYTE_LLAMA_NODES.")
@click.option("--tokens", type=click.IntRange(1), help="Train tokens in an epoch.")
@click.option("--rows", type=click.Path(path_type=Path), help="A folder of packed rows, to count tokens and lengths.")
@click.option("--price", type=click.FloatRange(0), help="Dollars per GPU hour; default: a rough price.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, with exact bytes and FLOPs.")
@click.pass_context
def print_plan(
    context: click.Context,
    path: str,
    gpu: str | None,
    gpus: int | None,
    nodes: int | None,
    tokens: int | None,
    rows: Path | None,
    price: float | None,
    as_json: bool,
) -> None:
    """Estimate the memory, time, cost and disk space of a run; exit code 2 if it does not fit.

    Needs no GPU. For a hub model, only config.json is downloaded.
    """
    if tokens is not None and rows is not None:
        raise click.UsageError("--tokens and --rows both give the number of tokens. Use only one of them.")
    config = _load(path)
    result = make_plan_from_settings(config, gpu=gpu, gpus=gpus, nodes=nodes, tokens=tokens, rows=rows, price=price)
    click.echo(result.model_dump_json(indent=2) if as_json else plan_text(result, config))
    if not result.fits:
        context.exit(2)


@main.command("evaluate")
@click.option("--model", required=True, help="A folder in the hub's format, a hub id, or id@revision.")
@click.option("--config", "path", required=True, type=click.Path(), help="A YAML file, as in configs/.")
@click.option("--base", help="A model to compare it with, in the same form.")
@click.option("--heldout", type=click.Path(path_type=Path), help="The held-out folder of an earlier run.")
@click.option("--train", type=click.Path(path_type=Path), help="The train folder of that run, to measure memorisation.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("output/evaluation"), show_default=True)
def evaluate_model(
    model: str, path: str, base: str | None, heldout: Path | None, train: Path | None, output: Path
) -> None:
    """Measure a model on the configuration's held-out sources, as the workflow does, but without Flyte.

    The sources are read as they are now, unless --heldout gives the documents of an earlier run.
    """
    if train is not None and heldout is None:
        raise click.UsageError("--train needs --heldout. Give both, or neither.")
    report = run_evaluation(_load(path), model, base=base, heldout=heldout, train=train, out=output)
    click.echo(f"{report_table(report)}\n\nreport:   {(output / 'report.html').resolve()}")


def _load(path: str) -> ExperimentConfig:
    """Load a configuration, and check its language names: `documents` knows them, `config` does not."""
    config = load_config(path)
    for language in sorted(config.composition.language_weights.keys() - KNOWN_LANGUAGES):
        suggestion = hint(language, KNOWN_LANGUAGES, otherwise=f"Languages: {', '.join(sorted(KNOWN_LANGUAGES))}.")
        raise ConfigError(f"composition.language_weights: {language!r} is not a known language. {suggestion}")
    return config
