"""tools/wheels.py: which engine is used and how, and what two folders of wheels must have in common."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from ferryman_build.cmd import Completed, Runner
from ferryman_build.errors import BuildStepError, ToolMissingError
from support.elf_factory import make_library
from support.ferryman import ROOT
from support.plover.files import ARM64, elf, macho, metadata, wheel

TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "wheels.py"))
LINUX, MACOS = "cp311-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64", "cp311-abi3-macosx_11_0_arm64"
CORE = "plover/_core.abi3.so"


# --- the engine -------------------------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """PATH with these programs and no others."""

    def have(*names: str) -> None:
        for name in names:
            (tmp_path / name).write_text("#!/bin/sh\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("FERRYMAN_ENGINE", raising=False)

    return have


@pytest.mark.parametrize(
    ("there", "asked", "before", "name"),
    [
        (["podman", "docker"], "", (), "podman"),
        (["docker"], "", (), "docker"),
        (["podman", "docker"], "docker", (), "docker"),
        (["confined", "podman"], "confined podman", ("confined",), "podman"),
        (["confined", "podman"], "confined -x 'a b' podman", ("confined", "-x", "a b"), "podman"),
    ],
)
def test_engine(
    there: list[str], asked: str, before: tuple[str, ...], name: str, programs: Any, monkeypatch: Any
) -> None:
    """FERRYMAN_ENGINE is a command line whose last word is the engine; without it podman comes first."""
    programs(*there)
    if asked:
        monkeypatch.setenv("FERRYMAN_ENGINE", asked)

    found = TOOL["find_engine"]()

    assert (found.before, found.name) == (before, name)


@pytest.mark.parametrize(
    ("there", "asked", "said"),
    [
        ([], "", "There is no container engine here"),
        (["podman"], "nerdctl", "'nerdctl' was not found"),
        (["podman"], "confined podman", "'confined' was not found"),
    ],
)
def test_no_engine(there: list[str], asked: str, said: str, programs: Any, monkeypatch: Any) -> None:
    """One sentence, exit code 4, and the way that needs no engine."""
    programs(*there)
    if asked:
        monkeypatch.setenv("FERRYMAN_ENGINE", asked)

    with pytest.raises(ToolMissingError, match=said) as missing:
        TOOL["find_engine"]()

    assert missing.value.exit_code == 4
    assert "--cross" in missing.value.advice


def test_missing_engine_ends_the_tool(programs: Any, capsys: Any) -> None:
    """The session ends with the code, not with a traceback."""
    programs()

    assert TOOL["main"]([]) == 4
    assert capsys.readouterr().err.startswith("wheels: There is no container engine here.\n")


def test_environment_is_about_the_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's own configuration of cibuildwheel holds: its environment, its tests, its way to repair."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    env = TOOL["cibuildwheel_environment"](
        tmp_path, "arm64", "localhost/x", TOOL["Engine"](("confined",), "podman")
    )

    set_here = {name for name in env if name.startswith("CIBW_")}
    assert env["CIBW_CONTAINER_ENGINE"].startswith("podman; create_args: --network=host")
    assert env["CIBW_MANYLINUX_AARCH64_IMAGE"] == "localhost/x"
    assert env["SOURCE_DATE_EPOCH"] == "1700000000"
    assert set_here == {
        "CIBW_CONTAINER_ENGINE", "CIBW_MANYLINUX_AARCH64_IMAGE", "CIBW_BUILD", "CIBW_BUILD_FRONTEND",
        "CIBW_DEPENDENCY_VERSIONS", "CIBW_AUDIT_COMMAND",
    }  # fmt: skip


def test_docker_gets_no_options_of_podman(tmp_path: Path) -> None:
    """They are podman's words."""
    env = TOOL["cibuildwheel_environment"](tmp_path, "amd64", "x", TOOL["Engine"]((), "docker"))

    assert env["CIBW_CONTAINER_ENGINE"] == "docker; disable_host_mount: true"


def test_native_is_the_projects_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI cibuildwheel works as the project says, in a copy of its sources, and the tool adds the date alone."""
    seen: dict[str, Any] = {}

    class CiBuildWheel(Runner):
        def run(self, args: Any, *, cwd: Any = None, env: Any = None, **_: Any) -> Completed:
            seen.update(
                words=[str(word) for word in args], env=env, files=[path.name for path in cwd.iterdir()]
            )
            wheel(Path(args[args.index("--output-dir") + 1]), LINUX, {CORE: elf()})
            return Completed(0, "", None)

    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "setup.py").touch()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setitem(TOOL["native"].__globals__, "OUT", tmp_path / "out")
    options = TOOL["parse"](["--native"])
    options.project = tmp_path / "project"

    folder, (made,) = TOOL["ways"](options)(options, CiBuildWheel())

    assert made.parent == folder == tmp_path / "out" / "cibuildwheel"
    assert seen["words"][1:] == ["-m", "cibuildwheel", "--archs", "native", "--output-dir", str(folder), "."]
    assert seen["files"] == ["setup.py"]
    assert seen["env"]["SOURCE_DATE_EPOCH"] == "1700000000"
    assert set(seen["env"]) - set(os.environ) == set()


# --- the comparison ---------------------------------------------------------------------------------------------------


def pair(
    tmp_path: Path, one: dict[str, bytes], other: dict[str, bytes], tags: str = LINUX, theirs: str = ""
) -> tuple[Path, Path]:
    same = {"plover/__init__.py": b"one = 1\n"}
    wheel(tmp_path / "a", tags, {**same, **one})
    wheel(tmp_path / "b", theirs or tags, {**same, **other})
    return tmp_path / "a", tmp_path / "b"


def test_equal_wheels(tmp_path: Path, capsys: Any) -> None:
    """Native bytes may differ: what a library offers and needs may not."""
    folders = pair(tmp_path, {CORE: elf()}, {CORE: elf() + b"another compiler's padding"})

    assert TOOL["compare"](*folders) == 0
    assert capsys.readouterr().out.startswith("linux-amd64 cp311-abi3: compared tags, exported symbols")


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({CORE: elf()}, {CORE: elf(needed=("libc.so.6", "libm.so.6"))}, "needs libm.so.6"),
        ({CORE: elf()}, {"plover/_core.cpython-311-x86_64-linux-gnu.so": elf()}, "plover/_core.abi3.so: "),
        ({CORE: elf(), "plover/b.py": b"1"}, {CORE: elf(), "plover/b.py": b"2"}, "plover/b.py: "),
        ({CORE: elf(), "plover/b.py": b"1"}, {CORE: elf()}, "plover/b.py: "),
        (
            {CORE: elf()},
            {CORE: elf(), "plover-1.2.0.dist-info/METADATA": metadata(more="X: y\n")},
            "METADATA: ",
        ),
    ],
)
def test_different_wheels(one: dict[str, bytes], other: dict[str, bytes], said: str, tmp_path: Path) -> None:
    """The file is named, and what each of the two has."""
    with pytest.raises(BuildStepError, match="differ") as different:
        TOOL["compare"](*pair(tmp_path, one, other))

    assert any(said in line for line in different.value.details)


def test_wheels_for_one_python_are_compared(tmp_path: Path, capsys: Any) -> None:
    """Each with the one of the same Python."""
    tags = "cp312-cp312-win_amd64"

    assert TOOL["compare"](*pair(tmp_path, {"x.txt": b"1"}, {"x.txt": b"1"}, tags)) == 0
    assert "windows-amd64 cp312-cp312: compared" in capsys.readouterr().out


def test_different_tags(tmp_path: Path) -> None:
    """A lower floor on one side is a difference: one of the two promises too much or too little."""
    folders = pair(tmp_path, {CORE: elf()}, {CORE: elf()}, theirs="cp311-abi3-manylinux_2_28_x86_64")

    with pytest.raises(BuildStepError, match="differ") as different:
        TOOL["compare"](*folders)

    assert any("tags plover" in line for line in different.value.details)


def test_nothing_to_compare(tmp_path: Path) -> None:
    """Two folders without a platform in common are no success, and neither are empty ones."""
    folders = pair(tmp_path, {CORE: elf()}, {CORE: macho()}, theirs=MACOS)
    with pytest.raises(BuildStepError, match="no platform in common"):
        TOOL["compare"](*folders)
    with pytest.raises(BuildStepError, match="no platform in common"):
        TOOL["compare"](tmp_path, tmp_path)


# --- the checks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "native", "said"),
    [
        (LINUX, elf(), []),
        (LINUX, elf(ARM64), ["plover/_core.abi3.so is ELF for arm64"] * 2),
        (LINUX, b"no library", ["no native file is in it"]),
        ("cp311-abi3-plan9_mips", elf(), ["plover/_core.abi3.so is of no platform that we know"]),
    ],
)
def test_misnamed(tags: str, native: bytes, said: list[str], tmp_path: Path) -> None:
    """A wheel whose name is not true is in the table's complaints."""
    made = wheel(tmp_path, tags, {CORE: native})

    assert list(TOOL["misnamed"](TOOL["read_wheel_file"](made))) == said


@pytest.mark.parametrize(
    ("found", "claimed", "good"),
    [
        ("manylinux_2_17_x86_64", "manylinux2014_x86_64.manylinux_2_17_x86_64", True),
        ("manylinux_2_5_x86_64", "manylinux_2_17_x86_64", True),
        ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", False),
        ("musllinux_1_2_x86_64", "manylinux_2_17_x86_64", False),
        ("linux_x86_64", "manylinux_2_17_x86_64", False),
        ("musllinux_1_2_aarch64", "musllinux_1_2_aarch64", True),
    ],
)
def test_no_newer(found: str, claimed: str, good: bool) -> None:
    """auditwheel may find that a wheel would run on older systems, never on newer ones alone."""
    assert TOOL["no_newer"](found, claimed) is good


class Says(Runner):
    """A tool that says this and ends so."""

    def __init__(self, output: str, code: int) -> None:
        super().__init__()
        self.answer = Completed(code, output, None)

    def run(self, *_: Any, **__: Any) -> Completed:
        return self.answer


@pytest.mark.parametrize(
    ("tags", "output", "code", "wrong"),
    [
        (LINUX, 'consistent with the following platform tag:\n"manylinux_2_17_x86_64".', 0, []),
        (LINUX, 'consistent with the following platform\ntag: "manylinux_2_34_x86_64".', 0, ["auditwheel: manylinux_2_34_x86_64"]),
        (LINUX, "no such thing", 1, ["auditwheel: no such thing"]),
        ("cp311-abi3-win_amd64", "The following DLLs will be copied into the wheel.\n    None\n\nThe following", 0, []),
        ("cp311-abi3-win_amd64", "will be copied into the wheel.\n    libfoo.dll\n", 0, ["delvewheel: libfoo.dll"]),
        (MACOS, "never asked", 1, []),
    ],
)  # fmt: skip
def test_auditors(tags: str, output: str, code: int, wrong: list[str], tmp_path: Path) -> None:
    """What auditwheel and delvewheel find counts; for macOS there is no such tool here."""
    made = wheel(tmp_path, tags, {CORE: elf()})
    found: list[str] = []

    TOOL["audit_platform"](made, TOOL["read_wheel_file"](made), Says(output, code), found)

    assert found == wrong


@pytest.mark.parametrize(("code", "wrong"), [(0, []), (1, ["abi3audit: 1 ABI violation"])])
def test_abi_audit(code: int, wrong: list[str], tmp_path: Path) -> None:
    """A symbol outside of the stable ABI fails the wheel."""
    found: list[str] = []

    TOOL["audit_abi"](wheel(tmp_path, LINUX, {}), Says("x\n1 ABI violation\n", code), found)

    assert found == wrong


def test_test_command_is_the_projects(tmp_path: Path) -> None:
    """Both ways of building are tried with the same words; a project without any is not tried."""
    (tmp_path / "pyproject.toml").write_text('[tool.cibuildwheel]\ntest-command = ["one", "two"]\n')
    assert TOOL["test_command"](tmp_path) == "one && two"
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    assert TOOL["test_command"](tmp_path) == ""


def test_exported_names_of_elf() -> None:
    """What is defined and not hidden; what is open is not offered."""
    assert (
        TOOL["exported"](
            make_library(symbol="open"), TOOL["Native"](name="x", format="elf", architectures=())
        )
        == []
    )


def test_python_of_the_tool_is_known() -> None:
    """The default of --python is the one that runs the tool."""
    assert TOOL["parse"]([]).python == ".".join(map(str, sys.version_info[:2]))
