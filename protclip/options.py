"""Every option of pretraining as one plain, validated, round-tripping configuration."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import pkgutil
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from protclip.checks import check_range
from protclip.config import LossConfig
from protclip.errors import ConfigError
from protclip.files import read_toml, write_toml

Objective = Literal[
    "setclip",
    "setclip+s-clip",
    "setclip+transport",
    "clip",
    "clip-all",
    "cca",
    "hard-pl",
    "soft-pl",
    "s-clip",
    "transport",
]
OBJECTIVES = (
    "setclip, clip (pairs only), clip-all (ceiling), cca (closed form), hard-pl, soft-pl, s-clip, transport, "
    "setclip+s-clip or setclip+transport"
)

SOURCES = "protclip.sources"
"""Entry-point group of the data sources' options."""

DEFAULT_SOURCE = "proteins"

DATA, MODEL, LOSS, TRAIN, RUN = "Data", "Model", "Objective", "Training", "Run"


def option(default: Any, help: str, *, panel: str, flag: str = "", evaluation: bool = False) -> Any:
    """A dataclass field that is an option of the command line too.

    Parameters
    ----------
    default : object
        A mapping is copied for each configuration.
    help : str
        What the option does, for ``--help``; the default is added by itself.
    panel : str
        Group of options that it is shown with.
    flag : str
        Name on the command line where it is not that of the field, e.g. ``--left-option``.
    evaluation : bool
        Whether ``protclip evaluate`` takes it as well.
    """
    metadata = {"help": help, "panel": panel, "flag": flag, "evaluation": evaluation}
    if isinstance(default, Mapping):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class SourceOptions:
    """Options of a data source; derive from it and register the class under ``protclip.sources``.

    The module must be quick to import (no torch): the command line is made from it.

    Attributes
    ----------
    kind : str
        Name of the source, the entry point's too.
    implementation : str
        ``"package.module:Class"`` of its :class:`protclip.modalities.pairs.Source`.
    """

    kind: ClassVar[str] = ""
    implementation: ClassVar[str] = ""

    def open(self) -> Any:
        """The source that these options describe.

        Raises
        ------
        ConfigError
            If there is none, since the items were given as Python objects.
        """
        if not self.implementation:
            raise ConfigError("the items of this run were Python objects, which cannot be opened again")
        return pkgutil.resolve_name(self.implementation)(self)

    def validate(self) -> None:
        """Check what can only be said of the options of a run that starts, such as missing entries."""

    def title(self) -> str:
        """What to say beside the scores of a run on this source."""
        return "held-out items"


@functools.cache
def source_kinds() -> dict[str, type[SourceOptions]]:
    """Registered sources by name; those of other packages that cannot be imported are left out."""
    found: dict[str, type[SourceOptions]] = {}
    for point in importlib.metadata.entry_points(group=SOURCES):
        try:
            found[point.name] = point.load()
        except ImportError:
            if point.value.startswith("protclip."):
                raise
    return found


def source_options(kind: str, where: str = "--source") -> type[SourceOptions]:
    """Options class of the source called ``kind``; of no name where the items came from Python objects.

    Raises
    ------
    ConfigError
        If no such source is registered.
    """
    if not kind:
        return SourceOptions
    kinds = source_kinds()
    if kind not in kinds:
        raise ConfigError("no such source", where=where, got=repr(kind), expected=", ".join(sorted(kinds)))
    return kinds[kind]


@dataclass(frozen=True)
class DataConfig:
    """How the items of any source are divided into pairs, pools and held-out parts.

    Attributes
    ----------
    paired : float
        Fraction of the training items that keep their pairing, by groups of near-duplicates.
    pools : {"shuffled", "disjoint"}
        Whether an unpaired item's partner is in the other modality's pool.
    valid_fraction, test_fraction : float
        Share of the items held out, unless the source has a split of its own.
    split_seed : int
        Seed of the held-out split; ``train.seed`` decides which groups keep their pairing.
    """

    paired: float = option(0.5, "Fraction of the training items that keep their pairing, 0 to 1", panel=DATA)
    pools: Literal["shuffled", "disjoint"] = option(
        "shuffled", "shuffled: unpaired partners are in the other pool; disjoint: they are not", panel=DATA
    )
    valid_fraction: float = option(0.15, "Items held out for choosing the epoch", panel=DATA)
    test_fraction: float = option(0.25, "Items held out for the final scores", panel=DATA)
    split_seed: int = option(0, "Seed of the held-out split", panel=DATA)

    def __post_init__(self) -> None:
        check_range("--paired", self.paired, 0, 1)
        check_range("--valid-fraction", self.valid_fraction, 0, 0.9)
        check_range("--test-fraction", self.test_fraction, 0, 0.9)
        if self.valid_fraction + self.test_fraction >= 0.95:
            raise ConfigError(
                "too little is left for training",
                where="--valid-fraction and --test-fraction",
                got=f"{self.valid_fraction} + {self.test_fraction}",
                expected="together below 0.95",
            )


@dataclass(frozen=True)
class ModelConfig:
    """The shared space.

    Attributes
    ----------
    dim : int
        Its width.
    """

    dim: int = option(256, "Width of the shared space", panel=MODEL)

    def __post_init__(self) -> None:
        check_range("--dim", self.dim, 2, 65536)


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation and the machine.

    Attributes
    ----------
    steps : int or None
        Optimiser steps; None takes ``epochs`` passes over the training items.
    batch_size : int or "auto"
        N, rows per modality and step, over all processes; ``auto`` takes as many as stand for the
        distribution of the training items, see :mod:`protclip.training.batch_size`.
    pairs_per_batch : int or None
        M; None chooses three quarters of the batch or the pairs' share, whichever is larger.
    micro_batch_size : int or None
        Rows that are in memory at once; the loss still sees all N (features are computed twice).
    head_lr, encoder_lr : float
        Peak learning rates of the heads (and of towers trained from scratch: ``scratch_lr``).
    init_heads : {"random", "cca"}
        Whether the heads start from a closed-form CCA of the pairs.
    refit : {"auto", "none", "cca", "transport"}
        Whether the trained heads are replaced by linear maps that are fitted in closed form; ``auto`` where
        validation items are found clearly better by them.
    checkpoint_seconds : float
        Longest time between two checkpoints, beside the one after each epoch.
    plots : bool
        Whether the run folder gets pictures; that of the embedding takes seconds.
    """

    objective: Objective = option("setclip", OBJECTIVES, panel=LOSS)
    epochs: int = option(20, "Passes over the training items", panel=TRAIN)
    steps: int | None = option(None, "Optimiser steps, instead of epochs", panel=TRAIN)
    batch_size: int | Literal["auto"] = option(
        64, "Rows per modality and step; auto: as many as stand for the training items", panel=TRAIN
    )
    pairs_per_batch: int | None = option(
        None, "Matched rows of a batch [default: three quarters, or the pairs' share]", panel=TRAIN
    )
    micro_batch_size: int | None = option(None, "Rows in memory at once; the loss sees all", panel=TRAIN)
    head_lr: float = option(1e-3, "Peak learning rate of the heads", panel=TRAIN)
    scratch_lr: float = option(1e-3, "... of towers trained from scratch", panel=TRAIN)
    encoder_lr: float = option(1e-5, "... of pretrained towers", panel=TRAIN)
    weight_decay: float = option(1e-2, "Weight decay", panel=TRAIN)
    warmup_fraction: float = option(0.1, "Share of the steps over which the rates rise", panel=TRAIN)
    clip_gradient: float = option(1.0, "Largest norm of the gradient", panel=TRAIN)
    init_heads: Literal["random", "cca"] = option("random", "random or cca (closed-form start)", panel=TRAIN)
    refit: Literal["auto", "none", "cca", "transport"] = option(
        "auto",
        "Replace the heads by linear maps after training: none, cca (of the pairs), transport (and of "
        "whole unpaired pools), or auto: if validation is clearly better with one of them",
        panel=LOSS,
    )
    seed: int = option(0, "Seed of pairing, weights, batches and views", panel=TRAIN)
    device: str = option("auto", "auto, cpu, cuda or cuda:N", panel=RUN)
    devices: int = option(1, "Processes on this machine", panel=RUN)
    num_nodes: int = option(1, "Machines", panel=RUN)
    strategy: Literal["ddp", "fsdp"] = option(
        "ddp", "Several processes: ddp keeps a tower whole on each, fsdp spreads its blocks", panel=RUN
    )
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto", "auto (bf16 on CUDA), fp32 or bf16", panel=RUN
    )
    workers: int = option(0, "Processes that prepare batches", panel=RUN)
    checkpoint_seconds: float = option(60.0, "Longest time between two checkpoints", panel=RUN)
    plots: bool = option(True, "Draw curves.svg and embedding.svg", panel=RUN)

    def __post_init__(self) -> None:
        check_range("--epochs", self.epochs, 0, 10**6)
        if isinstance(self.batch_size, int):
            check_range("--batch-size", self.batch_size, 2, 10**7)
        check_range("--devices", self.devices, 1, 10**5)
        check_range("--num-nodes", self.num_nodes, 1, 10**5)
        check_range("--workers", self.workers, 0, 10**4)
        check_range("warmup_fraction", self.warmup_fraction, 0, 1)
        for name in ("head_lr", "scratch_lr", "encoder_lr", "clip_gradient"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError("must be positive", where=name, got=str(getattr(self, name)))
        if self.micro_batch_size is not None:
            check_range("--micro-batch-size", self.micro_batch_size, 2, 10**7)


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run; ``config.toml`` of a run folder is this, resolved."""

    source: SourceOptions = field(default_factory=lambda: source_options(DEFAULT_SOURCE)())
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values."""
        values = {key: _plain(value) for key, value in dataclasses.asdict(self).items()}
        return {**values, "source": {"kind": self.source.kind, **values["source"]}}

    def save(self, path: Path, remarks: Sequence[str] = ()) -> None:
        """Write as TOML, so that ``--config path`` repeats the run; ``remarks`` become comments."""
        write_toml(path, self.to_dict(), remarks)

    @classmethod
    def load(cls, path: Path) -> PretrainConfig:
        """Read TOML; entries that are left out keep their defaults."""
        return cls.from_values(read_toml(path), where=str(path))

    @classmethod
    def from_values(cls, values: Mapping[str, Any], *, where: str) -> PretrainConfig:
        """From nested plain values; ``source.kind`` says which source's options ``source`` holds.

        Raises
        ------
        ConfigError
            See :func:`from_dict`.
        """
        values = dict(values)
        source = values.pop("source", {})
        if not isinstance(source, Mapping):
            raise ConfigError("not a table", where=f"{where}: source", got=repr(source), expected="[source]")
        entries = dict(source)
        kind = entries.pop("kind", DEFAULT_SOURCE)
        options = from_dict(source_options(kind, f"{where}: source: kind"), entries, where=f"{where}: source")
        loaded: PretrainConfig = from_dict(cls, values, where=where)
        return dataclasses.replace(loaded, source=options)


def from_dict(cls: type[Any], values: Mapping[str, Any], *, where: str) -> Any:
    """Build a (nested) configuration dataclass, checking names and types.

    Raises
    ------
    ConfigError
        Naming file and entry: unknown name, wrong type, value outside a closed set.
    """
    hints = get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        place = f"{where}: {key}"
        if key not in known:
            raise ConfigError("unknown entry", where=place, expected=", ".join(sorted(known)))
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise ConfigError("not a table", where=place, got=repr(value), expected=f"[{key}]")
            arguments[key] = from_dict(typing.cast(type, hints[key]), value, where=place)
        else:
            arguments[key] = _checked(hints[key], value, place)
    return cls(**arguments)


def _checked(hint: Any, value: Any, place: str) -> Any:
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            raise ConfigError(
                "not one of the choices", where=place, got=repr(value), expected=str(get_args(hint))
            )
        return value
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        options = [a for a in get_args(hint) if a is not type(None)]
        for option in options[:-1]:
            try:
                return _checked(option, value, place)
            except ConfigError:
                continue
        return _checked(options[-1], value, place)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ConfigError("not a table", where=place, got=repr(value))
        return dict(value)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError("not a list", where=place, got=repr(value))
        return tuple(_checked(get_args(hint)[0], item, place) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError("wrong type", where=place, got=repr(value), expected=hint.__name__)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def named_config(path: Path) -> Path:
    """The file, or that of the published setting of this name which comes with protclip."""
    shipped = Path(__file__).parent / "configs" / f"{path.name}.toml"
    return shipped if not path.exists() and path.name == str(path) and shipped.exists() else path


MACHINE_OPTIONS = frozenset({"device", "devices", "num_nodes", "workers", "checkpoint_seconds", "plots"})
"""Options that say where a run computes and what it draws; they may change when it is resumed."""


def merge(base: PretrainConfig, given: Mapping[str, Any]) -> PretrainConfig:
    """Put flat options into the sections they belong to, checked like entries of a TOML file.

    An option of another source than ``base``'s changes the source, unless ``base`` has options of its own.

    Raises
    ------
    ConfigError
        Unknown options, options of two sources at once, and whatever :func:`from_dict` refuses.

    Examples
    --------
    >>> merge(PretrainConfig(), {"paired": 0.1, "epochs": 3}).data.paired
    0.1
    """
    base = dataclasses.replace(base, source=_source_for(base.source, given))
    values = base.to_dict()
    left = dict(given)
    for section in ("source", "data", "model", "train"):
        for field_ in dataclasses.fields(getattr(base, section)):
            if field_.name in left:
                value = left.pop(field_.name)
                if isinstance(value, Mapping):  # entries of their own: those that are not named stay
                    value = {**values[section][field_.name], **value}
                values[section][field_.name] = value
    if left:
        raise ConfigError("unknown option", where=", ".join(sorted(left)))
    return PretrainConfig.from_values(values, where="options")


def _source_for(source: SourceOptions, given: Mapping[str, Any]) -> SourceOptions:
    names = {
        kind: {f.name for f in dataclasses.fields(options)} & set(given)
        for kind, options in {source.kind: type(source), **source_kinds()}.items()
    }
    own = {kind: found - names[source.kind] for kind, found in names.items()}
    others = sorted(kind for kind, found in own.items() if found)
    if not others:
        return source
    flags = [", ".join(sorted(f"--{n.replace('_', '-')}" for n in own[kind])) for kind in others]
    if len(others) > 1 or names[source.kind] - names[others[0]] or source != type(source)():
        raise ConfigError(
            "options of different data sources cannot be mixed",
            where="; ".join(flags),
            got=f"{' and '.join(others)} beside {source.kind}",
        )
    return source_options(others[0])()
