"""A stand-in for the Hugging Face hub, on loopback: as much of its HTTP interface as a push and a pull use."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """Repositories of files, by name; `status` of all further answers when it is not None."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.status: int | None = None
        self.url = ""

    def commit(self, name: str) -> str:
        content = sorted(self.repositories[name].items())
        return hashlib.sha1(repr(content).encode()).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub, until the block ends."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            said = self.rfile.read(int(self.headers.get("content-length") or 0))
            self._answer(*_post(hub, self.path, said))

        def do_GET(self) -> None:
            self._answer(*_get(hub, self.path))

        do_HEAD = do_GET  # noqa: N815

        def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            hub.asked.append(f"{self.command} {self.path}")
            self.send_response(hub.status or status)
            for name, value in {"content-length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _post(hub: Hub, path: str, said: bytes) -> tuple[int, Any]:
    if path == "/api/repos/create":
        given = json.loads(said)
        name = f"{given.get('organization') or 'me'}/{given['name']}"
        hub.repositories.setdefault(name, {})
        return 200, {"url": f"{hub.url}/{name}", "name": name}
    if path == "/api/validate-yaml":
        return 200, {"errors": [], "warnings": []}
    if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
        files = json.loads(said)["files"]
        return 200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
    if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
        name = match[1]
        for line in said.decode().splitlines():
            if (one := json.loads(line))["key"] == "file":
                hub.repositories[name][one["value"]["path"]] = base64.b64decode(one["value"]["content"])
        oid = hub.commit(name)
        return 200, {"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{name}/commit/{oid}", "hookOutput": ""}
    return 404, {"error": "not a path of this stand-in"}


def _get(hub: Hub, path: str) -> tuple[int, Any, dict[str, str]]:
    path = path.partition("?")[0]
    if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+|/tree/[^/]+)?", path):
        name, what = match[1], match[2] or ""
        if name not in hub.repositories or (what.startswith("/revision/") and not what.endswith("/main")):
            code = "RevisionNotFound" if name in hub.repositories else "RepoNotFound"
            return 404, {"error": code}, {"X-Error-Code": code}
        files = hub.repositories[name]
        if what.startswith("/tree/"):
            tree = [{"type": "file", "path": f, "size": len(c), "oid": _etag(c)} for f, c in sorted(files.items())]
            return 200, tree, {}
        sha = hub.commit(name)
        return 200, {"id": name, "sha": sha, "private": False, "siblings": [{"rfilename": f} for f in files]}, {}
    if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
        content = hub.repositories.get(match[1], {}).get(match[3])
        if content is not None:
            return 200, content, {"etag": f'"{_etag(content)}"', "x-repo-commit": hub.commit(match[1])}
    return 404, {"error": "EntryNotFound"}, {"X-Error-Code": "EntryNotFound"}


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
