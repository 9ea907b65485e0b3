"""Embedding in shards, by hand and on Ray, beside embedding in one piece."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import protclip
from protclip.data.corpus.build import build_corpus
from protclip.errors import ConfigError, DataError
from protclip.inference.merge import check_shards, merge_shards
from protclip.inference.shards import RayJob, embed_on_ray, embed_shard, list_files


@pytest.fixture(scope="module")
def model(run_folder: Path) -> protclip.AlignedModel:
    return protclip.load(run_folder, "cpu")


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    path = tmp_path / "many.fasta"
    records = [f">s{i}\n{''.join(rng.choice(letters, int(rng.integers(5, 40))))}\n" for i in range(40)]
    path.write_text("".join([*records[:20], ">bad\nM1\n", *records[20:]]))
    return path


def table(path: Path) -> dict[str, np.ndarray]:
    rows = pq.read_table(path)
    return dict(zip(rows["id"].to_pylist(), np.stack(rows["embedding"].to_numpy()), strict=True))


def test_shards_joined_are_the_whole(model, fasta, tmp_path, run_folder, cli):
    out, whole = tmp_path / "shards", tmp_path / "whole.parquet"
    for n in (2, 1, 3):  # in any order
        cli("embed", run_folder, "-i", fasta, "-o", out, "--shard", f"{n}/3", "--device", "cpu")
    said = cli("merge", out, "-o", tmp_path / "joined.parquet").output
    assert "3 shards, 40 vectors of 32 dimensions; 1 items failed" in said
    cli("embed", run_folder, "-i", fasta, "-o", whole, "--device", "cpu")
    joined, expected = table(tmp_path / "joined.parquet"), table(whole)
    assert list(joined) == list(expected)
    np.testing.assert_allclose(np.stack([*joined.values()]), np.stack([*expected.values()]), atol=2e-6)
    assert (tmp_path / "joined.parquet.failed.tsv").read_text() == (
        out / "shard-00002-of-00003.parquet.failed.tsv"
    ).read_text()


def test_finished_shards_are_kept_and_unfinished_ones_made(model, fasta, tmp_path, monkeypatch):
    files = list_files(model, "sequence", fasta)
    first = embed_shard(model, "sequence", files, 1, 2, tmp_path / "out")
    with pytest.raises(DataError, match=r"1 of 2 shards are missing; got without 2"):
        check_shards(tmp_path / "out")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "stream", refuse)
        again = embed_shard(model, "sequence", files, 1, 2, tmp_path / "out")
    assert (again.embedded, again.resumed, again.failed) == (first.embedded, first.embedded, first.failed)
    embed_shard(model, "sequence", files, 2, 2, tmp_path / "out")
    assert check_shards(tmp_path / "out").rows == 40


def test_more_shards_than_items_leave_empty_ones(model, tmp_path):
    path = tmp_path / "two.fasta"
    path.write_text(">a\nMKV\n>b\nGGGA\n")
    files = list_files(model, "sequence", path)
    for n in range(1, 10):
        embed_shard(model, "sequence", files, n, 9, tmp_path / "out")
    shards = check_shards(tmp_path / "out")
    assert (shards.rows, len(shards.paths)) == (2, 9)
    assert merge_shards(shards, tmp_path / "two.parquet") == 2
    assert list(table(tmp_path / "two.parquet")) == ["a", "b"]


def test_structures_of_folders_archives_and_stores_are_the_same(model, cath_dir, tmp_path):
    chosen = sorted((cath_dir / "dompdb").iterdir())[:12]
    folder = tmp_path / "in" / "folder"
    folder.mkdir(parents=True)
    for path in chosen:
        shutil.copy(path, folder)
    with tarfile.open(tmp_path / "in" / "all.tar", "w") as tar:
        tar.add(folder, "x")
    build_corpus(folder, tmp_path / "in" / "store.h5")
    expected = model.embed("structure", folder)
    for source in (folder, tmp_path / "in" / "all.tar", tmp_path / "in" / "store.h5"):
        out = tmp_path / f"out-{source.name}"
        files = list_files(model, "structure", source)
        for n in (1, 2, 3):
            embed_shard(model, "structure", files, n, 3, out)
        merge_shards(check_shards(out), out.with_suffix(".parquet"))
        found = table(out.with_suffix(".parquet"))
        assert sorted(found) == sorted(expected.ids)
        for id, vector in zip(expected.ids, expected.vectors, strict=True):
            np.testing.assert_allclose(found[id], vector, atol=2e-6)
        np.testing.assert_allclose(
            np.stack([model.embed("structure", source)[id] for id in expected.ids]),
            expected.vectors,
            atol=2e-6,
        )


def test_an_unreadable_file_is_one_failed_item(model, tmp_path, cath_dir):
    shutil.copy(cath_dir / "dompdb" / "1ubiA00", tmp_path / "1ubiA00")
    (tmp_path / "broken.tar").write_bytes(b"no archive at all")
    report = embed_shard(model, "structure", list_files(model, "structure", tmp_path), 1, 1, tmp_path / "out")
    assert (report.embedded, report.failed) == (1, 1)
    assert "broken.tar" in report.failed_list.read_text()


def spoil(folder: Path, how: str) -> str:
    """Damage a set of two shards; what the check has to say."""
    first, second = sorted(folder.glob("*.parquet"))
    if how == "swapped":
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
        return "another model, input or cut"
    if how == "cut off":
        second.write_bytes(second.read_bytes()[:-50])
        return "damaged"
    if how == "two cuts":
        shutil.copy(first, folder / "shard-00001-of-00003.parquet")
        return "several cuts"
    rows = pq.read_table(second)
    facts = rows.schema.metadata
    if how == "repeated":
        other = pq.read_table(first)
        ids = [other["id"][0].as_py(), *rows["id"].to_pylist()[1:]]
        pq.write_table(rows.set_column(0, rows.schema.field(0), [ids]).replace_schema_metadata(facts), second)
        return "stands in two places"
    raw = np.stack(rows["embedding"].to_numpy()).copy()
    raw[0] = np.nan
    import pyarrow as pa

    column = pa.FixedSizeListArray.from_arrays(pa.array(raw.reshape(-1)), raw.shape[1])
    pq.write_table(rows.set_column(1, rows.schema.field(1), column).replace_schema_metadata(facts), second)
    return "not a unit vector"


@pytest.mark.parametrize("how", ["swapped", "cut off", "two cuts", "repeated", "not finite"])
def test_check_finds_damage(model, fasta, tmp_path, how):
    files = list_files(model, "sequence", fasta)
    for n in (1, 2):
        embed_shard(model, "sequence", files, n, 2, tmp_path / "out")
    assert check_shards(tmp_path / "out").rows == 40
    with pytest.raises(DataError, match=spoil(tmp_path / "out", how)):
        check_shards(tmp_path / "out")


def test_merging_keeps_what_does_not_clash_and_says_what_does(model, fasta, tmp_path, cli):
    files = list_files(model, "sequence", fasta)
    for n in (1, 2):
        embed_shard(model, "sequence", files, n, 2, tmp_path / "out")
    first, second = (
        pq.read_table(path)["id"].to_pylist() for path in sorted((tmp_path / "out").glob("*.parquet"))
    )
    spoil(tmp_path / "out", "repeated")  # the first id of the second shard becomes that of the first
    with pytest.raises(DataError, match=f"stands in two places; got '{first[0]}'"):
        cli("merge", tmp_path / "out")
    said = cli("merge", tmp_path / "out", "-o", tmp_path / "all.parquet").output
    assert "2 shards, 39 vectors" in said
    assert "1 left out, whose ids stand twice" in said
    found = pq.read_table(tmp_path / "all.parquet")
    assert found["id"].to_pylist() == [*first, *second[1:]]
    own = table(sorted((tmp_path / "out").glob("*.parquet"))[0])
    assert np.array_equal(table(tmp_path / "all.parquet")[first[0]], own[first[0]])
    listed = (tmp_path / "all.parquet.failed.tsv").read_text().splitlines()
    assert listed[-1].startswith(f"{first[0]}\tstands in shard-00001-of-00002.parquet too")


def test_shards_of_another_input_are_not_taken_for_done(model, fasta, tmp_path):
    embed_shard(model, "sequence", list_files(model, "sequence", fasta), 1, 2, tmp_path / "out")
    with fasta.open("a") as file:
        file.write(">more\nMKV\n")
    with pytest.raises(ConfigError, match="in the way"):
        embed_shard(model, "sequence", list_files(model, "sequence", fasta), 1, 2, tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shard", "4/3"], "no such shard"),
        (["--shard", "1/2", "--shards", "2"], "one part or all"),
        (["--engine", "ray"], "into how many parts"),
        (["--engine", "spark"], "unknown engine"),
        (["--shards", "2", "--per-residue"], "no residue features"),
    ],
)
def test_refusals(run_folder, fasta, tmp_path, cli, arguments, said):
    result = cli("embed", run_folder, "-i", fasta, "-o", tmp_path / "out", *arguments, ok=False)
    assert said in str(result.exception)


@pytest.mark.slow
def test_ray_makes_the_same_shards(model, fasta, tmp_path, run_folder, cli):
    ray = pytest.importorskip("ray")
    files = list_files(model, "sequence", fasta)
    for n in range(1, 6):
        embed_shard(model, "sequence", files, n, 5, tmp_path / "local")
    # One is there already, one half.
    (tmp_path / "ray").mkdir()
    done = tmp_path / "local" / "shard-00004-of-00005.parquet"
    shutil.copy(done, tmp_path / "ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        job = RayJob(run_folder.absolute(), "sequence", files, 5, tmp_path / "ray", "cpu", "auto")
        report = embed_on_ray(job, workers=2)
        assert (report.shards, report.embedded, report.failed, report.errors) == (5, 40, 1, {})
        assert report.resumed == len(table(done))
        # Again: nothing to do. And a broken shard stops no other.
        assert embed_on_ray(job).resumed == 40
        done = tmp_path / "ray" / "shard-00002-of-00005.parquet"
        done.write_bytes(b"damaged")
        report = embed_on_ray(job, workers=2)
        assert (report.shards, list(report.errors)) == (4, [2])
        done.unlink()
        command = ["embed", run_folder, "-i", fasta, "-o", tmp_path / "ray", "--shards", 5]
        said = cli(*command, "--engine", "ray", "--workers", 1, "--device", "cpu").output
        assert "5 of 5 shards: 41 inputs: 40 embedded" in said
    finally:
        ray.shutdown()
    assert check_shards(tmp_path / "ray").rows == 40
    for n in range(1, 6):
        name = f"shard-0000{n}-of-00005.parquet"
        mine, theirs = table(tmp_path / "local" / name), table(tmp_path / "ray" / name)
        assert list(mine) == list(theirs)
        np.testing.assert_allclose([*mine.values()], [*theirs.values()], atol=2e-6)
