"""What check-config says about checks: every rule between fields, and the sentence that it gives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from watchkeeper.checks import PROBES
from watchkeeper.config.load import parse
from watchkeeper.config.rules import RULES
from watchkeeper.config.schema.checks import Action, AnyCheck, HttpCheck, Role
from watchkeeper.errors import ConfigInvalidError

GOOD: dict[str, dict[str, Any]] = {
    "http": {"url": "http://h/"},
    "tcp": {"address": "h:1"},
    "exec": {"command": ["true"]},
    "process": {"name": "p"},
    "file": {"path": "/f"},
    "disk": {"path": "/", "max_used_percent": 90},
    "memory": {"max_used_percent": 90},
    "certificate": {"file": "/f"},
    "dns": {"name": "example.com"},
    "icmp": {"host": "h"},
    "grpc": {"address": "h:1"},
}


def problems(kind: str, fields: dict[str, Any], service: bool = False) -> list[str]:
    """What is wrong, without the place in the file."""
    check = {"type": kind} | GOOD[kind] | fields
    check = {name: value for name, value in check.items() if value is not None}
    config = (
        {"services": {"s": {"command": ["x"], "checks": {"c": check}}}}
        if service
        else {"checks": {"c": check}}
    )
    try:
        parse(json.dumps(config).encode(), file="f.yaml")
    except ConfigInvalidError as error:
        return [problem.split(": ", 1)[1].removeprefix("services.s.") for problem in error.problems]
    return []


@pytest.mark.parametrize("kind", GOOD)
def test_the_least_that_a_check_needs(kind: str) -> None:
    """Each kind, with nothing but what it cannot do without."""
    assert problems(kind, {}) == []


def test_every_kind_has_a_probe_and_rules() -> None:
    """Nothing is accepted that cannot be looked at."""
    kinds = set(AnyCheck.__args__)  # type: ignore[attr-defined]
    assert set(PROBES) == kinds
    assert kinds <= set(RULES)
    assert {kind.__struct_config__.tag for kind in kinds} == set(GOOD)


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("tcp", {"role": "liveness"}, "role: a check outside a service has the role readiness"),
        ("tcp", {"action": "restart"}, "action: a readiness check only reports"),
        (
            "tcp",
            {"failure_threshold": 3, "failure_window": 2},
            "failure_window: 3 failures do not fit into 2 outcomes",
        ),
        ("tcp", {"failure_window": 65}, "failure_window: 65 is out of range"),
        ("tcp", {"jitter": 2}, "jitter: 2"),
        ("http", {"url": "ftp://h/"}, "url: 'ftp://h/' is not http://HOST/"),
        ("http", {"url": "http://h:0/"}, "url: port 0"),
        ("http", {"url": "http://h:x/"}, "url: 'http://h:x/' is no URL"),
        ("http", {"url": "http://u:p@h/"}, "url: a user and a password go into basic_auth"),
        ("http", {"url": "http://h/a b"}, "url: a URL has no spaces"),
        ("http", {"url": "http://b\u00fc" + "x" * 70 + "/"}, "is no name"),
        ("http", {"headers": {"A\r\nB": "c"}}, "a header has a name without a colon"),
        ("http", {"headers": {"Authorization": "x"}, "bearer_token": "t"}, "are two ways to say who asks"),
        ("http", {"bearer_token": "a\nb"}, "bearer_token: a token is printable ASCII"),
        ("http", {"basic_auth": {"username": "u", "password": "p"}, "bearer_token": "t"}, "are two ways"),
        ("http", {"status": [99]}, "status"),
        ("http", {"status": ["2xx"]}, "status"),
        ("http", {"status": ["299-200"]}, "status[0]: '299-200' ends before it begins"),
        ("http", {"expect_body": "("}, "expect_body: '(' is no regular expression"),
        ("http", {"expect_headers": {"A": "["}}, "expect_headers.A: '[' is no regular expression"),
        ("http", {"expect_json": [{"path": "a..b"}]}, "expect_json[0].path: 'a..b' is no path"),
        (
            "http",
            {"certificate_days": 3},
            "url: certificate_days and certificate_warn_days need an https URL",
        ),
        ("http", {"tls": {"cert_file": "/c"}}, "tls: cert_file and key_file belong together"),
        ("tcp", {"address": "h:0"}, "address: port 0"),
        ("tcp", {"address": "unix:"}, "address: unix: is followed by"),
        ("tcp", {"expect": "("}, "expect: '('"),
        ("exec", {"environment": {"A=B": "c"}}, "environment"),
        ("process", {"name": None}, "say which processes are meant"),
        ("process", {"maximum": 0}, "maximum: the maximum is less"),
        ("process", {"cmdline": "["}, "cmdline: '['"),
        ("file", {"exists": False, "max_age": 1}, "max_age: a file that must not be there"),
        ("file", {"min_size": 2, "max_size": 1}, "max_size: max_size is less than min_size"),
        ("file", {"sha256": "abc"}, "sha256"),
        ("file", {"mode": "9"}, "mode"),
        ("disk", {"max_used_percent": None}, "there is nothing to hold it to: give it one of"),
        ("memory", {"max_used_percent": None}, "there is nothing to hold it to"),
        ("certificate", {"file": None}, "name either a file or the address"),
        ("certificate", {"address": "h:1"}, "name either a file or the address"),
        ("dns", {"name": "a..b"}, "name: 'a..b' is no name"),
        ("dns", {"name": "\u00e4.example"}, "xn--"),
        ("dns", {"exact": True}, "exact: exact needs expect"),
        ("dns", {"server": "h"}, "server: 'h' is not HOST:PORT"),
        ("icmp", {"count": 20, "timeout": 1}, "timeout: 20 requests"),
        ("grpc", {"address": "h"}, "address: 'h' is not HOST:PORT"),
    ],
)
def test_rules(kind: str, fields: dict[str, Any], said: str) -> None:
    """One problem, at the key that has to be changed."""
    found = problems(kind, fields)
    assert len(found) == 1, found
    assert said in found[0]


@pytest.mark.parametrize("role", ["liveness", "startup"])
def test_roles_that_act(role: str) -> None:
    """In a service, with one success, and with any action."""
    assert problems("tcp", {"role": role, "action": "log"}, service=True) == []
    [found] = problems("tcp", {"role": role, "success_threshold": 2}, service=True)
    assert found.endswith(f"a {role} check takes only 1")


def test_the_action_in_force() -> None:
    """What restarts by itself, and what only does when told to."""
    assert HttpCheck(url="http://h/", role=Role.LIVENESS).effect is Action.RESTART
    assert HttpCheck(url="http://h/", role=Role.STARTUP, action=Action.NONE).effect is Action.NONE
    assert HttpCheck(url="http://h/").effect is Action.NONE


def test_secrets_are_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password comes from the environment or a file, and is no part of any message."""
    monkeypatch.setenv("CHECK_PASSWORD", "s3cret")
    text = b"""checks: {c: {type: http, url: 'http://h/', basic_auth: {username: u, password: '${env:CHECK_PASSWORD}'}}}"""
    check = parse(text, file="f.yaml").config.checks["c"]
    assert isinstance(check, HttpCheck)
    assert check.basic_auth is not None
    assert check.basic_auth.password == "s3cret"
