"""What the machine's sensors say, from /sys/class/hwmon.

They say it in thousandths of a degree Celsius (Documentation/hwmon/sysfs-interface.rst). A virtual machine has none; Windows
and macOS have no interface that an ordinary user may read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from watchkeeper.collectors import Filter, Reading, gauge
from watchkeeper.config.schema.collectors import TemperatureCollector

SENSORS = Path("/sys/class/hwmon")
LABELS = ("chip", "sensor")


class Temperatures:
    """The collector."""

    def __init__(self, spec: TemperatureCollector, sensors: Path = SENSORS) -> None:
        self._wanted = Filter(spec.sensors_include, spec.sensors_exclude)
        self._sensors = sensors

    def collect(self) -> Iterator[Reading]:
        now: dict[tuple[str, ...], float] = {}
        critical: dict[tuple[str, ...], float] = {}
        for chip in sorted(self._sensors.glob("hwmon*")):
            name = _text(chip / "name") or chip.name
            for file in sorted(chip.glob("temp*_input")):
                part = file.name.removesuffix("_input")
                sensor = _text(chip / f"{part}_label") or part
                if not self._wanted(f"{name}/{sensor}"):
                    continue
                key = (name, sensor) if (name, sensor) not in now else (name, f"{chip.name}/{part}")
                _note(now, key, file)
                if key in now:
                    _note(critical, key, chip / f"{part}_crit")
        yield gauge("temperature_celsius", "What a sensor says.", now, *LABELS)
        yield gauge(
            "temperature_critical_celsius", "Above it the machine protects itself.", critical, *LABELS
        )


def _note(rows: dict[tuple[str, ...], float], key: tuple[str, ...], file: Path) -> None:
    text = _text(file)
    if text and text.lstrip("-").isdigit():
        rows[key] = int(text) / 1000


def _text(file: Path) -> str | None:
    """A sensor that sleeps, or is gone meanwhile, says nothing."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return None
