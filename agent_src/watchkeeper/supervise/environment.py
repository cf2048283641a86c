"""The environment, the user and the groups that a process is started with."""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Any

from watchkeeper import system
from watchkeeper.config.schema.services import Inherit, ProcessService
from watchkeeper.supervise.child import SpawnError
from watchkeeper.supervise.identity import AGENT_MARK, MARK

FILE_LIMIT = 1 << 20
"""Bytes of one file of variables."""


def environment(name: str, spec: ProcessService, agent: str) -> dict[str, str]:
    """All variables: the agent's or PATH alone, the user's own, the files, `environment`, `secrets`, the marks.

    Args:
        agent: identity.agent_id

    Raises:
        SpawnError: a file is missing, too large, or holds something else than NAME=VALUE; there is no such user.
    """
    agents = system.child_environment()
    if spec.inherit is Inherit.ALL:
        found = agents
    else:
        keep = ("PATH", "SYSTEMROOT") if system.WINDOWS else ("PATH",)
        found = {name: agents[name] for name in keep if name in agents}
    found |= _of_user(spec.user)
    for file in spec.environment_files:
        found |= _read(file)
    return found | spec.environment | spec.secrets | {MARK: name, AGENT_MARK: agent}


def _of_user(user: str | None) -> dict[str, str]:
    if user is None or sys.platform == "win32":
        return {}
    entry = _passwd(user)
    if entry is None:
        return {}
    return {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}


def identity_options(spec: ProcessService) -> dict[str, Any]:
    """What subprocess.Popen is told of user, groups and umask.

    Raises:
        SpawnError: there is no such user or group, or this system has none.
    """
    options: dict[str, Any] = {}
    if spec.umask is not None and not system.WINDOWS:
        options["umask"] = int(spec.umask, 8)
    if spec.user is None:
        return options
    if sys.platform == "win32":
        raise SpawnError("a process cannot be run as another user on Windows")
    entry = _passwd(spec.user)
    if entry is None and not spec.user.isdigit():
        raise SpawnError(f"there is no user {spec.user}")
    uid = int(spec.user) if entry is None else entry.pw_uid
    own = uid if entry is None else entry.pw_gid
    gid = own if spec.group is None else _group(spec.group)
    groups = spec.supplementary_groups
    if groups is not None:
        extra = [_group(group) for group in groups]
    else:
        extra = [gid] if entry is None else os.getgrouplist(entry.pw_name, gid)
    if uid == os.geteuid() and gid == os.getegid() and not system.is_root():
        return options  # itself already: nothing has to be changed, nor could it be
    return options | {"user": uid, "group": gid, "extra_groups": extra}


def _passwd(user: str) -> Any:
    import pwd

    try:
        return pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        return None


def _group(group: str) -> int:
    if sys.platform == "win32":
        return 0
    import grp

    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise SpawnError(f"there is no group {group}") from None


def _read(file: str) -> dict[str, str]:
    """NAME=VALUE lines; empty ones and those that begin with # are left out, quotes around a value as well."""
    optional, path = file.startswith("-"), pathlib.Path(file.removeprefix("-"))
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_LIMIT + 1)
    except OSError as error:
        if optional:
            return {}
        raise SpawnError(f"the file of variables {path} cannot be read: {error.strerror}") from None
    if len(content) > FILE_LIMIT:
        raise SpawnError(f"the file of variables {path} is larger than {FILE_LIMIT >> 20} MiB")
    found = {}
    for number, line in enumerate(content.decode("utf-8", "surrogateescape").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, separator, value = text.removeprefix("export ").partition("=")
        if not separator or not name.strip() or "\0" in value:
            raise SpawnError(f"{path}:{number}: this line is not NAME=VALUE")  # what it says may be a secret
        found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value
