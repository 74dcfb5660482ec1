"""git's own smart HTTP server (`git http-backend`) on a loopback port, with a door that a test sets."""

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
class Door:
    """What the server does before it lets git answer."""

    token: str | None = None
    """The password that it demands; None lets everyone in."""

    status: int | None = None
    """Answer everything with this status."""

    redirect: str | None = None
    """Send everyone there; a URL without path."""

    hang_at: str | None = None
    """Never answer this method."""

    body: bytes = b"no\x1b[2J\r\n"
    """What it says with a status."""

    num_requests: int = 0

    seen: list[str] = field(default_factory=list)
    """The authorizations that came, decoded."""


@contextmanager
def serve(root: Path, door: Door) -> Iterator[str]:
    """The URL under which the repositories of `root` are served until the context ends."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's name
            self._answer()

        def do_POST(self) -> None:  # http.server's name
            self._answer()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def _answer(self) -> None:
            door.num_requests += 1
            given = self.headers.get("Authorization", "")
            if given.startswith("Basic "):
                door.seen.append(base64.b64decode(given.removeprefix("Basic ")).decode())
            if door.hang_at == self.command:
                over.wait()
                return
            if door.redirect:
                self._say(302, b"", Location=door.redirect + self.path)
            elif door.status:
                self._say(door.status, door.body)
            elif door.token is not None and not (door.seen and given and door.seen[-1].endswith(f":{door.token}")):
                # A hostile server repeats what it was given.
                self._say(401, door.body + given.encode(), **{"WWW-Authenticate": 'Basic realm="git"'})
            else:
                self._backend()

        def _say(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "text/plain", "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _backend(self) -> None:
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
            sent = self._body()
            done = subprocess.run(["git", "http-backend"], input=sent, env=environment, capture_output=True, check=True)
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            status = int(headers.pop("Status", "200").split()[0])
            self._say(status, body, **headers)

        def _body(self) -> bytes:
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
        over.set()
        server.shutdown()
        server.server_close()
