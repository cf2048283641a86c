"""What a process can say about itself."""

import json
import os
import pathlib
import sys


def say(value):
    """One line of JSON, at once."""
    print(json.dumps(value), flush=True)


def stream(file):
    if file is None:
        return None
    return {"encoding": file.encoding, "errors": file.errors, "tty": file.isatty(),
            "lines": file.line_buffering}  # fmt: skip


def report(*words):
    """Everything; texts that may hold surrogates as ascii()."""
    import __main__

    say({
        "pid": os.getpid(), "parent": os.getppid(), "argv": [ascii(word) for word in sys.argv],
        "original": [ascii(word) for word in sys.orig_argv],
        "executable": ascii(sys.executable), "frozen": getattr(sys, "frozen", None),
        "tree": ascii(getattr(sys, "_MEIPASS", "")), "file": ascii(__file__),
        "main": __main__.__name__, "main_file": ascii(getattr(__main__, "__file__", None)),
        "prefix": ascii(sys.prefix), "path": [ascii(entry) for entry in sys.path],
        "environment": environment(), "threads": thread_count(),
    })  # fmt: skip


def environment():
    """Every variable as latin-1 text of its bytes."""
    return {key.decode("latin-1"): value.decode("latin-1") for key, value in os.environb.items()}


def thread_count():
    try:
        return len(list(pathlib.Path("/proc/self/task").iterdir()))
    except OSError:
        return None


def folder():
    """The working directory as the system says it, or the error's name."""
    try:
        say(ascii(str(pathlib.Path.cwd())))
    except OSError as error:
        say(type(error).__name__)


def streams():
    """The three streams; to the file descriptor that is still open, if any."""
    found = [stream(file) for file in (sys.stdin, sys.stdout, sys.stderr)]
    line = json.dumps(found).encode() + b"\n"
    for number in (1, 2, 3):
        try:
            os.write(number, line)
            return
        except OSError:
            continue


def streams_to(path):
    """The three streams, into a file."""
    found = [stream(file) for file in (sys.stdin, sys.stdout, sys.stderr)]
    with open(path, "w") as file:
        json.dump(found, file)


def text():
    """What the locale makes of text."""
    import locale

    say({
        "utf8": sys.flags.utf8_mode, "preferred": locale.getpreferredencoding(False),
        "files": sys.getfilesystemencoding(), "errors": sys.getfilesystemencodeerrors(),
        "streams": [stream(file) for file in (sys.stdin, sys.stdout, sys.stderr)],
        "ctype": locale.setlocale(locale.LC_CTYPE), "numeric": locale.setlocale(locale.LC_NUMERIC),
    })  # fmt: skip


def flags():
    """What an isolated program must not take from the environment, and what the signals stand at."""
    import signal

    say({
        "flags": {name: getattr(sys.flags, name) for name in dir(sys.flags) if not name.startswith("_")
                  and not callable(getattr(sys.flags, name))},
        "signals": {name: str(signal.getsignal(getattr(signal, name)))
                    for name in ("SIGINT", "SIGPIPE", "SIGTERM", "SIGHUP", "SIGXFSZ", "SIGCHLD")},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "hash": hash("the same under PYTHONHASHSEED=0 only"),
    })  # fmt: skip


def descriptors():
    """The open file descriptors, with what they are."""
    found = {}
    for entry in list(pathlib.Path("/proc/self/fd").iterdir()):
        try:
            found[entry.name] = str(entry.readlink())
        except FileNotFoundError:
            continue
    say({key: value for key, value in found.items() if not value.startswith("/proc/")})


def libraries():
    """Which files the process has mapped, once the modules with native halves are in."""
    import bz2
    import ctypes
    import hashlib
    import lzma
    import sqlite3
    import ssl
    import zlib

    assert all((bz2, ctypes, hashlib, lzma, sqlite3, ssl, zlib))
    with open("/proc/self/maps") as maps:
        say(sorted({line.split(None, 5)[5].strip() for line in maps if "/" in line}))
