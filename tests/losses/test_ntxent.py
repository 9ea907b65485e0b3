"""The self-supervised contrastive loss."""

import math

import pytest
import torch

from protclip.errors import ConfigError
from protclip.losses import NTXent


def slow(rows, views, temperature):
    every = rows + views
    n = len(rows)
    total = 0.0
    for i, a in enumerate(every):
        twin = (i + n) % (2 * n)
        weights = {
            j: math.exp(sum(x * y for x, y in zip(a, b, strict=True)) / temperature)
            for j, b in enumerate(every)
            if j != i
        }
        total -= math.log(weights[twin] / sum(weights.values()))
    return total / (2 * n)


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("block_size", [0, 3])
def test_equals_the_loop(unit_rows, n, block_size):
    rows, views = unit_rows(n), unit_rows(n, seed=1)
    value = NTXent(0.2, block_size=block_size)(rows, views).item()
    assert value == pytest.approx(slow(rows.tolist(), views.tolist(), 0.2), abs=1e-12)


def test_closed_forms():
    rows = torch.eye(5, dtype=torch.float64)
    # One twin at 1 / t, eight others at 0.
    assert NTXent(0.5)(rows, rows).item() == pytest.approx(math.log1p(8 * math.exp(-2)))
    same = rows[:1].expand(5, 5)
    assert NTXent(0.05)(same, same).item() == pytest.approx(math.log(9))


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_rows_give_a_connected_zero(unit_rows, n):
    rows = unit_rows(n).requires_grad_()
    loss = NTXent()(rows, unit_rows(n, seed=1))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(rows.grad, torch.zeros_like(rows))


def test_order_and_roles_do_not_matter(unit_rows):
    rows, views = unit_rows(6), unit_rows(6, seed=1)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    loss = NTXent()
    assert loss(rows[order], views[order]).item() == pytest.approx(loss(rows, views).item())
    assert loss(views, rows).item() == pytest.approx(loss(rows, views).item())


def test_gradients(unit_rows):
    leaves = (unit_rows(3, 4).requires_grad_(), unit_rows(3, 4, 1).requires_grad_())
    assert torch.autograd.gradcheck(NTXent(0.3), leaves)


def test_collapsed_rows_have_finite_gradients():
    rows = torch.ones(4, 3).div(3**0.5).requires_grad_()
    NTXent()(rows, rows).backward()
    assert rows.grad.isfinite().all()


def test_errors():
    with pytest.raises(ConfigError, match=r"ssl_temperature: out of range; got 0, expected a number > 0"):
        NTXent(0)
    with pytest.raises(ConfigError, match="got 3 and 2, expected one view of every row"):
        NTXent()(torch.ones(3, 2), torch.ones(2, 2))
