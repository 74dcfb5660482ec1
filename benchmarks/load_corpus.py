"""Git repositories of source-like text, of any size and the same for the same size.

Files are functions of random statements in five languages. Every repository has a vocabulary of its own. As in real
code there are copies of files, files that differ in a few lines, held-out paragraphs in train files, addresses, files
too large to read, generated and binary files. No file is written to disk: git receives them as a stream.
"""

from __future__ import annotations

import itertools
import random
import subprocess
from collections.abc import Iterator, Sequence
from math import exp, log
from pathlib import Path
from typing import IO, NamedTuple, cast

# Repository → its share of the files. The held-out ones come first: train files repeat paragraphs of theirs.
SHARES = {"heldout-a": 0.07, "heldout-b": 0.03, "a": 0.4, "b": 0.2, "c": 0.1, "d": 0.1, "e": 0.06, "f": 0.04}
_FILES_PER_COMMIT = 1000
_FIRST_DAY = 1_700_000_000
_SIGMA = 1.2
"""Spread of the logarithm of file sizes: the mean is twice the median."""

_EXACT, _NEAR, _LEAK, _BINARY, _GENERATED = 0.04, 0.04, 0.02, 0.005, 0.005
_TOO_LARGE_EVERY, _TOO_LARGE_BYTES = 10_000, 3_000_000
_POOL = 2000
"""Earlier files and held-out paragraphs to repeat."""

_SYLLABLES = [a + b for a in "bcdfghklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "er", "in", "or", "us")]
# Suffix → head of a function, its statements, and its end; `%s` is a word and `%d` a number.
_LANGUAGES: dict[str, tuple[str, Sequence[str], str]] = {
    ".py": (
        "def %s_%s(%s, %s):\n",
        (
            "    %s = %s.%s(%s)\n",
            "    if %s is None:\n        raise ValueError('%s %s')\n",
            "    for %s in %s[:%d]:\n        %s.append(%s)\n",
            "    %s['%s'] = %d\n",
            "    # %s the %s of each %s\n",
            "    assert len(%s) == %d, '%s'\n",
        ),
        "    return %s\n\n\n",
    ),
    ".go": (
        "func %s%s(%s string, %s int) error {\n",
        (
            "\t%s, err := %s.%s(%s)\n",
            '\tif err != nil {\n\t\treturn fmt.Errorf("%s %s: %%w", err)\n\t}\n',
            "\tfor _, %s := range %s {\n\t\t%s = append(%s, %s)\n\t}\n",
            '\t%s["%s"] = %d\n',
            "\t// %s holds the %s of %s\n",
        ),
        "\treturn nil // %s\n}\n\n",
    ),
    ".ts": (
        "export function %s%s(%s: string, %s: number) {\n",
        (
            "  const %s = %s.%s(%s);\n",
            "  if (!%s) {\n    throw new Error('%s %s');\n  }\n",
            "  %s.map((%s) => %s.%s + %d);\n",
            "  // %s: %s before %s\n",
        ),
        "  return %s;\n}\n\n",
    ),
    ".md": (
        "## %s %s of %s and %s\n\n",
        (
            "The %s of a %s is %s when %s has %d.\n",
            "- `%s`: %s, %s\n",
            "Set %s before you call %s, or ask %s.\n",
        ),
        "See %s.\n\n",
    ),
    ".yaml": (
        "%s-%s:\n  %s: %s\n",
        ("  %s: %d\n", "  %s: [%s, %s, %s]\n", '  %s: "%s %s"\n', "  # %s of %s\n"),
        "  name: %s\n\n",
    ),
}
_LICENCE = """MIT License

Copyright (c) 2024 The authors

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""  # noqa: E501  # a licence is recognised by its text as it is


class Made(NamedTuple):
    num_repositories: int
    num_files: int
    num_bytes: int

    def __str__(self) -> str:
        return f"{self.num_repositories} repositories, {self.num_files:,} files, {self.num_bytes / 1e6:,.0f} MB"


def write_repositories(folder: Path, *, num_files: int, num_mb: float) -> Made:
    """Write the repositories as `folder/NAME.git`, bare, or find them there from an earlier call."""
    record = folder / f"made-{num_files}-{num_mb:g}"
    if record.exists():
        return Made(*map(int, record.read_text().split()))
    folder.mkdir(parents=True)
    paragraphs: list[str] = []
    total, total_bytes = 0, 0
    for name, share in SHARES.items():
        files = write_files(name, round(num_files * share), num_mb * 1e6 / num_files, paragraphs)
        count, size = _import(folder / f"{name}.git", files)
        total, total_bytes = total + count, total_bytes + size
    made = Made(len(SHARES), total, total_bytes)
    record.write_text(" ".join(map(str, made)))
    return made


def write_files(name: str, num_files: int, mean_bytes: float, paragraphs: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each file of a repository.

    Args:
        paragraphs: Held-out text: a held-out repository adds to it, a train repository repeats it.
    """
    rng = random.Random(name)  # noqa: S311  # the same each time, not a secret
    words = _Words(rng)
    is_heldout = name.startswith("heldout")
    pool: list[tuple[str, str]] = []
    yield "LICENSE", _LICENCE.encode()
    for index in range(num_files - 1):
        # draw the kind and the size of the file
        suffix = rng.choice(list(_LANGUAGES))
        folder = f"{words.roots[index % 97]}/{words.roots[index // 97 % 89]}"
        kind = rng.random()
        if kind < _BINARY:
            yield f"{folder}/{index}.bin", rng.randbytes(int(mean_bytes))
            continue
        is_too_large = index % _TOO_LARGE_EVERY == _TOO_LARGE_EVERY - 1
        size = min(exp(rng.gauss(log(mean_bytes) - _SIGMA**2 / 2, _SIGMA)), 900_000)
        lead = "# Code generated by protoc. DO NOT EDIT.\n" if kind > 1 - _GENERATED else ""
        # make its text: a copy, nearly a copy, or a new text
        copied = rng.random()
        if pool and copied < _EXACT:
            suffix, text = rng.choice(pool)
        elif pool and copied < _EXACT + _NEAR:
            suffix, text = rng.choice(pool)
            text = words.function(suffix, 5) + text
        else:
            text = lead + words.file(suffix, _TOO_LARGE_BYTES if is_too_large else size)
        # add what a corpus has to be cleaned of
        if not is_heldout and paragraphs and rng.random() < _LEAK:
            text += "\n\n" + rng.choice(paragraphs)
        if rng.random() < 0.01:
            text += f"# {rng.choice(words.roots)}@{rng.choice(words.roots)}.org, 52.17.{index % 250}.{index % 91}\n"
        # keep some of it to repeat
        if is_heldout and len(paragraphs) < _POOL:
            paragraphs.append(text[:1500])
        if len(pool) < _POOL and not is_too_large:
            pool.append((suffix, text))
        yield f"{folder}/{words.roots[index % 613]}_{index}{suffix}", text.encode()


class _Words:
    """Random text in a vocabulary of 30,000 names, some frequent and most rare."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.roots = ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3))) for _ in range(3000)]
        names = ["_".join(rng.choices(self.roots, k=rng.randint(1, 3))) for _ in range(30_000)]
        self._names = names
        self._weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(len(names))))

    def file(self, suffix: str, num_bytes: float) -> str:
        parts: list[str] = []
        left = num_bytes
        while left > 0:
            parts.append(self.function(suffix, self._rng.randint(3, 25)))
            left -= len(parts[-1])
        return "".join(parts)

    def function(self, suffix: str, num_statements: int) -> str:
        """A function of the language, with `num_statements` statements."""
        head, statements, end = _LANGUAGES[suffix]
        template = "".join([head, *self._rng.choices(statements, k=num_statements), end])
        pieces = template.replace("%%", "\0").split("%")
        names = iter(self._rng.choices(self._names, cum_weights=self._weights, k=len(pieces)))
        number = self._rng.getrandbits
        filled = [(next(names) if piece[0] == "s" else str(number(16))) + piece[1:] for piece in pieces[1:]]
        return (pieces[0] + "".join(filled)).replace("\0", "%")


def _import(repository: Path, files: Iterator[tuple[str, bytes]]) -> tuple[int, int]:
    """Make a bare repository of the files, with a history; their number and size."""
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", str(repository)], check=True)  # noqa: S603  # fixed
    command = ["git", f"--git-dir={repository}", "fast-import", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:  # noqa: S603  # fixed arguments
        count, size = _write_commits(cast(IO[bytes], process.stdin), files)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return count, size


def _write_commits(stream: IO[bytes], files: Iterator[tuple[str, bytes]]) -> tuple[int, int]:
    """Write commits of up to a thousand files each, in git's fast-import format."""
    count = size = 0
    for day in itertools.count():
        batch = list(itertools.islice(files, _FILES_PER_COMMIT))
        if not batch:
            return count, size
        person = b"A <a@example.org> %d +0000\n" % (_FIRST_DAY + day * 86_400)
        stream.write(b"commit refs/heads/main\ncommitter " + person + b"data 4\nmore\n")
        for path, content in batch:
            stream.write(b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(content), content))
            count, size = count + 1, size + len(content)
    return count, size
