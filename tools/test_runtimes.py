"""Make interpreters of other platforms for tests: archives and a runtimes.toml, the form that `--runtimes` takes.

    python tools/test_runtimes.py [--into DIR] [--low-floor] [TARGET ...]

Without targets, all that this host can make. What is there already is left alone. Nothing is installed; linux-amd64 needs
root, mmdebstrap and some minutes, linux-arm64 root and mmdebstrap, windows-amd64 the package index, darwin-arm64 (which is
no interpreter, only files of its formats) the launcher's toolchain.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "build"), str(ROOT / "tests")]

from e2e.clean_rootfs.rootfs import UnavailableError  # noqa: E402 - the path is made first
from support.runtimes.folder import DEFAULT, make  # noqa: E402
from support.runtimes.makers import MAKERS  # noqa: E402


def main(words: "list[str] | None" = None) -> int:
    """Exit code 1 when one that was named cannot be made; the reason is on standard error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(MAKERS)}")
    parser.add_argument("--into", type=Path, default=DEFAULT, metavar="DIR", help="default: .cache/runtimes")
    parser.add_argument("--low-floor", action="store_true", help="cross-build for linux-arm64")
    args = parser.parse_args(words)
    if unknown := [name for name in args.targets if name not in MAKERS]:
        parser.error(f"no test runtime is known for {', '.join(unknown)}")
    missing = False
    for target in args.targets or MAKERS:
        try:
            make([target], args.into, low_floor=args.low_floor)
        except UnavailableError as reason:
            missing = True
            sys.stderr.write(f"{target}: {reason}\n")
    sys.stdout.write(f"{args.into}\n")
    return int(missing)


if __name__ == "__main__":
    sys.exit(main())
