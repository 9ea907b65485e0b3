"""Every row of tests/edge_cases/faults/sequences/expected.tsv."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from protclip.data.files.spans import FileList
from protclip.inference.windows import readable_windows
from protclip.modalities.sequence.adapter import SequenceModality, looks_like_nucleotides

FOLDER = Path(__file__).parents[2] / "edge_cases" / "faults" / "sequences"
with (FOLDER / "expected.tsv").open(encoding="utf-8", newline="") as stream:
    ROWS = {row["file"]: row["expected"] for row in csv.DictReader(stream, delimiter="\t")}

UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEG"


@pytest.fixture(scope="module")
def side() -> SequenceModality:
    return SequenceModality.create("scratch", init="random")


def test_every_file_is_in_the_table() -> None:
    assert set(ROWS) == {path.name for path in FOLDER.iterdir()} - {"expected.tsv"}


@pytest.mark.parametrize("name", ROWS)
def test_row(name: str, side: SequenceModality) -> None:
    assert side.accepts(FOLDER / name)
    (window,) = readable_windows(side.read(FOLDER / name), 100)
    wanted = ROWS[name].split("|")[-1]
    remarks = " ".join(side.remarks(window.items))
    assert window.ids == wanted.removesuffix("+remark").split()
    assert ("nucleotides" in remarks) == ("+remark" in wanted)
    if window.ids[0] in ("a", "1", ".", "pdb/1abc"):
        assert window.items[0] == UBIQUITIN
    assert window.seen == len(window.ids) + len(window.failed)


@pytest.mark.parametrize("name", ROWS)
def test_shards_give_the_same(name: str, side: SequenceModality) -> None:
    whole = [(id, str(item)) for id, item in side.read(FOLDER / name)]
    files = FileList(FOLDER / name, side.files(FOLDER / name))
    for count in (1, 2, 5):
        shards = [files.shard(number, count) for number in range(1, count + 1)]
        assert [(id, str(item)) for shard in shards for id, item in side.stream(shard)] == whole


def test_gaps_are_counted(side: SequenceModality) -> None:
    items = [item for _, item in side.read(FOLDER / "gap_columns.fasta")]
    assert side.remarks(items) == {"with gaps or a stop, which were left out": 1}
    assert not side.remarks([item for _, item in side.read(FOLDER / "plain.fasta")])
    assert side.remarks([item for _, item in side.read(["MK-V"])])


def test_both_places_of_an_id_are_named(side: SequenceModality) -> None:
    (window,) = readable_windows(side.read(FOLDER / "same_id.fasta"), 100)
    assert list(window.failed) == ["a (again)"]
    assert "items 1 and 2" in window.failed["a (again)"]


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [
        ("ACGTACGTACGTACGTACGT", True),
        ("acguacguacguacguacgun", True),
        ("ACGTACGTACGTACGTACG", False),  # too short to tell
        ("AGAGAGAGAGAGAGAGAGAGAG", False),  # a repeat of alanine and glycine
        ("ACGTACGTACGTACGTACGTM", False),
        (UBIQUITIN, False),
    ],
)
def test_what_looks_like_nucleotides(sequence: str, expected: bool) -> None:
    assert looks_like_nucleotides(sequence) is expected
