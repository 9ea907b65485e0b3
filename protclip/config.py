"""Options of every command as plain dataclasses, and the folders that protclip writes to."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Folder for downloaded and derived files: ``PROTCLIP_CACHE``, else the XDG cache folder."""
    if path := os.environ.get("PROTCLIP_CACHE"):
        return Path(path)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "protclip"
