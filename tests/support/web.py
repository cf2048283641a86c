"""A web server on loopback whose answers a test decides: it serves a folder, and ``behave`` may answer first."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """GET with ranges and entity tags, over connections that are kept open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = (
        True  # head and body are two writes; without this the second waits for an answer
    )
    server: Web

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers.items())))
        if self.server.behave is not None and self.server.behave(self):
            return
        self.serve()

    def serve(self) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.answer(404, b"there is none")
            return
        data = path.read_bytes()
        tag = f'"{hashlib.sha256(data).hexdigest()[:12]}"'
        wanted = self.headers.get("Range", "")
        if wanted and self.headers.get("If-Range", tag) == tag:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            if start >= len(data):
                self.answer(416, b"")
                return
            where = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.answer(206, data[start:], {"ETag": tag, "Content-Range": where})
        else:
            self.answer(200, data, {"ETag": tag})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""

    def endless(self, status: int = 200) -> bool:
        """A body that never ends, until the client hangs up."""
        self.send_response(status)
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" " * 65536)
        except OSError:
            self.close_connection = True
        return True

    def cut(self, data: bytes, after: int, headers: dict[str, str] | None = None) -> bool:
        """The head of a whole answer, ``after`` bytes of it, and a closed connection."""
        self.send_response(200)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[:after])
        self.close_connection = True
        return True


class Web(ThreadingHTTPServer):
    """``seen`` has the path and the headers of every request; ``behave`` answers one, or says False."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.behave: Callable[[Handler], bool] | None = None
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what many a test is about."""

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.seen]


@contextmanager
def serving(folder: Path) -> Iterator[Web]:
    """A server that is ended with the block."""
    with Web(folder) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield web
        finally:
            web.shutdown()
            thread.join()
