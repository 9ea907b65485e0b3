"""A gloo process that trains a tower spread over all of them: ``sharding_worker.py rank world init out``."""

import io
import sys

import torch
import torch.distributed as dist
from torch import nn

from protclip.modalities.sequence.attention import Packing
from protclip.modalities.sequence.esm2 import ESM2, ESM2Shape, random_esm2
from protclip.parallel import fsdp as sharding
from protclip.parallel.processes import average_gradients

ROWS, LENGTH = 4, 7


def make(rank: int, world: int) -> tuple[nn.Module, torch.Tensor]:
    """Tower with a head, and the tokens of this process."""
    model = nn.Sequential(random_esm2(ESM2Shape(2, 32, 4), seed=1), nn.Linear(32, 3))
    torch.manual_seed(0)
    nn.init.normal_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    tokens = torch.randint(4, 20, (ROWS, LENGTH), generator=torch.Generator().manual_seed(2))
    return model, tokens[rank::world].flatten()


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW with the two kinds of parameters in groups of their own."""
    kinds: dict[bool, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        kinds.setdefault(sharding.is_sharded(parameter), []).append(parameter)
    return torch.optim.AdamW([{"params": group} for group in kinds.values()], lr=0.01)


def train(
    model: nn.Module, tokens: torch.Tensor, steps: int, optimizer: torch.optim.Optimizer
) -> list[float]:
    """Gradient norms of a few steps."""
    tower: ESM2 = model[0]
    norms = []
    for _ in range(steps):
        packing = Packing.of([LENGTH] * (len(tokens) // LENGTH))
        loss = model[1](tower(tokens, packing)).square().mean()
        loss.backward()
        plain = nn.ParameterList([p for p in model.parameters() if not sharding.is_sharded(p)])
        average_gradients(plain)
        norms.append(float(sharding.clip_gradients(model.parameters(), 0.05)))
        optimizer.step()
        optimizer.zero_grad()
    return norms


def main(rank: int, world: int, init: str, out: str) -> None:
    """Train, save and restore half-way, train on, and gather."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{init}", rank=rank, world_size=world)
    model, tokens = make(rank, world)
    blocks = sharding.shard_blocks(model, smallest=1000)
    optimizer = optimizer_of(model)
    held = sum(p.to_local().numel() if sharding.is_sharded(p) else p.numel() for p in model.parameters())
    norms = train(model, tokens, 2, optimizer)
    weights = {name: sharding.whole(value.detach()).clone() for name, value in model.state_dict().items()}
    state = sharding.whole_optimizer(optimizer)
    kept = torch.load(io.BytesIO(_bytes({"weights": weights, "state": state})))

    model, tokens = make(rank, world)
    sharding.shard_blocks(model, smallest=1000)
    own = model.state_dict()
    model.load_state_dict({name: sharding.part_of(kept["weights"][name], own[name]) for name in own})
    optimizer = optimizer_of(model)
    sharding.load_optimizer(optimizer, kept["state"])
    norms += train(model, tokens, 2, optimizer)
    sharding.gather_blocks(model)
    if rank == 0:  # alone, as saving and evaluating are
        with torch.no_grad():
            every = make(0, 1)[1]
            output = model[1](model[0].eval()(every, Packing.of([LENGTH] * ROWS)))
    else:
        output = None
    facts = {"blocks": blocks, "held": held, "norms": norms, "output": output}
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    torch.save({**facts, "weights": weights}, f"{out}.{rank}")
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


def _bytes(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
