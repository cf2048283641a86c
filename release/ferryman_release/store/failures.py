"""What a store's refusals mean, and what to do: a table from its codes to a sentence and a cure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ferryman_release.store.wire import WireError


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a sentence can name: ``action`` is the S3 permission ("s3:PutObject"), clocks are ISO 8601."""

    action: str
    bucket: str
    key: str = ""
    endpoint: str = ""
    region: str = ""
    right_region: str = ""
    our_clock: str = ""
    their_clock: str = ""
    message: str = ""

    @property
    def where(self) -> str:
        """The store, for people."""
        return self.endpoint or f"AWS ({self.region})"

    @property
    def what(self) -> str:
        """The object or the bucket that it is about."""
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"


class Row(NamedTuple):
    """A sentence and a cure; both are formats over Facts."""

    sentence: str
    cure: str


_KEY_ID = Row(
    "{f.where} does not know the access key id.",
    "Set AWS_ACCESS_KEY_ID (or AWS_PROFILE) to a key of this store; `aws sts get-caller-identity` says which is used.",
)
_DENIED = Row(
    "{f.where} does not allow {f.action} on {f.what}.",
    "Give the key of the release {f.action} on this bucket and prefix; docs/stores.md has the whole policy.",
)
_REGION = Row(
    "The bucket {f.bucket} is in another region than {f.region}{f.right_region}.",
    "Set region in [tool.ferryman.release] to that of the bucket.",
)
_BUSY = Row(
    "{f.where} has refused {f.action} for load, five times in a row.",
    "Wait a minute and run the same command again: it goes on where it stopped.",
)
_BROKEN = Row(
    "{f.where} failed at {f.action} on {f.what}, five times in a row: {f.message}",
    "Run the same command again: it goes on where it stopped. If it stays so, ask whoever runs the store.",
)

# The code of S3's answer, or the name of botocore's exception where there was no answer.
TABLE: dict[str, Row] = {
    "InvalidAccessKeyId": _KEY_ID,
    "InvalidClientTokenId": _KEY_ID,
    "SignatureDoesNotMatch": Row(
        "{f.where} does not accept the signature: the secret key is not that of the access key id.",
        "Set AWS_SECRET_ACCESS_KEY to the secret that belongs to the key id; look for a blank or a line break in it.",
    ),
    "ExpiredToken": Row(
        "The session token for {f.where} has expired.",
        "Log in again (`aws sso login`, or a new role session), then run the same command again.",
    ),
    "RequestTimeTooSkewed": Row(
        "The clocks disagree: here it is {f.our_clock}, at {f.where} it is {f.their_clock}.",
        "Set this machine's clock (NTP); a signature holds for 15 minutes around the store's time.",
    ),
    "NoSuchBucket": Row(
        "There is no bucket {f.bucket} at {f.where}.",
        "Make the bucket, or correct url and endpoint in [tool.ferryman.release].",
    ),
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "MissingContentLength": Row(
        "{f.where} does not take checksums that come behind the body (411 MissingContentLength).",
        'Set compat = "relaxed" in [tool.ferryman.release], or "auto" to have the store asked.',
    ),
    "SlowDown": _BUSY,
    "ServiceUnavailable": _BUSY,
    "RequestLimitExceeded": _BUSY,
    "TooManyRequests": _BUSY,
    "ConditionalRequestConflict": Row(
        "Somebody else is writing {f.what} at the same moment.",
        "Wait until the other publisher has finished, then run the same command again.",
    ),
    "InternalError": _BROKEN,
    "BadDigest": Row(
        "{f.where} received other bytes for {f.what} than were sent.",
        "Run the same command again; if it stays so, something on the way (a proxy) changes what it carries.",
    ),
    "XAmzContentSHA256Mismatch": Row(
        "{f.where} received other bytes for {f.what} than were sent.",
        "Run the same command again; if it stays so, something on the way (a proxy) changes what it carries.",
    ),
    "EntityTooLarge": Row(
        "{f.what} is larger than {f.where} takes in one request.",
        "Publish to a store that honours conditions on multipart uploads (docs/stores.md), or make the artifact smaller.",
    ),
    "KMS.NotFoundException": Row(
        "{f.where} has no such encryption key: {f.message}",
        'Correct encryption in [tool.ferryman.release]: "AES256", or "aws:kms:" and the key.',
    ),
    "NoSuchKey": Row(
        "{f.what} is not there any more.",
        "Somebody has removed it meanwhile; run the same command again.",
    ),
    "NotImplemented": Row(
        "{f.where} does not know {f.action}: {f.message}",
        "Use a store that has it; docs/stores.md lists what publishing asks for.",
    ),
    "NoCredentialsError": Row(
        "There are no credentials for {f.where}.",
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or let the job assume a role.",
    ),
    "PartialCredentialsError": Row(
        "The credentials for {f.where} are incomplete: {f.message}",
        "Set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
    ),
    "ProfileNotFound": Row(
        "AWS_PROFILE names a profile that is not there: {f.message}",
        "Correct AWS_PROFILE, or add the profile to ~/.aws/config.",
    ),
    "EndpointConnectionError": Row(
        "{f.where} cannot be reached: {f.message}",
        "Look at endpoint in [tool.ferryman.release] and at the network; a proxy belongs into HTTPS_PROXY.",
    ),
    "SSLError": Row(
        "{f.where} has no certificate that this machine trusts: {f.message}",
        "Name the authority's certificate in AWS_CA_BUNDLE, or correct the endpoint.",
    ),
    "ReadTimeoutError": Row(
        "{f.where} has not answered {f.action} for 30 seconds, five times in a row.",
        "Run the same command again: it goes on where it stopped.",
    ),
    "IncompleteReadError": Row(
        "{f.where} sent less of {f.what} than it had announced, three times in a row.",
        "Run the same command again; if it stays so, something on the way cuts connections.",
    ),
    "FlexibleChecksumError": Row(
        "What {f.where} sent of {f.what} does not fit its checksum.",
        "Run the same command again; if it stays so, the object is damaged or a proxy changes what it carries.",
    ),
}

# What means the same.
_SAME = {
    "ConnectTimeoutError": "EndpointConnectionError",
    "ProxyConnectionError": "EndpointConnectionError",
    "ConnectionClosedError": "InternalError",
    "ResponseStreamingError": "IncompleteReadError",
    "ConnectionError": "EndpointConnectionError",
    "TokenRefreshRequired": "ExpiredToken",
    "RequestExpired": "RequestTimeTooSkewed",
    "OperationAborted": "ConditionalRequestConflict",
    "SSOTokenLoadError": "ExpiredToken",
    "UnauthorizedSSOTokenError": "ExpiredToken",
    "TokenRetrievalError": "ExpiredToken",
    "CredentialRetrievalError": "NoCredentialsError",
    "InvalidDigest": "BadDigest",
    "Forbidden": "AccessDenied",
}

# An answer to HEAD has no body and so no code.
_STATUS = {
    301: "PermanentRedirect",
    403: "AccessDenied",
    404: "NoSuchBucket",
    411: "MissingContentLength",
    429: "SlowDown",
    500: "InternalError",
    501: "NotImplemented",
    502: "InternalError",
    503: "SlowDown",
    504: "InternalError",
}
_REST = Row(
    "{f.where} refused {f.action} on {f.what}: {code}: {f.message}",
    "Look the code up in the documentation of the store; docs/stores.md lists what publishing asks for.",
)


def explain(code: str, status: int, facts: Facts) -> WireError:
    """The failure as a sentence with a cure."""
    name = _SAME.get(code, code)
    row = TABLE.get(name) or TABLE.get(_STATUS.get(status, ""), _REST)
    known = msgspec.structs.replace(
        facts,
        right_region=f": it is in {facts.right_region}" if facts.right_region else "",
        message=(facts.message or code or f"status {status}").rstrip("."),
    )
    sentence = row.sentence.format(f=known, code=code or status)
    return WireError(
        _ended(sentence), advice=row.cure.format(f=known), code=code or str(status), status=status
    )


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith(".") else f"{sentence}."
