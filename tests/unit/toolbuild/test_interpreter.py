"""interpreter: the named CPython with its shared library, which Debian keeps in a package of its own."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ferryman_build import interpreter
from ferryman_build.cmd import Completed, Runner
from ferryman_build.errors import BuildStepError, FerrymanError, ToolMissingError
from ferryman_build.interpreter import Headers, Interpreter, find_headers, find_interpreter

VERSION = "3.11.2-6+deb12u4"
LIBRARY = "libpython3.11.so.1.0"


def facts(**changed: object) -> str:
    """What the probe says on Debian 12."""
    found = {
        "path": "/usr/bin/python3.11", "version": "3.11.2", "build": "3.11.2 (main)", "implementation": "cpython",
        "tag": "cpython-311", "prefix": "/usr", "shared": "libpython3.11.a", "libdir": "/nowhere/lib",
        "multiarch": "x86_64-linux-gnu", "enabled": False, "windows": False, **changed,
    }  # fmt: skip
    return json.dumps(found)


class Debian(Runner):
    """Answers for the interpreter, dpkg-query, apt-get and dpkg-deb; ``available`` are the versions of the mirror."""

    def __init__(
        self, probe: str, *, installed: str = VERSION, available: tuple[str, ...] = (VERSION,)
    ) -> None:
        super().__init__()
        self.probe = probe
        self.installed = installed
        self.available = available
        self.holds = f"usr/lib/x86_64-linux-gnu/{LIBRARY}"
        self.calls: list[list[str]] = []
        self.folders: set[Path] = set()

    def run(
        self, args: Sequence[str | Path], *, cwd: Path | None = None, ok: Sequence[int] = (0,),
        failure: type[FerrymanError] = BuildStepError, advice: str = "", **_: Any,
    ) -> Completed:  # fmt: skip
        words = [str(word) for word in args]
        self.calls.append(words)
        output, code = self.answer(words, cwd)
        if code not in ok:
            raise failure(f"{words[0]} failed with exit code {code}.", advice=advice)
        return Completed(code, output, None)

    def answer(self, words: list[str], cwd: Path | None) -> tuple[str, int]:
        if "-c" in words:
            return f"a line of a site hook\n{self.probe}\n", 0
        if words[0] == "dpkg-query":
            return (f"{self.installed} amd64", 0) if self.installed else ("no packages found", 1)
        if words[0] == "apt-get":
            return self.apt(words, cwd)
        assert words[:2] == ["dpkg-deb", "-x"]
        target = Path(words[3]) / self.holds
        target.parent.mkdir(parents=True)
        target.write_text(Path(words[2]).name)
        return "", 0

    def apt(self, words: list[str], cwd: Path | None) -> tuple[str, int]:
        assert cwd is not None
        self.folders.add(cwd)
        if words[-2] == "update":
            return "", 0 if self.available else 100
        package, _, version = words[-1].partition("=")
        version = version or self.available[-1]
        if version not in self.available:
            return f"E: Version '{version}' for '{package}' was not found", 100
        (cwd / f"{package}_{version}_amd64.deb").touch()
        return "", 0

    def asked(self) -> list[str]:
        return [
            words[-1]
            for words in self.calls
            if words[0] == "apt-get" and words[-2] != "update" and "=" in words[-1]
        ]


@pytest.fixture(autouse=True)
def debian(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with apt-get and dpkg-deb, whatever this one has."""
    which = interpreter.shutil.which
    monkeypatch.setattr(
        interpreter.shutil,
        "which",
        lambda name, **given: which(name, **given) if given else f"/usr/bin/{name}",
    )


def find(runner: Runner, cache: Path, wanted: str = sys.executable) -> Interpreter:
    return find_interpreter(wanted, runner, cache, lambda text: None)


# --- Debian's static interpreter --------------------------------------------------------------------------------------


def test_package_of_the_installed_version(tmp_path: Path) -> None:
    """Exactly the installed version is asked for; the library ends in the cache, nothing half beside it."""
    runner = Debian(facts())
    said: list[str] = []
    found = find_interpreter(sys.executable, runner, tmp_path, said.append)

    assert runner.asked() == [f"libpython3.11={VERSION}"]
    assert found.libpython is not None
    assert found.libpython.name == LIBRARY
    assert found.libpython.is_relative_to(tmp_path.resolve() / "libpython")
    assert found.libpython.read_text() == f"libpython3.11_{VERSION}_amd64.deb"
    assert (found.version, found.short, found.tag) == ("3.11.2", "3.11", "cpython-311")
    assert len(list((tmp_path / "libpython").iterdir())) == 1
    assert len(said) == 1
    assert VERSION in said[0]


def test_nothing_outside_the_cache(tmp_path: Path) -> None:
    """apt keeps its lists and its downloads in a folder of ours, which is gone afterwards."""
    runner = Debian(facts())
    find(runner, tmp_path)

    apt = [words for words in runner.calls if words[0] == "apt-get"]
    assert apt
    for words in apt:
        for option in ("Dir::State::Lists", "Dir::Cache"):
            (value,) = [word.partition("=")[2] for word in words if word.startswith(f"-o{option}=")]
            assert Path(value).is_relative_to(tmp_path)
    assert all(folder.is_relative_to(tmp_path) and not folder.exists() for folder in runner.folders)


def test_fetched_once(tmp_path: Path) -> None:
    """The second build finds it in the cache; another installed version is another package."""
    find(Debian(facts()), tmp_path)
    again = Debian(facts())
    find(again, tmp_path)
    newer = Debian(facts(), installed="3.11.2-6+deb12u5", available=("3.11.2-6+deb12u5",))
    find(newer, tmp_path)

    assert [words[0] for words in again.calls if words[0] in ("apt-get", "dpkg-deb")] == []
    assert newer.asked() == ["libpython3.11=3.11.2-6+deb12u5"]


def test_no_download_into_a_path_of_two_lines(tmp_path: Path) -> None:
    """apt and its methods speak in lines, and would go on speaking for ever."""
    runner = Debian(facts())
    with pytest.raises(ToolMissingError, match="line break"):
        find(runner, tmp_path / "a\nb")
    assert [words for words in runner.calls if words[0] == "apt-get"] == []


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"available": ()}, "apt-get install libpython3.11"),
        ({"installed": ""}, "Install libpython3.11 with the package manager"),
    ],
)
def test_package_that_cannot_be_had(tmp_path: Path, options: dict[str, Any], advice: str) -> None:
    """No mirror, or a python3 that is no package: a missing tool with a cure, and nothing half in the cache."""
    with pytest.raises(ToolMissingError) as caught:
        find(Debian(facts(), **options), tmp_path)

    assert advice in caught.value.advice
    assert not list(tmp_path.glob("libpython/*"))
    assert not list(tmp_path.glob("libpython/.*"))


def test_package_without_the_library(tmp_path: Path) -> None:
    """A package that holds something else is said by name and version."""
    runner = Debian(facts())
    runner.holds = "usr/share/doc/changelog"

    with pytest.raises(ToolMissingError, match=f"libpython3.11 .* holds no {LIBRARY}"):
        find(runner, tmp_path)


def test_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without apt, or with an interpreter that is not the system's, nobody asks apt."""
    other = Debian(facts(prefix="/opt/python"))
    with pytest.raises(ToolMissingError, match="no shared library") as caught:
        find(other, tmp_path)
    monkeypatch.setattr(interpreter.shutil, "which", lambda name: None)
    fedora = Debian(facts())
    with pytest.raises(ToolMissingError, match="no shared library"):
        find(fedora, tmp_path)

    assert len(other.calls) == len(fedora.calls) == 1
    assert "Fedora: python3-libs" in caught.value.advice
    assert "uv python install 3.11" in caught.value.advice


# --- interpreters that have it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        (f"lib/{LIBRARY}", {"enabled": True, "shared": LIBRARY}),
        (f"lib/{LIBRARY}", {"enabled": True, "shared": ""}),
        (f"lib/{LIBRARY}", {"enabled": False}),
        (f"lib/x86_64-linux-gnu/{LIBRARY}", {}),
        (f"lib64/{LIBRARY}", {}),
        ("lib/libpython3.11.dylib", {}),
        ("lib/Python-special.so", {"enabled": True, "shared": "Python-special.so"}),
    ],
)
def test_library_beside_the_interpreter(tmp_path: Path, place: str, changed: dict[str, object]) -> None:
    """It is found where builds of CPython put it, and nothing is fetched."""
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).touch()
    runner = Debian(facts(prefix=str(tmp_path), libdir=str(tmp_path / "lib"), **changed))

    assert find(runner, tmp_path / "cache").libpython == (tmp_path / place).resolve()
    assert len(runner.calls) == 1


def test_static_library_is_none(tmp_path: Path) -> None:
    """An archive for the linker cannot be loaded."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libpython3.11.a").touch()
    runner = Debian(facts(prefix=str(tmp_path), libdir=str(tmp_path / "lib"), enabled=True))

    with pytest.raises(ToolMissingError, match="no shared library"):
        find(runner, tmp_path / "cache")


def test_windows_needs_none(tmp_path: Path) -> None:
    """There the bootloader finds the DLL itself."""
    assert find(Debian(facts(windows=True)), tmp_path).libpython is None


def test_pypy_is_refused(tmp_path: Path) -> None:
    """The message has the interpreter's path and what it is."""
    with pytest.raises(ToolMissingError, match="pypy, and only CPython") as caught:
        find(Debian(facts(implementation="pypy")), tmp_path)

    assert "--python" in caught.value.advice


def test_a_python_that_the_tools_do_not_run_on(tmp_path: Path) -> None:
    """Said before its dependencies are resolved."""
    with pytest.raises(ToolMissingError, match=r"3\.9\.18, and the oldest .* is 3\.10") as caught:
        find(Debian(facts(version="3.9.18")), tmp_path)

    assert "--python" in caught.value.advice


def test_identity_is_the_build(tmp_path: Path) -> None:
    """Another build under the same path is another interpreter for every cache key."""
    one = find(Debian(facts(windows=True)), tmp_path)
    other = find(Debian(facts(windows=True, build="3.11.2 (another)")), tmp_path)

    assert (one.path, one.version) == (other.path, other.version)
    assert one.identity != other.identity


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["", ".".join(map(str, sys.version_info[:2])), sys.executable])
def test_this_interpreter(tmp_path: Path, wanted: str) -> None:
    """No name, our own version and a path need no search; of a virtual environment its base is taken."""
    runner = Debian(facts(windows=True))
    find(runner, tmp_path, wanted)

    own = sys.executable if wanted == sys.executable else getattr(sys, "_base_executable", sys.executable)
    assert [words[0] for words in runner.calls] == [own]


def test_version_that_nobody_has(tmp_path: Path) -> None:
    """3.99 is searched, never downloaded, and refused with the way to get it."""

    class NoSuchVersion(Debian):
        def answer(self, words: list[str], cwd: Path | None) -> tuple[str, int]:
            return "error: No interpreter found for Python 3.99", 2

    runner = NoSuchVersion(facts())
    with pytest.raises(ToolMissingError) as caught:
        find(runner, tmp_path, "3.99")

    assert "uv python install 3.99" in caught.value.advice
    ((_, *words),) = runner.calls
    assert words[:2] == ["python", "find"]
    assert "--no-python-downloads" in words
    assert words[-1] == "3.99"


def test_version_that_is_found(tmp_path: Path) -> None:
    """The last line of the answer is the path that is probed."""

    class Found(Debian):
        def answer(self, words: list[str], cwd: Path | None) -> tuple[str, int]:
            return (
                ("a warning\n/opt/py/bin/python3.99\n", 0) if "find" in words else super().answer(words, cwd)
            )

    runner = Found(facts(windows=True))
    find(runner, tmp_path, "3.99")

    assert runner.calls[1][0] == "/opt/py/bin/python3.99"


def test_pyenv_s_versions_are_searched_and_its_shims_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shim fails for every version but the chosen one; the versions lie in folders of their own."""
    for name in ("shims", "versions/3.12.1/bin", "versions/3.13.0/bin", "versions/3.1.2/bin"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/shims:/usr/bin")

    assert interpreter._search_path("3.12") == f"/usr/bin:{tmp_path}/versions/3.12.1/bin"


def test_a_path_that_cannot_be_executed(tmp_path: Path) -> None:
    """A file without the bit is no interpreter."""
    (tmp_path / "python").touch(mode=0o644)
    with pytest.raises(ToolMissingError, match="no interpreter at"):
        find(Debian(facts()), tmp_path, str(tmp_path / "python"))


def test_path_that_is_not_there(tmp_path: Path) -> None:
    """A path is not searched elsewhere."""
    runner = Debian(facts())
    with pytest.raises(ToolMissingError, match=r"no interpreter at .*gone"):
        find(runner, tmp_path, str(tmp_path / "gone"))

    assert runner.calls == []


def test_real_probe(tmp_path: Path) -> None:
    """The probe runs in the interpreter that runs the tests, and knows what that one knows of itself."""
    found = interpreter._probe(Path(sys.executable), Runner())

    assert found.version == sys.version.split()[0].rstrip("+")
    assert (found.build, found.tag) == (sys.version, sys.implementation.cache_tag)
    assert found.path == os.path.realpath(sys.executable)
    assert found.prefix == sys.base_prefix


def test_program_that_is_no_python(tmp_path: Path) -> None:
    """A program that fails on the probe is named."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)

    with pytest.raises(ToolMissingError) as caught:
        interpreter._probe(program, Runner())

    assert str(program) in caught.value.advice


# --- headers ----------------------------------------------------------------------------------------------------------

DEBIAN = Interpreter(
    path=Path("/usr/bin/python3.11"),
    version="3.11.2",
    tag="cpython-311",
    identity="3.11.2 (main)",
    libpython=Path("/usr/lib/x.so"),
)
ELSEWHERE = Interpreter(
    path=Path("/opt/python/bin/python3"),
    version="3.11.2",
    tag="cpython-311",
    identity="3.11.2",
    libpython=None,
)


def headers_facts(*folders: Path | str, free: bool = False) -> str:
    return json.dumps({"folders": [str(folder) for folder in folders], "free": free})


def put_header(folder: Path) -> Path:
    (folder / "cpython").mkdir(parents=True)
    (folder / "cpython" / "initconfig.h").touch()
    return folder


def headers(runner: Runner, cache: Path, interpreter: Interpreter = DEBIAN) -> Headers:
    return find_headers(interpreter, runner, cache, lambda text: None)


@pytest.mark.parametrize(("free", "defines"), [(False, ()), (True, ("Py_GIL_DISABLED",))])
def test_headers_that_are_there(tmp_path: Path, free: bool, defines: tuple[str, ...]) -> None:
    """The first folder that has them, nothing is fetched; a free-threaded build says so to the compiler."""
    folder = put_header(tmp_path / "include")
    runner = Debian(headers_facts("", tmp_path / "empty", folder, free=free))

    assert headers(runner, tmp_path / "cache") == Headers(folder=folder.resolve(), defines=defines)
    assert len(runner.calls) == 1


def test_headers_of_the_distribution(tmp_path: Path) -> None:
    """Fetched once, in the installed version, beside and not instead of the library."""
    runner = Debian(headers_facts("/usr/include/nowhere"))
    runner.holds = "usr/include/python3.11/cpython/initconfig.h"
    found = headers(runner, tmp_path)
    again = Debian(headers_facts("/usr/include/nowhere"))

    assert runner.asked() == [f"libpython3.11-dev={VERSION}"]
    assert found.folder == (
        tmp_path.resolve() / "headers" / f"3.11-{VERSION}-amd64" / "usr/include/python3.11"
    )
    assert headers(again, tmp_path) == found
    assert [words[0] for words in again.calls if words[0] == "apt-get"] == []
    assert not (tmp_path / "libpython").exists()


def test_headers_of_another_release(tmp_path: Path) -> None:
    """A mirror that has only another CPython release is refused: PyConfig may be another there."""
    runner = Debian(headers_facts(), available=("3.11.9-1",))

    with pytest.raises(ToolMissingError, match=r"offers libpython3.11-dev_3\.11\.9"):
        headers(runner, tmp_path)


def test_headers_package_without_headers(tmp_path: Path) -> None:
    """A package that holds something else is said by name."""
    runner = Debian(headers_facts())
    runner.holds = "usr/share/doc/changelog"

    with pytest.raises(ToolMissingError, match=r"libpython3\.11-dev holds no cpython/initconfig\.h"):
        headers(runner, tmp_path)


def test_headers_that_nobody_has(tmp_path: Path) -> None:
    """An interpreter that is not the system's is never completed with the system's headers."""
    runner = Debian(headers_facts())
    with pytest.raises(ToolMissingError, match=r"/opt/python/bin/python3 has no headers") as caught:
        headers(runner, tmp_path, ELSEWHERE)

    assert len(runner.calls) == 1
    assert "Fedora: python3-devel" in caught.value.advice
    assert 'bundle = "pyinstaller"' in caught.value.advice


def test_real_headers_probe() -> None:
    """The probe runs in the interpreter that runs the tests, whose headers lie where sysconfig says or nowhere."""
    asked = Runner().run([sys.executable, "-I", "-S", "-c", interpreter._HEADERS_PROBE], name="probe")
    found = json.loads(asked.output)

    assert sysconfig.get_path("include") in found["folders"]
    assert found["free"] == bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
