"""The URL and ref of a source: which spellings are allowed, and the one name that all spellings of a URL share.

Nothing is looked up over the network, and on disk only where a local path leads (`same_repository_key`).
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit

from flyte_llama.redaction import may_hold_password

PACKAGE = "package:"
_CREDENTIAL = (
    "contains a secret, or a part that may be one: an access token, or what stands before an @. Remove it, and use "
    "git's credential helper or a Flyte secret"
)
_SSH_WITHOUT_SLASHES = re.compile(r"ssh:/?(?P<rest>[\w.-]+@[\w.-]+[:/][^@]*)", re.IGNORECASE)
_MAX_REF_CHARS = 255
# git takes `host:path` for ssh if no slash is before the colon.
_SCP_LIKE = re.compile(r"(?:(?P<user>[\w.-]+)@)?(?P<host>[\w.-]+|\[[\w.:-]+\]):(?!//)(?P<path>\S+)")
_SCHEMES = ("https", "http", "ssh", "git", "file")
# Other names of a host: for ssh behind a firewall, or a shorter one.
_HOSTS = {
    "ssh.github.com": "github.com",
    "altssh.gitlab.com": "gitlab.com",
    "altssh.bitbucket.org": "bitbucket.org",
    "hf.co": "huggingface.co",
}
_AZURE = "dev.azure.com"


def is_package(url: str) -> bool:
    return url.startswith(PACKAGE)


def is_path(url: str) -> bool:
    return not is_package(url) and "://" not in url and not _SCP_LIKE.fullmatch(url)


def check_url(url: str) -> str:
    """Return the URL unchanged.

    Raises:
        ValueError: if it is malformed, could be taken for an option, runs a command (`ext::`), or has a credential.
    """
    if without_slashes := _SSH_WITHOUT_SLASHES.fullmatch(url):
        raise ValueError(f"lacks a slash. Write ssh://, and then {without_slashes['rest']}")
    if may_hold_password(url):
        raise ValueError(_CREDENTIAL)
    if not url or url != url.strip() or url.startswith("-") or not (url + unquote(url)).isprintable():
        raise ValueError(
            "is not a URL, a path or package:NAME. Write one without a leading '-', without blanks around it and "
            "without characters that cannot be seen"
        )
    if is_package(url):
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", url.removeprefix(PACKAGE)):
            raise ValueError("is not a distribution's name. Write package:NAME with the name that pip shows")
        return url
    if re.match(r"\w+::", url):
        raise ValueError("names a transport helper, which runs a command. Use https, ssh, file or a path")
    if "://" in url:
        _check_parts(_split(url))
    elif scp := _SCP_LIKE.fullmatch(url):
        if scp["host"].lower() in _SCHEMES:
            raise ValueError(f"lacks a slash. Write {scp['host'].lower()}://, or a path that starts with ./")
        if scp["host"].startswith("-"):
            raise ValueError("has no host. Write it as user@host:owner/name")
        if len(scp["host"]) == 1 and not scp["user"]:
            raise ValueError("begins like a drive of Windows. Write a path of this machine, or ssh://host/owner/name")
    return url


def _check_parts(parts: SplitResult) -> None:
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"has the scheme {parts.scheme!r}. Use one of {', '.join(_SCHEMES)}")
    # A password may hold a slash, so that its end, with the @, is in the path.
    is_cut = "@" in parts.path and parts.scheme != "file"
    if is_cut or parts.password is not None or (parts.username and parts.scheme != "ssh"):
        raise ValueError(_CREDENTIAL)
    if parts.query or parts.fragment or ";" in parts.path:
        raise ValueError("contains a query, parameters or a fragment. Remove it")
    if parts.scheme != "file" and (not parts.hostname or parts.hostname.startswith("-")):
        raise ValueError("has no host. Write it as https://host/owner/name")
    if not parts.path.strip("/"):
        raise ValueError("names no repository. Write it as https://host/owner/name")


def _split(url: str) -> SplitResult:
    """Return the parts of a URL.

    Raises:
        ValueError: if its host or port is malformed, without them in the message.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("has a malformed host. Write it as https://host/owner/name") from None
    try:
        is_port = parts.port != 0
    except ValueError:
        is_port = False
    if not is_port:
        raise ValueError("has a port that is not a number from 1 to 65535. Write it as https://host:port/owner/name")
    return parts


def check_ref(ref: str | None) -> str | None:
    """Return the ref unchanged.

    Raises:
        ValueError: if git would not accept it as a ref name (git-check-ref-format), or if it is an abbreviated commit.
    """
    if ref is None:
        return None
    is_bad = ref.startswith("-") or ref.endswith(".") or ref == "@" or ".." in ref or "@{" in ref
    # An empty part is a slash at the begin or the end, or two in a row.
    is_bad |= any(not part or part.startswith(".") or part.endswith(".lock") for part in ref.split("/"))
    if is_bad or not ref.isprintable() or re.search(r"[ ~^:?*\[\\]", ref):
        raise ValueError("is not a branch, tag, full ref or 40-hex commit")
    if len(ref) > _MAX_REF_CHARS:
        raise ValueError(f"has more than {_MAX_REF_CHARS} characters, so it is not a branch, tag or commit")
    # A tag may be a date (20200225); an abbreviated commit nearly always has letters.
    if re.fullmatch(r"[0-9a-fA-F]{7,39}", ref) and not ref.isdecimal():
        raise ValueError(
            "looks like an abbreviated commit, which a server cannot look up. Write all 40 digits, or, for a tag, "
            f"refs/tags/{ref}"
        )
    if re.fullmatch(r"[0-9a-fA-F]{40}", ref) and ref != ref.lower():
        raise ValueError("is a commit in capitals. Write it in lower case")
    return ref


def source_name(url: str) -> str:
    """`flyteorg/flyte` for any spelling of https://github.com/flyteorg/flyte; for a path, its last two folders."""
    if is_package(url):
        return PACKAGE + re.sub(r"[-_.]+", "-", url.removeprefix(PACKAGE)).lower()
    path = url if is_path(url) else _host_and_path(url)[1]
    parts = [part for part in path.removesuffix("/").removesuffix(".git").split("/") if part not in ("", ".", "~")]
    return "/".join(parts[-2:]) or url


def same_repository_key(url: str) -> str:
    """Return a key that is the same for all spellings of a repository.

    For a URL, the key is host and path in lower case, without scheme, user, port and `.git`. For a local path, it is
    the folder that the path leads to, through symlinks, without `.git`.
    """
    address = repository_address(url)
    if is_package(url):
        return address
    if not address.startswith("/"):
        return address.lower()
    # git appends `.git` itself, so a path without it may lead to a folder with it.
    path = next((path for path in (address, f"{address}.git") if os.path.lexists(path)), address)
    return _without_git(os.path.realpath(path))


def repository_address(url: str) -> str:
    """Return the repository as people know it: `github.com/flyteorg/flyte`, an absolute path, or `package:NAME`."""
    if is_package(url):
        return source_name(url)
    host, path = ("", os.path.expanduser(url)) if is_path(url) else _host_and_path(url)
    return f"{host}/{path.strip('/')}" if host else _without_git(os.path.abspath(path))


def _host_and_path(url: str) -> tuple[str, str]:
    """Return the host, empty for this machine, and the path of a URL, without `.git`."""
    scp = None if "://" in url else _SCP_LIKE.fullmatch(url)
    parts = urlsplit(url) if scp is None else None
    scheme = parts.scheme if parts else "ssh"
    host = unquote((parts.hostname if parts else scp and scp["host"]) or "").strip("[]").rstrip(".").lower()
    host = _HOSTS.get(host.removeprefix("www."), host.removeprefix("www."))
    path = unquote(parts.path) if parts else scp["path"] if scp else ""
    # Behind another port of this machine may be another one.
    is_local = scheme == "file" or (scheme == "ssh" and (parts is None or parts.port in (None, 22)))
    if is_local and host in ("localhost", "127.0.0.1", "::1"):
        host, path = "", path if scheme == "file" else _path_of_ssh(path)
    # Not normpath alone: it keeps two leading slashes.
    path = posixpath.normpath("/" + path.strip("/"))
    if not host:
        return "", _without_git(path)
    path = re.sub(r"(?:/\.git|\.git)\Z", "", path, flags=re.IGNORECASE)
    return _of_provider(host, path, is_http=scheme in ("http", "https"))


def _path_of_ssh(path: str) -> str:
    """Return the path on this machine to which ssh leads: from the home folder on, unless it begins with a slash."""
    path = path.removeprefix("/") if path.startswith("/~") else path
    return os.path.expanduser(path if path.startswith("~") else os.path.join("~", path))


def _of_provider(host: str, path: str, *, is_http: bool) -> tuple[str, str]:
    """Return host and path as the other spellings of the same repository have them, where a provider has several.

    dev.azure.com/ORG/PROJECT/_git/NAME is also ssh.dev.azure.com:v3/ORG/PROJECT/NAME and
    ORG.visualstudio.com/PROJECT/_git/NAME, and a project's repository of the same name needs no project. Bitbucket Data
    Center adds /scm to its URLs for https.
    """
    organisation, _, domain = host.partition(".")
    parts = path.strip("/").split("/")
    if host in ("ssh.dev.azure.com", "vs-ssh.visualstudio.com") and parts[0] == "v3" and len(parts) == 4:
        return _AZURE, f"/{parts[1]}/{parts[2]}/_git/{parts[3]}"
    if domain == "visualstudio.com":
        host, parts = _AZURE, [organisation, *(parts[1:] if parts[0].lower() == "defaultcollection" else parts)]
        path = "/" + "/".join(parts)
    if host == _AZURE and "_git" in parts:
        at = parts.index("_git")
        parts = [parts[0], *(parts[1:at] or parts[at + 1 :]), *parts[at:]]
        return host, "/" + "/".join(parts)
    if is_http and host not in _HOSTS.values():
        path = re.sub(r"\A(?:/[^/]+)?/scm(?=/[^/]+/[^/]+\Z)", "", path)
    return host, path


def _without_git(path: str) -> str:
    """Return the path of a repository without what git may append to it: `/.git` of a work tree, or `.git`."""
    path = path.rstrip("/")
    return path.removesuffix("/.git").removesuffix(".git").rstrip("/") or "/"


def distinct_names(repositories: Mapping[str, str]) -> dict[str, str]:
    """URL → the name to show for it: its repository's name, or host and path if several URLs have that name.

    `github.com/acme/tools` and `gitlab.com/acme/tools` stand for two sources that are both named `acme/tools`.

    Args:
        repositories: URL → the repository's name.
    """
    counts = Counter(repositories.values())
    names = {url: name if counts[name] == 1 else repository_address(url) for url, name in repositories.items()}
    # Two spellings of one repository have the same host and path.
    counts = Counter(names.values())
    return {url: name if counts[name] == 1 else url for url, name in names.items()}
