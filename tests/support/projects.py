"""Small projects as other people lay them out, and what is asked of a command about them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from support.ferryman import Outcome, Workshop

MAIN = "import sys\n\n\ndef main():\n    print('lit', *sys.argv[1:])\n"
SETUPTOOLS = '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'
FLIT = '[build-system]\nrequires = ["flit_core>=3"]\nbuild-backend = "flit_core.buildapi"\n'
PROJECT = '[project]\nname = "lamp"\nversion = "1.0"\ndescription = "a lamp"\n'
SCRIPT = '[project.scripts]\nlamp = "lamp:main"\n'

Make = Callable[..., Workshop]


def maker(folder: Path, shared_out: Path) -> Make:
    """What makes projects of some files below a folder; each call may name the folder that it lies in, and an out/ of its own."""

    def make(files: Mapping[str, str], name: str = "project", out: Path = shared_out) -> Workshop:
        project = folder / name
        for file, text in files.items():
            path = project / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return Workshop(project=project, out=out, dist=folder / "dist")

    return make


def built(workshop: Workshop, kind: str = "archive") -> str:
    """The name of the product; its smoke test has run it with --version."""
    outcome = workshop.run("build", "--kind", kind)
    assert outcome.code == 0, outcome.err
    (artifact,) = workshop.manifest()["artifacts"]
    assert artifact["smoke"]["status"] == "passed"
    return str(artifact["path"])


def refused(workshop: Workshop, code: int, *said: str, words: tuple[str, ...] = ("build",)) -> Outcome:
    """Run, and see the exit code, the sentences, a cure and no dist/."""
    outcome = workshop.run(*words)
    assert outcome.code == code, outcome.err
    for sentence in (*said, "what to do: "):
        assert sentence in outcome.err
    assert "Traceback (most recent call last)" not in outcome.err.partition("\n")[0]
    assert not workshop.dist.is_dir()
    return outcome


def write_wheel(path: Path, files: Mapping[str, str]) -> None:
    """A wheel of these files."""
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
