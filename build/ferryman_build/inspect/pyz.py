"""What a .pyz needs: a Python, and whatever its extension modules ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Needs
from ferryman_build.cache import Blobs
from ferryman_build.inspect.members import members
from ferryman_build.inspect.native import Native
from ferryman_build.inspect.survey import Survey, survey_members
from ferryman_build.targets import Target

# Names of extension modules that only one CPython loads (PEP 3149 and the Windows form). abi3 modules have no number.
_PINNED = re.compile(r"\.(?:cpython-|cp)(3)(\d+)t?-[^/]*\.(?:so|pyd)$")
# Folder of what starts the archive → what that asks for: ours (docs/pyz.md), shiv's own.
_STARTERS = {
    "_ferryman/": "a folder for its cache (FERRYMAN_CACHE or HOME)",
    "_bootstrap/": "a writable folder to unpack into (SHIV_ROOT or HOME)",
}


# What the Python that runs a .pyz has beside itself: its own library, on Windows Microsoft's as well.
_OF_PYTHON = re.compile(r"python3\d*t?\.dll|vcruntime140(_1)?\.dll|libpython3[\d.]*t?\.(so|dylib).*")


def needs_of_pyz(path: Path, requires_python: str, tags: Iterable[str]) -> Needs:
    """What the zip application ``path`` needs.

    Args:
        path: the .pyz.
        requires_python: the project's version range.
        tags: platform tags that its wheels were resolved for; () when it has no native code.
    """
    return survey_pyz(path, requires_python, tags).needs


def survey_pyz(
    path: Path,
    requires_python: str,
    tags: Iterable[str],
    *,
    target: Target | None = None,
    blobs: Blobs | None = None,
    folders: Sequence[str] = (),
) -> Survey:
    """As :func:`needs_of_pyz`, with the reasons.

    Args:
        path: as above, as are ``requires_python`` and ``tags``.
        target: what it is for; then files for other machines are in the survey's ``foreign``, and the gate can judge it.
        blobs: where measurements are kept by content; None: nothing is kept.
        folders: absolute folders of this machine that no product should name.
    """
    listed = list(members(path))
    survey = survey_members(listed, target, blobs=blobs, folders=folders)
    survey.found.modes.clear()  # whoever unpacks it gives files modes of its own
    natives = survey.found.natives
    needs = msgspec.structs.replace(
        survey.needs,
        python=_python(requires_python, natives),
        runtime=_runtime(tags, natives, {member.name for member in listed}),
        libraries=tuple(name for name in survey.needs.libraries if not _OF_PYTHON.fullmatch(name.lower())),
    )
    return msgspec.structs.replace(survey, needs=needs)


def _python(requires_python: str, natives: Sequence[Native]) -> str:
    """The project's range, narrowed to the one version whose extension modules are inside."""
    pins = sorted({f"=={found[1]}.{found[2]}.*" for n in natives if (found := _PINNED.search(n.name))})
    stated = [part for part in requires_python.replace(" ", "").split(",") if part]
    return ",".join(dict.fromkeys([*stated, *pins]))


def _runtime(tags: Iterable[str], natives: Sequence[Native], names: Iterable[str]) -> tuple[str, ...]:
    needs = [f"a Python for {', '.join(sorted(tags))}"] if natives and (tags := tuple(tags)) else []
    folders = {f"{name.partition('/')[0]}/" for name in names}
    return (*needs, *(text for folder, text in _STARTERS.items() if folder in folders))
