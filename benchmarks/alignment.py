"""All alignments of ready embeddings on one pair of sets: retrieval of held-out partners, as ratios to CCA.

    python benchmarks/alignment.py                                   # the shipped corpus, simple descriptors
    python benchmarks/alignment.py LEFT.h5 RIGHT.h5 --fractions 0.02 0.1 0.5 --repeats 3
    python benchmarks/alignment.py --runs RUN ...                    # features, pairs, held-out items of runs

Two files are matched by id; a third of the ids is held out (whole superfamilies on the shipped corpus), the
given fraction of the others is paired, the rest are pools: shuffled (every partner is in the other pool) or
disjoint (none is). With run folders of `protclip pretrain`, one for each seed, the features are those of
their towers, and pairs, pools and held-out test items are the run's own. Scores are R@10 and the median rank
over the full held-out gallery, both directions.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protclip.alignment.methods import METHODS, make_alignment
from protclip.scoring.retrieval import score_retrieval

Rows = NDArray[np.float64]


def shipped() -> tuple[Rows, Rows, list[str]]:
    """C-alpha distance histograms by sequence separation, and dipeptide frequencies."""
    from protclip.sources.proteins import open_corpus

    corpus = open_corpus("")
    letters = "ACDEFGHIKLMNPQRSTVWY"
    left, right = [], []
    for i in range(len(corpus)):
        protein = corpus[i]
        ca = protein.ca[protein.has_ca]
        distance = np.linalg.norm(ca[:, None] - ca[None], axis=-1)
        parts = []
        for low, high in ((2, 4), (4, 8), (8, 16), (16, 10_000)):
            gap = np.abs(np.subtract.outer(np.arange(len(ca)), np.arange(len(ca))))
            counts, _ = np.histogram(distance[(gap >= low) & (gap < high)], np.linspace(3, 30, 28))
            parts.append(counts / max(1, counts.sum()))
        left.append(np.concatenate(parts))
        code = np.array([letters.find(c) for c in protein.sequence])
        pairs = np.zeros((20, 20))
        known = (code[:-1] >= 0) & (code[1:] >= 0)
        np.add.at(pairs, (code[:-1][known], code[1:][known]), 1)
        right.append(np.sqrt(pairs / max(1, pairs.sum())).ravel())
    return np.array(left), np.array(right), [str(code) for code in corpus.codes]


def from_files(left: Path, right: Path) -> tuple[Rows, Rows, list[str]]:
    """Rows of the ids that both files have; each id is a group of its own."""
    from protclip.data.files.vector_file import VectorFile

    with VectorFile.open(left) as first, VectorFile.open(right) as second:
        known = set(second.ids)
        ids = [id for id in first.ids if id in known]
        return first[ids].astype(np.float64), second[ids].astype(np.float64), ids


class Task(NamedTuple):
    """Rows of both sides (the pairs first), the number of pairs, and matched held-out rows."""

    x: Rows
    y: Rows
    pairs: int
    test: tuple[Rows, Rows]


def drawn(x: Rows, y: Rows, groups: list[str], fraction: float, pools: str, seed: int) -> Task:
    """A division of matched rows by group."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(sorted(set(groups)))
    held = set(order[: len(order) // 3])
    test = np.array([group in held for group in groups])
    train = rng.permutation(np.flatnonzero(~test))
    count = max(4, round(fraction * len(train)))
    paired, free = train[:count], train[count:]
    left, right = (free, rng.permutation(free)) if pools == "shuffled" else (free[::2], free[1::2])
    rows = x[np.concatenate([paired, left])], y[np.concatenate([paired, right])]
    return Task(*rows, count, (x[test], y[test]))


def of_run(folder: Path, pools: str) -> Task:
    """The split of a run, over the features of its towers."""
    import dataclasses

    import torch

    from protclip.config.pretraining import PretrainConfig
    from protclip.inference.encode import encode
    from protclip.model.two_tower import TwoTower

    config = PretrainConfig.load(folder / "config.toml")
    split = dataclasses.replace(config.data, pools=pools)
    data = config.source.open().setup(split, seed=config.train.seed)
    model, _ = TwoTower.load(folder, "cpu")
    rows = [
        encode(tower, side.items, tower.encoder, device=torch.device("cpu")).astype(float)
        for tower, side in zip(model.sides.values(), data.sides, strict=True)
    ]
    train = [own[data.training_items(number)] for number, own in enumerate(rows)]
    test = rows[0][data.test.rows[:, 0]], rows[1][data.test.rows[:, 1]]
    return Task(train[0], train[1], len(data.pairs), test)


def evaluate(name: str, task: Task) -> tuple[float, float, float]:
    """R@10, median rank and seconds of one fit."""
    begin = time.perf_counter()
    model = make_alignment(name).fit(task.x, task.y, np.stack([np.arange(task.pairs)] * 2, 1))
    seconds = time.perf_counter() - begin
    scores = score_retrieval(model.transform_left(task.test[0]), model.transform_right(task.test[1]))
    both = (scores.forward, scores.backward)
    recall = float(np.mean([way.recall(10) for way in both]))
    return recall, float(np.mean([way.median_rank for way in both])), seconds


def table(head: str, tasks: list[Task], methods: list[str], pools: str) -> None:
    """Print one line for each method: mean and standard deviation over the tasks."""
    baseline = None
    for name in sorted(methods, key=lambda name: name != "cca"):
        found = np.array([evaluate(name, task) for task in tasks])
        recall, rank, seconds = found.mean(0)
        spread = found.std(0, ddof=1) if len(found) > 1 else np.zeros(3)
        baseline = recall if name == "cca" else baseline
        ratio = f"{recall / baseline:.2f}" if baseline else ""
        cells = [
            head,
            pools,
            name,
            f"{100 * recall:.1f} ± {100 * spread[0]:.1f}",
            f"{rank:.0f} ± {spread[1]:.0f}",
        ]
        print("| " + " | ".join([*cells, ratio, f"{seconds:.1f}"]) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="two HDF5 files of embeddings")
    parser.add_argument("--runs", nargs="+", type=Path, help="run folders of one arm, one for each seed")
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.1, 0.5])
    parser.add_argument("--pools", nargs="+", default=["shuffled", "disjoint"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if len(options.files) not in (0, 2) or (options.files and options.runs):
        parser.error("give two files, or --runs, or nothing for the shipped corpus")
    head = "| pairs | pools | method | R@10 % | median rank | R@10 / CCA | seconds |\n" + "|---" * 7 + "|"
    if options.runs:
        print(f"features of {', '.join(map(str, options.runs))}\n\n{head}")
        for pools in options.pools:
            tasks = [of_run(folder, pools) for folder in options.runs]
            table(str(tasks[0].pairs), tasks, options.methods, pools)
        return
    x, y, groups = from_files(*options.files) if options.files else shipped()
    print(f"{len(x)} items of {len(set(groups))} groups; {x.shape[1]} and {y.shape[1]} features\n\n{head}")
    for fraction in options.fractions:
        for pools in options.pools:
            tasks = [drawn(x, y, groups, fraction, pools, seed) for seed in range(options.repeats)]
            table(f"{fraction:.0%}", tasks, options.methods, pools)


if __name__ == "__main__":
    main()
