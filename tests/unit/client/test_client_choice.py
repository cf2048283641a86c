"""The rules of ferryman_client/choice.py, row by row."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman_client import (
    Action,
    ChannelInfo,
    Machine,
    Offer,
    Rollout,
    Sunset,
    Yanked,
    choose,
    cohort,
    takes_part,
)

MACHINE = Machine(target="linux-amd64", os="linux", arch="x86_64", libc="gnu", version="2.31", id="machine-1")
ALL, NONE = Rollout(percent=100, seed="s"), Rollout(percent=0, seed="s")


def offer(version: str, *, previous: bool = False, rollout: Rollout | None = None, **needs: str) -> Offer:
    return Offer(
        name="lantern", version=version, target="linux-amd64", kind="executable", path=f"lantern/{version}/lantern",
        size=1, sha256="0" * 64, needs=needs, rollout=rollout, previous=previous,
    )  # fmt: skip


def yanked(*versions: str) -> dict[str, Any]:
    return {"yanked": tuple(Yanked(version=version, reason="it eats logs") for version in versions)}


def ending(last: str, *, target: str = "linux-amd64", **below: str) -> dict[str, Any]:
    return {"sunset": (Sunset(target=target, last=last, reason="glibc is old", below=below),)}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row: what is offered and installed, and what comes of it."""

    rule: str
    offers: tuple[Offer, ...]
    installed: str | None
    action: Action
    version: str = ""
    says: str = ""
    notice: str = ""
    channel: dict[str, Any] = field(default_factory=dict)
    expired: bool = False
    fetch: bool | None = None  # whether there is an offer to fetch; None: exactly when something changes


TWO = (offer("2.0"),)
CASES = [
    Case(rule="1 expired, installed", offers=TWO, installed="1.0", expired=True, action=Action.STAY, says="expired"),
    Case(rule="1 expired, first install", offers=TWO, installed=None, expired=True, action=Action.STAY, says="expired"),
    Case(rule="1 expired, yanked", offers=TWO, installed="1.0", expired=True, channel=yanked("1.0"), action=Action.STAY),
    Case(rule="2 nothing offered", offers=(), installed="1.0", action=Action.STAY, says="offers nothing for linux-amd64"),
    Case(rule="2 nothing offered, first install", offers=(), installed=None, action=Action.STAY, says="offers nothing"),
    Case(rule="3 and 4 in the rollout", offers=(offer("2.0", rollout=ALL), offer("1.0", previous=True)), installed="1.0",
         action=Action.UPDATE, version="2.0"),
    Case(rule="4 outside of the rollout, update", offers=(offer("2.0", rollout=NONE), offer("1.5", previous=True)), installed="1.0",
         action=Action.UPDATE, version="1.5"),
    Case(rule="4 outside of the rollout, first install", offers=(offer("2.0", rollout=NONE), offer("1.5", previous=True)),
         installed=None, action=Action.INSTALL, version="1.5"),
    Case(rule="4 outside of the first rollout ever", offers=(offer("2.0", rollout=NONE),), installed=None, action=Action.STAY,
         says="has not reached this machine"),
    Case(rule="5 the offer itself is yanked", offers=TWO, installed="1.0", channel=yanked("2.0"), action=Action.STAY,
         says="2.0 was yanked: it eats logs"),
    Case(rule="5 the offer is yanked, previous is not", offers=(offer("2.0", rollout=ALL), offer("1.5", previous=True)),
         installed="1.0", channel=yanked("2.0"), action=Action.UPDATE, version="1.5"),
    Case(rule="5 everything is withdrawn", offers=TWO, installed=None, channel={"withdrawn": ("2.0",)}, action=Action.STAY,
         says="taken back"),
    Case(rule="6 the minimum is above previous", offers=(offer("2.0", rollout=NONE), offer("1.5", previous=True)), installed="1.0",
         channel={"minimum": "1.8"}, action=Action.REQUIRED, version="2.0", says="at least 1.8"),
    Case(rule="6 the minimum is above previous, first install", offers=(offer("2.0", rollout=NONE), offer("1.5", previous=True)),
         installed=None, channel={"minimum": "1.8"}, action=Action.INSTALL, version="2.0"),
    Case(rule="6 the minimum is met", offers=(offer("2.0", rollout=NONE), offer("1.5", previous=True)), installed="1.5",
         channel={"minimum": "1.5"}, action=Action.STAY, version="1.5"),
    Case(rule="6 no offer meets the minimum", offers=(offer("2.0", rollout=NONE), offer("1.5", previous=True)), installed="1.0",
         channel={"minimum": "3.0"}, action=Action.REQUIRED, version="1.5"),
    Case(rule="6 the minimum without previous", offers=(offer("2.0", rollout=NONE),), installed="1.0",
         channel={"minimum": "1.8"}, action=Action.REQUIRED, version="2.0"),
    Case(rule="7 the target ends", offers=TWO, installed="1.0", channel=ending("1.5"), action=Action.UPDATE, version="1.5",
         notice="glibc is old", fetch=False),
    Case(rule="7 the target ends with what is installed", offers=TWO, installed="1.5", channel=ending("1.5"), action=Action.STAY,
         version="1.5", notice="glibc is old"),
    Case(rule="7 below the floor", offers=TWO, installed="1.0", channel=ending("1.5", glibc="2.34"), action=Action.UPDATE,
         version="1.5", notice="glibc is old", fetch=False),
    Case(rule="7 not below the floor", offers=TWO, installed="1.0", channel=ending("1.5", glibc="2.31"), action=Action.UPDATE,
         version="2.0"),
    Case(rule="7 another floor", offers=TWO, installed="1.0", channel=ending("1.5", musl="1.2"), action=Action.UPDATE, version="2.0"),
    Case(rule="7 another target ends", offers=TWO, installed="1.0", channel=ending("1.5", target="linux-armv7"),
         action=Action.UPDATE, version="2.0"),
    Case(rule="7 the last one is what is offered", offers=TWO, installed="1.0", channel=ending("2.0"), action=Action.UPDATE,
         version="2.0", notice="glibc is old"),
    Case(rule="7 the last one is newer than the offer", offers=TWO, installed="1.0", channel=ending("3.0"), action=Action.UPDATE,
         version="2.0", notice="glibc is old"),
    Case(rule="7 the last one is previous", offers=(offer("2.0", rollout=ALL), offer("1.5", previous=True)), installed="1.0",
         channel=ending("1.5"), action=Action.UPDATE, version="1.5", notice="glibc is old"),
    Case(rule="7 newer than the last one", offers=TWO, installed="1.8", channel=ending("1.5"), action=Action.STAY, version="1.5",
         notice="glibc is old", says="1.8 is newer than 1.5"),
    Case(rule="5 the last one is yanked", offers=TWO, installed="1.0", channel={**ending("1.5"), **yanked("1.5")}, action=Action.STAY,
         version="1.5", notice="glibc is old", says="1.5 was yanked"),
    Case(rule="7 newer than the last one and yanked", offers=TWO, installed="1.8", channel={**ending("1.5"), **yanked("1.8")},
         action=Action.GO_BACK, version="1.5", notice="glibc is old", fetch=False),
    Case(rule="7 first install", offers=TWO, installed=None, channel=ending("1.5"), action=Action.INSTALL, version="1.5",
         notice="glibc is old", fetch=False),
    Case(rule="7 two rows, the oldest holds", offers=TWO, installed="1.0",
         channel={"sunset": ending("1.8")["sunset"] + ending("1.5", glibc="2.34")["sunset"]}, action=Action.UPDATE, version="1.5",
         notice="glibc is old", fetch=False),
    Case(rule="8 needs more than there is", offers=(offer("2.0", glibc="2.34"),), installed="1.0", action=Action.STAY, version="2.0",
         says="needs glibc 2.34, and this machine has 2.31"),
    Case(rule="8 needs what there is", offers=(offer("2.0", glibc="2.31"),), installed="1.0", action=Action.UPDATE, version="2.0"),
    Case(rule="8 needs less in another number of digits", offers=(offer("2.0", glibc="2.4"),), installed="1.0",
         action=Action.UPDATE, version="2.0"),
    Case(rule="9 first install", offers=TWO, installed=None, action=Action.INSTALL, version="2.0"),
    Case(rule="10 installed", offers=TWO, installed="2.0", action=Action.STAY, version="2.0", says="is what stable offers"),
    Case(rule="10 the same in another spelling", offers=TWO, installed="2.0.0", action=Action.STAY, version="2.0"),
    Case(rule="11 yanked, newer", offers=TWO, installed="1.0", channel=yanked("1.0"), action=Action.REQUIRED, version="2.0",
         says="1.0 was yanked: it eats logs"),
    Case(rule="11 yanked, older", offers=TWO, installed="2.1", channel=yanked("2.1"), action=Action.GO_BACK, version="2.0"),
    Case(rule="11 withdrawn, older", offers=TWO, installed="2.1", channel={"withdrawn": ("2.1",)}, action=Action.GO_BACK,
         version="2.0", says="taken back by a rollback"),
    Case(rule="11 withdrawn, newer", offers=TWO, installed="1.9", channel={"withdrawn": ("1.9",)}, action=Action.REQUIRED, version="2.0"),
    Case(rule="12 newer", offers=TWO, installed="1.0", action=Action.UPDATE, version="2.0", says="2.0 is newer than 1.0"),
    Case(rule="12 below the minimum", offers=TWO, installed="1.0", channel={"minimum": "1.1"}, action=Action.REQUIRED, version="2.0"),
    Case(rule="12 at the minimum", offers=TWO, installed="1.1", channel={"minimum": "1.1"}, action=Action.UPDATE, version="2.0"),
    Case(rule="12 a pre-release is older", offers=TWO, installed="2.0rc1", action=Action.UPDATE, version="2.0"),
    Case(rule="13 older", offers=TWO, installed="2.1", action=Action.STAY, version="2.0", says="2.1 is newer than 2.0"),
    Case(rule="13 the percentage was lowered", offers=(offer("2.0", rollout=NONE), offer("1.0", previous=True)), installed="2.0",
         action=Action.STAY, version="1.0"),
    Case(rule="13 older and below the minimum", offers=TWO, installed="2.1", channel={"minimum": "3.0"}, action=Action.STAY, version="2.0"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_rule(case: Case) -> None:
    """The row's action, version and reason."""
    channel = ChannelInfo(channel="stable", version="2.0", **case.channel)
    made = choose(channel, case.offers, MACHINE, case.installed, expired=case.expired)

    assert (made.action, made.version, made.notice) == (case.action, case.version, case.notice)
    assert case.says in made.reason
    assert made.reason.endswith((".", "logs"))
    assert made.changes == (made.action is not Action.STAY)
    fetch = made.changes if case.fetch is None else case.fetch
    assert (made.offer is not None) == fetch
    assert made.offer is None or made.offer.version == made.version


def test_every_rule_has_a_row() -> None:
    """No rule of the docstring is without a row."""
    assert {int(case.rule.split()[0]) for case in CASES} | {3} == set(range(1, 14))


def test_cohort_is_the_documented_number() -> None:
    """Rule 3, computed by hand: any client in any language comes to the same."""
    digest = hashlib.sha256(b"machine-1\x00seed").digest()
    value = int.from_bytes(digest[:8], "big") / 2**64 * 100

    assert cohort("machine-1", "seed") == value
    assert takes_part("machine-1", Rollout(percent=value + 0.001, seed="seed"))
    assert not takes_part("machine-1", Rollout(percent=value, seed="seed"))


@given(st.text(), st.text(), st.floats(0, 100), st.floats(0, 100))
def test_raising_the_percentage_drops_no_machine(
    machine: str, seed: str, first: float, second: float
) -> None:
    """Who is in at some percentage is in at every higher one; all are in at 100, nobody at 0."""
    low, high = sorted((first, second))

    assert not takes_part(machine, Rollout(percent=low, seed=seed)) or takes_part(
        machine, Rollout(percent=high, seed=seed)
    )
    assert takes_part(machine, Rollout(percent=100, seed=seed))
    assert not takes_part(machine, Rollout(percent=0, seed=seed))


@pytest.mark.parametrize("percent", [1, 10, 50, 90])
def test_share_of_a_fleet(percent: int) -> None:
    """Of 10,000 machines about the percentage is in, and another seed takes others."""
    fleet = [f"{number:032x}" for number in range(10_000)]
    one, other = (
        {one for one in fleet if takes_part(one, Rollout(percent=percent, seed=seed))} for seed in ("a", "b")
    )

    assert abs(len(one) / 100 - percent) < 1.5
    assert abs(len(one & other) / 100 - percent * percent / 100) < 1.5


VERSIONS = st.sampled_from(["1.0", "1.5", "1.5.post1", "2.0rc1", "2.0", "2.1", "3.0"])


@given(
    VERSIONS,
    VERSIONS,
    st.one_of(st.none(), VERSIONS),
    st.one_of(st.just(""), VERSIONS),
    st.sets(VERSIONS),
    VERSIONS,
    st.booleans(),
)
def test_nobody_goes_back_without_a_reason(
    current: str, previous: str, installed: str | None, minimum: str, bad: set[str], last: str, part: bool
) -> None:
    """Whatever a channel says: an older version only for who has a bad one, and a bad one for nobody."""
    channel = ChannelInfo(
        channel="stable", version=current, minimum=minimum, withdrawn=tuple(bad), **ending(last, glibc="2.34")
    )
    offers = (offer(current, rollout=ALL if part else NONE), offer(previous, previous=True))
    made = choose(channel, offers, MACHINE, installed)

    if made.action is Action.GO_BACK:
        assert installed in bad
    if made.changes:
        assert made.version not in bad
        assert made.version != installed
