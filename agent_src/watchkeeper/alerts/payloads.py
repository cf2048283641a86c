"""What others are told, in Alertmanager's two forms: what it receives (api/v2) and what it sends (webhook, version 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from watchkeeper.alerts.series import Labels

NOWHERE = "0001-01-01T00:00:00Z"
"""Go's zero time: not ended."""


@dataclass(frozen=True)
class Notice:
    """One alert as it was at one moment. Times are seconds since the epoch."""

    labels: Labels
    annotations: tuple[tuple[str, str], ...]
    value: float
    starts_at: float
    ends_at: float | None
    """None: it fires."""
    valid_until: float
    """An Alertmanager that hears nothing more takes it for ended then."""

    @property
    def firing(self) -> bool:
        return self.ends_at is None


def alertmanager(notices: Sequence[Notice], external_url: str) -> list[dict[str, Any]]:
    """The body of POST /api/v2/alerts."""
    return [
        {
            "labels": dict(each.labels),
            "annotations": dict(each.annotations),
            "startsAt": rfc3339(each.starts_at),
            "endsAt": rfc3339(each.valid_until if each.ends_at is None else each.ends_at),
            "generatorURL": external_url,
        }
        for each in notices
    ]


def webhook(notices: Sequence[Notice], external_url: str, receiver: str) -> dict[str, Any]:
    """The body of a webhook: all notices are of one rule, and so are a group."""
    group = {name: value for name, value in notices[0].labels if name == "alertname"}
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{group.get("alertname", "")}"}}',
        "truncatedAlerts": 0,
        "status": _status(any(each.firing for each in notices)),
        "receiver": receiver,
        "groupLabels": group,
        "commonLabels": _common([each.labels for each in notices]),
        "commonAnnotations": _common([each.annotations for each in notices]),
        "externalURL": external_url,
        "alerts": [
            {
                "status": _status(each.firing),
                "labels": dict(each.labels),
                "annotations": dict(each.annotations),
                "startsAt": rfc3339(each.starts_at),
                "endsAt": NOWHERE if each.ends_at is None else rfc3339(each.ends_at),
                "generatorURL": external_url,
                "fingerprint": fingerprint(each.labels),
                "value": each.value,
            }
            for each in notices
        ],
    }


def _status(firing: bool) -> str:
    return "firing" if firing else "resolved"


def _common(each: list[Any]) -> dict[str, str]:
    shared = set(each[0]).intersection(*each[1:])
    return {name: value for name, value in each[0] if (name, value) in shared}


def fingerprint(labels: Labels) -> str:
    """What Alertmanager names an alert by: 64-bit FNV-1a over its sorted labels (common/model/signature.go)."""
    value = 0xCBF29CE484222325
    for pair in labels:
        for text in pair:
            for byte in (*text.encode(), 0xFF):
                value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def rfc3339(seconds: float) -> str:
    """UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
