"""protclip: protein structure and sequence in one embedding space, from partly paired data."""

from __future__ import annotations

from protclip.errors import ProtclipError

__version__ = "0.1.0"
__all__ = ["ProtclipError", "__version__"]
