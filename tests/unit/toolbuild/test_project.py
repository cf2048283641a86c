"""Reading a project: everything wrong at once, each mistake at its line; and what a right one means."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from ferryman_build.errors import ConfigError
from ferryman_build.project import Project, find_project, load_project
from ferryman_build.settings import Bundler, Collector
from ferryman_build.targets import parse_target

PROJECT = '[project]\nname = "app"\nversion = "1.0"\nrequires-python = ">=3.11"\n'
SCRIPT = '[project.scripts]\napp = "app.cli:main"\n'
FERRYMAN = "[tool.ferryman]\n"


@pytest.fixture(autouse=True)
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An agent's folder with a package and some data, which is also the working directory."""
    for name in (
        "app/__init__.py",
        "app/cli.py",
        "app/native.cpython-311.so",
        "assets/a/b.txt",
        "assets/c.txt",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str, *, lock_required: bool = True) -> Project:
    Path("pyproject.toml").write_text(text, encoding="utf-8")
    return load_project(Path(), lock_required=lock_required)


def mistakes(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert caught.value.exit_code == 3
    assert caught.value.advice
    return caught.value.details


def test_a_project_needs_little(agent: Path) -> None:
    """A name, a version and one script are enough; everything else has a default."""
    project = load(PROJECT + SCRIPT)
    assert (project.root, project.name, project.version) == (agent, "app", "1.0")
    assert (project.entry_point, project.executable, project.service_name) == ("app.cli:main", "app", "app")
    assert (project.requires_python, project.dependencies) == (">=3.11", ())


def test_everything_wrong_is_said_at_once() -> None:
    """Wrong types, unknown keys, wrong names and contradictions of both tables, in the order of the file."""
    text = textwrap.dedent("""\
        [project]
        name = "my app"
        version = "1.x"
        requires-python = ">=3.11"
        dependencies = [
          "fine>=1", "not fine",
        ]
        dependancies = []
        scripts = { app = "app.clii:main" }

        [tool.ferryman]
        kinds = [
          "archive",
          "exe",
        ]
        targets = ["linux/amd64", "linux-amd64", "linux-amd65"]
        python = "3.9"
        optimize = 5
        entrypoint = "app.cli:main"
        hidden-imports = ["a", "b-c"]
        lock = "lock.txt"
        data = [{ source = "assets/*.png" }, { into = "../x", source = "assets/*.txt" }]

        [tool.ferryman.smoke]
        service.args = []
        service.get = ["http://127.0.0.1/metrics"]

        [tool.ferryman.target."linux/arm64"]
        python = "3"
        [tool.ferryman.target.nowhere]
        """)
    found = mistakes(text)
    assert [line.split(": ")[0] for line in found] == [
        "pyproject.toml:2:1 project.name",
        "pyproject.toml:3:1 project.version",
        "pyproject.toml:6:14 project.dependencies[1]",
        "pyproject.toml:8:1 project.dependancies",
        "pyproject.toml:9:13 project.scripts.app",
        "pyproject.toml:14:3 tool.ferryman.kinds[1]",
        "pyproject.toml:16:27 tool.ferryman.targets[1]",
        "pyproject.toml:16:42 tool.ferryman.targets[2]",
        "pyproject.toml:17:1 tool.ferryman.python",
        "pyproject.toml:18:1 tool.ferryman.optimize",
        "pyproject.toml:19:1 tool.ferryman.entrypoint",
        "pyproject.toml:20:24 tool.ferryman.hidden-imports[1]",
        "pyproject.toml:21:1 tool.ferryman.lock",
        "pyproject.toml:22:11 tool.ferryman.data[0].source",
        "pyproject.toml:22:40 tool.ferryman.data[1].into",
        "pyproject.toml:26:9 tool.ferryman.smoke.service.get",
        "pyproject.toml:29:1 tool.ferryman.target.\"linux/arm64\".python",
        "pyproject.toml:30:23 tool.ferryman.target.nowhere",
    ]  # fmt: skip
    assert found[5].endswith("unknown kind 'exe' — did you mean 'executable'?")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[project]\nversion = "1"\n' + SCRIPT, "1:2 project.name: missing"),
        ('[project]\nname = 3\nversion = "1"\n' + SCRIPT, "2:1 project.name: expected text, found the number 3"),
        ('project = 3\n', "1:1 project: expected a table, found the number 3"),
        ('[project]\nname = "app"\n' + SCRIPT, "1:2 project.version: missing"),
        (PROJECT + 'dynamic = ["version"]\n' + SCRIPT, "3:1 project.version: written here and called dynamic"),
        (PROJECT + 'dynamic = ["dependencies"]\n' + SCRIPT, "5:12 project.dynamic[0]: dependencies must be known"),
        (PROJECT.replace(">=3.11", "3.11") + SCRIPT, "4:1 project.requires-python: '3.11' is not a version range"),
        (PROJECT + '[project.scripts]\napp = "app"\n', "6:1 project.scripts.app: 'app' is not an entry point"),
    ],
)  # fmt: skip
def test_the_project_table(text: str, line: str) -> None:
    """The forms that the packaging standards ask for, and what cannot be built from."""
    assert any(found.startswith(f"pyproject.toml:{line}") for found in mistakes(text))


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        ("", "1:2 project: nothing says how the program starts — add a [project.scripts]"),
        ('dynamic = ["scripts"]\n', "1:2 project: nothing says how the program starts — the scripts are dynamic"),
        ('scripts = {a = "app.cli:a", b = "app.cli:b"}\n', '5:1 project.scripts: [project.scripts] has a, b, and none is chosen — write script = "a"'),
        (SCRIPT + FERRYMAN + 'script = "ap"', "8:1 tool.ferryman.script: [project.scripts] has no 'ap' — did you mean 'app'?"),
        (SCRIPT + FERRYMAN + 'script = "zzz"', "8:1 tool.ferryman.script: [project.scripts] has no 'zzz' — the scripts are app"),
        (FERRYMAN + 'script = "app"', "6:1 tool.ferryman.script: [project.scripts] has no 'app' — [project.scripts] has none"),
        (FERRYMAN + 'entry-point = "app.cli"', "6:1 tool.ferryman.entry-point: 'app.cli' is not an entry point"),
        (FERRYMAN + 'entry-point = "app.kli:main"', "6:1 tool.ferryman.entry-point: there is no module 'kli' in app — did you mean 'cli'?"),
        (FERRYMAN + 'entry-point = "app.zzz:main"', "6:1 tool.ferryman.entry-point: there is no module 'zzz' in app — app has"),
        (FERRYMAN + 'entry-point = "appp.cli:main"', "6:1 tool.ferryman.entry-point: there is no module 'appp' here — did you mean 'app'?"),
    ],
)  # fmt: skip
def test_no_way_to_start(tables: str, line: str) -> None:
    """A script or entry point that does not exist, or several and none chosen; what exists is suggested."""
    (found,) = mistakes(PROJECT + tables)
    assert found.startswith(f"pyproject.toml:{line}")


@pytest.mark.parametrize(
    ("tables", "entry_point", "executable"),
    [
        ('scripts = {one = "app.cli:main"}', "app.cli:main", "one"),
        ('scripts = {x = "app.cli:x", App = "app.cli:main"}', "app.cli:main", "App"),
        ('scripts = {x = "app.cli:x", y = "app.cli:y"}\n[tool.ferryman]\nscript = "y"', "app.cli:y", "y"),
        ('scripts = {x = "app.cli : x"}\n[tool.ferryman]\nname = "z"', "app.cli:x", "z"),
        (
            'scripts = {x = "app.cli:x", y = "app.cli:y"}\n[tool.ferryman]\nentry-point = "app.cli:y"',
            "app.cli:y",
            "y",
        ),
        ('[tool.ferryman]\nentry-point = "elsewhere.cli:main"', "elsewhere.cli:main", "app"),
        ('[tool.ferryman]\nentry-point = "app.native:main"', "app.native:main", "app"),
    ],
)
def test_ways_to_start(tables: str, entry_point: str, executable: str) -> None:
    """The chosen script, the only one or the project's namesake; an entry point goes first; modules may be anywhere."""
    project = load(PROJECT + tables)
    assert (project.entry_point, project.executable) == (entry_point, executable)


def test_a_module_below_src_is_found(agent: Path) -> None:
    """The src layout is understood, and a slip there is seen as well."""
    (agent / "src").mkdir()
    (agent / "app").rename(agent / "src" / "app")
    assert load(PROJECT + SCRIPT).entry_point == "app.cli:main"
    (found,) = mistakes(PROJECT + SCRIPT.replace("app.cli", "app.kli"))
    assert "no module 'kli' in app" in found


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ("targets = []", "8:1 tool.ferryman.targets: empty"),
        ('targets = ["linux-arm64", "all"]', "8:27 tool.ferryman.targets[1]: 'all' holds every other target"),
        ('targets = ["host", "Host"]', "8:20 tool.ferryman.targets[1]: 'Host' is 'host' again"),
        ("kinds = []", "8:1 tool.ferryman.kinds: empty"),
        ('kinds = ["pyz", "pyz"]', "8:17 tool.ferryman.kinds[1]: 'pyz' is here twice"),
        ('target.linux-arm64.kinds = ["pyz", "pyz"]', "8:36 tool.ferryman.target.linux-arm64.kinds[1]: 'pyz' is here twice"),
        ("target.host = {}", "8:8 tool.ferryman.target.host: 'host' is not one target"),
        ('target.linux-arm64 = {}\ntarget."linux/arm64" = {}', '9:8 tool.ferryman.target."linux/arm64": the table \'linux-arm64\' is for'),
        ('python = "3.10"', "8:1 tool.ferryman.python: Python 3.10 is not allowed by requires-python = '>=3.11'"),
        ('target.linux-arm64.python = "3.10"', "8:20 tool.ferryman.target.linux-arm64.python: Python 3.10 is not allowed"),
        ('data = [{ source = "asets/*" }]', "8:11 tool.ferryman.data[0].source: 'asets/*' matches no file in"),
        ('data = [{ source = "/etc/x" }]', "8:11 tool.ferryman.data[0].source: '/etc/x' is absolute"),
        ('data = [{ source = "C:/x" }]', "8:11 tool.ferryman.data[0].source: 'C:/x' is absolute"),
        ("data = [{ source = 'a\\b' }]", "8:11 tool.ferryman.data[0].source: 'a\\\\b' has a backslash"),
        ('data = [{ source = "assets/c.txt", into = "/x" }]', "8:36 tool.ferryman.data[0].into: '/x' is not a folder of the tree"),
        ('data = [{ into = "x" }]', "8:9 tool.ferryman.data[0].source: missing — expected text"),
        ('name = "a/b"', "8:1 tool.ferryman.name: 'a/b' is not a file name everywhere"),
        ('name = "app.exe"', "8:1 tool.ferryman.name: 'app.exe': the suffix comes from the target — write 'app'"),
        ('service-name = "con"', "8:1 tool.ferryman.service-name: 'con' is a device on Windows"),
        ('hidden-imports = ["a.b"]\nexclude-modules = ["a"]', "8:19 tool.ferryman.hidden-imports[0]: 'a.b' is asked for, but exclude-modules leaves out 'a'"),
        ('metadata = ["a b"]', "8:13 tool.ferryman.metadata[0]: 'a b' is not a name"),
        ('lock = "assets/b.txt"', "8:1 tool.ferryman.lock: there is no file 'assets/b.txt' — did you mean 'assets/c.txt'?"),
        ('lock = "lock"', "8:1 tool.ferryman.lock: there is no file 'lock' — `ferryman lock` writes it"),
        ("workspace = { projct = '.' }", "8:15 tool.ferryman.workspace.projct: unknown key — did you mean 'project'?"),
        ("smoke.commands = []", "8:7 tool.ferryman.smoke.commands: empty, and there is no service"),
        ("smoke.service = {}", "8:7 tool.ferryman.smoke.service.args: missing"),
        ('smoke.service = { args = [], expect = ["x"] }', "8:30 tool.ferryman.smoke.service.expect: needs get"),
        ('smoke.service = { args = [], exit-codes = [] }', "8:30 tool.ferryman.smoke.service.exit-codes: empty"),
        ('smoke.service = { args = [], exit-codes = [256] }', "8:44 tool.ferryman.smoke.service.exit-codes[0]: 256 — expected"),
        ('smoke.service = { args = [], ready = "/readyz" }', "8:30 tool.ferryman.smoke.service.ready: '/readyz' is not a URL"),
        ('smoke.service = { args = [], ready = "http://[::1]:{port}/" }', "8:30 tool.ferryman.smoke.service.ready: uses {port}, but args never"),
        ('smoke.service = { args = [], ready = "http://x/{nope}" }', "8:30 tool.ferryman.smoke.service.ready: unknown placeholder {nope}"),
        ('smoke.service = { args = ["{prot}"] }', "8:27 tool.ferryman.smoke.service.args[0]: unknown placeholder {prot} — did you mean 'port'?"),
    ],
)  # fmt: skip
def test_values_that_contradict(settings: str, line: str) -> None:
    """What no type can say: one mistake, at the value to change, with what is expected."""
    (found,) = mistakes(PROJECT + SCRIPT + FERRYMAN + settings)
    assert found.startswith(f"pyproject.toml:{line}")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('bundle = "feryman"', "tool.ferryman.bundle: "),
        ('bundle = "feryman"', "did you mean 'ferryman'?"),
        ("interpreter = 1", "tool.ferryman.interpreter: expected true or false, found the number 1"),
        ("interpretr = false", "did you mean 'interpreter'?"),
        ("cache-days = -1", "tool.ferryman.cache-days: "),
        ("cache-days = 3651", "tool.ferryman.cache-days: "),
        ("cache-day = 1", "did you mean 'cache-days'?"),
        ("payload-level = 0", "tool.ferryman.payload-level: "),
        ("payload-level = 23", "tool.ferryman.payload-level: "),
        ("payload-levl = 3", "did you mean 'payload-level'?"),
        ('target.linux-amd64.bundle = "pyinstall"', "did you mean 'pyinstaller'?"),
        ("target.linux-amd64.cache-days = 3", "tool.ferryman.target.linux-amd64.cache-days"),
    ],
)
def test_what_the_launcher_is_told(setting: str, said: str) -> None:
    """Values out of range, of another type, or misspelled."""
    (found,) = mistakes(PROJECT + SCRIPT + FERRYMAN + setting)
    assert said in found


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("", "bundle", Bundler.FERRYMAN),
        ("", "interpreter", True),
        ("", "cache_days", 30),
        ("", "payload_level", 19),
        ("cache-days = 0", "cache_days", 0),
        ("payload-level = 22", "payload_level", 22),
        ("interpreter = false", "interpreter", False),
        ('bundle = "pyinstaller"', "bundle", Bundler.PYINSTALLER),
    ],
)
def test_what_starts_a_program(setting: str, field: str, value: object) -> None:
    """The launcher, unless the project says otherwise; one target may have another bundler than the rest."""
    tables = f'{setting}\n[tool.ferryman.target.linux-arm64]\nbundle = "pyinstaller"\n'
    project = load(PROJECT + SCRIPT + FERRYMAN + tables)

    assert getattr(project.for_target(parse_target("linux-amd64")), field) == value
    assert project.for_target(parse_target("linux-arm64")).bundle is Bundler.PYINSTALLER


@pytest.mark.parametrize(
    "settings",
    [
        'data = [{ source = "assets" }, { source = "assets/**/*.txt", into = "a/b" }, { source = "../*/app" }]',
        'targets = ["all"]\ntarget."LINUX/ARM64".python = "/opt/python3"',
        'targets = ["host", "linux-amd64"]',
        'smoke.service = { args = ["{\\"json\\": 1}", "--port={port}"], ready = "http://127.0.0.1:{port}/", exit-codes = [0, -15] }',
        'hidden-imports = ["ab"]\nexclude-modules = ["a"]',
        "workspace.project = '.'",
    ],
)
def test_unusual_but_right(settings: str) -> None:
    """What only looks like a mistake is none."""
    load(PROJECT + SCRIPT + FERRYMAN + settings)


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"[project]\nname = \n", "pyproject.toml:2:8: invalid value"),
        (b'[project]\nname = """x', "pyproject.toml:2:12: "),
        (b"[project]\nname = 1\nname = 2\n", "pyproject.toml:3:"),
        (b'[project]\nname = "\xff"\n', "pyproject.toml:2:9: this byte is not UTF-8"),
        (b"\xef\xbb\xbf[project]\n", "pyproject.toml:1:1: the file begins with a byte order mark"),
        (b"a = " + b"[" * 100_000, "pyproject.toml:"),
    ],
)
def test_what_is_not_toml(raw: bytes, line: str) -> None:
    """Syntax errors have the form of all others: file, line, column and what is wrong."""
    Path("pyproject.toml").write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        load_project(Path())
    (found,) = caught.value.details
    assert found.startswith(line)


def test_windows_line_ends_keep_positions() -> None:
    """A carriage return is no character of its line."""
    Path("pyproject.toml").write_bytes(
        (PROJECT + SCRIPT + FERRYMAN + "strip = 1\n").replace("\n", "\r\n").encode()
    )
    with pytest.raises(ConfigError) as caught:
        load_project(Path())
    assert caught.value.details == (
        "pyproject.toml:8:1 tool.ferryman.strip: expected true or false, found the number 1",
    )


def test_a_dynamic_version_is_none() -> None:
    """The wheel will say it."""
    project = load('[project]\nname = "app"\ndynamic = ["version"]\n' + SCRIPT)
    assert project.version is None


def test_whoever_writes_the_lock_may_read_the_project() -> None:
    """A lock that is not there yet is a mistake for a build, and none for `ferryman lock`."""
    text = PROJECT + SCRIPT + FERRYMAN + 'lock = "new.txt"'
    assert load(text, lock_required=False).settings.lock == "new.txt"
    assert len(mistakes(text)) == 1


def test_what_a_target_says_lies_over_the_project() -> None:
    """A table found by any name of the target replaces values, adds modules, and is used up."""
    project = load(
        PROJECT + SCRIPT + FERRYMAN
        + 'python = "3.12"\noptimize = 2\nhidden-imports = ["a", "b"]\n'
        + '[tool.ferryman.target."linux/arm64"]\npython = "3.13"\nhidden-imports = ["b", "c"]\nexclude-modules = ["d"]\n'
        + 'collector = "standalone"\n'
    )  # fmt: skip
    arm = project.for_target(parse_target("linux-arm64"))
    assert (arm.python, arm.collector, arm.optimize) == ("3.13", Collector.STANDALONE, 2)
    assert (arm.hidden_imports, arm.exclude_modules, arm.target) == (("a", "b", "c"), ("d",), {})
    amd = project.for_target(parse_target("linux-amd64"))
    assert (amd.python, amd.collector, amd.hidden_imports) == ("3.12", Collector.AUTO, ("a", "b"))


@pytest.mark.parametrize("path", [".", "pyproject.toml"])
def test_a_project_is_its_folder_or_its_file(path: str, agent: Path) -> None:
    """Both ways to name it load the same project, and the root is absolute."""
    project = load(PROJECT + SCRIPT)
    assert load_project(Path(path)) == project
    assert project.root == agent


# --- find_project --------------------------------------------------------------------------------------------------


def workspace(pointer: str) -> None:
    Path("pyproject.toml").write_text(f'[tool.ferryman.workspace]\nproject = "{pointer}"\n', encoding="utf-8")


def other(name: str) -> Path:
    folder = Path.cwd() / name
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    return folder


def test_find_the_start_itself(agent: Path) -> None:
    """Without a pointer, the folder is the agent."""
    Path("pyproject.toml").write_text(PROJECT, encoding="utf-8")
    assert find_project(Path()) == agent


def test_find_by_pointer_and_by_name() -> None:
    """A workspace names its agent; what is named explicitly, folder or file, goes first."""
    workspace("my agent")
    pointed, named = other("my agent"), other("other")
    assert find_project(Path()) == pointed
    assert find_project(Path(), Path("other")) == named
    assert find_project(Path(), Path("other/pyproject.toml")) == named


@pytest.mark.parametrize(
    ("pointer", "says"),
    [
        ("agnt", "pyproject.toml:2:1 tool.ferryman.workspace.project: 'agnt' is not a folder with a pyproject.toml — did you mean 'agent'?"),
        ("zzz", "'zzz' is not a folder with a pyproject.toml"),
    ],
)  # fmt: skip
def test_a_pointer_to_nothing(pointer: str, says: str) -> None:
    """A workspace that points to nothing is a mistake of its file, at its line."""
    other("agent")
    workspace(pointer)
    with pytest.raises(ConfigError) as caught:
        find_project(Path())
    (found,) = caught.value.details
    assert says in found


@pytest.mark.parametrize(
    ("explicit", "text", "message", "advice"),
    [
        (None, None, "There is no pyproject.toml in", "--project"),
        ("app", None, "There is no pyproject.toml in", "--project"),
        ("nothing", None, "nothing is not a folder with a pyproject.toml", "--project"),
        (None, "", "pyproject.toml has no [project] table", "Add a [project] table"),
        (".", '[tool.ferryman.workspace]\nproject = "x"', "has no [project] table", "whose agent is in x"),
    ],
)
def test_nothing_to_find(explicit: str | None, text: str | None, message: str, advice: str) -> None:
    """No file, no folder, no [project]: one sentence that says so and one that says what to do."""
    if text is not None:
        Path("pyproject.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        find_project(Path(), Path(explicit) if explicit else None)
    assert message in str(caught.value)
    assert advice in caught.value.advice


def test_a_missing_file_names_the_folder_above(agent: Path) -> None:
    """Run in a folder below an agent, the advice names the agent's."""
    Path("pyproject.toml").write_text(PROJECT, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        find_project(agent / "app")
    assert f"for example in {agent}" in caught.value.advice


GUI = '[project.gui-scripts]\napp-window = "app.cli:main"\n'


def test_a_gui_script_alone_is_a_way_to_start() -> None:
    """It differs from a console script on Windows alone; beside a single console script it changes nothing."""
    assert load(PROJECT + GUI).executable == "app-window"
    assert load(PROJECT + GUI + SCRIPT).executable == "app"
    chosen = load(PROJECT + GUI + SCRIPT + FERRYMAN + 'script = "app-window"\n')
    assert (chosen.executable, chosen.entry_point) == ("app-window", "app.cli:main")


def test_a_wrong_gui_script_is_said_where_it_is_written() -> None:
    """Its form, and that several need a choice."""
    (wrong,) = mistakes(PROJECT + GUI.replace(":main", ""))
    several = mistakes(PROJECT + GUI + 'other = "app.cli:main"\n')
    assert "project.gui-scripts.app-window" in wrong
    assert 'write script = "app-window"' in several[0]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[build-system]\nrequires = "setuptools"\n', "expected an array"),
        ('[build-system]\nrequires = ["setup tools"]\n', "PEP 508"),
        ('[build-system]\nrequires = ["x @ git+https://example.com/x"]\n', "URL"),
        ("[build-system]\nrequires = []\nbuild-backend = 3\n", "expected text"),
        ("[build-system]\nrequire = []\n", "did you mean 'requires'"),
    ],
)
def test_the_build_system_is_checked_like_the_rest(table: str, said: str) -> None:
    """What the backend is installed from is resolved as the dependencies are, so it is read as carefully."""
    (line,) = mistakes(PROJECT + SCRIPT + table)
    assert "build-system" in line
    assert said in line


def test_the_build_system_has_the_standard_s_defaults() -> None:
    """PEP 518: without a table it is setuptools."""
    assert load(PROJECT + SCRIPT).build_requires == ("setuptools>=40.8.0",)
    table = '[build-system]\nrequires = ["flit_core>=3"]\nbuild-backend = "flit_core.buildapi"\n'
    assert load(PROJECT + SCRIPT + table).build_requires == ("flit_core>=3",)


def test_a_python_that_the_tools_do_not_run_on_is_refused() -> None:
    """Before anything is resolved for it."""
    text = PROJECT.replace(">=3.11", ">=3.8") + SCRIPT + FERRYMAN
    assert "too old" in mistakes(text + 'python = "3.9"\n')[0]
    assert load(text + 'python = "3.10"\n').settings.python == "3.10"


def test_a_poetry_project_of_old_form_is_told_the_way() -> None:
    """[tool.poetry] alone is not the standard's table."""
    with pytest.raises(ConfigError) as caught:
        load('[tool.poetry]\nname = "app"\n')
    assert "Poetry 2" in caught.value.advice
