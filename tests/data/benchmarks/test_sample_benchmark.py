"""The demonstration benchmarks: real labels with their sources, usable by every task, and no benchmark."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from protclip.cli.app import app
from protclip.data.benchmarks import sample
from protclip.data.benchmarks.build_benchmark import Benchmark, sample_benchmark
from protclip.data.benchmarks.published import SINGLE_LABEL, TASK_NAMES
from protclip.data.benchmarks.sample import ec_levels, read_labels
from protclip.data.corpus.cath import read_domain_list
from protclip.describe.kinds import describe
from protclip.errors import ConfigError, DataError
from protclip.structure.reading.read import read_structure


def rows(cath_dir: Path) -> list[dict[str, str]]:
    with (cath_dir / "labels.tsv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_every_label_belongs_to_a_shipped_domain_and_cites_a_public_file(cath_dir: Path) -> None:
    with (cath_dir / "SOURCES.tsv").open(encoding="utf-8", newline="") as stream:
        chain = {row["domain"]: row for row in csv.DictReader(stream, delimiter="\t")}
    table = rows(cath_dir)
    assert list(table[0]) == ["domain", "pdb", "chain", "task", "label", "source"]
    assert len({tuple(row.values()) for row in table}) == len(table)
    for row in table:
        origin = chain[row["domain"]]
        assert row["pdb"] == origin["pdb"]
        assert origin["boundary"].split(",")[0].endswith(f":{row['chain']}")
        # owner/repository path/to/file
        words = row["source"].removeprefix("first level of the EC number in ").split()
        assert words[0].count("/") == 1
        assert words[1].endswith((".tsv", ".csv", ".txt"))


def test_reactions_are_the_first_level_of_the_published_number(cath_dir: Path) -> None:
    ec, reaction = read_labels()["ec"], read_labels()["reaction"]
    for domain, labels in ec.items():
        assert {label[0] for label in labels} == {next(iter(reaction[domain]))[0]}


@pytest.mark.parametrize("task", TASK_NAMES)
def test_a_usable_benchmark_of_every_task(task: str, cath_dir: Path) -> None:
    path = sample_benchmark(task)
    assert sample_benchmark(task) == path
    with Benchmark.open(path) as benchmark:
        assert benchmark.task == task
        assert benchmark.is_demonstration
        assert "no benchmark" in benchmark.version
        assert "no benchmark" in benchmark.info()["note"]
        assert all(expected is None for _, _, expected in benchmark.counts())
        labels = benchmark.labels().toarray()
        assert labels.shape[1] == len(benchmark.classes) >= 3
        assert labels.sum(1).min() >= 1
        if task in SINGLE_LABEL:
            assert (labels.sum(1) == 1).all()
        splits = benchmark.splits
        # Every class can be learned, and is held by proteins that are not all relatives.
        assert labels[splits["train"]].any(0).all()
        assert len(splits["train"]) > len(splits["valid"]) > 0
        held_out = np.concatenate([r for name, r in splits.items() if name != "train"])
        assert labels[held_out].any(0).sum() >= 0.8 * len(benchmark.classes)
        assert all(benchmark.class_names)
        published = read_labels()[task]
        for id, row in zip(benchmark.ids, labels, strict=True):
            names = {name for name, inside in zip(benchmark.classes, row, strict=True) if inside}
            allowed = published[id] if task != "ec" else {x for ec in published[id] for x in ec_levels(ec)}
            assert names <= allowed
        first = benchmark.ids[0]
        expected = read_structure(cath_dir / "dompdb" / first, id=first)
        np.testing.assert_array_equal(benchmark.corpus[0].coords, expected.coords)


@pytest.mark.parametrize("task", [task for task in TASK_NAMES if task != "fold"])
def test_no_relatives_across_splits(task: str, cath_dir: Path) -> None:
    cath = read_domain_list(cath_dir / "cath-domain-list.txt")
    with Benchmark.open(sample_benchmark(task)) as benchmark:
        for key in (lambda id: id[:5], lambda id: cath[id].cluster):
            seen = [{key(benchmark.ids[i]) for i in split} for split in benchmark.splits.values()]
            assert sum(map(len, seen)) == len(set().union(*seen))


def test_the_three_fold_tests_mean_what_they_are_called(cath_dir: Path) -> None:
    cath = read_domain_list(cath_dir / "cath-domain-list.txt")
    with Benchmark.open(sample_benchmark("fold")) as benchmark:
        ids = {name: [benchmark.ids[i] for i in split] for name, split in benchmark.splits.items()}
    trained = {cath[id].code for id in ids["train"]}
    assert all(cath[id].code not in trained for id in ids["test_fold"])
    assert all(cath[id].code in trained for id in (*ids["test_superfamily"], *ids["test_family"]))
    chains = {id[:5] for id in ids["train"]}
    clusters = {cath[id].cluster for id in ids["train"]}
    relative = {
        id: id[:5] in chains or cath[id].cluster in clusters for split in ids.values() for id in split
    }
    assert all(relative[id] for id in ids["test_family"])
    assert not any(relative[id] for id in ids["test_superfamily"])
    assert min(map(len, ids.values())) >= 1


def test_labels_without_source_or_with_two_folds_are_refused(tmp_path: Path) -> None:
    head = "domain\tpdb\tchain\ttask\tlabel\tsource\n"
    file = tmp_path / "labels.tsv"
    file.write_text(head + "1aaaA00\t1aaa\tA\tec\t1.1.1.1\t\n")
    with pytest.raises(DataError, match=r"labels.tsv:2: a label without its source"):
        read_labels(file)
    file.write_text(head + "1aaaA00\t1aaa\tA\tfold\ta.1\tx y\n1aaaA00\t1aaa\tA\tfold\tb.1\tx y\n")
    with pytest.raises(DataError, match=r"labels.tsv:3: two classes"):
        read_labels(file)
    with pytest.raises(ConfigError, match="unknown task"):
        sample_benchmark("go")


def test_ec_levels() -> None:
    assert ec_levels("3.4.21.-") == ["3.-.-.-", "3.4.-.-", "3.4.21.-"]
    assert ec_levels("3.-.-.-") == ["3.-.-.-"]


def test_a_changed_table_makes_another_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import shutil

    before = sample_benchmark("ec")
    copy = tmp_path / "cath"
    shutil.copytree(sample.FOLDER, copy)
    table = (copy / "labels.tsv").read_text().splitlines(keepends=True)
    (copy / "labels.tsv").write_text("".join(line for line in table if not line.startswith("2fvvA00")))
    monkeypatch.setattr(sample, "FOLDER", copy)
    monkeypatch.setattr(sample.read_labels, "__defaults__", (copy / "labels.tsv",))
    after = sample_benchmark("ec")
    assert after != before
    assert "2fvvA00" not in Benchmark.open(after).ids


def test_info_describes_a_benchmark_and_not_only_the_corpus_in_it() -> None:
    path = sample_benchmark("go-bp")
    run = CliRunner().invoke(app, ["info", str(path)])
    assert run.exit_code == 0
    assert run.stdout.startswith("kind: benchmark\ntask: go-bp\n")
    facts = describe(path)
    assert facts["classes"] == 30
    assert facts["found/expected"]["train"] == "15/?"
    assert "no benchmark" in facts["note"]
