"""The configuration: what is read, and what is said about what is wrong."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.config.load import SIZE_LIMIT, load_file, parse
from watchkeeper.config.model import Backoff, HttpCheck, Policy, Role, split_address
from watchkeeper.durations import format_duration, parse_duration
from watchkeeper.errors import ConfigInvalidError, ConfigUnreadableError

EXAMPLES = Path(__file__).resolve().parents[3] / "agent_src" / "examples"


def problems(text: str, name: str = "f.yaml") -> list[str]:
    """What is wrong with a text, each line without the file's name."""
    with pytest.raises(ConfigInvalidError) as caught:
        parse(textwrap.dedent(text).lstrip("\n").encode(), file=name)
    return [problem.removeprefix(name + ":") for problem in caught.value.problems]


YAML_PROBLEMS = {
    "a merge between two keys": (
        """
        services:
          a: &base {command: [x], stop_grace: 1}
          b:
            stop_grace: never
            <<: *base
            stop_grace: 2
        """,
        [
            "4:17: services.b.stop_grace: 'never' is no duration; write seconds as a number, or 500ms, 5s, 2m, 1h30m",
            "6:5: services.b.stop_grace: this key is already there, in line 4",
        ],
    ),
    "the place of what was merged": (
        """
        services:
          a: &a {command: [x], stop_grace: never}
          b: &b {command: [x], stop_grace: 5}
          c: {<<: [*a, *b]}
        """,
        [
            "2:36: services.a.stop_grace: 'never' is no duration; write seconds as a number, or 500ms, 5s, 2m, 1h30m",
            "2:36: services.c.stop_grace: 'never' is no duration; write seconds as a number, or 500ms, 5s, 2m, 1h30m",
        ],
    ),
    "a list as a key beside a good one": (
        """
        services:
          [a, b]: {command: [x]}
          a: {comand: [x]}
        """,
        [
            "2:3: services: a key is text, not a list or a mapping",
            '3:3: services.a: the key "command" is missing',
            '3:7: services.a.comand: unknown key; did you mean "command"?',
        ],
    ),
    "unknown key": (
        """
        services:
          web:
            command: [x]
            restrat: 5
            polcy: always
        """,
        [
            "4:5: services.web.restrat: unknown key",
            '5:5: services.web.polcy: unknown key; did you mean "policy"?',
        ],
    ),
    "missing key": (
        """
        services:
          web: {policy: always}
        """,
        ['2:3: services.web: the key "command" is missing'],
    ),
    "wrong types": (
        """
        agent: [1]
        services:
          web:
            command: run it
            environment: {A: 1}
            line_limit: 1.5
            backoff: {factor: much, jitter: yes}
        """,
        [
            "1:8: agent: expected a mapping, found a list",
            "4:14: services.web.command: expected a list, found text",
            "5:22: services.web.environment.A: expected text, found a number (put it in quotes)",
            "6:17: services.web.line_limit: expected a whole number, found a number",
            "7:23: services.web.backoff.factor: expected a number, found the text 'much'",
            "7:37: services.web.backoff.jitter: expected a number, found true or false",
        ],
    ),
    "out of range": (
        """
        checks:
          a: {type: tcp, address: "x:1", period: 1ms, timeout: 2h, failure_threshold: 0}
        """,
        [
            "2:42: checks.a.period: 1ms is out of range; it is 50ms to 24h",
            "2:56: checks.a.timeout: 2h is out of range; it is 10ms to 1h",
            "2:79: checks.a.failure_threshold: 0 is out of range; it is 1 to 1000",
        ],
    ),
    "duplicate keys": (
        """
        services:
          web: {command: [x]}
          web: {command: [y], command: [z]}
        """,
        ["3:3: services.web: this key is already there, in line 2"],
    ),
    "a duplicate hides nothing else": (
        """
        agent:
          listen: x
          listen: y
        checks: {c: {type: htp}}
        """,
        [
            "2:11: agent.listen: 'x' is not HOST:PORT; write 127.0.0.1:9470 or [::1]:9470",
            "3:3: agent.listen: this key is already there, in line 2",
            "4:20: checks.c.type: 'htp' is not one of certificate, disk, dns, exec, file, grpc, http, icmp, memory, process, tcp; did you mean \"http\"?",
        ],
    ),
    "kinds of checks": (
        """
        checks:
          a: {type: htp, url: "http://x"}
          b: {url: "http://x"}
          c: 5
        """,
        [
            "2:13: checks.a.type: 'htp' is not one of certificate, disk, dns, exec, file, grpc, http, icmp, memory, process, tcp; did you mean \"http\"?",
            '3:3: checks.b: the key "type" is missing; it is one of certificate, disk, dns, exec, file, grpc, http, icmp, memory, process, tcp',
            "4:6: checks.c: expected a mapping, found a number",
        ],
    ),
    "durations": (
        """
        services:
          web: {command: [x], stop_grace: 5 seconds}
          two: {command: [x], stop_grace: -1}
          nan: {command: [x], stop_grace: .nan}
        """,
        [
            "2:35: services.web.stop_grace: '5 seconds' is no duration; write seconds as a number, or 500ms, 5s, 2m, 1h30m",
            "3:35: services.two.stop_grace: -1000ms is out of range; it is 0ms to 8760h",
            "4:35: services.nan.stop_grace: a duration is a finite number of seconds",
        ],
    ),
    "rules between fields": (
        """
        services:
          web:
            command: [x]
            backoff: {initial: 5s, maximum: 2s}
            checks:
              a: {type: tcp, address: "x:1", role: liveness, success_threshold: 2}
              b: {type: http, url: "ftp://x"}
              c: {type: tcp, address: "x"}
              d: {type: tcp, address: "x:0"}
        checks:
          alone: {type: tcp, address: "x:1", role: startup}
        """,
        [
            "4:37: services.web.backoff.maximum: the maximum is shorter than the initial delay",
            "6:73: services.web.checks.a.success_threshold: a liveness check takes only 1",
            "7:28: services.web.checks.b.url: 'ftp://x' is not http://HOST/... or https://HOST/...",
            "8:31: services.web.checks.c.address: 'x' is not HOST:PORT; write 127.0.0.1:9470 or [::1]:9470",
            "9:31: services.web.checks.d.address: port 0 cannot be connected to",
            (
                "11:44: checks.alone.role: a check outside a service has the role readiness; "
                "a startup check has nothing to act on"
            ),
        ],
    ),
    "names": (
        """
        services:
          "a/b": {command: [x]}
          "": {command: []}
        """,
        [
            "2:3: services.a/b: a name is 1 to 63 letters, digits, dots, dashes and underscores",
            "3:3: services.: a name is 1 to 63 letters, digits, dots, dashes and underscores",
            "3:17: services..command: expected a list with at least one item",
        ],
    ),
    "syntax": (
        "a: [1,\nb: 2",
        ["3:1: not YAML: while parsing a flow sequence, did not find expected ',' or ']'"],
    ),
    "not a mapping": ("- a\n", ["1:1: expected a mapping, found a list"]),
    "an alias of itself": (
        "checks: &a\n  b: *a\n",
        ["1:9: checks.b: this alias contains itself", "1:9: checks.b: expected a mapping, found nothing"],
    ),
    "two documents": (
        "a: 1\n---\nb: 2\n",
        ["2:1: not YAML: a second document begins here"],
    ),
}


@pytest.mark.parametrize("case", YAML_PROBLEMS)
def test_yaml_problems(case: str) -> None:
    """Every mistake at once, each with line, column, key path, what was wrong, and what was probably meant."""
    text, expected = YAML_PROBLEMS[case]
    assert problems(text) == expected


TOML_PROBLEMS = {
    "positions": (
        """
        # A comment with a [table] and a "quote
        [agent]
        listn = "x"          # another
        [services."web".backoff]
        initial = "5x"
        [services.web]
        command = [ "a",     # a comment, with a comma
          1, 2 ]
        environment = { A = "x", "B" = 2 }
        checks.one = { type = "tcp", address = "x:1", period = "1d1d" }
        [services.web.checks.two]
        type = "tpc"
        """,
        [
            '3:1: agent.listn: unknown key; did you mean "listen"?',
            "5:11: services.web.backoff.initial: '5x' is no duration; write seconds as a number, or 500ms, 5s, 2m, 1h30m",
            "8:3: services.web.command[1]: expected text, found a number (put it in quotes)",
            "8:6: services.web.command[2]: expected text, found a number (put it in quotes)",
            "9:32: services.web.environment.B: expected text, found a number (put it in quotes)",
            "10:56: services.web.checks.one.period: 48h is out of range; it is 50ms to 24h",
            "12:8: services.web.checks.two.type: 'tpc' is not one of certificate, disk, dns, exec, file, grpc, http, icmp, memory, process, tcp; did you mean \"tcp\"?",
        ],
    ),
    "multi-line strings": (
        '''
        [services.a]
        command = ["""
        [not.a.table]
        x = \\"""y" ""]
        """, 'x', \'\'\'
        ]\'\'\']
        polcy = 1
        ''',
        ['7:1: services.a.polcy: unknown key; did you mean "policy"?'],
    ),
    "arrays of tables": (
        """
        [[agent]]
        listen = "x"
        [[agent]]
        """,
        ["1:1: agent: expected a mapping, found a list"],
    ),
    "syntax": ("[agent]\nlisten = \n", ["2:10: not TOML: Invalid value"]),
    "end of text": ("[agent", ["1:1: not TOML: Expected ']' at the end of a table declaration"]),
    "duplicates": ("[agent]\nlisten = 'a:1'\nlisten = 'b:1'\n", ["3:15: not TOML: Cannot overwrite a value"]),
    "dates": (
        "[agent]\nlisten = 2020-01-01\n",
        ["2:10: agent.listen: '2020-01-01' is not HOST:PORT; write 127.0.0.1:9470 or [::1]:9470"],
    ),
}


@pytest.mark.parametrize("case", TOML_PROBLEMS)
def test_toml_problems(case: str) -> None:
    """As for YAML, although tomllib gives no positions."""
    text, expected = TOML_PROBLEMS[case]
    found = problems(text, "f.toml")
    if case == "end of text":  # the position of the end is worded differently between Python versions
        assert len(found) == 1
        assert found[0].endswith("Expected ']' at the end of a table declaration")
    else:
        assert found == expected


def test_defaults_are_the_documented_ones() -> None:
    """The kubelet's numbers for checks; 1 s x 2 up to 60 s, forgotten after 10 min; TERM, 10 s, KILL."""
    text = b"services: {a: {command: [x], checks: {c: {type: http, url: 'http://h/'}}}}"
    service = parse(text, file="f.yaml").config.services["a"]
    check = service.checks["c"]
    assert isinstance(check, HttpCheck)
    assert (check.role, check.initial_delay, check.period, check.timeout) == (Role.READINESS, 0, 10, 1)
    assert (check.success_threshold, check.failure_threshold, check.status) == (1, 3, ())
    assert (service.policy, service.stop_grace) == (Policy.ALWAYS, 10)
    assert service.backoff == Backoff(initial=1, maximum=60, factor=2, jitter=0.1, reset_after=600)


def test_yaml_and_toml_say_the_same() -> None:
    """One schema, two spellings."""
    yaml = b"agent: {listen: '[::1]:1'}\nservices: {a: {command: [x, y], policy: no, stop_grace: 1m30s}}\n"
    toml = b"agent.listen = '[::1]:1'\n[services.a]\ncommand = ['x', 'y']\npolicy = 'no'\nstop_grace = 90\n"
    assert parse(yaml, file="f.yml").config == parse(toml, file="f.toml").config


def test_yaml_merge_keys() -> None:
    """What stands beside << wins over it, and is no duplicate."""
    text = b"""
services:
  a: &base {command: [x], stop_grace: 1}
  b: {<<: *base, stop_grace: 2}
"""
    services = parse(text, file="f.yaml").config.services
    assert services["b"].command == ("x",)
    assert (services["a"].stop_grace, services["b"].stop_grace) == (1, 2)


@pytest.mark.parametrize(
    "content", [b"", b"# nothing\n", b"{}\n", b"services:\nchecks:\n", b"\xef\xbb\xbf{}"]
)
def test_an_empty_configuration_is_one(content: bytes) -> None:
    """An agent with nothing to do is allowed; empty sections are, too."""
    assert parse(content, file="f.yaml").config.check_count == 0


def test_not_utf8() -> None:
    """The position of the first byte that is none."""
    with pytest.raises(ConfigInvalidError, match=r"f.yaml:2:4: not UTF-8"):
        parse(b"a: 1\nb: \xff", file="f.yaml")


def test_bombs() -> None:
    """A text that stands for very much more than it is, is refused in good time; so is a deep one."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    assert "nested too deeply, or aliases" in problems("\n".join(lines))[0]
    assert "nested too deeply" in problems("a: " + "[" * 5000 + "]" * 5000)[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, r"there is no file"),
        (lambda path: path.mkdir(), r"holds no file that ends in"),
        (lambda path: path.write_bytes(b" " * (SIZE_LIMIT + 1)), r"larger than 4 MiB"),
    ],
    ids=["missing", "directory", "large"],
)
def test_unreadable(tmp_path: Path, make: object, message: str) -> None:
    """One sentence, one cure."""
    path = tmp_path / "f.yaml"
    make(path)  # type: ignore[operator]
    with pytest.raises(ConfigUnreadableError, match=message) as caught:
        load_file(str(path))
    assert caught.value.advice


def test_unknown_suffix() -> None:
    """The format is told by the name, never guessed."""
    with pytest.raises(ConfigUnreadableError, match="neither YAML nor TOML nor JSON"):
        parse(b"", file="agent.ini")


@pytest.mark.parametrize("example", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_examples_hold(example: Path) -> None:
    """What people copy works."""
    assert load_file(str(example)).config.check_count > 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (5, 5.0),
        (0.5, 0.5),
        ("500ms", 0.5),
        ("5s", 5.0),
        ("2m", 120.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        (" 1d ", 86400.0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    """Numbers are seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "5x", "s", "-5s", "1s 2m", "5 s", "1e3s", True, None, [], float("inf")]
)
def test_no_durations(text: object) -> None:
    """Nothing is guessed: a text needs its unit."""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.integers(1, 10_000_000))
def test_a_printed_duration_can_be_read(seconds: int) -> None:
    """What messages print is what the configuration takes."""
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "parts"), [("a:1", ("a", 1)), ("[::1]:80", ("::1", 80)), ("127.0.0.1:0", ("127.0.0.1", 0))]
)
def test_addresses(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts


@pytest.mark.parametrize("text", ["", ":1", "a", "a:", "a:x", "::1:80", "a:65536", "a:-1", "a:٣"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - two wordings, both tested where people see them
        split_address(text)


KEYS = st.sampled_from(
    ["agent", "services", "checks", "web", "command", "type", "url", "period", "<<", "listen", ""]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["http", "5s", "x:1", "\0"])
)
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)


@given(DATA)
def test_no_data_surprises_the_reader(data: object) -> None:
    """Whatever the file says, it is a configuration or a list of problems with positions; never another exception."""
    import yaml

    check(yaml.safe_dump({"agent": data, "services": {"web": data}, "checks": {"c": data}}), "f.yaml")


@given(st.text(alphabet="ab[]{}\"'=.,#\n\\ 1:&*-!<|", max_size=40))
@pytest.mark.parametrize("name", ["f.yaml", "f.toml"])
def test_no_text_surprises_the_reader(name: str, text: str) -> None:
    """The same for texts, which are mostly no YAML or TOML at all."""
    check(text, name)


def check(text: str, name: str) -> None:
    """Read a text; nothing but the agent's own error may come of it, and that has positions."""
    found = None
    try:
        parse(text.encode(), file=name)
    except ConfigInvalidError as error:
        found = error
    assert found is None or all(re.match(r"f\.\w+:\d+:\d+: ", problem) for problem in found.problems)
    assert found is None or found.problems
