"""What the matrix does with bad input: told in a sentence with its cure and its exit code, and nothing is left in dist/."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.matrix import machine
from e2e.matrix.agents import OUT, Machine, workshop
from support.ferryman import Workshop, lantern
from support.plover.building import STABLE

pytestmark = [pytest.mark.e2e, pytest.mark.network, pytest.mark.timeout(1800)]

BLOCKED, BUILD_STEP = 5, 7
SETUP = {
    "linux-arm64": "ferryman runners setup qemu --target linux-arm64",
    "windows-amd64": "ferryman runners setup wine",
}


# --- a runner that is missing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", list(SETUP))
def test_without_a_runner_it_is_built_and_called_untested(
    target: str, here: Machine, empty_home: Path, tmp_path: Path
) -> None:
    """The artifact is delivered; the manifest says that nothing has run it, and the command that would change that."""
    shop = workshop("lantern", tmp_path / "dist")
    floor = ["--floor", machine.FLOOR] if target.startswith("linux") else []
    done = here.run(
        shop, "build", "--target", target, "--kind", "archive", *floor, FERRYMAN_HOME=str(empty_home)
    )
    assert done.code == 0, done.err
    [row] = shop.manifest()["artifacts"]

    assert (row["target"], row["smoke"]["status"], row["smoke"]["checks"]) == (target, "untested", [])
    assert row["smoke"]["reason"].startswith("untested here: ")
    assert SETUP[target] in row["smoke"]["reason"]
    assert SETUP[target] in done.err


def test_without_its_runner_pyinstaller_is_blocked(here: Machine, empty_home: Path, tmp_path: Path) -> None:
    """Its analysis would have to run there: 5, the command, and the way that needs no runner."""
    shop = workshop("lantern", tmp_path / "dist")
    done = here.run(
        shop, "build", "--target", "linux-arm64", "--kind", "archive", "--collector", "pyinstaller",
        "--floor", machine.FLOOR, FERRYMAN_HOME=str(empty_home),
    )  # fmt: skip

    assert done.code == BLOCKED, done.err
    assert SETUP["linux-arm64"] in done.err
    assert 'collector = "standalone"' in done.err
    assert shop.delivered() == {}


# --- a promise below its runtime --------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("--floor", "glibc 2.19")], ids=["the target's row", "--floor"])
def test_a_promise_below_its_runtime_is_blocked(
    words: tuple[str, ...], here: Machine, tmp_path: Path
) -> None:
    """The row of linux-arm64 says 2.17 and the test runtime needs more: 5, both numbers, and the floor that would hold."""
    shop = workshop("lantern", tmp_path / "dist")
    first = here.run(shop, "build", "--target", "linux-arm64", "--kind", "archive", "--floor", machine.FLOOR)
    assert first.code == 0, first.err  # now the runtime is unpacked, and its floor measured
    before = shop.delivered()
    done = here.run(shop, "build", "--target", "linux-arm64", "--kind", "archive,executable", *words)
    promise = words[-1].split()[-1] if words else "2.17"

    assert done.code == BLOCKED, done.err
    assert f"and linux-arm64 promises {promise}." in done.err
    assert "promise less: floor = " in done.err
    assert shop.delivered() == before


# --- a wheel under another name ---------------------------------------------------------------------------------------

X86 = "manylinux2014_x86_64.manylinux_2_17_x86_64"
ARM = "manylinux2014_aarch64.manylinux_2_17_aarch64"


def renamed(wheel: Path, into: Path) -> Path:
    """The file's name alone is another."""
    return Path(shutil.copy(wheel, into / wheel.name.replace(X86, ARM)))


def relabelled(wheel: Path, into: Path) -> Path:
    """Its WHEEL file tells the same lie as its name."""
    made = into / wheel.name.replace(X86, ARM)
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(made, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(
                info, data.replace(b"x86_64", b"aarch64") if info.filename.endswith("/WHEEL") else data
            )
    return made


LIES: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "renamed": (renamed, "was renamed: its WHEEL file says "),
    "relabelled": (relabelled, "amd64"),
}


@pytest.fixture(scope="module")
def plover(here: Machine, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workshop, Path]:
    """A project with an extension, built for this machine; and its wheel."""
    folder = tmp_path_factory.mktemp("plover")
    project = Path(shutil.copytree(STABLE, folder / "project"))
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    (project / "pyproject.toml").write_text(
        text + '\n[project.scripts]\nplover = "plover:digest"\n', encoding="utf-8"
    )
    shop = Workshop(project=project, out=OUT / "plover", dist=folder / "dist")
    done = here.run(shop, "build", "--target", machine.HOST, "--kind", "pyz", "--runner", "none")
    assert done.code == 0, done.err
    wheel = max(
        (shop.out / "cache" / "wheel").glob(f"*/plover-*{X86}.whl"), key=lambda path: path.stat().st_mtime
    )
    return shop, wheel


@pytest.mark.parametrize("lie", list(LIES))
def test_a_wheel_under_another_name_is_refused(
    lie: str, here: Machine, plover: tuple[Workshop, Path], tmp_path: Path
) -> None:
    """An x86 wheel that calls itself an ARM one: 7, by its name and by what is in it; dist/ stays as it was."""
    shop, wheel = plover
    tell, sentence = LIES[lie]
    made = tell(wheel, tmp_path)
    before = shop.delivered()
    done = here.run(
        shop, "build", "--target", "linux-arm64", "--kind", "pyz", "--runner", "none", "--wheels", str(tmp_path)
    )  # fmt: skip

    assert done.code == BUILD_STEP, done.err
    assert made.name in done.err
    assert sentence in done.err
    assert "what to do: " in done.err
    assert shop.delivered() == before


def test_half_a_matrix_is_not_delivered(here: Machine, tmp_path: Path) -> None:
    """One target of two whose service does not come up: 9, and neither target's artifacts are in dist/."""
    shop = lantern(tmp_path, OUT / "broken")
    shop.edit(
        "src/lantern/command.py",
        "def serve(port):\n",
        "def serve(port):\n    if sys.platform == 'win32':\n        return 3\n",
    )
    done = here.run(
        shop, "build", "--target", "linux-amd64,windows-amd64", "--kind", "archive", "--floor", machine.FLOOR
    )

    assert done.code == 9, done.err
    assert "windows-amd64 (archive) did not pass its smoke test" in done.err
    assert shop.delivered() == {}
