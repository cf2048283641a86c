"""What each collector makes of what the system says: of a made-up /proc, and of the real one beside psutil."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from watchkeeper.collectors import REGISTRY, Filter, Reading, cgroup, cpu, disk, filesystem, memory, network
from watchkeeper.collectors.itself import Itself, Pauses
from watchkeeper.collectors.processes import Processes
from watchkeeper.collectors.temperature import Temperatures
from watchkeeper.collectors.textfile import FILE_LIMIT, Textfiles
from watchkeeper.config.load import parse
from watchkeeper.config.schema.collectors import (
    PARTS_OF_DISKS,
    SYSTEM_MOUNTS,
    Collectors,
    CpuCollector,
    DiskCollector,
    FilesystemCollector,
    NetworkCollector,
    TemperatureCollector,
    TextfileCollector,
    effective,
)
from watchkeeper.metrics import names

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def rows(readings: Any) -> dict[str, dict[tuple[str, ...], float]]:
    return {one.name: dict(one.rows) for one in readings}


# -- effective CPUs ---------------------------------------------------------------------------------------------------

V2 = "35 24 0:30 {root} {point} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "36 24 0:31 {root} {point} rw,nosuid shared:9 - cgroup cgroup rw,{controllers}\n"


def group(tmp_path: Path, cgroups: str, mountinfo: str, files: dict[str, str]) -> Path:
    tree(tmp_path / "fs", files)
    return tree(
        tmp_path / "proc", {"cgroup": cgroups, "mountinfo": "1 1 1:1 / / rw - ext4 x rw\n" + mountinfo}
    )


def test_the_tightest_ancestor_holds(tmp_path: Path) -> None:
    """A quota of 4 in the group itself is worth nothing below one of 1.5 two levels up."""
    files = {
        "a/cpu.max": "150000 100000\n",
        "a/b/cpu.max": "max 100000\n",
        "a/b/c/cpu.max": "400000 100000\n",
        "a/memory.max": "max\n",
        "a/b/memory.max": "7000\n",
        "a/b/c/memory.max": "9000\n",
        "a/b/c/memory.current": "10\n",
        "a/b/c/cpu.stat": "usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000\n",
    }
    proc = group(tmp_path, "0::/a/b/c\n", V2.format(root="/", point=tmp_path / "fs"), files)
    assert cgroup.cpu_quota(proc) == 1.5
    assert cgroup.memory_limit(proc) == 7000
    assert cgroup.memory_used(proc) == 10
    assert cgroup.throttled(proc) == (3, 2.5)
    assert cgroup.effective_cpus(proc) == min(1.5, len(os.sched_getaffinity(0)))


def test_version_one(tmp_path: Path) -> None:
    """Quota and period are two files, -1 and the largest number are no limit, and controllers may share a mount."""
    files = {
        "cpu.cfs_quota_us": "-1\n",
        "cpu.cfs_period_us": "100000\n",
        "a/cpu.cfs_quota_us": "50000\n",
        "a/cpu.cfs_period_us": "100000\n",
        "a/b/cpu.cfs_quota_us": "-1\n",
        "a/b/cpu.cfs_period_us": "100000\n",
        "a/b/cpu.stat": "nr_periods 9\nnr_throttled 2\nthrottled_time 1500000000\n",
        "a/b/memory.limit_in_bytes": "9223372036854771712\n",
        "a/b/memory.usage_in_bytes": "5\n",
    }
    mounts = V1.format(root="/", point=tmp_path / "fs", controllers="cpu,cpuacct")
    mounts += V1.format(root="/", point=tmp_path / "fs", controllers="memory")
    proc = group(tmp_path, "4:memory:/a/b\n3:cpu,cpuacct:/a/b\n1:name=systemd:/x\n", mounts, files)
    assert cgroup.cpu_quota(proc) == 0.5
    assert cgroup.effective_cpus(proc) == 0.5
    assert cgroup.throttled(proc) == (2, 1.5)
    assert cgroup.memory_limit(proc) is None
    assert cgroup.memory_used(proc) == 5


def test_both_versions_at_once(tmp_path: Path) -> None:
    """The controllers may be in v1 while v2 is mounted as well: both are asked, and the one without files says nothing."""
    files = {"one/cpu.cfs_quota_us": "300000", "one/cpu.cfs_period_us": "100000", "two/cgroup.procs": ""}
    mounts = V2.format(root="/", point=tmp_path / "fs/two") + V1.format(
        root="/", point=tmp_path / "fs/one", controllers="cpu"
    )
    proc = group(tmp_path, "3:cpu:/\n0::/\n", mounts, files)
    assert cgroup.cpu_quota(proc) == 3.0


def test_a_container_without_a_namespace(tmp_path: Path) -> None:
    """The group's path is the host's, and what is mounted begins at the container's group."""
    proc = group(
        tmp_path,
        "0::/docker/abc/x\n",
        V2.format(root="/docker/abc", point=tmp_path / "fs"),
        {"cpu.max": "200000 100000", "x/cpu.max": "max 100000"},
    )
    assert cgroup.cpu_quota(proc) == 2.0


@pytest.mark.parametrize("path", ["/../../elsewhere", "/other"])
def test_a_group_that_is_not_below_the_mount(tmp_path: Path, path: str) -> None:
    """Then the mount point is all that can be seen; no path leads out of it."""
    mounts = V2.format(root="/docker/abc", point=tmp_path / "fs")
    proc = group(tmp_path, f"0::{path}\n", mounts, {"cpu.max": "100000 50000"})
    assert cgroup.cpu_quota(proc) == 2.0


@pytest.mark.parametrize("text", ["", "max", "0 0", "100000", "a b", "100000 0"])
def test_no_limit_is_made_up(tmp_path: Path, text: str) -> None:
    """What is empty, cut or nonsense is no limit."""
    proc = group(tmp_path, "0::/\n", V2.format(root="/", point=tmp_path / "fs"), {"cpu.max": text})
    assert cgroup.cpu_quota(proc) is None
    assert cgroup.effective_cpus(proc) == len(os.sched_getaffinity(0))


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    """As on a system that has none."""
    assert cgroup.cpu_quota(tmp_path) is None
    assert cgroup.throttled(tmp_path) is None


def test_a_quota_that_changes_is_seen(tmp_path: Path) -> None:
    """The collector reads it anew each time."""
    proc = group(tmp_path, "0::/\n", V2.format(root="/", point=tmp_path / "fs"), {"cpu.max": "25000 100000"})
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole/self").symlink_to(proc)
    tree(tmp_path / "whole", {"stat": "cpu  100 0 0 0\n"})
    collector = cpu.CpuTimes(CpuCollector(), tmp_path / "whole")
    assert rows(collector.collect())["cpu_effective_cpus"] == {(): 0.25}
    (tmp_path / "fs/cpu.max").write_text("75000 100000")
    found = rows(collector.collect())
    assert found["cpu_effective_cpus"] == found["cpu_quota_cpus"] == {(): 0.75}


# -- each collector on a made-up system --------------------------------------------------------------------------------


def test_cpu(tmp_path: Path) -> None:
    """Ticks become seconds; an old kernel that knows fewer modes is no failure."""
    ticks = os.sysconf("SC_CLK_TCK")
    text = f"cpu  {ticks} 0 {2 * ticks} 5\ncpu0 {ticks} 0 0 0\ncpu1 0 0 {2 * ticks} 5\nintr 5 5\n"
    found = rows(cpu.CpuTimes(CpuCollector(per_cpu=True), tree(tmp_path, {"stat": text})).collect())
    assert found["cpu_seconds_total"]["user",] == 1
    assert found["cpu_seconds_total"]["system",] == 2
    assert ("steal",) not in found["cpu_seconds_total"]
    assert found["cpu_core_seconds_total"]["1", "system"] == 2


def test_memory(tmp_path: Path) -> None:
    """Kilobytes become bytes; a limit is there only when there is one."""
    text = "MemTotal:       100 kB\nMemFree:    40 kB\nMemAvailable:  60 kB\nHugePages_Total: 0\nSwapTotal: 0 kB\n"
    found = rows(memory.Memory(tree(tmp_path, {"meminfo": text})).collect())
    assert found["memory_size_bytes"] == {(): 102_400}
    assert found["memory_available_bytes"] == {(): 61_440}
    assert not {"memory_limit_bytes", "memory_cached_bytes"} & set(found)


def test_filesystems(tmp_path: Path) -> None:
    """Filtered by type and place; spaces in a name are read; one that cannot be asked is said to be so."""
    (tmp_path / "a b").mkdir()
    escaped = str(tmp_path / "a b").replace(" ", r"\040")
    lines = [
        f"1 1 8:1 / {escaped} ro,relatime - ext4 /dev/x rw",
        f"2 1 8:2 / {tmp_path}/gone rw - xfs /dev/y rw",
        "3 1 8:3 / /sys rw - sysfs sysfs rw",
        f"4 1 8:4 / {tmp_path}/left rw - ext4 /dev/z rw",
        "cut",
    ]
    proc = tree(tmp_path, {"self/mountinfo": "\n".join(lines) + "\n"})
    collector = filesystem.Filesystems(FilesystemCollector(mounts_exclude=".*/left"), proc)
    found = rows(collector.collect())
    here, gone = (str(tmp_path / "a b"), "/dev/x", "ext4"), (f"{tmp_path}/gone", "/dev/y", "xfs")
    space = os.statvfs(tmp_path)
    assert found["filesystem_size_bytes"] == {here: space.f_blocks * space.f_frsize}
    assert found["filesystem_readonly"] == {here: 1}
    assert found["filesystem_error"] == {here: 0, gone: 1}
    assert collector.at is None


@pytest.mark.parametrize(
    ("mount", "wanted"),
    [
        ("/", True),
        ("/home", True),
        ("/var/lib/docker", True),
        ("/var/lib/docker/overlay2/x/merged", False),
        ("/proc", False),
        ("/process", True),
        ("/dev/shm", False),
        ("/run/user/1000", False),
        ("/sys/fs/cgroup", False),
    ],
)
def test_default_mounts(mount: str, wanted: bool) -> None:
    """The system's own and those of containers are left out."""
    assert Filter(None, SYSTEM_MOUNTS)(mount) is wanted


@pytest.mark.parametrize(
    ("device", "wanted"),
    [("sda", True), ("sda1", False), ("nvme0n1", True), ("nvme0n1p2", False), ("loop3", False), ("dm-0", True),
     ("zram0", False), ("mmcblk0", True), ("mmcblk0p1", False), ("vdb", True), ("md127", True)],
)  # fmt: skip
def test_default_devices(device: str, wanted: bool) -> None:
    """Whole disks, and what is made of them; not their partitions."""
    assert Filter(None, PARTS_OF_DISKS)(device) is wanted


def test_filters() -> None:
    """What exclude matches is out although include matches it; a filter is for the whole name."""
    wanted = Filter("eth.*", "eth1")
    assert [name for name in ("eth0", "eth1", "eth10", "lo", "xeth0") if wanted(name)] == ["eth0", "eth10"]


def test_disks(tmp_path: Path) -> None:
    """Sectors of 512 bytes, milliseconds; short lines of old kernels are left out, and so is a missing file."""
    text = "   8  0 sda 10 0 4 1500 20 0 8 2500 0 3000 4000 0 0\n   8 1 sda1 1 2 3 4\n 7 0 loop0 1 1 1 1 1 1 1 1 1 1 1\n"
    found = rows(disk.Disks(DiskCollector(), tree(tmp_path, {"diskstats": text})).collect())
    assert {name: value for name, values in found.items() for value in values.values()} == {
        "disk_reads_total": 10,
        "disk_read_bytes_total": 2048,
        "disk_read_seconds_total": 1.5,
        "disk_writes_total": 20,
        "disk_written_bytes_total": 4096,
        "disk_write_seconds_total": 2.5,
        "disk_busy_seconds_total": 3,
    }
    assert set(found["disk_reads_total"]) == {("sda",)}
    assert disk.from_proc(tmp_path / "nothing") == {}


def test_network(tmp_path: Path) -> None:
    """Eight of the sixteen columns; an alias has a colon in its name."""
    text = "Inter-| Receive\n face |bytes\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\neth0:1: 9 9 9 9 0 0 0 0 9 9 9 9 0 0 0 0\n veth12: 1 1 1 1 1 1 1 1 1 1 1 1\n"
    found = rows(network.Interfaces(NetworkCollector(), tree(tmp_path, {"net/dev": text})).collect())
    assert [values["eth0",] for values in found.values()] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert set(found["network_receive_bytes_total"]) == {("eth0",), ("eth0:1",)}


def test_temperatures(tmp_path: Path) -> None:
    """Labelled or not, two chips of one name, a sensor that says nothing, and one that is not wanted."""
    files = {
        "hwmon0/name": "coretemp\n",
        "hwmon0/temp1_input": "45500\n",
        "hwmon0/temp1_label": "Core 0\n",
        "hwmon0/temp1_crit": "100000\n",
        "hwmon0/temp2_input": "-3000\n",
        "hwmon0/temp3_input": "",
        "hwmon1/name": "coretemp\n",
        "hwmon1/temp1_input": "46000\n",
        "hwmon1/temp1_label": "Core 0\n",
        "hwmon2/name": "nvme\n",
        "hwmon2/temp1_input": "30000\n",
    }
    spec = TemperatureCollector(sensors_exclude="nvme/.*")
    found = rows(Temperatures(spec, tree(tmp_path, files)).collect())
    assert found["temperature_celsius"] == {
        ("coretemp", "Core 0"): 45.5,
        ("coretemp", "temp2"): -3,
        ("coretemp", "hwmon1/temp1"): 46,
    }
    assert found["temperature_critical_celsius"] == {("coretemp", "Core 0"): 100}
    assert rows(Temperatures(spec, tmp_path / "none").collect())["temperature_celsius"] == {}


def test_garbage_collections() -> None:
    """Each is counted in its generation, and the longest is kept; watching twice counts once."""
    pauses = Pauses()
    pauses.watch()
    pauses.watch()
    try:
        gc.collect(2)
        found = rows(Itself(pauses).collect())
        gc.collect(2)
        again = rows(Itself(pauses).collect())
    finally:
        gc.callbacks.remove(pauses.heard)
    assert found["gc_collections_total"]["2",] == 1
    assert again["gc_collections_total"]["2",] == 2
    assert 0 < found["gc_longest_pause_seconds"][()] <= sum(again["gc_pause_seconds_total"].values())


# -- the textfile collector ---------------------------------------------------------------------------------------------


def test_textfiles(tmp_path: Path) -> None:
    """Files of all directories; a broken one is left out whole and said to be so; only *.prom counts."""
    tree(
        tmp_path,
        {
            "one/a.prom": '# HELP backup_age_seconds Age.\n# TYPE backup_age_seconds gauge\nbackup_age_seconds{job_name="x"} 5\n',
            "one/b.prom": "good_first 1\nbroken{ 2\n",
            "one/c.prom.tmp": "hidden 1\n",
            "two/d.prom": 'backup_age_seconds{job_name="x"} 6\nbackup_age_seconds{job_name="y"} 7\n',
            "two/e.prom": "# TYPE jobs counter\njobs 3\n",
        },
    )
    spec = TextfileCollector(
        directories=(str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path / "none"))
    )
    found = list(Textfiles(spec).collect())
    readings = rows(one for one in found if isinstance(one, Reading))
    errors = {Path(name).name: value for (name,), value in readings["textfile_error"].items()}
    assert errors == {"a.prom": 0, "b.prom": 1, "d.prom": 0, "e.prom": 0}
    metrics = {one.name: one for one in found if not isinstance(one, Reading)}
    assert set(metrics) == {"backup_age_seconds", "jobs"}
    assert [sample.value for sample in metrics["backup_age_seconds"].samples] == [5]
    assert [sample.name for sample in metrics["jobs"].samples] == ["jobs_total"]  # as OpenMetrics wants it


@pytest.mark.parametrize(
    "text",
    ["watchkeeper_up 1\n", "process_open_fds 1\n", "a 1 1700000000000\n", "a{b=\"c\" 1\n", "\xff", "a " + "1" * FILE_LIMIT],
    ids=["own", "process", "timestamp", "torn", "latin-1", "large"],
)  # fmt: skip
def test_textfiles_that_are_refused(tmp_path: Path, text: str) -> None:
    """The agent's own names, timestamps, nonsense, no UTF-8, and too much."""
    (tmp_path / "a.prom").write_bytes(text.encode("latin-1"))
    found = list(Textfiles(TextfileCollector(directories=(str(tmp_path),))).collect())
    assert next(dict(one.rows) for one in found if isinstance(one, Reading)) == {
        (str(tmp_path / "a.prom"),): 1
    }
    assert len(found) == 2


# -- the real system, beside psutil ----------------------------------------------------------------------------------------


def between(before: float, value: float, after: float) -> bool:
    """What only grows lies between two other readings of it; a tick of the clock is allowed for."""
    return before - 0.1 <= value <= after + 0.1


@linux
def test_cpu_beside_psutil() -> None:
    """Each mode lies between what psutil says before and after."""
    before = psutil.cpu_times()
    found = cpu.from_proc()[""]
    after = psutil.cpu_times()
    for mode in cpu.MODES:
        assert between(getattr(before, mode), found[mode], getattr(after, mode)), mode


@linux
def test_memory_beside_psutil() -> None:
    """The size is the same number, what changes all the time is within it, and both sources have the same names."""
    found, theirs = memory.from_proc(), memory.from_psutil()
    assert found["memory_size_bytes"] == theirs["memory_size_bytes"]
    assert found["memory_swap_size_bytes"] == theirs["memory_swap_size_bytes"]
    assert set(found) == set(theirs)
    free, available = found["memory_free_bytes"], found["memory_available_bytes"]
    assert free is not None
    assert available is not None
    assert 0 < free <= psutil.virtual_memory().total
    assert 0 < available <= psutil.virtual_memory().total


@linux
def test_network_beside_psutil() -> None:
    """Every interface that both know, every column."""
    before = network.from_psutil()
    found = network.from_proc()
    after = network.from_psutil()
    assert "lo" in found
    for name in before.keys() & found.keys() & after.keys():
        for place, value in enumerate(found[name]):
            assert between(before[name][place], value, after[name][place]), (name, place)


@linux
def test_disks_beside_psutil() -> None:
    """Every disk that both know, every number; the names are the same."""
    before = disk.from_psutil()
    found = disk.from_proc()
    after = disk.from_psutil()
    for name in before.keys() & found.keys() & after.keys():
        for low, value, high in zip(before[name], found[name], after[name], strict=True):
            assert low is not None
            assert value is not None
            assert high is not None
            assert between(low, value, high), name


@linux
def test_filesystems_beside_psutil() -> None:
    """What psutil calls a physical partition, this finds with the same device and type."""
    ours = {one.point: one for one in filesystem.from_proc()}
    for theirs in filesystem.from_psutil():
        if theirs.point in ours:
            assert ours[theirs.point].kind == theirs.kind
    assert "/" in ours


def test_processes_beside_psutil() -> None:
    """The number of all states together is that of the processes, give or take those that come and go."""
    before = len(psutil.pids())
    found = rows(Processes().collect())
    after = len(psutil.pids())
    assert abs(sum(found["processes_present"].values()) - before) <= 20 + abs(after - before)
    assert found["processes_present"]["running",] >= 1


@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_collector_works_here(name: str, platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From /proc and through psutil: names that the registry takes, the same labels each time, numbers."""
    monkeypatch.setattr(sys, "platform", platform)
    spec = getattr(Collectors(), {"self": "self_"}.get(name, name))
    collector = REGISTRY[name].make(spec)
    seen: list[Reading] = [one for one in collector.collect() if isinstance(one, Reading)]
    assert seen
    for reading in seen:
        names.check(reading.kind, f"watchkeeper_{reading.name}", reading.labels)
        for key, value in reading.rows.items():
            assert len(key) == len(reading.labels)
            assert all(isinstance(part, str) for part in key)
            assert value == float(value)


def test_every_collector_may_be_called_in_a_thread() -> None:
    """As the agent does it."""
    failures: list[BaseException] = []

    def run(collect: Callable[[], Any]) -> None:
        try:
            list(collect())
        except BaseException as error:  # noqa: BLE001 - the thread's end must be seen
            failures.append(error)

    for name, spec in effective(Collectors()).items():
        thread = threading.Thread(target=run, args=(REGISTRY[name].make(spec).collect,))
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    assert not failures


# -- the configuration -----------------------------------------------------------------------------------------------------


def wanted(text: str) -> set[str]:
    return set(effective(parse(text.encode(), file="f.yaml").config.collectors))


def test_what_runs_without_a_word() -> None:
    """All but the one that needs a directory; each can be ended; every collector of the schema exists."""
    everything = wanted("{}")
    assert everything == {name for name, entry in REGISTRY.items() if entry.default}
    assert wanted("collectors: {cpu: {enabled: false}}") == everything - {"cpu"}
    assert wanted("collectors: {textfile: {directories: [/x]}}") == everything | {"textfile"}
    assert wanted("collectors: {self: {enabled: false}}") == everything - {"self"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("collectors: {cpus: {}}", r"unknown key.*cpu"),
        ("collectors: {disk: {devices_include: '('}}", "no regular expression"),
        ("collectors: {network: {interfaces_exclude: '*'}}", "no regular expression"),
        ("collectors: {cpu: {interval: 0}}", "out of range"),
        ("metrics: {series_limit: 0}", "out of range"),
    ],
)
def test_wrong_configurations(text: str, problem: str) -> None:
    """Said with its place, before anything runs."""
    from watchkeeper.errors import ConfigInvalidError

    with pytest.raises(ConfigInvalidError, match=problem):
        parse(text.encode(), file="f.yaml")
