"""The published lists: their layouts, every way in which they can be wrong, and the complete originals."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from protclip.data.benchmarks.build_benchmark import read_lists
from protclip.data.benchmarks.chain_files import ChainFiles, find_chains, split_chain_id
from protclip.data.benchmarks.deepfri import read_annotations, read_cutoffs, read_deepfri
from protclip.data.benchmarks.fold import read_homologytape
from protclip.data.benchmarks.reaction import read_protfunct
from protclip.errors import ConfigError, DataError

FOLD = {
    "class_map.txt": "a.1\t0\nb.1\t1\nc.2\t2",
    "training.txt": "d1aaaa_\ta.1\ta.1\nd1bbbb1\tb.1\tb.1\n",
    "validation.txt": "d1cccc_\tc.2\tc.2",
    "test_fold.txt": "d1dddd_\t138\ta.1\ta.1\nd1eeee_\t52\tc.2\tc.2",
    "test_superfamily.txt": "d1ffff_\t12\tb.1\tb.1\n",
    "test_family.txt": "d1gggg.1\tc.2\tc.2\n\n",
}
REACTION = {
    "training.txt": "1aaa.A\n1bbb.B\n",
    "validation.txt": "1ccc.X",
    "testing.txt": "1ddd.aA\n",
    "chain_functions.txt": "1aaa.A,1\n1bbb.B,0\n1ccc.X,1\n1ddd.aA,1",
    "unique_functions.txt": "4.2.1.10\n6.5.1.1\n",
}
EC = {
    "nrPDB-EC_2020.04_annot.tsv": "### EC-numbers\n1.1.1.-\t3.4.21.-\t3.4.21.4\n### PDB-chain\tEC-numbers\n"
    "1AAA-A\t3.4.21.-,3.4.21.4\n1BBB-B\t1.1.1.-\n1CCC-A\t3.4.21.-\n1DDD-A\t1.1.1.-\n1EEE-A\t1.1.1.-",
    "nrPDB-EC_2020.04_train.txt": "1AAA-A\n1BBB-B\n",
    "nrPDB-EC_2020.04_valid.txt": "1CCC-A",
    "nrPDB-EC_2020.04_test.csv": "PDB-chain,<30%,<40%,<50%,<70%,<95%\n1DDD-A,0,0,1,1,1\n1EEE-A,1,1,1,1,1",
}
GO = {
    "nrPDB-GO_2019.06.18_annot.tsv": "### GO-terms (molecular_function)\nGO:0000001\tGO:0000002\n"
    "### GO-names (molecular_function)\none\ttwo, really\n"
    "### GO-terms (biological_process)\nGO:0000003\n### GO-names (biological_process)\nthree\n"
    "### GO-terms (cellular_component)\nGO:0000004\tGO:0000005\n"
    "### GO-names (cellular_component)\nfour\tfive\n"
    "### PDB-chain\tGO-terms (molecular_function)\tGO-terms (biological_process)\t"
    "GO-terms (cellular_component)\n"
    "1AAA-A\tGO:0000002,GO:0000001\t\tGO:0000005\n1BBB-B\t\tGO:0000003\t\n1CCC-A\t\t\tGO:0000004\n"
    "1DDD-A\tGO:0000001",
    "nrPDB-GO_2019.06.18_train.txt": "1AAA-A\n1BBB-B\n",
    "nrPDB-GO_2019.06.18_valid.txt": "1CCC-A\n",
    "nrPDB-GO_2019.06.18_test.csv": "PDB-chain,<30%,<95%\n1DDD-A,0,1\n",
}


def write(folder: Path, files: dict[str, str], **changes: str | None) -> Path:
    """Lists with one of them changed, or left out where the change is None."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        stem = Path(name).stem.rsplit("_", 1)[-1] if "nrPDB" in name else Path(name).stem
        changed = changes.get(stem, text)
        if changed is not None:
            (folder / name).write_text(changed)
    return folder


def test_homologytape(tmp_path: Path) -> None:
    lists = read_homologytape(write(tmp_path, FOLD))
    assert lists.classes == ["a.1", "b.1", "c.2"]
    assert lists.splits == {
        "train": ["d1aaaa_", "d1bbbb1"],
        "valid": ["d1cccc_"],
        "test_fold": ["d1dddd_", "d1eeee_"],
        "test_superfamily": ["d1ffff_"],
        "test_family": ["d1gggg.1"],
    }
    assert [lists.labels[id] for id in lists.ids] == [(0,), (1,), (2,), (0,), (2,), (1,), (2,)]
    assert lists.published is None
    assert lists.version.startswith("unpublished lists (2 train, 1 valid, 2 test_fold")


def test_line_ends_of_windows_and_gzip_do_not_matter(tmp_path: Path) -> None:
    import gzip

    files = {name: text.replace("\n", "\r\n") for name, text in FOLD.items()}
    lists = read_homologytape(write(tmp_path, files))
    assert lists.splits["test_fold"] == ["d1dddd_", "d1eeee_"]
    (tmp_path / "training.txt").write_bytes(gzip.compress(FOLD["training.txt"].encode()))
    assert read_homologytape(tmp_path).splits["train"] == ["d1aaaa_", "d1bbbb1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training": "d1aaaa_\ta.1\ta.1\nd1bbbb1\tz.9\tz.9\n"},
            r"training.txt:2: unknown fold; got 'z.9' of d1b",
        ),
        ({"training": "d1aaaa_\ta.1\ta.1\nd1aaaa_\tb.1\tb.1\n"}, r"training.txt:2: .*two different labels"),
        ({"training": "d1aaaa_\ta.1\ta.1\nd1aaaa_\ta.1\ta.1\n"}, r"training.txt:2: an id twice"),
        ({"validation": "d1aaaa_\tb.1\tb.1"}, r"validation.txt:1: .*two different labels.*training.txt:1"),
        ({"validation": "d1aaaa_\ta.1\ta.1"}, "an id in two splits; got d1aaaa_"),
        ({"validation": ""}, "validation.txt: an empty list"),
        ({"validation": "d1cccc_\n"}, r"validation.txt:1: a line without label"),
        ({"validation": None}, "no validation.txt"),
        ({"class_map": None}, "no class_map.txt"),
        ({"class_map": "a.1 0\n"}, r"class_map.txt:1: malformed line"),
        ({"class_map": "a.1\t0\nb.1\t2"}, "class numbers with gaps"),
        ({"class_map": "a.1\t0\na.1\t1"}, r"class_map.txt:2: a class twice"),
    ],
)
def test_bad_fold_lists(changes: dict[str, str | None], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_homologytape(write(tmp_path, FOLD, **changes))


def test_protfunct(tmp_path: Path) -> None:
    lists = read_protfunct(write(tmp_path, REACTION))
    assert lists.classes == ["4.2.1.10", "6.5.1.1"]
    assert lists.labels == {"1aaa.A": (1,), "1bbb.B": (0,), "1ccc.X": (1,), "1ddd.aA": (1,)}
    (tmp_path / "unique_functions.txt").unlink()
    assert read_protfunct(tmp_path).classes == ["0", "1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"chain_functions": "1aaa.A,1\n1bbb.B,7\n"},
            r"chain_functions.txt:2: unknown reaction class; got 7",
        ),
        ({"chain_functions": "1aaa.A,1\n1aaa.A,0\n"}, r"chain_functions.txt:2: .*two different labels"),
        ({"chain_functions": "1aaa.A\n"}, r"chain_functions.txt:1: malformed line"),
        ({"chain_functions": ""}, "an empty list"),
        ({"chain_functions": "1aaa.A,1\n1bbb.B,0\n1ccc.X,1\n"}, "without label; got 1ddd.aA"),
        ({"training": "1aaa.A\n1aaa.A\n"}, r"training.txt:2: an id twice"),
        ({"training": "1aaa.A\t1\n"}, r"training.txt:1: not a list of ids"),
        ({"testing": "1aaa.A\n"}, "an id in two splits"),
        ({"testing": None}, "no testing.txt"),
    ],
)
def test_bad_reaction_lists(changes: dict[str, str | None], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_protfunct(write(tmp_path, REACTION, **changes))


def test_deepfri_ec(tmp_path: Path) -> None:
    lists = read_deepfri(write(tmp_path, EC), "ec")
    assert lists.classes == ["1.1.1.-", "3.4.21.-", "3.4.21.4"]
    assert lists.labels["1AAA-A"] == (1, 2)
    assert lists.splits == {"train": ["1AAA-A", "1BBB-B"], "valid": ["1CCC-A"], "test": ["1DDD-A", "1EEE-A"]}
    assert lists.subsets["30"] == lists.subsets["40"] == ["1EEE-A"]
    assert lists.subsets["50"] == lists.subsets["95"] == ["1DDD-A", "1EEE-A"]


def test_deepfri_go_takes_the_column_of_its_namespace(tmp_path: Path) -> None:
    write(tmp_path, GO)
    expected = {
        "go-mf": (["GO:0000001", "GO:0000002"], ["one", "two, really"], [(0, 1), (), (), (0,)]),
        "go-bp": (["GO:0000003"], ["three"], [(), (0,), (), ()]),
        "go-cc": (["GO:0000004", "GO:0000005"], ["four", "five"], [(1,), (), (0,), ()]),
    }
    for task, (classes, names, labels) in expected.items():
        lists = read_lists(task, tmp_path)
        assert (lists.classes, lists.class_names) == (classes, names)
        assert [lists.labels[id] for id in lists.ids] == labels
    # The order of the columns is what the header says it is.
    table = tmp_path / "nrPDB-GO_2019.06.18_annot.tsv"
    head = GO[table.name].split("### PDB-chain")[0]
    columns = "### PDB-chain\tGO-terms (cellular_component)\tGO-terms (molecular_function)\n"
    table.write_text(head + columns + "1AAA-A\tGO:0000004\tGO:0000002")
    assert read_annotations(table, "go-mf").labels == {"1AAA-A": (1,)}
    assert read_annotations(table, "go-cc").labels == {"1AAA-A": (0,)}
    with pytest.raises(DataError, match="no column of biological_process"):
        read_annotations(table, "go-bp")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"annot": EC["nrPDB-EC_2020.04_annot.tsv"].replace("1BBB-B\t1.1", "1BBB-B\t9.1")},
            r"annot.tsv:5: unknown EC number; got '9.1.1.-' of 1BBB-B",
        ),
        (
            {"annot": EC["nrPDB-EC_2020.04_annot.tsv"] + "\n1AAA-A\t1.1.1.-"},
            r"annot.tsv:9: an id with two different",
        ),
        ({"annot": "1AAA-A\t1.1.1.-\n"}, "not a DeepFRI annotation file"),
        (
            {"annot": "### PDB-chain\tEC-numbers\n1AAA-A\t1.1.1.-\n"},
            r"annot.tsv:1: no class list of EC-numbers",
        ),
        ({"annot": "### EC-numbers\n1.1.1.-\t1.1.1.-\n### PDB-chain\tEC-numbers\n"}, "a class twice"),
        ({"annot": "### EC-numbers\n1.1.1.-\n### PDB-chain\tEC-numbers\n"}, "no chain is annotated"),
        ({"annot": None}, r"no \*EC\*annot.tsv"),
        ({"train": "1AAA-A\n1XXX-X\n"}, "without label; got 1XXX-X"),
        ({"train": None}, r"no \*EC\*train.txt"),
        ({"valid": "1AAA-A\n"}, "an id in two splits"),
        ({"test": "1DDD-A,0,0,1,1,1\n"}, r"test.csv:1: no header of identity cut-offs"),
        ({"test": "PDB-chain,<30%\n1DDD-A,2\n"}, r"test.csv:2: malformed line"),
        ({"test": "PDB-chain,<30%,<40%\n1DDD-A,1\n"}, r"test.csv:2: malformed line"),
        ({"test": "PDB-chain,<30%\n1DDD-A,1\n1DDD-A,1\n"}, r"test.csv:3: an id twice"),
        ({"test": "PDB-chain,<30%\n"}, "an empty list"),
    ],
)
def test_bad_ec_lists(changes: dict[str, str | None], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_deepfri(write(tmp_path, EC, **changes), "ec")


def test_an_ec_table_is_no_go_table(tmp_path: Path) -> None:
    table = write(tmp_path, EC) / "nrPDB-EC_2020.04_annot.tsv"
    with pytest.raises(DataError, match="no column of molecular_function"):
        read_annotations(table, "go-mf")


def test_cutoffs_follow_the_header(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("PDB-chain,<95%,<30%\n1AAA-A,1,0")
    assert read_cutoffs(file) == (["1AAA-A"], {"95": ["1AAA-A"], "30": []})


def test_lists_may_lie_one_folder_down_and_two_sets_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    write(tmp_path / "x" / "HomologyTAPE", FOLD)
    write(tmp_path / "x" / "ProtFunct", REACTION)
    assert len(read_lists("fold", tmp_path).ids) == 7
    assert len(read_lists("reaction", tmp_path).ids) == 4
    write(tmp_path / "x" / "again", FOLD)
    with pytest.raises(DataError, match=r"several files fit class_map\.txt"):
        read_lists("fold", tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_lists("fold", tmp_path / "none")
    with pytest.raises(ConfigError, match="unknown task"):
        read_lists("folds", tmp_path)


def test_chain_files(tmp_path: Path) -> None:
    names = {
        "1AAA-A.pdb": "1aaa.A",
        "1bbb_B.cif.gz": "1BBB-B",
        "sub/1cccX.ent": "1ccc.X",
        "1DDD-A_1DDD.pdb": "1DDD-A",
        "sub/1ddd_a.pdb": "1DDD-a",
        "1eee.bcif.gz": "1EEE-AA",
        "pdb1fff.ent.gz": "1fff_1",
        "6KMX.CIF": "6KMX-aA",
    }
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "README.txt").write_text("1ggg")
    files = ChainFiles(tmp_path)
    for name, id in names.items():
        item = files.item(id)
        assert item is not None, id
        assert (Path(item.path).relative_to(tmp_path).as_posix(), item.id) == (name, id)
        assert item.chain == split_chain_id(id)[1]
    assert files.item("1EEE-B") is not None  # the entry file may hold it
    assert files.item("1GGG-A") is None
    assert files.item("1AAA-B") is None
    # Case is overlooked only where it leaves no doubt.
    assert files.item("1bbb.b") is not None
    with pytest.raises(DataError, match="not a PDB chain"):
        files.item("d1aaaa_")
    items, missing = find_chains(tmp_path, ["1GGG-A", "1AAA-A"])
    assert ([item.id for item in items], missing[0][0]) == (["1AAA-A"], "1GGG-A")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no structure file"):
        ChainFiles(tmp_path / "empty")
    with pytest.raises(DataError, match="no such folder"):
        ChainFiles(tmp_path / "none")


def shared_lists(repository: Path) -> Path:
    """The complete published lists, where a developer has them."""
    root = Path(os.environ.get("PROTCLIP_SHARED", repository.parent / "shared"))
    folder = root / "data" / "lists"
    if not folder.is_dir():
        pytest.skip(f"the complete published lists are not at {folder} (set PROTCLIP_SHARED)")
    return folder


@pytest.mark.parametrize(
    ("task", "version"),
    [
        ("fold", "HomologyTAPE SCOP 1.75"),
        ("reaction", "ProtFunct"),
        ("ec", "DeepFRI nrPDB-EC 2020.04"),
    ],
)
def test_complete_lists_have_the_published_counts(task: str, version: str, repository: Path) -> None:
    lists = read_lists(task, shared_lists(repository))
    assert lists.version == version
    assert lists.published is not None
    assert {name: len(ids) for name, ids in lists.splits.items()} == dict(lists.published.counts)
    assert {name: len(ids) for name, ids in lists.subsets.items()} == dict(lists.published.subsets)
    assert len(lists.classes) == lists.published.classes
    assert set(lists.labels) == set(lists.ids)


def test_complete_go_splits_have_the_published_counts(repository: Path) -> None:
    from protclip.data.benchmarks.listing import read_ids
    from protclip.data.benchmarks.published import PUBLISHED

    folder = shared_lists(repository)
    published = PUBLISHED["go-bp"][0]
    test, subsets = read_cutoffs(folder / "nrPDB-GO_2019.06.18_test.csv")
    counts = {
        split: len(read_ids(folder / f"nrPDB-GO_2019.06.18_{split}.txt")) for split in ("train", "valid")
    }
    assert {**counts, "test": len(test)} == dict(published.counts)
    assert {cut: len(ids) for cut, ids in subsets.items()} == dict(published.subsets)


def test_shipped_labels_agree_with_the_complete_lists(repository: Path) -> None:
    import csv

    folder = shared_lists(repository)
    annotated = read_annotations(folder / "nrPDB-EC_2020.04_annot.tsv", "ec")
    fold = read_lists("fold", folder)
    rows = list(csv.DictReader((repository / "data/cath/labels.tsv").open(), delimiter="\t"))
    ec: dict[str, set[str]] = {}
    for row in rows:
        if row["task"] == "ec":
            ec.setdefault(f"{row['pdb'].upper()}-{row['chain']}", set()).add(row["label"])
        elif row["task"] == "fold":
            for scop in row["source"].split("domain ")[1].rstrip(")").split(", "):
                assert fold.classes[fold.labels[scop][0]] == row["label"]
                assert scop[1:6] == row["pdb"] + row["chain"].lower()
    for chain, labels in ec.items():
        assert {annotated.classes[i] for i in annotated.labels[chain]} == labels
