"""protclip: protein structure and sequence in one embedding space, from partly paired data.

>>> import protclip
>>> model = protclip.load()  # doctest: +SKIP
>>> model.embed("MKTAYIAKQR")  # doctest: +SKIP
Embeddings(1 x 256, sequence: 0)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protclip.errors import ProtclipError

if TYPE_CHECKING:
    from protclip.inference.aligned_model import AlignedModel, load
    from protclip.inference.embeddings import Embeddings
    from protclip.tasks.predict import Head, load_head
    from protclip.training.pretrain import pretrain

__version__ = "0.1.0"
__all__ = [
    "AlignedModel",
    "Embeddings",
    "Head",
    "ProtclipError",
    "__version__",
    "load",
    "load_head",
    "pretrain",
]

_LAZY = {
    "AlignedModel": "protclip.inference.aligned_model",
    "Embeddings": "protclip.inference.embeddings",
    "Head": "protclip.tasks.predict",
    "load": "protclip.inference.aligned_model",
    "load_head": "protclip.tasks.predict",
    "pretrain": "protclip.training.pretrain",
}


def __getattr__(name: str) -> Any:
    # torch and its company are imported at first use, not with the package.
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
