"""Who may do what, which SPIFFE IDs a pattern means, and sockets: modes, owners, leftovers, systemd's."""

from __future__ import annotations

import os
import re
import socket
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.endpoints_world import ask, endpoints, listener
from watchkeeper.config.load import parse
from watchkeeper.config.schema.listeners import Access
from watchkeeper.endpoints import sockets
from watchkeeper.endpoints.exposition import control_socket
from watchkeeper.endpoints.peers import Credentials, Identity, _xucred, credentials_of, decide
from watchkeeper.endpoints.sockets import bind, group_number, handed_over, user_number
from watchkeeper.endpoints.spiffe import identity_of, is_id, is_pattern, matches_any
from watchkeeper.errors import ListenError

ELSEWHERE = ("10.1.2.3", 40000)
HERE = ("127.0.0.1", 40000)


def test_roles_include_each_other() -> None:
    order = list(Access)
    for index, role in enumerate(order):
        assert [role.includes(other) for other in order] == [at <= index for at in range(len(order))]


@pytest.mark.parametrize(
    ("address", "role"),
    [
        (HERE, Access.READ),
        (("::1", 1, 0, 0), Access.READ),
        (("127.9.9.9", 1), Access.READ),
        (("::ffff:127.0.0.1", 1, 0, 0), Access.READ),
        (ELSEWHERE, Access.METRICS),
        (("fe80::1%eth0", 1, 0, 2), Access.METRICS),
        (None, Access.METRICS),
    ],
)
def test_without_anything_said(address: object, role: Access) -> None:
    """P3: programs of this machine may read; others may take metrics."""
    peer = decide(listener("0.0.0.0:1"), address=address)
    assert (peer.role, peer.local) == (role, role is Access.READ)


def test_users_of_a_unix_socket() -> None:
    """P1, P2: root and ourselves control; a rule gives a user or a group more; everybody else has the probes."""
    rules = [{"role": "read", "groups": ["ops"]}, {"role": "control", "users": ["deploy"]}]
    definition = listener("unix:/x", peers=rules)
    numbers = {"user:deploy": 1001, "group:ops": 2000}

    def role(uid: int, *gids: int) -> Access:
        return decide(
            definition, address="", credentials=Credentials(uid, frozenset(gids)), numbers=numbers
        ).role

    assert role(0) is Access.CONTROL
    assert role(os.getuid()) is Access.CONTROL
    assert role(4242, 100) is Access.UNTRUSTED
    assert role(4242, 100, 2000) is Access.READ
    assert role(1001) is Access.CONTROL
    assert role(1001, 2000) is Access.CONTROL
    assert decide(listener("unix:/x", role="metrics"), credentials=Credentials(4242)).role is Access.METRICS


def test_who_is_not_known_has_the_least() -> None:
    """A system that does not say who is at the other end of a socket gives nobody anything."""
    peer = decide(listener("unix:/x", peers=[{"role": "control", "users": ["0"]}]))
    assert peer.role is Access.UNTRUSTED


def test_a_rule_never_takes_away() -> None:
    """P2: of several that match, the highest counts, in whatever order; and none is less than the listener's own."""
    rules = [{"role": "control", "names": ["a"]}, {"role": "metrics", "names": ["a"]}]
    for order in (rules, rules[::-1]):
        peer = decide(listener(role="read", peers=order), address=ELSEWHERE, identity=Identity(None, ("a",)))
        assert peer.role is Access.CONTROL
    low = decide(listener(role="read", peers=rules[1:]), address=ELSEWHERE, identity=Identity(None, ("a",)))
    assert low.role is Access.READ


def test_real_credentials() -> None:
    """Both ends of a pair of sockets are ourselves."""
    one, two = socket.socketpair()
    with one, two:
        found = credentials_of(one)
    assert found is not None
    assert found.uid == os.getuid()
    assert {os.getgid(), *os.getgroups()} <= found.gids
    with socket.socket() as tcp:
        assert credentials_of(tcp) is None or credentials_of(tcp).uid != os.getuid()  # type: ignore[union-attr]


def test_credentials_of_macos() -> None:
    """`struct xucred`, as its header has it."""
    raw = struct.pack("IIh2x16I", 0, 501, 2, 20, 80, *[0] * 14)
    assert _xucred(raw) == Credentials(501, frozenset({20, 80}))


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("spiffe://example.org/ns/a/sa/b", True),
        ("spiffe://example.org", True),
        ("SPIFFE://example.org/a", True),
        ("spiffe://EXAMPLE.org/a", False),
        ("spiffe://example.org:80/a", False),
        ("spiffe://user@example.org/a", False),
        ("spiffe://example.org/a/", False),
        ("spiffe://example.org//a", False),
        ("spiffe://example.org/./a", False),
        ("spiffe://example.org/../a", False),
        ("spiffe://example.org/a?b", False),
        ("spiffe://example.org/a%20b", False),
        ("spiffe:///a", False),
        ("https://example.org/a", False),
        ("", False),
        ("spiffe://example.org/" + "a" * 2048, False),
    ],
)
def test_what_is_an_id(text: str, right: bool) -> None:
    """I1 to I3."""
    assert is_id(text) is right


def test_the_id_of_a_certificate() -> None:
    """I4: exactly one URI."""
    assert identity_of(["spiffe://a/b"]) == "spiffe://a/b"
    assert identity_of([]) is None
    assert identity_of(["spiffe://a/b", "spiffe://a/c"]) is None
    assert identity_of(["https://a/b"]) is None


@pytest.mark.parametrize(
    ("pattern", "identity", "meant"),
    [
        ("spiffe://a/b", "spiffe://a/b", True),
        ("spiffe://a/b", "spiffe://a/B", False),
        ("spiffe://a/*", "spiffe://a/b", True),
        ("spiffe://a/*", "spiffe://a/b/c", False),
        ("spiffe://a/*", "spiffe://a", False),
        ("spiffe://a/**", "spiffe://a/b/c", True),
        ("spiffe://a/**", "spiffe://a", False),
        ("spiffe://a/ns/*/sa/web", "spiffe://a/ns/x/sa/web", True),
        ("spiffe://a/ns/*/sa/web", "spiffe://a/ns/x/sa/api", False),
        ("spiffe://a/**", "spiffe://b/c", False),
        ("spiffe://a", "spiffe://a", True),
        ("spiffe://a/b*", "spiffe://a/bc", False),
    ],
)
def test_what_a_pattern_means(pattern: str, identity: str, meant: bool) -> None:
    assert matches_any(identity, ["spiffe://never/this", pattern]) is meant


def test_patterns_have_no_wild_trust_domain() -> None:
    """A pattern that meant every authority would mean the wrong ones."""
    assert not is_pattern("spiffe://*/a")
    assert not is_pattern("spiffe://a/**/b")
    assert is_pattern("spiffe://a/*/b/**")


_PART = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)


@given(parts=st.lists(_PART, max_size=5), stars=st.sets(st.integers(0, 4)))
def test_stars_stand_for_any_part(parts: list[str], stars: set[int]) -> None:
    """An ID is meant by itself, with any of its parts replaced by a star, and by no longer or shorter one."""
    identity = "/".join(["spiffe://a", *parts])
    pattern = "/".join(["spiffe://a", *("*" if at in stars else part for at, part in enumerate(parts))])
    assert matches_any(identity, [pattern])
    assert not matches_any(identity + "/more", [pattern])
    assert matches_any(identity + "/more/and/more", [pattern + "/**"])


def test_a_unix_socket_has_its_mode_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made beside its place and renamed into it: nobody ever finds it with another mode."""
    seen = []
    usual = Path.replace

    def replace(self: Path, target: Path) -> Path:
        seen.append((stat.S_IMODE(self.stat().st_mode), target.exists()))
        return usual(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    path = tmp_path / "s"
    group = str(os.getgid())
    bound = bind(listener(f"unix:{path}", socket_mode="0660", socket_group=group))[0]
    assert seen == [(0o660, False)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert bound.address == f"unix:{path}"
    bound.close()
    assert list(tmp_path.iterdir()) == []


def test_leftovers_are_replaced_and_the_living_are_not(tmp_path: Path) -> None:
    """A socket that nobody listens on any more goes; one that answers, and a file that is none, stay."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    first = bind(listener(f"unix:{path}"))[0]
    with pytest.raises(ListenError, match="another program listens on"):
        bind(listener(f"unix:{path}"))
    first.close()
    path.write_text("precious")
    with pytest.raises(ListenError, match="is no socket"):
        bind(listener(f"unix:{path}"))
    assert path.read_text() == "precious"


def test_a_socket_that_somebody_has_replaced_stays(tmp_path: Path) -> None:
    """At the end only our own file is removed."""
    path = tmp_path / "s"
    first = bind(listener(f"unix:{path}"))[0]
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        first.close()
        assert path.exists()


@pytest.mark.parametrize(
    ("address", "fields", "reason"),
    [
        ("unix:/no/such/folder/s", {}, "No such file or directory"),
        ("unix:/tmp/" + "x" * 200, {}, "too long for a Unix socket"),
        ("unix:{tmp}/s", {"socket_owner": "nobody-has-this-name"}, "there is no user nobody-has-this-name"),
        ("unix:{tmp}/s", {"socket_group": "nor-this"}, "there is no group nor-this"),
        ("192.0.2.1:0", {}, "cannot listen on 192.0.2.1:0"),
        ("nonsense", {}, "'nonsense' is not HOST:PORT"),
        ("systemd:web", {}, "systemd has handed over no socket called web"),
    ],
)
def test_sockets_that_cannot_be(address: str, fields: dict[str, str], reason: str, tmp_path: Path) -> None:
    """One sentence, what to do, and nothing is left behind."""
    with pytest.raises(ListenError, match=reason) as caught:
        bind(listener(address.format(tmp=tmp_path), **fields))
    assert caught.value.advice
    assert list(tmp_path.iterdir()) == []


def test_users_and_groups_by_name_and_number() -> None:
    assert user_number("root") == user_number("0") == 0
    assert group_number("4242") == 4242
    with pytest.raises(LookupError):
        user_number("nobody-has-this-name")


@pytest.mark.asyncio
async def test_sockets_of_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors from 3 on, by name, for the process that LISTEN_PID names; they go on after a listener is closed."""
    made = socket.create_server(("127.0.0.1", 0))
    port = made.getsockname()[1]
    monkeypatch.setattr(sockets, "FIRST_DESCRIPTOR", made.fileno())
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_FDNAMES", "web")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    assert handed_over() == {}
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    assert handed_over() == {made.fileno(): "web"}
    async with endpoints() as rig:
        for _ in range(2):
            found = await rig.exposition.open("x", listener("systemd:web"))
            assert found.address == f"127.0.0.1:{port}"
            assert (await ask("GET", "/livez", port=port)).status == 200
            await rig.exposition.close("x")
    monkeypatch.setenv("LISTEN_FDNAMES", "")
    assert handed_over() == {made.fileno(): "unknown"}
    monkeypatch.setenv("LISTEN_FDS", "many")
    assert handed_over() == {}
    made.close()


@pytest.mark.parametrize("kind", ["datagram", "pipe"])
def test_what_takes_no_connections(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """ListenDatagram= and ListenFIFO= are said; taken as they are, they would hold up the loop for ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        ends = os.pipe()
        monkeypatch.setattr(
            sockets, "FIRST_DESCRIPTOR", datagrams.fileno() if kind == "datagram" else ends[0]
        )
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("LISTEN_FDNAMES", "web")
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        with pytest.raises(ListenError, match="takes no connections"):
            bind(listener("systemd:web"))
        for each in ends:
            os.close(each)


def test_where_the_control_socket_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """systemd's RUNTIME_DIRECTORY, else the state directory, else nowhere."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert control_socket(None) is None
    assert control_socket(tmp_path) == tmp_path / "control.sock"
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/a:/run/b")
    assert control_socket(tmp_path) == Path("/run/a/watchkeeper.sock")


@pytest.mark.asyncio
async def test_a_control_socket_that_cannot_be_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent starts without it: its services matter more."""
    (tmp_path / "control.sock").write_text("x")
    async with endpoints(tmp_path) as rig:
        assert (await rig.get("/livez")).status == 200
    assert "no control socket" in caplog.text


@pytest.mark.asyncio
async def test_an_agent_without_a_port(tmp_path: Path) -> None:
    """agent.listen may be a Unix socket: then nothing listens on the network."""
    path = tmp_path / "main"
    loaded = parse(f"agent: {{listen: 'unix:{path}'}}".encode(), file="f.yaml")
    async with endpoints(listen=loaded.config.agent.listen) as rig:
        assert rig.exposition.address == f"unix:{path}"
        assert (await ask("GET", "/status", unix=str(path))).status == 200


@pytest.mark.asyncio
async def test_a_listener_takes_the_place_of_the_control_socket(tmp_path: Path) -> None:
    """Who wants other rules for it writes a listener with its path."""
    path = tmp_path / "control.sock"
    async with endpoints(tmp_path) as rig:
        await rig.exposition.open("mine", listener(f"unix:{path}", socket_mode="0666", role="read"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert (await ask("GET", "/status", unix=str(path))).status == 200


@pytest.mark.parametrize("page", ["endpoints", "tls", "faults"])
def test_the_examples_of_the_documentation(page: str) -> None:
    """What docs/agent shows is a configuration that holds."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "agent" / f"{page}.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```yaml\n(.+?)```", text, re.DOTALL)
    assert parse(example.encode(), file="f.yaml").config is not None
