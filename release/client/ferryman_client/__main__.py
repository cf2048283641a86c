"""`python -m ferryman_client`, and what the script `ferryman-client` calls."""

import sys

from ferryman_client.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
