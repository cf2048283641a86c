"""Secrets and sizes: how references are resolved, what is said about wrong ones, and what is hidden from then on."""

from __future__ import annotations

import base64
import json
import os
import textwrap
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper import redact
from watchkeeper.config.decode import decode
from watchkeeper.config.references import SIZE_LIMIT, References
from watchkeeper.config.schema.common import SIZE, Secret, Size, StrictStruct
from watchkeeper.config.yaml_document import read_yaml
from watchkeeper.sizes import UNITS, format_size, parse_size


@pytest.fixture(autouse=True)
def no_secrets() -> Iterator[None]:
    """Each test begins with nothing to hide."""
    redact.forget()
    yield
    redact.forget()


class Login(StrictStruct, frozen=True, kw_only=True):
    """A struct with secrets in all the places that a struct can have them."""

    token: Secret = "unset"
    headers: dict[str, Secret] = msgspec.field(default_factory=dict)
    keys: tuple[Secret, ...] = ()
    maybe: Secret | None = None
    form: Annotated[str, msgspec.Meta(pattern="^[a-z]+$", extra={"secret": True})] = "a"
    room: Size = 0
    small: Annotated[int, msgspec.Meta(ge=1024, le=65536, extra=SIZE)] = 1024
    mode: Literal["a", "b", 3] = "a"
    pair: tuple[int, str] | None = None
    either: int | str = 0


def read(text: str, references: References | None = None) -> tuple[Login | None, list[str]]:
    document = read_yaml(textwrap.dedent(text).lstrip("\n"))
    found = decode(document, Login, references)
    return found, [problem.render("f.yaml") for problem in document.problems]


def test_references(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A reference is the whole text or a part of it, of the environment or a file; $${ is a plain ${."""
    monkeypatch.setenv("A_TOKEN", "t0ken-of-env")
    file = tmp_path / "secret"
    file.write_bytes(b"of a file\n")
    found, wrong = read(
        f"""
        token: ${{env:A_TOKEN}}
        headers: {{authorization: "Bearer ${{env:A_TOKEN}}/${{file:{file}}}"}}
        keys: ["plain", "a$${{env:X}}", "$5"]
        """
    )
    assert wrong == []
    assert found is not None
    assert found.token == "t0ken-of-env"
    assert found.headers == {"authorization": "Bearer t0ken-of-env/of a file"}
    assert found.keys == ("plain", "a${env:X}", "$5")
    assert redact.text("x t0ken-of-env, of a file, plain") == "x [redacted], [redacted], [redacted]"


def test_wrong_references_are_placed(tmp_path: Path) -> None:
    """Every wrong reference is reported where it stands, all of them at once, and no secret is said."""
    (tmp_path / "empty").write_bytes(b"\n")
    (tmp_path / "large").write_bytes(b"x" * (SIZE_LIMIT + 1))
    (tmp_path / "latin").write_bytes(b"\xe9\xe8\xff")
    _, wrong = read(
        f"""
        token: ${{env:NOT_THERE_AT_ALL}}
        headers:
          a: ${{file:relative}}
          b: ${{file:{tmp_path}/none}}
          c: ${{file:{tmp_path}}}
          d: ${{file:{tmp_path}/empty}}
          e: ${{file:{tmp_path}/large}}
          f: ${{file:{tmp_path}/latin}}
        keys: ["hunter22${{env:", "hunter22${{vault:x}}", "hunter22${{HOME}}", ""]
        maybe: 12345678
        form: HUNTER22
        """
    )
    assert wrong == [
        "f.yaml:1:8: token: the environment has no variable NOT_THERE_AT_ALL",
        "f.yaml:3:6: headers.a: relative is not an absolute path",
        f"f.yaml:4:6: headers.b: the file {tmp_path}/none cannot be read: No such file or directory",
        f"f.yaml:5:6: headers.c: {tmp_path} is not a file",
        f"f.yaml:6:6: headers.d: the file {tmp_path}/empty is empty",
        f"f.yaml:7:6: headers.e: the file {tmp_path}/large is larger than 64 KiB; that is no secret",
        f"f.yaml:8:6: headers.f: the file {tmp_path}/latin is not UTF-8",
        "f.yaml:9:8: keys[0]: a reference is ${env:NAME} or ${file:PATH}; write $${ for a plain ${",
        "f.yaml:9:26: keys[1]: a reference is ${env:NAME} or ${file:PATH}; write $${ for a plain ${",
        "f.yaml:9:48: keys[2]: a reference is ${env:NAME} or ${file:PATH}; write $${ for a plain ${",
        "f.yaml:9:67: keys[3]: the text is empty",
        "f.yaml:10:8: maybe: expected text, found a number (put it in quotes)",
        "f.yaml:11:7: form: the secret does not have the form ^[a-z]+$",
    ]


def test_a_fifo_is_no_secret(tmp_path: Path) -> None:
    """A file that would never end, or never begin, is refused instead of read."""
    os.mkfifo(tmp_path / "fifo")
    _, wrong = read(f"token: ${{file:{tmp_path}/fifo}}")
    assert wrong == [f"f.yaml:1:8: token: {tmp_path}/fifo is not a file"]


def test_unresolved_references() -> None:
    """Without resolving, a reference is checked for its form and stays as it is; the files are known in both cases."""
    references = References(resolve=False)
    found, wrong = read("keys: ['${env:NOT_THERE}', 'x${file:/none}', '$${a}']", references)
    assert wrong == []
    assert found is not None
    assert found.keys == ("${env:NOT_THERE}", "x${file:/none}", "$${a}")
    assert references.files == {"/none"}


def test_other_types() -> None:
    """Sizes with units, literals, tuples of fixed length and unions of simple types."""
    found, wrong = read("{room: 64KiB, small: 2KiB, mode: 3, pair: [1, x], either: some}")
    assert wrong == []
    assert found is not None
    assert (found.room, found.small, found.mode, found.pair, found.either) == (
        65536,
        2048,
        3,
        (1, "x"),
        "some",
    )
    _, wrong = read("{room: 5 apples, small: 1GiB, mode: c, pair: [1], either: [1]}")
    assert [problem.partition(": ")[2] for problem in wrong] == [
        "room: '5 apples' is no size; write bytes as a number, or 512B, 64KiB, 10MiB, 1GB",
        "small: 1GiB is out of range; it is 1KiB to 64KiB",
        "mode: 'c' is not one of 3, a, b",
        "pair: expected a list of 2 items, found 1 items",
        "either: expected a whole number, found a list",
    ]


@given(st.integers(0, 1 << 60))
def test_sizes_round_trip(size: int) -> None:
    """What is shown can be written."""
    assert parse_size(format_size(size)) == size == parse_size(size)


@given(st.integers(0, 10**12), st.sampled_from(sorted(UNITS)))
def test_sizes_with_units(number: int, unit: str) -> None:
    """A number and a unit, with or without a space; also as a fraction."""
    assert parse_size(f"{number}{unit}") == parse_size(f" {number} {unit} ") == number * UNITS[unit]
    if unit != "B":
        assert parse_size(f"{number}.5{unit}") == number * UNITS[unit] + UNITS[unit] // 2


@pytest.mark.parametrize(
    "value", [True, None, 1.5, "", "K", "1K", "-1B", "1.5B", "1e3", "0x10", "1 0B", [], "٣B"]
)
def test_no_sizes(value: Any) -> None:
    """What is not clear is refused: 1K may be 1000 or 1024."""
    with pytest.raises(ValueError, match=r"size|unit|whole number"):
        parse_size(value)


SECRETS = st.text(st.characters(exclude_categories=("Cs",)), min_size=redact.SHORTEST, max_size=30)


@given(SECRETS, st.text(max_size=10), st.text(max_size=10))
def test_every_form_is_hidden(secret: str, before: str, after: str) -> None:
    """A secret is found in plain text, JSON of both kinds, a Python literal, a URL and base64."""
    redact.forget()
    redact.add(secret)
    forms = [
        secret,
        json.dumps(secret)[1:-1],
        msgspec.json.encode(secret).decode()[1:-1],
        repr(secret)[1:-1],
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote_plus(secret),
        base64.b64encode(secret.encode()).decode().rstrip("="),
    ]
    for form in forms:
        line = before + form + after
        assert redact.found(line)
        assert redact.found(line.encode("utf-8", "surrogatepass"))
        assert form not in redact.text(line).replace(redact.MARK, "\0") or form in before + after
    assert redact.data({before: [secret, 5, {"k": (secret, None)}]})[redact.text(before)] == [
        redact.text(secret),
        5,
        {redact.text("k"): [redact.text(secret), None]},
    ]


def test_a_longer_secret_goes_first() -> None:
    """Nothing is left of a secret that contains another one."""
    redact.add("hunter2")
    redact.add("hunter2-and-more")
    assert redact.text("hunter2-and-more hunter2") == "[redacted] [redacted]"


def test_lines_of_a_secret() -> None:
    """A key of several lines is hidden also where only one of its lines is said."""
    redact.add("-----BEGIN KEY-----\nAAAABBBBCCCC\nshort\n")
    assert redact.text("line 2 is AAAABBBBCCCC, and short") == "line 2 is [redacted], and short"


def test_what_is_too_short_is_left() -> None:
    """Hiding three characters would hide the log."""
    redact.add("abc")
    assert redact.text("abc") == "abc"
    assert not redact.found("abc")


def test_known_secrets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest are known; one that is added again is new again."""
    monkeypatch.setattr(redact, "KEPT", 10)
    for number in range(10):
        redact.add(f"secret-{number:05}-x")
    redact.add("secret-00000-x")
    redact.add("one-more-secret")
    assert redact.found("secret-00000-x")
    assert not redact.found("secret-00001-x")
    assert redact.found("secret-00002-x")
