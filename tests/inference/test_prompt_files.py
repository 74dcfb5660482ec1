"""Files of prompts are completed line by line, and a bad line is named before anything is completed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from flyte_llama.config import PromptsConfig
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.errors import DataError
from flyte_llama.inference.prompt_files import (
    FilePrompt,
    complete_all,
    join_completed,
    read_prompt_files,
    read_prompts_of_shard,
    split_prompts,
    write_completed,
    write_prompts,
)
from flyte_llama.inference.prompts import PSM, SPM
from flyte_llama.model import load_model

PROMPTS = [
    FilePrompt("a.jsonl", "one", "def add(a, b):\n", None),
    FilePrompt("a.jsonl", "two", "def add(a, b):\n", "\n\nprint(add(1, 2))\n"),
    FilePrompt("in/b.jsonl", "in/b.jsonl:1", "x = \N{LINE SEPARATOR}", None),
]


def write_lines(path: Path, lines: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))


def complete(
    folder: Path, prompts: Sequence[FilePrompt], layout: str | None = None, **options: Any
) -> list[dict[str, Any]]:
    model, tokenizer = load_model(folder, dtype=torch.float32), DocumentTokenizer(folder)
    config = PromptsConfig(max_new_tokens=8, batch_tokens=1000, precision="fp32", **options)
    return list(complete_all(model, tokenizer, prompts, config, layout=layout, identity="sha256:1"))


def test_prompts_are_read_by_file_and_line(tmp_path: Path):
    write_lines(tmp_path / "in/b.jsonl", [{"id": None, "prefix": PROMPTS[2].prefix}])
    given = [{"id": "one", "prefix": PROMPTS[0].prefix, "suffix": None}, " "]
    write_lines(tmp_path / "a.jsonl", [*given, {"suffix": PROMPTS[1].suffix, "id": "two", "prefix": PROMPTS[1].prefix}])
    (tmp_path / "README.md").write_text("no prompts")
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "._a.jsonl").write_bytes(b"\x00\x05\x16\x07\xff")
    assert read_prompt_files(tmp_path) == PROMPTS


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prefix": "a"', "is not JSON (Expecting ',' delimiter, column 15). Write each prompt on one line."),
        ('"a"', 'is not an object. Write {"prefix": …}.'),
        ('{"suffix": "a"}', "prefix: is missing. Add the text before the completion, which may be empty."),
        ('{"prefix": 3}', "prefix = 3: is not a text. Write it in quotes."),
        ('{"prefix": "a", "sufix": "b"}', "sufix: unknown field. Did you mean suffix?"),
        ('{"prefix": "a", "id": "ok"}', "id = 'ok': is also that of a.jsonl, line 1. Give each its own."),
        ('{"prefix": "\\ud800"}', "prefix: has half of a character (a lone surrogate). Write the whole character."),
        ('{"prefix": "a", "suffix": 0}', "suffix = 0: is not a text. Write it in quotes."),
        ('{"prefix": "a", "suffix": false}', "suffix = false: is not a text. Write it in quotes."),
        ('{"prefix": "a", "suffix": []}', "suffix = []: is not a text. Write it in quotes."),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_line_that_is_no_prompt_is_named_by_file_and_line(line: str, reason: str, tmp_path: Path):
    write_lines(tmp_path / "a.jsonl", ['{"prefix": "", "id": "ok"}', "", line])
    with pytest.raises(DataError, match="1 problem; nothing was completed") as raised:
        read_prompt_files(tmp_path)
    assert f"- a.jsonl, line 3: {reason}" in raised.value.message


def test_all_bad_lines_are_listed_at_once_up_to_a_limit(tmp_path: Path):
    write_lines(tmp_path / "a.jsonl", ["{}"] * 30)
    (tmp_path / "b.jsonl").write_bytes(b'{"prefix": "\xff"}')
    with pytest.raises(DataError, match="31 problems") as raised:
        read_prompt_files(tmp_path)
    assert len(raised.value.message.splitlines()) == 22
    assert raised.value.message.endswith("- and 11 more.")


def test_a_folder_without_prompts_is_refused(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"prefix": "a"}')
    with pytest.raises(DataError, match=r"holds no prompts\. Give a folder with files \*\.jsonl"):
        read_prompt_files(tmp_path)


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 50])
def test_shards_hold_each_prompt_once_in_order_and_none_is_empty(shards: int, tmp_path: Path):
    prompts = [FilePrompt("a.jsonl", str(n), f"\N{LINE SEPARATOR}{n}\r\n", None) for n in range(7)]
    parts = split_prompts(prompts, shards)
    assert [prompt for part in parts for prompt in part] == prompts
    assert len(parts) == min(shards, 7)
    assert {len(part) for part in parts} <= {7 // len(parts), 7 // len(parts) + 1}
    write_prompts(tmp_path, prompts)
    assert read_prompts_of_shard(tmp_path) == prompts


def test_a_suffix_is_shown_to_a_model_that_infills_and_the_layout_says_so(all_base: Path):
    prompts = [*PROMPTS, PROMPTS[0]._replace(id="empty", suffix="")]
    orders = {layout: [line["layout"] for line in complete(all_base, prompts, layout=layout)] for layout in (PSM, SPM)}
    assert orders == {layout: ["left-to-right", layout, "left-to-right", "left-to-right"] for layout in (PSM, SPM)}
    lines = complete(all_base, PROMPTS, layout=PSM)
    assert {name: lines[1][name] for name in ("file", "id", "prefix", "suffix")} == PROMPTS[1]._asdict()
    assert "suffix" not in lines[0]
    assert all(line["model"] == "sha256:1" and line["num_tokens"] <= 8 for line in lines)


def test_any_control_token_ends_a_completion(all_base: Path, monkeypatch: pytest.MonkeyPatch):
    model, tokenizer = load_model(all_base, dtype=torch.float32), DocumentTokenizer(all_base)
    control_id = max(tokenizer.control_ids - tokenizer.stop_ids)
    forward = model.forward

    def forward_to_control_token(**arguments: Any) -> Any:
        output = forward(**arguments)
        output.logits[..., control_id] = 1000.0
        return output

    monkeypatch.setattr(model, "forward", forward_to_control_token)
    (line,) = complete_all(model, tokenizer, PROMPTS[:1], PromptsConfig(), layout=None, identity="sha256:1")
    assert (line["completion"], line["stopped"]) == ("", True)


def test_a_model_without_infill_tokens_sees_the_prefix_alone_and_one_line_says_so(
    tiny_base: Path, capsys: pytest.CaptureFixture[str]
):
    first, second, _ = complete(tiny_base, PROMPTS)
    assert first["completion"] == second["completion"]
    assert second["layout"] == "left-to-right"
    assert "the suffix of 1 of 3 prompts is not shown to it" in capsys.readouterr().err


def test_samples_depend_on_seed_and_id_alone_not_on_shards(tiny_base: Path):
    options = {"temperature": 2.0, "samples": 2}
    together = complete(tiny_base, PROMPTS, **options)
    assert together == [line for prompt in PROMPTS for line in complete(tiny_base, [prompt], **options)]
    assert [line["sample"] for line in together] == [0, 1] * 3
    assert len({line["completion"] for line in together}) == 6
    other = complete(tiny_base, PROMPTS, seed=1, **options)
    assert all(line["completion"] != again["completion"] for line, again in zip(together, other, strict=True))


def test_a_window_beyond_the_models_is_its_own(tiny_base: Path):
    long = FilePrompt("a.jsonl", "long", "a line\n" * 500, None)
    (line,) = complete(tiny_base, [long], window=100_000)
    assert line["num_tokens"] <= 8


def test_completions_of_shards_are_joined_in_the_files_of_their_prompts(tmp_path: Path):
    lines = [{"file": file, "id": str(n), "completion": "\N{LINE SEPARATOR}"} for n, file in enumerate("aab")]
    write_completed(tmp_path, lines[:1])
    (tmp_path / "next").mkdir()
    write_completed(tmp_path / "next", lines[1:])
    assert join_completed([tmp_path, tmp_path / "next"], tmp_path / "out") == 3
    found = {path.name: path.read_text().split("\n") for path in (tmp_path / "out").iterdir()}
    assert {name: [json.loads(line)["id"] for line in text if line] for name, text in found.items()} == {
        "a": ["0", "1"],
        "b": ["2"],
    }
