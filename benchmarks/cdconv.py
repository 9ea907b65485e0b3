"""Continuous-discrete convolution: ours against the published formulation and against the floor.

    python benchmarks/cdconv.py [--domains 24] [--repeats 5] [--device cpu] [--dtype float32] [--json FILE]

- published: messages of edges x K x C, a 7 x K weight matrix gathered for every edge, geometry computed by
  every layer, one matmul with W. Same weights and same results as ours (checked first).
- floor: the three dense products with W alone (forward, gradient of its input, gradient of W).

A stage is its two convolutions, with their geometry, forward and backward. The network has everything else
too: normalisation, bottleneck maps, pooling. Forms take turns; with one thread on the CPU it is processor
time, which other work disturbs little. Peak memory is the growth of the resident set of a fresh process
(on CUDA: of allocated memory) over one step of that stage, its weights and their gradients not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import Report
from torch import Tensor, nn

from protclip.structure.encoders.cdconv import KERNEL_SLOPE, CDConv, edge_features
from protclip.structure.encoders.encoder import CDConvConfig, CDConvEncoder
from protclip.structure.encoders.frames import smooth_cutoff
from protclip.structure.encoders.graph import Level, StructureBatch, collate_structures
from protclip.structure.protein import Protein

CATH = Path(__file__).parents[1] / "data" / "cath" / "dompdb"
FORMS = ("published", "ours", "floor")


def read_domains(count: int, seed: int = 0) -> list[Protein]:
    """Domains drawn from the shipped corpus."""
    from protclip.structure.reading.read import read_structure

    files = np.array(sorted(CATH.iterdir()))
    return [read_structure(path) for path in np.random.default_rng(seed).permutation(files)[:count]]


def published(conv: CDConv, x: Tensor, level: Level, radius: float) -> Tensor:
    """The formulas edge by edge."""
    edges = level.neighbours
    target, source = edges.target[edges.real].long(), edges.source[edges.real].long()
    window = len(conv.kernel_weight)
    half = window // 2
    offset = (level.position[source] - level.position[target]).clamp(-half, half)
    difference = level.xyz[source] - level.xyz[target]
    distance = difference.norm(dim=1, keepdim=True)
    direction = torch.nn.functional.normalize(difference, dim=1)
    frame_i, frame_j = level.frame[target], level.frame[source]
    turned = torch.matmul(frame_i, direction[:, :, None])[:, :, 0]
    geometry = torch.cat([turned, (frame_i * frame_j).sum(-1), distance], 1)
    weight, bias = conv.kernel_weight[offset + half], conv.kernel_bias[offset + half]
    kernel = torch.matmul(geometry[:, None], weight)[:, 0] + bias
    kernel = torch.nn.functional.leaky_relu(kernel, KERNEL_SLOPE)
    kernel = kernel * smooth_cutoff(distance, offset.abs()[:, None] / max(half, 1), radius=radius)
    message = (kernel[:, :, None] * x[source][:, None, :]).flatten(1)
    sums = message.new_zeros(len(x), message.shape[1]).index_add_(0, target, message)
    return sums @ conv.weight.to(sums.dtype)


class _Floor(torch.autograd.Function):
    """Products with W on sums that cost nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, sums: Tensor) -> Tensor:
        ctx.save_for_backward(weight, sums)
        return sums @ weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, sums = ctx.saved_tensors
        grad_sums = grad @ weight.t()
        return grad_sums[:, : weight.shape[1]].clone(), sums.t() @ grad, None


def stage_step(
    form: str, convs: Sequence[CDConv], level: Level, radius: float, dtype: torch.dtype
) -> Callable[[], Any]:
    """One forward and backward pass of the convolutions of a stage, in one of the three forms."""
    x0 = torch.randn(len(level.xyz), convs[0].in_channels, device=level.xyz.device, generator=None)
    window = len(convs[0].kernel_weight)
    sums = None
    if form == "floor":
        sums = torch.randn(len(x0), len(convs[0].weight), device=x0.device, dtype=dtype)

    def step() -> Tensor:
        x = x0.clone().requires_grad_()
        with torch.autocast(x0.device.type, dtype, enabled=dtype != torch.float32):
            if form == "ours":
                features = edge_features(level, radius=radius, window=window)
                y = x
                for conv in convs:
                    y = conv(y, features, level.neighbours)
            elif form == "published":
                y = x
                for conv in convs:
                    y = published(conv, y, level, radius)
            else:
                y = x
                for conv in convs:
                    y = _Floor.apply(y, conv.weight.to(dtype), sums)
        y.float().sum().backward()
        return y

    return step


def use_form(form: str, encoder: CDConvEncoder, batch: StructureBatch) -> None:
    """Make the convolutions of the encoder work edge by edge, or as they do."""
    for stage, level, radius in zip(encoder.stages, batch.levels, batch.radii, strict=True):
        for block in stage:
            conv = block.conv
            if form == "published":
                conv.forward = lambda x, f, n, c=conv, lv=level, r=radius: published(c, x, lv, r)
            else:
                conv.__dict__.pop("forward", None)


def network_step(
    form: str, encoder: CDConvEncoder, batch: StructureBatch, dtype: torch.dtype
) -> Callable[[], Any]:
    """One forward and backward pass of the whole encoder in training mode."""

    def step() -> Tensor:
        use_form(form, encoder, batch)
        with torch.autocast(batch.residue_type.device.type, dtype, enabled=dtype != torch.float32):
            y = encoder(batch)
        y.float().square().mean().backward()
        return y

    return step


def seconds(steps: dict[str, Callable[[], Any]], repeats: int, device: str) -> dict[str, float]:
    """Best time of every form, in turns, so that all see the same machine."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    best = dict.fromkeys(steps, float("inf"))
    for turn in range(repeats + 1):
        for form, step in steps.items():
            begin = clock()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                best[form] = min(best[form], clock() - begin)
    return best


def zero_grads(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)


def peak_memory(step: Callable[[], Any], device: str) -> int:
    """Bytes by which one step grows memory. Only meaningful once per process on a CPU."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def make(args: argparse.Namespace) -> tuple[CDConvEncoder, StructureBatch]:
    torch.manual_seed(0)
    encoder = CDConvEncoder(CDConvConfig.sized("published")).to(args.device)
    zero_grads(encoder)
    return encoder, collate_structures(read_domains(args.domains)).to(args.device)


def steps_for(
    part: str, form: str, encoder: CDConvEncoder, batch: StructureBatch, dtype: torch.dtype
) -> Callable[[], Any]:
    if part == "network":
        return network_step(form, encoder, batch, dtype)
    index = int(part)
    stage: Any = encoder.stages[index]
    return stage_step(form, [block.conv for block in stage], batch.levels[index], batch.radii[index], dtype)


def memory_in_new_process(args: argparse.Namespace, part: str, form: str) -> int:
    """``peak_memory`` where nothing else was allocated before."""
    command = [sys.executable, __file__, "--memory-of", f"{part}:{form}", "--device", args.device]
    command += ["--domains", str(args.domains), "--dtype", args.dtype]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def check_equal(encoder: CDConvEncoder, batch: StructureBatch) -> None:
    """The published formulation gives what ours gives."""
    encoder.eval()
    with torch.no_grad():
        use_form("published", encoder, batch)
        theirs = encoder(batch)
        use_form("ours", encoder, batch)
        mine = encoder(batch)
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))
    encoder.train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--domains", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    encoder, batch = make(args)
    if args.memory_of:
        part, form = args.memory_of.split(":")
        print(peak_memory(steps_for(part, form, encoder, batch, dtype), args.device))
        return
    check_equal(encoder, batch)
    proteins = read_domains(args.domains)
    graph = seconds({"graph": lambda: collate_structures(proteins)}, 10, "cpu")["graph"]
    rows: list[tuple[str, dict[str, float], dict[str, int]]] = []
    for part in [*map(str, range(len(batch.levels))), "network"]:
        forms = FORMS if part != "network" else FORMS[:2]
        steps = {form: steps_for(part, form, encoder, batch, dtype) for form in forms}
        times = seconds(steps, args.repeats, args.device)
        if part == "network":
            times["floor"] = sum(row[1]["floor"] for row in rows)
        if args.device == "cuda":  # the allocator tells this step's own
            memory = {form: peak_memory(steps[form], args.device) for form in FORMS[:2]}
        else:
            memory = {form: memory_in_new_process(args, part, form) for form in FORMS[:2]}
        rows.append((part, times, memory))
    report = Report("cdconv" if args.dtype == "float32" else "cdconv-bf16", args.json, device=args.device)
    step = rows[-1][1]["ours"]
    report.say(
        f"{args.domains} domains, {len(batch.residue_type)} residues, {args.dtype} on {args.device}, "
        f"{torch.get_num_threads()} threads. Building the graphs of all levels takes {1e3 * graph:.1f} ms, "
        f"{100 * graph / step:.2f} % of the network's step."
    )
    convs = {form: sum(times[form] for part, times, _ in rows if part != "network") for form in FORMS}
    peak = {form: max(memory[form] for part, _, memory in rows if part != "network") for form in FORMS[:2]}
    rows.insert(-1, ("all convolutions", convs, peak))
    head = ["part", "published ms", "ours ms", "floor ms", "published / ours", "ours / floor"]
    head += ["published MB", "ours MB", "memory ratio"]
    cells = []
    for part, times, memory in rows:
        ms = [f"{1e3 * times[form]:.1f}" for form in FORMS]
        speed = [f"{times['published'] / times['ours']:.1f}x", f"{times['ours'] / times['floor']:.2f}"]
        mb = [f"{memory[form] / 2**20:.0f}" for form in FORMS[:2]]
        name = f"stage {int(part) + 1}" if part.isdigit() else part
        cells.append([name, *ms, *speed, *mb, f"{memory['published'] / memory['ours']:.1f}x"])
        report.figures[name] = {"seconds": times, "bytes": memory}
    report.table(head, cells)
    report.finish()


if __name__ == "__main__":
    main()
