"""Documents: JSON with positions, fragments beside each other, layers over each other, and texts that nobody meant."""

from __future__ import annotations

import contextlib
import json
import string
import tomllib
from collections.abc import Sequence
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from watchkeeper import redact
from watchkeeper.config.document import Document, Position, Problem, render_path
from watchkeeper.config.fragments import Fragment, Layer, digest
from watchkeeper.config.json_document import DEPTH_LIMIT, read_json
from watchkeeper.config.load import READERS, Loaded, assemble, parse
from watchkeeper.config.toml_document import read_toml
from watchkeeper.config.yaml_document import read_yaml
from watchkeeper.errors import AgentError, ConfigInvalidError


def said(text: str) -> list[str]:
    """What is wrong with a JSON text."""
    return [problem.render("f") for problem in read_json(text).problems]


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_json_is_read_as_the_standard_library_reads_it(value: Any, indent: Any, ascii_only: bool) -> None:
    """The same data; the place of every value is known."""
    document = read_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only))
    assert document.problems == []
    assert document.data == value
    assert len(document.values) == count(value)


def count(value: Any) -> int:
    """How many values there are, with what they are made of."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(count(each) for each in inner)


@given(st.text(max_size=40) | st.text("[]{}:,\"\\'ntf0123456789.eE+- \n/*#u", max_size=40))
def test_json_agrees_about_what_is_wrong(text: str) -> None:
    """What the standard library refuses is refused here, with a position inside the text; what it takes is taken."""
    document = read_json(text)
    try:
        value = json.loads(text, parse_constant=refuse, object_pairs_hook=once)
    except (ValueError, RecursionError):
        if text.strip(" \t\r\n"):
            [problem] = document.problems[-1:]
            assert 1 <= problem.position.line <= text.count("\n") + 1
        return
    if "\\u" not in text:  # half a pair of surrogates is taken there
        assert document.problems == []
        assert document.data == value


def refuse(_word: str) -> Any:
    raise ValueError("no JSON")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Equal keys are wrong."""
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("twice")
    return dict(pairs)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1,}', "f:1:8: not JSON: a comma before } is one too many"),
        ("[1, 2,]", "f:1:6: not JSON: a comma before ] is one too many"),
        ('{"a": 1\n "b": 2}', "f:2:2: not JSON: a comma or } is missing"),
        ('{"a": [1, 2', "f:1:12: not JSON: ] is missing at the end"),
        ("{'a': 1}", "f:1:2: not JSON: a key in double quotes is missing"),
        ("{\"a\": 'x'}", "f:1:7: not JSON: text is written in double quotes"),
        ('{"a" 1}', "f:1:6: not JSON: a colon is missing after the key"),
        ('{"a": True}', "f:1:7: not JSON: True is written true"),
        (
            '{"a": hunter22}',
            "f:1:7: not JSON: this is neither text in double quotes nor a number, true, false or null",
        ),
        ('{"a": 1} // no', "f:1:10: not JSON: something follows the end of the document"),
        ("// no\n{}", "f:1:1: not JSON: JSON has no comments"),
        ('{"a": }', "f:1:7: not JSON: a value is missing"),
        (
            '"a\nb"',
            "f:1:1: not JSON: this text does not end in its line, or holds a character or an escape that JSON does not know",
        ),
        ('"\\ud800"', "f:1:1: not JSON: half of a surrogate pair is no character"),
        ("[" + "1" * 5000 + "]", "f:1:2: not JSON: a number with too many digits"),
        ("[" * (DEPTH_LIMIT + 2), f"f:1:{DEPTH_LIMIT + 2}: not JSON: nested too deeply"),
        ("NaN", "f:1:1: not JSON: this is neither text in double quotes nor a number, true, false or null"),
        ("01", "f:1:1: not JSON: this is neither text in double quotes nor a number, true, false or null"),
    ],
)
def test_json_problems(text: str, problem: str) -> None:
    """Where it stops being JSON, and what was probably meant; a value is not repeated."""
    assert said(text) == [problem]


def test_json_keys_that_appear_twice() -> None:
    """The second is reported, with the line of the first; everything else is still read, with its place."""
    document = read_json('{"a": {"x": 1},\n "a": {"x": [2], "x": 3},\n "b": 4}')
    assert [problem.render("f") for problem in document.problems] == [
        "f:2:2: a: this key is already there, in line 1",
        "f:2:18: a.x: this key is already there, in line 2",
    ]
    assert document.data == {"a": {"x": 1}, "b": 4}
    assert document.values["a", "x"] == Position(1, 13)
    assert document.keys["b",] == Position(3, 2)


def test_json_positions_in_a_configuration() -> None:
    """A problem is placed as in the other formats."""
    with pytest.raises(ConfigInvalidError) as caught:
        parse(
            b'\xef\xbb\xbf{\n  "services": {\n    "web": {"command": ["x", 5], "polcy": "no"}\n  }\n}',
            file="f.json",
        )
    assert caught.value.problems == (
        "f.json:3:30: services.web.command[1]: expected text, found a number (put it in quotes)",
        'f.json:3:34: services.web.polcy: unknown key; did you mean "policy"?',
    )


# --- fragments and layers ---------------------------------------------------------------------------------------------


def fragments(**texts: str) -> tuple[Fragment, ...]:
    """By name without suffix: YAML."""
    return tuple(Fragment(f"{name}.yaml", text.encode(), ".yaml") for name, text in texts.items())


def together(parts: Sequence[Fragment], *layers: Layer) -> Loaded:
    return assemble(parts, layers, origin="conf.d")


def wrong(parts: Sequence[Fragment], *layers: Layer) -> tuple[str, ...]:
    with pytest.raises(ConfigInvalidError) as caught:
        together(parts, *layers)
    return caught.value.problems


TCP = "{type: tcp, address: 'h:1'}"


def test_fragments_are_put_beside_each_other() -> None:
    """M1, M2: names of one section come together, whatever the format; the whole is as if it were one file."""
    found = together(
        (
            *fragments(
                a=f"agent: {{log_level: debug}}\nchecks: {{one: {TCP}}}",
                b=f"checks: {{two: {TCP}}}",
                c="",
                d="checks:",
            ),
            Fragment("e.toml", b'[checks.three]\ntype = "tcp"\naddress = "h:1"\n', ".toml"),
            Fragment("f.json", b'{"services": {"web": {"command": ["x"]}}}', ".json"),
        )
    )
    assert list(found.config.checks) == ["one", "two", "three"]
    assert list(found.config.services) == ["web"]
    assert found.config.agent.log_level == "debug"


def test_a_name_in_two_fragments() -> None:
    """M1, M2: it is wrong, with both places; everything else that is wrong is said as well, by file."""
    assert wrong(
        fragments(
            a=f"agent: {{}}\nchecks:\n  one: {TCP}\n  two: {{type: tcp}}",
            b=f"checks:\n  one: {TCP}\nagent: {{}}\nfrob: 1",
            c="[1]",
        )
    ) == (
        'a.yaml:4:3: checks.two: the key "address" is missing',
        "b.yaml:2:3: checks.one: this name is already there, in a.yaml:3",
        "b.yaml:3:1: agent: this section is already there, in a.yaml:1",
        "b.yaml:4:1: frob: unknown key",
        "c.yaml:1:1: expected a mapping, found a list",
    )


def test_syntax_of_each_fragment() -> None:
    """Every fragment's syntax is reported, each with its own file."""
    parts = (
        *fragments(a="a: [", b="checks: {"),
        Fragment("c.json", b"{,}", ".json"),
        Fragment("d.yaml", b"\xff", ".yaml"),
    )
    assert [problem.partition(": ")[0] for problem in wrong(parts)] == [
        "a.yaml:2:1",
        "b.yaml:2:1",
        "c.json:1:2",
        "d.yaml:1:1",
    ]


def layer(name: str, text: str, **options: Any) -> Layer:
    return Layer(name, (Fragment(f"{name}:doc", text.encode(), ".yaml"),), **options)


def test_a_layer_goes_over_what_is_below() -> None:
    """M3: the whole definition of a name is replaced; other names stay; the last layer wins."""
    base = fragments(a=f"checks: {{one: {{type: tcp, address: 'h:1', period: 7s}}, two: {TCP}}}")
    first = layer("s1", "checks: {one: {type: tcp, address: 'h:2'}, three: {type: tcp, address: 'h:2'}}")
    second = layer("s2", "checks: {three: {type: tcp, address: 'h:3'}}\nservices:")
    checks = together(base, first, second).config.checks
    assert {name: check.address for name, check in checks.items()} == {
        "one": "h:2",
        "two": "h:1",
        "three": "h:3",
    }  # type: ignore[union-attr]
    assert checks["one"].period == 10.0


def test_what_a_layer_may_not_deliver() -> None:
    """M4: settings of the agent, further sources, and what its source was not allowed."""
    assert wrong(
        fragments(a="{}"),
        layer("s1", "agent: {log_level: debug}\nsources: {x: {type: file, path: /x}}\nchecks: 5"),
        layer("s2", "services: {web: {command: [x]}}", sections=("checks", "jobs")),
        layer("s3", "- x"),
    ) == (
        "s1:doc:1:1: agent: a source may not deliver this section; it belongs in the file that the agent is started with",
        "s1:doc:2:1: sources: a source may not deliver this section; it belongs in the file that the agent is started with",
        "s1:doc:3:9: checks: expected a mapping, found a number",
        "s2:doc:1:1: services: a source may not deliver this section; this one may deliver checks, jobs",
        "s3:doc:1:1: expected a mapping, found a list",
    )


def test_places_stay_with_their_document() -> None:
    """What is wrong in a layer is said of the layer, what is wrong below of the file."""
    base = fragments(a=f"checks:\n  one: {TCP}\n  two: {{type: tcp}}", b="checks: {}")
    over = layer("s", "\n\nchecks:\n  one: {type: tcp, address: 5}")
    assert wrong(base, over) == (
        'a.yaml:3:3: checks.two: the key "address" is missing',
        "s:doc:4:29: checks.one.address: expected text, found a number (put it in quotes)",
    )


def test_references_of_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that may not name secrets of this machine is refused if it does; plain secrets, and other layers, are not."""
    monkeypatch.setenv("THE_TOKEN", "s3cret-token")
    text = "checks: {{{name}: {{type: http, url: 'http://h/', bearer_token: '{token}'}}}}"
    with_reference = text.format(name="a", token="${env:THE_TOKEN}")
    plain = text.format(name="b", token="plain $${x}")
    [problem] = wrong(fragments(a="{}"), layer("s", with_reference, references=False))
    assert problem.endswith(
        "checks.a.bearer_token: this source may not name secrets of this machine (allow_references)"
    )
    found = together(
        fragments(a="{}"), layer("s", with_reference), layer("t", plain, references=False)
    ).config
    assert [check.bearer_token for check in found.checks.values()] == ["s3cret-token", "plain ${x}"]  # type: ignore[union-attr]
    redact.forget()


@given(
    st.lists(st.tuples(TEXTS, st.binary(max_size=5)), max_size=4),
    st.lists(st.tuples(TEXTS, st.binary(max_size=5)), max_size=4),
)
def test_digests_tell_states_apart(one: list[tuple[str, bytes]], two: list[tuple[str, bytes]]) -> None:
    """Two lists of documents have one digest only if they are equal; a single one has that of its content."""
    states = [tuple(Fragment(name, content, ".yaml") for name, content in each) for each in (one, two)]
    if len(states[0]) != 1 and len(states[1]) != 1:
        assert (digest(states[0]) == digest(states[1])) == (states[0] == states[1])


# --- texts that nobody meant ------------------------------------------------------------------------------------------

SEEDS = [
    b'services:\n  web:\n    command: [x, "y"]\n    backoff: {initial: 200ms}\n    checks:\n      up: {type: http, url: "http://h/"}\n',
    b'[services.web]\ncommand = ["x", "y"]\n[services.web.checks.up]\ntype = "tcp"\naddress = "h:1"\n[[a]]\nb = 1979-05-27\n',
    b'{"services": {"web": {"command": ["x"], "checks": {"up": {"type": "tcp", "address": "h:1"}}}}}',
    b"sources: {a: {type: http, url: 'http://h/', token: '${env:X}', wait: 5s}}\nagent: &a {log_level: no}\n<<: *a\n",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A document with a few bytes changed, taken out, doubled or put in."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        piece = draw(
            st.binary(min_size=1, max_size=4)
            | st.sampled_from(
                [
                    b"[",
                    b"{",
                    b"&a ",
                    b"*a",
                    b"!x ",
                    b"<<: ",
                    b"\n  ",
                    b"'",
                    b'"',
                    b"\\",
                    b"${",
                    b"1e999",
                    b"0o9",
                    b"2001-99-99",
                    b"\t",
                    b": ",
                    b"- ",
                ]
            )
        )
        data[at : at + draw(st.integers(0, 5))] = piece
    return bytes(data)


def check_answer(content: bytes, suffix: str) -> None:
    """A configuration, or problems that all have a place inside the text."""
    problems: tuple[Problem, ...] = ()
    with contextlib.suppress(ConfigInvalidError):
        try:
            parse(content, file=f"f{suffix}")
        except ConfigInvalidError as error:
            problems = error.findings or (Problem(Position(0, 0), (), "none"),)
            raise
    # YAML counts more characters as line breaks than others do.
    lines = len(content.splitlines()) + content.count(b"\xc2\x85") + content.count(b"\xe2\x80") + 1
    for problem in problems:
        assert 1 <= problem.position.line <= lines
        assert problem.position.column >= 1
        assert problem.message
        render_path(problem.path)


@settings(max_examples=150)
@given(st.binary(max_size=60) | mutated(), st.sampled_from(sorted(READERS)))
def test_any_bytes_are_answered(content: bytes, suffix: str) -> None:
    """Nothing but an AgentError ever comes out, and it is never without a place."""
    check_answer(content, suffix)


@settings(max_examples=60)
@given(st.text("abc:-[]{},&*!|>'\"%@`#?~<=0123456789.\n \t", max_size=60))
def test_any_yaml_is_answered(text: str) -> None:
    """The characters that mean something in YAML, in any order."""
    check_answer(text.encode(), ".yaml")


KEYS = st.text(string.ascii_letters + string.digits + "-_. ", min_size=1, max_size=6)
PLAIN = (
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-1e6, 1e6).map(lambda number: round(number, 3))
    | st.text(string.printable.replace("\r", "").replace("\x0b", "").replace("\x0c", ""), max_size=8)
)
EQUAL = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12
)


def as_toml(data: dict[str, Any]) -> str:
    """Each key with its value inline; JSON's text is TOML's, but for one escape."""
    return "".join(f"{toml(key)} = {toml(value)}\n" for key, value in data.items())


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return f"{value:f}"
    return (
        json.dumps(value).replace("\\u007f", "\\u007F") if not isinstance(value, str) else json.dumps(value)
    )


@settings(max_examples=80)
@given(st.dictionaries(KEYS, EQUAL, max_size=4))
def test_the_three_formats_say_the_same(data: dict[str, Any]) -> None:
    """Equal data in YAML, TOML and JSON is read as equal data, with the place of each value in each of them."""
    texts = {
        "yaml": yaml.safe_dump(data, allow_unicode=True),
        "json": json.dumps(data),
        "toml": as_toml(data),
    }
    assume(tomllib.loads(texts["toml"]) == data)
    documents: list[Document] = [read_yaml(texts["yaml"]), read_json(texts["json"]), read_toml(texts["toml"])]
    for document in documents:
        assert document.problems == []
        assert document.data == data
        assert set(document.values) >= set(documents[1].values)


def test_equal_configurations() -> None:
    """One configuration in three formats is one configuration."""
    data = {
        "agent": {"drain_timeout": "5s", "queue": {"workers": 2}},
        "services": {"web": {"command": ["x", "y z"], "environment": {"A": "1"}, "policy": "no"}},
        "checks": {"c": {"type": "http", "url": "http://h/", "status": [200, 204]}},
        "sources": {
            "s": {"type": "http", "url": "http://h/x.yaml", "headers": {"X-Y": "z"}, "size_limit": "1MiB"}
        },
    }
    texts = {".yaml": yaml.safe_dump(data), ".json": json.dumps(data), ".toml": as_toml(data)}
    configs = [parse(text.encode(), file=f"f{suffix}").config for suffix, text in texts.items()]
    assert configs[0] == configs[1] == configs[2]


@pytest.mark.parametrize(
    "text",
    [
        "checks: {a: {type: http, url: 'http://h/', bearer_token: *hunter22secret}}",
        "checks: {a: {type: http, url: 'http://h/', bearer_token: !hunter22secret x}}",
        "checks: {a: {type: http, url: 'http://h/', bearer_token: !hunter22secret!x y}}",
        "checks: {a: {type: http, url: 'http://h/', bearer_token: &hunter22secret x, token: &hunter22secret y}}",
        "checks: {a: {type: http, url: 'http://h/', bearer_token: !!int hunter22secret}}",
        "checks: {a: {type: http, url: 'http://h/', bearer_token: !!timestamp hunter22secret}}",
        "checks: {a: {type: http, url: 'http://h/', bearer_token: [hunter22secret]}}",
        "checks: {a: {type: http, url: 'http://h/', bearer_token: 'hunter22secret${env:'}}",
        "checks: {a: {type: http, url: 'http://h/', bearer_token: 'hunter22secret",
    ],
)
def test_a_secret_with_a_slip_is_not_said(text: str) -> None:
    """A secret that was not put in quotes may look like something else to the parser; its words are not passed on."""
    redact.forget()
    with pytest.raises(AgentError) as caught:
        parse(text.encode(), file="f.yaml")
    assert "hunter22" not in f"{caught.value}{caught.value.__cause__}{caught.value.__context__}"
