"""The access token of private repositories: from one environment variable to one host, and to nobody else.

git is told of a credential helper that reads the variable when git asks for it, for the scheme, host and port of the
source alone, and only if that host is the one the token is for: another source, a redirect to another host or an
`insteadOf` gets no answer. So the token is in no argument, URL, file or message. For that host it takes the place of
the user's own helpers, which would otherwise be asked to store it. Where the variable is not set, git's own
configuration decides.
"""

from __future__ import annotations

import base64
import os
from typing import NamedTuple
from urllib.parse import urlsplit

from flyte_llama.errors import SourceError

GIT_TOKEN = "FLYTE_LLAMA_GIT_TOKEN"  # noqa: S105  # the name of a variable
GIT_HOST = "FLYTE_LLAMA_GIT_HOST"
DEFAULT_HOST = "github.com"
# GitHub's name for any token; GitLab and Gitea take any name.
_USER = "x-access-token"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HELPER = f"""!f() {{ test "$1" = get && printf 'username=%s\\npassword=%s\\n' {_USER} "${GIT_TOKEN}"; }}; f"""


class Credential(NamedTuple):
    config: list[str]
    """git's settings; they hold no secret."""

    environment: dict[str, str]


def credential_for(url: str) -> Credential:
    """What git needs to read `url`; nothing where no token is set, or the URL is none that it is for.

    Raises:
        SourceError: if the variable holds no token.
    """
    token, origin = _token(), _origin(url)
    if not token or not origin:
        return Credential([], {GIT_TOKEN: ""})
    if not token.isprintable() or not token.isascii() or " " in token:
        raise SourceError(f"{GIT_TOKEN}: holds blanks or odd characters, so it is no access token. Set it again.")
    # The empty helper makes git forget those before it.
    helpers = [f"credential.{origin}.helper=", f"credential.{origin}.helper={_HELPER}"]
    return Credential(helpers, {GIT_TOKEN: token})


def sends_token(url: str) -> bool:
    """Whether git is given the token for this URL."""
    return bool(_token() and _origin(url))


def without_token(text: str) -> str:
    """The text without the token, plain or as HTTP's Basic scheme encodes it, should a server repeat it."""
    token = _token()
    if not token:
        return text
    encoded = base64.b64encode(f"{_USER}:{token}".encode()).decode()
    return text.replace(token, "***").replace(encoded, "***")


def _token() -> str:
    return os.environ.get(GIT_TOKEN, "").strip()


def _origin(url: str) -> str:
    """`https://host:port`, as git's configuration names it; empty if no token may go there."""
    if not url.startswith(("https://", "http://")):
        return ""
    parts = urlsplit(url)
    if parts.hostname != os.environ.get(GIT_HOST, DEFAULT_HOST).lower():
        return ""
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        return ""
    return f"{parts.scheme}://{parts.netloc}"
