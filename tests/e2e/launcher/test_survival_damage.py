"""A damaged executable is refused with code 65 and a message, and never runs.

What holds with a warm cache is less, and said here: the head of the payload and the length of the file are looked at in
every start; the body only when something is unpacked from it, because the tree that runs was checked when it was made.
"""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from support.launcher import Ran, World, refused

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DAMAGED = 65
BROKEN = "/srv/bin/broken"


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Offsets in the file."""

    data: bytes
    payload: int
    end: int
    head: int
    loaded: int
    table: int
    row: int
    names: int

    @classmethod
    def of(cls, path: Path) -> Anatomy:
        with path.open("rb") as file:
            elf = ELFFile(file)
            payload = elf.get_section_by_name(".ferryman")
            assert payload is not None, "the executable has no payload"
            start = payload["sh_offset"]
            data = path.read_bytes()
            return cls(
                data=data,
                payload=start,
                end=start + payload["sh_size"],
                head=int.from_bytes(data[start + 12 : start + 16], "little"),
                loaded=max(part["p_offset"] + part["p_filesz"] for part in elf.iter_segments("PT_LOAD")),
                table=elf["e_shoff"],
                row=elf["e_shoff"] + elf.get_section_index(".ferryman") * elf["e_shentsize"],
                names=elf.get_section(elf["e_shstrndx"])["sh_offset"] + payload["sh_name"],
            )

    def flipped(self, position: int, bit: int = 0) -> bytes:
        """The file with one bit changed."""
        changed = bytearray(self.data)
        changed[position] ^= 1 << bit
        return bytes(changed)


@pytest.fixture(scope="session")
def anatomy(executable: Path) -> Anatomy:
    """Where what lies in the executable."""
    return Anatomy.of(executable)


def run_broken(world: World, data: bytes) -> Ran | None:
    """Run a damaged copy; None: the system did not even start it."""
    program = world.place(BROKEN, data)
    try:
        return world.run("report", program=program)
    except OSError:
        return None


def never_ran(world: World) -> None:
    """Nothing was unpacked."""
    assert world.trees() == []
    assert [path for path in world.strays() if path != BROKEN] == []


def test_cut_off_in_the_payload(world: World, anatomy: Anatomy) -> None:
    """A download that stopped: at 40 lengths behind the code, the last byte among them."""
    assert anatomy.payload >= anatomy.loaded, "the payload lies before code; a cut would crash"
    size = len(anatomy.data)
    span = size - anatomy.loaded
    lengths = {anatomy.loaded + span * step // 32 for step in range(32)}
    lengths |= {
        size - 1,
        size - 2,
        size - 64,
        anatomy.end - 1,
        anatomy.end,
        anatomy.payload,
        anatomy.payload + 1,
    }
    for length in sorted(lengths):
        ran = run_broken(world, anatomy.data[:length])
        assert ran is not None, length
        refused(ran, DAMAGED, "damaged", "Download it again")
    never_ran(world)


def test_cut_off_in_the_code(world: World, anatomy: Anatomy) -> None:
    """Too short even for the launcher: the system refuses it, or it dies; it says and unpacks nothing."""
    for length in (1, 4, 64, 500, 4096, anatomy.loaded // 4, anatomy.loaded // 2, anatomy.loaded - 4096):
        ran = run_broken(world, anatomy.data[:length])
        assert ran is None or (ran.code != 0 and ran.out == b""), (length, ran)
    never_ran(world)


def test_flipped_in_the_head(world: World, anatomy: Anatomy) -> None:
    """Every byte of the payload's head, cold."""
    for offset in range(anatomy.head):
        ran = run_broken(world, anatomy.flipped(anatomy.payload + offset, offset % 8))
        assert ran is not None
        refused(ran, DAMAGED, "damaged" if not 8 <= offset < 12 else "format")
    never_ran(world)


def test_flipped_in_the_body(world: World, anatomy: Anatomy) -> None:
    """Forty places of the body, its first and last byte among them, cold."""
    first, last = anatomy.payload + anatomy.head, anatomy.end - 1
    chance = random.Random(3)
    for position in (first, first + 1, last, *(chance.randrange(first, last) for _ in range(37))):
        ran = run_broken(world, anatomy.flipped(position, position % 8))
        assert ran is not None
        refused(ran, DAMAGED, "damaged")
    never_ran(world)


def test_flipped_in_the_section_table(world: World, anatomy: Anatomy) -> None:
    """Every byte of the way to the payload: the header's fields, the row of the table, the name.

    It is refused, or the byte is one that nobody needs, and the start is as it should be.
    """
    way = [0x28 + offset for offset in range(8)] + [0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F]
    name = [anatomy.names + offset for offset in range(len(b".ferryman\0"))]
    row = [anatomy.row + offset for offset in range(64)]
    needed = {*name, *row[:4], *row[24:40]}
    for position in way + name + row:
        ran = run_broken(world, anatomy.flipped(position, 6))
        if ran is None:
            continue
        if position in needed or ran.code:
            refused(ran, DAMAGED, "damaged")
        else:
            assert ran.json["executable"] == repr(BROKEN)


def test_anything_may_be_flipped(world: World, anatomy: Anatomy) -> None:
    """Two hundred places anywhere behind the code, cold: refused, or as it should be."""
    chance = random.Random(7)
    for _ in range(200):
        world.sh("rm -rf /srv/home/.cache /var/tmp/* /tmp/*")
        position = chance.randrange(anatomy.loaded, len(anatomy.data))
        ran = run_broken(world, anatomy.flipped(position, chance.randrange(8)))
        if ran is not None and ran.code:
            refused(ran, DAMAGED, "damaged")
        elif ran is not None:
            assert not anatomy.payload <= position < anatomy.end, "a changed payload has run"


def test_zeros_in_the_middle(world: World, anatomy: Anatomy) -> None:
    """A download whose pieces did not all arrive: a page of zeros."""
    for part in (1, 3, 5, 7):
        position = (anatomy.payload + (anatomy.end - anatomy.payload) * part // 8) & ~4095
        ran = run_broken(world, anatomy.data[:position] + bytes(4096) + anatomy.data[position + 4096 :])
        assert ran is not None
        refused(ran, DAMAGED, "damaged")
    never_ran(world)


def test_warm_head_and_length(world: World, anatomy: Anatomy) -> None:
    """With a warm cache a changed head and a truncated file are refused all the same."""
    world.works()
    for data in (
        anatomy.data[:-1],
        anatomy.data[: anatomy.end - 1],
        anatomy.data[: anatomy.payload + anatomy.head],
        anatomy.flipped(anatomy.payload + 60),
        anatomy.flipped(anatomy.payload + anatomy.head - 1),
        anatomy.flipped(anatomy.payload + 105),
    ):
        ran = run_broken(world, data)
        assert ran is not None
        refused(ran, DAMAGED, "damaged")


def test_warm_body(world: World, anatomy: Anatomy) -> None:
    """With a warm cache a changed body is not read: the tree runs that was checked when it was unpacked.

    As soon as something has to be unpacked from it, it is refused.
    """
    tree = world.tree()
    changed = anatomy.flipped((anatomy.payload + anatomy.head + anatomy.end) // 2)
    ran = run_broken(world, changed)
    assert ran is not None
    assert ran.json["tree"] == repr(tree)

    world.sh(f"rm {tree}/../.ferryman")
    ran = run_broken(world, changed)
    assert ran is not None
    refused(ran, DAMAGED, "damaged")
    assert world.tree() == tree, "the whole executable mends it"


def test_something_appended(world: World, anatomy: Anatomy) -> None:
    """Bytes behind the end (a signature, a careless tool) do no harm."""
    ran = run_broken(world, anatomy.data + b"appended" * 1000)
    assert ran is not None
    assert ran.json["executable"] == repr(BROKEN)


def test_no_payload_is_no_crash(world: World, anatomy: Anatomy) -> None:
    """Stripped of its section table by a tool that knows no better, the executable says that it is not whole."""
    header = bytearray(anatomy.data)
    header[0x28:0x30] = bytes(8)
    header[0x3C:0x40] = bytes(4)
    ran = run_broken(world, bytes(header))
    assert ran is not None
    refused(ran, DAMAGED, "damaged")
    assert ran.code != -signal.SIGSEGV
    never_ran(world)
