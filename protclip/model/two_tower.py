"""TwoTower: two modalities, two projection heads, one temperature."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from protclip.errors import ConfigError
from protclip.modalities.base import Batch, Modality
from protclip.modalities.registry import build_side, kind_of
from protclip.model.capped import capped_exp
from protclip.model.folder import damaged_config, find_model, read_config, read_weights, write_folder
from protclip.model.heads import HEADS


class Inputs:
    """Named batches of one forward call, in a wrapper that data-parallel modules hand on untouched.

    Parameters
    ----------
    parts : sequence of (str, Batch)
        Side and batch.
    altered : collection of int
        Positions of the batches that are not items as they will be met in use, such as augmented views:
        running statistics (of batch normalisation) leave them out.
    """

    __slots__ = ("altered", "parts")

    def __init__(self, parts: Sequence[tuple[str, Any]], altered: Collection[int] = ()) -> None:
        self.parts = list(parts)
        self.altered = frozenset(altered)


class TwoTower(nn.Module):
    """Two encoders with projection heads into one space of unit vectors.

    Parameters
    ----------
    *sides : Modality
        The two sides; their names must differ.
    dim : int
        Width of the shared space.
    head : {"mlp", "linear"}
        Kind of both projection heads.
    temperature : float
        Initial softmax temperature of the contrastive loss.
    learn_temperature : bool
        False keeps the temperature where it is.
    max_scale : float
        Upper clamp of 1 / temperature.

    Raises
    ------
    ConfigError
        If there are not two sides of different names, or ``head`` is unknown.
    """

    def __init__(
        self,
        *sides: Modality[Any],
        dim: int = 256,
        head: str = "mlp",
        temperature: float = 0.07,
        learn_temperature: bool = True,
        max_scale: float = 100.0,
    ) -> None:
        super().__init__()
        self.sides: dict[str, Modality[Any]] = {side.name: side for side in sides}
        if len(sides) != 2 or len(self.sides) != 2:
            raise ConfigError(
                "a model has two sides of different names",
                got=", ".join(repr(side.name) for side in sides) or "none",
            )
        if head not in HEADS:
            raise ConfigError(
                "unknown projection head", where="head", got=repr(head), expected=" or ".join(HEADS)
            )
        self.dim = dim
        self.head_kind = head
        self.max_scale = max_scale
        self.encoders = nn.ModuleDict({name: side.encoder for name, side in self.sides.items()})
        self.heads = nn.ModuleDict(
            {name: HEADS[head](s.encoder.out_dim, dim) for name, s in self.sides.items()}
        )
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learn_temperature)

    @property
    def names(self) -> tuple[str, str]:
        """Names of the two modalities, in the order of the sides."""
        first, second = self.sides
        return first, second

    @property
    def scale(self) -> Tensor:
        """1 / temperature, capped; above the cap, only what lowers it reaches the parameter."""
        return capped_exp(self.log_scale, self.max_scale)

    def project(self, name: str, features: Tensor) -> Tensor:
        """Unit vectors [n, dim] in float32 of tower features [n, encoder.out_dim] of side ``name``."""
        return normalize(self.heads[name](features).float(), dim=-1, eps=1e-8)

    def embed(self, name: str, batch: Batch) -> Tensor:
        """Unit vectors [n, dim] in float32 of a collated batch of side ``name``."""
        return self.project(name, self.encoders[name](batch))

    def forward(self, inputs: Inputs) -> tuple[list[Tensor], Tensor]:
        """Embed several batches in one call, so that gradients are synchronised once.

        Parameters
        ----------
        inputs : Inputs
            Named batches; a plain tensor stands for precomputed tower features of that side.

        Returns
        -------
        list of Tensor [n_i, dim], Tensor []
            Unit vectors of each batch, and 1 / temperature.
        """
        vectors = []
        for place, (name, batch) in enumerate(inputs.parts):
            if isinstance(batch, Tensor):
                vectors.append(self.project(name, batch))
            elif place in inputs.altered:
                with frozen_statistics(self.encoders[name]):
                    vectors.append(self.embed(name, batch))
            else:
                vectors.append(self.embed(name, batch))
        return vectors, self.scale

    def config(self) -> dict[str, Any]:
        """Everything but the weights, as plain values."""
        return {
            "dim": self.dim,
            "head": self.head_kind,
            "max_scale": self.max_scale,
            "learn_temperature": self.log_scale.requires_grad,
            "sides": [{"modality": kind_of(side), **side.config()} for side in self.sides.values()],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TwoTower:
        """Rebuild an untrained model from :meth:`config`."""
        return cls(
            *(build_side(side) for side in config["sides"]),
            dim=config["dim"],
            head=config["head"],
            max_scale=config["max_scale"],
            learn_temperature=config["learn_temperature"],
        )

    def save(self, folder: Path, *, facts: Mapping[str, Any], card: str) -> None:
        """Write ``config.toml``, ``model.safetensors`` and ``README.md``, as a whole folder or not at all.

        Parameters
        ----------
        folder : Path
            Replaced if it exists.
        facts : mapping
            What the model was trained on and how (TOML values), kept under ``[training]``.
        card : str
            The model card, Markdown.
        """
        config = {"model": self.config(), "training": dict(facts)}
        write_folder(folder, self, config, card=card)

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> tuple[TwoTower, dict[str, Any]]:
        """Read a model folder (or a run folder that holds one).

        Returns
        -------
        TwoTower, dict
            The model in evaluation mode on ``device``, and the facts of its training.

        Raises
        ------
        WeightsError
            If the folder is not a model, is of a newer format, or its weights do not fit its config.
        """
        folder = find_model(Path(path))
        config = read_config(folder, "model", expected="the folder that `protclip pretrain` wrote")
        with damaged_config(folder):
            model = cls.from_config(config["model"])
        read_weights(folder, model)
        return model.to(device).eval(), config.get("training", {})


@contextlib.contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Keep running statistics as they are during a forward pass in training mode."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [
        (m.momentum, None if m.num_batches_tracked is None else m.num_batches_tracked.clone()) for m in norms
    ]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            if count is not None:
                norm.num_batches_tracked = count
