"""The agent's native wheels, built in two ways, and what both must have in common: the body of `nox -s wheels`.

    python tools/wheels.py [--arch amd64,arm64]      with cibuildwheel in a container, for Linux
    python tools/wheels.py --native                  with cibuildwheel as the project configures it, for this machine (CI)
    python tools/wheels.py --cross [--target T,…]    with `zig cc` on this machine, for every row of targets.toml
    python tools/wheels.py --compare DIR DIR         whether two folders of wheels say the same

Every wheel is then read by abi3audit, and by auditwheel or delvewheel; one that runs here is installed for each Python of
--python and tried with the project's own `test-command`. Results lie in out/wheels/cibuildwheel and out/wheels/cross.

Needs locks/ferryman.txt and locks/wheels.txt. FERRYMAN_ENGINE is the container engine's command line (default: podman,
else docker); the image is made by tools/wheel_images/build.sh when it is not there.

Exit codes are those of docs/exit-codes.md: 4 when there is no container engine, 7 when a wheel is not as it should be.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from elftools.elf.elffile import ELFFile

from ferryman_build.cmd import Runner
from ferryman_build.errors import BuildStepError, FerrymanError, ToolMissingError, UsageError
from ferryman_build.inspect.native import Format, Native
from ferryman_build.interpreter import find_headers, find_interpreter
from ferryman_build.locking import packages_for, requirements_text, resolve
from ferryman_build.project import load_project
from ferryman_build.source import read_source, source_files
from ferryman_build.targets import all_targets, host_target, parse_targets
from ferryman_build.toolchain import shared_toolchain
from ferryman_build.wheels import build_cross_wheel
from ferryman_build.wheels.archive import Wheel, read_wheel_file, wheel_tags
from ferryman_build.wheels.natives import claim, contradiction, natives
from ferryman_build.wheeltags import fits

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out" / "wheels"
IMAGES = Path(__file__).resolve().parent / "wheel_images"
# Of what an engine may not allow or bring here, cibuildwheel's containers need nothing: no network of their own, no
# limits of their own, no cgroup.
ENGINE_OPTIONS = {
    "podman": "--network=host --cgroups=disabled --ulimit=nofile=1024:1024 --ulimit=nproc=1024:1024"
}
# Our images have one Python: the stable ABI's oldest.
IMAGE_BUILDS = "cp311-manylinux_*"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
SECONDS = 3600.0


def main(arguments: Sequence[str]) -> int:
    """Build or compare; print a table."""
    options = parse(arguments)
    options.project = options.project.resolve()
    runner = Runner(OUT / "logs", verbose=options.verbose)
    try:
        if options.compare:
            return compare(*options.compare)
        folder, built = ways(options)(options, runner)
        return report(folder, built, [check(path, options, runner) for path in built])
    except FerrymanError as error:
        sys.stderr.write(
            "\n".join([f"wheels: {error}", *(f"    {line}" for line in error.details), error.advice]) + "\n"
        )
        return error.exit_code
    except KeyboardInterrupt:
        runner.end_all()
        return 130


def ways(options: argparse.Namespace) -> Callable[[argparse.Namespace, Runner], tuple[Path, list[Path]]]:
    """What builds."""
    if options.cross:
        return cross
    return native if options.native else contained


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the module's head."""
    parser = argparse.ArgumentParser(description="Build, check and compare the agent's native wheels.")
    parser.add_argument("--cross", action="store_true", help="with zig on this machine, for every target")
    parser.add_argument(
        "--native", action="store_true", help="with cibuildwheel and its own images, for this machine"
    )
    parser.add_argument("--target", default="all", metavar="T,…", help="with --cross: these targets alone")
    parser.add_argument(
        "--arch", default="", metavar="A,…", help="without --cross: amd64, arm64; default: this machine's"
    )
    parser.add_argument("--python", default=".".join(map(str, sys.version_info[:2])), metavar="X.Y,…",
                        help="try the wheels that run here with these")  # fmt: skip
    parser.add_argument("--project", type=Path, default=ROOT / "agent_src", metavar="DIR")
    parser.add_argument("--compare", nargs=2, type=Path, metavar="DIR", help="two folders of wheels")
    parser.add_argument("--verbose", action="store_true", help="show every command")
    return parser.parse_args(arguments)


def emptied(folder: Path) -> Path:
    """Wheels of an earlier version would pass for this one's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# --- with zig, here ---------------------------------------------------------------------------------------------------


def cross(options: argparse.Namespace, runner: Runner) -> tuple[Path, list[Path]]:
    """Every wanted target's wheel, by the module that `ferryman build` uses.

    Raises:
        FerrymanError: one cannot be built.
    """
    cache = ROOT / ".cache" / "wheels"
    project = load_project(options.project, lock_required=False)
    python = find_interpreter("", runner, cache)
    headers = find_headers(python, runner, cache)
    backend = resolve(project.build_requires, python.version, runner=runner, cache=cache / "index")
    pins = requirements_text(packages_for(backend, host_target(), python.version))
    folder, found = emptied(OUT / "cross"), []
    for target in parse_targets(options.target):
        with tempfile.TemporaryDirectory(prefix=".cross-", dir=OUT) as into:
            made = build_cross_wheel(
                project.root, target, python=python, headers=headers, toolchain=shared_toolchain(python, runner),
                build_requires=project.build_requires, pins=pins, epoch=read_source(project.root).epoch,
                into=Path(into), runner=runner,
            )  # fmt: skip
            found.append(made.replace(folder / made.name))
        sys.stdout.write(f"{target}: {made.name}\n")
    return folder, found


# --- with cibuildwheel, in a container --------------------------------------------------------------------------------


class Engine(msgspec.Struct, frozen=True):
    """A container engine: what starts it (may be empty), and its own name."""

    before: tuple[str, ...]
    name: str


def find_engine() -> Engine:
    """What FERRYMAN_ENGINE says, else podman or docker.

    Raises:
        ToolMissingError: there is none.
    """
    given = shlex.split(os.environ.get("FERRYMAN_ENGINE", ""))
    words = given or next(([name] for name in ("podman", "docker") if shutil.which(name)), [])
    missing = [word for word in (words[:1] + words[-1:]) if shutil.which(word) is None]
    if missing or not words:
        raise ToolMissingError(
            f"The container engine {missing[0]!r} was not found."
            if missing
            else "There is no container engine here.",
            advice="Install podman or docker, or name one in FERRYMAN_ENGINE; `nox -s wheels -- --cross` needs none.",
        )
    return Engine(tuple(words[:-1]), words[-1])


def contained(options: argparse.Namespace, runner: Runner) -> tuple[Path, list[Path]]:
    """cibuildwheel's Linux wheels, in images of our own.

    Raises:
        FerrymanError: no engine, no image, or a wheel failed.
    """
    engine = find_engine()
    folder = emptied(OUT / "cibuildwheel")
    for arch in (options.arch or host_target().arch).split(","):
        if arch not in MACHINES:
            raise UsageError(f"There is no image for {arch!r}.", advice=f"Take {' or '.join(MACHINES)}.")
        build_contained(options.project, arch, engine, folder, runner)
    return folder, sorted(folder.glob("*.whl"))


def build_contained(project: Path, arch: str, engine: Engine, folder: Path, runner: Runner) -> None:
    """One architecture, from a copy of the sources: cibuildwheel takes the whole working folder into the container."""
    image = the_image(arch, engine, runner)
    with tempfile.TemporaryDirectory(prefix=".source-", dir=OUT) as name:
        copy_sources(project, Path(name))
        runner.run(
            [*engine.before, sys.executable, "-m", "cibuildwheel", "--platform", "linux", "--archs", MACHINES[arch],
             "--output-dir", folder, "."],
            name=f"cibuildwheel {arch}", cwd=Path(name), env=cibuildwheel_environment(project, arch, image, engine),
            timeout=SECONDS, advice="Read the log; `podman images` (or docker) shows the image that was used.",
        )  # fmt: skip


def native(options: argparse.Namespace, runner: Runner) -> tuple[Path, list[Path]]:
    """Everything that [tool.cibuildwheel] says for this machine's system and architecture; nothing is changed about it.

    Raises:
        FerrymanError: a wheel failed.
    """
    folder = emptied(OUT / "cibuildwheel")
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(read_source(options.project).epoch)}
    with tempfile.TemporaryDirectory(prefix=".source-", dir=OUT) as name:
        copy_sources(options.project, Path(name))
        runner.run(
            [sys.executable, "-m", "cibuildwheel", "--archs", "native", "--output-dir", folder, "."],
            name="cibuildwheel", cwd=Path(name), env=env, timeout=SECONDS, advice="Read the log.",
        )  # fmt: skip
    return folder, sorted(folder.glob("*.whl"))


def copy_sources(project: Path, into: Path) -> None:
    """What is source, and nothing that an earlier build left."""
    for path in source_files(project):
        place = into / path.relative_to(project)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place, follow_symlinks=False)


def the_image(arch: str, engine: Engine, runner: Runner) -> str:
    """The image's name; it is made when it is not there."""
    name = f"localhost/ferryman-wheels-{arch}"
    words = [*engine.before, engine.name]
    known = runner.run([*words, "image", "inspect", name], name="image", env=dict(os.environ), ok=range(256))
    if known.returncode:
        sys.stdout.write(f"making {name} (once; some minutes)\n")
        env = {**os.environ, "FERRYMAN_ENGINE": shlex.join(words)}
        runner.run([IMAGES / "build.sh", arch, name], name=f"image {arch}", env=env, timeout=SECONDS,
                   failure=ToolMissingError, advice="The head of tools/wheel_images/build.sh says what it needs.")  # fmt: skip
    return name


def cibuildwheel_environment(project: Path, arch: str, image: str, engine: Engine) -> dict[str, str]:
    """The project's own configuration holds; this is what is about the machine and the image."""
    options = ENGINE_OPTIONS.get(engine.name, "")
    create = f"; create_args: {options}" if options else ""
    return {
        **os.environ,
        "CIBW_CONTAINER_ENGINE": f"{engine.name}{create}; disable_host_mount: true",
        f"CIBW_MANYLINUX_{MACHINES[arch].upper()}_IMAGE": image,
        "CIBW_BUILD": IMAGE_BUILDS,
        "CIBW_BUILD_FRONTEND": "uv",
        # cibuildwheel's own pins name releases that not every index has; abi3audit is run below, from the lock.
        "CIBW_DEPENDENCY_VERSIONS": "latest",
        "CIBW_AUDIT_COMMAND": "",
        "SOURCE_DATE_EPOCH": str(read_source(project).epoch),
    }


# --- checks -----------------------------------------------------------------------------------------------------------


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about a wheel; ``wrong`` has a sentence for whatever it may not be."""

    abi: str
    floor: str
    tool: str
    ran: str
    wrong: tuple[str, ...]


def check(path: Path, options: argparse.Namespace, runner: Runner) -> Checked:
    """Read a wheel with every tool that there is for it, and run it where it can run."""
    wheel = read_wheel_file(path)
    wrong = list(misnamed(wheel))
    abi = audit_abi(path, runner, wrong)
    tool = audit_platform(path, wheel, runner, wrong)
    ran = try_out(path, options, runner, wrong)
    return Checked(abi=abi, floor=floor_of(wheel), tool=tool, ran=ran, wrong=tuple(wrong))


def misnamed(wheel: Wheel) -> Iterable[str]:
    """Where the name, the WHEEL file and the native files contradict each other."""
    if wheel_tags(wheel) != wheel.tags:
        yield "its WHEEL file has other tags"
    found = list(natives(wheel))
    if not found:
        yield "no native file is in it"
    for platform in wheel.platform.split("."):
        wanted = claim(platform)
        for member, native in found:
            other = contradiction(native, wanted) if wanted else "of no platform that we know"
            if other:
                yield f"{member.name} is {other}"


def audit_abi(path: Path, runner: Runner, wrong: list[str]) -> str:
    """abi3audit: only symbols of the stable ABI, and none newer than the tag says."""
    if "-abi3-" not in path.name:
        return "one version"
    done = runner.run([sys.executable, "-m", "abi3audit", "--strict", path], name="abi3audit", ok=range(256))
    if done.returncode:
        wrong.append(f"abi3audit: {last_line(done.output)}")
        return "abi3audit FAILED"
    return "abi3 (abi3audit)"


def audit_platform(path: Path, wheel: Wheel, runner: Runner, wrong: list[str]) -> str:
    """auditwheel's or delvewheel's word; on macOS there is none that runs here."""
    if wheel.platform.startswith(("manylinux", "musllinux")):
        done = runner.run(
            [sys.executable, "-m", "auditwheel", "show", path], name="auditwheel", ok=range(256)
        )
        said = re.sub(r"\s+", " ", done.output)
        found = re.search(r'platform tag: "(\w+)"', said)
        if done.returncode or not found or not no_newer(found[1], wheel.platform):
            wrong.append(f"auditwheel: {found[1] if found else last_line(done.output)}")
        return f"auditwheel: {found[1]}" if found else "auditwheel FAILED"
    if wheel.platform.startswith("win"):
        done = runner.run(
            [sys.executable, "-m", "delvewheel", "show", path], name="delvewheel", ok=range(256)
        )
        if done.returncode or not re.search(r"will be copied into the wheel\.\s+None\s", done.output):
            wrong.append(f"delvewheel: {last_line(done.output)}")
        return "delvewheel: complete"
    return "format alone"


def no_newer(found: str, claimed: str) -> bool:
    """Whether the tag that a file deserves promises at least what its name does."""

    def key(tag: str) -> tuple[str, tuple[int, ...]]:
        matched = re.match(r"(manylinux|musllinux)_(\d+)_(\d+)_", tag)
        return (matched[1], (int(matched[2]), int(matched[3]))) if matched else ("", ())

    family, version = key(found)
    return any(family == key(one)[0] and version <= key(one)[1] for one in claimed.split("."))


def last_line(text: str) -> str:
    """What a tool said in the end."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def floor_of(wheel: Wheel) -> str:
    """The highest version that the native files ask for, as measured."""
    asked = {(name, reason.version) for _, native in natives(wheel) for name, reason in native.floor.items()}
    return ", ".join(f"{name} {version}" for name, version in sorted(asked)) or "none"


def try_out(path: Path, options: argparse.Namespace, runner: Runner, wrong: list[str]) -> str:
    """The project's test-command with the wheel in a fresh environment, once per wanted Python."""
    command = test_command(options.project)
    host = host_target()
    if options.native:
        return "by cibuildwheel"
    if not command or not fits(path.name, host, options.python.split(",")[0]):
        return "not run"
    passed = []
    for python in options.python.split(","):
        if fits(path.name, host, python):
            try_with(path, python, command, options.project, runner, wrong)
            passed.append(python)
    return f"Python {', '.join(passed)}" if not wrong else "FAILED"


def test_command(project: Path) -> str:
    """[tool.cibuildwheel] test-command, which both ways of building share."""
    table = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    command = table.get("tool", {}).get("cibuildwheel", {}).get("test-command", "")
    return str(command if isinstance(command, str) else " && ".join(command))


def try_with(path: Path, python: str, command: str, project: Path, runner: Runner, wrong: list[str]) -> None:
    """One Python."""
    import uv

    interpreter = find_interpreter(python, runner, ROOT / ".cache" / "wheels")
    with tempfile.TemporaryDirectory(prefix="wheel-") as name:
        env = Path(name) / "env"
        bin_uv = uv.find_uv_bin()
        runner.run(
            [bin_uv, "venv", "--quiet", "--no-project", "--python", interpreter.path, env], name="venv"
        )
        runner.run([bin_uv, "pip", "install", "--quiet", "--no-deps", "--python", env, path], name="install")
        scripts = env / ("Scripts" if os.name == "nt" else "bin")
        prepared = command.format(project=project, package=project, wheel=path)
        env_of = {
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
            "VIRTUAL_ENV": str(env),
        }
        done = runner.run(
            ["sh", "-c", prepared], name="test-command", cwd=Path(name), env=env_of, ok=range(256)
        )
    if done.returncode:
        wrong.append(f"test-command with Python {python}: {last_line(done.output)}")


# --- comparison -------------------------------------------------------------------------------------------------------


def compare(one: Path, other: Path) -> int:
    """Whether the wheels of two folders say the same, per platform; those that only one folder has are named.

    Raises:
        BuildStepError: nothing could be compared, or something differs.
    """
    left, right = by_platform(one), by_platform(other)
    shared = sorted(set(left) & set(right))
    alone = sorted(set(left) ^ set(right))
    wrong = [f"{name}: {line}" for name in shared for line in differences(left[name], right[name])]
    for name in shared:
        sys.stdout.write(f"{name}: compared tags, exported symbols, needed libraries, and all other files\n")
    if alone:
        sys.stdout.write(f"only in one of the folders, not compared: {', '.join(alone)}\n")
    if wrong or not shared:
        raise BuildStepError(
            f"{one} and {other} differ." if wrong else f"{one} and {other} have no platform in common.",
            advice="Both are to be built from the same commit.", details=wrong,
        )  # fmt: skip
    return 0


def by_platform(folder: Path) -> dict[str, Path]:
    """A folder's wheels by what all of their kind are for: system, C library, architecture and Python."""
    found = {}
    for path in sorted(folder.glob("*.whl")):
        wheel = read_wheel_file(path)
        python = "3.14" if wheel.abi == "abi3" else f"3.{wheel.python.removeprefix('cp3')}"
        for target in all_targets():
            if fits(path.name, target, python):
                found[f"{target} {wheel.python}-{wheel.abi}"] = path
    return found


def differences(one: Path, other: Path) -> Iterable[str]:
    """Everything that is not equal, as sentences."""
    left, right = read_wheel_file(one), read_wheel_file(other)
    if left.tags != right.tags:
        yield f"tags {one.name} and {other.name}"
    ours, theirs = facts(left), facts(right)
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            yield f"{name}: {ours.get(name, 'missing')} and {theirs.get(name, 'missing')}"


def facts(wheel: Wheel) -> dict[str, object]:
    """What must be equal: of native files what they show and need, of others the bytes."""
    native = {member.name: described(member.data, found) for member, found in natives(wheel)}
    about = (f"{wheel.info}/RECORD", f"{wheel.info}/WHEEL", f"{wheel.info}/sboms/")
    rest = {
        member.name: hashlib.sha256(member.data).hexdigest()[:16] for member in wheel.members
        if member.name not in native and not member.name.startswith(about)
    }  # fmt: skip
    return {**native, **rest}


def described(data: bytes, native: Native) -> tuple[str, ...]:
    """Exported symbols and needed libraries."""
    return *(f"exports {name}" for name in exported(data, native)), *(
        f"needs {name}" for name in sorted(native.needed)
    )


def exported(data: bytes, native: Native) -> list[str]:
    """Names that a library offers. Of Mach-O nothing is read."""
    if native.format is Format.ELF:
        section: Any = ELFFile(io.BytesIO(data)).get_section_by_name(".dynsym")
        return sorted({
            symbol.name for symbol in section.iter_symbols()
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] in ("STB_GLOBAL", "STB_WEAK")
        })  # fmt: skip
    if native.format is Format.PE:
        import pefile  # type: ignore[import-untyped]

        symbols = pefile.PE(data=data).DIRECTORY_ENTRY_EXPORT.symbols
        return sorted(symbol.name.decode() for symbol in symbols if symbol.name)
    return []


# --- table ------------------------------------------------------------------------------------------------------------


def report(folder: Path, built: Sequence[Path], checked: Sequence[Checked]) -> int:
    """The closing table; the exit code."""
    rows = [("wheel", "size", "sha256", "measured floor", "Python", "platform", "tried")]
    for path, found in zip(built, checked, strict=True):
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()[:12]
        rows.append((path.name, f"{len(data)}", digest, found.floor, found.abi, found.tool, found.ran))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    sys.stdout.write("\n".join([f"\n{folder.relative_to(ROOT)}:", *lines, ""]))
    wrong = [
        f"{path.name}: {line}" for path, found in zip(built, checked, strict=True) for line in found.wrong
    ]
    if wrong or not built:
        raise BuildStepError(
            "A wheel is not as it should be." if built else "No wheel was built.",
            advice="out/wheels/logs has what each tool said.", details=wrong,
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
