"""The supervised contrastive loss of single cells."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from protclip.errors import ConfigError
from protclip.losses import clip_loss, sigmoid_loss


def slow(u, v, scale, pairs, negatives):
    total = 0.0
    for rows, others in ((u, v), (v, u)):
        columns = len(others) if negatives == "all" else pairs
        for i in range(pairs):
            for j in range(columns):
                odds = math.exp(scale * sum(a * b for a, b in zip(rows[i], others[j], strict=True)))
                # Of n columns one matches: a cell's odds before anything is known are 1 to n - 1.
                match = odds / (odds + columns - 1)
                total -= math.log(match if i == j else 1 - match) if columns > 1 else 0.0
    return total / (2 * pairs)


@pytest.mark.parametrize("negatives", ["paired", "all"])
@pytest.mark.parametrize(("n", "m", "pairs"), [(6, 6, 6), (6, 9, 4), (9, 5, 1), (2, 2, 2), (3, 1, 1)])
def test_equals_the_loop(unit_rows, negatives, n, m, pairs):
    u, v = unit_rows(n, 5, 1), unit_rows(m, 5, 2)
    for block_size in (0, 2):
        value = sigmoid_loss(u, v, 7.0, pairs, negatives, block_size=block_size)
        assert value.item() == pytest.approx(slow(u.tolist(), v.tolist(), 7.0, pairs, negatives), abs=1e-12)


def test_equals_the_published_sum_over_all_cells(unit_rows):
    u, v = unit_rows(9, 5, 1), unit_rows(9, 5, 2)
    logits = 30 * u @ v.T - math.log(8)
    cells = binary_cross_entropy_with_logits(logits, torch.eye(9, dtype=torch.float64), reduction="sum")
    assert sigmoid_loss(u, v, 30.0, 9).item() == pytest.approx(cells.item() / 9, rel=1e-12)


def test_closed_forms():
    rows = torch.eye(8, dtype=torch.float64)
    # Rows that say nothing: log 8 for the match, and seven times log(8 / 7).
    nothing = math.log(8) + 7 * math.log(8 / 7)
    assert sigmoid_loss(rows, rows, 0.0, 8).item() == pytest.approx(nothing)
    # One matching column at s, seven at 0.
    expected = math.log1p(7 * math.exp(-2)) + 7 * math.log(8 / 7)
    assert sigmoid_loss(rows, rows, 2.0, 8).item() == pytest.approx(expected)
    # Collapsed: every logit is s - log(n - 1), five rows and eight columns.
    same = rows[:1].expand(8, 8)
    expected = math.log1p(7 * math.exp(-3)) + 7 * math.log1p(math.exp(3) / 7)
    assert sigmoid_loss(same, same, 3.0, 5, "all").item() == pytest.approx(expected)


@pytest.mark.parametrize("rows", [2, 16, 256])
def test_uninformative_rows_cost_nearly_as_much_as_with_a_softmax(rows):
    u = torch.eye(rows, dtype=torch.float64)
    excess = sigmoid_loss(u, u, 0.0, rows).item() - clip_loss(u, u, 0.0, rows).item()
    assert math.log(2) - 1e-9 <= excess < 1


@pytest.mark.parametrize("n", [8, 64, 512])
def test_the_bias_leaves_the_best_scale_to_the_density_ratio(n):
    """Items of four equally common kinds, rows that show the kind: partners are four times as likely alike.

    A row has one partner and n / 4 - 1 other columns of its kind among n - 1; the best logit of these cells
    is their log odds, which the bias splits into those of any cell and log 4, up to the partner's own share.
    """
    rows = torch.eye(4, dtype=torch.float64).repeat(n // 4, 1)
    best = math.log((n - 1) / (n // 4 - 1))
    scale = torch.tensor(best, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(sigmoid_loss(rows, rows, scale, n), scale)
    assert abs(gradient.item()) < 1e-12
    assert best == pytest.approx(math.log(4), abs=8 / n)


@pytest.mark.parametrize("negatives", ["paired", "all"])
def test_no_pairs_give_an_exact_zero_with_a_graph(unit_rows, negatives):
    u, v = unit_rows(4).requires_grad_(), unit_rows(5, seed=1).requires_grad_()
    scale = torch.tensor(14.0, requires_grad=True)
    loss = sigmoid_loss(u, v, scale, 0, negatives)
    loss.backward()
    assert loss.item() == 0.0
    for leaf in (u, v, scale):
        assert torch.equal(leaf.grad, torch.zeros_like(leaf))


def test_one_pair_alone_teaches_nothing(unit_rows):
    u, v = unit_rows(3).requires_grad_(), unit_rows(3, seed=1).requires_grad_()
    scale = torch.tensor(14.0, dtype=torch.float64, requires_grad=True)
    loss = sigmoid_loss(u, v, scale, 1)
    loss.backward()
    assert loss.item() == 0.0
    for leaf in (u, v, scale):
        assert torch.equal(leaf.grad, torch.zeros_like(leaf))
    assert sigmoid_loss(u, v, 14.0, 1, "all").item() > 0.1


def test_unpaired_rows_matter_only_as_negatives(unit_rows):
    u, v, other = unit_rows(6), unit_rows(6, seed=1), unit_rows(6, seed=2)
    changed = torch.cat([v[:3], other[3:]])
    assert sigmoid_loss(u, v, 9.0, 3).item() == sigmoid_loss(u, changed, 9.0, 3).item()
    assert sigmoid_loss(u, v, 9.0, 3, "all").item() != sigmoid_loss(u, changed, 9.0, 3, "all").item()


@pytest.mark.parametrize("negatives", ["paired", "all"])
@pytest.mark.parametrize("block_size", [0, 2])
def test_gradients(unit_rows, negatives, block_size):
    leaves = (unit_rows(4, 3).requires_grad_(), unit_rows(5, 3, 1).requires_grad_())
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)

    def loss(u, v, s):
        return sigmoid_loss(u, v, s, 3, negatives, block_size=block_size)

    assert torch.autograd.gradcheck(loss, (*leaves, scale))


@pytest.mark.parametrize("scale", [1e-3, 100.0, 1e4])
def test_extreme_scales_stay_finite_and_exact(unit_rows, scale):
    u, v = unit_rows(12, 4), unit_rows(12, 4, 1)
    single = u.float().requires_grad_()
    loss = sigmoid_loss(single, v.float(), scale, 12)
    loss.backward()
    assert single.grad.isfinite().all()
    assert loss.item() == pytest.approx(sigmoid_loss(u, v, scale, 12).item(), rel=1e-4)


def test_a_certain_match_leaves_no_rounding_behind():
    rows = torch.eye(4)
    # Everything matched is at 100, everything else at -100: e^-100 is no rounding error of 100.
    signs = 2 * rows - 1
    assert sigmoid_loss(signs, rows, 100.0, 4).item() < 1e-38


def test_half_precision_is_computed_in_full(unit_rows):
    u, v = unit_rows(16, 32).bfloat16().requires_grad_(), unit_rows(16, 32, 1).bfloat16()
    expected = sigmoid_loss(u.detach().float(), v.float(), 20.0, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sigmoid_loss(u, v, 20.0, 16)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == expected.item()
    assert u.grad.dtype == torch.bfloat16


def test_errors():
    rows = torch.eye(3)
    with pytest.raises(
        ConfigError, match="sigmoid loss: number of pairs out of range; got 4, expected 0 to 3"
    ):
        sigmoid_loss(rows, rows, 1.0, 4)
    with pytest.raises(ConfigError, match="negatives: unknown choice; got 'none', expected paired or all"):
        sigmoid_loss(rows, rows, 1.0, 2, "none")
    with pytest.raises(ConfigError, match="the two sides do not fit together"):
        sigmoid_loss(rows, rows[:, :2], 1.0, 2)
