"""The observation of a module: its level, graph and outputs; made in the sandbox, as in real use."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flyte_llama.flyte_eval import open_observer
from flyte_llama.flyte_eval.observing import Observation, Observer, Trial
from flyte_llama.flyte_eval.sandbox import Limits, confinement_problem

pytestmark = pytest.mark.skipif(confinement_problem() is not None, reason=str(confinement_problem()))
See = Callable[[str, str], Observation]
HEAD = "from flytekit import Resources, conditional, dynamic, map_task, task, workflow\n"
SQUARE = HEAD + "@task\ndef square(n: int) -> int:\n    return n * n\n"
NO_ENTITY = "square is not a task, workflow or launch plan"
# The clock ends no run: on a busy machine one may take long. Endless ones end by their CPU time.
PATIENT = Limits(wall_s=300, cpu_s=10)
CHAIN = SQUARE + "@workflow\ndef chain(n: int = 4) -> int:\n    return square(n=square(n=n))\n"


def observe(observer: Observer, source: str, entity: str) -> Observation:
    (observation,) = observer.observe([Trial(source, entity)], what="t")
    return observation


@pytest.fixture(scope="module")
def see() -> Iterator[See]:
    with open_observer(PATIENT) as opened:

        def observe_fully(source: str, entity: str) -> Observation:
            observation = observe(opened, source, entity)
            assert not observation.cut_short, observation.error
            return observation

        yield observe_fully


@pytest.mark.parametrize(
    ("source", "rung", "error"),
    [
        ("def (", "nothing", "SyntaxError"),
        ("import nowhere\n", "parses", "ModuleNotFoundError"),
        ("raise SystemExit\n", "parses", "SystemExit"),
        (HEAD + "@task\ndef square(n: int) -> int:\n    pass\n", "parses", "FlyteMissingReturnValueException"),
        (
            HEAD + "def square(n: int) -> int:\n    return n\n",
            "imports",
            NO_ENTITY,
        ),
        (HEAD, "imports", NO_ENTITY),
        (HEAD + "@task\ndef square(n: int) -> int:\n    return 'a'\n", "compiles", "Expected value of type"),
        (SQUARE, "runs", ""),
    ],
)
def test_the_highest_level_and_its_error_are_observed(see: See, source: str, rung: str, error: str):
    observation = see(source, "square")
    assert (observation.rung, error in observation.error) == (rung, True), observation


def test_a_workflow_that_calls_an_unknown_task_does_not_compile(see: See):
    assert see(SQUARE + "@workflow\ndef chain(n: int) -> int:\n    return cube(n=n)\n", "chain").rung == "imports"


def test_the_first_run_takes_defaults_and_outputs_are_the_workflows(see: See):
    observation = see(CHAIN, "chain")
    numbers = [int(inputs.split(", ")[1].strip("]}")) for inputs in observation.inputs]
    assert numbers[0] == 4
    assert len(set(numbers)) == 4
    assert observation.outputs == [str(n**4) for n in numbers]


def test_the_same_module_gives_the_same_observation_every_time(see: See):
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
def test_an_input_of_each_type_is_made_passed_and_observed(see: See, type_: str):
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
    observation = see(source, "same")
    assert observation.rung == "runs", observation.error
    assert all(observation.outputs)
    assert len(set(observation.inputs)) > 1


def test_a_type_that_no_value_can_be_made_for_is_named(see: See):
    source = HEAD + "class Own:\n    pass\n@task\ndef own(value: Own) -> int:\n    return 1\n"
    observation = see(source, "own")
    assert observation.rung == "compiles"
    assert "no value can be made for candidate.Own" in observation.error


def differ(see: See, first: str, second: str, entity: str = "square") -> bool:
    before, after = [see(source, entity) for source in (first, second)]
    return before.graph != after.graph or before.interface != after.interface


def test_the_graph_depends_on_what_is_registered_not_on_the_text(see: See):
    assert not differ(see, SQUARE, SQUARE.replace("n * n", "n ** 2  # squared"))
    assert not differ(see, SQUARE, SQUARE.replace("-> int:\n", '-> int:\n    """Squares."""\n'))


@pytest.mark.parametrize(
    "decorator",
    [
        *("@task(retries=2)", "@task(cache=True, cache_version='1')", "@task(requests=Resources(cpu='2'))"),
        *("@task(enable_deck=True)", "@task(timeout=60)", "@dynamic"),
    ],
)
def test_the_arguments_of_a_decorator_are_observed(see: See, decorator: str):
    assert differ(see, SQUARE, SQUARE.replace("@task", decorator))


def test_a_default_is_observed_though_the_first_run_uses_it(see: See):
    plain = SQUARE.replace("n: int", "n: int = 3")
    assert differ(see, plain, plain.replace(" = 3", ""))
    assert differ(see, plain, plain.replace(" = 3", " = 4"))


def test_floats_are_equal_to_12_digits(see: See):
    source = HEAD + "@task\ndef half(n: float) -> float:\n    return n * 5 / 9\n"
    assert see(source, "half").outputs == see(source.replace("n * 5 / 9", "n * (5 / 9)"), "half").outputs
    assert see(source, "half").outputs != see(source.replace("n * 5 / 9", "n * 5.00001 / 9"), "half").outputs


def test_a_lone_surrogate_is_never_part_of_an_observation(see: See, impatient: Observer):
    error = HEAD + "@task\ndef square(n: int) -> int:\n    raise ValueError('\\ud800')\n    return n\n"
    assert "ValueError: ?" in see(error, "square").error
    output = HEAD + "@task\ndef square(n: int) -> str:\n    return '\\ud800'\n"
    observe(impatient, output, "square").model_dump_json().encode()


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
    old, new = see(CHAIN, "chain"), see(CHAIN.replace(before, after), "chain")
    assert old.graph != new.graph or old.interface != new.interface or old.inputs != new.inputs


def test_a_launch_plan_is_compiled_with_its_inputs_and_run(see: See):
    plan = "from flytekit import LaunchPlan\nplan = LaunchPlan.get_or_create(chain, 'plan', default_inputs={'n': 3})\n"
    observation = see(CHAIN + plan, "plan")
    assert observation.rung == "runs", observation.error
    assert observation.outputs[0] == "81"
    assert differ(see, CHAIN + plan, CHAIN + plan.replace("3", "4"), "plan")


def test_decks_are_outputs(see: See):
    source = """
from flytekit import Deck, task

@task(enable_deck=True)
def shown(n: int) -> int:
    Deck("Numbers", f"<b>{n}</b>")
    return n
"""
    bold, italic = see(source, "shown"), see(source.replace("<b>", "<i>"), "shown")
    assert bold.rung == italic.rung == "runs", bold.error
    assert bold.outputs != italic.outputs


def test_an_output_of_an_unknown_type_is_not_observed(see: See):
    source = HEAD + "class Own:\n    pass\n@task\ndef own(n: int) -> Own:\n    return Own()\n"
    observation = see(source, "own")
    assert (observation.rung, observation.outputs) == ("compiles", [""] * 4)


LEVELS_OF_ENDLESS = {
    "while True:\n    pass\n": "parses",
    HEAD + "@workflow\ndef square(n: int) -> int:\n    while True:\n        pass\n    return n\n": "imports",
    HEAD + "@task\ndef square(n: int) -> int:\n    while True:\n        pass\n    return n\n": "compiles",
    HEAD + "import os\n@task\ndef square(n: int) -> int:\n    os._exit(0)\n    return n\n": "compiles",
    HEAD + "@task\ndef square(n: int) -> int:\n    while n < 0:\n        pass\n    return n\n": "compiles",
}


@pytest.fixture(scope="module")
def impatient() -> Iterator[Observer]:
    with open_observer(PATIENT._replace(cpu_s=2)) as opened:
        yield opened


@pytest.mark.parametrize(("source", "rung"), LEVELS_OF_ENDLESS.items())
def test_what_was_seen_before_a_limit_counts(impatient: Observer, source: str, rung: str):
    observation = observe(impatient, source, "square")
    assert (observation.rung, observation.cut_short) == (rung, True)
    assert bool(observation.graph) == (rung == "compiles")


def test_a_run_that_the_clock_ends_is_counted_and_one_that_the_kernel_ends_is_not(impatient: Observer):
    endless, waiting = (
        HEAD + f"import time\n@task\ndef square(n: int) -> int:\n    {line}\n    return n\n"
        for line in ("while True: pass", "time.sleep(300)")
    )
    assert observe(impatient, endless, "square").cut_short
    assert impatient.num_cut_off == 0
    with open_observer(PATIENT._replace(wall_s=3)) as observer:
        assert observe(observer, waiting, "square").cut_short
        assert observer.num_cut_off == 1


def test_runs_before_the_one_that_does_not_end_are_kept(impatient: Observer):
    source = HEAD + "@task\ndef square(n: int) -> int:\n    while n < 0:\n        pass\n    return n\n"
    assert observe(impatient, source, "square").outputs == ["3", "6", "11"]


@pytest.mark.parametrize(
    "value",
    [
        *("5", "'runs'", "[]", "{'rung': 'graph'}", "{'rung': 'runs', 'outputs': 3}", "{'outputs': [3]}"),
        *("{'inputs': ['3'], 'more': 1}", "{'graph': None}", "{'outputs': 'abc'}", "{'graph': '\\ud800'}"),
    ],
)
def test_values_that_code_forges_count_only_with_the_form_of_an_observation(impatient: Observer, value: str):
    source = f"import json, os\nos.write(3, json.dumps(['value', {value}]).encode() + b'\\n')\nos._exit(0)\n"
    observation = observe(impatient, source, "square")
    assert observation == Observation(cut_short=True, error="crashed: its output is not an observation")
