"""One request and what may happen to it: limits, failures, redirects, refusals; and a token that nobody ever sees."""

from __future__ import annotations

import hashlib
import http.client
import logging
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ferryman_release.errors import GithubError
from ferryman_release.github import Token, Upload, find_token, limits, wire
from ferryman_release.github.answers import explain
from ferryman_release.github.client import API, Client, redirected
from ferryman_release.github.hub import Hub
from ferryman_release.github.uploads import FileBody, Meter
from ferryman_release.github.wire import Answer, Call, Json, Sink, UnansweredError, exchange
from support.github_server import READER, TOKEN, Fault, GithubServer, method

NOW = 1_790_000_000.0


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = NOW
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def github() -> Iterator[GithubServer]:
    with GithubServer() as server:
        server.repository("owner/lantern")
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


def client_of(github: GithubServer, clock: Clock, **more: Any) -> Client:
    options: dict[str, Any] = {"exchange": exchange, "say": lambda _: None, "token": Token(TOKEN), **more}
    token = options.pop("token")
    return Client(github.api, token, clock=clock, sleep=clock.sleep, **options)


def answering(*answers: Answer | Exception) -> tuple[Callable[..., Answer], list[Call]]:
    """An exchange that has its answers ready, and the calls that it got."""
    calls: list[Call] = []
    ready = iter(answers)

    def reply(call: Call, sink: Sink | None = None) -> Answer:
        calls.append(call)
        answer = next(ready)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return reply, calls


def ask(
    clock: Clock, *answers: Answer | Exception, api: str = API, again: bool = True, **more: Any
) -> list[Call]:
    """Read something from a server that answers like this; the calls that it took."""
    reply, calls = answering(*answers)
    client = Client(api, Token(TOKEN), clock=clock, sleep=clock.sleep, exchange=reply, say=lambda _: None)
    client.request("GET", "repos/owner/lantern", "see it", ok=(200,), again=again, **more)
    return calls


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "body", "attempt", "seconds"),
    [
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 90)}, b"", 0, 91.0),
        (429, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) - 90)}, b"", 0, 1.0),
        (403, {"retry-after": "30", "x-ratelimit-remaining": "0"}, b"", 0, 30.0),
        (
            403,
            {"x-ratelimit-remaining": "77"},
            b'{"message": "You have exceeded a secondary rate limit"}',
            0,
            60.0,
        ),
        (403, {}, b"You have exceeded a secondary rate limit", 2, 240.0),
        (429, {}, b"", 1, 120.0),
        (403, {"x-ratelimit-remaining": "77"}, b"Resource not accessible by integration", 0, None),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"}, b"", 0, None),
        (503, {"retry-after": "30"}, b"", 0, None),
        (404, {}, b"", 0, None),
    ],
)
def test_what_a_limit_asks_for(
    status: int, headers: dict[str, str], body: bytes, attempt: int, seconds: float | None
) -> None:
    """retry-after, else the reset of an empty budget, else a minute that doubles; a plain 403 is no limit."""
    assert limits.limited(Answer(status, headers, body), attempt, NOW) == seconds


def test_a_limit_is_waited_for(github: GithubServer, clock: Clock) -> None:
    """The request goes out again when the time is over, not earlier, and the person is told."""
    said: list[str] = []
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW) + 300)}
    github.fail(Fault("status", status=403, headers=reset, message="API rate limit exceeded"))
    Hub(client_of(github, clock, say=said.append), "owner/lantern").see()

    assert clock.slept == [301.0]
    assert said == ["GitHub asks to wait for 301 s"]


def test_a_limit_that_is_too_long(clock: Clock) -> None:
    """Longer than a quarter of an hour is not slept through: the moment is named, and nothing was lost."""
    away = Answer(403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 3000)})
    with pytest.raises(GithubError, match=r"used up until \d\d:\d\d UTC") as refused:
        ask(clock, away)

    assert "goes on where it stopped" in refused.value.advice
    assert clock.slept == []


def test_a_limit_holds_all_threads(clock: Clock) -> None:
    """What one request was asked to wait, the next one waits as well."""
    reply, _ = answering(Answer(429, {"retry-after": "50"}), Answer(200, {}), Answer(200, {}))
    client = Client(
        API, Token(TOKEN), clock=clock, sleep=lambda _seconds: None, exchange=reply, say=lambda _: None
    )
    client.get("a", "see it")
    waits: list[float] = []
    client._sleep = waits.append
    client.get("b", "see it")

    assert waits == [50.0]


@pytest.mark.parametrize(
    "failure", [UnansweredError("reset"), Answer(500, {}), Answer(502, {}), Answer(504, {})]
)
def test_failures_are_tried_again(clock: Clock, failure: Answer | Exception) -> None:
    """Five failures and a success: each rest is twice the one before."""
    assert len(ask(clock, *[failure] * 5, Answer(200, {}))) == 6
    assert clock.slept == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_failures_have_an_end(clock: Clock) -> None:
    """The sixth failure is the last, and says what it was."""
    with pytest.raises(GithubError, match=r"could not see it in 6 attempts: the answer was 502"):
        ask(clock, *[Answer(502, {})] * 6)


@pytest.mark.parametrize("failure", [UnansweredError("reset"), Answer(502, {})])
def test_what_may_not_be_sent_twice(clock: Clock, failure: Answer | Exception) -> None:
    """Without leave to repeat, the caller hears at once that nobody knows what happened."""
    with pytest.raises(UnansweredError):
        ask(clock, failure, again=False)

    assert clock.slept == []


def test_a_limit_may_always_be_waited_for(clock: Clock) -> None:
    """A request that was refused for a limit had no effect, and is repeated although it makes something."""
    assert len(ask(clock, Answer(429, {"retry-after": "3"}), Answer(200, {}), again=False)) == 2


# -- redirects and addresses ------------------------------------------------------------------------------------------


def get(url: str, verb: str = "GET") -> Call:
    return Call(method=verb, url=url, headers={"Authorization": "Bearer x", "Accept": "a"})


@pytest.mark.parametrize(
    ("location", "kept"),
    [
        ("/repositories/1", True),
        ("https://api.github.com/repositories/1", True),
        ("https://api.github.com:443/repositories/1", True),
        ("https://objects.githubusercontent.com/x", False),
        ("https://api.github.com.example.org/x", False),
        ("https://api.github.com:8443/x", False),
    ],
)
def test_a_redirect_carries_the_token_to_nobody_else(location: str, kept: bool) -> None:
    """Scheme, host and port must all be the same."""
    assert ("Authorization" in redirected(get("https://api.github.com/repos/x"), location).headers) is kept


@pytest.mark.parametrize(
    ("verb", "location"),
    [
        ("GET", "http://api.github.com/x"),
        ("POST", "https://example.org/x"),
        ("DELETE", "https://example.org/x"),
        ("PATCH", "http://api.github.com/x"),
        ("GET", "file:///etc/passwd"),
    ],
)
def test_redirects_that_are_not_followed(verb: str, location: str) -> None:
    """Nothing goes on in the clear, and no change goes to another host."""
    with pytest.raises(GithubError, match="not followed there"):
        redirected(get("https://api.github.com/x", verb), location)


def test_a_circle_of_redirects(clock: Clock) -> None:
    """Five, then an error."""
    with pytest.raises(GithubError, match="in a circle"):
        ask(clock, *[Answer(302, {"location": "/x"})] * 5)


def test_downloads_carry_no_token(github: GithubServer, clock: Clock) -> None:
    """The file itself comes from a storage elsewhere, which would complain about a token."""
    repository = github.repositories["owner/lantern"]
    repository.digests = False
    hub = Hub(client_of(github, clock), "owner/lantern")
    release = github.next_id()
    from support.github_server import Asset, Release

    repository.releases[release] = Release(release, "v1", "c", "", "", draft=True, prerelease=False)
    repository.releases[release].assets[99] = Asset(99, "a", "uploaded", b"content", "")
    (draft,) = hub.drafts("v1")
    (asset,) = hub.assets(draft)

    assert hub.digest(asset) == hashlib.sha256(b"content").hexdigest()
    assert github.complaints == []


@pytest.mark.parametrize(
    ("api", "template", "url"),
    [
        (API, "https://uploads.github.com/r/1/assets{?name,label}", "https://uploads.github.com/r/1/assets?name=a%2Bb"),
        ("https://git.example.org/api/v3", "https://git.example.org/api/uploads/r/1/assets{?name,label}",
         "https://git.example.org/api/uploads/r/1/assets?name=a%2Bb"),
        ("https://api.acme.ghe.com", "https://uploads.acme.ghe.com/r/1/assets{?name,label}",
         "https://uploads.acme.ghe.com/r/1/assets?name=a%2Bb"),
        (API, "https://uploads.github.com/r/1/assets?x=1{&name,label}", "https://uploads.github.com/r/1/assets?x=1&name=a%2Bb"),
    ],
)  # fmt: skip
def test_upload_addresses(clock: Clock, api: str, template: str, url: str) -> None:
    """The template of the release is filled in, for GitHub and for GitHub Enterprise."""
    client = Client(api, Token(TOKEN), clock=clock, sleep=clock.sleep, exchange=exchange, say=lambda _: None)

    assert client.upload_url(template, "a+b") == url


@pytest.mark.parametrize(
    "template",
    [
        "https://uploads.example.org/x{?name,label}",
        "http://uploads.github.com/x{?name,label}",
        "https://github.com.example.org/x{?name,label}",
        "https://evilgithub.com/x{?name,label}",
    ],
)
def test_uploads_to_strangers(clock: Clock, template: str) -> None:
    """An address of another family, or in the clear, gets neither file nor token."""
    client = Client(API, Token(TOKEN), clock=clock, sleep=clock.sleep, exchange=exchange, say=lambda _: None)
    with pytest.raises(GithubError, match="none of its own hosts"):
        client.upload_url(template, "a")


def test_pages_of_strangers(clock: Clock) -> None:
    """A next page on another host is not asked for."""
    reply, calls = answering(Answer(200, {"link": '<https://example.org/2>; rel="next"'}, b"[]"))
    client = Client(API, Token(TOKEN), clock=clock, sleep=clock.sleep, exchange=reply, say=lambda _: None)
    with pytest.raises(GithubError, match="none of its own hosts"):
        list(client.pages("repos/x/releases", int, "list"))

    assert len(calls) == 1


def test_a_list_without_an_end(clock: Clock) -> None:
    """A server whose next page is always the same is left after a hundred."""
    page = Answer(200, {"link": f'<{API}/x>; rel="next"'}, b"[1]")
    reply, calls = answering(*[page] * 101)
    client = Client(API, Token(TOKEN), clock=clock, sleep=clock.sleep, exchange=reply, say=lambda _: None)
    with pytest.raises(GithubError, match="has no end"):
        list(client.pages("repos/x/releases", int, "list"))

    assert len(calls) == 100


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "document", "sentence", "advice"),
    [
        (401, '{"message": "Bad credentials"}', "does not know the token", "not expired"),
        (403, '{"message": "Resource not accessible by integration"}', "may not publish v1", "contents: write"),
        (404, '{"message": "Not Found"}', "cannot publish v1", "`github`"),
        (422, '{"message": "Cannot upload assets to an immutable release."}', "an immutable release", "next version"),
        (422, '{"message": "Validation Failed", "errors": [{"message": "pre_receive Repository rule violations found"}]}',
         "A rule of the repository", "Push the tag first"),
        (422, '{"message": "Validation Failed", "errors": [{"resource": "Release", "field": "body", "code": "custom"}]}',
         "refused to publish v1", "below"),
        (409, "", "answered 409", "Run it again"),
        (422, "<html>", "refused to publish v1", "below"),
        (422, '{"message": "m", "errors": ["words"]}', "refused to publish v1", "below"),
    ],
)  # fmt: skip
def test_refusals_are_sentences(status: int, document: str, sentence: str, advice: str) -> None:
    """Each says what was refused, why, and what to do."""
    error = explain(Answer(status, {}, document.encode()), "publish v1")

    assert sentence in str(error)
    assert advice in error.advice
    assert str(error).endswith(".")


@pytest.mark.parametrize(
    ("token", "words"), [("ghp_expired", "does not know the token"), (READER, "may not create the draft")]
)
def test_tokens_that_do_not_do(github: GithubServer, clock: Clock, token: str, words: str) -> None:
    """A token that has expired, and one that may only read."""
    from ferryman_release.github import publish_release

    with pytest.raises(GithubError, match=words):
        publish_release("owner/lantern", "v1", "3f" * 20, "t", "n", [], token=Token(token), api=github.api,
                        clock=clock, sleep=clock.sleep)  # fmt: skip


def test_a_repository_that_is_not_there(github: GithubServer, clock: Clock) -> None:
    """The first question finds it out."""
    with pytest.raises(GithubError, match="cannot see the repository owner/candle"):
        Hub(client_of(github, clock), "owner/candle").see()


def test_a_page_that_is_no_api(clock: Clock) -> None:
    """A portal's page in place of an answer is named as such."""
    reply, _ = answering(Answer(200, {}, b"<html>Please log in</html>"))
    client = Client(API, Token(TOKEN), clock=clock, sleep=clock.sleep, exchange=reply, say=lambda _: None)
    with pytest.raises(GithubError, match="not GitHub's API"):
        Hub(client, "owner/lantern").published("v1")


# -- the token --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "value"),
    [
        ({"GITHUB_TOKEN": "one", "GH_TOKEN": "two"}, "one"),
        ({"GITHUB_TOKEN": " ", "GH_TOKEN": "two\n"}, "two"),
    ],
)
def test_where_the_token_comes_from(environ: dict[str, str], value: str) -> None:
    """GITHUB_TOKEN, else GH_TOKEN; blanks around it are the file's that it was read from."""
    assert find_token(environ).value == value


@pytest.mark.parametrize(
    "environ", [{}, {"GITHUB_TOKEN": ""}, {"GH_TOKEN": "a b"}, {"GH_TOKEN": "a\r\nX: y"}, {"GH_TOKEN": "ä"}]
)
def test_no_token(environ: dict[str, str]) -> None:
    """None, or one that would break a header: a sentence, without the value."""
    with pytest.raises(GithubError, match="token") as refused:
        find_token(environ)

    assert [value for value in environ.values() if value and value in str(refused.value)] == []


def test_the_token_is_in_no_text(
    github: GithubServer, clock: Clock, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither a refusal that repeats it, nor a repr, a traceback with its values, a log or the terminal has it."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    client = client_of(github, clock, say=said.append)
    github.fail(Fault("status", status=422, message=f"no: {TOKEN}", when=method("GET", "lantern")))
    with pytest.raises(GithubError) as refused:
        Hub(client, "owner/lantern").see()
    error = refused.value
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    texts = [
        str(error),
        repr(error),
        *error.details,
        error.advice,
        *said,
        *shown.format(),
        caplog.text,
        *capfd.readouterr(),
    ]

    assert error.details == ("no: ***",)
    assert [text for text in texts if TOKEN in text] == []


# -- the wire ---------------------------------------------------------------------------------------------------------


def upload_of(path: Path, data: bytes, **more: Any) -> Upload:
    path.write_bytes(data)
    given = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **more}
    return Upload(path.name, path, "text/plain", given["size"], given["sha256"])


def body_of(upload: Upload) -> FileBody:
    import threading

    return FileBody(upload, Meter(upload.size, lambda *_: None), threading.Event())


@pytest.mark.parametrize("more", [{"sha256": "00"}, {"size": 5}, {"size": 50}])
def test_a_file_that_is_not_what_it_was(tmp_path: Path, more: dict[str, Any]) -> None:
    """Other bytes, longer, shorter: the request is broken off, and never whole."""
    upload = upload_of(tmp_path / "a", b"x" * 20, **more)
    sent: list[bytes] = []
    with pytest.raises(GithubError, match="changed while it was uploaded"):
        sent.extend(body_of(upload).chunks())

    assert sum(map(len, sent)) < upload.size


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    """A sentence that names it, and no broken connection that would be tried again."""
    upload = Upload("a", tmp_path / "a", "text/plain", 5, "00")
    with pytest.raises(GithubError, match="cannot be read"):
        list(body_of(upload).chunks())


def test_large_files_are_streamed(github: GithubServer, tmp_path: Path) -> None:
    """Sending 64 MB takes a few blocks of memory on our side."""
    path = tmp_path / "large"
    block, digest = bytes(1_000_000), hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(64):
            file.write(block)
            digest.update(block)
    upload = Upload("large", path, "text/plain", 64_000_000, digest.hexdigest())
    tracemalloc.start()
    total = sum(len(chunk) for chunk in body_of(upload).chunks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert total == 64_000_000
    assert peak < 8 * wire.BLOCK


def test_a_reason_survives_a_refused_body(github: GithubServer) -> None:
    """A server that refuses at the first bytes of a large body is heard, not only its closed door."""
    github.fail(Fault("status", status=422, message="Cannot upload assets to an immutable release."))
    call = Call(method="POST", url=f"{github.api}/x", headers={}, body=Json(bytes(50_000_000)))
    try:
        answer = exchange(call)
    except UnansweredError:
        return  # the reset overtook the answer, which TCP allows; the caller looks what became of it
    assert answer.status == 422


def test_answers_that_end_early(github: GithubServer) -> None:
    """Half an answer is none."""
    github.fail(Fault("truncated"))
    with pytest.raises(UnansweredError, match="ended early"):
        exchange(Call(method="GET", url=f"{github.api}/repos/owner/lantern", headers={}))


def test_nobody_listens() -> None:
    """A port where nobody is."""
    with GithubServer() as gone:
        url = f"{gone.api}/x"
    with pytest.raises(UnansweredError, match=r"127\.0\.0\.1"):
        exchange(Call(method="GET", url=url, headers={}))


@pytest.mark.parametrize(
    ("environ", "host", "port", "tunnel"),
    [
        ({}, "api.github.com", 443, None),
        ({"https_proxy": "http://proxy.example.org:3128"}, "proxy.example.org", 3128, "api.github.com"),
        (
            {"https_proxy": "http://proxy.example.org:3128", "no_proxy": "github.com"},
            "api.github.com",
            443,
            None,
        ),
        (
            {"https_proxy": "http://user:p%40ss@proxy.example.org:3128"},
            "proxy.example.org",
            3128,
            "api.github.com",
        ),
    ],
)
def test_proxies(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], host: str, port: int, tunnel: str | None
) -> None:
    """HTTPS_PROXY and NO_PROXY hold; through a proxy the request is tunnelled, so that it sees no token."""
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    connection: Any = wire._connection(urlsplit(f"{API}/x"))

    assert isinstance(connection, http.client.HTTPSConnection)
    assert (connection.host, connection.port, connection._tunnel_host) == (host, port, tunnel)
    given = connection._tunnel_headers.get("Proxy-Authorization", "") if tunnel else ""
    assert given == ("Basic dXNlcjpwQHNz" if "@" in environ.get("https_proxy", "") else "")
