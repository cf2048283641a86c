"""The certificate check: certificates in a file, or those that a server shows, and how long they still hold.

A server's chain and name are verified by OpenSSL in the handshake. Of a file the dates, the name, and that each
certificate was issued by the one that follows it are looked at; signatures are not.
"""

from __future__ import annotations

import itertools
import pathlib

from watchkeeper.checks import Memory, Outcome, Word, failed, own_fault, passed, reason, unreachable
from watchkeeper.checks.connect import CertificateError, Tls, UnreachableError, connect
from watchkeeper.checks.expiry import judge_days
from watchkeeper.checks.threads import THREADS, owner
from watchkeeper.checks.x509 import Certificate, NotACertificateError, read_der, read_pem
from watchkeeper.config.schema.checks import CertificateCheck
from watchkeeper.config.schema.common import split_address

FILE_LIMIT = 1024 * 1024


async def probe(spec: CertificateCheck, memory: Memory) -> Outcome:
    """Look at the certificates once."""
    where = spec.file or spec.address or ""
    try:
        chain = await _of_file(spec, memory) if spec.file else await _of_server(spec)
    except NotACertificateError as error:
        return failed(f"{where}: {error}")
    except CertificateError as error:
        return failed(f"{where}: {error}")
    except UnreachableError as error:
        return unreachable(f"{where}: {error}")
    except OSError as error:
        if own_fault(error):
            raise
        return (
            failed(f"{where} cannot be read: {reason(error)}")
            if spec.file
            else unreachable(f"{where}: {reason(error)}")
        )
    return _judge(spec, where, chain)


async def _of_file(spec: CertificateCheck, memory: Memory) -> list[Certificate]:
    def read() -> bytes:
        with pathlib.Path(spec.file or "").open("rb") as stream:
            return stream.read(FILE_LIMIT)

    return read_pem(await THREADS.run(owner(memory), read))


async def _of_server(spec: CertificateCheck) -> list[Certificate]:
    address = spec.address or ""
    host, _ = split_address(address)
    connection = await connect(address, Tls(spec.tls, host), spec.timeout)
    try:
        return [read_der(each) for each in connection.chain]
    finally:
        connection.close()


def _judge(spec: CertificateCheck, where: str, chain: list[Certificate]) -> Outcome:
    """The worst that there is to say about any of them; of equals the first."""
    if not chain:
        return failed(f"{where}: it shows no certificate")
    if spec.hostname is not None and not chain[0].good_for(spec.hostname):
        names = ", ".join(chain[0].names[:5]) or "none"
        return failed(f"{where}: the certificate is not good for {spec.hostname}; its names are: {names}")
    if spec.file is not None:
        for lower, upper in itertools.pairwise(chain):
            if lower.issuer != upper.subject:
                return failed(f"{where}: {lower.title} was not issued by {upper.title}, which follows it")
    found = [judge_days(each, spec.min_days, spec.warn_days) for each in chain]
    worst = max(found, key=lambda outcome: outcome.level)
    if worst.word is Word.OK:
        return passed(f"{where}: {found[0].detail}")
    return Outcome(worst.success, f"{where}: {worst.detail}", worst.error_class, word=worst.word)
