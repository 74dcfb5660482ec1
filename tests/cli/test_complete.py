"""`flyte-llama complete` writes what a model writes at the cursor, and says how it reads the text."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flyte_llama.cli import main
from flyte_llama.cli.complete import place_side_by_side, read_cursor
from flyte_llama.serving import CompletionRequest, find_model, open_completer
from tests.model.bases import hub_folder
from tests.serving.test_named import store_run

PREFIX, SUFFIX = "def add(a, b):\n    return ", "\n\nprint(add(1, 2))\n"


@pytest.fixture(autouse=True)
def output(tmp_path: Path, all_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder with one run, whose model infills and whose base does not."""
    output = tmp_path / "output"
    monkeypatch.setenv("FLYTE_LLAMA_OUTPUT", str(output))
    store_run(output, hub_folder(all_base, tmp_path / "model"), all_base)
    return output


def complete(*arguments: object, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(main, ["complete", "--max-tokens", "12", *map(str, arguments)], input=stdin)


def expected(output: Path, prefix: str, suffix: str = "") -> str:
    request = CompletionRequest(prefix, suffix, max_tokens=12)
    return open_completer(find_model(None, output)).complete(request).text


def test_an_argument_standard_input_and_a_file_are_completed_alike(output: Path, tmp_path: Path):
    (tmp_path / "a.py").write_text(PREFIX)
    ways = [
        complete(PREFIX),
        complete("-", stdin=PREFIX),
        complete(stdin=PREFIX),
        complete("--file", tmp_path / "a.py"),
    ]
    assert [way.stdout for way in ways] == [expected(output, PREFIX)] * 4
    assert "left to right" in ways[0].stderr


def test_text_after_the_cursor_is_read_by_a_model_that_infills(output: Path, tmp_path: Path):
    (tmp_path / "a.py").write_text(PREFIX + SUFFIX)
    result = complete("--file", tmp_path / "a.py", "--line", 2, "--column", 12)
    assert result.stdout == expected(output, PREFIX, SUFFIX)
    assert "infilling, between the text before and after the cursor" in result.stderr


def test_a_model_that_does_not_infill_reads_the_text_before_and_says_so(output: Path, tiny_base: Path, tmp_path: Path):
    (tmp_path / "a.py").write_text(PREFIX + SUFFIX)
    store_run(output, hub_folder(tiny_base, tmp_path / "plain"), tiny_base, name="plain")
    result = complete("--file", tmp_path / "a.py", "--line", 2)
    assert result.stdout == expected(output, PREFIX)
    assert "left to right, since it was not trained to infill" in result.stderr


@pytest.mark.parametrize(
    ("line", "column", "prefix"),
    [(1, 1, ""), (1, 3, "ab"), (1, None, "ab"), (2, 1, "ab\r\n"), (2, 2, "ab\r\nc"), (3, 1, "ab\r\nc\n")],
)
def test_lines_and_columns_are_counted_from_1(tmp_path: Path, line: int, column: int | None, prefix: str):
    (tmp_path / "a.py").write_bytes(b"ab\r\nc\n")
    assert read_cursor(None, tmp_path / "a.py", line, column) == (prefix, "ab\r\nc\n"[len(prefix) :])


def test_a_byte_order_mark_is_no_column(tmp_path: Path):
    (tmp_path / "a.py").write_bytes(b"\xef\xbb\xbfab\n")
    assert read_cursor(None, tmp_path / "a.py", 1, 2) == ("a", "b\n")


def test_the_base_is_shown_too(output: Path):
    result = complete(PREFIX, "--base")
    name = find_model(None, output).name
    assert result.stdout.startswith(f"base of {name}:\n")
    assert result.stdout.endswith(f"{name}:\n{expected(output, PREFIX)}\n")


def test_another_model_is_shown_too(output: Path, tiny_base: Path, tmp_path: Path):
    other = hub_folder(tiny_base, tmp_path / "other")
    assert complete(PREFIX, "--base-model", other).stdout.startswith(f"{other}:\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--file", "b.py"], "PREFIX and --file both give the text."),
        (["a", "--line", "1"], "--line needs --file"),
        (["--file", "a.py", "--column", "1"], "--column needs --line"),
        (["a", "--base", "--base-model", "b"], "--base and --base-model both name the other model."),
        (["--file", "nowhere.py"], "nowhere.py: cannot be read (No such file or directory)."),
        (["--file", "latin.py"], "latin.py: is not UTF-8 at byte 1."),
        (["--file", "a.py", "--line", "4"], "--line 4: a.py has 3 lines. Give a line from 1 to 3."),
        (["--file", "a.py", "--line", "1", "--column", "4"], "line 1 of a.py has 2 characters. Give at most 3."),
        (["a", "--model", "nonsense"], "nonsense: is no run of"),
        (["def \udcff"], "PREFIX: is not UTF-8 at character 5."),
        (["a", "--stop", "\udcff"], "--stop: is not UTF-8 at character 1."),
        (["a", "--top-p", "0"], "0.0 is not in the range"),
        (["a", "--top-p", "nan"], "nan is not a number."),
        (["a", "--temperature", "nan"], "nan is not a number."),
        (["a", "--max-tokens", "0"], "0 is not in the range"),
    ],
)
def test_bad_input_is_one_message_with_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text("ab\nc\n")
    Path("latin.py").write_bytes(b"a\xfc")
    result = complete(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())
    assert "loading" not in result.stderr


def test_two_texts_are_two_columns_of_a_terminal():
    texts = [("base", "a = 1\n" + "x" * 40), ("tuned", "b\t= \x1b[31m2\n\nc")]
    lines = place_side_by_side(texts, width=63).splitlines()
    assert lines == [
        f"{'base':<30} │ tuned",
        f"{'':<30} │",
        f"{'a = 1':<30} │ b   = \\x1b[31m2",
        f"{'x' * 30} │",
        f"{'x' * 10:<30} │ c",
    ]


def test_without_room_one_text_is_below_the_other():
    assert place_side_by_side([("base", "a"), ("tuned", "b")], width=0) == "base:\na\n\ntuned:\nb"


@pytest.mark.slow
def test_ctrl_c_ends_a_completion_on_a_terminal_and_nothing_moves_its_cursor(tmp_path: Path):
    # A model that writes control characters: the real one samples them now and then.
    program = (
        "import sys, time\n"
        "from flyte_llama.serving import Completer\n"
        "def complete(self, request, show, **_):\n"
        "    show('a\\x1b[2Jb\\r'); print('written', file=sys.stderr, flush=True); time.sleep(60)\n"
        "Completer.complete = complete\n"
        "from flyte_llama.cli import main\n"
        "main()"
    )
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, "complete", "def "], stdout=end, stderr=subprocess.PIPE, text=True
    )
    os.close(end)
    assert process.stderr is not None
    assert any(line == "written\n" for line in iter(process.stderr.readline, ""))
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    assert process.stderr.read().strip() == "interrupted"
    assert process.wait(10) == 130
    assert time.monotonic() - start < 6
    assert os.read(terminal, 100) == b"a\\x1b[2Jb\\r"
    os.close(terminal)
