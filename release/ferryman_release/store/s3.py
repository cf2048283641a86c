"""The one module that speaks to S3 (through boto3), and what makes a store of a bucket.

Always signature version 4. With an endpoint the bucket is in the path. Five attempts in botocore's standard mode; 5 s
to connect, 30 s without a byte. Credentials come from where AWS's own tools take them and from nowhere else.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import botocore.exceptions  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]

from ferryman_build.settings import ReleaseSettings
from ferryman_release.store.base import Entry, Headers
from ferryman_release.store.bucket import BucketStore
from ferryman_release.store.capabilities import kept_path
from ferryman_release.store.failures import Facts, explain
from ferryman_release.store.opening import bucket_of, store_url
from ferryman_release.store.probe import Connect
from ferryman_release.store.wire import (
    Body,
    ChangedError,
    ConditionFailedError,
    NoUploadError,
    Part,
    Stored,
    Upload,
    WireError,
)

CONNECT_SECONDS, READ_SECONDS = 5, 30
ATTEMPTS = 5
CONNECTIONS = 20
_READS = 3  # a body that is cut short is asked for again; botocore does that only for what it reads itself
_CHUNK = 1 << 20
_SHA256 = "sha256"
_HEX = 64  # digits of it

_REFUSED = frozenset({"PreconditionFailed"})
_PRECONDITION_FAILED = 412
_REFUSALS = (400, 401, 403)
_SIGNATURE_SECONDS = 15 * 60  # around the store's time
_NO_UPLOAD = frozenset({"NoSuchUpload", "InvalidPart", "InvalidPartOrder"})
_NONE = frozenset({"NoSuchKey", "404", "NotFound"})


def open_bucket(settings: ReleaseSettings, root: Path, environ: Mapping[str, str]) -> BucketStore:
    """The store of an s3: URL. Nothing is asked of it yet."""
    url = store_url(settings, root)
    return BucketStore(
        url=url,
        prefix=bucket_of(url)[1],
        endpoint=settings.endpoint,
        compat=settings.compat,
        connect=connector(settings, url, environ),
        kept_in=kept_path(root, url, settings.endpoint),
    )


def connector(settings: ReleaseSettings, url: str, environ: Mapping[str, str]) -> Connect:
    """What makes a wire to the bucket, with relaxed checksums or boto3's own."""

    def connect(*, relaxed: bool) -> Boto:
        return Boto(settings, bucket_of(url)[0], environ, relaxed=relaxed)

    return connect


def client_config(settings: ReleaseSettings, *, relaxed: bool) -> Config:
    """How boto3 is to speak."""
    checksums = "when_required" if relaxed else "when_supported"
    return Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if settings.endpoint or settings.path_style else "auto"},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        user_agent_extra="ferryman",
    )


def _session(environ: Mapping[str, str], region: str) -> Any:
    """The usual chain; what ``environ`` says is handed over, since boto3 reads only the process's own."""
    key, secret = environ.get("AWS_ACCESS_KEY_ID") or None, environ.get("AWS_SECRET_ACCESS_KEY") or None
    if (key is None) != (secret is None):  # boto3 would go on without saying anything
        missing = "AWS_ACCESS_KEY_ID" if key is None else "AWS_SECRET_ACCESS_KEY"
        raise botocore.exceptions.PartialCredentialsError(provider="environment", cred_var=missing)
    return boto3.Session(
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=environ.get("AWS_SESSION_TOKEN") or None,
        profile_name=environ.get("AWS_PROFILE") or None,
        region_name=region,
    )


class Boto:
    """A bucket through boto3. The client is made at the first request; it is safe for threads."""

    def __init__(
        self, settings: ReleaseSettings, bucket: str, environ: Mapping[str, str], *, relaxed: bool
    ) -> None:
        self._settings = settings
        self._bucket = bucket
        self._environ = environ
        self._relaxed = relaxed
        self._made: Any = None
        self._lock = threading.Lock()

    # -- objects ------------------------------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        body: Body,
        headers: Headers,
        *,
        sha256: str,
        absent: bool = False,
        match: str | None = None,
    ) -> str:
        if sha256 and not self._signs_bodies():
            _check(sha256, _digest(body))
        asked = self._about(key, headers, sha256) | {"Body": body}
        if absent:
            asked["IfNoneMatch"] = "*"
        if match is not None:
            asked["IfMatch"] = match
        with self._asking("s3:PutObject", key):
            try:
                answer = self._patiently(lambda: self._client.put_object(**asked))
            except botocore.exceptions.ClientError as error:
                if match is None or _code(error) not in _NONE:
                    raise
                raise ConditionFailedError(_code(error)) from error  # there is nothing that could match
        return _bare(answer["ETag"])

    def get(self, key: str) -> tuple[bytes, Stored] | None:
        for attempt in range(_READS):
            with self._asking("s3:GetObject", key):
                try:
                    answer = self._client.get_object(Bucket=self._bucket, Key=key)
                    with closing(answer["Body"]) as body:
                        return body.read(), _stored(answer)
                except botocore.exceptions.ClientError as error:
                    if _code(error) in _NONE:
                        return None
                    raise
                except _CUT:
                    if attempt == _READS - 1:
                        raise
        raise AssertionError("not reached")

    def read(self, key: str) -> Iterator[bytes]:
        with self._asking("s3:GetObject", key):
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            with closing(answer["Body"]) as body:
                yield from body.iter_chunks(_CHUNK)

    def head(self, key: str) -> Stored | None:
        with self._asking("s3:GetObject", key):
            try:
                return _stored(self._client.head_object(Bucket=self._bucket, Key=key))
            except botocore.exceptions.ClientError as error:
                if _code(error) in _NONE:
                    return None
                raise

    def list(self, prefix: str) -> Iterator[Entry]:
        with self._asking("s3:ListBucket", prefix):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                for found in page.get("Contents", ()):
                    yield Entry(
                        key=found["Key"],
                        size=found["Size"],
                        etag=_bare(found.get("ETag", "")),
                        modified=found["LastModified"].timestamp(),
                    )

    def delete(self, key: str) -> None:
        with self._asking("s3:DeleteObject", key):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    # -- multipart uploads --------------------------------------------------------------------------------------------

    def begin(self, key: str, headers: Headers, *, sha256: str) -> str:
        with self._asking("s3:PutObject", key):
            return str(self._client.create_multipart_upload(**self._about(key, headers, sha256))["UploadId"])

    def part(self, key: str, upload: str, number: int, body: bytes) -> str:
        with self._asking("s3:PutObject", key):
            answer = self._client.upload_part(
                Bucket=self._bucket, Key=key, UploadId=upload, PartNumber=number, Body=body
            )
        return _bare(answer["ETag"])

    def parts(self, key: str, upload: str) -> Sequence[Part]:
        with self._asking("s3:ListMultipartUploadParts", key):
            pages = self._client.get_paginator("list_parts")
            return [
                Part(number=part["PartNumber"], etag=_bare(part["ETag"]), size=part["Size"])
                for page in pages.paginate(Bucket=self._bucket, Key=key, UploadId=upload)
                for part in page.get("Parts", ())
            ]

    def complete(self, key: str, upload: str, parts: Sequence[Part], *, absent: bool) -> str:
        made = [{"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in parts]
        condition = {"IfNoneMatch": "*"} if absent else {}
        with self._asking("s3:PutObject", key):
            answer = self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": made}, **condition
            )
        return _bare(answer.get("ETag", ""))

    def abort(self, key: str, upload: str) -> None:
        with self._asking("s3:AbortMultipartUpload", key):
            try:
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
            except botocore.exceptions.ClientError as error:
                if _code(error) not in _NO_UPLOAD | _NONE:
                    raise

    def uploads(self, prefix: str) -> Sequence[Upload]:
        try:
            with self._asking("s3:ListBucketMultipartUploads", prefix):
                pages = self._client.get_paginator("list_multipart_uploads")
                return [
                    Upload(key=one["Key"], id=one["UploadId"], started=one["Initiated"].timestamp())
                    for page in pages.paginate(Bucket=self._bucket, Prefix=prefix)
                    for one in page.get("Uploads", ())
                ]
        except WireError as error:
            if error.status in (403, 501):  # then nothing is continued, and nothing is lost
                return []
            raise

    # -- the bucket ---------------------------------------------------------------------------------------------------

    def versioned(self) -> bool | None:
        try:
            with self._asking("s3:GetBucketVersioning", ""):
                answer = self._client.get_bucket_versioning(Bucket=self._bucket)
        except WireError as error:
            if error.status in (403, 405, 501):
                return None
            raise
        return bool(answer.get("Status") == "Enabled")

    def close(self) -> None:
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    # -- how ----------------------------------------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                session = _session(self._environ, self._settings.region)
                self._made = session.client(
                    "s3",
                    endpoint_url=self._settings.endpoint or None,
                    verify=self._environ.get("AWS_CA_BUNDLE") or None,
                    config=client_config(self._settings, relaxed=self._relaxed),
                )
                self._made.meta.events.register("before-send.s3.PutObject", _check_signed)
            return self._made

    def _signs_bodies(self) -> bool:
        """Whether boto3 hashes a body for the signature; behind TLS a checksum that follows the body stands for it."""
        return self._relaxed or self._settings.endpoint.startswith("http:")

    def _about(self, key: str, headers: Headers, sha256: str) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "Bucket": self._bucket,
            "Key": key,
            "ContentType": headers.content_type,
            "CacheControl": headers.cache_control,
            "Metadata": {_SHA256: sha256},
        }
        return asked | encryption(self._settings.encryption)

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """AWS asks for a second try where two conditional writes meet (409 ConditionalRequestConflict)."""
        for _ in range(ATTEMPTS - 1):
            try:
                return ask()
            except botocore.exceptions.ClientError as error:
                if _code(error) != "ConditionalRequestConflict":
                    raise
        return ask()

    @contextmanager
    def _asking(self, action: str, key: str) -> Iterator[None]:
        """What botocore raises, as what the callers know."""
        try:
            yield
        except botocore.exceptions.ClientError as error:
            code = _code(error)
            if code in _REFUSED or _status(error) == _PRECONDITION_FAILED:
                raise ConditionFailedError(code) from error
            if code in _NO_UPLOAD:
                raise NoUploadError(code) from error
            if _status(error) in _REFUSALS and _clocks_disagree(error):
                code = "RequestTimeTooSkewed"  # some stores say only that access is denied
            raise explain(code, _status(error), self._facts(action, key, error)) from error
        except (botocore.exceptions.BotoCoreError, *_CUT) as error:
            raise explain(type(error).__name__, 0, self._facts(action, key, error)) from error

    def _facts(self, action: str, key: str, error: Exception) -> Facts:
        answer: Mapping[str, Any] = getattr(error, "response", None) or {}
        said, meta = answer.get("Error", {}), answer.get("ResponseMetadata", {})
        headers = meta.get("HTTPHeaders", {})
        here = _now().isoformat(timespec="seconds")
        return Facts(
            action=action,
            bucket=self._bucket,
            key=key,
            endpoint=self._settings.endpoint,
            region=self._settings.region,
            right_region=said.get("Region") or headers.get("x-amz-bucket-region", ""),
            our_clock=here,
            their_clock=said.get("ServerTime") or headers.get("date", "not told"),
            message=" ".join(str(said.get("Message") or ("" if answer else error)).split()),
        )


_CUT = (
    botocore.exceptions.IncompleteReadError,
    botocore.exceptions.ResponseStreamingError,
    botocore.exceptions.ReadTimeoutError,
    botocore.exceptions.FlexibleChecksumError,
)


def _check_signed(request: Any, **_rest: Any) -> None:
    """Called when a request is signed and not yet sent: the digest that was signed is the one that was said.

    So a body is hashed once for both. A file that changed since its digest was taken goes nowhere.
    """
    said = _text(request.headers.get(f"x-amz-meta-{_SHA256}"))
    signed = _text(request.headers.get("X-Amz-Content-SHA256"))
    if said and len(signed) == _HEX:  # else it is a word, such as UNSIGNED-PAYLOAD
        _check(said, signed)


def _check(said: str, found: str) -> None:
    if said != found:
        raise ChangedError(found)


def _digest(body: Body) -> str:
    """Of bytes, or of a file from its beginning, where it is left again."""
    if isinstance(body, bytes):
        return hashlib.sha256(body).hexdigest()
    digest = hashlib.file_digest(body, _SHA256).hexdigest()  # type: ignore[arg-type]
    body.seek(0)
    return digest


def _text(header: str | bytes | None) -> str:
    return header.decode("ascii") if isinstance(header, bytes) else header or ""


def encryption(setting: str) -> dict[str, str]:
    """The arguments that ask for encryption at rest: "AES256", "aws:kms", "aws:kms:KEY"."""
    if not setting:
        return {}
    if setting.startswith("aws:kms:"):
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": setting.removeprefix("aws:kms:")}
    return {"ServerSideEncryption": setting}


def _stored(answer: Mapping[str, Any]) -> Stored:
    return Stored(
        size=answer["ContentLength"],
        etag=_bare(answer.get("ETag", "")),
        modified=answer["LastModified"].timestamp(),
        sha256=answer.get("Metadata", {}).get(_SHA256, ""),
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _clocks_disagree(error: Any) -> bool:
    """Whether the store's answer is dated further from now than a signature holds."""
    date = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return abs((parsedate_to_datetime(date) - _now()).total_seconds()) > _SIGNATURE_SECONDS
    except (ValueError, TypeError):
        return False


def _bare(etag: str) -> str:
    return etag.strip('"')


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
