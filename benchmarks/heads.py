"""Projection heads by gradient descent against CCA, on the features of a finished run's own towers.

    python benchmarks/heads.py RUN [--steps 200] [--seeds 2]

The towers of the run folder RUN are kept as they are; new heads are trained on the features of its pairs, and
scored on its validation and test items (R@10, mean of both directions, and median rank). Each row changes one
thing of the first: temperature, stopping, rate, decay, batch, dropout of the input, width, kind of head, or
whitening of the input by the covariance of all training items with a ridge (times its mean eigenvalue).
"stopping" keeps the step of the best validation mean reciprocal rank, as `protclip pretrain` does; ridge and
dimensions of CCA are chosen by the same.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize

from protclip.alignment import fit_cca
from protclip.config.pretraining import PretrainConfig
from protclip.inference.encode import encode
from protclip.losses import clip_loss
from protclip.model.heads import HEADS
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData
from protclip.scoring.galleries import Gallery, validation_scores
from protclip.scoring.retrieval import score_retrieval
from protclip.training.pretrain import load_data
from protclip.training.running import learning_rate_factor
from protclip.typing import Matrix, Silent

DEFAULTS: dict[str, Any] = {
    "head": "mlp",
    "temperature": 0.3,
    "stopping": True,
    "rate": 1e-3,
    "decay": 1e-2,
    "batch": 64,
    "dropout": 0.0,
    "dim": 256,
    "ridge": None,
}
CHANGES: list[dict[str, Any]] = [
    {},
    *({"temperature": t} for t in (0.07, 1.0)),
    {"stopping": False},
    {"stopping": False, "temperature": 0.07},
    {"head": "linear"},
    {"rate": 3e-4},
    {"decay": 3.0},
    {"batch": 10**9},
    {"dropout": 0.5},
    {"dim": 64},
    *({"head": head, "ridge": ridge} for head in ("mlp", "linear") for ridge in (0.1, 1.0, 10.0)),
]


class Scores(NamedTuple):
    """Of one fit: validation and test."""

    reciprocal: float
    valid: float
    test: float
    median: float


class Task(NamedTuple):
    """Standardised features of both sides and what is known of them."""

    left: Matrix
    right: Matrix
    data: AlignmentData
    names: tuple[str, str]

    def score(self, left: Matrix, right: Matrix) -> Scores:
        """Scores of mapped rows [items, d] of both sides."""

        def rows(gallery: Gallery) -> tuple[Any, Any]:
            picked = left[gallery.rows[:, 0]], right[gallery.rows[:, 1]]
            return tuple(  # type: ignore[return-value]
                (p / np.linalg.norm(p, axis=1, keepdims=True)).astype(np.float32) for p in picked
            )

        valid = validation_scores(rows(self.data.valid), self.data.valid, self.names)
        test = score_retrieval(*rows(self.data.test), left_name=self.names[0], right_name=self.names[1])
        both = test.forward, test.backward
        return Scores(
            valid["score"],
            100 * valid["valid_R@10"],
            100 * float(np.mean([d.recall(10) for d in both])),
            float(np.mean([np.median(1 + d.ahead + d.tied / 2) for d in both])),
        )


def load(folder: Path) -> Task:
    """Features of all items from the towers of a run."""
    config = PretrainConfig.load(folder / "config.toml")
    data = load_data(config, Silent())
    model, _ = TwoTower.load(folder)
    sides = []
    for number, (side, tower) in enumerate(zip(data.sides, model.sides.values(), strict=True)):
        rows = encode(tower, side.items, tower.encoder, device=torch.device("cpu")).astype(np.float64)
        known = rows[data.training_items(number)]
        spread = known.std(0)
        sides.append((rows - known.mean(0)) / np.where(spread > 1e-6 * spread.max(), spread, 1.0))
    return Task(sides[0], sides[1], data, model.names)


def whitened(task: Task, ridge: float | None) -> tuple[Matrix, Matrix]:
    """Both sides after ZCA by all training items; unchanged without a ridge."""
    if ridge is None:
        return task.left, task.right
    data, result = task.data, []
    for number, rows in enumerate((task.left, task.right)):
        known = rows[data.training_items(number)]
        values, vectors = np.linalg.eigh(np.cov(known.T, bias=True))
        half = vectors / np.sqrt(np.clip(values, 0, None) + ridge * values.mean()) @ vectors.T
        white = rows @ half
        result.append(white / np.sqrt(np.square(known @ half).mean()))
    return result[0], result[1]


def closed_form(task: Task) -> Scores:
    """CCA of the pairs; ridge and dimensions by validation."""
    pairs = task.left[task.data.pairs[:, 0]], task.right[task.data.pairs[:, 1]]
    every = []
    for ridge in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0):
        for dim in (16, 32, 64, 128, 256):
            maps = fit_cca(*pairs, dim=dim, ridge=ridge)
            every.append(task.score(maps.left(task.left), maps.right(task.right)))
    return max(every)


def descent(task: Task, options: dict[str, Any], steps: int, seed: int) -> Scores:
    """Heads by AdamW on the pairs' contrastive loss."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    sides = [torch.from_numpy(rows).float() for rows in whitened(task, options["ridge"])]
    heads = nn.ModuleList(HEADS[options["head"]](rows.shape[1], options["dim"]) for rows in sides)
    log_scale = nn.Parameter(torch.tensor(-math.log(options["temperature"])))
    flat = [p for p in heads.parameters() if p.ndim < 2]
    groups = [
        {"params": [p for p in heads.parameters() if p.ndim > 1], "weight_decay": options["decay"]},
        {"params": [*flat, log_scale], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups)
    pairs, size = torch.from_numpy(task.data.pairs), min(options["batch"], len(task.data.pairs))
    queue: list[int] = []
    best: Scores | None = None
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = options["rate"] * learning_rate_factor(step, steps, 0.1)
        if len(queue) < size:
            queue = list(rng.permutation(len(pairs)))
        rows = pairs[[queue.pop() for _ in range(size)]]
        u, v = (
            normalize(head(dropout(side[index], options["dropout"])), dim=1)
            for head, side, index in zip(heads, sides, rows.T, strict=True)
        )
        clip_loss(u, v, log_scale.exp().clamp(max=100), size).backward()
        nn.utils.clip_grad_norm_(heads.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (options["stopping"] and (step + 1) % 20 == 0) or step + 1 == steps:
            found = task.score(*_mapped(heads, sides))
            best = found if best is None else max(best, found)
    assert best is not None
    return best


@torch.no_grad()
def _mapped(heads: nn.ModuleList, sides: list[Tensor]) -> list[Matrix]:
    heads.eval()
    rows = [head(side).double().numpy() for head, side in zip(heads, sides, strict=True)]
    heads.train()
    return rows


def main() -> None:
    """Print one line for each way to fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    task = load(args.run)
    print(
        f"{len(task.data.pairs)} pairs, {len(task.data.valid)} validation, {len(task.data.test)} test items"
    )
    print("| heads | valid MRR % | valid R@10 % | test R@10 % | test median rank |\n|---|---|---|---|---|")
    line = "| {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} |"
    found = closed_form(task)
    print(line.format("CCA", 100 * found.reciprocal, *found[1:]), flush=True)
    for change in CHANGES:
        runs = [descent(task, {**DEFAULTS, **change}, args.steps, seed) for seed in range(args.seeds)]
        mean = [float(np.mean(column)) for column in zip(*runs, strict=True)]
        name = ", ".join(f"{key} {value}" for key, value in change.items()) or "gradient descent"
        print(line.format(name, 100 * mean[0], *mean[1:]), flush=True)


if __name__ == "__main__":
    main()
