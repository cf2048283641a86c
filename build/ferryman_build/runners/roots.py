"""Userlands on disk: which one keeps a promise, how it is made, whether it is still whole.

    <home>/runners/<runner>/bullseye-amd64-try-1a2b3c4d/
        root.tar     what mmdebstrap made; from it a damaged root is made anew without a network
        root/        unpacked, without documentation; every run binds it read-only
        made.json    hashes of both

mmdebstrap unpacks packages and configures none ("extract"), so that nothing of the target runs meanwhile and an ordinary
user may do it. A userland is made beside its place and renamed into it: it is there as a whole or not at all.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import functools
import hashlib
import os
import shutil
import stat
import tarfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from ferryman_build import homes
from ferryman_build.checkout import NO_SPACE
from ferryman_build.cmd import Runner, environment
from ferryman_build.errors import SpaceError, ToolMissingError
from ferryman_build.runners.base import Purpose
from ferryman_build.settings import OLDEST_PYTHON, RunnerName
from ferryman_build.targets import Libc, Target

MIRROR = "FERRYMAN_DEBIAN_MIRROR"
"""Environment variable: the archive that userlands are made from, where apt's sources name none."""

_TOOLS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ANSWER_SECONDS = 20.0
_MAKE_SECONDS = 3600.0
_MERGED_USR = Path("/usr/share/mmdebstrap/hooks/merged-usr")
# Nothing that a program reads at run time.
_LEFT_OUT = ("usr/share/doc/", "usr/share/man/", "usr/share/info/", "usr/share/locale/", "usr/share/lintian/",
             "etc/apt/", "var/cache/", "var/log/", "dev/")  # fmt: skip
# What a machine has that was set up, which packages that nobody configured do not bring.
_FURNITURE = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/hostname": "userland\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/resolv.conf": "",
}


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of resources/userlands.toml; its head says what each field means."""


class Suite(Table, frozen=True, kw_only=True):
    """A release of Debian."""

    title: str
    glibc: str
    musl: str
    python: str

    def version(self, libc: Libc) -> str:
        """Of its C library."""
        return self.musl if libc is Libc.MUSL else self.glibc


class Machine(Table, frozen=True, kw_only=True):
    """A processor in the words of others."""

    debian: str
    qemu: str
    elf: str
    since: str = ""


class Packages(Table, frozen=True, kw_only=True):
    """What a userland is made of."""

    try_: tuple[str, ...] = msgspec.field(name="try")
    build: tuple[str, ...]
    links: Mapping[str, str] = {}

    def of(self, purpose: Purpose) -> tuple[str, ...]:
        """Empty when there is no such userland."""
        return self.build if purpose is Purpose.BUILD else self.try_


class Userlands(Table, frozen=True, kw_only=True):
    """The whole file."""

    suite: Mapping[str, Suite]
    machine: Mapping[str, Machine]
    packages: Mapping[Libc, Packages]


@functools.cache
def userlands() -> Userlands:
    """resources/userlands.toml."""
    text = resources.files("ferryman_build").joinpath("resources/userlands.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Userlands)


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """One userland: a release, a processor, a C library and a purpose."""

    suite: str
    arch: str
    libc: Libc
    purpose: Purpose

    @property
    def release(self) -> Suite:
        """The row of its suite."""
        return userlands().suite[self.suite]

    @property
    def machine(self) -> Machine:
        """The row of its processor."""
        return userlands().machine[self.arch]

    @property
    def packages(self) -> tuple[str, ...]:
        """What is unpacked, with all that it depends on."""
        return userlands().packages[self.libc].of(self.purpose)

    @property
    def name(self) -> str:
        """Of its folder; changes with the packages."""
        content = hashlib.sha256(" ".join(self.packages).encode()).hexdigest()[:8]
        words = (self.suite, self.machine.debian, *(("musl",) if self.libc is Libc.MUSL else ()))
        return "-".join((*words, self.purpose.value, content))

    @property
    def title(self) -> str:
        """For people: "Debian bullseye, glibc 2.31"."""
        name = "musl" if self.libc is Libc.MUSL else "glibc"
        return f"{self.release.title}, {name} {self.release.version(self.libc)}"


def promise(target: Target, floor: Mapping[str, str]) -> str:
    """The version of the C library that ``floor`` promises to be enough; '' when it promises none."""
    return floor.get("musl" if target.libc is Libc.MUSL else "glibc", "")


def recipes(target: Target, purpose: Purpose, floor: Mapping[str, str]) -> tuple[Recipe, ...]:
    """Userlands in which a program that keeps ``floor`` must run, the oldest first; none where Debian has nothing.

    The oldest is the one whose C library is nearest to the promise from above. A userland to build in also has a Python
    that the build tools still run on.
    """
    known = userlands()
    libc = target.libc or Libc.GNU
    if target.arch not in known.machine or not known.packages[libc].of(purpose):
        return ()
    least = _numbers(promise(target, floor) or "0")
    names = tuple(known.suite)
    first = names.index(known.machine[target.arch].since or names[0])
    return tuple(
        Recipe(suite=name, arch=target.arch, libc=libc, purpose=purpose)
        for name in names[first:]
        if _numbers((suite := known.suite[name]).version(libc)) >= least
        and (purpose is Purpose.TRY or _numbers(suite.python) >= OLDEST_PYTHON)
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """A userland that was made."""

    recipe: Recipe
    folder: Path

    @property
    def path(self) -> Path:
        """Its top."""
        return self.folder / "root"

    @property
    def tar(self) -> Path:
        """What it was unpacked from."""
        return self.folder / "root.tar"


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """made.json."""

    tar: str
    root: str


def store(runner: RunnerName) -> Path:
    """Where a runner keeps its userlands; it need not exist."""
    return homes.home() / "runners" / runner.value


def find(runner: RunnerName, recipe: Recipe) -> Root | None:
    """The userland if it was made; a look at names alone."""
    root = Root(recipe=recipe, folder=store(runner) / recipe.name)
    return root if (root.folder / "made.json").is_file() else None


def is_whole(root: Root) -> bool:
    """Whether every file is there, with the size and mode that it had."""
    made = _made(root)
    return made is not None and root.path.is_dir() and listing(root.path) == made.root


def _made(root: Root) -> Made | None:
    try:
        return msgspec.json.decode((root.folder / "made.json").read_bytes(), type=Made)
    except (OSError, msgspec.DecodeError):
        return None


def listing(top: Path) -> str:
    """One hash over names, types, modes, sizes and the targets of links."""
    total = hashlib.sha256()
    for line in sorted(_lines(os.fspath(top), "")):
        total.update(line)
    return total.hexdigest()


def _lines(folder: str, name: str) -> Iterator[bytes]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{name}/{entry.name}"
            info = entry.stat(follow_symlinks=False)
            size = 0 if stat.S_ISDIR(info.st_mode) else info.st_size
            link = os.readlink(entry.path) if entry.is_symlink() else ""  # noqa: PTH115 - scandir gives text
            yield os.fsencode(f"{path}\0{info.st_mode:o}\0{size}\0{link}\n")
            if entry.is_dir(follow_symlinks=False):
                yield from _lines(entry.path, path)


Finish = Callable[[Path, Recipe], None]
"""What else has to be done in an unpacked root, by programs of the target."""


def make(recipe: Recipe, name: RunnerName, runner: Runner, finish: Finish) -> Root:
    """Make the userland; nothing stays behind when that fails.

    Raises:
        ToolMissingError: mmdebstrap, a mirror or the right to use them is missing.
        BuildStepError: mmdebstrap failed; its log tells.
        SpaceError: the disk is full.
    """
    root = Root(recipe=recipe, folder=store(name) / recipe.name)
    with _alone(root):
        if not is_whole(root):
            with _beside(root) as draft:
                _bootstrap(draft, runner)
                _unpack(draft, finish)
    return root


def renew(root: Root, finish: Finish) -> None:
    """Unpack a damaged userland again.

    Raises:
        ToolMissingError: its tar is damaged as well.
        SpaceError: the disk is full.
    """
    with _alone(root):
        if not is_whole(root):  # another build may have done it meanwhile
            _renew(root, finish)


def _renew(root: Root, finish: Finish) -> None:
    made = _made(root)
    if made is None or not root.tar.is_file() or _sha256(root.tar) != made.tar:
        raise ToolMissingError(
            f"The userland {root.recipe.name} is damaged, and so is the archive that it was made from.",
            advice="Remove and set up the runner again: ferryman runners remove, ferryman runners setup.",
        )
    with _beside(root) as draft:
        shutil.copyfile(root.tar, draft.tar)
        _unpack(draft, finish)


@contextlib.contextmanager
def _alone(root: Root) -> Iterator[None]:
    """Nobody else makes or mends a userland of that runner; waits for whoever does. Linux alone has userlands."""
    import fcntl

    folder = root.folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _beside(root: Root) -> Iterator[Root]:
    """A draft that takes the place of ``root`` at the end."""
    draft = Root(recipe=root.recipe, folder=root.folder.with_name(f".{root.recipe.name}.{os.getpid()}"))
    old = draft.folder.with_suffix(".old")
    try:
        draft.path.mkdir(parents=True)
        yield draft
        if root.folder.exists():
            root.folder.rename(old)
        draft.folder.rename(root.folder)
    except OSError as error:
        if error.errno in NO_SPACE or error.errno == errno.EFBIG:
            raise SpaceError(
                f"No space left for a userland in {root.folder.parent}.",
                advice="Free a gigabyte, or name another folder with FERRYMAN_HOME.",
            ) from error
        raise
    finally:
        for folder in (draft.folder, old):
            shutil.rmtree(folder, ignore_errors=True)


def _bootstrap(draft: Root, runner: Runner) -> None:
    recipe = draft.recipe
    mmdebstrap = tool("mmdebstrap")
    if mmdebstrap is None:
        raise ToolMissingError(
            "A userland is made by mmdebstrap, which was not found.",
            advice="As root: apt-get install mmdebstrap",
        )
    hooks = [f"--hook-dir={_MERGED_USR}"] if _MERGED_USR.is_dir() else []
    line = f"deb {mirror(runner)} {recipe.suite} main"
    runner.run(
        [mmdebstrap, "--variant=extract", f"--mode={_mode()}", "--skip=check/qemu", *hooks,
         f"--architectures={recipe.machine.debian}", f"--include={','.join(recipe.packages)}",
         recipe.suite, str(draft.tar), line],
        name=f"mmdebstrap-{recipe.suite}-{recipe.machine.debian}", timeout=_MAKE_SECONDS,
        env=environment({"PATH": _TOOLS}), cwd=draft.folder,
        advice=f"Read the log's last lines; another mirror can be named with {MIRROR}.",
    )  # fmt: skip


def tool(name: str) -> str | None:
    """A program of the system, which a user's PATH may not show."""
    return shutil.which(name, path=_TOOLS)


def _mode() -> str:
    """How mmdebstrap may become root: it is, or maps the user's subordinate ids (shadow's /etc/subuid)."""
    return "root" if os.geteuid() == 0 else "unshare"


def _unpack(draft: Root, finish: Finish) -> None:
    """Fill the draft's root from its tar, and write down what came of it."""
    with tarfile.open(draft.tar) as archive:
        members = [member for member in archive if _wanted(member)]
        # It is our own archive, and links to everywhere belong in it. As an attribute, because the argument is unknown
        # to Python 3.11.3 and older.
        archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        archive.extractall(draft.path, members, numeric_owner=True)  # noqa: S202 - see above
    for name, text in _FURNITURE.items():
        _write(draft.path / name, text)
    for name, target in userlands().packages[draft.recipe.libc].links.items():
        with contextlib.suppress(FileExistsError):
            (draft.path / name).symlink_to(target)
    finish(draft.path, draft.recipe)
    made = Made(tar=_sha256(draft.tar), root=listing(draft.path))
    (draft.folder / "made.json").write_bytes(msgspec.json.encode(made))


def _wanted(member: tarfile.TarInfo) -> bool:
    return not member.isdev() and not f"{member.name.removeprefix('./')}/".startswith(_LEFT_OUT)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mirror(runner: Runner) -> str:
    """The archive: what FERRYMAN_DEBIAN_MIRROR says, else where this machine's own apt takes a Debian from.

    Raises:
        ToolMissingError: there is none.
    """
    given = os.environ.get(MIRROR)
    if given:
        return given
    if shutil.which("apt-get"):
        asked = runner.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(CODENAME)|$(RELEASE)|$(COMPONENT)",
             "Created-By: Packages"],
            name="apt-sources",
        )  # fmt: skip
        for line in asked.output.splitlines():
            uri, _, words = line.partition("|")
            codename, _, rest = words.partition("|")
            if rest.endswith("|main") and {codename, rest.split("|")[0]} & set(userlands().suite):
                return uri
    raise ToolMissingError(
        "apt's sources on this machine name no Debian archive.",
        advice=f"Run apt-get update, or name an archive: {MIRROR}=https://…/debian",
    )


def offered(found: Sequence[Recipe], runner: Runner) -> Recipe:
    """The first of ``found`` whose release the mirror still has for that machine.

    Raises:
        ToolMissingError: it has none of them, or does not answer.
    """
    uri = mirror(runner)
    for recipe in found:
        try:
            there = _has(uri, recipe)
        except OSError as error:
            raise ToolMissingError(
                f"The archive {runner.redact(uri)} does not answer: {getattr(error, 'reason', error)}.",
                advice=f"Try again, or name another one: {MIRROR}=https://…/debian",
            ) from error
        if there:
            return recipe
    names = ", ".join(recipe.suite for recipe in found) or "that keeps this promise"
    machine = f" for {found[0].machine.debian}" if found else ""
    raise ToolMissingError(
        f"The mirror has no release {names}{machine}.",
        advice=f"Name one that has older releases: {MIRROR}=https://…/debian",
    )


def _has(uri: str, recipe: Recipe) -> bool:
    """Whether a release is there for a machine; true where only apt itself can tell (copy:, cdrom: …).

    Raises:
        OSError: the mirror does not answer.
    """
    if not uri.startswith(("http:", "https:", "file:")):
        return True
    import urllib.error  # as heavy as everything else here together, and needed for a setup alone
    import urllib.request
    from urllib.parse import urlsplit

    class Faithful(urllib.request.HTTPRedirectHandler):
        """Follows, and tells a password to the server that it is for and to no other."""

        def redirect_request(
            self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
        ) -> urllib.request.Request | None:
            new = super().redirect_request(req, fp, code, msg, headers, newurl)
            if new is not None and urlsplit(req.full_url)[:2] == urlsplit(newurl)[:2]:
                _tell(new, req.unredirected_hdrs)
            return new

    # Rare machines leave a release before it is dropped, so the release's own file is not enough.
    address, headers = _address(uri, f"dists/{recipe.suite}/main/binary-{recipe.machine.debian}/Release")
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - checked above
    _tell(request, headers)
    try:
        with urllib.request.build_opener(Faithful).open(request, timeout=_ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        with error:
            return False
    except urllib.error.URLError:
        if uri.startswith("file:"):
            return False
        raise


def _tell(request: Any, headers: Mapping[str, str]) -> None:
    """A user and a password, which urllib is not to hand on to whoever it is sent to."""
    if "Authorization" in headers:
        request.add_unredirected_header("Authorization", headers["Authorization"])


def _address(uri: str, path: str) -> tuple[str, dict[str, str]]:
    """The address of ``path`` and its headers: apt understands a password within an address, and urllib does not."""
    from urllib.parse import unquote, urlsplit

    place = urlsplit(uri)
    address = f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path.rstrip('/')}/{path}"
    if not place.username:
        return address, {}
    word = f"{unquote(place.username)}:{unquote(place.password or '')}".encode()
    return address, {"Authorization": f"Basic {base64.b64encode(word).decode()}"}
