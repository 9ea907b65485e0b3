"""How time and peak memory grow: protein length, batch size, edges, rows of the losses, size of the corpus.

    python benchmarks/growth.py [--quick] [--device cpu] [--plot FILE] [--json FILE]

Every point is measured in a process of its own: best time of a few runs, and the most memory that one run
adds. The exponent is the slope of log time (memory) over log size through the larger half of the points.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import DOMPDB, Report, exponent, in_new_process, many_domains, peak_growth, status

from protclip.structure import Protein, collate_structures, read_structure
from protclip.structure.encoders.encoder import CDConvConfig, CDConvEncoder

SUBJECTS = {
    "structure tower, length": (50, 100, 200, 400, 800, 1400, 2000),
    "structure tower, batch": (1, 2, 4, 8, 16, 32, 64),
    "structure tower, edges": (6, 8, 10, 12, 14, 16),
    "graphs, length": (50, 100, 200, 400, 800, 1400, 2000),
    "sequence tower, length": (50, 100, 200, 400, 800, 1400, 2000),
    "sequence tower, batch": (1, 2, 4, 8, 16, 32, 64),
    "losses, rows": (256, 512, 1024, 2048, 4096),
    "retrieval metrics, rows": (512, 1024, 2048, 4096),
    "corpus build, files": (100, 200, 400, 800, 1600),
    "corpus opened and read once, proteins": (100, 200, 400, 800, 1600),
}
UNITS = {
    "length": "residues",
    "batch": "proteins",
    "edges": "edges",
    "rows": "rows",
    "files": "files",
    "proteins": "proteins",
}


def chain(length: int, seed: int = 0) -> Protein:
    """A compact chain as long as wanted, of the shipped domains laid side by side."""
    rng = np.random.default_rng(seed)
    files = rng.permutation(sorted(str(path) for path in DOMPDB.iterdir()))
    parts, letters, total = [], [], 0
    for k, path in enumerate(files):
        domain = read_structure(path)
        ca = domain.ca[domain.has_ca]
        # On a grid of 45 A, so that density stays that of proteins, not of overlapping domains.
        parts.append(ca - ca.mean(0) + 45.0 * np.array([k % 3, k // 3 % 3, k // 9]))
        letters.append(np.array(list(domain.sequence))[domain.has_ca])
        total += len(ca)
        if total >= length:
            break
    return Protein.from_ca(
        f"c{seed}", "".join(np.concatenate(letters)[:length]), np.concatenate(parts)[:length]
    )


def job(subject: str, size: int, device: str) -> tuple[Callable[[], Any], float]:
    """What to run for one point, and the size that it really has."""
    part, _, by = subject.rpartition(", ")
    torch.manual_seed(0)
    if part in ("structure tower", "graphs"):
        count = size if by == "batch" else 4 if by == "edges" else 1
        proteins = [chain(size if by == "length" else 150, seed) for seed in range(count)]
        radii = [size * r for r in (1.0, 1.5, 2.0, 2.5)] if by == "edges" else (8.0, 12.0, 16.0, 20.0)
        if part == "graphs":
            return lambda: collate_structures(proteins), size
        config = dataclasses.replace(CDConvConfig.sized("small"), radii=tuple(radii))
        encoder = CDConvEncoder(config).to(device).train()
        batch = collate_structures(proteins, radii=radii).to(device)
        edges = sum(int(level.neighbours.real.sum()) for level in batch.levels)

        def step() -> None:
            encoder(batch).square().mean().backward()
            encoder.zero_grad()

        return step, edges if by == "edges" else size
    if part == "sequence tower":
        from protclip.modalities.sequence.adapter import SequenceModality

        side = SequenceModality.create("scratch", init="random", tune="frozen")
        side.encoder.to(device).eval()
        count, length = (size, 150) if by == "batch" else (1, size)
        letters = np.random.default_rng(0).choice(list("ACDEFGHIKLMNPQRSTVWY"), (count, length))
        items = ["".join(row) for row in letters]
        tokens = side.collate(items).to(device)

        def embed() -> None:
            with torch.inference_mode():
                side.encoder(tokens)

        return embed, size
    if part in ("losses", "retrieval metrics"):
        rows = torch.nn.functional.normalize(torch.randn(2, size, 128), dim=2).to(device)
        if part == "retrieval metrics":
            from protclip.scoring.retrieval import retrieval_metrics

            u, v = rows.cpu().numpy()
            return lambda: retrieval_metrics(u, v), size
        from protclip.config.presets import loss_preset
        from protclip.losses import Objective, Views

        objective = Objective(loss_preset("default"))

        def losses() -> None:
            u, v = rows.clone().requires_grad_()
            views = Views(u, v, u.flip(0), v.flip(0), n_pairs=size // 2, scale=torch.tensor(14.0))
            objective(views)["loss"].backward()

        return losses, size
    from protclip.data.corpus.build import build_corpus
    from protclip.data.corpus.store import Corpus

    home = Path(tempfile.mkdtemp())
    folder = many_domains(home / "files", size)
    if part == "corpus build":
        return lambda: build_corpus(folder, home / f"{time.monotonic_ns()}.h5", workers=1), size
    build_corpus(folder, home / "corpus.h5", workers=1)

    def read() -> None:
        with Corpus.open(home / "corpus.h5") as corpus:
            for _ in corpus:
                pass

    return read, size


def point(subject: str, size: str, device: str, threads: str) -> None:
    """Measure one point in this process."""
    torch.set_num_threads(int(threads))
    run, real = job(subject, int(size), device)
    cuda = device.startswith("cuda")
    if cuda:
        run()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        memory = torch.cuda.max_memory_allocated() - before
    else:
        memory = peak_growth(run)
    times = []
    while len(times) < 3 or (sum(times) < 0.5 and len(times) < 30):
        start = time.perf_counter() if cuda else time.process_time()
        run()
        if cuda:
            torch.cuda.synchronize()
        times.append((time.perf_counter() if cuda else time.process_time()) - start)
    print(json.dumps({"size": real, "seconds": min(times), "bytes": memory, "resident": status("VmRSS")}))


def plot(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """One panel for each subject, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    columns = 5
    rows = -(-len(found) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.2 * columns, 2.7 * rows), squeeze=False)
    for axis, (subject, points) in zip(axes.flat, found.items(), strict=False):
        sizes = [p["size"] for p in points]
        axis.loglog(sizes, [1000 * p["seconds"] for p in points], "o-", color="C0", markersize=3)
        axis.set_title(subject, fontsize=8)
        axis.set_ylabel("ms", color="C0", fontsize=7)
        twin = axis.twinx()
        twin.loglog(sizes, [max(p["bytes"], 1e5) / 2**20 for p in points], "s--", color="C1", markersize=3)
        twin.set_ylabel("peak MB", color="C1", fontsize=7)
        axis.set_xlabel(UNITS[subject.rpartition(", ")[2]], fontsize=7)
        for each in (axis, twin):
            low, high = each.get_ylim()
            # A decade and a half at least, so that what hardly grows looks flat.
            spread = max(1.0, 10**1.5 * low / high) ** 0.5
            each.set_ylim(low / spread, high * spread)
            each.tick_params(labelsize=6)
        for scale in (axis.xaxis, axis.yaxis, twin.yaxis):
            low, high = scale.get_view_interval()
            marks = (1.0,) if high > 100 * low else (1.0, 2.0, 5.0)
            scale.set_major_locator(LogLocator(subs=marks))
            scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            scale.set_minor_formatter(NullFormatter())
    for axis in axes.flat[len(found) :]:
        axis.axis("off")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, plot and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="every other point")
    parser.add_argument("--only", help="subjects that contain this")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=4)
    options = parser.parse_args()
    if options.child:
        point(*options.child)
        return
    report = Report("growth", options.json, device=options.device)
    found: dict[str, list[dict[str, float]]] = {}
    for subject, sizes in SUBJECTS.items():
        if options.only and options.only not in subject:
            continue
        for size in sizes[:: 2 if options.quick else 1]:
            result = in_new_process(__file__, subject, size, options.device, options.threads)
            found.setdefault(subject, []).append(result)
    rows = []
    for subject, points in found.items():
        sizes = [p["size"] for p in points]
        in_time = exponent(sizes, [p["seconds"] for p in points])
        in_memory = exponent(sizes, [max(p["bytes"], 1e5) for p in points])
        last = points[-1]
        rows.append(
            [
                subject,
                f"{sizes[0]:,.0f} to {sizes[-1]:,.0f}",
                f"{1e3 * points[0]['seconds']:.1f} to {1e3 * last['seconds']:.1f}",
                f"{in_time:.2f}",
                f"{last['bytes'] / 2**20:.0f}",
                f"{in_memory:.2f}",
            ]
        )
        report.figures[subject] = {"points": points, "time": in_time, "memory": in_memory}
    clock = "wall time" if options.device.startswith("cuda") else "processor time"
    report.say(f"{clock.capitalize()}, {options.threads} thread.")
    head = ["subject", "from", "ms", "time grows as size^", "peak MB at the end", "memory grows as size^"]
    report.table(head, rows)
    if options.plot:
        plot(found, options.plot)
    report.finish()


if __name__ == "__main__":
    main()
