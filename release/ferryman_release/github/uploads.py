"""Many files to one draft: a few at a time, streamed from the disk, each until it is there and right.

An upload is a POST, and what became of a broken one nobody knows: the file may be there, or half of it (state
"starter"), which keeps its name from being used again. So after each failure the draft is looked at.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from ferryman_release.errors import GithubError
from ferryman_release.github import limits
from ferryman_release.github.answers import AGAIN, RemoteAsset, RemoteRelease, already_exists, explain, read
from ferryman_release.github.assets import Upload, is_same
from ferryman_release.github.client import Client
from ferryman_release.github.hub import Hub
from ferryman_release.github.wire import BLOCK, UnansweredError

AT_ONCE = 4

Progress = Callable[[int, int, str], object]
"""Bytes sent, bytes in all, the file."""


class Meter:
    """Counts bytes of several threads; a file that is sent again starts again."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total = total
        self._progress = progress
        self._sent: dict[str, int] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str, sent: int) -> None:
        """So many bytes of that file are on their way."""
        with self._lock:
            self._sent[name] = sent
            self._progress(sum(self._sent.values()), self._total, name)


class FileBody:
    """A file as the body of a request; the last piece goes out only when all of it is what it should be."""

    def __init__(self, upload: Upload, meter: Meter, stop: threading.Event) -> None:
        self._upload = upload
        self._meter = meter
        self._stop = stop

    @property
    def size(self) -> int:
        return self._upload.size

    @property
    def media_type(self) -> str:
        return self._upload.media_type

    def chunks(self) -> Iterator[bytes]:
        """The pieces.

        Raises:
            GithubError: the file cannot be read, or is not what it was.
            UnansweredError: another upload has failed for good.
        """
        digest, sent = hashlib.sha256(), 0
        for chunk in self._read():
            digest.update(chunk)
            sent += len(chunk)
            if sent >= self.size and (sent > self.size or digest.hexdigest() != self._upload.sha256):
                raise self._changed()
            yield chunk
            self._meter(self._upload.name, sent)
        if sent < self.size:
            raise self._changed()

    def _read(self) -> Iterator[bytes]:
        try:
            with self._upload.path.open("rb") as file:
                while chunk := file.read(BLOCK):
                    if self._stop.is_set():
                        raise UnansweredError("another upload failed")
                    yield chunk
        except OSError as error:
            raise GithubError(
                f"{self._upload.path} cannot be read: {error.strerror}.",
                advice="See that it is there, and run again.",
            ) from error

    def _changed(self) -> GithubError:
        return GithubError(
            f"{self._upload.path} changed while it was uploaded.",
            advice="Let nothing write into dist/ during a release, and make the release again from the build.",
        )


def upload_all(
    client: Client, hub: Hub, draft: RemoteRelease, uploads: Sequence[Upload], progress: Progress
) -> None:
    """Bring all these files to the draft.

    Raises:
        GithubError: the first failure for good; what was on its way then is broken off.
    """
    stop = threading.Event()
    meter = Meter(sum(one.size for one in uploads), progress)
    jobs = [Job(client, hub, draft, upload, meter, stop) for upload in uploads]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="upload") as pool:
        try:
            done = wait([pool.submit(job.run) for job in jobs], return_when=FIRST_EXCEPTION).done
            for future in done:
                future.result()
        finally:  # also when the person pressed Ctrl-C while this thread was waiting
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


class Job:
    """One file on its way."""

    def __init__(
        self,
        client: Client,
        hub: Hub,
        draft: RemoteRelease,
        upload: Upload,
        meter: Meter,
        stop: threading.Event,
    ) -> None:
        self._client = client
        self._hub = hub
        self._draft = draft
        self._upload = upload
        self._meter = meter
        self._stop = stop

    def run(self) -> None:
        """Send the file until it is there.

        Raises:
            GithubError: it was refused, or went wrong too often.
        """
        reason = ""
        for attempt in range(limits.ATTEMPTS):
            try:
                remote = self._send()
            except UnansweredError as error:
                reason = str(error)
                if self._stop.is_set():
                    return
                self._client.rest(attempt)
                remote = None
            if remote is not None and self._accept(remote):
                return
            if remote is None and self._is_there():
                return
        raise GithubError(
            f"{self._upload.name} could not be uploaded in {limits.ATTEMPTS} attempts: {reason or 'it arrived damaged'}.",
            advice=AGAIN,
        )

    def _send(self) -> RemoteAsset | None:
        """The file as GitHub has it; None when one of that name was there before."""
        doing = f"upload {self._upload.name}"
        answer = self._client.request(
            "POST", self._client.upload_url(self._draft.upload_url, self._upload.name), doing,
            ok=(201, 422), body=FileBody(self._upload, self._meter, self._stop), again=False,
        )  # fmt: skip
        if already_exists(answer):
            return None
        if answer.status == 422:
            raise explain(answer, doing)
        return read(answer, RemoteAsset)

    def _accept(self, remote: RemoteAsset) -> bool:
        """Whether what arrived is what was sent; else it is taken away again."""
        if is_same(self._upload, remote, self._hub.digest):
            return True
        self._hub.delete_asset(remote)
        if remote.name != self._upload.name:
            raise GithubError(
                f"GitHub renamed {self._upload.name} to {remote.name}.",
                advice="Release it under a name that GitHub keeps: SHA256SUMS and signatures speak of this one.",
            )
        return False

    def _is_there(self) -> bool:
        """Whether the file arrived although nobody said so; half a file is taken away."""
        found = [one for one in self._hub.assets(self._draft) if one.name == self._upload.name]
        return any(self._accept(one) for one in found)
