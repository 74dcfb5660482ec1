"""The small set as a benchmark: what is right passes, what is wrong fails, and hostile answers harm nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyte_llama.flyte_eval import (
    Answer,
    Item,
    Mined,
    Observer,
    grade,
    mine,
    observer,
    read_answers,
    read_grades,
    read_items,
    small_set,
    write_answers,
    write_grades,
    write_items,
)
from flyte_llama.flyte_eval.masking import maskable
from flyte_llama.flyte_eval.module_text import ModuleText
from flyte_llama.flyte_eval.topics import TOPICS, topics_of
from flyte_llama.sandbox import why_not
from tests.conftest import document

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
SETS = {own.path: own for own in small_set()}
SOME = [SETS["temperatures.py"], SETS["nightly.py"]]


@pytest.fixture(scope="module")
def seen() -> Iterator[Observer]:
    with observer() as made:
        yield made


@pytest.fixture(scope="module")
def mined(seen: Observer) -> Mined:
    return mine(SOME, seen, limit=1000, seed=0)


def answers_of(items: list[Item], text: Any) -> list[Answer]:
    return [Answer(item.name, "left-to-right", 0, text(item)) for item in items]


def test_there_are_items_of_every_tier_and_kind_with_their_provenance(mined: Mined):
    assert len(mined.items) >= 20
    assert {item.tier for item in mined.items} == {"body", "function", "workflow"}
    assert {item.entity_kind for item in mined.items} == {"task", "workflow", "launch plan"}
    for item in mined.items:
        assert item.licence == "Apache-2.0"
        assert SETS[item.path].text.splitlines()[item.line - 1] in item.reference
        assert item.topics


def test_the_small_set_has_every_topic():
    found = set()
    for own in small_set():
        module = ModuleText(own.text)
        found |= {topic for masked in maskable(module) for topic in topics_of(module, masked)}
    assert found == set(TOPICS)


def test_references_score_100_per_cent(mined: Mined, seen: Observer):
    grades = grade(mined.items, answers_of(mined.items, lambda item: item.reference), seen)
    assert [own.item for own in grades if not own.passed] == []
    assert {own.rung for own in grades} == {"graph"}


def test_every_mutant_that_proved_an_item_fails_at_the_rung_it_broke(mined: Mined, seen: Observer):
    tried = [(item, mutant) for item in mined.items for mutant in item.mutants]
    grades = grade(mined.items, [Answer(item.name, "left-to-right", 0, mutant.text) for item, mutant in tried], seen)
    assert [own.item for own in grades if own.passed] == []
    assert [own.rung for own in grades] == [mutant.rung for _, mutant in tried]
    kinds = {mutant.kind for _, mutant in tried}
    assert kinds == {
        "wrong type",
        "missing decorator",
        "wrong operator",
        "wrong constant",
        "wrong name",
        "deleted statement",
        "empty",
    }


FRESH = [
    *[("to_fahrenheit", "* 9", "* 8"), ("to_fahrenheit", "/ 5", "/ 6"), ("to_celsius", "- 32", "- 31")],
    *[("warmest", "max(", "min("), ("warmest", "+ len", "- len"), ("heat", "heat to {", "cool to {")],
    *[("regulate", "< 5.0", "< 6.0"), ("regulate", ".then(cool(", ".then(heat(")],
    *[("there_and_back", "fahrenheit=fahrenheit", "fahrenheit=celsius"), ("cleaned", ".lower()", ".upper()")],
    *[("longest", "max(", "min("), ("shown", '"<br>"', '"<p>"'), ("nightly_report", "0 3 *", "0 4 *")],
    *[
        ("longest", 'cpu="2"', 'cpu="4"'),
        ("longest", "retries=3", "retries=1"),
        ("cleaned", 'version="2"', 'version="1"'),
    ],
]


@pytest.mark.parametrize(("entity", "right", "wrong"), FRESH)
def test_mistakes_that_mining_did_not_make_fail_too(mined: Mined, seen: Observer, entity: str, right: str, wrong: str):
    items = [item for item in mined.items if item.entity == entity and right in item.reference]
    assert items
    grades = grade(items, answers_of(items, lambda item: item.reference.replace(right, wrong)), seen)
    assert [own.passed for own in grades] == [False] * len(items)


def test_items_hang_on_the_documents_alone_not_on_their_order(mined: Mined, seen: Observer):
    mixed = SOME[::-1]
    assert mine(mixed, seen, limit=1000, seed=0) == mined


def test_a_limit_takes_some_by_chance_but_always_the_same(seen: Observer, mined: Mined):
    few = [mine(SOME[:1], seen, limit=5, seed=seed) for seed in (0, 0, 1)]
    assert few[0].items == few[1].items
    assert len(few[0].items) == 5
    assert few[0].items != few[2].items
    assert few[0].dropped["more than were asked for"] == sum(item.path == "temperatures.py" for item in mined.items) - 5


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("    unused = 3 + n\n    return n\n", "a mutant passes"),
        ("    import time\n    return time.time_ns() + n\n", "two runs of the original differ"),
        ("    import nowhere\n    return nowhere.f(n, 2)\n", "a mutant passes"),
    ],
)
def test_what_its_own_mutants_do_not_prove_is_no_item(seen: Observer, body: str, reason: str):
    text = "from flytekit import task\n\n\n@task\ndef own(n: int) -> int:\n" + body
    found = mine([document(text)], seen, limit=10, seed=0)
    assert (found.items, found.dropped) == ([], {reason: 1})


DEEP = "-" * 3000 + "1"


@pytest.mark.parametrize("text", [f"n = {DEEP}\n", "n = 0x" + "f" * 6000 + "\n", "n = 'a\n"])
def test_a_module_that_cannot_be_read_is_counted_and_the_others_are_mined(seen: Observer, mined: Mined, text: str):
    flyte = "from flytekit import task\n\n\n@task\ndef own(n: int) -> int:\n    return n + 1\n"
    found = mine([document(flyte + text, path="bad.py"), *SOME], seen, limit=1000, seed=0)
    assert found.items == mined.items
    assert found.dropped == {"no Python that can be read": 1}


def test_an_item_whose_reference_fails_on_another_day_is_left_out(
    mined: Mined, seen: Observer, capsys: pytest.CaptureFixture[str]
):
    broken = replace(mined.items[0], expected=mined.items[-1].expected)
    items = [broken, *mined.items[1:3]]
    grades = grade(items, answers_of(items, lambda item: item.reference), seen)
    assert [own.item for own in grades] == [item.name for item in items[1:]]
    assert "1 of 3 tasks are left out" in capsys.readouterr().err


HOSTILE = {
    "a fork bomb": "    import os\n    while True:\n        os.fork()\n",
    "an endless loop": "    while True:\n        pass\n",
    "a file of yours": "    open({file!r}, 'w').write('harmed')\n    return celsius * 9 / 5 + 32\n",
    "the network": "    import socket\n    socket.socket()\n    return celsius * 9 / 5 + 32\n",
    "the end of the process": "    import os\n    os._exit(0)\n",
    "a lie": "    from flyte_llama.flyte_eval import exercise\n    exercise.canonical = str\n    return 1.0\n",
    "a deep lie": "    import os\n    os.write(3, b'[\"told\",' + b'[' * 989 + b']' * 990 + b'\\n')\n    os._exit(0)\n",
    "half a character": "    raise ValueError('\\ud800')\n    return 1.0\n",
    "a prompt repeated": "@task\ndef to_fahrenheit(celsius: float) -> float:\n",
}


def test_hostile_answers_pass_nothing_and_harm_nothing(mined: Mined, seen: Observer, tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    item = next(own for own in mined.items if (own.entity, own.tier) == ("to_fahrenheit", "body"))
    texts = [text.replace("{file!r}", repr(str(tmp_path / "mine"))) for text in HOSTILE.values()]
    answers = [Answer(item.name, "left-to-right", number, text) for number, text in enumerate(texts)]
    grades = grade([item], [*answers, Answer(item.name, "left-to-right", 99, item.reference)], seen)
    assert [own.passed for own in grades] == [False] * len(HOSTILE) + [True]
    write_grades(tmp_path / "grades", grades)
    assert (tmp_path / "mine").read_text() == "mine"


def test_tables_are_read_as_they_were_written(mined: Mined, tmp_path: Path):
    write_items(tmp_path / "items", mined.items, dropped=mined.dropped)
    items, manifest = read_items(tmp_path / "items")
    assert (items, manifest["dropped"]) == (mined.items, mined.dropped)
    answers = answers_of(items, lambda item: item.reference)
    write_answers(tmp_path / "answers", answers)
    assert read_answers(tmp_path / "answers") == answers
    expected = json.loads(items[0].expected)
    assert expected["rung"] in ("compiles", "runs")


def test_grades_are_read_as_they_were_written(mined: Mined, seen: Observer, tmp_path: Path):
    grades = grade(mined.items, answers_of(mined.items[:3], lambda item: "    pass\n"), seen)
    write_grades(tmp_path, grades)
    assert read_grades(tmp_path) == grades
    assert not any(own.passed for own in grades)


def test_a_mask_is_to_the_character():
    texts = [own.text for own in small_set()]
    texts += [text.replace("\n", "\r\n") for text in texts] + [
        text.replace("Convert", "Grüße 🦙 Convert") for text in texts
    ]
    rng = random.Random(0)  # noqa: S311  # no secret
    rng.shuffle(texts)
    for text in texts:
        for masked in maskable(ModuleText(text)):
            prefix, reference, suffix = masked.parts(text)
            assert prefix.endswith(masked.description)
            assert prefix.removesuffix(masked.description) + reference + suffix == text
