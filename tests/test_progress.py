"""Progress and sizes as people read them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from flyte_llama.progress import bytes_text, duration


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(7, "7 bytes"), (1024, "1.0 KiB"), (1200, "1.2 KiB"), (92 * 2**30, "92.0 GiB"), (5000 * 2**40, "5,000.0 TiB")],
)
def test_sizes_have_binary_units(num_bytes: int, text: str):
    assert bytes_text(num_bytes) == text


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "0:03"), (123, "2:03"), (3723, "1:02:03")])
def test_durations_have_minutes_and_hours_only_when_needed(seconds: float, text: str):
    assert duration(seconds) == text


INTERRUPTED = """
import hashlib, sys, time, weakref
from flyte_llama.progress import exit_on_interrupt
exit_on_interrupt("interrupted")
class Swallow:
    def __del__(self):
        swallow()
def swallow(_=None):
    print("ready", flush=True)
    time.sleep(60)
print({start!r}, flush=True)
{work}
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("start", "work"),
    [
        ("ready", ""),
        # One call of C code, during which no handler of Python runs.
        ("ready", "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"),
        # Python drops an exception in a finaliser.
        ("", "Swallow()"),
        ("", "kept = set(); gone = weakref.ref(kept, swallow); del kept"),
        ("ready", "try:\n    time.sleep(60)\nfinally:\n    time.sleep(60)"),
    ],
    ids=["python", "C code", "finaliser", "callback", "clean-up"],
)
def test_ctrl_c_ends_with_its_line_and_130_whatever_the_process_is_doing(start: str, work: str):
    command = [sys.executable, "-c", INTERRUPTED.format(start=start, work=work)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "ready\n" in iter(process.stdout.readline, "")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=20)
    assert process.returncode == 130
    assert printed == "\ninterrupted\n"


def run_program(program: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a new process."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_what_is_undone_no_longer_ends_the_process():
    # In a new process: in this one, another test may have run a command that stays until its process ends.
    program = (
        "import signal\n"
        "from flyte_llama.progress import exit_on_interrupt\n"
        "before = signal.getsignal(signal.SIGINT)\n"
        "exit_on_interrupt('interrupted')()\n"
        "assert signal.getsignal(signal.SIGINT) is before\n"
        "assert signal.set_wakeup_fd(-1) == -1\n"
        "print('undone')"
    )
    assert run_program(program) == (0, "undone\n", "")


def test_another_handler_of_the_signal_keeps_the_process_alive():
    program = (
        "import os, signal, time\n"
        "from flyte_llama.progress import exit_on_interrupt\n"
        "from flyte_llama.training.processes import Interruption\n"
        "exit_on_interrupt('interrupted')\n"
        "interruption = Interruption()\n"
        "with interruption.catch_signals():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "time.sleep(4)\n"
        "print(interruption.requested)"
    )
    assert run_program(program) == (0, "True\n", "")
