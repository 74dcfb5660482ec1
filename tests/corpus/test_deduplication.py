"""One of several copies is kept, whatever their order: exact copies, older versions and near-duplicates."""

from __future__ import annotations

import random

import pytest

from flyte_llama.config import DeduplicationConfig
from flyte_llama.corpus import deduplication
from flyte_llama.corpus.deduplication import Match, deduplicate, near_duplicates
from flyte_llama.documents import Document
from flyte_llama.documents.ngrams import jaccard, shingles
from tests.conftest import document, lines_of, words_of

MONOREPO, ARCHIVE, OTHER = (f"https://example.com/o/{name}" for name in ("flyte", "admin", "other"))


def text(seed: int) -> str:
    return lines_of(words_of(80, seed=seed))


def replace_words(base: list[str], every: int, *, seed: int = 1) -> list[str]:
    """The words with one in `every` replaced."""
    other = words_of(len(base), seed=seed)
    return [
        new if (index + seed) % every == 0 else old for index, (old, new) in enumerate(zip(base, other, strict=True))
    ]


def make_documents(*texts: list[str]) -> list[Document]:
    return [document(" ".join(words), path=f"{index}.py") for index, words in enumerate(texts)]


def find_drops(documents, config=None):
    """Repository and path of each dropped document → the reason, and the path of the document kept instead."""
    left, drops = deduplicate(documents, config or DeduplicationConfig())
    assert len(left) + len(drops) == len(documents)
    assert all(drop.preferred in left for drop in drops)
    return {(drop.document.repository, drop.document.path): (drop.reason, drop.preferred.path) for drop in drops}


def similarity(first: Document, second: Document) -> float:
    return jaccard(shingles(first.text), shingles(second.text))


def test_the_exact_copy_from_the_newest_source_is_kept():
    copies = [document(text(1), url=ARCHIVE, path="a.py", committed=1), document(text(1), url=OTHER, committed=2)]
    assert find_drops(copies) == {("o/admin", "a.py"): ("exact", "a.py")}


def test_a_file_of_an_archived_repository_gives_way_to_its_newer_version_in_the_monorepo():
    archive = [document(text(seed), url=ARCHIVE, path=f"pkg/{seed}.go", committed=1) for seed in range(4)]
    archive.append(document(text(50), url=ARCHIVE, path="only/here.go", committed=1))
    monorepo = [document(text(seed + 10), url=MONOREPO, path=f"admin/pkg/{seed}.go", committed=2) for seed in range(4)]
    assert find_drops(archive + monorepo) == {
        ("o/admin", f"pkg/{seed}.go"): ("lineage", f"admin/pkg/{seed}.go") for seed in range(4)
    }
    assert find_drops(archive + monorepo, DeduplicationConfig(lineage=False)) == {}


def test_a_folder_that_happens_to_have_a_repositorys_name_makes_no_lineage():
    archive = [document(text(seed), url=ARCHIVE, path=f"{seed}.go") for seed in range(4)]
    monorepo = [document(text(90), url=MONOREPO, path="admin/0.go", committed=2)]
    assert find_drops(archive + monorepo) == {}


def test_the_longer_near_duplicate_is_kept_and_both_if_the_threshold_is_zero():
    words = words_of(500)
    longer, shorter = lines_of(words), lines_of(words[10:])
    pair = [document(longer, path="b.py"), document(shorter, path="a.py")]
    assert find_drops(pair) == {("o/r", "a.py"): ("near", "b.py")}
    assert find_drops(pair, DeduplicationConfig(near=0)) == {}


def test_a_copy_of_a_dropped_document_names_the_one_that_was_kept_in_the_end():
    words = words_of(500)
    near = lines_of([*words[:-1], "changed"])
    documents = [
        document(lines_of(words), url=MONOREPO, path="new.py", committed=3),
        document(near, url=OTHER, path="near.py", committed=2),
        document(near, url=ARCHIVE, path="copy.py", committed=1),
    ]
    assert find_drops(documents) == {
        ("o/other", "near.py"): ("near", "new.py"),
        ("o/admin", "copy.py"): ("near", "new.py"),
    }


def test_two_hosts_may_have_repositories_of_the_same_name():
    pair = [document(text(1), url="https://example.com/o/r"), document(text(2), url="https://other.example/o/r")]
    assert find_drops(pair) == {}


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_input_does_not_matter(seed: int):
    rng = random.Random(seed)  # noqa: S311  # no secret
    base = words_of(300)
    documents = [
        document(
            lines_of([*base[:-index], *words_of(index, seed=index)]) if index else lines_of(base),
            url=rng.choice([MONOREPO, ARCHIVE, OTHER]),
            path=f"{index % 7}/{index}.py",
            committed=rng.randrange(2),
        )
        for index in range(40)
    ]
    shuffled = rng.sample(documents, len(documents))
    assert deduplicate(shuffled, DeduplicationConfig()) == deduplicate(documents, DeduplicationConfig())


def test_a_planted_near_duplicate_is_found_and_a_different_document_is_not():
    base = words_of(1000)
    samples = make_documents(base, replace_words(base, 60), replace_words(base, 5), words_of(1000, seed=9))
    assert near_duplicates(samples, threshold=0.7) == [None, Match(0, similarity(samples[0], samples[1])), None, None]


def test_a_dropped_document_is_like_a_kept_one_and_not_only_like_a_dropped_one():
    # A chain: each text is near the one before it, but the last is far from the first. Grouping all linked texts would
    # keep only one of them.
    chain = [words_of(1000)]
    for seed in range(1, 12):
        chain.append(replace_words(chain[-1], 60, seed=seed))
    samples = make_documents(*chain)
    matches = near_duplicates(samples, threshold=0.7)
    assert similarity(samples[0], samples[-1]) < 0.7
    assert sum(match is None for match in matches) > 1
    for current, match in zip(samples, matches, strict=True):
        if match is not None:
            assert matches[match.kept_index] is None
            assert similarity(current, samples[match.kept_index]) == match.jaccard >= 0.7
    left = [current for current, match in zip(samples, matches, strict=True) if match is None]
    assert all(similarity(a, b) < 0.7 for a in left for b in left if a is not b)


def test_pairs_at_the_threshold_are_not_missed():
    missed = pairs = 0
    for seed in range(300):
        base = words_of(120, seed=2 * seed)
        # The other text ends in different words, which bring the pair down to just above 0.7.
        samples = make_documents(base, base[:102] + words_of(18, seed=2 * seed + 1))
        if 0.7 <= similarity(*samples) < 0.75:
            pairs += 1
            missed += near_duplicates(samples, threshold=0.7)[1] is None
    assert pairs > 100
    assert missed == 0


@pytest.mark.parametrize("threshold", [0.6, 0.8, 1.0])
def test_pairs_at_other_thresholds_are_found_too(threshold: float):
    missed = 0
    for seed in range(60):
        base = words_of(200, seed=seed)
        samples = make_documents(base, base[: int(200 * (1 + threshold) / 2)] + words_of(10, seed=1000 + seed))
        matches = near_duplicates(samples, threshold=threshold)
        missed += (similarity(*samples) >= threshold) != (matches[1] is not None)
    assert missed <= 1


def test_a_small_file_within_a_large_one_is_not_a_duplicate():
    large = words_of(2000)
    assert near_duplicates(make_documents(large, large[:500]), threshold=0.7) == [None, None]


def test_texts_of_a_few_words_are_alike_only_if_they_are_equal():
    samples = make_documents(["import", "x"], ["import", "x"], ["import", "y"], [])
    assert near_duplicates(samples, threshold=0.7) == [None, Match(0, 1.0), None, None]


def test_random_families_are_decided_as_by_comparing_all_pairs():
    rng = random.Random(0)  # noqa: S311  # no secret
    texts = []
    for family in range(20):
        base = words_of(rng.randrange(40, 200), seed=family)
        texts += [
            replace_words(base, rng.choice([7, 20, 40, 80]), seed=100 + family * 10 + member) for member in range(4)
        ]
    rng.shuffle(texts)
    samples = make_documents(*texts)
    expected: list[int] = []
    for index, current in enumerate(samples):
        if not any(similarity(current, samples[other]) >= 0.7 for other in expected):
            expected.append(index)
    matches = near_duplicates(samples, threshold=0.7)
    assert [index for index, match in enumerate(matches) if match is None] == expected


def test_few_sets_of_ngrams_in_memory_change_nothing(monkeypatch: pytest.MonkeyPatch):
    base = [words_of(80, seed=seed) for seed in range(6)]
    documents = make_documents(*base, *(replace_words(words, 30) for words in base))
    expected = near_duplicates(documents, threshold=0.7)
    assert len([match for match in expected if match]) == 6
    for num_held in (0, 1, 100):
        monkeypatch.setattr(deduplication, "_GRAMS_HELD", num_held)
        assert near_duplicates(documents, threshold=0.7) == expected
