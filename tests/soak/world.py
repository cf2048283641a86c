"""Everything around the agent: its configuration from six places, the servers of all kinds, and what is wanted in the end."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from soak import cast
from soak.agent import Agent
from soak.cast import Manner, sleeper
from soak.machine import Clock, Disk
from soak.servers import Centre, Certificates, Loop, Sinks, Target
from support.consul_server import ConsulServer
from support.etcd_server import Etcd
from support.kubernetes_server import KubernetesServer

PLAIN, SECURE = 13, 2


class World:
    """One soak's surroundings. `wanted` is what has to run once nothing is wrong any more."""

    def __init__(self, folder: Path, executable: str | None) -> None:
        self.folder, self.root = folder, os.geteuid() == 0
        self.mark = secrets.token_hex(8)
        self.secret = "hunter22" + secrets.token_hex(12)
        self._versions = itertools.count(1000)
        self.disk, self.clock = Disk(folder / "disk"), Clock(folder)
        self.fragments = folder / "conf.d"
        self.fragments.mkdir()
        self._serve()
        environment = {
            **self.clock.environment,
            "WATCHKEEPER_SOAK": self.mark,
            "SOAK_WORD": self.secret,
            "NODE_NAME": "here",
        }
        self.agent = Agent(folder, self.disk.folder / "state", executable, environment)
        self.base = cast.services(
            str(self.disk.folder), "${env:SOAK_WORD}", [each.port for each in self.targets]
        )
        self.delivered: dict[str, dict[str, Manner]] = {}
        self.settle()
        self.agent.write(self.configuration())

    def _serve(self) -> None:
        self.loop = Loop()
        self.targets = [Target() for _ in range(PLAIN)]
        self.secure = [Target() for _ in range(SECURE)]
        self.certificates = Certificates(self.folder)
        self.sinks, self.centre = Sinks(), Centre(self.secret)
        for target in self.targets:
            self.loop.run(target.start())
        for target in self.secure:
            self.loop.run(target.start(self.certificates.context))
        self.loop.run(self.sinks.start())
        self.loop.run(self.centre.start())
        self.consul, self.kubernetes = ConsulServer(token=self.secret), KubernetesServer(token=self.secret)
        self.consul.start()
        self.kubernetes.start()
        self.etcd = self._etcd()

    def _etcd(self) -> Etcd | None:
        """Where Debian's package can be had; support.debian skips, as in a test, with what is none of Exception's."""
        if shutil.which("apt-get") is None:
            return None
        try:
            etcd = Etcd(self.folder)
            etcd.start()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return None
        return etcd

    # -- what is configured ---------------------------------------------------------------------------------------------------

    def configuration(self, **more: Any) -> dict[str, Any]:
        """The file that the agent is started with."""
        server = {"url": self.consul.url, "token": "${env:SOAK_WORD}"}
        sources: dict[str, Any] = {
            "folder": {
                "type": "file",
                "path": str(self.fragments),
                "interval": "200ms",
                "allow_missing": True,
            },
            "http": {
                "type": "http",
                "url": self.centre.url,
                "interval": "1s",
                "token": "${env:SOAK_WORD}",
                "timeout": "4s",
            },
            "consul": {"type": "consul", "prefix": "soak/", "server": server, "churn_interval": "1s"},
            "cluster": {
                "type": "kubernetes",
                "url": self.kubernetes.url,
                "token": "${env:SOAK_WORD}",
                "inactivity": "5s",
            },
        }
        if self.etcd is not None:
            server_of_etcd = {"urls": [self.etcd.url], "timeout": "2s"}
            sources["etcd"] = {
                "type": "etcd",
                "prefix": "soak/",
                "server": server_of_etcd,
                "churn_interval": "1s",
            }
        posted = {"headers": {"X-Word": "${env:SOAK_WORD}"}, "timeout": "3s"}
        return {
            "agent": {"reload_interval": "300ms", "drain_timeout": "20s"},
            "services": {name: manner.spec for name, manner in self.base.items()},
            "checks": self.checks(),
            "sources": sources,
            "outputs": {
                "disk": {"type": "file", "path": str(self.disk.folder / "logs" / "agent.json"), "max_size": "1MiB", "keep": 3},
                "otlp": {"type": "otlp", "url": self.sinks.url, "spool": "4MiB", "level": "info", **posted},
                "loki": {"type": "loki", "url": self.sinks.url, "level": "warning", **posted},
            },
            "tracing": {"enabled": True, "endpoint": self.sinks.url, "ratio": 0.05, "sampler": "traceidratio"},
            "jobs": {
                "good": {"command": ["true"], "every": "2s"},
                "bad": {"command": ["false"], "every": "3s"},
                "long": {"command": ["sleep", "86400"], "every": "4s", "timeout": "1s", "grace": "500ms"},
            },
            "registrations": {
                "web": {"type": "consul", "service": "calm-0", "address": "127.0.0.1", "port": 8000, "server": server,
                        "ttl": "6s", "retry_maximum": "2s"},
                "targets": {"type": "file", "service": "calm-1", "address": "127.0.0.1", "port": 8001,
                            "path": str(self.folder / "targets.json"), "look_interval": "1s"},
            },
            "discovery": {"web": {"type": "consul", "service": "calm-0", "server": server, "retry_maximum": "2s"}},
            "alerts": {
                "failing": {"type": "threshold", "metric": "watchkeeper_check_success", "op": "<", "threshold": 1, "for": "2s"},
                "restarts": {"type": "rate", "metric": "watchkeeper_service_restarts_total", "threshold": 0.1, "window": "30s"},
            },
            "alerting": {"interval": "2s", "webhooks": {"sink": {"url": f"{self.sinks.url}/alerts",
                                                                 "authorization": "Bearer ${env:SOAK_WORD}"}}},
            "collectors": {name: {"interval": "3s"} for name in ("cpu", "memory", "filesystem", "disk", "network", "processes")},
            **more,
        }  # fmt: skip

    def checks(self) -> dict[str, dict[str, Any]]:
        ports, secure = [each.port for each in self.targets], [each.port for each in self.secure]
        found = cast.checks(ports, secure, str(self.certificates.authority.ca), str(self.folder))
        return (
            found
            if self.root
            else {name: spec for name, spec in found.items() if not name.startswith("ping")}
        )

    def wanted(self) -> dict[str, Manner]:
        """Every service that has to be there, from wherever it comes."""
        found = dict(self.base)
        for delivered in self.delivered.values():
            found |= delivered
        return found

    # -- sources ----------------------------------------------------------------------------------------------------------------

    def document(self, source: str, count: int = 2) -> dict[str, Any]:
        """A new document of a source, whose services are wanted from now on."""
        manners = {f"{source}-{number}": sleeper(str(next(self._versions))) for number in range(count)}
        self.delivered[source] = manners
        return {"services": {name: manner.spec for name, manner in manners.items()}}

    def put_folder(self) -> None:
        write(self.fragments / "more.json", self.document("folder", 3))

    def put_http(self) -> None:
        self.centre.body = json.dumps(self.document("http")).encode()

    def put_consul(self) -> None:
        self.consul.put("soak/more.json", json.dumps(self.document("consul")))

    def put_etcd(self) -> None:
        if self.etcd is not None and self.etcd.process is not None:
            self.etcd.put("soak/more.json", json.dumps(self.document("etcd")))

    def put_cluster(self) -> None:
        address = f"127.0.0.1:{self.targets[2].port}"
        self.kubernetes.apply(
            "soak", {"type": "tcp", "address": address, "period": f"{next(self._versions)}ms"}
        )

    def settle(self) -> None:
        """End every fault, and let every source say something new."""
        for target in (*self.targets, *self.secure):
            target.mode = "good"
        self.loop.call(lambda: self.certificates.swap("renewed"))
        self.sinks.mode = self.centre.mode = "good"
        self.consul.break_down()
        self.kubernetes.break_down()
        self.disk.free()
        self.clock.jump(0)
        for name in ("bomb.json", "wrong.json", "churn.json"):
            (self.fragments / name).unlink(missing_ok=True)
        if self.etcd is not None and self.etcd.process is None:
            self.etcd.start()
        for put in (self.put_folder, self.put_http, self.put_consul, self.put_etcd, self.put_cluster):
            put()

    def close(self) -> None:
        for server in (self.consul, self.kubernetes):
            server.stop()
        if self.etcd is not None:
            self.etcd.stop()
        self.disk.close()


def write(path: Path, content: dict[str, Any] | bytes) -> None:
    """As an editor does: beside its place, then into it."""
    partial = path.with_name(f".{path.name}.{threading.get_ident()}")
    partial.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    partial.replace(path)


def thousands(world: World, seconds: float) -> int:
    """Rewrite a fragment as often as this machine can, for so long; how often that was."""
    document = json.dumps({"services": {}}).encode()
    path, until, count = world.fragments / "churn.json", time.monotonic() + seconds, 0
    while time.monotonic() < until:
        path.write_bytes(document[: count % len(document)] if count % 3 else document)
        count += 1
    with contextlib.suppress(OSError):
        write(path, document)
    return count
