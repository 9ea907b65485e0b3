"""The alignments by name, all with ``fit(X, Y, pairs)``, ``transform_left`` and ``transform_right``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protclip.alignment.asif import ASIF
from protclip.alignment.kernel import KernelCCA
from protclip.alignment.mutual import MutualNeighbours
from protclip.alignment.sotalign import SOTAlign
from protclip.alignment.sue import SUE
from protclip.alignment.transport import TransportAlignment
from protclip.errors import ConfigError

METHODS: dict[str, Callable[..., Any]] = {
    "transport": TransportAlignment,
    "cca": lambda **options: TransportAlignment(method="cca", **options),
    "mnn": MutualNeighbours,
    "sotalign": SOTAlign,
    "sue": SUE,
    "asif": ASIF,
    "kcca": KernelCCA,
}
"""Classes of the alignments."""

LINEAR = ("transport", "cca", "mnn", "sotalign")
"""Those whose maps are linear, so that they can be the heads of a model."""


def make_alignment(name: str, **options: Any) -> Any:
    """An unfitted alignment; ``options`` that it does not have are refused.

    Raises
    ------
    ConfigError
        If there is no such method.

    Examples
    --------
    >>> make_alignment("mnn", dim=8).dim
    8
    """
    if name not in METHODS:
        raise ConfigError("unknown", where="--method", got=repr(name), expected=", ".join(METHODS))
    return METHODS[name](**options)
