"""A smoke test that can never pass, or never fail, is a mistake that only a reading of its values together shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ferryman_build.settings_checks import FERRYMAN, Surroundings
from ferryman_build.validate import Mistake
from ferryman_build.words import suggest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferryman_build.settings import Service, Settings
    from ferryman_build.toml_positions import KeyPath

_SMOKE = (*FERRYMAN, "smoke")
_SERVICE = (*_SMOKE, "service")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]+)\}")
_PLACEHOLDERS = ("port", "project", "tmp")


def smoke(settings: Settings, around: Surroundings) -> Iterator[Mistake]:
    """A smoke test that can fail: something is run, and what is expected can arrive."""
    service = settings.smoke.service
    if not settings.smoke.commands and service is None:
        yield Mistake(
            (*_SMOKE, "commands"),
            'empty, and there is no service — nothing would be tested; write [["--version"]]',
        )
    if service is None:
        return
    clear = not any(path[: len(_SERVICE)] == _SERVICE for path in around.unread)
    if clear and service.get and not service.ready:
        yield Mistake(
            (*_SERVICE, "get"), "needs ready — write the URL that answers 200 once the program can be read"
        )
    if clear and service.expect and not service.get:
        yield Mistake(
            (*_SERVICE, "expect"), "needs get — write the URLs in whose answers these words must occur"
        )
    if not service.exit_codes:
        yield Mistake((*_SERVICE, "exit-codes"), "empty — expected at least one code, such as 0")
    for number, code in enumerate(service.exit_codes):
        if not -64 <= code <= 255:
            yield Mistake(
                (*_SERVICE, "exit-codes", number), f"{code} — expected 0 to 255, or a negated signal number"
            )
    yield from _urls(service)
    yield from _placeholders(service)


def _urls(service: Service) -> Iterator[Mistake]:
    for path, url in _service_urls(service):
        if not re.match(r"https?://[^/\s]", url):
            yield Mistake(
                path, f'{url!r} is not a URL — expected the like of "http://127.0.0.1:{{port}}/readyz"'
            )
        elif "{port}" in url and not any("{port}" in argument for argument in service.args):
            yield Mistake(path, "uses {port}, but args never tell the program that port — add {port} to args")


def _placeholders(service: Service) -> Iterator[Mistake]:
    arguments: list[tuple[KeyPath, str]] = [
        ((*_SERVICE, "args", number), text) for number, text in enumerate(service.args)
    ]
    for path, text in (*arguments, *_service_urls(service)):
        for word in _PLACEHOLDER.findall(text):
            # Braces may mean something to the program, but not in a URL, nor when the word is nearly one of ours.
            hint = suggest(
                word, _PLACEHOLDERS, otherwise="" if path[-2] == "args" else " — {port}, {project} or {tmp}"
            )
            if word not in _PLACEHOLDERS and hint:
                yield Mistake(path, f"unknown placeholder {{{word}}}{hint}")


def _service_urls(service: Service) -> Iterator[tuple[KeyPath, str]]:
    if service.ready:
        yield (*_SERVICE, "ready"), service.ready
    for number, url in enumerate(service.get):
        yield (*_SERVICE, "get", number), url
