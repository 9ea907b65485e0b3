"""Transport plans against POT, closed forms, and themselves in other blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch.utils._python_dispatch import TorchDispatchMode

from protclip.alignment import sinkhorn as face
from protclip.alignment.sinkhorn import BLOCK_ELEMENTS, KERNEL_ELEMENTS, sinkhorn
from protclip.errors import ConfigError, DataError


def unit(n: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=1).to(dtype)


LEFT, RIGHT = unit(40, 5, 0), unit(31, 5, 1)
A = torch.arange(1.0, 41.0, dtype=torch.float64)
B = torch.arange(31.0, 0.0, -1.0, dtype=torch.float64)


def test_the_package_exports_the_function() -> None:
    assert face is sinkhorn


@pytest.mark.parametrize("block", [None, 1, 7, 40])
@pytest.mark.parametrize("epsilon", [0.02, 0.1, 1.0])
def test_balanced_equals_pot(block: int | None, epsilon: float) -> None:
    import ot  # large, and not needed by the test that runs on a GPU

    a, b = (A / A.sum()).numpy(), (B / B.sum()).numpy()
    cost = 1 - (LEFT @ RIGHT.T).numpy()
    theirs = ot.sinkhorn(a, b, cost, epsilon, method="sinkhorn_log", stopThr=1e-11, numItermax=20_000)
    plan = sinkhorn(LEFT, RIGHT, epsilon=epsilon, a=A, b=B, tol=1e-10, max_iter=20_000, block=block)
    assert plan.converged
    np.testing.assert_allclose(plan.dense().numpy(), theirs, rtol=1e-5, atol=1e-11)


@pytest.mark.parametrize("block", [None, 7])
@pytest.mark.parametrize("price", [0.05, 0.5, 5.0])
def test_unbalanced_equals_pot(block: int | None, price: float) -> None:
    import ot

    a, b = (A / A.sum()).numpy(), (B / B.sum()).numpy()
    cost = 1 - (LEFT @ RIGHT.T).numpy()
    theirs = ot.unbalanced.sinkhorn_unbalanced(a, b, cost, 0.1, price, stopThr=1e-13, numItermax=20_000)
    plan = sinkhorn(LEFT, RIGHT, a=A, b=B, unbalanced=price, tol=1e-12, max_iter=20_000, block=block)
    np.testing.assert_allclose(plan.dense().numpy(), theirs, rtol=1e-6, atol=1e-12)


def test_large_price_is_balanced_and_far_items_lose_their_mass() -> None:
    balanced = sinkhorn(LEFT, RIGHT, tol=1e-10).dense()
    dear = sinkhorn(LEFT, RIGHT, unbalanced=1e6, tol=1e-10).dense()
    np.testing.assert_allclose(dear.numpy(), balanced.numpy(), rtol=1e-4)
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    mass = sinkhorn(x, x[:2], epsilon=0.05, unbalanced=0.3, tol=1e-10).dense().sum(1)
    assert mass[2] < 0.01 * mass[0]


def test_marginals_and_closed_form_of_two_by_two() -> None:
    """On cost [[0, 1], [1, 0]] the plan is 1 / (2 (1 + e^(-1/eps))) on the diagonal."""
    plan = sinkhorn(torch.eye(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64), epsilon=0.3).dense()
    same = 0.5 / (1 + np.exp(-1 / 0.3))
    np.testing.assert_allclose(plan.numpy(), [[same, 0.5 - same], [0.5 - same, same]], rtol=1e-12)


def test_one_item_each() -> None:
    plan = sinkhorn(torch.ones(1, 1), -torch.ones(1, 1))
    assert plan.dense().tolist() == [[1.0]]
    assert plan.moments(torch.ones(1, 1), torch.ones(1, 1)).row_confidence.tolist() == [1.0]


@pytest.mark.parametrize("epsilon", [0.002, 0.1])
def test_float32_agrees_with_float64(epsilon: float) -> None:
    exact = sinkhorn(LEFT, RIGHT, epsilon=epsilon, tol=1e-5, max_iter=20_000)
    rough = sinkhorn(LEFT.float(), RIGHT.float(), epsilon=epsilon, tol=1e-5, max_iter=20_000)
    assert rough.f.dtype == torch.float32
    assert rough.converged
    np.testing.assert_allclose(rough.dense().numpy(), exact.dense().numpy(), atol=2e-5)


@pytest.mark.parametrize("block", [1, 7, 39])
@pytest.mark.parametrize("widths", [(3, 4), (4, 3)])
def test_moments_equal_those_of_the_whole_plan(block: int, widths: tuple[int, int]) -> None:
    x, y = unit(40, widths[0], 5), unit(31, widths[1], 6)
    plan = sinkhorn(LEFT, RIGHT, unbalanced=0.4, block=block)
    p = plan.dense().numpy()
    found = plan.moments(x, y)
    np.testing.assert_allclose(found.cross.numpy(), x.numpy().T @ p @ y.numpy(), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.row_mass.numpy(), p.sum(1), rtol=1e-12)
    np.testing.assert_allclose(found.column_mass.numpy(), p.sum(0), rtol=1e-12)
    for axis, mine in ((1, found.row_confidence), (0, found.column_confidence)):
        q = p / p.sum(axis, keepdims=True)
        expected = 1 + (q * np.log(q)).sum(axis) / np.log(p.shape[axis])
        np.testing.assert_allclose(mine.numpy(), expected, rtol=1e-8)


def test_start_from_the_solution_takes_two_steps() -> None:
    plan = sinkhorn(LEFT, RIGHT, tol=1e-8)
    again = sinkhorn(LEFT, RIGHT, tol=1e-7, start=(plan.f, plan.g))
    assert plan.iterations > 5
    assert again.iterations == 2


def test_says_when_it_did_not_converge() -> None:
    plan = sinkhorn(LEFT, RIGHT, epsilon=0.01, tol=1e-12, max_iter=3)
    assert not plan.converged
    assert plan.iterations == 3
    assert plan.error > 1e-12


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_nothing_larger_than_a_block_is_made() -> None:
    left, right = unit(500, 4, 2), unit(400, 4, 3)
    with Largest() as seen:
        sinkhorn(left, right, block=16, max_iter=3).moments(left, right)
    assert seen.elements == 16 * 400
    with Largest() as seen:
        sinkhorn(left, right, max_iter=3)
    assert seen.elements == 500 * 400  # the watch sees whole plans


def test_default_block_of_20_000_items_fits_in_4_gb() -> None:
    left = torch.ones(20_000, 1)
    assert sinkhorn(left[:2], left, max_iter=1).block == 2
    with Largest() as seen:
        plan = sinkhorn(left, left[:2000], max_iter=1)  # 40 million entries
    assert plan.block == BLOCK_ELEMENTS["cpu"] // 2000
    assert seen.elements <= BLOCK_ELEMENTS["cpu"]
    # A step holds the kernel, a shifted copy and the temporaries of logsumexp: five blocks of float64.
    assert 5 * 8 * max(KERNEL_ELEMENTS, *BLOCK_ELEMENTS.values()) < 4e9


@pytest.mark.parametrize(
    "options", [{"epsilon": 0.0}, {"epsilon": float("nan")}, {"unbalanced": -1.0}, {"tol": 0}, {"block": 0}]
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        sinkhorn(LEFT, RIGHT, **options)


def test_bad_input() -> None:
    with pytest.raises(DataError, match="no plan between these sets"):
        sinkhorn(LEFT, RIGHT[:, :3])
    with pytest.raises(DataError, match="no plan between these sets"):
        sinkhorn(LEFT, RIGHT[:0])
    with pytest.raises(DataError, match="not finite"):
        sinkhorn(LEFT * float("nan"), RIGHT)
    with pytest.raises(DataError, match="masses do not fit"):
        sinkhorn(LEFT, RIGHT, a=B)
    with pytest.raises(DataError, match="masses do not fit"):
        sinkhorn(LEFT, RIGHT, b=B - 5)


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu() -> None:
    here = sinkhorn(LEFT.float(), RIGHT.float(), tol=1e-5)
    there = sinkhorn(LEFT.float().cuda(), RIGHT.float().cuda(), tol=1e-5, block=7)
    np.testing.assert_allclose(there.dense().cpu().numpy(), here.dense().numpy(), atol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 3.9, 10.0, -3000.0])
def test_unsafe_exponents_go_on_in_log_space(shift: float) -> None:
    """Potentials are free up to a constant; far from zero the first step in log space takes them up."""
    left, right = LEFT.float(), RIGHT.float()
    expected = sinkhorn(LEFT, RIGHT, tol=1e-6).dense().numpy()
    plan = sinkhorn(left, right, tol=1e-5, start=(torch.zeros(40), torch.full((31,), shift)))
    # In float32, potentials of 3,000 are known to 2e-4, a 400th of epsilon.
    np.testing.assert_allclose(plan.dense().numpy(), expected, rtol=1e-3 if abs(shift) < 100 else 1e-2)


@pytest.mark.parametrize("block", [None, 7])
@pytest.mark.parametrize("unbalanced", [None, 3.0])
def test_long_rows_cost_minus_their_product(block: int | None, unbalanced: float | None) -> None:
    """Rows of any length: exponents of hundreds, beyond float32, against float64 in log space."""
    left, right = 6 * LEFT, 5 * RIGHT
    cost = (1 - left @ right.T).numpy()
    f, g = np.zeros(40), np.zeros(31)
    damping = 1.0 if unbalanced is None else unbalanced / (unbalanced + 0.2)
    for _ in range(4000):
        f = -damping * 0.2 * (logsumexp((g - cost) / 0.2, axis=1) - np.log(31))
        g = -damping * 0.2 * (logsumexp((f[:, None] - cost) / 0.2, axis=0) - np.log(40))
    expected = np.exp((f[:, None] + g - cost) / 0.2) / (40 * 31)
    plan = sinkhorn(
        left.float(), right.float(), epsilon=0.2, unbalanced=unbalanced, tol=1e-5, max_iter=9000, block=block
    )
    assert plan.converged
    np.testing.assert_allclose(plan.dense().numpy(), expected, atol=3e-5)
