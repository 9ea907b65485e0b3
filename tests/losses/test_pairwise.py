"""The shared row-wise log-sum-exp, and the helpers around it."""

import pytest
import torch

from protclip.errors import ConfigError
from protclip.losses.kernels import squared_distances
from protclip.losses.pairwise import as_full, blocks, centred, check_rows, connected_zero, row_logsumexp


@pytest.mark.parametrize("skip_self", [False, True])
@pytest.mark.parametrize("block_size", [0, 1, 3, 7, 50])
def test_equals_the_plain_formula_with_its_gradients(unit_rows, skip_self, block_size):
    leaves = [unit_rows(7, 4, 1), unit_rows(7 if skip_self else 5, 4, 2)]
    leaves.append(torch.linspace(-1, 1, len(leaves[1]), dtype=torch.float64))
    weights = torch.linspace(0.5, 2, 7, dtype=torch.float64)
    results = []
    for plain in (True, False):
        q, k, b = (leaf.clone().requires_grad_() for leaf in leaves)
        if plain:
            products = q @ k.T + b
            if skip_self:
                products = products.masked_fill(torch.eye(7, dtype=torch.bool), -torch.inf)
            value = products.logsumexp(1)
        else:
            value = row_logsumexp(q, k, b, skip_self=skip_self, block_size=block_size)
        results.append((value, *torch.autograd.grad((value * weights).sum(), (q, k, b))))
    for plain, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


def test_finite_differences(unit_rows):
    leaves = [unit_rows(4, 3, 1), unit_rows(4, 3, 2), torch.randn(4, dtype=torch.float64)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    assert torch.autograd.gradcheck(
        lambda q, k, b: row_logsumexp(q, k, b, skip_self=True, block_size=3), leaves
    )


def test_large_products_do_not_overflow():
    rows = torch.full((2, 1), 1e6)
    assert torch.equal(row_logsumexp(rows, rows), torch.full((2,), 1e12))


def test_nothing_to_sum_gives_minus_infinity_and_no_gradient():
    row = torch.ones(1, 2, requires_grad=True)
    value = row_logsumexp(row, row, skip_self=True)
    assert value.item() == -torch.inf
    value.sum().backward()
    assert torch.equal(row.grad, torch.zeros(1, 2))


def test_close_points_keep_their_digits(unit_rows):
    base = unit_rows(1, 256, 3)
    rows = (base + 1e-4 * unit_rows(20, 256, 4)).float()
    exact = torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    ours, _ = centred(rows, rows)
    torch.testing.assert_close(squared_distances(ours, ours).double(), exact, rtol=1e-5, atol=1e-13)
    # The same formula without centring has no digits left here: the test can fail.
    assert (squared_distances(rows, rows).double() - exact).abs().max() > 1e-8


def test_blocks_cover_all_rows_once():
    for size in (0, 1, 4, 100):
        covered = [i for s in blocks(10, 3, size, torch.device("cpu")) for i in range(s.start, s.stop)]
        assert covered == list(range(10))


def test_connected_zero_reaches_its_arguments():
    rows = torch.ones(3, 2, requires_grad=True)
    empty = torch.ones(0, 2, requires_grad=True)
    zero = connected_zero(rows, empty)
    zero.backward()
    assert zero.item() == 0.0
    assert torch.equal(rows.grad, torch.zeros(3, 2))
    assert empty.grad.shape == (0, 2)


def test_precision_and_shapes():
    assert as_full(torch.ones(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert as_full(torch.ones(1, dtype=torch.float64)).dtype == torch.float64
    with pytest.raises(
        ConfigError, match=r"got shapes \(2, 3\) and \(2, 4\), expected \[n, d\] and \[m, d\]"
    ):
        check_rows(torch.ones(2, 3), torch.ones(2, 4))
