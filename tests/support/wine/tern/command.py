"""A program for Windows that says what it sees of itself: tern ACT ARGUMENTS."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

# Extension modules, with the DLLs that some of them need: libcrypto, libssl, libffi, sqlite3.
EXTENSIONS = (
    "_asyncio", "_bz2", "_ctypes", "_decimal", "_hashlib", "_lzma", "_multiprocessing", "_overlapped", "_queue",
    "_socket", "_sqlite3", "_ssl", "_uuid", "pyexpat", "select", "unicodedata",
)  # fmt: skip


def report():
    """Who and where this is."""
    main = sys.modules["__main__"]
    return {
        "argv": sys.argv,
        "cwd": str(Path.cwd()),
        "environment": dict(os.environ),
        "executable": sys.executable,
        "base_executable": sys._base_executable,
        "frozen": getattr(sys, "frozen", False),
        "contents": getattr(sys, "_MEIPASS", None),
        "prefix": sys.prefix,
        "path": sys.path,
        "pid": os.getpid(),
        "version": sys.version,
        "windows": list(sys.getwindowsversion()[:2]),
        "flags": {
            name: getattr(sys.flags, name) for name in ("isolated", "no_site", "optimize", "utf8_mode")
        },
        "main_file": getattr(main, "__file__", None),
        "module_file": __file__,
        "has_site": "site" in sys.modules,
    }


def extensions():
    """Which file each extension module came from; an import that fails ends the program."""
    return {name: __import__(name).__file__ for name in EXTENSIONS}


def square(number):
    """Work for another process."""
    return [number * number, os.getpid(), sys.executable]


def spawn():
    """A pool of worker processes."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return {"pid": os.getpid(), "answers": pool.map(square, range(4))}


def child():
    """This program, started again by what it believes to be its name."""
    done = subprocess.run(
        [sys.executable, "report", "from its parent"],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return {"pid": os.getpid(), "child": json.loads(done.stdout)}


def client():
    """A task of asyncio that reads from a socket, and a digest."""
    import asyncio
    import hashlib

    async def answer(_reader, writer):
        writer.write(b"tern")
        writer.close()

    async def ask():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        got = await reader.read()
        writer.close()
        server.close()
        return got

    return {"digest": hashlib.sha256(asyncio.run(ask())).hexdigest()}


ACTS = {act.__name__: act for act in (report, extensions, spawn, child, client)}


def main():
    """Do what the first word says."""
    act, *rest = [*sys.argv[1:], "report"][: max(len(sys.argv) - 1, 1)]
    if act in ACTS:
        sys.stdout.buffer.write(json.dumps(ACTS[act]()).encode())
    elif act == "exit":
        return int(rest[0])
    elif act == "echo":
        sys.stdout.buffer.write(sys.stdin.buffer.read())
    elif act == "write":
        Path(rest[0]).write_text(json.dumps({**report(), "streams": [repr(sys.stdin), repr(sys.stdout)]}))
    elif act == "fail":
        raise RuntimeError("灯 is out")
    elif act == "wait":
        print("waiting", flush=True)
        time.sleep(float(rest[0]))
    else:
        return f"unknown: {act}"
    return 0
