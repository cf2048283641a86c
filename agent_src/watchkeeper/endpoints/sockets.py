"""Sockets that listen: TCP, Unix, and those that systemd hands over.

A Unix socket is bound beside its place and renamed into it, so that it never stands there with the wrong mode or owner; one
that was left behind by a process that is gone is replaced, one that answers is somebody's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from watchkeeper.config.schema.common import split_address
from watchkeeper.config.schema.listeners import Listener
from watchkeeper.errors import ListenError

UNIX = "unix:"
SYSTEMD = "systemd:"
FIRST_DESCRIPTOR = 3
"""sd_listen_fds(3): SD_LISTEN_FDS_START."""
BACKLOG = 128


@dataclass
class Bound:
    """One listening socket. `address` is HOST:PORT as it is, or unix:PATH."""

    socket: socket.socket
    address: str
    path: Path | None = None
    inode: int | None = None

    def close(self) -> None:
        """Stop listening; a Unix socket's file goes, if it is still the same."""
        self.socket.close()
        if self.path is not None:
            with contextlib.suppress(OSError):
                if self.path.stat().st_ino == self.inode:
                    self.path.unlink()


def bind(listener: Listener) -> list[Bound]:
    """The sockets of a listener: one, or one for each address that a host name has.

    Raises:
        ListenError: the address is taken, forbidden, or not this machine's; nothing listens then.
    """
    if listener.address.startswith(UNIX):
        return [_unix(listener)]
    if listener.address.startswith(SYSTEMD):
        return _systemd(listener.address.removeprefix(SYSTEMD))
    return _tcp(listener.address)


def _tcp(address: str) -> list[Bound]:
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise ListenError(str(error), "Write --listen 127.0.0.1:9470 or [::1]:9470.") from None
    bound: list[Bound] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _name, where in dict.fromkeys(found):
            at = (where[0], bound[0].socket.getsockname()[1], *where[2:]) if bound and not port else where
            bound.append(_listen(family, kind, protocol, at))
    except OSError as error:
        for each in bound:
            each.close()
        raise listen_error(error, address) from None
    return bound


def _listen(family: int, kind: int, protocol: int, where: tuple[object, ...]) -> Bound:
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(where)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return Bound(made, name_of(made))


def name_of(made: socket.socket) -> str:
    """HOST:PORT or unix:PATH of a bound socket."""
    where = made.getsockname()
    if isinstance(where, (str, bytes)):
        return UNIX + os.fsdecode(where)
    return f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"


def _unix(listener: Listener) -> Bound:
    path = Path(listener.address.removeprefix(UNIX))
    if not hasattr(socket, "AF_UNIX"):
        raise ListenError("this system has no Unix sockets", "Use HOST:PORT, and a token_file.")
    _refuse_living(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        partial.unlink(missing_ok=True)
        made.bind(str(partial))
        _own(partial, listener)
        made.listen(BACKLOG)
        inode = partial.stat().st_ino
        partial.replace(path)
    except (OSError, ValueError, LookupError) as error:
        made.close()
        with contextlib.suppress(OSError, ValueError):
            partial.unlink(missing_ok=True)
        raise _unix_error(error, path) from None
    return Bound(made, UNIX + str(path), path, inode)


def _own(path: Path, listener: Listener) -> None:
    """Mode, owner and group, before anybody can find it."""
    if listener.socket_owner is not None or listener.socket_group is not None:
        uid = -1 if listener.socket_owner is None else user_number(listener.socket_owner)
        gid = -1 if listener.socket_group is None else group_number(listener.socket_group)
        os.chown(path, uid, gid)
    path.chmod(int(listener.socket_mode, 8))


def user_number(name: str) -> int:
    """The uid of a user, by name or number.

    Raises:
        LookupError: there is no such user.
    """
    if name.isdigit():
        return int(name)
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise LookupError(f"there is no user {name}") from None


def group_number(name: str) -> int:
    """The gid of a group, by name or number.

    Raises:
        LookupError: there is no such group.
    """
    if name.isdigit():
        return int(name)
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise LookupError(f"there is no group {name}") from None


def _refuse_living(path: Path) -> None:
    """Whether somebody answers there; a file that is no socket is nothing to be replaced."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ListenError(
                f"{path} is there and is no socket", "Choose another path, or move that file away."
            )
    except (OSError, ValueError):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError:
            pass  # it is full, or not ours to ask: somebody listens
    raise ListenError(
        f"another program listens on {path}", "Stop that program, or choose another path for the socket."
    )


def _unix_error(error: Exception, path: Path) -> ListenError:
    if "too long" in str(error):
        return ListenError(
            f"the path {path} is too long for a Unix socket", "Choose one of at most 100 characters."
        )
    reason = getattr(error, "strerror", None) or str(error)
    return ListenError(
        f"cannot listen on {path}: {reason}",
        "Look at the folder, its owner, and socket_owner and socket_group.",
    )


def _systemd(name: str) -> list[Bound]:
    """The sockets of that name among those that the process was started with (sd_listen_fds_with_names(3))."""
    found: list[Bound] = []
    try:
        for descriptor, its_name in handed_over().items():
            if its_name == name:
                found.append(_handed(descriptor, name))
    except ListenError:
        for each in found:
            each.close()
        raise
    if not found:
        raise ListenError(
            f"systemd has handed over no socket called {name}",
            "Write FileDescriptorName= in the .socket unit, and start the agent through that unit.",
        )
    return found


def _handed(descriptor: int, name: str) -> Bound:
    """A copy of one of them. On what takes no connections every look for one fails at once, without an end."""
    copy = os.dup(descriptor)
    try:
        made = socket.socket(fileno=copy)
    except OSError:  # a FIFO, a file
        os.close(copy)
        made = None
    if made is None or not made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        if made is not None:
            made.close()
        raise ListenError(
            f"what systemd has handed over as {name} takes no connections",
            "Write ListenStream= in the .socket unit, and Accept=no.",
        )
    made.setblocking(False)
    return Bound(made, name_of(made))


def handed_over() -> dict[int, str]:
    """Descriptor and name of each socket from systemd; those of another process are not ours."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = os.environ.get("LISTEN_FDS", "")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + (int(count) if count.isdigit() else 0))
    return {
        descriptor: names[index] if index < len(names) and names[index] else "unknown"
        for index, descriptor in enumerate(descriptors)
    }


def listen_error(error: OSError, address: str) -> ListenError:
    """What is wrong with the address, and what to do about it."""
    if error.errno == errno.EADDRINUSE:
        return ListenError(
            f"the address {address} is taken by another program",
            "Stop that program, or choose another port with --listen HOST:PORT.",
        )
    if error.errno == errno.EACCES:
        return ListenError(
            f"this user may not listen on {address}",
            "Choose a port above 1023 with --listen HOST:PORT, or grant the right to this one.",
        )
    return ListenError(
        f"cannot listen on {address}: {error.strerror or error}",
        "Choose an address of this machine with --listen HOST:PORT.",
    )
