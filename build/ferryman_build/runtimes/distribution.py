"""What an unpacked runtime is, read from its files: nothing of it is run, for it is another machine's.

Layouts that are understood, each at the folder itself, in `python/`, in `python/install/` or in a single folder:

* a prefix of POSIX (python-build-standalone, pyenv, `make install`): lib/libpythonX.Y.so.1.0 or .dylib, lib/pythonX.Y/
* a root filesystem of Debian: usr/lib/<multiarch>/libpythonX.Y.so.1.0, usr/lib/pythonX.Y/
* CPython for Windows: pythonXY.dll, DLLs/, Lib/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from ferryman_build.cache import file_digest
from ferryman_build.errors import BlockedError
from ferryman_build.inspect.native import Native, Reason, higher, version_key
from ferryman_build.runtimes.index import release
from ferryman_build.runtimes.libraries import reachable, read_file
from ferryman_build.runtimes.places import resolve_inside
from ferryman_build.settings import OLDEST_PYTHON
from ferryman_build.targets import Libc, Os, Target

_ANOTHER = "Name a runtime for it with `runtime` or in a runtimes.toml (docs/runtimes.md); `ferryman runtimes` lists what there is."
_SHARED = (
    "Use a build with a shared libpython: python-build-standalone's install_only archives have one, CPython's own "
    "build makes one with --enable-shared, Debian packs it as libpythonX.Y."
)
_SOURCE_MAGIC = re.compile(rb"^MAGIC_NUMBER = \((\d+)\)\.to_bytes\(2, 'little'\) \+ b'\\r\\n'", re.MULTILINE)
_HEADER_MAGIC = re.compile(rb"^#define PYC_MAGIC_NUMBER (\d+)", re.MULTILINE)


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """An interpreter distribution on this disk. Paths are POSIX and relative to ``root``.

    ``version`` is X.Y.Z; ``library`` the path of libpython, ``stdlib`` of the standard library, ``extensions`` of its
    extension modules; ``libraries`` are the folders where shared libraries of the runtime lie, in the order in which they
    are searched; ``include`` the folder that holds ``cpython/initconfig.h``, or None. ``magic`` are the first four bytes
    of every bytecode file. ``needed`` has the libraries that libpython, each extension module and each library that those
    need name; ``floor`` is what all of these need of the system, with the reason for each. ``free``: there is no GIL.
    """

    root: Path
    target: str
    version: str
    prefix: str
    library: str
    stdlib: str
    extensions: str
    libraries: tuple[str, ...]
    include: str | None
    magic: bytes
    floor: dict[str, Reason]
    needed: dict[str, tuple[str, ...]]
    free: bool = False

    @property
    def short(self) -> str:
        """X.Y."""
        return ".".join(self.version.split(".")[:2])

    @property
    def library_name(self) -> str:
        """What the launcher loads from the top of the tree: libpython3.11.so.1.0, python311.dll."""
        return Path(self.library).name

    @property
    def floor_text(self) -> str:
        """The floor for people: ``glibc 2.17``."""
        return _floor_text(self.floor)

    @property
    def headers_folder(self) -> Path | None:
        """The folder for :class:`ferryman_build.interpreter.Headers`."""
        return None if self.include is None else self.root / self.include

    @property
    def headers_defines(self) -> tuple[str, ...]:
        """What its build defines, for the same."""
        return ("Py_GIL_DISABLED",) if self.free else ()


HEADERS = ("cpython/initconfig.h", "patchlevel.h")
"""The headers that the launcher's object files depend on."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What later steps and their keys need of a distribution; with it none of its files has to be there.

    ``headers`` are the digests of :data:`HEADERS`, none where it has no headers; ``defines`` belong to them. The rest is
    as in :class:`Distribution`. It is plain JSON for msgspec.
    """

    version: str
    library_name: str
    floor: dict[str, Reason]
    headers: tuple[str, ...]
    defines: tuple[str, ...]

    @property
    def floor_text(self) -> str:
        """The floor for people: ``glibc 2.17``."""
        return _floor_text(self.floor)


def summary(distribution: Distribution) -> Summary:
    """What a step keeps as its result."""
    folder = distribution.headers_folder
    return Summary(
        version=distribution.version, library_name=distribution.library_name, floor=distribution.floor,
        headers=() if folder is None else tuple(file_digest(folder / name) for name in HEADERS if (folder / name).is_file()),
        defines=distribution.headers_defines,
    )  # fmt: skip


def _floor_text(floor: Mapping[str, Reason]) -> str:
    return ", ".join(f"{system} {reason.version}" for system, reason in sorted(floor.items()))


class _Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Where the parts lie, below the root; ``short`` is X.Y with a ``t`` behind it where there is no GIL."""

    short: str
    prefix: str
    library: str
    stdlib: str
    extensions: str
    libraries: tuple[str, ...]
    includes: tuple[str, ...]


def read_distribution(root: Path, target: Target, python: str = "") -> Distribution:
    """What is in the folder ``root``.

    Args:
        root: an unpacked runtime.
        target: what it has to be for.
        python: X.Y or X.Y.Z that it has to be; "" takes any.

    Raises:
        BlockedError: there is no interpreter, it is another machine's or another version's, or it has no shared libpython.
    """
    layout = _layout(root, target)
    native = _library(root, layout, target)
    version = _version(root, layout, native)
    if python and python not in (version, ".".join(version.split(".")[:2])):
        raise _blocked(root, f"is CPython {version}, and {target} is to get {python}")
    include = next(
        (folder for folder in layout.includes if (root / folder / "cpython/initconfig.h").is_file()), None
    )
    loaded = [native, *_extension_natives(root, layout)]
    known = {one.name: one for one in (*loaded, *reachable(root, layout.libraries, loaded))}
    return Distribution(
        root=root, target=target.id, version=version, prefix=layout.prefix, library=layout.library, stdlib=layout.stdlib,
        extensions=layout.extensions, libraries=layout.libraries, include=include,
        magic=_magic(root, layout, include), floor=_floor(known.values()), free=layout.short.endswith("t"),
        needed={name: one.needed for name, one in known.items()},
    )  # fmt: skip


def _blocked(root: Path, why: str, advice: str = _ANOTHER) -> BlockedError:
    return BlockedError(f"The runtime in {root} {why}.", advice=advice)


def _layout(root: Path, target: Target) -> _Layout:
    found = [layout for base in _bases(root) for layout in _layouts(root, base, target)]
    if found:
        return max(found, key=lambda layout: version_key(layout.short.rstrip("t")))
    for base in _bases(root):
        for path in sorted((root / base).glob("lib/**/libpython3.*.a")):
            raise _blocked(root, f"is a static build: it has {path.name} and no shared libpython", _SHARED)
        if (root / base / "bin/python3").exists():
            raise _blocked(root, "has an interpreter and no shared libpython", _SHARED)
    others = (
        "a CPython for Windows (pythonXY.dll, Lib)"
        if target.os is Os.WINDOWS
        else "lib/libpythonX.Y.so.1.0 with lib/pythonX.Y"
    )
    raise _blocked(root, f"has no interpreter for {target} in it: looked for {others}")


def _bases(root: Path) -> Iterator[str]:
    """The folders that a runtime may begin at."""
    yield from (base for base in ("", "python", "python/install", "usr") if (root / base).is_dir())
    inner = [path for path in root.iterdir() if path.is_dir()]
    if len(inner) == 1 and inner[0].name not in ("python", "usr"):
        yield inner[0].name


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _layouts(root: Path, base: str, target: Target) -> Iterator[_Layout]:
    yield from (_windows if target.os is Os.WINDOWS else _posix)(root, base)


def _windows(root: Path, base: str) -> Iterator[_Layout]:
    for library in sorted((root / base).glob("python3*.dll")):
        match = re.fullmatch(r"python3(\d+)(t?)\.dll", library.name, re.IGNORECASE)
        if match and (root / base / "Lib" / "os.py").is_file():
            yield _Layout(
                short=f"3.{match[1]}{match[2]}", prefix=base, library=_join(base, library.name), stdlib=_join(base, "Lib"),
                extensions=_join(base, "DLLs"), libraries=(_join(base, "DLLs"), base), includes=(_join(base, "include"),),
            )  # fmt: skip


def _posix(root: Path, base: str) -> Iterator[_Layout]:
    for stdlib in sorted((root / base).glob("lib/python3.*/os.py")):
        folder = stdlib.parent
        if match := re.fullmatch(r"python(3\.\d+t?)", folder.name):
            short = match[1]
            for library in _shared_libraries(root / base, short):
                yield _Layout(
                    short=short, prefix=base, library=library.relative_to(root).as_posix(),
                    stdlib=_join(base, "lib", folder.name), extensions=_join(base, "lib", folder.name, "lib-dynload"),
                    libraries=_library_folders(root, base, library),
                    includes=(_join(base, f"include/python{short}"),),
                )  # fmt: skip
                break


def _shared_libraries(prefix: Path, short: str) -> Iterator[Path]:
    """A link of a root filesystem may mean a place of its own, so that it looks broken from here."""
    inner = (
        path.relative_to(prefix).as_posix() for path in sorted(prefix.glob("lib/*-*-*")) if path.is_dir()
    )
    for folder in ("lib", "lib64", *inner):
        for name in (f"libpython{short}.so.1.0", f"libpython{short}.dylib"):
            path = prefix / folder / name
            if path.is_file() or path.is_symlink():
                yield path


def _library_folders(root: Path, base: str, library: Path) -> tuple[str, ...]:
    """That of libpython, and for a root filesystem the other one that Debian's loader searches."""
    folder = library.parent.relative_to(root)
    found = [folder.as_posix(), _join(base, "lib")]
    if folder.name.count("-") >= 2:  # a multiarch name: aarch64-linux-gnu
        found.insert(1, f"lib/{folder.name}")
    return tuple(dict.fromkeys(place for place in found if (root / place).is_dir()))


def _library(root: Path, layout: _Layout, target: Target) -> Native:
    native = read_file(root, layout.library)
    if native is None or not native.loadable:
        raise _blocked(root, f"has a {layout.library} that is no shared library")
    if target.arch not in native.architectures:
        machine = " and ".join(native.architectures)
        raise _blocked(root, f"is for {machine}, and {target} is {target.arch} ({layout.library})")
    musl = any(name.startswith(("libc.musl-", "ld-musl-")) or name == "libc.so" for name in native.needed)
    wanted = target.libc is Libc.MUSL
    if target.os is Os.LINUX and (musl or "glibc" in native.floor) and musl != wanted:
        raise _blocked(
            root, f"is linked with {'musl' if musl else 'glibc'}, and {target} has the other C library"
        )
    return native


def _version(root: Path, layout: _Layout, native: Native) -> str:
    """X.Y.Z, from the headers; without them, from the library, which has it as a string."""
    short = layout.short.rstrip("t")
    headers = [root / folder / "patchlevel.h" for folder in layout.includes]
    for text in (header.read_text("utf-8") for header in headers if header.is_file()):
        if match := re.search(r'^#define PY_VERSION\s+"([^"]+)"', text, re.MULTILINE):
            return _supported(root, match[1].rstrip("+"))
    place = resolve_inside(root, layout.library)
    assert place is not None, native.name
    found = re.findall(rb"\0(%s\.\d+(?:(?:a|b|rc)\d+)?)\+?\0" % re.escape(short).encode(), place.read_bytes())
    if not found:
        raise _blocked(root, f"does not say which CPython {short} it is")
    return _supported(root, max((one.decode() for one in found), key=release))


def _supported(root: Path, version: str) -> str:
    if version_key(".".join(version.split(".")[:2])) < OLDEST_PYTHON:
        raise _blocked(
            root,
            f"is CPython {version}, and the oldest that is supported is {'.'.join(map(str, OLDEST_PYTHON))}",
        )
    return version


def _magic(root: Path, layout: _Layout, include: str | None) -> bytes:
    """The head of its bytecode files: importlib's source has it, since 3.14 an internal header, and every .pyc."""
    places = [(root / layout.stdlib / "importlib/_bootstrap_external.py", _SOURCE_MAGIC)]
    if include is not None:
        places.append((root / include / "internal/pycore_magic_number.h", _HEADER_MAGIC))
    for file, pattern in places:
        if file.is_file() and (match := pattern.search(file.read_bytes())):
            return int(match[1]).to_bytes(2, "little") + b"\r\n"
    for compiled in sorted((root / layout.stdlib).glob("**/__pycache__/*.pyc")):
        return compiled.read_bytes()[:4]
    raise _blocked(
        root, "does not say which bytecode it runs: neither importlib, nor a header, nor a .pyc tells"
    )


def _floor(natives: Iterable[Native]) -> dict[str, Reason]:
    reasons: dict[str, Reason] = {}
    for one in natives:
        for system, reason in one.floor.items():
            reasons[system] = higher(reasons.get(system), reason)
    return reasons


def _extension_natives(root: Path, layout: _Layout) -> Iterator[Native]:
    folder = root / layout.extensions
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        if path.suffix in (".so", ".pyd"):
            found = read_file(root, path.relative_to(root).as_posix())
            if found is not None and found.loadable:
                yield found


def floor_problems(distribution: Distribution | Summary, target: Target) -> tuple[str, ...]:
    """One sentence for each system whose version the runtime needs is above what ``target`` promises; both are named.

    ``target.floor`` is the promise, after `floor` of the project.
    """
    found = []
    for system, reason in sorted(distribution.floor.items()):
        promised = target.floor.get(system)
        if promised is None or version_key(reason.version) <= version_key(promised):
            continue
        because = f" ({reason.symbol or reason.label} in {Path(reason.file).name})" if reason.file else ""
        found.append(
            f"the runtime CPython {distribution.version} needs {system} {reason.version}{because}, and {target} promises "
            f"{system} {promised}"
        )
    return tuple(found)


def floor_cure(distribution: Distribution | Summary) -> str:
    """What a person can do about :func:`floor_problems`."""
    return (
        f'Write floor = "{distribution.floor_text}" if no customer has an older system, or use a runtime that was built '
        "on an older one (docs/runtimes.md)."
    )


def check_floor(distribution: Distribution | Summary, target: Target) -> None:
    """Compare with what ``target`` promises.

    Raises:
        BlockedError: it needs more; see :func:`floor_problems`.
    """
    if problems := floor_problems(distribution, target):
        sentence = "; ".join(problems)
        raise BlockedError(f"{sentence[0].upper()}{sentence[1:]}.", advice=floor_cure(distribution))


def check_magic(distribution: Distribution, magic: bytes, python: str = "") -> None:
    """Compare with the bytecode of the interpreter that compiles for it; ``python`` says which that is.

    Raises:
        BlockedError: the runtime would not load what that interpreter compiles.
    """
    if magic != distribution.magic:
        raise BlockedError(
            f"The runtime CPython {distribution.version} runs bytecode {_number(distribution.magic)}, and "
            f"{python or 'the interpreter of this machine'} compiles {_number(magic)}.",
            advice=f"Compile with CPython {distribution.short} of a final release: --python {distribution.short}.",
        )


def _number(magic: Sequence[int]) -> str:
    return str(int.from_bytes(bytes(magic[:2]), "little"))
