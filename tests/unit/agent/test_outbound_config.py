"""The section `outbound`: what it takes, and what is said about what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from watchkeeper.config.load import parse
from watchkeeper.config.schema.outbound import (
    Balancing,
    BreakerSettings,
    ConsecutiveFailures,
    Destination,
    EvenFlow,
    FailureRate,
    OutboundSettings,
    Policy,
    Reach,
    RetrySettings,
    TokenRate,
)
from watchkeeper.errors import ConfigInvalidError

WHOLE = """
discovery: {shops: {type: static, instances: [{host: 10.0.0.1, port: 80}]}}
outbound:
  connect_timeout: 1s
  total_timeout: 10s
  idle_connections: 5
  deadline_header: X-Deadline
  breaker: {interval: 0, trip: {type: rate, more_than: 0.2, min_requests: 20}}
  destinations:
    shop:
      hosts: [shop.test, "shop.test:8080", "*.shop.test"]
      reach: internal
      breaker: {max_requests: 1, timeout: 30s, statuses: [503]}
      retry: {attempts: 5, methods: [GET, POST]}
      limit: {rate: 5, burst: 10}
      flow: {rate: 2}
      balance: {discovery: shops, policy: hash, hash_header: X-User}
    plain: {hosts: [plain.test], breaker: null, retry: null}
"""


def test_everything() -> None:
    """Every key, in the form that people write."""
    found = parse(WHOLE.encode(), file="f.yaml").config.outbound
    assert found == OutboundSettings(
        connect_timeout=1,
        total_timeout=10,
        idle_connections=5,
        deadline_header="X-Deadline",
        breaker=BreakerSettings(interval=0, trip=FailureRate(more_than=0.2, min_requests=20)),
        destinations={
            "shop": Destination(
                hosts=("shop.test", "shop.test:8080", "*.shop.test"),
                reach=Reach.INTERNAL,
                breaker=BreakerSettings(max_requests=1, timeout=30, statuses=(503,)),
                retry=RetrySettings(attempts=5, methods=("GET", "POST")),
                limit=TokenRate(rate=5, burst=10),
                flow=EvenFlow(rate=2),
                balance=Balancing(discovery="shops", policy=Policy.HASH, hash_header="X-User"),
            ),
            "plain": Destination(hosts=("plain.test",), breaker=None, retry=None),
        },
    )


def test_the_usual_numbers() -> None:
    """Those that are asked for by name: limits, pool, breaker, bucket."""
    settings = OutboundSettings()
    assert (settings.connect_timeout, settings.read_timeout, settings.write_timeout) == (2, 5, 5)
    assert (settings.total_timeout, settings.idle_connections, settings.idle_timeout) == (5, 10, 300)
    breaker = BreakerSettings()
    assert (breaker.max_requests, breaker.interval, breaker.timeout) == (3, 10, 5)
    assert breaker.trip == ConsecutiveFailures(more_than=3)
    assert FailureRate().more_than == 0.5
    assert (TokenRate().rate, TokenRate().burst) == (10, 50)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: {}", 'outbound.destinations.a: the key "hosts" is missing'),
        ("a: {hosts: ['http://x']}", "outbound.destinations.a.hosts[0]: 'http://x' is not HOST"),
        ("a: {hosts: ['x:0']}", "outbound.destinations.a.hosts[0]"),
        ("a: {hosts: ['x:99999']}", "outbound.destinations.a.hosts[0]"),
        ("a: {hosts: ['x y']}", "outbound.destinations.a.hosts[0]"),
        ("a: {hosts: [x]}, b: {hosts: [X]}", "outbound.destinations.b.hosts[0]: X belongs to a already"),
        ("other: {hosts: [x]}", "outbound.destinations.other: is what metrics call"),
        ("a: {hosts: [x], balance: {discovery: d}}", "balance.discovery: there is no discovery d"),
        (
            "a: {hosts: [x], balance: {discovery: shops, hash_header: X}}",
            "balance.hash_header: has a meaning only with the policy hash",
        ),
        (
            "a: {hosts: [x], retry: {methods: [get]}}",
            "retry.methods[0]: a method is written in capital letters",
        ),
        ("a: {hosts: [x], retry: {max_delay: 10ms}}", "retry.max_delay: is shorter than first_delay"),
        ("a: {hosts: [x], breaker: {trip: {type: often}}}", "breaker.trip.type: 'often' is not one of"),
        ("a: {hosts: [x], reach: near}", "reach"),
    ],
)
def test_problems(text: str, problem: str) -> None:
    """Each with its place and a sentence."""
    discovery = "discovery: {shops: {type: static, instances: []}}\n"
    with pytest.raises(ConfigInvalidError) as caught:
        parse(f"{discovery}outbound: {{destinations: {{{text}}}}}".encode(), file="f.yaml")
    assert problem in str(caught.value)


@pytest.mark.parametrize("page", ["outbound", "tracing"])
def test_the_examples_of_the_documentation(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/agent shows is a configuration that holds."""
    monkeypatch.setenv("OTLP_TOKEN", "secret")
    text = (Path(__file__).resolve().parents[3] / "docs" / "agent" / f"{page}.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```yaml\n(.+?)```", text, re.DOTALL)
    assert parse(example.encode(), file="f.yaml").config is not None


@pytest.mark.parametrize("page", ["outbound", "tracing", "load"])
def test_the_tests_that_the_documentation_names(page: str) -> None:
    """Each test in the tables of docs/agent is there."""
    root = Path(__file__).resolve().parents[3]
    text = (root / "docs" / "agent" / f"{page}.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:test_\w+|Test\w+)\b", text.partition("## Seeds")[2]))
    files = [
        *(root / "tests" / "unit" / "agent").glob("*.py"),
        *(root / "tests" / "integration").glob("*.py"),
    ]
    there = {path.stem for path in files}
    for path in files:
        source = path.read_text(encoding="utf-8")
        there |= set(re.findall(r"(?:def |class |^)(test_\w+|Test\w+)", source, re.MULTILINE))
    assert len(named) > 5
    assert named - there == set()
