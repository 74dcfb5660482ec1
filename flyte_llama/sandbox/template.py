"""The process that is forked for each run: it has imported what runs need, and knows nothing of any run.

Reads how it is to be set up as a line of JSON. For each request that comes then, it forks a process that watches over
the run, and that one forks the run (`watching.py`): requests and what was told pass it by, so that no run finds
anything of an earlier one in its memory.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import select
import struct
import sys
import termios
from collections.abc import Iterable
from pathlib import Path

from flyte_llama.sandbox.limits import Limits
from flyte_llama.sandbox.watching import read_line, to_nowhere, watch_over, write_all


def main() -> None:
    """Serve until the input ends, or until something ends a process that watches."""
    answers = os.dup(1)
    to_nowhere(1)
    setup = json.loads(read_line(0))
    module, _, name = setup["function"].partition(":")
    for preloaded in setup["preload"]:
        importlib.import_module(preloaded)
    function = getattr(importlib.import_module(module), name)
    limits = Limits(**setup["limits"])
    write_all(answers, b"ready\n")
    while _is_asked():
        watcher = os.fork()
        if watcher == 0:
            status = 1
            try:
                write_all(answers, json.dumps(watch_over(function, limits)).encode() + b"\n")
                status = 0
            finally:
                os._exit(status)
        if os.waitpid(watcher, 0)[1]:
            return


def paths() -> Iterable[str]:
    """Where this process finds its modules."""
    return [str(Path(path or ".").resolve()) for path in sys.path]


def _is_asked() -> bool:
    """Waits for the next request; False if the input has ended. Reads nothing of it."""
    select.select([0], [], [])
    return struct.unpack("i", fcntl.ioctl(0, termios.FIONREAD, bytes(4)))[0] > 0
