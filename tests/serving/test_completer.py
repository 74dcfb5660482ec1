"""What a model writes at a cursor is shown as it is written, to the character, and no more than asked for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from flyte_llama.encoding import DocumentTokenizer
from flyte_llama.inference import PSM, SPM
from flyte_llama.inference.generation import generate
from flyte_llama.inference.prompts import infill_prompt, plain_prompt
from flyte_llama.model import load_model
from flyte_llama.serving import Completer, CompletionRequest
from flyte_llama.serving.completer import _FinalText
from tests.encoding.llama import write_llama
from tests.model.bases import learn
from tests.serving.conftest import WINDOW, make_completer

PREFIX, SUFFIX = "def add(a: int, b: int) -> int:\n", "\n\nprint(add(1, 2))\n"
TEXT = "  grüße, 世界 🦙 = <s> ▁<PRE>\n\n\treturn 'é'\n"


@pytest.fixture(params=["byte-level", "SentencePiece"])
def tokenizer(request: pytest.FixtureRequest, tiny_base: Path, tmp_path: Path) -> DocumentTokenizer:
    return DocumentTokenizer(tiny_base if request.param == "byte-level" else write_llama(tmp_path))


def written_parts(text: str, tokenizer: DocumentTokenizer, *stop: str) -> list[str]:
    """The parts that are shown while the ids of a text come one by one."""
    ids = tokenizer.encode_infix([text])[0].tolist()
    final, parts = _FinalText(tokenizer, stop), []
    for end in range(1, len(ids) + 1):
        parts.append(final.add(ids[:end]))
        if final.is_stopped:
            break
    return [*parts, final.finish(ids[:end])]


def test_a_text_that_comes_token_by_token_is_shown_whole_and_without_broken_characters(tokenizer: DocumentTokenizer):
    parts = written_parts(TEXT, tokenizer)
    assert "".join(parts) == tokenizer.decode_infix(tokenizer.encode_infix([TEXT])[0].tolist())
    assert "".join(parts).replace("▁", " ") == TEXT.replace("▁", " ")  # SentencePiece reads ▁ as a blank
    assert "\ufffd" not in "".join(parts)
    assert len([part for part in parts if part]) > 10


def test_an_unfinished_character_at_the_end_is_left_out(tokenizer: DocumentTokenizer):
    ids = tokenizer.encode_infix(["a🦙"])[0].tolist()
    final = _FinalText(tokenizer, ())
    assert final.add(ids[:-1]) + final.finish(ids[:-1]) == "a"


@pytest.mark.parametrize("text", ["a\ufffd", "\ufffd", "'\ufffd\ufffd"])
def test_a_replacement_character_that_the_model_wrote_is_shown(tokenizer: DocumentTokenizer, text: str):
    assert "".join(written_parts(text, tokenizer)) == text


@pytest.mark.parametrize("stop", ["return", "\n\n", "\n\n\tret", "世界", "🦙"])
def test_a_text_ends_before_a_stop_string_which_is_never_shown(tokenizer: DocumentTokenizer, stop: str):
    parts = written_parts(TEXT, tokenizer, "never there", stop)
    assert "".join(parts) == "".join(written_parts(TEXT, tokenizer)).partition(stop)[0]


def test_the_begin_of_a_stop_string_is_shown_when_it_does_not_go_on(tokenizer: DocumentTokenizer):
    assert "".join(written_parts("a = return", tokenizer, "return to")) == "a = return"


def test_a_stop_string_that_is_longer_than_the_text_costs_little(tokenizer: DocumentTokenizer):
    start = time.monotonic()
    assert "".join(written_parts("aaaa", tokenizer, "a" * 10**6)) == "aaaa"
    assert time.monotonic() - start < 5


def test_what_is_shown_is_the_completion(completer: Completer):
    num_parts = 0
    for seed in range(4):
        shown: list[str] = []
        request = CompletionRequest(PREFIX, max_tokens=40, temperature=2.0, seed=seed)
        completion = completer.complete(request, show=shown.append)
        assert "".join(shown) == completion.text
        num_parts += len(shown)
    assert num_parts > 10


@pytest.mark.parametrize("layout", [PSM, SPM])
def test_a_suffix_makes_the_infill_prompt_of_the_layout(infilling: Path, layout: str):
    completer = make_completer(infilling, layout=layout)
    tokenizer = completer._tokenizer
    prompt = infill_prompt(PREFIX, SUFFIX, tokenizer, tokenizer.infill, layout=layout, max_ids=WINDOW - 10)
    assert completer.complete(CompletionRequest(PREFIX, SUFFIX, max_tokens=10)).text == greedy(completer, prompt)


def test_a_model_that_learned_to_infill_writes_the_middle_and_ends_there(infilling: Path):
    model, tokenizer, middle = (
        load_model(infilling, dtype=torch.float32),
        DocumentTokenizer(infilling),
        "    return a + b",
    )
    pre, suf, mid, end = tokenizer.infill
    prefix = tokenizer.encode_batch([PREFIX])[0].tolist()
    suffix, written = (ids.tolist() for ids in tokenizer.encode_infix([SUFFIX, middle]))
    learned = [[pre, *prefix, suf, *suffix, mid, *written, end], [pre, suf, *suffix, mid, *prefix, *written, end]]
    losses = learn(model, torch.tensor([[*tokenizer.bos_ids, *ids] for ids in learned]), steps=120)
    assert losses[-1] < 0.1
    for layout in (PSM, SPM):
        completer = Completer(model.eval(), tokenizer, window=WINDOW, layout=layout)
        completion = completer.complete(CompletionRequest(PREFIX, SUFFIX, max_tokens=30))
        assert (completion.text, completion.finish_reason) == (middle, "stop")


@pytest.mark.parametrize(("layout", "suffix"), [(PSM, ""), (None, SUFFIX)])
def test_without_a_suffix_or_infilling_the_prefix_alone_is_read(infilling: Path, layout: str | None, suffix: str):
    completer = make_completer(infilling, layout=layout)
    prompt = plain_prompt(PREFIX, completer._tokenizer, max_ids=WINDOW - 10)
    assert completer.complete(CompletionRequest(PREFIX, suffix, max_tokens=10)).text == greedy(completer, prompt)


def greedy(completer: Completer, prompt: object) -> str:
    """The text up to the first control token, by the function that evaluation uses."""
    tokenizer = completer._tokenizer
    stops = tokenizer.control_ids | tokenizer.stop_ids
    (result,) = generate(completer._model, [prompt], max_new_tokens=10, stop_ids=stops, batch_tokens=1000, what="t")
    return tokenizer.decode_infix(result.ids).rstrip("\ufffd")


def test_a_long_prefix_loses_its_first_lines(completer: Completer):
    tail = "".join(f"x{n} = {n}\n" for n in range(5))
    completions = [completer.complete(CompletionRequest(start + tail)) for start in ("", "y = 1\n" * 1000)]
    assert completions[1].num_prompt_tokens <= WINDOW - 60
    assert completions[0].num_prompt_tokens < completions[1].num_prompt_tokens


def test_a_request_for_more_tokens_than_half_the_window_gets_half_the_window(completer: Completer):
    request = CompletionRequest(PREFIX, max_tokens=10**9, temperature=2.0, seed=1)
    assert completer.complete(request).num_tokens <= WINDOW // 2


def test_no_control_token_is_shown(completer: Completer):
    names = [completer._tokenizer.name_of(id_) or "" for id_ in completer._tokenizer.control_ids]
    assert len(names) > 5
    completions = [
        completer.complete(CompletionRequest(PREFIX, max_tokens=60, temperature=2.0, seed=seed)) for seed in range(6)
    ]
    assert "stop" in {completion.finish_reason for completion in completions}
    assert not [name for name in names for completion in completions if name in completion.text]


def test_the_same_seed_gives_the_same_text_and_no_seed_another_one(completer: Completer):
    def text(seed: int | None) -> str:
        return completer.complete(CompletionRequest(PREFIX, max_tokens=30, temperature=2.0, seed=seed)).text

    assert text(3) == text(3)
    assert len({text(None) for _ in range(4)}) > 1


def test_a_tiny_top_p_takes_the_likeliest_tokens(completer: Completer):
    likeliest = completer.complete(CompletionRequest(PREFIX, max_tokens=20)).text
    sampled = CompletionRequest(PREFIX, max_tokens=20, temperature=1.0, top_p=1e-6, seed=5)
    assert completer.complete(sampled).text == likeliest


def test_a_cancelled_completion_ends_at_the_next_token(completer: Completer):
    shown: list[str] = []
    request = CompletionRequest(PREFIX, max_tokens=60, temperature=1.0, seed=0)
    completion = completer.complete(request, show=shown.append, is_cancelled=lambda: len(shown) == 2)
    assert completion.finish_reason == "cancelled"
    assert len(shown) == 2


def test_after_its_time_a_completion_ends_at_a_line_break(completer: Completer):
    def write(seed: int, max_seconds: float | None) -> str:
        request = CompletionRequest(PREFIX, max_tokens=60, temperature=2.0, seed=seed, max_seconds=max_seconds)
        return completer.complete(request).text

    seed, text = next((seed, text) for seed in range(99) if "\n" in (text := write(seed, None))[:-9])
    short = write(seed, 0.0)
    assert text.startswith(short)
    assert "\n" in short
    assert len(short) < len(text)
    assert write(seed, 60.0) == text


def test_copies_write_the_same_and_share_their_weights(completer: Completer):
    _, copy = completer.make_copies(2)
    request = CompletionRequest(PREFIX, SUFFIX, max_tokens=20)
    assert copy.complete(request) == completer.complete(request)
    assert all(a is b for a, b in zip(copy._model.parameters(), completer._model.parameters(), strict=True))
