"""A small server on this machine that speaks the part of the hub's API that publishing uses.

It stores commits and large files (LFS), takes tokens, and keeps what clients sent. A test may damage what it stores.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from flyte_llama.sources.entry import git_blob_id

Tree = dict[str, bytes]
ACCOUNT = {
    "type": "user",
    "name": "o",
    "orgs": [{"name": "readers", "roleInOrg": "read"}, {"name": "team", "roleInOrg": "write"}],
    "auth": {"accessToken": {"role": "write"}},
}


@dataclass
class Repository:
    private: bool
    commits: dict[str, Tree] = field(default_factory=dict)
    """Commit → its files, in the order in which they were made."""

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    @property
    def files(self) -> Tree:
        return self.commits[self.head]

    def commit(self, tree: Tree) -> str:
        sha = hashlib.sha1(f"{len(self.commits)}{sorted(tree)}".encode(), usedforsecurity=False).hexdigest()
        self.commits[sha] = tree
        return sha


class Hub(ThreadingHTTPServer):
    """Files of the suffix .safetensors are large; all others are regular."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.accounts: dict[str, dict[str, Any]] = {"hf_test": ACCOUNT}
        """Token → what the hub says of it."""

        self.writable = {"o", "team"}
        """Owners whose repositories every token may write to."""

        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.damage: Callable[[Tree], None] = lambda tree: None
        """Changes the files of a commit when it is stored."""

        self.requests: list[str] = []
        self.is_down = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, files: Tree, *, private: bool = True) -> Repository:
        self.repositories[name] = Repository(private)
        self.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs\n", **files})
        return self.repositories[name]


class HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self._route("")

    def do_POST(self) -> None:
        self._route(self.rfile.read(int(self.headers["Content-Length"])))

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.large[self.path.rpartition("/")[2]] = data
        self._answer({})

    def _route(self, body: Any) -> None:
        """Answer a request, with the errors of the hub: 401, 403, 404, 409, 412 and 503."""
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        account = self.server.accounts.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        if self.server.is_down:
            self._answer({"error": "down"}, status=503)
        elif account is None:
            self._answer({"error": "Invalid username or password."}, status=401)
        elif path == "/api/whoami-v2":
            self._answer(account)
        elif path == "/api/validate-yaml":
            self._answer({})
        elif path == "/api/repos/create":
            self._create(json.loads(body), account)
        elif path.endswith("/info/lfs/objects/batch"):
            self._answer_batch(json.loads(body))
        else:
            owner, name, *rest = path.removeprefix("/api/models/").split("/")
            repository = self.server.repositories.get(f"{owner}/{name}")
            if repository is None:
                self._answer({"error": "Repository not found"}, status=404, code="RepoNotFound")
            else:
                self._answer_about(f"{owner}/{name}", repository, rest, body)

    def _create(self, request: dict[str, Any], account: dict[str, Any]) -> None:
        name = f"{request.get('organization') or account['name']}/{request['name']}"
        status = 409 if name in self.server.repositories else 200
        if status == 200:
            self.server.add(name, {}, private=request["visibility"] == "private")
        self._answer({"url": f"{self.server.url}/{name}"}, status=status)

    def _answer_about(self, name: str, repository: Repository, rest: list[str], body: Any) -> None:
        match rest:
            case []:
                files = [{"rfilename": path} for path in repository.files]
                facts = {"id": name, "sha": repository.head, "private": repository.private, "siblings": files}
                self._answer(facts)
            case ["auth-check", "write"]:
                self._answer({}, status=200 if name.split("/")[0] in self.server.writable else 403)
            case ["tree", revision]:
                tree = repository.commits[repository.head if revision == "main" else revision]
                self._answer([describe(path, data) for path, data in tree.items()])
            case ["preupload", _]:
                files = [{"path": file["path"], **mode_of(file["path"])} for file in json.loads(body)["files"]]
                self._answer({"files": files})
            case ["commit", _]:
                self._commit(name, repository, [json.loads(line) for line in body.splitlines()])

    def _commit(self, name: str, repository: Repository, lines: list[dict[str, Any]]) -> None:
        tree = dict(repository.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit", repository.head) != repository.head:
                self._answer({"error": "A commit has happened since."}, status=412)
                return
            if line["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                tree[value["path"]] = self.server.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del tree[value["path"]]
        self.server.damage(tree)
        sha = repository.commit(tree)
        self._answer({"commitUrl": f"{self.server.url}/{name}/commit/{sha}", "commitOid": sha})

    def _answer_batch(self, request: dict[str, Any]) -> None:
        objects = []
        for each in request["objects"]:
            action = {"upload": {"href": f"{self.server.url}/lfs/{each['oid']}"}}
            objects.append(each | ({} if each["oid"] in self.server.large else {"actions": action}))
        self._answer({"transfer": "basic", "objects": objects})

    def _answer(self, content: object, *, status: int = 200, code: str | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def is_large(path: str) -> bool:
    return path.endswith(".safetensors")


def mode_of(path: str) -> dict[str, object]:
    return {"uploadMode": "lfs" if is_large(path) else "regular", "shouldIgnore": False}


def describe(path: str, data: bytes) -> dict[str, object]:
    """A file as the hub lists it: a large one by its sha256, a regular one by its blob id."""
    file: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": git_blob_id(data)}
    if is_large(path):
        file["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return file
