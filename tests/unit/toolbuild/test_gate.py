"""judge: for each promise what keeps it, what breaks it, and the way out; every code is an error or a note by table."""

from __future__ import annotations

import re
import tomllib

import msgspec
import pytest

from ferryman_build.artifacts import Needs
from ferryman_build.errors import InspectError
from ferryman_build.inspect.cpu import LEVELS, allowed, level_of, level_text
from ferryman_build.inspect.gate import CODES, Code, Finding, Severity, judge, raise_for_findings
from ferryman_build.inspect.libraries import policies
from ferryman_build.inspect.native import (
    NO_DECODER,
    NOT_MEASURED,
    NOT_READABLE,
    Cpu,
    Format,
    Native,
    Reason,
    Trait,
)
from ferryman_build.inspect.survey import Found, Survey
from ferryman_build.targets import CPU_LEVELS, all_targets, parse_target, with_promise

V2 = {"popcnt": Reason("x86-64-v2", "", "popcnt rax,rcx", "count")}
V4 = {"avx512f": Reason("x86-64-v4", "", "vpaddd zmm0,zmm1,zmm2", "sum")}


def elf(name: str = "lib.so", **facts: object) -> Native:
    return msgspec.convert(
        {"name": name, "format": Format.ELF, "architectures": ("amd64",), **facts}, Native, strict=False
    )


def survey(*natives: Native, libraries: tuple[str, ...] = (), **facts: object) -> Survey:
    found = Found(natives=list(natives))
    values = {"needs": Needs(libraries=libraries), "natives": natives, "found": found, **facts}
    return Survey(**values)  # type: ignore[arg-type]


def codes(found: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(one.severity.value, one.code.value) for one in found]


def reason(version: str, label: str = "", symbol: str = "") -> Reason:
    return Reason(version, "lib.so", label, symbol)


CASES = {
    "an old symbol": (elf(floor={"glibc": reason("2.17")}), "linux-amd64", []),
    "a new symbol": (elf(floor={"glibc": reason("2.18", "GLIBC_2.18", "f")}), "linux-amd64", [("error", "floor")]),
    "glibc on musl": (elf(libc="glibc"), "linux-amd64-musl", [("error", "libc")]),
    "musl on glibc": (elf(libc="musl"), "linux-amd64", [("error", "libc")]),
    "musl on musl": (elf(libc="musl"), "linux-amd64-musl", []),
    "popcnt": (elf(cpu={"amd64": Cpu(features=V2)}), "linux-amd64", [("error", "cpu")]),
    "popcnt on a Mac": (elf(cpu={"amd64": Cpu(features=V2)}), "darwin-amd64", []),
    "a choice": (elf(cpu={"amd64": Cpu(features=V4, chosen=("x",))}), "linux-amd64", [("note", "cpu-at-run-time")]),
    "a choice that nobody hears": (
        elf(cpu={"amd64": Cpu(features=V4, unheard=("ask",))}), "linux-amd64", [("error", "cpu")]
    ),
    "a choice too late": (
        elf(cpu={"amd64": Cpu(features=V4, early=V4, chosen=("x",))}), "linux-amd64", [("error", "cpu")]
    ),
    "all in the new encoding": (
        elf(cpu={"amd64": Cpu(features=V4, whole=True, chosen=("x",))}), "linux-amd64", [("error", "cpu")]
    ),
    "a note for the loader": (elf(cpu={"amd64": Cpu(required="x86-64-v3")}), "linux-amd64", [("error", "cpu")]),
    "a note that says nothing": (elf(cpu={"amd64": Cpu(required="x86-64-v1")}), "linux-amd64", []),
    "GLIBC_PRIVATE": (elf(notes=["uses GLIBC_PRIVATE"]), "linux-amd64", [("note", "private-symbol")]),
    "something odd": (elf(notes=["built for iOS"]), "linux-amd64", [("note", "unreadable")]),
    "damage": (elf(loadable=False, notes=[f"{NOT_READABLE}ELF: cut off"]), "linux-amd64", [("error", "unreadable")]),
    "damage of a module": (elf("m.abi3.so", loadable=False, notes=[f"{NOT_READABLE}ELF: x"]), "linux-amd64", [("error", "unreadable")]),
    "damage with a version": (elf("x/l.so.1.2", loadable=False, notes=[f"{NOT_READABLE}ELF: x"]), "linux-amd64", [("error", "unreadable")]),
    "damage of a program": (elf("bin/tool", loadable=False, notes=[f"{NOT_READABLE}ELF: x"]), "linux-amd64", [("error", "unreadable")]),
    "damage of a program with a version": (elf("bin/python3.11", loadable=False, notes=[f"{NOT_READABLE}ELF: x"]), "linux-amd64", [("error", "unreadable")]),
    "damage of data": (elf("tests/bad.elf", loadable=False, notes=[f"{NOT_READABLE}ELF: x"]), "linux-amd64", [("note", "unreadable")]),
    "damage of another format": (elf("a.so", loadable=False, notes=[f"{NOT_READABLE}ELF: x"]), "darwin-arm64", []),
    "nothing to measure with": (elf(notes=[NO_DECODER]), "linux-amd64", [("error", "cpu-unknown")]),
    "nothing to measure with, on Windows": (
        elf(format=Format.PE, notes=[NO_DECODER]), "windows-amd64", [("error", "cpu-unknown")]
    ),
    "nothing to measure with what is for others": (
        elf(format=Format.MACHO, notes=[NO_DECODER]), "darwin-arm64", []
    ),
    "not measured": (elf("tool.bin", notes=[f"{NOT_MEASURED}x"]), "linux-amd64", [("error", "unreadable")]),
    "text relocations": (elf(traits={Trait.TEXT_RELOCATIONS: "f"}), "linux-amd64", [("error", "text-relocations")]),
    "executable stack": (elf(traits={Trait.EXECUTABLE_STACK: "x"}), "linux-amd64", [("error", "executable-stack")]),
    "no ASLR": (elf(traits={Trait.NO_ASLR: "x"}), "windows-amd64", [("note", "aslr")]),
    "no ASLR on Arm": (elf(traits={Trait.NO_ASLR: "x"}), "windows-arm64", [("error", "aslr")]),
    "no NX": (elf(traits={Trait.NO_NX: "x"}), "windows-amd64", [("note", "nx")]),
    "a GUI program": (elf("agent.exe", traits={Trait.GUI: "subsystem 2"}), "windows-amd64", [("error", "gui")]),
    "a GUI library": (elf("agent.dll", traits={Trait.GUI: "subsystem 2"}), "windows-amd64", []),
    "a GUI template": (elf("x/t64.exe", traits={Trait.GUI: "subsystem 2"}), "windows-amd64", []),
    "unsigned for Apple's": (elf(traits={Trait.UNSIGNED: "amd64 + arm64"}), "darwin-arm64", [("error", "unsigned")]),
    "unsigned for Intel": (elf(traits={Trait.UNSIGNED: "amd64 + arm64"}), "darwin-amd64", [("note", "unsigned")]),
    "unsigned elsewhere": (elf(traits={Trait.UNSIGNED: "amd64"}), "darwin-arm64", []),
    "a changed signature": (elf(traits={Trait.BROKEN_SIGNATURE: "arm64"}), "darwin-arm64", [("error", "signature")]),
    "signed": (elf(traits={Trait.SIGNED: "arm64"}), "darwin-arm64", []),
}  # fmt: skip


@pytest.mark.parametrize(("native", "target", "wanted"), CASES.values(), ids=CASES)
def test_one_file(native: Native, target: str, wanted: list[tuple[str, str]]) -> None:
    """Each rule on its own: what keeps the promise is silent, what breaks it has its code and severity."""
    found = judge(survey(native), parse_target(target))
    own = [one for one in found if one.code is not Code.FOREIGN_DATA]
    assert codes(tuple(own)) == wanted
    assert all(one.path == native.name and one.what and one.cure for one in own)


@pytest.mark.parametrize(
    ("library", "target", "wanted"),
    [
        ("libc.so.6", "linux-amd64", []),
        ("ld-linux-x86-64.so.2", "linux-amd64", []),
        ("libstdc++.so.6", "linux-amd64", []),
        ("libcrypt.so.1", "linux-amd64", [("error", "library")]),
        ("libssl.so.1.1", "linux-amd64", [("error", "library")]),
        ("libz.so.1", "linux-amd64", [("note", "library-sometimes")]),
        ("libmvec.so.1", "linux-amd64", [("error", "library")]),  # since glibc 2.22
        ("libc.musl-x86_64.so.1", "linux-amd64-musl", []),
        ("libc.so", "linux-arm64-musl", []),
        ("libc.so.6", "linux-arm64-musl", [("error", "library")]),
        ("KERNEL32.dll", "windows-amd64", []),
        ("api-ms-win-crt-runtime-l1-1-0.dll", "windows-amd64", []),
        ("api-ms-win-core-memory-l1-1-6.dll", "windows-amd64", [("error", "library")]),
        ("api-ms-win-core-memory-l1-1-6.dll", "windows-arm64", []),
        ("VCRUNTIME140.dll", "windows-amd64", [("error", "library")]),
        ("ext-ms-win-ntuser-window-l1-1-0.dll", "windows-amd64", [("note", "library-sometimes")]),
        ("OPENGL32.dll", "windows-amd64", [("note", "library-sometimes")]),
        ("/usr/lib/libSystem.B.dylib", "darwin-arm64", []),
        ("/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation", "darwin-arm64", []),
        ("/opt/homebrew/lib/libssl.3.dylib", "darwin-arm64", [("error", "library")]),
        ("@rpath/libssl.3.dylib", "darwin-arm64", [("error", "library")]),
    ],
)
def test_libraries(library: str, target: str, wanted: list[tuple[str, str]]) -> None:
    """What a system has, what it has since a version, what small machines lack, and what nobody promises."""
    native = elf(needed=[library])
    found = judge(survey(native, libraries=(library,)), parse_target(target))
    own = tuple(one for one in found if one.code is not Code.FOREIGN_DATA)
    assert codes(own) == wanted
    assert all(one.what == library for one in own)


def test_a_library_in_the_tree_is_no_matter() -> None:
    """Only what the survey found nowhere in the tree is asked of the machine, whatever its symbol versions."""
    versions = {"GLIBCXX": Reason("3.4.32", "lib.so", "GLIBCXX_3.4.32", "libstdc++.so.6")}
    native = elf(needed=["libfoo.so", "libstdc++.so.6"], versions=versions)
    assert judge(survey(native), parse_target("linux-amd64")) == ()
    (found,) = judge(survey(native, libraries=("libstdc++.so.6",)), parse_target("linux-amd64"))
    assert (found.code, found.what) == ("symbol-version", "GLIBCXX_3.4.32")
    promised = with_promise(parse_target("linux-amd64"), "glibc 2.39")
    assert judge(survey(native, libraries=("libstdc++.so.6",)), promised) == ()


def test_the_promise_of_a_project() -> None:
    """`floor` raises what is promised: the same tree passes."""
    native = elf(floor={"glibc": reason("2.31")}, cpu={"amd64": Cpu(features=V4)})
    target = parse_target("linux-amd64")
    assert codes(judge(survey(native), target)) == [("error", "cpu"), ("error", "floor")]
    assert judge(survey(native), with_promise(target, "glibc 2.31, cpu x86-64-v4")) == ()


def test_the_way_out_is_out() -> None:
    """The floor that a cure names is enough for all files, not for the first one alone."""
    low = elf("a.so", floor={"glibc": reason("2.18")}, cpu={"amd64": Cpu(features=V2)})
    high = elf("b.so", floor={"glibc": reason("2.34")}, cpu={"amd64": Cpu(features=V4)})
    found = judge(survey(low, high), parse_target("linux-amd64"))
    assert [one.path for one in found if one.code is Code.FLOOR] == ["b.so", "a.so"]
    for one in found:
        promise = {"floor": "glibc 2.34", "cpu": "cpu x86-64-v4"}[one.code]
        assert f'`floor = "{promise}"` in [tool.ferryman.target.linux-amd64]' in one.cure


def test_what_is_allowed_becomes_a_note() -> None:
    """Code and path are patterns; another path is not accepted with it."""
    native, other = (
        elf("x/fast.so", cpu={"amd64": Cpu(features=V4)}),
        elf("y.so", cpu={"amd64": Cpu(features=V4)}),
    )
    target = parse_target("linux-amd64")
    for allow in ("cpu:x/fast.so", "cpu:x/*", "*:x/*"):
        found = judge(survey(native, other), target, [allow])
        assert [(one.path, one.severity) for one in found] == [("y.so", "error"), ("x/fast.so", "note")]
    for allow in ("floor:x/fast.so", "cpu:fast.so", "cpu"):
        assert judge(survey(native), target, [allow])[0].severity is Severity.ERROR


@pytest.mark.parametrize(
    "name", ["a[1].so", "x/[abc]/b.so", "what?.so", "a*b.so", '"x".so', "back\\slash.so", "new\nline.so"]
)
def test_what_a_cure_prints_is_accepted(name: str) -> None:
    """Brackets and question marks are letters of a name; only the star stands for others."""
    target = parse_target("linux-amd64")
    (error,) = judge(survey(elf(name, cpu={"amd64": Cpu(features=V4)})), target)
    (line,) = re.findall("`(allow = .*)`", error.cure)
    (pattern,) = tomllib.loads(line)["allow"]
    (again,) = judge(survey(elf(name, cpu={"amd64": Cpu(features=V4)})), target, [pattern])
    assert again.severity is Severity.NOTE
    (other,) = judge(
        survey(elf("c.so", cpu={"amd64": Cpu(features=V4)})), target, [pattern, "cpu:[abc].so", "cpu:?.so"]
    )
    assert other.severity is Severity.ERROR


def test_a_note_names_the_functions_of_the_newest_code() -> None:
    """Those with names; where there are none, one address."""
    features = {**V4, **V2, "aes": Reason("", "", "aesenc", "crypt")}
    for held, words in {
        ("sum", "0x10", "dot"): ": avx512f in sum, dot …",
        ("0x10", "0x20"): ": avx512f in 0x10 …",
        ("sum",): ": avx512f in sum",
    }.items():
        cpu = Cpu(features=features, chosen=("executes CPUID",), holders={"avx512f": held, "aes": ("crypt",)})
        (note,) = judge(survey(elf(cpu={"amd64": cpu})), parse_target("linux-amd64"))
        assert note.code is Code.CPU_AT_RUN_TIME
        assert note.message.endswith(f"chosen at run time (executes CPUID){words}")


def test_files_that_nobody_should_have() -> None:
    """Modes, paths of this machine, search paths, links: each file is named."""
    found = Found(
        modes={"a": 0o4755, "b": 0o666, "c": 0o2777},
        built_in={"m.pyc": "/work/x", "n.pyc": "/work/x", "lib.so": "/work/x"},
        compiled_in={"m.pyc": "/work/x/m.py", "o.pyc": "/elsewhere/o.py"},
        bytecode={"m.pyc", "n.pyc", "o.pyc"},
        links=["away"],
    )
    whole = survey(found=found, leaks={"/build/lib": ("p.so", "q.so"), "": ("r.so",)})
    judged = {(one.code.value, one.path, one.what) for one in judge(whole, parse_target("linux-amd64"))}
    assert judged == {
        ("setuid", "a", "mode 4755"), ("world-writable", "b", "mode 0666"), ("setuid", "c", "mode 2777"),
        ("world-writable", "c", "mode 2777"), ("bytecode-path", "m.pyc", "/work/x"), ("build-folder", "lib.so", "/work/x"),
        ("bytecode-source", "o.pyc", "/elsewhere/o.py"), ("search-path", "p.so", "/build/lib"),
        ("search-path", "q.so", "/build/lib"), ("search-path", "r.so", "the working directory"), ("link", "away", "link"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("folder", "target", "severity"),
    [
        ("/home/me/lib", "linux-amd64", "error"),
        ("/opt/conda/lib", "linux-amd64", "error"),
        ("", "linux-amd64", "error"),
        ("lib", "linux-amd64", "error"),
        ("$LIB/x", "linux-amd64", "error"),
        ("/usr/local/lib", "linux-amd64", "error"),
        ("/usr/library", "linux-amd64", "error"),
        ("/usr/lib/../../home", "linux-amd64", "error"),
        ("/usr/lib/x86_64-linux-gnu", "linux-amd64", "note"),
        ("/lib64/", "linux-arm64", "note"),
        ("$ORIGIN/../../..", "linux-amd64", "note"),
        ("/usr/lib/swift", "darwin-arm64", "note"),
        ("/lib64", "darwin-arm64", "error"),
        ("/opt/homebrew/lib", "darwin-arm64", "error"),
        ("@loader_path/../..", "darwin-arm64", "note"),
    ],
)
def test_search_paths(folder: str, target: str, severity: str) -> None:
    """A folder of the machine that builds stops the build, file by file; one of the system, or beside the tree, does not."""
    promised = parse_target(target)
    whole = survey(leaks={folder: ("a.so", "b.so")})
    found = judge(whole, promised)
    assert {one.severity for one in found} == {severity}
    if severity == "error":
        assert [one.path for one in found] == ["a.so", "b.so"]
        assert "--remove-rpath" in found[0].cure
        known = judge(whole, promised, ["search-path:a.so"])
        assert [(one.path, one.severity) for one in known] == [("b.so", "error"), ("a.so", "note")]


@pytest.mark.parametrize(
    ("name", "target", "wanted"),
    [
        ("x/_core.cpython-311-x86_64-linux-gnu.so", "linux-amd64", ["unreadable"]),
        ("x/core.pyd", "windows-amd64", ["unreadable"]),
        ("x/Core.DLL", "windows-amd64", ["unreadable"]),
        ("libx.dylib", "darwin-arm64", ["unreadable"]),
        ("libx.dylib", "linux-amd64", []),
        ("core.pyd", "linux-amd64", []),
        ("_core.so", "windows-amd64", []),
    ],
)
def test_a_library_by_its_name_only(name: str, target: str, wanted: list[str]) -> None:
    """Cut off at its first bytes, or a pointer in its place: of the target's own kind an error, of others no matter."""
    found = judge(survey(found=Found(misnamed=[name])), parse_target(target))
    assert [one.code for one in found] == wanted
    assert all(one.severity is Severity.ERROR and name in one.message for one in found)
    assert judge(survey(found=Found(misnamed=[name])), parse_target(target), [f"unreadable:{name}"]) == tuple(
        msgspec.structs.replace(one, severity=Severity.NOTE, message=f"{one.message} (allowed)")
        for one in found
    )


def test_windows_takes_no_modes_from_an_archive() -> None:
    """Wheels that were made on Windows have 0666 throughout, which says nothing there."""
    whole = survey(found=Found(modes={"a.py": 0o666, "b": 0o4755}))
    assert judge(whole, parse_target("windows-amd64")) == ()
    assert len(judge(whole, parse_target("linux-amd64"))) == 2


def test_files_for_other_machines() -> None:
    """Of the target's format an error, of another format data."""
    arm = elf("arm.so", architectures=("arm64",))
    windows = elf("t64.exe", format=Format.PE)
    whole = survey(foreign=(arm,), found=Found(natives=[arm, windows]))
    found = judge(whole, parse_target("linux-amd64"))
    assert [(one.code, one.path) for one in found] == [("foreign", "arm.so"), ("foreign-data", "t64.exe")]


def test_raising() -> None:
    """Notes pass; errors stop with exit code 8, the first one's cure, one line for what is the same in many files."""
    target = parse_target("linux-amd64")
    natives = [elf(f"{number}.so", needed=["libfoo.so"]) for number in range(40)]
    natives.append(elf("setuid-less.so", floor={"glibc": reason("2.30", "GLIBC_2.30", "f")}))
    found = judge(survey(*natives, libraries=("libfoo.so",)), target)
    with pytest.raises(InspectError, match=r"promises: setuid-less\.so needs glibc 2\.30") as caught:
        raise_for_findings(found, target)
    assert caught.value.exit_code == 8
    assert caught.value.advice == found[0].cure
    assert caught.value.details[1].endswith(
        "neither in the tree nor promised by linux-amd64 (and 39 more files)"
    )
    assert caught.value.details[2].startswith("way out of library: ")
    raise_for_findings([one for one in found if one.severity is Severity.NOTE], target)


def test_every_code_has_a_severity_and_a_way_out() -> None:
    """The table is whole, and no placeholder is left over."""
    assert set(CODES) == set(Code)
    for native, target, _ in CASES.values():
        for one in judge(survey(native), parse_target(target)):
            assert "{" not in one.cure


# --- levels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "features", "level"),
    [
        ("amd64", (), "x86-64-v1"),
        ("amd64", ("popcnt",), "x86-64-v2"),
        ("amd64", ("popcnt", "avx2"), "x86-64-v3"),
        ("amd64", ("aes",), "x86-64-v1+aes"),
        ("amd64", ("avx512f", "sha", "aes"), "x86-64-v4+aes+sha"),
        ("arm64", ("lse",), "armv8.1"),
        ("arm64", ("sve", "sm4"), "armv9.0+sm4"),
        ("armv7", ("neon",), "armv7+neon"),
        ("riscv64", ("v",), ""),
    ],
)
def test_level_text(arch: str, features: tuple[str, ...], level: str) -> None:
    """The lowest promise that includes all features does include them, and the level below does not."""
    assert level_text(arch, features) == level
    assert not level or set(features) <= (allowed(arch, level) or set())


@pytest.mark.parametrize("arch", LEVELS)
def test_levels_grow(arch: str) -> None:
    """Each level has what those below it have, no feature is in two, and targets.py knows the same names."""
    sizes = [len(allowed(arch, level) or ()) for level in LEVELS[arch]]
    assert sizes == sorted(sizes)
    every = [name for has in LEVELS[arch].values() for name in has]
    assert len(every) == len(set(every))
    assert set(LEVELS[arch]) <= set(CPU_LEVELS[arch])
    assert all(allowed(arch, level) is not None for level in CPU_LEVELS[arch])
    assert level_of(arch, "no-such-feature") == ""


def test_promises_of_the_matrix() -> None:
    """Every row names a policy; every row of a measured architecture promises a level that is known."""
    for row in all_targets():
        assert row.libraries in policies()
        assert bool(row.cpu) == (row.arch in LEVELS)
        assert not row.cpu or row.cpu.split("+")[0] in CPU_LEVELS[row.arch]
    assert allowed("arm64", "apple-m1") >= {"lse", "aes", "dotprod", "sha3"}
    assert "sve" not in (allowed("arm64", "apple-m1") or ())
    assert allowed("amd64", "x86-64-v1+cx16") == {"cx16"}
    assert allowed("amd64", "") is None
