"""The access token for private repositories: from one environment variable to one host, and to no other.

git gets a credential helper that reads the variable when git asks for it. It answers only for the scheme, host and port
of the source, and only if the token is for that host: another source, a redirect to another host or an `insteadOf` gets
no answer. So the token is in no argument, URL, file or message. For that host the helper replaces the user's helpers,
which git would otherwise ask to store the token. If the variable is not set, git's configuration decides.
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
GIT_USER = "FLYTE_LLAMA_GIT_USER"
# Part of a host's name → the user that goes with its tokens, as its documentation has it. Gitea takes any user.
_USERS = {"bitbucket": "x-token-auth", "gitlab": "oauth2"}
_USER_OF_OTHERS = "x-access-token"  # GitHub's
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HELPER = f"""!f() {{ test "$1" = get && printf 'username=%s\\npassword=%s\\n' "${GIT_USER}" "${GIT_TOKEN}"; }}; f"""


class Credential(NamedTuple):
    config: list[str]
    """Settings for git; they hold no secret."""

    environment: dict[str, str]


def credential_for(url: str) -> Credential:
    """Return the settings that git needs to read `url`; none if no token is set, or if it is not for this URL.

    Raises:
        SourceError: if the variable does not hold a token.
    """
    token, origin = _token(), _origin(url)
    if not token or not origin:
        return Credential([], {GIT_TOKEN: ""})
    for name, text, noun in ((GIT_TOKEN, token, "an access token"), (GIT_USER, git_user(url), "a user")):
        if not text.isprintable() or not text.isascii() or " " in text:
            raise SourceError(f"{name}: holds spaces or unusual characters, so it is not {noun}. Set it again.")
    # The empty helper makes git forget the helpers configured before it.
    helpers = [f"credential.{origin}.helper=", f"credential.{origin}.helper={_HELPER}"]
    return Credential(helpers, {GIT_TOKEN: token, GIT_USER: git_user(url)})


def git_user(url: str) -> str:
    """Return the user that goes with the token: the one that is set, or the one that the host of the URL expects."""
    host = urlsplit(url).hostname or ""
    default = next((user for part, user in _USERS.items() if part in host), _USER_OF_OTHERS)
    return os.environ.get(GIT_USER, "").strip() or default


def sends_token(url: str) -> bool:
    """Whether git gets the token for this URL."""
    return bool(_token() and _origin(url))


def mask_token(text: str) -> str:
    """Mask the token in a text, plain or as HTTP's Basic scheme encodes it, in case a server repeats it."""
    token = _token()
    if not token:
        return text
    users = {*_USERS.values(), _USER_OF_OTHERS, os.environ.get(GIT_USER, "").strip()}
    for secret in (token, *(base64.b64encode(f"{user}:{token}".encode()).decode() for user in users)):
        text = text.replace(secret, "***")
    return text


def _token() -> str:
    return os.environ.get(GIT_TOKEN, "").strip()


def _origin(url: str) -> str:
    """Return `https://host:port` as git's configuration names it; empty if the token may not go there."""
    if not url.startswith(("https://", "http://")):
        return ""
    parts = urlsplit(url)
    if parts.hostname != os.environ.get(GIT_HOST, DEFAULT_HOST).lower():
        return ""
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        return ""
    return f"{parts.scheme}://{parts.netloc}"
