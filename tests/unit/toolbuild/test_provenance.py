"""The cascade: what stands nearer to the user wins, and each value knows who set it."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from ferryman_build.artifacts import Kind
from ferryman_build.config_view import render_config
from ferryman_build.errors import ConfigError, UsageError
from ferryman_build.project import Project, load_project
from ferryman_build.provenance import OPTIONS, Effective, Origin, Source, effective
from ferryman_build.settings import Settings, TargetSettings
from ferryman_build.targets import parse_target

if TYPE_CHECKING:
    from pathlib import Path

PYPROJECT = """\
[project]
name = "app"
version = "1.0"
requires-python = ">=3.11"
scripts = { app = "app:main" }

[tool.ferryman]
python = "3.12"
hidden-imports = ["a"]
data = [{ source = "*.toml", into = "x" }]
smoke.timeout = 5

[tool.ferryman.target."linux/arm64"]
python = "3.13"
hidden-imports = ["b"]
"""
ARM, AMD = parse_target("linux-arm64"), parse_target("linux-amd64")
LINE = "pyproject.toml:{}:1".format


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    return load_project(tmp_path)


@pytest.mark.parametrize(
    ("environ", "cli", "target", "python", "source"),
    [
        ({}, {}, None, "3.12", Source(Origin.PYPROJECT, LINE(8))),
        ({}, {}, AMD, "3.12", Source(Origin.PYPROJECT, LINE(8))),
        ({}, {}, ARM, "3.13", Source(Origin.TARGET, LINE(14))),
        ({"FERRYMAN_PYTHON": "3.14"}, {}, None, "3.14", Source(Origin.ENVIRONMENT, "FERRYMAN_PYTHON")),
        ({"FERRYMAN_PYTHON": "3.14"}, {}, ARM, "3.14", Source(Origin.ENVIRONMENT, "FERRYMAN_PYTHON")),
        (
            {"FERRYMAN_PYTHON": "3.14"},
            {"python": "3.11"},
            ARM,
            "3.11",
            Source(Origin.COMMAND_LINE, "--python"),
        ),
        ({"FERRYMAN_PYTHON": ""}, {"python": None}, None, "3.12", Source(Origin.PYPROJECT, LINE(8))),
    ],
)
def test_who_wins(project: Project, environ, cli, target, python: str, source: Source) -> None:
    """Default, pyproject, target's table, environment, command line: the last that says something."""
    result = effective(project, environ, cli, target=target)
    assert (result.settings.python, result.sources["python"]) == (python, source)


def test_what_is_built_is_what_is_shown(project: Project) -> None:
    """The project of the answer carries the final settings, so `for_target` cannot fall back to a target's table."""
    result = effective(project, {"FERRYMAN_PYTHON": "3.14"}, {"kinds": (Kind.PYZ,)})
    arm = result.project.for_target(ARM)
    assert (arm.python, arm.kinds, arm.hidden_imports) == ("3.14", (Kind.PYZ,), ("a", "b"))
    assert 'target."linux/arm64".python' not in result.sources
    assert result.sources['target."linux/arm64".hidden-imports'] == Source(Origin.TARGET, LINE(15))


def test_sources_reach_every_leaf(project: Project) -> None:
    """Each leaf has a source: nested tables too, defaults where nothing is written."""
    sources = effective(project, {}, {}).sources
    assert sources["smoke.timeout"] == Source(Origin.PYPROJECT, "pyproject.toml:11:7")
    assert sources["smoke.commands"] == Source(Origin.DEFAULT)
    assert sources["data"] == Source(Origin.PYPROJECT, LINE(10))


@pytest.mark.parametrize(
    ("environ", "field", "value"),
    [
        ({"FERRYMAN_TARGETS": "linux-amd64, host,"}, "targets", ("linux-amd64", "host")),
        ({"FERRYMAN_KINDS": "pyz"}, "kinds", (Kind.PYZ,)),
        ({"FERRYMAN_OPTIMIZE": "2"}, "optimize", 2),
        ({"FERRYMAN_STRIP": "No"}, "strip", False),
        ({"FERRYMAN_STRIP": "1"}, "strip", True),
        ({"FERRYMAN_PYTHON": " /opt/python "}, "python", "/opt/python"),
        ({"FERRYMAN_COLLECTOR": "standalone"}, "collector", "standalone"),
        ({"FERRYMAN_BUNDLE": "pyinstaller"}, "bundle", "pyinstaller"),
    ],
)
def test_variables_are_read_as_their_type(
    project: Project, environ: dict[str, str], field: str, value: object
) -> None:
    """Lists have commas, booleans have words, numbers have digits."""
    assert getattr(effective(project, environ, {}).settings, field) == value


def test_every_option_is_a_setting() -> None:
    """The table names fields that exist, each with a variable of its own; and all that a target's table replaces but lists of modules."""
    fields = {option.field for option in OPTIONS}
    assert fields <= set(Settings.__struct_fields__)
    assert set(TargetSettings.__struct_fields__) - fields == {"hidden_imports", "exclude_modules"}
    assert len({option.variable for option in OPTIONS}) == len(OPTIONS)


@pytest.mark.parametrize(
    ("environ", "cli", "error", "lines"),
    [
        (
            {"FERRYMAN_KINDS": "exe,archive,archive", "FERRYMAN_STRIP": "perhaps", "FERRYMAN_TARGETS": "linux-amd65"},
            {},
            ConfigError,
            ["FERRYMAN_KINDS: unknown kind 'exe' — did you mean 'executable'?",
             "FERRYMAN_STRIP: expected true or false, found text 'perhaps'",
             "FERRYMAN_TARGETS: there is no target called 'linux-amd65'"],
        ),
        ({"FERRYMAN_OPTIMIZE": "-1"}, {}, ConfigError, ["FERRYMAN_OPTIMIZE: expected a whole number, found text '-1'"]),
        ({"FERRYMAN_OPTIMIZE": "3"}, {}, ConfigError, ["FERRYMAN_OPTIMIZE: 3 is out of range — expected 0 to 2"]),
        ({"FERRYMAN_PYTHON": "3.10"}, {}, ConfigError, ["FERRYMAN_PYTHON: Python 3.10 is not allowed by requires-python"]),
        ({"FERRYMAN_TARGETS": ","}, {}, ConfigError, ["FERRYMAN_TARGETS: empty"]),
        ({}, {"targets": ("linux-amd65",)}, UsageError, ["--target: there is no target called 'linux-amd65'"]),
        ({}, {"kinds": ["exe"], "optimize": 9}, UsageError, ["--kind: unknown kind 'exe'", "--optimize: 9 is out of range"]),
        ({"FERRYMAN_OPTIMIZE": "3"}, {"kinds": ["exe"]}, ConfigError, ["--kind:", "FERRYMAN_OPTIMIZE:"]),
    ],
)  # fmt: skip
def test_wrong_values_name_their_source(project: Project, environ, cli, error, lines: list[str]) -> None:
    """All wrong values at once, each with its variable or flag; a wrong environment weighs more than usage."""
    with pytest.raises((ConfigError, UsageError)) as caught:
        effective(project, environ, cli)
    assert type(caught.value) is error
    found = sorted(caught.value.details)
    assert len(found) == len(lines)
    assert all(line.startswith(begin) for line, begin in zip(found, lines, strict=True))


def test_an_option_that_is_none_is_the_callers_defect(project: Project) -> None:
    """The command line cannot quietly set what is no option."""
    with pytest.raises(ValueError, match="lock"):
        effective(project, {}, {"lock": "x"})


def test_unknown_variables_are_warned_of(project: Project) -> None:
    """A slip in a variable's name is said with what was meant; variables of others are not touched."""
    environ = {
        "FERRYMAN_TARGET": "x",
        "FERRYMAN_QQ": "x",
        "FERRYMAN_INTERPRETER": "1",
        "FERRYMAN_CACHE": "/x",
        "HOME": "/",
    }
    warnings = effective(project, environ, {}).warnings
    assert warnings[1] == "FERRYMAN_TARGET has no meaning and was ignored — did you mean 'FERRYMAN_TARGETS'?"
    assert warnings[0].startswith(
        "FERRYMAN_QQ has no meaning and was ignored — after FERRYMAN_ may stand TARGETS, KINDS"
    )
    assert len(warnings) == 2


def test_a_project_made_by_hand_has_defaults_only(project: Project) -> None:
    """Without a file there are no lines to name, and nothing breaks."""
    made = Project(root=project.root, name="x", version=None, requires_python="", dependencies=(),
                   entry_point="x:y", executable="x", settings=Settings())  # fmt: skip
    assert set(effective(made, {}, {}).sources.values()) == {Source(Origin.DEFAULT)}


# --- render_config -------------------------------------------------------------------------------------------------


@pytest.fixture
def result(project: Project) -> Effective:
    return effective(project, {"FERRYMAN_STRIP": "off", "FERRYMAN_TARGET": "x"}, {"targets": ["all"]})


def test_the_text_is_toml_that_means_the_same(result: Effective, tmp_path: Path) -> None:
    """What `ferryman config` prints could be put into a pyproject: read again, it gives the same settings."""
    text = "[tool.ferryman]\n" + render_config(result)
    project = PYPROJECT.partition("[tool.ferryman]")[0]
    (tmp_path / "pyproject.toml").write_text(project + text, encoding="utf-8")
    assert load_project(tmp_path).settings == result.settings


def test_the_text_says_who_set_what(result: Effective) -> None:
    """Each line ends in its source, and the first line says what is started."""
    lines = render_config(result).splitlines()
    assert lines[0] == "# app: app:main as app"
    ends = {line.split(" = ")[0]: line.rpartition("  # ")[2] for line in lines[1:]}
    assert ends["strip"] == "environment FERRYMAN_STRIP"
    assert ends["targets"] == "command line --target"
    assert ends["python"] == f"pyproject {LINE(8)}"
    assert ends["optimize"] == "default"


def test_the_text_for_one_target_names_it(project: Project) -> None:
    """With a target the heading says so, and its own table is laid over the rest."""
    text = render_config(effective(project, {}, {}, target=ARM))
    assert text.startswith("# app: app:main as app, for linux-arm64\n")
    assert tomllib.loads(text)["hidden-imports"] == ["a", "b"]


def test_the_json_says_the_same_to_programs(result: Effective) -> None:
    """Value, source and place of each leaf, the target and the warnings."""
    answer = json.loads(render_config(result, as_json=True))
    assert answer["settings"]["strip"] == {"value": False, "source": "environment", "where": "FERRYMAN_STRIP"}
    assert answer["settings"]["data"]["value"] == [{"source": "*.toml", "into": "x"}]
    assert (answer["entry-point"], answer["executable"], answer["target"]) == ("app:main", "app", None)
    assert len(answer["warnings"]) == 1
    assert set(answer["settings"]) == set(result.sources)
