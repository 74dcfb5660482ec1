"""The restrictions that a process puts on itself before it runs code that nobody has reviewed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flyte_llama.flyte_eval.sandbox.kernel import prctl
from flyte_llama.flyte_eval.sandbox.landlock import restrict_paths
from flyte_llama.flyte_eval.sandbox.limits import Limits, limit_process
from flyte_llama.flyte_eval.sandbox.seccomp import drop_capabilities, refuse_system_calls

_PR_SET_DUMPABLE = 4
# Paths that libraries read besides the interpreter's files: random and zero devices, the time zone, MIME types.
_READABLE = ("/usr", "/lib", "/lib64", "/dev/urandom", "/dev/random", "/dev/zero", "/etc/localtime", "/etc/mime.types")
_WRITABLE = ("/dev/null",)
_PACKAGE_FOLDERS = ("site-packages", "dist-packages")


def confine(scratch: str, limits: Limits) -> None:
    """Restrict this process, for good, to reading the interpreter's and installed files and writing below `scratch`.

    Modules from elsewhere can be used only if they were imported before.

    Raises:
        OSError: if the kernel cannot restrict it.
    """
    limit_process(limits)
    if os.geteuid() == 0:
        drop_capabilities()
    # no core dump, and no other process of this user may trace this one or read its memory
    prctl(_PR_SET_DUMPABLE, 0)
    # Not all of sys.path: a script's folder, or a checkout, may hold private files.
    installed = {path for path in sys.path if Path(path).name in _PACKAGE_FOLDERS}
    interpreter = sorted({sys.prefix, sys.base_prefix, sys.exec_prefix} | installed)
    restrict_paths(readable=[*_READABLE, *interpreter], writable=[*_WRITABLE, scratch])
    refuse_system_calls()
