"""What holds, from the configuration, the OTEL_* variables and OpenTelemetry's defaults, in this order.

Rules, from OpenTelemetry's specification of environment variables and of the OTLP exporter:
    V1  A variable that is set to nothing is not set.
    V2  A value that means nothing is warned about, and is as if it were not set. Of headers and URLs no secret is said.
    V3  A variable for traces (_TRACES_) beats the one for all signals. OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is the whole URL;
        to OTEL_EXPORTER_OTLP_ENDPOINT v1/traces is added.
    V4  Lists are KEY=VALUE,KEY=VALUE with percent-encoding; times are milliseconds.
    V5  OTEL_SERVICE_NAME beats service.name of OTEL_RESOURCE_ATTRIBUTES.

OTEL_EXPORTER_OTLP_PROTOCOL: the agent's own exporter speaks http/json; the others need `tracing.sdk`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from watchkeeper._version import __version__
from watchkeeper.config.schema.common import TlsClient
from watchkeeper.config.schema.tracing import Exporter, SamplerName, TracingSettings
from watchkeeper.outbound.calls import shown

T = TypeVar("T")
PROTOCOLS = ("http/json", "http/protobuf", "grpc")


@dataclass(frozen=True)
class Effective:
    """Everything, decided. Durations are seconds."""

    enabled: bool
    exporter: Exporter
    endpoint: str
    headers: Mapping[str, str] = field(repr=False)
    tls: TlsClient
    timeout: float
    compress: bool
    protocol: str
    resource: Mapping[str, str]
    sampler: SamplerName
    ratio: float
    max_queue: int
    max_batch: int
    max_memory: int
    interval: float
    export_timeout: float


class Environment:
    """The variables; `warnings` are sentences about those that mean nothing."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.warnings: list[str] = []

    def text(self, *names: str) -> str | None:
        """The first that is set (V1)."""
        return next((value for name in names if (value := self._variables.get(name, "").strip())), None)

    def read(self, kind: Callable[[str], T], default: T, *names: str) -> T:
        """The first that is set, understood; else the default (V2)."""
        text = self.text(*names)
        if text is None:
            return default
        try:
            return kind(text)
        except ValueError:
            set_name = next(name for name in names if self._variables.get(name, "").strip())
            said = "not what it should be" if set_name.endswith("_HEADERS") else repr(shown(text))
            self.warnings.append(f"{set_name} is {said}, which means nothing; it is not used")
            return default

    def pairs(self, *names: str) -> dict[str, str]:
        """V4."""
        return self.read(_pairs, {}, *names)


def effective(settings: TracingSettings, environment: Environment) -> Effective:
    """What holds."""
    read, text, otlp = environment.read, environment.text, "OTEL_EXPORTER_OTLP"
    max_queue = settings.max_queue or read(_count, 2048, "OTEL_BSP_MAX_QUEUE_SIZE")
    max_batch = settings.max_batch or read(_count, 512, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
    protocol = read(_protocol, "http/json", f"{otlp}_TRACES_PROTOCOL", f"{otlp}_PROTOCOL")
    if protocol != "http/json" and not settings.sdk:
        environment.warnings.append(f"the protocol {protocol} needs tracing.sdk; spans are sent as http/json")
    headers = environment.pairs(f"{otlp}_TRACES_HEADERS", f"{otlp}_HEADERS")
    compress = settings.compress
    if compress is None:
        compress = read(_gzip, False, f"{otlp}_TRACES_COMPRESSION", f"{otlp}_COMPRESSION")
    ratio = settings.ratio
    return Effective(
        enabled=settings.enabled and (text("OTEL_SDK_DISABLED") or "").lower() != "true",
        exporter=settings.exporter or read(Exporter, Exporter.OTLP, "OTEL_TRACES_EXPORTER"),
        endpoint=_endpoint(settings, environment),
        headers={**headers, **settings.headers},
        tls=settings.tls or _tls(environment),
        timeout=settings.timeout or read(_milliseconds, 10.0, f"{otlp}_TRACES_TIMEOUT", f"{otlp}_TIMEOUT"),
        compress=compress,
        protocol=protocol,
        resource=_resource(settings, environment),
        sampler=settings.sampler or read(SamplerName, SamplerName.PARENT_ALWAYS_ON, "OTEL_TRACES_SAMPLER"),
        ratio=read(_share, 1.0, "OTEL_TRACES_SAMPLER_ARG") if ratio is None else ratio,
        max_queue=max_queue,
        max_batch=min(max_batch, max_queue),
        max_memory=settings.max_memory,
        interval=settings.interval or read(_milliseconds, 5.0, "OTEL_BSP_SCHEDULE_DELAY"),
        export_timeout=settings.export_timeout or read(_milliseconds, 30.0, "OTEL_BSP_EXPORT_TIMEOUT"),
    )


def _endpoint(settings: TracingSettings, environment: Environment) -> str:
    """V3."""
    if settings.endpoint is not None:
        whole = bool(urlsplit(settings.endpoint).path.strip("/"))
        return settings.endpoint if whole else f"{settings.endpoint.rstrip('/')}/v1/traces"
    own = environment.read(_url, "", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    base = environment.read(_url, "http://localhost:4318", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return own or f"{base.rstrip('/')}/v1/traces"


def _tls(environment: Environment) -> TlsClient:
    def file(name: str) -> str | None:
        return environment.text(f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}")

    return TlsClient(
        ca_file=file("CERTIFICATE"), cert_file=file("CLIENT_CERTIFICATE"), key_file=file("CLIENT_KEY")
    )


def _resource(settings: TracingSettings, environment: Environment) -> dict[str, str]:
    name = settings.service_name or environment.text("OTEL_SERVICE_NAME")
    return {
        "service.name": "watchkeeper",
        "service.version": __version__,
        "telemetry.sdk.name": "watchkeeper",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__,
        **environment.pairs("OTEL_RESOURCE_ATTRIBUTES"),
        **settings.resource,
        **({"service.name": name} if name else {}),  # V5
    }


def _pairs(text: str) -> dict[str, str]:
    found = {}
    for part in filter(str.strip, text.split(",")):
        key, separator, value = part.partition("=")
        if not separator or not key.strip():
            raise ValueError(part)
        found[unquote(key.strip())] = unquote(value.strip())
    return found


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1_000_000:
        raise ValueError(text)
    return number


def _milliseconds(text: str) -> float:
    seconds = float(text) / 1000
    if not 0.001 <= seconds <= 86_400:
        raise ValueError(text)
    return seconds


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError(text)
    return share


def _protocol(text: str) -> str:
    if text not in PROTOCOLS:
        raise ValueError(text)
    return text


def _gzip(text: str) -> bool:
    if text not in ("gzip", "none"):
        raise ValueError(text)
    return text == "gzip"


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(text)
    return text
