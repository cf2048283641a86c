"""The launcher's border to Windows, one function at a time, under Wine (tests/support/wine/probe.c)."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from support.launcher import Ran, eventually, finish
from support.wine.cpython import cpython
from support.wine.launchers import build_probe
from support.wine.prefix import Windows, windows

pytestmark = pytest.mark.e2e

DEEP = "\\".join(["灯 " + "d" * 40] * 8)
NAMES = {
    "plain": "plain",
    "spaces": "two words",
    "Chinese": "灯塔",
    "deeper than 260 characters": DEEP,
    "four hundred folders": "\\".join("a" * 400),
}


@dataclass(frozen=True)
class Probe:
    """The probe on a drive C:, and a folder for one test."""

    machine: Windows
    program: Path
    folder: Path

    def __call__(self, *words: str, env: dict[str, str] | None = None) -> list[str]:
        """The lines that a function answers with."""
        return lines(self.machine.run(self.program, *words, env=env))

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """A function that waits for the end of its input."""
        return self.machine.start(self.program, *words)

    def at(self, name: str = "") -> str:
        r"""C:\… of a name in the test's folder."""
        return self.machine.path(self.folder) + ("\\" + name if name else "")


def lines(ran: Ran) -> list[str]:
    assert ran.code == 0, ran
    return ran.out.decode("utf-8").replace("\r", "").splitlines()


def first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


@pytest.fixture(scope="module")
def probe_program() -> Iterator[tuple[Windows, Path]]:
    try:
        running = windows()
        machine = running.__enter__()
    except UnavailableError as reason:
        pytest.skip(str(reason))
    try:
        yield machine, build_probe(machine.drive / "probe.exe")
    finally:
        running.__exit__(None, None, None)


@pytest.fixture
def probe(probe_program: tuple[Windows, Path], request: pytest.FixtureRequest) -> Iterator[Probe]:
    machine, program = probe_program
    folder = machine.drive / "probes" / str(abs(hash(request.node.name)))
    folder.mkdir(parents=True)
    yield Probe(machine, program, folder)
    shutil.rmtree(folder)


# --- text and paths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_every_function_takes_every_name(probe: Probe, name: str) -> None:
    """Letters, spaces and length of a path make no difference to what can be done with it."""
    folder = probe.at(name)
    file, other = folder + "\\file.txt", folder + "\\other.txt"
    assert probe("folders", folder, "user") == ["yes"]
    assert probe("trusted", folder) == ["yes"]
    assert probe("write", file, "塔") == ["yes"]
    assert probe("read", file) == ["塔"]
    assert probe("touch", file) == ["yes"]
    assert probe("rename", file, other)[1:] == ["yes"]
    assert probe("list", folder) == ["other.txt", "yes"]
    assert probe("facts", other)[0].startswith("file 3 ")
    assert probe("remove", other) == ["yes"]
    assert probe("remove_tree", probe.at(name.split("\\", maxsplit=1)[0])) == ["yes"]
    assert probe("facts", folder)[0].startswith("missing")


@pytest.mark.parametrize(
    ("length", "folder", "form"),
    [(150, True, "plain"), (200, True, "prefixed"), (200, False, "plain"), (300, False, "prefixed")],
)
def test_python_gets_the_prefix_only_where_it_is_needed(
    probe: Probe, length: int, folder: bool, form: str
) -> None:
    r"""A path near 260 characters, or a folder with files near that below it, begins with \\?\; no other does."""
    path = probe.at()
    while len(path) < length - 101:
        path += "\\" + "x" * 90
    path += "\\" + "y" * (length - len(path) - 1)
    if folder:
        assert probe("folders", path, "user") == ["yes"]
    else:
        assert probe("folders", path.rpartition("\\")[0], "user") == ["yes"]
        assert probe("write", path, "x") == ["yes"]
    assert probe("wide", path) == [form, str(length + (4 if form == "prefixed" else 0))]


def test_variables_are_utf8_and_an_empty_one_is_none(probe: Probe) -> None:
    """What os_getenv answers."""
    env = {"LAMP": "灯 塔", "DARK": ""}
    assert [probe("getenv", name, env=env) for name in ("LAMP", "DARK", "NOTHING")] == [
        ["灯 塔"],
        ["NULL"],
        ["NULL"],
    ]


def test_a_program_without_payload_knows_where_it_is(probe: Probe) -> None:
    """Its own path, whatever letters are in it; and no payload."""
    moved = probe.folder / "灯 塔.exe"
    shutil.copyfile(probe.program, moved)
    ran = probe.machine.run(moved, "self")
    assert lines(ran) == ["yes", probe.machine.path(moved), "yes", "none"]


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_never_written_over(probe: Probe) -> None:
    """A second file of that name is refused, with the code for "no place" and the system's words."""
    file = probe.at("file")
    assert probe("write", file, "first") == ["yes"]
    refusal = probe("write", file, "second")
    assert refusal[0] == "no"
    assert refusal[1].startswith(f"73 cannot create {file}: ")
    assert probe("read", file) == ["first"]


def test_a_rename_replaces_a_file_and_no_folder(probe: Probe) -> None:
    """The second is refused at once: waiting would not help."""
    for name in ("old", "new"):
        assert probe("write", probe.at(name), name) == ["yes"]
    assert probe("rename", probe.at("new"), probe.at("old"))[1] == "yes"
    assert probe("read", probe.at("old")) == ["new"]
    assert probe("folder", probe.at("folder")) == ["yes"]
    waited, answer, *_ = probe("rename", probe.at("old"), probe.at("folder"))
    assert (answer, int(waited) < 1000) == ("no", True)


@pytest.mark.parametrize(("seconds", "answer"), [(1, "yes"), (20, "no")])
def test_a_rename_waits_for_a_scanner(probe: Probe, seconds: int, answer: str) -> None:
    """A file that somebody has just opened is renamed when it is closed, if that takes less than three seconds."""
    file = probe.at("file")
    assert probe("write", file, "x") == ["yes"]
    script = f"import time; f = open({file!r}); print('open', flush=True); time.sleep({seconds})"
    scanner = probe.machine.start(cpython() / "python.exe", "-c", script)
    assert first_line(scanner) == "open"
    waited, renamed, *_ = probe("rename", file, probe.at("other"))
    scanner.kill()
    finish(scanner)
    assert renamed == answer
    assert 100 <= int(waited) <= (3000 if answer == "yes" else 6000)


@pytest.mark.parametrize(("seconds", "answer"), [(1, "yes"), (20, "no")])
def test_a_library_waits_for_a_scanner(probe: Probe, seconds: int, answer: str) -> None:
    """The same for a library, which nobody may have open for writing while it is loaded; after two seconds."""
    shutil.copyfile(cpython() / "DLLs" / "libffi-8.dll", probe.folder / "some.dll")
    library = probe.at("some.dll")
    script = f"import time; f = open({library!r}, 'r+b'); print('open', flush=True); time.sleep({seconds})"
    scanner = probe.machine.start(cpython() / "python.exe", "-c", script)
    assert first_line(scanner) == "open"
    loaded = probe("load", library, probe.at(), "ffi_call")
    scanner.kill()
    finish(scanner)
    assert loaded[0] == answer
    assert answer == "yes" or loaded[1].startswith(f"69 cannot load {library}: ")


def test_a_tree_is_removed_with_its_read_only_files(probe: Probe) -> None:
    """What others have marked as read-only goes as well."""
    below = probe.folder / "tree" / "a" / "b"
    below.mkdir(parents=True)
    for path in (below / "file", below.parent / "file"):
        path.write_text("x")
        path.chmod(0o444)
    assert probe("remove_tree", probe.at("tree")) == ["yes"]
    assert not (probe.folder / "tree").exists()


def test_a_library_that_runs_is_seen(probe: Probe) -> None:
    """A tree whose libraries a process has loaded is in use, although nobody holds a lock; then it is not."""
    contents = probe.folder / "tree" / "_internal"
    contents.mkdir(parents=True)
    shutil.copyfile(cpython() / "DLLs" / "libffi-8.dll", contents / "libffi-8.dll")
    assert probe("in_use", probe.at("tree")) == ["no"]
    inside = probe.at("tree\\_internal")
    user = probe.start("load", inside + "\\libffi-8.dll", inside, "ffi_call")
    assert [first_line(user), first_line(user)] == ["yes", "yes"]
    assert probe("in_use", probe.at("tree")) == ["yes"]
    finish(user)
    assert probe("in_use", probe.at("tree")) == ["no"]


@pytest.mark.parametrize("name", ["library.dll", "module.pyd"])
def test_a_library_that_runs_counts_as_flushed(probe: Probe, name: str) -> None:
    """Nobody can open it for writing; what a process has loaded, Windows wrote to the disk before. Nothing else counts."""
    shutil.copyfile(cpython() / "DLLs" / "libffi-8.dll", probe.folder / name)
    user = probe.start("load", probe.at(name), probe.at(), "ffi_call")
    assert [first_line(user), first_line(user)] == ["yes", "yes"]
    assert probe("flush", probe.at(name)) == ["yes"]
    finish(user)
    assert probe("flush", probe.at(name)) == ["yes"]
    assert probe("flush", probe.at("absent.dll")) == ["no"]


def test_a_library_that_does_not_load_is_explained(probe: Probe) -> None:
    """The code for "this machine cannot run it", and the system's words."""
    answers = probe("load", probe.at("absent.dll"), probe.at(), "anything")
    assert answers[0] == "no"
    assert answers[1].startswith(f"69 cannot load {probe.at('absent.dll')}: ")


# --- places and rights ------------------------------------------------------------------------------------------------


def places(probe: Probe, *lowered: str, env: dict[str, str] | None = None) -> list[tuple[str, ...]]:
    return [tuple(line.rstrip().split("|")) for line in probe(*lowered, "places", env=env)]


def test_places_of_an_administrator(probe: Probe) -> None:
    """The machine's place first, to be written for everybody to read; then the user's, then the one that is swept."""
    found = places(probe)
    assert [(source, marks) for source, _, _, marks in found] == [
        ("ProgramData", "shared"), ("LOCALAPPDATA", ""), ("TEMP", "swept"),
    ]  # fmt: skip
    assert found[0][1] == r"C:\ProgramData\ferryman"
    assert found[1][1].endswith(r"\AppData\Local\ferryman\cache")


def test_places_of_everybody_else(probe: Probe) -> None:
    """The machine's place is read and never written; the folder among the temporary ones is named after the user."""
    found = places(probe, "lowered", str(probe.machine.path(probe.program)))
    assert [(source, marks) for source, _, _, marks in found] == [
        ("ProgramData", "readonly"), ("LOCALAPPDATA", ""), ("TEMP", "swept"),
    ]  # fmt: skip
    assert found[2][1].rpartition("\\")[2].startswith("ferryman-S-1-5-21-")


def test_the_machine_place_of_an_administrator_is_not_a_variable(probe: Probe) -> None:
    """Who starts a program with an administrator's rights does not choose where it writes; others may read there."""
    elsewhere = {"ProgramData": r"C:\elsewhere"}
    assert places(probe, env=elsewhere)[0][1] == r"C:\ProgramData\ferryman"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("C:\\Caches", "C:\\Caches"),
        ("C:/Caches/灯 塔/../x", "C:\\Caches\\灯 塔\\..\\x"),
        ("Caches", ""),
        ("\\Caches", ""),
        ("C:Caches", ""),
    ],
)
def test_the_override_is_the_only_place(probe: Probe, value: str, path: str) -> None:
    """FERRYMAN_CACHE counts alone, absolute or not; a relative one is no place, and the reason is told."""
    ((source, found, reason, marks),) = [
        tuple(line.split("|")) for line in probe("places", env={"FERRYMAN_CACHE": value})
    ]
    expected = path.replace("\\灯 塔\\..", "")  # as Windows reads it
    assert (source, found, bool(reason), marks.strip()) == ("FERRYMAN_CACHE", expected, not path, "")


@pytest.mark.parametrize("which", ["folder", "folder\\below"])
def test_a_path_that_everybody_can_change_is_not_trusted(probe: Probe, which: str) -> None:
    """The folder itself or one above it."""
    assert probe("folders", probe.at("folder\\below"), "user") == ["yes"]
    probe.folder.joinpath(*which.split("\\")).chmod(0o777)
    answers = probe("trusted", probe.at("folder\\below"))
    assert answers == ["no", f"73 {probe.at(which)} can be changed by others"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody")
def test_a_path_of_another_user_is_not_trusted(probe: Probe) -> None:
    """Also when it is the folder above."""
    assert probe("folders", probe.at("folder\\below"), "user") == ["yes"]
    os.chown(probe.folder / "folder", 12345, 12345)
    answers = probe("trusted", probe.at("folder\\below"))
    assert answers == ["no", f"73 {probe.at('folder')} belongs to another user"]


FULL = "(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
INSTALLER = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
# As a fresh Windows has them.
DRIVE_C = f"O:{INSTALLER}D:PAI(A;;LC;;;AU)(A;OICIIO;SDGXGWGR;;;AU){FULL}(A;OICI;0x1200a9;;;BU)"
PROGRAM_DATA = f"O:SYD:PAI{FULL}(A;OICIIO;GA;;;CO)(A;OICI;0x1200a9;;;BU)(A;CI;DCLCRPCR;;;BU)"
PROFILE = f"O:SYD:P{FULL}(A;OICI;FA;;;USER)"
DRIVE_D = f"O:BAD:AI{FULL}(A;OICI;0x1301bf;;;AU)(A;OICI;0x1200a9;;;BU)"
OTHERS, ANOTHER = "can be changed by others", "belongs to another user"
GUARDED_OTHERS = "can be changed by others than administrators"
GUARDED_USER = "belongs to a user, and this program has the rights of an administrator"
STRANGER = "S-1-5-21-1-2-3-513"  # the users of some domain


def lists(probe: Probe, *words: str) -> str:
    """What is wrong with an owner and an access list; USER in it is whoever runs this."""
    (user,) = probe("protection", "nothing")
    (answer,) = probe(*(word.replace("USER", user) for word in words))
    return answer


@pytest.mark.parametrize(
    ("descriptor", "above", "tree"),
    [
        (DRIVE_C, "none", OTHERS),
        (PROGRAM_DATA, "none", OTHERS),
        (PROFILE, "none", "none"),
        (DRIVE_D, OTHERS, OTHERS),
        (f"O:USERD:P{FULL}(A;OICI;FA;;;USER)", "none", "none"),
        (f"O:USERD:P{FULL}(A;OICI;0x1301bf;;;{STRANGER})", OTHERS, OTHERS),
        (f"O:USERD:P{FULL}(A;OICI;0x1301bf;;;S-1-5-21-9-9-9-1001)", OTHERS, OTHERS),
        (f"O:USERD:P{FULL}(A;OICI;0x1200a9;;;{STRANGER})", "none", "none"),
        (f"O:USERD:P{FULL}(D;OICI;FA;;;{STRANGER})", "none", "none"),
        (f"O:USERD:P{FULL}(A;OICIIO;FA;;;{STRANGER})", "none", "none"),
        (f"O:USERD:P{FULL}(A;;0x2;;;{STRANGER})", "none", OTHERS),
        (f"O:USERD:P{FULL}(A;;WD;;;{STRANGER})", OTHERS, OTHERS),
        (f"O:USERD:P{FULL}(A;OICI;FA;;;S-1-3-4)(A;OICI;FA;;;CO)", "none", "none"),
        (f"O:{INSTALLER}D:P{FULL}(A;;FA;;;{INSTALLER})", "none", "none"),
        (f"O:{STRANGER}D:P{FULL}", ANOTHER, ANOTHER),
        ("O:USER", OTHERS, OTHERS),
    ],
)  # fmt: skip
def test_who_could_change_a_folder(probe: Probe, descriptor: str, above: str, tree: str) -> None:
    """Write rights of anybody but this user and the machine's own accounts are others'; in a tree, adding counts too."""
    assert lists(probe, "danger", descriptor, "above") == above
    assert lists(probe, "danger", descriptor, "tree") == tree


@pytest.mark.parametrize(
    ("descriptor", "answer"),
    [
        (DRIVE_C, "none"),
        (DRIVE_D, "none"),
        (f"O:BAD:{FULL}(A;;FA;;;AU)", OTHERS),
    ],
)
def test_who_could_change_the_root_of_a_drive(probe: Probe, descriptor: str, answer: str) -> None:
    """Nobody can remove or rename it; who can remove what lies in it, or change its list, is somebody else."""
    assert lists(probe, "danger", descriptor, "root") == answer


@pytest.mark.parametrize(
    ("descriptor", "answer"),
    [
        (DRIVE_C, "none"),
        (PROGRAM_DATA, "none"),
        (PROFILE, GUARDED_OTHERS),
        (f"O:BAD:P{FULL}(A;OICI;0x1200a9;;;BU)", "none"),
        (f"O:BAD:P{FULL}(A;OICI;0x1200a9;;;USER)", "none"),
        (f"O:USERD:P{FULL}", GUARDED_USER),
    ],
)
def test_an_elevated_process_does_not_trust_its_user(probe: Probe, descriptor: str, answer: str) -> None:
    """Where UAC is on: the user's other programs do not have these rights, and could write there."""
    assert lists(probe, "guarded", "danger", descriptor, "above") == answer


def test_an_elevated_process_uses_no_folder_of_its_user(probe: Probe) -> None:
    """What it makes is for administrators; a folder that was there and is the user's is refused, wherever it is named."""
    assert probe("guarded", "trusted", probe.at()) == ["no", f"73 {probe.at()} {GUARDED_USER}"]
    env = {"FERRYMAN_CACHE": probe.at("cache")}
    assert places(probe, "guarded", env=env) == [("FERRYMAN_CACHE", probe.at("cache"), "", "shared")]
    found, _ = probe("guarded", "protection", "file")
    assert found == "D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;BA)"


@pytest.mark.parametrize("guarded", [True, False])
def test_variables_from_the_users_registry_are_not_believed(probe: Probe, guarded: bool) -> None:
    """By an elevated process, and only Ferryman's own: those of an administrator's shell and the machine's are."""
    env = {"FERRYMAN_PLANTED": "1", "FERRYMAN_INTERPRETER": "1", "LAMP": "on"}
    words = ("guarded",) if guarded else ()
    assert probe(*words, "getenv", "FERRYMAN_PLANTED", env=env) == ["NULL" if guarded else "1"]
    assert probe(*words, "getenv", "FERRYMAN_INTERPRETER", env=env) == ["1"]
    assert probe(*words, "getenv", "LAMP", env=env) == ["on"]


@pytest.mark.parametrize(
    ("audience", "expected"),
    [
        ("all", "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)"),
        ("user", "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;{user})"),
        ("file", "D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;{user})"),
    ],
)
def test_what_new_folders_are_protected_with(probe: Probe, audience: str, expected: str) -> None:
    """Windows accepts the three lists and reads them as they are meant; Wine itself keeps only Unix modes of them."""
    found, user = probe("protection", audience)
    assert found.replace("0x001200a9", "0x1200a9") == expected.format(user=user)


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_lock_file_is_held_by_one(probe: Probe) -> None:
    """A second process is told so, or waits; the lock ends with a process that is killed."""
    path = probe.at("x.lock")
    holder = probe.start("lock_file", path, "wait")
    assert first_line(holder) == "held"
    assert probe("lock_file", path, "no") == ["busy"]
    waiting = probe.start("lock_file", path, "wait")
    time.sleep(0.5)
    assert waiting.poll() is None
    holder.kill()
    finish(holder)
    assert first_line(waiting) == "held"
    finish(waiting)


def test_a_lock_file_that_was_removed_is_gone(probe: Probe) -> None:
    """Who waited for it is told to try again, and does not hold a file that nobody else will find."""
    path = probe.at("x.lock")
    holder = probe.start("lock_file", path, "wait")
    assert first_line(holder) == "held"
    waiting = probe.start("lock_file", path, "wait")
    time.sleep(0.5)
    (probe.folder / "x.lock").unlink()  # Windows would keep the name until the last handle is closed
    finish(holder)
    assert first_line(waiting) == "gone"
    finish(waiting)


@pytest.fixture
def tree(probe: Probe) -> str:
    """The least that can be locked."""
    launch = probe.folder / "tree" / "_internal" / "_ferryman" / "launch"
    launch.parent.mkdir(parents=True)
    launch.write_text("format 1")
    return probe.at("tree")


@pytest.mark.parametrize(
    ("first", "second", "answer"),
    [
        ("shared", "shared", "held"),
        ("shared", "exclusive", "busy"),
        ("exclusive", "shared", "busy"),
        ("exclusive", "exclusive", "busy"),
    ],
)
def test_a_tree_is_shared_or_not(probe: Probe, tree: str, first: str, second: str, answer: str) -> None:
    """Programs share a tree; who removes it has it alone. What is locked can be read all the same."""
    holder = probe.start("lock_tree", tree, first, "no")
    assert first_line(holder) == "held"
    assert probe("lock_tree", tree, second, "no") == [answer]
    assert probe("read", tree + "\\_internal\\_ferryman\\launch") == ["format 1"]
    finish(holder)
    assert probe("lock_tree", tree, second, "no") == ["held"]


def test_waiting_for_a_tree_has_an_end(probe: Probe, tree: str) -> None:
    """Whoever can read a tree can lock it; that keeps nobody from starting for long."""
    holder = probe.start("lock_tree", tree, "exclusive", "no")
    assert first_line(holder) == "held"
    start = time.monotonic()
    assert probe("lock_tree", tree, "shared", "wait") == ["busy"]
    assert 2 <= time.monotonic() - start < 20
    finish(holder)


def test_a_tree_that_is_not_there_is_gone(probe: Probe) -> None:
    """And a folder that is no tree cannot be locked."""
    (probe.folder / "empty").mkdir()
    assert probe("lock_tree", probe.at("absent"), "shared", "wait") == ["gone"]
    assert probe("lock_tree", probe.at("empty"), "shared", "wait") == ["failed"]


# --- the machine ------------------------------------------------------------------------------------------------------


def test_what_the_machine_says(probe: Probe) -> None:
    """The same boot twice, chance, free space and the time."""
    (boot, chance, free, now, where), (again, *_) = probe("machine", "C:\\"), probe("machine", "C:\\")
    assert boot.startswith("windows-0-")  # Wine counts no boots
    since_1601 = int(boot.rpartition("-")[2]) / 10**7
    assert 0 <= time.time() + 11644473600 - since_1601 < 3600  # Wine was started for this test
    assert again == boot
    assert (chance, where) == ("yes", "local")
    available = shutil.disk_usage(probe.folder).free
    assert available * 0.8 < int(free) < available * 1.2
    assert abs(int(now) - time.time()) < 60


def test_control_c_waits_for_the_end_of_the_guard(probe: Probe) -> None:
    """While guarded it is noted; then the process ends as Windows would have ended it (0xC000013A)."""
    process, terminal = probe.machine.start_on_terminal(probe.program, "guard")
    try:
        eventually(lambda: b"guarded" in terminal.read(), 30)
        terminal.type(b"\x03")
        assert process.wait(30) == 0x3A
        eventually(lambda: b"yes" in terminal.read())
        assert b"survived" not in terminal.read()
    finally:
        process.kill()
        process.wait()
        terminal.close()


def test_a_console_gets_every_letter(probe: Probe) -> None:
    """Text for a console does not pass through its code page, which has no Chinese."""
    process, terminal = probe.machine.start_on_terminal(probe.program, "getenv", "LAMP", env={"LAMP": "灯塔"})
    try:
        assert process.wait(30) == 0
        eventually(lambda: "灯塔".encode() in terminal.read())
    finally:
        process.kill()
        process.wait()
        terminal.close()
