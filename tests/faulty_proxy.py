"""A proxy in front of a tracking server that injects faults."""

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = int | str


class Proxy(ThreadingHTTPServer):
    """A proxy in front of a tracking server.

    Attributes:
        faults: One for each of the next requests: a status, which the server never sees; "reset" and "silence", which
            it never sees either; "lost", whose answer is lost after the server has done the work; "truncated", whose
            answer breaks off; "" for none.
        only: Part of the request line that faults are meant for.
        away: Whether every connection is reset, while it is set.
        headers: Added to a status.
        requests: The request lines so far.
    """

    daemon_threads = True

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server = server.removeprefix("http://")
        self.over = threading.Event()
        self.clear()

    def clear(self) -> None:
        self.faults: list[Fault] = []
        self.only, self.away = "", False
        self.headers: dict[str, str] = {}
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that has gone away."""


@contextmanager
def faulty_proxy(server: str) -> Iterator[Proxy]:
    proxy = Proxy(server)
    threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.over.set()
        proxy.shutdown()
        proxy.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def handle_request(self) -> None:
        proxy, line = self.server, f"{self.command} {self.path}"
        proxy.requests.append(line)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault: Fault = proxy.faults.pop(0) if proxy.faults and proxy.only in line else ""
        if proxy.away or fault == "reset":
            self._reset()
        elif fault == "silence":
            proxy.over.wait(300)
        elif isinstance(fault, int):
            self._answer(fault, proxy.headers, b'{"error_code": "INJECTED", "message": "a fault"}')
        else:
            connection = http.client.HTTPConnection(proxy.server, timeout=60)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            content = response.read()
            connection.close()
            if fault == "lost":
                self._reset()
                return
            headers = {"Content-Type": response.headers.get("Content-Type", "application/json")}
            self._answer(response.status, headers, content, len(content) // 2 if fault == "truncated" else None)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request

    def _answer(self, status: int, headers: dict[str, str], content: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[:cut])

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        pass
