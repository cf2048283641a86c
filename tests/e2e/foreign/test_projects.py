"""Projects as other people lay them out: each is built and runs, what its dependencies ask of PyInstaller included."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from ferryman_build.targets import host_target
from support.projects import FLIT, MAIN, PROJECT, SCRIPT, SETUPTOOLS, Make, built, maker, refused, write_wheel

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An out/ for all of them: each distinct step runs once, as on a developer's machine."""
    return tmp_path_factory.mktemp("shared") / "out"


@pytest.fixture
def make(tmp_path: Path, shared_out: Path) -> Make:
    return maker(tmp_path, shared_out)


BUILT: dict[str, dict[str, str]] = {
    "a module, no build-system table, a gui-script": {
        "pyproject.toml": f'{PROJECT}[project.gui-scripts]\nlamp = "lamp:main"\n',
        "lamp.py": MAIN,
    },
    "other names for distribution, script and package": {
        "pyproject.toml": f"{SETUPTOOLS}{PROJECT.replace('lamp', 'Light.House-Keeper', 1)}"
        '[project.scripts]\nlamp = "beacon.cli:main"\n[tool.setuptools]\npackages = ["beacon"]\n',
        "beacon/__init__.py": "",
        "beacon/cli.py": MAIN,
    },
    "a namespace package below src": {
        "pyproject.toml": f'{SETUPTOOLS}{PROJECT}[project.scripts]\nlamp = "coast.lamp.cli:main"\n'
        '[tool.setuptools.packages.find]\nwhere = ["src"]\n',
        "src/coast/lamp/__init__.py": "",
        "src/coast/lamp/cli.py": MAIN,
    },
    "a method as entry point, py_modules": {
        "pyproject.toml": f'{SETUPTOOLS}{PROJECT}[project.scripts]\nlamp = "lamp:Lamp.main"\n'
        '[tool.setuptools]\npy-modules = ["lamp"]\n',
        "lamp.py": "class Lamp:\n    @classmethod\n    def main(cls):\n        print('lit')\n",
    },
    "poetry": {
        "pyproject.toml": '[build-system]\nrequires = ["poetry-core>=2"]\nbuild-backend = "poetry.core.masonry.api"\n'
        f"{PROJECT}{SCRIPT}",
        "lamp/__init__.py": MAIN,
    },
    "pdm": {
        "pyproject.toml": f'[build-system]\nrequires = ["pdm-backend"]\nbuild-backend = "pdm.backend"\n{PROJECT}{SCRIPT}',
        "src/lamp/__init__.py": MAIN,
    },
}


@pytest.mark.parametrize("name", BUILT)
def test_a_project_of_another_layout_is_built(make: Make, name: str) -> None:
    """One archive, which its smoke test has run."""
    assert built(make(BUILT[name])).startswith("lamp-1.0-")


def test_extras_of_a_dependency_are_in_the_program(make: Make) -> None:
    """What only an extra brings is installed and found."""
    text = f'{FLIT}{PROJECT}dependencies = ["uvicorn[standard]>=0.30"]\n{SCRIPT}'
    built(make({"pyproject.toml": text, "lamp.py": f"import uvicorn, httptools, dotenv\n{MAIN}"}))


@pytest.mark.parametrize("folder", ["-lamp:100%41", 'it\'s "{one}" #1'])
def test_a_project_in_a_folder_of_any_name(make: Make, folder: str) -> None:
    """Its files are its own: data are collected, and the smoke test is told where it lies."""
    table = '[[tool.ferryman.data]]\nsource = "texts/*"\n[tool.ferryman.smoke]\ncommands = [["{project}/lamp.py"]]\n'
    files = {
        "pyproject.toml": f"{FLIT}{PROJECT}{SCRIPT}{table}",
        "lamp.py": f"{MAIN}    open(sys.argv[1]).close()\n    # {folder}\n",
        "texts/a b:c.txt": "text",
    }
    workshop = make(files, folder)
    name = built(workshop)

    with tarfile.open(workshop.dist / name) as archive:
        assert any(member.endswith("_internal/a b:c.txt") for member in archive.getnames())


GLOW = {
    "glow/__init__.py": "brightness = 0\n",
    "glow/_colours.py": "red = 'red'\n",
    "glow/_hooks/__init__.py": "import os\n\n\ndef folders():\n    return [os.path.dirname(__file__)]\n",
    "glow/_hooks/hook-glow.py": "hiddenimports = ['glow._colours']\n",
    "glow/_hooks/rthooks.dat": "{'glow': ['pyi_rth_glow.py']}",
    "glow/_hooks/rthooks/pyi_rth_glow.py": "import os, sys\nimport glow\n\nlevel = 7\n\n\ndef light():\n"
    "    glow.brightness = level\n    glow.home = sys._MEIPASS\n\n\nlight()\n",
    "glow-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: glow\nVersion: 1.0\n",
    "glow-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "glow-1.0.dist-info/entry_points.txt": "[pyinstaller40]\nhook-dirs = glow._hooks:folders\n",
    "glow-1.0.dist-info/RECORD": "",
}
GLOWING = """import importlib, os, sys, glow


def main():
    import __main__
    assert os.path.samefile(glow.home, os.path.join(os.path.dirname(glow.__file__), os.pardir))
    assert not hasattr(__main__, "light") or sys.argv[1] == "pyinstaller"
    print(glow.brightness, importlib.import_module("glow." + "_colours").red)
"""


@pytest.mark.parametrize("bundle", ["ferryman", "pyinstaller"])
def test_hooks_of_a_dependency_do_their_work(make: Make, tmp_path: Path, bundle: str) -> None:
    """What a distribution tells PyInstaller holds: hidden imports are collected, its runtime hook runs before the program.

    With the launcher, and with PyInstaller's bootloader where the target's table asks for it.
    """
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_wheel(wheels / "glow-1.0-py3-none-any.whl", GLOW)
    text = (
        f'{FLIT}{PROJECT}dependencies = ["glow"]\n{SCRIPT}[tool.ferryman]\nsmoke.commands = [["{bundle}"]]\n'
    )
    if bundle != "ferryman":
        text += f'[tool.ferryman.target.{host_target()}]\nbundle = "{bundle}"\n'
    workshop = make({"pyproject.toml": text, "lamp.py": GLOWING})
    outcome = workshop.run("build", "--kind", "archive,executable", env={"UV_FIND_LINKS": str(wheels)})
    assert outcome.code == 0, outcome.err

    rows = workshop.manifest()["artifacts"]
    assert [(row["bundler"], row["smoke"]["status"]) for row in rows] == [(bundle, "passed")] * 2
    done = subprocess.run(
        [workshop.artifact("executable"), bundle], capture_output=True, text=True, check=True
    )
    assert done.stdout == "7 red\n"


WORKERS = """import multiprocessing, os, sys


def square(number):
    return number * number, os.path.basename(sys.executable), getattr(sys, "frozen", False)


def main():
    for method in sys.argv[1:]:
        context = multiprocessing.get_context(method)
        lock, queue = context.Lock(), context.Queue()
        with context.Pool(2) as pool:
            found = pool.map(square, range(3))
        assert found == [(number**2, os.path.basename(sys.executable), True) for number in range(3)], found
        print(method)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has spawn alone")
@pytest.mark.parametrize("bundle", ["ferryman", "pyinstaller"])
def test_processes_of_multiprocessing(make: Make, tmp_path: Path, bundle: str) -> None:
    """Workers, the fork server and the resource tracker of every start method; nobody calls freeze_support."""
    table = f'[tool.ferryman]\nbundle = "{bundle}"\nsmoke.commands = [["spawn"]]\n'
    workshop = make({"pyproject.toml": f"{FLIT}{PROJECT}{SCRIPT}{table}", "lamp.py": WORKERS})
    outcome = workshop.run("build", "--kind", "archive,executable")
    assert outcome.code == 0, outcome.err

    with tarfile.open(workshop.artifact("archive")) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian 12's Python has none
        archive.extractall(tmp_path)
    methods = ["spawn", "forkserver", "fork"]
    for program in (next(tmp_path.glob("lamp-*/lamp")), workshop.artifact("executable")):
        done = subprocess.run([program, *methods], capture_output=True, text=True, timeout=60, check=False)
        assert (done.stdout.split(), done.stderr) == (methods, "")


def test_a_module_that_is_imported_by_name_alone_is_named(make: Make) -> None:
    """A package that loads its parts when they are asked for: the smoke test sees it, and the cure works."""
    lazy = "import importlib\n\n\ndef __getattr__(name):\n    if name != 'main':\n        raise AttributeError(name)\n"
    lazy += "    return importlib.import_module('._parts', __name__).main\n"
    text = f"{FLIT}{PROJECT}{SCRIPT}"
    workshop = make({"pyproject.toml": text, "lamp/__init__.py": lazy, "lamp/_parts.py": MAIN})
    refused(workshop, 9, 'hidden-imports = ["lamp._parts"]', words=("build", "--kind", "archive"))

    (workshop.project / "pyproject.toml").write_text(
        f'{text}[tool.ferryman]\nhidden-imports = ["lamp._parts"]\n'
    )
    built(workshop)


def test_a_dependency_without_a_wheel_is_blocked_until_there_is_one(make: Make, tmp_path: Path) -> None:
    """Only a source distribution anywhere: said by the plan. The cure is a folder with the wheel."""
    text = f'{FLIT}{PROJECT}dependencies = ["docopt==0.6.2"]\n{SCRIPT}'
    workshop = make({"pyproject.toml": text, "lamp.py": f"import docopt\n{MAIN}"})
    refused(workshop, 5, "docopt 0.6.2 has no wheel", "UV_FIND_LINKS")

    wheels = tmp_path / "wheels"
    wheels.mkdir()
    files = {
        "docopt.py": "",
        "docopt-0.6.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: docopt\nVersion: 0.6.2\n",
        "docopt-0.6.2.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "docopt-0.6.2.dist-info/RECORD": "",
    }
    write_wheel(wheels / "docopt-0.6.2-py3-none-any.whl", files)
    outcome = workshop.run("build", "--kind", "archive,pyz", env={"UV_FIND_LINKS": str(wheels)})
    assert outcome.code == 0, outcome.err
