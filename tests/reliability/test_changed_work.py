"""Work that is taken up or shared: nothing of another input, model or option gets into an output."""

from __future__ import annotations

import json
import os
import shutil
import stat

import numpy as np
import pyarrow.parquet as pq
import pytest

import protclip
from protclip.errors import ConfigError, DataError
from protclip.inference.embeddings import Embeddings
from protclip.inference.merge import check_shards, merge_shards
from protclip.inference.shards import embed_shard, list_files, shard_path
from protclip.inference.to_file import embed_to_file
from protclip.tasks.predict_files import predict_to_file
from protclip.work.locks import claim

LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


class Stop(Exception):
    """Stands for whatever interrupts the work."""


@pytest.fixture(scope="module", autouse=True)
def small_pieces():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(protclip.AlignedModel.stream.__kwdefaults__, "window", 16)
        patch.setattr("protclip.tasks.predict.WINDOW", 16)
        yield


@pytest.fixture(scope="module")
def model(verbs, place):
    return protclip.load(place / "run", "cpu")


@pytest.fixture(scope="module")
def head(verbs, place):
    return protclip.load_head(place / "head", "cpu")


def write(path, seed=0, n=60):
    """A FASTA file whose size does not depend on the seed."""
    rng = np.random.default_rng(seed)
    path.write_text("".join(f">s{i:02d}\n{''.join(rng.choice(LETTERS, 12))}\n" for i in range(n)))
    os.utime(path, ns=(10**18, 10**18))
    return path


def stop_after(pieces):
    """A callback that interrupts the work after so many pieces."""
    calls = []

    def done(n):
        calls.append(n)
        if len(calls) > pieces:
            raise Stop

    return done


def interrupt(model, source, out, **options):
    with pytest.raises(Stop):
        embed_to_file(model, "sequence", source, out, done=stop_after(2), **options)
    assert len(list(out.with_name(out.name + ".parts").glob("*.npz"))) == 2


def other(model, **change):
    """The same model, put otherwise."""
    again = protclip.AlignedModel(model.towers, model.facts, model.path, model.precision)
    for name, value in change.items():
        setattr(again, name, value)
    return again


def test_the_same_content_is_taken_up_wherever_it_lies(model, tmp_path, monkeypatch):
    fasta = write(tmp_path / "many.fasta")
    interrupt(model, fasta, tmp_path / "x.h5")
    (tmp_path / "moved").mkdir()
    monkeypatch.chdir(tmp_path / "moved")
    moved = shutil.move(fasta, "many.fasta")
    report = embed_to_file(model, "sequence", type(fasta)(moved), tmp_path / "x.h5")
    assert (report.inputs, report.embedded, report.resumed) == (60, 60, 32)
    whole = tmp_path / "whole.h5"
    embed_to_file(model, "sequence", type(fasta)(moved), whole)
    assert (tmp_path / "x.h5").read_bytes() == whole.read_bytes()


def test_a_changed_input_behind_the_same_path_is_refused(model, tmp_path):
    """Of the same size and age."""
    fasta = write(tmp_path / "many.fasta")
    interrupt(model, fasta, tmp_path / "x.h5")
    before = fasta.stat()
    write(fasta, seed=1)
    assert (fasta.stat().st_size, fasta.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(
        ConfigError, match=r"x\.h5\.parts: .* got another input content \(\w+ before, \w+ now\)"
    ):
        embed_to_file(model, "sequence", fasta, tmp_path / "x.h5")


def test_a_changed_folder_is_refused(model, tmp_path, cath_dir):
    folder = tmp_path / "in"
    folder.mkdir()
    for path in sorted((cath_dir / "dompdb").iterdir())[:40]:
        shutil.copy(path, folder)
    with pytest.raises(Stop):
        embed_to_file(model, "structure", folder, tmp_path / "x.h5", done=stop_after(2))
    first, *_, last = sorted(folder.iterdir())
    content = first.read_bytes()
    first.write_bytes(last.read_bytes())
    with pytest.raises(ConfigError, match="got another input content"):
        embed_to_file(model, "structure", folder, tmp_path / "x.h5")
    first.write_bytes(content)
    (folder / "notes.txt").write_text("of no concern to the model")
    assert embed_to_file(model, "structure", folder, tmp_path / "x.h5").resumed == 32


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"precision": "bf16"}, r"another precision \('fp32' before, 'bf16' now\)"),
        ({"path": "other"}, r"another model \("),
    ],
)
def test_a_changed_model_or_precision_is_refused(model, tmp_path, change, named):
    fasta = write(tmp_path / "many.fasta")
    interrupt(model, fasta, tmp_path / "x.h5")
    if "path" in change:
        folder = tmp_path / "other"
        shutil.copytree(model.path, folder)
        with (folder / "model.safetensors").open("ab") as file:
            file.write(b" ")
        change = {"path": folder}
    with pytest.raises(ConfigError, match=named):
        embed_to_file(other(model, **change), "sequence", fasta, tmp_path / "x.h5")


def test_changed_options_and_versions_are_refused(model, tmp_path, monkeypatch):
    fasta = write(tmp_path / "many.fasta")
    interrupt(model, fasta, tmp_path / "x.h5")
    with pytest.raises(ConfigError, match=r"another choice of --per-residue \(False before, True now\)"):
        embed_to_file(model, "sequence", fasta, tmp_path / "x.h5", per_residue=True)
    monkeypatch.setattr("protclip.inference.to_file.__version__", "99.0")
    with pytest.raises(ConfigError, match=r"another version of protclip \('.*' before, '99.0' now\)"):
        embed_to_file(model, "sequence", fasta, tmp_path / "x.h5")


def test_a_damaged_piece_is_made_again_in_its_place(model, tmp_path):
    fasta = write(tmp_path / "many.fasta")
    interrupt(model, fasta, tmp_path / "x.h5")
    first = tmp_path / "x.h5.parts" / "0000001.npz"
    first.write_bytes(first.read_bytes()[:-40])
    report = embed_to_file(model, "sequence", fasta, tmp_path / "x.h5")
    assert report.resumed == 16
    embed_to_file(model, "sequence", fasta, tmp_path / "whole.h5")
    assert (tmp_path / "x.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_refused_before_anything_is_computed(model, tmp_path, monkeypatch):
    fasta = write(tmp_path / "many.fasta")
    monkeypatch.setattr(type(model), "stream", lambda *_, **__: pytest.fail("computed"))
    (tmp_path / "x.h5.parts").mkdir()
    (tmp_path / "x.h5.parts" / "thesis.doc").write_text("mine")
    with pytest.raises(DataError, match="something that protclip did not make"):
        embed_to_file(model, "sequence", fasta, tmp_path / "x.h5")
    assert (tmp_path / "x.h5.parts" / "thesis.doc").read_text() == "mine"
    (tmp_path / "link.h5").symlink_to(fasta)
    with pytest.raises(ConfigError, match="the output is the input"):
        embed_to_file(model, "sequence", fasta, tmp_path / "link.h5")
    with pytest.raises(ConfigError, match="would lie in the folder of the input"):
        embed_to_file(model, "sequence", tmp_path, tmp_path / "y.h5")
    with pytest.raises(ConfigError, match="too long"):
        embed_to_file(model, "sequence", fasta, tmp_path / ("n" * 250 + ".h5"))
    with pytest.raises(ConfigError, match="unknown choice"):
        embed_to_file(other(model, precision="fp23"), "sequence", fasta, tmp_path / "y.h5")
    with claim(tmp_path / "y.h5"), pytest.raises(DataError, match="another process is making this output"):
        embed_to_file(model, "sequence", fasta, tmp_path / "y.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.h5", "many.fasta", "x.h5.parts"]


def test_a_first_try_that_fails_does_not_block_the_name(model, tmp_path):
    bad, good = tmp_path / "bad.fasta", write(tmp_path / "good.fasta")
    bad.write_text(">a\nM1\n")
    with pytest.raises(DataError, match="nothing could be embedded"):
        embed_to_file(model, "sequence", bad, tmp_path / "x.h5")
    assert embed_to_file(model, "sequence", good, tmp_path / "x.h5").embedded == 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.fasta", "good.fasta", "x.h5"]


def test_outputs_of_one_folder_keep_to_themselves(model, tmp_path):
    one, two = tmp_path / "one.fasta", tmp_path / "two.fasta"
    one.write_text(">a\nMKV\n>b\nM1\n")
    two.write_text(">a\nMKV\n>c\nM2\n>c\nMM\n")
    first = embed_to_file(model, "sequence", one, tmp_path / "x.h5")
    second = embed_to_file(model, "sequence", two, tmp_path / "x.parquet")
    assert first.failed_list.read_text().splitlines()[1].startswith("b\t")
    assert [line.split("\t")[0] for line in second.failed_list.read_text().splitlines()[1:]] == [
        "c",
        "c (again)",
    ]
    for report in (first, second):
        assert report.inputs == report.embedded + report.skipped + report.failed
    assert (second.inputs, second.embedded, second.skipped, second.failed) == (3, 1, 1, 1)


def test_every_input_is_counted_whatever_its_name(model, tmp_path):
    """Also many of one name, which count as many."""
    fasta = tmp_path / "many.fasta"
    fasta.write_text(">ranked_0\nM1\n" * 5 + ">ranked_1\nMKV\n" * 40)
    report = embed_to_file(model, "sequence", fasta, tmp_path / "x.h5")
    assert (report.inputs, report.embedded, report.skipped, report.failed) == (45, 1, 43, 1)
    assert len(report.failed_list.read_text().splitlines()) == 1 + 44


def test_what_an_output_says_of_its_making(model, tmp_path):
    fasta = write(tmp_path / "many.fasta")
    embed_to_file(model, "sequence", fasta, tmp_path / "x.parquet")
    made_by = json.loads(pq.read_schema(tmp_path / "x.parquet").metadata[b"made_by"])
    assert {key: made_by[key] for key in ("model", "modality", "input", "per_residue", "precision")} == {
        "model": model.fingerprint,
        "modality": "sequence",
        "input": str(fasta),
        "per_residue": False,
        "precision": "fp32",
    }
    assert len(made_by["content"]) == 64


def test_ids_that_are_no_text_are_made_visible(model, tmp_path):
    found = model.embed_sequences({"a\udcff": "MKV", "b/c": "MKVV", "b_c": "MK"}, per_residue=True)
    assert found.ids == ["a\\udcff", "b/c", "b_c"]
    found.to_hdf5(tmp_path / "x.h5")
    back = Embeddings.load(tmp_path / "x.h5")
    assert [len(back.residues[id]) for id in back.ids] == [3, 4, 2]


def remake_as_older(path, **change):
    """A shard as it was written before its content and precision were noted."""
    table = pq.read_table(path)
    made_by = json.loads(table.schema.metadata[b"made_by"])
    old = {key: made_by[key] for key in ("model", "modality", "input", "per_residue")}
    facts = {"modality": made_by["modality"], "made_by": json.dumps({**old, **change})}
    pq.write_table(table.replace_schema_metadata(facts), path, use_dictionary=False)


def test_shards_of_a_changed_input_are_refused(model, tmp_path):
    """Of the same size and age: finished shards as unfinished ones."""
    fasta, out = write(tmp_path / "many.fasta"), tmp_path / "out"
    embed_shard(model, "sequence", list_files(model, "sequence", fasta), 1, 2, out)
    with pytest.raises(Stop):
        embed_shard(model, "sequence", list_files(model, "sequence", fasta), 2, 2, out, done=stop_after(1))
    write(fasta, seed=1)
    files = list_files(model, "sequence", fasta)
    with pytest.raises(ConfigError, match=r"in the way; got another content \("):
        embed_shard(model, "sequence", files, 1, 2, out)
    with pytest.raises(ConfigError, match="got another input content"):
        embed_shard(model, "sequence", files, 2, 2, out)
    write(fasta)
    files = list_files(model, "sequence", fasta)
    with pytest.raises(ConfigError, match=r"another precision \('fp32' before, 'bf16' now\)"):
        embed_shard(other(model, precision="bf16"), "sequence", files, 1, 2, out)
    moved = tmp_path / "moved.fasta"
    shutil.copy(fasta, moved)
    assert embed_shard(model, "sequence", files, 1, 2, out).resumed > 0
    assert embed_shard(model, "sequence", files, 2, 2, out).resumed == 16


def test_the_last_item_of_a_shard_counts_whole(model, tmp_path):
    """It begins in the shard and ends behind it."""
    fasta, out = tmp_path / "two.fasta", tmp_path / "out"
    fasta.write_text(">a\nMKVMKV\n>b\n" + "GAV" * 200 + "\n")
    embed_shard(model, "sequence", list_files(model, "sequence", fasta), 1, 2, out)
    fasta.write_text(">a\nMKVMKV\n>b\n" + "GAV" * 199 + "GGG" + "\n")
    with pytest.raises(ConfigError, match="another content"):
        embed_shard(model, "sequence", list_files(model, "sequence", fasta), 1, 2, out)


def test_older_shards_are_kept_and_merged(model, tmp_path):
    fasta, out = write(tmp_path / "many.fasta"), tmp_path / "out"
    files = list_files(model, "sequence", fasta)
    for number in (1, 2, 3):
        embed_shard(model, "sequence", files, number, 3, out)
    new = check_shards(out)
    assert new.made_by["precision"] == "fp32"
    assert len(new.made_by["content"]) == 64
    merge_shards(new, tmp_path / "new.parquet")
    for number in (1, 2):  # one is left as it is written now
        remake_as_older(shard_path(out, number, 3))
        assert embed_shard(model, "sequence", files, number, 3, out).resumed > 0
    old = check_shards(out)
    assert set(old.made_by) == {"model", "modality", "input", "per_residue"}
    merge_shards(old, tmp_path / "old.parquet")
    assert pq.read_table(tmp_path / "old.parquet").equals(pq.read_table(tmp_path / "new.parquet"))
    remake_as_older(shard_path(out, 2, 3), model="another")
    with pytest.raises(DataError, match="another model, input or cut"):
        check_shards(out)


def test_merging_refuses_what_another_process_makes(model, tmp_path):
    files = list_files(model, "sequence", write(tmp_path / "many.fasta"))
    embed_shard(model, "sequence", files, 1, 1, tmp_path / "out")
    found = check_shards(tmp_path / "out")
    with claim(tmp_path / "all.parquet"), pytest.raises(DataError, match="another process"):
        merge_shards(found, tmp_path / "all.parquet")
    with pytest.raises(ConfigError, match="the output is the input"):
        merge_shards(found, found.paths[0])


def test_predictions_of_a_changed_input_or_option_are_refused(head, tmp_path):
    fasta, out = write(tmp_path / "many.fasta"), tmp_path / "go.tsv"
    with pytest.raises(Stop):
        predict_to_file(head, fasta, out, top_k=2, done=stop_after(2))
    assert not out.exists()
    with pytest.raises(ConfigError, match=r"another choice of --top-k \(2 before, 3 now\)"):
        predict_to_file(head, fasta, out, top_k=3)
    write(fasta, seed=1)
    with pytest.raises(ConfigError, match="got another input content"):
        predict_to_file(head, fasta, out, top_k=2)
    write(fasta)
    report = predict_to_file(head, fasta, out, top_k=2)
    assert (report.inputs, report.predicted, report.resumed) == (60, 60, 32)
    predict_to_file(head, fasta, tmp_path / "whole.tsv", top_k=2)
    assert out.read_bytes() == (tmp_path / "whole.tsv").read_bytes()
    assert not list(tmp_path.glob("*.parts"))


def test_weights_are_as_readable_as_their_neighbours(verbs, place):
    for folder in (place / "run" / "model", place / "head" / "head"):
        modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.is_file()}
        assert len(modes) == 1
