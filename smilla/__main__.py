"""``python -m smilla`` is the same as ``smilla``."""

import sys

from smilla.cli import main

if __name__ == "__main__":
    sys.exit(main())
