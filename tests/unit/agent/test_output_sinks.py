"""The kinds of outputs, against real files and real sockets of this machine."""

from __future__ import annotations

import http.server
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from watchkeeper.config.load import parse
from watchkeeper.config.schema.common import TlsClient
from watchkeeper.config.schema.outputs import LokiOutput, OtlpOutput, SyslogOutput, Transport
from watchkeeper.errors import ConfigInvalidError
from watchkeeper.outputs.http import LONGEST_PAUSE, retry_after
from watchkeeper.outputs.sinks.file import FileSink
from watchkeeper.outputs.sinks.loki import LokiSink
from watchkeeper.outputs.sinks.otlp import OtlpSink
from watchkeeper.outputs.sinks.stdout import StdoutSink
from watchkeeper.outputs.sinks.syslog import SyslogSink
from watchkeeper.outputs.writer import RefusedError, SinkError

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
LINE = json.dumps(
    {
        "timestamp": "2026-01-31T23:59:59.125Z", "level": "ERROR", "service": "web", "logger": "watchkeeper.check",
        "message": "größer", "trace_id": TRACE, "n": 3, "x": 1.5, "ok": True, "list": [1, "a"], "map": {"k": None},
        "huge": 1 << 70,
    }, ensure_ascii=False,
).encode()  # fmt: skip


# -- files ---------------------------------------------------------------------------------------------------------------------


def test_rotation_by_size(tmp_path: Path) -> None:
    """F2: a file never grows beyond its limit, lines are never torn apart, the newest are in FILE, and `keep` holds."""
    sink = FileSink(tmp_path / "logs" / "a.log", max_bytes=100, keep=2)
    for number in range(40):
        sink.write([b"%03d %s" % (number, b"." * 20)])
    sink.close()
    files = {place.name: place.read_text().splitlines() for place in (tmp_path / "logs").iterdir()}
    assert set(files) == {"a.log", "a.log.1", "a.log.2"}
    assert all(sum(len(line) + 1 for line in lines) <= 100 for lines in files.values())
    newest = [line[:3] for name in ("a.log.2", "a.log.1", "a.log") for line in files[name]]
    assert newest == [f"{number:03d}" for number in range(40)][-len(newest) :]


def test_rotation_by_age(tmp_path: Path) -> None:
    """F2: by a clock that cannot jump; an empty file is not rotated."""
    now = [1000.0]
    sink = FileSink(tmp_path / "a.log", max_age=60, clock=lambda: now[0])
    for step in (0, 30, 29, 2, 61):
        now[0] += step
        sink.write([b"at %d" % now[0]])
    sink.close()
    assert (tmp_path / "a.log").read_text() == "at 1122\n"
    assert (tmp_path / "a.log.1").read_text() == "at 1061\n"
    assert (tmp_path / "a.log.2").read_text() == "at 1000\nat 1030\nat 1059\n"


@pytest.mark.parametrize(
    ("first", "rotated"),
    [
        (b'{"timestamp":"2000-01-01T00:00:00.000Z"}', True),
        (b'{"timestamp":"2999-01-01T00:00:00.000Z"}', False),
        (b'{"timestamp":"yesterday"}', False),
        (b'{"timestamp":5}', False),
        (b"[]", False),
        (b"x" * 70_000, False),
        (b"[" * 5_000, False),
        (b'{"timestamp":"0001-01-01T00:00:00"}', False),
    ],
)
def test_age_of_a_file_that_was_there_before(tmp_path: Path, first: bytes, rotated: bool) -> None:
    """F2: its first line says when it began; an agent that is started every day would else never find it old."""
    (tmp_path / "a.log").write_bytes(first + b"\n")
    sink = FileSink(tmp_path / "a.log", max_age=86_400)
    sink.write([b"later"])
    sink.close()
    assert (tmp_path / "a.log.1").exists() is rotated
    assert (tmp_path / "a.log").read_bytes().endswith(b"later\n")


def test_a_system_that_knows_when_a_file_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F2: macOS does; there the first line need not say it."""
    real = os.fstat

    def told(descriptor: int) -> Any:
        found = real(descriptor)
        kept = {name: getattr(found, name) for name in ("st_size", "st_dev", "st_ino", "st_ctime")}
        return SimpleNamespace(st_birthtime=time.time() - 3 * 86_400, **kept)

    (tmp_path / "a.log").write_bytes(b"cut off\n")
    monkeypatch.setattr(os, "fstat", told)
    sink = FileSink(tmp_path / "a.log", max_age=86_400)
    sink.write([b"later"])
    sink.close()
    assert (tmp_path / "a.log.1").read_bytes() == b"cut off\n"


def test_a_file_that_logrotate_has_moved(tmp_path: Path) -> None:
    """F3."""
    sink = FileSink(tmp_path / "a.log")
    sink.write([b"before"])
    (tmp_path / "a.log").rename(tmp_path / "a.old")
    sink.write([b"after"])
    sink.close()
    assert (tmp_path / "a.old").read_text() == "before\n"
    assert (tmp_path / "a.log").read_text() == "after\n"
    assert (tmp_path / "a.log").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name == "nt", reason="RLIMIT_FSIZE")
def test_a_full_disk_tears_no_line(tmp_path: Path) -> None:
    """F1: what could not be written as a whole is taken back, and the same batch fits once there is room."""
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sink = FileSink(tmp_path / "a.log")
    sink.write([b"0123456789"])
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (25, before[1]))
        with pytest.raises(SinkError, match=r"a\.log: File too large"):
            sink.write([b"aaaaaaaaaa", b"bbbbbbbbbb"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "a.log").read_bytes() == b"0123456789\n"
    sink.write([b"aaaaaaaaaa", b"bbbbbbbbbb"])
    sink.close()
    assert (tmp_path / "a.log").read_bytes() == b"0123456789\naaaaaaaaaa\nbbbbbbbbbb\n"


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """The error names the file and the reason; nothing is raised but SinkError."""
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match=r"Not a directory|File exists"):
        FileSink(tmp_path / "file" / "a.log").write([b"x"])


def test_standard_output_that_nobody_reads() -> None:
    """A reader that has gone is an error, and not the agent's end."""
    reading, writing = os.pipe()
    sink = StdoutSink(writing)
    os.close(writing)
    sink.write([b"heard"])
    assert os.read(reading, 100) == b"heard\n"
    os.close(reading)
    with pytest.raises(SinkError, match="Broken pipe"):
        sink.write([b"unheard"])
    sink.close()


# -- syslog --------------------------------------------------------------------------------------------------------------------


def test_the_local_daemon(tmp_path: Path) -> None:
    """A datagram each: priority, the old time stamp, tag, pid, and the line; a daemon that comes back is found again."""
    place = tmp_path / "log"
    spec = SyslogOutput(transport=Transport.UNIX, address=str(place), app_name="my agent")
    sink = SyslogSink(spec)
    with pytest.raises(SinkError, match="No such file"):
        sink.write([LINE])
    for _ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
            daemon.bind(str(place))
            sink.write([LINE])
            message = daemon.recv(65536)
        place.unlink()
        head, _, text = message.partition(b": ")
        assert head.startswith(b"<27>")  # daemon is 3, error is 3
        assert head.endswith(b" my_agent[%d]" % os.getpid())
        assert text == LINE
        with pytest.raises(SinkError):
            sink.write([LINE])
    sink.close()


def test_udp_is_rfc_5424() -> None:
    """Each field has its place and its form, and no message is longer than allowed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        sink = SyslogSink(SyslogOutput(transport=Transport.UDP, address=address, datagram_limit=480))
        sink.write([LINE, b'{"level":"INFO","message":"%s"}' % (b"x" * 1000), b"no JSON"])
        first, second, third = (server.recv(65536) for _ in range(3))
        sink.close()
    head, _, text = first.partition(b"\xef\xbb\xbf")
    priority, stamp, host, app, pid, kind, data = head.split()
    assert (priority, stamp) == (b"<27>1", b"2026-01-31T23:59:59.125Z")
    assert host
    assert (app, pid, kind, data) == (b"watchkeeper", b"%d" % os.getpid(), b"watchkeeper.check", b"-")
    assert text == LINE
    assert (len(second), second[:5]) == (480, b"<30>1")
    assert third.startswith(b"<29>1 - ")


def frames(stream: socket.socket, count: int) -> list[bytes]:
    """Octet-counted messages (RFC 6587 section 3.4.1)."""
    found = []
    with stream.makefile("rb") as reader:
        for _ in range(count):
            size = b""
            while (letter := reader.read(1)) != b" ":
                size += letter
            found.append(reader.read(int(size)))
    return found


def test_tcp_frames() -> None:
    """Lines may be longer than a datagram, and come framed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        sink = SyslogSink(SyslogOutput(transport=Transport.TCP, address=address))
        long = b'{"message":"%s"}' % (b"y" * 20_000)
        sink.write([LINE, long])
        stream, _ = server.accept()
        with stream:
            assert [frame.partition(b"\xef\xbb\xbf")[2] for frame in frames(stream, 2)] == [LINE, long]
    sink.close()


def test_tls_is_verified(certificate: tuple[Path, Path]) -> None:
    """A server with the right certificate is spoken to; one with another is not."""
    cert, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    got: list[bytes] = []

    def serve(server: socket.socket) -> None:
        for _ in range(2):
            plain, _ = server.accept()
            try:
                with context.wrap_socket(plain, server_side=True) as stream:
                    got.extend(frames(stream, 1))
            except (ssl.SSLError, OSError):
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        address = f"localhost:{server.getsockname()[1]}"
        stranger = SyslogSink(SyslogOutput(transport=Transport.TLS, address=address))
        with pytest.raises(SinkError, match=r"certificate|CERTIFICATE"):
            stranger.write([LINE])
        trusted = SyslogOutput(transport=Transport.TLS, address=address, tls=TlsClient(ca_file=str(cert)))
        sink = SyslogSink(trusted)
        sink.write([LINE])
        thread.join(30)
    sink.close()
    assert [frame.partition(b"\xef\xbb\xbf")[2] for frame in got] == [LINE]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that vouches for itself, and its key."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "cert.pem", folder / "key.pem"


# -- over HTTP -----------------------------------------------------------------------------------------------------------------


class Collector:
    """A server that answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.connections = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append((self.path, dict(self.headers), body))
                status, headers, answer = outer.answers.pop(0) if outer.answers else (200, {}, b"{}")
                if not status:  # the connection breaks
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in {"Content-Length": str(len(answer)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_rest: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.thread.join()
    made.server.server_close()


def test_otlp_is_what_the_protocol_says(collector: Collector) -> None:
    """The request is read by the protocol's own schema, and holds every field of the line in its place."""
    sink = OtlpSink(OtlpOutput(url=collector.url, headers={"X-Key": "k"}, resource={"service.name": "fleet"}))
    sink.write([LINE, b"no JSON"])
    sink.close()
    [(path, headers, body)] = collector.asked
    assert (path, headers["Content-Type"], headers["X-Key"]) == ("/v1/logs", "application/json", "k")
    # protobuf's own reader takes ids as base64; OTLP's JSON has them in hexadecimal.
    told = json.loads(body)
    record = told["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert record.pop("traceId") == TRACE
    request = json_format.ParseDict(told, ExportLogsServiceRequest())
    [resource] = request.resource_logs
    attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert attributes["service.name"] == "fleet"
    assert attributes["host.name"]
    first, second = resource.scope_logs[0].log_records
    assert first.time_unix_nano == 1769903999125000000
    assert (first.severity_number, first.severity_text, first.body.string_value) == (17, "ERROR", "größer")
    values = {each.key: each.value for each in first.attributes}
    assert (values["service"].string_value, values["n"].int_value, values["x"].double_value) == (
        "web",
        3,
        1.5,
    )
    assert values["ok"].bool_value
    assert [each.WhichOneof("value") for each in values["list"].array_value.values] == [
        "int_value",
        "string_value",
    ]
    assert values["map"].kvlist_value.values[0].key == "k"
    assert values["huge"].string_value == str(1 << 70)
    assert second.body.string_value == "no JSON"


def test_loki_streams(collector: Collector) -> None:
    """One stream for each service and level, with the labels asked for, in order, times in nanoseconds."""
    sink = LokiSink(LokiOutput(url=collector.url, labels={"env": "prod"}, tenant="ours"))
    other = LINE.replace(b"ERROR", b"INFO")
    sink.write([LINE, other, LINE])
    sink.close()
    [(path, headers, body)] = collector.asked
    assert (path, headers["X-Scope-OrgID"]) == ("/loki/api/v1/push", "ours")
    streams = json.loads(body)["streams"]
    assert [stream["stream"] for stream in streams] == [
        {"env": "prod", "service": "web", "level": "ERROR"},
        {"env": "prod", "service": "web", "level": "INFO"},
    ]
    assert streams[0]["values"] == [["1769903999125000000", LINE.decode()]] * 2


def test_answers_that_say_come_again(collector: Collector) -> None:
    """Busy servers and broken connections are tried again, as late as they ask; a kept connection is used."""
    sink = OtlpSink(OtlpOutput(url=collector.url))
    sink.write([LINE])
    sink.write([LINE])
    assert collector.connections == 1
    for status in (429, 500, 503):
        collector.answers.append((status, {"Retry-After": "7"}, b""))
        with pytest.raises(SinkError, match=f"status {status}") as caught:
            sink.write([LINE])
        assert caught.value.after == 7
    collector.answers.append((0, {}, b""))
    sink.write([LINE])  # the kept connection broke, and a new one was made
    collector.answers.extend([(0, {}, b"")] * 2)
    with pytest.raises(SinkError):
        sink.write([LINE])
    sink.close()


def test_answers_that_say_never(collector: Collector) -> None:
    """What will not be taken is lost and said: all of it, or as much as the answer tells."""
    sink = OtlpSink(OtlpOutput(url=collector.url))
    collector.answers.append((400, {}, b"bad attribute"))
    with pytest.raises(RefusedError, match="status 400: bad attribute") as caught:
        sink.write([LINE])
    assert caught.value.lines is None
    partial = b'{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"too old"}}'
    collector.answers.append((200, {}, partial))
    with pytest.raises(RefusedError, match="3 lines were rejected: too old") as caught:
        sink.write([LINE] * 5)
    assert caught.value.lines == 3
    for odd in (b"[]", b"\xff", b'{"partialSuccess":7}', b'{"x":' + b"[" * 50_000):
        collector.answers.append((200, {}, odd))
        sink.write([LINE])
    sink.close()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, 0), ("", 0), ("12", 12), ("-3", 0), ("soon", 0), ("\xb2", 0), ("99999", LONGEST_PAUSE),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 21 Oct 2099 07:28:00 GMT", LONGEST_PAUSE)],
)  # fmt: skip
def test_retry_after(value: str | None, seconds: float) -> None:
    """Seconds or a date; nonsense is nothing, and nobody may ask for more than the longest pause."""
    assert retry_after(value) == seconds


@pytest.mark.parametrize(
    ("output", "path"),
    [
        ("{type: syslog, address: localhost}", "address"),
        ("{type: syslog, transport: udp, address: nowhere}", "address"),
        ("{type: otlp, url: ftp://x/}", "url"),
        ('{type: loki, url: "https://user:hunter2secret@x/"}', "url"),
        ('{type: otlp, url: "http://x/", headers: {"a:b": c}}', "headers"),
        ('{type: loki, url: "http://x/", labels: {service: x}}', "labels.service"),
        ("{type: file, path: x, mode: rw}", "mode"),
        ("{type: fluentd}", "type"),
    ],
)
def test_outputs_that_make_no_sense(output: str, path: str) -> None:
    """Each mistake is named with its place."""
    with pytest.raises(ConfigInvalidError) as caught:
        parse(f"outputs: {{x: {output}}}".encode(), file="a.yaml")
    [problem] = caught.value.problems
    assert f"outputs.x.{path}" in problem
    assert "hunter2" not in problem
