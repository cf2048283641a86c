"""The rows of a runtimes.toml: which interpreter distribution serves which target, and where it lies.

Ferryman's own list, a mirror's and a folder's with runtimes of one's own have the same form; see the head of
resources/runtimes.toml. A relative ``url`` is resolved against the place that the list came from.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

import msgspec

from ferryman_build.cache import digest
from ferryman_build.errors import BlockedError, ConfigError, PackageIndexError
from ferryman_build.homes import home
from ferryman_build.targets import Target, all_targets
from ferryman_build.words import suggest

if TYPE_CHECKING:
    from packaging.version import Version

FILE = "runtimes.toml"
_VERSION = re.compile(r"3\.\d+\.\d+((a|b|rc)\d+)?")
_SHA256 = re.compile(r"([0-9a-f]{64})?")
_LISTS = "`ferryman runtimes` lists what there is."


class Runtime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row: CPython ``python`` (X.Y.Z; "" when only its files tell) for ``target``.

    ``base`` is the folder or URL that a relative ``url`` is resolved against; it is no part of the file.
    """

    python: str
    target: str
    url: str
    sha256: str
    licence: str = ""
    origin: str = ""
    base: str = ""

    @property
    def short(self) -> str:
        """X.Y."""
        return ".".join(self.python.split(".")[:2])

    @property
    def address(self) -> str:
        """An absolute http(s) URL, or the absolute path of a file or folder on this machine."""
        if is_remote(self.url):
            return self.url
        if is_remote(self.base):
            return urljoin(self.base if self.base.endswith("/") else f"{self.base}/", self.url)
        return str(Path(self.base) / local_path(self.url))

    @property
    def remote(self) -> bool:
        """Whether it lies on another machine."""
        return is_remote(self.address)

    @property
    def file_name(self) -> str:
        """What the archive or folder is called."""
        path = urlsplit(self.address).path if self.remote else self.address
        return unquote(path.rstrip("/").rpartition("/")[2]) if self.remote else Path(path).name

    def __str__(self) -> str:
        return f"CPython {self.python or '?'} for {self.target}"


def is_remote(place: str) -> bool:
    """Whether it is fetched through the network."""
    return place.lower().startswith(("http://", "https://"))


def local_path(place: str) -> Path:
    """The path that a file:// URL or a plain path means."""
    if place.lower().startswith("file:"):
        return Path(url2pathname(urlsplit(place).path))
    return Path(place)


def read_index(text: str, base: str, name: str = FILE) -> tuple[Runtime, ...]:
    """The rows of a runtimes.toml; ``base`` is where it lies, ``name`` what messages call it.

    Raises:
        ConfigError: it is no TOML, or a row is wrong; ``details`` has one line per mistake.
    """
    try:
        rows = tomllib.loads(text).get("runtime", [])
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not TOML: {error}.", advice=_form(name)) from error
    if not isinstance(rows, list):
        raise ConfigError(f"{name} has no [[runtime]] rows.", advice=_form(name))
    found, mistakes = [], []
    for number, row in enumerate(rows, 1):
        try:
            found.append(_row(row, base))
        except (msgspec.ValidationError, ValueError) as error:
            mistakes.append(f"row {number}: {error}")
    if mistakes:
        raise ConfigError(f"{name} has rows that cannot be used.", advice=_form(name), details=mistakes)
    return tuple(found)


def _form(name: str) -> str:
    return f"Correct {name}; docs/runtimes.md says what a row has."


def _row(row: object, base: str) -> Runtime:
    if isinstance(row, dict) and "base" in row:
        raise ValueError("Object contains unknown field `base`")
    runtime = msgspec.structs.replace(msgspec.convert(row, Runtime), base=base)
    known = [target.id for target in all_targets()]
    if runtime.target not in known:
        raise ValueError(f"{runtime.target!r} is not a target{suggest(runtime.target, known)}")
    if not _VERSION.fullmatch(runtime.python):
        raise ValueError(f"`python` is {runtime.python!r}, and has to be a whole version such as 3.11.9")
    if not runtime.url:
        raise ValueError("`url` is empty")
    if not _SHA256.fullmatch(runtime.sha256):
        raise ValueError(f"`sha256` is {runtime.sha256!r}, and has to be 64 hexadecimal digits in lower case")
    if not runtime.sha256 and runtime.remote:
        raise ValueError(f"{runtime} is fetched through the network and has no sha256")
    return runtime


def shipped_index() -> tuple[Runtime, ...]:
    """The rows of resources/runtimes.toml."""
    text = resources.files("ferryman_build").joinpath(f"resources/{FILE}").read_text(encoding="utf-8")
    return read_index(text, "", f"Ferryman's {FILE}")


def open_index(place: str, read: Callable[[str], bytes] | None = None) -> tuple[Runtime, ...]:
    """The rows of the list at ``place``.

    Args:
        place: "" is Ferryman's own; a folder with a runtimes.toml, that file itself, or either as a file:// or
            http(s):// URL.
        read: fetches a small file. When None, :func:`ferryman_build.runtimes.fetch.read_small`, and what it answered the
            last time for as long as the mirror does not answer.

    Raises:
        ConfigError: there is no list at ``place``, or it is wrong.
        ResolutionError: what answers is no runtimes.toml.
        PackageIndexError: a mirror does not answer.
    """
    if not place:
        return shipped_index()
    if is_remote(place):
        return _remote_index(place, read)
    path = local_path(place).absolute()
    file = path / FILE if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"There is no list of runtimes at {file}: {error.strerror}.",
            advice=f"`runtimes` names a folder with a {FILE}; `ferryman runtimes mirror DIR` makes one.",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no text.", advice=_form(str(file))) from error
    return read_index(text, str(file.parent), str(file))


def _remote_index(place: str, read: Callable[[str], bytes] | None) -> tuple[Runtime, ...]:
    from ferryman_build.runtimes.fetch import shown

    parts = urlsplit(place)
    address = (
        place
        if parts.path.endswith(".toml")
        else parts._replace(path=f"{parts.path.rstrip('/')}/{FILE}").geturl()
    )
    content = _last_known(address) if read is None else read(address)
    return read_index(content.decode("utf-8", "replace"), address.rpartition("/")[0], shown(address))


def _last_known(address: str) -> bytes:
    """What the mirror has; while it does not answer, what it had the last time. Archives are pinned by hash in both."""
    from ferryman_build.runtimes.fetch import read_small

    kept = home() / "runtimes" / "lists" / f"{digest(address)[:32]}.toml"
    try:
        content = read_small(address)
    except PackageIndexError:
        if not kept.is_file():
            raise
        return kept.read_bytes()
    with contextlib.suppress(OSError):  # it is only for a bad day
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_suffix(f".{os.getpid()}.draft")
        draft.write_bytes(content)
        draft.replace(kept)
    return content


def named_runtime(place: str, target: Target, root: Path) -> Runtime:
    """The runtime that a project names itself: a folder, an archive, or a URL with ``#sha256=…`` behind it.

    Args:
        place: the setting `runtime`; a relative path is one below ``root``.
        target: what it is for; its files are looked at when they are read.
        root: the project's folder.

    Raises:
        ConfigError: there is nothing, or an address without a hash.
    """
    address, _, fragment = place.partition("#")
    sha256 = fragment.removeprefix("sha256=").lower()
    if is_remote(address) and len(sha256) != 64:
        raise ConfigError(
            f"The runtime {address} is fetched through the network and has no hash.",
            advice="Write its SHA-256 behind it: https://…/python.tar.gz#sha256=0123….",
        )
    if not is_remote(address) and not (root / local_path(address)).exists():
        raise ConfigError(
            f"There is no runtime at {root / local_path(address)}.",
            advice="`runtime` names a folder or an archive with an interpreter, or its URL (docs/runtimes.md).",
        )
    return Runtime(
        python="", target=target.id, url=address, sha256=sha256, origin="named by the project", base=str(root)
    )


def find_runtime(rows: Iterable[Runtime], target: Target, python: str) -> Runtime:
    """The row for ``target`` and ``python``: "3.11" takes its newest patch, "3.11.9" that one; the first of equals.

    Raises:
        BlockedError: there is none; the message names what there is.
    """
    ours = [row for row in rows if row.target == target.id]
    fitting = [row for row in ours if python in (row.short, row.python)]
    if fitting:
        return fitting[0] if len(fitting) == 1 else max(fitting, key=_worth)
    raise BlockedError(
        f"There is no runtime of CPython {python} for {target}{_what_there_is(ours)}.", advice=_cure(target)
    )


def _worth(row: Runtime) -> tuple[bool, Version]:
    """A candidate is taken only where there is no final release."""
    version = release(row.python)
    return not version.is_prerelease, version


def release(python: str) -> Version:
    """X.Y.Z as a value that sorts as releases do: 3.14.0rc3 before 3.14.0."""
    from packaging.version import Version  # 20 ms, which a plan with one row per version does not spend

    return Version(python)


def _what_there_is(ours: Sequence[Runtime]) -> str:
    versions = sorted({row.python for row in ours}, key=release)
    return f"; the list has {', '.join(versions)}" if versions else ", nor of any other version"


def _cure(target: Target) -> str:
    return (
        f"Name one with `runtime` in [tool.ferryman.target.{target}] (a folder or an archive), name a list that has one "
        f"with --runtimes, or choose another Python with `python`. {_LISTS}"
    )


def index_text(rows: Iterable[Runtime], head: str = "") -> str:
    """A runtimes.toml with these rows; ``head`` is a comment that stands before them."""
    parts = [head.rstrip() + "\n"] if head else []
    for row in rows:
        fields = (row.python, row.target, row.url, row.sha256, row.licence, row.origin)
        names = ("python", "target", "url", "sha256", "licence", "origin")
        parts.append(
            "[[runtime]]\n"
            + "".join(f"{name} = {_quoted(value)}\n" for name, value in zip(names, fields, strict=True))
        )
    return "\n".join(parts)


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are a part of TOML's."""
    return msgspec.json.encode(text).decode()
