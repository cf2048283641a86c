"""Authenticode: the signature inside of a Windows program or installer, checked by osslsigncode.

Whether a PE has one is read from its own headers (Microsoft, "PE Format", attribute certificate table: data directory 4),
so that a file without a signature needs no tool.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from ferryman_build.cmd import Runner
from ferryman_release.errors import VerifyError
from ferryman_release.verify.evidence import Evidence
from ferryman_release.verify.model import Held, Parameters, Skipped, Subject, Verdict

_MSI = bytes.fromhex("d0cf11e0a1b11ae1")  # an OLE file, whatever is in it
_DIRECTORY = {
    0x10B: 96,
    0x20B: 112,
}  # offset of the data directories in the optional header of PE32 and PE32+
_SECURITY = 4
_SECONDS = 120.0


class Authenticode:
    """The signature that Windows looks at is in the file, whole, and of a certificate that is trusted.

    Parameters: `ca` (certificates in PEM that are trusted instead of this machine's), `leaf` (SHA-256 in hex of the
    certificate that must have signed), `time` (seconds since 1970: the moment at which certificates must have been valid,
    for a signature without a time stamp).

    Anybody can buy a certificate that this machine trusts: without `ca` and `leaf` the signature is looked at, and vouches
    for nothing.
    """

    parameters = frozenset({"ca", "leaf", "time"})
    cryptographic = True

    def verify(self, subject: Subject, evidence: Evidence, given: Parameters) -> Verdict:
        if not subject.name.lower().endswith((".exe", ".dll", ".msi")):
            return Skipped("it is no program of Windows", missing=False)
        if not has_signature(subject.path):
            return Skipped("there is no signature in it")
        if shutil.which("osslsigncode") is None:
            return Skipped("osslsigncode, which checks it, is not installed")
        words: list[str | Path] = [
            "osslsigncode",
            "verify",
            "-in",
            subject.path,
            "-ignore-crl",
            "-ignore-cdp",
        ]
        if "ca" in given:
            words += ["-CAfile", given["ca"], "-TSA-CAfile", given["ca"]]
        if "leaf" in given:
            words += ["-require-leaf-hash", f"sha256:{given['leaf'].replace(':', '')}"]
        if "time" in given:
            words += ["-time", given["time"]]
        Runner().run(
            words, name=f"The signature in {subject.name}: osslsigncode", timeout=_SECONDS, failure=VerifyError,
            advice="Take it again; if its publisher has a certificate of its own, name the authority with "
            "--policy authenticode:ca=FILE.",
        )  # fmt: skip
        if "ca" in given or "leaf" in given:
            return Held("the signature in it holds")
        return Held("the signature in it holds; whose it must be was not said (ca=, leaf=)", vouches=False)


def has_signature(path: Path) -> bool:
    """Whether a PE has a table of certificates; of an MSI only the tool knows, so that is a yes.

    Raises:
        VerifyError: it is neither.
    """
    with path.open("rb") as file:
        head = file.read(4096)
        if head.startswith(_MSI):
            return True
        try:
            (offset,) = struct.unpack_from("<I", head, 0x3C)
            file.seek(offset)
            header = file.read(24 + 240)
            (magic,) = struct.unpack_from("<H", header, 24)
            place = 24 + _DIRECTORY[magic] + 8 * _SECURITY
            _, size = struct.unpack_from("<II", header, place)
        except (struct.error, KeyError):
            size = 0
            if not head.startswith(b"MZ"):
                return False
    return bool(size)
