"""Every option of a downstream run as one plain, validated, round-tripping configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from protclip.config.checks import check_device
from protclip.config.pretraining import Precision
from protclip.config.schema import DATA, LEARNING, MACHINE, MODEL, Options, option
from protclip.errors import ConfigError
from protclip.tasks.definitions import Choice, find_task

Towers = Literal["structure", "sequence", "both"]

SCRATCH_TOWERS = (
    *("structure_encoder", "structure_size", "structure_input"),
    *("sequence_encoder", "esm_weights", "esm_init"),
)
"""Options of towers from scratch, which pretraining has too."""

AUTO, NONE, BENCHMARK, SAMPLE = "auto", "none", "benchmark", "sample"
"""Words in place of a path: found when the run begins; scratch; the built file; the demonstration."""


@dataclass(frozen=True)
class FinetuneConfig(Options):
    """One downstream run; ``config.toml`` of a run folder is this, resolved.

    Attributes
    ----------
    task : str
        ``fold``, ``reaction``, ``go-mf``, ``go-bp``, ``go-cc`` or ``ec``.
    data : str
        Benchmark file; ``benchmark`` for the one that was built into the cache; ``sample`` for the
        demonstration; ``auto`` (or empty) for the built one, else one that is fetched and built now, else the
        demonstration. The ``config.toml`` of a run names what was used.
    model : str
        Pretrained model or run folder. Empty (or ``none``), as in a file without the entry, trains towers
        from scratch; ``auto``, which `protclip finetune` without ``--model`` means, is the newest finished
        run in ``runs/``. The ``config.toml`` of a run names what was used.
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
    structure_encoder, structure_size, structure_input, sequence_encoder, esm_weights, esm_init
        Towers from scratch; as for pretraining. ``recipe`` sizes the structure tower by the recipe.
    fallback : str or None
        Why ``auto`` took the demonstration in place of the benchmark; stands in ``config.toml``, no option.
    """

    task: str = "ec"
    data: str = option(
        AUTO,
        "Benchmark file; benchmark (built before), sample (the demonstration), or auto: the benchmark, "
        "fetched where it is not there, else the demonstration",
        panel=DATA,
        settled=True,
    )
    vectors: str = option("", "HDF5 embeddings by protein id in place of the sequence tower", panel=DATA)
    model: str = option(
        "",
        "Pretrained model or run folder, none, or auto [default: auto, the newest run in runs/]",
        panel=MODEL,
        settled=True,
    )
    towers: Towers = option("structure", "structure, sequence or both", panel=MODEL)
    mode: Literal["full", "lora", "probe"] = option(
        "full", "full, lora (sequence tower) or probe (frozen towers)", panel=MODEL
    )
    fusion: Literal["concat", "serial"] = option(
        "concat", "concat, or serial: sequence features of residues enter the graph", panel=MODEL
    )
    features: Literal["tower", "shared"] = option(
        "tower",
        "tower: what the towers give; shared: its projection into the shared space",
        panel=MODEL,
        advanced=True,
    )
    freeze: Literal["", "structure", "sequence"] = option(
        "", "Tower that is not trained: structure or sequence", panel=MODEL, advanced=True
    )
    head: Literal["auto", "linear", "mlp"] = option(
        "auto", "Classifier: linear, mlp, or auto (linear for a probe)", panel=MODEL, advanced=True
    )
    structure_encoder: Literal["cdconv", "gearnet"] = option(
        "cdconv",
        "From scratch: cdconv, or gearnet (needs the extra torchdrug)",
        panel=MODEL,
        advanced=True,
    )
    structure_size: Literal["recipe", "tiny", "small", "published"] = option(
        "recipe", "From scratch: recipe, tiny, small or published", panel=MODEL
    )
    structure_input: Literal["residues", "geometry"] = option(
        "residues", "From scratch: residues or geometry", panel=MODEL, advanced=True
    )
    sequence_encoder: str = option("esm2_t6_8M_UR50D", "Without --model: ESM-2 size, or scratch", panel=MODEL)
    esm_weights: str = option("", "ESM-2 checkpoint file", panel=MODEL, advanced=True)
    esm_init: Literal["auto", "pretrained", "random"] = option(
        "auto", "auto, pretrained or random", panel=MODEL, advanced=True
    )
    lora_rank: int = option(8, "Rank of low-rank updates", panel=MODEL, advanced=True, low=1, high=4096)
    recipe: Choice = option(
        "auto", "auto, cdconv (published), finetune, probe or demonstration", panel=LEARNING
    )
    seeds: int = option(1, "Repetitions; mean and spread are reported", panel=MACHINE, low=1, high=1000)
    seed: int = option(0, "First seed", panel=LEARNING, low=0, high=2**31)
    class_weights: bool = option(
        False, "Weigh classes by their rarity among the training labels", panel=LEARNING, advanced=True
    )
    calibration: Literal["auto", "platt", "isotonic", "temperature", "none"] = option(
        "auto",
        "Probabilities by temperature (one class), platt or isotonic (several), none, or auto",
        panel=LEARNING,
        advanced=True,
    )
    epochs: int | None = option(
        None,
        "Passes over the training proteins [default: the recipe's]",
        panel=MACHINE,
        low=1,
        high=10**6,
    )
    batch_size: int | None = option(
        None, "Proteins per step [default: the recipe's]", panel=LEARNING, low=2, high=10**6
    )
    lr: float | None = option(
        None,
        "Peak rate of head and scratch towers [default: the recipe's]",
        panel=LEARNING,
        low=1e-12,
        high=1e3,
    )
    tower_lr: float | None = option(
        None, "Peak rate of pretrained towers [default: the recipe's]", panel=LEARNING, low=0, high=1e3
    )
    weight_decay: float | None = option(
        None, "Weight decay [default: the recipe's]", panel=LEARNING, advanced=True, low=0, high=1e3
    )
    dropout: float = option(0.2, "Of the classifier", panel=LEARNING, advanced=True, low=0, high=0.99)
    noise: float | None = option(
        None,
        "Noise on training coordinates, Angstrom [default: the recipe's]",
        panel=LEARNING,
        advanced=True,
        low=0,
        high=10,
    )
    patience: int | None = option(
        None,
        "Epochs without a better validation score before stopping; 0: never [default: the recipe's]",
        panel=LEARNING,
        advanced=True,
        low=0,
        high=10**6,
    )
    device: str = option("auto", "auto, cpu, cuda or cuda:N", panel=MACHINE, machine=True, check=check_device)
    devices: int = option(
        1, "Processes on this machine, one for each GPU", panel=MACHINE, machine=True, low=1, high=10**5
    )
    num_nodes: int = option(1, "Machines", panel=MACHINE, advanced=True, machine=True, low=1, high=10**5)
    precision: Precision = option("auto", "auto (bf16 on CUDA), fp32 or bf16", panel=MACHINE, advanced=True)
    workers: int = option(
        0, "Processes that prepare batches", panel=MACHINE, advanced=True, machine=True, low=0, high=10**4
    )
    fallback: str | None = option(None)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, spelled, meaning in (("model", NONE, ""), ("data", "", AUTO)):
            if getattr(self, name) == spelled:
                object.__setattr__(self, name, meaning)
        task = find_task(self.task)
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
