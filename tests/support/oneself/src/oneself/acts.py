"""What a program does within itself: each act prints what came of it."""

import os
import sys

from oneself.report import say


def echo():
    """Standard input to standard output, as bytes."""
    sys.stdout.buffer.write(sys.stdin.buffer.read())


def unicode():
    print("grün 灯 \N{GREEN HEART}")


def imports():
    """Package data, metadata and submodules, by each of the usual ways."""
    import importlib.metadata
    import importlib.resources
    import inspect
    import pathlib
    import pkgutil

    import oneself
    from oneself import later

    words = importlib.resources.files("oneself").joinpath("texts/words.txt")
    with importlib.resources.as_file(words) as path:
        real = path.read_text().strip()
    say({
        "resource": words.read_text().strip(), "file": real,
        "data": pkgutil.get_data("oneself", "texts/words.txt").decode().strip(),
        "version": version(),
        "entry": [point.load().__name__ for point in importlib.metadata.entry_points(group="oneself.eyes")],
        "modules": sorted(module.name for module in pkgutil.iter_modules(oneself.__path__)),
        "spec": later.__spec__.name, "package": later.__package__,
        "named": pathlib.Path(later.__file__).name.partition(".")[0],
        "function": inspect.unwrap(later.lazily).__qualname__,
    })  # fmt: skip


def version():
    """A plain script has no distribution."""
    import importlib.metadata

    try:
        return importlib.metadata.version("oneself")
    except importlib.metadata.PackageNotFoundError:
        return None


def works():
    """What has a native library behind it."""
    import bz2
    import ctypes
    import ctypes.util
    import decimal
    import hashlib
    import lzma
    import sqlite3
    import ssl
    import uuid
    import zlib

    data = b"light " * 1000
    rows = sqlite3.connect(":memory:").execute("select upper('lit'), sqlite_version() > '3'").fetchall()
    say({
        "tls": ssl.create_default_context().minimum_version.name, "openssl": ssl.OPENSSL_VERSION[:7],
        "rows": rows, "getpid": ctypes.CDLL(None).getpid() == os.getpid(),
        "packed": [module.decompress(module.compress(data)) == data for module in (zlib, bz2, lzma)],
        "hashes": [hashlib.new(name, data).hexdigest() for name in ("sha256", "sha3_256", "md5", "blake2b")],
        "decimal": str(decimal.Decimal(1) / 7), "uuid": len(str(uuid.uuid4())),
        "scrypt": hashlib.scrypt(b"a", salt=b"b", n=2, r=1, p=1).hex(),
    })  # fmt: skip


def threads():
    """Threads, and what they leave."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        squares = list(pool.map(lambda number: number * number, range(5)))
    say({"squares": squares, "main": threading.current_thread() is threading.main_thread()})


def wakeup():
    """A signal's number arrives in a pipe."""
    import signal
    import socket

    near, far = socket.socketpair()
    near.setblocking(False)
    signal.set_wakeup_fd(near.fileno())
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    os.kill(os.getpid(), signal.SIGUSR1)
    far.settimeout(5)
    say(list(far.recv(8)))


def interact():
    """A question on a terminal."""
    say(
        [
            input("your name? "),
            os.isatty(0),
            os.isatty(1),
            sys.stdout.isatty(),
            os.get_terminal_size().columns,
        ]
    )


def lazily():
    """A module that is imported late."""
    from oneself import later

    say(later.lazily())


def settle():
    """Say the own PID; then, when told to by a line, import what was not imported before, and end with the last line.

    Between the two lines a test does to the cache what it likes.
    """
    say(os.getpid())
    sys.stdin.readline()
    from oneself import later

    say(later.lazily())
    sys.stdin.readline()


def close_all():
    """Close every descriptor but the standard ones, as a daemon does, say so, and go on until told to stop."""
    os.closerange(3, 256)
    settle()


def hold(seconds="60"):
    """Sleep."""
    import time

    say(os.getpid())
    time.sleep(float(seconds))
