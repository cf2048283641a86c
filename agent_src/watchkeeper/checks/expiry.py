"""How long a certificate is still good for."""

from __future__ import annotations

import time

from watchkeeper.checks import Outcome, failed, passed, warned
from watchkeeper.checks.x509 import Certificate, NotACertificateError, read_der

DAY = 86_400.0


def judge_days(certificate: bytes | Certificate, least: float, warn: float) -> Outcome:
    """Failed with fewer than `least` days left, a warning with fewer than `warn`."""
    if isinstance(certificate, bytes):
        try:
            certificate = read_der(certificate)
        except NotACertificateError as error:
            return failed(str(error))
    now = time.time()
    days = (certificate.ends - now) / DAY
    if certificate.begins > now:
        return failed(f"the certificate of {certificate.title} is not valid yet")
    if days < 0:
        return failed(f"the certificate of {certificate.title} expired {_days(-days)} ago")
    said = f"the certificate of {certificate.title} expires in {_days(days)}"
    if days < least:
        return failed(said)
    return warned(said) if days < warn else passed(said)


def _days(days: float) -> str:
    return f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} hours"
