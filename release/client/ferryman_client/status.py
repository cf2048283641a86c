"""What is known and how well: the values that say so, and how they are found out. Nothing here asks anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ferryman_client.errors import ClientError, ClockError, ExpiredError, Problem
from ferryman_client.model import Asset, Offer, Release
from ferryman_client.state import Trusted

SET_BACK = 120.0  # seconds by which a clock may be behind the last check
SKEW = 600.0  # seconds by which a server's clock may differ


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """How well a channel is known.

    ``fresh``: the last refresh of this process held. ``problem``: what is wrong, if anything; also a fresh state may have
    one (a clock that is off, a state folder that cannot be written). ``checked`` and ``expires`` are None when nothing is
    known; ``expiring`` is the role that ends first. ``age`` is in seconds since ``checked``. ``skew``: by how many seconds
    the server's clock is ahead of this machine's; None when it has not said. ``roles`` maps a role to its version.
    """

    channel: str
    version: str = ""
    fresh: bool = False
    expired: bool = False
    problem: Problem | None = None
    checked: datetime | None = None
    expires: datetime | None = None
    expiring: str = ""
    age: float = 0.0
    skew: float | None = None
    roles: Mapping[str, int] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether there is a state at all."""
        return self.checked is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Which released file something is; ``bad`` says why nobody should use that version, "" when it is good."""

    name: str
    version: str
    path: str
    kind: str
    size: int
    sha256: str
    target: str = ""
    bad: str = ""

    @classmethod
    def of_offer(cls, offer: Offer) -> Identity:
        return cls(
            name=offer.name, version=offer.version, path=offer.file_name, kind=offer.kind, size=offer.size,
            sha256=offer.sha256, target=offer.target,
        )  # fmt: skip

    @classmethod
    def of_asset(cls, asset: Asset, release: Release) -> Identity:
        return cls(
            name=release.name, version=release.version, path=asset.path, kind=asset.kind, size=asset.size,
            sha256=asset.sha256,
        )  # fmt: skip


def now_for(trusted: Trusted, clock: float) -> float:
    """The time by which expiry is judged: a clock that was set back does not make old metadata young again."""
    return max(clock, trusted.checked)


def expired_at(trusted: Trusted, clock: float) -> bool:
    """Whether a state has expired by a clock that shows ``clock``."""
    return now_for(trusted, clock) > trusted.expires


def describe(
    trusted: Trusted | None,
    *,
    channel: str,
    version: str,
    fresh: bool,
    error: ClientError | None,
    now: float,
    server: float | None,
) -> Status:
    """The status of a state; ``server`` is what the last server said the time is, at about ``now``."""
    skew = None if server is None else server - now
    if trusted is None:
        return Status(channel=channel, problem=Problem.of(error) if error else None, skew=skew)
    return Status(
        channel=channel,
        version=version,
        fresh=fresh,
        expired=expired_at(trusted, now),
        problem=_problem(trusted, error, now, skew),
        checked=datetime.fromtimestamp(trusted.checked, UTC),
        expires=datetime.fromtimestamp(trusted.expires, UTC),
        expiring=trusted.expiring,
        age=max(0.0, now - trusted.checked),
        skew=skew,
        roles={name: role.version for name, role in trusted.roles.items()},
    )


def _problem(trusted: Trusted, error: ClientError | None, now: float, skew: float | None) -> Problem | None:
    """The refresh's own failure, unless a clock explains it; then an expired state; then a clock that is merely off."""
    clock = clock_error(trusted, now, skew)
    if clock and (error is None or isinstance(error, ExpiredError)):
        return Problem.of(clock)
    if error is None and expired_at(trusted, now):
        error = ExpiredError(f"The {trusted.expiring} metadata has expired.", advice="Refresh.")
    return Problem.of(error) if error else None


def clock_error(trusted: Trusted, now: float, skew: float | None) -> ClockError | None:
    """What is wrong with this machine's clock, by its own memory or by the server's."""
    advice = "Set it, best from the network; until then expiry cannot be judged well."
    if now < trusted.checked - SET_BACK:
        behind = _span(trusted.checked - now)
        return ClockError(f"This machine's clock is {behind} behind the last check.", advice=advice)
    if skew is not None and abs(skew) > SKEW:
        direction = "behind" if skew > 0 else "ahead of"
        return ClockError(
            f"This machine's clock is {_span(abs(skew))} {direction} the server's.", advice=advice
        )
    return None


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
