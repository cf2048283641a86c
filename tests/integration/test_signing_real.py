"""Signatures against the programs that the rest of the world has: minisign, OpenSSL, a token, osslsigncode, GnuPG."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ferryman_build.cmd import Runner
from ferryman_release.errors import KeyProblemError, SigningError, VerifyError
from ferryman_release.keys.folder import KeyFolder, KeysFile, KnownKey
from ferryman_release.signing import MinisignKey, Secrets, minisign_verify, role_signers, sign_for_people
from ferryman_release.signing.authenticode import Identity, OwnAuthority, sign_file, verify_file
from ferryman_release.signing.gpg import Form, gpg_public, gpg_sign, gpg_verify
from ferryman_release.signing.keyfile import encrypted_pem, write_key
from ferryman_release.signing.schemes import Opening, open_uri
from support.authenticode_ca import Authorities, make_authorities
from support.release_keys import TestKeys, make_keys, private_key

pytestmark = pytest.mark.integration

DATA = b"2c26b46b68ffc68ff99b453c1d304134  lantern-1.0.0-linux-amd64\n"
COMMENT = "timestamp:1790000000\tfile:SHA256SUMS\tname:lantern\tversion:1.0.0"
PASSPHRASE = "five words by pure chance"


def needs(*programs: str) -> None:
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def run(*words: str | Path, given: str = "", ok: bool = True, **environ: str) -> str:
    """Standard output and error of a program that must end with 0, or must not."""
    done = subprocess.run(
        list(map(str, words)),
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
    )
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def keys(tmp_path: Path) -> TestKeys:
    return make_keys(tmp_path / "keys")


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path / "logs", verbose=True)


# --- minisign -----------------------------------------------------------------------------------------------------------


def test_minisign_verifies_ours(keys: TestKeys, tmp_path: Path) -> None:
    """minisign takes our key as a file and as a word, shows the trusted comment, and refuses a changed file."""
    needs("minisign")
    sums = tmp_path / "SHA256SUMS"
    sums.write_bytes(DATA)
    (tmp_path / "SHA256SUMS.minisig").write_bytes(
        sign_for_people(DATA, keys.settings(), keys.folder, keys.secrets, COMMENT)
    )
    public = keys.folder.minisign_public()
    assert COMMENT in run("minisign", "-Vm", sums, "-p", keys.folder.path / "minisign.pub")
    assert "verified" in run("minisign", "-Vm", sums, "-P", public.line)
    run("minisign", "-HVm", sums, "-P", public.line)  # prehashed or nothing
    sums.write_bytes(DATA + b" ")
    assert "failed" in run("minisign", "-Vm", sums, "-P", public.line, ok=False)


def test_we_verify_minisign(tmp_path: Path) -> None:
    """A key and a signature that minisign has made hold here, under the id that minisign prints."""
    needs("minisign")
    run("minisign", "-GW", "-p", tmp_path / "m.pub", "-s", tmp_path / "m.key")
    (tmp_path / "data").write_bytes(DATA)
    run("minisign", "-SHm", tmp_path / "data", "-s", tmp_path / "m.key", "-t", COMMENT)
    text = (tmp_path / "m.pub").read_text()
    public = MinisignKey.parse(text)
    assert public.name in text
    signature = (tmp_path / "data.minisig").read_bytes()
    assert minisign_verify(DATA, signature, public) == COMMENT
    with pytest.raises(VerifyError):
        minisign_verify(DATA + b" ", signature, public)


# --- OpenSSL ------------------------------------------------------------------------------------------------------------


def test_openssl_reads_our_key_files(tmp_path: Path) -> None:
    """A locked key opens in OpenSSL with its passphrase alone, and says how it is locked."""
    needs("openssl")
    path = tmp_path / "root-1.pem"
    write_key(path, encrypted_pem(private_key("root-1"), PASSPHRASE))
    opened = run("openssl", "pkey", "-in", path, "-passin", "env:WORDS", WORDS=PASSPHRASE)
    raw = load_pem_private_key(opened.encode(), None)
    assert raw.private_bytes_raw() == private_key("root-1").private_bytes_raw()  # type: ignore[union-attr]
    run("openssl", "pkey", "-in", path, "-passin", "env:WORDS", WORDS="wrong", ok=False)
    said = run("openssl", "asn1parse", "-in", path)
    assert all(word in said for word in ("PBES2", "scrypt", "aes-256-cbc"))


@pytest.mark.parametrize(
    "lock", [["-v2", "aes-256-cbc"], ["-scrypt"], ["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"]]
)
def test_we_read_key_files_of_openssl(tmp_path: Path, lock: list[str]) -> None:
    """A key that a holder has made and locked with OpenSSL opens here."""
    needs("openssl")
    plain, path = tmp_path / "plain.pem", tmp_path / "ann.pem"
    run("openssl", "genpkey", "-algorithm", "ed25519", "-out", plain)
    run(
        "openssl",
        "pkcs8",
        "-topk8",
        "-in",
        plain,
        "-out",
        path,
        *lock,
        "-passout",
        "env:WORDS",
        WORDS=PASSPHRASE,
    )
    path.chmod(0o600)
    opened = open_uri(f"file:{path}", Opening("root", Secrets({"FERRYMAN_KEY_PASSPHRASE_ROOT": PASSPHRASE})))
    assert opened.public.keytype == "ed25519"


def test_openssl_verifies_what_a_role_signs(keys: TestKeys, tmp_path: Path) -> None:
    """The signature of a role is plain Ed25519: what any OpenSSL verifies."""
    needs("openssl")
    (one,) = role_signers(keys.settings(), keys.folder, "stable", keys.secrets)
    (tmp_path / "data").write_bytes(DATA)
    (tmp_path / "signature").write_bytes(bytes.fromhex(one.sign(DATA).signature))
    run("openssl", "pkey", "-in", keys.private / "stable.pem", "-pubout", "-out", tmp_path / "stable.pub")
    words = ("openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", tmp_path / "stable.pub", "-sigfile",
             tmp_path / "signature", "-in", tmp_path / "data")  # fmt: skip
    assert "Verified" in run(*words)
    (tmp_path / "data").write_bytes(DATA + b" ")
    run(*words, ok=False)


# --- a token ------------------------------------------------------------------------------------------------------------

LIBRARIES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A softhsm2 token called `release desk` with a P-256 key under id 2, and its PIN in the environment."""
    library = next((name for name in LIBRARIES if Path(name).exists()), None)
    if library is None or shutil.which("softhsm2-util") is None:
        pytest.skip("softhsm2 is not installed")
    needs("openssl")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    monkeypatch.setenv("PYKCS11LIB", library)
    label = "release desk"
    run(
        "softhsm2-util", "--init-token", "--free", "--label", label, "--pin", "123456", "--so-pin", "12345678"
    )
    run(
        "openssl",
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        tmp_path / "ec.pem",
    )
    run(
        "softhsm2-util",
        "--import",
        tmp_path / "ec.pem",
        "--token",
        label,
        "--label",
        "k",
        "--id",
        "02",
        "--pin",
        "123456",
    )
    return "pkcs11:release%20desk/2"


def test_a_token_signs_provenance_and_nothing_else(keys: TestKeys, token: str) -> None:
    """Its P-256 signature verifies under its public key; for metadata it is refused; a wrong PIN is a sentence."""
    secrets = Secrets(
        {"FERRYMAN_KEY_PASSPHRASE_PROVENANCE": "123456", "FERRYMAN_KEY_PASSPHRASE_STABLE": "123456"}
    )
    public = open_uri(token, Opening("provenance", secrets)).public
    known = KnownKey(
        id=public.keyid, name="token", roles=("provenance",), keytype=public.keytype, scheme=public.scheme,
        public=public.keyval["public"], added="2026-11-01",
    )  # fmt: skip
    keys.folder.store_known(KeysFile(keys=(known,)))
    folder = KeyFolder(keys.folder.path)
    settings = keys.settings(signers={"provenance": token, "stable": token})
    (one,) = role_signers(settings, folder, "provenance", secrets)
    public.verify_signature(one.sign(DATA), DATA)
    with pytest.raises(KeyProblemError, match="takes for no signature"):
        role_signers(settings, folder, "stable", secrets)
    wrong = Secrets({"FERRYMAN_KEY_PASSPHRASE": "654321"})
    with pytest.raises(KeyProblemError, match="PIN of the token release desk is wrong"):
        role_signers(settings, folder, "provenance", wrong)[0].sign(DATA)


@pytest.mark.parametrize("uri", ["pkcs11:another/2", "pkcs11:release%20desk/7", "pkcs11:release%20desk/x"])
def test_what_a_token_lacks_is_said(token: str, uri: str) -> None:
    """No such token, no such key, no number: each names the cure."""
    with pytest.raises(KeyProblemError) as refused:
        open_uri(uri, Opening("provenance", Secrets({"FERRYMAN_KEY_PASSPHRASE": "123456"})))
    assert refused.value.advice


# --- Authenticode -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    return make_authorities(tmp_path_factory.mktemp("authorities"))


@pytest.fixture
def executable(tmp_path: Path) -> Path:
    """A real program for Windows: the one that setuptools brings."""
    needs("osslsigncode")
    path = tmp_path / "lantern.exe"
    path.write_bytes((files("setuptools") / "cli-64.exe").read_bytes())
    path.chmod(0o755)
    return path


@pytest.fixture
def installer(tmp_path: Path) -> Path:
    """A real .msi, made by wixl."""
    needs("osslsigncode", "wixl")
    (tmp_path / "lantern.txt").write_text("a lamp\n")
    (tmp_path / "lantern.wxs").write_text(
        """<?xml version="1.0"?>
<Wix xmlns="http://schemas.microsoft.com/wix/2006/wi">
  <Product Id="*" UpgradeCode="4b6e9a1e-6f0c-4c86-9a53-0d9f7a5c1b11" Name="Lantern" Version="1.0.0" Language="1033"
           Manufacturer="Lantern makers">
    <Package InstallerVersion="200" Compressed="yes"/>
    <Media Id="1" Cabinet="lantern.cab" EmbedCab="yes"/>
    <Directory Id="TARGETDIR" Name="SourceDir"><Directory Id="ProgramFilesFolder"><Directory Id="L" Name="Lantern">
      <Component Id="C" Guid="0a3b8f9e-31a5-4f0e-8c0d-8f2b1f0f5a77"><File Id="F" Source="lantern.txt"/></Component>
    </Directory></Directory></Directory>
    <Feature Id="A" Level="1"><ComponentRef Id="C"/></Feature>
  </Product>
</Wix>
"""
    )
    done = subprocess.run(
        ["wixl", "-o", "lantern.msi", "lantern.wxs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / "lantern.msi"


def identity(authorities: Authorities, *, bundle: bool = True, timestamp: str = "") -> Identity:
    own = OwnAuthority(certificates=authorities.time_leaf, key=authorities.time_key, at=1_790_000_000)
    return Identity(
        timestamp=timestamp or own, pkcs12=authorities.bundle if bundle else None,
        certificates=None if bundle else authorities.leaf, key=None if bundle else authorities.leaf_key,
        trusted=authorities.roots, trusted_times=authorities.time_roots, description="Lantern", url="https://example.org",
    )  # fmt: skip


def secrets(authorities: Authorities) -> Secrets:
    return Secrets({"FERRYMAN_KEY_PASSPHRASE_AUTHENTICODE": authorities.passphrase})


@pytest.mark.parametrize("bundle", [True, False], ids=["pkcs12", "certificates and key"])
def test_a_program_is_signed_and_stamped(
    executable: Path, authorities: Authorities, runner: Runner, bundle: bool
) -> None:
    """In its own place: the signature verifies to our roots with its time stamp, and stays executable."""
    before = executable.read_bytes()
    who = identity(authorities, bundle=bundle)
    sign_file(executable, executable, who, secrets(authorities), runner)
    verify_file(executable, who, runner)
    assert len(executable.read_bytes()) > len(before)
    assert executable.stat().st_mode & 0o777 == 0o755
    said = run(
        "osslsigncode",
        "verify",
        "-in",
        executable,
        "-CAfile",
        authorities.roots,
        "-TSA-CAfile",
        authorities.time_roots,
    )
    assert "Timestamp Server Signature verification: ok" in said
    assert "Lantern makers" in said
    assert [path.name for path in executable.parent.glob(".authenticode-*")] == []


def test_an_installer_is_signed_and_stamped(
    installer: Path, authorities: Authorities, runner: Runner
) -> None:
    """An .msi the same way, into another place; what was built stays as it is."""
    who, before = identity(authorities), installer.read_bytes()
    signed = installer.with_name("signed.msi")
    sign_file(installer, signed, who, secrets(authorities), runner)
    verify_file(signed, who, runner)
    assert installer.read_bytes() == before
    with pytest.raises(VerifyError):
        verify_file(installer, who, runner)


def test_a_changed_program_no_longer_verifies(
    executable: Path, authorities: Authorities, runner: Runner
) -> None:
    """One bit of the code is enough."""
    who = identity(authorities)
    sign_file(executable, executable, who, secrets(authorities), runner)
    data = bytearray(executable.read_bytes())
    data[2048] ^= 1
    executable.write_bytes(data)
    with pytest.raises(VerifyError) as refused:
        verify_file(executable, who, runner)
    assert refused.value.exit_code == 23


def test_other_roots_do_not_vouch(
    executable: Path, authorities: Authorities, runner: Runner, tmp_path: Path
) -> None:
    """A signature that leads to no trusted root is not delivered: the file is as it was."""
    import msgspec

    others = make_authorities(tmp_path / "others")
    before = executable.read_bytes()
    who = msgspec.structs.replace(identity(authorities), trusted=others.roots)
    with pytest.raises(VerifyError):
        sign_file(executable, executable, who, secrets(authorities), runner)
    assert executable.read_bytes() == before


@pytest.fixture
def silent_authority() -> Iterator[str]:
    """The address of a time-stamp authority that hangs up on everybody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def serve() -> None:
            server.settimeout(0.1)
            while not stop.is_set():
                try:
                    server.accept()[0].close()
                except TimeoutError:
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        stop.set()
        thread.join()


def test_a_dead_time_stamp_authority_fails_the_signature(
    executable: Path, authorities: Authorities, runner: Runner, silent_authority: str
) -> None:
    """No stamp, no signature: the file is as it was, and nothing half-signed lies beside it."""
    before = executable.read_bytes()
    result = executable.with_name("signed.exe")
    who = identity(authorities, timestamp=silent_authority)
    with pytest.raises(SigningError) as refused:
        sign_file(executable, result, who, secrets(authorities), runner)
    assert refused.value.exit_code == 29
    assert "time-stamp authority" in refused.value.advice
    assert not result.exists()
    assert executable.read_bytes() == before
    assert sorted(path.name for path in executable.parent.glob("*.exe")) == ["lantern.exe"]


def test_a_wrong_passphrase_signs_nothing(executable: Path, authorities: Authorities, runner: Runner) -> None:
    """The program's failure is ours, and the passphrase that was tried is not in the log."""
    wrong = Secrets({"FERRYMAN_KEY_PASSPHRASE": "not the one of the bundle"})
    with pytest.raises(SigningError) as refused:
        sign_file(executable, executable, identity(authorities), wrong, runner)
    assert refused.value.log is not None
    assert "not the one of the bundle" not in refused.value.log.read_text()


def test_no_passphrase_is_on_a_command_line(
    executable: Path, authorities: Authorities, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    """What every user of a machine sees of a process, and what --verbose and the logs keep, has no passphrase."""
    sign_file(executable, executable, identity(authorities), secrets(authorities), runner)
    assert runner.log_dir is not None
    logs = "".join(path.read_text() for path in runner.log_dir.iterdir())
    assert "-readpass" in logs
    shown = capsys.readouterr()
    assert authorities.passphrase not in logs + shown.err + shown.out


# --- OpenPGP ------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["", PASSPHRASE], ids=["open", "locked"])
def gpg_key(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Secrets]:
    """An armored secret key, made in a home that is gone, and what opens it."""
    needs("gpg", "gpgv", "gpgconf")
    home = tmp_path_factory.mktemp("g")
    home.chmod(0o700)
    words = (
        "gpg",
        "--homedir",
        home,
        "--batch",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        request.param,
    )
    run(*words, "--quick-generate-key", "Lantern <release@example.org>", "rsa3072", "sign", "never")
    path = tmp_path_factory.mktemp("key") / "release.asc"
    run(*words, "--armor", "--export-secret-keys", "--output", path)
    path.chmod(0o600)
    run("gpgconf", "--homedir", home, "--kill", "all")
    return path, Secrets({"FERRYMAN_KEY_PASSPHRASE_GPG": request.param} if request.param else {})


@pytest.mark.parametrize("form", list(Form))
def test_gpgv_verifies_what_is_signed(gpg_key: tuple[Path, Secrets], runner: Runner, form: Form) -> None:
    """apt's verifier takes both forms under the exported key, and refuses a changed index."""
    path, opened = gpg_key
    index = b"Origin: Lantern\nSuite: stable\n"
    made = gpg_sign(index, path, form, opened, runner)
    public = gpg_public(path, opened, runner, armored=False)
    clear = form is Form.CLEAR
    assert len(gpg_verify(made if clear else index, None if clear else made, public, runner)) == 40
    assert made.startswith(
        b"-----BEGIN PGP SIGNED MESSAGE-----" if clear else b"-----BEGIN PGP SIGNATURE-----"
    )
    changed = (made if clear else index).replace(b"stable", b"canary")
    with pytest.raises(VerifyError):
        gpg_verify(changed, None if clear else made, public, runner)
    assert b"PUBLIC KEY BLOCK" in gpg_public(path, opened, runner)


def test_gnupg_leaves_nothing_behind(
    gpg_key: tuple[Path, Secrets], runner: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The user's own home is not touched, no agent of ours goes on, and the passphrase is in no log."""
    path, opened = gpg_key
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GNUPGHOME", str(tmp_path / "own"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    gpg_sign(b"x", path, Form.DETACHED, opened, runner)
    assert not (tmp_path / "own").exists()
    assert not (tmp_path / ".gnupg").exists()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert runner.log_dir is not None
    logs = "".join(log.read_text() for log in runner.log_dir.iterdir())
    assert PASSPHRASE not in logs
    agents = [
        words for words in (read(place / "cmdline") for place in Path("/proc").iterdir() if place.name.isdigit())
        if b"gpg-agent" in words and str(tmp_path).encode() in words
    ]  # fmt: skip
    assert agents == []


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_file_that_is_no_key_is_said(tmp_path: Path, runner: Runner) -> None:
    """gpg's failure to import is the key's problem."""
    needs("gpg", "gpgconf")
    path = tmp_path / "release.asc"
    write_key(path, b"nonsense")
    with pytest.raises(KeyProblemError) as refused:
        gpg_sign(b"x", path, Form.CLEAR, Secrets({}), runner)
    assert "FERRYMAN_KEY_PASSPHRASE_GPG" in refused.value.advice
