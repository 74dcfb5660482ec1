"""Requests take turns: as many run at once as there are completers, a few wait, and more are refused.

A completion runs in a thread, since torch holds it for as long as a token takes. What it writes comes back to the event
loop as it is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from flyte_llama.errors import FlyteLlamaError
from flyte_llama.serving.completer import Completer, Completion, CompletionRequest
from flyte_llama.serving.requests import RequestError

_SECONDS_TO_RETRY = 1


class Turn:
    """The completions of one HTTP request, waiting or being written."""

    def __init__(self, requests: Sequence[CompletionRequest], closing: threading.Event) -> None:
        self.requests = requests
        self.future: Future[None] | None = None
        """Its place in the queue, once it has one."""

        self._cancelled, self._closing = threading.Event(), closing
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[tuple[int, str | Completion] | RequestError | None] = asyncio.Queue()

    def cancel(self) -> None:
        """End it at the next token, or let it wait no longer; without effect if it has ended."""
        self._cancelled.set()
        if self.future is not None:
            self.future.cancel()

    def is_cancelled(self) -> bool:
        return self._cancelled.is_set() or self._closing.is_set()

    def put(self, part: Any) -> None:
        """Hand a part to the event loop; called by the thread that writes."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for it
            self._loop.call_soon_threadsafe(self._parts.put_nowait, part)

    async def parts(self) -> AsyncIterator[tuple[int, str | Completion]]:
        """Yield index and text of each part, and at the end of each completion its index and the completion.

        Raises:
            RequestError: if the model fails, or with status 503 if the server ends.
        """
        try:
            while (part := await self._parts.get()) is not None:
                if isinstance(part, RequestError):
                    raise part
                yield part
        finally:
            self.cancel()


class Turns:
    """All turns of a server."""

    def __init__(self, completers: Sequence[Completer], *, max_waiting: int) -> None:
        """
        Args:
            completers: As `Completer.make_copies` makes them; one request runs on each.
            max_waiting: How many more requests may wait.
        """
        self._limit, self._free = len(completers) + max_waiting, list(completers)
        self._pool = ThreadPoolExecutor(len(completers), "completion")
        self._closing = threading.Event()
        self._open: set[Future[None]] = set()

    def start(self, requests: Sequence[CompletionRequest]) -> Turn:
        """Let the requests run as soon as there is a free completer.

        Raises:
            RequestError: with status 429 if too many wait already.
        """
        self._open = {future for future in self._open if not future.done()}
        if len(self._open) >= self._limit:
            raise RequestError(
                f"{len(self._open)} requests are open already, the most that this server takes. Ask again later.",
                status=429,
                code="rate_limit_exceeded",
                headers={"Retry-After": str(_SECONDS_TO_RETRY)},
            )
        turn = Turn(requests, self._closing)
        turn.future = self._pool.submit(self._write, turn)
        self._open.add(turn.future)
        return turn

    def close(self) -> None:
        """End all turns at their next token; later ones end at once."""
        self._closing.set()

    def wait_until_ended(self, seconds: float) -> bool:
        """Wait for the turns to end after `close`; False if one has not ended in this time."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        running = [future for future in self._open if not future.done()]  # `wait` would wait for cancelled ones
        return not wait(running, timeout=seconds).not_done

    def _write(self, turn: Turn) -> None:
        completer = self._free.pop()
        try:
            for index, request in enumerate(turn.requests):

                def show(text: str, index: int = index) -> None:
                    turn.put((index, text))

                completion = None
                if not turn.is_cancelled():
                    completion = completer.complete(request, show=show, is_cancelled=turn.is_cancelled)
                if completion is None or completion.finish_reason == "cancelled":
                    # Nobody reads this if the client went away.
                    turn.put(RequestError("The server is shutting down. Ask again later.", status=503))
                    break
                turn.put((index, completion))
        except FlyteLlamaError as error:
            turn.put(RequestError(error.message, status=500))
        except Exception:  # such as a lack of memory: the next request may have a shorter prompt
            logging.getLogger(__name__).exception("a completion failed")
            turn.put(RequestError("The completion failed; the server's log says why.", status=500))
        finally:
            self._free.append(completer)
            turn.put(None)
