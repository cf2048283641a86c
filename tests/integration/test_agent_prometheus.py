"""The agent's metrics beside Prometheus: promtool has nothing to say, Prometheus reads them, node_exporter agrees."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.agent_process import Agent
from support.debian import program
from support.etcd_server import free_port

pytestmark = pytest.mark.integration

CONFIG: dict[str, Any] = {
    "checks": {"self": {"type": "tcp", "address": "127.0.0.1:1", "period": 0.2}},
    "collectors": {name: {"interval": 0.2} for name in ("cpu", "memory", "load", "network", "disk", "filesystem")},
}  # fmt: skip
PATIENCE = 60.0


def promtool(*arguments: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    tool = program("prometheus", "usr/bin/promtool")
    return subprocess.run([tool, *arguments], input=text, capture_output=True, check=False, timeout=60)


def until(condition: Callable[[], Any], what: str) -> Any:
    """What a condition gives, as soon as it gives anything."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except OSError:
            pass
        time.sleep(0.05)
    pytest.fail(f"{what} did not come")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """With checks, all collectors and a file for the textfile collector."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "backup.prom").write_text(
        "# HELP backup_age_seconds Since the last one.\n# TYPE backup_age_seconds gauge\nbackup_age_seconds 5\n"
    )
    collectors = {
        **CONFIG["collectors"],
        "textfile": {"directories": [str(tmp_path / "files")], "interval": 0.2},
    }
    agent = Agent(tmp_path, {**CONFIG, "collectors": collectors})
    try:
        agent.wait(lambda: "watchkeeper_cpu_seconds_total" in agent.get("/metrics")[1], "the collectors")
        agent.wait(lambda: "backup_age_seconds 5" in agent.get("/metrics")[1], "the file")
        yield agent
    finally:
        agent.process.kill()
        agent.process.wait()


@pytest.fixture
def servers() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Ended with the test, one by one."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for server in started:
        server.kill()
        server.wait()


def sample(text: str, name: str, **labels: str) -> float:
    return next(
        one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    )


def by(text: str, name: str, label: str) -> dict[str, float]:
    """The values of a metric by one of its labels."""
    families = text_string_to_metric_families(text)
    return {one.labels[label]: one.value for family in families for one in family.samples if one.name == name}


def test_promtool_has_nothing_to_say(agent: Agent) -> None:
    """`promtool check metrics` is silent about everything that a real agent serves."""
    code, text = agent.get("/metrics")
    assert code == 200
    lint = promtool("check", "metrics", text=text.encode())
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, b"", b"")


def test_a_real_prometheus(agent: Agent, tmp_path: Path, servers: list[subprocess.Popen[bytes]]) -> None:
    """It takes OpenMetrics from the agent, `up` is 1, and a check's, a collector's and a file's series can be queried."""
    port = free_port()
    target = agent.url.removeprefix("http://")
    (tmp_path / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                "scrape_configs": [{"job_name": "agent", "static_configs": [{"targets": [target]}]}],
            }
        )
    )
    servers.append(
        subprocess.Popen(
            [
                program("prometheus", "usr/bin/prometheus"),
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    )

    def ask(path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    def query(expression: str) -> list[Any]:
        found: list[Any] = ask("query", query=expression)["result"]
        return found

    assert until(lambda: query("up == 1"), "a scrape")[0]["metric"]["job"] == "agent"
    until(lambda: query('sum(watchkeeper_check_runs_total{check="self"}) > 0'), "the check")
    until(lambda: query('watchkeeper_collector_success{collector="cpu"} == 1'), "the collector")
    until(lambda: query("sum(rate(watchkeeper_cpu_seconds_total[10s])) by (mode)"), "a rate")
    assert query("backup_age_seconds")[0]["value"][1] == "5"
    # In OpenMetrics, and only there, a counter's family is called without its _total.
    known = ask("targets/metadata", metric="watchkeeper_check_runs")
    assert [one["type"] for one in known] == ["counter"]
    assert not query("sum(scrape_samples_scraped) - sum(scrape_samples_post_metric_relabeling) > 0")


def test_node_exporter_agrees(agent: Agent, servers: list[subprocess.Popen[bytes]]) -> None:
    """Processor time by mode and the bytes of the loopback lie between two readings of node_exporter's; sizes are equal."""
    port = free_port()
    servers.append(
        subprocess.Popen(
            [
                program("prometheus-node-exporter", "usr/bin/prometheus-node-exporter"),
                f"--web.listen-address=127.0.0.1:{port}",
                "--no-collector.netdev.netlink",  # /proc, as the agent
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    )

    def node() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def cpu(text: str, mode: str) -> float:
        families = text_string_to_metric_families(text)
        name = "node_cpu_seconds_total"
        return sum(
            one.value
            for family in families
            for one in family.samples
            if one.name == name and one.labels["mode"] == mode
        )

    until(node, "node_exporter")
    before, asked = node(), time.time()
    last = "watchkeeper_collector_last_success_timestamp_seconds"

    def fresh() -> str:
        text = agent.get("/metrics")[1]
        return text if all(sample(text, last, collector=each) > asked + 0.5 for each in ("cpu", "network", "memory", "disk")) else ""  # fmt: skip

    ours = until(fresh, "a fresh collection")
    after = node()
    for mode in ("user", "system", "idle", "iowait", "softirq", "steal"):
        found = sample(ours, "watchkeeper_cpu_seconds_total", mode=mode)
        # Each of node_exporter's processors is rounded to a tick on its own.
        assert cpu(before, mode) - 0.1 <= found <= cpu(after, mode) + 0.1, mode
    for name, theirs, label in (
        ("watchkeeper_network_receive_bytes_total", "node_network_receive_bytes_total", "interface"),
        ("watchkeeper_disk_reads_total", "node_disk_reads_completed_total", "device"),
        ("watchkeeper_disk_written_bytes_total", "node_disk_written_bytes_total", "device"),
    ):
        low, found, high = by(before, theirs, "device"), by(ours, name, label), by(after, theirs, "device")
        for each in low.keys() & found.keys() & high.keys():
            assert low[each] <= found[each] <= high[each], (name, each)
    assert sample(ours, "watchkeeper_memory_size_bytes") == sample(after, "node_memory_MemTotal_bytes")
    assert sample(ours, "watchkeeper_filesystem_size_bytes", mount="/") == sample(
        after, "node_filesystem_size_bytes", mountpoint="/"
    )
