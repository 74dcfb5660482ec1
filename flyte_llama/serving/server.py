"""An OpenAI-compatible server for one model.

    POST /v1/completions    text at a cursor, whole or as a stream; `suffix` for infilling
    POST /infill            the same in llama.cpp's form, which llama.vim sends
    GET  /v1/models         the name of the model
    GET  /health            whether it runs

It keeps and logs nothing of what it reads and writes, and sends nothing anywhere. Web pages cannot use it: it answers
only to the names of this machine, which stops DNS rebinding, reads only `application/json`, for which a browser asks
first, and never allows it (no CORS). Needs starlette and uvicorn.
"""

from __future__ import annotations

import asyncio
import atexit
import hmac
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from flyte_llama.serving.answers import DONE, LlamaCppAnswer, OpenAIAnswer, format_event, list_models, make_error
from flyte_llama.serving.completer import Completer, Completion
from flyte_llama.serving.requests import Job, RequestError, read_llama_cpp, read_openai
from flyte_llama.serving.turns import Turn, Turns

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

MAX_BODY_BYTES = 4 * 1024 * 1024
"""The longest body of a request; a model reads less."""

MAX_CONNECTIONS = 64
_SECONDS_FOR_BODY = 30
_SECONDS_TO_KEEP_ALIVE = 30
_SECONDS_TO_END = 2
_LOCAL_HOSTS = ["127.0.0.1", "localhost", "::1", "[::1]"]
_PATHS = "Use POST /v1/completions, POST /infill, GET /v1/models or GET /health."


def make_app(
    turns: Turns,
    completer: Completer,
    *,
    served: str,
    max_tokens: int,
    host: str | None = "127.0.0.1",
    api_key: str | None = None,
) -> Starlette:
    """Return the ASGI application.

    Args:
        turns: Where completions run.
        completer: One of its completers, to know the model.
        served: The name of the model.
        max_tokens: The most tokens of a completion; a request for more gets these.
        host: Answer only to requests for this address of this machine, 127.0.0.1 or localhost; None answers to all.
        api_key: Answer only to requests with this bearer token, `/health` excepted; None needs none.
    """
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    created = int(time.time())
    limit = min(max_tokens, completer.max_tokens)

    def refusal(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestError):
            status = error.status_code if isinstance(error, HTTPException) else 500
            error = RequestError(f"Nothing is here for this method and path. {_PATHS}", status=status)
        return JSONResponse(make_error(error), status_code=error.status, headers=error.headers)

    def answer_nobody(request: Request, error: Exception) -> Response:
        return Response(status_code=499)

    def answering(make: type[OpenAIAnswer | LlamaCppAnswer], read: Callable[[Any], Job]) -> Any:
        async def answer_request(request: Request) -> Response:
            _check_key(request, api_key)
            job = read(await _read_json(request))
            answer = make(served)
            if not job.requests:
                nothing = answer.whole([])
                as_event = Response(format_event(nothing), media_type="text/event-stream")
                return as_event if job.stream else JSONResponse(nothing)
            turn = turns.start(job.requests)

            async def end_turn() -> None:
                turn.cancel()

            if job.stream:
                events = _stream_events(turn, answer, job)
                # If the client left before the first event was read, the events do not end the turn.
                return StreamingResponse(events, media_type="text/event-stream", background=BackgroundTask(end_turn))
            completions = await _unless_gone(request, _collect(turn))
            return Response(status_code=499) if completions is None else JSONResponse(answer.whole(completions))

        return answer_request

    async def answer_models(request: Request) -> Response:
        _check_key(request, api_key)
        return JSONResponse(list_models(served, created=created, max_length=completer.window))

    async def say_healthy(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def openai_job(body: Any) -> Job:
        return read_openai(body, served=served, infill_names=completer.infill_names, max_tokens=limit)

    def llama_cpp_job(body: Any) -> Job:
        return read_llama_cpp(body, served=served, max_tokens=limit)

    routes = [
        Route("/v1/completions", answering(OpenAIAnswer, openai_job), methods=["POST"]),
        Route("/infill", answering(LlamaCppAnswer, llama_cpp_job), methods=["POST"]),
        Route("/v1/models", answer_models),
        Route("/health", say_healthy),
    ]
    hosts = ["*"] if host is None else [*_LOCAL_HOSTS, host, f"[{host}]"]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
        exception_handlers={RequestError: refusal, HTTPException: refusal, ClientDisconnect: answer_nobody},
    )


def make_server(app: Starlette, turns: Turns) -> uvicorn.Server:
    """Return the HTTP server. Its end ends all completions at their next token."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            turns.close()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=_SECONDS_TO_KEEP_ALIVE,
        timeout_graceful_shutdown=_SECONDS_TO_END,
    )
    return Server(config)


def run_server(server: uvicorn.Server, turns: Turns, listener: socket.socket) -> None:
    """Answer requests until Ctrl-C or SIGTERM.

    Args:
        listener: A bound socket.
    """

    def end(*_: object) -> None:
        # Skip the interpreter's clean-up, which takes seconds with torch.
        atexit.register(os._exit, 0)
        sys.exit(0)

    # uvicorn raises the signal again once it has ended; to be told to end is no failure.
    signal.signal(signal.SIGTERM, end)
    try:
        server.run(sockets=[listener])
    finally:
        turns.close()
        if not turns.wait_until_ended(_SECONDS_TO_END):
            # A long prompt is read in one step of torch, and the interpreter would wait for it.
            os._exit(0)


async def _read_json(request: Request) -> Any:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError("The content type is not application/json. Send JSON, and name it so.", status=415)
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS_FOR_BODY):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    message = f"The body is longer than {MAX_BODY_BYTES:,} bytes. Send the text near the cursor only."
                    raise RequestError(message, status=413)
    except TimeoutError:
        raise RequestError(f"The body did not arrive within {_SECONDS_FOR_BODY} s.", status=408) from None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("The body is not JSON.") from None


def _check_key(request: Request, api_key: str | None) -> None:
    given = request.headers.get("authorization", "")
    if api_key is not None and not hmac.compare_digest(given.encode(), f"Bearer {api_key}".encode()):
        message = "The API key is missing or wrong. Send it as `Authorization: Bearer KEY`."
        raise RequestError(message, status=401, code="invalid_api_key")


async def _collect(turn: Turn) -> list[Completion]:
    return [part async for _, part in turn.parts() if isinstance(part, Completion)]


async def _stream_events(turn: Turn, answer: OpenAIAnswer | LlamaCppAnswer, job: Job) -> AsyncIterator[str]:
    completions = []
    try:
        async for index, part in turn.parts():
            if isinstance(part, Completion):
                completions.append(part)
                yield format_event(answer.end(index, part))
            else:
                yield format_event(answer.part(index, part))
    except RequestError as error:  # the status is sent already
        yield format_event(make_error(error))
        return
    finally:
        turn.cancel()
    if isinstance(answer, OpenAIAnswer):
        if job.with_usage:
            yield format_event(answer.usage(completions))
        yield DONE


async def _unless_gone(request: Request, work: Awaitable[Any]) -> Any:
    """The result of the work; None if the client went away, and the work is cancelled."""

    async def wait_until_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks: Sequence[asyncio.Future[Any]] = [asyncio.ensure_future(work), asyncio.ensure_future(wait_until_gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return await tasks[0] if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
