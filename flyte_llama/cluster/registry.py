"""Is an image in its registry? Asked anonymously, by the manifest, as OCI's distribution specification describes it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from typing import NamedTuple

from flyte_llama.cluster.finding import Finding

_LIMIT_S = 5.0
_MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)
_DOCKER_HUB = re.compile(r"^(index\.)?docker\.io/")
"""Docker Hub's names, which are not the host of its registry."""

_LOCAL = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?")


class ImageName(NamedTuple):
    """An image as `docker pull` reads it: `host/repository:tag` or `host/repository@digest`."""

    host: str
    repository: str
    reference: str


def parse_image(name: str) -> ImageName:
    """Return the parts of an image's name. Without a host it is of Docker Hub; without a tag, `latest`."""
    rest, _, digest = name.partition("@")
    rest = _DOCKER_HUB.sub("", rest)
    first, slash, path = rest.partition("/")
    has_host = bool(slash) and (first == "localhost" or "." in first or ":" in first)
    host, path = (first, path) if has_host else ("registry-1.docker.io", rest)
    path, _, tag = path.partition(":")
    if not has_host and "/" not in path:
        path = f"library/{path}"
    return ImageName(host, path, digest or tag or "latest")


def image_finding(name: str, *, fix: str) -> Finding:
    """Whether the registry has an image.

    Args:
        fix: A sentence without a full stop: how to build and push it.
    """
    image = parse_image(name)
    try:
        status = _manifest_status(image)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        text = f"{name}: its registry does not answer from here ({reason}). Look from where the cluster pulls it."
        return Finding(subject="image", state="look", text=text)
    if status == 200:
        return Finding(subject="image", state="ok", text=f"{name} is in its registry")
    if status == 404:
        text = f"{name}: is not in its registry. {fix}, or set IMAGE to one that is."
        return Finding(subject="image", state="FAIL", text=text)
    text = (
        f"{name}: its registry does not tell it without a login (HTTP {status}): see `docker manifest inspect {name}`."
    )
    return Finding(subject="image", state="look", text=text)


def _manifest_status(image: ImageName) -> int:
    """The HTTP status of the image's manifest, for who has no account."""
    # As docker does, take a registry of this machine for one without TLS.
    scheme = "http" if _LOCAL.fullmatch(image.host) else "https"
    url = f"{scheme}://{image.host}/v2/{image.repository}/manifests/{image.reference}"
    status, challenge = _head(url, token=None)
    if status == 401 and (token := _anonymous_token(challenge)):
        status, _ = _head(url, token=token)
    return status


def _head(url: str, *, token: str | None) -> tuple[int, str]:
    """The status of a HEAD request, and the challenge that came with it."""
    headers = {"Accept": _MANIFESTS} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, headers=headers, method="HEAD")  # noqa: S310  # http or https, see above
    try:
        with urllib.request.urlopen(request, timeout=_LIMIT_S) as answer:  # noqa: S310  # as above
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("WWW-Authenticate", "")


def _anonymous_token(challenge: str) -> str | None:
    """The token for who has no account, from the server that a `Bearer` challenge names; None if it gives none."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.pop("realm", "")
    if not challenge.lower().startswith("bearer") or not re.match(r"https?://", realm):
        return None
    query = urllib.parse.urlencode({name: value for name, value in fields.items() if name in ("service", "scope")})
    try:
        with urllib.request.urlopen(f"{realm}?{query}", timeout=_LIMIT_S) as answer:  # noqa: S310  # http or https
            fields = json.loads(answer.read(1_000_000))
    except urllib.error.HTTPError:
        return None
    return fields.get("token") or fields.get("access_token")
