"""An RFC 3161 time-stamp authority on loopback: OpenSSL answers, a certificate of a test's own authority signs."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from support.authenticode_ca import Authorities

CONFIG = """\
[tsa]
default_tsa = desk
[desk]
serial = {folder}/serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1
digests = sha256, sha384, sha512
accuracy = secs:1
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


@contextmanager
def time_authority(authorities: Authorities, folder: Path) -> Iterator[tuple[str, list[int]]]:
    """(URL, the sizes of the queries that were answered)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(CONFIG.format(folder=folder))
    answered: list[int] = []

    class Desk(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = folder / "query"
            query.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            words = ["openssl", "ts", "-reply", "-config", folder / "tsa.cnf", "-queryfile", query, "-signer",
                     authorities.time_leaf, "-inkey", authorities.time_key]  # fmt: skip
            reply = subprocess.run(words, capture_output=True, check=True).stdout
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)
            answered.append(query.stat().st_size)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Desk) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", answered
        finally:
            server.shutdown()
            thread.join()
