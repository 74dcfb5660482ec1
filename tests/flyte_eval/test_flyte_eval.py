"""The small set as a benchmark: right answers pass, wrong answers fail, and hostile answers do no harm."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyte_llama.flyte_eval import (
    Item,
    grade_answers,
    mine_items,
    open_observer,
    read_answers,
    read_grades,
    read_items,
    small_set,
    write_answers,
    write_grades,
    write_items,
)
from flyte_llama.flyte_eval.answering import Answer
from flyte_llama.flyte_eval.masking import find_masks
from flyte_llama.flyte_eval.mining import MiningResult
from flyte_llama.flyte_eval.module_source import ModuleText
from flyte_llama.flyte_eval.observing import Observer
from flyte_llama.flyte_eval.sandbox import Limits, confinement_problem
from flyte_llama.flyte_eval.topics import TOPICS, ModuleTopics
from tests.conftest import document

pytestmark = pytest.mark.skipif(confinement_problem() is not None, reason=str(confinement_problem()))
DOCUMENTS = {each.path: each for each in small_set()}
SOME = [DOCUMENTS["temperatures.py"], DOCUMENTS["nightly.py"]]


@pytest.fixture(scope="module")
def shared_observer() -> Iterator[Observer]:
    # The clock ends no run: on a busy machine one may take long. Endless ones end by their CPU time.
    with open_observer(Limits(wall_s=300, cpu_s=10)) as opened:
        yield opened


@pytest.fixture(scope="module")
def mined(shared_observer: Observer) -> MiningResult:
    return mine_items(SOME, shared_observer, limit=1000, seed=0)


def answers_of(items: list[Item], text: Any) -> list[Answer]:
    return [Answer(item.name, "left-to-right", 0, text(item)) for item in items]


def test_there_are_items_of_every_tier_and_kind_with_their_provenance(mined: MiningResult):
    assert len(mined.items) >= 20
    assert {item.tier for item in mined.items} == {"body", "function", "workflow"}
    assert {item.entity_kind for item in mined.items} == {"task", "workflow", "launch plan"}
    for item in mined.items:
        assert item.licence == "Apache-2.0"
        assert DOCUMENTS[item.path].text.splitlines()[item.line - 1] in item.reference
        assert item.topics


def test_the_small_set_has_every_topic():
    topics = set()
    for each in small_set():
        module = ModuleText(each.text)
        module_topics = ModuleTopics(module)
        topics |= {topic for masked in find_masks(module) for topic in module_topics.of(masked)}
    assert topics == set(TOPICS)


def test_references_score_100_per_cent(mined: MiningResult, shared_observer: Observer):
    grades = grade_answers(mined.items, answers_of(mined.items, lambda item: item.reference), shared_observer)
    assert [each.item for each in grades if not each.passed] == []
    assert {each.rung for each in grades} == {"graph"}


def test_every_mutant_that_proved_an_item_fails_at_its_level(mined: MiningResult, shared_observer: Observer):
    mutants = [(item, mutant) for item in mined.items for mutant in item.mutants]
    grades = grade_answers(
        mined.items, [Answer(item.name, "left-to-right", 0, mutant.text) for item, mutant in mutants], shared_observer
    )
    assert [each.item for each in grades if each.passed] == []
    assert [each.rung for each in grades] == [mutant.rung for _, mutant in mutants]
    kinds = {mutant.kind for _, mutant in mutants}
    assert kinds == {
        "wrong type",
        "missing decorator",
        "wrong operator",
        "wrong constant",
        "wrong name",
        "deleted statement",
        "empty",
    }


# Entity, right text and wrong text of mistakes that mining does not make.
MISTAKES = [
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


@pytest.mark.parametrize(("entity", "right", "wrong"), MISTAKES)
def test_mistakes_that_mining_did_not_make_fail_too(
    mined: MiningResult, shared_observer: Observer, entity: str, right: str, wrong: str
):
    items = [item for item in mined.items if item.entity == entity and right in item.reference]
    assert items
    grades = grade_answers(items, answers_of(items, lambda item: item.reference.replace(right, wrong)), shared_observer)
    assert [each.passed for each in grades] == [False] * len(items)


@pytest.mark.slow
def test_a_limit_samples_items_by_the_seed_and_the_documents_alone_not_by_their_order(
    shared_observer: Observer, mined: MiningResult
):
    few, again, other = (
        mine_items(documents, shared_observer, limit=5, seed=seed)
        for documents, seed in ((SOME, 0), (SOME[::-1], 0), (SOME, 1))
    )
    assert again == few
    assert len(few.items) == len(other.items) == 5
    assert {item.path for item in few.items} == {each.path for each in SOME}
    assert few.items != other.items
    assert {item.name for item in few.items} < {item.name for item in mined.items}
    spans = [span for each in SOME for span in find_masks(ModuleText(each.text))]
    assert len(few.items) + sum(few.dropped.values()) == len(spans)


# The body of a function, and the reason why its mutants do not prove it.
UNPROVEN = [
    ("    unused = 3 + n\n    return n\n", "a mutant passes"),
    ("    import time\n    return time.time_ns() + n\n", "two runs of the original differ"),
    ("    import nowhere\n    return nowhere.f(n, 2)\n", "a mutant passes"),
]


def test_a_function_that_its_mutants_do_not_prove_is_no_item(shared_observer: Observer):
    header = "from flytekit import task\n\n\n@task\ndef own(n: int) -> int:\n"
    documents = [document(header + body, path=f"{index}.py") for index, (body, _) in enumerate(UNPROVEN)]
    result = mine_items(documents, shared_observer, limit=10, seed=0)
    assert (result.items, result.dropped) == ([], Counter(reason for _, reason in UNPROVEN))


DEEP = "-" * 3000 + "1"


UNREADABLE = [f"n = {DEEP}\n", "n = 'a\n"]


def test_a_module_that_cannot_be_parsed_is_counted_and_the_others_are_mined(shared_observer: Observer):
    flyte = "from flytekit import task\n\n\n@task\ndef own(n: int) -> int:\n    return n * 3 + 1\n"
    bad = [document(flyte + text, path=f"bad_{index}.py") for index, text in enumerate(UNREADABLE)]
    alone = mine_items([document(flyte, path="good.py")], shared_observer, limit=1000, seed=0)
    result = mine_items([bad[0], document(flyte, path="good.py"), *bad[1:]], shared_observer, limit=1000, seed=0)
    assert {item.tier for item in result.items} == {"body"}
    assert result.items == alone.items
    assert result.dropped == {"no Python that can be read": len(UNREADABLE)}


def test_an_item_whose_reference_fails_on_another_day_is_left_out(
    mined: MiningResult, shared_observer: Observer, capsys: pytest.CaptureFixture[str]
):
    broken = replace(mined.items[0], expected=mined.items[-1].expected)
    items = [broken, *mined.items[1:3]]
    grades = grade_answers(items, answers_of(items, lambda item: item.reference), shared_observer)
    assert [each.item for each in grades] == [item.name for item in items[1:]]
    assert "1 of 3 tasks are left out" in capsys.readouterr().err


HOSTILE = {
    "a fork bomb": "    import os\n    while True:\n        os.fork()\n",
    "an endless loop": "    while True:\n        pass\n",
    "a file of yours": "    open({file!r}, 'w').write('harmed')\n    return celsius * 9 / 5 + 32\n",
    "the network": "    import socket\n    socket.socket()\n    return celsius * 9 / 5 + 32\n",
    "the end of the process": "    import os\n    os._exit(0)\n",
    "a lie": "    from flyte_llama.flyte_eval import exercise\n    exercise.canonical_text = str\n    return 1.0\n",
    "a deep lie": """\
    import os
    os.write(3, b'["value",' + b'[' * 989 + b']' * 990 + b'\\n')
    os._exit(0)
""",
    "the small set": """\
    from flyte_llama.flyte_eval.mining import small_set
    names = {"__name__": "original"}
    exec(next(each.text for each in small_set() if "to_fahrenheit" in each.text), names)
    return names["to_fahrenheit"].task_function(celsius)
""",
    "a text in memory": """\
    import gc
    texts = [each for each in gc.get_objects() if isinstance(each, dict)]
    texts = [text for each in texts for text in each.values() if isinstance(text, str)]
    line = next(line for text in texts for line in text.splitlines() if "return celsius " + "* 9" in line)
    return eval(line.strip().removeprefix("return "))
""",
    "half a character": "    raise ValueError('\\ud800')\n    return 1.0\n",
    "a prompt repeated": "@task\ndef to_fahrenheit(celsius: float) -> float:\n",
}


def test_hostile_answers_fail_and_do_no_harm(mined: MiningResult, shared_observer: Observer, tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    item = next(each for each in mined.items if (each.entity, each.tier) == ("to_fahrenheit", "body"))
    texts = [text.replace("{file!r}", repr(str(tmp_path / "mine"))) for text in HOSTILE.values()]
    answers = [Answer(item.name, "left-to-right", sample, text) for sample, text in enumerate(texts)]
    grades = grade_answers([item], [*answers, Answer(item.name, "left-to-right", 99, item.reference)], shared_observer)
    assert [each.passed for each in grades] == [False] * len(HOSTILE) + [True]
    write_grades(tmp_path / "grades", grades)
    assert (tmp_path / "mine").read_text() == "mine"


def test_items_and_answers_are_read_as_they_were_written(mined: MiningResult, tmp_path: Path):
    write_items(tmp_path / "items", mined.items, dropped=mined.dropped)
    items, manifest = read_items(tmp_path / "items")
    assert (items, manifest["dropped"]) == (mined.items, mined.dropped)
    answers = answers_of(items, lambda item: item.reference)
    write_answers(tmp_path / "answers", answers)
    assert read_answers(tmp_path / "answers") == answers
    expected = json.loads(items[0].expected)
    assert expected["rung"] in ("compiles", "runs")


def test_grades_are_read_as_they_were_written(mined: MiningResult, shared_observer: Observer, tmp_path: Path):
    grades = grade_answers(mined.items, answers_of(mined.items[:3], lambda item: "    pass\n"), shared_observer)
    write_grades(tmp_path, grades)
    assert read_grades(tmp_path) == grades
    assert not any(each.passed for each in grades)


def test_a_mask_is_exact_to_the_character():
    texts = [each.text for each in small_set()]
    texts += [text.replace("\n", "\r\n") for text in texts] + [
        text.replace("Convert", "Grüße 🦙 Convert") for text in texts
    ]
    rng = random.Random(0)  # noqa: S311  # not a secret
    rng.shuffle(texts)
    for text in texts:
        for masked in find_masks(ModuleText(text)):
            prefix, reference, suffix = masked.parts(text)
            assert prefix.endswith(masked.description)
            assert prefix.removesuffix(masked.description) + reference + suffix == text
