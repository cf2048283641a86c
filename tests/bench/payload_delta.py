"""What the segments of a payload cost in size, and what they save when one module or one dependency changes.

    python tests/bench/payload_delta.py [--out out] [--blobs FOLDER]

It takes the newest tree and analysis of a build with ``--kind archive``. The peer is one solid frame over the same
contents, sorted by path (level 19, window of 128 MiB), behind the same head and index. A change is made by compiling modules once more with one line
inserted; a patch is the new file compressed with the old one as prefix (level 19, long distance matching).

1. The payload has at most 1.02 times the size of the peer.
2. After one line in one module of the application, its patch has at most 0.1 times the size of the solid frame's.
3. After a line in every module of the largest dependency, at most 0.1 times.
"""

from __future__ import annotations

import argparse
import ast
import marshal
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "build"))

from ferryman_build.cache import Blobs  # noqa: E402 - the script runs from a checkout that is not installed
from ferryman_build.collect.analysis import Analysis, Entry, EntryKind, Origin  # noqa: E402
from ferryman_build.wrap.payload import PayloadFile, PayloadInfo, PayloadSummary, write_payload, zstd  # noqa: E402
from ferryman_build.wrap.payload_order import group_of  # noqa: E402

_P = zstd.CompressionParameter
_LONG = {_P.compression_level: 19, _P.window_log: 27, _P.enable_long_distance_matching: 1}


@dataclass(frozen=True, kw_only=True)
class Form:
    """One version of the program, both ways."""

    payload: bytes
    summary: PayloadSummary
    solid: bytes


class Program:
    """A built tree, its groups, and where its modules' sources are."""

    def __init__(self, out: Path, work: Path) -> None:
        self.tree = _newest(out, "tree/*/tree")
        entries = msgspec.json.decode(
            _newest(out, "analyse/*/analysis.json").read_bytes(), type=Analysis
        ).entries
        self.entries = {f"_internal/{entry.dest}": entry for entry in entries}
        self.roots = {Origin.APP: _newest(out, "wheel/*/app"), Origin.ENV: _newest(out, "env/*/env")}
        self.own = {path.name for path in self.roots[Origin.APP].iterdir() if path.suffix != ".dist-info"}
        self.work = work

    def files(self, lines: Mapping[str, int]) -> list[PayloadFile]:
        """The tree's files; a module in ``lines`` is compiled from its source with so many lines more."""
        found = (path for path in sorted(self.tree.rglob("*")) if path.is_symlink() or path.is_file())
        return [self._file(path, lines) for path in found if path.parent != self.tree]

    def _file(self, path: Path, lines: Mapping[str, int]) -> PayloadFile:
        name = path.relative_to(self.tree).as_posix()
        if path.is_symlink():
            return PayloadFile(name, 0o777, None, str(path.readlink()), "")
        source = self._compiled(name, lines[name]) if name in lines else path
        return PayloadFile(name, 0o644, source, "", self.group(name))

    def group(self, name: str) -> str:
        entry = self.entries.get(name)
        if entry is None:
            return "app"
        return group_of(entry.dest, entry.kind, entry.origin, self.own)

    def _source(self, entry: Entry) -> Path:
        return self.roots[entry.origin] / entry.path

    def _compiled(self, name: str, extra: int) -> Path:
        text = self._source(self.entries[name]).read_text(encoding="utf-8")
        body = ast.parse(text).body
        after = body[len(body) // 2].end_lineno or 0
        lines = text.splitlines(keepends=True)
        edited = "".join([*lines[:after], "\n", "_ferryman_line = 'one more'\n" * extra, *lines[after:]])
        code = compile(edited, name.removeprefix("_internal/"), "exec", dont_inherit=True)
        target = self.work / str(extra) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"\0" * 16 + marshal.dumps(code))
        return target

    def modules(self, group: str) -> list[str]:
        """Modules of the tree that belong to ``group``."""
        return [
            name
            for name, entry in self.entries.items()
            if entry.kind is EntryKind.MODULE and self.group(name) == group and (self.tree / name).exists()
        ]

    def largest_dependency(self) -> str:
        """The group of bytecode with the most modules."""
        groups = (self.group(name) for name in self.entries)
        return Counter(group for group in groups if group.startswith("dist:")).most_common(1)[0][0]


def _newest(out: Path, pattern: str) -> Path:
    found = sorted((out / "cache").glob(pattern), key=lambda path: path.parent.stat().st_mtime)
    if not found:
        sys.exit(f"There is no {pattern} below {out}/cache. Run `ferryman build --kind archive` first.")
    return found[-1]


def form(files: list[PayloadFile], blobs: Blobs, work: Path) -> Form:
    """Pack ``files`` both ways."""
    info = PayloadInfo(name="bench", version="1")
    summary = write_payload(files, info, work / "payload", blobs)
    payload = (work / "payload").read_bytes()
    front = payload[: len(payload) - sum(segment.packed for segment in summary.segments)]  # head and index
    contents = dict.fromkeys(file.source.read_bytes() for file in files if file.source)
    solid = front + zstd.compress(b"".join(contents), options=_LONG)
    return Form(payload=payload, summary=summary, solid=solid)


def patch(old: bytes, new: bytes) -> int:
    """Bytes of a patch from ``old`` to ``new``."""
    return len(zstd.compress(new, options=_LONG, zstd_dict=zstd.ZstdDict(old, is_raw=True).as_prefix))


def compare(title: str, old: Form, new: Form, most: float) -> bool:
    """Print what changed, and whether the patch is small enough."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ours, solid = pool.map(patch, (old.payload, old.solid), (new.payload, new.solid))
    known = {segment.sha256 for segment in old.summary.segments}
    changed = [segment for segment in new.summary.segments if segment.sha256 not in known]
    share = sum(segment.packed for segment in changed) / new.summary.packed
    good = ours <= most * solid
    print(
        f"{title}: patch {ours / solid:.3f} of the solid frame's (at most {most}; {ours} to {solid} bytes); "
        f"{len(changed)} of {len(new.summary.segments)} segments changed, {share:.2%} of the payload; "
        f"{sum(segment.fresh for segment in new.summary.segments)} compressed again: {'ok' if good else 'NOT KEPT'}"
    )
    return good


def _built() -> Path:
    """Where the launcher's bench has built, otherwise where `ferryman build` has."""
    bench = ROOT / "out" / "bench" / "agent" / "out"
    return bench if bench.is_dir() else ROOT / "out"


def main(arguments: list[str]) -> int:
    """Exit code 1 when a promise is not kept."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=_built())
    parser.add_argument("--blobs", type=Path, help="a cache of packed segments to use; none by default")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="payload-delta-") as temporary:
        work = Path(temporary)
        program, blobs = Program(options.out, work), Blobs(options.blobs or work / "blobs")
        own, dependency = program.modules("app"), program.modules(program.largest_dependency())
        edited = own[len(own) // 2]
        print(f"edited: {edited}; dependency: {program.largest_dependency()}")
        same = dict.fromkeys([edited, *dependency], 0)
        old = form(program.files(same), blobs, work)
        size = old.summary.packed / len(old.solid)
        print(
            f"size: {size:.4f} of one solid frame (at most 1.02; {old.summary.packed} to {len(old.solid)} bytes)"
        )
        line = form(program.files({**same, edited: 1}), blobs, work)
        lines = form(program.files({**same, **dict.fromkeys(dependency, 1)}), blobs, work)
        kept = [
            size <= 1.02,
            compare("one line of the application", old, line, 0.1),
            compare("a line in every module of a dependency", old, lines, 0.1),
        ]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
