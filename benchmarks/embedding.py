"""Embedding many items: against one at a time, with and without protclip, and peak memory as the input grows.

    python benchmarks/embedding.py [--items 100000] [--rate-items 256] [--alone N] [--device cpu]

Items are made from the shipped domains and all differ: sequences with a twentieth of their residues
exchanged, structures with 0.1 A of noise on every atom. Rates: `AlignedModel.embed` over a list, in turns
with one call for each item, and with what there is without protclip, one item at a time too: the published
formulation of CDConv (messages of edges x K x C), and fair-esm's own converter and forward. These have the
same weights and end in the same head; their vectors are compared first. Memory: what `protclip embed` does
with a FASTA file and a corpus file, in a process of its own for each size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import esm
import numpy as np
import torch
from cdconv import use_form
from numpy.typing import NDArray
from report import DOMPDB, Report, in_new_process, status, take_turns

from protclip.data.corpus.store import write_corpus
from protclip.inference.aligned_model import AlignedModel, load
from protclip.inference.to_file import embed_to_file
from protclip.modalities.sequence.adapter import SequenceModality
from protclip.modalities.structure import StructureModality
from protclip.model.two_tower import TwoTower
from protclip.structure import Protein, read_structure
from protclip.structure.encoders.encoder import CDConvConfig

LETTERS = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", np.uint8)


def variants(count: int, seed: int = 0) -> Iterator[Protein]:
    """Proteins that differ from one another, made from the shipped domains in turn."""
    rng = np.random.default_rng(seed)
    domains = [read_structure(path) for path in sorted(DOMPDB.iterdir())]
    for i in range(count):
        protein = domains[i % len(domains)]
        letters = np.frombuffer(protein.sequence.encode(), np.uint8).copy()
        changed = rng.random(len(letters)) < 0.05
        changed[rng.integers(len(letters))] = True
        letters[changed] = rng.choice(LETTERS, int(changed.sum()))
        coords = protein.coords + rng.normal(0, 0.1, protein.coords.shape).astype(np.float32)
        number = protein.residue_number
        yield Protein(f"v{i}", letters.tobytes().decode(), coords, number, protein.insertion_code)


def make_model(folder: Path, structure: str, sequence: str) -> Path:
    """A model folder with random weights; speed does not depend on their values."""
    torch.manual_seed(0)
    towers = TwoTower(
        StructureModality(CDConvConfig.sized(structure)),
        SequenceModality.create(sequence, init="random"),
        dim=256,
    )
    towers.save(folder, facts={}, card="")
    return folder


def embed_here(model: str, name: str, source: str, device: str, form: str) -> None:
    """Embed a file in this process and print seconds and peak memory."""
    loaded = load(model, device)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        report = embed_to_file(loaded, name, Path(source), Path(folder) / f"out.{form}")
        seconds = time.perf_counter() - start
    peak = status("VmHWM")
    print(json.dumps({"seconds": seconds, "bytes": peak, "embedded": report.embedded}))


@torch.inference_mode()
def published(model: AlignedModel, proteins: list[Protein]) -> NDArray[np.float32]:
    """Unit vectors by the published formulation of CDConv, one protein at a time."""
    side, device = model.towers.sides["structure"], model.towers.log_scale.device
    out = []
    for protein in proteins:
        batch: Any = side.collate([protein]).to(device)
        use_form("published", side.encoder, batch)
        out.append(model.towers.embed("structure", batch).cpu().numpy())
    use_form("ours", side.encoder, batch)
    return np.concatenate(out)


def fair_esm(model: AlignedModel) -> Any:
    """fair-esm's network with the weights of a model's sequence tower."""
    net: Any = model.towers.sides["sequence"].encoder.net
    theirs = esm.ESM2(
        net.shape.layers, net.shape.width, net.shape.heads, token_dropout=net.shape.token_dropout
    )
    unknown = theirs.load_state_dict(net.state_dict(), strict=False).unexpected_keys
    frequencies = {key: net.inv_freq for key in theirs.state_dict() if key.endswith("inv_freq")}
    theirs.load_state_dict(frequencies, strict=False)
    if set(unknown) - {"inv_freq"}:
        sys.exit(f"fair-esm has no {', '.join(unknown)}")
    return theirs.eval().to(model.towers.log_scale.device)


@torch.inference_mode()
def by_fair_esm(model: AlignedModel, theirs: Any, sequences: list[str]) -> NDArray[np.float32]:
    """Unit vectors of mean residue features by fair-esm, one sequence at a time."""
    convert, last = theirs.alphabet.get_batch_converter(), theirs.num_layers
    out = []
    for sequence in sequences:
        _, _, tokens = convert([("", sequence)])
        rows = theirs(tokens.to(model.towers.log_scale.device), repr_layers=[last])["representations"][last]
        mean = rows[:, 1 : 1 + len(sequence)].mean(1)
        out.append(model.towers.project("sequence", mean).cpu().numpy())
    return np.concatenate(out)


def rates(
    path: Path, name: str, items: list[Any], alone: int, rounds: int, device: str
) -> list[dict[str, Any]]:
    """Items a second of every form, its ratio to the form without protclip, and to ours one at a time.

    Forms that take one item at a time run on the first ``alone`` of them.
    """
    model, half = load(path, device, precision="fp32"), load(path, device, precision="bf16")
    few = items[:alone]
    if name == "structure":
        label = "published formulation, one at a time, fp32"
        arms = {label: lambda: published(model, few)}
    else:
        label, theirs = "fair-esm, one at a time, fp32", fair_esm(model)
        arms = {label: lambda: by_fair_esm(model, theirs, few)}
    singly = "ours, one at a time, fp32"
    arms[singly] = lambda: np.concatenate([model.embed(name, [item]).vectors for item in few])
    arms["ours, batches, fp32"] = lambda: model.embed(name, items).vectors
    arms["ours, batches, bf16"] = lambda: half.embed(name, items).vectors
    expected = arms[label]()
    errors = {form: float(np.abs(run()[: len(few)] - expected).max()) for form, run in arms.items()}
    for form, error in errors.items():
        if error > (5e-2 if form.endswith("bf16") else 1e-4):
            sys.exit(f"{form} gives other vectors than {label}: they differ by {error:.0e}")
    # With one thread, processor time: other work on the machine disturbs it little.
    single = torch.get_num_threads() == 1 and device == "cpu"
    times = take_turns(arms, rounds, clock=time.process_time if single else time.perf_counter)
    each = {
        form: np.array(spent) / (len(items) if "batches" in form else len(few))
        for form, spent in times.items()
    }
    return [
        {
            "form": form,
            "items/s": 1 / statistics.median(spent.tolist()),
            "against theirs": statistics.median((each[label] / spent).tolist()),
            "against one": statistics.median((each[singly] / spent).tolist()),
            "largest difference": errors[form],
        }
        for form, spent in each.items()
    ]


def whole_runs(report: Report, home: Path, model: Path, items: int, device: str, form: str) -> None:
    """Rate and peak memory of embedding whole files, in a process of its own for each of three sizes."""
    rows = []
    for count in sorted({max(200, items // 100), max(500, items // 10), items}):
        fasta, store = home / f"{count}.fasta", home / f"{count}.h5"
        with fasta.open("w") as file:
            file.writelines(f">{p.id}\n{p.sequence}\n" for p in variants(count))
        write_corpus(store, variants(count))
        for name, source in (("sequence", fasta), ("structure", store)):
            found = in_new_process(__file__, model, name, source, device, form)
            rows.append(
                [name, f"{count:,}", f"{found['bytes'] / 2**20:.0f}", f"{count / found['seconds']:.0f}"]
            )
            report.figures[f"{name} {count}"] = found
        fasta.unlink()
        store.unlink()
    rows.sort(key=lambda row: row[0])
    kind = {"parquet": "a Parquet", "h5": "an HDF5"}[form]
    report.table(
        ["items", "number", "peak MB", "items/s"], rows, f"Whole runs to {kind} file, smallest model:"
    )


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=100_000, help="of the whole runs; 0 for none")
    parser.add_argument("--rate-items", type=int, default=256)
    parser.add_argument("--alone", type=int, help="how many to take one at a time (default: an eighth)")
    parser.add_argument("--to", choices=["parquet", "h5"], default="parquet", help="what whole runs write")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=5)
    options = parser.parse_args()
    if options.child:
        embed_here(*options.child)
        return
    report = Report("embedding", options.json, device=options.device)
    cuda = options.device.startswith("cuda")
    sizes = (
        [("published", "150M"), ("small", "35M"), ("tiny", "scratch")]
        if cuda
        else [("published", "8M"), ("tiny", "scratch")]
    )
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        proteins = list(variants(options.rate_items))
        alone = options.alone or max(8, len(proteins) // 8)
        length = np.mean([len(p) for p in proteins])
        place = options.device if cuda else f"cpu, {torch.get_num_threads()} threads"
        report.say(
            f"{len(proteins)} items of {length:.0f} residues on average, {place}; "
            f"one at a time: the first {alone} of them."
        )
        head = ["tower", "form", "items/s", "against the first form", "against ours, one at a time"]
        rows: list[list[str]] = []
        for k, (structure, sequence) in enumerate(sizes):
            path = make_model(home / str(k), structure, sequence)
            for name, tower, items in (
                ("structure", f"CDConv {structure}", proteins),
                ("sequence", f"ESM-2 {sequence}", [p.sequence for p in proteins]),
            ):
                for row in rates(path, name, items, alone, options.rounds, options.device):
                    ratios = [f"{row[key]:.1f}x" for key in ("against theirs", "against one")]
                    difference = f"{row['largest difference']:.0e}"
                    rows.append([tower, row["form"], f"{row['items/s']:.1f}", *ratios, difference])
                    report.figures[f"{tower}, {row['form']}"] = row
                report.tables = []
                report.table([*head, "largest difference"], rows)
                report.save()
        if options.items:
            whole_runs(report, home, home / str(len(sizes) - 1), options.items, options.device, options.to)
    report.finish()


if __name__ == "__main__":
    main()
