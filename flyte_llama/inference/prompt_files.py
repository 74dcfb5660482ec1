"""Files of prompts → files of completions, as JSON lines.

    prompts/a.jsonl        {"id": "add", "prefix": "def add(a, b):\n", "suffix": "\n\nprint(add(1, 2))\n"}
    completions/a.jsonl    the same, with sample, completion, stopped, num_tokens, layout and model

A prompt with a suffix is infilled, if the model infills; otherwise the model sees the prefix alone, and `layout` says
so. Reads all files before it completes any, and lists all that is wrong in one message.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flyte_llama.config import PromptsConfig
from flyte_llama.config.stage import hint
from flyte_llama.documents import draw
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.errors import DataError
from flyte_llama.inference.gaps import Gap, choose_layout, fill_gaps
from flyte_llama.progress import say

SHARD = "prompts.jsonl"
"""The file of a shard's prompts."""

COMPLETED = "completions.jsonl"
"""The file of a shard's completions."""

_FIELDS = ("id", "prefix", "suffix")
_SHOWN = 20
"""The most problems that are listed."""


class FilePrompt(NamedTuple):
    """A prompt of a file."""

    file: str
    """The path of its file in the folder."""

    id: str
    """The one given, or `FILE:LINE`; unique in the folder."""

    prefix: str
    suffix: str | None
    """The text after the completion; None or empty if there is none to show."""


def read_prompt_files(folder: Path) -> list[FilePrompt]:
    """Return the prompts of all `*.jsonl` files of a folder, by file and line.

    Other files and blank lines are left, and so is what has a name that begins with a dot, as systems' own files do.

    Raises:
        DataError: names every line that is no prompt, by file and line; also if there are no prompts.
    """
    prompts: list[FilePrompt] = []
    problems: list[str] = []
    first: dict[str, str] = {}
    for path in sorted(folder.rglob("*.jsonl")):
        file = path.relative_to(folder).as_posix()
        if not path.is_file() or any(part.startswith(".") for part in file.split("/")):
            continue
        for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                prompt = _parse(line, file, number)
                if prompt.id in first:
                    raise ValueError(f"id = {prompt.id!r}: is also that of {first[prompt.id]}. Give each its own.")
                first[prompt.id] = f"{file}, line {number}"
                prompts.append(prompt)
            except ValueError as error:
                problems.append(f"{file}, line {number}: {error}")
    if problems:
        more = [f"and {len(problems) - _SHOWN:,} more."] if len(problems) > _SHOWN else []
        count = f"{len(problems):,} problem{'s' if len(problems) > 1 else ''}"
        raise DataError("\n  - ".join([f"{folder}: {count}; nothing was completed:", *problems[:_SHOWN], *more]))
    if not prompts:
        raise DataError(
            f'{folder}: holds no prompts. Give a folder with files *.jsonl, each line such as {{"prefix": "def "}}.'
        )
    return prompts


def split_prompts(prompts: Sequence[FilePrompt], shards: int) -> list[Sequence[FilePrompt]]:
    """Divide prompts into at most `shards` runs of equal length, give or take one, in order; none is empty."""
    count = min(shards, len(prompts))
    return [prompts[len(prompts) * n // count : len(prompts) * (n + 1) // count] for n in range(count)]


def write_prompts(folder: Path, prompts: Iterable[FilePrompt]) -> None:
    """Write the prompts of one shard."""
    _write_lines(folder / SHARD, (prompt._asdict() for prompt in prompts))


def read_prompts_of_shard(folder: Path) -> list[FilePrompt]:
    """The prompts that `write_prompts` wrote."""
    return [FilePrompt(**line) for line in _read_lines(folder / SHARD)]


def complete_all(
    model: Any,
    tokenizer: DocumentTokenizer,
    prompts: Sequence[FilePrompt],
    config: PromptsConfig,
    *,
    layout: str | None,
    identity: str,
) -> Iterator[dict[str, Any]]:
    """Yield the completions of prompts, in order, each with its prompt, as the lines of `write_completed`.

    Args:
        layout: Of prompts with a suffix, PSM or SPM; None for a model that does not infill.
        identity: What each line records of the model: its revision.

    Raises:
        EvaluationError: if the model gives logits that are not finite.
    """
    unseen = sum(bool(prompt.suffix) for prompt in prompts) if layout is None else 0
    if unseen:
        say(f"the model does not infill: the suffix of {unseen:,} of {len(prompts):,} prompts is not shown to it")
    requests = [(prompt, sample) for prompt in prompts for sample in range(config.samples)]
    gaps = [
        Gap(
            prompt.prefix,
            prompt.suffix or "",
            choose_layout(layout, prompt.suffix),
            seed=int.from_bytes(draw(config.seed, prompt.id, sample)[:8], "big"),
        )
        for prompt, sample in requests
    ]
    longest = getattr(model.config, "max_position_embeddings", None) or config.window
    fillings = fill_gaps(
        model,
        tokenizer,
        gaps,
        window=min(config.window, longest),
        max_new_tokens=config.max_new_tokens,
        batch_tokens=config.batch_tokens,
        temperature=config.temperature,
        # No control token is text, so each ends the completion.
        stop_ids=tokenizer.stop_ids | tokenizer.control_ids,
        what="completing",
    )
    for (prompt, sample), gap, filling in zip(requests, gaps, fillings, strict=True):
        asked = {name: value for name, value in prompt._asdict().items() if value is not None}
        made = {"sample": sample, "completion": filling.text, "stopped": filling.stopped}
        yield {**asked, **made, "num_tokens": filling.num_tokens, "layout": gap.layout, "model": identity}


def write_completed(folder: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write the completions of one shard."""
    _write_lines(folder / COMPLETED, lines)


def join_completed(parts: Iterable[Path], folder: Path) -> int:
    """Write the completions of all shards to the files that their prompts came from, and return their number."""
    counts = Counter[str]()
    for part in parts:
        by_file: dict[str, list[dict[str, Any]]] = {}
        for line in _read_lines(part / COMPLETED):
            by_file.setdefault(line.pop("file"), []).append(line)
        for file, lines in by_file.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            _write_lines(folder / file, lines, append=file in counts)
            counts[file] += len(lines)
    return counts.total()


def _parse(line: bytes, file: str, number: int) -> FilePrompt:
    """The prompt of a line; ValueError says why it is none."""
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8. Save the file as UTF-8.") from None
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise ValueError(f"is not JSON ({reason}). Write each prompt on one line.") from None
    if not isinstance(fields, dict):
        raise ValueError('is not an object. Write {"prefix": …}.')
    if unknown := [name for name in fields if name not in _FIELDS]:
        advice = hint(unknown[0], _FIELDS, otherwise=f"Known fields: {', '.join(_FIELDS)}.")
        raise ValueError(f"{unknown[0]}: unknown field. {advice}")
    if "prefix" not in fields:
        raise ValueError("prefix: is missing. Add the text before the completion, which may be empty.")
    given = {name: value for name, value in fields.items() if name == "prefix" or value is not None}
    for name, value in given.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} = {json.dumps(value)[:60]}: is not a text. Write it in quotes.")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{name}: has half of a character (a lone surrogate). Write the whole character."
            ) from None
    return FilePrompt(file, given.get("id", f"{file}:{number}"), given["prefix"], given.get("suffix"))


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)


def _write_lines(path: Path, lines: Iterable[Mapping[str, Any]], *, append: bool = False) -> None:
    with path.open("a" if append else "w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
