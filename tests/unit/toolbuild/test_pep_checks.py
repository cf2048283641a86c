"""The quick patterns accept nothing that `packaging` would refuse, and the messages say what is expected."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ferryman_build import pep_checks
from ferryman_build.toml_positions import KeyPath
from ferryman_build.validate import Mistake

Check = Callable[[str, KeyPath], Iterator[Mistake]]


@given(st.from_regex(pep_checks.PLAIN_VERSION, fullmatch=True))
def test_plain_versions_are_versions(text: str) -> None:
    """The short cut past `packaging` is never wrong about a version."""
    Version(text)


@given(st.from_regex(pep_checks.PLAIN_SPECIFIER, fullmatch=True))
def test_plain_specifiers_are_specifiers(text: str) -> None:
    """The short cut past `packaging` is never wrong about a range."""
    SpecifierSet(text)


@given(st.from_regex(pep_checks.PLAIN_REQUIREMENT, fullmatch=True))
def test_plain_requirements_are_requirements(text: str) -> None:
    """The short cut past `packaging` is never wrong about a dependency."""
    Requirement(text)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (pep_checks.version_mistakes, "1!2.0+local.1"),
        (pep_checks.version_mistakes, "v1.0-beta"),
        (pep_checks.specifier_mistakes, ""),
        (pep_checks.specifier_mistakes, "==3.11.*"),
        (pep_checks.specifier_mistakes, ">=3.11, !=3.12.1, <4"),
        (pep_checks.requirement_mistakes, "a[b,c]>=1; python_version < '3.12' and sys_platform == \"win32\""),
        (pep_checks.requirement_mistakes, "a (>=1)"),
        (pep_checks.requirement_mistakes, "a; (os_name == 'nt' or os_name == 'posix') and extra == 'x'"),
        (pep_checks.name_mistakes, "a"),
        (pep_checks.name_mistakes, "A.b_c-1"),
    ],
)
def test_unusual_but_right(check: Check, text: str) -> None:
    """What the standards allow is no mistake, however rare."""
    assert list(check(text, ())) == []


@pytest.mark.parametrize(
    ("check", "text", "says"),
    [
        (pep_checks.version_mistakes, "", "missing"),
        (pep_checks.version_mistakes, "1.x", "expected the like of"),
        (pep_checks.specifier_mistakes, "3.11", 'did you mean ">=3.11"?'),
        (pep_checks.specifier_mistakes, "~=3", "not a version range"),
        (pep_checks.specifier_mistakes, "three", "expected the like of"),
        (pep_checks.requirement_mistakes, "a b", "PEP 508"),
        (pep_checks.requirement_mistakes, "", "PEP 508"),
        (pep_checks.requirement_mistakes, "a @ https://example.com/a-1.0-py3-none-any.whl", "UV_FIND_LINKS"),
        (pep_checks.requirement_mistakes, "a[x] @ git+https://example.com/a", "UV_FIND_LINKS"),
        (pep_checks.requirement_mistakes, "a>=x", "PEP 508"),
        (pep_checks.name_mistakes, "", "every project has a name"),
        (pep_checks.name_mistakes, "-a", "letters"),
        (pep_checks.name_mistakes, "naïve", "ASCII"),
    ],
)
def test_wrong_forms_are_said(check: Check, text: str, says: str) -> None:
    """One mistake, with the form that is expected."""
    (mistake,) = check(text, ("k",))
    assert says in mistake.message
    assert mistake.path == ("k",)


@pytest.mark.parametrize(
    ("requires", "python", "allowed"),
    [
        (">=3.11", "3.11", True),
        (">=3.11", "3.10", False),
        (">=3.9", "3.10", True),  # as numbers, not as text
        (">=3.12.4", "3.12", True),
        ("<3.12", "3.12", False),
        ("==3.11.*", "3.11", True),
        ("==3.11.*", "3.12", False),
        ("", "3.5", True),
        (">=3.11", "/opt/python/bin/python3.9", True),
        (">=3.11", "", True),
        ("nonsense", "3.5", True),
    ],
)
def test_python_and_requires_python(requires: str, python: str, allowed: bool) -> None:
    """A minor version is allowed when one of its patch releases is; a path and nothing are not judged."""
    assert pep_checks.allows_python(requires, python) is allowed


@pytest.mark.parametrize(("name", "plain"), [("A_b.-c", "a-b-c"), ("x", "x")])
def test_normalized(name: str, plain: str) -> None:
    """PEP 503's one spelling."""
    assert pep_checks.normalized(name) == plain
