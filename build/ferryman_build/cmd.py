"""The one door through which other programs are started.

Every child gets an explicit environment (an allow-list of the caller's variables plus what the call adds), no
standard input, its own process group and a log file under out/logs/. Its output is shown only when it fails: the last
lines and the path. Secrets are replaced at the writer. Ctrl-C or SIGTERM ends the whole group, first politely.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from ferryman_build.errors import (
    BuildStepError,
    FerrymanError,
    InterruptedBuildError,
    SpaceError,
    ToolMissingError,
)

# What a child may see of the caller's environment. Everything else would make two builds differ for no reason
# (PYTHONPATH, LD_LIBRARY_PATH, locale) or leak a secret into a log.
PASSED_THROUGH = (
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "COMSPEC", "PATHEXT", "APPDATA",
    "LOCALAPPDATA", "USERPROFILE", "PROGRAMFILES", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "PIP_CERT",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "UV_DEFAULT_INDEX", "UV_INDEX",
    "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_OFFLINE", "UV_CACHE_DIR", "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS", "UV_KEYRING_PROVIDER", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
    "FERRYMAN_HOME",
)  # fmt: skip

_SECRET_NAME = re.compile(r"(?i)(secret|token|passw|passphrase|private|credential|api_?key|access_?key)")
# user:password, or a token alone or in front of the colon, as some package indexes want it.
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*)(?::([^/\s@]*))?(?=@)")
_FULL = ("No space left on device", "Disk quota exceeded", "ENOSPC")
_GRACE_SECONDS = 3.0
_TAIL_LINES = 20


Child = subprocess.Popen[bytes]


class Completed(msgspec.Struct, frozen=True):
    """What a finished child left: ``returncode``, all of ``output`` (stdout and stderr together, redacted), its log."""

    returncode: int
    output: str
    log: Path | None


class Redactor:
    """Replaces every value of a secret-looking environment variable by ``$NAME``, and passwords in URLs by ``***``."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        found = {
            value: name for name, value in environ.items() if _SECRET_NAME.search(name) and len(value) >= 6
        }
        self._secrets = sorted(found.items(), key=lambda item: -len(item[0]))

    def __call__(self, text: str) -> str:
        for value, name in self._secrets:
            text = text.replace(value, f"${name}")
        return _URL_PASSWORD.sub(lambda found: f"{found[1]}:***" if found[2] else "***", text)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a build tool: allow-listed variables, a fixed locale and hash seed, then ``extra``."""
    base = {name: os.environ[name] for name in PASSED_THROUGH if name in os.environ}
    fixed = {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "PYTHONNOUSERSITE": "1"}
    return {**base, **fixed, **(extra or {})}


def which(program: str | Path, *, advice: str = "", path: str | None = None) -> str:
    """The absolute path of ``program``.

    Raises:
        ToolMissingError: it is not on PATH; ``advice`` says how to install it.
    """
    found = shutil.which(str(program), path=path)
    if found is None:
        raise ToolMissingError(
            f"The program {str(program)!r} was not found.",
            advice=advice or "Install it and see that it is on PATH.",
        )
    return found


class Runner:
    """Starts children; one per build. ``log_dir`` may be None: then output is kept in memory only."""

    def __init__(self, log_dir: Path | None = None, *, verbose: bool = False) -> None:
        self.log_dir = log_dir
        self.verbose = verbose
        self.redact = Redactor(os.environ)
        # sysconfig fills its table at the first question, and a second thread that asks meanwhile sees half of it
        # (python/cpython#92452): uv's look for its own program then fails. Ask before there are threads.
        sysconfig.get_config_vars()
        self._children: set[Child] = set()
        self._lock = threading.Lock()
        self._number = 0
        self._closed = False

    def run(
        self,
        args: Sequence[str | Path],
        *,
        name: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        ok: Iterable[int] = (0,),
        failure: type[FerrymanError] = BuildStepError,
        advice: str = "",
    ) -> Completed:
        """Run ``args`` to its end.

        Args:
            name: what the log file is called and what a failure message says.
            env: the whole environment; :func:`environment` when None.
            timeout: seconds after which the group is ended.
            ok: exit codes that are no failure.
            failure: the error class for any other exit code.

        Raises:
            ToolMissingError: the program does not exist.
            SpaceError: the child said that the disk is full.
            InterruptedBuildError: :meth:`end_all` has been called; nothing is started any more.
            FerrymanError: ``failure``, with the log's last lines.
        """
        words = [which(args[0], path=(env or os.environ).get("PATH")), *map(str, args[1:])]
        log = self.log_path(name)
        done, late = self._execute(words, log, cwd, dict(environment() if env is None else env), timeout)
        if done.returncode in tuple(ok) and not late:  # a child may answer TERM with exit code 0
            return done
        raise self._explain(done, name, timeout if late else None, failure, advice)

    def start(
        self, words: Sequence[str], *, cwd: Path | None, env: Mapping[str, str], output: int | IO[bytes]
    ) -> Child:
        """Start a child whose end the caller awaits, then :meth:`forget`; :meth:`end_all` ends it meanwhile.

        Raises:
            OSError: it cannot be started.
            InterruptedBuildError: :meth:`end_all` has been called.
        """
        with self._lock:  # held while starting: end_all sees every child, or the child is never started
            if self._closed:
                raise InterruptedBuildError(f"{words[0]} was not started, since the build is being ended.")
            # stdout and stderr share one place so that their order survives.
            child = subprocess.Popen(
                words, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                **new_group(),
            )  # fmt: skip
            self._children.add(child)
        return child

    def forget(self, child: Child) -> None:
        """The child has ended."""
        with self._lock:
            self._children.discard(child)

    def log_path(self, name: str) -> Path | None:
        """The next numbered log file; None when nothing is kept."""
        if self.log_dir is None:
            return None
        self.log_dir.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._number += 1
            number = self._number
        return self.log_dir / f"{number:02d}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}.log"

    def write_log(self, log: Path | None, words: Sequence[str], output: str, code: int | None) -> None:
        """What was started, all that it said (redacted already), and how it ended."""
        if log is not None:
            text = f"{self._echo(words)}{output}\n[exit code {code}]\n"
            log.write_text(text, encoding="utf-8", errors="backslashreplace")  # a path may be no text

    def _echo(self, words: Sequence[str]) -> str:
        return self.redact(f"+ {shlex.join(words)}\n")

    def _execute(
        self, words: list[str], log: Path | None, cwd: Path | None, env: dict[str, str], timeout: float | None
    ) -> tuple[Completed, bool]:
        """What the child left, and whether its time was over."""
        if self.verbose:
            sys.stderr.write(self._echo(words))
        try:
            child = self.start(words, cwd=cwd, env=env, output=subprocess.PIPE)
        except OSError as error:
            raise ToolMissingError(
                f"The program {words[0]!r} cannot be started: {error.strerror}.",
                advice="See that it belongs to this machine and, if it is a script, that its interpreter is there.",
            ) from error
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            output, late = self._collect(child, deadline)
        except BaseException:
            end_group(child)
            raise
        finally:
            self.forget(child)
        self.write_log(log, words, output, child.returncode)
        return Completed(child.returncode, output, log), late

    def _collect(self, child: Child, deadline: float | None) -> tuple[str, bool]:
        assert child.stdout is not None
        chunks: list[bytes] = []
        late = False
        reader = threading.Thread(target=_drain, args=(child.stdout, chunks), daemon=True)
        reader.start()
        while True:
            try:
                child.wait(0.05 if deadline is None else max(0.0, min(0.05, deadline - time.monotonic())))
                break
            except subprocess.TimeoutExpired:
                if deadline is not None and time.monotonic() >= deadline:
                    late = True
                    end_group(child)
                    chunks.append(b"\n[ended: it took longer than its time limit]\n")
                    break
        # A grandchild may hold the pipe open for ever; its output is not ours to wait for.
        reader.join(2.0)
        return self.redact(b"".join(chunks).decode("utf-8", "replace")), late

    def _explain(
        self, done: Completed, name: str, exceeded: float | None, failure: type[FerrymanError], advice: str
    ) -> FerrymanError:
        tail = [line for line in done.output.splitlines() if line.strip()][-_TAIL_LINES:]
        if any(words in done.output for words in _FULL):
            return SpaceError(
                f"The disk is full: {name} could not write.",
                advice="Free some space, or move the cache with --out.", details=tail, log=done.log,
            )  # fmt: skip
        if exceeded is not None:
            message = f"{name} did not finish within {exceeded:g} s and was ended with its children."
        else:
            message = f"{name} failed with exit code {done.returncode}."
        return failure(message, advice=advice or "Read the log's last lines.", details=tail, log=done.log)

    @property
    def closed(self) -> bool:
        """Whether :meth:`end_all` has been called: what works without children asks this between its pieces."""
        return self._closed

    def end_all(self) -> int:
        """End every child that still runs, and start none any more; the number of them."""
        with self._lock:
            self._closed = True
            children = tuple(self._children)
        for child in children:
            end_group(child)
        return len(children)


def _drain(pipe: IO[bytes], chunks: list[bytes]) -> None:
    with pipe:
        while chunk := pipe.read1(65536):  # type: ignore[attr-defined]
            chunks.append(chunk)


def new_group() -> dict[str, Any]:
    """Popen arguments that put a child into a process group of its own."""
    if os.name == "nt":
        return {"creationflags": 0x200}  # CREATE_NEW_PROCESS_GROUP
    return {"start_new_session": True}


def end_group(child: Child, grace: float = _GRACE_SECONDS) -> None:
    """TERM to the child's group, ``grace`` seconds later KILL; returns when the child is gone."""
    if os.name == "nt":
        child.terminate()
        child.wait()
        return
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, sent)
        except ProcessLookupError:
            break
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            continue
        if sent is signal.SIGTERM:
            # The leader obeyed; whoever of its group did not is ended without further notice.
            continue
    child.wait()
