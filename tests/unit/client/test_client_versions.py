"""The client's order of versions is that of the packaging standards, which it does without a dependency."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from ferryman_client.versions import below, key, older, same

PARTS = st.builds(
    "{}{}{}{}{}{}".format,
    st.sampled_from(["", "1!"]),
    st.sampled_from(["0", "1", "1.0", "1.0.0", "1.2", "1.10", "1.2.3", "2026.11", "10"]),
    st.sampled_from(["", "a1", "b1", "b2", "rc1", "-alpha.1", ".beta2", "c3", "rc10", "rc"]),
    st.sampled_from(["", ".post1", "-1", ".rev2", "post10"]),
    st.sampled_from(["", ".dev1", ".dev", "dev10"]),
    st.sampled_from(["", "+local", "+abc.1", "+abc.10", "+5"]),
)


@given(PARTS, PARTS)
def test_order_is_that_of_packaging(first: str, second: str) -> None:
    """Any two versions compare as packaging.version compares them."""
    assert older(first, second) == (Version(first) < Version(second))
    assert same(first, second) == (Version(first) == Version(second))


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_two_texts_have_an_order(first: str, second: str) -> None:
    """What is no version compares too, with itself and with versions."""
    assert same(first, first)
    assert sum((older(first, second), older(second, first), same(first, second))) == 1
    assert key("1.0") > key("not a version at all")


@pytest.mark.parametrize(
    ("have", "need", "is_below"),
    [
        ("2.28", "2.31", True), ("2.31", "2.31", False), ("2.4", "2.17", True), ("2.36", "2.4", False), ("11", "11.0", False),
        ("10.15.7", "11.0", True), ("14.5", "11", False), ("10.0.19045", "10", False), ("10.0.19045", "11", True),
        ("11.0.22631", "11", False), ("1.2.5", "1.2", False), ("", "2.31", False), ("2.31", "", False),
    ],
)  # fmt: skip
def test_floor(have: str, need: str, is_below: bool) -> None:
    """Numbers compare as numbers; what is unknown is below nothing."""
    assert below(have, need) is is_below
