"""The Kubernetes API, as far as the agent needs it: lists in pieces, watches, merge patches, over the agent's own client.

Written from the API concepts page and the API conventions; nothing else of Kubernetes is known here.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from watchkeeper.config.schema.sources import KubernetesSource
from watchkeeper.outbound.client import Answer, Client, Limits, RequestError, Stream

GROUP, VERSION, PLURAL, KIND = "watchkeeper.internal", "v1", "servicechecks", "ServiceCheck"
ACCOUNT = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
T = TypeVar("T")
MERGE_PATCH = "application/merge-patch+json"
CONNECT_LIMIT = 5.0


class KubeError(Exception):
    """The API server did not do what it was asked; the text is one line.

    `status` is 0 where there was no answer; `retry_after` is in seconds.
    """

    def __init__(self, message: str, status: int = 0, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after

    @property
    def gone(self) -> bool:
        """The resource version that was asked for is too old (410): only a new list helps."""
        return self.status == 410

    @property
    def conflict(self) -> bool:
        """The object has changed meanwhile (409)."""
        return self.status == 409


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """What the agent reads of ObjectMeta."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    deletion_timestamp: str | None = None
    finalizers: tuple[str, ...] = ()


class Object(msgspec.Struct, frozen=True):
    """One ServiceCheck; `spec` and `status` are plain data, as the server has them."""

    metadata: Meta = Meta()
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Namespace and name, as the configuration calls it; a dot is in no namespace (RFC 1123 labels)."""
        return f"{self.metadata.namespace}.{self.metadata.name}"


class ListMeta(
    msgspec.Struct, frozen=True, rename={"resource_version": "resourceVersion", "more": "continue"}
):
    """What the agent reads of a list's own metadata."""

    resource_version: str = ""
    more: str = ""


class Page(msgspec.Struct, frozen=True):
    """One piece of a list."""

    metadata: ListMeta = ListMeta()
    items: tuple[Object, ...] = ()


class Event(msgspec.Struct, frozen=True):
    """One line of a watch: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, and what it is about."""

    type: str
    object: msgspec.Raw


class Status(msgspec.Struct, frozen=True):
    """What the server answers instead of an object."""

    message: str = ""
    code: int = 0


class KubeClient:
    """One cluster, one namespace or all of them."""

    def __init__(self, spec: KubernetesSource, http: Client) -> None:
        self._spec, self._http = spec, http
        self._base = (spec.url or _in_cluster()).rstrip("/")
        self._tls = spec.tls
        if self._tls.ca_file is None and (ACCOUNT / "ca.crt").exists():
            self._tls = msgspec.structs.replace(self._tls, ca_file=str(ACCOUNT / "ca.crt"))

    async def page(self, *, more: str = "", version: str | None = None) -> Page:
        """One piece of the list.

        Args:
            more: the token of the piece before; empty: the first.
            version: None: the newest; "0": whatever the server has at hand.

        Raises:
            KubeError: it cannot be had, or is no list.
        """
        query = {"limit": str(self._spec.page_size)}
        if more:
            query["continue"] = more
        elif version is not None:
            query["resourceVersion"] = version
        answer = await self._request("GET", self._collection(query))
        return _decode(answer.body, Page, "the list")

    @contextlib.asynccontextmanager
    async def watch(self, version: str, seconds: int) -> AsyncIterator[Stream]:
        """A watch from a resource version on, which the server ends after so many seconds; lines of JSON.

        Raises:
            KubeError: there is none; while it is read, RequestError.
        """
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        limits = Limits(connect=CONNECT_LIMIT, read=0, total=0)
        url = self._collection(query)
        async with self._http.stream(
            "GET", url, headers=self._headers(), limits=limits, tls=self._tls
        ) as stream:
            if stream.status != 200:
                raise _refusal(Answer(stream.status, stream.headers, await stream.read(1 << 16)), url)
            yield stream

    async def patch(self, meta: Meta, change: Mapping[str, Any], *, subresource: str = "") -> Object:
        """Merge a change into one object (RFC 7386); the object afterwards.

        Raises:
            KubeError: 404 it is gone, 409 it has changed meanwhile, and everything else.
        """
        path = self._object(meta) + (f"/{subresource}" if subresource else "")
        body = msgspec.json.encode(change)
        answer = await self._request("PATCH", path, body=body, content_type=MERGE_PATCH)
        return _decode(answer.body, Object, "the object")

    async def _request(
        self, method: str, url: str, *, body: bytes | None = None, content_type: str = ""
    ) -> Answer:
        headers = self._headers() | ({"Content-Type": content_type} if content_type else {})
        limits = Limits(connect=CONNECT_LIMIT, read=self._spec.timeout, total=self._spec.timeout)
        try:
            answer = await self._http.request(
                method, url, headers=headers, body=body, limits=limits, tls=self._tls, body_limit=64 << 20
            )
        except RequestError as error:
            raise KubeError(str(error)) from None
        if not 200 <= answer.status < 300:
            raise _refusal(answer, url)
        return answer

    def _headers(self) -> dict[str, str]:
        token = self._spec.token or _read_token(self._spec.token_file)
        headers = {"Accept": "application/json"}
        return headers | ({"Authorization": f"Bearer {token}"} if token else {})

    def _collection(self, query: Mapping[str, str]) -> str:
        selector = {"labelSelector": self._spec.label_selector} if self._spec.label_selector else {}
        namespace = f"namespaces/{quote(self._spec.namespace, safe='')}/" if self._spec.namespace else ""
        path = f"{self._base}/apis/{GROUP}/{VERSION}/{namespace}{PLURAL}"
        return f"{path}?{urlencode({**query, **selector})}"

    def _object(self, meta: Meta) -> str:
        namespace, name = quote(meta.namespace, safe=""), quote(meta.name, safe="")
        return f"{self._base}/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{name}"


def decode_object(raw: msgspec.Raw | bytes) -> Object:
    """An object of a watch event.

    Raises:
        KubeError: it is something else.
    """
    return _decode(bytes(raw), Object, "an object")


def decode_status(raw: msgspec.Raw | bytes) -> Status:
    """The object of an ERROR event; nonsense is a status without a code."""
    try:
        return msgspec.json.decode(bytes(raw), type=Status)
    except (msgspec.MsgspecError, RecursionError):
        return Status("an error without a status")


def _decode(body: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise KubeError(f"{what} of the Kubernetes API cannot be read: {error}") from None


def _refusal(answer: Answer, url: str) -> KubeError:
    detail = decode_status(answer.body).message if answer.body[:1] == b"{" else ""
    again = answer.headers.get("Retry-After", "")
    place = url.partition("?")[0]
    return KubeError(
        f"{place}: status {answer.status}{': ' + detail if detail else ''}",
        answer.status,
        float(again) if again.isascii() and again.isdigit() else 0.0,
    )


def _in_cluster() -> str:
    """Where a pod finds the API server (Accessing the Kubernetes API from a Pod)."""
    host, port = (
        os.environ.get("KUBERNETES_SERVICE_HOST", ""),
        os.environ.get("KUBERNETES_SERVICE_PORT", "443"),
    )
    if not host:
        return "https://kubernetes.default.svc"
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _read_token(path: str) -> str:
    try:
        return pathlib.Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
