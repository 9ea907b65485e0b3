"""The experiments: tables and analyses of the Set-CLIP paper (arXiv 2406.05766), and those of our own.

The paper's ablation of relative distance and divergence is its Table 5; the other numbers follow the order
in which it treats its domains. Its tables report single runs; every arm here has several seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from protclip.errors import ConfigError
from protclip.experiments.definitions import RETRIEVAL, Arm, Experiment

FRACTIONS = (0.02, 0.1, 0.5)
"""Paired fractions of the comparisons between methods."""

POOLS = (("shuffled", ""), ("disjoint", ", disjoint"))
"""Kinds of pools, and what is added to the name of a method for each."""

CEILING = Arm("clip-all", {"objective": "clip-all"})


def _arm(objective: str, method: str = "", **options: Any) -> Arm:
    return Arm(method or objective, {"objective": objective, **options})


def _at(arms: Iterable[Arm], name: str, values: Iterable[float | str]) -> tuple[Arm, ...]:
    """Each arm with an option at each value, which becomes its condition."""
    methods = tuple(arms)
    return tuple(
        replace(arm, options={**arm.options, name: value}, condition={**arm.condition, name: value})
        for value in values
        for arm in methods
    )


def _refit(parent: Arm, method: str, name: str = "", **options: Any) -> Arm:
    """New heads for the towers of another arm."""
    return Arm(
        f"{parent.method}, {name or method + ' refit'}",
        {**parent.options, **options, "refit": method},
        towers_of=parent.method,
    )


def _both_pools(*objectives: str, **options: Any) -> tuple[Arm, ...]:
    return tuple(
        _arm(name, name + suffix, pools=pools, **options) for name in objectives for pools, suffix in POOLS
    )


TABLE1 = Experiment(
    "table1",
    "Downstream tasks after pretraining on half of the pairs",
    "Fold, reaction, GO and EC after pretraining with half of the corpus paired: pairs alone, Set-CLIP with "
    "the unpaired half, all pairs, and towers from scratch.",
    (
        Arm("from scratch", {"objective": "clip"}, pretrained=False),
        _arm("clip"),
        _arm("setclip"),
        CEILING,
    ),
    baseline="clip",
    ceiling="clip-all",
    options={"preset": "paper", "paired": 0.5},
    tasks=("fold", "reaction", "go-mf", "go-bp", "go-cc", "ec"),
    metrics=("R@10",),
)

TABLE2 = Experiment(
    "table2",
    "Remote sensing: zero-shot classes and retrieval from a tenth of the pairs",
    "Pseudo-labels against Set-CLIP on top of S-CLIP, a tenth of the pairs labelled; classes of other sets "
    "by prompts (--zero-shot FOLDER), and retrieval.",
    (
        _arm("clip"),
        _arm("hard-pl"),
        _arm("soft-pl"),
        _arm("s-clip"),
        _arm("setclip"),
        _arm("setclip+s-clip"),
        CEILING,
    ),
    baseline="s-clip",
    ceiling="clip-all",
    options={"config": "remote-sensing"},
    zero_shot=True,
    prompts=("an aerial photograph of {}.",),
    metrics=("R@1", "R@5", "R@10", "median_rank"),
    needs=("pairs",),
)

TABLE3 = Experiment(
    "table3",
    "Flickr-8k and Mini COCO: a third of the pairs",
    "Top-1 of Set-CLIP against CLIP on the pairs, with the published settings for Flickr-8k; --config "
    "mini-coco for the other.",
    (_arm("clip"), _arm("setclip"), CEILING),
    baseline="clip",
    ceiling="clip-all",
    options={"config": "flickr8k"},
    zero_shot=True,
    metrics=("R@1", "R@5", "R@10", "median_rank"),
    needs=("pairs",),
)

TABLE4 = Experiment(
    "table4",
    "Ablation: self-supervision and semantic density",
    "Set-CLIP without either, with one of them and with both, half of the pairs. Without either it is CLIP "
    "on the pairs, as in the paper; the kernel distance goes with the density.",
    (
        _arm("clip", "neither"),
        _arm("setclip", "SSL", sdd_weight=0.0, mmd_weight=0.0),
        _arm("setclip", "SDD", ssl_weight=0.0),
        _arm("setclip", "both"),
    ),
    baseline="neither",
    options={"preset": "paper", "paired": 0.5},
    tasks=("fold", "ec"),
    metrics=RETRIEVAL,
)

TABLE5 = Experiment(
    "table5",
    "Ablation: relative distance and divergence of the semantic density",
    "The density with distances divided by the set's variance (RD) or not, compared by the two-way "
    "divergence (KL) or by mean squares.",
    tuple(
        _arm("setclip", name, sdd_relative_distance=relative, sdd_divergence=divergence)
        for name, relative, divergence in (
            ("neither", False, "mse"),
            ("RD", True, "mse"),
            ("KL", False, "kl"),
            ("both", True, "kl"),
        )
    ),
    baseline="neither",
    options={"preset": "paper", "paired": 0.5},
    tasks=("fold", "ec"),
    metrics=RETRIEVAL,
)

NO_PAIRS = Experiment(
    "no-pairs",
    "No pairs at all",
    "The paper's claim for training without any pair. The untrained towers are the baseline, beside the "
    "level of chance; pools are shuffled (every partner is in the other pool) and disjoint (none is).",
    (
        _arm("setclip", "untrained", paired=0.0, steps=0),
        *_both_pools("setclip", paired=0.0),
        _arm("setclip", "setclip, paper preset", paired=0.0, preset="paper", pools="shuffled"),
        _arm("setclip", "setclip, paper preset, disjoint", paired=0.0, preset="paper", pools="disjoint"),
        *_both_pools("setclip+transport", paired=0.0),
        CEILING,
    ),
    baseline="untrained",
    ceiling="clip-all",
    zero_shot=True,
    metrics=("R@1", "R@10", "median_rank", "length_matched_rank", "knn_C"),
)

SAMPLING_SIZE = Experiment(
    "sampling-size",
    "How many samples a batch needs",
    "The kernel density of samples of growing size against that of the whole set, on features of untrained "
    "towers or of a trained model (--model).",
    (),
    kind="sampling-size",
)

PAIRED_FRACTION = Experiment(
    "paired-fraction",
    "From few pairs to all",
    "Pairs alone, their closed form, and Set-CLIP with shuffled and disjoint pools, at paired fractions from "
    "0.02 to 0.5, below all pairs.",
    (
        *_at(
            (_arm("clip"), _arm("cca"), *_both_pools("setclip")),
            "paired",
            (0.02, 0.05, 0.1, 0.25, 0.5),
        ),
        CEILING,
    ),
    baseline="clip",
    ceiling="clip-all",
)

OBJECTIVES = Experiment(
    "objectives",
    "Every objective under one contract",
    "All objectives at few, some and many pairs, with shuffled and disjoint pools.",
    (
        *_at(
            (
                _arm("clip"),
                _arm("cca"),
                *_both_pools("hard-pl", "soft-pl", "s-clip", "setclip", "transport", "setclip+transport"),
            ),
            "paired",
            FRACTIONS,
        ),
        CEILING,
    ),
    baseline="clip",
    ceiling="clip-all",
)

RIVALS = Experiment(
    "rivals",
    "Published rivals of the objective's parts",
    "The contrastive term by single cells (SigLIP) in place of the softmax, the Cauchy-Schwarz divergence "
    "(CS-Aligner) in place of kernel distance, density and self-supervision, and a density that stands on "
    "the rows of former steps too; each against pairs alone and Set-CLIP.",
    (
        *_at(
            (
                _arm("clip"),
                _arm("clip", "sigmoid", contrast="sigmoid"),
                _arm("setclip"),
                _arm("setclip", "setclip, sigmoid", contrast="sigmoid"),
                _arm("setclip", "cs", mmd_weight=0.0, sdd_weight=0.0, ssl_weight=0.0, cs_weight=1.0),
                _arm("setclip", "setclip, SDD queue", sdd_queue=2048),
            ),
            "paired",
            FRACTIONS,
        ),
        CEILING,
    ),
    baseline="clip",
    ceiling="clip-all",
)

_CLIP, _UNTRAINED, _TRANSPORT = _arm("clip"), _arm("clip", "untrained", steps=0), _both_pools("transport")

ALIGNMENT = Experiment(
    "alignment",
    "Refitting the projections of a trained model",
    "The last maps as trained on the pairs, refitted by CCA on the pairs, and by transport between the "
    "unpaired pools; the same for towers that were trained with a transport plan, and for untrained ones as "
    "the control.",
    (
        *_at(
            (
                _CLIP,
                _refit(_CLIP, "cca", "CCA refit"),
                *(
                    _refit(_CLIP, "transport", f"transport refit{suffix}", pools=pools)
                    for pools, suffix in POOLS
                ),
                *_TRANSPORT,
                *(_refit(arm, "transport") for arm in _TRANSPORT),
                _UNTRAINED,
                _refit(_UNTRAINED, "cca", "CCA refit"),
                _refit(_UNTRAINED, "transport"),
            ),
            "paired",
            FRACTIONS,
        ),
        CEILING,
        _refit(CEILING, "cca", "CCA refit"),
    ),
    baseline="clip",
    ceiling="clip-all",
)

BATCH_SIZE = Experiment(
    "batch-size",
    "Rows of a batch",
    "Pairs alone and Set-CLIP at batches of 16 to 256 rows. Epochs are the same, so that larger batches have "
    "fewer steps; give --steps to fix these instead.",
    _at((_arm("clip"), _arm("setclip")), "batch_size", (16, 32, 64, 128, 256)),
    baseline="clip",
    options={"paired": 0.5},
)

TEMPERATURE = Experiment(
    "temperature",
    "Initial temperature",
    "Pairs alone and Set-CLIP from cold to warm starts of the learnable temperature.",
    _at((_arm("clip"), _arm("setclip")), "temperature", (0.05, 0.07, 0.1, 0.3, 1.0)),
    baseline="clip",
    options={"paired": 0.5},
)

PRESETS = Experiment(
    "presets",
    "Presets of the objective",
    "Set-CLIP with every preset against pairs alone with the default one.",
    (
        _arm("clip", preset="default"),
        *(
            _arm("setclip", f"setclip, {name}", preset=name)
            for name in ("default", "paper", "released", "released-vit")
        ),
    ),
    baseline="clip",
    options={"paired": 0.5},
)

EXPERIMENTS: Mapping[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        TABLE1,
        TABLE2,
        TABLE3,
        TABLE4,
        TABLE5,
        NO_PAIRS,
        SAMPLING_SIZE,
        PAIRED_FRACTION,
        OBJECTIVES,
        RIVALS,
        ALIGNMENT,
        BATCH_SIZE,
        TEMPERATURE,
        PRESETS,
    )
}
"""Experiments by name."""


def find_experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name not in EXPERIMENTS:
        raise ConfigError("no such experiment", where="NAME", got=repr(name), expected=", ".join(EXPERIMENTS))
    return EXPERIMENTS[name]
