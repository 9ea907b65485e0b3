"""The loop learns, resumes bit by bit, and splits batches without changing the gradient."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from protclip.config.presets import loss_preset
from protclip.errors import DataError, ProtclipError
from protclip.training.loop import Validation
from protclip.training.running import Interrupted, learning_rate_factor

Make = Callable[..., Any]


def weights(loop: Any) -> bytes:
    return b"".join(v.numpy().tobytes() for v in loop.trainee.model.state_dict().values())


def test_overfits_a_small_problem(make_toy: Make) -> None:
    loop = make_toy().loop(steps=150, scratch_lr=1e-2, head_lr=1e-2)
    progress = loop.run(resume=False)
    assert progress.losses["clip"] < 0.35
    assert progress.best_score[0] > 0.6  # mean reciprocal rank of 15; chance 0.22


@pytest.mark.parametrize("options", [{}, {"sdd_queue": 40, "sdd_weight": 1.0}], ids=["plain", "queue"])
@pytest.mark.parametrize("stop_at", [1, 5, 7])
def test_interrupted_and_resumed_equals_uninterrupted(
    make_toy: Make, tmp_path: Path, stop_at: int, options: dict[str, Any]
) -> None:
    toy, loss = make_toy(), loss_preset("default", **options)
    whole = toy.loop(folder=tmp_path / "whole", loss=loss)
    whole.run(resume=False)
    first = toy.loop(folder=tmp_path / "parts", loss=loss)

    def press(step: int, losses: dict[str, float]) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    first.on_step = press
    with pytest.raises(Interrupted, match=f"stopped after step {stop_at} of 12; everything is saved"):
        first.run(resume=False)
    second = toy.loop(folder=tmp_path / "parts", loss=loss)
    second.run(resume=True)
    held = second.trainee.objective.state_dict()
    # Two batches of 16 rows fit into 40.
    assert [len(rows) for name, rows in held.items() if name.endswith("rows")] == (
        [32, 32] if options else []
    )
    for name, rows in whole.trainee.objective.state_dict().items():
        assert torch.equal(rows, held[name]), name
    assert weights(second) == weights(whole)
    assert (tmp_path / "parts/log.csv").read_bytes() == (tmp_path / "whole/log.csv").read_bytes()


def test_rows_logged_after_the_last_checkpoint_are_not_doubled(make_toy: Make, tmp_path: Path) -> None:
    """A kill -9 leaves a log that is ahead of, or level with, the checkpoint; never a gap or a repeat."""
    toy = make_toy()
    whole = toy.loop(folder=tmp_path / "whole")
    whole.run(resume=False)
    log = (tmp_path / "whole/log.csv").read_bytes()
    parts = tmp_path / "parts"
    broken = toy.loop(folder=parts)

    def die(step: int, losses: dict[str, float]) -> None:
        if step == 8:
            broken.log.sync()  # rows reach the disk, the checkpoint does not
            raise RuntimeError("power cut")

    broken.on_step = die
    with pytest.raises(RuntimeError):
        broken.run(resume=False)
    assert len((parts / "log.csv").read_text().splitlines()) == 1 + 8
    toy.loop(folder=parts).run(resume=True)
    assert (parts / "log.csv").read_bytes() == log


def test_a_finished_run_resumes_to_itself(make_toy: Make) -> None:
    toy = make_toy()
    done = toy.loop()
    done.run(resume=False)
    again = toy.loop()
    again.run(resume=True)
    assert weights(again) == weights(done)


def test_micro_batches_give_the_gradient_of_the_whole_batch(make_toy: Make, tmp_path: Path) -> None:
    """Without batch normalisation and dropout the split changes nothing but rounding."""
    toy = make_toy(norm=False)
    gradients = []
    for size in (None, 5):
        loop = toy.loop(folder=tmp_path / str(size), micro_batch_size=size)
        for module in loop.trainee.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        taken: dict[str, torch.Tensor] = {}

        def keep(loop: Any = loop, taken: dict[str, torch.Tensor] = taken) -> None:
            for name, p in loop.trainee.model.named_parameters():
                taken[name] = p.grad.clone()

        step = loop.trainee.optimizer.step
        loop.trainee.optimizer.step = lambda keep=keep, step=step: (keep(), step())
        loop._step(0, loop.batches[0])
        gradients.append(taken)
    assert set(gradients[0]) == set(gradients[1])
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-4, atol=1e-6)


def test_micro_batches_update_running_statistics_once(make_toy: Make) -> None:
    loop = make_toy().loop(micro_batch_size=8)
    norm = loop.trainee.model.sides["left"].encoder.net[1]
    loop._step(0, loop.batches[0])
    assert norm.num_batches_tracked == 2  # two chunks of the items; their augmented views do not count
    assert norm.momentum == 0.1


@pytest.mark.parametrize("micro", [None, 8])
def test_running_statistics_are_those_of_items_not_of_views(
    make_toy: Make, tmp_path: Path, micro: int | None
) -> None:
    def statistics(name: str, **options: object) -> dict[str, torch.Tensor]:
        loop = make_toy().loop(steps=1, folder=tmp_path / name, micro_batch_size=micro, **options)
        before = {key: value.clone() for key, value in loop.trainee.model.state_dict().items()}
        loop.run(resume=False)
        after = {
            k: v for k, v in loop.trainee.model.state_dict().items() if "running_" in k or "num_batches" in k
        }
        assert all(not torch.equal(value, before[key]) for key, value in after.items())
        return after

    with_views = statistics("with")
    assert len(with_views) == 6
    without = statistics("without", views=False, loss=loss_preset("default", ssl_weight=0.0))
    for key, value in with_views.items():
        assert torch.equal(value, without[key]), key


def test_the_best_validated_weights_are_kept(make_toy: Make) -> None:
    loop = make_toy().loop(steps=15)
    scores = iter([0.1, 0.9, 0.2])
    states = []

    def validate() -> Validation:
        states.append({k: v.clone() for k, v in loop.trainee.model.state_dict().items()})
        return Validation((next(scores),), {"valid_R@1": 0.0, "valid_R@10": 0.0, "valid_mrr": 0.0})

    loop.trainee.validate = validate
    progress = loop.run(resume=False)
    assert progress.best_step == 10
    for name, value in loop.trainee.model.state_dict().items():
        assert torch.equal(value, states[1][name])


def test_state_is_plain_data(make_toy: Make) -> None:
    toy = make_toy()
    toy.loop().run(resume=False)
    state = torch.load(toy.folder / "state.pt", weights_only=True)
    assert state["step"] == 12


def test_damaged_or_foreign_state_is_refused(make_toy: Make) -> None:
    toy = make_toy()
    toy.loop().run(resume=False)
    path = toy.folder / "state.pt"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged checkpoint"):
        toy.loop().run(resume=True)
    path.write_bytes(content)
    other = make_toy(norm=False)
    with pytest.raises(DataError, match="does not fit the model"):
        other.loop().run(resume=True)


def test_a_loss_that_is_not_finite_stops_with_advice(make_toy: Make) -> None:
    toy = make_toy()
    toy.data.sides[0].items[0][:] = np.nan
    with pytest.raises(ProtclipError, match="the loss is nan at step"):
        toy.loop().run(resume=False)


def test_log_is_one_row_per_step(make_toy: Make) -> None:
    toy = make_toy()
    toy.loop().run(resume=False)
    rows = [line.split(",") for line in (toy.folder / "log.csv").read_text().splitlines()]
    assert rows[0][:2] == ["step", "rate"]
    assert {"clip", "mmd", "sdd", "ssl_left", "ssl_right", "loss", "temperature", "valid_mrr"} <= set(rows[0])
    assert [row[0] for row in rows[1:]] == [str(i) for i in range(1, 13)]
    at = rows[0].index("valid_mrr")
    assert [i for i, row in enumerate(rows) if i and row[at]] == [5, 10, 12]


def test_learning_rate_warms_up_and_ends_near_zero() -> None:
    rates = [learning_rate_factor(s, 100, 0.1) for s in range(100)]
    assert max(rates) == 1.0
    assert rates.index(1.0) == 9
    assert rates[-1] < 1e-3
    assert learning_rate_factor(0, 10, 0.0) == 1.0
