"""As much of the Hugging Face hub as a download needs, for one repository, with faults."""

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Fault = int | str | None


class Hub(ThreadingHTTPServer):
    """The hub.

    Attributes:
        faults: One for each of the next requests of the kind `only`: a status, or one of "reset", "silence", "cut off",
            "corrupted", "captive portal", "gated"; None answers properly.
        always: The fault of every request, while it is set.
        only: Part of the request line that faults are meant for, such as "GET /lab/tiny/resolve".
        headers: Added to faulty answers.
    """

    daemon_threads = True

    def __init__(self, repository: str, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repository, self.folder = repository, folder
        self.commit = "01" * 20
        self.faults: list[Fault] = []
        self.always: Fault = None
        self.only = ""
        self.headers: dict[str, str] = {}
        self.requests: list[str] = []
        self.over = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that has gone away."""


@contextmanager
def fake_hub(repository: str, folder: Path) -> Iterator[Hub]:
    hub = Hub(repository, folder)
    threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.over.set()
        hub.shutdown()
        hub.server_close()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(file: Path) -> bool:
    return file.suffix == ".safetensors"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        hub.requests.append(line := f"{self.command} {self.path}")
        fault = hub.always
        if fault is None and hub.faults and hub.only in line:
            fault = hub.faults.pop(0)
        if isinstance(fault, int):
            code = {404: "RepoNotFound", 401: "RepoNotFound"}.get(fault)
            self._reply(b"{}", fault, {**({"X-Error-Code": code} if code else {}), **hub.headers})
        elif fault == "gated":
            self._reply(b"{}", 403, {"X-Error-Code": "GatedRepo"})
        elif fault == "captive portal":
            self._reply(b"<html>Please log in to the hotel's network</html>")
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif fault == "silence":
            hub.over.wait(300)
        elif found := re.fullmatch(f"/api/models/{hub.repository}/revision/(.+)", path):
            if found[1] not in ("main", hub.commit):
                self._reply(b"{}", 404, {"X-Error-Code": "RevisionNotFound"})
            else:
                self._json({"id": hub.repository, "modelId": hub.repository, "sha": hub.commit, "siblings": []})
        elif path == f"/api/models/{hub.repository}/tree/{hub.commit}":
            self._json([self._entry(file) for file in sorted(hub.folder.iterdir())])
        elif path.startswith(f"/{hub.repository}/resolve/{hub.commit}/"):
            self._file(hub.folder / path.rpartition("/")[2], fault)
        else:
            self._reply(b"{}", 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _entry(self, file: Path) -> dict[str, Any]:
        content = file.read_bytes()
        entry: dict[str, Any] = {"type": "file", "path": file.name, "size": len(content), "oid": git_hash(content)}
        if is_large(file):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return entry

    def _file(self, file: Path, fault: Fault) -> None:
        content = file.read_bytes()
        tag = hashlib.sha256(content).hexdigest() if is_large(file) else git_hash(content)
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": self.server.commit, "Accept-Ranges": "bytes"}
        start = int(found[1]) if (found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if fault == "corrupted" and self.command == "GET":
            body = bytes([body[0] ^ 1]) + body[1:]
        cut = len(body) // 2 if fault == "cut off" else len(body)
        self._reply(body[:cut], 206 if start else 200, headers, length=len(body))

    def _json(self, content: Any) -> None:
        self._reply(json.dumps(content).encode())

    def _reply(
        self, body: bytes, status: int = 200, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass
