"""GO annotations in the exact layout of the published table and at its full size, generated.

The original is written by Python's ``csv`` module with tabs: Windows line ends, three blocks of class ids and
names, then one row per chain whose cells list terms in no order, and are empty where a chain has none.
"""

from __future__ import annotations

import csv
import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from protclip.data.benchmarks.build_benchmark import read_lists
from protclip.data.benchmarks.deepfri import read_annotations
from protclip.data.benchmarks.listing import read_ids
from protclip.data.benchmarks.published import PUBLISHED

TASKS = {"go-mf": "molecular_function", "go-bp": "biological_process", "go-cc": "cellular_component"}
NAMES = (
    "catalytic activity, acting on a protein",
    "3'-5' exonuclease activity",
    "P-body (cytoplasm)",
    "a: b; c",
)
CUTS = PUBLISHED["go-mf"][0].subsets
COUNTS = PUBLISHED["go-mf"][0].counts
STEM = "nrPDB-GO_2019.06.18"


def chain_ids(n: int) -> list[str]:
    """Ids as they occur: digits, letters, and chain names of two characters and of either case."""
    chains = ("A", "B", "a", "1", "AA")
    codes = (
        f"{d}{a}{b}{c}"
        for d, a, b, c in product("123", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789X", "ABCDEFGHIJ")
    )
    return [f"{code}-{chain}" for code in codes for chain in chains][:n]


def write_lists(folder: Path, ids: list[str]) -> dict[str, list[set[str]]]:
    """Annotation table and split lists; returns the terms of every chain by task."""
    rng = np.random.default_rng(0)
    number = iter(rng.permutation(9_000_000)[:4000])
    classes = {task: [f"GO:{next(number):07d}" for _ in range(PUBLISHED[task][0].classes)] for task in TASKS}
    truth: dict[str, list[set[str]]] = {}
    for task, terms in classes.items():
        several = rng.integers(0, 4, len(ids))
        picked = rng.integers(0, len(terms), (len(ids), 3))
        truth[task] = [{terms[c] for c in row[:n]} for row, n in zip(picked, several, strict=True)]
    with (folder / f"{STEM}_annot.tsv").open("w", newline="") as out:
        table = csv.writer(out, delimiter="\t")
        for task, namespace in TASKS.items():
            table.writerow([f"### GO-terms ({namespace})"])
            table.writerow(classes[task])
            table.writerow([f"### GO-names ({namespace})"])
            table.writerow([f"{NAMES[i % len(NAMES)]} {i}" for i in range(len(classes[task]))])
        table.writerow(["### PDB-chain", *(f"GO-terms ({namespace})" for namespace in TASKS.values())])
        for i in rng.permutation(len(ids)):
            table.writerow([ids[i], *(",".join(truth[task][i]) for task in TASKS)])
    train, valid = COUNTS["train"], COUNTS["train"] + COUNTS["valid"]
    (folder / f"{STEM}_train.txt").write_text("\n".join(ids[:train]) + "\n")
    (folder / f"{STEM}_valid.txt").write_text("\n".join(ids[train:valid]) + "\n")
    lines = [",".join(["PDB-chain", *(f"<{cut}%" for cut in CUTS)])]
    lines += [",".join([id, *(str(int(k < n)) for n in CUTS.values())]) for k, id in enumerate(ids[valid:])]
    (folder / f"{STEM}_test.csv").write_text("\n".join(lines) + "\n")
    return truth


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> tuple[Path, list[str], dict[str, list[set[str]]]]:
    folder = tmp_path_factory.mktemp("go")
    ids = chain_ids(sum(COUNTS.values()))
    return folder, ids, write_lists(folder, ids)


def test_the_layout_is_the_published_one(generated) -> None:
    lines = (generated[0] / f"{STEM}_annot.tsv").read_bytes().split(b"\r\n")
    # Class lists stand in lines 2, 6 and 10, the chains from line 14.
    assert [len(lines[n - 1].split(b"\t")) for n in (2, 6, 10)] == [489, 1943, 320]
    assert lines[12].startswith(b"### PDB-chain\tGO-terms (molecular_function)\t")
    assert len(lines[13].split(b"\t")) == 4
    assert len(lines) == 13 + sum(COUNTS.values()) + 1


@pytest.mark.parametrize("task", TASKS)
def test_full_size_lists_are_recognised_and_every_label_is_read(task: str, generated) -> None:
    folder, ids, truth = generated
    lists = read_lists(task, folder)
    assert lists.version == "DeepFRI nrPDB-GO 2019.06.18"
    assert {name: len(found) for name, found in lists.splits.items()} == dict(COUNTS)
    assert {name: len(found) for name, found in lists.subsets.items()} == dict(CUTS)
    assert len(lists.classes) == len(lists.class_names) == PUBLISHED[task][0].classes
    assert lists.class_names[1] == "3'-5' exonuclease activity 1"
    found = [{lists.classes[c] for c in lists.labels[id]} for id in ids]
    assert found == truth[task]


def test_annotations_fit_the_complete_split_lists(tmp_path: Path, repository: Path) -> None:
    """The real chain ids of the published splits, with generated terms."""
    root = Path(os.environ.get("PROTCLIP_SHARED", repository.parent / "shared")) / "data" / "lists"
    if not root.is_dir():
        pytest.skip(f"the complete published lists are not at {root} (set PROTCLIP_SHARED)")
    test = [line.split(",")[0] for line in (root / f"{STEM}_test.csv").read_text().split("\n")[1:] if line]
    ids = [id for split in ("train", "valid") for id in read_ids(root / f"{STEM}_{split}.txt")] + test
    truth = write_lists(tmp_path, ids)
    found = read_annotations(tmp_path / f"{STEM}_annot.tsv", "go-bp")
    assert set(found.labels) == set(ids)
    assert [{found.classes[c] for c in found.labels[id]} for id in ids] == truth["go-bp"]
