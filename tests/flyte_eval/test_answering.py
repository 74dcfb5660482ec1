"""The prompts of a model, and the end of its answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flyte_llama.config import FlyteEvalConfig
from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.flyte_eval import Item, answer_items
from flyte_llama.flyte_eval.endings import end_of_body, end_of_definition
from flyte_llama.model import load_model

BODIES = [
    "    return 1\n",
    "    if n:\n\n        return 1\n\n    return 2  # ) (\n",
    '    text = """\nno indentation\n"""\n    return text\n',
    "    return f(\n1,\n[2,\n3],\n)\n",
    "    # a comment\n# another\n    return '(' + \"{'\"\n",
    '    """An escaped \\""" ends no text."""\n    return 1\n',
    "    return 1 + \\\n2\n",
    "\treturn 1\n",
    " return 1\n",
]
DEFINITIONS = [
    "@task\ndef f(n: int) -> int:\n    return n\n",
    "# about it\n@task(\n    cache=True,\n)\ndef f(\n    n: int,\n) -> int:\n    return n\n\n\n",
    "plan = LaunchPlan.create(\n    wf,\n    'x',\n)\n",
    'async def f():\n    """\nA docstring.\n"""\n    return 1\n',
]
NEXT = ["@task\ndef g():\n    pass\n", "x = 1\n", "class A:\n    pass\n", "if __name__ == '__main__':\n    f()\n"]


@pytest.mark.parametrize("following", NEXT)
@pytest.mark.parametrize("body", BODIES)
def test_a_body_ends_at_the_first_line_that_is_not_indented(body: str, following: str):
    assert end_of_body(body + following) == len(body)
    assert end_of_body(body) is None


@pytest.mark.parametrize("following", NEXT)
@pytest.mark.parametrize("definition", DEFINITIONS)
def test_a_definition_ends_where_the_next_statement_begins(definition: str, following: str):
    assert end_of_definition(definition + following) == len(definition)
    assert end_of_definition(definition) is None


@pytest.mark.parametrize("text", ["", "(", '"""', "    return (", "    return '''a\nb", ")", "\n\n"])
def test_unfinished_text_has_no_end(text: str):
    assert end_of_body(text) is None
    assert end_of_definition(text) is None


def item(tier: str = "body", prefix: str = "def f(n: int) -> int:\n", suffix: str = "\n\nx = f(n=1)\n") -> Item:
    names = dict.fromkeys(
        ("entity", "entity_kind", "repository", "url", "revision", "path", "licence", "permalink"), ""
    )
    proven = {
        "decided_by": "outputs",
        "num_runs": 1,
        "expected": "{}",
        "mutants": (),
        "topics": ("tasks",),
        "start": 0,
        "line": 1,
    }
    return Item(name=tier, tier=tier, prefix=prefix, reference="    return n\n", suffix=suffix, **names, **proven)


@pytest.fixture
def model(all_base: Path) -> Any:
    return load_model(all_base, dtype=torch.float32)


def test_a_model_with_infill_tokens_answers_in_both_layouts_within_its_window(model: Any, all_base: Path):
    tokenizer = DocumentTokenizer(all_base)
    long = item(prefix="# a line of a long prefix\n" * 200, suffix="# a line of a long suffix\n" * 200)
    config = FlyteEvalConfig(max_new_tokens=20, samples=2, temperature=1.0)
    answers = answer_items(model, tokenizer, [item(), long], config, window=128, batch_tokens=512)
    assert [(each.layout, each.sample) for each in answers] == [
        (layout, sample) for layout in ("left-to-right", "PSM") for sample in (0, 1)
    ] * 2
    again = answer_items(model, tokenizer, [item(), long], config, window=128, batch_tokens=128)
    assert answers == again


def test_sampled_text_depends_on_the_item_alone_not_on_shards(model: Any, all_base: Path):
    items = [item(), replace(item(), name="another", prefix="def g(a: int) -> int:\n")]
    config = FlyteEvalConfig(max_new_tokens=12, samples=2, temperature=2.0)
    sizes = {"window": 128, "batch_tokens": 512}
    together, *alone = (
        answer_items(model, DocumentTokenizer(all_base), some, config, **sizes)
        for some in (items, items[:1], items[1:])
    )
    assert together == alone[0] + alone[1]
    assert len({each.text for each in together}) > 4


def test_a_model_without_infill_tokens_answers_from_left_to_right(tiny_base: Path):
    tokenizer, model = DocumentTokenizer(tiny_base), load_model(tiny_base, dtype=torch.float32)
    answers = answer_items(model, tokenizer, [item()], FlyteEvalConfig(max_new_tokens=8), window=64, batch_tokens=64)
    assert [each.layout for each in answers] == ["left-to-right"]


def test_an_answer_is_cut_where_the_masked_body_ends(tiny_base: Path, monkeypatch: pytest.MonkeyPatch):
    tokenizer, model = DocumentTokenizer(tiny_base), load_model(tiny_base, dtype=torch.float32)
    target = tokenizer.encode_infix(["    return n\n\n\n@task\ndef g(n: int) -> int:\n    return n\n"])[0]
    prompt = tokenizer.add_start_id(tokenizer.encode_batch([item().prefix])[0])
    forward = model.forward

    def forward_to_target(input_ids: torch.Tensor, position_ids: torch.Tensor, **arguments: Any) -> Any:
        output = forward(input_ids=input_ids, position_ids=position_ids, **arguments)
        index = int(position_ids[0, -1]) - len(prompt) + 1
        output.logits = torch.nn.functional.one_hot(torch.tensor([[int(target[index])]]), 400).float()
        return output

    monkeypatch.setattr(model, "forward", forward_to_target)
    config = FlyteEvalConfig(max_new_tokens=60)
    (only,) = answer_items(model, tokenizer, [item()], config, window=200, batch_tokens=200)
    assert only.text == "    return n\n\n\n"
    assert np.array_equal(tokenizer.add_start_id(tokenizer.encode_batch([item().prefix])[0]), prompt)
