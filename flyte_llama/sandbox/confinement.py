"""What a process gives up before it runs what nobody has read."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flyte_llama.sandbox.kernel import prctl
from flyte_llama.sandbox.landlock import restrict_paths
from flyte_llama.sandbox.limits import Limits, limit_process
from flyte_llama.sandbox.seccomp import drop_capabilities, refuse_system_calls

_PR_SET_DUMPABLE = 4
# What libraries read beside the interpreter's own files: devices of chance, zones of time, types of files.
_READABLE = ("/usr", "/lib", "/lib64", "/dev/urandom", "/dev/random", "/dev/zero", "/etc/localtime", "/etc/mime.types")
_WRITABLE = ("/dev/null",)
_OF_PACKAGES = ("site-packages", "dist-packages")


def confine(scratch: str, limits: Limits) -> None:
    """Give up all but reading the interpreter's and installed files and writing below `scratch`; there is no way back.

    Modules of other places can be used only if they were imported before.

    Raises:
        OSError: if this kernel cannot.
    """
    limit_process(limits)
    if os.geteuid() == 0:
        drop_capabilities()
    prctl(_PR_SET_DUMPABLE, 0)
    # Not all of sys.path: a script's own folder, or a checkout, may hold what is nobody's business.
    installed = {path for path in sys.path if Path(path).name in _OF_PACKAGES}
    interpreter = sorted({sys.prefix, sys.base_prefix, sys.exec_prefix} | installed)
    restrict_paths(readable=[*_READABLE, *interpreter], writable=[*_WRITABLE, scratch])
    refuse_system_calls()
