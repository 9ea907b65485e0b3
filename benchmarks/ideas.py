"""Ideas that were expected to pay, each beside what it would replace, in turns on the same inputs.

    python benchmarks/ideas.py [--domains 16] [--rounds 5] [--device cpu] [--json FILE]

Ratios over one say that the idea is faster than what it is compared with.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import DOMPDB, Report, take_turns
from torch import Tensor

from protclip.modalities.base import budget_batches
from protclip.modalities.sequence.adapter import SequenceModality
from protclip.structure import Protein, collate_structures, read_structure
from protclip.structure.encoders.cdconv import CDConv, edge_features
from protclip.structure.encoders.encoder import CDConvConfig, CDConvEncoder
from protclip.structure.encoders.graph import Level


def kernels(conv: CDConv, level: Level, radius: float) -> Tensor:
    """The kernel of every edge in tile order, [edges, K]."""
    features = edge_features(level, radius=radius, window=len(conv.kernel_weight))
    weight = torch.cat([conv.kernel_weight, conv.kernel_bias[:, None]], 1)
    kernel = torch.bmm(features, weight.index_select(0, level.neighbours.offset))
    return torch.nn.functional.leaky_relu(kernel, 0.2).flatten(0, 1)


def sums_then_w(conv: CDConv, x: Tensor, kernel: Tensor, level: Level) -> Tensor:
    """Neighbour sums [N, K C], then one product with W; autograd keeps the sums."""
    edges = level.neighbours
    slots = kernel.index_select(0, edges.slot_edge)
    parts, first = [], 0
    for nodes, size in edges.buckets:
        where = slice(first, first + nodes * size)
        part = slots[where].view(nodes, size, -1)
        features = x.index_select(0, edges.slot_source[where]).view(nodes, size, -1)
        parts.append(torch.bmm(part.transpose(1, 2), features).flatten(1))
        first += nodes * size
    return torch.cat(parts) @ conv.weight


def w_then_sums(conv: CDConv, x: Tensor, kernel: Tensor, level: Level) -> Tensor:
    """W for every node first, [N, K, D], then weighted sums over the neighbours."""
    edges = level.neighbours
    k = conv.kernel_channels
    weight = conv.weight.view(k, conv.in_channels, -1).transpose(0, 1).reshape(conv.in_channels, -1)
    mapped = (x @ weight).view(len(x), k, -1)
    slots = kernel.index_select(0, edges.slot_edge)
    parts, first = [], 0
    for nodes, size in edges.buckets:
        where = slice(first, first + nodes * size)
        part = slots[where].view(nodes, 1, -1)
        features = mapped.index_select(0, edges.slot_source[where]).view(nodes, size * k, -1)
        parts.append(torch.bmm(part, features)[:, 0])
        first += nodes * size
    return torch.cat(parts)


def step(
    form: Callable[..., Tensor], conv: CDConv, x: Tensor, level: Level, radius: float
) -> Callable[[], Any]:
    """Forward and backward of one convolution in one form."""

    def run() -> None:
        inputs = x.clone().requires_grad_()
        out = form(conv, inputs, kernels(conv, level, radius), level)
        out.sum().backward()
        conv.zero_grad()

    return run


def ours(conv: CDConv, x: Tensor, kernel: Tensor, level: Level) -> Tensor:
    """The operator of the package, geometry included as for the others."""
    features = edge_features(level, radius=conv.radius, window=len(conv.kernel_weight))
    return conv(x, features, level.neighbours)


def ratios(arms: dict[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, float]:
    """Median of (first arm / arm) over the rounds."""
    settle = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    times = take_turns(arms, rounds, clock=clock, settle=settle)
    base = next(iter(times.values()))
    return {
        name: statistics.median(b / t for b, t in zip(base, each, strict=True))
        for name, each in times.items()
    }


def convolution_rows(proteins: list[Protein], options: argparse.Namespace) -> list[list[object]]:
    """Order of the two products, and recomputation, at narrow and wide stages."""
    config = CDConvConfig.sized("published")
    batch = collate_structures(proteins).to(options.device)
    encoder = CDConvEncoder(config).to(options.device)
    rows: list[list[object]] = []
    for number in range(len(batch.levels)):
        level, radius = batch.levels[number], batch.radii[number]
        stage: Any = encoder.stages[number]
        conv = stage[0].conv
        x = torch.randn(len(level.xyz), conv.in_channels, device=options.device)
        reference = sums_then_w(conv, x, kernels(conv, level, radius), level)
        torch.testing.assert_close(
            w_then_sums(conv, x, kernels(conv, level, radius), level), reference, rtol=1e-3, atol=1e-2
        )
        arms = {"ours": step(ours, conv, x, level, radius)}
        arms["kept"] = step(sums_then_w, conv, x, level, radius)
        arms["w first"] = step(w_then_sums, conv, x, level, radius)
        found = ratios(arms, options.rounds, options.device)
        shape = f"stage {number + 1}: {conv.in_channels} to {conv.out_channels} channels"
        rows.append(
            [
                f"W first, then sums over neighbours; {shape}",
                "sums first, then W",
                f"{found['w first'] / found['kept']:.2f}x",
                "refuted" if found["w first"] < found["kept"] else "pays here",
            ]
        )
        kept = len(x) * conv.kernel_channels * conv.in_channels * x.element_size() / 2**20
        memory = f", {kept:.0f} MB not kept"
        rows.append(
            [
                f"recompute the sums in backward; {shape}",
                "keep them",
                f"{1 / found['kept']:.2f}x{memory}",
                "adopted",
            ]
        )
    return rows


def compile_here(size: str, domains: str, rounds: str, device: str) -> None:
    """Time the structure tower eager and compiled in this process."""
    batch = collate_structures(domains_of(int(domains))).to(device)
    encoder = CDConvEncoder(CDConvConfig.sized(size)).to(device).eval()

    def run(net: Any) -> Callable[[], Any]:
        def forward() -> None:
            with torch.no_grad():
                net(batch)

        return forward

    start = time.process_time()
    compiled = torch.compile(encoder)
    run(compiled)()
    spent = time.process_time() - start
    found = ratios({"eager": run(encoder), "compiled": run(compiled)}, int(rounds), device)
    print(json.dumps({"ratio": found["compiled"], "seconds": spent}))


def compile_rows(options: argparse.Namespace) -> list[list[object]]:
    """torch.compile of the structure tower, in a process of its own with a limit."""
    subject = ["torch.compile of the structure tower (tiny), forward, one batch again and again", "eager"]
    arguments = ["tiny", str(options.domains), str(options.rounds), options.device]
    command = [sys.executable, __file__, "--child", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=options.compile_limit, check=True
        )
    except subprocess.TimeoutExpired:
        return [[*subject, f"still compiling after {options.compile_limit} s", "refuted"]]
    except subprocess.CalledProcessError as error:  # it needs a compiler, and much can go wrong in it
        return [[*subject, f"fails: {error.stderr.splitlines()[-1][:80]}", "left out"]]
    found = json.loads(done.stdout.splitlines()[-1])
    # Compiled for the shapes of one batch; every batch of a real run has others.
    verdict = "left out: holds for repeats of one batch only, others are compiled anew"
    return [[*subject, f"{found['ratio']:.2f}x, after {found['seconds']:.0f} s of compiling", verdict]]


def domains_of(count: int) -> list[Protein]:
    """Shipped domains, drawn at random."""
    files = np.random.default_rng(0).permutation(sorted(str(path) for path in DOMPDB.iterdir()))
    return [read_structure(path) for path in files[:count]]


def sequence_rows(proteins: list[Protein], options: argparse.Namespace) -> list[list[object]]:
    """Packing without padding, and batches of like length."""
    side = SequenceModality.create("scratch", init="random", tune="frozen")
    side.encoder.to(options.device).eval()
    rng = np.random.default_rng(0)
    sequences = [p.sequence for p in proteins] * 2
    order = rng.permutation(len(sequences))
    sorted_batches = list(budget_batches([len(s) for s in sequences], 2048))
    random_batches = [list(map(int, part)) for part in np.array_split(order, len(sorted_batches))]

    def embed(batches: list[list[int]], longest: bool) -> Callable[[], Any]:
        def run() -> None:
            with torch.inference_mode():
                for index in batches:
                    chosen = [sequences[i] for i in index]
                    if longest:  # what padding costs: every item as long as the longest
                        size = max(map(len, chosen))
                        chosen = [(s * (size // len(s) + 1))[:size] for s in chosen]
                    side.encoder(side.collate(chosen).to(options.device))

        return run

    arms = {
        "padded, any order": embed(random_batches, True),
        "padded, sorted": embed(sorted_batches, True),
        "packed, any order": embed(random_batches, False),
        "packed, sorted": embed(sorted_batches, False),
    }
    found = ratios(arms, options.rounds, options.device)
    rows = [
        [
            "batches of like length, with padding",
            "any order, with padding",
            f"{found['padded, sorted']:.2f}x",
            "adopted for inference",
        ]
    ]
    rows.append(
        [
            "packed tokens, no padding",
            "any order, with padding",
            f"{found['packed, any order']:.2f}x",
            "adopted",
        ]
    )
    gain = found["packed, sorted"] / found["packed, any order"]
    rows.append(
        [
            "batches of like length, packed tokens",
            "any order, packed tokens",
            f"{gain:.2f}x",
            "not for training: it would tie a step's negatives to one length",
        ]
    )
    return rows


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--domains", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile-limit", type=int, default=300, help="seconds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=4)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.child:
        compile_here(*options.child)
        return
    proteins = domains_of(options.domains)
    report = Report("ideas", options.json, device=options.device)
    rows = [*convolution_rows(proteins, options), *compile_rows(options), *sequence_rows(proteins, options)]
    report.say(f"{len(proteins)} domains; a stage is one convolution of published size, with its backward.")
    report.table(["idea", "against", "speed", "verdict"], rows)
    report.finish()


if __name__ == "__main__":
    main()
