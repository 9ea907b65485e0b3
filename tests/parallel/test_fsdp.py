"""Towers spread over two gloo processes train like whole ones in one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from protclip.parallel import fsdp as sharding

WORKER = Path(__file__).with_name("sharding_worker.py")


def run(world: int, folder: Path) -> list[dict[str, Any]]:
    out = folder / f"out-{world}"
    command = [sys.executable, str(WORKER)]
    processes = [
        subprocess.Popen([*command, str(rank), str(world), str(folder / f"init-{world}"), str(out)])
        for rank in range(world)
    ]
    try:
        for process in processes:
            assert process.wait(300) == 0
    finally:
        for process in processes:
            process.kill()
    return [torch.load(f"{out}.{rank}") for rank in range(world)]


@pytest.mark.slow
def test_two_processes_train_a_spread_tower_like_one(tmp_path):
    (alone,) = run(1, tmp_path)
    two = run(2, tmp_path)
    assert alone["blocks"] == 0
    for each in two:
        assert each["blocks"] == 2
        assert each["held"] < 0.65 * alone["held"]  # half of the blocks, and what is outside of them
        assert each["norms"] == pytest.approx(alone["norms"], rel=1e-4)
        for name, value in alone["weights"].items():
            torch.testing.assert_close(each["weights"][name], value, rtol=1e-3, atol=2e-5)
    torch.testing.assert_close(two[0]["output"], alone["output"], rtol=1e-3, atol=1e-4)


def test_one_process_has_nothing_to_spread():
    model = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Linear(300, 300)])[0])
    assert sharding.shard_blocks(model) == 0
    weight = model[0].weight
    assert sharding.whole(weight) is weight
    assert sharding.part_of(weight, weight) is weight


def test_clipping_equals_torch():
    torch.manual_seed(0)
    mine, theirs = (torch.nn.Linear(5, 4) for _ in range(2))
    theirs.load_state_dict(mine.state_dict())
    for module in (mine, theirs):
        module(torch.arange(10.0).view(2, 5)).square().sum().backward()
    norm = sharding.clip_gradients(mine.parameters(), 0.5)
    expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
    torch.testing.assert_close(norm, expected)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
