"""Sources that change or vanish after a run has pinned their commit and before it reads them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from faults_suite.case import Case, Job, Seen, job
from faults_suite.experiment import Outcome, describe_end, same_as, write_config
from faults_suite.place import Place

SECTION = "Sources that vanish"
# Name → the shell commands that git's first fetch runs before it, in the repository that it reads.
LOSSES = {
    "moved away": "mv ../train-a ../gone",
    "emptied": "rm -rf .git/objects .git/refs .git/packed-refs",
    "the branch deleted": "git checkout -q --detach; git branch -q -D main",
    "force-pushed": "git commit -q --amend -m other --allow-empty",
    "force-pushed, and garbage collected": (
        "git commit -q --amend -m other --allow-empty; git reflog expire --expire=now --all; git gc -q --prune=now"
    ),
    "the history gone": "rm -rf .git; git init -q -b main; git add -A; git commit -q -m new",
    "the objects cut": (
        "git gc -q --prune=now; for pack in .git/objects/pack/*.pack; do chmod u+w $pack; truncate -s 2000 $pack; done"
    ),
    "the objects removed": "rm -rf .git/objects/pack/* .git/objects/??",
}
_EXPECTED = (
    "the pinned commit is read, or one message and exit 2; with the source back, the same command gives the same"
)
_IDENTITY = "GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.com"


def lost_source_jobs(references: dict[str, Outcome]) -> list[Job]:
    return [
        job(
            Case(SECTION, f"source {name}", f"between pin and read: {commands}", _EXPECTED, groups=(14,)),
            _lose(commands, references["plain"]),
            takes_s=45,
        )
        for name, commands in LOSSES.items()
    ]


def _lose(commands: str, reference: Outcome) -> Callable[[Place], Seen]:
    def run(place: Place) -> Seen:
        place.empty()
        own = place.folder / "own" / place.sources.name
        shutil.rmtree(own.parent, ignore_errors=True)
        shutil.copytree(place.sources, own, symlinks=True)
        changes = {"corpus.train": [{"url": str(own / "train-a")}, {"url": str(place.sources / "train-b")}]}
        config = write_config(place, "plain", changes)

        first = place.run(config, PATH=_wrap_git(place.folder / "bin", own / "train-a", commands))
        shutil.rmtree(own)
        shutil.copytree(place.sources, own, symlinks=True)
        last = place.run(config)

        same = same_as(place, last, reference)
        is_refused = first.code == 2 and not first.has_traceback
        if not (place.folder / "bin" / "done").exists():
            return Seen("git fetched nothing, so nothing was lost", False)
        text = "read the pinned commit" if first.code == 0 else describe_end(first)
        return Seen(f"{text}; then {same.text}", same.is_expected and (first.code == 0 or is_refused))

    return run


def _wrap_git(folder: Path, repo: Path, commands: str) -> str:
    """Write a `git` that runs the commands before its first fetch, and return a PATH that finds it first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    real = shutil.which("git")
    script = f"""#!/bin/sh
case " $* " in
  *" fetch "*) if mkdir "{folder}/done" 2>/dev/null; then
    (cd "{repo}" && export PATH="{Path(str(real)).parent}:$PATH" {_IDENTITY} && unset GIT_DIR && {commands}) >&2
  fi ;;
esac
exec {real} "$@"
"""
    (folder / "git").write_text(script)
    (folder / "git").chmod(0o755)
    return f"{folder}:{Path(shutil.which('bash') or '/bin/bash').parent}:/usr/bin:/bin"
