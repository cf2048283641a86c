"""Lists of runtimes: what a row says, where it lies, and which row serves a target."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ferryman_build.errors import BlockedError, ConfigError, FerrymanError
from ferryman_build.runtimes.index import (
    Runtime,
    find_runtime,
    index_text,
    named_runtime,
    open_index,
    read_index,
    shipped_index,
)
from ferryman_build.runtimes.update import head_of, rows_of_release, sums_address, updated
from ferryman_build.targets import all_targets, parse_target

SHA = "ab" * 32
AMD64 = parse_target("linux-amd64")


def row(python: str = "3.11.9", target: str = "linux-amd64", url: str = "a.tar.gz", **more: str) -> Runtime:
    return Runtime(python=python, target=target, url=url, **{"sha256": SHA, **more})


def test_shipped_list_is_whole() -> None:
    """Every row is fetched through https with a hash, and every tier-1 target but one of musl has a runtime."""
    rows = shipped_index()

    assert [one for one in rows if not one.address.startswith("https://") or len(one.sha256) != 64] == []
    served = {one.target for one in rows}
    assert {target.id for target in all_targets() if target.tier == 1} - served <= {"linux-arm64-musl"}
    assert len({(one.python, one.target) for one in rows}) == len(rows)


def test_a_list_survives_being_written() -> None:
    """index_text and read_index are each other's inverse, odd characters included."""
    rows = [row(origin='by "me" \\ 灯'), row("3.12.1", "windows-arm64", "b/c.zip", licence="PSF-2.0")]

    assert list(read_index(index_text(rows, "# a head"), "")) == rows


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("runtime = 3", "has no [[runtime]] rows"),
        ("[[runtime", "is not TOML"),
        ('[[runtime]]\npython = "3.11.9"', "missing required field `target`"),
        ('[[runtime]]\npython = "3.11"\ntarget = "linux-amd64"\nurl = "a"\nsha256 = ""', "has to be a whole version such as 3.11.9"),
        ('[[runtime]]\npython = "3.11.9"\ntarget = "linux-amd46"\nurl = "a"\nsha256 = ""', "did you mean 'linux-amd64'"),
        ('[[runtime]]\npython = "3.11.9"\ntarget = "linux-amd64"\nurl = "a"\nsha256 = "abc"', "64 hexadecimal digits"),
        ('[[runtime]]\npython = "3.11.9"\ntarget = "linux-amd64"\nurl = "https://h/a"\nsha256 = ""', "has no sha256"),
        ('[[runtime]]\npython = "3.11.9"\ntarget = "linux-amd64"\nurl = "a"\nsha256 = ""\nbase = "/"', "unknown field `base`"),
        ('[[runtime]]\npython = ""\ntarget = "linux-amd64"\nurl = "a"\nsha256 = ""', "`python` is ''"),
    ],
)  # fmt: skip
def test_a_wrong_list_is_explained(text: str, sentence: str) -> None:
    """Each mistake is named, with the list's name and what to do."""
    with pytest.raises(ConfigError) as caught:
        read_index(text, "", "their list")

    said = "\n".join((str(caught.value), *caught.value.details))
    assert sentence in said
    assert "their list" in said
    assert caught.value.advice


@pytest.mark.parametrize(
    ("url", "base", "address"),
    [
        ("a.tar.gz", "/some/where", "/some/where/a.tar.gz"),
        ("x/a.tar.gz", "https://host/mirror", "https://host/mirror/x/a.tar.gz"),
        ("https://other/a%2Bb.tar.gz", "https://host/mirror/", "https://other/a%2Bb.tar.gz"),
        ("file:///abs/a%20b.zip", "/some", "/abs/a b.zip"),
        ("/abs/a.zip", "/some", "/abs/a.zip"),
    ],
)
def test_relative_addresses_belong_to_the_list(url: str, base: str, address: str) -> None:
    """A relative url is resolved against the place of its list, whatever kind of place that is."""
    assert row(url=url, base=base).address == address


def test_file_name_is_unquoted() -> None:
    """An archive is called what its address means."""
    assert row(url="https://h/cpython-3.11%2B1.tar.gz").file_name == "cpython-3.11+1.tar.gz"


def test_a_place_is_a_folder_a_file_or_an_address(tmp_path: Path) -> None:
    """The same list is found by its folder, by its file, by file://, and through a fetcher."""
    (tmp_path / "runtimes.toml").write_text(index_text([row()]), encoding="utf-8")
    asked: list[str] = []

    def read(address: str) -> bytes:
        asked.append(address)
        return index_text([row()]).encode()

    for place in (str(tmp_path), str(tmp_path / "runtimes.toml"), tmp_path.as_uri()):
        assert open_index(place)[0].address == str(tmp_path / "a.tar.gz")
    for place in ("https://h/mirror", "https://h/mirror/", "https://h/mirror/runtimes.toml"):
        assert open_index(place, read)[0].address == "https://h/mirror/a.tar.gz"
    assert set(asked) == {"https://h/mirror/runtimes.toml"}


def test_no_list_is_a_sentence(tmp_path: Path) -> None:
    """A folder without a list is said, with how to make one."""
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path))) as caught:
        open_index(str(tmp_path))
    assert "mirror" in caught.value.advice


def test_newest_patch_is_taken() -> None:
    """3.11 means its newest patch by number, 3.11.2 that one."""
    rows = [row("3.11.2"), row("3.11.10"), row("3.11.9"), row("3.12.1"), row("3.11.99", "linux-arm64")]

    assert find_runtime(rows, AMD64, "3.11").python == "3.11.10"
    assert find_runtime(rows, AMD64, "3.11.2").python == "3.11.2"


@pytest.mark.parametrize(
    ("versions", "taken"),
    [
        (("3.14.0rc3", "3.14.0", "3.14.0a7"), "3.14.0"), (("3.14.0a7", "3.14.0"), "3.14.0"), (("3.14.1rc1", "3.14.0"), "3.14.0"),
        (("3.14.0", "3.14.1"), "3.14.1"), (("3.14.0a7", "3.14.0rc3", "3.14.0b1"), "3.14.0rc3"),
    ],
)  # fmt: skip
def test_a_release_goes_before_candidates(versions: tuple[str, ...], taken: str) -> None:
    """Whatever the order of the list is; where there are only candidates, the last one."""
    assert find_runtime(map(row, versions), AMD64, "3.14").python == taken


@pytest.mark.parametrize(
    ("rows", "there"),
    [([row("3.12.1"), row("3.9.1")], "the list has 3.9.1, 3.12.1"), ([], "nor of any other")],
)
def test_no_runtime_blocks_a_target(rows: list[Runtime], there: str) -> None:
    """The message names what is wanted and what there is, the advice the ways out."""
    with pytest.raises(BlockedError, match=r"CPython 3\.11 for linux-amd64") as caught:
        find_runtime(rows, AMD64, "3.11")
    assert there in str(caught.value)
    assert "runtime" in caught.value.advice


def test_a_project_names_its_runtime(tmp_path: Path) -> None:
    """A path is one of the project's folder; an address needs its hash behind it."""
    (tmp_path / "mine").mkdir()

    assert named_runtime("mine", AMD64, tmp_path).address == str(tmp_path / "mine")
    there = named_runtime(f"https://h/p.tar.gz#sha256={SHA}", AMD64, tmp_path)
    assert (there.address, there.sha256) == ("https://h/p.tar.gz", SHA)


@pytest.mark.parametrize("place", ["https://h/p.tar.gz", "https://h/p.tar.gz#sha256=12", "nothing-here"])
def test_a_runtime_that_cannot_be_is_refused(place: str, tmp_path: Path) -> None:
    """No hash, or nothing there: said before anything is fetched."""
    with pytest.raises(FerrymanError) as caught:
        named_runtime(place, AMD64, tmp_path)
    assert caught.value.exit_code == 3


# --- update -----------------------------------------------------------------------------------------------------------

SUMS = "\n".join(
    f"{number:064x}  cpython-{name}.tar.gz"
    for number, name in enumerate(
        (
            "3.11.12+20260101-x86_64-unknown-linux-gnu-install_only", "3.11.14+20260101-x86_64-unknown-linux-gnu-install_only",
            "3.11.13+20260101-x86_64-unknown-linux-gnu-install_only", "3.9.20+20260101-x86_64-unknown-linux-gnu-install_only",
            "3.11.14+20260101-x86_64-unknown-linux-gnu-install_only_stripped", "3.11.14+20260101-riscv64-unknown-linux-gnu-install_only",
            "3.11.14+20260101-ppc64le-unknown-linux-gnu-install_only", "3.15.0a1+20260101-x86_64-unknown-linux-gnu-install_only",
            "3.11.14+20260101-i686-pc-windows-msvc-install_only", "3.11.14+20260101-aarch64-pc-windows-msvc-install_only",
            "3.14.2+20260101-x86_64-unknown-linux-gnu-freethreaded+pgo-full",
        )
    )
)  # fmt: skip


def test_release_gives_the_newest_of_each() -> None:
    """One row per minor version and target: final, install_only, and of a machine that is a target."""
    rows = rows_of_release(SUMS, "SHA256SUMS")

    assert [(one.python, one.target) for one in rows] == [
        ("3.11.14", "linux-amd64"), ("3.11.14", "windows-arm64"), ("3.11.14", "linux-riscv64"), ("3.11.14", "linux-ppc64le"),
    ]  # fmt: skip
    assert rows[0].sha256 == f"{1:064x}"
    assert rows[0].url.endswith(
        "/20260101/cpython-3.11.14%2B20260101-x86_64-unknown-linux-gnu-install_only.tar.gz"
    )


def test_archives_lie_beside_their_sums() -> None:
    """A list that came from a mirror names the mirror."""
    (first, *_) = rows_of_release(SUMS, "https://mirror/pbs/SHA256SUMS")
    assert first.url.startswith("https://mirror/pbs/cpython-")


def test_sums_of_something_else_are_refused() -> None:
    """A text without interpreters is no release."""
    with pytest.raises(FerrymanError, match="no interpreter"):
        rows_of_release("<html>", "x")


def test_update_keeps_what_is_not_its_own() -> None:
    """Rows of another origin stay, and no row becomes older."""
    ours = "python-build-standalone 1"
    rows = [
        row("3.11.1", origin="me"),
        row("3.11.2", origin=ours),
        row("3.12.9", origin=ours),
        row("3.10.1", origin=ours),
    ]
    newer = [row("3.11.5", origin=ours), row("3.12.3", origin=ours), row("3.13.0", origin=ours)]

    assert [one.python for one in updated(rows, newer)] == ["3.10.1", "3.11.1", "3.11.5", "3.12.9", "3.13.0"]


def test_update_replaces_a_candidate_by_its_release() -> None:
    """3.14.0rc3 is older than 3.14.0, and 3.14.1rc1 is not."""
    ours = "python-build-standalone 1"
    newer = [row("3.14.0", origin=ours)]

    assert [one.python for one in updated([row("3.14.0rc3", origin=ours)], newer)] == ["3.14.0"]
    assert [one.python for one in updated([row("3.14.1rc1", origin=ours)], newer)] == ["3.14.1rc1"]


def test_release_is_an_address() -> None:
    """Eight digits are a release; everything else is taken as it is."""
    assert sums_address("20250702").endswith("/20250702/SHA256SUMS")
    assert sums_address("some/file") == "some/file"


def test_head_is_kept() -> None:
    """The comment of a list stands over its rows again."""
    assert head_of("# one\n# two\n\n[[runtime]]\n# three\n") == "# one\n# two"
