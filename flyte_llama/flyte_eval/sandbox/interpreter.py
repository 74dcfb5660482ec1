"""The files of the interpreter that a run may read: the standard library, shared libraries, time zones and locales.

Each is granted by itself, since the folders around them hold other things: the folder of the standard library holds the
installed packages, and /usr may hold any program's code and data.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import zoneinfo
from pathlib import Path

PACKAGE_FOLDERS = ("site-packages", "dist-packages")
"""Names of folders that hold installed packages."""

# Devices of random and zero bytes, this machine's time zone, MIME types, and the locales of libc.
_SYSTEM_FILES = (
    *("/dev/urandom", "/dev/random", "/dev/zero"),
    *("/etc/localtime", "/etc/mime.types", "/etc/ld.so.cache", "/usr/lib/locale"),
)
_CACHED_LIBRARY = re.compile(rb"/[^\0]+")
_SHARED_LIBRARY = re.compile(r".+\.so(\.[\w.-]+)?")
# Only public data is below these. PYTHONTZPATH, or a build of Python, may name other folders.
_TIME_ZONES = ("/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo")


def interpreter_files() -> list[str]:
    """The files and folders that this process's interpreter needs; call it after all modules were imported."""
    zones = set(_TIME_ZONES) & set(zoneinfo.TZPATH)
    return sorted({*_SYSTEM_FILES, *zones, *_standard_library(), *_shared_libraries()})


def _standard_library() -> set[str]:
    """All in the folder of the standard library, but folders with installed packages."""
    folder = Path(os.__file__).parent
    zipped = {path for path in sys.path if re.fullmatch(r"python\d+\.zip", Path(path).name)}
    return zipped | {str(path) for path in folder.iterdir() if path.name not in PACKAGE_FOLDERS}


def _shared_libraries() -> set[str]:
    """The libraries that the dynamic linker finds by name, and those that this process has loaded."""
    libraries = set()
    # the linker's cache is binary, and holds the paths as strings
    with contextlib.suppress(OSError):
        cache = Path("/etc/ld.so.cache").read_bytes()
        libraries |= {os.fsdecode(path) for path in _CACHED_LIBRARY.findall(cache)}
    with contextlib.suppress(OSError):
        maps = Path("/proc/self/maps").read_bytes()
        libraries |= {os.fsdecode(line.split(maxsplit=5)[5]) for line in maps.splitlines() if line.count(b"/")}
    # Python's extension modules look for libraries in `lib` of the folder that Python is installed in.
    for prefix in {sys.prefix, sys.base_prefix}:
        with contextlib.suppress(OSError):
            libraries |= {str(path) for path in Path(prefix, "lib").iterdir()}
    return {path for path in libraries if _SHARED_LIBRARY.fullmatch(Path(path).name)}
