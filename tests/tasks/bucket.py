"""A bucket on this machine that speaks S3, and that a test makes slow or silent."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

NAME = "bkt"


class Objects(dict[str, bytes]):
    """Key → content of the objects of a bucket, each with the time at which it was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: dict[str, float] = {}

    def __setitem__(self, key: str, content: bytes) -> None:
        super().__setitem__(key, content)
        self.written[key] = time.time()


class Bucket:
    """The objects of one bucket, `s3://bkt`."""

    def __init__(self) -> None:
        self.objects = Objects()
        self.before: Callable[[str, str], int | None] = lambda method, key: None
        """Called with the method and key of each request; may wait, and may return the HTTP status of an error."""

        self.port = 0
        self._parts: dict[str, dict[int, bytes]] = {}
        self._lock = threading.Lock()

    def keys(self, pattern: str) -> list[str]:
        """The keys in which the pattern occurs, sorted."""
        return sorted(key for key in dict(self.objects) if re.search(pattern, key))

    def store(self, folder: Path, key: str) -> str:
        """Store the files of a folder below a key, and return its address."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.objects[f"{key}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
        return f"s3://{NAME}/{key}"

    def fetch(self, key: str, folder: Path) -> Path:
        """Write what is stored below a key to a new folder, and return it."""
        for each in self.keys(f"^{re.escape(key)}/"):
            path = folder / each.removeprefix(f"{key}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.objects[each])
        return folder

    def environment(self) -> dict[str, str]:
        """The variables by which flytekit finds the bucket."""
        return {
            "FLYTE_AWS_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "FLYTE_AWS_ACCESS_KEY_ID": "key",
            "FLYTE_AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }


@contextmanager
def serve_bucket() -> Iterator[Bucket]:
    """A bucket that answers on loopback within this context."""
    bucket = Bucket()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"bucket": bucket}))
    server.daemon_threads = True
    bucket.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    bucket: Bucket
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True  # the client was killed

    def do_GET(self) -> None:
        key, query = self._start()
        if key is None:
            return
        if not key:
            self._list(query)
        elif (content := self.bucket.objects.get(key)) is None:
            self._fail(404, "NoSuchKey")
        else:
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked:
                content = content[int(asked[1]) : int(asked[2]) + 1 if asked[2] else None]
            self._answer(206 if asked else 200, content, **self._time_of(key))

    def do_HEAD(self) -> None:
        key, _ = self._start()
        if key is None:
            return
        if key and key not in self.bucket.objects:
            self._fail(404, "NoSuchKey")
        else:
            self._answer(200, self.bucket.objects.get(key, b""), **self._time_of(key))

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key, query = self._start()
        if key is None:
            return
        if "partNumber" in query:
            self.bucket._parts[query["uploadId"]][int(query["partNumber"])] = body
        elif key:
            self.bucket.objects[key] = body
        self._answer(200, b"", ETag=hashlib.sha256(body).hexdigest())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key, query = self._start()
        if key is None:
            return
        if "delete" in query:
            for element in ElementTree.fromstring(body).iter():  # noqa: S314  # written by this test's own client
                if element.tag.endswith("Key"):
                    self.bucket.objects.pop(element.text or "", None)
            self._answer(200, b"<DeleteResult/>")
        elif "uploads" in query:
            upload = f"upload-{time.monotonic_ns()}"
            self.bucket._parts[upload] = {}
            text = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            self._answer(200, text.encode())
        else:
            parts = self.bucket._parts.pop(query["uploadId"])
            self.bucket.objects[key] = b"".join(parts[number] for number in sorted(parts))
            self._answer(200, b"<CompleteMultipartUploadResult/>")

    def do_DELETE(self) -> None:
        key, _ = self._start()
        if key is not None:
            self.bucket.objects.pop(key, None)
            self._answer(204, b"")

    def _start(self) -> tuple[str | None, dict[str, str]]:
        """The key and the query of this request; the key is None if the request has failed."""
        url = urlsplit(self.path)
        key = unquote(url.path).removeprefix(f"/{NAME}").lstrip("/")
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        status = self.bucket.before(self.command, key or query.get("prefix", ""))
        if status is not None:
            self._fail(status, "InternalError")
            return None, query
        return key, query

    def _time_of(self, key: str) -> dict[str, str]:
        """The header that says when an object was written; S3 has whole seconds there."""
        written = self.bucket.objects.written.get(key, 0)
        return {"Last-Modified": formatdate(written, usegmt=True)}

    def _list(self, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        files, folders = [], set()
        for key in sorted(dict(self.bucket.objects)):
            if key.startswith(prefix):
                rest = key[len(prefix) :]
                if delimiter and delimiter in rest:
                    folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                else:
                    files.append(key)
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.bucket.objects.get(key, b''))}</Size>"
            f'<LastModified>{self._listed_time(key)}</LastModified><ETag>"0"</ETag></Contents>'
            for key in files
        )
        prefixes = "".join(f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in folders)
        count = len(files) + len(folders)
        self._answer(
            200,
            f"<ListBucketResult><Name>{NAME}</Name><KeyCount>{count}</KeyCount><IsTruncated>false</IsTruncated>"
            f"{contents}{prefixes}</ListBucketResult>".encode(),
        )

    def _listed_time(self, key: str) -> str:
        written = datetime.fromtimestamp(self.bucket.objects.written.get(key, 0), UTC)
        return written.strftime("%Y-%m-%dT%H:%M:%S.000Z")

    def _fail(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"ETag": '"0"', **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
