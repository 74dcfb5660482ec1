"""Several models on the same documents: lines, checks, the memorisation probe, distributions."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from flyte_llama.errors import EvaluationError
from flyte_llama.evaluation import DocumentLoss, compare, histogram, matched, positions, probe

LN2 = math.log(2)


def documents(number: int, *, role: str = "heldout", bits: float = 1.0, seed: int = 0, **facts) -> list[DocumentLoss]:
    """Of skewed sizes, about `bits` bits per byte each; the first of every three a README."""
    drawn = random.Random(seed)  # noqa: S311  # no secret
    found = []
    for place in range(number):
        size = 50 + int(drawn.lognormvariate(6, 1))
        markdown = place % 3 == 0
        nats = size * LN2 * (bits + drawn.gauss(0, 0.1))
        own = {
            "role": role,
            "repository": f"{role}/r{place % 2}",
            "path": f"{place}.txt",
            "start": 0,
            "language": "markdown" if markdown else "python",
            "kind": "docs" if markdown else "source",
            "stratum": ("clean", "partial")[place % 2] if role == "heldout" else "",
            "freshness": "unknown",
            "num_bytes": size,
            "num_tokens": size // 2,
            "nats": nats,
            "top1": size // 4,
            "top5": size // 3,
            "position_nats": (nats / 2, nats / 2),
            "position_tokens": (1, size // 2 - 1),
        }
        found.append(DocumentLoss(**(own | facts)))
    return found


def gained(scores: list[DocumentLoss], bits: float, *, seed: int = 1) -> list[DocumentLoss]:
    """The same documents, about `bits` fewer bits per byte each."""
    drawn = random.Random(seed)  # noqa: S311  # no secret
    return [replace(one, nats=one.nats - one.num_bytes * LN2 * (bits + drawn.gauss(0, 0.02))) for one in scores]


def test_every_line_has_the_sums_of_its_documents_divided_once():
    before = documents(30)
    scores = matched({"base": before, "fine-tuned": gained(before, 0.2)})
    found = compare(scores, replicates=100)
    assert set(found.by) == {"repository", "language", "kind", "stratum", "length"}
    for name, lines in found.by.items():
        assert sum(line.num_documents for line in lines) == 30
        assert sum(line.num_bytes for line in lines) == found.overall.num_bytes == sum(s.num_bytes for s in before)
        for line in lines:
            own = [s for s in before if name == "length" or getattr(s, name) == line.name]
            if name != "length":
                bits = math.fsum(s.nats for s in own) / (LN2 * sum(s.num_bytes for s in own))
                assert line.figures[0].bits_per_byte == pytest.approx(bits, rel=1e-12)
                mean = sum(s.nats / (LN2 * s.num_bytes) for s in own) / len(own)
                assert line.figures[0].document_bits_per_byte == pytest.approx(mean, rel=1e-12)
                assert line.figures[0].top5_accuracy == sum(s.top5 for s in own) / sum(s.num_tokens for s in own)
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
    found = compare(matched({"base": documents(1, num_bytes=num_bytes)}), replicates=10)
    assert [line.name for line in found.by["length"]] == [name]


def test_each_reference_has_its_own_change_and_the_order_of_documents_does_not_matter():
    before = documents(20)
    scores = {"base": before, "published": gained(before, 0.1), "fine-tuned": gained(before, 0.3, seed=2)}
    found = compare(matched(scores), replicates=200)
    assert [change.reference for change in found.overall.changes] == ["base", "published"]
    assert [change.subject for change in found.overall.changes] == ["fine-tuned"] * 2
    assert found.overall.changes[1].difference == pytest.approx(-0.2, abs=0.03)
    shuffled = {model: own[::-1] for model, own in scores.items()}
    assert compare(matched(shuffled), replicates=200) == found


def test_only_the_role_asked_for_is_counted():
    scores = matched({"base": documents(5) + documents(9, role="general", bits=2.0)})
    assert compare(scores, replicates=10).overall.num_documents == 5
    assert compare(scores, role="general", replicates=10).overall.num_documents == 9
    assert compare(scores, role="train", replicates=10) is None


@pytest.mark.parametrize("change", [{"num_bytes": 7}, {"path": "other.txt"}, {"start": 3}, {"role": "train"}])
def test_other_documents_or_texts_are_not_compared(change: dict[str, object]):
    before = documents(3)
    with pytest.raises(EvaluationError, match="not measured on the same documents: "):
        matched({"base": before, "fine-tuned": [*before[:2], replace(before[2], **change)]})


def test_a_document_scored_twice_is_refused():
    own = documents(3)
    with pytest.raises(EvaluationError, match=r"heldout/r0 0\.txt was scored twice"):
        matched({"base": [*own, own[0]]})


def test_other_tokens_are_compared_by_bits_per_byte():
    before = documents(3)
    after = [replace(one, num_tokens=one.num_tokens + 1) for one in before]
    assert not compare(matched({"base": before, "fine-tuned": after}), replicates=10).same_tokens


def planted(extra: float) -> dict[str, list[DocumentLoss]]:
    train, heldout = documents(40, role="train", bits=0.8, seed=5), documents(40)
    return {"base": train + heldout, "fine-tuned": gained(train, 0.2 + extra) + gained(heldout, 0.2, seed=3)}


def test_planted_memorisation_is_found():
    (gain,) = probe(matched(planted(0.1)), replicates=1000).extra_gains
    assert gain.difference == pytest.approx(0.1, abs=0.02)
    assert gain.train - gain.heldout == pytest.approx(gain.difference)
    assert gain.is_found
    assert gain.interval.low < 0.1 < gain.interval.high


def test_where_as_much_was_gained_on_unseen_text_nothing_is_found():
    (gain,) = probe(matched(planted(0.0)), replicates=1000).extra_gains
    assert not gain.is_found
    assert gain.interval.low < 0 < gain.interval.high


def test_a_train_side_of_another_mix_is_no_memorisation():
    # READMEs gain 0.5, sources 0.1, on both sides; train is made of more READMEs.
    def side(number: int, keep: int, role: str) -> tuple[list[DocumentLoss], list[DocumentLoss]]:
        own = [one for place, one in enumerate(documents(number, role=role)) if place % 3 == 0 or place % keep == 0]
        after = [gained([one], 0.5 if one.kind == "docs" else 0.1, seed=place)[0] for place, one in enumerate(own)]
        return own, after

    train, heldout = side(240, 10, "train"), side(60, 1, "heldout")
    found = probe(matched({"base": train[0] + heldout[0], "fine-tuned": train[1] + heldout[1]}), replicates=1000)
    assert found.extra_gains[0].difference == pytest.approx(0.0, abs=0.02)
    assert found.of == ["markdown docs", "python source"]


def test_sides_that_share_no_language_and_kind_are_not_probed():
    assert probe(matched({"base": documents(5) + documents(5, role="train", language="go")})) is None
    assert probe(matched({"base": documents(5)})) is None


def test_positions_sum_over_documents_and_leave_no_token_out():
    (own,) = positions({"base": documents(10)})
    assert [(place.first, place.last) for place in own.places] == [(1, 1), (2, 3)]
    assert sum(place.num_tokens for place in own.places) == sum(one.num_tokens for one in documents(10))
    expected = sum(one.position_nats[0] for one in documents(10)) / 10
    assert own.places[0].nats_per_token == pytest.approx(expected)


def test_every_document_is_in_one_bin_of_each_model():
    before = documents(50)
    found = histogram({"base": before, "fine-tuned": gained(before, 0.4)})
    assert [sum(counts) for counts in found.counts] == [50, 50]
    assert found.counts[0][-1] <= 1
