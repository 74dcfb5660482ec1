"""What differs between two runs before training: configuration, sources, documents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flyte_llama.documents import Amount, Document, write_documents
from flyte_llama.runs.differences import (
    HELD_OUT,
    TRAIN,
    FieldDifference,
    ListedFile,
    SideTexts,
    SourceDifference,
    compare_configs,
    compare_counts,
    compare_sources,
    compare_texts,
    count_sources,
    read_texts,
)
from tests.conftest import document
from tests.runs.made_runs import HELDOUT, HELDOUT_URLS, TRAIN_URL, card, config
from tests.runs.made_runs import TRAIN as DOCUMENTS


def texts_of(folder: Path, documents: list[Document]) -> SideTexts:
    write_documents(folder, documents)
    return read_texts(folder)


def test_equal_configurations_do_not_differ_whatever_their_names():
    assert compare_configs(config(name="one"), config(name="two")) == []


def test_a_field_that_differs_is_shown_by_its_dotted_key_with_its_default():
    differences = compare_configs(config(), config(training={"learning_rate": 1e-3}, objective={"kind": "fim"}))
    assert differences == [
        FieldDifference(key="objective.kind", a="clm", b="fim"),
        FieldDifference(key="training.learning_rate", a="0.0002", b="0.001"),
    ]


def test_of_two_lists_only_what_the_other_does_not_have_is_shown():
    stages = {"train": [{"url": TRAIN_URL, "ref": "v2"}], "heldout": [{"url": url} for url in HELDOUT_URLS[1:]]}
    differences = compare_configs(config(), config(corpus=stages))
    assert differences == [
        FieldDifference(key="corpus.train", a=TRAIN_URL, b=f"{TRAIN_URL} (ref: v2)"),
        FieldDifference(key="corpus.heldout", a=HELDOUT_URLS[0], b="-"),
    ]


def test_a_list_in_another_order_is_a_difference():
    stages = {"train": [{"url": TRAIN_URL}], "heldout": [{"url": url} for url in reversed(HELDOUT_URLS)]}
    (difference,) = compare_configs(config(), config(corpus=stages))
    assert difference.a == difference.b == "the same, in another order"


def test_a_key_of_a_mapping_that_only_one_has_is_null_in_the_other():
    (difference,) = compare_configs(config(), config(composition={"language_weights": {"python": 2}}))
    assert difference == FieldDifference(key="composition.language_weights.python", a="null", b="2.0")


def test_sources_added_removed_moved_and_at_another_revision_are_named():
    moved = [each for each in HELDOUT if each.url == HELDOUT_URLS[0]]
    newer = [replace(each, revision="1" * 40) for each in HELDOUT if each.url == HELDOUT_URLS[1]]
    added = [document("x = 1\n", url="https://example.com/o/added")]
    a, b = card(DOCUMENTS, HELDOUT), card([*DOCUMENTS, *moved, *added], newer)
    zeros, ones = "0" * 12, "1" * 12
    assert compare_sources(a, b) == [
        SourceDifference(source="o/added", a="-", b=f"train, {zeros}"),
        SourceDifference(source="o/one", a=f"held out, {zeros}", b=f"train, {zeros}"),
        SourceDifference(source="o/three", a=f"held out, {zeros}", b="-"),
        SourceDifference(source="o/two", a=f"held out, {zeros}", b=f"held out, {ones}"),
    ]
    assert count_sources(a, b) == 5
    assert compare_sources(a, a) == []


def test_a_source_with_parts_on_both_sides_has_both_places():
    held_out = document("x = 1\n", url=TRAIN_URL, path="held_out.py")
    (difference,) = compare_sources(card(DOCUMENTS, HELDOUT), card(DOCUMENTS, [*HELDOUT, held_out]))
    zeros = "0" * 12
    assert (difference.a, difference.b) == (f"train, {zeros}", f"train, {zeros}; held out, {zeros}")


def test_files_gained_lost_and_changed_are_counted_and_listed_by_source_the_largest_first(tmp_path: Path):
    kept, changed, lost = (document(f"x = {name}\n", path=f"{name}.py") for name in ("kept", "changed", "lost"))
    edited = document("another text\n", path="changed.py")
    small, large = document("y\n", path="small.py"), document("y = 1\n" * 9, path="large.py")
    (difference,) = compare_texts(
        TRAIN,
        texts_of(tmp_path / "a", [kept, changed, lost]),
        texts_of(tmp_path / "b", [kept, edited, small, large]),
    )
    assert (difference.source, difference.side) == ("o/r", "train")
    assert (difference.documents_a, difference.documents_b) == (3, 4)
    assert difference.gained == Amount(files=2, num_bytes=small.num_bytes + large.num_bytes)
    assert difference.gained_files == [
        ListedFile(path="large.py", num_bytes=large.num_bytes),
        ListedFile(path="small.py", num_bytes=small.num_bytes),
    ]
    assert difference.lost_files == [ListedFile(path="lost.py", num_bytes=lost.num_bytes)]
    assert difference.changed_files == [ListedFile(path="changed.py", num_bytes=edited.num_bytes)]


def test_a_file_that_is_cut_at_another_place_is_changed_and_not_lost(tmp_path: Path):
    whole = document("one\ntwo\nthree\n")
    pieces = [
        replace(document("one\n"), start=0, end=4),
        replace(document("three\n"), start=8, end=14),
    ]
    a, b = texts_of(tmp_path / "a", [whole]), texts_of(tmp_path / "b", pieces)
    (difference,) = compare_texts(TRAIN, a, b)
    assert (difference.gained, difference.lost) == (Amount(), Amount())
    assert difference.changed == Amount(files=1, num_bytes=10)
    assert compare_texts(TRAIN, b, b) == []


def test_repositories_of_one_name_on_two_hosts_stay_apart(tmp_path: Path):
    here, there = (replace(document("x\n"), url=f"https://{host}.example/o/r") for host in ("here", "there"))
    differences = compare_texts(HELD_OUT, texts_of(tmp_path / "a", [here]), texts_of(tmp_path / "b", [there]))
    assert [(each.source, each.documents_a, each.documents_b) for each in differences] == [
        ("here.example/o/r", 1, 0),
        ("there.example/o/r", 0, 1),
    ]


def test_without_the_documents_the_cards_tell_how_many_a_source_has():
    a, b = card(DOCUMENTS, HELDOUT), card(DOCUMENTS[:3], HELDOUT)
    (difference,) = compare_counts(TRAIN, a, b)
    assert (difference.source, difference.documents_a, difference.documents_b) == ("o/train", 4, 3)
    assert difference.gained is None
    assert compare_counts(HELD_OUT, a, b) == []
