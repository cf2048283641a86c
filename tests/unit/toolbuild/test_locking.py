"""Locks: which wheel fits which target, what a lock file may say, and what uv's refusals mean."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from ferryman_build import locking, uv_messages
from ferryman_build.cmd import Completed, Runner
from ferryman_build.errors import ConfigError, PackageIndexError, ResolutionError
from ferryman_build.lockfile import apply_pins, lock_text, read_pins, requirements_text, sealed
from ferryman_build.targets import all_targets, parse_target
from ferryman_build.wheeltags import (
    Lock,
    LockedPackage,
    Wheel,
    compatible_wheels,
    fits,
    marker_environment,
    packages_for,
)


def sha(letter: str) -> str:
    return letter * 64


def wheel(filename: str, digest: str = "a") -> Wheel:
    return Wheel(filename=filename, sha256=sha(digest))


def package(name: str, *wheels: Wheel, marker: str = "", sdist: bool = False) -> LockedPackage:
    source = sha("5") if sdist else ""
    return LockedPackage(
        name=name, version="1.0", marker=marker, wheels=wheels, sdist=sdist, sdist_sha256=source
    )


def lock(*packages: LockedPackage) -> Lock:
    return sealed("3.11", packages)


# --- tags -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "target", "expected"),
    [
        ("py3-none-any", "linux-s390x", True),
        ("py2-none-any", "linux-amd64", False),
        ("cp311-cp311-manylinux_2_17_x86_64", "linux-amd64", True),
        ("cp311-cp311-manylinux_2_17_x86_64", "linux-amd64-musl", False),
        ("cp311-cp311-manylinux_2_17_x86_64", "linux-arm64", False),
        ("cp311-cp311-manylinux_2_28_x86_64", "linux-amd64", True),  # above the floor, but the row lists it
        ("cp311-cp311-manylinux_2_34_x86_64", "linux-amd64", False),
        ("cp311-cp311-manylinux1_x86_64", "linux-amd64", True),  # older than any that the row lists
        ("cp311-cp311-manylinux2010_x86_64", "linux-amd64", True),
        ("cp311-cp311-manylinux_2_12_x86_64", "linux-amd64", True),
        ("cp311-cp311-manylinux2014_armv7l.manylinux_2_17_armv7l", "linux-armv7", True),
        ("cp311-cp311-manylinux_2_39_riscv64", "linux-riscv64", True),
        ("cp311-cp311-linux_x86_64", "linux-amd64", True),
        ("cp311-cp311-musllinux_1_1_aarch64", "linux-arm64-musl", True),
        ("cp311-cp311-musllinux_1_3_aarch64", "linux-arm64-musl", False),
        ("cp311-cp311-win_arm64", "windows-arm64", True),
        ("cp311-cp311-win32", "windows-amd64", False),
        ("cp311-cp311-macosx_10_9_universal2", "darwin-arm64", True),
        ("cp311-cp311-macosx_10_12_x86_64", "darwin-amd64", True),
        ("cp311-cp311-macosx_10_9_x86_64", "darwin-arm64", False),
        ("cp311-cp311-macosx_12_0_arm64", "darwin-arm64", False),  # newer than the floor
        ("cp36-abi3-manylinux2014_x86_64", "linux-amd64", True),
        ("cp312-abi3-manylinux2014_x86_64", "linux-amd64", False),  # needs a newer CPython
        ("cp310-cp310-manylinux2014_x86_64", "linux-amd64", False),
        ("cp311-none-win_amd64", "windows-amd64", True),
        ("pp311-pypy311_pp73-manylinux2014_x86_64", "linux-amd64", False),
    ],
)
def test_a_wheel_fits_by_the_rule_of_the_row(tag: str, target: str, expected: bool) -> None:
    """A tag fits when the row names it or a newer one of its family, and CPython 3.11 loads its ABI."""
    assert fits(f"thing-1.0-{tag}.whl", parse_target(target), "3.11") is expected


@pytest.mark.parametrize(
    ("target", "best_first"),
    [
        (
            "linux-amd64",
            [
                "cp311-cp311-manylinux_2_17_x86_64",  # the floor itself
                "cp311-cp311-manylinux_2_12_x86_64",  # below the floor
                "cp311-cp311-manylinux_2_28_x86_64",  # above the floor: only if nothing else fits
                "cp36-abi3-manylinux_2_17_x86_64",
                "py3-none-any",
            ],
        ),
        (
            "darwin-arm64",
            ["cp311-cp311-macosx_11_0_arm64", "cp311-cp311-macosx_10_9_universal2", "py3-none-any"],
        ),
    ],
)
def test_the_best_wheel_comes_first(target: str, best_first: list[str]) -> None:
    """Own ABI before abi3 before pure; within the floor the newest, above it the last choice."""
    wheels = [wheel(f"thing-1.0-{tag}.whl") for tag in best_first]
    found = compatible_wheels(package("thing", *reversed(wheels)), parse_target(target), "3.11")
    assert list(found) == wheels


def test_a_higher_build_number_is_better() -> None:
    """PEP 427: the build tag decides between wheels with equal tags."""
    older, newer = wheel("thing-1.0-2-py3-none-any.whl"), wheel("thing-1.0-10-py3-none-any.whl")
    assert (
        compatible_wheels(package("thing", older, newer), parse_target("windows-amd64"), "3.11")[0] == newer
    )


def test_a_file_name_older_than_the_standard_is_passed_over() -> None:
    """One odd name in an index spoils nothing."""
    good = wheel("thing-1.0-py3-none-any.whl")
    odd = package("thing", wheel("thing.whl"), good)
    assert compatible_wheels(odd, parse_target("linux-amd64"), "3.11") == (good,)


@pytest.mark.parametrize("target", all_targets(), ids=str)
def test_every_tag_that_a_row_names_fits_it(target: object) -> None:
    """Holds for every row of targets.toml, those included that nobody has written yet."""
    row = parse_target(str(target))
    assert [tag for tag in row.wheel_tags if not fits(f"x-1-cp311-cp311-{tag}.whl", row, "3.11")] == []


# --- markers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ("sys_platform == 'win32'", {"windows-amd64", "windows-arm64"}),
        ("os_name == 'nt' and platform_machine == 'ARM64'", {"windows-arm64"}),
        ("platform_machine == 'AMD64'", {"windows-amd64"}),
        ("platform_system == 'Darwin' and platform_machine == 'arm64'", {"darwin-arm64"}),
        ("platform_machine == 'x86_64'", {"linux-amd64", "linux-amd64-musl", "darwin-amd64"}),
        ("platform_machine == 'armv7l'", {"linux-armv7"}),
        ("python_version < '3.11'", set()),
        ("platform_python_implementation != 'CPython'", set()),
        ("extra == 'test'", set()),
    ],
)
def test_markers_are_evaluated_for_the_target(marker: str, expected: set[str]) -> None:
    """A Windows-only dependency arrives on Windows and nowhere else, whatever machine asks."""
    one = lock(package("thing", marker=marker))
    assert {target.id for target in all_targets() if packages_for(one, target, "3.11")} == expected


@pytest.mark.parametrize(("python", "expected"), [("3.11.2", True), ("3.11.3", False)])
def test_the_patch_release_counts_where_a_marker_asks_for_it(python: str, expected: bool) -> None:
    """Backports such as async-timeout depend on X.Y.Z."""
    one = lock(package("async-timeout", marker="python_full_version < '3.11.3'"))
    assert bool(packages_for(one, parse_target("linux-amd64"), python)) is expected


def test_a_python_that_is_not_ours_counts_as_its_first_release() -> None:
    """As uv does; for our own X.Y our own patch release is known."""
    target = parse_target("linux-amd64")
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert marker_environment(target, "3.19")["python_full_version"] == "3.19.0"
    assert marker_environment(target, ours)["python_full_version"].startswith(f"{ours}.")
    assert marker_environment(target, "3.19.4")["python_version"] == "3.19"


# --- pylock -----------------------------------------------------------------------------------------------------------

PYLOCK = f"""
lock-version = "1.0"
[[packages]]
name = "Zeta_Tool"
version = "1.0"
marker = "sys_platform == 'win32'"
sdist = {{ url = "https://files.example/zeta_tool-1.0.tar.gz", hashes = {{ sha256 = "{sha("5")}" }} }}
wheels = [
  {{ url = "https://files.example/a%2Bb/zeta_tool-1.0+cpu-py3-none-any.whl?x=1", size = 7, hashes = {{ sha256 = "{sha("a")}" }} }},
  {{ name = "zeta_tool-1.0-cp311-cp311-win_amd64.whl", path = "w/other.whl", hashes = {{ sha256 = "{sha("b")}" }} }},
]
[[packages]]
name = "alpha"
version = "2.0"
wheels = [{{ url = "https://files.example/alpha-2.0-py3-none-any.whl", hashes = {{ sha256 = "{sha("c")}" }} }}]
"""


def test_a_pylock_is_read_by_names_and_hashes() -> None:
    """Hosts are dropped, names normalised, packages and wheels sorted."""
    alpha, zeta = locking.read_pylock(PYLOCK)
    assert (alpha.name, alpha.version, alpha.sdist) == ("alpha", "2.0", False)
    assert (zeta.name, zeta.marker, zeta.sdist_sha256) == ("zeta-tool", "sys_platform == 'win32'", sha("5"))
    assert [(w.filename, w.sha256, w.size) for w in zeta.wheels] == [
        ("zeta_tool-1.0+cpu-py3-none-any.whl", sha("a"), 7),
        ("zeta_tool-1.0-cp311-cp311-win_amd64.whl", sha("b"), 0),
    ]


@pytest.mark.parametrize("kind", ["vcs", "directory", "archive"])
def test_a_dependency_without_an_index_is_refused_by_name(kind: str) -> None:
    """Name and hash cannot stand for a URL or a path."""
    text = f'[[packages]]\nname = "thing"\nversion = "1"\n{kind} = {{ url = "x" }}\n'
    with pytest.raises(ResolutionError, match="thing is named by a URL or a path"):
        locking.read_pylock(text)


# --- the lock file ----------------------------------------------------------------------------------------------------

PAIR = lock(
    package(
        "alpha",
        wheel("alpha-1.0-cp311-cp311-win_amd64.whl", "b"),
        wheel("alpha-1.0-py3-none-any.whl", "a"),
        sdist=True,
    ),
    package("beta", wheel("beta-1.0-py3-none-any.whl", "c"), marker="sys_platform == 'win32'"),
)


def write(folder: Path, text: str) -> Path:
    path = folder / "requirements.lock"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_written_lock_is_read_back_whole(tmp_path: Path) -> None:
    """Markers, versions and every hash survive, and applying them changes nothing."""
    path = write(tmp_path, lock_text(PAIR))
    pins = read_pins(path)
    assert [(pin.name, pin.version, pin.marker) for pin in pins] == [
        ("alpha", "1.0", ""),
        ("beta", "1.0", 'sys_platform == "win32"'),
    ]
    assert pins[0].hashes == {sha("a"), sha("b"), sha("5")}
    assert apply_pins(PAIR, pins, path) == PAIR


def test_a_lock_file_names_no_index() -> None:
    """The same file serves every mirror."""
    text = lock_text(lock(*locking.read_pylock(PYLOCK)))
    assert "://" not in text
    assert "files.example" not in text
    assert text.index("alpha==") < text.index("zeta-tool==")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("--index-url https://x.example/simple", "has no place here"),
        ("alpha>=1 --hash=sha256:" + sha("a"), "alpha is not pinned"),
        ("alpha==1.* --hash=sha256:" + sha("a"), "alpha is not pinned"),
        ("alpha @ https://x.example/a.whl --hash=sha256:" + sha("a"), "alpha is not pinned"),
        ("alpha==1.0", "alpha has no --hash"),
        ("alpha==1.0 --hash=sha256:abc", "alpha has no --hash"),
        ("=1.0 --hash=sha256:" + sha("a"), "is not a requirement"),
    ],
)
def test_every_wrong_line_of_a_lock_file_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    """All mistakes at once, each with its line number."""
    good = f"beta==1 \\\n    --hash=sha256:{sha('b')}  # why\n"
    with pytest.raises(ConfigError) as caught:
        read_pins(write(tmp_path, f"# head\n{good}{line}\ngamma\n"))
    first, second = caught.value.details
    assert first.startswith("requirements.lock:4: ")
    assert complaint in first
    assert second.startswith("requirements.lock:5: gamma")


def test_a_lock_file_that_is_not_there_says_who_writes_one(tmp_path: Path) -> None:
    """The message names the file, the advice the command."""
    with pytest.raises(ConfigError, match=r"requirements\.lock cannot be read") as caught:
        read_pins(tmp_path / "requirements.lock")
    assert "ferryman lock" in caught.value.advice


def test_a_changed_wheel_is_refused_with_package_and_file(tmp_path: Path) -> None:
    """None of the index's hashes is in the file: somebody changed one of the two."""
    path = write(tmp_path, f"alpha==1.0 --hash=sha256:{sha('9')}\nbeta==1.0 --hash=sha256:{sha('c')}\n")
    with pytest.raises(
        ResolutionError, match=r"alpha 1\.0 do not have the hashes in requirements\.lock"
    ) as caught:
        apply_pins(PAIR, read_pins(path), path)
    assert any("alpha-1.0-py3-none-any.whl" in line for line in caught.value.details)


def test_a_lock_file_without_a_needed_package_is_refused(tmp_path: Path) -> None:
    """The file decides: what it does not have is not installed unseen."""
    path = write(tmp_path, f"alpha==1.0 --hash=sha256:{sha('a')}\n")
    with pytest.raises(ResolutionError, match=r"has no line for beta 1\.0"):
        apply_pins(PAIR, read_pins(path), path)


def test_a_wheel_uploaded_after_the_lock_is_never_used(tmp_path: Path) -> None:
    """It may be better for the target; its hash is not in the file. Version 1 in the file is 1.0 of the index."""
    path = write(tmp_path, f"alpha==1 --hash=sha256:{sha('a')}\nbeta==1.0 --hash=sha256:{sha('c')}\n")
    pinned = apply_pins(PAIR, read_pins(path), path)
    windows = parse_target("windows-amd64")
    text = requirements_text(packages_for(pinned, windows, "3.11"), windows, "3.11")
    assert f"sha256:{sha('a')}" in text
    assert f"sha256:{sha('b')}" not in text
    assert pinned.packages[0].sdist is False


def test_a_target_whose_only_wheels_are_not_in_the_lock_file_is_refused() -> None:
    """The refusal is about hashes, not about a missing wheel."""
    foreign = msgspec.structs.replace(wheel("thing-1.0-py3-none-any.whl"), pinned=False)
    with pytest.raises(ResolutionError, match=r"thing 1\.0 do not have the hashes"):
        requirements_text([package("thing", foreign)], parse_target("linux-amd64"), "3.11")


# --- requirements -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "letter"), [("windows-amd64", "b"), ("linux-amd64", "a")])
def test_requirements_for_a_target_hold_exactly_the_chosen_wheel(target: str, letter: str) -> None:
    """What the plan shows is what gets installed; the marker was decided already."""
    row = parse_target(target)
    text = requirements_text(packages_for(PAIR, row, "3.11"), row, "3.11")
    assert text.startswith(f"alpha==1.0 \\\n    --hash=sha256:{sha(letter)}\n")
    assert text.count("alpha") == 1
    assert ("beta==1.0 \\\n" in text) is (target == "windows-amd64")


def test_requirements_for_all_hold_every_hash() -> None:
    """Those of source distributions included, for `pip install -r` of a developer."""
    text = requirements_text(PAIR.packages)
    assert text.count("--hash=sha256:") == 4
    assert "beta==1.0 ; sys_platform == 'win32' \\\n" in text


def test_a_missing_wheel_stops_the_requirements() -> None:
    """The message has package, version, target and Python."""
    only = package("thing", wheel("thing-1.0-cp311-cp311-win_amd64.whl"), sdist=True)
    linux = parse_target("linux-amd64")
    with pytest.raises(ResolutionError, match=r"thing 1\.0 has no wheel for linux-amd64 and CPython 3\.11"):
        requirements_text([only], linux, "3.11")


def test_the_digest_follows_the_content() -> None:
    """Equal content, equal digest; one other hash, another digest."""
    assert lock(package("a", wheel("a-1-py3-none-any.whl"))) == lock(
        package("a", wheel("a-1-py3-none-any.whl"))
    )
    assert lock(package("a", wheel("x.whl", "a"))).digest != lock(package("a", wheel("x.whl", "b"))).digest


# --- asking and remembering -------------------------------------------------------------------------------------------


class FakeUv(Runner):
    """Writes ``text`` where the question wants its answer; remembers the questions."""

    def __init__(self, text: str = PYLOCK, returncode: int = 0, output: str = "") -> None:
        super().__init__()
        self.text, self.returncode, self.output = text, returncode, output
        self.asked: list[list[str]] = []
        self.constraints: list[str] = []

    def run(self, args, *, cwd=None, env=None, **rest):  # type: ignore[no-untyped-def]
        words = [str(word) for word in args]
        self.asked.append(words)
        self.constraints.append((cwd / "pins.txt").read_text(encoding="utf-8"))
        (cwd / words[words.index("--output-file") + 1]).write_text(self.text, encoding="utf-8")
        return Completed(self.returncode, self.output, None)


def test_the_same_question_is_asked_once(tmp_path: Path) -> None:
    """Order of dependencies is no part of the question; refresh asks again."""
    uv = FakeUv()
    first = locking.resolve(["alpha", "zeta-tool"], "3.11", runner=uv, cache=tmp_path)
    again = locking.resolve(["zeta-tool", "alpha"], "3.11", runner=uv, cache=tmp_path)
    assert first == again
    assert len(uv.asked) == 1
    locking.resolve(["alpha", "zeta-tool"], "3.11", runner=uv, cache=tmp_path, refresh=True)
    assert len(uv.asked) == 2


@pytest.mark.parametrize(
    "change",
    ["dependency", "python", "index", "exclude-newer", "uv.toml", "pins"],
)
def test_another_question_is_asked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Each thing that may change the answer is part of the key."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("APPDATA", raising=False)
    uv, cache = FakeUv(), tmp_path / "cache"
    locking.resolve(["alpha"], "3.11", runner=uv, cache=cache)
    dependencies, python, constraints = ["alpha"], "3.11", None
    if change == "dependency":
        dependencies = ["alpha>=1"]
    elif change == "python":
        python = "3.12"
    elif change == "index":
        monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mirror.example/simple")
    elif change == "exclude-newer":
        monkeypatch.setenv("UV_EXCLUDE_NEWER", "2026-01-01")
    elif change == "uv.toml":
        (tmp_path / "config" / "uv").mkdir(parents=True)
        (tmp_path / "config" / "uv" / "uv.toml").write_text("no-cache = true\n", encoding="utf-8")
    else:
        both = f"alpha==2.0 --hash=sha256:{sha('c')}\nzeta-tool==1.0 --hash=sha256:{sha('a')}\n"
        constraints = write(tmp_path, both)
    locking.resolve(dependencies, python, runner=uv, cache=cache, constraints=constraints)
    assert len(uv.asked) == 2
    assert uv.constraints[1] == ("alpha==2.0\nzeta-tool==1.0\n" if change == "pins" else "")


def test_a_wheel_put_into_a_folder_that_uv_is_told_of_is_another_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what the plan's cure asks for, so the answer must not be the old one."""
    uv, wheels = FakeUv(), tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("UV_FIND_LINKS", f"{wheels},https://mirror.example/wheels")
    for content in ("one", "two"):
        (wheels / "alpha-2.0-py3-none-any.whl").write_text(content, encoding="utf-8")
        for _ in range(2):
            locking.resolve(["alpha"], "3.11", runner=uv, cache=tmp_path / "cache")
    assert len(uv.asked) == 2


def test_patience_is_no_part_of_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer timeout gets the same answer."""
    uv = FakeUv()
    locking.resolve(["alpha"], "3.11", runner=uv, cache=tmp_path)
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "99")
    locking.resolve(["alpha"], "3.11", runner=uv, cache=tmp_path)
    assert len(uv.asked) == 1


def test_no_secret_of_the_index_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password in an index URL decides the key, and is in no file and no file name."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://me:hunter22@mirror.example/simple")
    locking.resolve(["alpha"], "3.11", runner=FakeUv(), cache=tmp_path)
    kept = list(tmp_path.iterdir())
    assert len(kept) == 1
    assert "hunter22" not in kept[0].name + kept[0].read_text(encoding="utf-8")


def test_a_damaged_answer_is_asked_for_again(tmp_path: Path) -> None:
    """Half a file is no answer."""
    uv = FakeUv()
    first = locking.resolve(["alpha"], "3.11", runner=uv, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:40])
    assert locking.resolve(["alpha"], "3.11", runner=uv, cache=tmp_path) == first
    assert len(uv.asked) == 2


def test_a_refusal_is_not_kept(tmp_path: Path) -> None:
    """The next run asks again, and nothing is left in the cache."""
    uv = FakeUv(returncode=1, output="error: Request failed after 3 retries in 6.3s")
    with pytest.raises(PackageIndexError):
        locking.resolve(["alpha"], "3.11", runner=uv, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_dependencies_no_question(tmp_path: Path) -> None:
    """A program of the standard library alone needs no index."""
    assert locking.resolve([], "3.11", runner=FakeUv(returncode=1), cache=tmp_path).packages == ()


def test_a_python_outside_requires_python_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    """The message has both."""
    uv = FakeUv()
    with pytest.raises(ResolutionError, match=r"Python 3\.11 does not satisfy .*'>=3\.12'"):
        locking.resolve(["alpha"], "3.11", runner=uv, cache=tmp_path, requires_python=">=3.12")
    assert uv.asked == []


def test_one_target_alone_is_asked_from_wheels_only(tmp_path: Path) -> None:
    """Names and versions come back; a target that uv has no name for is not asked about."""
    uv = FakeUv("alpha==1.0\nbeta==2.0 ; sys_platform == 'win32'\n")
    windows = parse_target("windows-arm64")
    assert locking.resolve_alone(["alpha"], "3.11", windows, runner=uv, cache=tmp_path) == {
        "alpha": "1.0",
        "beta": "2.0",
    }
    assert uv.asked[0][uv.asked[0].index("--only-binary") + 1] == ":all:"
    assert uv.asked[0][uv.asked[0].index("--python-platform") + 1] == windows.uv_platform
    nameless = msgspec.structs.replace(windows, uv_platform="")
    assert locking.resolve_alone(["alpha"], "3.11", nameless, runner=uv, cache=tmp_path) == {}
    assert len(uv.asked) == 1


def test_no_solution_for_one_target_is_an_answer_and_is_kept(tmp_path: Path) -> None:
    """It is not asked for again."""
    uv = FakeUv(
        returncode=1, output="error: No solution found when resolving dependencies\n  cause: Because x."
    )
    for _ in range(2):
        found = locking.resolve_alone(["a"], "3.11", parse_target("darwin-arm64"), runner=uv, cache=tmp_path)
        assert not found
    assert len(uv.asked) == 1


# --- what uv says -----------------------------------------------------------------------------------------------------

CHAIN = """error: No solution found when resolving dependencies
  cause: Because aiohttp>=4.0.0a0 was yanked (reason: odd) and aiohttp>=3.14.0,<=3.14.3 depends on yarl>=1.17.0,<2.0,
         we can conclude that all of:
             aiohttp>=3.14.0,<=3.14.3
         depend on yarl>=1.17.0,<2.0.
         And because aiohttp>=3.14.4 depends on yarl>=1.25.1, we can conclude that aiohttp>=3.14.0 depends on yarl>=1.17.0,<2.0.
         And because you require aiohttp>=3.14 and yarl<1.9, we can conclude that your requirements are unsatisfiable.
"""
CONCLUSION = "we can conclude that your requirements are unsatisfiable."
NO_SOLUTION = "error: No solution found when resolving dependencies\n  cause: Because "


@pytest.mark.parametrize(
    ("output", "reason", "cure"),
    [
        (
            f"{NO_SOLUTION}only psutil<=7.2.2 is available and you require psutil>99, {CONCLUSION}",
            ": only psutil<=7.2.2 is available and you require psutil>99.",
            "Loosen",
        ),
        (
            f"{NO_SOLUTION}nosuch was not found in the package registry and you require nosuch, {CONCLUSION}",
            "nosuch was not found in the package registry and you require nosuch.",
            "spelling",
        ),
        (
            CHAIN,
            "aiohttp>=3.14.0 depends on yarl>=1.17.0,<2.0, and you require aiohttp>=3.14 and yarl<1.9.",
            "Loosen",
        ),
        (
            f"{NO_SOLUTION}there are no versions of thing>=2 and you require thing>=2, {CONCLUSION}",
            "there are no versions of thing>=2",
            "",
        ),
        (
            (
                f"{NO_SOLUTION}the requested Python version (>=3.11) does not satisfy Python>=3.12 and numpy==2.5.0 depends "
                f"on Python>=3.12, we can conclude that numpy==2.5.0 cannot be used.\n"
                f"         And because you require numpy==2.5.0, {CONCLUSION}\n\nhint: long"
            ),
            "does not satisfy Python>=3.12 and numpy==2.5.0 depends on Python>=3.12, and you require numpy==2.5.0.",
            "another Python",
        ),
        (
            "error: Couldn't parse requirement in `requirements.in` at position 0",
            "Couldn't parse requirement",
            "PEP 508",
        ),
    ],
)
def test_no_solution_is_told_in_one_sentence_with_the_package(output: str, reason: str, cure: str) -> None:
    """The last step of uv's derivation: what is required and what contradicts it; all of it stays in the details."""
    error = uv_messages.explain(output, "the dependencies on Python 3.11")
    assert type(error) is ResolutionError
    assert reason in str(error)
    assert str(error).startswith("There is no solution for the dependencies on Python 3.11: ")
    assert "we can conclude" not in str(error)
    assert cure in error.advice
    assert error.advice
    assert error.details


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (
            (
                "error: Request failed after 3 retries in 6.3s\n  cause: Failed to fetch: http://127.0.0.1:9/simple/psutil/\n"
                "  cause: tcp connect error\n  cause: Connection refused (os error 111)"
            ),
            "at http://127.0.0.1:9/simple/psutil did not answer for X: Connection refused.",
        ),
        (
            (
                "error: Request failed after 3 retries in 8.6s\n  cause: Failed to fetch: http://no.such.invalid/simple/psutil/\n"
                "  cause: dns error\n  cause: failed to lookup address information"
            ),
            "its name has no address",
        ),
        (
            (
                "error: Request failed after 3 retries in 12.4s\n  cause: Failed to fetch: http://h/simple/psutil/\n"
                "  cause: HTTP status server error (503 Service Unavailable) for url (http://h/simple/psutil/)"
            ),
            "HTTP status 503 Service Unavailable",
        ),
        (
            "error: Received some unexpected JSON from `http://h/simple/psutil/`\n  cause: key",
            "not valid JSON",
        ),
        (f"{NO_SOLUTION}there are no versions of psutil and you require psutil, {CONCLUSION}", "login page"),
        (
            (
                f"{NO_SOLUTION}psutil was not found in the package registry and you require psutil, {CONCLUSION}\n\n"
                "hint: An index URL (http://h/simple) could not be queried due to a lack of valid authentication "
                "credentials (401 Unauthorized)"
            ),
            "wants a user name and a password: 401 Unauthorized",
        ),
        (
            (
                f"{NO_SOLUTION}psutil was not found in the cache and you require psutil, {CONCLUSION}\n\n"
                "hint: Packages were unavailable because the network was disabled."
            ),
            "offline",
        ),
    ],
)
def test_a_silent_index_is_told_from_a_missing_version(output: str, words: str) -> None:
    """uv's exit code is the same; ours is 13, and the advice is about the network."""
    error = uv_messages.explain(output, "X")
    assert type(error) is PackageIndexError
    assert error.exit_code == 13
    assert words in str(error)
    assert "UV_DEFAULT_INDEX" in error.advice
