"""`ferryman reproduce` for real, on the quickest artifact: the same, and not the same."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.ferryman import Workshop

pytestmark = pytest.mark.integration

HOOK = """
import os, time
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

class Hook(BuildHookInterface):
    def initialize(self, version, build_data):
        with open(os.path.join(self.root, "stamp.txt"), "w") as file:
            file.write(f"built in {self.root} at {time.strftime('%H %z')}")
        build_data["force_include"]["stamp.txt"] = "lantern/stamp.txt"
"""


def built(shop: Workshop) -> Workshop:
    done = shop.run("build", "--kind", "pyz")
    assert done.code == 0, done.err
    return shop


def reproduced(shop: Workshop, *words: str) -> tuple[int, str, str]:
    done = shop.run("reproduce", "--dist", str(shop.dist), *words)
    return done.code, done.out, done.err


def test_the_same_bytes(make_lantern: Callable[..., Workshop]) -> None:
    """In another folder, as another user, at another time of day: the same file; and the answer says what was varied."""
    shop = built(make_lantern())
    before = shop.delivered()
    code, out, err = reproduced(shop)

    assert code == 0, err
    assert "same" in out
    assert "umask 077" in out
    assert sys.platform != "linux" or "user " in out
    assert shop.delivered() == before


def test_a_build_that_writes_down_where_it_was(make_lantern: Callable[..., Workshop]) -> None:
    """The member is named, and the cause: exit code 8; the other file is kept."""
    shop = make_lantern()
    (shop.project / "hatch_build.py").write_text(HOOK)
    (shop.project / ".gitignore").write_text("stamp.txt\n")
    shop.edit(
        "pyproject.toml",
        "[tool.ferryman]\n",
        "[tool.hatch.build.targets.wheel.hooks.custom]\n\n[tool.ferryman]\n",
    )
    code, _, err = reproduced(built(shop))

    assert code == 8, err
    assert "1 of 1 artifacts came out differently" in err
    assert "site-packages/lantern/stamp.txt" in err
    assert "it has the path of its build in it" in err
    assert list((shop.out / "reproduced").glob("*.pyz"))


def test_before_any_build(make_lantern: Callable[..., Workshop], tmp_path: Path) -> None:
    """There is nothing to compare with, and what to do is said."""
    code, _, err = reproduced(make_lantern())

    assert code == 12
    assert "`ferryman build`" in err
    assert not list(tmp_path.glob("ferryman-again-*"))
