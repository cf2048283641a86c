"""The policies one by one: what is selected, what counts as vouched for, and the two that need other people's tools."""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from ferryman_build.cmd import Runner
from ferryman_build.errors import UsageError
from ferryman_release.errors import VerifyError
from ferryman_release.provenance.keyless import Identity, can_sign, verify_bundle
from ferryman_release.verify.authenticode import Authenticode, has_signature
from ferryman_release.verify.engine import verify
from ferryman_release.verify.evidence import Evidence, Folder, Trust
from ferryman_release.verify.model import Failed, Held, Policy, Result, Skipped, Subject, Verdict
from ferryman_release.verify.policies import POLICIES, Selection, select
from ferryman_release.verify.signed import Sigstore

RECORDED = Path(__file__).resolve().parents[2] / "support" / "sigstore"
WHEEL = "c4e92e9ecc828bef2aa7dba1de8ac983511f7532a0df11c770d39099a25cf201"
DEMO = "07e4b8c0e3580b3e4a1eb62c70f1ffb86004d3d94f50767cb404fa7a639b4d05"
SIGNED = RECORDED / "rfc8785-0.1.2.sigstore.json"
ATTESTED = RECORDED / "attest-build-provenance.sigstore.json"
RELEASE_YML = "https://github.com/trailofbits/rfc8785.py/.github/workflows/release.yml@refs/tags/v0.1.2"


def subject(folder: Path, name: str = "lantern.exe", data: bytes = b"x", sha256: str = "") -> Subject:
    path = folder / name
    path.write_bytes(data)
    return Subject(name=name, path=path, size=len(data), sha256=sha256 or hashlib.sha256(data).hexdigest())


def evidence(folder: Path) -> Evidence:
    return Evidence(Folder(folder), Trust())


# --- what is selected -------------------------------------------------------------------------------------------------


def test_nothing_selected_asks_everything() -> None:
    """Without --policy every policy is asked, and none is demanded."""
    assert select([]) == Selection(optional={name: {} for name in POLICIES})
    assert tuple(select([]).asked) == tuple(POLICIES)


@pytest.mark.parametrize(
    ("words", "required"),
    [
        (["signature"], {"signature": {}}),
        (["signature,tuf"], {"signature": {}, "tuf": {}}),
        (["signature", "tuf"], {"signature": {}, "tuf": {}}),
        (["provenance:commit=3f1c2d0:clean=yes"], {"provenance": {"commit": "3f1c2d0", "clean": "yes"}}),
        (["provenance:commit=3f1c2d0,tuf"], {"provenance": {"commit": "3f1c2d0"}, "tuf": {}}),
        (["tuf:url=https://example.org:8443/agent/"], {"tuf": {"url": "https://example.org:8443/agent/"}}),
        (
            ["sigstore:identity=https://github.com/a/b/.github/workflows/c.yml@refs/heads/main"],
            {"sigstore": {"identity": "https://github.com/a/b/.github/workflows/c.yml@refs/heads/main"}},
        ),
        (["all"], {name: {} for name in POLICIES}),
        (
            ["all", "provenance:clean=yes"],
            {name: ({"clean": "yes"} if name == "provenance" else {}) for name in POLICIES},
        ),
    ],
)
def test_what_is_selected(words: list[str], required: Mapping[str, Mapping[str, str]]) -> None:
    """Names, several of them, and parameters whose values may be URLs."""
    assert select(words) == Selection(required=required)


@pytest.mark.parametrize(
    "word", ["signatur", "ALL", "provenance:commit", "all:commit=3f", "signature:key=x", ":"]
)
def test_what_cannot_be_selected(word: str) -> None:
    """A name or a parameter that does not exist is said, and never passed over: it was meant to demand something."""
    with pytest.raises(UsageError) as caught:
        select([word])
    assert caught.value.advice


# --- the rules of the engine ------------------------------------------------------------------------------------------


class Fixed:
    """A policy that always answers the same, or raises."""

    parameters = frozenset[str]()

    def __init__(self, verdict: Verdict | Exception, *, cryptographic: bool = False) -> None:
        self.verdict = verdict
        self.cryptographic = cryptographic

    def verify(self, subject: Subject, evidence: Evidence, given: Mapping[str, str]) -> Verdict:
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


HELD, FAILED, SKIPPED = Held("well"), Failed("bad"), Skipped("none")
ANYBODYS = Held("well, and whose it is was not asked", vouches=False)
ELSEWHERE = Skipped("not about it", missing=False)


def outcome(tmp_path: Path, policies: Mapping[str, Policy], *, required: bool) -> tuple[Result, ...]:
    given: dict[str, Mapping[str, str]] = {name: {} for name in POLICIES if name in policies}
    selection = Selection(required=given) if required else Selection(optional=given)
    return verify(subject(tmp_path), evidence(tmp_path), selection, policies)


@pytest.mark.parametrize(
    ("verdicts", "required", "fails"),
    [
        ({"signature": HELD}, False, set()),
        ({"signature": HELD, "provenance": SKIPPED}, False, set()),
        ({"signature": HELD, "provenance": FAILED}, False, {"provenance"}),
        ({"checksums": HELD, "signature": SKIPPED}, False, {"vouched for"}),
        ({"checksums": FAILED, "signature": SKIPPED}, False, {"checksums"}),
        ({"signature": SKIPPED}, False, {"vouched for"}),
        ({"signature": SKIPPED}, True, {"signature"}),
        ({"checksums": HELD}, True, set()),
        ({"checksums": SKIPPED}, True, {"checksums"}),
        ({"signature": HELD, "provenance": SKIPPED}, True, {"provenance"}),
        ({"authenticode": ELSEWHERE}, True, {"vouched for"}),
        ({"signature": HELD, "authenticode": ELSEWHERE}, True, set()),
        ({"signature": VerifyError("broken")}, False, {"signature"}),
        ({"authenticode": ANYBODYS}, False, {"vouched for"}),
        ({"authenticode": ANYBODYS}, True, {"vouched for"}),
        ({"authenticode": ANYBODYS, "signature": HELD}, False, set()),
        ({"signature": RecursionError()}, False, {"signature"}),
    ],
)
def test_when_a_file_is_verified(
    tmp_path: Path, verdicts: Mapping[str, Verdict | Exception], required: bool, fails: set[str]
) -> None:
    """The rules of the package, as a table: what fails, with policies demanded and with policies merely asked."""
    policies = {
        name: Fixed(verdict, cryptographic=POLICIES[name].cryptographic) for name, verdict in verdicts.items()
    }
    results = outcome(tmp_path, policies, required=required)

    assert {one.policy for one in results if isinstance(one.verdict, Failed)} == fails


def test_what_vouches() -> None:
    """Sums, documents and lists prove nothing by themselves: whoever changes a file can change them too."""
    assert {name for name, policy in POLICIES.items() if policy.cryptographic} == {
        "signature", "provenance", "sigstore", "tuf", "authenticode",
    }  # fmt: skip


# --- sigstore ---------------------------------------------------------------------------------------------------------


def bundle(data: bytes | Path = SIGNED, sha256: str = WHEEL, **who: str) -> str:
    content = data if isinstance(data, bytes) else data.read_bytes()
    identity = Identity(**(who or {"repository": "trailofbits/rfc8785.py"}))
    return verify_bundle(content, name="b.sigstore.json", sha256=sha256, identity=identity)


ATTEST_DEMO = {"repository": "malancas/attest-demo"}


@pytest.mark.parametrize(
    "who",
    [
        {"repository": "trailofbits/rfc8785.py"},
        {"repository": "https://github.com/trailofbits/rfc8785.py"},
        {"workflow": RELEASE_YML},
        {"workflow": RELEASE_YML, "ref": "refs/tags/v0.1.2", "repository": "trailofbits/rfc8785.py"},
    ],
)
def test_a_recorded_signature_holds_offline(who: dict[str, str]) -> None:
    """A real signature of a workflow, two years old: certificate, log entry and time are all in the bundle."""
    assert bundle(**who) == RELEASE_YML


def test_a_recorded_attestation_holds_offline() -> None:
    """What actions/attest-build-provenance makes: a statement about the file, by the workflow of that repository."""
    who = bundle(ATTESTED, DEMO, **ATTEST_DEMO, commit="8304c42402aa3a569882687e0642c359e5a74ac2")

    assert who.startswith("https://github.com/bdehamer/workflows/")


@pytest.mark.parametrize(
    ("data", "sha256", "who"),
    [
        (SIGNED, WHEEL, {"repository": "trailofbits/another"}),
        (SIGNED, WHEEL, {"workflow": RELEASE_YML.replace("v0.1.2", "v0.1.3")}),
        (SIGNED, WHEEL, {"workflow": RELEASE_YML, "issuer": "https://accounts.example.org"}),
        (SIGNED, WHEEL, {"repository": "trailofbits/rfc8785.py", "commit": "0" * 40}),
        (SIGNED, WHEEL, {"repository": "trailofbits/rfc8785.py", "ref": "refs/heads/main"}),
        (SIGNED, DEMO, {"repository": "trailofbits/rfc8785.py"}),
        (ATTESTED, WHEEL, ATTEST_DEMO),
        (ATTESTED, DEMO, {"repository": "bdehamer/workflows"}),
    ],
)
def test_somebody_elses_or_of_something_else(data: Path, sha256: str, who: dict[str, str]) -> None:
    """A real bundle by another workflow, of another commit, or about another file."""
    with pytest.raises(VerifyError, match=r"^b\.sigstore\.json") as caught:
        bundle(data, sha256, **who)
    assert caught.value.advice


def broken(path: Path) -> list[bytes]:
    whole = json.loads(path.read_bytes())
    entry = whole["verificationMaterial"]["tlogEntries"][0]
    content = whole.get("messageSignature") or whole["dsseEnvelope"]
    changes = [
        (entry, "integratedTime", "1700000000"), (entry, "logIndex", "1"), (entry, "canonicalizedBody", "e30="),
        (entry["inclusionPromise"], "signedEntryTimestamp", "AAAA"), (entry["inclusionProof"], "rootHash", "AAAA"),
        (whole, "verificationMaterial", {}), (whole, "mediaType", "text/plain"),
    ]  # fmt: skip
    if "payload" in content:
        changes += [
            (content, "payload", "e30="),
            (content, "payloadType", "text/plain"),
            (content, "signatures", []),
        ]
    else:
        changes.append((content, "signature", "AAAA"))
    found = [b"", b"{}", b"null", b"\xff"]
    for place, key, value in changes:
        old, place[key] = place[key], value
        found.append(json.dumps(whole).encode())
        place[key] = old
    return found


@pytest.mark.parametrize(("path", "sha256"), [(SIGNED, WHEEL), (ATTESTED, DEMO)])
def test_a_bundle_that_was_changed(path: Path, sha256: str) -> None:
    """Time, log, certificate, signature or payload: changed, the bundle is refused with a sentence."""
    who = {"repository": "trailofbits/rfc8785.py"} if path is SIGNED else ATTEST_DEMO
    for data in broken(path):
        with pytest.raises(VerifyError, match=r"^b\.sigstore\.json"):
            bundle(data, sha256, **who)


def test_anybodys_signature_is_no_signature() -> None:
    """Without a repository or a workflow every identity would do: such a question is never asked."""
    with pytest.raises(ValueError, match="anybody"):
        bundle(SIGNED, WHEEL, commit="3f")


def test_the_policy_of_sigstore(tmp_path: Path) -> None:
    """The bundle beside the file is asked for, and whose it must be has to be said."""
    one = subject(tmp_path, "rfc8785.whl", sha256=WHEEL)
    assert isinstance(Sigstore().verify(one, evidence(tmp_path), {}), Skipped)
    shutil.copy(SIGNED, tmp_path / "rfc8785.whl.sigstore.json")

    unsaid = Sigstore().verify(one, evidence(tmp_path), {})
    assert isinstance(unsaid, Skipped)
    assert "sigstore:repository=" in unsaid.why
    given = {"repository": "trailofbits/rfc8785.py", "ref": "refs/tags/v0.1.2"}
    assert Sigstore().verify(one, evidence(tmp_path), given) == Held(f"by {RELEASE_YML}")


def test_keyless_signatures_need_a_workflow() -> None:
    """Only a job that may ask GitHub for an identity can sign without a key."""
    assert not can_sign({})
    assert can_sign({"ACTIONS_ID_TOKEN_REQUEST_URL": "https://x", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "y"})


# --- Authenticode -----------------------------------------------------------------------------------------------------


def pe(*, plus: bool = True) -> bytes:
    """A program of Windows as small as osslsigncode takes it: headers, and one empty section."""
    optional = bytearray(240 if plus else 224)
    optional[0:2] = (0x20B if plus else 0x10B).to_bytes(2, "little")
    optional[32:36] = (4096).to_bytes(4, "little")  # section alignment
    optional[36:40] = (512).to_bytes(4, "little")  # file alignment
    optional[56:60] = (8192).to_bytes(4, "little")  # size of the image
    optional[60:64] = (512).to_bytes(4, "little")  # size of the headers
    count = 108 if plus else 92
    optional[count : count + 4] = (16).to_bytes(4, "little")
    machine = (0x8664 if plus else 0x14C).to_bytes(2, "little")
    header = (
        machine + (1).to_bytes(2, "little") + bytes(12) + len(optional).to_bytes(2, "little") + b"\x22\x00"
    )
    section = b".text\0\0\0" + (512).to_bytes(4, "little") + (4096).to_bytes(4, "little")
    section += (512).to_bytes(4, "little") * 2 + bytes(12) + b"\x20\x00\x00\x60"
    start = b"MZ" + bytes(58) + (64).to_bytes(4, "little")
    return (start + b"PE\0\0" + header + bytes(optional) + section).ljust(512, b"\0") + bytes(512)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for signing programs, and what issued it."""
    from support.authenticode_keys import make_authority

    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def signed(tmp_path: Path, authority: Path) -> Path:
    if shutil.which("osslsigncode") is None:
        pytest.skip("osslsigncode, which signs and verifies programs of Windows, is not installed")
    (tmp_path / "bare.exe").write_bytes(pe())
    subprocess.run(
        ["osslsigncode", "sign", "-certs", authority / "leaf.pem", "-key", authority / "leaf.key", "-h", "sha256",
         "-in", tmp_path / "bare.exe", "-out", tmp_path / "lantern.exe"],
        check=True, capture_output=True,
    )  # fmt: skip
    return tmp_path / "lantern.exe"


def authenticode(path: Path, **given: str) -> Verdict:
    return Authenticode().verify(
        subject(path.parent, path.name, path.read_bytes()), evidence(path.parent), given
    )


@pytest.mark.parametrize("plus", [True, False])
def test_a_program_without_a_signature(tmp_path: Path, plus: bool) -> None:
    """The headers tell that there is none; no tool is asked."""
    (tmp_path / "lantern.exe").write_bytes(pe(plus=plus))

    assert not has_signature(tmp_path / "lantern.exe")
    assert authenticode(tmp_path / "lantern.exe") == Skipped("there is no signature in it")


@pytest.mark.parametrize("data", [b"", b"MZ", b"MZ" + b"\xff" * 80, b"no program", b"MZ" + bytes(100)])
def test_what_is_no_program(tmp_path: Path, data: bytes) -> None:
    """A file that only has the name of one has no signature; nothing is read beyond its end."""
    (tmp_path / "lantern.exe").write_bytes(data)

    assert isinstance(authenticode(tmp_path / "lantern.exe"), Skipped)


def test_other_systems_have_none(tmp_path: Path) -> None:
    """The policy is not about them."""
    (tmp_path / "lantern").write_bytes(b"\x7fELF")

    assert authenticode(tmp_path / "lantern") == Skipped("it is no program of Windows", missing=False)


def test_a_signature_in_a_program_holds(signed: Path, authority: Path) -> None:
    """Signed by a certificate of the authority that is trusted."""
    assert has_signature(signed)
    assert authenticode(signed, ca=str(authority / "ca.pem")) == Held("the signature in it holds")


def test_a_changed_program(signed: Path, authority: Path) -> None:
    """One byte of the section, behind everything that the headers describe."""
    data = bytearray(signed.read_bytes())
    data[700] ^= 1
    signed.write_bytes(bytes(data))

    with pytest.raises(VerifyError, match=r"lantern\.exe"):
        authenticode(signed, ca=str(authority / "ca.pem"))


def test_the_certificate_that_must_have_signed(signed: Path, authority: Path) -> None:
    """By its fingerprint, as `openssl x509 -fingerprint` writes it or without colons; another one is refused."""
    pem = (authority / "leaf.pem").read_text()
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    colons = ":".join(fingerprint[at : at + 2].upper() for at in range(0, 64, 2))
    trusted = str(authority / "ca.pem")
    for leaf in (fingerprint, colons):
        assert authenticode(signed, ca=trusted, leaf=leaf) == Held("the signature in it holds")
    with pytest.raises(VerifyError, match=r"lantern\.exe"):
        authenticode(signed, ca=trusted, leaf="0" * 64)


def test_a_certificate_that_anybody_could_buy(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature that this machine trusts and nobody has asked for by name is no reason to trust the file."""

    def accept(*_args: object, **_options: object) -> None:
        """As where the authority is one of the system's."""

    monkeypatch.setattr(Runner, "run", accept)
    verdict = authenticode(signed)
    assert isinstance(verdict, Held)
    assert not verdict.vouches
    assert authenticode(signed, leaf="0" * 64) == Held("the signature in it holds")


def test_a_certificate_of_nobody(signed: Path) -> None:
    """The same signature, and no reason to trust its certificate."""
    with pytest.raises(VerifyError, match=r"lantern\.exe"):
        authenticode(signed)
