"""What is measured on this machine, and how many series it may become.

A filter is a regular expression for the whole of a name. What `exclude` matches is left out, even when `include` matches
it; without `include` everything else is taken.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field, structs

from watchkeeper.config.schema.common import PositiveDuration, StrictStruct, Text

Pattern = Annotated[str, Meta(max_length=2000)]

SYSTEM_MOUNTS = r"/(dev|proc|sys|run/(credentials|user)/.+|var/lib/(docker|containers|kubelet)/.+)(/.*)?"
SYSTEM_TYPES = (
    r"autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|efivarfs|erofs|fuse\.(lxcfs|portal)|fusectl|"
    r"hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs"
)
PARTS_OF_DISKS = r"(z?ram|loop|fd|sr)\d+|((h|s|v|xv)d[a-z]+|nvme\d+n\d+p|mmcblk\d+p)\d+"
INTERFACES_OF_CONTAINERS = r"veth.*|docker\d+|br-[0-9a-f]+|cali.*|cni\d*|flannel.*|lxc.*|virbr\d+|vnet\d+"


class CollectorSpec(StrictStruct, frozen=True, kw_only=True):
    """What all collectors have in common."""

    enabled: bool = True
    interval: PositiveDuration = 15.0
    """From one collection to the next (Datadog's min_collection_interval)."""
    timeout: PositiveDuration = 5.0
    """Past it the collection has failed, and the others go on (node_exporter's mount-timeout)."""


class CpuCollector(CollectorSpec, frozen=True, kw_only=True):
    """Processor time by mode, and how many processors the agent may use."""

    per_cpu: bool = False
    """Also every processor on its own: eight series each."""


class LoadCollector(CollectorSpec, frozen=True, kw_only=True):
    """The load averages over 1, 5 and 15 minutes."""


class MemoryCollector(CollectorSpec, frozen=True, kw_only=True):
    """Memory and swap of the machine, and the limit of the agent's cgroup."""


class FilesystemCollector(CollectorSpec, frozen=True, kw_only=True):
    """Size, free space and inodes of what is mounted."""

    mounts_include: Pattern | None = None
    mounts_exclude: Pattern | None = SYSTEM_MOUNTS
    """Mount points; by default those of the system and of containers."""
    types_include: Pattern | None = None
    types_exclude: Pattern | None = SYSTEM_TYPES
    """Types of file systems; by default those that store nothing of their own."""


class DiskCollector(CollectorSpec, frozen=True, kw_only=True):
    """Reads, writes and waiting of disks."""

    devices_include: Pattern | None = None
    devices_exclude: Pattern | None = PARTS_OF_DISKS
    """Names below /dev; by default partitions and loops, which are counted in their disks already."""


class NetworkCollector(CollectorSpec, frozen=True, kw_only=True):
    """Bytes, packets, errors and drops of interfaces."""

    interfaces_include: Pattern | None = None
    interfaces_exclude: Pattern | None = INTERFACES_OF_CONTAINERS
    """Interfaces; by default those that come and go with containers."""


class TemperatureCollector(CollectorSpec, frozen=True, kw_only=True):
    """What the machine's sensors say; Linux alone."""

    sensors_include: Pattern | None = None
    sensors_exclude: Pattern | None = None
    """CHIP/SENSOR, such as coretemp/Core 0."""


class ProcessesCollector(CollectorSpec, frozen=True, kw_only=True):
    """How many processes there are, by state."""


class SelfCollector(CollectorSpec, frozen=True, kw_only=True):
    """The agent's own garbage collection and tasks."""


class TextfileCollector(CollectorSpec, frozen=True, kw_only=True):
    """Series that others write into files, in the text format of Prometheus; the file's name ends with .prom."""

    directories: tuple[Text, ...] = ()
    """Where the files are. Without a directory there is nothing to collect."""


class Collectors(StrictStruct, frozen=True, kw_only=True):
    """The collectors. All are on without a word about them; `enabled: false` ends one."""

    cpu: CpuCollector = field(default_factory=CpuCollector)
    load: LoadCollector = field(default_factory=LoadCollector)
    memory: MemoryCollector = field(default_factory=MemoryCollector)
    filesystem: FilesystemCollector = field(default_factory=FilesystemCollector)
    disk: DiskCollector = field(default_factory=DiskCollector)
    network: NetworkCollector = field(default_factory=NetworkCollector)
    temperature: TemperatureCollector = field(default_factory=TemperatureCollector)
    processes: ProcessesCollector = field(default_factory=ProcessesCollector)
    self_: SelfCollector = field(name="self", default_factory=SelfCollector)
    textfile: TextfileCollector = field(default_factory=TextfileCollector)


class MetricsSettings(StrictStruct, frozen=True, kw_only=True):
    """What the registry allows."""

    series_limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    """Series of one metric; further ones are added up in one whose labels are all `overflow`."""


def effective(collectors: Collectors) -> dict[str, CollectorSpec]:
    """Those that shall run, by name."""
    found = {one.encode_name: getattr(collectors, one.name) for one in structs.fields(Collectors)}
    return {
        name: spec
        for name, spec in found.items()
        if spec.enabled and (not isinstance(spec, TextfileCollector) or spec.directories)
    }
