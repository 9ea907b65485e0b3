"""One of several gloo processes that train the same tiny model: ``gloo_worker.py rank world init out``.

Every process takes its own rows of the inputs that `make_inputs` describes and writes losses and gradients
of every case to `out`.rank.  `one_process` computes the same from all rows at once.
"""

import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import normalize

from protclip.config.loss import LossConfig
from protclip.config.presets import loss_preset
from protclip.losses import Copies, Keywords, Objective, Views, gather_views
from protclip.parallel.processes import average_gradients, convert_sync_batchnorm

DIMENSIONS = 5
# Matched, unmatched left and unmatched right rows of each process; the last case leaves one without pairs.
SHARES = {"even": [(3, 2, 2), (3, 2, 2)], "uneven": [(2, 3, 1), (4, 1, 2)], "lonely": [(0, 3, 2), (3, 0, 1)]}
CONFIGS = {
    "default": loss_preset("default"),
    "paper": loss_preset("paper"),
    "released": loss_preset("released"),
    "hard-pl": loss_preset(objective="hard-pl"),
    "soft-pl": loss_preset(objective="soft-pl"),
    "setclip+s-clip": loss_preset(objective="setclip+s-clip"),
    "sigmoid": LossConfig(contrast="sigmoid", cs_weight=0.7, cs_bandwidth=0.6, sdd_queue=5, negatives="all"),
    "sigmoid, pairs": LossConfig(contrast="sigmoid", cs_weight=1.0, sdd_queue=40, block_size=3),
    "copies": loss_preset("default", negatives="all"),
    "sigmoid, copies": LossConfig(contrast="sigmoid", block_size=2),
    "learned": LossConfig(mmd_weights="learned", sdd_self_term=False, sdd_divergence="mse", block_size=2),
}


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        towers = [
            nn.Sequential(nn.Linear(4, 7), nn.BatchNorm1d(7), nn.Linear(7, DIMENSIONS)) for _ in range(2)
        ]
        self.towers = nn.ModuleList(towers)
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return normalize(self.towers[0](left)), normalize(self.towers[1](right)), self.log_scale.exp()


def make_inputs(share: str) -> list[tuple[Tensor, Tensor, Tensor, Tensor, int]]:
    """Left rows, right rows, their noisy twins and the number of pairs, for every process."""
    generator = torch.Generator().manual_seed(7)
    result = []
    for pairs, only_left, only_right in SHARES[share]:
        sizes = (pairs + only_left, pairs + only_right)
        rows = [torch.randn(size, 4, generator=generator, dtype=torch.float64) for size in sizes]
        twins = [r + 0.1 * torch.randn(r.shape, generator=generator, dtype=torch.float64) for r in rows]
        result.append((*rows, *twins, pairs))
    return result


def step(
    module: nn.Module,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor, int],
    all_pairs: int,
    config: LossConfig,
    sizes_of_all: tuple[int, int] | None = None,
) -> tuple[dict[str, Tensor], Views, Objective]:
    left, right, left_twin, right_twin, pairs = inputs
    sizes = [len(left), len(left_twin)], [len(right), len(right_twin)]
    # One pass for rows and twins, as data-parallel wrappers want it.
    u, v, scale = module(torch.cat([left, left_twin]), torch.cat([right, right_twin]))
    (u, u_view), (v, v_view) = u.split(sizes[0]), v.split(sizes[1])
    # Any rows can stand for keywords; who has which is known to every process.
    has = (torch.arange(all_pairs)[:, None] + torch.arange(all_pairs)) % 3 == 0
    items = [(rows[:, 0] * 1e6).long() for rows in (left, right)]
    keywords = Keywords(v_view[:pairs], has)
    # Every process knows the copies of the whole batch.
    copies = sizes_of_all and Copies(*(torch.arange(n) * 7 % 5 for n in sizes_of_all))
    views = Views(u, v, u_view, v_view, pairs, scale, *items, v_keywords=keywords, copies=copies or None)
    whole = gather_views(views)
    objective = Objective(config)
    if config.sdd_queue:
        # A step before this one, of other rows, for the queues.
        objective(whole._replace(u=whole.u.roll(1, 1), v=whole.v.roll(2, 1)))
    losses: dict[str, Tensor] = objective(whole)
    losses["loss"].backward()
    return losses, whole, objective


def record(
    model: nn.Module, losses: dict[str, Tensor], whole: Views, objective: Objective
) -> dict[str, Tensor]:
    values = {f"state/{name}": rows for name, rows in objective.state_dict().items()}
    values |= {f"loss/{name}": loss.detach() for name, loss in losses.items()}
    values |= {"items/left": whole.u_items, "items/right": whole.v_items}
    values |= {f"grad/{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return values | {f"buffer/{name}": b.clone() for name, b in model.named_buffers()}


def sizes_for(share: str, config: str) -> tuple[int, int] | None:
    """Rows of both sides of all processes, for the cases with copies."""
    if "copies" not in config:
        return None
    return tuple(sum(part[0] + part[side] for part in SHARES[share]) for side in (1, 2))


def cases(processes: int) -> list[tuple[str, str, bool]]:
    wrapped = [(share, config, True) for share in SHARES for config in CONFIGS]
    return [*wrapped, ("uneven", "default", False)] if processes > 1 else wrapped


def one_process(share: str, config: str) -> dict[str, Tensor]:
    parts = make_inputs(share)
    whole = []
    for position in range(4):
        rows = [(part[position][: part[4]], part[position][part[4] :]) for part in parts]
        whole.append(torch.cat([matched for matched, _ in rows] + [rest for _, rest in rows]))
    model, pairs = Towers().double(), sum(part[4] for part in parts)
    return record(model, *step(model, (*whole, pairs), pairs, CONFIGS[config], sizes_for(share, config)))


def main(rank: int, world: int, init: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{init}", rank=rank, world_size=world)
    results = {}
    for share, config, wrap in cases(world):
        model = convert_sync_batchnorm(Towers().double())
        module = nn.parallel.DistributedDataParallel(model) if wrap else model
        pairs = sum(part[0] for part in SHARES[share])
        found = step(module, make_inputs(share)[rank], pairs, CONFIGS[config], sizes_for(share, config))
        if not wrap:
            average_gradients(model)
        results[share, config, wrap] = record(model, *found)
    torch.save(results, f"{out}.{rank}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
