"""The comparison in a terminal: calm, short, and safe."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flyte_llama.runs import compare_runs, comparison_page, comparison_text, open_measured_run
from tests.conftest import document
from tests.report.foreign import HARMLESS, PAYLOADS, full_comparison, full_report, marked, read_html, replace_texts
from tests.runs.made_runs import HELDOUT, TRAIN, config, make_run


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("output")
    make_run(output, "first", bits=2.0, passed="a")
    make_run(output, "second", bits=1.9, passed="bc", experiment=config(training={"learning_rate": 1e-3}))
    return output


def text_of(output: Path, a: str, b: str) -> str:
    return comparison_text(compare_runs(open_measured_run(a, output), open_measured_run(b, output)))


def test_the_verdict_comes_before_what_explains_it(output: Path):
    text = text_of(output, "first", "second")
    parts = [
        "A  first, finished 2026-11-01 10:00 UTC",
        "B  second",
        "The B model is better than the A model.",
        "training.learning_rate  0.0002  0.001",
        "All 4 sources are the same in both.",
        "Both measured 12 held-out documents, and no others.",
        "FlyteEval, PSM: 2 items gained and 1 lost of 3; passed 1 → 2 (within chance).",
        "  gained  b",
        "  lost    a",
    ]
    assert sorted(parts, key=text.index) == parts


def test_the_same_model_twice_is_said_in_one_sentence_and_nothing_more(output: Path):
    text = text_of(output, "first", "first")
    assert "A and B have the same model and the same measurements of it." in text
    assert "change of" not in text
    assert "FlyteEval" not in text
    assert len(text.split("\n")) < 20


def test_many_differences_fit_in_about_60_lines_and_the_page_has_them_all(tmp_path: Path):
    urls = [f"https://example.com/o/{n}" for n in range(40)]
    more = [document(f"x = {n}\n" * 9, url=url, path=f"{n}.py") for url in urls for n in range(3)]
    changes = {"learning_rate": 1e-3, "epochs": 2, "seed": 1, "weight_decay": 0.5, "warmup_share": 0.1}
    experiment = config(
        training={**changes, "seq_len": 512, "global_batch_size": 7, "log_every_steps": 3, "keep_checkpoints": 7},
        objective={"kind": "fim", "rate": 0.5},
    )
    items = [f"item {n}" for n in range(40)]
    a, b = (
        make_run(
            tmp_path,
            name,
            heldout=[*HELDOUT, *more],
            train=[*TRAIN, *(document(f"{name} {n}\n", url=f"{url}/train") for n, url in enumerate(urls))],
            passed=passed,
            items=items,
            similarities=similarities,
            experiment=made_with,
        )
        for name, passed, similarities, made_with in (
            ("a", items[:20], [0.5] * 30, config()),
            ("b", items[20:], [0.1, 0.9] * 15, experiment),
        )
    )
    text = text_of(tmp_path, str(a), str(b))
    assert len(text.split("\n")) <= 66
    assert max(map(len, text.split("\n"))) <= 120
    page = comparison_page(compare_runs(open_measured_run("a", tmp_path), open_measured_run("b", tmp_path)))
    shown = read_html(page).text
    assert all(item in shown for item in items)
    assert all(f"o/{n}/train" in shown for n in range(40))


def test_what_was_removed_is_said_at_the_end(output: Path, tmp_path: Path):
    copy = Path(shutil.copytree(output, tmp_path / "copy", symlinks=True))
    shutil.rmtree(copy / "data/tuned_scores-first")
    text = text_of(copy, "first", "second")
    assert "The models of A and B are not compared." in text
    assert text.rpartition("\n\n")[2].startswith("A: its measurements cannot be read")


@pytest.mark.parametrize("payload", PAYLOADS[-4:])
def test_text_of_others_moves_no_cursor_and_adds_no_table(tmp_path: Path, payload: str):
    comparison = full_comparison(full_report(tmp_path, names=("A", "B")))
    texts = [comparison_text(replace_texts(comparison, marked(text))).split("\n") for text in (payload, HARMLESS)]
    assert all(line.isprintable() for line in texts[0])
    rules = [sum(set(line) == {"-"} for line in lines) for lines in texts]
    assert rules[0] == rules[1]
