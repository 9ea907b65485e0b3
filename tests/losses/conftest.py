"""Rows for the tests of the losses."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture
def unit_rows() -> Callable[..., Tensor]:
    """Random unit rows in float64: ``unit_rows(n, d, seed)``."""

    def make(n: int, d: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(n, d, generator=generator, dtype=torch.float64)
        return torch.nn.functional.normalize(rows, dim=1).to(dtype)

    return make
