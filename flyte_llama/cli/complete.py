"""The command `flyte-llama complete`: the text that a model writes at a cursor, shown as it is written."""

from __future__ import annotations

import itertools
import math
import shutil
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import click

from flyte_llama.errors import DataError
from flyte_llama.progress import say
from flyte_llama.redaction import escape_invisible
from flyte_llama.serving import Completer, CompletionRequest, NamedModel, find_base, find_model, open_completer
from flyte_llama.settings import read_settings

MODEL_HELP = "A run, a folder in the hub's format, a hub id, or id@revision; default: the newest run."

_GAP = " │ "
_NARROWEST = 60
"""With fewer columns, two texts stand below each other."""


class _NumberRange(click.FloatRange):
    """Numbers in a range; click's lets NaN through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


@click.command("complete")
@click.argument("prefix", required=False)
@click.option("--file", type=click.Path(path_type=Path), help="A file, in place of PREFIX.")
@click.option("--line", type=click.IntRange(1), help="Line of the cursor in the file, from 1; default: its end.")
@click.option("--column", type=click.IntRange(1), help="Column of the cursor, from 1; default: the end of the line.")
@click.option("--model", help=MODEL_HELP)
@click.option("--base", "with_base", is_flag=True, help="Show beside it what the base of the run writes.")
@click.option("--base-model", "base", help="Show beside it what this model writes.")
@click.option("--max-tokens", type=click.IntRange(1), default=64, show_default=True)
@click.option("--temperature", type=_NumberRange(0, 2), default=0.0, help="Above 0, tokens are sampled.")
@click.option("--top-p", type=_NumberRange(0, 1, min_open=True), default=1.0, help="Share to sample from.")
@click.option("--seed", type=click.IntRange(0), help="Seed for sampling; default: a new one each time.")
@click.option("--stop", multiple=True, help="End before this text; may be repeated.")
def complete_prefix(
    prefix: str | None,
    file: Path | None,
    line: int | None,
    column: int | None,
    model: str | None,
    with_base: bool,
    base: str | None,
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int | None,
    stop: tuple[str, ...],
) -> None:
    """Complete a text with a trained model: a PREFIX, standard input (-), or a file up to a cursor.

    If text follows the cursor and the model was trained to infill, it reads both sides. A line on standard error says
    which it does. Ctrl-C ends it.
    """
    if with_base and base is not None:
        raise click.UsageError("--base and --base-model both name the other model. Use only one of them.")
    for text in stop:
        _check_utf8(text, "--stop")
    before, after = read_cursor(prefix, file, line, column)
    request = CompletionRequest(before, after, max_tokens, temperature, top_p, seed, stop)
    complete_text(request, model=model, with_base=with_base, base=base)


def read_cursor(prefix: str | None, file: Path | None, line: int | None, column: int | None) -> tuple[str, str]:
    """Return the text before and after the cursor: of an argument, of standard input or of a file.

    Args:
        prefix: The text itself; `-`, or None without a file, is standard input.
        line: Line of the cursor in the file, from 1; None is the end of the file.
        column: Its column, from 1, which is before the first character; None is the end of the line.

    Raises:
        UsageError: if there is not exactly one text.
        DataError: if the text cannot be read as UTF-8, or has no such line or column.
    """
    if prefix is not None and file is not None:
        raise click.UsageError("PREFIX and --file both give the text. Use only one of them.")
    if (line is not None and file is None) or (column is not None and line is None):
        raise click.UsageError("--line needs --file, and --column needs --line.")
    if file is not None:
        return _split_at(_read_file(file), file, line, column)
    if prefix is None and sys.stdin.isatty():
        raise click.UsageError("There is nothing to complete. Give a PREFIX, --file FILE, or a text on standard input.")
    if prefix is None or prefix == "-":
        return _read_stdin(), ""
    _check_utf8(prefix, "PREFIX")
    return prefix, ""


def complete_text(request: CompletionRequest, *, model: str | None, with_base: bool, base: str | None) -> None:
    """Write what a model, and perhaps its base, writes at the cursor to standard output.

    Args:
        model: A run, a folder or a hub id; None is the newest run.
        with_base: Show what the base of the run writes too.
        base: Show what this model writes too.
    """
    output = read_settings().output_folder
    named = find_model(model, output)
    other = find_model(base, output) if base is not None else find_base(named) if with_base else None
    if other is None:
        _complete(named, request, is_shown=True)
        return
    texts = [(each.name, _complete(each, request, is_shown=False)) for each in (other, named)]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    click.echo(escape_invisible(place_side_by_side(texts, width=width)))


def place_side_by_side(texts: list[tuple[str, str]], *, width: int) -> str:
    """Return two texts with their titles as two columns, or below each other if `width` is small.

    Args:
        width: Columns of the terminal; 0 if there is none.
    """
    if width < _NARROWEST:
        return "\n\n".join(f"{title}:\n{text}" for title, text in texts)
    column = (width - len(_GAP)) // 2
    wrapped = [
        [part for line in (title, "", *text.expandtabs(4).splitlines()) for part in _wrap(line, column)]
        for title, text in texts
    ]
    rows = itertools.zip_longest(*wrapped, fillvalue="")
    return "\n".join(f"{left:<{column}}{_GAP}{right}".rstrip() for left, right in rows)


def _wrap(line: str, width: int) -> list[str]:
    return textwrap.wrap(escape_invisible(line), width, drop_whitespace=False, replace_whitespace=False) or [""]


def _complete(named: NamedModel, request: CompletionRequest, *, is_shown: bool) -> str:
    say(f"{named.name}: loading")
    completer = open_completer(named)
    say(f"{named.name}: {_describe_way(completer, request)}")
    is_terminal = sys.stdout.isatty()

    def show(text: str) -> None:
        # A file or a program gets the text as it is.
        sys.stdout.write(escape_invisible(text) if is_terminal else text)
        sys.stdout.flush()

    start = time.monotonic()
    completion = completer.complete(request, show=show if is_shown else lambda text: None)
    if is_shown and is_terminal and not completion.text.endswith("\n"):
        sys.stdout.write("\n")
        sys.stdout.flush()
    counts = f"read {completion.num_prompt_tokens} tokens, wrote {completion.num_tokens}"
    end = "; the limit of tokens ended it" if completion.finish_reason == "length" else ""
    say(f"{named.name}: {counts} in {time.monotonic() - start:.1f} s{end}")
    return completion.text


def _describe_way(completer: Completer, request: CompletionRequest) -> str:
    """How the model reads the text, and why."""
    if not request.suffix:
        return "left to right"
    if completer.infills:
        return "infilling, between the text before and after the cursor"
    return "left to right, since it was not trained to infill: what follows the cursor is not read"


def _check_utf8(text: str, name: str) -> None:
    try:
        text.encode()  # Python reads bytes of an argument that are not UTF-8 as halves of surrogate pairs
    except UnicodeEncodeError as error:
        raise DataError(f"{name}: is not UTF-8 at character {error.start + 1:,}. Convert it first.") from None


def _read_file(file: Path) -> str:
    try:
        # Without a byte order mark and a conversion of line ends, so that the cursor is where an editor has it.
        return file.expanduser().read_bytes().decode().removeprefix("\ufeff")
    except OSError as error:
        raise DataError(f"--file {file}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise DataError(f"--file {file}: is not UTF-8 at byte {error.start:,}. Convert it first.") from None


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise DataError(f"standard input: is not UTF-8 at byte {error.start:,}. Convert it first.") from None


def _split_at(text: str, file: Path, line: int | None, column: int | None) -> tuple[str, str]:
    if line is None:
        return text, ""
    lines = text.split("\n")
    if line > len(lines):
        raise DataError(f"--line {line}: {file} has {len(lines)} lines. Give a line from 1 to {len(lines)}.")
    here = lines[line - 1].removesuffix("\r")
    if column is not None and column > len(here) + 1:
        raise DataError(
            f"--column {column}: line {line} of {file} has {len(here)} characters. Give at most {len(here) + 1}."
        )
    at = sum(len(each) + 1 for each in lines[: line - 1]) + (len(here) if column is None else column - 1)
    return text[:at], text[at:]
