"""Registration as a file of targets, in the form that Prometheus reads (file_sd).

The file is written beside its place and renamed into it: a reader sees all of it or nothing. Its presence says that the
service is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib

import msgspec

from watchkeeper.config.schema.registrations import FileRegistration
from watchkeeper.registry.answers import ForgottenError, RegistryError


class FileRegistrar:
    """A Registrar. Files are touched in a thread: a network file system may hang."""

    def __init__(self, spec: FileRegistration) -> None:
        self._file = pathlib.Path(spec.path)
        self._content = targets(spec)
        self.period = spec.look_interval
        self.place: tuple[object, ...] = ("file", spec.path)

    async def announce(self, ready: bool, why: str) -> None:
        await asyncio.to_thread(self._write)

    async def renew(self, ready: bool, why: str) -> None:
        if await asyncio.to_thread(self._read) != self._content:
            raise ForgottenError(f"{self._file} is gone or has been changed")

    async def withdraw(self) -> None:
        try:
            await asyncio.to_thread(self._file.unlink, missing_ok=True)
        except OSError as error:
            raise RegistryError(f"{self._file} cannot be removed: {error.strerror}") from None

    def _write(self) -> None:
        partial = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            partial.write_bytes(self._content)
            partial.replace(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise RegistryError(f"{self._file} cannot be written: {error.strerror}") from None

    def _read(self) -> bytes | None:
        try:
            with self._file.open("rb") as stream:
                return stream.read(len(self._content) + 1)
        except OSError:
            return None


def targets(spec: FileRegistration) -> bytes:
    """One group with one target."""
    host = f"[{spec.address}]" if ":" in spec.address else spec.address
    labels = {"service": spec.announced_name, "instance_id": spec.instance_id, **spec.meta}
    if spec.tags:
        labels["tags"] = "," + ",".join(spec.tags) + ","  # so that ",x," finds a tag and no part of one
    content = [{"targets": [f"{host}:{spec.port}"], "labels": labels}]
    return msgspec.json.format(msgspec.json.encode(content, order="deterministic"), indent=2) + b"\n"
