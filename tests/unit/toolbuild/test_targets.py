"""Targets: twelve rows of data, each reached by every one of its names, and no name that means two of them."""

from __future__ import annotations

import re
from collections import Counter

import msgspec
import pytest

from ferryman_build import targets
from ferryman_build.errors import ConfigError, UsageError
from ferryman_build.targets import (
    Libc,
    Os,
    Target,
    all_targets,
    host_target,
    parse_target,
    parse_targets,
    with_promise,
)

IDS = (
    "linux-amd64", "linux-arm64", "linux-amd64-musl", "linux-arm64-musl", "windows-amd64", "windows-arm64",
    "darwin-arm64", "darwin-amd64", "linux-armv7", "linux-riscv64", "linux-s390x", "linux-ppc64le",
)  # fmt: skip
OWNERS = Counter(alias for row in all_targets() for alias in set(row.aliases))
NEW = Target(
    id="plan9-mips", os=Os.LINUX, arch="mips", tier=2, floor={"glibc": "2.31"}, suffix="", archive="tar.gz",
    wheel_tags=("linux_mips",), uv_platform="", rust="mips-unknown-linux-gnu", zig="mips-linux", runner="",
    machine=("mips",), libc=Libc.GNU,
)  # fmt: skip


def test_rows() -> None:
    """The matrix is the one of the design, in its order."""
    assert tuple(row.id for row in all_targets()) == IDS


@pytest.mark.parametrize("row", all_targets(), ids=str)
def test_row_is_well_formed(row: Target) -> None:
    """An id says what the row says, a floor is a version, and what depends on the system fits it."""
    libc = (row.libc,) if row.libc is Libc.MUSL else ()
    assert row.id == "-".join((row.os, row.arch, *libc))
    assert list(row.floor) == [
        {"linux": "musl" if libc else "glibc", "darwin": "macos"}.get(row.os, "windows")
    ]
    assert all(re.fullmatch(r"\d+(\.\d+)?", version) for version in row.floor.values())
    assert (row.suffix, row.archive) == ((".exe", "zip") if row.os is Os.WINDOWS else ("", "tar.gz"))
    assert (row.libc is None) == (row.os is not Os.LINUX)
    assert row.tier in (1, 2)
    assert bool(row.runner) == (row.tier == 1)
    assert row.wheel_tags
    assert row.machine
    assert all(name == name.lower() for name in row.machine)


@pytest.mark.parametrize("row", all_targets(), ids=str)
def test_zig_knows_the_floor(row: Target) -> None:
    """Where zig links against a C library by version, it is the floor's."""
    if "glibc" in row.floor or "macos" in row.floor:
        assert row.zig.endswith(f".{next(iter(row.floor.values()))}")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [(name, row.id) for row in all_targets() for name in (row.id, *row.aliases) if OWNERS[name] < 2],
)
def test_every_name_of_a_row_is_that_row(name: str, wanted: str) -> None:
    """Ids, Go pairs, Rust triples and wheel tags are understood, whatever their case and the space around them."""
    assert parse_target(name).id == wanted
    assert parse_target(f" {name.upper()} ").id == wanted


def test_only_universal_wheels_fit_two_rows() -> None:
    """Both macOS rows accept universal2 wheels; every other alias belongs to one row."""
    assert {alias for alias, count in OWNERS.items() if count > 1} == {
        "macosx_11_0_universal2",
        "macosx_10_9_universal2",
    }
    assert not OWNERS.keys() & set(IDS)


def test_ambiguous_alias_is_refused() -> None:
    """A tag that two rows accept names neither, and the message has both."""
    with pytest.raises(UsageError, match="fits darwin-arm64 or darwin-amd64"):
        parse_target("macosx_11_0_universal2")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("linux-amd46", "linux-amd64"),
        ("linux/arm63", "linux-arm64"),
        ("windows", "windows-amd64"),
        ("x86_64-unknown-linux-gnux32", "linux-amd64"),
        ("macosx_11_0_universal", "darwin-arm64"),
        ("macosx_11_0_universal", "darwin-amd64"),
        ("zzz", "Targets are linux-amd64, linux-arm64"),
        ("", "Targets are linux-amd64, linux-arm64"),
    ],
)
def test_unknown_name(name: str, advice: str) -> None:
    """An unknown name is answered with the nearest ids, and with all of them when nothing is near."""
    with pytest.raises(UsageError) as caught:
        parse_target(name)

    assert repr(name) in str(caught.value)
    assert advice in caught.value.advice
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("linux-arm64", ("linux-arm64",)),
        ("windows-amd64, linux/amd64", ("windows-amd64", "linux-amd64")),
        ("linux-amd64,linux/amd64,manylinux2014_x86_64", ("linux-amd64",)),
        (" ,linux-s390x,, ", ("linux-s390x",)),
        ("all", IDS),
        ("ALL", IDS),
        ("linux-s390x,all", IDS),
        ("", ()),
    ],
)
def test_list(text: str, wanted: tuple[str, ...]) -> None:
    """A list keeps its order and loses repetition, by whatever names; `all` is every row."""
    assert tuple(row.id for row in parse_targets(text)) == wanted


def test_all_does_not_hide_a_wrong_name() -> None:
    """A typing mistake beside `all` is still said."""
    with pytest.raises(UsageError, match="linux-amd46"):
        parse_targets("all,linux-amd46")


@pytest.mark.parametrize("name", ["plan9-mips", "linux/mips", "mips-unknown-linux-gnu", "linux_mips"])
def test_a_new_row_needs_no_code(name: str) -> None:
    """All names of a row that is only in the table are understood."""
    assert parse_target(name, (*all_targets(), NEW)) is NEW
    assert parse_targets(f"{name},{name}", (*all_targets(), NEW)) == (NEW,)


def test_a_row_with_an_unknown_field_is_refused() -> None:
    """A misspelt field of the table does not pass as a default."""
    row = msgspec.to_builtins(NEW)
    with pytest.raises(msgspec.ValidationError, match="libcc"):
        msgspec.convert({**row, "libcc": "gnu"}, Target)


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        (("linux", "x86_64", "gnu"), "linux-amd64"),
        (("linux", "x86_64", "musl"), "linux-amd64-musl"),
        (("linux", "aarch64", "gnu"), "linux-arm64"),
        (("linux", "armv7l", "gnu"), "linux-armv7"),
        (("linux", "ppc64le", "gnu"), "linux-ppc64le"),
        (("windows", "amd64", "musl"), "windows-amd64"),
        (("windows", "arm64", "musl"), "windows-arm64"),
        (("darwin", "arm64", "musl"), "darwin-arm64"),
        (("darwin", "x86_64", "musl"), "darwin-amd64"),
    ],
)
def test_host(monkeypatch: pytest.MonkeyPatch, facts: tuple[str, str, str], wanted: str) -> None:
    """What the interpreter says of its machine finds the row; the C library counts on Linux alone."""
    monkeypatch.setattr(targets, "_host_facts", lambda: facts)

    assert host_target().id == wanted
    assert parse_target("host").id == wanted
    assert [row.id for row in parse_targets(f"HOST,{wanted}")] == [wanted]


def test_host_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's name is compared in lower case: Windows says AMD64."""
    monkeypatch.setattr(targets.platform, "machine", lambda: "AMD64")
    monkeypatch.setattr(targets.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(targets.sys, "platform", "win32")

    assert host_target().id == "windows-amd64"


def test_host_outside_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a row is told so, and what to do."""
    monkeypatch.setattr(targets, "_host_facts", lambda: ("linux", "vax", "gnu"))

    with pytest.raises(UsageError, match="linux vax") as caught:
        parse_target("host")

    assert "--target" in caught.value.advice


def test_identity() -> None:
    """Targets are keys of dicts, print as their id, and say their floor in words."""
    row = parse_target("darwin-arm64")

    assert {row: 1}[parse_target("darwin/arm64")] == 1
    assert str(row) == "darwin-arm64"
    assert row.floor_text == "macos 11.0"


# --- the promise of a project -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "text", "wanted"),
    [
        ("linux-amd64", "", "glibc 2.17, cpu x86-64-v1"),
        ("linux-amd64", "glibc 2.31", "glibc 2.31, cpu x86-64-v1"),
        ("linux-amd64", "cpu x86-64-v2", "glibc 2.17, cpu x86-64-v2"),
        ("linux-amd64", "glibc 2.31,cpu x86-64-v2+aes", "glibc 2.31, cpu x86-64-v2+aes"),
        ("linux-amd64", "cpu x86-64-v3 ,  glibc 2.28", "glibc 2.28, cpu x86-64-v3"),
        ("linux-amd64-musl", "musl 1.1", "musl 1.1, cpu x86-64-v1"),
        ("darwin-arm64", "macos 12.0", "macos 12.0, cpu apple-m1"),
        ("windows-arm64", "cpu armv8.1", "windows 11, cpu armv8.1"),
        ("linux-s390x", "glibc 2.36", "glibc 2.36"),
    ],
)
def test_promise(target: str, text: str, wanted: str) -> None:
    """What `floor` says replaces what the row says, part by part; the row itself stays."""
    row = parse_target(target)
    before = row.promise_text
    promised = with_promise(row, text)
    assert promised.promise_text == wanted
    assert promised == with_promise(promised, promised.promise_text)
    assert (promised.id, row.promise_text) == (row.id, before)


@pytest.mark.parametrize(
    ("target", "text", "message", "advice"),
    [
        ("linux-amd64", "macos 12.0", "'macos 12.0' means nothing for linux-amd64", "glibc or cpu"),
        ("linux-amd64", "musl 1.2", "'musl 1.2'", "glibc or cpu"),
        ("linux-amd64", "glibc new", "'glibc new'", "'glibc 2.17, cpu x86-64-v1'"),
        ("linux-amd64", "glibc", "'glibc'", "glibc or cpu"),
        ("linux-amd64", "cpu armv8.1", "no processor level 'armv8.1'", "x86-64-v2"),
        ("linux-arm64", "cpu x86-64-v2", "no processor level", "armv8.1"),
        ("linux-s390x", "cpu z13", "no processor level", "leave it out"),
    ],
)
def test_wrong_promise(target: str, text: str, message: str, advice: str) -> None:
    """What the target is not, and levels of another architecture, are refused with what may be said."""
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        with_promise(parse_target(target), text)
    assert advice in caught.value.advice
    assert caught.value.exit_code == 3
