"""git's smart HTTP server (`git http-backend`) on a loopback port, with a behaviour that a test sets."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Behaviour:
    """How the server treats a request before git answers it, and a record of the requests."""

    token: str | None = None
    """The password that it demands; None admits everyone."""

    status: int | None = None
    """Answer every request with this status."""

    redirect: str | None = None
    """Redirect every request to this URL, which has no path."""

    hang_at: str | None = None
    """Never answer requests with this method."""

    body: bytes = b"no\x1b[2J\r\n"
    """The body of every answer that does not come from git."""

    num_requests: int = 0

    authorizations: list[str] = field(default_factory=list)
    """The authorizations received, decoded."""


@contextmanager
def serve(root: Path, behaviour: Behaviour) -> Iterator[str]:
    """Serve the repositories under `root` until the context ends; yield the server's URL."""
    finished = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's name
            self._answer()

        def do_POST(self) -> None:  # http.server's name
            self._answer()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def _answer(self) -> None:
            behaviour.num_requests += 1
            header = self.headers.get("Authorization", "")
            if header.startswith("Basic "):
                behaviour.authorizations.append(base64.b64decode(header.removeprefix("Basic ")).decode())
            if behaviour.hang_at == self.command:
                finished.wait()
                return
            if behaviour.redirect:
                self._respond(302, b"", Location=behaviour.redirect + self.path)
            elif behaviour.status:
                self._respond(behaviour.status, behaviour.body)
            elif behaviour.token is not None and not (
                behaviour.authorizations and header and behaviour.authorizations[-1].endswith(f":{behaviour.token}")
            ):
                # A hostile server repeats the credentials that it received.
                self._respond(401, behaviour.body + header.encode(), **{"WWW-Authenticate": 'Basic realm="git"'})
            else:
                self._run_backend()

        def _respond(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "text/plain", "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _run_backend(self) -> None:
            path, _, query = self.path.partition("?")
            environment = {
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "REMOTE_ADDR": "127.0.0.1",
                "PATH": os.environ["PATH"],
            }
            sent = self._read_body()
            done = subprocess.run(["git", "http-backend"], input=sent, env=environment, capture_output=True, check=True)
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            status = int(headers.pop("Status", "200").split()[0])
            self._respond(status, body, **headers)

        def _read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        finished.set()
        server.shutdown()
        server.server_close()
