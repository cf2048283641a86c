"""The parts of aiohttp's server that are used here.

`aiohttp.web` has them all, and imports a router, templates of sites and a runner beside them: 1.4 MB that nobody would use.
"""

from __future__ import annotations

from watchkeeper.lean import without_certificates

with without_certificates():
    from aiohttp.web_protocol import RequestHandler
    from aiohttp.web_request import BaseRequest
    from aiohttp.web_response import Response, StreamResponse
    from aiohttp.web_server import Server

__all__ = ["BaseRequest", "RequestHandler", "Response", "Server", "StreamResponse"]
