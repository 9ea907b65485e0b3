"""Rows of former steps in the semantic density distribution loss."""

import copy
import io
import math

import pytest
import torch

from protclip.config.loss import LossConfig
from protclip.errors import ConfigError
from protclip.losses import SDD, Objective, Views
from protclip.losses.queue import RowQueue


def distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def slow(u, v, old_u, old_v, *, divergence="kl", self_term=True, reduce="mean", h=0.5):
    """Densities of batch and former rows at the rows of the batch, one at a time."""

    def density(x, rows, skip=None):
        centre = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        sigma2 = sum(distance(row, centre) for row in rows) / (len(rows) - 1)
        parts = [math.exp(-distance(x, s) / (4 * h * h * sigma2)) for j, s in enumerate(rows) if j != skip]
        return sum(parts) / (len(parts) if reduce == "mean" else 1)

    def one_way(points, own, other):
        terms = []
        for i, x in enumerate(points):
            p, q = density(x, own, None if self_term else i), density(x, other)
            terms.append((p - q) * (math.log(p) - math.log(q)) if divergence == "kl" else (p - q) ** 2)
        return sum(terms) if reduce == "sum" and divergence == "kl" else sum(terms) / len(terms)

    return one_way(u, u + old_u, v + old_v) + one_way(v, v + old_v, u + old_u)


def latest(batches, length):
    """The last batches that fit together; the last rows of one that does not fit at all."""
    kept, room = [], length
    for batch in reversed(batches):
        if not kept and len(batch) > length:
            return [batch[-length:]]
        if len(batch) > room:
            break
        kept, room = [batch, *kept], room - len(batch)
    return kept


@pytest.mark.parametrize("divergence", ["kl", "mse"])
@pytest.mark.parametrize("self_term", [True, False])
@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("queue", [3, 7, 100])
def test_equals_the_loop_over_steps_of_uneven_size(unit_rows, divergence, self_term, reduce, queue):
    options = {"divergence": divergence, "self_term": self_term, "reduce": reduce}
    for block_size in (0, 3):
        sdd = SDD(queue=queue, block_size=block_size, **options)
        old_u, old_v, batches_u, batches_v = [], [], [], []
        for step, (n, m) in enumerate([(5, 4), (4, 4), (1, 6), (6, 1)]):
            u, v = unit_rows(n, seed=step), unit_rows(m, seed=10 + step)
            found = sdd(u, v).item()
            expected = slow(u.tolist(), v.tolist(), old_u, old_v, **options)
            assert found == pytest.approx(expected, rel=1e-10, abs=1e-12), step
            batches_u = latest([*batches_u, u.tolist()], queue)
            batches_v = latest([*batches_v, v.tolist()], queue)
            old_u = [row for batch in batches_u for row in batch]
            old_v = [row for batch in batches_v for row in batch]
        assert sdd.left.rows.tolist() == old_u
        assert sdd.right.rows.tolist() == old_v


@pytest.mark.parametrize("options", [{}, {"self_term": False}, {"divergence": "mse"}, {"rescale": True}])
def test_gradients_reach_the_batch_as_points_and_as_samples(unit_rows, options):
    sdd = SDD(queue=6, **options)
    former = unit_rows(4, 3, 5).requires_grad_(), unit_rows(4, 3, 6).requires_grad_()
    sdd(*former)
    sdd.eval()
    leaves = (unit_rows(4, 3).requires_grad_(), unit_rows(5, 3, 1).requires_grad_())
    assert torch.autograd.gradcheck(sdd, leaves)
    sdd(*leaves).backward()
    assert all(rows.grad is None for rows in former)


def test_backward_after_the_rows_were_pushed_is_that_of_before(unit_rows):
    sdd = SDD(queue=4)
    sdd(unit_rows(4, seed=5), unit_rows(4, seed=6))
    u, v = unit_rows(4).requires_grad_(), unit_rows(5, seed=1).requires_grad_()
    expected = torch.autograd.grad(copy.deepcopy(sdd)(u, v), (u, v))
    loss = sdd(u, v)
    sdd(unit_rows(3, seed=7), unit_rows(3, seed=8))
    for found, grad in zip(torch.autograd.grad(loss, (u, v)), expected, strict=True):
        assert torch.equal(found, grad)


def test_the_density_of_small_batches_comes_near_that_of_the_whole(unit_rows):
    """Sixteen rows a step against 512 at once: alone, a batch says little of equal laws."""
    u, v = unit_rows(512, 8), unit_rows(512, 8, 1)
    whole = SDD()(u, v).item()
    excess = {}
    for queue in (0, 512):
        sdd = SDD(queue=queue)
        values = [sdd(a, b).item() for a, b in zip(u.split(16), v.split(16), strict=True)]
        excess[queue] = sum(values[-8:]) / 8 - whole
    assert abs(excess[512]) < excess[0] / 10


def test_without_a_queue_nothing_is_remembered(unit_rows):
    u, v = unit_rows(6), unit_rows(5, seed=1)
    sdd = SDD()
    first = sdd(u, v).item()
    sdd(unit_rows(6, seed=3), v)
    assert sdd(u, v).item() == first
    assert not sdd.state_dict()
    # The first step has nothing to remember yet.
    assert SDD(queue=9)(u, v).item() == first


def test_evaluation_reads_the_queue_and_leaves_it(unit_rows):
    sdd = SDD(queue=5)
    sdd(unit_rows(5), unit_rows(5, seed=1))
    before = copy.deepcopy(sdd.state_dict())
    sdd.eval()
    u, v = unit_rows(4, seed=2), unit_rows(4, seed=3)
    assert sdd(u, v).item() == sdd(u, v).item() != SDD()(u, v).item()
    for name, rows in before.items():
        assert torch.equal(rows, sdd.state_dict()[name])


def test_state_goes_through_a_file_and_on_exactly(unit_rows):
    config = LossConfig(clip_weight=0.0, mmd_weight=0.0, sdd_queue=7)
    batches = [Views(unit_rows(3, seed=i), unit_rows(4, seed=20 + i)) for i in range(6)]
    whole, first = Objective(config), Objective(config)
    expected = [whole(views)["loss"].item() for views in batches]
    for stop in (0, 1, 2, 4):
        first = Objective(config)
        for views in batches[:stop]:
            first(views)
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second = Objective(config)
        second.load_state_dict(torch.load(file, weights_only=True))
        assert [second(views)["loss"].item() for views in batches[stop:]] == expected[stop:]
        assert set(second.state_dict()) == {
            f"sdd.{s}.{part}" for s in ("left", "right") for part in ("rows", "sizes")
        }
        for name, rows in whole.state_dict().items():
            assert torch.equal(rows, second.state_dict()[name])


def test_a_state_that_does_not_fit_is_refused(unit_rows):
    longer = RowQueue(5)
    longer.push(unit_rows(5))
    with pytest.raises(RuntimeError, match="size mismatch for rows"):
        RowQueue(4).load_state_dict(longer.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        RowQueue(4).load_state_dict({})


def test_a_batch_leaves_whole_in_whatever_order_its_rows_were_gathered(unit_rows):
    """Each process has its own part of the pairs first, so that rows of one batch come in other orders."""
    one, other = RowQueue(10), RowQueue(10)
    for step in range(5):
        rows = unit_rows(4, seed=step)
        one.push(rows)
        other.push(rows[[2, 0, 3, 1]])
    assert len(one.rows) == 8
    assert torch.equal(one.rows.sort(0).values, other.rows.sort(0).values)


def test_the_queue_holds_no_more_than_its_rows(unit_rows):
    queue = RowQueue(3)
    queue.push(unit_rows(1000))
    assert queue.rows.untyped_storage().nbytes() == 3 * 6 * 8
    assert torch.equal(queue.rows, unit_rows(1000)[-3:])


@pytest.mark.parametrize("self_term", [True, False])
@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_and_collapsed_rows_stay_finite(self_term, n):
    sdd = SDD(queue=4, self_term=self_term)
    row = torch.tensor([[1.0, 0.0, 0.0]])
    for _ in range(3):
        u, v = row.repeat(n, 1).requires_grad_(), row.roll(1, 1).repeat(max(n, 1), 1).requires_grad_()
        loss = sdd(u, v)
        loss.backward()
        assert loss.isfinite()
        assert u.grad.isfinite().all()
        assert v.grad.isfinite().all()
    assert (len(sdd.left.rows), len(sdd.right.rows)) == (min(3 * n, 4), 3 if n < 2 else 4)


def test_half_precision_is_remembered_in_full(unit_rows):
    u, v = unit_rows(12, 32).bfloat16(), unit_rows(12, 32, 1).bfloat16()
    half, full = SDD(queue=20), SDD(queue=20)
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = half(u, v).item()
        assert value == full(u.float(), v.float()).item()
    assert half.left.rows.dtype == torch.float32


def test_errors(unit_rows):
    for length in (-1, 2.5, True):
        with pytest.raises(ConfigError, match=r"sdd_queue: (out of range|wrong type)"):
            SDD(queue=length)
    with pytest.raises(ConfigError, match="length of a queue: out of range; got 0"):
        RowQueue(0)
    sdd = SDD(queue=4)
    sdd(unit_rows(3), unit_rows(3))
    with pytest.raises(ConfigError, match="the two sides do not fit together"):
        sdd(unit_rows(3, 5), unit_rows(3, 5))
