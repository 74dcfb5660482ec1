"""The connection to a cluster's admin: where it is configured, and why it does not answer."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from flyte_llama.cluster.finding import Finding

T = TypeVar("T")
CALL_LIMIT_S = 6.0
"""Seconds that one call may take."""

FINDING_LIMIT_S = 15.0
"""Seconds that one finding may take, with all its calls, logins and redirections."""

_LOGINS = {"standard", "pkce", "deviceflow"}
"""The kinds of authentication in which a person logs in."""

_REASONS = (
    ("DNS resolution failed", "no such host is known. Correct the endpoint"),
    ("address lookup failed", "no such host is known. Correct the endpoint"),
    ("Hostname Verification", "its certificate is for another host. Correct the endpoint"),
    ("http2 header with status", "what answers there is not Flyte's admin. Correct the endpoint"),
    ("Connection refused", "nothing listens there. Correct host and port of the endpoint, or start the cluster"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted. Set admin.caCertFilePath to that of your authority"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS. Set admin.insecure to true"),
    ("SSL", "the TLS handshake failed. Look at admin.insecure and admin.caCertFilePath"),
    ("Deadline", f"no answer within {CALL_LIMIT_S:g} s. Look whether the network or a VPN leads there"),
    ("Socket closed", "it closed the connection. If it speaks TLS, set admin.insecure to false"),
    ("Connection reset", "it closed the connection. If it speaks TLS, set admin.insecure to false"),
)
"""A part of gRPC's words → the reason and the fix."""


def connect() -> tuple[Any | None, Finding]:
    """Return flytekit's client of the configured cluster, and how the connection is; None if there is no connection.

    If the cluster asks for a login, and none is stored here, that is the finding, and none is started.
    """
    import keyring
    from flytekit.clients.auth.keyring import KeyringStore
    from flytekit.clients.friendly import SynchronousFlyteClient
    from flytekit.configuration import PlatformConfig
    from keyring.backends.fail import Keyring as NoKeyring

    missing = os.environ.get("FLYTECTL_CONFIG")
    if missing and not os.path.exists(missing):
        text = f"FLYTECTL_CONFIG = {missing}: there is no such file, so flytekit would look elsewhere. Correct it."
        return None, Finding(subject="connection", state="FAIL", text=text)
    try:
        file, source = _configuration()
        platform = PlatformConfig.auto(file)
    except Exception as error:  # flytekit has no one error for a malformed file
        text = f"{missing or 'the configuration file'}: {error or type(error).__name__}. Write it as flytectl does."
        return None, Finding(subject="connection", state="FAIL", text=text)
    name = f"{platform.endpoint} ({source})"

    try:
        asks_for_login = _asks_for_login(platform)
        if asks_for_login and _is_login(platform) and KeyringStore.retrieve(platform.endpoint) is None:
            if isinstance(keyring.get_keyring(), NoKeyring):
                text = (
                    f"{name}: asks for a login, and this machine has no keyring that keeps one, so nothing more is "
                    "looked at. `make register` opens one in a browser."
                )
                return None, Finding(subject="connection", state="look", text=text)
            text = f"{name}: asks for a login, and none is stored here. `make register` opens it in a browser."
            return None, Finding(subject="connection", state="FAIL", text=text)
        client = SynchronousFlyteClient(platform)
        call(client.list_projects_paginated, limit=1)
    except Exception as error:  # of gRPC, of the login, of the system
        text = f"{name}: {failure_reason(error)}."
        return None, Finding(subject="connection", state="FAIL", text=text)
    transport = "without TLS" if platform.insecure else "over TLS"
    login = ", logged in" if asks_for_login else ""
    text = f"{name}: Flyte{_version(client)} answers {transport}{login}"
    return client, Finding(subject="connection", state="ok", text=text)


def run_within(seconds: float, function: Callable[[], T]) -> T:
    """Run a function in a thread, and return what it returns. After a timeout the thread goes on running.

    Raises:
        TimeoutError: if it takes longer.
    """
    answers: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()

    def answer() -> None:
        try:
            answers.put((function(), None))
        except BaseException as error:  # raised again below
            answers.put((None, error))

    threading.Thread(target=answer, daemon=True).start()
    try:
        value, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # None only if the function returned None


def call(method: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Call a method of flytekit's client, which answers or fails within `CALL_LIMIT_S`."""
    from flytekit.clients.grpc_utils.deadline_interceptor import scoped_grpc_deadline

    with scoped_grpc_deadline(CALL_LIMIT_S):
        return method(*arguments, **options)


def failure_finding(subject: str, error: BaseException) -> Finding:
    """The finding where there was none: a cluster that does not answer fails a run, one that does not tell may not."""
    import grpc

    cause = error.__cause__ or error
    code = cause.code() if isinstance(cause, grpc.RpcError) else None
    untold = code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)
    return Finding(subject=subject, state="look" if untold else "FAIL", text=f"{failure_reason(error)}.")


def failure_reason(error: BaseException) -> str:
    """Why a call failed, and what to do, in one line without a full stop."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    # flytekit's exceptions say little; the gRPC error that caused one has the server's words.
    kind, words = type(error).__name__, ""
    for cause in causes:
        details, code = getattr(cause, "details", None), getattr(cause, "code", None)
        words = (details() if callable(details) else str(cause)).strip() or words
        kind = code().name if callable(code) else kind
    for part, reason in _REASONS:
        if part.lower() in words.lower():
            return reason
    if "Authentication" in type(error).__name__ or kind == "UNAUTHENTICATED":
        return f"the login was refused: {words}. Log in again, or correct the credentials"
    return f"{words.rstrip('.')} ({kind})" if words else kind


def _configuration() -> tuple[Any, str]:
    """The configuration file that flytekit reads, or None; and where the endpoint comes from."""
    from flytekit.configuration.file import get_config_file
    from flytekit.configuration.internal import Platform
    from flytekit.loggers import logger

    level = logger.level
    logger.setLevel("ERROR")  # flytekit would print a warning beside the finding
    try:
        file = get_config_file(None)
    finally:
        logger.setLevel(level)
    if os.environ.get("FLYTE_PLATFORM_URL"):
        return file, "from FLYTE_PLATFORM_URL"
    if file is None:
        return None, "flytekit's default, because FLYTECTL_CONFIG is not set and ~/.flyte/config.yaml does not exist"
    if file.legacy_config is None and not isinstance(file.yaml_config, dict):
        raise ValueError("is no YAML with keys")
    if Platform.URL.read(file) is None:
        raise ValueError("has no admin.endpoint")
    return file, f"from {file._location}"


def _version(client: Any) -> str:
    """The version of the cluster after a blank, or an empty text: not every cluster tells it."""
    try:
        return f" {call(client.get_control_plane_version)}"
    except Exception:  # of gRPC or flytekit
        return ""


def _is_login(platform: Any) -> bool:
    kind = getattr(platform.auth_mode, "value", platform.auth_mode)
    return str(kind).lower() in _LOGINS


def _asks_for_login(platform: Any) -> bool:
    """Whether the cluster refuses a question that is asked without credentials.

    Raises:
        grpc.RpcError: if it does not answer.
    """
    import grpc
    from flyteidl.admin.project_pb2 import ProjectListRequest
    from flyteidl.service.admin_pb2_grpc import AdminServiceStub
    from flytekit.clients.auth_helper import get_channel, upgrade_channel_to_proxy_authenticated

    channel = upgrade_channel_to_proxy_authenticated(platform, get_channel(platform))
    try:
        AdminServiceStub(channel).ListProjects(ProjectListRequest(limit=1), timeout=CALL_LIMIT_S)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNAUTHENTICATED:
            raise
        return True
    return False
