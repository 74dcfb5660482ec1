"""Parts of functions are masked to the character and proven by wrong parts, and answers end where the part does."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from flyte_llama.config import FlyteEvalConfig
from flyte_llama.documents import write_documents
from flyte_llama.evaluation.measure import make_items
from flyte_llama.flyte_eval import find_candidates, grade_answers, open_observer, prove_items, read_items, small_set
from flyte_llama.flyte_eval.answering import Answer
from flyte_llama.flyte_eval.endings import end_of_argument, end_of_statement, end_of_type
from flyte_llama.flyte_eval.module_source import ModuleText
from flyte_llama.flyte_eval.mutants import NO_CODE
from flyte_llama.flyte_eval.observing import LIMITS
from flyte_llama.flyte_eval.parts import PARTS, find_parts
from flyte_llama.flyte_eval.sandbox import confinement_problem
from tests.conftest import document

MODULE = '''import flytekit as fl


@fl.task(retries=2)
def scale(value: int, by: int = 2) -> int:
    """Scale a value."""
    total = max(value, by)
    total = total * by + 1  # one more
    return total
'''
CANDIDATES = find_candidates(small_set(), parts=True).candidates


def parts_of(text: str) -> dict[str, str]:
    return {mask.tier: mask.parts(text)[1] for mask in find_parts(ModuleText(text))}


def test_a_function_has_at_most_one_part_of_each_kind():
    parts = parts_of(MODULE)
    lines = MODULE.splitlines(keepends=True)
    assert parts["decorator"] == "@fl.task(retries=2)\n"
    assert parts["statement"] in lines[6:9]
    assert parts["argument"] in ("value", " by")
    assert parts["type"] == " int"


def test_a_body_of_one_statement_has_no_statement_to_mask():
    text = "from flytekit import task\n\n\n@task\ndef f(value):\n    return value + 1\n"
    assert parts_of(text) == {"decorator": "@task\n"}


@pytest.mark.parametrize("change", [str, lambda text: text.replace("\n", "\r\n"), lambda text: "# Grüße 🦙\n" + text])
def test_a_part_is_exact_to_the_character(change: Callable[[str], str]):
    for each in small_set():
        text = change(each.text)
        parts = find_parts(ModuleText(text))
        assert parts
        for mask in parts:
            assert "".join(mask.parts(text)) == text


def test_other_code_of_the_file_does_not_change_which_part_is_masked():
    more = MODULE + "\n\n@fl.task\ndef other(a: str) -> str:\n    return a.strip() + str(len(a))\n"
    assert {mask.tier: mask.parts(more)[1] for mask in find_parts(ModuleText(more)) if mask.entity == "scale"} == (
        parts_of(MODULE)
    )


def test_every_wrong_part_gives_a_module_that_parses_differs_and_is_the_same_around_the_part():
    kinds = set()
    for candidate in CANDIDATES:
        original = ast.dump(candidate.module.tree)
        mutations = candidate.make_mutants(0)
        for mutation, trial in zip(mutations, candidate.mutant_trials(mutations), strict=True):
            kinds.add(mutation.kind)
            assert ast.dump(ast.parse(trial.source)) != original
    assert kinds >= {"wrong statement", "wrong argument", "wrong decorator", "wrong type", "wrong name", "empty"}


def test_a_returned_value_is_tried_against_each_parameter():
    text = "from flytekit import task\n\n\n@task\ndef f(a: int, *, b: int) -> int:\n    if a:\n        return a * b\n"
    by_tier = {each.mask.tier: each for each in find_candidates([document(text)], parts=True).candidates}
    wrong = [mutation.text for mutation in by_tier["statement"].make_mutants(0) if mutation.kind == "wrong statement"]
    assert sorted(wrong) == ["        return a\n", "        return b\n"]


def test_a_part_after_which_an_answer_would_not_be_cut_is_left_out():
    text = "from flytekit import task\n\n\n@task\ndef f(a: str) -> str:\n    return a.strip('a\\\n, b')\n"
    candidates, _, dropped = find_candidates([document(text)], parts=True)
    assert {each.mask.tier for each in candidates} == {"type", "decorator"}
    assert dropped == {"an answer would be cut elsewhere": 1}


def test_a_part_whose_only_wrong_forms_leave_it_out_proves_nothing():
    text = "from flytekit import task\n\n\n@task\ndef f() -> str:\n    a = str()\n    return a.upper()\n"
    by_tier = {each.mask.tier: each for each in find_candidates([document(text)], parts=True).candidates}
    assert by_tier["decorator"].make_mutants(0) == []  # another decorator needs a name, and the file imports none
    assert all(
        any(mutation.kind not in NO_CODE for mutation in made)
        for candidate in CANDIDATES
        if (made := candidate.make_mutants(0))
    )


@pytest.mark.parametrize(
    ("end", "part", "after"),
    [
        (end_of_statement, "    return f(\n1,\n)\n", "    x"),
        (end_of_statement, '\n    # why\n    text = """\n\n"""\n', "y"),
        (end_of_statement, "@task(\n    retries=2,\n)\n", "def f():"),
        (end_of_argument, " by=g(1, [2, 3])", ", c=1)"),
        (end_of_argument, ' ","', ")"),
        (end_of_argument, '\n        """a, b)"""', "\n    )"),
        (end_of_argument, " {'a': (1, 2)}", "}"),
        (end_of_argument, " key=lambda a, b=lambda c, d: (c, d), *e: a + b", ", xs)"),
        (end_of_argument, "lambda a, b: a + b", ")"),
        (end_of_type, " dict[str, int]", ", b: int)"),
        (end_of_type, " int", " = 2)"),
        (end_of_type, " tuple[int, str]", ":\n    return"),
    ],
)
def test_an_answer_ends_where_the_part_does(end: Callable[[str], int | None], part: str, after: str):
    written = part + after
    found = end(written)
    assert found is not None
    assert written[:found].rstrip() == part.rstrip()
    assert end(part.rstrip()) is None


def heldout(folder: Path) -> Path:
    write_documents(folder, [document(MODULE)])
    return folder


@pytest.mark.skipif(confinement_problem() is not None, reason=str(confinement_problem()))
def test_items_of_parts_pass_with_the_reference_and_fail_with_each_wrong_part():
    with open_observer(LIMITS._replace(wall_s=300)) as observer:
        items = prove_items(find_candidates([document(MODULE)], parts=True), observer, limit=10, seed=0).items
        right = grade_answers(items, [Answer(item.name, "PSM", 0, item.reference) for item in items], observer)
        wrong = [Answer(item.name, "PSM", 0, mutant.text) for item in items for mutant in item.mutants]
        wrong_grades = grade_answers(items, wrong, observer)
    assert {item.tier for item in items} == set(PARTS)
    assert all(grade.passed for grade in right)
    assert {grade.task for grade in right} == {"FlyteEval parts"}
    assert not any(grade.passed for grade in wrong_grades)
    assert {item.tier: item.decided_by for item in items}["decorator"] == "graph"  # without retries it runs as well


@pytest.mark.skipif(confinement_problem() is not None, reason=str(confinement_problem()))
@pytest.mark.slow
def test_parts_are_mined_in_addition_to_whole_tasks_and_only_if_asked_for(tmp_path: Path):
    folder, whole, both = heldout(tmp_path / "heldout"), tmp_path / "whole", tmp_path / "both"
    make_items(folder, FlyteEvalConfig(), out=whole)
    make_items(folder, FlyteEvalConfig(parts=2), out=both)
    items, more = read_items(whole)[0], read_items(both)[0]
    assert not {item.tier for item in items} & set(PARTS)
    assert more[: len(items)] == items
    assert len(more) == len(items) + 2
