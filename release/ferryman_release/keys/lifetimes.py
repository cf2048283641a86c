"""How long metadata holds, and the alarms before it ends.

Alarms at 30, 14 and 7 days before a document expires. The snapshot and the timestamp live shorter than that: theirs is one
alarm, when less than a third of their validity is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tuf.api.metadata import Metadata

from ferryman_build.artifacts import Struct
from ferryman_build.settings import ReleaseSettings
from ferryman_release.keys.names import ONLINE

DAYS: Mapping[str, int] = {"root": 365, "targets": 365, "channel": 90, "snapshot": 30, "timestamp": 7}
ALARMS = (30, 14, 7)
_DAY = timedelta(days=1)


class Alarm(Struct, frozen=True, kw_only=True):
    """A document that needs to be signed again.

    ``alarm`` is the alarm's days (30, 14, 7; for snapshot and timestamp a third of their validity), 0 when it has expired;
    ``left`` the days that are left, negative since it expired; ``expires`` ISO 8601.
    """

    role: str
    version: int
    expires: str
    left: float
    alarm: float

    @property
    def expired(self) -> bool:
        """Clients refuse the document."""
        return self.left <= 0

    def __str__(self) -> str:
        if self.expired:
            return f"{self.role} {self.version} expired on {self.expires}"
        return f"{self.role} {self.version} expires in {self.left:.1f} days, on {self.expires} (alarm at {self.alarm:g} days)"


def days_of(role: str, days: Mapping[str, int]) -> int:
    """The days that metadata of ``role`` holds; ``days`` are the settings', of which `channel` is for all channels."""
    kind = role if role in DAYS else "channel"
    return days.get(role) or days.get(kind) or DAYS[kind]


def expiry(role: str, settings: ReleaseSettings, now: datetime) -> datetime:
    """When metadata of ``role`` that is signed ``now`` expires; whole seconds, UTC."""
    return now.astimezone(UTC).replace(microsecond=0) + timedelta(days=days_of(role, settings.expires))


def alarms(
    metadata: Mapping[str, Metadata[Any]], now: datetime, days: Mapping[str, int] | None = None
) -> list[Alarm]:
    """What expires soon or has expired, most urgent first.

    Args:
        metadata: the document of each role that is to be looked at.
        days: how long documents hold, as `[tool.ferryman.release.expires]` says.
    """
    found = (_alarm(role, document, now, days or {}) for role, document in metadata.items())
    return sorted((alarm for alarm in found if alarm), key=lambda alarm: alarm.left)


def _alarm(role: str, document: Metadata[Any], now: datetime, days: Mapping[str, int]) -> Alarm | None:
    left = (document.signed.expires - now) / _DAY
    levels = (days_of(role, days) / 3,) if role in ONLINE else ALARMS
    reached = [level for level in levels if left <= level]
    if not reached:
        return None
    return Alarm(
        role=role,
        version=document.signed.version,
        expires=document.signed.expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        left=round(left, 3),
        alarm=0 if left <= 0 else min(reached),
    )
