"""What the alignment refuses, in words that say how to mend it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from protclip.errors import ConfigError, DataError
from protclip.typing import Matrix

METHODS = ("transport", "cca")
PLANS = ("likelihood", "cosine")
STARTS = ("pairs", "gromov")
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def check_options(options: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigError` for a setting of :class:`TransportAlignment` that is out of range."""
    for name in ("dim", "rounds", "max_iter", "max_items", "folds"):
        value = options[name]
        least = 2 if name in ("folds", "max_items") else 1
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ConfigError("out of range", where=name, got=repr(value), expected=f"{least} or more")
    components = options["components"]
    if components is not None and components < 1:
        raise ConfigError("out of range", where="components", got=repr(components), expected="1 or more")
    for name in ("epsilon", "weight", "tol", "unbalanced", "block", "prior_width"):
        value = options[name]
        if value is None and name in ("unbalanced", "block", "epsilon"):
            continue
        if not 0 < value < float("inf"):
            raise ConfigError("out of range", where=name, got=repr(value), expected="above 0")
    for name in ("ridge", "power"):
        if not 0 <= options[name] < float("inf"):
            raise ConfigError("out of range", where=name, got=repr(options[name]), expected="0 or more")
    for name, allowed in (("method", METHODS), ("plan", PLANS), ("start", STARTS), ("dtype", tuple(DTYPES))):
        if options[name] not in allowed:
            raise ConfigError("unknown", where=name, got=repr(options[name]), expected=" or ".join(allowed))


def check_rows(rows: ArrayLike, name: str, dim: int | None = None) -> Matrix:
    """Rows as a finite float64 matrix [n, d], or a :class:`DataError` that names the first bad row."""
    try:
        matrix = np.asarray(rows, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("not a matrix of numbers", where=name, got=str(error)) from None
    if matrix.ndim != 2 or not matrix.shape[1] or (dim is not None and matrix.shape[1] != dim):
        raise DataError(
            "not a matrix of feature rows",
            where=name,
            got=str(list(matrix.shape)),
            expected=f"[n, {dim or 'd'}]",
        )
    bad = np.flatnonzero(~np.isfinite(matrix).all(1))
    if len(bad):
        raise DataError("rows are not finite", where=name, got=f"NaN or infinity in row {bad[0]}")
    return matrix


def check_pairs(pairs: ArrayLike, n: int, m: int, least: int = 2) -> NDArray[np.int64]:
    """Pairs as an int64 array [p, 2] of rows below n and m, each in one pair at most; ``least`` or more."""
    array = np.asarray(pairs)
    if not len(array) and not least:
        return np.zeros((0, 2), np.int64)
    if len(array) < least:
        raise ConfigError(
            "alignment learns from matched pairs", got=f"{len(array)}", expected=f"at least {least}"
        )
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise DataError(
            "not a list of pairs",
            where="pairs",
            got=f"{array.dtype} {list(array.shape)}",
            expected="int [p, 2]",
        )
    for side, size in ((0, n), (1, m)):
        column, where = array[:, side], f"pairs[:, {side}]"
        if column.min() < 0 or column.max() >= size:
            raise DataError(
                "no such row",
                where=where,
                got=f"{column.min()} to {column.max()}",
                expected=f"0 to {size - 1}",
            )
        values, counts = np.unique(column, return_counts=True)
        if (counts > 1).any():
            raise DataError(
                "a row is in several pairs",
                where=where,
                got=f"row {values[counts > 1][0]}",
                hint="Keep one of the pairs, or average the vectors of the partners",
            )
    return array.astype(np.int64)
