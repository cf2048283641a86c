"""The http check: a request is answered with an accepted status.

As the kubelet does (kubernetes pkg/probe/http/http.go): every look opens its own connection, at most 10 KiB of the body
are read, a redirect to the same host is followed, and one to another host is an answer in itself.
"""

from __future__ import annotations

import aiohttp
from yarl import URL

from watchkeeper._version import __version__
from watchkeeper.checks import Outcome, failed, passed, reason
from watchkeeper.config.model import HttpCheck

BODY_LIMIT = 10 * 1024
REDIRECT_LIMIT = 10
HEADERS = {"User-Agent": f"watchkeeper/{__version__}", "Accept": "*/*"}


async def probe_http(spec: HttpCheck) -> Outcome:
    """Ask once; the deadline is the caller's."""
    connector = aiohttp.TCPConnector(force_close=True, ssl=spec.tls_verify)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), headers=HEADERS
    ) as session:
        try:
            return await _ask(session, spec)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return failed(f"{spec.url}: {reason(getattr(error, 'os_error', error))}")


async def _ask(session: aiohttp.ClientSession, spec: HttpCheck) -> Outcome:
    url = URL(spec.url)
    for _ in range(REDIRECT_LIMIT):
        async with session.request(spec.method, url, headers=spec.headers, allow_redirects=False) as response:
            await response.content.read(BODY_LIMIT)
            target = _redirect(response, url)
            if target is None or response.status in spec.status:
                return _judge(spec, response.status)
            url = target
    return failed(f"{spec.url}: more than {REDIRECT_LIMIT} redirects")


def _redirect(response: aiohttp.ClientResponse, url: URL) -> URL | None:
    """Where to go on, if that is the same host."""
    location = response.headers.get("Location")
    if not 300 <= response.status < 400 or location is None:
        return None
    target = url.join(URL(location))
    return target if target.host == url.host else None


def _judge(spec: HttpCheck, status: int) -> Outcome:
    accepted = status in spec.status if spec.status else 200 <= status < 400
    return passed(f"status {status}") if accepted else failed(f"{spec.url}: status {status}")
