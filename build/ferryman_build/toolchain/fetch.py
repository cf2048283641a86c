"""Fetching the toolchain: zig as locked wheels, the decoder's sources out of a source distribution.

Nothing of the source distribution is run. uv says where it is, so that mirrors, further indexes and find-links count;
its hash says whether it is the one; and only the files that resources/toolchain.toml names are written.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import tomllib
import urllib.error
import urllib.request
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from ferryman_build.addresses import request_for
from ferryman_build.cmd import Redactor, Runner
from ferryman_build.collect.environment import make_environment
from ferryman_build.errors import ResolutionError, ToolMissingError
from ferryman_build.interpreter import Interpreter
from ferryman_build.locking import ask_uv
from ferryman_build.toolchain.recipe import ZstdSource, read_recipe
from ferryman_build.toolchain.zig import Toolchain

_SECONDS = 60.0  # of silence on the line
_LARGEST = 50_000_000  # bytes; the sdist has 1 MB, and somebody's error page must not fill the memory
_PYTHON = "3.11"  # only so that uv has a Python to resolve for: the sources belong to none
_PLACE_IT = "Put {file} into a folder and name the folder in UV_FIND_LINKS, or set UV_DEFAULT_INDEX to an index that has it."


def zig_lock() -> str:
    """The text of resources/locks/zig.txt."""
    return resources.files("ferryman_build").joinpath("resources/locks/zig.txt").read_text(encoding="utf-8")


def prepare(into: Path, interpreter: Interpreter, runner: Runner) -> None:
    """Make ``into``/env with zig and ``into``/zstd with the decoder's sources.

    Raises:
        ResolutionError: one of them cannot be had, or is not the one that is pinned.
        PackageIndexError: the package index gave no usable answer.
    """
    make_environment(into, interpreter, zig_lock(), runner)
    source = read_recipe().zstd
    unpack(
        checked(download(find_sdist(source, runner), source, runner.redact), source), source, into / "zstd"
    )


def open_toolchain(folder: Path, cache: Path) -> Toolchain:
    """What :func:`prepare` left in ``folder``; ``cache`` keeps what zig compiles of its own.

    Raises:
        ToolMissingError: there is no zig in it.
    """
    for pattern in ("env/lib/python*/site-packages/ziglang/zig", "env/Lib/site-packages/ziglang/zig.exe"):
        for found in folder.glob(pattern):
            return Toolchain(zig=found, zstd=folder / "zstd", cache=cache)
    raise ToolMissingError(f"There is no zig below {folder}.", advice="Remove that folder and build again.")


def find_sdist(source: ZstdSource, runner: Runner) -> str:
    """The address of the source distribution, as uv finds it.

    Raises:
        ResolutionError: no index and no folder offers it.
        PackageIndexError: the index gave no usable answer.
    """
    name = f"{source.distribution}=={source.version}"
    text = ask_uv(
        [name], _PYTHON, (), options=["--format", "pylock.toml", "--no-deps"], out="pylock.toml",
        asked=f"the launcher's decoder ({name})", runner=runner,
    )  # fmt: skip
    for package in tomllib.loads(text).get("packages", ()):
        sdist = package.get("sdist", {})
        if "url" in sdist:
            return str(sdist["url"])
        if "path" in sdist:
            return Path(sdist["path"]).resolve().as_uri()
    raise ResolutionError(
        f"The package index offers wheels of {name} and no source distribution, which the launcher's decoder is "
        "compiled from.",
        advice=_PLACE_IT.format(file=_file_name(source)),
    )


def download(address: str, source: ZstdSource, redact: Redactor) -> bytes:
    """The file at ``address``: http(s) with the environment's proxy and certificates, or file.

    Raises:
        ResolutionError: it cannot be had.
    """
    request = _request(address)
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - see _request
            data = answer.read(_LARGEST + 1)
    except OSError as error:  # URLError is one, and hides the reason of a connection that failed
        reason = getattr(error, "reason", "") or error
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the answer, and holds the connection
        raise ResolutionError(
            f"{_file_name(source)} could not be downloaded from {redact(address)}: {redact(str(reason))}.",
            advice=f"Check the network, HTTPS_PROXY and SSL_CERT_FILE. {_PLACE_IT.format(file=_file_name(source))}",
        ) from error
    return bytes(data)


def _request(address: str) -> urllib.request.Request:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https", "file"):
        raise ResolutionError(
            f"uv names an address that cannot be downloaded: {parts.scheme}:…",
            advice="Use an index that is reached by https.",
        )
    return request_for(address, {"User-Agent": "ferryman"})


def checked(data: bytes, source: ZstdSource) -> bytes:
    """``data`` again.

    Raises:
        ResolutionError: it is not the file that is pinned.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        raise ResolutionError(
            f"What the package index has as {_file_name(source)} is not the file that Ferryman pins.",
            advice="Find out who changed it, and do not use that index until you know. "
            + _PLACE_IT.format(file="The right one"),
            details=(f"pinned sha256:{source.sha256}", f"found  sha256:{found}, {len(data)} bytes"),
        )
    return data


def unpack(data: bytes, source: ZstdSource, into: Path) -> None:
    """Write the files that are wanted, each under a name that was looked at, whatever else the archive holds.

    Raises:
        ResolutionError: one that the launcher is compiled from is missing.
    """
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            name = _wanted(member.name, source)
            content = archive.extractfile(member) if name and member.isreg() else None
            if content is not None:
                path = into / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
    missing = [name for name in (*source.sources, "lib/zstd.h") if not (into / name).is_file()]
    if missing:
        raise ResolutionError(
            f"{_file_name(source)} does not hold {missing[0]}.",
            advice="This is a mistake in Ferryman's toolchain.toml; please report it.",
        )


def _wanted(name: str, source: ZstdSource) -> str:
    """``name`` below the folder with the sources, or "" for what is not kept."""
    parts = PurePosixPath(name).parts[1:]
    folder = PurePosixPath(source.folder).parts
    below = "/".join(parts[len(folder) :])
    if parts[: len(folder)] != folder or ".." in parts:
        return ""
    depth = below.count("/")  # a * of fnmatch would also fit a slash
    fits = (fnmatchcase(below, pattern) and pattern.count("/") == depth for pattern in source.keep)
    return below if any(fits) else ""


def _file_name(source: ZstdSource) -> str:
    return f"{source.distribution.replace('-', '_')}-{source.version}.tar.gz"
