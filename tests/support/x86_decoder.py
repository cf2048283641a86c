"""iced-x86, which not every machine has, for tests that look at x86-64 instructions; and this machine without it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec

import pytest

from ferryman_build.inspect import measure

READS_X86 = pytest.mark.skipif(
    find_spec("iced_x86") is None, reason="NOT MEASURED: iced-x86 has no wheel for this machine"
)


@contextmanager
def without_decoder() -> Iterator[None]:
    """As on a machine that has no such library; what was imported before comes back."""

    def version(name: str, ask: object = metadata.version) -> str:
        if name == "iced-x86":
            raise metadata.PackageNotFoundError(name)
        return ask(name)  # type: ignore[operator]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "iced_x86", None)
        patch.delitem(sys.modules, "ferryman_build.inspect.x86", raising=False)
        patch.setattr(metadata, "version", version)
        forget()
        try:
            yield
        finally:
            forget()


def forget() -> None:
    """What was found out about the libraries of this process."""
    measure._measures.cache_clear()
    measure.recipe.cache_clear()
