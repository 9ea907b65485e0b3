"""Low-rank updates of the attention projections (LoRA), saved beside the weights they change."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from protclip.errors import ConfigError
from protclip.modalities.sequence.esm2 import ESM2, Attention

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


class LoRALinear(nn.Linear):
    """A fixed linear map with a trained update of low rank: ``W x + b + (alpha / rank) B A x``.

    ``weight`` and ``bias`` keep their names, so that checkpoints of the plain network still fit.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, alpha: float, device: torch.device) -> None:
        super().__init__(inputs, outputs, device=device)
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(torch.empty(rank, inputs, device=device))
        self.lora_b = nn.Parameter(torch.zeros(outputs, rank, device=device))

    def forward(self, input: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        update = linear(linear(input, self.lora_a), self.lora_b)
        return linear(input, self.weight, self.bias) + self.scale * update


def add_lora(net: ESM2, rank: int, alpha: float, seed: int = 0) -> None:
    """Give every attention projection of ``net`` an update and train nothing else.

    Right after the call the network's outputs are unchanged.

    Parameters
    ----------
    net : ESM2
        Changed in place.
    rank : int
        Rank of the updates.
    alpha : float
        Strength of the updates; ``alpha / rank`` multiplies them.
    seed : int
        Of the initial values of A.

    Raises
    ------
    ConfigError
        If the rank is below 1.

    Examples
    --------
    >>> from protclip.modalities.sequence.esm2 import ESM2Shape, random_esm2
    >>> net = random_esm2(ESM2Shape(1, 16, 2))
    >>> add_lora(net, rank=2, alpha=4)
    >>> sum(p.numel() for p in net.parameters() if p.requires_grad)  # 4 projections x 2 x 16 x rank
    256
    """
    if rank < 1:
        raise ConfigError("out of range", where="lora_rank", got=str(rank), expected="1 or more")
    generator = torch.Generator().manual_seed(seed)
    net.requires_grad_(False)
    for module in net.modules():
        if not isinstance(module, Attention):
            continue
        for name in PROJECTIONS:
            old = getattr(module, name)
            new = LoRALinear(old.in_features, old.out_features, rank, alpha, torch.device("meta"))
            new.weight, new.bias = old.weight, old.bias
            start = torch.empty(rank, old.in_features).normal_(std=old.in_features**-0.5, generator=generator)
            new.lora_a = nn.Parameter(start.to(old.weight.device))
            new.lora_b = nn.Parameter(torch.zeros(old.out_features, rank, device=old.weight.device))
            setattr(module, name, new)
