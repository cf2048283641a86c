"""One file, measured completely: what its headers say and what its instructions need. Each content is measured once."""

from __future__ import annotations

import functools
import hashlib
import io
import struct
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import msgspec
from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from ferryman_build.cache import Blobs, digest, file_digest
from ferryman_build.inspect import arm, elf_isa
from ferryman_build.inspect.bytecode import is_bytecode, source_path
from ferryman_build.inspect.code import Code
from ferryman_build.inspect.elf_code import elf_code, imports_that_ask
from ferryman_build.inspect.formats import MAGICS, read_native
from ferryman_build.inspect.macho import slices
from ferryman_build.inspect.macho_code import macho_code
from ferryman_build.inspect.native import NO_DECODER, NOT_MEASURED, Cpu, Format, Native, Reason
from ferryman_build.inspect.pe_code import pe_code

_LIBRARIES = ("pyelftools", "iced-x86")
_DAMAGED = (
    ELFError, ConstructError, struct.error, UnicodeDecodeError, LookupError, OverflowError, AttributeError, TypeError,
    AssertionError, ValueError,
)  # fmt: skip


@functools.cache
def _measures() -> Mapping[str, Callable[[Code], Cpu]]:
    """What reads instructions, by architecture; without x86-64 where its decoder is not installed."""
    try:
        from ferryman_build.inspect.x86 import measure as measure_x86
    except ModuleNotFoundError as error:
        if error.name != "iced_x86":
            raise
        return {"arm64": arm.measure}
    return {"amd64": measure_x86, "arm64": arm.measure}


def measure(name: str, content: bytes) -> Native | None:
    """Describe the native file ``content`` with what its instructions need; None when it is not native code."""
    native = read_native(name, io.BytesIO(content))
    if native is None or not native.loadable:
        return native
    if "amd64" in native.architectures and "amd64" not in _measures():
        native = msgspec.structs.replace(native, notes=(*native.notes, NO_DECODER))
    try:
        return msgspec.structs.replace(native, cpu=_CPUS[native.format](content, native.architectures))
    except _DAMAGED as error:
        note = f"{NOT_MEASURED}{str(error) or type(error).__name__}"
        return msgspec.structs.replace(native, notes=(*native.notes, note))


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a file.

    ``built_in`` is the first of the build's folders that its bytes name, ``compiled_in`` the absolute path of a source in
    bytecode, whoever compiled it.
    """

    native: Native | None = None
    bytecode: bool = False
    built_in: str = ""
    compiled_in: str = ""


def worth_reading(head: bytes) -> bool:
    """Whether a file that begins with these 4 bytes is native code or bytecode."""
    return head.startswith(MAGICS) or is_bytecode(head)


def facts(name: str, content: bytes, folders: Sequence[str] = ()) -> Facts:
    """Measure one file.

    Args:
        name: of the file.
        content: the whole file.
        folders: absolute folders of the machine that builds; a product should not name them.
    """
    built_in = next((folder for folder in folders if any(form in content for form in _spellings(folder))), "")
    if is_bytecode(content):
        return Facts(bytecode=True, built_in=built_in, compiled_in=source_path(content))
    return Facts(native=measure(name, content), built_in=built_in)


def _spellings(folder: str) -> tuple[bytes, bytes]:
    """As this machine writes it, and as a program under Wine does, behind its drive."""
    return folder.encode(), folder.replace("/", "\\").encode()


def facts_once(
    name: str, read: Callable[[], bytes], blobs: Blobs | None, sha256: str = "", folders: Sequence[str] = ()
) -> Facts:
    """As :func:`facts`; what was measured before is taken from ``blobs``.

    Args:
        name: of the file.
        read: gives its content; not asked when ``sha256`` is known and the file was measured before.
        blobs: None: nothing is kept.
        sha256: of the content, where it is known already.
        folders: as for :func:`facts`.
    """
    if blobs is None:
        return facts(name, read(), folders)
    content = b"" if sha256 else read()
    sums = sha256 or hashlib.sha256(content).hexdigest()
    key = digest({"facts": sums, "recipe": recipe(), "folders": list(folders)})
    known = blobs.find(key)
    if known is not None:
        try:
            found = msgspec.json.decode(known.read_bytes(), type=Facts)
            return msgspec.structs.replace(found, native=renamed(found.native, name))
        except (msgspec.DecodeError, FileNotFoundError):
            pass  # damaged, or swept away this moment: measured again
    found = facts(name, content or read(), folders)
    blobs.put(key, msgspec.json.encode(found))
    return found


@functools.cache
def recipe() -> str:
    """Changes with the code that reads: all of this package, and the libraries that it reads with."""
    sources = {path.name: file_digest(path) for path in sorted(Path(__file__).parent.glob("*.py"))}
    return digest([sources, {name: _version(name) for name in _LIBRARIES}])


def _version(name: str) -> str:
    """Empty for a library that is not installed: who has it later measures anew."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def renamed(native: Native | None, name: str) -> Native | None:
    """The same file under another name."""
    if native is None or native.name == name:
        return native

    def moved(reasons: Mapping[str, Reason]) -> dict[str, Reason]:
        return {key: msgspec.structs.replace(reason, file=name) for key, reason in reasons.items()}

    return msgspec.structs.replace(
        native, name=name, floor=moved(native.floor), versions=moved(native.versions)
    )


def _of_elf(content: bytes, architectures: tuple[str, ...]) -> dict[str, Cpu]:
    elf = ELFFile(io.BytesIO(content))
    (arch,) = architectures
    if arch == "armv7":
        section = elf.get_section_by_name(".ARM.attributes")
        return (
            {arch: arm.measure_attributes(section.data(), imports_that_ask(elf))}
            if section is not None
            else {}
        )
    if arch not in _measures():
        return {}
    found = _measures()[arch](elf_code(elf))
    return {
        arch: msgspec.structs.replace(found, required=elf_isa.required_level(elf) if arch == "amd64" else "")
    }


def _of_pe(content: bytes, architectures: tuple[str, ...]) -> dict[str, Cpu]:
    (arch,) = architectures
    return {arch: _measures()[arch](pe_code(content, arch))} if arch in _measures() else {}


def _of_macho(content: bytes, architectures: tuple[str, ...]) -> dict[str, Cpu]:
    return {
        arch: _measures()[arch](macho_code(part))
        for arch, part in slices(content)
        if arch in architectures and arch in _measures()
    }


_CPUS: Mapping[Format, Callable[[bytes, tuple[str, ...]], dict[str, Cpu]]] = {
    Format.ELF: _of_elf,
    Format.PE: _of_pe,
    Format.MACHO: _of_macho,
}
