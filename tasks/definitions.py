"""The six downstream tasks: what is predicted, how it is scored, CDConv's recipe, published numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from protclip.config.checks import near
from protclip.errors import ConfigError
from protclip.tasks.metrics import Accuracy, Fmax

Kind = Literal["single", "multi"]

CUTOFFS = ("30", "40", "50", "70", "95")
"""Largest sequence identity, in percent, of a test chain to any training chain; 95 is the headline."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    optimizer : {"sgd", "adamw"}
    lr : float
        Peak rate of the head and of towers that start from random weights.
    tower_lr : float
        Peak rate of pretrained towers.
    momentum, weight_decay : float
    epochs, batch_size : int
    milestones : tuple of float
        Shares of the training after which the rate falls to a tenth; empty for warm-up and a cosine.
    clip_gradient : float
        Largest norm of the gradient.
    noise : float
        Standard deviation in Angstrom of the noise on every training coordinate.
    patience : int
        Epochs without a better validation score after which training ends; 0 never ends early.
    cdconv : mapping
        Entries of :class:`protclip.structure.encoders.encoder.CDConvConfig` for a structure tower from
        scratch.
    gearnet : str
        Size of a GearNet tower from scratch.
    """

    optimizer: Literal["sgd", "adamw"]
    lr: float
    tower_lr: float
    momentum: float
    weight_decay: float
    epochs: int
    batch_size: int
    milestones: tuple[float, ...] = ()
    clip_gradient: float = 10.0
    noise: float = 0.05
    patience: int = 0
    cdconv: Mapping[str, Any] = field(default_factory=dict)
    gearnet: str = "published"


@dataclass(frozen=True)
class Task:
    """A downstream task.

    Attributes
    ----------
    name : str
    title : str
    kind : {"single", "multi"}
        One class per protein, or any number.
    metric : str
        Headline metric, ``accuracy`` or ``fmax``; its definition is :attr:`definition`.
    tests : tuple of str
        Test sets in the order in which they are reported.
    headline : str
        Test set of the headline number.
    download : str
        What ``protclip data download`` calls it.
    cdconv : Recipe
        The published recipe of CDConv.
    published : mapping
        Method -> published headline numbers, in the order of :attr:`tests`.
    protocol : str
        Counts of the published benchmark.
    """

    name: str
    title: str
    kind: Kind
    metric: Literal["accuracy", "fmax"]
    tests: tuple[str, ...]
    headline: str
    download: str
    cdconv: Recipe
    published: Mapping[str, tuple[float, ...]]
    protocol: str

    @property
    def definition(self) -> str:
        """The headline metric in one sentence."""
        return Accuracy.definition if self.metric == "accuracy" else Fmax.definition


def _cdconv(
    window: int, kernel: int, base: int, batch: int, epochs: int, milestones: Sequence[int]
) -> Recipe:
    return Recipe(
        "sgd",
        lr=1e-3,
        tower_lr=1e-3,
        momentum=0.9,
        weight_decay=5e-4,
        epochs=epochs,
        batch_size=batch,
        milestones=tuple(m / epochs for m in milestones),
        cdconv={"window": window, "kernel_channels": kernel, "base_width": float(base)},
    )


_GO = _cdconv(21, 24, 32, 24, 500, (300, 400))
_GO_COUNTS = "DeepFRI nrPDB-GO 2019.06.18: 29,902 / 3,323 / 3,416 chains"

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "fold",
            "SCOP fold",
            "single",
            "accuracy",
            ("test_fold", "test_superfamily", "test_family"),
            "test_fold",
            "fold",
            _cdconv(5, 24, 64, 8, 400, (300, 350)),
            {
                "CDConv": (0.567, 0.777, 0.996),
                "ESM-2 650M": (0.385, 0.815, 0.992),
                "Set-CLIP": (0.591, 0.797, 0.996),
            },
            "HomologyTAPE, SCOP 1.75: 12,312 / 736 / 718, 1,254 and 1,272 domains, 1,195 folds",
        ),
        Task(
            "reaction",
            "enzyme reaction class",
            "single",
            "accuracy",
            ("test",),
            "test",
            "reaction",
            _cdconv(21, 24, 32, 8, 400, (300, 350)),
            {"CDConv": (0.885,), "MMPG": (0.890,), "ProtGO-ESM": (0.894,)},
            "ProtFunct: 29,215 / 2,562 / 5,651 chains, 384 classes",
        ),
        Task(
            "go-mf",
            "GO molecular function",
            "multi",
            "fmax",
            ("test",),
            "test",
            "go",
            _GO,
            {
                "CDConv": (0.654,),
                "ESM-2 650M": (0.662,),
                "Set-CLIP": (0.667,),
                "ESM-GearNet": (0.684,),
            },
            f"{_GO_COUNTS}, 489 terms",
        ),
        Task(
            "go-bp",
            "GO biological process",
            "multi",
            "fmax",
            ("test",),
            "test",
            "go",
            _GO,
            {
                "CDConv": (0.453,),
                "ESM-2 650M": (0.472,),
                "Set-CLIP": (0.459,),
                "ESM-GearNet": (0.516,),
            },
            f"{_GO_COUNTS}, 1,943 terms",
        ),
        Task(
            "go-cc",
            "GO cellular component",
            "multi",
            "fmax",
            ("test",),
            "test",
            "go",
            _GO,
            {
                "CDConv": (0.479,),
                "ESM-2 650M": (0.472,),
                "Set-CLIP": (0.491,),
                "ESM-GearNet": (0.506,),
            },
            f"{_GO_COUNTS}, 320 terms",
        ),
        Task(
            "ec",
            "enzyme commission number",
            "multi",
            "fmax",
            ("test",),
            "test",
            "ec",
            _cdconv(21, 32, 16, 64, 500, (300, 400)),
            {
                "CDConv": (0.820,),
                "ESM-2 650M": (0.874,),
                "Set-CLIP": (0.884,),
                "ESM-GearNet": (0.890,),
            },
            "DeepFRI nrPDB-EC 2020.04: 15,551 / 1,729 / 1,919 chains, 538 classes",
        ),
    )
}
"""The tasks by name. Milestones are this project's choice: the published recipe has two, without places."""

FINETUNE = Recipe(
    "adamw",
    lr=1e-3,
    tower_lr=1e-4,
    momentum=0.9,
    weight_decay=1e-2,
    epochs=50,
    batch_size=32,
    clip_gradient=1.0,
    patience=15,
)
"""Pretrained towers: AdamW with warm-up and a cosine."""

PROBE = Recipe(
    "adamw",
    lr=3e-3,
    tower_lr=3e-3,
    momentum=0.9,
    weight_decay=1e-2,
    epochs=150,
    batch_size=256,
    clip_gradient=1.0,
    noise=0.0,
    patience=30,
)
"""A head on the features of frozen towers."""

DEMONSTRATION = Recipe(
    "adamw",
    lr=2e-3,
    tower_lr=1e-3,
    momentum=0.9,
    weight_decay=1e-2,
    epochs=40,
    batch_size=16,
    clip_gradient=1.0,
    patience=15,
    cdconv={"channels": (32, 48, 64, 96), "kernel_channels": 4, "base_width": 32.0, "dropout": 0.1},
    gearnet="tiny",
)
"""A small network on a handful of proteins, on a CPU."""

Choice = Literal["auto", "cdconv", "finetune", "probe", "demonstration"]


def find_task(name: str) -> Task:
    """The task called ``name``.

    Raises
    ------
    ConfigError
        If there is none.

    Examples
    --------
    >>> find_task("go-bp").metric
    'fmax'
    """
    if name not in TASKS:
        raise ConfigError(
            "unknown task", where="TASK", got=repr(name), expected=", ".join(TASKS), hint=near(name, TASKS)
        )
    return TASKS[name]


def find_recipe(choice: Choice, task: Task, *, pretrained: bool, probe: bool, demonstration: bool) -> Recipe:
    """The recipe called ``choice``.

    ``auto`` is ``probe`` for frozen towers, ``finetune`` for pretrained ones (and GearNet), and from scratch
    CDConv's published recipe, but ``demonstration`` on the sample that ships with the package.

    Examples
    --------
    >>> recipe = find_recipe("auto", TASKS["ec"], pretrained=False, probe=False, demonstration=False)
    >>> recipe.batch_size, recipe.cdconv["kernel_channels"]
    (64, 32)
    """
    if choice == "auto":
        if probe:
            choice = "probe"
        elif pretrained:
            choice = "finetune"
        else:
            choice = "demonstration" if demonstration else "cdconv"
    if choice == "cdconv":
        return task.cdconv
    return {"finetune": FINETUNE, "probe": PROBE, "demonstration": DEMONSTRATION}[choice]


def comparison(task: Task, *, version: str, demonstration: bool) -> list[str]:
    """What published numbers there are and whether this benchmark's numbers may stand beside them."""
    if demonstration:
        return ["demonstration, no benchmark: these numbers compare with nothing published"]
    sets = ", ".join(task.tests)
    lines = [f"published {task.metric} on {sets} ({task.protocol}):"]
    lines += [f"  {name}: {' / '.join(f'{v:.3f}' for v in row)}" for name, row in task.published.items()]
    lines.append(
        f"this run used {version}; compare only with results on the same version and the same number of "
        "chains, over at least three seeds"
    )
    return lines
