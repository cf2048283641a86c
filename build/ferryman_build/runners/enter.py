"""Start one program in another userland: python -I -S enter.py REQUEST.

A script that imports nothing of ours. It makes a mount namespace (and a user namespace for whoever is not root), builds a
root in a small tmpfs, and becomes the program: the process that was started is the program, with its PID, exit code and
signals. There is no PID namespace, so the caller sees every child, and no file system that anybody has to unmount.

The root of an unpacked userland is shared by many runs and bound read-only. Where a folder of this machine has to appear
below one of its folders, that folder is rebuilt in the tmpfs with its contents bound one by one ("shadowed"), since a
mount needs a place that exists.

Whoever is root here stays root, and is kept from what is not the program's business: /sys and those parts of /proc that
change this machine are read-only, no program gains rights by being started, and the capabilities that mount, load modules,
trace, or set clocks and networks are gone. What is left is what lets root be root among files and processes of its own.

REQUEST is JSON: ``user`` (make a user namespace), ``root`` (the userland), ``top`` (an empty folder), ``writable``,
``shown``, ``denied`` (absolute paths; they appear where they are here), ``cwd``, ``words``, and ``open`` when the userland
itself may be written to. With ``probe`` (an empty folder) instead, it only tries whether all of this is allowed. Exit
codes of its own: 126 not allowed, 127 no such program.
"""

# Every run of a program begins with this script, and importing pathlib would be half of its time.
# ruff: noqa: PTH102, PTH103, PTH110, PTH112, PTH115, PTH120, PTH211

import ctypes
import errno
import json
import os
import signal
import sys
from typing import Any

# mount(2), unshare(2), statvfs(3); the same numbers on every machine that Linux runs on.
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_NOATIME, MS_NODIRATIME, MS_REC, MS_PRIVATE, MS_RELATIME = 1024, 2048, 16384, 1 << 18, 1 << 21
CLONE_NEWNS, CLONE_NEWUSER, MNT_DETACH = 0x20000, 0x10000000, 2
ST_RELATIME = 4096
KEPT = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME  # statvfs has the same bits for these
PLAIN = MS_NOSUID | MS_NODEV | MS_NOEXEC
OPTIONS = {"nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC, "noatime": MS_NOATIME, "nodiratime": MS_NODIRATIME,
           "relatime": MS_RELATIME}  # fmt: skip
NODES = ("null", "zero", "full", "random", "urandom", "tty")
KERNEL = ("dev", "proc", "sys")
# What of them changes this machine, as the runtime specification of containers (OCI) has it; a program only reads it.
SEALED = ("sys", "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger")

# prctl(2) and capabilities(7).
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, CAPABILITY_VERSION_3 = 24, 38, 0x20080522
CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID = 0, 1, 3, 4, 5, 6, 7
NET_BIND_SERVICE, SYS_CHROOT = 10, 18
LEFT = (CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE, SYS_CHROOT)
MOST_CAPABILITIES = 64

libc: Any = (
    ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
)  # so that it can be read anywhere


def check(answer: int, what: str) -> None:
    """Raise what the C library's errno says."""
    if answer:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Ask the kernel for a mount."""
    words = (ctypes.c_char_p(os.fsencode(text)) for text in (source, target, kind))
    check(libc.mount(*words, ctypes.c_ulong(flags), ctypes.c_char_p(data.encode())), target)


def bind(source: str, target: str, flags: int = 0) -> None:
    """Show ``source`` at ``target``; what its file system forbids stays forbidden, or the kernel refuses."""
    if not os.path.exists(target):
        make = os.mkdir if os.path.isdir(source) else touch
        make(target)
    mount(source, target, flags=MS_BIND | MS_REC)
    if flags:
        has = os.statvfs(target).f_flag
        kept = (has & KEPT) | (MS_RELATIME if has & ST_RELATIME else 0)
        mount("", target, flags=MS_REMOUNT | MS_BIND | kept | flags)


def touch(path: str) -> None:
    """An empty file, to bind another over."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))


def isolate(user: bool) -> None:
    """New namespaces; the same person is root in a user namespace."""
    person, group = os.geteuid(), os.getegid()
    check(libc.unshare((CLONE_NEWUSER if user else 0) | CLONE_NEWNS), "unshare")
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {person} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def shadow(source: str, target: str, needed: list[list[str]], flags: int = MS_RDONLY | MS_NOSUID) -> None:
    """Fill the empty ``target`` with what ``source`` has; ``needed``: paths that must be able to appear there."""
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        place = f"{target}/{entry.name}"
        inside = [parts[1:] for parts in needed if parts[0] == entry.name]
        below = [parts for parts in inside if parts]
        if below:
            os.mkdir(place)
            if entry.is_dir(follow_symlinks=False):
                shadow(entry.path, place, below, flags)
        elif inside:
            pass  # something else will appear here
        elif entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)
        else:
            bind(entry.path, place, flags)


def build(request: dict[str, Any]) -> None:
    """The whole root at ``top``."""
    top = request["top"]
    wanted = dict.fromkeys(request["shown"], "shown") | dict.fromkeys(request["writable"], "writable")
    wanted |= dict.fromkeys(request["denied"], "denied")
    mount("tmpfs", top, "tmpfs", PLAIN, "size=8m,mode=755")
    needed = [[name] for name in KERNEL] + [path.strip("/").split("/") for path in wanted]
    shadow(request["root"], top, needed, *([MS_NOSUID] if request.get("open") else []))
    kernel(top)
    empty = [top]
    for path in sorted(wanted, key=lambda path: path.split("/")):  # parents first
        place = top + path
        if wanted[path] == "denied":
            os.makedirs(place, exist_ok=True)
            mount("tmpfs", place, "tmpfs", PLAIN, "size=1m,mode=1777")
            empty.append(place)
        else:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            bind(path, place, MS_RDONLY if wanted[path] == "shown" else 0)
    for place in empty:
        mount("", place, flags=MS_REMOUNT | MS_BIND | PLAIN | MS_RDONLY)


def kernel(top: str) -> None:
    """/proc, /sys and the devices that every program may use."""
    for name in KERNEL:
        os.makedirs(f"{top}/{name}", exist_ok=True)
    for name in ("proc", "sys"):
        mount(f"/{name}", f"{top}/{name}", flags=MS_BIND | MS_REC)
    mount("tmpfs", f"{top}/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "size=64k,mode=755")
    for name in NODES:
        if os.path.exists(f"/dev/{name}"):
            bind(f"/dev/{name}", f"{top}/dev/{name}")
    shared = f"{top}/dev/shm"  # noqa: S108 - POSIX shared memory lives there and nowhere else
    os.mkdir(shared)
    mount("tmpfs", shared, "tmpfs", PLAIN, "mode=1777")
    for name, to in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{to}", f"{top}/dev/{name}")
    mount("", f"{top}/dev", flags=MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NOEXEC | MS_RDONLY)
    seal([f"{top}/{name}" for name in SEALED if os.path.exists(f"{top}/{name}")])


def seal(places: list[str]) -> None:
    """Make ``places`` read-only, and everything that is mounted below them."""
    for place in places:
        mount(place, place, flags=MS_BIND | MS_REC)
    for point, flags in mounts():
        if any(point == place or point.startswith(f"{place}/") for place in places):
            try:
                mount("", point, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | flags)
            except (FileNotFoundError, PermissionError):
                if os.access(point, os.F_OK):
                    raise  # else it is covered by another mount, or behind a folder that is closed to us


def mounts() -> list[tuple[str, int]]:
    """Every mount point with its flags. Not by statvfs, which an automounter would take for a visit."""
    with open("/proc/self/mountinfo", "rb") as file:
        rows = [line.split() for line in file]
    # proc(5): id, parent, device, root, mount point, options
    return [
        (unescaped(row[4]), sum(OPTIONS.get(option, 0) for option in row[5].decode().split(",")))
        for row in rows
    ]


def unescaped(name: bytes) -> str:
    """The kernel writes blanks and the like as a backslash and three octal digits."""
    first, *rest = name.split(b"\\")
    return os.fsdecode(first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest))


def move(top: str) -> None:
    """Make ``top`` the root, and let go of the old one."""
    os.chdir(top)
    pivot = getattr(libc, "pivot_root", None)
    if pivot is None or pivot(b".", b"."):
        os.chroot(".")  # the first root of a kernel (an initramfs) cannot be exchanged
    else:
        check(libc.umount2(b".", MNT_DETACH), "the old root")
    os.chdir("/")


def environment() -> dict[bytes, bytes]:
    """As the caller gave it: Python itself may have added to os.environ."""
    with open("/proc/self/environ", "rb") as file:
        pairs = file.read().split(b"\0")
    return {name: value for name, _, value in (pair.partition(b"=") for pair in pairs) if name}


def probe(folder: str) -> None:
    """What entering a userland needs, done once."""
    mount("tmpfs", folder, "tmpfs", PLAIN, "size=64k,mode=755")
    kernel(folder)
    move(folder)
    surrender()


class Header(ctypes.Structure):
    """capset(2): which form, and of whom; 0 is this process."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def surrender() -> None:
    """Keep LEFT of all capabilities, for this process and whatever it becomes; nothing gives any of them back."""
    for number in range(MOST_CAPABILITIES):
        if number not in LEFT and libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0):
            if ctypes.get_errno() == errno.EINVAL:
                break  # the kernel knows no further one
            check(-1, "a capability cannot be dropped")
    # Effective, permitted, inheritable, and again for those above 31.
    head, sets = ctypes.byref(Header(CAPABILITY_VERSION_3, 0)), (ctypes.c_uint32 * 6)()
    check(libc.capget(head, sets), "capabilities")
    few = sets[1] & sum(1 << number for number in LEFT)
    check(libc.capset(head, (ctypes.c_uint32 * 6)(few, few)), "capabilities")
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")


def become(request: dict[str, Any]) -> None:
    """Replace this process by the program."""
    words, env = request["words"], environment()
    os.chdir(request["cwd"])
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and its children would
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(words[0], words, env)  # noqa: S606 - becoming the program is the point
    except OSError as error:
        # "No such file" is also what the kernel says of a program whose loader is not there.
        sys.stderr.write(f"{words[0]} cannot be started in this userland: {error.strerror}\n")
        sys.exit(127)


def main() -> None:
    """Enter and become the program, or say why not."""
    request = json.loads(sys.argv[1])
    try:
        isolate(request["user"])
        if "probe" in request:
            probe(request["probe"])
            return
        build(request)
        move(request["top"])
        surrender()
    except OSError as error:
        sys.stderr.write(f"the userland cannot be entered: {error.filename or ''}: {error.strerror}\n")
        sys.exit(126)
    become(request)


if __name__ == "__main__":
    main()
