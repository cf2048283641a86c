"""`python -m ferryman_build` is `ferryman`."""

import sys

from ferryman_build.cli import main

if __name__ == "__main__":
    sys.exit(main())
