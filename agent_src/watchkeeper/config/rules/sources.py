"""Rules of sources."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding
from watchkeeper.config.rules.registries import url_rule
from watchkeeper.config.schema.sources import (
    ConsulSource,
    EtcdSource,
    FileSourceSpec,
    HttpSource,
    KeyedSource,
    KubernetesSource,
    Source,
)
from watchkeeper.config.sections import delivered_sections

SUFFIXES = (".yaml", ".yml", ".toml", ".json")


def _source(path: Path, source: Source) -> Iterator[Finding]:
    for number, section in enumerate(source.sections):
        if section not in delivered_sections():
            yield (
                (*path, "sections", number),
                f"{section!r} is not one of {', '.join(sorted(delivered_sections()))}",
            )


def _http(path: Path, source: HttpSource) -> Iterator[Finding]:
    yield from _source(path, source)
    yield from url_rule((*path, "url"), source.url, with_path=True)
    if source.wait_parameter is not None and not source.wait:
        yield (*path, "wait_parameter"), "it asks for nothing without wait"
    if 0 < source.wait < 1:
        yield (*path, "wait"), "a long poll is asked for in whole seconds; give at least 1s"
    for name in source.headers:
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            yield (*path, "headers", name), "this is no name of a header"


def _file(path: Path, source: FileSourceSpec) -> Iterator[Finding]:
    yield from _source(path, source)
    if not pathlib.Path(source.path).is_absolute():
        yield (
            (*path, "path"),
            "the path has to be absolute, so that it does not depend on where the agent was started",
        )


def _keyed(path: Path, source: KeyedSource) -> Iterator[Finding]:
    yield from _source(path, source)
    if (source.key is None) == (source.prefix is None):
        yield path, "either key or prefix is wanted, and not both"
    elif source.key is not None and source.format is None and not source.key.lower().endswith(SUFFIXES):
        yield (*path, "key"), f"its end does not say the format ({', '.join(SUFFIXES)}); give format"


def _kubernetes(path: Path, source: KubernetesSource) -> Iterator[Finding]:
    yield from _source(path, source)
    if source.url is not None:
        yield from url_rule((*path, "url"), source.url, with_path=True)


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {
    HttpSource: _http,
    FileSourceSpec: _file,
    ConsulSource: _keyed,
    EtcdSource: _keyed,
    KubernetesSource: _kubernetes,
}
