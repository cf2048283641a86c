"""The schema that is printed: it is one, it says what the decoder does, and the pages made from it are not old."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from support import schema_docs
from watchkeeper import redact
from watchkeeper.config import rules
from watchkeeper.config.decode import MARKED, Decoder, decode
from watchkeeper.config.descriptions import DESCRIPTIONS
from watchkeeper.config.document import Document
from watchkeeper.config.json_schema import DIALECT, as_written, default_of, json_schema
from watchkeeper.config.load import parse
from watchkeeper.config.markdown import markdown
from watchkeeper.config.model import Config
from watchkeeper.config.references import References
from watchkeeper.config.schema.common import DURATION, SECRET, SIZE
from watchkeeper.config.sections import delivered_sections, named_sections

EXAMPLES = Path(__file__).resolve().parents[3] / "agent_src" / "examples"
FIX = "run tests/support/schema_docs.py"


@cache
def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def decoded(data: Any) -> tuple[Config | None, list[str]]:
    """As the agent would take it, without looking for secrets."""
    document = Document(data=data)
    config = decode(document, Config, References(resolve=False))
    return config, [problem.render("f") for problem in document.problems]


def test_it_is_a_schema() -> None:
    """Draft 2020-12; plain data; each struct once, with its own name."""
    schema = json_schema()
    assert schema["$schema"] == DIALECT
    validator()
    assert json.loads(json.dumps(schema)) == schema
    assert set(schema["$defs"]["Config"]["properties"]) == {
        field.name for field in msgspec.structs.fields(Config)
    }


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_valid(example: Path) -> None:
    """What people copy is accepted by their editor as well."""
    validator().validate(yaml.safe_load(example.read_text()))


def test_what_is_said_of_a_field() -> None:
    """Its meaning, its unit, its default as it is written, its limits."""
    source = json_schema()["$defs"]["HttpSource"]["properties"]
    assert source["timeout"]["default"] == "10s"
    assert source["timeout"]["x-unit"] == "seconds"
    assert source["timeout"]["description"].startswith("For a whole answer")
    assert source["size_limit"]["default"] == "4MiB"
    assert source["size_limit"]["anyOf"][0]["maximum"] == 64 << 20
    assert source["type"] == {"const": "http"}
    assert {"type": "string", "minLength": 1, "x-secret": True} in source["token"]["anyOf"]
    assert source["precedence"]["description"]


def structs(kind: inspect.Type, seen: dict[type, inspect.StructType]) -> dict[type, inspect.StructType]:
    """Every struct of the schema."""
    if isinstance(kind, inspect.StructType):
        if kind.cls in seen:
            return seen
        seen[kind.cls] = kind
        for field in kind.fields:
            structs(field.type, seen)
    for name in ("types", "item_types"):
        for each in getattr(kind, name, ()):
            structs(each, seen)
    for name in ("type", "item_type", "key_type", "value_type"):
        if hasattr(kind, name):
            structs(getattr(kind, name), seen)
    return seen


STRUCTS = structs(inspect.type_info(Config), {})


def test_defaults_hold() -> None:
    """Every default, as the schema writes it, is accepted by the schema and read as that default."""
    for cls, kind in STRUCTS.items():
        for field in kind.fields:
            shown = default_of(field)
            if shown is msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT:
                continue
            document = Document(data=shown)
            value = Decoder(document, References(resolve=False)).value(field.type, shown, ())
            assert (value, document.problems) == (field.default, []), (cls, field.name)


# --- data that fits the types -----------------------------------------------------------------------------------------


MADE: dict[int, tuple[inspect.Type, st.SearchStrategy[Any]]] = {}


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Data that a type allows; made once per type, which is kept so that its number is not used again."""
    if id(kind) not in MADE:
        MADE[id(kind)] = (kind, st.deferred(lambda: make(kind)))
    return MADE[id(kind)][1]


def make(kind: inspect.Type) -> st.SearchStrategy[Any]:
    found: st.SearchStrategy[Any]
    if isinstance(kind, inspect.Metadata):
        found = marked(kind)
    elif isinstance(kind, inspect.StructType):
        found = struct(kind)
    elif isinstance(kind, inspect.UnionType):
        found = st.one_of([values(each) for each in kind.types])
    elif isinstance(kind, inspect.DictType):
        low = kind.min_length or 0
        found = st.dictionaries(
            values(kind.key_type), values(kind.value_type), min_size=low, max_size=max(2, low)
        )
    elif isinstance(kind, inspect.TupleType):
        found = st.tuples(*map(values, kind.item_types)).map(list)
    elif hasattr(kind, "item_type"):
        low = getattr(kind, "min_length", None) or 0
        found = st.lists(values(kind.item_type), min_size=low, max_size=low + 2)
    else:
        found = SIMPLE[type(kind)](kind)
    return found


def marked(kind: inspect.Metadata) -> st.SearchStrategy[Any]:
    """With a unit or without; a secret, or a reference to one."""
    if kind.extra == DURATION:
        return numbers(kind.type).map(lambda number: as_written(kind, number)) | numbers(kind.type)
    if kind.extra == SIZE:
        return whole(kind.type).map(lambda number: as_written(kind, number)) | whole(kind.type)
    if kind.extra == SECRET:
        return st.sampled_from(["s3cret-value", "${env:NAME}", "x ${file:/x} $${"])
    return values(kind.type)


def struct(kind: inspect.StructType) -> st.SearchStrategy[Any]:
    needed = {field.encode_name: values(field.type) for field in kind.fields if field.required}
    if kind.tag_field:
        needed[kind.tag_field] = st.just(kind.tag)
    others = {field.encode_name: values(field.type) for field in kind.fields if not field.required}
    few = st.lists(st.sampled_from(sorted(others)), max_size=3, unique=True) if others else st.just([])
    return few.flatmap(lambda names: st.fixed_dictionaries(needed | {name: others[name] for name in names}))


def limits(kind: Any, low: float, high: float) -> tuple[float, float]:
    return (low if kind.ge is None else kind.ge, high if kind.le is None else kind.le)


def numbers(kind: Any) -> st.SearchStrategy[float]:
    return st.floats(*limits(kind, -1e6, 1e6), exclude_min=kind.ge is None and kind.gt is not None).filter(
        lambda number: (kind.gt is None or number > kind.gt) and (kind.lt is None or number < kind.lt)
    )


def whole(kind: Any) -> st.SearchStrategy[int]:
    low, high = limits(kind, -(10**6), 10**6)
    return st.integers(int(low), int(high)).filter(lambda number: kind.gt is None or number > kind.gt)


def text(kind: inspect.StrType) -> st.SearchStrategy[str]:
    if kind.pattern:
        return st.from_regex(kind.pattern, fullmatch=True).filter(lambda word: "\n" not in word)
    letters = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
    return st.text(letters, min_size=kind.min_length or 0, max_size=(kind.min_length or 0) + 6)


SIMPLE: dict[type, Any] = {
    inspect.StrType: text,
    inspect.IntType: whole,
    inspect.FloatType: numbers,
    inspect.BoolType: lambda _kind: st.booleans(),
    inspect.EnumType: lambda kind: st.sampled_from([member.value for member in kind.cls]),
    inspect.LiteralType: lambda kind: st.sampled_from(kind.values),
    inspect.AnyType: lambda _kind: st.none() | st.integers() | st.text(max_size=3),
    inspect.NoneType: lambda _kind: st.none(),
}


@pytest.fixture
def no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The types alone."""
    for cls in list(rules.RULES):
        monkeypatch.setitem(rules.RULES, cls, rules.no_rules)


CONFIGS = st.deferred(lambda: struct(STRUCTS[Config]))


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(CONFIGS)
def test_what_fits_the_types_is_accepted_by_both(no_rules: None, data: Any) -> None:
    """Generated configurations of every section: the decoder takes them, and so does the schema."""
    _, problems = decoded(data)
    assert problems == []
    validator().validate(data)


WRONG = [
    None,
    True,
    -1,
    1.5,
    10**20,
    "",
    "x",
    "5 apples",
    [],
    ["x"],
    {},
    {"x": 1},
    "no",
    "64KiB",
    "5s",
    "99999h",
]


def spoil(data: Any, chance: random.Random) -> Any:
    """One place changed: another value, a key more, or a key less."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            walk(node[key])

    walk(data)
    if not places:
        return chance.choice(WRONG[1:])  # an empty file is an empty configuration, and nothing for a schema
    node, key = chance.choice(places)
    what = chance.randrange(3)
    if what == 0 or isinstance(node, list):
        node[key] = chance.choice(WRONG)
    elif what == 1:
        node["x-new"] = chance.choice(WRONG)
    else:
        del node[key]
    return data


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(CONFIGS, st.integers(0, 2**32))
def test_the_schema_refuses_nothing_that_the_decoder_takes(no_rules: None, data: Any, seed: int) -> None:
    """With one place spoiled: what the decoder takes the schema takes.

    The other way round they differ only about what the schema cannot say: limits of text with a unit, references.
    """
    spoiled = spoil(data, random.Random(seed))
    _, problems = decoded(spoiled)
    errors = [error.message for error in validator().iter_errors(spoiled)]
    if not problems:
        assert errors == []
    elif not errors:
        assert any(
            "out of range" in each or "reference" in each or "whole number" in each for each in problems
        ), problems


def test_every_kind_of_type_is_known() -> None:
    """A new kind of type in the schema has to be known to decoder, schema and page."""
    markdown()
    json_schema()
    assert {id(mark) for mark, _ in MARKED} == {id(DURATION), id(SIZE), id(SECRET)}
    assert set(delivered_sections()) | {"sources"} == set(named_sections())


# --- what is made from it ---------------------------------------------------------------------------------------------


def test_descriptions_are_those_of_the_docstrings() -> None:
    """The agent's own copy of what the schema's docstrings say."""
    assert schema_docs.descriptions() == DESCRIPTIONS, FIX


def test_the_page_is_not_old() -> None:
    """docs/agent/configuration.md."""
    assert schema_docs.PAGE.read_text(encoding="utf-8") == markdown(), FIX


def secrets_in(data: Any, kind: inspect.Type, made: list[str]) -> Any:
    """Data with a secret in every place that takes one."""
    if isinstance(kind, inspect.Metadata) and kind.extra == SECRET:
        made.append(f"hunter22-{len(made):03}-secret")
        return made[-1]
    if isinstance(kind, inspect.Metadata):
        return secrets_in(data, kind.type, made)
    if isinstance(kind, inspect.UnionType):
        each = next((each for each in kind.types if has_secret(each)), None)
        return secrets_in(data, each, made) if each is not None else data
    if isinstance(kind, inspect.DictType):
        return {"Some-Name": secrets_in(None, kind.value_type, made)}
    if hasattr(kind, "item_type"):
        return [secrets_in(None, kind.item_type, made)]
    return data


def has_secret(kind: inspect.Type) -> bool:
    """Whether a value of a type may be a secret itself, or a mapping or list of them."""
    if isinstance(kind, inspect.Metadata):
        return kind.extra == SECRET or has_secret(kind.type)
    inner = [
        *getattr(kind, "types", ()),
        *(getattr(kind, name) for name in ("item_type", "value_type") if hasattr(kind, name)),
    ]
    return any(has_secret(each) for each in inner)


@pytest.mark.parametrize(
    "cls",
    [cls for cls, kind in STRUCTS.items() if any(has_secret(field.type) for field in kind.fields)],
    ids=lambda cls: cls.__name__,
)
def test_no_secret_field_is_said(cls: type) -> None:
    """Each field that takes a secret: whatever else is wrong with the struct, the secret is in no problem, and is known."""
    redact.forget()
    made: list[str] = []
    data: dict[str, Any] = {"no such key": 5}
    for field in STRUCTS[cls].fields:
        if has_secret(field.type):
            data[field.encode_name] = secrets_in(None, field.type, made)
    document = Document(data=data)
    decode(document, cls)
    assert made
    assert document.problems
    said = "\n".join(problem.render("f") for problem in document.problems)
    assert "hunter22" not in said
    assert all(redact.found(secret) for secret in made)
    redact.forget()


def test_fields_that_look_secret_are_secret() -> None:
    """A field called like a secret is one; a name that only speaks of one is listed here."""
    innocent = {
        "token_file",
        "password_file",
        "tokens",
        "key",
        "key_file",
        "secrets",
        "token_bucket",
        "burst",
    }
    for cls, kind in STRUCTS.items():
        for field in kind.fields:
            if (
                any(word in field.name for word in ("token", "password", "secret", "credential"))
                and field.name not in innocent
            ):
                assert has_secret(field.type) or "file" in field.name, (cls.__name__, field.name)


def test_a_generated_configuration_survives_its_formats() -> None:
    """Printed defaults of the whole configuration are one more example: they are read as the empty configuration."""
    shown = {field.encode_name: default_of(field) for field in STRUCTS[Config].fields}
    assert parse(json.dumps(shown).encode(), file="f.json").config == Config()
