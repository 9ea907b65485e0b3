"""Gloo processes that share a batch with transport targets: ``transport_worker.py rank world init out``.

Each records losses, gradients and the bank of a few steps; ``steps`` does the same in one process.
"""

import sys

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import normalize

from protclip.config.presets import loss_preset
from protclip.losses import Objective, Term, Views, gather_views
from protclip.modalities.vectors import VectorsModality
from protclip.relations.pairs import AlignmentData, Side
from protclip.scoring.galleries import Gallery
from protclip.training.transport_targets import TransportTargets

NOBODY = Gallery([], np.zeros((0, 2), np.int64))
DATA = AlignmentData(
    (
        Side(VectorsModality(5, stands_for="left"), range(14), np.arange(4, 14)),
        Side(VectorsModality(5, stands_for="right"), range(16), np.arange(5, 16)),
    ),
    np.stack([np.arange(4), np.arange(4)], 1),
    NOBODY,
    NOBODY,
)


def steps(rank: int, world: int) -> dict[str, Tensor]:
    """Four steps of the rows that fall to one of several processes."""
    generator = torch.Generator().manual_seed(3)
    left, right = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (14, 16))
    config = loss_preset(objective="transport", transport_every=2, transport_dim=3, transport_warmup=0.0)
    targets = TransportTargets(config, DATA, 5, steps=4)
    objective = Objective(config, {"transport": Term(2.0, targets)})
    found = {}
    for step in range(4):
        rows = [(left + 0.1 * step).requires_grad_(), (right - 0.1 * step).requires_grad_()]
        pairs = torch.arange(4)[rank::world]
        free = [torch.arange(4, 14)[rank::world], torch.arange(5, 16)[rank::world]]
        items = [torch.cat([pairs, part]) for part in free]
        u, v = (normalize(x[i], dim=1) for x, i in zip(rows, items, strict=True))
        whole = gather_views(Views(u, v, n_pairs=len(pairs), scale=5.0, u_items=items[0], v_items=items[1]))
        losses = objective(whole)
        losses["loss"].backward()
        found |= {f"{step}/{name}": value.detach() for name, value in losses.items()}
        # What each process asks of every row adds up to the number of processes.
        for name, x in zip(("left", "right"), rows, strict=True):
            if dist.is_initialized():
                dist.all_reduce(x.grad)
            found[f"{step}/{name}"] = x.grad / world
    return found | {f"state/{k}": v for k, v in objective.state_dict().items()}


def main(rank: int, world: int, init: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{init}", rank=rank, world_size=world)
    torch.save(steps(rank, world), f"{out}.{rank}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
