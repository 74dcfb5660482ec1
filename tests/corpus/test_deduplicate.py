"""Who is kept of documents that are the same, whatever order they come in."""

from __future__ import annotations

import random

import pytest

from flyte_llama.config import DeduplicationConfig
from flyte_llama.corpus.deduplicate import deduplicate
from tests.conftest import document, lines_of, words_of

MONOREPO, ARCHIVE, OTHER = (f"https://example.com/o/{name}" for name in ("flyte", "admin", "other"))


def text(seed: int) -> str:
    return lines_of(words_of(80, seed=seed))


def dropped(documents, config=None):
    kept, left_out = deduplicate(documents, config or DeduplicationConfig())
    assert len(kept) + len(left_out) == len(documents)
    assert all(drop.kept in kept for drop in left_out)
    return {(drop.document.repository, drop.document.path): (drop.reason, drop.kept.path) for drop in left_out}


def test_of_exact_copies_the_one_of_the_newest_source_is_kept():
    copies = [document(text(1), url=ARCHIVE, path="a.py", committed=1), document(text(1), url=OTHER, committed=2)]
    assert dropped(copies) == {("o/admin", "a.py"): ("exact", "a.py")}


def test_a_file_of_an_archived_repository_gives_way_to_its_newer_life_in_the_monorepo():
    archive = [document(text(seed), url=ARCHIVE, path=f"pkg/{seed}.go", committed=1) for seed in range(4)]
    archive.append(document(text(50), url=ARCHIVE, path="only/here.go", committed=1))
    monorepo = [document(text(seed + 10), url=MONOREPO, path=f"admin/pkg/{seed}.go", committed=2) for seed in range(4)]
    assert dropped(archive + monorepo) == {
        ("o/admin", f"pkg/{seed}.go"): ("lineage", f"admin/pkg/{seed}.go") for seed in range(4)
    }
    assert dropped(archive + monorepo, DeduplicationConfig(lineage=False)) == {}


def test_a_folder_that_happens_to_have_a_repositorys_name_makes_no_lineage():
    own = [document(text(seed), url=ARCHIVE, path=f"{seed}.go") for seed in range(4)]
    other = [document(text(90), url=MONOREPO, path="admin/0.go", committed=2)]
    assert dropped(own + other) == {}


def test_of_near_duplicates_the_longer_is_kept_and_both_if_the_threshold_is_zero():
    words = words_of(500)
    one, other = lines_of(words), lines_of(words[10:])
    pair = [document(one, path="b.py"), document(other, path="a.py")]
    assert dropped(pair) == {("o/r", "a.py"): ("near", "b.py")}
    assert dropped(pair, DeduplicationConfig(near=0)) == {}


def test_a_copy_of_what_was_dropped_itself_names_the_one_that_was_kept_in_the_end():
    words = words_of(500)
    near = lines_of([*words[:-1], "changed"])
    documents = [
        document(lines_of(words), url=MONOREPO, path="new.py", committed=3),
        document(near, url=OTHER, path="near.py", committed=2),
        document(near, url=ARCHIVE, path="copy.py", committed=1),
    ]
    assert dropped(documents) == {
        ("o/other", "near.py"): ("near", "new.py"),
        ("o/admin", "copy.py"): ("near", "new.py"),
    }


def test_two_hosts_may_have_a_repository_of_one_name():
    pair = [document(text(1), url="https://example.com/o/r"), document(text(2), url="https://other.example/o/r")]
    assert dropped(pair) == {}


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_input_does_not_matter(seed: int):
    rng = random.Random(seed)  # noqa: S311  # no secret
    base = words_of(300)
    documents = [
        document(
            lines_of([*base[:-number], *words_of(number, seed=number)]) if number else lines_of(base),
            url=rng.choice([MONOREPO, ARCHIVE, OTHER]),
            path=f"{number % 7}/{number}.py",
            committed=rng.randrange(2),
        )
        for number in range(40)
    ]
    shuffled = rng.sample(documents, len(documents))
    assert deduplicate(shuffled, DeduplicationConfig()) == deduplicate(documents, DeduplicationConfig())
