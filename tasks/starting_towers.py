"""Towers of a downstream run: from a pretrained model or from scratch, made ready for training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from protclip.data.files.vector_file import VectorFile
from protclip.errors import ConfigError
from protclip.modalities.base import Modality
from protclip.modalities.sequence.adapter import SequenceModality
from protclip.modalities.sequence.lora import add_lora
from protclip.modalities.structure import StructureModality
from protclip.modalities.vectors import VectorsModality
from protclip.model.folder import find_model
from protclip.model.two_tower import TwoTower
from protclip.structure.encoders.by_name import EncoderConfig, encoder_config
from protclip.structure.encoders.encoder import CDConvConfig
from protclip.tasks.config import FinetuneConfig
from protclip.tasks.definitions import Recipe
from protclip.tasks.serial import WIDTH, widen
from protclip.typing import Say
from protclip.work.fingerprint import file_digest


@dataclass
class Parent:
    """The pretrained model that towers come from.

    Attributes
    ----------
    facts : dict
        Path, SHA-256 of the weights, objective and corpus; empty without a parent.
    projections : dict
        Its projection heads by tower.
    dim : int
        Width of its shared space.
    head : str
        Kind of its projection heads.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    projections: dict[str, nn.Module] = field(default_factory=dict)
    dim: int = 256
    head: str = "mlp"


def build_towers(
    config: FinetuneConfig, recipe: Recipe, *, seed: int, vectors: VectorFile | None, say: Say
) -> tuple[list[Modality[Any]], Parent]:
    """The towers that ``config`` asks for.

    Raises
    ------
    ConfigError
        If the model has no such tower, or a tower of another kind than the options need.
    """
    sides: list[Modality[Any]] = []
    parent = Parent()
    if config.model:
        model, facts = TwoTower.load(Path(config.model))
        folder = find_model(Path(config.model))
        parent = Parent(
            {
                "path": str(folder),
                "fingerprint": file_digest(folder / "model.safetensors"),
                "objective": str(facts.get("objective", "")),
                "corpus_fingerprint": str(facts.get("corpus_fingerprint", "")),
            },
            {name: model.heads[name] for name in model.names},
            model.dim,
            model.head_kind,
        )
        for name in config.uses:
            sides.append(_tower_of(model, name, config, vectors))
    else:
        for name in config.uses:
            sides.append(_scratch(name, config, recipe, seed=seed, vectors=vectors, say=say))
    return [_prepared(side, config) for side in sides], parent


def _tower_of(
    model: TwoTower, name: str, config: FinetuneConfig, vectors: VectorFile | None
) -> Modality[Any]:
    if name not in model.sides:
        raise ConfigError(
            f"the model has no {name} tower",
            where=f"--model {config.model} --towers {config.towers}",
            got=" and ".join(model.names),
            hint=f"Use --towers {model.names[0]}, or a model with a {name} tower",
        )
    side = model.sides[name]
    if isinstance(side, VectorsModality):
        if vectors is None:
            raise ConfigError(
                f"the {name} side of this model takes precomputed vectors",
                where=f"--model {config.model}",
                hint="Give the vectors of the benchmark's proteins with --vectors FILE, or use "
                "--towers structure",
            )
        if vectors.dim != side.dim:
            raise ConfigError(
                "the vectors are of another kind than those of the model",
                where=f"--vectors {config.vectors}",
                got=f"{vectors.dim} dimensions",
                expected=str(side.dim),
            )
    elif vectors is not None and name == "sequence":
        # Another model's vectors in place of this model's own tower.
        return VectorsModality(vectors.dim, stands_for=name, source=Path(config.vectors).name)
    if isinstance(side, StructureModality) and config.structure_encoder not in (
        "cdconv",
        side.architecture.kind,
    ):
        raise ConfigError(
            "the structure tower of the model is of another kind",
            where=f"--model {config.model} --structure-encoder {config.structure_encoder}",
            got=side.architecture.tower,
            hint="Leave --structure-encoder out, or --model, or give a model pretrained with that encoder",
        )
    side.pretrained = True
    if config.fusion == "serial" and isinstance(side, StructureModality):
        return widen(side)
    return side


def _scratch(
    name: str,
    config: FinetuneConfig,
    recipe: Recipe,
    *,
    seed: int,
    vectors: VectorFile | None,
    say: Say,
) -> Modality[Any]:
    if name == "structure":
        sized = _sized(config, recipe)
        return StructureModality(sized.widened(WIDTH) if config.fusion == "serial" else sized)
    if vectors is not None:
        return VectorsModality(vectors.dim, stands_for=name, source=Path(config.vectors).name)
    side = SequenceModality.create(
        config.sequence_encoder,
        weights=config.esm_weights or None,
        init=config.esm_init,
        tune="full",
        seed=seed,
    )
    provenance = side.provenance
    if provenance.message:
        say(f"WARNING: {provenance.message}" if provenance.fallback else provenance.message)
    return side


def _sized(config: FinetuneConfig, recipe: Recipe) -> EncoderConfig:
    """The structure encoder from scratch, in the size that was asked for or in the recipe's."""
    kind, size, sees = config.structure_encoder, config.structure_size, config.structure_input
    if size != "recipe":
        return encoder_config(kind, size, input=sees)
    if kind == "gearnet":
        return encoder_config(kind, recipe.gearnet, input=sees)
    return CDConvConfig.from_dict({**recipe.cdconv, "input": sees})


def _prepared(side: Modality[Any], config: FinetuneConfig) -> Modality[Any]:
    """The tower with the parameters that ``config.mode`` trains open to training, and no others."""
    side.encoder.requires_grad_(True)
    side.frozen = isinstance(side, VectorsModality)
    if isinstance(side, SequenceModality):
        if config.mode == "lora":
            if side.tune != "lora":
                add_lora(side.encoder.net, config.lora_rank, 2.0 * config.lora_rank)
                side.tune, side.lora_rank, side.lora_alpha = "lora", config.lora_rank, 2.0 * config.lora_rank
            for name, parameter in side.encoder.named_parameters():
                parameter.requires_grad_("lora_" in name)
        elif side.tune == "frozen":
            side.tune = "full"
    return side
