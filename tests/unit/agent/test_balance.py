"""Three ways to choose an instance, and what may not happen when instances come and go."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.config.schema.outbound import Balancing, Policy
from watchkeeper.outbound.balance import (
    MOST_POINTS,
    Balancer,
    HashRing,
    RoundRobin,
    Weighted,
    balancer,
    name_of,
)
from watchkeeper.registry.instances import Instance

A, B, C = (Instance(f"10.0.0.{number}", 80) for number in (1, 2, 3))
KEYS = [f"user-{number}" for number in range(2000)]


def everyone(_instance: Instance) -> bool:
    return True


def instances(names: set[int]) -> tuple[Instance, ...]:
    return tuple(Instance(f"10.0.0.{number}", 80) for number in sorted(names))


def owners(ring: HashRing, among: tuple[Instance, ...], keys: list[str] = KEYS) -> dict[str, Instance | None]:
    return {key: ring.pick(among, key, everyone) for key in keys}


@pytest.mark.parametrize("make", [RoundRobin, Weighted, HashRing])
def test_nobody(make: type[Balancer]) -> None:
    """W1: without instances, or with none that is usable, the answer is None."""
    chooser = make()
    assert chooser.pick((), "k", everyone) is None
    assert chooser.pick((A, B), "k", lambda _each: False) is None
    assert chooser.pick((A, B), "k", lambda each: each == B) == B


@pytest.mark.parametrize("make", [RoundRobin, Weighted, HashRing])
def test_weight_zero_stands_by(make: type[Balancer]) -> None:
    """W2: it is asked only when nobody else is usable."""
    chooser, spare = make(), replace(B, weight=0)
    assert {chooser.pick((A, spare), key, everyone) for key in KEYS[:50]} == {A}
    assert chooser.pick((A, spare), "k", lambda each: each != A) == spare


def test_round_robin() -> None:
    """W3: everybody in turn; who comes or goes does not make it begin anew."""
    chooser = RoundRobin()
    assert [chooser.pick((C, A, B), "", everyone) for _ in range(4)] == [A, B, C, A]
    assert [chooser.pick((A, C), "", everyone) for _ in range(3)] == [C, A, C]
    assert [chooser.pick((A, B, C), "", everyone) for _ in range(2)] == [A, B]


@given(names=st.sets(st.integers(1, 9), min_size=1), start=st.integers(0, 20))
def test_round_robin_is_fair(names: set[int], start: int) -> None:
    """W3: in any n choices among n instances each comes up once."""
    chooser, among = RoundRobin(), instances(names)
    for _ in range(start):
        chooser.pick(among, "", everyone)
    assert sorted(name_of(chooser.pick(among, "", everyone) or A) for _ in among) == sorted(
        map(name_of, among)
    )


def test_smooth_as_nginx() -> None:
    """W4: weights 5, 1, 1 give a a b a c a a, as nginx's own example does."""
    chooser = Weighted()
    among = (replace(A, weight=5), B, C)
    letters = {name_of(A): "a", name_of(B): "b", name_of(C): "c"}
    chosen = [chooser.pick(among, "", everyone) for _ in range(7)]
    assert "".join(letters[name_of(each)] for each in chosen if each) == "aabacaa"


@given(weights=st.lists(st.integers(1, 9), min_size=1, max_size=6), rounds=st.integers(1, 3))
def test_weights_are_exact(weights: list[int], rounds: int) -> None:
    """W4: in every round of sum(weights) choices each comes up exactly as often as it weighs, never far from its share."""
    chooser = Weighted()
    among = tuple(Instance("h", 1 + number, weight) for number, weight in enumerate(weights))
    total = sum(weights)
    for _ in range(rounds):
        counts: Counter[int] = Counter()
        for step in range(1, total + 1):
            chosen = chooser.pick(among, "", everyone)
            assert chosen is not None
            counts[chosen.port] += 1
            for instance in among:
                assert abs(counts[instance.port] - step * instance.weight / total) < len(among)
        assert counts == {instance.port: instance.weight for instance in among}


@given(names=st.sets(st.integers(1, 12), min_size=1, max_size=8), new=st.integers(13, 20))
def test_who_comes_takes_only_his_own(names: set[int], new: int) -> None:
    """W5: after an instance has come, every key is where it was or with the new one."""
    before = owners(HashRing(20), instances(names), KEYS[:300])
    after = owners(HashRing(20), instances(names | {new}), KEYS[:300])
    newcomer = Instance(f"10.0.0.{new}", 80)
    assert all(after[key] in (before[key], newcomer) for key in before)


@pytest.mark.parametrize(("count", "weight"), [(2, 100), (5, 100), (20, 10), (170, 1), (9, 150), (7, 300)])
def test_heavy_ones_take_only_their_own_as_well(count: int, weight: int) -> None:
    """W5: weights of hundreds are ordinary; within a step even a ring that is too large moves nobody else's keys."""

    def found(many: int) -> dict[str, Instance | None]:
        return owners(
            HashRing(), [Instance(f"10.0.{each}.1", 80, weight) for each in range(many)], KEYS[:300]
        )

    before, after = found(count), found(count + 1)
    assert {after[key] for key in before if before[key] != after[key]} == {
        Instance(f"10.0.{count}.1", 80, weight)
    }


@given(names=st.sets(st.integers(1, 12), min_size=2, max_size=8), data=st.data())
def test_who_goes_leaves_the_others_alone(names: set[int], data: st.DataObject) -> None:
    """W5: after one has gone, or its breaker has opened, only its own keys have moved, and both go the same way."""
    gone = data.draw(st.sampled_from(sorted(names)))
    leaver = Instance(f"10.0.0.{gone}", 80)
    ring = HashRing(20)
    before = owners(ring, instances(names), KEYS[:300])
    without = owners(HashRing(20), instances(names - {gone}), KEYS[:300])
    ejected = {key: ring.pick(instances(names), key, lambda each: each != leaver) for key in KEYS[:300]}
    assert all(without[key] == before[key] for key in before if before[key] != leaver)
    assert ejected == without


def test_a_newcomer_moves_about_its_share() -> None:
    """W5: with 100 points each, a tenth instance takes over about a tenth of the keys."""
    before = owners(HashRing(), instances(set(range(1, 10))))
    after = owners(HashRing(), instances(set(range(1, 11))))
    moved = sum(before[key] != after[key] for key in KEYS)
    assert 0.5 * len(KEYS) / 10 < moved < 1.7 * len(KEYS) / 10


def test_weights_on_the_ring() -> None:
    """W5: three times the weight is about three times the keys."""
    heavy = replace(A, weight=3)
    share = sum(each == heavy for each in owners(HashRing(), (heavy, B)).values()) / len(KEYS)
    assert 0.65 < share < 0.85


def test_the_ring_is_the_same_everywhere() -> None:
    """The order of the list does not matter, and the points do not depend on a process's hash seed."""
    one, other = owners(HashRing(), (A, B, C)), owners(HashRing(), (C, B, A))
    assert one == other
    assert HashRing().pick((A, B, C), "user-1", everyone) == one["user-1"]
    assert math.isclose(sum(each == A for each in one.values()) / len(KEYS), 1 / 3, abs_tol=0.12)


def test_weights_of_others_cost_no_memory() -> None:
    """A registry that says 65535 for each of 50 instances gets a ring of bounded size, and an answer."""
    ring = HashRing(1000)
    heavy = tuple(Instance("h", 1 + number, 65_535) for number in range(50))
    assert ring.pick(heavy, "k", everyone) in heavy
    assert len(ring._points) <= MOST_POINTS + len(heavy)


@pytest.mark.parametrize(
    ("policy", "kind"),
    [(Policy.ROUND_ROBIN, RoundRobin), (Policy.WEIGHTED, Weighted), (Policy.HASH, HashRing)],
)
def test_the_settings_choose(policy: Policy, kind: type[Balancer]) -> None:
    """One for each policy."""
    assert isinstance(balancer(Balancing(discovery="d", policy=policy)), kind)
