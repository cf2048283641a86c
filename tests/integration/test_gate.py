"""The gate, on real libraries: each is compiled by zig with the defect that its name says, and refused for it."""

from __future__ import annotations

import os
import py_compile
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ferryman_build.cache import Blobs
from ferryman_build.errors import InspectError
from ferryman_build.inspect import Finding, Severity, describe, judge, raise_for_findings, render, survey_tree
from ferryman_build.inspect.measure import measure
from ferryman_build.targets import parse_target, with_promise
from support.launcher_targets import tools
from support.x86_decoder import READS_X86

pytestmark = READS_X86

Compile = Callable[..., Path]

ADD = "void add(int *a, const int *b, int n) { for (int i = 0; i < n; i++) a[i] += b[i]; }\n"
CPUID = """
int asked(void) {
    unsigned a = 7, b, c = 0, d;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return b >> 16 & 1;
}
"""
CHOOSING = (
    CPUID
    + f"""
__attribute__((target("avx512f"))) static {ADD.replace("add", "fast")}
static {ADD.replace("add", "slow")}
void add(int *a, const int *b, int n) {{ (asked() ? fast : slow)(a, b, n); }}
"""
)
HEARD = CPUID + "int known; void learn(void) { known = asked(); }\n"
UNHEARD = (
    CPUID
    + f"""
__attribute__((target("avx512f"))) {ADD}
"""
)
EARLY = HEARD + "int table[64];\n__attribute__((constructor, target(\"avx2\"))) void fill(void)" + (
    " { for (int i = 0; i < 64; i++) table[i] += i; }\n"
)  # fmt: skip
WHOLE = HEARD + "".join(ADD.replace("add", f"add{number}") for number in range(16))
CALLS_NEW = 'extern void *dlsym(void *, const char *);\nvoid *find(void) { return dlsym(0, "x"); }\n'
CALLS_OTHER = "extern int other(void);\nint call(void) { return other(); }\n"
OTHER = "int other(void) { return 1; }\n"
ABSOLUTE = ".text\n.globl here\nhere: movabs $there, %rax\nret\n.data\n.globl there\nthere: .quad 0\n"
ATOMIC = "int count(int *p) { return __atomic_fetch_add(p, 1, 5); }\n"
ASKING = (
    "extern unsigned long getauxval(unsigned long);\nunsigned long caps(void) { return getauxval(16); }\n"
)
START = "int start(void) { return 0; }\n"

AMD64 = ("-target", "x86_64-linux-gnu.2.17", "-shared", "-fPIC", "-nostdlib")
ARM64 = ("-target", "aarch64-linux-gnu.2.17", "-shared", "-fPIC", "-nostdlib")
ARMV7 = ("-target", "arm-linux-gnueabihf.2.31", "-shared", "-fPIC", "-nostdlib")
MACOS = ("-target", "aarch64-macos.11.0", "-dynamiclib", "-nostdlib", "-Wl,-undefined,dynamic_lookup")
WINDOWS = ("-target", "x86_64-windows-gnu", "-nostdlib", "-Wl,-e,start")


@pytest.fixture(scope="module")
def compiled() -> Iterator[Compile]:
    """A function that compiles a text; what it made before is not made again."""
    toolchain, _, runner = tools()
    with tempfile.TemporaryDirectory(prefix="ferryman-gate-") as name:
        folder = Path(name)

        def cc(file: str, text: str, *words: str | Path, suffix: str = ".c") -> Path:
            output = folder / file
            if not output.exists():
                source = folder / f"{file}-source{suffix}"
                source.write_text(text, encoding="ascii")
                runner.run(
                    [toolchain.zig, "cc", "-O2", *words, source, "-o", output], name=f"cc {file}", cwd=folder,
                    env=toolchain.environment(), timeout=600,
                )  # fmt: skip
            return output

        yield cc


def gate(
    root: Path, target: str = "linux-amd64", promise: str = "", **options: object
) -> tuple[Finding, ...]:
    promised = with_promise(parse_target(target), promise)
    survey = survey_tree(root, promised, refuse_foreign=False, folders=options.get("folders", ()))  # type: ignore[arg-type]
    return judge(survey, promised, options.get("allow", ()))  # type: ignore[arg-type]


def refused(
    root: Path, code: str, path: str, what: str, target: str = "linux-amd64", **options: object
) -> Finding:
    """The one error of a tree, which must name the file, what shows it and a way out, and stop the build."""
    found = gate(root, target, **options)  # type: ignore[arg-type]
    (error,) = [one for one in found if one.severity is Severity.ERROR]
    assert (error.code, error.path, error.what) == (code, path, what)
    with pytest.raises(InspectError) as caught:
        raise_for_findings(found, parse_target(target))
    assert caught.value.exit_code == 8
    assert path in str(caught.value)
    assert caught.value.advice == error.cure
    # What is known and accepted passes, and is still said.
    accepted = gate(root, target, allow=[f"{code}:{path}"], **options)  # type: ignore[arg-type]
    raise_for_findings(accepted, parse_target(target))
    assert any(one.code == code and "(allowed)" in one.message for one in accepted)
    return error


def tree(root: Path, *files: Path) -> Path:
    root.mkdir()
    for file in files:
        shutil.copy(file, root / file.name)
    return root


def test_a_symbol_that_is_too_new(compiled: Compile, tmp_path: Path) -> None:
    """dlsym came to libc with glibc 2.34; a promise of 2.17 does not have it, one of 2.34 does."""
    words = ("-target", "x86_64-linux-gnu.2.34", "-shared", "-fPIC")
    root = tree(tmp_path / "t", compiled("libnew.so", CALLS_NEW, *words))
    error = refused(root, "floor", "libnew.so", "dlsym")
    assert 'floor = "glibc 2.34"` in [tool.ferryman.target.linux-amd64]' in error.cure
    assert gate(root, promise="glibc 2.34") == ()


def test_avx512_without_a_choice(compiled: Compile, tmp_path: Path) -> None:
    """The instruction and its function are named; a promise of x86-64-v4 has it."""
    root = tree(tmp_path / "t", compiled("libsimd.so", ADD, *AMD64, "-mavx512f"))
    error = refused(root, "cpu", "libsimd.so", "add")
    assert "zmm" in error.message
    assert "does not ask" in error.message
    assert "x86-64-v4" in error.cure
    assert gate(root, promise="cpu x86-64-v4") == ()
    assert [one.code for one in gate(root, promise="cpu x86-64-v3")] == ["cpu"]


def test_avx512_behind_a_choice(compiled: Compile, tmp_path: Path) -> None:
    """The same loop, called only after CPUID was asked, is a note."""
    root = tree(tmp_path / "t", compiled("libchoosing.so", CHOOSING, *AMD64))
    (note,) = gate(root)
    assert (note.code, note.severity) == ("cpu-at-run-time", Severity.NOTE)
    assert "up to x86-64-v4, chosen at run time (executes CPUID): avx512f in " in note.message
    raise_for_findings([note], parse_target("linux-amd64"))
    assert "up to x86-64-v4, chosen at run time" in render(describe(root / "libchoosing.so"))


def test_a_question_that_nobody_hears(compiled: Compile, tmp_path: Path) -> None:
    """CPUID in a function that nothing calls excuses no other function."""
    root = tree(tmp_path / "t", compiled("libunheard.so", UNHEARD, *AMD64))
    error = refused(root, "cpu", "libunheard.so", "add")
    assert "asks what the processor has only in asked, which nothing in the file calls" in error.message


def test_a_choice_comes_too_late_for_a_constructor(compiled: Compile, tmp_path: Path) -> None:
    """CPUID somewhere in the file does not excuse AVX2 in what the loader calls."""
    root = tree(tmp_path / "t", compiled("libearly.so", EARLY, *AMD64))
    assert "as soon as it is loaded" in refused(root, "cpu", "libearly.so", "fill").message


def test_a_file_that_is_new_throughout_chose_nothing(compiled: Compile, tmp_path: Path) -> None:
    """Compiled with -mavx2 as a whole, and CPUID in it: the vector code of every function is in the new encoding."""
    root = tree(tmp_path / "t", compiled("libwhole.so", WHOLE, *AMD64, "-mavx2"))
    assert "nothing is chosen" in refused(root, "cpu", "libwhole.so", "add0").message


def test_a_missing_library(compiled: Compile, tmp_path: Path) -> None:
    """Neither in the tree nor of the system; put beside it, it is not missing."""
    other = compiled("libother.so", OTHER, *AMD64, "-Wl,-soname,libother.so")
    root = tree(tmp_path / "t", compiled("libcaller.so", CALLS_OTHER, *AMD64, other))
    assert "exclude-modules" in refused(root, "library", "libcaller.so", "libother.so").cure
    shutil.copy(other, root)
    assert gate(root) == ()


def test_a_foreign_architecture(compiled: Compile, tmp_path: Path) -> None:
    """Code for arm64 in a tree for amd64, and the other way round."""
    arm, intel = compiled("libarm.so", OTHER, *ARM64), compiled("libintel.so", OTHER, *AMD64)
    root = tree(tmp_path / "t", arm, intel)
    assert "another platform than its name says" in refused(root, "foreign", "libarm.so", "ELF arm64").cure
    refused(root, "foreign", "libintel.so", "ELF amd64", "linux-arm64")


def test_text_relocations(compiled: Compile, tmp_path: Path) -> None:
    """An absolute address in the code makes the loader write into it."""
    words = (
        "-target",
        "x86_64-linux-gnu.2.17",
        "-shared",
        "-nostdlib",
        "-Wl,-z,notext",
        "-Wl,-z,noexecstack",
    )
    root = tree(tmp_path / "t", compiled("libtext.so", ABSOLUTE, *words, suffix=".s"))
    assert "-fPIC" in refused(root, "text-relocations", "libtext.so", "there").cure


def test_an_executable_stack(compiled: Compile, tmp_path: Path) -> None:
    """One bit of PT_GNU_STACK."""
    root = tree(tmp_path / "t", compiled("libstack.so", OTHER, *AMD64))
    assert gate(root) == ()
    content = bytearray((root / "libstack.so").read_bytes())
    flags = content.index(struct.pack("<I", 0x6474E551)) + 4  # p_flags of PT_GNU_STACK
    content[flags] |= 1
    (root / "libstack.so").write_bytes(content)
    error = refused(root, "executable-stack", "libstack.so", "PT_GNU_STACK asks for it")
    assert "noexecstack" in error.cure


def test_a_search_path_of_the_machine_that_builds(compiled: Compile, tmp_path: Path) -> None:
    """Each file that looks there is refused; one that looks beside itself is not."""
    leaking = compiled("libleaking.so", OTHER, *AMD64, "-Wl,-rpath,/home/builder/lib")
    root = tree(tmp_path / "t", leaking)
    assert "--remove-rpath" in refused(root, "search-path", leaking.name, "/home/builder/lib").cure
    beside = compiled("libbeside.so", OTHER, *AMD64, "-Wl,-rpath,$ORIGIN")
    assert gate(tree(tmp_path / "u", beside)) == ()


@pytest.mark.parametrize("kept", [0, 3, 20, 200])
def test_a_library_that_is_cut_off(compiled: Compile, kept: int, tmp_path: Path) -> None:
    """What a download left behind when it broke off, wherever it did; the same content under a name of data is no matter."""
    root = tree(tmp_path / "t", compiled("libcut.so", OTHER, *AMD64))
    content = (root / "libcut.so").read_bytes()
    (root / "libcut.so").write_bytes(content[:kept])
    (error,) = [one for one in gate(root) if one.severity is Severity.ERROR]
    refused(root, "unreadable", "libcut.so", error.what)
    (root / "libcut.so").rename(root / "cut.bin")
    assert not [one for one in gate(root) if one.severity is Severity.ERROR]


def test_macos_signatures(compiled: Compile, tmp_path: Path) -> None:
    """zig signs ad hoc; without the signature, or with a byte changed, macOS would kill the program."""
    good = compiled("libgood.dylib", OTHER, *MACOS)
    root = tree(tmp_path / "t", good)
    assert gate(root, "darwin-arm64") == ()
    content = bytearray(good.read_bytes())
    file = root / good.name
    file.write_bytes(
        content[:4096].replace(struct.pack("<II", 0x1D, 16), struct.pack("<II", 0x7F, 16)) + content[4096:]
    )
    refused(root, "unsigned", good.name, "unsigned", "darwin-arm64")
    content[len(content) // 8] ^= 1
    file.write_bytes(content)
    refused(root, "signature", good.name, "signature does not fit the content", "darwin-arm64")


def test_a_program_without_a_console(compiled: Compile, tmp_path: Path) -> None:
    """A GUI program's output is seen by nobody; the same for the console passes."""
    gui = compiled("gui.exe", START, *WINDOWS, "-Wl,--subsystem,windows")
    assert (
        "console" in refused(tree(tmp_path / "t", gui), "gui", "gui.exe", "subsystem 2", "windows-amd64").cure
    )
    console = compiled("console.exe", START, *WINDOWS, "-Wl,--subsystem,console")
    assert [
        one.code for one in gate(tree(tmp_path / "u", console), "windows-amd64") if one.severity == "error"
    ] == []


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
@pytest.mark.parametrize(
    ("mode", "code"), [(0o4755, "setuid"), (0o2755, "setuid"), (0o666, "world-writable")]
)
def test_permission_bits(mode: int, code: str, tmp_path: Path) -> None:
    """Rights of somebody else, or for everybody, on any file at all."""
    root = tmp_path / "t"
    root.mkdir()
    (root / "notes.txt").write_text("hello", encoding="ascii")
    (root / "notes.txt").chmod(mode)
    assert "chmod" in refused(root, code, "notes.txt", f"mode {mode:04o}").cure


def test_a_build_path_in_bytecode(tmp_path: Path) -> None:
    """py_compile writes where the source was; of this machine's folders that is an error, of others a note."""
    source = tmp_path / "checkout" / "module.py"
    source.parent.mkdir()
    source.write_text("x = 1\n", encoding="ascii")
    root = tmp_path / "t"
    root.mkdir()
    py_compile.compile(str(source), cfile=str(root / "module.pyc"))
    folder = str(source.parent)
    refused(root, "bytecode-path", "module.pyc", folder, folders=(folder,))
    (note,) = gate(root)
    assert (note.code, note.what) == ("bytecode-source", str(source))
    py_compile.compile(str(source), cfile=str(root / "module.pyc"), dfile="module.py")
    assert gate(root, folders=(folder,)) == ()


def test_atomics_of_a_newer_arm(compiled: Compile, tmp_path: Path) -> None:
    """LSE atomics need ARMv8.1; a file that asks the kernel first may have them."""
    plain = compiled("libatomic8.so", ATOMIC, *ARM64, "-mcpu=generic+lse")
    assert "armv8.1" in refused(tree(tmp_path / "t", plain), "cpu", plain.name, "count", "linux-arm64").cure
    asking = compiled("libasking.so", ATOMIC + ASKING, *ARM64, "-mcpu=generic+lse")
    (note,) = gate(tree(tmp_path / "u", asking), "linux-arm64")
    assert note.code == "cpu-at-run-time"


def test_neon_on_armv7(compiled: Compile, tmp_path: Path) -> None:
    """The compiler writes down which units it was told to expect."""
    neon = compiled("libneon.so", ADD, *ARMV7, "-mcpu=cortex_a9")
    root = tree(tmp_path / "t", neon)
    refused(root, "cpu", neon.name, ".ARM.attributes", "linux-armv7", promise="cpu armv7+vfpv3")
    assert gate(root, "linux-armv7") == ()
    plain = compiled("libplain.so", ADD, *ARMV7, "-mcpu=generic+v7a+vfp3d16-neon-d32")
    assert gate(tree(tmp_path / "u", plain), "linux-armv7", "cpu armv7+vfpv3") == ()


def test_a_second_look_costs_no_second_measurement(compiled: Compile, tmp_path: Path) -> None:
    """Results are kept by content: under another name the same file is found, with its own name in it."""
    library = compiled("libsimd.so", ADD, *AMD64, "-mavx512f")
    root = tree(tmp_path / "t", library)
    target, blobs = parse_target("linux-amd64"), Blobs(tmp_path / "blobs")
    first = judge(survey_tree(root, target, blobs=blobs), target)
    kept = {path: path.read_bytes() for path in blobs.root.glob("*/*")}
    assert len(kept) == 1
    (root / library.name).rename(root / "libagain.so")
    again = judge(survey_tree(root, target, blobs=blobs), target)
    assert {path: path.read_bytes() for path in blobs.root.glob("*/*")} == kept
    assert [one.message for one in again] == [
        one.message.replace("libsimd.so", "libagain.so") for one in first
    ]


# --- against a second reader ------------------------------------------------------------------------------------------

REGISTERS = {"avx512f": "%zmm", "avx": "%ymm"}


@pytest.mark.skipif(sys.platform != "linux", reason="ELF libraries of the host are a Linux matter")
def test_wide_registers_agree_with_objdump() -> None:
    """What this process has loaded: a file has 256- and 512-bit registers exactly where binutils sees them too."""
    if not shutil.which("objdump"):
        pytest.skip("NOT COMPARED: binutils (objdump) is missing")
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    loaded = {Path(line.split(maxsplit=5)[-1]) for line in lines if ".so" in line and "(deleted)" not in line}
    compared = 0
    for path in sorted(loaded):
        native = measure(path.name, path.read_bytes())
        if native is None or "amd64" not in native.cpu or path.stat().st_size > 8_000_000:
            continue
        compared += 1
        text = subprocess.run(
            ["objdump", "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True
        ).stdout
        for feature, register in REGISTERS.items():
            if register not in text:
                assert feature not in native.cpu["amd64"].features or feature == "avx", (path, feature)
            elif "(bad)" not in text:  # where there is data among the code, binutils sees registers in it
                assert feature in native.cpu["amd64"].features, (path, feature)
    assert compared > 0
