"""What a machine should do about a channel: the rules, and the function that they are.

Input is what signed metadata says (the channel, the offers for this machine), the machine, and the version that is
installed, if one is. Output is one of five actions. Nothing here reads a clock, a disk or a network.

 1. Expired metadata installs nothing. What is installed stays; there is no first install.
 2. Without an offer for this target and kind there is nothing to do.
 3. A machine is in a rollout if the first 8 bytes of SHA-256(machine id, zero byte, seed), read as a big-endian fraction
    of 2**64, times 100 are below ``percent``. The seed is the rollout's own, so each rollout has other machines first;
    raising the percentage adds machines and drops none.
 4. In the rollout, or without one: the candidate is the offer. Outside of it: the offer `previous`, if there is one.
 5. A version that is yanked or withdrawn is no candidate, be it offered or the ``last`` of a sunset.
 6. A machine below the channel's minimum whose candidate is also below it gets the offer that satisfies it, in or out of
    the rollout: the minimum says that older is worse than new.
 7. A sunset row that names this target, and, if it has `below`, a floor that this machine does not reach, limits the
    candidate: a newer one gives way to ``last``. The reason is told in every case.
 8. A candidate that needs more than this machine has (glibc, musl, macOS, Windows) is refused: it would not start.
 9. Nothing installed: install the candidate.
10. The candidate is what is installed: stay.
11. The installed version is yanked or withdrawn: the candidate is required, also when it is older (go back).
12. The candidate is newer: update; below the channel's minimum: required.
13. The candidate is older, and no rule above wants it: stay. No machine goes back because a percentage was lowered, a
    sunset was declared, or an old channel was served.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ferryman_client.machine import Machine
from ferryman_client.model import ChannelInfo, Offer, Rollout, Sunset
from ferryman_client.versions import below, older, same


class Action(StrEnum):
    """What to do. ``UPDATE`` may wait for a quiet hour; ``REQUIRED`` should not."""

    INSTALL = "install"
    UPDATE = "update"
    REQUIRED = "required"
    GO_BACK = "go-back"
    STAY = "stay"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """``version`` is what the machine should have; ``offer`` is its artifact, and None when there is nothing to fetch.

    ``version`` without ``offer`` and an action other than STAY: the artifact is that of an older release, which
    :meth:`ferryman_client.Client.choose` looks up in the channel's history. ``notice`` is the reason of a sunset.
    """

    action: Action
    reason: str
    version: str = ""
    offer: Offer | None = None
    notice: str = ""

    @property
    def changes(self) -> bool:
        """Whether there is something to install."""
        return self.action is not Action.STAY


def cohort(machine_id: str, seed: str) -> float:
    """Where a machine stands in a rollout: 0 <= x < 100 (rule 3)."""
    digest = hashlib.sha256(machine_id.encode() + b"\0" + seed.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * 100


def takes_part(machine_id: str, rollout: Rollout | None) -> bool:
    """Whether an offer is for this machine (rules 3 and 4)."""
    return rollout is None or cohort(machine_id, rollout.seed) < rollout.percent


def choose(
    channel: ChannelInfo,
    offers: Sequence[Offer],
    machine: Machine,
    installed: str | None = None,
    *,
    expired: bool = False,
) -> Choice:
    """Apply the rules above.

    Args:
        offers: those of one kind for this machine's target: the current one and, in a rollout, the previous one.
        installed: the version that runs here; None for a first install.
        expired: whether the metadata that says all this has expired.
    """
    if expired:  # rule 1
        return _stay("The channel's metadata has expired; nothing is installed from it.")
    candidate = _candidate(channel, offers, machine, installed)
    if candidate is None:  # rules 2, 4 and 5
        return _stay(_nothing(channel, offers, machine))
    ending = _sunset(channel, machine)
    notice = ending.reason if ending else ""
    if ending and older(ending.last, candidate.version):  # rule 7
        version = ending.last
        offer = next((one for one in offers if same(one.version, version)), None)
    else:
        version, offer = candidate.version, candidate
    if reason := bad(channel, version):  # rule 5
        return _stay(reason, version=version, notice=notice)
    if offer and (missing := lacks(offer, machine)):  # rule 8
        return _stay(f"{version} {missing}", version=version, notice=notice)
    action, reason = _action(channel, version, installed)
    return Choice(
        action=action,
        reason=reason,
        version=version,
        offer=offer if action is not Action.STAY else None,
        notice=notice,
    )


def _stay(reason: str, *, version: str = "", notice: str = "") -> Choice:
    return Choice(action=Action.STAY, reason=reason, version=version, notice=notice)


def _candidate(
    channel: ChannelInfo, offers: Sequence[Offer], machine: Machine, installed: str | None
) -> Offer | None:
    usable = [one for one in offers if not bad(channel, one.version)]  # rule 5
    current = next((one for one in usable if not one.previous), None)
    previous = next((one for one in usable if one.previous), None)
    candidate = current if current and takes_part(machine.id, current.rollout) else previous  # rule 4
    if current and channel.minimum and not older(current.version, channel.minimum):  # rule 6
        have = candidate.version if candidate else installed
        if have and older(have, channel.minimum) and (installed is None or older(installed, channel.minimum)):
            return current
    return candidate


def _action(channel: ChannelInfo, version: str, installed: str | None) -> tuple[Action, str]:
    """Rules 9 to 13, for a candidate of that version."""
    if installed is None:  # rule 9
        return Action.INSTALL, f"{version} is what {channel.channel} offers this machine."
    if same(installed, version):  # rule 10
        return Action.STAY, f"{installed} is what {channel.channel} offers this machine."
    if gone := bad(channel, installed):  # rule 11
        return Action.GO_BACK if older(version, installed) else Action.REQUIRED, gone
    if older(version, installed):  # rule 13
        return Action.STAY, f"{installed} is newer than {version}, which {channel.channel} offers."
    if channel.minimum and older(installed, channel.minimum):  # rule 12
        return Action.REQUIRED, f"{channel.channel} wants at least {channel.minimum}."
    return Action.UPDATE, f"{version} is newer than {installed}."  # rule 12


def bad(channel: ChannelInfo, version: str) -> str:
    """Why nobody should have a version: it was yanked, or a rollback withdrew it; "" for a good one."""
    for one in channel.yanked:
        if same(one.version, version):
            return f"{version} was yanked: {one.reason}" if one.reason else f"{version} was yanked."
    if any(same(one, version) for one in channel.withdrawn):
        return f"{version} was taken back by a rollback."
    return ""


def _sunset(channel: ChannelInfo, machine: Machine) -> Sunset | None:
    """The row that holds for this machine; of several the one with the oldest ``last`` (rule 7)."""
    found: Sunset | None = None
    for row in channel.sunset:
        floors = row.below.items()
        reached = row.target == machine.target and (
            not row.below or any(below(machine.floor.get(name, ""), floor) for name, floor in floors)
        )
        if reached and (found is None or older(row.last, found.last)):
            found = row
    return found


def lacks(offer: Offer, machine: Machine) -> str:
    """What the machine has too little of for an artifact, as the end of a sentence; "" when nothing (rule 8)."""
    for name, floor in sorted(offer.needs.items()):
        have = machine.floor.get(name, "")
        if below(have, floor):
            return f"needs {name} {floor}, and this machine has {have}."
    return ""


def _nothing(channel: ChannelInfo, offers: Sequence[Offer], machine: Machine) -> str:
    if not offers:
        where = machine.target or f"{machine.os}/{machine.arch}"
        return f"{channel.channel} offers nothing for {where}."
    if reason := next((bad(channel, one.version) for one in offers if bad(channel, one.version)), ""):
        return reason
    return f"The rollout of {offers[0].version} has not reached this machine."
