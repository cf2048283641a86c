"""The same program under plain Python: python3 plain.py ACT ARGUMENTS."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from oneself.command import main

if __name__ == "__main__":
    sys.exit(main())
