"""What the launcher promises of speed and size, each against its peer in the same run.

1. A later start of the one-file (`--version`) takes at most 1.25 times `python3 -I -S -c pass` of the same interpreter;
   with everything imported, no more than the same program from a virtual environment.
2. A first start, with an empty cache, takes at most 0.7 times a start of PyInstaller's one-file.
3. The one-file has at most 0.45 times the size of PyInstaller's one-file as it comes.
4. A running agent is one process, needs no more than 1.05 times the memory of the plain interpreter with the same
   imports, and has written nothing outside of its cache.
5. The launcher without a payload is below 150 kB on Linux and below 250 kB on Windows.

Beside them, for information: the other peers, and the design with a second, static program that was not chosen.
`--fresh` builds the peers again, `--without=NAME` leaves one out.
"""

from __future__ import annotations

import argparse
import itertools
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import peers
from built import AGENT, Built
from compiled import Compiler
from footprint import Service, median, outside, written
from measure import Ratio, Start, Times, against, in_turn, run, undisturbed
from peers import Peer
from table import ROOT, Row, keep, row, show

from ferryman_build.errors import BuildStepError

OURS = "Ferryman one-file"
TREE = "Ferryman archive"
BARE = "bare python"
VENV = "virtual environment"
FILE = "PyInstaller one-file"
LIBRARIES = ("aiohttp", "aiohttp.web", "msgspec", "prometheus_client", "psutil", "yaml")
CONFIG = AGENT / "examples" / "smoke.yaml"
TAKEN = 5  # the agent's exit code when its address is taken


class Bench:
    """The forms of the program, and the places that they run in."""

    def __init__(self, work: Path, options: argparse.Namespace) -> None:
        self.work = work
        self.used = itertools.count()
        self.built = Built()
        one_file = self.built.artifact("executable")
        if one_file["bundler"] != "ferryman":
            raise SystemExit(f"The one-file is {one_file['bundler']}'s: there is no launcher to measure.")
        shop = peers.workshop(
            base=self.built.base, command=self.built.name, entry=self.built.entry, fresh=options.fresh,
            requirements=self.built.requirements, wheel=self.built.wheel,
        )  # fmt: skip
        self.compiler = Compiler(self.built)
        self.python = shop.venv / "bin" / "python"
        self.tree = self.built.unpack_tree(work / "unpacked")
        self.one_file = self.built.path("executable")
        self.ours = Peer(
            name=OURS, args=[str(self.one_file)], size=peers.size(self.one_file), cache="FERRYMAN_CACHE"
        )
        folder = Peer(name=TREE, args=[str(self.tree)], size=peers.size(self.built.path("archive")))
        self.all = [self.ours, folder, *peers.build(shop, without=options.without)]
        self.forms = {peer.name: peer for peer in self.all if peer.args}
        self.env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        for name, place in (("HOME", "home"), ("TMPDIR", "tmp")):
            (work / place).mkdir()
            self.env[name] = str(work / place)

    def start(self, peer: Peer, *args: str, code: int = 0, first: bool = False) -> Start:
        """``first``: with an empty cache, each time."""
        cache = self.cache(peer, first=first)
        env = {**self.env, peer.cache: str(cache)} if peer.cache else self.env

        def empty() -> None:
            # Moved and not removed: ext4 takes long to give out the inodes of files that were removed just now (it looks at
            # each of them), and nobody's first start comes right after the removal of such a tree.
            if cache.exists():
                cache.rename(cache.with_name(f"{cache.name}-{next(self.used)}"))

        return Start(
            name=peer.name, args=[*peer.args, *args], env=env, code=code, before=empty if first else None
        )

    def cache(self, peer: Peer, *, first: bool = False) -> Path:
        return self.work / "caches" / f"{peer.name}{'-first' if first else ''}"

    def after_restart(self) -> Start:
        """A later start that finds a tree from another boot of the machine, and compares every file of it once."""
        marked = self.start(replace(self.ours, name="after a restart"), "--version")
        run(marked)
        marker = next(self.cache(replace(self.ours, name="after a restart")).glob("*/*/.ferryman"))

        def forget() -> None:
            marker.write_text("ferryman 1\nboot another\n", encoding="ascii")

        return replace(marked, before=forget)

    def version(self, name: str, *, first: bool = False) -> Start:
        return self.start(self.forms[name], "--version", first=first)

    def service(self, peer: Peer) -> Service:
        def args(port: int) -> Sequence[str]:
            return [*peer.args, *_run(port)]

        return Service(name=peer.name, args=args, env=self.start(peer).env, cwd=self.work)


def _run(port: int) -> list[str]:
    return ["run", "--config", str(CONFIG), "--listen", f"127.0.0.1:{port}"]


def _seen(ratio: Ratio, times: Times, ours: str, theirs: str) -> str:
    return (
        f"{times.wall(ours) * 1e3:.1f} ms / {times.wall(theirs) * 1e3:.1f} ms, "
        f"{ratio.low:.2f} to {ratio.high:.2f} in {ratio.rounds} pairs; "
        f"processor time {times.cpu(ours) * 1e3:.1f} ms / {times.cpu(theirs) * 1e3:.1f} ms"
    )


def _promise(what: str, ours: Start, theirs: Start, limit: float, least: int, most: int) -> Row:
    ratio, times = against(ours, theirs, limit=limit, least=least, most=most)
    return row(what, ratio.value, limit, _seen(ratio, times, ours.name, theirs.name))


def starts(bench: Bench) -> Iterator[Row]:
    """The promises of speed."""
    bare = Start(name=BARE, args=[str(bench.built.base), "-I", "-S", "-c", "pass"], env=bench.env)
    yield _promise(
        "one-file, later starts: --version / bare python", bench.version(OURS), bare, 1.25, 100, 400
    )

    with taken_port() as port:
        ours = bench.start(bench.ours, *_run(port), code=TAKEN)
        theirs = bench.start(bench.forms[VENV], *_run(port), code=TAKEN)
        yield _promise("one-file, all that `run` imports / venv", ours, theirs, 1.0, 20, 60)

    program = "import " + ", ".join([*LIBRARIES, *bench.built.modules()])
    interpreter = Start(
        name=OURS, args=[str(bench.one_file), "-c", program],
        env={**bench.start(bench.ours).env, "FERRYMAN_INTERPRETER": "1"},
    )  # fmt: skip
    plain = Start(name=VENV, args=[str(bench.python), "-c", program], env=bench.env)
    yield _promise("one-file, every module imported / venv", interpreter, plain, 1.0, 20, 60)

    first = bench.version(OURS, first=True)
    yield _promise("one-file, first start / PyInstaller one-file", first, bench.version(FILE), 0.7, 12, 40)

    restarted, theirs = bench.after_restart(), bench.version(FILE)
    times = in_turn([restarted, theirs], least=12)
    ratio = times.ratio(restarted.name, FILE)
    yield row("for information: first start after a restart / the same", ratio.value, None,
              _seen(ratio, times, restarted.name, FILE))  # fmt: skip


@contextmanager
def taken_port() -> Iterator[int]:
    """A port that is in use: `run` imports everything, says so, and ends."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def sizes(bench: Bench) -> Iterator[Row]:
    """What is copied to a machine, and how much of it is the launcher."""
    theirs = bench.forms[FILE]
    yield row("one-file / PyInstaller one-file, size", bench.ours.size / theirs.size, 0.45,
              f"{bench.ours.size:,} B / {theirs.size:,} B")  # fmt: skip
    linux = peers.size(bench.tree)
    yield row("launcher without payload, Linux (kB)", linux / 1e3, 150, f"{linux:,} B, the archive's")
    what = "launcher without payload, Windows (kB)"
    try:
        windows = peers.size(bench.compiler.launcher("windows-amd64", bench.work))
    except BuildStepError as error:  # the other promises are worth measuring all the same
        yield row(what, 0, 250, f"not there: {error}", also=False)
    else:
        yield row(what, windows / 1e3, 250, f"{windows:,} B, windows-amd64")


def footprints(bench: Bench) -> Iterator[Row]:
    """What a running agent takes."""
    ours, theirs = median(bench.service(bench.ours), 5), median(bench.service(bench.forms[VENV]), 5)
    yield row("running agent / plain interpreter, RSS", ours.rss / theirs.rss, 1.05,
              f"{ours.rss / 1e6:.1f} MB / {theirs.rss / 1e6:.1f} MB; not shared with others: "
              f"{ours.uss / 1e6:.1f} MB / {theirs.uss / 1e6:.1f} MB")  # fmt: skip
    yield row("running agent, processes", ours.processes, 1, "while it serves")
    yield files(bench)


def files(bench: Bench) -> Row:
    """A first start, a later one, and a run that is stopped, on top of a filesystem that shows what was written."""
    what, cache = "files written outside of the cache", Path("/var/cache/ferryman-bench")
    with taken_port() as port:
        one = f"'{bench.one_file}'"
        run = " ".join(_run(port))
        script = f"{one} --version && {one} --version && ! {one} {run}"
        env = {**bench.env, "FERRYMAN_CACHE": str(cache)}
        seen = written(script, env)
        if seen is None:
            return row(what, -1, 0, "needs root and unshare, which this machine does not give", also=False)
        # What is to show nothing must be seen to show something.
        probe = written(f'{script} && : > "$HOME/seen"', env)
    found = outside(seen, cache)
    also = str(bench.work / "home" / "seen") in (probe or ()) and any(
        path.startswith(f"{cache}/") for path in seen
    )
    return row(
        what,
        len(found),
        0,
        ", ".join(found[:3]) or f"{len(seen)} in it; HOME, TMPDIR, everything else",
        also=also,
    )


def design(bench: Bench) -> Iterator[Row]:
    """What a second, static program in front of the dynamic one would cost."""
    unpacker = bench.compiler.exec_unpacker(bench.tree, bench.work)
    second = Start(name="static, then exec", args=[str(unpacker), "--version"], env=bench.env)
    tree, ours = bench.version(TREE), bench.version(OURS)
    times = in_turn([second, tree, ours], least=100)
    for theirs in (TREE, OURS):
        ratio = times.ratio(second.name, theirs)
        extra = (times.wall(second.name) - times.wall(theirs)) * 1e3
        yield row(f"for information: static, then exec / {theirs}", ratio.value, None,
                  f"{extra:+.2f} ms; {_seen(ratio, times, second.name, theirs)}")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Form:
    """One line of the comparison; ``reason`` says why there is nothing else to say."""

    name: str
    size: int = 0
    needs_python: bool = False
    first_ms: float = 0.0
    later_ms: float = 0.0
    imports_ms: float = 0.0
    rss: int = 0
    processes: int = 0
    build_seconds: float = 0.0
    reason: str = ""

    def line(self) -> str:
        """A row of the Markdown table."""
        if self.reason:
            return f"| {self.name} | not built: {self.reason} | | | | | |"
        python = " and a Python" if self.needs_python else ""
        return (
            f"| {self.name} | {self.size / 1e6:.1f} MB{python} | {self.first_ms:.0f} ms | {self.later_ms:.0f} ms "
            f"| {self.imports_ms:.0f} ms | {self.rss / 1e6:.0f} MB | {self.processes} |"
        )


def compare(bench: Bench) -> list[Form]:
    """All forms of the program beside each other; milliseconds of one run, not promises."""
    sys.stderr.write("all forms beside each other ...\n")
    names = list(bench.forms)
    first = {
        name: in_turn(
            [bench.version(name, first=True), replace(bench.version(FILE), name="beside it")], least=9
        )
        for name, peer in bench.forms.items()
        if peer.cache
    }  # each beside the same peer: what one leaves to the kernel to clean up, the next one would pay for
    later = in_turn([bench.version(name) for name in names], least=15)
    with taken_port() as port:
        full = in_turn([bench.start(bench.forms[name], *_run(port), code=TAKEN) for name in names], least=10)

    def form(peer: Peer) -> Form:
        if not peer.args:
            return Form(name=peer.name, reason=peer.reason)
        rest = median(bench.service(peer), 3)
        return Form(
            name=peer.name, size=peer.size, needs_python=peer.needs_python,
            first_ms=first.get(peer.name, later).wall(peer.name) * 1e3,
            later_ms=later.wall(peer.name) * 1e3, imports_ms=full.wall(peer.name) * 1e3,
            rss=rest.rss, processes=rest.processes, build_seconds=peer.seconds,
        )  # fmt: skip

    return [form(peer) for peer in bench.all]


def markdown(rows: Sequence[Row], forms: Sequence[Form]) -> str:
    """The two tables of docs/performance.md, from this run's figures."""
    text = ["| promise | measured | limit | seen |", "|---|---|---|---|"]
    text += [
        f"| {one.name} | {one.value:g} | {'' if one.limit is None else f'{one.limit:g}'} | {one.seen} |"
        for one in rows
    ]
    text += ["", "| form | size | first start | later starts | `run`'s imports | RSS | processes |"]
    text += ["|---|---|---|---|---|---|---|", *(one.line() for one in forms)]
    return "\n".join(text) + "\n"


def main() -> int:
    """Measure, print a table, keep the figures; 1 when a promise is not kept."""
    parser = argparse.ArgumentParser(description="The launcher against its peers.")
    parser.add_argument("--fresh", action="store_true", help="build the peers again")
    parser.add_argument("--without", action="append", default=[], choices=list(peers.RECIPES), metavar="NAME")
    options = parser.parse_args()
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="ferryman-bench-") as folder:
        bench = Bench(Path(folder).resolve(), options)
        os.chdir(bench.work)
        rows = show(one for part in (sizes, starts, footprints, design) for one in part(bench))
        forms = compare(bench)
        os.chdir(ROOT)
    text = markdown(rows, forms)
    print(text)
    with undisturbed() as priority:
        more = {
            "priority": "real-time" if priority else "ordinary",
            "forms": [asdict(form) for form in forms],
        }
    code = keep("launcher", rows, time.time() - began, more)
    (ROOT / "out" / "bench" / "launcher.md").write_text(text, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
