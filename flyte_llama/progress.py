"""Progress messages on standard error, and the last line after Ctrl-C.

A bar on a terminal; elsewhere, as in a pod, a line every few seconds.

Does not configure logging.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

from flyte_llama.redaction import escape_invisible, mask_secrets

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 5.0
EXIT_INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

INTERRUPTED = "interrupted; the same command goes on from here"
"""The last line of a local run after Ctrl-C."""

_SECONDS_TO_END = 3.0
# An attribute of the handler that `exit_on_interrupt` sets.
_ENDS_PROCESS = "ends_process"


def on_terminal() -> bool:
    return sys.stderr.isatty()


def say(line: str) -> None:
    """Print a line to standard error, above the progress bar if there is one, and flush it; secrets are masked."""
    tqdm.write(escape_invisible(mask_secrets(line)), file=sys.stderr)
    sys.stderr.flush()


def say_once(line: str) -> None:
    """Print a line on rank 0 only; for code that every process of a launcher runs."""
    if os.environ.get("RANK", "0") == "0":
        say(line)


def track(items: Iterable[T], *, what: str, total: int) -> Iterator[T]:
    """Yield the items unchanged, and show how many of `total` are done."""
    if on_terminal():
        yield from tqdm(items, desc=escape_invisible(mask_secrets(what)), total=total, leave=False)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        # The time left can be estimated only after the first item.
        if done and now - last >= SECONDS_BETWEEN_LINES:
            last = now
            say(f"{what}: {done}/{total}, {duration((now - start) / done * (total - done))} left")
        yield item


def duration(seconds: float) -> str:
    """Return the time as `1:02:03`, or `2:03` below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def bytes_text(num_bytes: float) -> str:
    """A number of bytes for people, in binary units: `7 bytes`, `1.2 MiB`, `91.4 GiB`."""
    size, unit = float(num_bytes), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:,.0f} bytes" if unit == "bytes" else f"{size:,.1f} {unit}"


def exit_on_interrupt(line: str) -> Callable[[], None]:
    """Make Ctrl-C print `line` and end the process with exit code 130, within five seconds whatever it is doing.

    Outside the main thread it has no effect, and neither has a second call. Returns a function that undoes it.
    """
    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or hasattr(former, _ENDS_PROCESS):
        return lambda: None
    printed = threading.Event()

    def print_once() -> None:
        if not printed.is_set():
            printed.set()
            os.write(2, f"\n{line}\n".encode())

    def end(signum: int, frame: Any) -> None:
        print_once()
        # Skip the interpreter's clean-up, which may wait for libraries; the thread below cannot end it.
        atexit.register(os._exit, EXIT_INTERRUPTED)
        sys.unraisablehook = end_again
        raise SystemExit(EXIT_INTERRUPTED)

    def end_again(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is not SystemExit:
            sys.__unraisablehook__(unraisable)
            return
        # Python dropped it, as it does in finalisers and callbacks of weak references. So interrupt what comes next.
        again = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()

    def end_later() -> None:
        # The handler runs only between two instructions of Python, and the tokenizer may train for minutes in one.
        while signal.SIGINT not in (received := os.read(signals, 64)) or signal.getsignal(signal.SIGINT) is not end:
            if not received:
                return  # undone
        time.sleep(_SECONDS_TO_END)
        print_once()
        os._exit(EXIT_INTERRUPTED)

    setattr(end, _ENDS_PROCESS, True)
    signals, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    former_wakeup = signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, end)
    threading.Thread(target=end_later, daemon=True).start()

    def undo() -> None:
        signal.signal(signal.SIGINT, former)
        signal.set_wakeup_fd(former_wakeup, warn_on_full_buffer=False)
        os.close(wakeup)

    return undo


def escape_unknown_characters() -> None:
    """Make standard output escape characters that its encoding lacks, as standard error does, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def quiet_libraries() -> None:
    """Turn off what libraries print that a user can do nothing about.

    These are bitsandbytes' advice to install more kernels, a deprecation that peft causes in transformers, and, unless
    on a terminal, the progress bars of transformers, which clutter the log of a pod.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    if not on_terminal():
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
