"""The launcher on Windows: a tree and a one-file executable with a real CPython for Windows, run under Wine."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pefile
import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from support.launcher import Ran, eventually, finish
from support.windows_tree import CONTENTS, NAME, VERSION, assemble
from support.wine.cpython import cpython, signature_holds
from support.wine.launchers import AMD64, ARM64, build_launcher, build_payload, build_probe, build_rival
from support.wine.prefix import Windows, windows

pytestmark = pytest.mark.e2e

# 200 characters of path, of which some are Chinese and some are spaces.
LONG = "灯塔 und Fähre "
ARGUMENTS = ["灯塔 a", 'say "hi"', "", "C:\\end\\", 'a\\"b', "--ferryman", "*", "%PATH%"]
USAGE, DAMAGED, INTERPRETER, NO_PLACE = 64, 65, 70, 73


@dataclass(frozen=True)
class Made:
    """Both forms of the program on a drive C:."""

    machine: Windows
    tree: Path
    one_file: Path
    probe: Path
    rival: Path


@dataclass(frozen=True)
class Trial:
    """One test's folder on the drive, in which its cache is, and runs of the programs."""

    made: Made
    folder: Path

    @property
    def machine(self) -> Windows:
        return self.made.machine

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def environment(self) -> dict[str, str]:
        return {"FERRYMAN_CACHE": self.machine.path(self.cache)}

    def one(self, *words: str, program: Path | None = None, **how: Any) -> Ran:
        """Run the one-file executable with the test's cache."""
        how["env"] = {**self.environment, **how.get("env", {})}
        return self.machine.run(program or self.made.one_file, *words, **how)

    def trees(self) -> list[Path]:
        """The trees in the cache, whole or not."""
        program = self.cache / NAME
        return sorted(path for path in program.iterdir() if path.is_dir()) if program.is_dir() else []


def said(ran: Ran) -> Any:
    assert ran.code == 0, ran
    return json.loads(ran.out)


def refused(ran: Ran, code: int, *words: str) -> None:
    assert ran.code == code, ran
    assert ran.out == b""
    assert "Traceback" not in ran.said
    for word in words:
        assert word in ran.said


def content(folder: Path) -> dict[str, str]:
    """Every file of a tree by its path, as a digest; the marker and the launcher do not count."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".ferryman" and path.suffix != ".exe"
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("windows")
    try:
        python = cpython()
        tree = assemble(python, folder / NAME)
        running = windows()
        machine = running.__enter__()
    except UnavailableError as reason:
        pytest.skip(str(reason))
    try:
        payload = build_payload(tree, folder / "payload", VERSION)
        place = machine.drive / "programs"
        shutil.rmtree(place, ignore_errors=True)
        one_file = build_launcher(AMD64, place / f"{NAME}-one.exe", payload)
        build_launcher(AMD64, tree / f"{NAME}.exe")
        shutil.copytree(tree, place / NAME)
        probe, rival = build_probe(place / "probe.exe"), build_rival(place / "rival.dll")
        yield Made(machine, place / NAME, one_file, probe, rival)
    finally:
        running.__exit__(None, None, None)


@pytest.fixture
def trial(made: Made, request: pytest.FixtureRequest) -> Iterator[Trial]:
    folder = made.machine.drive / "tests" / hashlib.sha256(request.node.name.encode()).hexdigest()[:8]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield Trial(made, folder)
    shutil.rmtree(folder)


@pytest.fixture(params=["tree", "one file"])
def program(request: pytest.FixtureRequest, made: Made) -> Path:
    return made.one_file if request.param == "one file" else made.tree / f"{NAME}.exe"


# --- both forms -------------------------------------------------------------------------------------------------------


def test_what_the_program_sees(trial: Trial, program: Path) -> None:
    """It is the executable that was started, its modules are in the tree, and its arguments are as they were given."""
    report = said(trial.one("report", *ARGUMENTS, program=program, cwd=trial.folder))
    executable = trial.machine.path(program)
    assert report["argv"] == [executable, "report", *ARGUMENTS]
    assert (report["executable"], report["base_executable"]) == (executable, executable)
    assert (report["frozen"], report["main_file"], report["has_site"]) == (True, None, False)
    assert report["windows"] == [10, 0]  # a program without a manifest is told 6.2
    assert report["cwd"] == trial.machine.path(trial.folder)
    tree = trial.made.tree if program != trial.made.one_file else trial.trees()[0]
    contents = trial.machine.path(tree / CONTENTS)
    assert (report["prefix"], report["contents"], report["path"]) == (contents, contents, [contents])


def test_the_environment_is_left_alone(trial: Trial, program: Path) -> None:
    """The program gets what a plain interpreter gets, and PYTHON* variables do not change it."""
    env = {
        **trial.environment,
        "PYTHONHOME": "C:\\nowhere",
        "PYTHONPATH": "C:\\nowhere",
        "PYTHONOPTIMIZE": "2",
    }
    report = said(trial.one("report", program=program, env=env))
    command = "import os, json; print(json.dumps(dict(os.environ)))"
    plain = said(trial.machine.run(cpython() / "python.exe", "-E", "-c", command, env=env))
    assert report["environment"] == plain
    assert report["flags"]["optimize"] == 0


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_codes_pass_through(trial: Trial, program: Path, code: int) -> None:
    """What the program ends with is what its caller gets."""
    assert trial.one("exit", str(code), program=program).code == code


def test_an_uncaught_error_is_a_traceback(trial: Trial, program: Path) -> None:
    """With exit code 1, and lines of the program's own modules."""
    ran = trial.one("fail", program=program)
    assert ran.code == 1
    assert f'File "{NAME}/command.py"' in ran.said
    assert "RuntimeError" in ran.said


def test_standard_streams(trial: Trial, program: Path) -> None:
    """Bytes go in and come out as they are, a megabyte and all 256 of them included."""
    typed = bytes(range(256)) * 4096
    ran = trial.one("echo", program=program, typed=typed)
    assert (ran.code, ran.out == typed) == (0, True)


def test_without_a_console(trial: Trial, program: Path) -> None:
    """As a service starts it: no console, no streams, and nobody who would click a window away."""
    said_to = trial.folder / "report.json"
    detached = "import subprocess, sys; sys.exit(subprocess.Popen(sys.argv[1:], creationflags=8).wait())"
    words = [trial.machine.path(program), "write", trial.machine.path(said_to)]
    ran = trial.machine.run(cpython() / "python.exe", "-c", detached, *words, env=trial.environment)
    assert ran == Ran(code=0, out=b"", err=b"")
    assert json.loads(said_to.read_text())["streams"] == ["None", "None"]


def test_extension_modules_load_from_the_tree(trial: Trial, program: Path) -> None:
    """With the DLLs that they need: OpenSSL, libffi, SQLite."""
    found = said(trial.one("extensions", program=program))
    tree = trial.made.tree if program != trial.made.one_file else trial.trees()[0]
    contents = trial.machine.path(tree / CONTENTS)
    assert len(found) > 10
    assert {path.rpartition("\\")[0] for path in found.values()} == {contents}


def test_multiprocessing(trial: Trial, program: Path) -> None:
    """Workers are this executable again, in processes of their own."""
    answer = said(trial.one("spawn", program=program))
    assert [row[0] for row in answer["answers"]] == [0, 1, 4, 9]
    assert answer["pid"] not in {row[1] for row in answer["answers"]}
    assert {row[2] for row in answer["answers"]} == {trial.machine.path(program)}


def test_a_child_by_sys_executable(trial: Trial, program: Path) -> None:
    """It is the same program, with the arguments that it was given."""
    answer = said(trial.one("child", program=program))
    assert answer["child"]["argv"][1:] == ["report", "from its parent"]
    assert answer["child"]["pid"] != answer["pid"]


def test_asyncio(trial: Trial, program: Path) -> None:
    """Sockets in the proactor loop, and a digest from OpenSSL."""
    assert said(trial.one("client", program=program)) == {"digest": hashlib.sha256(b"tern").hexdigest()}


def test_as_an_interpreter(trial: Trial, program: Path) -> None:
    """FERRYMAN_INTERPRETER=1 makes it a plain Python of that version."""
    command = "import sys; print(sys.version_info[:2], sys.argv, hasattr(sys, 'frozen'))"
    ran = trial.one("-c", command, "a b", program=program, env={"FERRYMAN_INTERPRETER": "1"})
    assert (ran.code, ran.out.strip()) == (0, b"(3, 11) ['-c', 'a b'] False")


def test_a_long_path(trial: Trial, program: Path) -> None:
    """200 characters with spaces and Chinese letters, and with files deeper than 260."""
    folder = trial.folder
    while len(trial.machine.path(folder)) + 45 < 200:
        folder = folder / (LONG * 3)[:40].strip()
    folder = folder / ("x" * (199 - len(trial.machine.path(folder))))
    folder.mkdir(parents=True)
    assert len(trial.machine.path(folder)) >= 200
    if program == trial.made.one_file:
        moved = folder / "灯 塔.exe"
        shutil.copyfile(program, moved)
    else:
        shutil.copytree(program.parent, folder / "灯 塔")
        moved = folder / "灯 塔" / program.name
    env = {"FERRYMAN_CACHE": trial.machine.path(folder / "cache")}
    report = said(trial.machine.run(moved, "report", "灯", env=env))
    assert report["executable"] == trial.machine.path(moved)
    assert report["argv"][2:] == ["灯"]
    found = said(trial.machine.run(moved, "extensions", env=env))
    assert any(len(path) > 260 for path in found.values()) or program != trial.made.one_file
    assert said(trial.machine.run(moved, "spawn", env=env))["answers"][3][0] == 9


# --- the tree ---------------------------------------------------------------------------------------------------------


def test_an_incomplete_tree_is_explained(trial: Trial) -> None:
    """Without the launch file, and without the library: a sentence, and the code for each."""
    tree = trial.folder / "tree"
    shutil.copytree(trial.made.tree, tree)
    (tree / CONTENTS / "python311.dll").unlink()
    refused(trial.machine.run(tree / f"{NAME}.exe"), 69, "python311.dll")
    (tree / CONTENTS / "_ferryman" / "launch").unlink()
    refused(trial.machine.run(tree / f"{NAME}.exe"), INTERPRETER, "launch")


# --- the one file -----------------------------------------------------------------------------------------------------


def test_the_first_start_unpacks_and_the_second_does_not(trial: Trial) -> None:
    """The tree in the cache is the tree that was packed, file by file, and nothing of it is written again."""
    assert trial.one("exit", "0").code == 0
    (tree,) = trial.trees()
    assert content(tree) == content(trial.made.tree)
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    assert trial.one("exit", "0").code == 0
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before


def test_the_place_of_an_administrator(trial: Trial) -> None:
    r"""Under Wine every user is one: the tree is in C:\ProgramData\ferryman."""
    place = trial.machine.drive / "ProgramData" / "ferryman"
    shutil.rmtree(place, ignore_errors=True)
    ran = trial.machine.run(trial.made.one_file, "report")
    assert said(ran)["contents"].startswith(f"C:\\ProgramData\\ferryman\\{NAME}\\")
    shutil.rmtree(place)


def lowered(trial: Trial, *words: str) -> Ran:
    """The one-file executable without the rights of an administrator, and without a cache of the test's."""
    program = trial.machine.path(trial.made.one_file)
    return trial.machine.run(trial.made.probe, "lowered", program, *words)


def test_the_places_of_everybody_else(trial: Trial) -> None:
    r"""Their own folder below AppData\Local; if an administrator has unpacked that tree already, that one."""
    shared = trial.machine.drive / "ProgramData" / "ferryman"
    shutil.rmtree(shared, ignore_errors=True)
    own = said(lowered(trial, "report"))["contents"]
    assert "\\AppData\\Local\\ferryman\\cache\\" in own
    assert not shared.exists()
    assert trial.machine.run(trial.made.one_file, "exit", "0").code == 0
    assert said(lowered(trial, "report"))["contents"].startswith("C:\\ProgramData\\ferryman\\")
    shutil.rmtree(shared)
    assert said(lowered(trial, "report"))["contents"] == own
    shutil.rmtree(trial.machine.unix(own).parents[2])


def test_libraries_beside_the_executable_are_not_loaded(trial: Trial) -> None:
    """Whatever lies in the folder that somebody downloaded it to, or in the current one."""
    downloaded = trial.folder / "downloads"
    downloaded.mkdir()
    for name in ("python311.dll", "python3.dll", "vcruntime140.dll", "libssl-3.dll", "bcrypt.dll"):
        (downloaded / name).write_bytes(b"not a library")
    moved = downloaded / "tern.exe"
    shutil.copyfile(trial.made.one_file, moved)
    assert said(trial.one("extensions", program=moved, cwd=downloaded))


# What CPython and its extension modules need of System32 and of the tree. (Wine's user32 needs version.dll before the
# program begins, which nothing in the program can change; that of Windows does not.)
RIVALS = (
    "ws2_32.dll", "iphlpapi.dll", "bcrypt.dll", "crypt32.dll", "rpcrt4.dll", "vcruntime140.dll", "libffi-8.dll",
    "libssl-3.dll", "libcrypto-3.dll", "sqlite3.dll", "python3.dll", "python311.dll",
)  # fmt: skip


def test_working_libraries_beside_the_executable_are_not_loaded(trial: Trial) -> None:
    """Even such as Wine prefers to its own of that name: loading one would end the program with 77."""
    moved = trial.folder / "tern.exe"
    shutil.copyfile(trial.made.one_file, moved)
    for rival in RIVALS:
        shutil.copyfile(trial.made.rival, trial.folder / rival)
    env = {"WINEDLLOVERRIDES": ",".join(rival.removesuffix(".dll") for rival in RIVALS) + "=n,b"}
    assert len(said(trial.one("extensions", program=moved, env=env))) > 10
    for rival in RIVALS:
        at = trial.machine.path(trial.folder / rival)
        assert trial.machine.run(trial.made.probe, "load", at, "C:\\", "x", env=env).code == 77, rival


def test_what_runs_can_be_warmed(trial: Trial) -> None:
    """A service runs from the tree: its libraries are open, and `warm` seals the tree all the same."""
    running = trial.machine.start(trial.made.one_file, "wait", "600", env=trial.environment)
    assert running.stdout is not None
    assert running.stdout.readline().strip() == b"waiting"
    assert trial.one("--ferryman-cache", "warm").code == 0
    (tree,) = trial.trees()
    assert "sealed" in (tree / ".ferryman").read_text()
    running.kill()
    finish(running)


def test_a_place_of_another_is_refused(trial: Trial) -> None:
    """A cache that every user can change is no place, and the message names it."""
    trial.cache.mkdir()
    trial.cache.chmod(0o777)
    refused(trial.one("report"), NO_PLACE, trial.environment["FERRYMAN_CACHE"], "by others")
    refused(trial.one("report", env={"FERRYMAN_CACHE": "relative"}), NO_PLACE, "absolute")


def test_ten_first_starts_at_once(trial: Trial) -> None:
    """One of them unpacks; all of them run, from one tree."""
    started = [trial.machine.start(trial.made.one_file, "report", env=trial.environment) for _ in range(10)]
    reports = [said(finish(process, timeout=300)) for process in started]
    (tree,) = trial.trees()
    assert {report["contents"] for report in reports} == {trial.machine.path(tree / CONTENTS)}
    assert len({report["pid"] for report in reports}) == 10
    assert content(tree) == content(trial.made.tree)


@pytest.mark.parametrize("files", [1, 100, 300])
def test_a_kill_while_it_unpacks(trial: Trial, files: int) -> None:
    """The next start finds what is left, removes it, and works."""
    process = trial.machine.start(trial.made.one_file, "report", env=trial.environment)
    eventually(lambda: sum(len(list(tree.rglob("*"))) for tree in trial.trees()) >= files, 60)
    process.kill()
    finish(process)
    left = trial.trees()
    assert all(tree.name.startswith(".") for tree in left), "it was too late to kill it"
    assert said(trial.one("report"))["argv"][1:] == ["report"]
    (tree,) = trial.trees()
    assert content(tree) == content(trial.made.tree)


def test_control_c_while_it_unpacks(trial: Trial) -> None:
    """It ends as Windows would have ended it, and leaves no part of a tree behind."""
    process, terminal = trial.machine.start_on_terminal(trial.made.one_file, "report", env=trial.environment)
    try:
        eventually(lambda: sum(len(list(tree.rglob("*"))) for tree in trial.trees()) >= 100, 60)
        terminal.type(b"\x03")
        assert process.wait(60) == 0x3A
        assert b"argv" not in terminal.read()
        assert trial.trees() == []
    finally:
        process.kill()
        process.wait()
        terminal.close()


def test_control_c_while_it_runs(trial: Trial, program: Path) -> None:
    """It is Python's: a KeyboardInterrupt."""
    process, terminal = trial.machine.start_on_terminal(program, "wait", "600", env=trial.environment)
    try:
        eventually(lambda: b"waiting" in terminal.read(), 60)
        terminal.type(b"\x03")
        assert process.wait(60) == 0x3A
        eventually(lambda: b"KeyboardInterrupt" in terminal.read())
    finally:
        process.kill()
        process.wait()
        terminal.close()


def test_a_changed_tree_is_mended(trial: Trial) -> None:
    """`warm` compares every file, and writes again what is wrong or missing."""
    assert trial.one("exit", "0").code == 0
    (tree,) = trial.trees()
    (tree / CONTENTS / "json" / "decoder.pyc").write_bytes(b"damage")
    (tree / CONTENTS / "_ssl.pyd").unlink()
    assert trial.one("--ferryman-cache", "warm").code == 0
    assert content(tree) == content(trial.made.tree)


def test_after_another_boot_every_file_is_compared(trial: Trial) -> None:
    """Once: what the power cut took is there again, and the tree is believed from then on."""
    assert trial.one("exit", "0").code == 0
    (tree,) = trial.trees()
    marker = tree / ".ferryman"
    assert re.search(r"^boot windows-0-\d+$", marker.read_text(), re.MULTILINE)  # Wine counts no boots
    marker.write_text("ferryman 1\nboot windows-0-1\n")
    (tree / CONTENTS / "json" / "decoder.pyc").write_bytes(b"")
    assert trial.one("report").code == 0
    assert content(tree) == content(trial.made.tree)
    assert "boot windows-0-1\n" not in marker.read_text()
    after = marker.read_text(), marker.stat().st_mtime_ns
    assert trial.one("report").code == 0
    assert (marker.read_text(), marker.stat().st_mtime_ns) == after


@pytest.mark.parametrize("part", ["head", "index", "middle", "end"])
def test_a_flipped_bit_is_refused(trial: Trial, part: str) -> None:
    """Wherever it is in the payload: one sentence, exit code 65, and nothing in the cache."""
    data = bytearray(trial.made.one_file.read_bytes())
    with pefile.PE(data=bytes(data), fast_load=True) as image:
        (section,) = [found for found in image.sections if found.Name.rstrip(b"\0") == b".fman"]
        start, size = section.PointerToRawData, section.Misc_VirtualSize
    data[start + {"head": 20, "index": 400, "middle": size // 2, "end": size - 1}[part]] ^= 4
    damaged = trial.folder / "damaged.exe"
    damaged.write_bytes(data)
    refused(trial.one("report", program=damaged), DAMAGED, "damaged")
    assert trial.trees() == []


def test_the_cache_command(trial: Trial) -> None:
    """path, list and prune: what is used stays, what is not goes."""
    path = trial.one("--ferryman-cache", "path")
    assert path.code == 0
    assert trial.one("exit", "0").code == 0
    (tree,) = trial.trees()
    assert path.out.decode().strip() == trial.machine.path(tree)
    running = trial.machine.start(trial.made.one_file, "wait", "600", env=trial.environment)
    assert running.stdout is not None
    assert running.stdout.readline().strip() == b"waiting"
    listed = trial.one("--ferryman-cache", "list").out.decode()
    assert trial.machine.path(tree) in listed
    assert "running" in listed
    assert trial.one("--ferryman-cache", "prune", "0").code == 0
    assert trial.trees() == [tree]
    running.kill()
    finish(running)
    assert trial.one("--ferryman-cache", "prune", "0").code == 0
    assert trial.trees() == []
    refused(trial.one("--ferryman-cache", "nonsense"), USAGE, "nonsense")


# --- signatures and formats -------------------------------------------------------------------------------------------


def test_a_signed_executable_runs(trial: Trial, tmp_path: Path) -> None:
    """Authenticode over the finished executable: it runs, the signature holds, and it covers the payload."""
    if shutil.which("osslsigncode") is None or shutil.which("openssl") is None:
        pytest.skip("osslsigncode or openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Ferryman test", "-days", "2",
         "-addext", "extendedKeyUsage=codeSigning", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    signed = trial.folder / "signed.exe"
    subprocess.run(
        ["osslsigncode", "sign", "-certs", certificate, "-key", key, "-h", "sha256", "-in", trial.made.one_file,
         "-out", signed],
        check=True, capture_output=True,
    )  # fmt: skip
    assert signature_holds(signed)
    assert not signature_holds(trial.made.one_file)
    assert said(trial.one("report", program=signed))["executable"] == trial.machine.path(signed)
    data = bytearray(signed.read_bytes())
    data[data.index(b"FERRYMAN\x01\0\0\0") + 500] ^= 1
    broken = tmp_path / "broken.exe"
    broken.write_bytes(data)
    assert not signature_holds(broken)


def manifest(image: pefile.PE) -> bytes:
    """What Windows finds when it looks for a program's manifest: kind 24, name 1."""
    (kind,) = [entry for entry in image.DIRECTORY_ENTRY_RESOURCE.entries if entry.id == 24]
    (name,) = [entry for entry in kind.directory.entries if entry.id == 1]
    (language,) = name.directory.entries
    data: bytes = image.get_data(language.data.struct.OffsetToData, language.data.struct.Size)
    return data


@pytest.mark.parametrize(("target", "machine"), [(AMD64, 0x8664), (ARM64, 0xAA64)])
def test_the_format(made: Made, tmp_path: Path, target: str, machine: int) -> None:
    """A console program of that machine with the payload as a read-only section, which imports nothing but Windows.

    The one for arm64 is looked at and has never been run.
    """
    payload = tmp_path / "payload"
    payload.write_bytes(b"FERRYMAN" + bytes(5000))
    output = build_launcher(target, tmp_path / "launcher.exe", payload)
    with pefile.PE(str(output)) as image:
        (section,) = [found for found in image.sections if found.Name.rstrip(b"\0") == b".fman"]
        imported = {entry.dll.decode().lower() for entry in image.DIRECTORY_ENTRY_IMPORT}
        assert image.FILE_HEADER.Machine == machine
        assert b"longPathAware" in manifest(image)
        assert image.OPTIONAL_HEADER.Subsystem == 3
        assert section.get_data()[:5008] == payload.read_bytes()
        assert section.Characteristics & 0xF0000000 == 0x40000000
    system = {"kernel32.dll", "advapi32.dll", "shell32.dll", "ucrtbase.dll"}
    assert {name for name in imported if not name.startswith("api-ms-win-crt-")} <= system
