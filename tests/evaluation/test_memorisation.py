"""Memorisation is measured on all languages and kinds that both sides have, however few documents each has."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from flyte_llama.documents import write_documents
from flyte_llama.evaluation import align_scores, find_comparable, measure_memorisation
from flyte_llama.evaluation.scores import DocumentScore
from flyte_llama.evaluation.suite import choose_suite
from tests.conftest import document, lines_of, words_of
from tests.evaluation.test_comparison import documents, improve

LN2 = math.log(2)
GAINS = {"python source": 0.1, "python test": 0.5, "markdown docs": 0.3, "yaml config": 0.8}
"""Bits per byte that each language and kind gains, on both sides."""

Counts = Mapping[str, Mapping[str, int]]
"""Side → language and kind → number of documents."""

FEW: Counts = {
    "train": {"python source": 6, "python test": 12},
    "heldout": {"python source": 9, "python test": 5},
}
OTHER_MIX: Counts = {
    "train": {"python source": 3, "python test": 9, "markdown docs": 1, "yaml config": 2},
    "heldout": {"python source": 12, "python test": 2, "markdown docs": 3, "yaml config": 1},
}
LARGE_AND_SMALL: Counts = {
    "train": {"python source": 40, "python test": 10, "markdown docs": 3},
    "heldout": {"python source": 30, "python test": 25, "markdown docs": 10},
}


def of_cell(role: str, cell: str, count: int, *, seed: int = 0, **facts: object) -> list[DocumentScore]:
    language, kind = cell.split()
    scores = documents(count, role=role, language=language, kind=kind, seed=seed, **facts)
    return [replace(score, path=f"{cell}/{score.path}") for score in scores]


def draw_scores(counts: Counts, *, extra: float, seed: int) -> dict[str, list[DocumentScore]]:
    """Scores where each document gains about as much as its language and kind does, and train gains `extra` more."""
    rng = random.Random(seed)  # noqa: S311  # no secret
    base, tuned = [], []
    for role, cells in counts.items():
        for cell, count in cells.items():
            for score in of_cell(role, cell, count, seed=rng.randrange(2**30)):
                gain = GAINS[cell] + (extra if role == "train" else 0) + rng.gauss(0, 0.15)
                base.append(score)
                tuned.append(replace(score, nats=score.nats - gain * score.num_bytes * LN2))
    return {"base": base, "fine-tuned": tuned}


def test_each_language_and_kind_weighs_as_much_on_the_train_side_as_on_the_held_out_side():
    # Held out: 1800 bytes of source and 600 of tests, so source weighs 0.75 on both sides.
    sides = [("train", 6, 100, 0.3, 4, 300, 0.7), ("heldout", 9, 200, 0.2, 5, 120, 0.5)]
    base, tuned = [], []
    for role, sources, source_bytes, source_gain, tests, test_bytes, test_gain in sides:
        for cell, count, num_bytes, gain in (
            ("python source", sources, source_bytes, source_gain),
            ("python test", tests, test_bytes, test_gain),
        ):
            before = of_cell(role, cell, count, num_bytes=num_bytes, nats=2 * LN2 * num_bytes)
            base += before
            tuned += [replace(score, nats=(2 - gain) * LN2 * num_bytes) for score in before]
    memorisation = measure_memorisation(align_scores({"base": base, "fine-tuned": tuned}), replicates=500)
    (gain,) = memorisation.extra_gains
    assert gain.train == pytest.approx(0.75 * 0.3 + 0.25 * 0.7)
    assert gain.heldout == pytest.approx(0.75 * 0.2 + 0.25 * 0.5)
    assert gain.difference == pytest.approx(0.125)
    assert memorisation.train == pytest.approx([2, 2 - gain.train])
    assert (memorisation.num_train, memorisation.num_heldout) == (10, 14)
    assert (memorisation.train_bytes, memorisation.heldout_bytes) == (6 * 100 + 4 * 300, 2400)
    assert memorisation.of == ["python source", "python test"]


@pytest.mark.parametrize("counts", [FEW, OTHER_MIX, LARGE_AND_SMALL], ids=["few", "other mix", "large and small"])
@pytest.mark.parametrize("extra", [0.0, 0.1])
def test_the_difference_is_unbiased_and_its_interval_covers_it_whatever_the_mix_of_the_sides(
    counts: Counts, extra: float
):
    # The sides differ in mix and kinds differ in gain, so an average without weights is far off.
    differences, covered, unweighted = [], 0, []
    for seed in range(200):
        scores = align_scores(draw_scores(counts, extra=extra, seed=seed))
        memorisation = measure_memorisation(scores, replicates=300, seed=seed)
        if memorisation is None:
            continue  # a document happened to outweigh all others of its side
        (gain,) = memorisation.extra_gains
        differences.append(gain.difference)
        covered += gain.interval.low <= extra <= gain.interval.high
        unweighted.append(plain_gain(scores, "train") - plain_gain(scores, "heldout"))
    count = len(differences)
    assert count > 150
    mean = math.fsum(differences) / count
    error = math.sqrt(math.fsum((each - mean) ** 2 for each in differences) / (count - 1) / count)
    assert abs(mean - extra) < 3 * error
    assert covered >= 0.95 * count
    assert abs(math.fsum(unweighted) / count - extra) > 5 * error


def plain_gain(scores: Mapping[str, list[DocumentScore]], role: str) -> float:
    base, tuned = ([score for score in scores[name] if score.role == role] for name in ("base", "fine-tuned"))
    saved = math.fsum(before.nats - after.nats for before, after in zip(base, tuned, strict=True))
    return saved / (LN2 * sum(score.num_bytes for score in base))


def test_a_kind_that_only_one_side_has_changes_nothing():
    scores = draw_scores(FEW, extra=0.1, seed=1)
    others = of_cell("train", "go source", 20) + of_cell("heldout", "rust source", 20)
    more = {"base": scores["base"] + others, "fine-tuned": scores["fine-tuned"] + improve(others, 0.9)}
    assert measure_memorisation(align_scores(more)) == measure_memorisation(align_scores(scores))
    comparable = find_comparable(align_scores(more))
    assert (comparable.num_train, comparable.measured_train) == (18, 38)
    assert (comparable.num_heldout, comparable.measured_heldout) == (14, 34)


@pytest.mark.parametrize(("num_train", "num_heldout", "is_enough"), [(9, 14, False), (10, 9, False), (10, 10, True)])
def test_both_sides_need_ten_documents_in_all(num_train: int, num_heldout: int, is_enough: bool):
    counts = {
        "train": {"python source": 5, "python test": num_train - 5},
        "heldout": {"python source": 4, "python test": num_heldout - 4},
    }
    scores = align_scores(draw_scores(counts, extra=0.0, seed=2))
    assert find_comparable(scores).is_enough == is_enough
    assert (measure_memorisation(scores, replicates=100) is not None) == is_enough


def test_one_train_document_that_stands_for_most_of_the_held_out_text_makes_no_figure():
    counts = {"train": {"python source": 1, "python test": 12}, "heldout": {"python source": 12, "python test": 2}}
    scores = align_scores(draw_scores(counts, extra=0.0, seed=1))
    comparable = find_comparable(scores)
    assert (comparable.num_train, comparable.num_heldout) == (13, 14)
    assert 1 < comparable.effective_count < 2
    assert measure_memorisation(scores) is None


def test_near_copies_count_once():
    scores = draw_scores(FEW, extra=0.0, seed=1)
    copied = {
        name: [
            replace(each, near_copies=7) if each.role == "heldout" and each.kind == "test" else each for each in side
        ]
        for name, side in scores.items()
    }
    comparable = find_comparable(align_scores(copied))
    assert (comparable.num_heldout, comparable.heldout_cases) == (14, 10)
    one, all_apart = (measure_memorisation(align_scores(side)).extra_gains[0] for side in (copied, scores))
    assert one.difference == pytest.approx(all_apart.difference)
    assert one.interval != all_apart.interval


def test_documents_without_text_are_not_compared():
    scores = draw_scores(FEW, extra=0.0, seed=1)
    empty = [*of_cell("train", "go source", 1, num_bytes=0, nats=0.0), *of_cell("heldout", "go source", 3)]
    more = {name: [*model_scores, *empty] for name, model_scores in scores.items()}
    assert measure_memorisation(align_scores(more)) == measure_memorisation(align_scores(scores))


def test_a_small_held_out_package_of_long_train_files_has_a_figure(tmp_path: Path):
    def make_side(side: str, kind: str, num_words: list[int]) -> list:
        return [
            document(
                lines_of(words_of(size, seed=size)), url=f"https://example.com/o/{side}", path=f"{kind}/{n}", kind=kind
            )
            for n, size in enumerate(num_words)
        ]

    # 9 sources and 5 tests are held out; the train files are longer, so few of them fit into as many bytes
    heldout = make_side("held", "source", [*range(100, 1000, 100)]) + make_side("held", "test", [*range(150, 650, 100)])
    train = make_side("train", "source", [*range(500, 1600, 20)]) + make_side("train", "test", [*range(310, 610, 20)])
    (tmp_path / "heldout").mkdir()
    write_documents(tmp_path / "heldout", heldout)
    suite = choose_suite(tmp_path / "heldout", train, [], probe_bytes=200_000)
    scores = {
        name: [
            of_cell(
                entry.role,
                f"python {entry.document.kind}",
                1,
                path=entry.document.path,
                num_bytes=entry.document.num_bytes,
                nats=bits * LN2 * entry.document.num_bytes,
            )[0]
            for entry in suite
        ]
        for name, bits in (("base", 2.0), ("fine-tuned", 1.5))
    }
    memorisation = measure_memorisation(align_scores(scores))
    assert memorisation.num_heldout == 14
    assert memorisation.num_train > 20
    assert memorisation.extra_gains[0].difference == pytest.approx(0.0)
