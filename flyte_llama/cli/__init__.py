"""The command line `flyte-llama`: the commands that `pyflyte` does not have.

Results go to standard output, errors to standard error with exit code 2.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from flyte_llama import __version__
from flyte_llama.cli.clean import items_table
from flyte_llama.cli.compare import check_page, open_both, write_page
from flyte_llama.cli.complete import complete_prefix
from flyte_llama.cli.describe import describe_config
from flyte_llama.cli.doctor import find_all
from flyte_llama.cli.evaluate import input_problems, run_evaluation
from flyte_llama.cli.plan import make_plan_from_settings, plan_text
from flyte_llama.cli.runs import runs_text
from flyte_llama.cli.serve import serve_http
from flyte_llama.cli.verify import verification_text
from flyte_llama.cli.why import explanation_text
from flyte_llama.config import load_config
from flyte_llama.errors import ModelError
from flyte_llama.plan import ACCELERATORS, model_shape
from flyte_llama.preflight import language_problems, preflight_problems, remote_problems
from flyte_llama.progress import escape_unknown_characters, exit_on_interrupt
from flyte_llama.redaction import escape_invisible, mask_secrets
from flyte_llama.report import report_table
from flyte_llama.runs import compare_runs, comparison_text
from flyte_llama.settings import read_settings, settings_digest, settings_text
from flyte_llama.workspace import lock_folder, remove_items, remove_stale_folders, stored_items


def takes_config(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the configuration's file, named as its argument or by --config, as `path`."""

    @click.argument("file", required=False, type=click.Path())
    @click.option("--config", type=click.Path(), help="A YAML file, as in configs/; the same as FILE.")
    @functools.wraps(command)
    def command_with_path(*, file: str | None, config: str | None, **others: Any) -> Any:
        if (file is None) == (config is None):
            raise click.UsageError("Give one configuration, as FILE or as --config FILE.")
        return command(path=file if config is None else config, **others)

    return command_with_path


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flyte-llama")
@click.pass_context
def main(context: click.Context) -> None:
    """Fine-tune a code model on repositories, and measure on held-out code how much better it got."""
    escape_unknown_characters()
    context.call_on_close(exit_on_interrupt("interrupted"))
    # `clean` shows what it removes
    if context.invoked_subcommand != "clean":
        remove_stale_folders()


main.add_command(complete_prefix)
main.add_command(serve_http)


@main.command("check")
@takes_config
@click.option("--remote", is_flag=True, help="For a run on a cluster: leave out what this machine has or lacks.")
def print_steps(path: str, remote: bool) -> None:
    """Check a configuration and print the steps of a run; nothing is fetched.

    Everything that needs no network is checked: local repositories and models, installed packages, devices, tokens,
    room on the disk. All problems are printed at once, with exit code 2.
    """
    print_text(describe_config(load_config(path, check=remote_problems if remote else preflight_problems)))


@main.command("plan")
@takes_config
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
    config = load_config(path, check=_plan_problems)
    result = make_plan_from_settings(config, gpu=gpu, gpus=gpus, nodes=nodes, tokens=tokens, rows=rows, price=price)
    if as_json:
        click.echo(result.model_dump_json(indent=2, ensure_ascii=True))
    else:
        print_text(plan_text(result, config))
    if not result.fits:
        context.exit(2)


@main.command("settings")
@click.option("--version", help="Print the version to register: this one and a digest of the settings.")
def print_settings(version: str | None) -> None:
    """Print the settings that a registration would send, from FLYTE_LLAMA_… variables; exit code 2 if one is wrong."""
    settings = read_settings()
    print_text(settings_text(settings) if version is None else f"{version}-{settings_digest(settings)}")


@main.command("doctor")
@click.option("--config", type=click.Path(), help="A YAML file, as in configs/, to check too.")
@click.option("--project", envvar="FLYTE_PROJECT", default="flytesnacks", show_default=True, show_envvar=True)
@click.option("--domain", envvar="FLYTE_DOMAIN", default="development", show_default=True, show_envvar=True)
@click.pass_context
def print_findings(context: click.Context, config: str | None, project: str, domain: str) -> None:
    """Look for what a run on the cluster needs: one line each, `ok` or what to do.

    Nothing is created or changed. `look` is what cannot be told from here; with `FAIL`, a run would fail, and the exit
    code is 2. IMAGE and REGISTRY choose the image, as for `make`.
    """
    states = []
    for finding in find_all(config, project, domain):
        print_text(str(finding))
        states.append(finding.state)
    if "FAIL" in states:
        context.exit(2)


@main.command("evaluate")
@takes_config
@click.option("--model", required=True, help="A folder in the hub's format, a hub id, or id@revision.")
@click.option("--base", help="A model to compare it with, in the same form.")
@click.option("--heldout", type=click.Path(path_type=Path), help="The held-out folder of an earlier run.")
@click.option(
    "--train",
    type=click.Path(path_type=Path),
    help="The train folder of that run, to measure what the model memorised and forgot.",
)
@click.option("--output", type=click.Path(path_type=Path), default=Path("output/evaluation"), show_default=True)
def evaluate_model(
    model: str, path: str, base: str | None, heldout: Path | None, train: Path | None, output: Path
) -> None:
    """Measure a model on the configuration's held-out sources, as the workflow does, but without Flyte.

    The sources are read as they are now, unless --heldout gives the documents of an earlier run.
    """
    if train is not None and heldout is None:
        raise click.UsageError("--train needs --heldout. Give both, or neither.")
    check = functools.partial(input_problems, model=model, base=base, heldout=heldout, train=train, out=output)
    report = run_evaluation(load_config(path, check=check), model, base=base, heldout=heldout, train=train, out=output)
    print_text(f"{report_table(report)}\n\nreport:   {(output / 'report.html').resolve()}")


@main.command("verify")
@click.argument("folder", type=click.Path())
def verify_model(folder: str) -> None:
    """Verify a trained model again that failed its verification, in the FOLDER that the run's message names.

    The model and its adapter are loaded in a new process and scored on the same held-out text. If one is not the
    trained model, the message tells what differs, with exit code 2.
    """
    print_text(verification_text(folder))


@main.command("runs")
@click.option("--output", type=click.Path(path_type=Path), help="The output folder; default: FLYTE_LLAMA_OUTPUT.")
def print_runs(output: Path | None) -> None:
    """List the finished runs of the output folder, newest first: data, held-out bits per byte, and the change."""
    print_text(runs_text(output.resolve() if output else read_settings().output_folder))


@main.command("compare")
@click.argument("a", required=False)
@click.argument("b", required=False)
@click.option(
    "--output", type=click.Path(path_type=Path), help="The page; default: comparisons/A--B.html in the output folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON; the page needs --output then.")
def print_comparison(a: str | None, b: str | None, output: Path | None, as_json: bool) -> None:
    """Compare two runs: configuration, corpus, held-out text, FlyteEval items and completions.

    A and B are runs as `flyte-llama runs` lists them, folders of `flyte-llama evaluate`, or report.json files. Without
    B, A is compared with the newest run; without both, the two newest runs are compared.
    """
    check_page(output)
    root = read_settings().output_folder
    comparison = compare_runs(*open_both(a, b, root))
    if as_json:
        click.echo(comparison.model_dump_json(indent=2, ensure_ascii=True))
    else:
        print_text(comparison_text(comparison))
    if output is not None or not as_json:
        page = write_page(comparison, output, root)
        click.echo(f"\npage: {page}", err=as_json)


@main.command("why")
@click.argument("path")
@click.option("--run", help="A run's folder or its name in runs/; default: the newest run of the output folder.")
def explain_file(path: str, run: str | None) -> None:
    """Tell what became of a file of a run: kept, or dropped, why, and where its text is instead.

    PATH is a path in a repository, owner/name:path, or the URL of a file at its host.
    """
    print_text(explanation_text(path, run, read_settings().output_folder))


@main.command("clean")
@click.option("--keep", type=click.IntRange(0), help="Number of newest runs to keep; default: all.")
@click.option("--yes", is_flag=True, help="Remove without a question.")
def clean_output(keep: int | None, yes: bool) -> None:
    """List what takes room in the output folder, and remove what no run needs.

    Data folders that no kept run and no unfinished run used, damaged folders, and what killed processes left in the
    temporary folder. The output folder is FLYTE_LLAMA_OUTPUT, or `output`.
    """
    output = read_settings().output_folder
    if output.is_dir():
        lock_folder(output, what="Wait until that run ends.")
    items = stored_items(output, keep_runs=keep)
    print_text(items_table(items, output))
    if not any(not item.needed_by for item in items):
        return
    if yes or (sys.stdin.isatty() and click.confirm("Remove what no run needs?")):
        remove_items(items)
    else:
        click.echo("nothing was removed; --yes removes it")


def print_text(text: str) -> None:
    """Print a result to standard output; secrets are masked, and characters that cannot be seen are escapes."""
    click.echo(escape_invisible(mask_secrets(text)))


def _plan_problems(stages: Mapping[str, Any]) -> list[str]:
    """Return what a plan needs and this machine lacks: the config.json of a local model."""
    problems, model = language_problems(stages), stages.get("model")
    try:
        if model and model.is_local:
            model_shape(model)
    except ModelError as error:
        problems.append(error.message)
    return problems
