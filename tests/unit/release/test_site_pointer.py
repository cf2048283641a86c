"""channels/<channel>.signed: written, read back, and refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman_release.errors import MetadataError
from ferryman_release.signing.minisign import minisign_verify
from ferryman_release.site import Pointer, PointerFile, SiteChannel, parse_pointer, pointer
from ferryman_release.site.pointer import LONGEST, pointer_payload
from support.site_factory import secret, sign_as

WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-_+", min_size=1, max_size=12).filter(
    lambda s: s[0].isalnum()
)
DIGEST = st.text("0123456789abcdef", min_size=64, max_size=64)
MOMENT = st.datetimes().map(lambda when: when.replace(microsecond=0).isoformat() + "Z")
FILES = st.lists(
    st.builds(
        PointerFile, target=WORD, kind=WORD, size=st.integers(0, 1 << 40), sha256=DIGEST,
        path=st.lists(WORD, min_size=1, max_size=3).map("/".join), floor=st.dictionaries(WORD, WORD, max_size=2),
    ),
    max_size=4, unique_by=lambda one: (one.target, one.kind),
).map(tuple)  # fmt: skip
POINTERS = st.builds(
    Pointer, name=WORD, channel=WORD, version=WORD, released=MOMENT, expires=MOMENT, sums=DIGEST,
    serial=st.integers(0, 1 << 31), minimum=st.one_of(st.just(""), WORD), yanked=st.lists(WORD, max_size=3).map(tuple),
    files=FILES,
)  # fmt: skip

PLAIN = Pointer(
    name="lantern", channel="stable", version="1.0.0", released="2024-01-02T03:04:05Z",
    expires="2024-04-02T03:04:05Z", sums="ab" * 32, serial=3, minimum="0.9", yanked=("0.8",),
    files=(PointerFile(target="linux-amd64", kind="executable", size=7, sha256="cd" * 32,
                       path="lantern/1.0.0/lantern-1.0.0-linux-amd64", floor={"glibc": "2.17"}),),
)  # fmt: skip


@given(value=POINTERS)
def test_what_is_written_is_read_back(value: Pointer) -> None:
    """Any pointer comes back as it was, and its signature is over exactly the payload."""
    found = parse_pointer(pointer(value, sign_as("minisign")))

    assert found.pointer == value
    assert minisign_verify(found.payload, found.signature, secret().key) == "a test"


def test_the_payload_is_lines_of_words() -> None:
    """The format that installers read, word for word."""
    assert pointer_payload(PLAIN).decode() == (
        "format 1\nname lantern\nchannel stable\nversion 1.0.0\nreleased 2024-01-02T03:04:05Z\n"
        f"expires 2024-04-02T03:04:05Z\nserial 3\nsums {'ab' * 32}\nminimum 0.9\nyanked 0.8\n"
        f"file linux-amd64 executable 7 {'cd' * 32} lantern/1.0.0/lantern-1.0.0-linux-amd64\n"
        "floor linux-amd64 executable glibc 2.17\n"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "1.0 beta"},
        {"name": ""},
        {"channel": "stable\nformat 2"},
        {"expires": "tomorrow"},
        {"sums": "none"},
        {"yanked": ("0.8\nfile",)},
        {"files": (msgspec.structs.replace(PLAIN.files[0], path="../lantern"),)},
        {"files": (msgspec.structs.replace(PLAIN.files[0], path="/etc/passwd"),)},
        {"files": (msgspec.structs.replace(PLAIN.files[0], target="linux amd64"),)},
    ],
)  # fmt: skip
def test_what_cannot_stand_in_a_line_is_refused(changes: dict[str, object]) -> None:
    """Nothing that could be read as another line or another path is ever signed."""
    with pytest.raises(MetadataError) as caught:
        pointer(msgspec.structs.replace(PLAIN, **changes), sign_as("minisign"))

    assert caught.value.advice
    assert caught.value.details


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "less than five lines"),
        (b"\n\n\n\n", "format"),
        (b"a\nb\nc\nd\nformat 2\n", "format is 2"),
        (b"a\nb\nc\nd\nformat 1\nname x\n", "channel"),
        (b"a\nb\nc\nd\n\xff\xfe", "ascii"),
        (b"x" * (LONGEST + 1), "too many"),
        (b"a\nb\nc\nd\n" + pointer_payload(PLAIN) + b"file linux-arm64 executable\n", "unpack"),
    ],
)  # fmt: skip
def test_what_is_no_pointer_is_refused(data: bytes, why: str) -> None:
    """Each broken object has its reason and a cure."""
    with pytest.raises(MetadataError, match=why) as caught:
        parse_pointer(data)

    assert caught.value.advice


def test_a_later_ferryman_may_add_lines() -> None:
    """A key that this one does not know is passed over."""
    data = pointer(PLAIN, sign_as("minisign")) + b"colour green and blue\n"

    assert parse_pointer(data).pointer == PLAIN


def test_a_signer_that_gives_something_else_is_noticed() -> None:
    """A signature has four lines; what has not would shift the payload."""
    with pytest.raises(MetadataError, match="four lines"):
        pointer(PLAIN, lambda payload: b"signature\n")


def test_a_channel_without_files_can_be_pointed_to() -> None:
    """An empty channel makes a pointer without rows, not an error."""
    channel = SiteChannel(
        channel="beta",
        version="1.0.0",
        released="2024-01-02T03:04:05Z",
        expires="2024-01-02T03:04:05Z",
        sums="0" * 64,
    )

    assert channel.files == ()
    assert (
        parse_pointer(pointer(msgspec.structs.replace(PLAIN, files=()), sign_as("minisign"))).pointer.files
        == ()
    )
