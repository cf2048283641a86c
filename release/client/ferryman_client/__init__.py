"""What a machine needs of a release: find it, verify it, fetch it. docs/client.md is the guide.

client = Client("https://example.org/agent/", "/var/lib/agent/updates", root=ROOT_JSON)
status = client.refresh()                            # raises nothing; status.problem says what is wrong
choice = client.choose("executable", installed="1.4.0")
if choice.offer:
    client.download(choice.offer, "/var/lib/agent/versions/" + choice.version)
"""

__version__ = "0.1.0"

from ferryman_client.choice import Action, Choice, choose, cohort, takes_part
from ferryman_client.client import Client
from ferryman_client.errors import (
    BusyError,
    ClientError,
    ExpiredError,
    MetadataError,
    NoTrustError,
    Problem,
    SpaceError,
    StateError,
    UnknownReleaseError,
    UnreachableError,
    UsageError,
    VerifyError,
)
from ferryman_client.fetch import Answer, HttpFetcher, Source
from ferryman_client.machine import TARGET_IDS, Machine
from ferryman_client.model import (
    KINDS,
    Asset,
    ChannelInfo,
    History,
    HistoryEntry,
    Offer,
    Release,
    Rollout,
    Sunset,
    Yanked,
)
from ferryman_client.status import Identity, Status

__all__ = [
    "KINDS",
    "TARGET_IDS",
    "Action",
    "Answer",
    "Asset",
    "BusyError",
    "ChannelInfo",
    "Choice",
    "Client",
    "ClientError",
    "ExpiredError",
    "History",
    "HistoryEntry",
    "HttpFetcher",
    "Identity",
    "Machine",
    "MetadataError",
    "NoTrustError",
    "Offer",
    "Problem",
    "Release",
    "Rollout",
    "Source",
    "SpaceError",
    "StateError",
    "Status",
    "Sunset",
    "UnknownReleaseError",
    "UnreachableError",
    "UsageError",
    "VerifyError",
    "Yanked",
    "choose",
    "cohort",
    "takes_part",
]
