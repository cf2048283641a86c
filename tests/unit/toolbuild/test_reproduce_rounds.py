"""The calls of the second build: each target with the promise and the collector that the manifest has of it."""

from __future__ import annotations

import pytest

from ferryman_build.artifacts import Artifact, Kind
from ferryman_build.reproduce.rounds import Round, rounds
from ferryman_build.targets import parse_target, with_promise

LINUX, ARM, WINDOWS, MUSL = "linux-amd64", "linux-arm64", "windows-amd64", "linux-amd64-musl"


def made(target: str, floor: str = "", kind: Kind = Kind.ARCHIVE, collector: str = "standalone") -> Artifact:
    """As a build with that floor writes it down."""
    row = with_promise(parse_target(target), floor)
    return Artifact(kind=kind, target=target, path=f"{target}.{kind}", size=1, sha256="0", collector=collector,
                    promise={**row.floor, "cpu": row.cpu})  # fmt: skip


CASES = {
    "one promise for all": (
        [made(LINUX, "glibc 2.31"), made(ARM, "glibc 2.31"), made(WINDOWS)],
        [((LINUX, ARM, WINDOWS), "glibc 2.31, windows 10")],
    ),
    "another glibc": (
        [made(LINUX, "glibc 2.36"), made(ARM), made(WINDOWS)],
        [((LINUX, WINDOWS), "glibc 2.36, windows 10"), ((ARM,), "glibc 2.17")],
    ),
    "a newer processor": (
        [made(LINUX, "cpu x86-64-v3"), made(ARM)], [((LINUX, ARM), "cpu x86-64-v3, glibc 2.17")],
    ),
    "a newer processor for one of two": (
        [made(LINUX, "cpu x86-64-v3"), made(WINDOWS)],
        [((LINUX,), "cpu x86-64-v3, glibc 2.17"), ((WINDOWS,), "windows 10")],
    ),
    "another collector": (
        [made(LINUX, collector="pyinstaller"), made(ARM), made(WINDOWS)],
        [((LINUX,), "glibc 2.17"), ((ARM, WINDOWS), "glibc 2.17, windows 10")],
    ),
    "no tree": (
        [made(LINUX, kind=Kind.PYZ, collector="pip"), made(ARM, kind=Kind.PYZ, collector="pip")],
        [((LINUX, ARM), "glibc 2.17")],
    ),
    "other kinds": (
        [made(LINUX), made(LINUX, kind=Kind.PYZ, collector="pip"), made(ARM)],
        [((LINUX,), "glibc 2.17"), ((ARM,), "glibc 2.17")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("artifacts", "wanted"), CASES.values(), ids=CASES)
def test_rounds(artifacts: list[Artifact], wanted: list[tuple[tuple[str, ...], str]]) -> None:
    """As few calls as the promises allow; a floor that is said for one target never becomes that of another."""
    found = rounds(artifacts)
    words = [one.words(()) for one in found]

    assert [
        (one.targets, line[line.index("--floor") + 1]) for one, line in zip(found, words, strict=True)
    ] == wanted
    assert sorted(target for one in found for target in one.targets) == sorted(
        {one.target for one in artifacts}
    )


@pytest.mark.parametrize(("artifacts", "wanted"), CASES.values(), ids=CASES)
def test_every_target_gets_its_own_promise_again(artifacts: list[Artifact], wanted: object) -> None:
    """Read as `ferryman build` reads it, the floor that is said gives what the manifest says."""
    from ferryman_build.promises import _meant_for

    for one in rounds(artifacts):
        words = one.words(())
        text = words[words.index("--floor") + 1]
        for target in map(parse_target, one.targets):
            again = with_promise(target, _meant_for(target, text))
            first = next(artifact for artifact in artifacts if artifact.target == target.id)
            assert {**again.floor, "cpu": again.cpu} == first.promise


def test_a_target_with_a_runtime_of_its_own() -> None:
    """It is named for that target alone, by the variable that stands for the setting."""
    found = rounds([made(LINUX), made(ARM), made(WINDOWS)], {ARM: "/rt/arm.tar.zst"})

    assert [(one.targets, dict(one.environment)) for one in found] == [
        ((LINUX, WINDOWS), {}), ((ARM,), {"FERRYMAN_RUNTIME": "/rt/arm.tar.zst"}),
    ]  # fmt: skip


def test_what_was_said_already() -> None:
    """The person's own words hold, and none is said twice."""
    one = Round(targets=(LINUX,), kinds=(Kind.PYZ,), collector="standalone", floor={"glibc": "2.31"})

    assert one.words(["--floor", "glibc 2.36"]) == (
        "--target",
        LINUX,
        "--kind",
        "pyz",
        "--collector",
        "standalone",
    )
    assert one.words(["--collector", "auto"])[-2:] == ("--floor", "glibc 2.31")


def test_a_manifest_without_promises() -> None:
    """One of an earlier Ferryman says nothing, and nothing is said."""
    old = Artifact(kind=Kind.PYZ, target=MUSL, path="a", size=1, sha256="0", collector="pip")

    assert rounds([old])[0].words(()) == ("--target", MUSL, "--kind", "pyz")
