"""`rclone serve s3`: real signatures, and every condition of a write is accepted and ignored."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.s3.moto import S3
from support.s3.programs import program
from support.s3.radosgw import free_port, trusting, until_it_listens

KEYS = {"AWS_ACCESS_KEY_ID": "FERRYMANTEST", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests"}


@contextlib.contextmanager
def rclone_server(folder: Path, *, certificate: Path | None = None) -> Iterator[S3]:
    """A server over ``folder``; with a certificate (key and certificate in one file) over https."""
    (folder / "data").mkdir(parents=True)
    port = free_port()
    secure = ["--cert", str(certificate), "--key", str(certificate)] if certificate else []
    words = [
        str(program("rclone")), "serve", "s3", "--config", str(folder / "none.conf"), "--addr", f"127.0.0.1:{port}",
        "--auth-key", ",".join(KEYS.values()), "--vfs-cache-mode", "off", *secure, str(folder / "data"),
    ]  # fmt: skip
    with _running(words, folder, port):
        yield S3(f"{'https' if certificate else 'http'}://127.0.0.1:{port}", trusting(KEYS, certificate))


@contextlib.contextmanager
def juicefs_server(folder: Path) -> Iterator[S3]:
    """JuiceFS's gateway, which is older code of MinIO: the same, with metadata in SQLite and data in files."""
    folder.mkdir(parents=True)
    port = free_port()
    juicefs, meta = str(program("juicefs")), f"sqlite3://{folder}/meta.db"
    home = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    quiet = ["--log-level", "error", "--no-agent"]
    subprocess.run(
        [juicefs, "format", *quiet, "--storage", "file", "--bucket", f"{folder}/blocks/", meta, "tests"],
        check=True, capture_output=True, env=home, cwd=folder,
    )  # fmt: skip
    keys = {
        "MINIO_ROOT_USER": KEYS["AWS_ACCESS_KEY_ID"],
        "MINIO_ROOT_PASSWORD": KEYS["AWS_SECRET_ACCESS_KEY"],
    }
    words = [
        juicefs, "gateway", *quiet, "--multi-buckets", "--keep-etag", "--object-meta", "--cache-dir",
        f"{folder}/cache", meta, f"127.0.0.1:{port}",
    ]  # fmt: skip
    with _running(words, folder, port, {**home, **keys}):
        yield S3(f"http://127.0.0.1:{port}", KEYS)


@contextlib.contextmanager
def _running(
    words: list[str], folder: Path, port: int, environment: dict[str, str] | None = None
) -> Iterator[None]:
    log = folder / "server.log"
    with open(log, "wb") as file:
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True
        )
    try:
        until_it_listens(port, child, lambda: log.read_text(errors="replace"))
        yield
    finally:
        child.kill()
        child.wait()
