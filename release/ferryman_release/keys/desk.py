"""What every action of `ferryman keys` works with: the folder, the settings, what opens and makes keys, and the moment."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Key, Signer

from ferryman_build.errors import UsageError
from ferryman_build.project import find_project, load_project
from ferryman_build.settings import ReleaseSettings
from ferryman_release.keys.ceremony import Named
from ferryman_release.keys.documents import role_keys
from ferryman_release.keys.edit import drafts
from ferryman_release.keys.folder import KeyFolder
from ferryman_release.keys.names import ROOT
from ferryman_release.keys.sources import Sources, read_public
from ferryman_release.signing.secrets import Secrets


class Desk:
    """What every action works with: the folder, the settings, what opens and makes keys, and the moment."""

    def __init__(self, args: argparse.Namespace, now: datetime) -> None:
        project = load_project(find_project(Path.cwd(), args.project), lock_required=False)
        self.args = args
        self.root = project.root
        self.settings: ReleaseSettings = project.settings.release
        self.folder = KeyFolder(project.root / self.settings.keys)
        self.sources = Sources(Secrets.usual(), project.root)
        self.now = now

    def holders(self) -> list[Signer]:
        """What signs with the offline keys of `--key`."""
        known: list[Key] = []
        if self.folder.exists():
            known += role_keys(self.folder.root().signed, ROOT)
        if (draft := drafts(self.folder).get(ROOT)) is not None:
            known += role_keys(draft.signed, ROOT)
        return [self.sources.holder(uri, known) for uri in self.args.key]

    def newcomer(self, role: str) -> Named | None:
        """The key of `--new` or `--public`, called like its file; None when neither was given."""
        if self.args.public:
            if len(self.args.public) > 1:
                raise UsageError("One key is replaced by one key.", advice="Give --public once.")
            return read_public(self.args.public[0], role)
        if not self.args.new:
            return None
        key, made = self.sources.provide(self.args.new, "root" if role == ROOT else role)
        if made:
            print(f"made {made}")
        return Named(Path(self.args.new.partition(":")[2]).stem or role, key)

    def private(self) -> Path | None:
        """The folder of new private keys: never inside the project, where it would be committed."""
        if self.args.private is None:
            return None
        folder = Path(self.args.private).expanduser().absolute()
        if folder.resolve().is_relative_to(self.root.resolve()):
            raise UsageError(
                f"{folder} is inside of the project, and would be committed with it.",
                advice="Name a folder outside.",
            )
        return folder
