"""The mapping that forgets, against a plain list of what was used when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.bounded import TtlLru


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


STEPS = st.lists(st.tuples(st.sampled_from(["get", "set", "wait"]), st.integers(0, 6)), max_size=80)


@given(maxsize=st.integers(1, 4), ttl=st.integers(1, 6), steps=STEPS)
def test_like_a_list(maxsize: int, ttl: int, steps: list[tuple[str, int]]) -> None:
    """L1, L2: what is there, and in which order it goes, is what a list of uses says; nothing goes unheard."""
    clock, gone = Clock(), []
    entries: TtlLru[int, str] = TtlLru(
        maxsize, ttl, clock=clock, on_gone=lambda key, _value: gone.append(key)
    )
    model: list[tuple[int, str, float]] = []
    went: list[int] = []
    for number, (step, key) in enumerate(steps):
        if step == "wait":
            clock.now += key
        went += [each for each, _, used in model if used <= clock.now - ttl]
        model = [entry for entry in model if entry[2] > clock.now - ttl]
        if step == "get":
            found = next((value for each, value, _ in model if each == key), None)
            assert entries.get(key) == found
            if found is not None:
                model = [entry for entry in model if entry[0] != key] + [(key, found, clock.now)]
        elif step == "set":
            entries.set(key, f"v{number}")
            model = [entry for entry in model if entry[0] != key] + [(key, f"v{number}", clock.now)]
            went += [each for each, _, _ in model[:-maxsize]]
            model = model[-maxsize:]
        assert list(entries) == [each for each, _, _ in model]
        assert entries.values() == [value for _, value, _ in model]
        assert gone == went


def test_a_thousand_and_twenty_four() -> None:
    """The usual size holds 1024 and no more."""
    entries: TtlLru[int, int] = TtlLru()
    for number in range(5000):
        entries.set(number, number)
    assert len(entries) == 1024
    assert entries.get(3975) is None
    assert entries.get(3976) == 3976


def test_made_once() -> None:
    """What is there is not made again."""
    entries: TtlLru[str, list[int]] = TtlLru()
    first = entries.get_or_make("a", list)
    assert entries.get_or_make("a", list) is first
