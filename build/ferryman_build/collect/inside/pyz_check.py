# ruff: noqa: UP031  # Python 2.7 reads this file
"""Whether this Python on this machine can run the .pyz, and if not, one sentence that says why and what to do.

Read by every Python from 2.7 on, also by one without zlib: the archive keeps this file unpacked.
"""

import os
import sys

EXIT_MACHINE = 69  # as the launcher: this machine cannot run it

_SYSTEMS = {"linux": "Linux", "windows": "Windows", "darwin": "macOS"}
_LIBCS = {"gnu": "glibc", "musl": "musl"}
_FLOORS = {"glibc": "glibc", "macos": "macOS", "windows": "Windows"}


def facts():
    """What there is. Values that cannot be had are ''."""
    system = _system()
    return {
        "implementation": _implementation(),
        "version": tuple(sys.version_info[:3]),
        "python": sys.executable or "python",
        "free": "free-threading" in sys.version,
        "system": system,
        "machine": _machine(system),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "zlib": _has_zlib(),
        "releases": _releases(system),
        "archive": os.path.basename(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
    }


def problem(needs, found):
    """'' or what is in the way, the first thing only: mending it is what matters now."""
    for look in (
        _wrong_python,
        _wrong_threads,
        _wrong_system,
        _wrong_machine,
        _wrong_libc,
        _too_old,
        _no_zlib,
    ):
        sentence = look(needs, found)
        if sentence:
            return sentence
    return ""


def _implementation():
    if hasattr(sys, "pypy_version_info"):
        return "PyPy"
    if sys.platform.startswith("java"):
        return "Jython"
    name = getattr(getattr(sys, "implementation", None), "name", "cpython")
    return "CPython" if name == "cpython" else name


def _system():
    if sys.platform.startswith("linux"):
        return "linux"
    return {"win32": "windows", "cygwin": "windows", "darwin": "darwin"}.get(sys.platform, sys.platform)


def _machine(system):
    """Of the interpreter: an emulated one has another machine than the processor's."""
    if system == "windows":
        version = sys.version.lower()
        for word, machine in (("(arm64)", "arm64"), ("amd64", "amd64"), ("(arm)", "arm")):
            if word in version:
                return machine
        return "x86"
    return os.uname()[4].lower() if hasattr(os, "uname") else ""


def _releases(system):
    """Name of a floor -> what this machine has of it; a C library that is not glibc has none."""
    if system == "linux":
        try:
            text = os.confstr("CS_GNU_LIBC_VERSION") or ""
        except (AttributeError, ValueError, OSError):
            text = ""  # musl has no such name
        return {"glibc": text.split()[-1]} if text.startswith("glibc") else {}
    if system == "darwin":
        import platform

        return {"macos": platform.mac_ver()[0]}
    if system == "windows" and hasattr(sys, "getwindowsversion"):
        return {"windows": ".".join(str(part) for part in sys.getwindowsversion()[:2])}
    return {}


def _has_zlib():
    try:
        import zlib
    except ImportError:
        return False
    return bool(zlib)


def _wrong_python(needs, found):
    if found["implementation"] == "CPython" and found["version"][:2] == tuple(needs["python"]):
        return ""
    short = ".".join(str(part) for part in needs["python"])
    start = "py -%s" % short if found["system"] == "windows" else "python%s" % short
    archive = '"%s"' % found["archive"] if " " in found["archive"] else found["archive"]
    return "it needs CPython %s and this is %s %s (%s); start it with `%s %s`, or take the executable, which brings its own." % (
        short, found["implementation"], ".".join(str(part) for part in found["version"]), found["python"], start, archive,
    )  # fmt: skip


def _wrong_threads(needs, found):
    """An extension module is made for one of the two builds of CPython; the stable ABI is for the one with the lock."""
    if not needs["native"] or bool(needs["free"]) == bool(found["free"]):
        return ""
    wanted, given = ("free-threaded", "ordinary") if needs["free"] else ("ordinary", "free-threaded")
    return "its libraries are for the %s CPython and this is the %s one (%s); start it with the %s one." % (
        wanted, given, found["python"], wanted,
    )  # fmt: skip


def _wrong_system(needs, found):
    """Also without native code: which dependencies are in it was decided for one system."""
    if needs["system"] in ("", found["system"]):
        return ""
    return "it was built for %s (%s) and this is %s; take the file for this system." % (
        _SYSTEMS.get(needs["system"], needs["system"]), needs["target"], _SYSTEMS.get(found["system"], found["system"]),
    )  # fmt: skip


def _wrong_machine(needs, found):
    if not needs["native"] or not needs["machines"]:
        return ""
    if found["machine"] in needs["machines"] and found["bits"] == needs["bits"]:
        return ""
    return "its libraries are for %s (%d bits) and this Python is for %s (%d bits); take the file for this processor%s." % (
        needs["machines"][0], needs["bits"], found["machine"] or "an unknown machine", found["bits"],
        ", or a Python for it" if found["machine"] in needs["machines"] else "",
    )  # fmt: skip


def _wrong_libc(needs, found):
    if not needs["native"] or not needs["libc"]:
        return ""
    if ("glibc" in found["releases"]) == (needs["libc"] == "gnu"):
        return ""
    given = "glibc" if "glibc" in found["releases"] else "another C library (musl?)"
    cure = "whose name ends in -musl" if needs["libc"] == "gnu" else "without -musl in its name"
    return "its libraries need %s and this Python uses %s; take the file %s." % (
        _LIBCS[needs["libc"]], given, cure,
    )  # fmt: skip


def _too_old(needs, found):
    if not needs["native"]:
        return ""
    for name in sorted(needs["floor"]):
        have = found["releases"].get(name, "")
        if have and _number(have) < _number(needs["floor"][name]):
            return "its libraries need %s %s or newer and this machine has %s; run it on a newer system." % (
                _FLOORS.get(name, name), needs["floor"][name], have,
            )  # fmt: skip
    return ""


def _number(text):
    """macOS calls itself 10.16 where a program asks for compatibility; it means 11."""
    parts = tuple(int(part) for part in text.split(".") if part.isdigit())
    return (11, 0) if parts[:2] == (10, 16) else parts


def _no_zlib(needs, found):
    if found["zlib"]:
        return ""
    return "this Python (%s) was built without zlib, which unpacking needs; start it with another CPython %s." % (
        found["python"], ".".join(str(part) for part in needs["python"]),
    )  # fmt: skip
