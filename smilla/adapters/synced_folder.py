"""Makes sure that a folder's names are on the disk (fsync(2)), so that a new file is there after a power failure."""

from __future__ import annotations

import os
from pathlib import Path


def sync(folder: Path) -> None:
    """Returns once they are.  Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
