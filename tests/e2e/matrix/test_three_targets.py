"""`ferryman build --target linux-amd64,linux-arm64,windows-amd64`: made, measured and run, from one command on one machine.

`nox -s e2e -- matrix`. Both agents: the default one, whose wheel holds machine code for each target, and the second one of
the tests. Interpreters for the targets are those of tools/test_runtimes.py; runners are set up if they are not there.
"""

from __future__ import annotations

import hashlib
import itertools
import re

import pytest

from e2e.matrix import machine
from e2e.matrix.agents import Built
from ferryman_build.inspect.describe import Description, describe
from ferryman_build.inspect.gate import judge
from ferryman_build.inspect.gate_codes import Severity
from ferryman_build.inspect.members import members
from ferryman_build.inspect.native import version_key
from ferryman_build.inspect.survey import FORMATS, survey_members
from ferryman_build.targets import Target, parse_target, with_promise

pytestmark = [pytest.mark.e2e, pytest.mark.network, pytest.mark.timeout(3600)]

KINDS = ("archive", "executable", "pyz")
TREES = KINDS[:2]
COLLECTORS = {machine.HOST: "pyinstaller", "linux-arm64": "standalone", "windows-amd64": "standalone"}
CHECKS = {"lantern": 10, "agent": 8}  # of one run: commands and what is asked of the service
# A .pyz needs a Python of its own version where it is run; these alone are reasons to run it nowhere.
NO_PYTHON = re.compile(
    r"the Python of \S+ is .+, and the \.pyz is for 3\.\d+|Name a CPython for Windows with `runtime`"
)
TARGETS = pytest.mark.parametrize("target", list(machine.RUN_HERE))


def promised(name: str) -> Target:
    """The target with the floor that it was built for."""
    target = parse_target(name)
    return with_promise(target, machine.FLOOR) if "glibc" in target.floor else target


def described(built: Built, row: dict[str, object]) -> Description:
    """What `ferryman inspect` says of an artifact, packed files included."""
    return describe(built.workshop.dist / str(row["path"]))


def test_one_command_makes_nine_artifacts(three: Built) -> None:
    """Three kinds for each of three targets, whole, each with its SBOM, and nothing else lies in dist/."""
    rows = three.rows
    dist = three.workshop.dist

    assert {(row["target"], row["kind"]) for row in rows} == set(itertools.product(machine.RUN_HERE, KINDS))
    assert len(rows) == 9
    for row in rows:
        content = (dist / row["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (row["size"], row["sha256"])
    assert {path.name for path in dist.iterdir()} == {
        *(row["path"] for row in rows), *(row["sbom"] for row in rows), "manifest.json", "SHA256SUMS",
    }  # fmt: skip


@TARGETS
def test_made_by_what_was_decided(three: Built, target: str) -> None:
    """PyInstaller for this machine's own target, a standalone runtime for another; all started by the launcher or shiv."""
    made = {row["kind"]: (row["collector"], row["bundler"]) for row in three.rows if row["target"] == target}

    assert made == {**dict.fromkeys(TREES, (COLLECTORS[target], "ferryman")), "pyz": ("pip", "shiv")}


@TARGETS
@pytest.mark.parametrize("kind", TREES)
def test_every_tree_ran(three: Built, agent: str, target: str, kind: str) -> None:
    """Each through its runner, all commands and the service; on this machine in the old userland as well."""
    smoke = next(row["smoke"] for row in three.rows if (row["target"], row["kind"]) == (target, kind))
    places = len(machine.RUN_HERE[target].split(", "))

    assert (smoke["status"], smoke["runner"]) == ("passed", machine.RUN_HERE[target])
    assert len(smoke["checks"]) >= CHECKS[agent] * places
    assert all(check["passed"] for check in smoke["checks"])
    assert places == 1 or any(check["name"].startswith("bookworm: ") for check in smoke["checks"])


@TARGETS
def test_a_pyz_ran_or_says_what_it_lacks(three: Built, target: str) -> None:
    """Nothing is untested without one of the known reasons, and this machine's own is never untested."""
    smoke = next(row["smoke"] for row in three.rows if (row["target"], row["kind"]) == (target, "pyz"))
    if smoke["status"] == "untested" and target != machine.HOST:
        assert NO_PYTHON.search(smoke["reason"]), smoke["reason"]
        assert smoke["checks"] == []
    else:
        assert smoke["status"] == "passed"
        assert set(smoke["runner"].split(", ")) <= set(machine.RUN_HERE[target].split(", "))
        assert smoke["checks"]


@TARGETS
@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_of_the_targets_format(three: Built, target: str, kind: str) -> None:
    """ELF, PE, of the right machine: read from the bytes of what was delivered, and not from the build's own notes."""
    row = next(row for row in three.rows if (row["target"], row["kind"]) == (target, kind))
    natives = [native for native in described(three, row).natives if native.loadable]
    wanted = parse_target(target)

    assert natives
    assert {native.format for native in natives} == {FORMATS[wanted.os]}
    assert {native.architectures for native in natives} == {(wanted.arch,)}


@TARGETS
@pytest.mark.parametrize("kind", KINDS)
def test_floors_are_what_was_promised_or_lower(three: Built, target: str, kind: str) -> None:
    """In the manifest, and measured once more from the delivered file."""
    row = next(row for row in three.rows if (row["target"], row["kind"]) == (target, kind))
    promise = promised(target).floor

    assert kind == "pyz" or row["needs"]["floor"]
    for floor in (row["needs"]["floor"], described(three, row).needs.floor):
        assert set(floor) <= set(promise)
        assert all(version_key(version) <= version_key(promise[system]) for system, version in floor.items())


@TARGETS
def test_the_gate_has_no_error_in_what_was_delivered(three: Built, target: str) -> None:
    """The archive, unpacked by nobody and judged again by the target's promise."""
    row = next(row for row in three.rows if (row["target"], row["kind"]) == (target, "archive"))
    survey = survey_members(members(three.workshop.dist / row["path"]), promised(target))
    found = judge(survey, promised(target))

    assert len(survey.natives) > 20
    assert [finding.message for finding in found if finding.severity is Severity.ERROR] == []


def test_the_agents_own_extension_is_in_each(three: Built, agent: str) -> None:
    """One source, compiled for each target; the second agent is pure and has none."""
    for row in three.rows:
        own = [native.name for native in described(three, row).natives if "/_native." in native.name]
        assert len(own) == (agent == "agent"), row["path"]


def test_macos_is_built_and_read_and_called_untested(fourth: Built) -> None:
    """As far as its test runtime goes: every file is arm64 Mach-O for macOS 11, and nothing claims to have run it."""
    target = parse_target(machine.BUILT_ONLY)

    assert {row["kind"] for row in fourth.rows} == set(KINDS)
    for row in fourth.rows:
        smoke = row["smoke"]
        assert (smoke["status"], smoke.get("runner", ""), smoke["checks"]) == ("untested", "", [])
        assert smoke["reason"] == "untested here: nothing runs programs of darwin-arm64 on this machine"
        natives = [native for native in described(fourth, row).natives if native.loadable]
        assert {native.format for native in natives} == {FORMATS[target.os]}
        assert all(target.arch in native.architectures for native in natives)
        floor = row["needs"]["floor"]
        assert all(version_key(floor[name]) <= version_key(target.floor[name]) for name in floor)
