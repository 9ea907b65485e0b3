"""Corpus build: two workers against one, peak memory, and how coordinates are stored.

    python benchmarks/corpus.py [--files 3379] [--rounds 3] [--json FILE]

Files are copies of the shipped domains under CATH names. Wall time of whole builds in fresh processes, one
and two workers in turns. Where other work keeps the cores busy, wall time says little about two workers: the
last column is what their processor time allows on two free cores, everything shared evenly. Memory is the
peak resident set of the parent and of its largest worker. The second table reads the same corpus at random,
in shuffled batches of 128 proteins, from copies with other chunks and integers.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from report import Report, in_new_process, many_domains, take_turns

from protclip.data.corpus.build import build_corpus
from protclip.data.corpus.store import Corpus


def cpu(who: int) -> float:
    """Processor seconds of this process or of its finished children."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def build_here(folder: str, workers: str) -> None:
    """Build in this process and print seconds and peak memory."""
    out = Path(tempfile.mkdtemp()) / "corpus.h5"
    start, before = time.perf_counter(), cpu(resource.RUSAGE_SELF)
    build_corpus(folder, out, workers=int(workers))
    seconds = time.perf_counter() - start
    own, child = (
        resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    shutil.rmtree(out.parent)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "serial": cpu(resource.RUSAGE_SELF) - before,
                "parallel": cpu(resource.RUSAGE_CHILDREN),
                "parent": own,
                "worker": child if int(workers) > 1 else 0,
            }
        )
    )


def rewrite(source: Path, target: Path, chunk: int, kind: str) -> None:
    """The C-alphas of a corpus with other chunks; int16 holds differences to each protein's first C-alpha."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        ca, offset = old["ca"][:].astype(np.int64), old["offset"][:]
        new["offset"] = offset
        if kind == "int16":
            first = ca[offset[:-1]]
            ca = (ca - np.repeat(first, np.diff(offset), 0)) // 10  # hundredths: +-327 Angstrom
            new["first"] = first
        kept = ca.astype(np.int16 if kind == "int16" else np.int32)
        options = {"compression": "gzip", "shuffle": True} if kind == "int32, gzip" else {}
        new.create_dataset("ca", data=kept, chunks=(chunk, 3), fletcher32=True, **options)


def read_batches(path: Path, batches: list[np.ndarray]) -> int:
    """Read the C-alphas of every protein of every batch; gives the number of residues."""
    total = 0
    with h5py.File(path) as file:
        ca, offset = file["ca"], file["offset"][:]
        for batch in batches:
            for i in batch:
                total += len(ca[offset[i] : offset[i + 1]].astype(np.float32))
    return total


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=3379)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2)
    options = parser.parse_args()
    if options.child:
        build_here(*options.child)
        return
    report = Report("corpus", options.json)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        folders = {n: many_domains(home / str(n), n) for n in (options.files // 4, options.files)}
        found: dict[tuple[int, int], list[dict[str, float]]] = {}
        for _ in range(options.rounds):
            for n, folder in folders.items():
                for workers in (1, 2):
                    found.setdefault((n, workers), []).append(in_new_process(__file__, folder, workers))
        rows = []
        for (n, workers), runs in found.items():
            seconds = statistics.median(run["seconds"] for run in runs)
            one = found[n, 1]
            ratio = statistics.median(a["seconds"] / b["seconds"] for a, b in zip(one, runs, strict=True))
            work = [(run["serial"] + run["parallel"]) / workers for run in runs]
            possible = statistics.median(a["serial"] / w for a, w in zip(one, work, strict=True))
            memory = [max(run[who] for run in runs) / 2**20 for who in ("parent", "worker")]
            row = [f"{n:,}", workers, f"{seconds:.2f}", f"{n / seconds:.0f}", f"{ratio:.2f}x"]
            rows.append([*row, f"{possible:.2f}x", *(f"{m:.0f}" for m in memory)])
            facts = {"files/s": n / seconds, "speed": ratio, "possible": possible}
            report.figures[f"{n} files, {workers} workers"] = {**facts, "processor": min(work)}
        report.say(
            f"Copies of the shipped domains, about 1,000 atoms each; median of {options.rounds} rounds."
        )
        head = ["files", "workers", "seconds", "files/s", "wall, against one", "processor time allows"]
        report.table([*head, "parent MB", "worker MB"], rows)

        corpus = home / "corpus.h5"
        build_corpus(folders[options.files], corpus, workers=1)
        with Corpus.open(corpus) as store:
            rng = np.random.default_rng(0)
            batches = np.array_split(rng.permutation(len(store)), max(1, len(store) // 128))
        forms = {"int32, chunks of 4,096 (ours)": (4096, "int32"), "int32, chunks of 512": (512, "int32")}
        forms |= {"int32, chunks of 32,768": (32768, "int32"), "int32, gzip": (4096, "int32, gzip")}
        forms["int16 differences"] = (4096, "int16")
        paths = {}
        for k, (name, (chunk, kind)) in enumerate(forms.items()):
            paths[name] = home / f"{k}.h5"
            rewrite(corpus, paths[name], chunk, kind)
        times = take_turns(
            {name: lambda p=p: read_batches(p, batches) for name, p in paths.items()}, options.rounds
        )
        base = min(times["int32, chunks of 4,096 (ours)"])
        rows = [
            [
                name,
                f"{path.stat().st_size / 2**20:.2f}",
                f"{1e6 * min(times[name]) / options.files:.0f}",
                f"{min(times[name]) / base:.2f}",
            ]
            for name, path in paths.items()
        ]
        report.table(
            ["C-alphas stored as", "MB", "us a protein", "against ours"],
            rows,
            "Random reads of single proteins:",
        )
    report.finish()


if __name__ == "__main__":
    main()
