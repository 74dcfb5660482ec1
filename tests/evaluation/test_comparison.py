"""Comparison of models on the same documents: lines, checks, memorisation."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation import align_scores, compare, measure_memorisation
from flyte_llama.evaluation.scores import DocumentScore

LN2 = math.log(2)


def documents(count: int, *, role: str = "heldout", bits: float = 1.0, seed: int = 0, **facts) -> list[DocumentScore]:
    """Scores of documents with skewed sizes, about `bits` bits per byte each; every third one is Markdown."""
    rng = random.Random(seed)  # noqa: S311  # no secret
    scores = []
    for index in range(count):
        size = 50 + int(rng.lognormvariate(6, 1))
        markdown = index % 3 == 0
        nats = size * LN2 * (bits + rng.gauss(0, 0.1))
        fields = {
            "role": role,
            "repository": f"{role}/r{index % 2}",
            "url": f"https://example.com/{role}/r{index % 2}",
            "path": f"{index}.txt",
            "start": 0,
            "language": "markdown" if markdown else "python",
            "kind": "docs" if markdown else "source",
            "stratum": ("clean", "partial")[index % 2] if role == "heldout" else "",
            "freshness": "unknown",
            "num_bytes": size,
            "num_tokens": size // 2,
            "nats": nats,
            "top1": size // 4,
            "top5": size // 3,
            "position_nats": (nats / 2, nats / 2),
            "position_tokens": (1, size // 2 - 1),
        }
        scores.append(DocumentScore(**(fields | facts)))
    return scores


def improve(scores: list[DocumentScore], bits: float, *, seed: int = 1) -> list[DocumentScore]:
    """Scores of the same documents with about `bits` fewer bits per byte each."""
    rng = random.Random(seed)  # noqa: S311  # no secret
    return [replace(score, nats=score.nats - score.num_bytes * LN2 * (bits + rng.gauss(0, 0.02))) for score in scores]


def test_every_line_has_the_sums_of_its_documents_divided_once():
    before = documents(30)
    scores = align_scores({"base": before, "fine-tuned": improve(before, 0.2)})
    comparison = compare(scores, replicates=100)
    assert set(comparison.by) == {"repository", "language", "kind", "stratum", "length"}
    for name, lines in comparison.by.items():
        assert sum(line.num_documents for line in lines) == 30
        assert sum(line.num_bytes for line in lines) == comparison.overall.num_bytes == sum(s.num_bytes for s in before)
        for line in lines:
            group = [s for s in before if name == "length" or getattr(s, name) == line.name]
            if name != "length":
                bits = math.fsum(s.nats for s in group) / (LN2 * sum(s.num_bytes for s in group))
                assert line.figures[0].bits_per_byte == pytest.approx(bits, rel=1e-12)
                mean = sum(s.nats / (LN2 * s.num_bytes) for s in group) / len(group)
                assert line.figures[0].document_bits_per_byte == pytest.approx(mean, rel=1e-12)
                assert line.figures[0].top5_accuracy == sum(s.top5 for s in group) / sum(s.num_tokens for s in group)
            change = line.changes[0]
            assert change.difference == line.figures[1].bits_per_byte - line.figures[0].bits_per_byte
            assert change.documents is None or change.documents.low < change.difference < change.documents.high


@pytest.mark.parametrize(
    ("num_bytes", "name"),
    [
        (255, "under 256 bytes"),
        (256, "256 bytes to 1 KiB"),
        (1023, "256 bytes to 1 KiB"),
        (1024, "1 to 4 KiB"),
        (65535, "16 to 64 KiB"),
        (65536, "64 KiB or more"),
        (10**8, "64 KiB or more"),
        (1, "under 256 bytes"),
    ],
)
def test_lengths_are_powers_of_four_of_bytes(num_bytes: int, name: str):
    comparison = compare(align_scores({"base": documents(1, num_bytes=num_bytes)}), replicates=10)
    assert [line.name for line in comparison.by["length"]] == [name]


def test_each_reference_has_a_change_and_the_order_of_documents_does_not_matter():
    before = documents(20)
    scores = {"base": before, "published": improve(before, 0.1), "fine-tuned": improve(before, 0.3, seed=2)}
    comparison = compare(align_scores(scores), replicates=200)
    assert [change.reference for change in comparison.overall.changes] == ["base", "published"]
    assert [change.subject for change in comparison.overall.changes] == ["fine-tuned"] * 2
    assert comparison.overall.changes[1].difference == pytest.approx(-0.2, abs=0.03)
    shuffled = {model: model_scores[::-1] for model, model_scores in scores.items()}
    assert compare(align_scores(shuffled), replicates=200) == comparison


def test_only_documents_with_the_role_are_compared():
    scores = align_scores({"base": documents(5) + documents(9, role="general", bits=2.0)})
    assert compare(scores, replicates=10).overall.num_documents == 5
    assert compare(scores, role="general", replicates=10).overall.num_documents == 9
    assert compare(scores, role="train", replicates=10) is None


@pytest.mark.parametrize(
    "change",
    [{"num_bytes": 7}, {"path": "other.txt"}, {"start": 3}, {"role": "train"}, {"url": "https://example.com/other"}],
)
def test_different_documents_or_texts_are_not_compared(change: dict[str, object]):
    before = documents(3)
    with pytest.raises(EvaluationError, match="not measured on the same documents: "):
        align_scores({"base": before, "fine-tuned": [*before[:2], replace(before[2], **change)]})


def test_a_document_scored_twice_is_refused():
    scores = documents(3)
    with pytest.raises(EvaluationError, match=r"heldout/r0 0\.txt was scored twice"):
        align_scores({"base": [*scores, scores[0]]})


def on_two_hosts(count: int) -> list[DocumentScore]:
    """Scores of the same paths in two repositories that share owner and name, `count` documents in each."""
    return [
        score
        for seed, host in enumerate(("github.com", "gitlab.com"))
        for score in documents(count, repository="acme/tools", url=f"https://{host}/acme/tools", seed=seed)
    ]


def test_repositories_of_one_name_on_two_hosts_are_two_and_are_told_apart():
    before = on_two_hosts(12)
    scores = align_scores({"base": before, "fine-tuned": improve(before[::-1], 0.2)})
    assert [score.document for score in scores["base"]] == [score.document for score in scores["fine-tuned"]]
    comparison = compare(scores, replicates=100)
    lines = comparison.by["repository"]
    assert [line.name for line in lines] == ["github.com/acme/tools", "gitlab.com/acme/tools"]
    assert [line.num_documents for line in lines] == [12, 12]
    assert comparison.overall.num_repositories == 2
    assert comparison.overall.changes[0].num_repositories == 2


def test_a_repository_that_shares_its_name_with_no_other_is_shown_by_it():
    comparison = compare(align_scores({"base": documents(4)}), replicates=10)
    assert [line.name for line in comparison.by["repository"]] == ["heldout/r0", "heldout/r1"]


def in_repositories(count: int, each: int, **facts) -> list[DocumentScore]:
    """Scores of `each` documents in each of `count` repositories."""
    return [
        score
        for index in range(count)
        for score in documents(
            each, repository=f"o/r{index}", url=f"https://example.com/o/r{index}", seed=index, **facts
        )
    ]


def test_near_copies_count_once():
    before = in_repositories(4, 4)
    after = improve(before, 0.2)
    copies = {("o/r0", "0.txt"), ("o/r1", "0.txt"), ("o/r2", "0.txt"), ("o/r3", "0.txt")}
    before, after = (
        [replace(score, near_copies=7 if (score.repository, score.path) in copies else -1) for score in scores]
        for scores in (before, after)
    )
    compared = compare(align_scores({"base": before, "fine-tuned": after}), replicates=100).overall
    assert (compared.num_documents, compared.num_cases) == (16, 13)
    assert compared.changes[0].documents is not None
    # With seven copies, nine cases are left: too few for an interval.
    before, after = (
        [replace(score, near_copies=7 if score.path in {"0.txt", "1.txt"} else -1) for score in scores]
        for scores in (before, after)
    )
    compared = compare(align_scores({"base": before, "fine-tuned": after}), replicates=100).overall
    assert compared.changes[0].documents is None


def test_a_repository_of_near_copies_of_another_is_no_repository_of_its_own():
    before = [replace(score, near_copies=int(score.path[0])) for score in in_repositories(3, 10)]
    (change,) = compare(
        align_scores({"base": before, "fine-tuned": improve(before, 0.2)}), replicates=100
    ).overall.changes
    assert change.num_repositories == 1
    assert change.is_better_here
    assert not change.is_better


def test_the_claim_about_other_repositories_needs_their_changes_to_agree():
    before = in_repositories(5, 10)
    alike = improve(before, 0.2)
    unlike = [
        better if score.repository != "o/r4" else replace(score, nats=score.nats + score.num_bytes * 0.5)
        for score, better in zip(before, alike, strict=True)
    ]
    (agreed,), (disputed,) = (
        compare(align_scores({"base": before, "fine-tuned": after}), replicates=200).overall.changes
        for after in (alike, unlike)
    )
    assert agreed.is_better
    assert agreed.repository_mean == pytest.approx(-0.2, abs=0.02)
    assert not disputed.is_better
    assert disputed.clustered.high > 0


def test_different_numbers_of_tokens_are_recognised():
    before = documents(3)
    after = [replace(score, num_tokens=score.num_tokens + 1) for score in before]
    assert not compare(align_scores({"base": before, "fine-tuned": after}), replicates=10).same_tokens


def plant_memorisation(extra: float) -> dict[str, list[DocumentScore]]:
    train, heldout = documents(40, role="train", bits=0.8, seed=5), documents(40)
    return {"base": train + heldout, "fine-tuned": improve(train, 0.2 + extra) + improve(heldout, 0.2, seed=3)}


def test_planted_memorisation_is_found():
    (gain,) = measure_memorisation(align_scores(plant_memorisation(0.1)), replicates=1000).extra_gains
    assert gain.difference == pytest.approx(0.1, abs=0.02)
    assert gain.train - gain.heldout == pytest.approx(gain.difference)
    assert gain.is_found
    assert gain.interval.low < 0.1 < gain.interval.high


def test_an_equal_gain_on_unseen_text_is_no_memorisation():
    (gain,) = measure_memorisation(align_scores(plant_memorisation(0.0)), replicates=1000).extra_gains
    assert not gain.is_found
    assert gain.interval.low < 0 < gain.interval.high


def test_a_different_mix_of_train_documents_is_no_memorisation():
    # Markdown gains 0.5 and source 0.1 on both sides; train has a larger share of Markdown.
    def side(count: int, keep: int, role: str) -> tuple[list[DocumentScore], list[DocumentScore]]:
        scores = enumerate(documents(count, role=role))
        before = [score for index, score in scores if index % 3 == 0 or index % keep == 0]
        after = [improve([s], 0.5 if s.kind == "docs" else 0.1, seed=index)[0] for index, s in enumerate(before)]
        return before, after

    train, heldout = side(240, 10, "train"), side(60, 1, "heldout")
    memorisation = measure_memorisation(
        align_scores({"base": train[0] + heldout[0], "fine-tuned": train[1] + heldout[1]}), replicates=1000
    )
    assert memorisation.extra_gains[0].difference == pytest.approx(0.0, abs=0.02)
    assert memorisation.of == ["markdown docs", "python source"]


def test_sides_that_share_no_language_and_kind_are_not_compared():
    assert (
        measure_memorisation(align_scores({"base": documents(5) + documents(5, role="train", language="go")})) is None
    )
    assert measure_memorisation(align_scores({"base": documents(5)})) is None


def of_repositories(names: str, near_copies: list[int]) -> list[DocumentScore]:
    """One document for each letter, in the repository of that name."""
    return [
        replace(each, repository=name, url=name, near_copies=number)
        for each, name, number in zip(documents(len(names)), names, near_copies, strict=True)
    ]


def test_near_copies_leave_the_figure_of_each_repository_as_it_is():
    # Two thirds of each repository are near-copies of documents of the others.
    before = of_repositories("abc" * 20, [index // 3 if index < 40 else index for index in range(60)])
    bits = {"a": -3.0, "b": -1.0, "c": 2.0}
    after = [replace(each, nats=each.nats + bits[each.url] * each.num_bytes * LN2) for each in before]
    comparison = compare(align_scores({"base": before, "fine-tuned": after}), replicates=50)
    assert comparison is not None
    assert comparison.overall.changes[0].repository_mean == pytest.approx(-2 / 3)
    assert comparison.overall.num_cases == 34
