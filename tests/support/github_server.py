"""GitHub's releases, as far as its documents describe them, on a port of this machine.

    with GithubServer() as github:
        repository = github.repository("owner/lantern")
        repository.tags["v1.0.0"] = COMMIT
        github.fail(Fault("502", when=method("POST", "/assets")))
        ...  client with github.api and github.token
        repository.anonymous("v1.0.0")      what everyone sees

Strict where the real one is lenient: a request without a header that the documents ask for, or with a field that they do
not know, is refused and remembered in ``github.complaints``. Sources: "REST API endpoints for releases", "… for release
assets", "Rate limits for the REST API", "Immutable releases", and what others reported of names, limits and messages.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

TOKEN = "ghs_16C7e42F292c6912E7710c838347Ae178B4a"
READER = "ghp_readonly7e42F292c6912E7710c838347Ae1"
FIELDS = {"tag_name", "target_commitish", "name", "body", "draft", "prerelease", "make_latest",
          "discussion_category_name", "generate_release_notes"}  # fmt: skip
JSON = "application/vnd.github+json"
RAW = "application/octet-stream"
VERSION = "2022-11-28"


@dataclass
class Asset:
    id: int
    name: str
    state: str
    data: bytes
    media_type: str


@dataclass
class Release:
    id: int
    tag_name: str
    target_commitish: str
    name: str
    body: str
    draft: bool
    prerelease: bool
    make_latest: str = "true"
    immutable: bool = False
    assets: dict[int, Asset] = field(default_factory=dict)

    def named(self, name: str) -> Asset | None:
        return next((asset for asset in self.assets.values() if asset.name == name), None)


@dataclass
class Repository:
    """``tags`` name commits; ``annotated`` are tag objects in between; ``moved`` is the repository's number."""

    name: str
    immutable: bool = False
    digests: bool = True
    tags: dict[str, str] = field(default_factory=dict)
    annotated: dict[str, str] = field(default_factory=dict)
    releases: dict[int, Release] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)
    moved: int = 0

    def published(self, tag: str) -> Release | None:
        return next((one for one in self.releases.values() if one.tag_name == tag and not one.draft), None)

    def anonymous(self, tag: str) -> dict[str, bytes] | None:
        """What everyone sees of a tag: whole files by name, None without a release."""
        release = self.published(tag)
        if release is None:
            return None
        return {asset.name: asset.data for asset in release.assets.values() if asset.state == "uploaded"}

    def drafts(self, tag: str) -> list[Release]:
        return [one for one in self.releases.values() if one.tag_name == tag and one.draft]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    number: int


When = Callable[[Request], bool]


def method(name: str, part: str = "") -> When:
    """Requests of that method whose path contains the words."""
    return lambda request: request.method == name and part in request.path


@dataclass
class Fault:
    """What goes wrong, how many ``times``, for which requests.

    status      a refusal in place of an answer: ``status``, ``headers``, ``message``; nothing else happens
    502         an upload leaves a "starter" and answers 502
    half        an upload's connection is reset after half of the body; a "starter" is left
    reset       the connection is reset before anything was done
    lost        it is done, and the connection is reset before the answer
    truncated   it is done, and half of the answer arrives
    damaged     an upload arrives with other bytes
    vanished    the asset that was uploaded is gone again afterwards
    """

    kind: str
    when: When = lambda _request: True
    times: int = 1
    status: int = 503
    message: str = "a fault"
    headers: dict[str, str] = field(default_factory=dict)
    hits: int = 0


class RefusalError(Exception):
    """An answer that is no success."""

    def __init__(
        self, status: int, message: str, errors: list[Any] | None = None, headers: Any = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.document = {"message": message, "documentation_url": "https://docs.github.com/rest",
                         "status": str(status), **({"errors": errors} if errors else {})}  # fmt: skip
        self.headers: dict[str, str] = headers or {}


Reply = tuple[int, Any, dict[str, str]]


class GithubServer:
    """The server; ``base`` and ``uploads`` are paths in front, as GitHub Enterprise Server has them."""

    def __init__(self, *, base: str = "", uploads: str = "/uploads", page_limit: int = 100) -> None:
        self.base = base
        self.uploads = uploads
        self.page_limit = page_limit
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.complaints: list[str] = []
        self.token = TOKEN
        self.lock = threading.RLock()
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)
        self._server = Listener(("127.0.0.1", 0), Handler)
        self._server.github = self
        self.storage = Storage(self)
        self._threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
                         for server in (self._server, self.storage.server)]  # fmt: skip

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in (self._server, self.storage.server):
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def api(self) -> str:
        return f"{self.origin}{self.base}"

    def repository(self, name: str, **more: Any) -> Repository:
        self.repositories[name] = Repository(name=name, **more)
        return self.repositories[name]

    def fail(self, *faults: Fault) -> None:
        with self.lock:
            self._faults += faults

    def next_id(self) -> int:
        return next(self._ids)

    def fault(self, request: Request) -> Fault | None:
        with self.lock:
            for fault in self._faults:
                if fault.hits < fault.times and fault.when(request):
                    fault.hits += 1
                    return fault
        return None

    def count(self, name: str, part: str = "") -> int:
        """Requests of that method whose path contains the words."""
        return sum(method(name, part)(request) for request in self.requests)


class Storage:
    """Where files are downloaded from: another origin, which must never see a token."""

    def __init__(self, github: GithubServer) -> None:
        self.server = Listener(("127.0.0.1", 0), StorageHandler)
        self.server.github = github

    def url(self, asset: Asset) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/{asset.id}"


class Listener(ThreadingHTTPServer):
    github: GithubServer
    daemon_threads = True
    block_on_close = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests; a mistake in here is not."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.github.complaints.append(f"the server itself failed: {error!r}")


class StorageHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        github: GithubServer = self.server.github  # type: ignore[attr-defined]
        if "Authorization" in self.headers:
            github.complaints.append("the token was sent to the storage")
        found = [asset for repository in github.repositories.values() for release in repository.releases.values()
                 for asset in release.assets.values() if str(asset.id) == self.path[1:]]  # fmt: skip
        self.send_response(200 if found else 404)
        data = found[0].data if found else b""
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Nothing on the terminal."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do(self) -> None:
        self.close_connection = True
        github: GithubServer = self.server.github  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        with github.lock:
            request = Request(self.command, unquote(parts.path), query, headers, len(github.requests))
            github.requests.append(request)
        fault = github.fault(request)
        kind = fault.kind if fault else ""
        if kind == "reset":
            self.reset()
            return
        size = int(headers.get("content-length", "0"))
        if fault and kind == "status":
            self.refuse_early(fault)
            return
        body = self.rfile.read(size // 2 if kind == "half" else size)
        if kind == "damaged":
            body = bytes(byte ^ 1 for byte in body)
        with github.lock:
            status, document, more = Answers(github, request, body, kind).answer()
        if kind in ("half", "lost"):
            self.reset()
            return
        self.reply(status, document, more, truncated=kind == "truncated")

    do_GET = do_POST = do_PATCH = do_DELETE = do  # noqa: N815 - http.server's names

    def refuse_early(self, fault: Fault) -> None:
        """An answer before the body was read, as from whatever stands in front of a server."""
        self.reply(fault.status, {"message": fault.message}, fault.headers)

    def reply(self, status: int, document: Any, headers: dict[str, str], *, truncated: bool = False) -> None:
        data = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json; charset=utf-8", **headers}.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if truncated else data)

    def reset(self) -> None:
        """End the connection as a machine does that lost its power: no answer, no farewell."""
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def log_message(self, *args: Any) -> None:
        """Nothing on the terminal."""


def invalid(resource: str, name: str, code: str, message: str = "") -> RefusalError:
    error = {"resource": resource, "field": name, "code": code, **({"message": message} if message else {})}
    return RefusalError(422, "Validation Failed", [error])


class Answers:
    """One request's answer."""

    def __init__(self, github: GithubServer, request: Request, body: bytes, fault: str) -> None:
        self.github = github
        self.request = request
        self.body = body
        self.fault = fault

    def answer(self) -> Reply:
        limits = {
            "X-RateLimit-Limit": "5000",
            "X-RateLimit-Remaining": "4000",
            "X-RateLimit-Reset": "1790003600",
        }
        try:
            status, document, headers = self.dispatch()
        except RefusalError as refusal:
            return refusal.status, refusal.document, {**limits, **refusal.headers}
        return status, document, {**limits, **headers}

    def dispatch(self) -> Reply:
        self.check_headers()
        path = self.request.path
        for prefix, routes in ((self.github.uploads, UPLOADS), (self.github.base, ROUTES)):
            if not path.startswith(prefix + "/"):
                continue
            for name, pattern, handler in routes:
                match = re.fullmatch(pattern, path.removeprefix(prefix))
                if match and name == self.request.method:
                    repository, *rest = self.resolve(match)
                    return handler(self, repository, *rest)
        raise RefusalError(404, "Not Found")

    def resolve(self, match: re.Match[str]) -> list[Any]:
        """The repository, and the rest of what the pattern found."""
        name, *rest = match.groups()
        number = int(name.removeprefix("repositories/")) if name.startswith("repositories/") else 0
        found = [one for one in self.github.repositories.values()
                 if one.moved == number and (number or one.name == name.removeprefix("repos/"))]  # fmt: skip
        if found:
            return [found[0], *rest]
        moved = self.github.repositories.get(name.removeprefix("repos/"))
        if moved is not None:
            status = 301 if self.request.method == "GET" else 307
            where = self.request.path.replace(name, f"repositories/{moved.moved}", 1)
            where += f"?{urlencode(self.request.query)}" if self.request.query else ""
            raise RefusalError(
                status, "Moved Permanently", headers={"Location": f"{self.github.origin}{where}"}
            )
        raise RefusalError(404, "Not Found")

    def complain(self, text: str) -> RefusalError:
        self.github.complaints.append(f"{self.request.method} {self.request.path}: {text}")
        return RefusalError(400, text)

    def check_headers(self) -> None:
        headers, name = self.request.headers, self.request.method
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if token not in ("", self.github.token, READER) or (not token and "authorization" in headers):
            raise RefusalError(401, "Bad credentials")
        if name != "GET" and token != self.github.token:
            raise RefusalError(
                403 if token else 401,
                "Resource not accessible by integration" if token else "Requires authentication",
            )
        if not headers.get("user-agent"):
            raise self.complain("Request forbidden by administrative rules: no User-Agent")
        if headers.get("accept") not in (JSON, RAW):
            raise self.complain(f"Accept is {headers.get('accept')}")
        if headers.get("x-github-api-version") != VERSION:
            raise self.complain("no X-GitHub-Api-Version")
        if "transfer-encoding" in headers or (name in ("POST", "PATCH") and "content-length" not in headers):
            raise self.complain("411: Content-Length is needed")
        if name in ("POST", "PATCH") and "content-type" not in headers:
            raise self.complain("no Content-Type")

    @property
    def writer(self) -> bool:
        return self.request.headers.get("authorization") == f"Bearer {self.github.token}"

    # -- reading ------------------------------------------------------------------------------------------------------

    def get_repository(self, repository: Repository) -> Reply:
        return 200, {"id": 1, "full_name": repository.name, "private": False}, {}

    def get_ref(self, repository: Repository, tag: str) -> Reply:
        commit = repository.tags.get(tag)
        if commit is None:
            raise RefusalError(404, "Not Found")
        sha = next((sha for sha, target in repository.annotated.items() if target == commit), "")
        kind = "tag" if sha else "commit"
        return (
            200,
            {
                "ref": f"refs/tags/{tag}",
                "object": {"type": kind, "sha": sha or commit, "url": f"{self.github.api}/x"},
            },
            {},
        )

    def get_tag(self, repository: Repository, sha: str) -> Reply:
        if sha not in repository.annotated:
            raise RefusalError(404, "Not Found")
        return (
            200,
            {
                "sha": sha,
                "object": {"type": "commit", "sha": repository.annotated[sha], "url": f"{self.github.api}/x"},
            },
            {},
        )

    def get_by_tag(self, repository: Repository, tag: str) -> Reply:
        release = repository.published(tag)
        if release is None:  # drafts are not found by their tag
            raise RefusalError(404, "Not Found")
        return 200, self.shown(repository, release), {}

    def get_releases(self, repository: Repository) -> Reply:
        newest = sorted(repository.releases.values(), key=lambda one: -one.id)
        return self.page([self.shown(repository, one) for one in newest if self.writer or not one.draft])

    def get_release(self, repository: Repository, number: str) -> Reply:
        return 200, self.shown(repository, self.release(repository, number)), {}

    def get_assets(self, repository: Repository, number: str) -> Reply:
        release = self.release(repository, number)
        return self.page([self.asset(repository, one) for one in release.assets.values()])

    def get_asset(self, repository: Repository, number: str) -> Reply:
        _, asset = self.find(repository, number)
        if self.request.headers["accept"] == RAW:
            return 302, None, {"Location": self.github.storage.url(asset)}
        return 200, self.asset(repository, asset), {}

    # -- changing -----------------------------------------------------------------------------------------------------

    def fields(self) -> dict[str, Any]:
        sent = json.loads(self.body)
        if unknown := set(sent) - FIELDS:
            raise self.complain(f"unknown fields: {sorted(unknown)}")
        if len(sent.get("body", "")) > 125_000:
            raise invalid("Release", "body", "custom", "body is too long (maximum is 125000 characters)")
        return dict(sent)

    def create_release(self, repository: Repository) -> Reply:
        sent = {
            "name": "",
            "body": "",
            "draft": False,
            "prerelease": False,
            "target_commitish": "main",
            **self.fields(),
        }
        release = Release(id=self.github.next_id(), **sent)
        if not release.draft:
            self.open(repository, release)
        repository.releases[release.id] = release
        return 201, self.shown(repository, release), {}

    def update_release(self, repository: Repository, number: str) -> Reply:
        release, sent = self.release(repository, number), self.fields()
        if release.immutable and {"tag_name", "target_commitish", "draft"} & set(sent):
            raise RefusalError(422, "Cannot update an immutable release.")
        was_draft = release.draft
        for name, value in sent.items():
            setattr(release, name, value)
        if was_draft and not release.draft:
            release.draft = True  # until nothing is against it
            self.open(repository, release)
            release.draft = False
        return 200, self.shown(repository, release), {}

    def open(self, repository: Repository, release: Release) -> None:
        """Make a release visible."""
        if release.tag_name in repository.spent:
            raise RefusalError(422, "Validation Failed", [
                {"resource": "Release", "code": "custom", "field": "tag_name",
                 "message": "tag_name was used by an immutable release"},
                {"resource": "Release", "code": "custom", "message": "Published releases must have a valid tag"},
            ])  # fmt: skip
        if repository.published(release.tag_name) is not None:
            raise invalid("Release", "tag_name", "already_exists")
        repository.tags.setdefault(release.tag_name, release.target_commitish)
        if repository.immutable:
            release.immutable = True
            repository.spent.add(release.tag_name)

    def delete_release(self, repository: Repository, number: str) -> Reply:
        del repository.releases[self.release(repository, number).id]
        return 204, None, {}

    def delete_asset(self, repository: Repository, number: str) -> Reply:
        release, asset = self.find(repository, number)
        if release.immutable:
            raise RefusalError(422, "Cannot delete an asset of an immutable release.")
        del release.assets[asset.id]
        return 204, None, {}

    def upload(self, repository: Repository, number: str) -> Reply:
        release = self.release(repository, number)
        name = renamed(self.request.query["name"])
        if release.immutable:
            raise RefusalError(422, "Cannot upload assets to an immutable release.")
        if release.named(name) is not None:
            raise invalid("ReleaseAsset", "name", "already_exists")
        if len(release.assets) >= 1000:
            raise invalid(
                "ReleaseAsset", "file_count", "custom", "file_count limited to 1000 assets per release"
            )
        if not self.body:
            raise RefusalError(400, "Bad Content-Length")
        if self.fault in ("502", "half"):
            number = self.github.next_id()
            release.assets[number] = Asset(number, name, "starter", b"", "")
            raise RefusalError(502, "Bad Gateway")
        asset = Asset(
            self.github.next_id(), name, "uploaded", self.body, self.request.headers["content-type"]
        )
        if self.fault != "vanished":
            release.assets[asset.id] = asset
        return 201, self.asset(repository, asset), {}

    # -- parts --------------------------------------------------------------------------------------------------------

    def release(self, repository: Repository, number: str) -> Release:
        release = repository.releases.get(int(number))
        if release is None or (release.draft and not self.writer):
            raise RefusalError(404, "Not Found")
        return release

    def find(self, repository: Repository, number: str) -> tuple[Release, Asset]:
        for release in repository.releases.values():
            if int(number) in release.assets and (self.writer or not release.draft):
                return release, release.assets[int(number)]
        raise RefusalError(404, "Not Found")

    def page(self, rows: list[Any]) -> Reply:
        size = min(int(self.request.query.get("per_page", "30")), self.github.page_limit)
        number = int(self.request.query.get("page", "1"))
        links = {}
        if number * size < len(rows):
            address = f"{self.github.origin}{self.request.path}?per_page={size}&page="
            last = -(-len(rows) // size)
            links["Link"] = f'<{address}{number + 1}>; rel="next", <{address}{last}>; rel="last"'
        return 200, rows[(number - 1) * size : number * size], links

    def where(self, repository: Repository) -> str:
        return f"{self.github.api}/repos/{repository.name}/releases"

    def shown(self, repository: Repository, release: Release) -> dict[str, Any]:
        url = f"{self.where(repository)}/{release.id}"
        page = f"untagged-{release.id}" if release.draft else release.tag_name
        uploads = f"{self.github.origin}{self.github.uploads}/repos/{repository.name}/releases/{release.id}"
        return {
            "id": release.id, "url": url, "assets_url": f"{url}/assets", "upload_url": f"{uploads}/assets{{?name,label}}",
            "html_url": f"https://github.example/{repository.name}/releases/tag/{page}", "tag_name": release.tag_name,
            "target_commitish": release.target_commitish, "name": release.name, "body": release.body,
            "draft": release.draft, "prerelease": release.prerelease, "immutable": release.immutable, "author": {"login": "x"},
            "assets": [self.asset(repository, one) for one in release.assets.values()][:30],
        }  # fmt: skip

    def asset(self, repository: Repository, asset: Asset) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(asset.data).hexdigest()}"
        known = repository.digests and asset.state == "uploaded"
        return {
            "id": asset.id, "name": asset.name, "state": asset.state, "size": len(asset.data), "label": "",
            "content_type": asset.media_type, "url": f"{self.where(repository)}/assets/{asset.id}", "download_count": 0,
            **({"digest": digest if known else None} if repository.digests else {}),
        }  # fmt: skip


def renamed(name: str) -> str:
    """What GitHub makes of a name: other characters become one period, and none stands at an end."""
    return re.sub(r"\.+", ".", re.sub(r"[^A-Za-z0-9._+-]+", ".", name)).strip(".")


Route = tuple[str, str, Callable[..., Reply]]
_NAME = r"/(repos/[\w.-]+/[\w.-]+|repositories/\d+)"
ROUTES: tuple[Route, ...] = (
    ("GET", _NAME, Answers.get_repository),
    ("GET", _NAME + r"/git/ref/tags/(.+)", Answers.get_ref),
    ("GET", _NAME + r"/git/tags/(\w+)", Answers.get_tag),
    ("GET", _NAME + r"/releases/tags/(.+)", Answers.get_by_tag),
    ("GET", _NAME + r"/releases", Answers.get_releases),
    ("POST", _NAME + r"/releases", Answers.create_release),
    ("GET", _NAME + r"/releases/(\d+)", Answers.get_release),
    ("PATCH", _NAME + r"/releases/(\d+)", Answers.update_release),
    ("DELETE", _NAME + r"/releases/(\d+)", Answers.delete_release),
    ("GET", _NAME + r"/releases/(\d+)/assets", Answers.get_assets),
    ("GET", _NAME + r"/releases/assets/(\d+)", Answers.get_asset),
    ("DELETE", _NAME + r"/releases/assets/(\d+)", Answers.delete_asset),
)
UPLOADS: tuple[Route, ...] = (("POST", _NAME + r"/releases/(\d+)/assets", Answers.upload),)
