"""Who may sign: the key of its role, of a kind that clients count, and no other."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from moto import mock_aws
from securesystemslib.signer import CryptoSigner, SSlibKey

from ferryman_build.errors import ToolMissingError
from ferryman_release.errors import KeyProblemError
from ferryman_release.keys.folder import KeyFolder, KeysFile, KnownKey
from ferryman_release.signing import Secrets, minisign_verify, open_signer, role_signers, sign_for_people
from ferryman_release.signing.keyfile import encrypted_pem, plain_pem, write_key
from support.release_keys import TestKeys, make_keys, private_key, signer

ROLES = ("snapshot", "timestamp", "canary", "beta", "stable", "minisign", "provenance")


@pytest.fixture
def keys(tmp_path: Path) -> TestKeys:
    return make_keys(tmp_path / "keys")


@pytest.mark.parametrize("role", ROLES)
def test_each_role_signs_with_its_key(keys: TestKeys, role: str) -> None:
    """Through a file and through a variable, the signature is by the key that the folder has for the role."""
    (public,) = keys.folder.keys(role)
    by_file = role_signers(keys.settings(), keys.folder, role, keys.secrets)
    by_variable = role_signers(
        keys.settings(signers=keys.env_signers()), keys.folder, role, Secrets(keys.environ())
    )
    for one in (*by_file, *by_variable):
        public.verify_signature(one.sign(b"data"), b"data")
        assert one.public_key.keyid == public.keyid


def test_a_variable_may_hold_base64(keys: TestKeys) -> None:
    """For CI systems that keep no line ends."""
    text = base64.b64encode(plain_pem(private_key("stable"))).decode()
    settings = keys.settings(signers={"stable": "env:KEY"})
    assert role_signers(settings, keys.folder, "stable", Secrets({"KEY": text}))


def test_a_locked_key_in_a_variable_opens(keys: TestKeys) -> None:
    """The key and its passphrase may be two secrets of a CI system."""
    text = encrypted_pem(private_key("stable"), "five words by chance").decode()
    secrets = Secrets({"KEY": text, "FERRYMAN_KEY_PASSPHRASE_STABLE": "five words by chance"})
    assert role_signers(keys.settings(signers={"stable": "env:KEY"}), keys.folder, "stable", secrets)


def test_relative_paths_begin_at_the_project(keys: TestKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the command is called."""
    monkeypatch.chdir("/")
    settings = keys.settings(signers={"stable": "file:private/stable.pem"})
    assert role_signers(settings, keys.folder, "stable", keys.secrets)
    assert role_signers(settings, keys.folder, "stable", keys.secrets, root=keys.private.parent)


def test_the_home_stands_for_itself(keys: TestKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` in a URI is the home of whoever signs."""
    monkeypatch.setenv("HOME", str(keys.private.parent))
    settings = keys.settings(signers={"stable": "file:~/private/stable.pem"})
    assert role_signers(settings, keys.folder, "stable", keys.secrets)


def refused(
    keys: TestKeys, uri: str, role: str = "stable", secrets: Secrets | None = None
) -> KeyProblemError:
    with pytest.raises(KeyProblemError) as found:
        role_signers(
            keys.settings(signers={role: uri} if uri else {}), keys.folder, role, secrets or keys.secrets
        )
    assert found.value.exit_code == 24
    assert found.value.advice
    return found.value


def test_no_key_configured_is_said(keys: TestKeys) -> None:
    """The cure is the line to write."""
    assert "No private key is configured for stable" in str(error := refused(keys, ""))
    assert 'stable = "file:~/keys/stable.pem"' in error.advice


def test_an_unset_variable_is_said(keys: TestKeys) -> None:
    """The variable is named."""
    assert "ABSENT, which is not set" in str(refused(keys, "env:ABSENT"))


@pytest.mark.parametrize("uri", ["keys/stable.pem", "https://example.org/key", "MC4CAQAwBQYDK2VwBCIEIA"])
def test_what_is_no_uri_is_not_repeated(keys: TestKeys, uri: str) -> None:
    """A person may have put the key itself there: the message does not show what it got."""
    error = refused(keys, uri)
    assert uri not in f"{error} {error.advice} {error.details}"
    assert "file:" in error.advice


def test_the_key_of_another_role_is_refused(keys: TestKeys) -> None:
    """A channel is not signed with another channel's key; both ids are shown."""
    error = refused(keys, f"file:{keys.private / 'beta.pem'}")
    assert "is not one of its keys" in str(error)
    assert signer("beta").public_key.keyid in error.details[0]
    assert signer("stable").public_key.keyid in error.details[1]


def test_an_unknown_role_is_refused(keys: TestKeys) -> None:
    """A channel that has no key yet is told how it gets one."""
    error = refused(keys, f"file:{keys.private / 'beta.pem'}", "nightly")
    assert "ferryman keys channels" in error.advice


@pytest.mark.parametrize(
    "private",
    [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)],
    ids=["ecdsa", "rsa"],
)
@pytest.mark.parametrize("role", [role for role in ROLES if role != "provenance"])
def test_what_a_client_would_not_count_is_refused(
    keys: TestKeys, tmp_path: Path, private: object, role: str
) -> None:
    """A client without cryptography takes ECDSA and RSA for no signature: such a key signs nothing that it reads."""
    path = tmp_path / "other.pem"
    write_key(path, plain_pem(private))  # type: ignore[arg-type]
    assert "takes for no signature" in str(refused(keys, f"file:{path}", role))


def test_what_signs_nothing_is_refused(keys: TestKeys, tmp_path: Path) -> None:
    """An Ed448 key is no key for anything here."""
    path = tmp_path / "ed448.pem"
    write_key(path, plain_pem(ed448.Ed448PrivateKey.generate()))
    assert "of a kind that nothing here signs with" in str(refused(keys, f"file:{path}"))


def test_provenance_may_be_signed_by_ecdsa(keys: TestKeys, tmp_path: Path) -> None:
    """Provenance is verified by a release tool, which has cryptography: hardware keys may sign it."""
    private = ec.generate_private_key(ec.SECP256R1())
    trust(keys.folder, SSlibKey.from_crypto(private.public_key()))
    write_key(tmp_path / "other.pem", plain_pem(private))
    settings = keys.settings(signers={"provenance": f"file:{tmp_path / 'other.pem'}"})
    (one,) = role_signers(settings, KeyFolder(keys.folder.path), "provenance", keys.secrets)
    one.public_key.verify_signature(one.sign(b"x"), b"x")


def trust(folder: KeyFolder, key: SSlibKey) -> None:
    known = KnownKey(
        id=key.keyid, name="provenance-2", roles=("provenance",), keytype=key.keytype, scheme=key.scheme,
        public=key.keyval["public"], added="2026-11-01",
    )  # fmt: skip
    folder.store_known(KeysFile(keys=(known,)))


def test_a_signer_signs_in_the_name_that_metadata_has(keys: TestKeys) -> None:
    """Metadata may call a key by another id than this library would: the signature carries that id."""
    public = SSlibKey("my-own-id", "ed25519", "ed25519", dict(signer("stable").public_key.keyval))
    one = open_signer(f"file:{keys.private / 'stable.pem'}", public, keys.secrets)
    assert one.sign(b"x").keyid == "my-own-id"


def test_people_verify_with_the_published_key(keys: TestKeys) -> None:
    """What is signed for people holds under keys/minisign.pub, and the file says how to verify it."""
    made = sign_for_people(
        b"sums", keys.settings(), keys.folder, keys.secrets, "timestamp:1\tfile:SHA256SUMS"
    )
    assert minisign_verify(b"sums", made, keys.folder.minisign_public()) == "timestamp:1\tfile:SHA256SUMS"
    assert keys.folder.minisign_public().line in made.decode().splitlines()[0]


# --- AWS KMS ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A P-256 key in moto's KMS; its id."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        made = boto3.client("kms").create_key(KeyUsage="SIGN_VERIFY", CustomerMasterKeySpec="ECC_NIST_P256")
        yield made["KeyMetadata"]["KeyId"]


def test_a_key_in_kms_signs_provenance(keys: TestKeys, kms: str) -> None:
    """The public key comes from KMS and a signature is made under its id.

    Whether the signature verifies cannot be seen here: moto hashes a digest once more. AWS itself was not tried.
    """
    uri = f"awskms:{kms}"
    from ferryman_release.signing.schemes import Opening, open_uri

    opened = open_uri(uri, Opening("provenance", keys.secrets))
    assert (opened.public.keytype, opened.public.scheme) == ("ecdsa", "ecdsa-sha2-nistp256")
    trust(keys.folder, opened.public)
    settings = keys.settings(signers={"provenance": uri})
    (one,) = role_signers(settings, KeyFolder(keys.folder.path), "provenance", keys.secrets)
    assert one.sign(b"statement").keyid == opened.public.keyid


def test_a_key_in_kms_signs_no_metadata(keys: TestKeys, kms: str) -> None:
    """Its signatures are ECDSA, which clients do not count."""
    assert "takes for no signature" in str(refused(keys, f"awskms:{kms}"))


def test_a_key_that_kms_does_not_have_is_said(keys: TestKeys, kms: str) -> None:
    """The code of the service, and the permissions that it takes."""
    error = refused(keys, "awskms:00000000-0000-0000-0000-000000000000", "provenance")
    assert "NotFoundException" in str(error)
    assert "kms:GetPublicKey" in error.advice


def test_a_key_of_kms_that_encrypts_is_refused(keys: TestKeys, kms: str) -> None:
    """A symmetric key signs nothing."""
    other = boto3.client("kms").create_key(KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["KeyId"]
    assert refused(keys, f"awskms:{other}", "provenance")


# --- tokens -------------------------------------------------------------------------------------------------------------


def test_a_token_needs_its_library(keys: TestKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """PYKCS11LIB is named when it is not set, and when it names nothing."""
    for value, text in (("", "PYKCS11LIB is not set"), ("/nowhere/lib.so", "names no library")):
        monkeypatch.setenv("PYKCS11LIB", value)
        with pytest.raises(ToolMissingError, match=text) as missing:
            role_signers(
                keys.settings(signers={"provenance": "pkcs11:token"}), keys.folder, "provenance", keys.secrets
            )
        assert "PYKCS11LIB" in missing.value.advice


def test_signers_do_not_show_keys(keys: TestKeys) -> None:
    """Neither repr nor str of what signs has the private key."""
    (one,) = role_signers(keys.settings(), keys.folder, "stable", keys.secrets)
    assert isinstance(one, CryptoSigner)
    raw = private_key("stable").private_bytes_raw()
    assert raw.hex() not in f"{one!r} {one}"
