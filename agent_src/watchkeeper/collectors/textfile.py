"""Series that other programs leave in files: *.prom in the text format, as node_exporter's textfile collector takes them.

Rules:
    X1  A program writes its file beside its place and renames it into it; a file that cannot be read or understood is left
        out whole, and textfile_error says so.
    X2  Names are the author's business; those of the agent (watchkeeper_*, process_*) are refused with the file.
    X3  Series have no time of their own: a file with timestamps is refused, textfile_modified_timestamp_seconds says how
        old it is.
    X4  Of a metric that two files have, the type and the text are the first file's, in the order of names; what has
        another type is left out, and series that are there twice count once.
    X5  A file may have FILE_LIMIT bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from watchkeeper.collectors import Reading, gauge
from watchkeeper.config.schema.collectors import TextfileCollector

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

FILE_LIMIT = 4 * 1024 * 1024
OWN = ("watchkeeper_", "process_")


class Textfiles:
    """The collector."""

    def __init__(self, spec: TextfileCollector) -> None:
        self._folders = [Path(folder) for folder in spec.directories]

    def collect(self) -> Iterator[Reading | Metric]:
        merged: dict[str, Metric] = {}
        seen: set[tuple[str, frozenset[tuple[str, str]]]] = set()
        ages: dict[tuple[str, ...], float] = {}
        errors: dict[tuple[str, ...], float] = {}
        for file in self._files():
            try:
                ages[str(file),] = file.stat().st_mtime
                found = read(file)
            except (OSError, ValueError):
                errors[str(file),] = 1.0  # X1
                continue
            errors[str(file),] = 0.0
            for metric in found:
                _merge(merged, seen, metric)
        yield gauge("textfile_error", "1 for a file that was left out.", errors, "file")
        yield gauge("textfile_modified_timestamp_seconds", "When a file was last written.", ages, "file")
        yield from merged.values()

    def _files(self) -> list[Path]:
        """Those of a directory that is not there are none; the directory may come later."""
        return [file for folder in self._folders for file in sorted(folder.glob("*.prom"))]


def read(file: Path) -> list[Metric]:
    """What one file says.

    Raises:
        OSError: it cannot be read.
        ValueError: it says something that may not be said.
    """
    from prometheus_client.parser import text_string_to_metric_families

    with file.open("rb") as stream:
        data = stream.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise ValueError(f"{file} has more than {FILE_LIMIT} bytes")  # X5
    try:
        found: list[Metric] = list(text_string_to_metric_families(data.decode()))
    except Exception as error:  # the parser fails in many ways on what is no text of metrics
        raise ValueError(f"{file}: {error!r}") from error
    for metric in found:
        if metric.name.startswith(OWN):
            raise ValueError(f"{file}: {metric.name} is the agent's own")  # X2
        if any(sample.timestamp is not None for sample in metric.samples):
            raise ValueError(f"{file}: {metric.name} has timestamps")  # X3
    return found


def _merge(
    merged: dict[str, Metric], seen: set[tuple[str, frozenset[tuple[str, str]]]], metric: Metric
) -> None:
    """X4."""
    target = merged.get(metric.name)
    fresh = []
    for sample in metric.samples:
        key = (sample.name, frozenset(sample.labels.items()))
        if key not in seen:
            seen.add(key)
            fresh.append(sample)
    if target is None:
        metric.samples = fresh
        merged[metric.name] = metric
    elif target.type == metric.type:
        target.samples.extend(fresh)
