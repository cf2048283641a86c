"""OpenPGP, for what apt and yum verify: a package index that is signed, or signed apart.

GnuPG runs in a home of its own that is made for the call and removed after it: neither the user's keyrings nor an agent of
theirs takes part. The key comes from an armored file of mode 600; its passphrase through a file in that home, which only
the owner can enter.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from ferryman_build.cmd import Runner, environment
from ferryman_build.errors import FerrymanError
from ferryman_release.errors import KeyProblemError, SigningError, VerifyError
from ferryman_release.signing.secrets import Secrets, passphrase_bytes, read_private

ROLE = "gpg"
_SECONDS = 60.0


class Form(StrEnum):
    """``DETACHED``: an armored file beside the signed one, as Release.gpg and repomd.xml.asc. ``CLEAR``: InRelease."""

    DETACHED = "--detach-sign"
    CLEAR = "--clear-sign"


def gpg_sign(data: bytes, key: Path, form: Form, secrets: Secrets, runner: Runner) -> bytes:
    """The signature of ``data`` in ``form`` by the secret key in ``key`` (armored).

    Raises:
        ToolMissingError: gpg is not here.
        KeyProblemError: the file is missing, open to others, no key, or its passphrase is wrong.
        SigningError: gpg failed for another reason.
    """
    with _home(key, secrets, runner) as home:
        source, result = home / "data", home / "result"
        source.write_bytes(data)
        _gpg(
            home,
            runner,
            "--armor",
            "--digest-algo",
            "SHA512",
            "--output",
            result,
            form.value,
            source,
            failure=SigningError,
        )
        return result.read_bytes()


def gpg_public(key: Path, secrets: Secrets, runner: Runner, *, armored: bool = True) -> bytes:
    """The public half: what `Signed-By` of apt and `gpgkey` of yum name; ``armored`` as text.

    Raises:
        ToolMissingError, KeyProblemError, SigningError: as :func:`gpg_sign`.
    """
    with _home(key, secrets, runner) as home:
        result = home / "result"
        words = ("--armor",) if armored else ()
        _gpg(home, runner, *words, "--output", result, "--export", failure=SigningError)
        return result.read_bytes()


def gpg_verify(data: bytes, signature: bytes | None, public: bytes, runner: Runner) -> str:
    """The fingerprint of the key among ``public`` (not armored) that has signed; None: ``data`` is signed clearly.

    Raises:
        ToolMissingError: gpgv is not here.
        VerifyError: nobody among them has signed these bytes.
    """
    with tempfile.TemporaryDirectory(prefix="gpgv-") as name:
        files = {"keys.gpg": public, "data": data, **({"data.asc": signature} if signature else {})}
        for file, content in files.items():
            (Path(name) / file).write_bytes(content)
        signed = ["data.asc", "data"] if signature else ["data"]
        done = runner.run(
            ["gpgv", "--status-fd", "1", "--homedir", name, "--keyring", Path(name) / "keys.gpg",
             *(Path(name) / file for file in signed)],
            name="gpgv", timeout=_SECONDS, failure=VerifyError,
            advice="The file was changed, or the key is not the one that is published beside it.",
        )  # fmt: skip
        return re.search(r"VALIDSIG ([0-9A-F]+)", done.output)[1]  # type: ignore[index]


@contextlib.contextmanager
def _home(key: Path, secrets: Secrets, runner: Runner) -> Iterator[Path]:
    """A GnuPG home with ``key`` in it and nothing else."""
    armored = read_private(key, "key")
    with tempfile.TemporaryDirectory(prefix="gpg-") as name:  # short: the agent's socket has a length limit
        home = Path(name)
        passphrase = home / "passphrase"
        passphrase.touch(mode=0o600)
        (home / "key.asc").touch(mode=0o600)
        (home / "key.asc").write_bytes(armored)
        passphrase.write_bytes(passphrase_bytes(_passphrase(key, secrets)))
        try:
            _gpg(home, runner, "--import", home / "key.asc", failure=KeyProblemError)
            yield home
        finally:
            _stop_agent(home, runner)


def _passphrase(key: Path, secrets: Secrets) -> str:
    """Empty when none is set and nobody can be asked: OpenPGP does not say outside whether a key is locked."""
    try:
        return secrets.passphrase(ROLE, str(key))
    except KeyProblemError:
        return ""


def _gpg(home: Path, runner: Runner, *words: str | Path, failure: type[FerrymanError]) -> None:
    runner.run(
        ["gpg", "--batch", "--no-tty", "--quiet", "--homedir", home, "--pinentry-mode", "loopback",
         "--passphrase-file", home / "passphrase", *words],
        name="gpg", env={**environment(), "GNUPGHOME": str(home)}, timeout=_SECONDS, failure=failure,
        advice="See that the file holds an OpenPGP secret key, and FERRYMAN_KEY_PASSPHRASE_GPG its passphrase.",
    )  # fmt: skip


def _stop_agent(home: Path, runner: Runner) -> None:
    """The agent that gpg has started for this home ends with it."""
    with contextlib.suppress(FerrymanError):
        runner.run(["gpgconf", "--homedir", home, "--kill", "all"], name="gpgconf", timeout=_SECONDS)
