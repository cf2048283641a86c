"""What network interfaces carry, from /proc/net/dev (proc_pid_net(5)); elsewhere from psutil."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from watchkeeper.collectors import Filter, Reading, counter
from watchkeeper.config.schema.collectors import NetworkCollector

PROC = Path("/proc")
TEXTS = {
    "network_receive_bytes_total": "Bytes that came in.",
    "network_receive_packets_total": "Packets that came in.",
    "network_receive_errors_total": "Packets that came in damaged.",
    "network_receive_drops_total": "Packets that came in and were dropped.",
    "network_transmit_bytes_total": "Bytes that went out.",
    "network_transmit_packets_total": "Packets that went out.",
    "network_transmit_errors_total": "Packets that could not be sent.",
    "network_transmit_drops_total": "Packets that were dropped and not sent.",
}
PLACES = (0, 1, 2, 3, 8, 9, 10, 11)


class Interfaces:
    """The collector."""

    def __init__(self, spec: NetworkCollector, proc: Path = PROC) -> None:
        self._interfaces = Filter(spec.interfaces_include, spec.interfaces_exclude)
        self._proc = proc

    def collect(self) -> Iterator[Reading]:
        found = from_proc(self._proc) if sys.platform == "linux" else from_psutil()
        wanted = {name: numbers for name, numbers in found.items() if self._interfaces(name)}
        for place, (name, text) in enumerate(TEXTS.items()):
            yield counter(
                name, text, {(each,): numbers[place] for each, numbers in wanted.items()}, "interface"
            )


def from_proc(proc: Path = PROC) -> dict[str, list[float]]:
    """What the kernel says, in the order of TEXTS.

    Raises:
        OSError: it says nothing.
    """
    found = {}
    for line in (proc / "net" / "dev").read_text().splitlines():
        name, colon, rest = line.rpartition(":")  # a name may have a colon of its own
        fields = rest.split()
        if colon and len(fields) >= 12:
            found[name.strip()] = [float(fields[place]) for place in PLACES]
    return found


def from_psutil() -> dict[str, list[float]]:
    """What the system says elsewhere."""
    import psutil

    return {
        name: [
            float(one)
            for one in (
                *(io.bytes_recv, io.packets_recv, io.errin, io.dropin),
                *(io.bytes_sent, io.packets_sent, io.errout, io.dropout),
            )
        ]
        for name, io in psutil.net_io_counters(pernic=True).items()
    }
