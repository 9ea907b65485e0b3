"""One of two gloo processes for the collectives: ``distributed_worker.py rank world init out``.

Writes what it found to `out`.rank; `NORM_CASES` and `norm_inputs` describe the batch normalisation cases.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from protclip.parallel import processes as distributed

# Options of the layer, and the shapes of each process's input.
NORM_CASES: dict[str, tuple[dict[str, Any], list[tuple[int, ...]]]] = {
    "even": ({}, [(6, 3), (6, 3)]),
    "uneven": ({"momentum": 0.2}, [(2, 3), (9, 3)]),
    "one row": ({}, [(1, 3), (4, 3)]),
    "no rows": ({}, [(0, 3), (5, 3)]),
    "three axes": ({}, [(2, 3, 5), (4, 3, 5)]),
    "images": ({}, [(2, 3, 4, 2), (5, 3, 4, 2)]),
    "cumulative": ({"momentum": None}, [(3, 3), (5, 3)]),
    "plain": ({"affine": False, "track_running_stats": False}, [(3, 3), (5, 3)]),
}


def norm_inputs(case: str) -> list[list[Tensor]]:
    """Inputs of each of two steps, for every process; far from zero, where sums of squares lose digits."""
    generator = torch.Generator().manual_seed(5)
    shapes = NORM_CASES[case][1]
    return [[50 + torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes] for _ in range(2)]


def norm_layer(case: str) -> nn.Module:
    """The plain layer of a case."""
    options, shapes = NORM_CASES[case]
    return (nn.BatchNorm2d if len(shapes[0]) == 4 else nn.BatchNorm1d)(3, **options)


def norm_run(layer: nn.Module, steps: list[Tensor], share: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Two training steps and an evaluation; `share` turns this process's outputs into all outputs."""
    layer = layer.double()
    result = {}
    for number, values in enumerate(steps):
        layer.zero_grad()
        rows = values.clone().requires_grad_()
        output = share(layer(rows))
        # Weights by position make the gradient of every row different.
        weights = torch.linspace(-1, 2, output.numel(), dtype=torch.float64).view_as(output)
        (output * weights).square().sum().backward()
        distributed.average_gradients(layer)
        result |= {f"output {number}": output.detach(), f"grad {number}": rows.grad}
        result |= {f"{name} {number}": p.grad.clone() for name, p in layer.named_parameters()}
    layer.eval()
    result |= {name: buffer.clone() for name, buffer in layer.named_buffers()}
    return result | {"evaluated": layer(steps[0])}


def gathering(rank: int) -> dict[str, Any]:
    rows = (torch.arange(6.0).view(3, 2) if rank == 0 else torch.full((1, 2), 9.0)).requires_grad_()
    whole = distributed.gather_with_grad(rows)
    # A different loss in each process: the gradient is of their sum.
    (whole * (rank + 1) * torch.arange(1.0, 5.0)[:, None]).sum().backward()
    empty = torch.zeros(0 if rank == 0 else 2, 3)
    half = distributed.gather_with_grad(torch.full((1, 2), float(rank), dtype=torch.bfloat16))
    return {
        "whole": whole.detach(),
        "grad": rows.grad,
        "empty": distributed.gather_with_grad(empty),
        "counts": distributed.gather_with_grad(torch.tensor([rank])),
        "half": half,
    }


def averaging(rank: int) -> dict[str, Any]:
    layers = nn.ModuleDict({name: nn.Linear(1, 1, bias=False) for name in ("both", "one", "none", "fixed")})
    layers["fixed"].requires_grad_(False)
    layers["both"].weight.grad = torch.full((1, 1), float(rank + 1))
    if rank == 1:
        layers["one"].weight.grad = torch.full((1, 1), 8.0)
    distributed.average_gradients(layers)
    return {name: layer.weight.grad for name, layer in layers.items()}


def main(rank: int, world: int, init: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{init}", rank=rank, world_size=world)
    distributed.barrier()
    found: dict[str, Any] = {
        "rank": (distributed.rank(), distributed.world_size(), distributed.is_main()),
        "broadcast": distributed.broadcast_object({"seed": rank}, source=1),
        "objects": distributed.gather_objects(["a", "b"][rank]),
        "sum": distributed.sum_over_processes(torch.tensor(float(rank + 1))),
        "gathering": gathering(rank),
        "averaging": averaging(rank),
    }
    for case in NORM_CASES:
        layer = distributed.convert_sync_batchnorm(norm_layer(case))
        steps = [step[rank] for step in norm_inputs(case)]
        found[case] = norm_run(layer, steps, distributed.gather_with_grad)
    torch.save(found, f"{out}.{rank}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
