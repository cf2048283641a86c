"""What is known of a service beyond the life of its agent: one small file for each in the state directory.

Rules:
    M1  A file is written before the program of its service begins, and whenever something in it changes: beside its
        place, and renamed into it. It is not flushed to the disk: what a power failure takes has ended as well.
    M2  A process is believed to be the one of the file when the boot, the number and the start time are the same. When
        its first process is gone, what is left of its group is believed by the mark in its environment.
    M3  Times are the monotonic clock's, and mean nothing after another boot; of a file from an earlier boot only the
        operator's order counts.
    M4  A file that cannot be read or understood is as none; that costs the counters, and nothing else.
    M5  The definition is kept as a digest: it may have secrets in it.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from typing import Any

import msgspec

from watchkeeper.config.decode import to_json
from watchkeeper.config.schema.services import Service
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.supervise.identity import boot_id, marked, start_of
from watchkeeper.supervise.output import remove_pipes

FOLDER = "services"
SUFFIX = ".json"


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """One file."""

    boot: str
    digest: str = ""
    """Of the definition that the process was started with."""
    pid: int | None = None
    start: float | None = None
    """identity.start_of"""
    group: int = 0
    adopt: bool = False
    """Whether the next agent takes it over."""
    started_at: float = 0.0
    instance: int = 0
    restarts: int = 0
    failures: int = 0
    failed_at: tuple[float, ...] = ()
    degraded: bool = False
    next_start: float = 0.0
    final: bool = False
    failed: bool = False
    """Whether that was no good end."""
    last_exit: str | None = None
    last_error: str | None = None
    order: str | None = None
    """`stop` when an operator has said so."""


def digest(spec: Service) -> str:
    """What the process of a definition is known by: what may change while it runs is left out.

    So is what has its default: a newer agent, which knows more settings, goes on with what an older one has started.
    """
    said = {name: value for name, value in _said(spec).items() if name not in spec.WITHOUT_RESTART}
    return hashlib.sha256(to_json([type(spec).__name__, said])).hexdigest()


def _said(value: msgspec.Struct) -> dict[str, Any]:
    """The fields of a struct that do not have their defaults, and so on inwards."""
    found: dict[str, Any] = {}
    for each in msgspec.structs.fields(value):
        one = getattr(value, each.name)
        default = each.default if each.default_factory is msgspec.NODEFAULT else each.default_factory()
        if one != default:
            found[each.name] = _said(one) if isinstance(one, msgspec.Struct) else one
    return found


def remembered_keys(state_dir: pathlib.Path | None) -> list[Key]:
    """The services that an agent before this one has left something about."""
    if state_dir is None or not (state_dir / FOLDER).is_dir():
        return []
    files = sorted((state_dir / FOLDER).glob(f"*{SUFFIX}"))
    return [Key(Kind.SERVICE, file.name.removesuffix(SUFFIX)) for file in files if file.name[0] != "."]


class Memory:
    """All files of one agent. Without a state directory it keeps nothing."""

    def __init__(self, state_dir: pathlib.Path | None) -> None:
        self._folder = None if state_dir is None else state_dir / FOLDER
        self._written: dict[str, bytes] = {}
        self.boot = boot_id()

    @property
    def kept(self) -> bool:
        """Whether anything outlives the agent."""
        return self._folder is not None

    def names(self) -> list[str]:
        """The services there is a file of."""
        parent = None if self._folder is None else self._folder.parent
        return [key.name for key in remembered_keys(parent)]

    def load(self, name: str) -> Remembered | None:
        """What is known of a service; of an earlier boot, the order alone."""
        if self._folder is None:
            return None
        try:
            found = msgspec.json.decode((self._folder / f"{name}{SUFFIX}").read_bytes(), type=Remembered)
        except (OSError, msgspec.MsgspecError, ValueError):
            return None  # M4
        return found if found.boot == self.boot else Remembered(boot=self.boot, order=found.order)  # M3

    def save(self, name: str, what: Remembered | None) -> None:
        """Keep it, or with None forget it.

        Raises:
            OSError: the disk is full or has become unwritable.
        """
        if self._folder is None:
            return
        file = self._folder / f"{name}{SUFFIX}"
        if what is None:
            self._written.pop(name, None)
            file.unlink(missing_ok=True)
            remove_pipes(self._folder, name)
            return
        content = msgspec.json.encode(what)
        if self._written.get(name) == content:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = self._folder / f".{name}{SUFFIX}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
            partial.replace(file)  # M1
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        self._written[name] = content


def still_runs(found: Remembered) -> bool:
    """Whether the first process of a file is there (M2)."""
    return found.pid is not None and found.start is not None and start_of(found.pid) == found.start


def group_left(name: str, found: Remembered, agent: str) -> bool:
    """Whether its first process has gone and others of its group are there (M2)."""
    return found.group > 0 and found.group in marked(name, agent).values()


def facts(process: Any) -> dict[str, Any]:
    """What a file says of a process."""
    if process is None or not process.pid:
        return {}
    return {
        "pid": process.pid,
        "start": start_of(process.pid),
        "group": getattr(process, "group", process.pid),
        "started_at": process.started_at,
    }
