"""The plan between the pools as soft targets: against POT, over resumes and over processes."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ot
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from protclip.alignment.refine import RefineOptions, refine
from protclip.config.loss import LossConfig
from protclip.config.presets import loss_preset
from protclip.errors import ConfigError
from protclip.losses import Objective, Term, Views
from protclip.modalities.vectors import VectorsModality
from protclip.relations.pairs import AlignmentData, Side
from protclip.scoring.galleries import Gallery
from protclip.training.running import Interrupted
from protclip.training.transport_targets import TransportTargets, frozen_vectors

WORKER = Path(__file__).with_name("transport_worker.py")
specification = importlib.util.spec_from_file_location("transport_worker", WORKER)
worker = importlib.util.module_from_spec(specification)
specification.loader.exec_module(worker)

NOBODY = Gallery([], np.zeros((0, 2), np.int64))
Make = Callable[..., Any]


def two_sides(
    left: Sequence[Any], right: Sequence[Any], pairs: np.ndarray, *pools: np.ndarray
) -> AlignmentData:
    sides = [
        Side(VectorsModality(1, stands_for=name), items, pool)
        for name, items, pool in zip(("left", "right"), (left, right), pools, strict=True)
    ]
    return AlignmentData((sides[0], sides[1]), pairs, NOBODY, NOBODY)


def make_data(pairs: int, left: int, right: int) -> AlignmentData:
    known = np.stack([np.arange(pairs), np.arange(pairs)], 1)
    pools = np.arange(pairs, pairs + left), np.arange(pairs, pairs + right)
    return two_sides(range(pairs + left), range(pairs + right), known, *pools)


def unit(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(n, 6, generator=generator, dtype=torch.float64), dim=1)


def whole_batch(data: AlignmentData, u: torch.Tensor, v: torch.Tensor, scale: float = 4.0) -> Views:
    items = torch.arange(len(u)), torch.arange(len(v))
    return Views(u, v, n_pairs=len(data.pairs), scale=scale, u_items=items[0], v_items=items[1])


def pot_targets(x: np.ndarray, y: np.ndarray, epsilon: float) -> np.ndarray:
    n, m = len(x), len(y)
    cost = 1 - x @ y.T
    return ot.sinkhorn([1 / n] * n, [1 / m] * m, cost, reg=epsilon, numItermax=20000, stopThr=1e-12)


def slow_loss(rows: np.ndarray, keys: np.ndarray, scale: float, plan: np.ndarray) -> float:
    values = []
    for row, weights in zip(rows, plan, strict=True):
        products = [scale * float(row @ key) for key in keys]
        total = math.log(sum(map(math.exp, products)))
        values.append(sum(w / weights.sum() * (total - p) for w, p in zip(weights, products, strict=True)))
    return float(np.mean(values))


@pytest.mark.parametrize("pairs", [0, 5])
def test_loss_equals_the_rows_of_pots_plan(pairs: int) -> None:
    """Without pairs the plan lives in the shared space; with them, in that of the refined maps."""
    data = make_data(pairs, 9, 7)
    config = LossConfig(transport_warmup=0.0, transport_dim=3, transport_epsilon=0.3, transport_rounds=2)
    u, v = unit(pairs + 9, 0), unit(pairs + 7, 1)
    found = TransportTargets(config, data, 6, steps=10)(whole_batch(data, u, v))
    x, y = u.numpy(), v.numpy()
    mapped = [x[pairs:], y[pairs:]]
    if pairs:
        options = RefineOptions(dim=3, epsilon=0.3, rounds=2, tol=1e-6)
        maps = refine((x[:pairs], y[:pairs]), (x[pairs:], y[pairs:]), options).maps
        mapped = [maps.left(x[pairs:]), maps.right(y[pairs:])]
        mapped = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in mapped]
    plan = pot_targets(*mapped, 0.3)
    expected = slow_loss(x[pairs:], y[pairs:], 4.0, plan) + slow_loss(y[pairs:], x[pairs:], 4.0, plan.T)
    assert found.item() == pytest.approx(expected, rel=2e-3)


def test_targets_are_constant_and_of_the_other_side() -> None:
    data = make_data(3, 9, 7)
    u, v = unit(12, 0).requires_grad_(), unit(10, 1).requires_grad_()
    scale = torch.tensor(4.0, requires_grad=True)
    targets = TransportTargets(LossConfig(transport_warmup=0.0, transport_dim=2), data, 6, steps=10)
    targets(whole_batch(data, u, v)._replace(scale=scale)).backward()
    assert (u.grad[:3] == 0).all(), "matched rows have no targets"
    assert u.grad[3:].abs().max() > 1e-4
    assert v.grad[3:].abs().max() > 1e-4
    assert scale.grad != 0


def test_own_temperature_leaves_that_of_the_pairs_alone() -> None:
    data = make_data(3, 9, 7)
    u, v = unit(12, 0), unit(10, 1)
    scale = torch.tensor(4.0, requires_grad=True)
    values = []
    for temperature in (0.0, 0.25, 0.5):
        config = LossConfig(transport_warmup=0.0, transport_dim=2, transport_temperature=temperature)
        loss = TransportTargets(config, data, 6, steps=10)(whole_batch(data, u, v)._replace(scale=scale))
        values.append(loss.item())
        assert loss.requires_grad == (temperature == 0.0)
    assert values[0] == pytest.approx(values[1])
    assert values[1] != pytest.approx(values[2])


def test_weight_rises_after_the_pools_have_been_seen() -> None:
    """The plan waits for half of both pools; the weight counts from the first step."""
    data = make_data(2, 10, 10)
    config = LossConfig(transport_warmup=0.5, transport_every=1, transport_dim=2)
    targets = TransportTargets(config, data, 6, steps=20)
    u, v = unit(12, 0), unit(12, 1)
    losses = []
    for step in range(14):
        rows = torch.cat([torch.arange(2), 2 + (2 * step + torch.arange(2)) % 10])
        views = Views(u[rows], v[rows], n_pairs=2, scale=4.0, u_items=rows, v_items=rows)
        losses.append(targets(views).item())
    # Three draws of two rows are more than half of ten.
    assert losses[:2] == [0.0, 0.0]
    assert losses[2] > 0
    # Rows and vectors repeat after five steps, and so does the plan once all have been seen.
    assert losses[12] == pytest.approx(losses[7] * 10 / 8, rel=1e-2)
    assert losses[13] == pytest.approx(losses[8] * 10 / 9, rel=1e-2)


def test_the_plan_stays_between_renewals() -> None:
    data = make_data(3, 9, 7)
    targets = TransportTargets(LossConfig(transport_every=3, transport_dim=2), data, 6, steps=10)
    levels = []
    for step in range(4):
        targets(whole_batch(data, unit(12, step), unit(10, 10 + step)))
        levels.append(targets.right.level.clone())
    assert torch.equal(levels[0], levels[1])
    assert torch.equal(levels[0], levels[2])
    assert not torch.equal(levels[0], levels[3])


def test_large_pools_are_sampled() -> None:
    data = make_data(3, 40, 30)
    config = LossConfig(transport_items=8, transport_every=1, transport_dim=2, transport_warmup=0.0)
    targets = TransportTargets(config, data, 6, steps=10, seed=1)
    samples = []
    for _ in range(3):
        loss = targets(whole_batch(data, unit(43, 0), unit(33, 1)))
        assert loss.isfinite()
        assert [int(bank.level.isfinite().sum()) for bank in (targets.left, targets.right)] == [8, 8]
        # Rows outside the sample get targets too, from the potentials of the sample.
        assert targets.left.planned.all()
        samples.append(targets.right.level.isfinite().clone())
    assert not torch.equal(samples[0], samples[1])


def test_an_item_of_several_pairs_and_of_the_pool_is_one_item() -> None:
    """Pictures have several captions, of which some may be unpaired."""
    known = np.array([[0, 0], [0, 1], [1, 2]])
    data = two_sides(range(4), range(7), known, np.array([1, 2, 3]), np.arange(3, 7))
    targets = TransportTargets(LossConfig(transport_warmup=0.0, transport_dim=2), data, 6, steps=2)
    u, v = unit(4, 0), unit(7, 1)
    items = torch.tensor([0, 0, 1, 1, 2, 3]), torch.arange(7)
    views = Views(u[items[0]], v, n_pairs=3, scale=4.0, u_items=items[0], v_items=items[1])
    assert targets(views).item() > 0
    torch.testing.assert_close(targets.left.rows.double(), u, rtol=0, atol=1e-7)
    assert targets.left.pool_rows().shape == (3, 6)


def test_rows_outside_the_pools_have_no_targets() -> None:
    data = make_data(3, 9, 7)
    targets = TransportTargets(LossConfig(transport_warmup=0.0, transport_dim=2), data, 6, steps=2)
    u, v = unit(12, 0), unit(10, 1)
    targets(whole_batch(data, u, v))
    nothing = torch.zeros(0, 6)
    none = torch.zeros(0, dtype=torch.int64)
    assert targets(Views(nothing, nothing, scale=1.0, u_items=none, v_items=none)).item() == 0.0


@pytest.mark.parametrize("stop_at", [1, 5, 7])
def test_interrupted_and_resumed_equals_uninterrupted(make_toy: Make, tmp_path: Path, stop_at: int) -> None:
    toy = make_toy(paired=10)
    loss = loss_preset(objective="setclip+transport", transport_every=3, transport_dim=4)

    def extra(model: Any) -> dict[str, Term]:
        return {"transport": Term(2.0, TransportTargets(loss, toy.data, model.dim, steps=12))}

    def begin(name: str) -> Any:
        return toy.loop(folder=tmp_path / name, loss=loss, extra=extra)

    whole = begin("whole")
    whole.run(resume=False)
    first = begin("parts")

    def press(step: int, losses: dict[str, float]) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    first.on_step = press
    with pytest.raises(Interrupted):
        first.run(resume=False)
    second = begin("parts")
    second.run(resume=True)
    log = (tmp_path / "parts/log.csv").read_text()
    assert log == (tmp_path / "whole/log.csv").read_text()
    column = log.splitlines()[0].split(",").index("transport")
    assert float(log.splitlines()[-1].split(",")[column]) > 0
    for name, value in whole.trainee.objective.state_dict().items():
        assert torch.equal(value, second.trainee.objective.state_dict()[name]), name
    for name, value in whole.trainee.model.state_dict().items():
        assert torch.equal(value, second.trainee.model.state_dict()[name]), name


def test_frozen_sides_are_computed_anew(make_toy: Make) -> None:
    toy = make_toy(paired=10)
    loop = toy.loop()
    features = torch.randn(60, 12, generator=torch.Generator().manual_seed(0))
    sides = [dataclasses.replace(toy.data.sides[0], features=features), toy.data.sides[1]]
    left, right = frozen_vectors(loop.trainee.model, sides)
    assert right is None
    head = loop.trainee.model.heads["left"]
    loop.trainee.model.train()
    rows = left(np.array([5, 3]))
    assert head.training, "dropout is off for the moment only"
    loop.trainee.model.eval()
    torch.testing.assert_close(rows, loop.trainee.model.project("left", features[[5, 3]]).detach())
    config = LossConfig(transport_every=1, transport_dim=2)
    targets = TransportTargets(config, toy.data, 8, steps=3, recompute=(left, None))
    torch.testing.assert_close(
        targets.left.rows, torch.zeros(60, 8), msg="nothing is computed before the first step"
    )
    empty = torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64)
    targets(Views(empty[0], empty[0], scale=1.0, u_items=empty[1], v_items=empty[1]))
    torch.testing.assert_close(
        targets.left.rows, loop.trainee.model.project("left", features).detach(), rtol=1e-4, atol=1e-6
    )


def retrieval_after_training(objective: str, seed: int) -> float:
    """Mean reciprocal rank of 60 held-out items: noisy linear images of clusters, 8 pairs, pools of 120."""
    rng = np.random.default_rng(seed)
    hidden = 2 * rng.normal(size=(12, 5))[rng.integers(12, size=188)] + 0.7 * rng.normal(size=(188, 5))
    sides = [hidden @ rng.normal(size=(5, 12)) + 0.3 * rng.normal(size=(188, 12)) for _ in range(2)]
    x, y = (torch.from_numpy((rows - rows.mean(0)) / rows.std(0)).float() for rows in sides)
    known, pool = np.arange(8), np.arange(8, 128)
    shuffled = rng.permutation(pool)
    data = two_sides(range(188), range(188), np.stack([known, known], 1), pool, shuffled)
    config = loss_preset(objective=objective, transport_dim=8)
    extra = {}
    if config.transport_weight:
        extra["transport"] = Term(config.transport_weight, TransportTargets(config, data, 8, steps=100))
    loss = Objective(config, extra)
    torch.manual_seed(0)
    left, right = nn.Linear(12, 8), nn.Linear(12, 8)
    optimizer = torch.optim.AdamW([*left.parameters(), *right.parameters()], lr=1e-2)
    items = [torch.from_numpy(np.concatenate([known, part])) for part in (pool, shuffled)]
    for _ in range(100):
        u, v = normalize(left(x[items[0]]), dim=1), normalize(right(y[items[1]]), dim=1)
        loss(Views(u, v, n_pairs=8, scale=5.0, u_items=items[0], v_items=items[1]))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        similarity = normalize(left(x[128:]), dim=1) @ normalize(right(y[128:]), dim=1).T
    ahead = (similarity > similarity.diag()[:, None]).sum(1)
    return float((1 / (1 + ahead)).mean())


@pytest.mark.parametrize("seed", [1, 3])
def test_the_plan_finds_what_few_pairs_do_not(seed: int) -> None:
    scores = {objective: retrieval_after_training(objective, seed) for objective in ("clip", "transport")}
    assert scores["transport"] > scores["clip"] + 0.12, scores


def test_errors() -> None:
    with pytest.raises(ConfigError, match="unpaired items on both sides; got 0 of left and 4 of right"):
        TransportTargets(LossConfig(), make_data(3, 0, 4), 6, steps=2)
    data = make_data(3, 4, 4)
    with pytest.raises(ConfigError, match="items of the rows"):
        TransportTargets(LossConfig(), data, 6, steps=2)(Views(unit(7, 0), unit(7, 1), n_pairs=3))


@pytest.mark.slow
def test_two_processes_equal_one(
    run_on_two_processes: Callable[[Path], list[dict[str, torch.Tensor]]],
) -> None:
    expected = worker.steps(0, 1)
    assert expected["3/transport"] > 0
    for found in run_on_two_processes(WORKER):
        assert set(found) == set(expected)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)
