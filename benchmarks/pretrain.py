"""A pretraining step, frozen ESM-2 features cached: waiting for the loader, building graphs, computing.

    python benchmarks/pretrain.py [--size small] [--batch-size 32] [--steps 12] [--workers 1] [--device cpu]

The whole `Loop` runs on the shipped corpus with the default objective. Waiting is the time in which the loop
has no batch; the parts are timed alone, in turns: making a step's batch (graphs of all levels, augmented
views), building the graphs alone, and forward plus backward of the structure tower on one batch. On CUDA the
driver says how busy the GPU is and how much memory is used, over the steps that count.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from gpu_use import GPUUse
from report import Report, take_turns

from protclip.config.presets import loss_preset
from protclip.config.pretraining import TrainConfig
from protclip.data.corpus.build import cached_corpus, sample_corpus_dir
from protclip.data.corpus.store import Corpus
from protclip.inference.cache import frozen_features
from protclip.losses import Objective
from protclip.modalities.sequence.adapter import SequenceModality
from protclip.modalities.structure import StructureModality
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import Side
from protclip.structure.encoders.encoder import CDConvConfig
from protclip.structure.encoders.graph import collate_structures
from protclip.training.batches import StepDataset
from protclip.training.contrast import Contrast
from protclip.training.loop import Loop, Schedule, Validation
from protclip.training.running import make_fabric
from protclip.training.sampler import PairedUnpairedSampler


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="small")
    parser.add_argument("--sequence", default="scratch")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("pretrain", options.json, device=options.device)
    torch.manual_seed(0)
    corpus = Corpus.open(cached_corpus(sample_corpus_dir()))
    proteins = corpus.proteins(range(len(corpus)))
    structure = StructureModality(CDConvConfig.sized(options.size))
    sequence = SequenceModality.create(options.sequence, init="random", tune="frozen")
    sequence.frozen = True
    features = torch.from_numpy(
        frozen_features(sequence, corpus.ids, corpus.sequences(), device=options.device)
    )
    half = len(proteins) // 2
    pairs = np.stack([np.arange(half), np.arange(half)], 1)
    free = np.arange(half, len(proteins))
    model = TwoTower(structure, sequence, dim=256)
    sequence.encoder.requires_grad_(False)
    sides = [Side(structure, proteins, free), Side(sequence, corpus.sequences(), free, features)]
    sampler = PairedUnpairedSampler(pairs, [free, free], batch_size=options.batch_size, seed=0)
    dataset = StepDataset(sampler, sides, views=True, micro_batch_size=None)
    config = TrainConfig(device=options.device, batch_size=options.batch_size, workers=options.workers)
    fabric = make_fabric(
        device=options.device, devices=1, num_nodes=1, precision="auto", batch_size=options.batch_size
    )

    waits: list[float] = []
    steps: list[float] = []

    def note(step: int, row: dict[str, float]) -> None:
        waits.append(loop.progress.waiting_seconds)
        steps.append(time.perf_counter())

    use = GPUUse() if options.device.startswith("cuda") else None
    with tempfile.TemporaryDirectory() as folder, use or nullcontext():
        contrast = Contrast(
            fabric,
            model,
            Objective(loss_preset("default")),
            config,
            steps=options.steps,
            validate=lambda model: Validation((0.0,), {}),
        )
        schedule = Schedule(options.steps, options.steps, workers=options.workers)
        loop = Loop(fabric, contrast, dataset, schedule, folder=Path(folder), on_step=note)
        loop.run(resume=False)
    # The first steps start the workers and fill the queue.
    skip = max(2, options.steps // 10)
    total = steps[-1] - steps[skip]
    waited = waits[-1] - waits[skip]
    count = len(steps) - 1 - skip
    rate = count * 2 * options.batch_size / total
    report.say(
        f"CDConv {options.size}, ESM-2 {options.sequence} cached, batch {options.batch_size} a side "
        f"with views, {options.workers} loaders; {options.device}, {torch.get_num_threads()} threads."
    )

    if use is not None:
        busy, used, readings = use.between(steps[skip], steps[-1])
        if readings:
            share = f"{100 * busy:.0f} % of the time ({readings} readings)"
            report.say(f"The GPU was busy {share}, {used:.0f} MB in use.")
        else:
            report.say(f"How busy the GPU was could not be read: {use.error or 'the run was too short'}.")

    structures = [proteins[i % len(proteins)] for i in range(options.batch_size)]
    batch = structure.collate(structures).to(options.device)
    encoder = structure.encoder.to(options.device).train()

    def compute() -> None:
        out = encoder(batch)
        out.square().mean().backward()
        if options.device.startswith("cuda"):
            torch.cuda.synchronize()

    numbers = iter(range(10**6))
    arms = {
        "one batch of the loader, views included": lambda: dataset[next(numbers)],
        "graphs of one batch, all levels": lambda: collate_structures(structures),
        "structure tower, forward and backward, one batch": compute,
    }
    times = {name: statistics.median(t) for name, t in take_turns(arms, options.rounds).items()}
    tower = times["structure tower, forward and backward, one batch"]
    rows = [
        ["whole step", f"{1e3 * total / count:.1f}", "100 %"],
        ["of it waiting for the loader", f"{1e3 * waited / count:.2f}", f"{100 * waited / total:.2f} %"],
    ]
    rows += [[name, f"{1e3 * t:.1f}", f"{100 * t * count / total:.1f} %"] for name, t in times.items()]
    report.table(["part", "ms", "of the step"], rows)
    graph = times["graphs of one batch, all levels"]
    share = 100 * graph / tower
    report.say(f"{rate:.1f} domains and sequences a second; graphs are {share:.1f} % of the tower's step.")
    report.figures = {"wait share": waited / total, "items/s": rate, "graph share": graph / tower}
    if use is not None and readings:
        report.figures |= {"busy share": busy, "memory MB": used, "busy readings": readings}
    report.finish()


if __name__ == "__main__":
    main()
