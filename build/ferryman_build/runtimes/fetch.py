"""Getting a runtime's archive: streamed, hashed while it is read, and under its name only when it is the right one.

    home/runtimes/archives/<sha256>-<file name>     whole and right, or not there
    home/runtimes/archives/.draft-…                 being written; removed when that fails, and by age when it was killed

urllib takes proxies (HTTPS_PROXY, NO_PROXY) and certificates (SSL_CERT_FILE) from the environment.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import shutil
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import msgspec

from ferryman_build.addresses import request_for
from ferryman_build.cache import file_digest
from ferryman_build.cmd import Redactor
from ferryman_build.errors import (
    ConfigError,
    FerrymanError,
    InterruptedBuildError,
    PackageIndexError,
    ResolutionError,
    SpaceError,
)
from ferryman_build.runtimes.index import Runtime

_LARGEST_LIST = 5_000_000  # bytes; an error page must not fill the memory
_DRAFT_SECONDS = 24 * 3600
_LOOK_SECONDS = 0.1
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)
_CHECK_NETWORK = "Check the network, HTTPS_PROXY and SSL_CERT_FILE; "
_ELSEWHERE = (
    "`ferryman runtimes mirror DIR` on a machine that reaches it makes a folder that --runtimes takes."
)


Stopped = Callable[[], bool]
"""Whether the build is being ended; asked often."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """How long a server may take.

    ``silence`` seconds without a byte, ``slowest`` bytes in each ``window`` seconds, and for a whole file ``longest`` seconds,
    with one more for each ``share`` bytes of it.
    """

    silence: float = 30.0
    window: float = 30.0
    slowest: int = 30_000
    longest: float = 1800.0
    share: int = 100_000

    def limit(self, size: int) -> float:
        """Seconds that a file of ``size`` bytes may take."""
        return self.longest + size / self.share


def archives(home: Path) -> Path:
    """Where archives are kept below :func:`ferryman_build.homes.home`."""
    return home / "runtimes" / "archives"


def fetched(runtime: Runtime, folder: Path) -> Path | None:
    """What :func:`fetch` would answer without any network: None when it would have to ask.

    A file that was fetched was compared then; one of this machine is compared by :func:`fetch`.
    """
    if not runtime.remote:
        local = Path(runtime.address)
        return local if local.exists() else None
    kept = _kept(runtime, folder)
    return kept if kept.is_file() else None


def _kept(runtime: Runtime, folder: Path) -> Path:
    return folder / f"{runtime.sha256[:32]}-{runtime.file_name}"


def fetch(
    runtime: Runtime,
    folder: Path,
    line: Line | None = None,
    say: Callable[[str], None] | None = None,
    stopped: Stopped | None = None,
) -> Path:
    """The archive of ``runtime``, or its folder where the row names one.

    Args:
        folder: where what comes through the network is kept, by its hash: :func:`archives` of the home.
        line: how patient to be.
        say: told once before something is downloaded.
        stopped: ends a download, also while the server is silent.

    Raises:
        ConfigError: the row names a path where nothing is, or a folder with a hash.
        InterruptedBuildError: ``stopped`` says so.
        ResolutionError: the address has no such file, or what it has is not what the row says.
        PackageIndexError: the server is down or too slow.
        SpaceError: no space for it.
    """
    if not runtime.remote:
        return _local(runtime)
    kept = _kept(runtime, folder)
    if kept.is_file():
        return kept
    if say is not None:
        say(f"fetching {runtime} from {shown(runtime.address)}")
    with explained_space(folder):
        folder.mkdir(parents=True, exist_ok=True)
        sweep_drafts(folder)
        download(runtime.address, kept, runtime.sha256, line or Line(), stopped)
    return kept


def _local(runtime: Runtime) -> Path:
    path = Path(runtime.address)
    if path.is_dir() and not runtime.sha256:
        return path
    if not path.is_file():
        raise ConfigError(
            f"There is no runtime at {path}."
            if not path.is_dir()
            else f"{path} is a folder, and the row has a sha256.",
            advice="Correct `url` in runtimes.toml, or `runtime`; a folder with an unpacked runtime has no sha256.",
        )
    if runtime.sha256 and (found := file_digest(path)) != runtime.sha256:
        raise wrong_hash(str(path), runtime.sha256, found, path.stat().st_size)
    return path


def wrong_hash(what: str, wanted: str, found: str, size: int) -> ResolutionError:
    """The error for content that is not the pinned one."""
    return ResolutionError(
        f"{what} is not the file that runtimes.toml names: its SHA-256 is another one.",
        advice="Find out who changed it, and do not use that place until you know; "
        "`ferryman runtimes verify` compares every file.",
        details=(f"expected sha256:{wanted}", f"found    sha256:{found}, {size} bytes"),
    )


def read_small(address: str, line: Line | None = None) -> bytes:
    """The content of a small text at an http(s) address, such as a runtimes.toml or SHA256SUMS.

    Raises:
        ResolutionError, PackageIndexError: as :func:`fetch`.
    """
    pieces: list[bytes] = []
    size = 0
    with _answer(address, line or Line()) as answer:
        for piece in _pieces(address, answer, line or Line()):
            size += len(piece)
            if size > _LARGEST_LIST or (not pieces and piece.lstrip()[:1] == b"<"):
                raise _web_page(address)
            pieces.append(piece)
    return b"".join(pieces)


def download(address: str, into: Path, sha256: str, line: Line, stopped: Stopped | None = None) -> None:
    """Write what is at ``address`` to ``into`` if its hash is the one; ``into`` is there afterwards or never was.

    Raises:
        InterruptedBuildError, ResolutionError, PackageIndexError, SpaceError: as :func:`fetch`.
    """
    handle, name = tempfile.mkstemp(prefix=".draft-", dir=into.parent)
    draft = Path(name)

    def write() -> tuple[str, int]:
        with os.fdopen(handle, "wb") as file, _answer(address, line) as answer:
            return _copy(address, answer, file, into.parent, line, stopped or _never)

    try:
        found, size = write() if stopped is None else _unless(stopped, address, write)
        if found != sha256:
            raise wrong_hash(f"What {shown(address)} has", sha256, found, size)
        draft.chmod(0o644)
        draft.replace(into)
    finally:
        with contextlib.suppress(
            PermissionError
        ):  # Windows, where a thread that was left alone still has it open
            draft.unlink(missing_ok=True)


def _never() -> bool:
    return False


def _unless(stopped: Stopped, address: str, do: Callable[[], tuple[str, int]]) -> tuple[str, int]:
    """``do()``, left alone when ``stopped`` says so: nothing else ends a wait for a silent server at once.

    Raises:
        InterruptedBuildError: it was stopped; whatever ``do`` still does, it ends by itself when the server does or a piece comes.
    """
    done: Future[tuple[str, int]] = Future()

    def work() -> None:
        try:
            done.set_result(do())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            done.set_exception(error)

    threading.Thread(target=work, name="fetch", daemon=True).start()
    while not wait([done], timeout=_LOOK_SECONDS).done:
        if stopped():
            raise _broken_off(address)
    return done.result()


def _broken_off(address: str) -> InterruptedBuildError:
    return InterruptedBuildError(f"Fetching {shown(address)} was broken off, since the build is being ended.")


def _copy(
    address: str, answer: Any, file: IO[bytes], folder: Path, line: Line, stopped: Stopped
) -> tuple[str, int]:
    """(SHA-256, size) of what came."""
    expected = _announced(answer)
    if expected > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    sums, size = hashlib.sha256(), 0
    for piece in _pieces(address, answer, line):
        if stopped():
            raise _broken_off(address)
        if not size and _is_text(piece, answer):
            raise _web_page(address)
        sums.update(piece)
        size += len(piece)
        file.write(piece)
    if expected and size < expected:
        raise PackageIndexError(
            f"The connection to {shown(address)} ended after {size} of {expected} bytes.",
            advice=f"Try again; if it stays so, {_ELSEWHERE}",
        )
    return sums.hexdigest(), size


def _announced(answer: Any) -> int:
    """The size that the server announces; 0 when it says none, or nonsense."""
    said = str(answer.headers.get("Content-Length") or "").strip()
    return int(said) if said.isascii() and said.isdigit() else 0


def _pieces(address: str, answer: Any, line: Line) -> Iterator[bytes]:
    """What comes, as it comes; a server that trickles is left alone."""
    began = started = time.monotonic()
    came = total = 0
    while True:
        try:
            piece = answer.read1(1 << 18)
        except (TimeoutError, OSError, http.client.HTTPException) as error:
            raise _unreachable(address, error, line) from error
        if not piece:
            return
        came += len(piece)
        total += len(piece)
        now = time.monotonic()
        if now - began > line.limit(max(total, _announced(answer))):
            raise _too_slow(address, total, now - began)
        if now - started > line.window:
            if came < line.slowest:
                raise _too_slow(address, came, now - started)
            started, came = now, 0
        yield piece


def _too_slow(address: str, came: int, seconds: float) -> PackageIndexError:
    return PackageIndexError(
        f"{shown(address)} is too slow: {came} bytes in {seconds:.0f} s.",
        advice=f"Try again later, or use a mirror: {_ELSEWHERE}",
    )


def _is_text(piece: bytes, answer: Any) -> bool:
    kind = str(answer.headers.get("Content-Type") or "")
    return "html" in kind or piece.lstrip()[:1] == b"<"


def _web_page(address: str) -> ResolutionError:
    return ResolutionError(
        f"{shown(address)} answers with a web page and not with the file.",
        advice="Open the address in a browser: a proxy, a login page or a portal answers in its place. "
        "`runtimes` must name the folder that runtimes.toml lies in.",
    )


@contextlib.contextmanager
def _answer(address: str, line: Line) -> Iterator[Any]:
    try:
        # urlopen keeps the proxies of its first call.
        answer = urllib.request.build_opener(_Redirects).open(_request(address), timeout=line.silence)
    except urllib.error.HTTPError as error:
        error.close()  # it is the answer, and holds the connection
        raise _refused(address, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(address, error, line) from error
    with answer:
        yield answer


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows as urllib does, but never out of https, nor to another scheme; secrets stay with the server that they are for."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme not in ("https", before.scheme):
            fp.close()
            raise ResolutionError(
                f"{shown(req.full_url)} leads from {before.scheme} to {shown(newurl)}, which is not followed.",
                advice="Tell whoever runs that server, or write the address that it leads to if that is meant.",
            )
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None:
            new.headers.pop("Proxy-authorization", None)  # its handler adds it anew where a proxy is asked
            secret = req.unredirected_hdrs.get("Authorization")
            if secret and (before.scheme, before.netloc) == (after.scheme, after.netloc):
                new.add_unredirected_header("Authorization", secret)
        return new


def _request(address: str) -> urllib.request.Request:
    if urlsplit(address).scheme not in ("http", "https"):
        raise ConfigError(
            f"{shown(address)} is no http(s) address.", advice="Runtimes are fetched by http or https."
        )
    return request_for(address, {"User-Agent": "ferryman", "Accept-Encoding": "identity"})


def _refused(address: str, error: urllib.error.HTTPError) -> FerrymanError:
    if error.code in (401, 403, 407):
        advice = (
            "Put user and password into the address (https://user:password@…), or see what the proxy wants."
        )
    elif error.code in (404, 410):
        advice = f"The file was moved or the list is old: `ferryman runtimes update` writes newer rows, and {_ELSEWHERE}"
    else:
        advice = f"The server has a fault; try again later. {_ELSEWHERE}"
    kind = PackageIndexError if error.code >= 500 or error.code == 429 else ResolutionError
    return kind(f"{shown(address)} answers {error.code} {error.reason}.", advice=advice)


def _unreachable(address: str, error: BaseException, line: Line) -> PackageIndexError:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, TimeoutError | socket.timeout):
        what = f"sent nothing for {line.silence:g} s"
    else:
        what = f"cannot be reached: {getattr(reason, 'strerror', None) or reason or type(error).__name__}"
    return PackageIndexError(
        f"{shown(address)} {what}.", advice=f"{_CHECK_NETWORK}{_ELSEWHERE}",
    )  # fmt: skip


def shown(address: str) -> str:
    """An address for people: without its password."""
    return Redactor(os.environ)(address)


@contextlib.contextmanager
def explained_space(folder: Path) -> Iterator[None]:
    """A full disk is said in a sentence that names ``folder``, and so is one that cannot be written.

    Raises:
        ConfigError: a file of it is not this user's to read or write.
        SpaceError: no space left there.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NOT_OURS:
            raise ConfigError(
                f"{error.filename or folder} cannot be used: {error.strerror}.",
                advice="Correct its rights, or name another place for what is kept with FERRYMAN_HOME.",
            ) from error
        if error.errno not in _FULL:
            raise
        raise SpaceError(
            f"There is no space for a runtime below {folder}.",
            advice="Free some space, or name another place with FERRYMAN_HOME.",
        ) from error


def sweep_drafts(folder: Path) -> None:
    """Remove what runs that were killed have left."""
    for draft in folder.glob(".draft-*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > _DRAFT_SECONDS:
                shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
