"""`flyte-llama`: what `pyflyte` cannot do. Prints to standard output; errors go to standard error with exit code 2."""

from __future__ import annotations

from pathlib import Path

import click

from flyte_llama import __version__
from flyte_llama.cli.describe import describe
from flyte_llama.cli.evaluation import evaluated
from flyte_llama.cli.preflight import planned, rendered
from flyte_llama.config import ExperimentConfig, load_config
from flyte_llama.config.nearest import hint
from flyte_llama.errors import ConfigError
from flyte_llama.plan import ACCELERATORS
from flyte_llama.report import table
from flyte_llama.rules import KNOWN


@click.group()
@click.version_option(__version__, prog_name="flyte-llama")
def main() -> None:
    """Fine-tune a code model on repositories, and measure on others how much better it got."""


@main.command()
@click.option("--config", "path", required=True, type=click.Path(), help="A YAML file, as in configs/.")
def check(path: str) -> None:
    """Validate a configuration and print what would be done; nothing is fetched."""
    click.echo(describe(_checked(path)))


@main.command()
@click.option("--config", "path", required=True, type=click.Path(), help="A YAML file, as in configs/.")
@click.option("--gpu", type=click.Choice(list(ACCELERATORS)), help="Accelerator; else FLYTE_LLAMA_GPU.")
@click.option("--gpus", type=click.IntRange(1), help="GPUs of a node; else FLYTE_LLAMA_GPU_COUNT.")
@click.option("--nodes", type=click.IntRange(1), help="Nodes; else FLYTE_LLAMA_NODES.")
@click.option("--tokens", type=click.IntRange(1), help="Train tokens of an epoch.")
@click.option("--rows", type=click.Path(path_type=Path), help="Packed rows, of which tokens and lengths are read.")
@click.option("--price", type=click.FloatRange(0), help="Dollars an hour of one GPU; else a rough one.")
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON, bytes and FLOPs whole.")
@click.pass_context
def plan(
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
    """Tell what a run will take before it is run: memory, time, cost, disk; exit code 2 if it does not fit.

    Needs no GPU. Of a hub model, config.json is downloaded and nothing else.
    """
    if tokens is not None and rows is not None:
        raise click.UsageError("--tokens and --rows say the same thing. Give one of them.")
    config = _checked(path)
    made = planned(config, gpu=gpu, gpus=gpus, nodes=nodes, tokens=tokens, rows=rows, price=price)
    click.echo(made.model_dump_json(indent=2) if as_json else rendered(made, config))
    if not made.fits:
        context.exit(2)


@main.command()
@click.option("--model", required=True, help="A folder in the hub's format, or a hub id; id@revision for a revision.")
@click.option("--config", "path", required=True, type=click.Path(), help="A YAML file, as in configs/.")
@click.option("--base", help="A model to compare it with, given likewise.")
@click.option("--heldout", type=click.Path(path_type=Path), help="The held-out folder of an earlier run.")
@click.option("--train", type=click.Path(path_type=Path), help="Its train folder, for the memorisation probe.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("output/evaluation"), show_default=True)
def evaluate(model: str, path: str, base: str | None, heldout: Path | None, train: Path | None, output: Path) -> None:
    """Measure a model on the configuration's held-out sources, as the workflow does, without Flyte.

    Sources are read as they are now, unless --heldout names what an earlier run read.
    """
    if train is not None and heldout is None:
        raise click.UsageError("--train belongs to --heldout. Give both, or neither.")
    report = evaluated(_checked(path), model, base=base, heldout=heldout, train=train, out=output)
    click.echo(f"{table(report)}\n\nreport:   {(output / 'report.html').resolve()}")


def _checked(path: str) -> ExperimentConfig:
    config = load_config(path)
    for language in sorted(config.composition.language_weights.keys() - KNOWN):
        meant = hint(language, KNOWN, otherwise=f"Languages: {', '.join(sorted(KNOWN))}.")
        raise ConfigError(f"composition.language_weights: {language!r} is no language of a file. {meant}")
    return config
