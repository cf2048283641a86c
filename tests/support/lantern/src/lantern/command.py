"""lantern --version | check | where | serve | child COMMAND | pool."""

import argparse
import sys
from importlib import import_module, metadata, resources


def checks():
    """Every plugin by its name, found through its entry point."""
    return {point.name: point.load() for point in metadata.entry_points(group="lantern.checks")}


def motto():
    """The first line of a text that is package data."""
    return resources.files("lantern").joinpath("texts/motto.txt").read_text(encoding="utf-8").strip()


def lamps():
    """The lamps that lie beside the package, as `data` puts them (beside pyproject.toml when run from source)."""
    from pathlib import Path

    import yaml

    here = Path(__file__).parents
    base = here[1] if (here[1] / "lamps").is_dir() else here[2]
    return {key: value for path in sorted((base / "lamps").glob("*.yaml")) for key, value in
            yaml.safe_load(path.read_text(encoding="utf-8")).items()}  # fmt: skip


def check():
    import msgspec

    found = checks()
    colour = import_module("lantern." + "colours").colour  # by name only: no analysis can see it
    report = {name: {"lit": found[name]().lit(), "colour": colour(name)} for name in sorted(found)}
    print(msgspec.json.encode({"motto": motto(), "checks": report}).decode())
    return 0 if report else 1


def serve(port):
    import json
    import signal
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"lamps": lamps(), "checks": sorted(checks())}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    def stop(number, frame):
        raise SystemExit(0)

    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):  # whichever a service manager of this system sends
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


def child(words):
    import subprocess

    return subprocess.run(words, check=False).returncode


def square(number):
    """Runs in a process that multiprocessing has spawned."""
    return number * number


def pool():
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(2) as workers:
        print(workers.map(square, [1, 2, 3]))
    return 0


def main():
    parser = argparse.ArgumentParser(prog="lantern")
    parser.add_argument("--version", action="version", version=metadata.version("lantern-keeper"))
    parser.add_argument("command", choices=("check", "where", "serve", "child", "pool"))
    parser.add_argument("words", nargs="*")
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    if args.command == "serve":
        return serve(args.port)
    if args.command == "child":
        return child(args.words)
    if args.command == "pool":
        return pool()
    if args.command == "where":
        sys.stdout.reconfigure(errors="backslashreplace")  # a pipe of Windows has a code page
        print(sys.executable, getattr(sys, "frozen", False))
        return 0
    return check()
