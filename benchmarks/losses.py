"""The set losses: ours against one row at a time, and against naive broadcasting.

    python benchmarks/losses.py [--rows 4096] [--dimensions 256] [--subset 32] [--device cpu]

- loop: for every row a difference to every other row, the published way of writing the densities; kernels,
  densities and logits row by row. Timed on the first `--subset` rows, forward and backward, and multiplied by
  rows / subset: an extrapolation, as its time per row does not depend on the number of rows done and its
  saved differences of all rows would not fit in memory.
- broadcast: all differences at once, rows x rows x dimensions, the plain formulas. Measured at
  `--broadcast-rows`, beside ours at the same size; at the full size it would need the memory that
  the table states.
- products: no loss, only the dense products that the plain formulas need: a matrix of rows x rows for each
  pair of sets, and two products for its gradient. A loop cannot be beaten by more than this bound allows.
- Equal values and gradients of all forms are checked first, on few rows in float64.

Peak memory is the growth of the resident set of a fresh process over one forward and backward (on CUDA: of
allocated memory, in one process); 0 where memory freed by the warm-up was enough. Run with OMP_NUM_THREADS=1
and --threads 1 on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from report import Report
from torch import Tensor

from protclip.config.loss import LossConfig
from protclip.config.presets import loss_preset
from protclip.losses import MKMMD, SDD, clip_loss
from protclip.losses.mmd import median_squared_distance

Form = Callable[[Tensor, Tensor], Tensor]
LOSSES = ("sdd", "mmd", "clip")
SCALE = 14.0
CONFIG: LossConfig = loss_preset("default")


def make_rows(count: int, dimensions: int, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two sets of random unit rows that differ a little."""
    generator = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, count, dimensions, generator=generator)
    sides = (u, v + 0.5 * u + 0.2)
    rows = [torch.nn.functional.normalize(side, dim=1).to(device, dtype).requires_grad_() for side in sides]
    return rows[0], rows[1]


def ours(name: str, block_size: int = 0) -> Form:
    """The losses of the package."""
    if name == "sdd":
        sdd = SDD(block_size=block_size)
        return lambda u, v: sdd(u, v)
    if name == "mmd":
        mmd = MKMMD(
            bandwidths=CONFIG.mmd_bandwidths,
            bandwidth_mode=CONFIG.mmd_bandwidth_mode,
            degrees=CONFIG.mmd_degrees,
            block_size=block_size,
        )
        return lambda u, v: mmd(u, v)
    return lambda u, v: clip_loss(u, v, SCALE, len(u), block_size=block_size)


def variance(rows: Tensor) -> Tensor:
    return (rows - rows.mean(0)).square().sum() / (len(rows) - 1)


def kernels(distances: Tensor, products: Tensor, unit: Tensor) -> Tensor:
    """Mean over the base kernels."""
    gaussian = [(-distances / (unit * b)).exp() for b in CONFIG.mmd_bandwidths]
    polynomial = [((products + 1) / 2) ** p for p in CONFIG.mmd_degrees]
    return torch.stack(gaussian + polynomial).mean(0)


def loop(name: str, subset: int) -> Form:
    """One row at a time, over the first `subset` rows of every sum."""

    def sdd(u: Tensor, v: Tensor) -> Tensor:
        sigma = {id(s): variance(s) for s in (u, v)}
        terms = []
        for a, b in ((u, v), (v, u)):
            for i in range(min(subset, len(a))):
                p, q = ((-(a[i] - s).square().sum(1) / sigma[id(s)]).exp().mean() for s in (a, b))
                terms.append((p - q) * (p.log() - q.log()))
        return torch.stack(terms).sum() / len(u)

    def mmd(u: Tensor, v: Tensor) -> Tensor:
        unit = median_squared_distance(u, v)
        terms = []
        for a, b, factor in ((u, u, 1), (v, v, 1), (u, v, -2)):
            for i in range(min(subset, len(a))):
                row = kernels((a[i] - b).square().sum(1), (a[i] * b).sum(1), unit)
                terms.append(factor * row.mean())
        return torch.stack(terms).sum() / len(u)

    def clip(u: Tensor, v: Tensor) -> Tensor:
        terms = []
        for a, b in ((u, v), (v, u)):
            for i in range(min(subset, len(a))):
                row = SCALE * (a[i] * b).sum(1)
                terms.append(row.logsumexp(0) - row[i])
        return torch.stack(terms).sum() / (2 * len(u))

    return {"sdd": sdd, "mmd": mmd, "clip": clip}[name]


def broadcast(name: str) -> Form:
    """All differences at once."""

    def distances(a: Tensor, b: Tensor) -> Tensor:
        return (a[:, None] - b[None]).square().sum(2)

    def sdd(u: Tensor, v: Tensor) -> Tensor:
        total = u.new_zeros(())
        for a, b in ((u, v), (v, u)):
            p, q = ((-distances(a, s) / variance(s)).exp().mean(1) for s in (a, b))
            total = total + ((p - q) * (p.log() - q.log())).mean()
        return total

    def mmd(u: Tensor, v: Tensor) -> Tensor:
        unit = median_squared_distance(u, v)
        pairs = ((u, u, 1), (v, v, 1), (u, v, -2))
        return torch.stack([f * kernels(distances(a, b), a @ b.T, unit).mean() for a, b, f in pairs]).sum()

    def clip(u: Tensor, v: Tensor) -> Tensor:
        logits = SCALE * u @ v.T
        target = torch.arange(len(u), device=u.device)
        cross_entropy = torch.nn.functional.cross_entropy
        return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2

    return {"sdd": sdd, "mmd": mmd, "clip": clip}[name]


def products(name: str) -> Form:
    """The dense products alone, forward and backward."""

    def run(u: Tensor, v: Tensor) -> Tensor:
        pairs = [(u, v)] if name == "clip" else [(u, u), (v, v), (u, v)]
        return torch.stack([(a @ b.T).sum() for a, b in pairs]).sum()

    return run


def make_form(form: str, name: str, options: argparse.Namespace) -> Form:
    if form == "loop":
        return loop(name, options.subset)
    if form == "products":
        return products(name)
    return broadcast(name) if form == "broadcast" else ours(name, 0 if form == "ours" else int(form))


def check_equal() -> None:
    """Values and gradients of all forms on few rows."""
    for name in LOSSES:
        u, v = make_rows(48, 16, "cpu", torch.float64)
        results = []
        for form in (ours(name), ours(name, 7), loop(name, 48), broadcast(name)):
            value = form(u, v)
            results.append((value, *torch.autograd.grad(value, (u, v))))
        for other in results[1:]:
            torch.testing.assert_close(other, results[0], rtol=1e-8, atol=1e-11)


def seconds(form: Form, u: Tensor, v: Tensor, repeats: int) -> float:
    """Best of `repeats` forward and backward passes, after one that is not counted.

    With one thread on the CPU it is processor time, which other work on the machine disturbs little.
    """
    clock = time.process_time if torch.get_num_threads() == 1 and not u.is_cuda else time.perf_counter
    times = []
    for _ in range(repeats + 1):
        u.grad = v.grad = None
        if u.is_cuda:
            torch.cuda.synchronize()
        start = clock()
        form(u, v).backward()  # type: ignore[no-untyped-call]
        if u.is_cuda:
            torch.cuda.synchronize()
        times.append(clock() - start)
    return min(times[1:])


def measure_here(form: str, name: str, rows: int, options: argparse.Namespace) -> dict[str, float]:
    """Time and peak memory in this process."""
    dtype = getattr(torch, options.dtype)
    # Warm up on few rows: threads, code and allocator are there before memory is looked at.
    make_form(form, name, options)(*make_rows(64, options.dimensions, options.device, dtype)).backward()  # type: ignore[no-untyped-call]
    u, v = make_rows(rows, options.dimensions, options.device, dtype)
    run = make_form(form, name, options)
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    run(u, v).backward()  # type: ignore[no-untyped-call]
    after = (
        torch.cuda.max_memory_allocated()
        if options.device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return {"seconds": seconds(run, u, v, options.repeats), "bytes": float(after - before)}


def measure(form: str, name: str, rows: int, options: argparse.Namespace) -> dict[str, float]:
    """The same in a fresh process, whose peak memory is its own; on CUDA the allocator tells it."""
    if options.device == "cuda":
        return measure_here(form, name, rows, options)
    command = [sys.executable, __file__, "--child", form, name, str(rows)]
    for key in ("dimensions", "subset", "device", "dtype", "threads", "repeats"):
        command += [f"--{key}", str(getattr(options, key))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    found: dict[str, float] = json.loads(result.stdout)
    return found


def main() -> None:
    """Print what was run, then the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--subset", type=int, default=32)
    parser.add_argument("--broadcast-rows", type=int, default=768)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        form, name, rows = options.child
        print(json.dumps(measure_here(form, name, int(rows), options)))
        return

    check_equal()
    gpu = options.device == "cuda"
    clock = "processor" if options.threads == 1 and not gpu else "wall"
    report = Report("losses", options.json, device=options.device)
    report.say(
        f"Forward and backward, {options.dimensions} dimensions, {options.dtype}, {options.device}, "
        f"{options.threads} threads, {clock} time; {len(CONFIG.mmd_bandwidths)} Gaussian and "
        f"{len(CONFIG.mmd_degrees)} polynomial kernels, all rows paired."
    )
    n, small = options.rows, options.broadcast_rows
    whole = str(n)
    runs = [("ours", n), (whole, n), ("products", n), ("loop", n), ("ours", small), ("broadcast", small)]
    table = {(f, r, name): measure(f, name, r, options) for f, r in runs for name in LOSSES}
    for name in LOSSES:
        table["loop", n, name]["seconds"] *= n / min(n, options.subset)

    def cells(form: str, rows: int) -> tuple[list[float], list[float]]:
        found = [table[form, rows, name] for name in LOSSES]
        times = [f["seconds"] for f in found]
        return [*times, sum(times)], [*(f["bytes"] for f in found), max(f["bytes"] for f in found)]

    lines: list[list[str]] = []
    for label, form, rows in (
        (f"ours, N = {n}", "ours", n),
        (f"ours, N = {n}, one block", whole, n),
        (f"dense products alone, N = {n}", "products", n),
        (f"loop, N = {n} (from {options.subset} rows)", "loop", n),
        (f"ours, N = {small}", "ours", small),
        (f"naive broadcast, N = {small}", "broadcast", small),
    ):
        times, sizes = cells(form, rows)
        memory = ["" if form == "loop" else f" ({b / 1e6:.0f} MB)" for b in sizes]
        lines.append([label, *(f"{t:.3f} s{m}" for t, m in zip(times, memory, strict=True))])
        report.figures[label] = {"seconds": times, "bytes": sizes}
    mine, _ = cells("ours", n)
    theirs, _ = cells("loop", n)
    lines.append(["loop / ours", *(f"{b / a:.0f}x" for a, b in zip(mine, theirs, strict=True))])
    bound, _ = cells("products", n)
    lines.append(["loop / dense products", *(f"{b / a:.0f}x" for a, b in zip(bound, theirs, strict=True))])
    mine, _ = cells("ours", small)
    theirs, large = cells("broadcast", small)
    lines.append(["broadcast / ours", *(f"{b / a:.1f}x" for a, b in zip(mine, theirs, strict=True))])
    full = [f"{b * (n / small) ** 2 / 1e9:.0f} GB" for b in large]
    lines.append([f"broadcast at N = {n} would need", *full])
    growth = math.log(cells("ours", n)[0][3] / cells("ours", small)[0][3]) / math.log(n / small)
    report.say(f"Time grows as N^{growth:.2f} between {small} and {n} rows.")
    report.table(["", "SDD", "MMD", "contrastive", "all"], lines)
    report.finish()


if __name__ == "__main__":
    main()
