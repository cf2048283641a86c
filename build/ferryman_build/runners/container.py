"""The container runner: what a container engine has an image for.

    FERRYMAN_ENGINE        its command line, several words allowed ("sudo docker"); else docker or podman, whichever answers
    FERRYMAN_ENGINE_ARGS   further arguments for every `run` ("--cgroups=disabled --ulimit nofile=1024:1024")
    FERRYMAN_IMAGE         an image; else one that is imported from the userlands of the runners rootfs and qemu

Each program gets a container of its own, with a read-only root and this machine's network, is its first process, and runs
as whoever builds: a program refuses a cache that belongs to another, and what it writes has to be removed again. The
engine's client is what was started here: it hands on streams, SIGTERM and the exit code. Ending the client alone would
leave the container running, so containers have names, and none outlives its place.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import shlex
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from ferryman_build.cmd import Child, Runner, environment, which
from ferryman_build.errors import BuildStepError, FerrymanError, ToolMissingError
from ferryman_build.runners import roots
from ferryman_build.runners.base import Command, Purpose, Readiness
from ferryman_build.runners.roots import Recipe, Root
from ferryman_build.settings import RunnerName
from ferryman_build.targets import Os, Target, host_target

ENGINE, ENGINE_ARGS, IMAGE = "FERRYMAN_ENGINE", "FERRYMAN_ENGINE_ARGS", "FERRYMAN_IMAGE"
_REPOSITORY = "localhost/ferryman"
_ANSWER_SECONDS = 30.0
_IMPORT_SECONDS = 1800.0
_END_SECONDS = 60.0
_WHERE = "import sys; print(sys.executable)"
_TRY_SECONDS = 120.0  # an image of another processor may be unpacked first
_GET = "Install docker or podman (Debian: apt-get install podman), or name one with FERRYMAN_ENGINE."
_REFUSED = (
    "See that this user may use it and, for docker, that its daemon runs; what it has to be told for every container belongs "
    "into FERRYMAN_ENGINE_ARGS, such as --cgroups=disabled."
)
# What `info` is asked for, and the word in its answer, by whether it is podman: one answers true or false, the other a list.
_ROOTLESS = {True: ("{{.Host.Security.Rootless}}", "true"), False: ("{{.SecurityOptions}}", "name=rootless")}
_TMPFS = "ro,noexec,nosuid,nodev,size=1m,mode=1777"
# An engine's own exit codes, as `docker run` documents them; what a program answers may be the same number.
_NO_PROGRAM = 127
_OWN_CODES = {
    125: "the engine failed",
    126: "the program cannot be executed",
    _NO_PROGRAM: "there is no such program",
}
_OWN_WORDS = re.compile(r"(?m)^(Error: |docker: |Error response from daemon)")


class Engine(msgspec.Struct, frozen=True):
    """A command line that answers, the images that it has, and what every run is given besides.

    ``rootless``: it runs in a user namespace of an ordinary user, who is root there unless the engine is told otherwise.
    """

    words: tuple[str, ...]
    args: tuple[str, ...]
    title: str
    images: frozenset[str]
    rootless: bool = False

    @property
    def is_podman(self) -> bool:
        """The two differ in some words."""
        return "podman" in self.title.lower()


_TRIED: set[tuple[Engine, str]] = set()
"""Engines and images with which a container was started by this process."""


def engine() -> Engine:
    """The engine of this machine; asked once, until :func:`forget`.

    Raises:
        ToolMissingError: there is none, or none that answers; the details are its own words.
    """
    known = _engine(os.environ.get(ENGINE, ""), os.environ.get(ENGINE_ARGS, ""), os.environ.get("PATH", ""))
    if isinstance(known, Engine):
        return known
    raise known


@functools.cache
def _engine(named: str, args: str, path: str) -> Engine | ToolMissingError:
    """The engine, or the refusal of the first that is here: both are remembered, for a plan asks for every target."""
    del path  # another PATH, another engine
    candidates = [tuple(shlex.split(named))] if named.strip() else [("docker",), ("podman",)]
    refusals = []
    for words in (words for words in candidates if shutil.which(words[0])):
        try:
            return _ask(words, tuple(shlex.split(args)))
        except ToolMissingError as error:
            refusals.append(error)
    names = " or ".join(map(shlex.join, candidates))
    return next(iter(refusals), ToolMissingError(f"There is no container engine ({names}).", advice=_GET))


def _ask(words: tuple[str, ...], args: tuple[str, ...]) -> Engine:
    def said(*question: str) -> list[str]:
        done = Runner().run(
            [*words, *question], name=shlex.join(words), failure=ToolMissingError, timeout=_ANSWER_SECONDS, advice=_REFUSED,
            env=environment(_engine_variables()),
        )  # fmt: skip
        return [line.strip() for line in done.output.splitlines() if line.strip()]

    images = said("images", "--format", "{{.Repository}}:{{.Tag}}")
    known = Engine(words, args, said("--version")[-1], frozenset(images))
    if os.geteuid() == 0:
        return known
    question, word = _ROOTLESS[known.is_podman]
    answer = re.split(r"[\s\[\],]+", " ".join(said("info", "--format", question)))
    return msgspec.structs.replace(known, rootless=word in answer)


def forget() -> None:
    """Ask again: an image has come."""
    _engine.cache_clear()
    _TRIED.clear()


class ContainerRunner:
    """Linux programs in containers; to build in one needs the userland that its image was made from."""

    name: ClassVar[RunnerName] = RunnerName.CONTAINER

    @property
    def may_have_python(self) -> bool:
        """See base.Lending: an image of one's own."""
        return bool(os.environ.get(IMAGE))

    def runs(self, target: Target, host: Target) -> bool:
        return target.os is Os.LINUX and host.os is Os.LINUX

    def ready(self, target: Target, purpose: Purpose, floor: Mapping[str, str]) -> Readiness:
        try:
            known = engine()
        except FerrymanError as error:
            found = "; ".join((str(error).rstrip("."), *error.details[-1:]))
            return Readiness(ready=False, found=found, advice=error.advice.rstrip("."))
        image, root = _image(target, purpose, floor, known)
        if image:
            return Readiness(ready=True, found=f"{known.title}, {_title(image, root)}")
        if os.environ.get(IMAGE) and purpose is Purpose.BUILD:
            return Readiness(
                ready=False, found=f"{IMAGE} is for trying", advice="build through rootfs or qemu"
            )
        return Readiness(ready=False, found=f"{known.title}, no image", advice=_setup(target))

    def setup(self, target: Target, runner: Runner, say: Callable[[str], None]) -> None:
        known = engine()
        if named := os.environ.get(IMAGE):
            say(f"{named}: pulling")
            runner.run([*known.words, "pull", named], name="image-pull", failure=ToolMissingError, advice=_REFUSED,
                       timeout=_IMPORT_SECONDS)  # fmt: skip
            forget()
            return
        for purpose in Purpose:
            wanted = roots.recipes(target, purpose, target.floor)
            if wanted:
                root = _root(wanted) or _made(target, wanted, runner, say)
                _import(root, known, runner, say)
        forget()

    @contextlib.contextmanager
    def open(
        self, target: Target, purpose: Purpose, floor: Mapping[str, str], work: Path, runner: Runner
    ) -> Iterator[ContainerPlace]:
        ready = self.ready(target, purpose, floor)
        if not ready.ready:
            raise ToolMissingError(
                f"No container can run programs of {target} here yet: {ready.found}.", advice=ready.advice
            )
        known = engine()
        image, root = _image(target, purpose, floor, known)
        work.mkdir(parents=True, exist_ok=True)
        place = ContainerPlace(
            known, image, root if purpose is Purpose.BUILD else None, work, _title(image, root)
        )
        try:
            place.try_once(runner)
            yield place
        finally:
            place.end()


def _setup(target: Target) -> str:
    return f"ferryman runners setup container --target {target}"


def _title(image: str, root: Root | None) -> str:
    return root.recipe.title if root else image


def _name(recipe: Recipe) -> str:
    return f"{_REPOSITORY}:{recipe.name}"


def _image(
    target: Target, purpose: Purpose, floor: Mapping[str, str], known: Engine
) -> tuple[str, Root | None]:
    """The image that programs run in, and the userland that it was made from; ("", None) when there is none."""
    named = os.environ.get(IMAGE, "")
    if named:
        there = {named, f"{named}:latest", f"localhost/{named}", f"localhost/{named}:latest"} & known.images
        there |= {image for image in known.images if image.endswith((f"/{named}", f"/{named}:latest"))}
        usable = purpose is Purpose.TRY and (there or "@" in named)
        return (named, None) if usable else ("", None)
    for recipe in roots.recipes(target, purpose, floor):
        root = _root((recipe,))
        if root and _name(recipe) in known.images:
            return _name(recipe), root
    return "", None


def _root(recipes: Sequence[Recipe]) -> Root | None:
    """The first of these userlands that one of the other runners has."""
    found = (roots.find(name, recipe) for recipe in recipes for name in (RunnerName.ROOTFS, RunnerName.QEMU))
    return next((root for root in found if root), None)


def _made(target: Target, recipes: Sequence[Recipe], runner: Runner, say: Callable[[str], None]) -> Root:
    from ferryman_build.runners.rootfs import (
        Qemu,
        Rootfs,
    )  # only here: it has no use for containers otherwise

    kind = Rootfs() if target.arch == host_target().arch else Qemu()
    kind.setup(target, runner, say)
    made = _root(recipes)
    if made is None:
        raise ToolMissingError(
            f"The runner {kind.name} made no userland for {target}.", advice=_setup(target)
        )
    return made


def _import(root: Root, known: Engine, runner: Runner, say: Callable[[str], None]) -> None:
    """The userland's archive as an image; its name changes with its packages."""
    image = _name(root.recipe)
    if image in known.images:
        say(f"{image}: is there")
        return
    say(f"{image}: importing {root.recipe.title}")
    arch = {"armv7": "arm"}.get(root.recipe.arch, root.recipe.arch)
    machine = ["--arch", arch, "--os", "linux"] if known.is_podman else ["--platform", f"linux/{arch}"]
    runner.run([*known.words, "import", *machine, root.tar, image], name="image-import", failure=ToolMissingError,
               timeout=_IMPORT_SECONDS, advice=_REFUSED)  # fmt: skip


class ContainerPlace:
    """A Place whose programs each start a container. ``python`` is that of the userland that the image was made from."""

    denies = True
    pipes = False

    def __init__(self, known: Engine, image: str, root: Root | None, work: Path, title: str) -> None:
        self.root: Path | None = root.path if root else None
        self.python: Path | None = root.path / "usr/bin/python3" if root else None
        self.label = "container"
        self.facts: tuple[str, ...] = (
            f"userland: {title}",
            f"container: {known.title}, read-only, first process of its own",
        )
        self._engine, self._image, self._work = known, image, work
        # Podman takes a path with a comma for a list of paths.
        self._files = Path(tempfile.mkdtemp(prefix="ferryman-env-")) if "," in str(work) else work
        self._stem = f"ferryman-{uuid.uuid4().hex[:12]}"
        self._numbers = itertools.count(1)
        self._names: list[str] = []
        self._seen: set[Path] = set()

    def spell(self, path: Path) -> str:
        """The same; only the userland's own files have shorter names inside."""
        if self.root and path.is_relative_to(self.root):
            return f"/{path.relative_to(self.root)}"
        return str(path)

    def unspell(self, text: str) -> Path:
        path = Path(text)
        if self.root is None or any(path.is_relative_to(folder) for folder in self._seen):
            return path
        return self.root / path.relative_to("/")

    def command(
        self,
        words: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str],
        folders: Sequence[Path] = (),
        shown: Sequence[Path] = (),
        denied: Sequence[Path] = (),
    ) -> Command:
        """See base.Place.

        The client's HOME is the program's own: whoever looks for what a program left running by its HOME finds processes of
        the container, and not everything that this user has running.

        Raises:
            BuildStepError: a path has a colon, which engines read as the end of it.
        """
        name = f"{self._stem}-{next(self._numbers)}"
        self._names.append(name)
        self._seen |= {*folders, *shown, cwd}
        writable = {*folders, cwd} - {*denied}
        readable = {*shown} - {*folders, cwd, *denied}
        mounts = [*((path, "rw") for path in sorted(writable)), *((path, "ro") for path in sorted(readable))]
        client = environment(_engine_variables())
        spelled = (self.spell(word) if isinstance(word, Path) else word for word in words)
        return Command(
            words=(
                which("env"), f"HOME={client.get('HOME', '/')}", *self._engine.words, "run", "--rm", "--interactive",
                "--name", name, "--pull=never", "--read-only", *self._network(), *self._person(), *self._engine.args,
                *_pairs("--tmpfs", (f"{path}:{_TMPFS}" for path in denied)),
                *_pairs("--volume", (_volume(path, mode) for path, mode in mounts)),
                "--workdir", str(cwd), *self._variables(name, env), self._image, *spelled,
            ),
            env={**client, "HOME": env.get("HOME") or str(self._work / name)}, cwd=cwd,
        )  # fmt: skip

    def _network(self) -> tuple[str, ...]:
        """This machine's, so that a program's port can be asked here; unless the user says another."""
        return () if self._said("--network", "--net") else ("--network=host",)

    def _person(self) -> tuple[str, ...]:
        """Whoever builds, in the engine's count, whatever the image says; unless the user says another.

        A rootless docker knows only its root, who is that person outside.
        """
        if self._said("--user", "-u", "--userns"):
            return ()
        if self._engine.rootless and not self._engine.is_podman:
            return ("--user=0:0",)
        mapped = ("--userns=keep-id",) if self._engine.rootless else ()
        return (*mapped, f"--user={os.geteuid()}:{os.getegid()}")

    def _said(self, *options: str) -> bool:
        """Whether FERRYMAN_ENGINE_ARGS has one of these."""
        return any(word.split("=")[0] in options for word in self._engine.args)

    def _variables(self, name: str, env: Mapping[str, str]) -> list[str]:
        """A file, which no list of processes shows; it has a line for each, so text with line breaks goes another way."""
        file = self._files / f"{name}.env"
        lines = {key: value for key, value in env.items() if "\n" not in value}
        file.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
        file.chmod(0o600)
        return [
            "--env-file",
            str(file),
            *_pairs("--env", (f"{k}={v}" for k, v in env.items() if k not in lines)),
        ]

    def try_once(self, runner: Runner) -> None:
        """See that the engine starts a container at all: that it answers questions does not mean that.

        Raises:
            ToolMissingError: it does not; the message ends in its own words.
        """
        if (self._engine, self._image) in _TRIED:
            return
        command = self.command(["true"], cwd=self._work, env={})
        done = runner.run(
            command.words, name="container-try", cwd=command.cwd, env=command.env, ok=range(256), timeout=_TRY_SECONDS,
            failure=ToolMissingError, advice=_REFUSED,
        )  # fmt: skip
        # Podman answers 126 where its runtime refuses; that the image has no such program is not the engine's affair.
        if done.returncode != _NO_PROGRAM and self.problem(done.returncode, done.output):
            raise ToolMissingError(
                f"{shlex.join(self._engine.words)} starts no container: {done.output.strip()[-300:]}",
                advice=_REFUSED,
            )
        _TRIED.add((self._engine, self._image))

    def find_python(self, runner: Runner) -> Path | None:
        """The Python that the image's own PATH has, as the container names it; None when there is none."""
        command = self.command(["python3", "-I", "-c", _WHERE], cwd=self._work, env={})
        done = runner.run(
            command.words, name="container-python", cwd=command.cwd, env=command.env, ok=range(256),
            timeout=_TRY_SECONDS,
        )  # fmt: skip
        found = done.output.strip()
        return Path(found) if done.returncode == 0 and found.startswith("/") else None

    def stop(self, child: Child) -> None:
        """SIGTERM by the engine: words in front of it ("sudo docker") need not hand signals on."""
        words = [str(word) for word in child.args] if isinstance(child.args, Sequence) else []
        name = next((after for word, after in itertools.pairwise(words) if word == "--name"), "")
        self._tell("kill", "--signal", "TERM", name)

    def end(self) -> None:
        """End every container that still runs, and remove what is left of it."""
        if self._names:
            said = self._tell("ps", "--all", "--filter", f"name={self._stem}", "--format", "{{.Names}}")
            left = sorted(
                {*said.split()} & {*self._names}
            )  # one name that is gone already would spare all others
            if left:
                self._tell("kill", *left)
                self._tell("rm", "--force", *left)
        for name in self._names:
            (self._files / f"{name}.env").unlink(missing_ok=True)
        self._names.clear()
        if self._files != self._work:
            shutil.rmtree(self._files, ignore_errors=True)

    def _tell(self, *words: str) -> str:
        """Its answer. What is gone already cannot be told anything, so every exit code will do.

        Raises:
            BuildStepError: the engine does not answer.
        """
        done = Runner().run(  # not the build's, which starts nothing any more once it is being ended
            [*self._engine.words, *words], name=f"container-{words[0]}", ok=range(-64, 256), timeout=_END_SECONDS,
            env=environment(_engine_variables()), advice=_REFUSED,
        )  # fmt: skip
        return done.output

    @staticmethod
    def problem(code: int, output: str) -> str:
        """What the engine, and not the program, has to say about an exit code; '' when it was the program's."""
        said = _OWN_WORDS.search(output)
        return (
            f"{_OWN_CODES[code]}: {output[said.start() :].splitlines()[0]}"
            if said and code in _OWN_CODES
            else ""
        )


def _engine_variables() -> dict[str, str]:
    """What engines are configured by, beside the files of their user."""
    return {name: value for name, value in os.environ.items()
            if name.startswith(("DOCKER_", "CONTAINER", "XDG_RUNTIME_DIR", "STORAGE_", "BUILDAH_"))}  # fmt: skip


def _pairs(option: str, values: Iterator[str] | Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _volume(path: Path, mode: str) -> str:
    if ":" in str(path):
        raise BuildStepError(
            f"{path} cannot be shown to a container: engines end a path at its colon.",
            advice="Name another folder with --out, or another runner.",
        )
    return f"{path}:{path}:{mode}"
