"""What honest code uses works in the sandbox: the standard library, threads, time, files in the scratch folder."""

from __future__ import annotations

import pytest

from flyte_llama.flyte_eval.sandbox import Limits, Sandbox, confinement_problem

pytestmark = pytest.mark.skipif(confinement_problem() is not None, reason=str(confinement_problem()))
HONEST = {
    "temporary file": """
import tempfile
f = tempfile.TemporaryFile()
f.write(b'x')
f.seek(0)
assert f.read() == b'x'
""",
    "named file": """
import tempfile
with tempfile.NamedTemporaryFile('w') as f:
    assert open(f.name).read() == ''
""",
    "folder": "import tempfile\nwith tempfile.TemporaryDirectory() as d:\n    open(d + '/x', 'w').write('x')",
    "copy": "import shutil; open('a', 'w').write('x'); shutil.copyfile('a', 'b'); assert open('b').read() == 'x'",
    "tree": """
import os, shutil
os.makedirs('a/b')
open('a/b/c', 'w')
shutil.rmtree('a')
assert not os.path.exists('a')
""",
    "rename": "import os; open('a', 'w'); open('b', 'w'); os.replace('a', 'b'); os.rename('b', 'c')",
    "links": "import os; open('a', 'w'); os.symlink('a', 'b'); os.link('a', 'c'); assert os.path.realpath('b')",
    "glob": "import pathlib; pathlib.Path('a.txt').touch(); assert len(list(pathlib.Path('.').glob('*.txt'))) == 1",
    "append and truncate": """
f = open('a', 'a+')
f.write('xy')
f.truncate(1)
f.flush()
assert open('a').read() == 'x'
""",
    "mapped file": """
import mmap
open('a', 'wb').write(b'xy')
f = open('a', 'r+b')
mmap.mmap(f.fileno(), 2)[0] = 65
""",
    "database": "import sqlite3\nc = sqlite3.connect('a.db')\nc.execute('create table t (n)')\nc.commit()",
    "archives": """
import tarfile, zipfile
open('a', 'w')
zipfile.ZipFile('z', 'w').write('a')
tarfile.open('t', 'w:gz').add('a')
""",
    "compression": """
import bz2, lzma, zlib
assert bz2.decompress(bz2.compress(b'x')) == lzma.decompress(lzma.compress(b'x'))
""",
    "hashes": "import hashlib, hmac, secrets, uuid; hashlib.sha256(b'x'); secrets.token_hex(); uuid.uuid4()",
    "random": "import os, random; random.seed(1); random.random(); assert len(os.urandom(8)) == 8",
    "time": """
import time, datetime
time.sleep(0.001)
datetime.datetime.now()
time.perf_counter()
time.localtime()
""",
    "time zone": "import datetime, zoneinfo; datetime.datetime.now(zoneinfo.ZoneInfo('UTC'))",
    "alarm": """
import signal
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.01)
signal.pause()
""",
    "threads": """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as p:
    assert sum(p.map(abs, range(9))) == 36
""",
    "lock and timer": """
import threading
e = threading.Event()
threading.Timer(0.01, e.set).start()
assert e.wait(60)
""",
    "event loop": """
import asyncio
async def f():
    return await asyncio.to_thread(abs, -1)
assert asyncio.run(f()) == 1
""",
    "foreign functions": "import ctypes; assert ctypes.CDLL(None).abs(-3) == 3",
    "late extension modules": "import _decimal, _elementtree, _ssl",
    "machine": """
import os, platform, resource, shutil
os.cpu_count()
platform.platform()
resource.getrusage(0)
shutil.disk_usage('.')
""",
    "user": "import os; os.getuid(); os.getgroups(); os.getpid(); os.umask(0o77); os.times(); os.getloadavg",
    "locale": "import locale; locale.setlocale(locale.LC_ALL, 'C.UTF-8'); locale.localeconv()",
    "log file": """
import logging
logging.basicConfig(filename='log')
logging.warning('x')
assert 'x' in open('log').read()
""",
    "types of files": "import mimetypes; assert mimetypes.guess_type('a.csv')[0]",
    "new module": """
import importlib, sys
sys.path.insert(0, '.')
open('fresh.py', 'w').write('n = 1')
importlib.invalidate_caches()
import fresh
""",
    "installed version": "from importlib import metadata; assert metadata.version('pandas')",
    "resource of a package": """
from importlib import resources
assert resources.files('pandas').joinpath('__init__.py').read_text()
""",
    "pandas": "import pandas as pd; pd.DataFrame({'a': [1]}).to_parquet('p'); assert pd.read_parquet('p').a[0] == 1",
    "pandas with a time zone": """
import pandas as pd
assert pd.Timestamp('2020-01-01', tz='Europe/Berlin').dst() is not None
""",
    "numpy": """
import numpy as np
np.linalg.svd(np.random.default_rng(0).random((50, 50)))
np.memmap('m', 'f4', 'w+', shape=3)
""",
}


def test_honest_code_works():
    with Sandbox(
        "tests.flyte_eval.sandbox.attacks:run_attack", preload=["pandas"], limits=Limits(wall_s=300)
    ) as sandbox:
        outcomes = sandbox.run([{"code": code, "victims": {}} for code in HONEST.values()], what="t")
    ends = {name: (outcome.status, *outcome.values) for name, outcome in zip(HONEST, outcomes, strict=True)}
    assert {name: end for name, end in ends.items() if end != ("done", "could")} == {}
