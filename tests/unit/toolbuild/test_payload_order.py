"""payload_order: which group a file has, and what is compressed together."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman_build.collect.analysis import EntryKind, Origin
from ferryman_build.wrap.launch import SBOM
from ferryman_build.wrap.payload_order import Content, Segment, group_of, segments

OWN = {"heron", "heron-1.0.dist-info"}


def content(path: str, size: int = 10, group: str = "app", seed: str = "") -> Content:
    return Content(
        sha256=hashlib.sha256(f"{path}{seed}".encode()).hexdigest(), size=size, path=path, group=group
    )


def names(found: list[Segment]) -> list[str]:
    return [segment.name for segment in found]


@pytest.mark.parametrize(
    ("dest", "kind", "origin", "group"),
    [
        ("libpython3.11.so.1.0", EntryKind.NATIVE, Origin.HOST, "native:libpython3.11.so.1.0"),
        ("python3.11/lib-dynload/math.so", EntryKind.NATIVE, Origin.HOST, "native:math.so"),
        ("json/decoder.pyc", EntryKind.MODULE, Origin.HOST, "stdlib"),
        ("lib2to3/Grammar.txt", EntryKind.DATA, Origin.HOST, "stdlib"),
        ("aiohttp/web.pyc", EntryKind.MODULE, Origin.ENV, "dist:aiohttp"),
        ("typing_extensions.pyc", EntryKind.MODULE, Origin.ENV, "dist:typing_extensions"),
        ("PyYAML-6.0.dist-info/METADATA", EntryKind.DATA, Origin.ENV, "dist:pyyaml"),
        ("aiohttp/_parser.cpython-311.so", EntryKind.NATIVE, Origin.ENV, "extension:aiohttp"),
        ("_cffi_backend.cpython-311.so", EntryKind.NATIVE, Origin.ENV, "extension:_cffi_backend"),
        ("numpy.libs/libopenblas.so", EntryKind.NATIVE, Origin.ENV, "extension:numpy"),
        ("heron/main.pyc", EntryKind.MODULE, Origin.APP, "app"),
        ("heron/words.txt", EntryKind.DATA, Origin.PROJECT, "app"),
        ("heron-1.0.dist-info/METADATA", EntryKind.DATA, Origin.ENV, "app"),
        ("heron/_fast.so", EntryKind.NATIVE, Origin.APP, "extension:heron"),
        ("_ferryman/launch", EntryKind.DATA, Origin.HOST, "app"),
        (SBOM, EntryKind.DATA, Origin.WORK, "sbom"),
        ("generated.pyc", EntryKind.MODULE, Origin.WORK, "app"),
        ("models/big.bin", EntryKind.DATA, Origin.PROJECT, "data:models"),
    ],
)
def test_group(dest: str, kind: EntryKind, origin: Origin, group: str) -> None:
    """A file's group is what it changes together with."""
    assert group_of(dest, kind, origin, {*OWN, "heron"}) == group


def test_large_groups_are_alone_and_small_ones_share() -> None:
    """In the order of the classes; groups of an unknown class come last and are not lost."""
    found = segments(
        [
            content("z", group="mystery"),
            content("d", 64 << 10, "data:d"),
            content("a", group="dist:a"), content("b", group="dist:b"), content("c", 128 << 10, "dist:c"),
            content("e", 512 << 10, "extension:e"), content("f", group="extension:f"),
            content("p", 4 << 20, "native:p"), content("q", group="native:q"), content("r", group="native:r"),
            content("_internal/zipfile.pyc", group="stdlib"),
            content("x", group="app"),
        ]
    )  # fmt: skip
    assert names(found) == [
        "native:*", "native:p", "stdlib", "extension:*", "extension:e", "dist:*", "dist:c", "data:d", "app",
        "mystery:*",
    ]  # fmt: skip
    assert [content.path for content in found[0].contents] == ["q", "r"]
    assert not any(segment.primed for segment in found)  # there is no dictionary


@pytest.mark.parametrize(
    ("path", "group", "inside"),
    [
        ("_internal/json/decoder.pyc", "stdlib", True),
        ("_internal/typing.pyc", "stdlib", True),
        ("_internal/zipfile.pyc", "stdlib", False),
        ("_internal/json/table.txt", "stdlib", False),
        ("_internal/json/decoder.pyc", "app", False),
    ],
)
def test_dictionary(path: str, group: str, *, inside: bool) -> None:
    """It is bytecode of named modules of the standard library, and nothing of the program's own."""
    assert ("stdlib:dictionary" in names(segments([content(path, group=group)]))) == inside


def test_module_that_comes_in_leaves_the_dictionary() -> None:
    """A program that imports one module more has the same dictionary: another would change all that it primes."""
    before = [
        content(f"_internal/{name}.pyc", group="stdlib") for name in ("enum", "re", "typing", "zipfile")
    ]
    after = [*before, content("_internal/aifc.pyc", group="stdlib"), content("a", group="app")]
    assert segments(before)[0] == segments(after)[0]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3 << 20),
            st.sampled_from(["app", "stdlib", "dist:a", "dist:b", "native:n", "data:d", "x"]),
        ),
        max_size=60,
    ),
    st.randoms(use_true_random=False),
)
def test_every_content_is_in_one_segment(rows: list[tuple[int, str]], order: random.Random) -> None:
    """None is lost or there twice, and the order in which they are given makes no difference."""
    given_contents = [content(f"_internal/m{n}.pyc", size, group) for n, (size, group) in enumerate(rows)]
    found = segments(given_contents)
    assert sorted(c.path for s in found for c in s.contents) == sorted(c.path for c in given_contents)
    assert all(segment.contents for segment in found)
    order.shuffle(given_contents)
    assert segments(given_contents) == found


def test_application_is_cut_where_its_paths_say() -> None:
    """Many small pieces; an edit changes one, and a module that comes or goes two at most."""
    own = [content(f"_internal/heron/m{number}.pyc") for number in range(100)]
    before = segments(own)
    assert 8 <= len(before) <= 50
    edited = segments([*own[:50], content(own[50].path, 5000, seed="edited"), *own[51:]])
    assert len(edited) == len(before)
    assert sum(one != other for one, other in zip(edited, before, strict=True)) == 1
    for changed in (own[:50] + own[51:], [*own, content("_internal/heron/new.pyc")]):
        assert len({s.contents for s in segments(changed)} - {s.contents for s in before}) <= 2


def test_large_bundles_are_cut() -> None:
    """What must be in memory to unpack a segment is bounded, unless a single file is larger."""
    many = [content(f"data/{number}", 1 << 20, "data:data") for number in range(256)]
    sizes = [segment.size for segment in segments(many)]
    assert len(sizes) >= 16
    assert max(sizes) <= 64 << 20
    assert len(segments([content("data/one", 1 << 30, "data:data")])) == 1
