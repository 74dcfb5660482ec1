"""Damage to what a finished run has stored: the next run gives the same figures, or names the damage and stops."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from faults_suite.case import Case, Job, Seen, job
from faults_suite.experiment import Outcome, same_or_refused, write_config
from faults_suite.place import Place
from faults_suite.publishing import PUBLISH, published_weights
from flyte_llama.storage import MANIFEST, seal

SECTION = "Damage to stored folders"
_EXPECTED = "same figures and weights, or one message and exit 2; nothing else is published"
# Kind of folder → the variants whose run reads it. Others are read, or made again, by the plain run.
_VARIANTS = {
    "base": ("plain", "other stride", "other rate"),
    "model": ("plain", "other stride"),
    "suite": ("plain", "other stride"),
    "heldout": ("plain", "other stride"),
    "rows": ("plain", "other rate"),
}


@dataclass(frozen=True)
class Damage:
    """One damage to a file or a folder of the output folder."""

    kind: str
    name: str
    """The folder by `name_folders`, and the path of a file in it: `documents 2/documents.parquet`."""

    other: str = ""
    """The other folder of an exchange."""

    def apply(self, output: Path, rng: random.Random) -> None:
        folders = name_folders(output)
        first, second = (self._resolve(name, folders) if name else output for name in (self.name, self.other))
        _DAMAGES[self.kind](first, second, rng)

    def _resolve(self, name: str, folders: dict[str, Path]) -> Path:
        folder, _, file = name.partition("/")
        return folders[folder] / file

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" and {self.other}" if self.other else "")


def damage_jobs(references: dict[str, Outcome], output: Path, seed: int, *, count: int = 100) -> list[Job]:
    """This many damages to the folders of a finished run; the seed chooses them and the bytes they change."""
    rng = random.Random(seed)  # noqa: S311  # no secret
    turns: dict[str, Iterator[str]] = {}
    jobs = []
    for index, damage in enumerate(_choose(output, rng, count)):
        kind = damage.name.split()[0]
        turn = turns.setdefault(kind, itertools.cycle(_VARIANTS.get(kind, ("plain",))))
        jobs.append(_damage_job(damage, next(turn), references, seed=f"{seed} {index}"))
    return jobs


def _damage_job(damage: Damage, variant: str, references: dict[str, Outcome], *, seed: str) -> Job:
    done = f"{damage}, then the same command" + ("" if variant == "plain" else f" with {variant}")

    def run(place: Place) -> Seen:
        place.restore("plain")
        damage.apply(place.output, random.Random(seed))  # noqa: S311  # no secret
        ended = place.run(write_config(place, variant, PUBLISH))
        reference = references[variant]
        seen = same_or_refused(place, ended, reference)
        published = published_weights(place)
        if published and published != {reference.weights}:
            return Seen(f"{seen.text}; other weights were published", False)
        return Seen(f"{seen.text}; {'published the same' if published else 'published nothing'}", seen.is_expected)

    trains = damage.name.startswith(("model", "base", "rows")) or variant == "other rate"
    return job(Case(SECTION, str(damage), done, _EXPECTED, groups=(30, 32)), run, takes_s=25 if trains else 10)


def name_folders(output: Path) -> dict[str, Path]:
    """Name, such as `scores 1` → folder. A name is the same in every place; the digest in a folder's name is not."""
    folders = [path for path in output.glob("data/*") if path.is_dir()]
    folders.sort(key=lambda path: (_kind_of(path), path.stat().st_mtime_ns))
    numbers: dict[str, int] = {}
    names = {}
    for folder in folders:
        numbers[_kind_of(folder)] = numbers.get(_kind_of(folder), 0) + 1
        names[f"{_kind_of(folder)} {numbers[_kind_of(folder)]}"] = folder
    return names | {"cache": output / "cache"}


def _choose(output: Path, rng: random.Random, count: int) -> list[Damage]:
    """Damages to whole folders first, then to files: every file once before one is damaged twice."""
    folders = name_folders(output)
    stored = [name for name in folders if name != "cache"]
    by_kind = {kind: list(names) for kind, names in itertools.groupby(stored, key=lambda name: name.split()[0])}
    chosen = [Damage("remove", name) for name in stored]
    for same in by_kind.values():
        chosen += [Damage("exchange", *pair) for pair in itertools.pairwise(same)]
        chosen += [Damage("exchange manifests of", *pair) for pair in itertools.pairwise(same)]
    chosen += [Damage("flip a bit and seal again", same[0]) for same in by_kind.values()]
    chosen += [Damage("add a file to", same[-1]) for same in by_kind.values()]
    files = [
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in folders.items()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stat().st_size
    ]
    # File 1 is flipped, file 2 is cut, and so on; the next round begins one further.
    kinds = ("flip a bit of", "cut", "overwrite with noise", "remove", "empty")
    for turn in range(len(kinds)):
        damages = [Damage(kinds[(index + turn) % len(kinds)], file) for index, file in enumerate(files)]
        rng.shuffle(damages)
        chosen += damages
    return chosen[:count]


def _kind_of(folder: Path) -> str:
    return folder.name.split("-")[0]


def _flip(path: Path, _: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _cut(path: Path, _: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(1, len(content))])


def _overwrite(path: Path, _: Path, rng: random.Random) -> None:
    """Noise of the same length, for a safetensors file without touching its header."""
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little") if path.suffix == ".safetensors" else 0
    path.write_bytes(content[:begin] + rng.randbytes(len(content) - begin))


def _remove(path: Path, *_: object) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _empty(path: Path, *_: object) -> None:
    path.write_bytes(b"")


def _exchange(path: Path, other: Path, _: random.Random) -> None:
    aside = path.with_name("aside")
    path.rename(aside)
    other.rename(path)
    aside.rename(other)


def _exchange_manifests(path: Path, other: Path, rng: random.Random) -> None:
    inner = next(path.rglob(MANIFEST)).relative_to(path)
    _exchange(path / inner, other / inner, rng)


def _flip_and_seal(path: Path, _: Path, rng: random.Random) -> None:
    """Damage a folder, and change its manifest so that the two still agree."""
    largest = max(
        (file for file in path.rglob("*") if file.is_file() and file.name != MANIFEST), key=lambda f: f.stat().st_size
    )
    _flip(largest, path, rng)
    for manifest in path.rglob(MANIFEST):
        seal(manifest.parent)


def _add(path: Path, *_: object) -> None:
    (path / "model-00001-of-00002.safetensors").write_bytes(b"another file")


_DAMAGES: dict[str, Callable[[Path, Path, random.Random], None]] = {
    "flip a bit of": _flip,
    "cut": _cut,
    "overwrite with noise": _overwrite,
    "remove": _remove,
    "empty": _empty,
    "exchange": _exchange,
    "exchange manifests of": _exchange_manifests,
    "flip a bit and seal again": _flip_and_seal,
    "add a file to": _add,
}
