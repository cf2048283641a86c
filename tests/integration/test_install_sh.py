"""install.sh for real: under three shells, with what few programs a machine has, against a server that misbehaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from ferryman_build.targets import host_target
from support.installer import SHELLS, Machine, climb, kill_at, kill_group, need, script, shell_missing
from support.site_factory import Published, program, publish, sign_as
from support.site_server import Fault, SiteServer, serving

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="the machines of these tests have Linux's programs"),
]

LINUX = ("linux-amd64", "linux-arm64", "linux-amd64-musl", "linux-armv7")
EXPIRED = datetime(2024, 3, 1, tzinfo=UTC)


def target() -> str:
    return host_target().id


def artifact(version: str = "1.0.0") -> str:
    return f"lantern-{version}-{target()}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SiteServer]:
    (tmp_path / "public").mkdir()
    with serving(tmp_path / "public") as running:
        yield running


@pytest.fixture
def site(server: SiteServer) -> Published:
    return publish(server.root, server.url, targets=tuple({*LINUX, target()}))


@pytest.fixture
def bare(tmp_path: Path, site: Published) -> Machine:
    """A machine without a verifier and without a downloader, until a test says what it has."""
    need("dash")
    (tmp_path / "a machine").mkdir()
    return Machine(folder=tmp_path / "a machine", installer=site.root / "install.sh").having()


@pytest.fixture
def machine(bare: Machine) -> Machine:
    """One with curl and minisign."""
    need("curl", "minisign")
    return bare.having("curl", "minisign")


def upgrade(site: Published, version: str = "2.0.0", **changes: object) -> None:
    """The channel offers the next version."""
    site.offer("stable", version, site.add_version(version), **changes)


def receipt(machine: Machine) -> dict[str, object]:
    found: dict[str, object] = json.loads((machine.lib / "current" / "install-receipt.json").read_text())
    return found


# ---- what it does ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verifier", ["minisign", "openssl", "python3", "none"])
@pytest.mark.parametrize("shell", SHELLS)
def test_installs_verified_under_each_shell_with_each_verifier(
    bare: Machine, server: SiteServer, shell: str, verifier: str
) -> None:
    """One call installs a program that runs; the receipt says what was checked and how; a second call does nothing."""
    need("curl", SHELLS[shell][0], *(() if verifier in ("none", "python3") else (verifier,)))
    machine = bare.having("curl", *(() if verifier == "none" else (verifier,))).under(shell)

    said = machine.install()

    assert machine.says() == "lantern 1.0.0"
    assert f"lantern 1.0.0 is installed: {machine.link}" in said
    made = receipt(machine)
    assert made["verified-by"] == ("hash in the script" if verifier == "none" else verifier)
    assert (made["version"], made["channel"], made["target"]) == ("1.0.0", "stable", target())
    assert str(made["url"]).endswith(f"/artifacts/lantern-agent/1.0.0/{artifact()}")
    assert made["files"] == {"lantern": made["sha256"]}
    server.requests.clear()
    assert "installed already" in machine.install()
    assert not [path for path in server.paths() if path.startswith("/artifacts")]
    assert (machine.versions(), machine.leftovers()) == (["1.0.0"], [])


@pytest.mark.parametrize("downloader", ["curl", "wget", "busybox-wget"])
@pytest.mark.parametrize("shell", SHELLS)
def test_each_downloader_will_do(bare: Machine, shell: str, downloader: str) -> None:
    """curl, GNU's wget or busybox's: each alone is enough, also to go on after a connection that was cut."""
    need(downloader.removeprefix("busybox-"), "busybox", "openssl", SHELLS[shell][0])
    machine = bare.having(downloader, "openssl").under(shell)

    machine.install()

    assert machine.says() == "lantern 1.0.0"


def test_a_machine_of_nothing_but_busybox_is_served(bare: Machine) -> None:
    """With busybox for everything the installer uses the hash that it brings, and swaps the link in one step."""
    need("busybox")
    machine = bare.having("busybox-wget", coreutils="busybox").under("ash")
    machine.install()

    machine.install("--kind", "archive")

    assert machine.says() == "lantern 1.0.0"
    assert receipt(machine)["kind"] == "archive"
    assert (machine.lib / "current" / "_internal" / "part one.txt").read_text() == "a part\n"


def test_an_upgrade_keeps_the_version_before(machine: Machine, site: Published) -> None:
    """After three versions the newest runs, the one before lies beside it, and the first is gone."""
    for version in ("2.0.0", "3.0.0"):
        machine.install()
        upgrade(site, version)

    machine.install()

    assert machine.says() == "lantern 3.0.0"
    assert machine.versions() == ["2.0.0", "3.0.0"]
    assert (machine.lib / "previous").readlink().name == "2.0.0"
    assert machine.link.readlink() == machine.lib / "current" / "lantern"


def test_a_folder_without_its_program_is_mended(machine: Machine) -> None:
    """An installation that somebody has damaged is put right by the next call."""
    machine.install()
    (machine.lib / "current" / "lantern").write_text("#!/bin/sh\necho damaged\n")

    machine.install()

    assert machine.says() == "lantern 1.0.0"
    assert len(machine.versions()) == 1


def test_kind_and_channel_hold_until_something_else_is_said(machine: Machine, site: Published) -> None:
    """A machine on another channel, with a folder instead of a file, stays there with the next plain call."""
    site.offer("beta", "1.5.0", site.add_version("1.5.0"))
    machine.install("--channel", "beta", "--kind=archive")

    machine.install()

    assert (receipt(machine)["channel"], receipt(machine)["kind"]) == ("beta", "archive")
    machine.install("--channel", "stable", "--kind", "executable")
    assert machine.says() == "lantern 1.0.0"


def test_a_version_can_be_named(machine: Machine, site: Published) -> None:
    """--version takes an older one, checked by that version's own signed list, and needs no download to go back."""
    machine.install()
    upgrade(site)
    machine.install()

    machine.install("--version", "1.0.0")

    assert machine.says() == "lantern 1.0.0"
    assert "--version" not in machine.install()
    assert machine.says() == "lantern 2.0.0"


def test_an_old_version_is_downloaded_by_its_signed_list(
    machine: Machine, site: Published, server: SiteServer
) -> None:
    """A first installation of a version that no channel offers any more reads SHA256SUMS and its signature."""
    upgrade(site)

    machine.install("--version", "1.0.0", "--kind", "archive")

    assert machine.says() == "lantern 1.0.0"
    assert [path.rpartition("/")[2] for path in server.paths()] == [
        "stable.signed", "SHA256SUMS", "SHA256SUMS.minisig", f"{artifact()}.tar.gz",
    ]  # fmt: skip


def test_variables_say_what_options_say(machine: Machine, site: Published) -> None:
    """For `curl | sh`, where options are in the way; an option wins over a variable."""
    upgrade(site)
    told = replace(machine, environ={"LANTERN_INSTALL_VERSION": "1.0.0"})

    told.install()

    assert told.says() == "lantern 1.0.0"
    told.install("--version", "2.0.0")
    assert told.says() == "lantern 2.0.0"


def test_the_default_places_are_those_that_users_expect(machine: Machine) -> None:
    """Nobody's root installs below HOME; --dry-run names the places and makes nothing."""
    machine.fake("id", "echo 1000\n")
    command = [arg for arg in machine.command("--dry-run") if arg not in ("--prefix", str(machine.prefix))]

    told = subprocess.run(command, env=machine.env(), capture_output=True, text=True, check=True).stdout
    machine.fake("id", "echo 0\n")
    root = subprocess.run(command, env=machine.env(), capture_output=True, text=True, check=True).stdout

    home = machine.folder / "home"
    assert (
        f"into  {home}/.local/lib/lantern-agent/versions/1.0.0, linked as {home}/.local/bin/lantern" in told
    )
    assert "into  /usr/local/lib/lantern-agent/versions/1.0.0, linked as /usr/local/bin/lantern" in root
    assert not machine.prefix.exists()
    assert not list(home.iterdir())
    assert not list(machine.folder.glob("lantern-agent-install.*"))


def test_a_mirror_serves_the_same_signatures(machine: Machine, site: Published, tmp_path: Path) -> None:
    """--mirror downloads from another place, also a folder; what is signed there has to be the same."""
    mirror = tmp_path / "a mirror"
    shutil.copytree(site.root, mirror)
    with serving(mirror) as other:
        machine.install("--mirror", other.url)
        assert len(other.requests) == 2
    assert machine.says() == "lantern 1.0.0"
    machine.install("--uninstall")

    machine.install("--mirror", mirror.as_uri().replace("%20", " "))

    assert machine.says() == "lantern 1.0.0"


def test_a_proxy_is_used_whichever_way_its_variable_is_spelled(
    bare: Machine, site: Published, tmp_path: Path
) -> None:
    """HTTP_PROXY in capitals, which curl and wget do not read, is handed on to them."""
    need("curl", "wget", "minisign")
    with serving(site.root) as proxy:
        for downloader in ("curl", "wget"):
            behind = replace(bare, environ={"HTTP_PROXY": proxy.url}).having(downloader, "minisign")
            behind.install("--mirror", "http://releases.example.invalid")
            assert behind.says() == "lantern 1.0.0"
            behind.install("--uninstall")
        assert len(proxy.requests) == 4


def test_uninstalling_leaves_nothing_and_can_be_repeated(machine: Machine, site: Published) -> None:
    """The link, all versions and every note are gone; a second call says that there is nothing."""
    machine.install()
    upgrade(site)
    machine.install()

    machine.install("--uninstall")

    assert [path.name for path in sorted(machine.prefix.rglob("*"))] == ["bin", "lib"]
    assert "is not installed" in machine.install("--uninstall")


def test_uninstalling_touches_no_link_of_somebody_else(machine: Machine) -> None:
    """A file under the program's name that does not come from here stays."""
    machine.install()
    machine.link.unlink()
    machine.link.write_text("somebody's")

    machine.install("--uninstall")

    assert machine.link.read_text() == "somebody's"


def test_what_is_in_the_way_stays_unless_forced(machine: Machine) -> None:
    """A program of another origin is not replaced without being told to."""
    machine.link.parent.mkdir(parents=True)
    machine.link.write_text("somebody's")

    assert "in the way" in machine.refuse(12)
    assert machine.link.read_text() == "somebody's"
    machine.install("--force")
    assert machine.says() == "lantern 1.0.0"


def test_root_installs_for_everyone(machine: Machine) -> None:
    """Under a careful umask root's installation can still be run by others."""
    machine.fake("id", "echo 0\n")
    strict = script(machine.folder / "strict", f'umask 077\nexec {machine.installer} "$@"\n')
    machine.installer.chmod(0o755)

    replace(machine, installer=strict).install()

    for path in (
        machine.lib,
        machine.lib / "versions",
        machine.lib / "current",
        machine.lib / "current" / "lantern",
    ):
        assert path.stat().st_mode & 0o5 == 0o5, path


# ---- what it refuses -------------------------------------------------------------------------------------------------


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(bytes(data))


def pointer_file(site: Published) -> Path:
    return site.root / "channels" / "stable.signed"


def sums_file(site: Published, suffix: str = "") -> Path:
    return site.root / "artifacts" / site.name / "1.0.0" / f"SHA256SUMS{suffix}"


def _other_key(site: Published) -> None:
    signature = sign_as("somebody else")(pointer_file(site).read_bytes().split(b"\n", 4)[4])
    pointer_file(site).write_bytes(signature + pointer_file(site).read_bytes().split(b"\n", 4)[4])


def _comment(site: Published) -> None:
    pointer_file(site).write_bytes(
        pointer_file(site).read_bytes().replace(b"comment: a test\n", b"comment: a text\n")
    )


def _other_channel(site: Published) -> None:
    site.offer("beta", "1.0.0", site.channels["stable"].files)
    shutil.copy(site.root / "channels" / "beta.signed", pointer_file(site))


def _other_name(site: Published) -> None:
    replace(site, name="candle-agent").write()


def _longer(site: Published) -> None:
    path = sums_file(site).parent / artifact()
    path.write_bytes(path.read_bytes() + b"echo more\n")


def _expired(site: Published) -> None:
    site.offer("stable", "1.0.0", site.channels["stable"].files, expires="2024-03-01T00:00:00Z")


TAMPERED: dict[str, tuple[Callable[[Published], None], int]] = {
    "pointer's payload": (lambda site: flip(pointer_file(site), -2), 7),
    "pointer's signature": (lambda site: flip(pointer_file(site), 60), 7),
    "pointer's comment": (_comment, 7),
    "pointer of another key": (_other_key, 7),
    "pointer of another channel": (_other_channel, 7),
    "pointer of another program": (_other_name, 7),
    "pointer without a signature": (lambda site: pointer_file(site).write_bytes(b"\n" * 4), 7),
    "pointer expired": (_expired, 8),
    "artifact": (lambda site: flip(sums_file(site).parent / artifact(), -2), 7),
    "artifact longer": (_longer, 7),
}


@pytest.mark.parametrize("verifier", ["minisign", "openssl", "python3"])
@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_tampered_with_is_refused(bare: Machine, site: Published, what: str, verifier: str) -> None:
    """Each part that somebody on the way could change is noticed by each verifier; nothing is installed."""
    need("curl", *(() if verifier == "python3" else (verifier,)))
    machine = bare.having("curl", verifier)
    tamper, code = TAMPERED[what]
    installer = machine.folder / "install.sh"
    shutil.copy(machine.installer, installer)
    tamper(site)

    said = replace(machine, installer=installer).refuse(code)

    assert said.startswith("lantern: ")
    assert (machine.says(), machine.versions()) == ("", [])


SUMS_TAMPERED: dict[str, Callable[[Published], None]] = {
    "list": lambda site: flip(sums_file(site), 3),
    "signature": lambda site: flip(sums_file(site, ".minisig"), 60),
    "comment": lambda site: flip(sums_file(site, ".minisig"), 150),
    "another version's": lambda site: [
        shutil.copy(sums_file(site).parent.parent / "2.0.0" / name, sums_file(site).parent)
        for name in ("SHA256SUMS", "SHA256SUMS.minisig")
    ] and None,
}  # fmt: skip


@pytest.mark.parametrize("verifier", ["minisign", "openssl", "python3"])
@pytest.mark.parametrize("what", SUMS_TAMPERED)
def test_a_list_that_was_tampered_with_is_refused(
    bare: Machine, site: Published, what: str, verifier: str
) -> None:
    """So is the list of a named version, also when it is a genuine list of another one."""
    need("curl", *(() if verifier == "python3" else (verifier,)))
    upgrade(site)
    SUMS_TAMPERED[what](site)

    bare.having("curl", verifier).refuse(7, "--version", "1.0.0")

    assert bare.versions() == []


def test_without_a_verifier_the_hash_decides(bare: Machine, site: Published, server: SiteServer) -> None:
    """Where no signature can be checked, only what the script knows by hash is installed, and only while that is fresh."""
    need("curl")
    machine = bare.having("curl")
    upgrade(site)

    assert "OpenSSL 3" in machine.refuse(6, "--version", "1.0.0")
    assert "no channel beta" in machine.refuse(6, "--channel", "beta")
    flip(site.root / "artifacts" / site.name / "2.0.0" / artifact("2.0.0"), -2)
    assert "not the file" in machine.refuse(7)
    _expired(site)
    assert "has expired" in machine.refuse(8)
    assert not [path for path in server.paths() if path.endswith(".signed")]


def test_nothing_is_installed_where_nothing_can_hash(bare: Machine) -> None:
    """Without any program for SHA-256 the installer stops and says what is missing."""
    need("curl")
    machine = bare.having("curl")
    (machine.programs / "sha256sum").unlink()

    assert "SHA-256" in machine.refuse(4)
    assert machine.versions() == []


@pytest.mark.parametrize("verifier", ["minisign", "openssl", "python3"])
def test_a_program_that_says_yes_to_everything_is_no_verifier(bare: Machine, verifier: str) -> None:
    """A verifier has to refuse a wrong signature before its yes counts; one that cannot is passed over."""
    need("curl")
    machine = bare.having("curl")
    machine.fake(verifier, "exit 0\n")

    machine.install()

    assert receipt(machine)["verified-by"] == "hash in the script"


def test_without_a_downloader_it_says_so(bare: Machine) -> None:
    """Neither curl nor wget: exit code 4."""
    assert "neither curl nor wget" in bare.having().refuse(4)


def test_withdrawn_versions_need_insistence(machine: Machine, site: Published) -> None:
    """A yanked version is refused by name, and taken with --allow-yanked."""
    upgrade(site)
    site.yank("stable", "1.0.0")

    assert "withdrawn" in machine.refuse(9, "--version", "1.0.0")
    machine.install("--version", "1.0.0", "--allow-yanked")
    assert machine.says() == "lantern 1.0.0"


def test_an_old_pointer_is_no_way_back(machine: Machine, site: Published) -> None:
    """What was signed earlier is refused on a machine that has seen later; a rollback that is signed later is followed."""
    old = pointer_file(site).read_bytes()
    upgrade(site)
    machine.install()
    new = pointer_file(site).read_bytes()
    pointer_file(site).write_bytes(old)

    assert "seen newer" in machine.refuse(8)
    assert machine.says() == "lantern 2.0.0"
    pointer_file(site).write_bytes(new)
    site.offer("stable", "1.0.0", site.channels["stable"].files and _files(site, "1.0.0"))
    machine.install()
    assert machine.says() == "lantern 1.0.0"


def _files(site: Published, version: str) -> tuple[object, ...]:
    folder = site.root / "artifacts" / site.name / version
    return tuple(
        msgspec.structs.replace(
            row, path=f"{site.name}/{version}/{name}", size=(folder / name).stat().st_size, sha256=sha256
        )
        for row in site.channels["stable"].files
        for sha256, name in (line.split() for line in (folder / "SHA256SUMS").read_text().splitlines())
        if name == row.file_name.replace("2.0.0", version)
    )


def test_a_wrong_clock_is_named(machine: Machine) -> None:
    """A clock from before the release cannot say whether something has expired."""
    machine.fake("date", "echo 1970-01-01T00:00:07Z\n")

    assert "clock" in machine.refuse(8)


def test_what_does_not_exist_is_named(machine: Machine) -> None:
    """A channel or a version that there is not: exit code 14, and no retry."""
    assert "no channel nightly" in machine.refuse(14, "--channel", "nightly")
    assert "no version 9.9.9" in machine.refuse(14, "--version", "9.9.9")


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (("--colour",), "no option --colour"),
        (("--version",), "--version needs a value"),
        (("--version", "../../1.0.0"), "letters, digits"),
        (("--version", "..",), "does not begin with a dot"),
        (("--kind", "msi"), "no kind msi"),
        (("--mirror", "somewhere"), "no URL"),
    ],
)  # fmt: skip
def test_slips_on_the_command_line_have_their_sentence(
    machine: Machine, args: tuple[str, ...], what: str
) -> None:
    """Exit code 2, before anything is asked or made."""
    assert what in machine.refuse(2, *args)
    assert not machine.prefix.exists()


def test_help_needs_nothing(bare: Machine) -> None:
    """--help works on a machine without any program and lists the exit codes."""
    shutil.rmtree(bare.programs)
    bare.programs.mkdir()
    (bare.programs / "cat").symlink_to(shutil.which("cat") or "")

    done = bare.run("--help")

    assert (done.returncode, "Exit codes:" in done.stdout) == (0, True)


# ---- which machine it is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "machine_name", "bits", "libc", "expected"),
    [
        ("Linux", "x86_64", "64", "glibc 2.36", "linux-amd64"),
        ("Linux", "aarch64", "64", "glibc 2.31", "linux-arm64"),
        ("Linux", "x86_64", "32", "glibc 2.36", "linux-386"),
        ("Linux", "aarch64", "32", "glibc 2.36", "linux-armv7"),
        ("Linux", "armv8l", "32", "glibc 2.36", "linux-armv7"),
        ("Linux", "x86_64", "64", "musl", "linux-amd64-musl"),
        ("Linux", "i686", "32", "glibc 2.36", "linux-i686"),
        ("Darwin", "arm64", "", "", "darwin-arm64"),
        ("Darwin", "x86_64", "", "rosetta", "darwin-arm64"),
    ],
)
@pytest.mark.parametrize("shell", SHELLS)
def test_the_target_is_that_of_the_programs(
    machine: Machine,
    site: Published,
    shell: str,
    system: str,
    machine_name: str,
    bits: str,
    libc: str,
    expected: str,
) -> None:
    """OS, architecture and libc make the target; where programs have less bits than the kernel, theirs count."""
    need(SHELLS[shell][0])
    machine.fake("uname", f'[ "$1" = -s ] && echo {system} || echo {machine_name}\n')
    machine.fake("getconf", f'case $1 in LONG_BIT) echo {bits};; *) echo "{libc}";; esac\n')
    if libc == "musl":
        machine.fake("getconf", '[ "$1" = LONG_BIT ] && echo 64 || exit 1\n')
        machine.fake("ldd", "printf 'musl libc (x86_64)\\nVersion 1.2.4\\n' >&2; exit 1\n")
    machine.fake("sysctl", "echo 1\n" if libc == "rosetta" else "exit 1\n")
    machine.fake("sw_vers", "echo 14.1\n")
    there = {row.target for row in site.channels["stable"].files}

    if expected in there:
        assert f"(executable for {expected})" in machine.under(shell).install("--dry-run")
    else:
        assert f"which is {expected}" in machine.under(shell).refuse(3, "--dry-run")


def test_without_getconf_the_word_size_is_read_from_a_program(machine: Machine) -> None:
    """The class in the ELF header of a running program says 64 or 32 bits; ldd says which libc."""
    machine.fake("ldd", "printf 'ldd (GNU libc) 2.36\\nCopyright\\n'\n")

    assert f"for {target()})" in machine.install("--dry-run")

    machine.fake("tr", "echo a\n")
    assert f"for {target()})" not in machine.run("--dry-run").stdout


def test_a_floor_is_checked_before_the_download(machine: Machine, server: SiteServer) -> None:
    """An older libc than the artifact needs is named, with both versions, and nothing is downloaded."""
    machine.fake("getconf", '[ "$1" = LONG_BIT ] && echo 64 || echo glibc 2.12\n')

    assert "needs glibc 2.17 or newer, and this machine has 2.12" in machine.refuse(3)
    assert server.paths() == ["/channels/stable.signed"]


def test_a_processor_that_is_not_served_is_told_what_there_is(machine: Machine) -> None:
    """Exit code 3, with the targets that the version has."""
    machine.fake("uname", '[ "$1" = -s ] && echo Linux || echo riscv64\n')

    assert "linux-arm64 (executable)" in machine.refuse(3)
    machine.fake("uname", "echo MINGW64_NT-10.0\n")
    assert "install.ps1" in machine.refuse(3)


# ---- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("downloader", ["curl", "wget", "busybox-wget"])
def test_a_download_that_was_cut_goes_on(bare: Machine, server: SiteServer, downloader: str) -> None:
    """The rest is asked for, and the whole is checked."""
    need(downloader.removeprefix("busybox-"), "busybox", "openssl")
    server.faults[artifact()] = Fault(cut=1000, times=1)
    machine = bare.having(downloader, "openssl")

    machine.install()

    assert machine.says() == "lantern 1.0.0"
    asked = [wanted for _method, path, wanted in server.requests if path.endswith(artifact())]
    assert asked == ["", "bytes=1000-"]


@pytest.mark.parametrize("downloader", ["curl", "wget", "busybox-wget"])
def test_a_server_without_ranges_is_asked_for_the_whole(
    bare: Machine, server: SiteServer, downloader: str
) -> None:
    """A server that begins again at every request still delivers in the end."""
    need(downloader.removeprefix("busybox-"), "busybox", "openssl")
    machine = bare.having(downloader, "openssl")
    fault = Fault(cut=1000, times=1, ranges=False)
    server.faults = {artifact(): fault}
    machine.run()
    server.faults = {artifact(): Fault(ranges=False)}

    machine.install()

    assert machine.says() == "lantern 1.0.0"


def test_a_download_that_never_ends_well_is_an_error_and_goes_on_next_time(
    machine: Machine, site: Published, server: SiteServer
) -> None:
    """After some attempts the old version still runs, and the next call does not begin at the first byte."""
    machine.install()
    upgrade(site)
    server.faults[artifact("2.0.0")] = Fault(cut=400)

    assert "goes on where it stopped" in machine.refuse(5)
    assert machine.says() == "lantern 1.0.0"
    server.faults.clear()
    server.requests.clear()
    machine.install()
    assert machine.says() == "lantern 2.0.0"
    assert server.requests[-1][2].startswith("bytes=")
    assert machine.leftovers() == []


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_in_trouble_is_asked_again(machine: Machine, server: SiteServer, status: int) -> None:
    """Two errors in a row are survived, three are not."""
    server.faults["stable.signed"] = Fault(status=status, times=2)
    machine.install()
    machine.install("--uninstall")
    server.faults["stable.signed"] = Fault(status=status)

    assert str(status) in machine.refuse(5)


def test_an_endless_answer_does_not_fill_the_disk(machine: Machine, site: Published) -> None:
    """A pointer of more than a megabyte is cut off by the installer."""
    pointer_file(site).write_bytes(pointer_file(site).read_bytes() + b"x" * (1 << 23))

    machine.refuse(5)

    assert sum(path.stat().st_size for path in machine.prefix.rglob("*") if path.is_file()) < 1 << 20


def test_a_version_that_does_not_run_is_taken_back(machine: Machine, site: Published) -> None:
    """The one before stays in place, and what the program said is shown; the next good version is installed."""
    machine.install()
    site.offer("stable", "2.0.0", site.add_version("2.0.0", fails=True))

    assert "it cannot start" in machine.refuse(13)
    assert (machine.says(), machine.versions()) == ("lantern 1.0.0", ["1.0.0"])
    upgrade(site, "3.0.0")
    machine.install()
    assert machine.says() == "lantern 3.0.0"


def test_a_version_that_runs_only_beside_the_link_is_taken_back(machine: Machine, site: Published) -> None:
    """The check is made through the link as well: what fails there is undone."""
    machine.install()
    picky = b"#!/bin/sh\ncase $0 in */versions/*) echo fine;; *) echo 'not like this' >&2; exit 4;; esac\n"
    site.offer("stable", "2.0.0", site.add_version("2.0.0", contents={artifact("2.0.0"): picky}))

    assert "not like this" in machine.refuse(13)
    assert machine.says() == "lantern 1.0.0"
    assert (machine.lib / "current").readlink() == Path("versions/1.0.0")


def test_killed_in_the_middle_of_a_download_it_goes_on(
    machine: Machine, site: Published, server: SiteServer
) -> None:
    """SIGKILL while the bytes arrive: the old version runs, and the next call asks for the rest."""
    machine.install()
    upgrade(site)
    fault = server.faults[artifact("2.0.0")] = Fault(cut=1500, wait=True)
    running = machine.start()
    assert fault.reached.wait(60)
    kill_group(running)
    server.faults.clear()
    server.requests.clear()

    assert machine.says() == "lantern 1.0.0"
    machine.install()

    assert machine.says() == "lantern 2.0.0"
    assert machine.leftovers() == []


def test_killed_at_any_change_the_old_one_runs_and_the_next_call_finishes(
    machine: Machine, site: Published
) -> None:
    """SIGKILL before each command that changes a file: what runs is one version or the other, and a rerun completes."""
    assert climb(machine, site, ("curl", "minisign")) > 10


def test_killed_while_it_uninstalls_the_next_call_finishes(machine: Machine) -> None:
    """A removal that was interrupted anywhere is completed by another."""
    machine.install()
    whole = machine.folder / "whole"
    shutil.copytree(machine.prefix, whole, symlinks=True)
    for number in range(1, 20):
        shutil.rmtree(machine.prefix)
        shutil.copytree(whole, machine.prefix, symlinks=True)
        kill_at(machine.having("curl", "minisign"), number)
        running = machine.start("--uninstall")
        running.communicate(timeout=60)
        machine.having("curl", "minisign").install("--uninstall")
        assert [path.name for path in sorted(machine.prefix.rglob("*"))] == ["bin", "lib"]
        if running.returncode == 0:
            return
    pytest.fail("the removal never came to its end")


@pytest.mark.parametrize("locking", ["flock", "folder"])
def test_two_at_once_do_not_meet(bare: Machine, site: Published, server: SiteServer, locking: str) -> None:
    """While one works the other says so and ends; the first finishes."""
    need("curl", "minisign", *(["flock"] if locking == "flock" else []))
    machine = bare.having("curl", "minisign", *(["flock"] if locking == "flock" else []))
    fault = server.faults[artifact()] = Fault(cut=1500, wait=True, times=1)
    running = machine.start()
    assert fault.reached.wait(60)

    assert "Another installation" in machine.refuse(11)
    fault.release()
    said, _ = running.communicate(timeout=60)

    assert running.returncode == 0, said
    assert machine.says() == "lantern 1.0.0"


def test_the_lock_of_a_dead_process_is_taken_over(machine: Machine) -> None:
    """Without flock, a holder that does not live any more holds nothing."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    (machine.lib / ".lock.d").mkdir(parents=True)
    (machine.lib / ".lock.d" / "pid").write_text(f"{dead.pid}\n")

    machine.install()

    assert machine.leftovers() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_leaves_the_old_version(machine: Machine, site: Published, tmp_path: Path) -> None:
    """No space: exit code 10, what was installed runs, nothing half is left on the disk; with space it goes on."""
    machine.prefix.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1536k", "none", machine.prefix], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        machine.install()
        big = program("lantern", "2.0.0") + b"#" * (1 << 20)
        site.offer("stable", "2.0.0", site.add_version("2.0.0", contents={artifact("2.0.0"): big}))
        said = machine.refuse(10)
        assert "kB free" in said
        machine.fake("df", "exit 1\n")  # it does not say how much there is: the download finds out
        filler = machine.prefix / "filler"
        filler.write_bytes(b"x" * (1 << 20))
        machine.refuse(5)
        assert machine.says() == "lantern 1.0.0"
        filler.unlink()
        machine.install()
        assert machine.says() == "lantern 2.0.0"
    finally:
        subprocess.run(["umount", machine.prefix], check=True)


def test_a_folder_without_permission_is_named(machine: Machine) -> None:
    """Exit code 10 where the prefix cannot be written, with the way out."""
    machine.prefix.parent.joinpath("file").write_text("")

    assert "--prefix" in machine.refuse(10, "--prefix", str(machine.folder / "file"))


@pytest.mark.parametrize("shell", SHELLS)
def test_half_of_the_script_does_nothing(machine: Machine, shell: str) -> None:
    """A download of the script that was cut anywhere, also in its last line, changes nothing."""
    if shell_missing(shell):
        pytest.skip(shell_missing(shell))
    whole = machine.installer.read_bytes().rstrip(b"\n")
    cuts = [*range(0, len(whole), 1499), *range(len(whole) - 40, len(whole))]
    for cut in cuts:
        half = machine.folder / "half.sh"
        half.write_bytes(whole[:cut])
        replace(machine, installer=half, shell=shell).run()
        assert not machine.prefix.exists(), whole[cut - 40 : cut]


def test_piped_into_a_shell_it_takes_its_options(machine: Machine) -> None:
    """`curl | sh -s -- --quiet`: the script is standard input, and no program of the installer reads on in it."""
    done = subprocess.run(
        [shutil.which("dash") or "dash", "-s", "--", "--quiet", "--prefix", machine.prefix],
        input=machine.installer.read_text(), env=machine.env(), capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.says() == "lantern 1.0.0"


def test_shellcheck_has_no_objection(site: Published) -> None:
    """As POSIX sh, with every check that is on by default."""
    need("shellcheck")

    done = subprocess.run(
        ["shellcheck", "--shell=sh", site.root / "install.sh"], capture_output=True, text=True, check=False
    )

    assert done.stdout == ""
