"""ESM-2 embedding: ours against fair-esm's forward on the real length mix of the shipped corpus.

    python benchmarks/esm2.py [--sizes 8M 35M 150M] [--repeats 3] [--device cpu] [--threads 2]

- file order: fair-esm's converter and forward, ``--peer-batch`` sequences at a time as the file has them.
- sorted: the same, with fair-esm's own sorted batches of ``toks_per_batch`` tokens (its best use).
- ours: packed tokens, sorted token budget, mean pooling; fp32 and bf16 autocast.

All give one mean vector per sequence, from random weights: speed does not depend on their values. The
vectors are compared first. Every repeat runs all forms one after the other, so that a busy machine slows all
of them; the table has the median seconds and the median of the ratios of one repeat.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import esm
import numpy as np
import torch
from report import Report

from protclip.modalities.base import CUDA_BATCH, budget_batches
from protclip.modalities.sequence.adapter import SequenceModality
from protclip.modalities.sequence.esm2 import SHAPES, empty_esm2, esm2_name
from protclip.modalities.sequence.esm_weights import Provenance
from protclip.structure.reading.read import read_structure
from protclip.typing import Vectors

CATH = Path(__file__).parents[1] / "data" / "cath" / "dompdb"


def peer(net: Any, sequences: list[str], batches: Iterable[list[int]], device: torch.device) -> Vectors:
    """Mean residue vectors by fair-esm."""
    convert = net.alphabet.get_batch_converter()
    out = np.empty((len(sequences), net.embed_dim), np.float32)
    for index in batches:
        _, _, tokens = convert([("", sequences[i]) for i in index])
        rows = net(tokens.to(device), repr_layers=[net.num_layers])["representations"][net.num_layers]
        means = [row[1 : 1 + len(sequences[i])].mean(0) for i, row in zip(index, rows.float(), strict=True)]
        out[index] = torch.stack(means).cpu()  # one copy a batch, as ours
    return out


def ours(side: SequenceModality, sequences: list[str], device: torch.device, half: bool) -> Vectors:
    """Mean residue vectors by protclip."""
    out = np.empty((len(sequences), side.encoder.out_dim), np.float32)
    budget = side.budget * (CUDA_BATCH if device.type == "cuda" else 1)
    for index in budget_batches([side.cost(s) for s in sequences], budget):
        batch = side.collate([sequences[i] for i in index]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            out[index] = side.encoder(batch).cpu().numpy()
    return out


def make(name: str, device: torch.device) -> tuple[Any, SequenceModality]:
    """fair-esm's network and ours with the same random weights."""
    shape = SHAPES[name]
    torch.manual_seed(0)
    theirs = esm.ESM2(shape.layers, shape.width, shape.heads).eval().to(device)
    net = empty_esm2(shape)
    own = net.state_dict()
    weights = {key: value for key, value in theirs.state_dict().items() if key in own}
    net.load_state_dict({**weights, "inv_freq": theirs.layers[0].self_attn.rot_emb.inv_freq})
    side = SequenceModality(net, Provenance("random", name, "seed 0"), tune="frozen")
    side.encoder.to(device).eval()
    return theirs, side


@torch.inference_mode()
def measure(name: str, sequences: list[str], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Median seconds of each form, and ratios to fair-esm in file order."""
    device = torch.device(args.device)
    theirs, side = make(name, device)
    n = len(sequences)
    in_order = [list(range(i, min(i + args.peer_batch, n))) for i in range(0, n, args.peer_batch)]
    dataset = esm.data.FastaBatchedDataset([str(i) for i in range(n)], sequences)
    by_size = dataset.get_batch_indices(4096, extra_toks_per_seq=2)
    half = device.type == "cuda"

    def peer_with(batches: list[list[int]], bf16: bool) -> Vectors:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return peer(theirs, sequences, batches, device)

    forms: dict[str, Callable[[], Vectors]] = {
        "fair-esm, file order, fp32": lambda: peer_with(in_order, False)
    }
    if half:
        forms["fair-esm, file order, bf16"] = lambda: peer_with(in_order, True)
    forms |= {
        "fair-esm, sorted, fp32": lambda: peer_with(by_size, False),
        "ours, fp32": lambda: ours(side, sequences, device, False),
        "ours, bf16": lambda: ours(side, sequences, device, True),
    }
    expected = next(iter(forms.values()))()
    errors = {label: float(np.abs(form() - expected).max()) for label, form in forms.items()}
    # With one thread, processor time: other work on the machine disturbs it little.
    clock = time.process_time if args.threads == 1 and not half else time.perf_counter
    times: dict[str, list[float]] = {label: [] for label in forms}
    for _ in range(args.repeats):
        for label, form in forms.items():
            start = clock()
            form()  # ends with a copy to the CPU, so nothing is left running
            times[label].append(clock() - start)
    base = np.array(times["fair-esm, file order, bf16" if half else "fair-esm, file order, fp32"])
    return [
        {
            "size": name,
            "form": label,
            "seconds": float(np.median(spent)),
            "sequences/s": n / float(np.median(spent)),
            "ratio": float(np.median(base / np.array(spent))),
            "largest difference": errors[label],
        }
        for label, spent in times.items()
    ]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["8M"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-batch", type=int, default=16)
    parser.add_argument("--sequences", type=int, default=None, help="repeat or cut the corpus to so many")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    corpus = [read_structure(path).sequence for path in sorted(CATH.iterdir())]
    count = args.sequences or len(corpus)
    sequences = (corpus * (count // len(corpus) + 1))[:count]
    lengths = [len(s) for s in sequences]
    report = Report("esm2", args.json, device=args.device)
    report.say(
        f"{count} sequences, {min(lengths)} to {max(lengths)} residues, mean {np.mean(lengths):.0f}; "
        f"{args.device}, {args.threads} threads."
    )
    cells: list[list[str]] = []
    for size in args.sizes:
        for row in measure(esm2_name(size), sequences, args):
            name = row["size"].split("_")[2] if "_" in row["size"] else row["size"]
            times = [f"{row['seconds']:.2f}", f"{row['sequences/s']:.1f}", f"{row['ratio']:.2f}x"]
            cells.append([name, row["form"], *times, f"{row['largest difference']:.0e}"])
            report.figures[f"{row['size']} {row['form']}"] = row
        report.tables = []
        report.table(["size", "form", "seconds", "sequences/s", "ratio", "largest difference"], cells)
        report.save()
    report.finish()


if __name__ == "__main__":
    main()
