"""The supervised contrastive loss."""

import math

import pytest
import torch

from protclip.errors import ConfigError
from protclip.losses import clip_loss


def slow(u, v, scale, pairs, negatives):
    columns_v = range(len(v)) if negatives == "all" else range(pairs)
    columns_u = range(len(u)) if negatives == "all" else range(pairs)
    total = 0.0
    for i in range(pairs):
        right = [scale * sum(a * b for a, b in zip(u[i], v[j], strict=True)) for j in columns_v]
        left = [scale * sum(a * b for a, b in zip(v[i], u[j], strict=True)) for j in columns_u]
        total -= math.log(math.exp(right[i]) / sum(map(math.exp, right)))
        total -= math.log(math.exp(left[i]) / sum(map(math.exp, left)))
    return total / (2 * pairs)


@pytest.mark.parametrize("negatives", ["paired", "all"])
@pytest.mark.parametrize(("n", "m", "pairs"), [(6, 6, 6), (6, 9, 4), (9, 5, 1), (2, 2, 2)])
def test_equals_the_loop(unit_rows, negatives, n, m, pairs):
    u, v = unit_rows(n, 5, 1), unit_rows(m, 5, 2)
    for block_size in (0, 2):
        value = clip_loss(u, v, 7.0, pairs, negatives, block_size=block_size)
        assert value.item() == pytest.approx(slow(u.tolist(), v.tolist(), 7.0, pairs, negatives), abs=1e-12)


def test_closed_forms():
    rows = torch.eye(8, dtype=torch.float64)
    assert clip_loss(rows, rows, 0.0, 8).item() == pytest.approx(math.log(8))
    # One matching column at s, seven at 0.
    assert clip_loss(rows, rows, 2.0, 8).item() == pytest.approx(math.log1p(7 * math.exp(-2)))
    same = rows[:1].expand(8, 8)
    assert clip_loss(same, same, 50.0, 5, "all").item() == pytest.approx(math.log(8))


@pytest.mark.parametrize("negatives", ["paired", "all"])
def test_no_pairs_give_an_exact_zero_with_a_graph(unit_rows, negatives):
    u, v = unit_rows(4).requires_grad_(), unit_rows(5, seed=1).requires_grad_()
    scale = torch.tensor(14.0, requires_grad=True)
    loss = clip_loss(u, v, scale, 0, negatives)
    loss.backward()
    assert loss.item() == 0.0
    for leaf in (u, v, scale):
        assert torch.equal(leaf.grad, torch.zeros_like(leaf))


def test_one_pair_alone_teaches_nothing(unit_rows):
    u, v = unit_rows(3).requires_grad_(), unit_rows(3, seed=1).requires_grad_()
    loss = clip_loss(u, v, 14.0, 1)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert u.grad.abs().max() < 1e-12
    assert clip_loss(u, v, 14.0, 1, "all").item() > 0.1


def test_unpaired_rows_matter_only_as_negatives(unit_rows):
    u, v, other = unit_rows(6), unit_rows(6, seed=1), unit_rows(6, seed=2)
    changed = torch.cat([v[:3], other[3:]])
    assert clip_loss(u, v, 9.0, 3).item() == clip_loss(u, changed, 9.0, 3).item()
    assert clip_loss(u, v, 9.0, 3, "all").item() != clip_loss(u, changed, 9.0, 3, "all").item()


@pytest.mark.parametrize("negatives", ["paired", "all"])
def test_gradients(unit_rows, negatives):
    leaves = (unit_rows(4, 3).requires_grad_(), unit_rows(5, 3, 1).requires_grad_())
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u, v, s: clip_loss(u, v, s, 3, negatives), (*leaves, scale))


def test_half_precision_is_computed_in_full(unit_rows):
    u, v = unit_rows(16, 32).bfloat16().requires_grad_(), unit_rows(16, 32, 1).bfloat16()
    expected = clip_loss(u.detach().float(), v.float(), 20.0, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = clip_loss(u, v, 20.0, 16)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == expected.item()
    assert u.grad.dtype == torch.bfloat16


def test_errors():
    rows = torch.eye(3)
    with pytest.raises(ConfigError, match="number of pairs out of range; got 4, expected 0 to 3"):
        clip_loss(rows, rows, 1.0, 4)
    with pytest.raises(ConfigError, match="negatives: unknown choice; got 'none', expected paired or all"):
        clip_loss(rows, rows, 1.0, 2, "none")
