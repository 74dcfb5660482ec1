"""Mining costs no more than a file is long, runs no more than is asked for, and gives the same items again."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from flyte_llama.config import FlyteEvalConfig
from flyte_llama.documents import Document, write_documents
from flyte_llama.evaluation.measure import make_items
from flyte_llama.flyte_eval import (
    describe_machine,
    find_candidates,
    mining_key,
    prove_items,
    read_items,
    read_mined,
    write_mined,
)
from flyte_llama.flyte_eval.edits import name_edits
from flyte_llama.flyte_eval.masking import find_masks
from flyte_llama.flyte_eval.mining import RUNS_CUT_SHORT, RUNS_PER_ITEM, MiningResult, mine_items
from flyte_llama.flyte_eval.module_source import Function, ModuleText
from flyte_llama.flyte_eval.mutants import MUTANTS_PER_ITEM, make_mutants
from flyte_llama.flyte_eval.observing import LIMITS, Observation, Observer, Trial
from flyte_llama.flyte_eval.sandbox import Sandbox, confinement_problem
from flyte_llama.storage import verify
from tests.conftest import document

HEAD = "from flytekit import task\n\n\n"
TASK = '''@task
def scale_{n}(left: int, right: int) -> int:
    """Scale and add."""
    total = left * {n} + right
    if total > {n}:
        total = total - left
    return max(total, right) + {n}


'''
PROVEN = HEAD + "@task\ndef add(value: int) -> int:\n    total = value + 3\n    return total * 5\n"
NO_FLYTE = "def add(left: int, right: int) -> int:\n    return left + right\n"
EXERCISE = "flyte_llama.flyte_eval.exercise:observe_entity"
# The clock ends no run: on a busy machine one may take long.
PATIENT = LIMITS._replace(wall_s=300)


def tasks(count: int, *, first: int = 2) -> str:
    return HEAD + "".join(TASK.replace("{n}", str(n)) for n in range(first, first + count))


class ReadingObserver(Observer):
    """Runs nothing: the outputs of a module are its text, so that every mutant fails.

    An entity whose name contains one of `same` gives the same outputs whatever its code; one of `endless` never ends.
    """

    def __init__(self, *, same: Sequence[str] = (), endless: Sequence[str] = ()) -> None:
        self.num_cut_off = 0
        self.originals: list[Trial] = []
        self.mutants: list[Trial] = []
        self._same, self._endless = same, endless

    def observe(self, trials: Sequence[Trial], *, what: str) -> list[Observation]:
        seen = self.mutants if what == "running mutants" else self.originals
        seen += trials
        return [self._observation(trial) for trial in trials]

    def restart(self) -> None:
        pass

    def _observation(self, trial: Trial) -> Observation:
        if any(part in trial.entity for part in self._endless):
            return Observation(rung="compiles", cut_short=True)
        text = "" if any(part in trial.entity for part in self._same) else trial.source
        return Observation(rung="runs", inputs=["1", "2"], outputs=[text + "1", text + "2"])


def mine(text: str, observer: ReadingObserver, *, limit: int, seed: int = 0) -> MiningResult:
    return mine_items([document(text)], observer, limit=limit, seed=seed)


# What grows with the file, and how a file of that size is written.
SHAPES: dict[str, Callable[[int], str]] = {
    "tasks": tasks,
    "statements of one task": lambda n: (
        HEAD
        + "@task\ndef f(a: int) -> int:\n"
        + "".join(f"    b{i} = max(a, {i})\n" for i in range(n))
        + "    return b0\n"
    ),
    "terms in one line": lambda n: (
        HEAD
        + "@task\ndef f(a: int) -> list[int]:\n    return ["
        + "a * 2, " * n
        + "len('\N{LATIN SMALL LETTER U WITH DIAERESIS}')]\n"
    ),
    "launch plans": lambda n: (
        "from flytekit import LaunchPlan, workflow\n\n\n@workflow\ndef w(n: int = 1):\n    pass\n\n\n"
        + "".join(
            f"plan_{i} = LaunchPlan.get_or_create(w, 'plan {i}', default_inputs={{'n': {i}}})\n" for i in range(n)
        )
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_text_that_is_parsed_for_mutants_grows_no_faster_than_the_file(shape: str, monkeypatch: pytest.MonkeyPatch):
    parsed = 0
    parse = ast.parse

    def count(text: str, *arguments: object) -> ast.AST:
        nonlocal parsed
        parsed += len(text)
        return parse(text, *arguments)

    monkeypatch.setattr(ast, "parse", count)
    per_character = []
    for size in (20, 80, 320):
        text = SHAPES[shape](size)
        parsed = 0
        assert any(candidate.make_mutants(0) for candidate in find_candidates([document(text)]).candidates)
        per_character.append(parsed / len(text))
    assert per_character[2] < 1.5 * per_character[1] + 20


def test_the_trees_that_are_compared_grow_no_faster_than_the_file(monkeypatch: pytest.MonkeyPatch):
    dumped = 0
    dump = ast.dump

    def count(tree: ast.AST) -> str:
        nonlocal dumped
        text = dump(tree)
        dumped += len(text)
        return text

    monkeypatch.setattr(ast, "dump", count)
    totals = []
    for size in (10, 80):
        dumped = 0
        for candidate in find_candidates([document(tasks(size))]).candidates:
            candidate.make_mutants(0)
        totals.append(dumped)
    assert totals[1] / totals[0] == pytest.approx(8, rel=0.05)


def test_the_edits_of_names_grow_no_faster_than_the_function():
    counts = []
    for size in (100, 200, 400):
        module = ModuleText(SHAPES["statements of one task"](size))
        function = next(node for node in module.tree.body if isinstance(node, Function))
        counts.append(sum(1 for _ in name_edits(module, function, function.body)))
    assert counts == [1600, 3200, 6400]


@pytest.mark.parametrize("shape", SHAPES)
def test_no_item_has_more_mutants_than_the_bound(shape: str):
    for candidate in find_candidates([document(SHAPES[shape](100))]).candidates:
        assert len(candidate.make_mutants(0)) <= MUTANTS_PER_ITEM


def test_every_mutant_gives_a_module_that_parses_and_differs_from_the_original():
    module = ModuleText(tasks(3))
    original = ast.dump(module.tree)
    masks = find_masks(module)
    assert len(masks) == 6
    for mask in masks:
        mutations = make_mutants(module, mask, seed=0, name="item")
        modules = {module.text[: mask.start] + mutation.text + module.text[mask.end :] for mutation in mutations}
        assert len(modules) == len(mutations) >= 20
        assert original not in {ast.dump(ast.parse(text)) for text in modules}


def test_as_many_candidates_are_run_as_items_are_asked_for():
    observer = ReadingObserver()
    result = mine(tasks(160), observer, limit=4)
    assert len(result.items) == 4
    assert len(observer.mutants) == sum(len(item.mutants) for item in result.items)
    assert len(observer.originals) <= 2 * 16
    assert result.dropped == {"more than were asked for": 2 * 160 - 4}


def test_the_next_candidate_takes_the_place_of_an_unfit_one():
    everything = mine(tasks(20), ReadingObserver(), limit=1000)
    unfit = [item.entity for item in mine(tasks(20), ReadingObserver(), limit=6).items][:3]
    result = mine(tasks(20), ReadingObserver(same=unfit), limit=6)
    assert len(result.items) == 6
    assert not {item.entity for item in result.items} & set(unfit)
    assert {item.name for item in result.items} < {item.name for item in everything.items}


@pytest.mark.parametrize("kind", ["same", "endless"])
def test_the_runs_are_bounded_where_every_candidate_is_unfit(kind: str, capsys: pytest.CaptureFixture[str]):
    observer = ReadingObserver(**{kind: ["scale"]})
    result = mine(tasks(400), observer, limit=2)
    assert result.items == []
    runs = len(observer.originals) + len(observer.mutants)
    most = 2 * RUNS_PER_ITEM // (RUNS_CUT_SHORT if kind == "endless" else 1)
    assert runs <= most + MUTANTS_PER_ITEM
    assert result.dropped["not tried: the others took too many runs"] > 0
    assert sum(result.dropped.values()) == 800
    assert "are not tried: the others took all 400 runs" in capsys.readouterr().err


def test_the_choice_depends_on_the_seed_but_on_neither_the_order_nor_the_place_of_the_documents():
    documents = [document(tasks(8, first=10 * n), path=f"{n}.py") for n in range(1, 5)]
    once, again = (mine_items(order, ReadingObserver(), limit=5, seed=0) for order in (documents, documents[::-1]))
    other = mine_items(documents, ReadingObserver(), limit=5, seed=1)
    assert once == again
    assert [item.name for item in once.items] != [item.name for item in other.items]


def test_a_smaller_limit_keeps_the_first_of_the_same_items():
    names = [{item.name for item in mine(tasks(30), ReadingObserver(), limit=limit).items} for limit in (3, 20, 60)]
    assert names[0] < names[1] < names[2]


@pytest.mark.slow
@pytest.mark.skipif(confinement_problem() is not None, reason=str(confinement_problem()))
def test_the_number_of_runs_at_a_time_changes_no_item():
    modules = [document(PROVEN.replace("3", str(n)), path=f"{n}.py") for n in (3, 7, 11)]
    results = []
    for workers in (1, 3):
        with Sandbox(EXERCISE, preload=["flytekit.tools.translator"], limits=PATIENT, workers=workers) as sandbox:
            results.append(prove_items(find_candidates(modules), Observer(sandbox), limit=2, seed=0))
    assert results[0] == results[1]
    assert len(results[0].items) == 2


def heldout(folder: Path, *documents: Document) -> Path:
    write_documents(folder / "heldout", documents)
    return folder / "heldout"


@pytest.fixture
def without_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any process, or check for one, fails the test."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a process was started")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    monkeypatch.setattr("flyte_llama.evaluation.measure.confinement_problem", refuse)
    monkeypatch.setattr("flyte_llama.evaluation.measure.open_observer", refuse)


@pytest.mark.parametrize("text", [NO_FLYTE, "# flytekit is not imported\n" + NO_FLYTE])
@pytest.mark.usefixtures("without_sandbox")
def test_code_without_flyte_costs_no_process_and_one_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    make_items(heldout(tmp_path, document(text)), FlyteEvalConfig(), out=tmp_path / "items", cache=tmp_path / "cache")
    reason = "no Python file of the held-out code imports flytekit."
    assert capsys.readouterr().err.splitlines()[-1] == f"FlyteEval is not measured: {reason}"
    assert read_items(tmp_path / "items")[0] == []
    assert verify(tmp_path / "items")["reason"] == reason
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("documents", "reason"),
    [
        (
            [document(PROVEN, url="package:flytekit")],
            "the sandbox needs package:flytekit, so it cannot hide the originals.",
        ),
        (
            [document(PROVEN, url="package:flytekit"), document(NO_FLYTE)],
            "the sandbox needs package:flytekit, so it cannot hide the originals. Also, no Python file of the other "
            "held-out code imports flytekit.",
        ),
        (
            [document("from flytekit import task\nprint 'Python 2'\n")],
            "no function, workflow or launch plan of the held-out code makes an item: no Python that can be read (1).",
        ),
        (
            [document("from flytekit import task\n")],
            "no function, workflow or launch plan of the held-out code makes an item: it has none to mask.",
        ),
    ],
)
@pytest.mark.usefixtures("without_sandbox")
def test_flyte_code_without_candidates_costs_no_process_and_the_true_reason_is_given(
    documents: list[Document], reason: str, tmp_path: Path
):
    make_items(heldout(tmp_path, *documents), FlyteEvalConfig(), out=tmp_path / "items", cache=tmp_path / "cache")
    assert verify(tmp_path / "items")["reason"] == reason


def test_the_items_name_every_package_that_was_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hidden: list[Sequence[str]] = []

    @contextmanager
    def observe(*, sources: Sequence[str]) -> Iterator[ReadingObserver]:
        hidden.append(sources)
        yield ReadingObserver()

    monkeypatch.setattr("flyte_llama.evaluation.measure.open_observer", observe)
    monkeypatch.setattr("flyte_llama.evaluation.measure.confinement_problem", lambda: None)
    documents = [
        document(PROVEN),
        document(NO_FLYTE, url="package:acme-tasks"),
        document(NO_FLYTE, url="package:flytekit"),
    ]
    make_items(heldout(tmp_path, *documents), FlyteEvalConfig(), out=tmp_path / "items")
    assert hidden == [["package:acme-tasks"]]
    assert verify(tmp_path / "items")["hidden"] == ["package:acme-tasks"]


def test_items_are_not_kept_if_the_clock_cut_off_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    observer = ReadingObserver()
    monkeypatch.setattr("flyte_llama.evaluation.measure.open_observer", lambda **_: nullcontext(observer))
    monkeypatch.setattr("flyte_llama.evaluation.measure.confinement_problem", lambda: None)
    folder = heldout(tmp_path, document(PROVEN))
    observer.num_cut_off = 1
    make_items(folder, FlyteEvalConfig(), out=tmp_path / "first", cache=tmp_path / "cache")
    assert "runs cut off by the clock: 1, so the next call makes the items again" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
    observer.num_cut_off = 0
    make_items(folder, FlyteEvalConfig(), out=tmp_path / "second", cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.skipif(confinement_problem() is not None, reason=str(confinement_problem()))
def test_a_second_call_takes_the_items_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder, cache = heldout(tmp_path, document(PROVEN)), tmp_path / "cache"
    config = FlyteEvalConfig(tasks=1)
    make_items(folder, config, out=tmp_path / "first", cache=cache)
    monkeypatch.setattr("flyte_llama.evaluation.measure.open_observer", lambda: pytest.fail("it is mined again"))
    make_items(folder, config, out=tmp_path / "second", cache=cache)
    assert "the items of an earlier call are used" in capsys.readouterr().err
    assert read_items(tmp_path / "first") == read_items(tmp_path / "second")
    assert [item.entity for item in read_items(tmp_path / "first")[0]] == ["add"]


def test_a_damaged_result_in_the_cache_is_removed_and_written_again(tmp_path: Path):
    mined = mine(tasks(2), ReadingObserver(), limit=1)
    write_mined(tmp_path / "key", mined)
    assert read_mined(tmp_path / "key") == mined
    (tmp_path / "key/items.parquet").write_bytes(b"damaged")
    assert read_mined(tmp_path / "key") is None
    write_mined(tmp_path / "key", mined)
    assert read_mined(tmp_path / "key") == mined
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_new_result_takes_the_place_of_those_of_other_keys_and_of_unfinished_ones(tmp_path: Path):
    for name in ("1" * 32, "2" * 32 + ".new"):
        write_mined(tmp_path / name, MiningResult([], {}))
    (tmp_path / "notes").mkdir()
    write_mined(tmp_path / ("3" * 32), MiningResult([], {}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3" * 32, "notes"]


def test_a_result_that_cannot_be_put_in_place_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "key").write_text("a file")
    write_mined(tmp_path / "key", MiningResult([], {}))
    assert "cannot be written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_cache_that_cannot_be_written_is_one_line_and_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "cache").write_text("a file")
    write_mined(tmp_path / "cache" / "key", MiningResult([], {}))
    assert "cannot be written" in capsys.readouterr().err


def test_the_key_of_cached_items_changes_with_all_that_decides_them(monkeypatch: pytest.MonkeyPatch):
    documents = [document(tasks(2)), document(NO_FLYTE, path="b.py")]
    hidden = ["package:click", "package:jinja2"]

    def key_of(documents: Sequence[Document], hidden: Sequence[str] = hidden, *, limit: int = 4, seed: int = 0) -> str:
        return mining_key(documents, hidden=hidden, limit=limit, seed=seed)

    key = key_of(documents)
    assert key_of(documents[::-1], hidden[::-1]) == key
    # code without Flyte decides through its package alone, which is hidden
    assert key_of(documents[:1]) == key
    changed = {
        key_of([document(tasks(3))]),
        key_of([document(tasks(2), path="c.py")]),
        key_of(documents, hidden[:1]),
        key_of(documents, limit=5),
        key_of(documents, seed=1),
    }
    monkeypatch.setattr("flyte_llama.flyte_eval.item_cache.metadata.distributions", list)
    changed.add(key_of(documents))
    assert len(changed - {key}) == 6


def test_the_description_of_a_machine_changes_with_its_packages_and_with_what_it_can_confine(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("flyte_llama.flyte_eval.item_cache.confinement_problem", lambda: None)
    descriptions = [describe_machine(), describe_machine()]
    monkeypatch.setattr("flyte_llama.flyte_eval.item_cache.confinement_problem", lambda: "no Landlock here")
    descriptions.append(describe_machine())
    monkeypatch.setattr("flyte_llama.flyte_eval.item_cache.metadata.distributions", list)
    descriptions.append(describe_machine())
    assert descriptions[0] == descriptions[1]
    assert len(set(descriptions)) == 3
    assert descriptions[2].endswith(" no Landlock here")
