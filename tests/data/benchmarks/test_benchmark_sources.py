"""Fetching the benchmarks from a server that fails, stalls, breaks off and corrupts; and by hand."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from protclip.cli.data import app
from protclip.data.benchmarks.addresses import NAMES, SOURCES, find_source
from protclip.data.benchmarks.build_benchmark import Benchmark
from protclip.data.benchmarks.fetch import RECORD, fetch_benchmark, found_sources
from protclip.data.benchmarks.pdb_entries import fetch_entries
from protclip.errors import ConfigError, DataError, DownloadError

FAST = {"backoff": 0.001, "timeout": (2.0, 0.3)}
CHAINS = {"1UBI-A": "1ubiA00", "1LCD-A": "1lcdA00", "5PTI-A": "5ptiA00", "1EJG-A": "1ejgA00"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROTCLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fold_files(server: Any, cath_dir: Path) -> None:
    texts = {
        "class_map.txt": "a.1\t0\nd.15\t1",
        "training.txt": "d1ubia_\td.15\td.15\n",
        "validation.txt": "d5ptia_\ta.1\ta.1",
        "test_fold.txt": "d1ejga_\t46\td.15\td.15\n",
        "test_superfamily.txt": "d1lcda_\t51\ta.1\ta.1\n",
        "test_family.txt": "d1kyow_\ta.1\ta.1",
    }
    server.files.update({name: text.encode() for name, text in texts.items()})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for domain in ("1ubiA00", "5ptiA00", "1ejgA00", "1lcdA00", "1kyoW00"):
            body = (cath_dir / "dompdb" / domain).read_bytes()
            entry = tarfile.TarInfo(f"pdbstyle-1.75/{domain[1:3]}/d{domain[:5].lower()}_.ent")
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
    server.files["pdbstyle-sel-gs-bib-95-1.75.tgz"] = buffer.getvalue()


@pytest.mark.parametrize("faults", [[], ["500", "cut", "stall"], ["corrupt"]])
def test_ec_archive_to_benchmark(faults: list[str], server: Any, ec: bytes, own_cache: Path) -> None:
    server.faults["EnzymeCommission.zip"] = list(faults)
    if faults == ["corrupt"]:  # a wrong checksum is never taken; the next call begins anew
        with pytest.raises(DownloadError, match="wrong md5"):
            fetch_benchmark("ec", mirror=server.base, **FAST)
        assert not (own_cache / "downloads/ec/EnzymeCommission.zip").exists()
    folder = fetch_benchmark("ec", mirror=server.base, **FAST)
    assert folder == own_cache / "downloads" / "ec"
    assert (folder / "EnzymeCommission.zip").read_bytes() == ec
    record = json.loads((folder / RECORD).read_text())
    assert record["files"][0]["sha256"] == hashlib.sha256(ec).hexdigest()
    asked = server.asked["EnzymeCommission.zip"]
    fetch_benchmark("ec", mirror=server.base, **FAST)
    assert server.asked["EnzymeCommission.zip"] == asked  # it is there already
    # Without any option the build finds what was fetched.
    run = CliRunner().invoke(app, ["build", "ec"])
    assert run.exit_code == 0, run.output
    with Benchmark.open(own_cache / "benchmarks" / "ec.h5") as benchmark:
        assert {name: len(rows) for name, rows in benchmark.splits.items()} == {
            "train": 2,
            "valid": 1,
            "test": 1,
        }


def test_mirrors_are_asked_in_order(server: Any, ec: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    source = dataclasses.replace(find_source("ec"), archive_bases=(f"{server.base}/gone", server.base))
    monkeypatch.setitem(SOURCES, ("ec", "torchdrug"), source)
    server.faults["EnzymeCommission.zip"] = ["404"]
    folder = fetch_benchmark("ec", **FAST)
    assert (folder / "EnzymeCommission.zip").read_bytes() == ec
    assert server.asked["EnzymeCommission.zip"] == 2


def test_fold_lists_and_structures(server: Any, cath_dir: Path, own_cache: Path) -> None:
    fold_files(server, cath_dir)
    server.faults = {"training.txt": ["500"], "pdbstyle-sel-gs-bib-95-1.75.tgz": ["cut", "stall"]}
    said: list[str] = []
    folder = fetch_benchmark("fold", mirror=server.base, say=said.append, **FAST)
    assert said[0].startswith("fold: unpublished lists (1 train")
    assert not (folder / "pdbstyle-sel-gs-bib-95-1.75.tgz").exists()  # unpacked
    assert set(found_sources("fold")) == {"lists", "structures"}
    run = CliRunner().invoke(app, ["build", "fold"])
    assert run.exit_code == 0, run.output
    with Benchmark.open(own_cache / "benchmarks" / "fold.h5") as benchmark:
        assert len(benchmark) == 5
        assert benchmark.missing == []


def test_a_corrupt_archive_without_checksum_is_found_by_unpacking(server: Any, cath_dir: Path) -> None:
    fold_files(server, cath_dir)
    server.faults["pdbstyle-sel-gs-bib-95-1.75.tgz"] = ["corrupt"]
    with pytest.raises(DataError, match="damaged"):
        fetch_benchmark("fold", mirror=server.base, **FAST)
    folder = fetch_benchmark("fold", mirror=server.base, **FAST)
    assert len(list((folder / "structures").rglob("*.ent"))) == 5


def test_bad_lists_are_not_kept(server: Any, cath_dir: Path, own_cache: Path) -> None:
    fold_files(server, cath_dir)
    good = server.files["training.txt"]
    server.files["training.txt"] = b"<html>not found</html>"
    with pytest.raises(DataError, match=r"training.txt:1: a line without label"):
        fetch_benchmark("fold", mirror=server.base, **FAST)
    assert not (own_cache / "downloads/fold/lists").exists()
    server.files["training.txt"] = good
    fetch_benchmark("fold", mirror=server.base, **FAST)


def reaction_files(server: Any) -> dict[str, bytes]:
    chains = [chain.lower()[:4] + "." + chain[-1] for chain in CHAINS]
    texts = {
        "training.txt": "\n".join([*chains[:2], "9zzz.A"]),
        "validation.txt": chains[2],
        "testing.txt": chains[3],
        "chain_functions.txt": "\n".join(f"{chain},{i % 2}" for i, chain in enumerate([*chains, "9zzz.A"])),
        "unique_functions.txt": "1.1.1.1\n2.2.2.2",
    }
    files = {name: text.encode() for name, text in texts.items()}
    server.files.update(files)
    return files


def test_reaction_fetches_the_entries_of_its_chains(server: Any, cath_dir: Path, own_cache: Path) -> None:
    import gzip

    reaction_files(server)
    for chain, domain in CHAINS.items():
        # The reader goes by content, so that a PDB file can stand in for mmCIF here.
        body = gzip.compress((cath_dir / "dompdb" / domain).read_bytes())
        server.files[f"{chain[:4].lower()}.cif.gz"] = body
    server.faults["1ubi.cif.gz"] = ["500", "cut"]
    said: list[str] = []
    folder = fetch_benchmark("reaction", mirror=server.base, entry_format="cif", say=said.append, **FAST)
    assert sorted(path.name for path in (folder / "structures").iterdir() if path.suffix == ".gz") == [
        "1ejg.cif.gz",
        "1lcd.cif.gz",
        "1ubi.cif.gz",
        "5pti.cif.gz",
    ]
    assert any("1 PDB entries are not in the archive (obsolete), first: 9zzz" in text for text in said)
    assert server.asked["9zzz.cif.gz"] == 1
    before = server.asked["1lcd.cif.gz"]
    assert (
        fetch_entries(["1lcd"], folder / "structures", entry_format="cif", mirror=server.base, **FAST) == []
    )
    assert server.asked["1lcd.cif.gz"] == before
    run = CliRunner().invoke(app, ["build", "reaction"])
    assert run.exit_code == 0, run.output
    with Benchmark.open(own_cache / "benchmarks" / "reaction.h5") as benchmark:
        assert [id for id, _ in benchmark.missing] == ["9zzz.A"]
    server.faults["1abc.cif.gz"] = ["500"] * 9
    server.files["1abc.cif.gz"] = b""
    with pytest.raises(DownloadError, match="HTTP 500"):
        fetch_entries(["1abc"], folder / "x", entry_format="cif", mirror=server.base, **FAST)
    with pytest.raises(ConfigError, match="unknown format"):
        fetch_entries(["1abc"], folder / "x", entry_format="mmtf")


def test_lists_only(server: Any, own_cache: Path) -> None:
    reaction_files(server)
    folder = fetch_benchmark("reaction", mirror=server.base, structures=False, **FAST)
    assert not (folder / "structures").exists()
    with pytest.raises(DataError, match=r"nothing to build from.*--lists and --structures"):
        found_sources("reaction")


@pytest.mark.parametrize("name", NAMES)
def test_offline_says_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        fetch_benchmark(name, tmp_path / "x", mirror="http://127.0.0.1:9", backoff=0.0, timeout=(0.2, 0.2))
    text = str(caught.value)
    assert "no connection (is this machine online?)" in text
    assert "--from-file" in text
    assert f"protclip data download {name}" in text
    source = find_source(name)
    assert (source.archive or "chain_functions.txt") in text


def test_official_addresses() -> None:
    assert find_source("ec").md5 == "33f799065f8ad75f87b709a87293bc65"
    assert find_source("go").md5 == "376be1f088cd1fe720e1eaafb701b5cb"
    assert find_source("go").archive_bases[0] == "https://zenodo.org/record/6622158/files"
    assert find_source("fold").archive_bases == ("https://scop.berkeley.edu/downloads/pdbstyle",)
    assert "nrPDB-GO_2019.06.18_annot.tsv" in find_source("go", "deepfri").lists
    with pytest.raises(ConfigError, match="unknown benchmark"):
        find_source("go-bp")
    with pytest.raises(ConfigError, match="unknown version"):
        find_source("ec", "newest")


def test_files_fetched_by_hand(server: Any, ec: bytes, cath_dir: Path, tmp_path: Path) -> None:
    by_hand = tmp_path / "hand"
    by_hand.mkdir()
    (by_hand / "EnzymeCommission.zip").write_bytes(ec)
    run = CliRunner().invoke(app, ["download", "ec", "--from-file", str(by_hand / "EnzymeCommission.zip")])
    assert run.exit_code == 0, run.output
    assert found_sources("ec")["archive"].read_bytes() == ec
    fold_files(server, cath_dir)
    for name, body in server.files.items():
        (by_hand / name).write_bytes(body)
    lists = [by_hand / name.rsplit("/")[-1] for name in find_source("fold").lists]
    tgz = by_hand / "pdbstyle-sel-gs-bib-95-1.75.tgz"
    with pytest.raises(DataError, match=r"lists are missing.*class_map"):
        fetch_benchmark("fold", from_files=[tgz])
    with pytest.raises(DataError, match="the archive is missing"):
        fetch_benchmark("fold", from_files=lists)
    folder = fetch_benchmark("fold", from_files=[*lists, tgz])
    assert tgz.is_file()  # not ours to remove
    assert len(list((folder / "structures").rglob("*.ent"))) == 5
    (by_hand / "cake.txt").write_text("")
    with pytest.raises(DataError, match="not a file of this benchmark"):
        fetch_benchmark("fold", from_files=[by_hand / "cake.txt"])
    with pytest.raises(DataError, match="no such file"):
        fetch_benchmark("fold", from_files=[by_hand / "none.tgz"])
    said: list[str] = []
    (by_hand / "other.zip").write_bytes(ec)
    with zipfile.ZipFile(by_hand / "other.zip", "a") as bundle:
        bundle.writestr("EnzymeCommission/note.txt", "repacked")
    fetch_benchmark("ec", tmp_path / "x", from_files=[by_hand / "other.zip"], say=said.append)
    assert "is not the published archive" in said[0]


def test_lists_out_of_a_zip_of_their_repository(server: Any, cath_dir: Path, tmp_path: Path) -> None:
    fold_files(server, cath_dir)
    repository = tmp_path / "IEConv_proteins-master.zip"
    with zipfile.ZipFile(repository, "w") as bundle:
        for name, body in server.files.items():
            if name.endswith(".txt"):
                bundle.writestr(f"IEConv_proteins-master/Datasets/data/HomologyTAPE/{name}", body)
        for name, body in reaction_files(server).items():
            bundle.writestr(f"IEConv_proteins-master/Datasets/data/ProtFunct/{name}", body)
    tgz = tmp_path / "pdbstyle-sel-gs-bib-95-1.75.tgz"
    tgz.write_bytes(server.files[tgz.name])
    folder = fetch_benchmark("fold", from_files=[repository, tgz])
    assert (folder / "lists" / "training.txt").read_text() == "d1ubia_\td.15\td.15\n"
    folder = fetch_benchmark("reaction", from_files=[repository])
    assert (folder / "lists" / "training.txt").read_text().startswith("1ubi.A")
