"""A server on loopback that answers as servers do on bad days."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler], None]


@dataclass
class Server:
    """``answers`` by path; ``asked`` are the (path, Authorization) of every request."""

    answers: Mapping[str, Answer]
    address: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def serving(answers: Mapping[str, Answer], tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server until the end of the block; a path that is not named is 404. With ``tls`` it speaks https as localhost."""
    server = Server(answers)

    class Answering(Handler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:  # noqa: N802 - http.server's name
            path = self.path.removeprefix("/")
            server.asked.append((path, self.headers.get("Authorization", "")))
            with contextlib.suppress(ConnectionError):
                server.answers.get(path, status(404))(self)

        def log_message(self, *arguments: object) -> None:
            """Nothing: the test looks at ``asked``."""

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    listening.daemon_threads = True
    server.address = f"http://127.0.0.1:{listening.server_port}"
    if tls is not None:
        listening.socket = tls.wrap_socket(listening.socket, server_side=True)
        server.address = f"https://localhost:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def file(content: bytes, kind: str = "application/octet-stream", length: int | str | None = None) -> Answer:
    """The content; ``length`` is what the head says of its size, where that is a lie."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def status(code: int) -> Answer:
    """An error."""
    return lambda handler: handler.send_error(code)


def redirect(to: str) -> Answer:
    """Another place."""

    def answer(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path] | None:
    """(what a server on localhost speaks TLS with, the file that SSL_CERT_FILE has to name); None without openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    key, made = folder / "key.pem", folder / "localhost.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-keyout", key, "-out", made, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return context, made


def silent(seconds: float) -> Answer:
    """A head, and then nothing for a while."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        time.sleep(seconds)

    return answer


def trickling(content: bytes, pause: float) -> Answer:
    """A byte at a time."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        for byte in content:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(pause)

    return answer
