"""Alarms before metadata expires: 30, 14 and 7 days; for snapshot and timestamp the last third."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from ferryman_build.settings import ReleaseSettings
from ferryman_release.keys.lifetimes import alarms, days_of, expiry
from support.release_keys import NOW

KINDS: Mapping[str, Any] = {"root": Root, "snapshot": Snapshot, "timestamp": Timestamp}


def document(role: str, left: timedelta) -> Metadata[Any]:
    return Metadata(KINDS.get(role, Targets)(version=3, expires=NOW + left))


@pytest.mark.parametrize(
    ("days", "alarm"),
    [
        (31, None),
        (30.5, None),
        (30, 30),
        (29.9, 30),
        (14.01, 30),
        (14, 14),
        (7.01, 14),
        (7, 7),
        (0.5, 7),
        (0, 0),
        (-3, 0),
    ],
)
@pytest.mark.parametrize("role", ["root", "targets", "stable"])
def test_the_nearest_alarm_is_named(role: str, days: float, alarm: float | None) -> None:
    """30, 14 and 7 days before, each from its first moment on; 0 says that clients refuse the document."""
    found = alarms({role: document(role, timedelta(days=days))}, NOW)
    assert [one.alarm for one in found] == ([] if alarm is None else [alarm])
    assert all(one.expired is (days <= 0) for one in found)


@pytest.mark.parametrize(
    ("role", "days", "settings", "due"),
    [
        ("timestamp", 2.4, {}, False), ("timestamp", 2.3, {}, True), ("timestamp", 1, {"timestamp": 2}, False),
        ("snapshot", 10.1, {}, False), ("snapshot", 9.9, {}, True), ("snapshot", 9.9, {"snapshot": 21}, False),
    ],
)  # fmt: skip
def test_short_lives_have_one_alarm(role: str, days: float, settings: dict[str, int], due: bool) -> None:
    """A document of a week is not always in alarm: a third of what the settings give it must be left."""
    assert bool(alarms({role: document(role, timedelta(days=days))}, NOW, settings)) is due


def test_the_most_urgent_comes_first() -> None:
    """What has expired before what will."""
    given = {
        name: document(name, timedelta(days=days))
        for name, days in (("root", 20), ("beta", -1), ("stable", 5))
    }
    assert [one.role for one in alarms(given, NOW)] == ["beta", "stable", "root"]


def test_an_alarm_reads_as_a_sentence() -> None:
    """Which document, when, and which alarm; and what has expired."""
    soon, gone = (alarms({"root": document("root", timedelta(days=days))}, NOW)[0] for days in (13.25, -1))
    assert str(soon) == "root 3 expires in 13.2 days, on 2026-11-14T18:00:00Z (alarm at 14 days)"
    assert str(gone) == "root 3 expired on 2026-10-31T12:00:00Z"


def test_settings_say_how_long_documents_hold() -> None:
    """A role's own days, else those of all channels, else the defaults."""
    assert [days_of(role, {}) for role in ("root", "targets", "stable", "snapshot", "timestamp")] == [
        365,
        365,
        90,
        30,
        7,
    ]
    assert days_of("stable", {"channel": 20}) == 20
    assert days_of("stable", {"channel": 20, "stable": 10}) == 10
    assert days_of("root", {"channel": 20}) == 365
    moment = datetime.fromisoformat("2026-11-01T14:30:15.123456+02:00")
    assert (
        expiry("root", ReleaseSettings(expires={"root": 10}), moment).isoformat()
        == "2026-11-11T12:30:15+00:00"
    )
