"""Three small git repositories of Python, Go and Markdown, written by a script: the same seed gives the same commits.

train-a, train-b    sources to train on
heldout             sources to measure on, with a Flyte task
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Mapping
from pathlib import Path

_WORDS = [part.partition(":")[2].split() for part in Path(__file__).with_name("words.txt").read_text().split("\n\n")]
_NOUNS, _VERBS, _ADJECTIVES = _WORDS
_MODULES = (
    "collections",
    "csv",
    "datetime",
    "functools",
    "itertools",
    "json",
    "logging",
    "math",
    "pathlib",
    "re",
    "statistics",
)
_MIT = """MIT License

Copyright (c) 2024 The Authors

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
_FLYTE_TASKS = '''"""A task that prices parcels."""

from flytekit import task


@task
def price_of(total: int) -> int:
    """Return the price in cents: 5 for each unit of weight, and 100 more above 20 units."""
    price = 5 * total
    if total > 20:
        price = price + 100
    return price
'''


def write_sources(folder: Path) -> None:
    """Write the three repositories to a folder."""
    for index, (name, num_files) in enumerate({"train-a": 36, "train-b": 30, "heldout": 14}.items()):
        files = write_files(random.Random(index), num_files)  # noqa: S311  # no secret
        if name == "heldout":
            files["flows/shipping.py"] = _FLYTE_TASKS
        commit(folder / name, files | {"LICENSE": _MIT})


def write_files(rng: random.Random, num_files: int) -> dict[str, str]:
    """Path → text of this many files; half of them are Python, the rest is Go and Markdown."""
    files: dict[str, str] = {}
    while len(files) < num_files:
        noun = rng.choice(_NOUNS)
        path, text = rng.choice(
            [
                (f"{noun}/{rng.choice(_VERBS)}_{noun}.py", _python),
                (f"{noun}/{rng.choice(_VERBS)}.py", _python),
                (f"internal/{noun}/{rng.choice(_VERBS)}.go", _go),
                (f"guides/{rng.choice(_VERBS)}-{noun}.md", _markdown),
            ]
        )
        files[path] = text(rng)
    return files


def commit(repo: Path, files: Mapping[str, str | bytes], *, message: str = "files") -> str:
    """Add the files to a repository, which is made if it does not exist, and return the id of the commit."""
    if not repo.exists():
        repo.mkdir(parents=True)
        git(repo, "init", "-q", "-b", "main")
    for path, content in files.items():
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_bytes(content.encode() if isinstance(content, str) else content)
    git(repo, "add", "-A", "-f")
    git(repo, "commit", "-q", "--allow-empty", "-m", message)
    return git(repo, "rev-parse", "HEAD")


def git(repo: Path, *arguments: str) -> str:
    """Run git in a repository, without the user's configuration and always at the same time, and return its output."""
    identity = {f"GIT_{who}_{key}": value for who in ("AUTHOR", "COMMITTER") for key, value in _IDENTITY.items()}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", *arguments]
    done = subprocess.run(  # noqa: S603  # commands of this program
        command, cwd=repo, env={**os.environ, **identity, **alone}, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


_IDENTITY = {"NAME": "Suite", "EMAIL": "suite@example.com", "DATE": "1700000000 +0000"}


def _python(rng: random.Random) -> str:
    imports = sorted(rng.sample(_MODULES, 2))
    lines = [f'"""{_sentence(rng)}"""', "", *(f"import {name}" for name in imports), ""]
    for _ in range(rng.randint(3, 5)):
        verb, noun, other = rng.choice(_VERBS), rng.choice(_NOUNS), rng.choice(_NOUNS)
        limit, factor = rng.randint(2, 900), rng.randint(2, 60)
        lines += ["", "", f"def {verb}_{noun}s({noun}s: list[int], {other}: int = {limit}) -> int:"]
        lines += [f'    """{_sentence(rng)}"""', f"    {rng.choice(_ADJECTIVES)}_{other} = {other} * {factor}"]
        name = lines[-1].split()[0]
        lines += [f"    for {noun} in {noun}s:", f"        if {noun} {rng.choice('<>')} {other} - {limit % 7}:"]
        lines += [f"            {name} += {noun} {rng.choice(['//', '%', '+', '-', '*'])} {factor + 1}"]
        lines += [f"    # {_sentence(rng)}", f"    return max({name}, {limit * factor})"]
    return "\n".join(lines) + "\n"


def _go(rng: random.Random) -> str:
    lines = [f"package {rng.choice(_NOUNS)}", "", 'import "fmt"', ""]
    for _ in range(rng.randint(2, 4)):
        verb, noun, other = rng.choice(_VERBS), rng.choice(_NOUNS), rng.choice(_NOUNS)
        lines += [f"// {verb.title()}{noun.title()} {_sentence(rng)}"]
        lines += [f"func {verb.title()}{noun.title()}({other}s []int, {noun} int) (int, error) {{"]
        lines += [f"\tif {noun} < {rng.randint(1, 99)} {{"]
        lines += [f'\t\treturn 0, fmt.Errorf("{_sentence(rng)[:-1]}: %d", {noun})', "\t}"]
        lines += [f"\tfor _, {other} := range {other}s {{", f"\t\t{noun} += {other} % {rng.randint(2, 99)}", "\t}"]
        lines += [f"\treturn {noun}, nil", "}", ""]
    return "\n".join(lines) + "\n"


def _markdown(rng: random.Random) -> str:
    lines = [f"# {rng.choice(_VERBS).title()} the {rng.choice(_NOUNS)}", ""]
    for _ in range(rng.randint(3, 5)):
        lines += [f"## The {rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}", ""]
        lines += [" ".join(_sentence(rng) for _ in range(3)), "", f"- {_sentence(rng)}", f"- {_sentence(rng)}", ""]
    return "\n".join(lines)


def _sentence(rng: random.Random) -> str:
    parts = [
        f"{rng.choice(_VERBS)} the {rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}",
        f"{rng.choice(['when', 'before', 'after', 'unless'])} the {rng.choice(_NOUNS)} {rng.choice(_VERBS)}s",
        f"{rng.choice(['every', 'its', 'the next', 'one'])} {rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}",
    ]
    return " ".join(parts).capitalize() + "."
