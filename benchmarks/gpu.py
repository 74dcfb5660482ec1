"""Training on one GPU, ours and peers, in CodeLlama-7B's shape with random weights: tokens/s, MFU, memory and its plan.

    python benchmarks/gpu.py [--minutes 8] [--peers] [--small FOLDER] [--only ROW …] [--set KEY=VALUE …]

Needs no network, and 30 GB of disk in `--folder`. Rows come in the order of `ROWS`; each is printed as soon as it is
known, is skipped if it would probably not end in time, and runs in a new process that is killed when time is up. Ours
are runs of `fine_tune` by its launcher, with all settings at their defaults except for those that `--set` changes.
`small` has SmolLM2-135M's shape, or is the model in FOLDER. `line` also merges, writes and verifies the model, as a
workflow does. Peers train on the same rows, see `gpu_peers`. Steps include the optimizer's update; those of the warm-up
do not count. The MFU counts the FLOPs that attention within documents needs, for each side.

Without a CUDA device the program prints a message and exits with 2. `--device cpu --layers 2 --hidden 64 --tokens 128`
runs the same code on a small shape, to try it: no peak FLOPs are known then, and memory is the resident memory of the
process, without a planned figure. The table is Markdown on standard output; all else goes to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gpu_inputs import write_inputs
from gpu_runs import ROWS, Measured, measure

from flyte_llama.errors import FlyteLlamaError
from flyte_llama.plan import Flops, Throughput, recognise
from flyte_llama.plan.flops import GIB
from flyte_llama.training.failures import wants_tracebacks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a row")
    parser.add_argument("--minutes", type=float, default=8.0, help="when to be done")
    parser.add_argument("--peers", action="store_true", help="measure peers too; SFTTrainer needs `pip install trl`")
    parser.add_argument("--small", type=Path, metavar="FOLDER", help="the small model, instead of random weights")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=f"rows to measure: {', '.join(ROWS)}")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of `training`, for ours")
    parser.add_argument("--folder", type=Path, help="where to write base and model; by default the temporary folder")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)  # one row, in its new process
    arguments = parser.parse_args()
    if arguments.run:
        return run_row(arguments.run[0], Path(arguments.run[1]), arguments)
    start = time.monotonic()
    end = start + 60 * arguments.minutes
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        base = in_new_process("base", Path(folder), arguments, end)
        if "error" in base:
            print(base["error"], file=sys.stderr)
            return 2
        print(f"{base['device']}; {versions()}; {arguments.layers} layers of {arguments.hidden}.\n")
        print("| row | who | settings | tokens/s | MFU | peak | planned peak | ratio |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        for name, row in ROWS.items():
            if not is_wanted(name, arguments):
                continue
            measured: dict[str, Any] = {"error": f"skipped: takes at least {row.seconds} s"}
            if end - time.monotonic() > (row.seconds if arguments.device == "cuda" else 0):
                measured = in_new_process(name, Path(folder), arguments, end)
            cells = [measured["error"], *"-----"] if "error" in measured else table_cells(Measured(**measured))
            print(f"| {name} | {row.who} | {' | '.join(cells)} |", flush=True)
    print(f"\n{time.monotonic() - start:.0f} s in all.")
    return 0


def is_wanted(name: str, arguments: argparse.Namespace) -> bool:
    """Whether a row is asked for."""
    if arguments.only:
        return name in arguments.only
    return arguments.peers or ROWS[name].who == "flyte_llama"


def versions() -> str:
    """The versions of the installed packages that decide a run's speed."""
    names = ("torch", "transformers", "peft", "deepspeed", "liger_kernel", "trl")
    return ", ".join(f"{name} {version(name)}" for name in names if importlib.util.find_spec(name))


def in_new_process(name: str, folder: Path, arguments: argparse.Namespace, end: float) -> dict[str, Any]:
    """Measure a row in a new process, whose memory is free afterwards: a `Measured` as JSON, or an `error`."""
    begin = time.monotonic()
    environment = {
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",  # as in the training task
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "0",
        **os.environ,
    }
    if arguments.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    # In a session of its own, so that the processes it starts can be killed with it.
    process = subprocess.Popen(  # noqa: S603  # this program
        [sys.executable, __file__, *sys.argv[1:], "--run", name, str(folder)],
        stdout=sys.stderr,
        env=environment,
        start_new_session=True,
    )
    result: dict[str, Any]
    try:
        process.wait(timeout=max(1.0, end - begin))
        result = json.loads((folder / f"{name}.json").read_text())
    except subprocess.TimeoutExpired:
        result = {"error": f"stopped after {time.monotonic() - begin:.0f} s, when time was up"}
    except FileNotFoundError:
        result = {"error": f"failed with exit status {process.returncode}"}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    print(f"{name}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    return result


def run_row(name: str, folder: Path, arguments: argparse.Namespace) -> int:
    """In the new process: measure a row, and write the result or the error to a file."""
    try:
        result = write_inputs(folder, arguments) if name == "base" else asdict(measure(name, folder, arguments))
    except Exception as error:
        if wants_tracebacks() or not isinstance(error, FlyteLlamaError):
            traceback.print_exc()
        result = {"error": (str(error).strip() or repr(error)).splitlines()[-1][:200]}
    (folder / f"{name}.json").write_text(json.dumps(result))
    return 0


def table_cells(measured: Measured) -> list[str]:
    """The cells of a row: settings, tokens/s, MFU, peak, planned peak and their ratio."""
    timed = Throughput(measured.num_tokens, Flops(measured.flops), measured.seconds)
    gpu = recognise(measured.device)
    peak_flops = gpu.peak_flops("bf16") if gpu else None
    cells = [measured.settings, f"{timed.tokens_per_s:,.0f}", f"{timed.mfu(peak_flops, 1):.1%}" if peak_flops else "-"]
    cells.append(f"{measured.peak_bytes / GIB:.2f} GiB")
    if measured.planned_bytes is None:
        return [*cells, "-", "-"]
    return [*cells, f"{measured.planned_bytes / GIB:.2f} GiB", f"{measured.peak_bytes / measured.planned_bytes:.3f}"]


if __name__ == "__main__":
    sys.exit(main())
