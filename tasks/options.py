"""Every option of a downstream run as one plain, validated, round-tripping configuration."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from protclip.errors import ConfigError
from protclip.files import read_toml, write_toml
from protclip.options import from_dict
from protclip.tasks.definitions import Choice, find_task

Towers = Literal["structure", "sequence", "both"]

MACHINE_OPTIONS = frozenset({"device", "devices", "num_nodes", "workers"})
"""Options that say where a run computes, not what; they may change when it is resumed."""


@dataclass(frozen=True)
class FinetuneConfig:
    """One downstream run; ``config.toml`` of a run folder is this, resolved.

    Attributes
    ----------
    task : str
        ``fold``, ``reaction``, ``go-mf``, ``go-bp``, ``go-cc`` or ``ec``.
    data : str
        Benchmark file, ``sample``, or empty for the built benchmark in the cache.
    model : str
        Pretrained model or run folder; empty trains towers from scratch.
    towers : {"structure", "sequence", "both"}
    mode : {"full", "lora", "probe"}
        Train everything, low-rank updates of the sequence tower (and all of the structure tower), or a head
        on frozen towers.
    fusion : {"concat", "serial"}
        Both towers' features side by side, or the sequence tower's residue features as node input of the
        graph.
    features : {"tower", "shared"}
        Whether the head sees what the towers give or their projections into the shared space. The projection
        keeps what both modalities have in common and drops the rest, so ``tower`` is the default.
    freeze : {"", "structure", "sequence"}
        Keep one of the towers as it is.
    head : {"auto", "linear", "mlp"}
        ``auto`` is linear for a probe.
    recipe : str
        See :func:`protclip.tasks.definitions.find_recipe`; the entries below override it where given.
    seeds, seed : int
        Number of repetitions, and the first seed.
    class_weights : bool
        Weigh classes by their rarity in the training labels.
    calibration : {"auto", "platt", "isotonic", "temperature", "none"}
        How scores are made probabilities, on the validation set.
    vectors : str
        HDF5 embeddings by protein id that take the sequence tower's place.
    structure_size, structure_input, sequence_encoder, esm_weights, esm_init
        Towers from scratch; as for pretraining. ``recipe`` sizes the structure tower by the recipe.
    """

    task: str = "ec"
    data: str = ""
    model: str = ""
    towers: Towers = "structure"
    mode: Literal["full", "lora", "probe"] = "full"
    fusion: Literal["concat", "serial"] = "concat"
    features: Literal["tower", "shared"] = "tower"
    freeze: Literal["", "structure", "sequence"] = ""
    head: Literal["auto", "linear", "mlp"] = "auto"
    recipe: Choice = "auto"
    seeds: int = 1
    seed: int = 0
    class_weights: bool = False
    calibration: Literal["auto", "platt", "isotonic", "temperature", "none"] = "auto"
    vectors: str = ""
    structure_size: Literal["recipe", "tiny", "small", "published"] = "recipe"
    structure_input: Literal["residues", "geometry"] = "residues"
    sequence_encoder: str = "esm2_t6_8M_UR50D"
    esm_weights: str = ""
    esm_init: Literal["auto", "pretrained", "random"] = "auto"
    lora_rank: int = 8
    dropout: float = 0.2
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    tower_lr: float | None = None
    weight_decay: float | None = None
    noise: float | None = None
    patience: int | None = None
    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    workers: int = 0

    def __post_init__(self) -> None:
        task = find_task(self.task)
        for name, low, high in (
            ("seeds", 1, 1000),
            ("seed", 0, 2**31),
            ("lora_rank", 1, 4096),
            ("dropout", 0, 0.99),
            ("epochs", 1, 10**6),
            ("batch_size", 2, 10**6),
            ("lr", 1e-12, 1e3),
            ("tower_lr", 0, 1e3),
            ("weight_decay", 0, 1e3),
            ("noise", 0, 10),
            ("patience", 0, 10**6),
            ("devices", 1, 10**5),
            ("num_nodes", 1, 10**5),
            ("workers", 0, 10**4),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                where = f"--{name.replace('_', '-')}"
                raise ConfigError("out of range", where=where, got=str(value), expected=f"{low} to {high}")
        self._check_combination()
        if self.calibration in ("platt", "isotonic") and task.kind == "single":
            raise ConfigError(
                "does not fit a task with one class per protein",
                where=f"--calibration {self.calibration}",
                expected="temperature or none",
            )
        if self.calibration == "temperature" and task.kind == "multi":
            raise ConfigError(
                "does not fit a task with several classes per protein",
                where="--calibration temperature",
                expected="platt, isotonic or none",
            )

    def _check_combination(self) -> None:
        if self.fusion == "serial" and self.towers != "both":
            raise ConfigError(
                "serial fusion feeds the sequence tower into the structure tower and so needs both",
                where=f"--fusion serial --towers {self.towers}",
                expected="--towers both",
            )
        if self.fusion == "serial" and (self.mode == "probe" or self.freeze == "structure"):
            raise ConfigError(
                "serial fusion changes the input of the structure tower, which must then be trained",
                where="--fusion serial",
                expected="--mode full or lora, with at most the sequence tower frozen",
            )
        if self.fusion == "serial" and (self.features == "shared" or self.vectors):
            raise ConfigError(
                "serial fusion needs the sequence tower's residue features",
                where="--fusion serial",
                got="--vectors" if self.vectors else "--features shared",
            )
        if self.mode == "lora" and (self.towers == "structure" or self.vectors or self.freeze == "sequence"):
            raise ConfigError(
                "low-rank updates are made to the sequence tower, and there is none to train",
                where="--mode lora",
                expected="--towers sequence or both",
                hint="Use --mode full for the structure tower",
            )
        if self.features == "shared" and not self.model:
            raise ConfigError(
                "towers from scratch have no shared space",
                where="--features shared",
                expected="--model MODEL",
            )
        if self.vectors and self.towers == "structure":
            raise ConfigError(
                "precomputed vectors take the sequence tower's place",
                where=f"--vectors {self.vectors}",
                expected="--towers sequence or both",
            )
        if self.freeze and self.towers != "both":
            raise ConfigError(
                "freezes one of two towers",
                where=f"--freeze {self.freeze}",
                expected="--towers both",
                hint="Use --mode probe to freeze a single tower",
            )

    @property
    def uses(self) -> tuple[str, ...]:
        """Names of the towers."""
        return ("structure", "sequence") if self.towers == "both" else (self.towers,)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    def save(self, path: Path) -> None:
        """Write as TOML, so that ``--config path`` repeats the run."""
        write_toml(path, self.to_dict())

    @classmethod
    def load(cls, path: Path) -> FinetuneConfig:
        """Read TOML; entries that are left out keep their defaults."""
        found: FinetuneConfig = from_dict(cls, read_toml(path), where=str(path))
        return found

    def merged(self, **given: Any) -> FinetuneConfig:
        """With some options changed, checked like entries of a TOML file.

        Examples
        --------
        >>> FinetuneConfig().merged(task="fold", epochs=3).epochs
        3
        """
        found: FinetuneConfig = from_dict(FinetuneConfig, {**self.to_dict(), **given}, where="options")
        return found
