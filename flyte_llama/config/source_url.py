"""The URL and ref of a source: which spellings are allowed, and the one name that all spellings of a URL share.

Works on text only; nothing is looked up on disk or over the network.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from urllib.parse import urlsplit

PACKAGE = "package:"
_SCP_LIKE = re.compile(r"^(?P<user>[\w.-]+)@(?P<host>[\w.-]+):(?!//)(?P<path>\S+)$")
_SCHEMES = ("https", "http", "ssh", "git", "file")
# Access tokens of GitHub, Hugging Face, GitLab and AWS. In a configuration they would end up in logs and caches.
_TOKEN = re.compile(r"gh[pousr]_\w{20,}|github_pat_\w{20,}|hf_[A-Za-z0-9]{20,}|glpat-[\w-]{15,}|AKIA[A-Z0-9]{16}")


def is_package(url: str) -> bool:
    return url.startswith(PACKAGE)


def is_path(url: str) -> bool:
    return not is_package(url) and "://" not in url and not _SCP_LIKE.match(url)


def check_url(url: str) -> str:
    """Return the URL unchanged.

    Raises:
        ValueError: if it is malformed, could be taken for an option, runs a command (`ext::`), or has a credential.
    """
    if contains_token(url):
        raise ValueError("contains an access token. Remove it, and use git's credential helper or a Flyte secret")
    if not url or url != url.strip() or url.startswith("-") or any(ord(char) < 32 for char in url):
        raise ValueError(
            "is not a URL, a path or package:NAME. Write one without a leading '-' and without blanks around it"
        )
    if is_package(url):
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", url.removeprefix(PACKAGE)):
            raise ValueError("is not a distribution's name. Write package:NAME with the name that pip shows")
        return url
    if re.match(r"^\w+::", url):
        raise ValueError("names a transport helper, which runs a command. Use https, ssh, file or a path")
    if "://" in url:
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"has the scheme {parts.scheme!r}. Use one of {', '.join(_SCHEMES)}")
        if parts.password is not None or (parts.username and parts.scheme != "ssh"):
            raise ValueError(
                "contains a user or password. Remove it, and use git's credential helper or a Flyte secret"
            )
        if parts.query or parts.fragment:
            raise ValueError("contains a query or fragment. Remove it")
        if parts.scheme != "file" and (not parts.hostname or parts.hostname.startswith("-")):
            raise ValueError("has no host. Write it as https://host/owner/name")
        if not parts.path.strip("/"):
            raise ValueError("names no repository. Write it as https://host/owner/name")
    return url


def check_ref(ref: str | None) -> str | None:
    """Return the ref unchanged.

    Raises:
        ValueError: if git would not accept it as a ref name (git-check-ref-format), or if it is an abbreviated commit.
    """
    if ref is None:
        return None
    is_bad = not ref or ref.startswith(("-", "/")) or ref.endswith(("/", ".", ".lock")) or ".." in ref or "@{" in ref
    if is_bad or re.search(r"[\x00-\x20\x7f~^:?*\[\\]", ref):
        raise ValueError("is not a branch, tag, full ref or 40-hex commit")
    if re.fullmatch(r"[0-9a-f]{7,39}", ref):
        raise ValueError("looks like an abbreviated commit, which a server cannot look up. Write all 40 digits")
    return ref


def source_name(url: str) -> str:
    """`flyteorg/flyte` for any spelling of https://github.com/flyteorg/flyte; for a path, its last two folders."""
    if is_package(url):
        return PACKAGE + re.sub(r"[-_.]+", "-", url.removeprefix(PACKAGE)).lower()
    scp = _SCP_LIKE.match(url)
    path = scp["path"] if scp else urlsplit(url).path if "://" in url else url
    parts = [part for part in path.removesuffix("/").removesuffix(".git").split("/") if part not in ("", ".", "~")]
    return "/".join(parts[-2:]) or url


def same_repository_key(url: str, *, keep_case: bool = False) -> str:
    """Return a key that is the same for all spellings of a repository.

    For a URL, the key is host and path in lower case, without scheme, user and `.git`; with `keep_case`, the URL's path
    keeps its case. For a local path, the key is the absolute path.
    """
    if is_path(url) or url.startswith("file://"):
        return os.path.abspath(os.path.expanduser(url.removeprefix("file://"))).removesuffix(".git")
    if is_package(url):
        return source_name(url)
    scp = _SCP_LIKE.match(url)
    if scp:
        host, path = scp["host"], scp["path"]
    else:
        host, path = urlsplit(url).hostname or "", urlsplit(url).path
    path = path.strip("/").removesuffix(".git")
    return f"{host.removeprefix('www.').lower()}/{path if keep_case else path.lower()}"


def distinct_names(repositories: Mapping[str, str]) -> dict[str, str]:
    """URL → the name to show for it: its repository's name, or host and path if several URLs have that name.

    `github.com/acme/tools` and `gitlab.com/acme/tools` stand for two sources that are both named `acme/tools`.

    Args:
        repositories: URL → the repository's name.
    """
    counts = Counter(repositories.values())
    names = {
        url: name if counts[name] == 1 else same_repository_key(url, keep_case=True)
        for url, name in repositories.items()
    }
    # Two spellings of one repository have the same host and path.
    counts = Counter(names.values())
    return {url: name if counts[name] == 1 else url for url, name in names.items()}


def contains_token(text: str) -> bool:
    """Whether any part of the text looks like an access token."""
    return _TOKEN.search(text) is not None
