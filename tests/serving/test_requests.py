"""A request's body becomes completions, or one clear message."""

from __future__ import annotations

from typing import Any

import pytest

from flyte_llama.serving.requests import Job, RequestError, read_llama_cpp, read_openai, split_prompt

LLAMA = ("▁<PRE>", "▁<SUF>", "▁<MID>")
QWEN = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


def openai(infill_names: tuple[str, str, str] | None = LLAMA, **body: Any) -> Job:
    return read_openai(body, served="tiny", infill_names=infill_names, max_tokens=100)


def test_left_out_fields_have_openais_defaults():
    job = openai(prompt="def ")
    (request,) = job.requests
    assert (request.prefix, request.suffix, request.stop, request.seed) == ("def ", "", (), None)
    assert (request.max_tokens, request.temperature, request.top_p) == (16, 1.0, 1.0)
    assert (job.stream, job.with_usage) == (False, False)


def test_null_and_neutral_values_are_the_same_as_fields_left_out():
    neutral = {"n": 1, "best_of": 1, "echo": False, "logprobs": None, "presence_penalty": 0, "frequency_penalty": 0.0}
    nulls = dict.fromkeys(("suffix", "max_tokens", "temperature", "top_p", "stop", "seed", "stream", "model", "user"))
    assert openai(prompt="a", **neutral, **nulls, logit_bias={}) == openai(prompt="a")
    assert openai(prompt="a", logprobs=False) == openai(prompt="a")


def test_unknown_fields_are_ignored():
    assert openai(prompt="a", best_guess=1, metadata={"a": 1}) == openai(prompt="a")


def test_each_prompt_of_a_list_is_completed():
    assert [request.prefix for request in openai(prompt=["a", "b"]).requests] == ["a", "b"]


def test_more_tokens_than_the_limit_are_the_limit():
    assert openai(prompt="a", max_tokens=4096).requests[0].max_tokens == 100


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "prompt: is missing"),
        ({"prompt": 3}, "prompt: give a text or a list of texts."),
        ({"prompt": [1, 2]}, "prompt: give a text or a list of texts."),
        ({"prompt": []}, "prompt: "),
        ({"prompt": ["a"] * 9}, "prompt: "),
        ({"prompt": "\ud800"}, "prompt: "),
        ({"prompt": "a", "suffix": ["b"]}, "suffix: "),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens: input should be greater than or equal to 1."),
        ({"prompt": "a", "max_tokens": "9"}, "max_tokens: input should be a valid integer."),
        ({"prompt": "a", "max_tokens": True}, "max_tokens: "),
        ({"prompt": "a", "temperature": 3}, "temperature: input should be less than or equal to 2."),
        ({"prompt": "a", "temperature": float("nan")}, "temperature: "),
        ({"prompt": "a", "top_p": 0}, "top_p: input should be greater than 0."),
        ({"prompt": "a", "n": 2}, "n: only 1 completion of a prompt is made."),
        ({"prompt": "a", "best_of": 3}, "best_of: only 1"),
        ({"prompt": "a", "echo": True}, "echo: is not supported. Leave it out."),
        ({"prompt": "a", "logprobs": 5}, "logprobs: is not supported"),
        ({"prompt": "a", "logprobs": 0}, "logprobs: is not supported"),
        ({"prompt": "a", "logprobs": True}, "logprobs: is not supported"),
        ({"prompt": "a", "frequency_penalty": 0.5}, "frequency_penalty: is not supported"),
        ({"prompt": "a", "logit_bias": {"5": 1}}, "logit_bias: is not supported"),
        ({"prompt": "a", "stop": [1]}, "stop: give a text or a list of texts."),
        ({"prompt": "a", "stop": ["a"] * 33}, "stop: "),
        ({"prompt": "a", "stop": "a" * 1001}, "stop: "),
        ({"prompt": "a", "seed": 1.5}, "seed: "),
        ({"prompt": "a", "stream": "yes"}, "stream: "),
    ],
)
def test_a_body_that_cannot_be_answered_names_the_field(body: dict[str, Any], message: str):
    with pytest.raises(RequestError) as caught:
        openai(**body)
    assert caught.value.message.startswith(message)
    assert (caught.value.status, caught.value.param) == (400, message.partition(":")[0])


def test_all_problems_are_in_one_message():
    with pytest.raises(RequestError, match=r"prompt: .*; max_tokens: .*; echo: "):
        openai(max_tokens=-1, echo=True)


@pytest.mark.parametrize("body", [None, [], "text", 3])
def test_a_body_that_is_no_object_is_refused(body: Any):
    with pytest.raises(RequestError, match="The body is not a JSON object"):
        read_openai(body, served="tiny", infill_names=None, max_tokens=1)


def test_another_model_is_not_found():
    assert openai(prompt="a", model="tiny") == openai(prompt="a", model="") == openai(prompt="a")
    with pytest.raises(RequestError, match="'gpt-4' is not served here") as caught:
        openai(prompt="a", model="gpt-4")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


def test_a_suffix_for_a_model_that_does_not_infill_is_refused():
    assert openai(prompt="a", suffix="b").requests[0].suffix == "b"
    assert openai(None, prompt="a", suffix="").requests[0].suffix == ""
    with pytest.raises(RequestError, match="suffix: tiny was not trained to infill"):
        openai(None, prompt="a", suffix="b")


@pytest.mark.parametrize(
    ("prompt", "names", "parts"),
    [
        ("<|fim_prefix|>a\n<|fim_suffix|> b\n<|fim_middle|>", QWEN, ("a\n", " b\n")),
        ("<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>begun", QWEN, ("abegun", "b")),
        ("<|fim_prefix|><|fim_suffix|>b<|fim_middle|>a", QWEN, ("a", "b")),
        # Code Llama's form, as Continue and llm.nvim write it; the blanks beside the names are theirs
        ("<PRE> a\n <SUF>\tb <MID>", LLAMA, ("a\n", "\tb")),
        ("<PRE>   a  <SUF> b  <MID>", LLAMA, ("  a ", " b ")),
        ("<PRE>a<SUF>b<MID>", LLAMA, ("a", "b")),
        ("▁<PRE> <SUF>b <MID> a", LLAMA, ("a", "b")),
        # the names themselves
        ("▁<PRE>a▁<SUF>b▁<MID>", LLAMA, ("a", "b")),
        ("▁<PRE>a ▁<SUF>b▁▁<MID>", LLAMA, ("a ", "b▁")),
        # text
        ("a <PRE> b <SUF>c <MID>", LLAMA, None),
        ("<PRE> a <PRE> <SUF>b <MID>", LLAMA, None),
        ("<PRE> a <MID>b <SUF>", LLAMA, None),
        ("<PRE> a </PRE>", LLAMA, None),
        ("<PRE> a <SUF>b <MID>", QWEN, None),
        ("", LLAMA, None),
    ],
)
def test_a_prompt_made_of_infill_tokens_is_taken_apart(
    prompt: str, names: tuple[str, str, str], parts: tuple[str, str] | None
):
    assert split_prompt(prompt, names) == parts
    (request,) = openai(names, prompt=prompt).requests
    assert (request.prefix, request.suffix) == (parts or (prompt, ""))


def test_without_infilling_such_a_prompt_is_text():
    assert openai(None, prompt="<PRE> a <SUF>b <MID>").requests[0].prefix == "<PRE> a <SUF>b <MID>"


def test_llama_cpps_form_joins_the_text_before_the_cursor():
    body = {"input_prefix": "a\n", "prompt": "b", "input_suffix": "c", "n_predict": 20, "t_max_predict_ms": 250}
    job = read_llama_cpp(body, served="tiny", max_tokens=100)
    (request,) = job.requests
    assert (request.prefix, request.suffix, request.max_tokens, request.max_seconds) == ("a\nb", "c", 20, 0.25)
    assert (request.temperature, request.top_p, request.seed, job.stream) == (0.0, 1.0, None, False)


@pytest.mark.parametrize(("n_predict", "max_tokens"), [(-1, [100]), (None, [100]), (500, [100]), (7, [7]), (0, [])])
def test_llama_cpps_number_of_tokens_may_be_open_or_none(n_predict: int | None, max_tokens: list[int]):
    job = read_llama_cpp({"n_predict": n_predict, "seed": -1}, served="tiny", max_tokens=100)
    assert [request.max_tokens for request in job.requests] == max_tokens
    assert [request.seed for request in job.requests] == [None] * len(max_tokens)
