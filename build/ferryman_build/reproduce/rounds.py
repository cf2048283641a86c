"""The calls of `ferryman build` that make the same artifacts once more.

A manifest says of each artifact what its target promised and how its tree was collected. `ferryman build` takes one floor and
one collector for all of its targets, so targets that were promised different things are built one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ferryman_build.artifacts import Artifact, Kind
from ferryman_build.settings import Collector
from ferryman_build.targets import parse_target

_CPU = "cpu"
_COLLECTORS = frozenset(Collector)


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One call: for ``targets`` (ids) the same ``kinds``, ``collector`` ("" when no tree is made), ``floor`` and ``runtime``.

    ``runtime`` is the one that a setting names, "" where none does. ``floor`` maps glibc, macos, windows, and "cpu" with its architecture ("cpu amd64"), to what is promised.
    """

    targets: tuple[str, ...]
    kinds: tuple[Kind, ...]
    collector: str
    floor: Mapping[str, str]
    runtime: str = ""

    @property
    def environment(self) -> Mapping[str, str]:
        """What there is no option for."""
        return {"FERRYMAN_RUNTIME": self.runtime} if self.runtime else {}

    def words(self, given: Iterable[str]) -> tuple[str, ...]:
        """Of the command line; what is ``given`` already is not said again."""
        said = {
            "--target": ",".join(self.targets), "--kind": ",".join(kind.value for kind in self.kinds),
            "--collector": self.collector,
            "--floor": ", ".join(f"{name.split()[0]} {value}" for name, value in self.floor.items()),
        }  # fmt: skip
        known = set(given)
        return tuple(
            word for name, value in said.items() if value and name not in known for word in (name, value)
        )


def rounds(wanted: Sequence[Artifact], runtimes: Mapping[str, str] | None = None) -> tuple[Round, ...]:
    """As few calls as the promises allow, in the order of ``wanted``; ``runtimes`` maps ids to what their settings name."""
    found: list[Round] = []
    for target in dict.fromkeys(artifact.target for artifact in wanted):
        own = [artifact for artifact in wanted if artifact.target == target]
        one = _of_target(target, own, (runtimes or {}).get(target, ""))
        at = next((at for at, other in enumerate(found) if _fit(one, other)), None)
        if at is None:
            found.append(one)
        else:
            found[at] = _joined(found[at], one)
    return tuple(found)


def _of_target(target: str, artifacts: Sequence[Artifact], runtime: str) -> Round:
    collectors = [one.collector for one in artifacts if one.collector in _COLLECTORS]
    promise = next((one.promise for one in artifacts if one.promise), {})
    return Round(
        targets=(target,), kinds=tuple(dict.fromkeys(one.kind for one in artifacts)),
        collector=collectors[0] if collectors else "", floor=_floor(target, promise),
        runtime=runtime,
    )  # fmt: skip


def _floor(target: str, promise: Mapping[str, str]) -> dict[str, str]:
    """The promise; of the processor only what is not its row's, which holds for every floor that does not mention it."""
    row = parse_target(target)
    return {
        f"{_CPU} {row.arch}" if name == _CPU else name: value
        for name, value in sorted(promise.items())
        if name != _CPU or value != row.cpu
    }


def _fit(one: Round, other: Round) -> bool:
    """Whether one call can make both: a floor that is said for one of them must not mean another one for the other."""
    collectors = {one.collector, other.collector} - {""}
    shared = one.floor.keys() & other.floor.keys()
    return (
        (one.kinds, one.runtime) == (other.kinds, other.runtime)
        and len(collectors) < 2
        and bool(one.floor) == bool(other.floor)
        and all(one.floor[name] == other.floor[name] for name in shared)
        and _processors(one, other) == _processors(other, one)
    )


def _processors(one: Round, other: Round) -> dict[str, str]:
    """What ``one`` says of the processors that targets of both have."""
    shared = {f"{_CPU} {parse_target(target).arch}" for target in one.targets} & {
        f"{_CPU} {parse_target(target).arch}" for target in other.targets
    }
    return {name: value for name, value in one.floor.items() if name in shared}


def _joined(one: Round, other: Round) -> Round:
    return Round(
        targets=(*one.targets, *other.targets), kinds=one.kinds, collector=one.collector or other.collector,
        floor={**one.floor, **other.floor}, runtime=one.runtime,
    )  # fmt: skip
