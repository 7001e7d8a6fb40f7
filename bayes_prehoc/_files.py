"""What all that writes files shares."""

import os
from pathlib import Path

__all__ = ["share_as_usual"]


def share_as_usual(path: str | Path) -> None:
    """Give a temporary file, which is private, the permissions of any other new file of its owner."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)
