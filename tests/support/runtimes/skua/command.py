"""A program with real dependencies that says what it sees of itself: skua report|serve|version."""

import asyncio
import ctypes
import hashlib
import importlib
import importlib.metadata
import json
import os
import sqlite3
import ssl
import sys
import zlib

import aiohttp
import msgspec
import psutil
import yaml
from aiohttp import web

from skua import words

# Markers decide which of these a target has.
OPTIONAL = ("colorama", "distro")
DISTRIBUTIONS = ("aiohttp", "msgspec", "psutil", "PyYAML", "multidict", "yarl")


class Reading(msgspec.Struct):
    """Something for a C extension to decode."""

    value: int


def report():
    """Everything that a test looks at."""
    return {
        "version": sys.version.split()[0],
        "executable": sys.executable,
        "prefix": sys.prefix,
        "path": sys.path,
        "platform": sys.platform,
        "processes": psutil.Process().pid,
        "decoded": msgspec.json.decode(b'{"value": 42}', type=Reading).value,
        "yaml": yaml.load("a: [1, 2]", Loader=yaml.CSafeLoader),
        "hashed": hashlib.sha256(b"skua").hexdigest(),
        "zlib": zlib.decompress(zlib.compress(b"skua")).decode(),
        "sqlite": sqlite3.connect(":memory:").execute("select 6 * 7").fetchone()[0],
        "ssl": ssl.OPENSSL_VERSION.split()[0],
        "ctypes": ctypes.sizeof(ctypes.c_void_p),
        "optional": [name for name in OPTIONAL if _there(name)],
        "distributions": {name: importlib.metadata.version(name) for name in DISTRIBUTIONS},
        "data": words.text(),
        "certificates": bool(ssl.create_default_context().get_ca_certs) and len(psutil.__version__) > 2,
        "own": __file__,
        "windows": windows() if sys.platform == "win32" else None,
    }


def windows():
    """pywin32: extension modules of a folder that only its .pth file names, and libraries that only its own code finds."""
    import pythoncom
    import win32api
    import win32con

    pythoncom.CoInitialize()
    return [win32api.GetCurrentProcessId() == os.getpid(), win32con.WM_CLOSE, pythoncom.__file__]


def _there(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


async def _answer(request):
    return web.json_response({"path": request.path})


async def serve():
    """A server, and a client that asks it once."""
    application = web.Application()
    application.router.add_get("/{name}", _answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/gull") as answer:
        found = await answer.json()
    await runner.cleanup()
    return found


def main():
    """Print JSON for an act; exit code 3 without one."""
    act = sys.argv[1] if len(sys.argv) > 1 else ""
    if act == "report":
        print(json.dumps(report()))
    elif act == "serve":
        print(json.dumps(asyncio.run(serve())))
    else:
        return 3
    return 0
