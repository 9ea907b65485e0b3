"""From lists and structures, or an archive, to a benchmark file; and what cannot be built."""

from __future__ import annotations

import gzip
import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from protclip.cli.data import app
from protclip.data.benchmarks import build_benchmark as module
from protclip.data.benchmarks.benchmark_file import missing_path
from protclip.data.benchmarks.build_benchmark import Benchmark, build_benchmark
from protclip.data.benchmarks.fold import read_merged
from protclip.data.files.unzip import extract_zip
from protclip.errors import ConfigError, DataError
from protclip.structure.reading.read import read_structure

# Real domains of the shipped corpus, under the names of chains: (domain, chain in the file).
DOMAINS = {
    "1ubi.A": "1ubiA00",
    "1lcd.A": "1lcdA00",
    "5pti.A": "5ptiA00",
    "1ejg.A": "1ejgA00",
    "1kyo.W": "1kyoW00",
}


@pytest.fixture
def pdb(cath_dir: Path):
    return lambda id: (cath_dir / "dompdb" / DOMAINS[id]).read_bytes()


def reaction_lists(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "training.txt").write_text("1ubi.A\n1lcd.A\n9zzz.A\n1kyo.X\n")
    (folder / "validation.txt").write_text("5pti.A")
    (folder / "testing.txt").write_text("1ejg.A\n1kyo.W\n")
    chains = [*DOMAINS, "9zzz.A", "1kyo.X"]
    (folder / "chain_functions.txt").write_text("\n".join(f"{c},{i % 2}" for i, c in enumerate(chains)))
    (folder / "unique_functions.txt").write_text("1.1.1.1\n2.2.2.2")
    return folder


def test_reaction_from_files_of_every_kind_of_name(pdb, tmp_path: Path) -> None:
    lists, files = reaction_lists(tmp_path / "lists"), tmp_path / "files"
    files.mkdir()
    (files / "1UBI-A.pdb").write_bytes(pdb("1ubi.A"))
    (files / "pdb1lcd.ent.gz").write_bytes(gzip.compress(pdb("1lcd.A")))
    (files / "5pti_A.ent").write_bytes(b"this is no structure\n")
    (files / "1ejg.A.pdb").write_bytes(pdb("1ejg.A"))
    (files / "1kyo.pdb").write_bytes(pdb("1kyo.W"))  # the entry has no chain X
    with pytest.raises(DataError, match=r"'valid' is empty.*9zzz.A: no structure file"):
        build_benchmark("reaction", tmp_path / "r.h5", lists=lists, structures=files)
    assert not (tmp_path / "r.h5").exists()
    (files / "5pti_A.ent").write_bytes(pdb("5pti.A"))
    report = build_benchmark("reaction", tmp_path / "r.h5", lists=lists, structures=files, workers=1)
    assert report.counts == (("train", 2, None), ("valid", 1, None), ("test", 2, None))
    assert report.missing == 2
    assert not (tmp_path / "r.h5.partial").exists()
    with Benchmark.open(tmp_path / "r.h5") as b:
        assert b.ids == ["1ubi.A", "1lcd.A", "5pti.A", "1ejg.A", "1kyo.W"]
        assert b.labels().toarray().argmax(1).tolist() == [0, 1, 0, 1, 0]
        assert b.classes == ["1.1.1.1", "2.2.2.2"]
        (none, _), (wrong, reason) = b.missing
        assert (none, wrong) == ("9zzz.A", "1kyo.X")
        assert "no such protein chain" in reason
        assert b.provenance["listed"] == {"train": 4, "valid": 1, "test": 2}
        expected = read_structure(files / "1kyo.pdb", chain="W")
        np.testing.assert_array_equal(b.corpus[4].coords, expected.coords)
    table = missing_path(tmp_path / "r.h5").read_text().splitlines()
    assert [line.split("\t")[0] for line in table] == ["id", "9zzz.A", "1kyo.X"]
    assert "missing, see" in str(report)


def test_a_chain_file_may_call_its_chain_otherwise(pdb, tmp_path: Path) -> None:
    lists, files = reaction_lists(tmp_path / "lists"), tmp_path / "files"
    files.mkdir()
    for id in DOMAINS:
        (files / f"{id.replace('.', '_')}.pdb").write_bytes(pdb(id))
    (files / "1kyo_X.pdb").write_bytes(pdb("1kyo.W"))  # chain W inside
    report = build_benchmark("reaction", tmp_path / "r.h5", lists=lists, structures=files)
    assert report.missing == 1
    with Benchmark.open(tmp_path / "r.h5") as b:
        rows = [b.ids.index("1kyo.X"), b.ids.index("1kyo.W")]
        assert b.corpus.sequence(rows[0]) == b.corpus.sequence(rows[1])


def test_binary_cif_and_mmcif_entries(tmp_path: Path, cath_dir: Path) -> None:
    biotite = pytest.importorskip("biotite.structure.io", reason="BinaryCIF needs biotite")
    import biotite.structure.io.pdb as pdb_io
    import biotite.structure.io.pdbx as pdbx

    lists, files = reaction_lists(tmp_path / "lists"), tmp_path / "files"
    files.mkdir()
    for i, (id, domain) in enumerate(DOMAINS.items()):
        atoms = pdb_io.PDBFile.read(str(cath_dir / "dompdb" / domain)).get_structure(model=1)
        kind, suffix = ((pdbx.BinaryCIFFile, "bcif"), (pdbx.CIFFile, "cif"))[i % 2]
        file = kind()
        pdbx.set_structure(file, atoms)
        file.write(str(files / f"{id.split('.')[0]}.{suffix}"))
    report = build_benchmark("reaction", tmp_path / "r.h5", lists=lists, structures=files)
    with Benchmark.open(report.out) as b:
        assert len(b) == 5
        np.testing.assert_allclose(
            b.corpus[0].ca, read_structure(cath_dir / "dompdb" / "1ubiA00").ca, atol=2e-3
        )
    assert biotite is not None


def scop(folder: Path, pdb) -> tuple[Path, Path]:
    lists, files = folder / "HomologyTAPE", folder / "pdbstyle"
    lists.mkdir()
    (lists / "class_map.txt").write_text("a.1\t0\nd.15\t1")
    ids = {"training": "d1ubia_\td.15\td.15\nd1lcd.1\ta.1\ta.1", "validation": "d5ptia_\ta.1\ta.1"}
    ids |= {"test_family": "d1kyow_\ta.1\ta.1\nd9zzza_\ta.1\ta.1"}
    ids |= {"test_fold": "d1ejga_\t46\td.15\td.15", "test_superfamily": "d1lcda_\t51\ta.1\ta.1"}
    for name, text in ids.items():
        (lists / f"{name}.txt").write_text(text)
    for id, source in {"d1ubia_": "1ubi.A", "d5ptia_": "5pti.A", "d1kyow_": "1kyo.W"}.items():
        (files / id[2:4]).mkdir(parents=True, exist_ok=True)
        (files / id[2:4] / f"{id}.ent").write_bytes(pdb(source))
    for id, source in {"d1ejga_": "1ejg.A", "d1lcda_": "1lcd.A"}.items():
        (files / f"{id}.ent").write_bytes(pdb(source))
    # A domain of two chains.
    atoms = pdb("1lcd.A").decode().splitlines()
    second = [line[:21] + "B" + line[22:] for line in atoms if line.startswith("ATOM")]
    first = [line for line in atoms if line.startswith("ATOM")]
    (files / "d1lcd.1.ent").write_text("\n".join([*first, "TER", *second, "END"]) + "\n")
    return lists, files


def test_fold_with_a_domain_of_two_chains(pdb, tmp_path: Path) -> None:
    lists, files = scop(tmp_path, pdb)
    report = build_benchmark("fold", tmp_path / "f.h5", lists=lists, structures=files)
    assert [count[:2] for count in report.counts] == [
        ("train", 2),
        ("valid", 1),
        ("test_fold", 1),
        ("test_superfamily", 1),
        ("test_family", 1),
    ]
    with Benchmark.open(report.out) as b:
        assert b.missing[0][0] == "d9zzza_"
        two = b.corpus[b.ids.index("d1lcd.1")]
        one = b.corpus[b.ids.index("d1lcda_")]
        assert two.sequence == one.sequence * 2
        np.testing.assert_array_equal(two.coords, np.concatenate([one.coords] * 2))
        assert (np.diff(two.position) > 0).all()
        assert two.position[len(one)] - two.position[len(one) - 1] > 32
    assert len(read_merged(files / "d1lcda_.ent", "x")) == 51


ANNOTATION = (
    "### EC-numbers\n1.1.1.-\t3.4.21.-\n### PDB-chain\tEC-numbers\n"
    "1UBI-A\t1.1.1.-\n1LCD-A\t3.4.21.-\n5PTI-A\t1.1.1.-\n1EJG-A\t3.4.21.-,1.1.1.-\n1KYO-W\t3.4.21.-"
)
CUTOFFS = "PDB-chain,<30%,<40%,<50%,<70%,<95%\n1EJG-A,0,0,0,1,1\n1KYO-W,1,1,1,1,1\n9ZZZ-A,0,0,0,0,1"
SPLITS = {"train": ["1ubi.A", "1lcd.A"], "valid": ["5pti.A"], "test": ["1ejg.A", "1kyo.W"]}


def torchdrug_zip(path: Path, pdb, *, wrapped: bool = True, broken: str = "") -> Path:
    """An archive in torchdrug's layout: zips of <PDB-chain>_*.pdb in a zip, beside the lists."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as outer:
        for split, ids in SPLITS.items():
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as inner:
                for id in ids:
                    name = f"{id.upper().replace('.', '-')}_{id[:4].upper()}.pdb"
                    inner.writestr(f"{split}/{name}" if wrapped else name, pdb(id))
            content = buffer.getvalue()
            if broken == split:
                content = content[: len(content) // 2]
            outer.writestr(f"EnzymeCommission/{split}.zip", content)
        outer.writestr("EnzymeCommission/nrPDB-EC_annot.tsv", ANNOTATION)
        outer.writestr("EnzymeCommission/nrPDB-EC_test.csv", CUTOFFS)
    return path


@pytest.mark.parametrize("wrapped", [True, False])
def test_torchdrug_zip_of_zips(wrapped: bool, pdb, tmp_path: Path) -> None:
    archive = torchdrug_zip(tmp_path / "EnzymeCommission.zip", pdb, wrapped=wrapped)
    report = build_benchmark("ec", tmp_path / "ec.h5", archive=archive)
    assert report.version == "unpublished torchdrug archive (2 train, 1 valid, 2 test; 2 classes)"
    with Benchmark.open(report.out) as b:
        assert {k: [b.ids[i] for i in v] for k, v in b.splits.items()} == {
            "train": ["1LCD-A", "1UBI-A"],
            "valid": ["5PTI-A"],
            "test": ["1EJG-A", "1KYO-W"],
        }
        assert [b.ids[i] for i in b.subsets["50"]] == ["1KYO-W"]
        assert [b.ids[i] for i in b.subsets["95"]] == ["1EJG-A", "1KYO-W"]
        labels = dict(zip(b.ids, b.labels().toarray().tolist(), strict=True))
        assert labels["1EJG-A"] == [True, True]
        assert labels["1UBI-A"] == [True, False]
        assert len(b.provenance["archive"]["md5"]) == 32
    assert not (tmp_path / "ec.h5.partial").exists()


def test_deepfri_lists_over_an_unpacked_archive(pdb, tmp_path: Path) -> None:
    extract_zip(torchdrug_zip(tmp_path / "a.zip", pdb), tmp_path / "unpacked")
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "nrPDB-EC_2020.04_annot.tsv").write_text(ANNOTATION + "\n9ZZZ-A\t1.1.1.-")
    for split in ("train", "valid"):
        ids = [id.upper().replace(".", "-") for id in SPLITS[split]]
        (lists / f"nrPDB-EC_2020.04_{split}.txt").write_text("\n".join(ids))
    (lists / "nrPDB-EC_2020.04_test.csv").write_text(CUTOFFS)
    report = build_benchmark("ec", tmp_path / "ec.h5", lists=lists, structures=tmp_path / "unpacked")
    assert report.version.startswith("unpublished lists (2 train, 1 valid, 3 test")
    assert report.missing == 1
    assert report.first_missing.startswith("9ZZZ-A")
    # Without lists the archive's own are taken.
    report = build_benchmark("ec", tmp_path / "ec.h5", structures=tmp_path / "unpacked")
    assert report.version.startswith("unpublished torchdrug archive")


def test_expected_counts_stand_beside_what_was_found(pdb, tmp_path: Path, monkeypatch) -> None:
    from protclip.data.benchmarks.published import PUBLISHED, Published

    tiny = Published("torchdrug tiny", {"train": 2, "valid": 1, "test": 2}, 2, {"95": 9})
    monkeypatch.setitem(PUBLISHED, "ec", (tiny,))
    archive = torchdrug_zip(tmp_path / "a.zip", lambda id: b"nonsense" if id == "1lcd.A" else pdb(id))
    report = build_benchmark("ec", tmp_path / "ec.h5", archive=archive)
    assert report.version == "torchdrug tiny"
    assert ("train", 1, 2) in report.counts
    assert ("test <95%", 2, 9) in report.counts
    shown = CliRunner().invoke(app, ["info", str(tmp_path / "ec.h5"), "--json"])
    assert '"train": "1/2"' in shown.output
    assert '"missing": 1' in shown.output


def test_bad_archives(pdb, tmp_path: Path) -> None:
    def build(path: Path) -> None:
        build_benchmark("ec", tmp_path / "ec.h5", archive=path)

    cut = torchdrug_zip(tmp_path / "cut.zip", pdb)
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged, cut off"):
        build(cut)
    with pytest.raises(DataError, match=r"inner.zip:EnzymeCommission/valid.zip: the archive is damaged"):
        build(torchdrug_zip(tmp_path / "inner.zip", pdb, broken="valid"))
    flipped = torchdrug_zip(tmp_path / "flip.zip", pdb)
    content = bytearray(flipped.read_bytes())
    content[len(content) // 4] ^= 255
    flipped.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        build(flipped)
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as bundle:
        bundle.writestr("../outside.pdb", "ATOM")
    with pytest.raises(DataError, match="leads outside"):
        build(tmp_path / "evil.zip")
    assert not (tmp_path / "outside.pdb").exists()
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("a.pdb", b"\0" * (64 << 20))
    with pytest.raises(DataError, match="unpacks to more"):
        build(tmp_path / "bomb.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as bundle:
        bundle.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match=r"no \*EC\*annot.tsv"):
        build(tmp_path / "other.zip")
    with zipfile.ZipFile(tmp_path / "none.zip", "w"):
        pass
    with pytest.raises(DataError, match="empty archive"):
        build(tmp_path / "none.zip")
    with pytest.raises(DataError, match="no such file"):
        build(tmp_path / "nowhere.zip")
    assert not (tmp_path / "ec.h5").exists()


def test_an_archive_with_a_chain_that_is_not_annotated(pdb, tmp_path: Path) -> None:
    archive = torchdrug_zip(tmp_path / "a.zip", pdb)
    extract_zip(archive, tmp_path / "u")
    train = tmp_path / "u/EnzymeCommission/train"
    shutil.copy(train / "1UBI-A_1UBI.pdb", train / "1UBI-A_second.pdb")
    report = build_benchmark("ec", tmp_path / "ec.h5", structures=tmp_path / "u")
    assert report.first_missing == "1UBI-A: a second file of this chain was left out: 1UBI-A_second.pdb"
    shutil.copy(train / "1UBI-A_1UBI.pdb", train / "9XXX-A_x.pdb")
    with pytest.raises(DataError, match="without label; got 9XXX-A"):
        build_benchmark("ec", tmp_path / "ec.h5", structures=tmp_path / "u")
    (train / "9XXX-A_x.pdb").rename(train / "strange.pdb")
    with pytest.raises(DataError, match=r"strange.pdb: no chain in a file name"):
        build_benchmark("ec", tmp_path / "ec.h5", structures=tmp_path / "u")


def test_interrupted_builds_go_on(pdb, tmp_path: Path, monkeypatch) -> None:
    lists, files = scop(tmp_path, pdb)

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_benchmark", stop)
    with pytest.raises(KeyboardInterrupt):
        build_benchmark("fold", tmp_path / "f.h5", lists=lists, structures=files)
    monkeypatch.undo()
    shards = list((tmp_path / "f.h5.partial").glob("*.h5"))
    assert shards
    seen = []
    original = module.parse_items

    def watch(*args: object, **kwargs: object):  # type: ignore[no-untyped-def]
        result = original(*args, **kwargs)  # type: ignore[arg-type]
        seen.append(result[1])
        return result

    monkeypatch.setattr(module, "parse_items", watch)
    build_benchmark("fold", tmp_path / "f.h5", lists=lists, structures=files)
    assert seen[0] == 5  # taken over, the domain of two chains apart
    assert not (tmp_path / "f.h5.partial").exists()


def test_what_cannot_be_combined(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown task"):
        build_benchmark("go", tmp_path / "x.h5")
    with pytest.raises(DataError, match=r"no structures given.*protclip data download go"):
        build_benchmark("go-bp", tmp_path / "x.h5", lists=tmp_path)
    with pytest.raises(DataError, match="an archive takes the place"):
        build_benchmark("fold", tmp_path / "x.h5", archive=tmp_path / "a.zip")
    with pytest.raises(DataError, match="workers out of range"):
        build_benchmark("ec", tmp_path / "x.h5", workers=0)


def test_command_line(pdb, tmp_path: Path, private_cache: Path) -> None:
    archive = torchdrug_zip(tmp_path / "EnzymeCommission.zip", pdb)
    out = tmp_path / "ec.h5"
    run = CliRunner().invoke(app, ["build", "ec", "--archive", str(archive), "-o", str(out)])
    assert run.exit_code == 0, run.output
    assert "protclip finetune ec --data" in run.output
    assert Benchmark.open(out).task == "ec"
    assert CliRunner().invoke(app, ["build"]).exit_code == 2
    assert CliRunner().invoke(app, ["build", "ec", "--cath", str(tmp_path)]).exit_code == 2
    bare = CliRunner().invoke(app, ["build", "ec"])
    assert "protclip data download ec" in str(bare.exception)
