"""The server answers OpenAI's client and editors, refuses what it cannot answer, and ends with its clients."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from flyte_llama.inference import LEFT_TO_RIGHT, Gap
from flyte_llama.inference.gaps import make_prompt
from flyte_llama.serving import Completer, CompletionRequest
from tests.serving.conftest import Served, make_completer, wait_until
from tests.serving.requests_of_editors import CONTINUE, LLAMA_VIM, LLAMA_VIM_WARM_UP, LLM_NVIM, PREFIX, SUFFIX

Serve = Callable[..., Served]
JSON = {"Content-Type": "application/json"}


@contextmanager
def sent(
    served: Served, path: str, body: Any = None, *, method: str = "POST", headers: Any = JSON
) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request; the connection is closed at the end."""
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=20)
    try:
        connection.request(method, path, body if isinstance(body, bytes) else json.dumps(body), headers)
        yield connection.getresponse()
    finally:
        connection.close()


def ask(served: Served, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
    """The status and the JSON of the answer."""
    with sent(served, path, body, **options) as response:
        return response.status, json.loads(response.read())


def events_of(served: Served, path: str, body: Any) -> list[str]:
    with sent(served, path, body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        return [line.removeprefix("data: ") for line in response.read().decode().split("\n\n") if line]


def infilled(completer: Completer, **changes: Any) -> str:
    return completer.complete(CompletionRequest(PREFIX, SUFFIX, **({"max_tokens": 50} | changes))).text


@contextmanager
def gated(completer: Completer) -> Iterator[list[int]]:
    """Let the model wait before its second token until the end of the block; the list has an item for each token."""
    gate, steps = threading.Event(), list[int]()

    def wait(*_: object) -> None:
        steps.append(1)
        if len(steps) > 1:
            gate.wait(20)

    handle = completer._model.register_forward_hook(wait)
    try:
        yield steps
    finally:
        handle.remove()
        gate.set()


def test_openais_client_completes_infills_and_streams(serve: Serve, completer: Completer):
    served = serve(completer)
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == ["tiny"]

    options: dict[str, Any] = {"model": "tiny", "prompt": PREFIX, "suffix": SUFFIX, "temperature": 0, "max_tokens": 20}
    whole = client.completions.create(**options)
    expected = completer.complete(CompletionRequest(PREFIX, SUFFIX, max_tokens=20))
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == (expected.text, expected.finish_reason)
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (
        expected.num_prompt_tokens,
        expected.num_tokens,
    )

    chunks = list(client.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == expected.text
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == expected.finish_reason
    assert chunks[-1].usage == whole.usage


def test_openais_client_gets_its_own_errors(serve: Serve, completer: Completer):
    client = openai.OpenAI(base_url=f"{serve(completer).url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.BadRequestError, match="temperature: input should be less than or equal to 2"):
        client.completions.create(model="tiny", prompt="a", temperature=3)
    with pytest.raises(openai.NotFoundError, match="'other' is not served here"):
        client.completions.create(model="other", prompt="a")


def test_several_prompts_are_completed_in_one_stream(serve: Serve, completer: Completer):
    body = {"prompt": ["def ", "x = "], "temperature": 2, "seed": 4, "stream": True}
    events = events_of(serve(completer), "/v1/completions", body)
    assert events[-1] == "[DONE]"
    choices = [json.loads(event)["choices"][0] for event in events[:-1]]
    texts = ["".join(choice["text"] for choice in choices if choice["index"] == index) for index in (0, 1)]
    request = CompletionRequest("", max_tokens=16, temperature=2.0, seed=4)
    expected = [completer.complete(CompletionRequest(**vars(request) | {"prefix": p})).text for p in body["prompt"]]
    assert texts == expected


def test_llama_vim_is_answered(serve: Serve, completer: Completer):
    with sent(serve(completer), "/infill", LLAMA_VIM) as response:
        raw = response.read().decode()
    # the plugin takes an answer only if it looks like this
    assert raw.startswith("{")
    assert '"content":"' in raw
    assert json.loads(raw)["content"] == infilled(completer, top_p=0.9, max_seconds=0.25)


def test_llama_vims_warm_up_is_answered_with_nothing(serve: Serve, completer: Completer):
    status, answer = ask(serve(completer), "/infill", LLAMA_VIM_WARM_UP)
    assert (status, answer["content"], answer["tokens_predicted"]) == (200, "", 0)


def test_a_stream_of_no_tokens_is_one_empty_event(serve: Serve, completer: Completer):
    served = serve(completer)
    (event,) = events_of(served, "/infill", LLAMA_VIM_WARM_UP | {"stream": True})
    assert (json.loads(event)["content"], json.loads(event)["stop"]) == ("", True)
    assert not served.turns._open


def test_llama_vim_is_answered_by_a_model_that_does_not_infill(serve: Serve, infilling: Any):
    completer = make_completer(infilling, layout=None)
    _, answer = ask(serve(completer), "/infill", LLAMA_VIM)
    request = CompletionRequest(PREFIX, max_tokens=50, max_seconds=0.25)
    assert answer["content"] == completer.complete(request).text


def test_infill_streams_as_llama_cpp_does(serve: Serve, completer: Completer):
    events = [json.loads(event) for event in events_of(serve(completer), "/infill", LLAMA_VIM | {"stream": True})]
    assert "".join(event["content"] for event in events) == infilled(completer, max_seconds=0.25)
    assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]


def test_continue_is_answered(serve: Serve, completer: Completer):
    events = events_of(serve(completer), "/v1/completions", CONTINUE | {"temperature": 0})
    assert events[-1] == "[DONE]"
    texts = [json.loads(event)["choices"][0]["text"] for event in events[:-1]]
    assert "".join(texts) == infilled(completer, stop=tuple(CONTINUE["stop"]))


def test_llm_nvim_is_answered(serve: Serve, completer: Completer):
    status, answer = ask(serve(completer), "/v1/completions", LLM_NVIM | {"seed": 2})
    assert status == 200
    assert answer["choices"][0]["text"] == infilled(completer, max_tokens=16, temperature=0.2, top_p=0.95, seed=2)


def test_a_control_token_in_a_prompt_is_text(serve: Serve, completer: Completer):
    prompt = "a </s> b <PRE> c"
    _, answer = ask(serve(completer), "/v1/completions", {"prompt": prompt, "max_tokens": 1})
    control = completer._tokenizer.control_ids - {completer._tokenizer.start_id}
    ids = make_prompt(Gap(prompt, "", LEFT_TO_RIGHT), completer._tokenizer, 60)
    assert control.isdisjoint(ids.tolist())
    assert answer["usage"]["prompt_tokens"] == len(ids)


@pytest.mark.parametrize(
    ("path", "options", "status", "message"),
    [
        ("/v1/completions", {"body": b"{"}, 400, "The body is not JSON."),
        ("/v1/completions", {"body": b"[" * 100_000}, 400, "The body is not JSON."),
        ("/v1/completions", {"body": {"prompt": 1}}, 400, "prompt: give a text"),
        ("/infill", {"body": {"n_predict": "9"}}, 400, "n_predict: input should be a valid integer."),
        ("/v1/completions", {"body": {"prompt": "a"}, "headers": {}}, 415, "The content type is not application/json."),
        ("/v1/completions", {"body": b" " * (4 * 1024 * 1024 + 1)}, 413, "The body is longer than 4,194,304 bytes."),
        (
            "/v1/chat/completions",
            {"body": {}},
            404,
            "Nothing is here for this method and path. Use POST /v1/completions",
        ),
        ("/v1/completions", {"method": "GET"}, 405, "Nothing is here for this method and path."),
    ],
)
def test_what_cannot_be_answered_gets_one_clear_error(
    serve: Serve, completer: Completer, path: str, options: dict[str, Any], status: int, message: str
):
    answer = ask(serve(completer), path, options.pop("body", {}), **options)
    assert answer[0] == status
    assert answer[1]["error"]["message"].startswith(message)


@pytest.mark.parametrize("host", ["evil.example.com", "evil.example.com:8012", "127.0.0.1.evil.example.com", ""])
def test_a_web_page_cannot_reach_it_under_another_name(serve: Serve, completer: Completer, host: str):
    served = serve(completer)
    with sent(served, "/health", method="GET", headers={"Host": host}) as response:
        assert response.status == 400
    for name in ("localhost:1", "127.0.0.1", "[::1]:8012"):
        assert ask(served, "/health", method="GET", headers={"Host": name}) == (200, {"status": "ok"})


def test_it_answers_to_the_address_that_it_listens_on(serve: Serve, completer: Completer):
    served = serve(completer, host="127.0.0.2")
    assert ask(served, "/health", method="GET", headers={"Host": "127.0.0.2:8012"})[0] == 200
    with sent(served, "/health", method="GET", headers={"Host": "127.0.0.3:8012"}) as response:
        assert response.status == 400


def test_a_client_that_leaves_while_it_sends_its_body_is_no_error(
    serve: Serve, completer: Completer, capsys: pytest.CaptureFixture[str]
):
    served = serve(completer)
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
        connection.sendall(f"{head}\r\nContent-Length: 9\r\n\r\n{{".encode())
        time.sleep(0.2)
    time.sleep(0.2)
    assert ask(served, "/health", method="GET")[0] == 200
    assert capsys.readouterr().err == ""


def test_no_web_page_is_allowed_to_read_an_answer(serve: Serve, completer: Completer):
    headers = {"Origin": "https://evil.example.com", "Access-Control-Request-Method": "POST"}
    served = serve(completer)
    for method, path in (("OPTIONS", "/v1/completions"), ("GET", "/v1/models")):
        with sent(served, path, method=method, headers=headers) as response:
            assert not [name for name in response.headers if name.lower().startswith("access-control")]


def test_with_a_key_only_those_who_send_it_are_answered(serve: Serve, completer: Completer):
    served = serve(completer, api_key="a-long-key")
    for path, method in (("/v1/models", "GET"), ("/v1/completions", "POST"), ("/infill", "POST")):
        for headers in ({}, {"Authorization": "Bearer another"}, {"Authorization": "a-long-key"}):
            status, answer = ask(served, path, {"prompt": "a"}, method=method, headers=JSON | headers)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        status, _ = ask(
            served, path, {"prompt": "a"}, method=method, headers=JSON | {"Authorization": "Bearer a-long-key"}
        )
        assert status == 200
    assert ask(served, "/health", method="GET")[0] == 200


def test_more_requests_than_may_wait_are_refused_and_the_others_answered(serve: Serve, completer: Completer):
    served, answers = serve(completer, max_waiting=1), list[tuple[int, Any]]()
    body = {"prompt": "def ", "max_tokens": 5, "temperature": 0}
    with gated(completer) as steps:
        threads = [
            threading.Thread(target=lambda: answers.append(ask(served, "/v1/completions", body))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        assert wait_until(lambda: len(served.turns._open) == 2 and len(steps) == 2)
        with sent(served, "/v1/completions", body) as response:
            assert (response.status, response.headers["retry-after"]) == (429, "1")
            assert "2 requests are open already" in json.loads(response.read())["error"]["message"]
    for thread in threads:
        thread.join(10)
    assert [status for status, _ in answers] == [200, 200]
    assert answers[0][1]["choices"] == answers[1][1]["choices"]


def test_as_many_completions_run_at_once_as_there_are_completers(serve: Serve, completer: Completer):
    first, second = completer.make_copies(2)
    served = serve(first, second)
    with gated(first) as of_first, gated(second) as of_second:
        for _ in range(2):
            threading.Thread(
                target=ask, args=(served, "/v1/completions", {"prompt": "a", "temperature": 0}), daemon=True
            ).start()
        assert wait_until(lambda: len(of_first) == len(of_second) == 2)


@pytest.mark.parametrize("stream", [True, False])
def test_a_completion_ends_when_its_client_goes_away(serve: Serve, completer: Completer, stream: bool):
    served, steps = serve(completer), list[int]()

    def slow(*_: object) -> None:
        steps.append(1)
        time.sleep(0.05)

    completer._model.register_forward_hook(slow)
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc)
    body = {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 50, "temperature": 0, "stream": stream}
    connection.request("POST", "/v1/completions", json.dumps(body), JSON)
    assert wait_until(lambda: len(steps) > 2)
    assert connection.sock is not None
    connection.sock.close()
    connection.close()
    assert wait_until(lambda: all(future.done() for future in served.turns._open))
    assert len(steps) < 40


@pytest.mark.parametrize("stream", [True, False])
def test_a_waiting_request_whose_client_goes_away_makes_room_for_another(
    serve: Serve, completer: Completer, stream: bool
):
    served, answers = serve(completer, max_waiting=1), list[tuple[int, Any]]()
    body = {"prompt": "def ", "max_tokens": 3, "temperature": 0}

    def num_open() -> int:
        return sum(not future.done() for future in served.turns._open)

    threads = [threading.Thread(target=lambda: answers.append(ask(served, "/v1/completions", body))) for _ in range(2)]
    with gated(completer) as steps:
        threads[0].start()
        assert wait_until(lambda: len(steps) == 2)
        for _ in range(3):
            connection = http.client.HTTPConnection(urlsplit(served.url).netloc)
            connection.request("POST", "/v1/completions", json.dumps(body | {"stream": stream}), JSON)
            assert wait_until(lambda: num_open() == 2)
            connection.close()
            assert wait_until(lambda: num_open() == 1)
        threads[1].start()
        assert wait_until(lambda: num_open() == 2)
    for thread in threads:
        thread.join(10)
    assert [status for status, _ in answers] == [200, 200]


def test_a_server_that_ends_says_so_to_those_who_wait(serve: Serve, completer: Completer):
    served, answers, events = serve(completer), list[tuple[int, Any]](), list[str]()
    body = {"prompt": "def ", "max_tokens": 9, "temperature": 0}
    threads = [threading.Thread(target=lambda: answers.append(ask(served, "/v1/completions", body))) for _ in range(2)]
    stream = body | {"stream": True}
    threads.append(threading.Thread(target=lambda: events.extend(events_of(served, "/v1/completions", stream))))
    with gated(completer) as steps:
        for thread in threads:
            thread.start()
        assert wait_until(lambda: len(steps) == 2 and len(served.turns._open) == 3)
        served.turns.close()
    for thread in threads:
        thread.join(10)
    message = "The server is shutting down. Ask again later."
    assert [(status, answer["error"]["message"]) for status, answer in answers] == [(503, message)] * 2
    assert json.loads(events[-1])["error"]["message"] == message


def test_a_model_that_fails_is_an_error_and_the_next_request_is_answered(serve: Serve, completer: Completer):
    served = serve(completer)
    handle = completer._model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(MemoryError))
    assert ask(served, "/v1/completions", {"prompt": "a"})[0] == 500
    events = events_of(served, "/v1/completions", {"prompt": "a", "stream": True})
    assert "error" in json.loads(events[-1])
    handle.remove()
    assert ask(served, "/v1/completions", {"prompt": "a"})[0] == 200
