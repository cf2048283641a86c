"""moto's S3 on loopback, in this process: starts in no time, honours conditions, checks signatures when it is told to."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

# moto takes any key until it is told to look; these are what its own documents use.
ANYONE = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@dataclass(frozen=True)
class S3:
    """A running server: where it is, and credentials that it takes (as environment variables)."""

    url: str
    environ: Mapping[str, str] = field(default_factory=lambda: dict(ANYONE))

    def client(self, service: str = "s3", **more: Any) -> Any:
        """boto3's own client, for what a test does behind the store's back."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environ["AWS_SECRET_ACCESS_KEY"],
            verify=self.environ.get("AWS_CA_BUNDLE"),
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
            **more,
        )

    def make_bucket(self, name: str) -> None:
        client = self.client()
        client.create_bucket(Bucket=name)
        client.close()


@contextmanager
def moto_server() -> Iterator[S3]:
    """A server that takes any signature."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        running = S3(f"http://{host}:{port}")
        reset(running)  # all servers of a process share what they hold
        yield running
    finally:
        server.stop()


def make_public(server: S3, bucket: str) -> None:
    """A new bucket that everyone may read."""
    server.make_bucket(bucket)
    rule = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    client = server.client()
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [rule]}))
    client.close()


def reset(server: S3) -> None:
    """Forget all buckets and objects."""
    _post(f"{server.url}/moto-api/reset")


def user(server: S3, name: str, *actions: str, resource: str = "*") -> S3:
    """The same server for a new user who may do these actions; made before `check_signatures`."""
    iam = server.client("iam")
    iam.create_user(UserName=name)
    if actions:
        rule = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
        iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    iam.close()
    keys = {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}
    return S3(server.url, keys)


@contextmanager
def check_signatures(server: S3) -> Iterator[None]:
    """From now on a wrong signature, an unknown key and a missing right are refused."""
    _post(f"{server.url}/moto-api/reset-auth", b"0")
    try:
        yield
    finally:
        _post(f"{server.url}/moto-api/reset-auth", b"1000000000")


def _post(url: str, data: bytes = b"") -> None:
    plain = {"Content-Type": "text/plain"}
    with urllib.request.urlopen(urllib.request.Request(url, data=data, method="POST", headers=plain)):
        pass
