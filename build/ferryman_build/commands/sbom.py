"""`ferryman sbom`: print what an artifact consists of (docs/sbom.md)."""

from __future__ import annotations

import argparse
import sys

from ferryman_build.sbom.embedded import embedded_sbom


def run(args: argparse.Namespace) -> int:
    """Print the document that ``args.path`` carries, in ``args.format``.

    Raises:
        FerrymanError: there is nothing, nothing in it, or it is damaged.
    """
    document = embedded_sbom(args.path)
    if args.format == "spdx":
        from ferryman_build.sbom.spdx import spdx

        document = spdx(document)
    sys.stdout.buffer.write(document)
    sys.stdout.buffer.flush()
    return 0
