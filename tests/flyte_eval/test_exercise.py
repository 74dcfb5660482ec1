"""What is seen of a module: the rung it reaches, its graph and outputs; in the sandbox, as it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flyte_llama.flyte_eval import Observer, observer
from flyte_llama.flyte_eval.observing import Observation, Trial
from flyte_llama.sandbox import Limits, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
See = Callable[[str, str], Observation]
HEAD = "from flytekit import Resources, conditional, dynamic, map_task, task, workflow\n"
SQUARE = HEAD + "@task\ndef square(n: int) -> int:\n    return n * n\n"
CHAIN = SQUARE + "@workflow\ndef chain(n: int = 4) -> int:\n    return square(n=square(n=n))\n"


def seen_by(made: Observer, source: str, entity: str) -> Observation:
    (seen,) = made.observe([Trial(source, entity)], what="t")
    return seen


@pytest.fixture(scope="module")
def see() -> Iterator[See]:
    with observer() as made:

        def seen(source: str, entity: str) -> Observation:
            found = seen_by(made, source, entity)
            assert not found.cut_short, found.error
            return found

        yield seen


@pytest.mark.parametrize(
    ("source", "rung", "error"),
    [
        ("def (", "nothing", "SyntaxError"),
        ("import nowhere\n", "parses", "ModuleNotFoundError"),
        ("raise SystemExit\n", "parses", "SystemExit"),
        (HEAD + "@task\ndef square(n: int) -> int:\n    pass\n", "parses", "FlyteMissingReturnValueException"),
        (HEAD + "def square(n: int) -> int:\n    return n\n", "imports", "no task, workflow or launch plan"),
        (HEAD, "imports", "no task, workflow or launch plan"),
        (HEAD + "@task\ndef square(n: int) -> int:\n    return 'a'\n", "compiles", "Expected value of type"),
        (SQUARE, "runs", ""),
    ],
)
def test_the_highest_rung_is_told_and_what_kept_it_there(see: See, source: str, rung: str, error: str):
    seen = see(source, "square")
    assert (seen.rung, error in seen.error) == (rung, True), seen


def test_a_workflow_that_calls_what_is_not_there_does_not_compile(see: See):
    assert see(SQUARE + "@workflow\ndef chain(n: int) -> int:\n    return cube(n=n)\n", "chain").rung == "imports"


def test_the_first_run_takes_defaults_and_outputs_are_the_workflows(see: See):
    seen = see(CHAIN, "chain")
    numbers = [int(given.split(", ")[1].strip("]}")) for given in seen.inputs]
    assert numbers[0] == 4
    assert len(set(numbers)) == 4
    assert seen.outputs == [str(number**4) for number in numbers]


def test_the_same_module_is_seen_alike_every_time(see: See):
    source = HEAD + "import random\n@task\ndef some(n: int) -> float:\n    return random.random() * n\n"
    assert see(source, "some") == see(source, "some")


@pytest.mark.parametrize(
    "type_",
    [
        *("int", "float", "str", "bool", "datetime.datetime", "datetime.timedelta", "list[int]", "dict[str, float]"),
        *("typing.List[typing.Dict[str, int]]", "typing.Optional[int]", "typing.Union[str, int]", "Colour", "Point"),
        *("Model", "FlyteFile", "FlyteFile['csv']", "FlyteDirectory", "pandas.DataFrame"),
    ],
)
def test_an_input_of_each_type_is_made_given_and_told(see: See, type_: str):
    source = f"""{HEAD}
import datetime, enum, pandas, pydantic, typing
from dataclasses import dataclass
from flytekit import FlyteDirectory, FlyteFile

class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"

@dataclass
class Point:
    x: int
    names: list[str]

class Model(pydantic.BaseModel):
    rate: float

@task
def same(value: {type_}) -> {type_}:
    return value
"""
    seen = see(source, "same")
    assert seen.rung == "runs", seen.error
    assert all(seen.outputs)
    assert len(set(seen.inputs)) > 1


def test_a_type_that_no_value_can_be_made_for_is_named(see: See):
    source = HEAD + "class Own:\n    pass\n@task\ndef own(value: Own) -> int:\n    return 1\n"
    seen = see(source, "own")
    assert seen.rung == "compiles"
    assert "no value can be made for candidate.Own" in seen.error


def changed(see: See, one: str, other: str, entity: str = "square") -> bool:
    seen = [see(source, entity) for source in (one, other)]
    return seen[0].graph != seen[1].graph or seen[0].interface != seen[1].interface


def test_the_graph_is_what_is_registered_not_how_it_is_written(see: See):
    assert not changed(see, SQUARE, SQUARE.replace("n * n", "n ** 2  # squared"))
    assert not changed(see, SQUARE, SQUARE.replace("-> int:\n", '-> int:\n    """Squares."""\n'))


@pytest.mark.parametrize(
    "decorator",
    [
        *("@task(retries=2)", "@task(cache=True, cache_version='1')", "@task(requests=Resources(cpu='2'))"),
        *("@task(enable_deck=True)", "@task(timeout=60)", "@dynamic"),
    ],
)
def test_what_a_decorator_asks_for_is_seen(see: See, decorator: str):
    assert changed(see, SQUARE, SQUARE.replace("@task", decorator))


def test_a_default_is_seen_though_the_first_run_takes_it(see: See):
    plain = SQUARE.replace("n: int", "n: int = 3")
    assert changed(see, plain, plain.replace(" = 3", ""))
    assert changed(see, plain, plain.replace(" = 3", " = 4"))


def test_floats_are_equal_to_12_digits(see: See):
    one = HEAD + "@task\ndef half(n: float) -> float:\n    return n * 5 / 9\n"
    assert see(one, "half").outputs == see(one.replace("n * 5 / 9", "n * (5 / 9)"), "half").outputs
    assert see(one, "half").outputs != see(one.replace("n * 5 / 9", "n * 5.00001 / 9"), "half").outputs


def test_half_a_character_that_takes_two_is_no_observation(see: See, impatient: Observer):
    error = HEAD + "@task\ndef square(n: int) -> int:\n    raise ValueError('\\ud800')\n    return n\n"
    assert "ValueError: ?" in see(error, "square").error
    output = HEAD + "@task\ndef square(n: int) -> str:\n    return '\\ud800'\n"
    seen_by(impatient, output, "square").model_dump_json().encode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("square(n=square(n=n))", "square(n=n)"),
        ("n: int = 4", "n: int = 5"),
        ("square(n=square(n=n))", "square(n=square(n=n)).with_overrides(requests=Resources(mem='1Gi'))"),
        ("square(n=square(n=n))", "map_task(square)(n=[n])[0]"),
        (
            "square(n=square(n=n))",
            "conditional('big').if_(n > 3).then(square(n=n)).else_().then(square(n=square(n=n)))",
        ),
    ],
)
def test_what_a_workflow_does_is_in_its_graph(see: See, before: str, after: str):
    assert before in CHAIN
    one, other = see(CHAIN, "chain"), see(CHAIN.replace(before, after), "chain")
    assert one.graph != other.graph or one.interface != other.interface or one.inputs != other.inputs


def test_a_launch_plan_is_compiled_with_its_inputs_and_run(see: See):
    plan = "from flytekit import LaunchPlan\nplan = LaunchPlan.get_or_create(chain, 'plan', default_inputs={'n': 3})\n"
    seen = see(CHAIN + plan, "plan")
    assert seen.rung == "runs", seen.error
    assert seen.outputs[0] == "81"
    assert changed(see, CHAIN + plan, CHAIN + plan.replace("3", "4"), "plan")


def test_decks_are_outputs(see: See):
    source = """
from flytekit import Deck, task

@task(enable_deck=True)
def shown(n: int) -> int:
    Deck("Numbers", f"<b>{n}</b>")
    return n
"""
    one, other = see(source, "shown"), see(source.replace("<b>", "<i>"), "shown")
    assert one.rung == other.rung == "runs", one.error
    assert one.outputs != other.outputs


def test_an_output_that_nothing_is_known_of_is_no_output(see: See):
    source = HEAD + "class Own:\n    pass\n@task\ndef own(n: int) -> Own:\n    return Own()\n"
    seen = see(source, "own")
    assert (seen.rung, seen.outputs) == ("compiles", [""] * 4)


RUNGS_OF_ENDLESS = {
    "while True:\n    pass\n": "parses",
    HEAD + "@workflow\ndef square(n: int) -> int:\n    while True:\n        pass\n    return n\n": "imports",
    HEAD + "@task\ndef square(n: int) -> int:\n    while True:\n        pass\n    return n\n": "compiles",
    HEAD + "import os\n@task\ndef square(n: int) -> int:\n    os._exit(0)\n    return n\n": "compiles",
    HEAD + "@task\ndef square(n: int) -> int:\n    while n < 0:\n        pass\n    return n\n": "compiles",
}


@pytest.fixture(scope="module")
def impatient() -> Iterator[Observer]:
    with observer(Limits(wall_s=4, cpu_s=2)) as made:
        yield made


@pytest.mark.parametrize(("source", "rung"), RUNGS_OF_ENDLESS.items())
def test_what_was_seen_before_a_limit_counts(impatient: Observer, source: str, rung: str):
    seen = seen_by(impatient, source, "square")
    assert (seen.rung, seen.cut_short) == (rung, True)
    assert bool(seen.graph) == (rung == "compiles")


def test_runs_before_the_one_that_does_not_end_are_kept(impatient: Observer):
    source = HEAD + "@task\ndef square(n: int) -> int:\n    while n < 0:\n        pass\n    return n\n"
    assert seen_by(impatient, source, "square").outputs == ["3", "6", "11"]


@pytest.mark.parametrize(
    "told",
    [
        *("5", "'runs'", "[]", "{'rung': 'graph'}", "{'rung': 'runs', 'outputs': 3}", "{'outputs': [3]}"),
        *("{'inputs': ['3'], 'more': 1}", "{'graph': None}", "{'outputs': 'abc'}", "{'graph': '\\ud800'}"),
    ],
)
def test_what_code_tells_in_our_name_is_no_observation_unless_it_has_the_form_of_one(impatient: Observer, told: str):
    source = f"import json, os\nos.write(3, json.dumps(['told', {told}]).encode() + b'\\n')\nos._exit(0)\n"
    seen = seen_by(impatient, source, "square")
    assert seen == Observation(cut_short=True, error="crashed: what it told is no observation")
