"""Prediction with a saved head: round trip, options, failures, files, command line."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import protclip
from protclip.cli.app import app
from protclip.config.resolve import resolve
from protclip.errors import ConfigError, DataError, ProtclipError
from protclip.structure.protein import Protein
from protclip.tasks.config import FinetuneConfig
from protclip.tasks.finetune import Finetuning
from protclip.tasks.ontology import ec_hierarchy, ec_levels, read_go
from protclip.tasks.predict import load_head
from protclip.tasks.predict_files import predict_to_file

TINY = {
    "structure_size": "tiny", "sequence_encoder": "scratch", "esm_init": "random", "device": "cpu",
    "batch_size": 16, "recipe": "demonstration",
}  # fmt: skip
EC = ["1.1.1.1", "1.1.1.2", "2.-.-.-", "1.1.-.-", "9.9.9.9"]

OBO = """format-version: 1.2

[Term]
id: GO:0000001
name: root

[Term]
id: GO:0000002
name: middle
alt_id: GO:0000009
is_a: GO:0000001 ! root

[Term]
id: GO:0000003
name: leaf
is_a: GO:0000002 ! middle

[Term]
id: GO:0000004
name: part
relationship: part_of GO:0000002 ! middle
relationship: regulates GO:0000003 ! leaf
"""


@pytest.fixture(scope="module")
def heads(tmp_path_factory, toy_corpus, fake_benchmark):
    """Run folders of a sequence head for EC, one with both towers for reaction, one for GO; by name."""
    root = tmp_path_factory.mktemp("heads")
    rows = list(range(80))
    splits = {"train": rows[:48], "valid": rows[48:64], "test": rows[64:]}

    def train(name, task, classes=None, demonstration=False, **options):
        group = np.arange(80) % 4
        labels = np.eye(5, dtype=bool)[group]
        if task not in ("reaction",):
            labels[:, 3] |= group < 2
        benchmark = fake_benchmark(toy_corpus, task, labels, splits)
        benchmark.is_demonstration = demonstration
        if classes:
            benchmark.classes = classes
        config = resolve(FinetuneConfig, {"task": task, **TINY, **options})
        Finetuning(config, root / name, lambda: benchmark).run()
        return root / name

    return {
        "ec": train("ec", "ec", EC, towers="sequence", epochs=5),
        "both": train("both", "reaction", towers="both", mode="probe", epochs=10, demonstration=True),
        "go": train(
            "go",
            "go-mf",
            ["GO:0000001", "GO:0000009", "GO:0000003", "GO:0000004", "GO:0000005"],
            towers="sequence",
            mode="probe",
            epochs=3,
        ),
    }


@pytest.fixture
def fasta(tmp_path, toy_corpus):
    path = tmp_path / "in.fasta"
    path.write_text("".join(f">{toy_corpus.ids[i]}\n{toy_corpus.sequence(i)}\n" for i in range(64, 80)))
    return path


def test_a_sequence_head_round_trip(heads, fasta, toy_corpus):
    head = protclip.load_head(heads["ec"], device="cpu")
    table = head.predict(fasta, top_k=1)
    assert list(table.columns) == ["id", "rank", "class", "name", "score"]
    truth = {toy_corpus.ids[i]: {EC[i % 4]} | ({EC[3]} if i % 4 < 2 else set()) for i in range(64, 80)}
    assert all(row["class"] in truth[row["id"]] for _, row in table.iterrows())
    assert head.score(fasta, {id: sorted(names) for id, names in truth.items()}) > 0.95
    p = head.predict_proba(fasta)
    assert p.shape == (16, 5)
    assert ((p > 0) & (p < 1)).all()
    assert head.classes_.tolist() == EC
    assert repr(head) == "Head(ec, 5 classes, sequence)"


def test_sources_of_a_sequence_head(heads, fasta, toy_corpus):
    head = protclip.load_head(heads["ec"], device="cpu")
    sequences = toy_corpus.sequences(range(64, 80))
    expected = head.predict_proba(fasta)
    np.testing.assert_allclose(head.predict_proba(sequences), expected, atol=1e-5)
    np.testing.assert_allclose(head.predict_proba(toy_corpus.proteins(range(64, 80))), expected, atol=1e-5)
    by_id = dict(zip("abcdefghijklmnop", sequences, strict=True))
    for source in (by_id, pd.Series(by_id), pd.DataFrame({"id": list(by_id), "sequence": sequences})):
        assert head.predict(source, top_k=1)["id"].tolist() == list(by_id)
    generated = head.predict((pair for pair in by_id.items()), top_k=1)
    pd.testing.assert_frame_equal(generated, head.predict(by_id, top_k=1))
    np.testing.assert_allclose(head.predict_proba(sequences[0]), expected[:1], atol=1e-5)
    with pytest.raises(DataError, match=r"position 1: no such file or folder; got 'two\.fasta'"):
        head.predict([sequences[0], "two.fasta"])


def test_probabilities_do_not_depend_on_the_batch(heads, fasta, toy_corpus):
    head = protclip.load_head(heads["ec"], device="cpu")
    alone = head.predict_proba([toy_corpus.sequence(64)])
    np.testing.assert_allclose(alone, head.predict_proba(fasta)[:1], atol=1e-5)


def test_thresholds(heads, fasta):
    head = protclip.load_head(heads["ec"], device="cpu")
    p = head.predict_proba(fasta)
    table = head.predict(fasta, threshold=0.3)
    assert len(table) == (p >= 0.3).sum()
    assert (table["score"] >= 0.3).all()
    best = head.predict(fasta, threshold="fmax")
    assert len(best) == (p >= head.threshold_fmax).sum()
    assert len(head.predict(fasta)) == 16 * 5
    assert head.predict(fasta, top_k=2)["rank"].tolist() == [1, 2] * 16


def test_ec_levels_are_made_consistent(heads, fasta):
    head = protclip.load_head(heads["ec"], device="cpu")
    table = head.predict(fasta, ec_consistent=True).set_index(["id", "class"])["score"]
    for id in table.index.get_level_values(0).unique():
        assert table[id, "1.1.-.-"] >= max(table[id, "1.1.1.1"], table[id, "1.1.1.2"])
    np.testing.assert_allclose(table.xs("9.9.9.9", level=1).to_numpy(), head.predict_proba(fasta)[:, 4])


def test_go_terms_are_propagated(heads, fasta, tmp_path):
    (tmp_path / "go.obo").write_text(OBO)
    head = protclip.load_head(heads["go"], device="cpu")
    raw = head.predict_proba(fasta)
    table = head.predict(fasta, propagate=tmp_path / "go.obo", top_k=5)
    wide = table.pivot(index="id", columns="class", values="score").loc[[f"p{i}" for i in range(64, 80)]]
    np.testing.assert_allclose(wide["GO:0000001"], raw[:, :4].max(1))
    np.testing.assert_allclose(wide["GO:0000009"], raw[:, 1:4].max(1))  # an alternative id of the middle term
    np.testing.assert_allclose(wide["GO:0000003"], raw[:, 2])  # regulates is not above
    np.testing.assert_allclose(wide["GO:0000005"], raw[:, 4])  # unknown to the graph


def test_go_graph_errors(tmp_path):
    with pytest.raises(DataError, match=r"no such file.*go-basic\.obo"):
        read_go(tmp_path / "none.obo", ["GO:0000001"])
    (tmp_path / "go.obo").write_text(OBO)
    assert read_go(tmp_path / "go.obo", ["GO:0000003"]).names == {"GO:0000003": "leaf"}
    with pytest.raises(DataError, match="knows none of the classes"):
        read_go(tmp_path / "go.obo", ["1.1.1.1"])
    (tmp_path / "bad.obo").write_bytes(b"\x00\x01nonsense")
    with pytest.raises(DataError):
        read_go(tmp_path / "bad.obo", ["GO:0000001"])


def test_ec_numbers():
    tree = ec_hierarchy(["1", "1.2", "1.2.3.4", "1.20.3.4", "2.-.-.-"])
    assert {tree.classes[i]: rows.tolist() for i, rows in tree.descendants.items()} == {
        "1": [1, 2, 3],
        "1.2": [2],
    }
    assert ec_levels("EC:3.1.1.n2") == ("3", "1", "1", "n2")
    for bad in ("GO:0001", "1.-.3.4", "-.-.-.-", "", "1.2.3.4.5"):
        with pytest.raises(DataError, match="not an EC number"):
            ec_levels(bad)


def test_a_head_with_both_towers_reads_structures(heads, toy_corpus, fasta):
    head = protclip.load_head(heads["both"], device="cpu")
    proteins = toy_corpus.proteins(range(64, 80))
    table = head.predict(proteins)
    assert (table["class"] == [f"c{i % 4}" for i in range(64, 80)]).mean() > 0.9
    assert table.attrs["note"] == "demonstration, no benchmark"
    np.testing.assert_allclose(head.predict_proba(proteins).sum(1), 1)


def test_a_head_with_both_towers_takes_sequences_alone(heads, fasta, toy_corpus, monkeypatch):
    head = protclip.load_head(heads["both"], device="cpu")
    table = head.predict(fasta)
    assert table.attrs["input"] == "sequences alone"
    assert (table["class"] == [f"c{i % 4}" for i in range(64, 80)]).mean() > 0.9
    sequences = toy_corpus.sequences(range(64, 80))
    np.testing.assert_allclose(head.predict_proba(sequences), head.predict_proba(fasta), atol=1e-6)
    assert not np.allclose(
        head.predict_proba(sequences), head.predict_proba(toy_corpus.proteins(range(64, 80)))
    )
    # Serial fusion has no such classifier.
    monkeypatch.setattr(head.network, "alone", None)
    with pytest.raises(ConfigError, match=r"in\.fasta: this head needs structures.*--towers sequence"):
        head.predict(fasta)
    with pytest.raises(ConfigError, match="the input: this head needs structures"):
        head.predict_proba(sequences)


def test_failures_are_listed_and_the_rest_predicted(heads, toy_corpus):
    head = protclip.load_head(heads["both"], device="cpu")
    blind = Protein.from_ca("blind", "GA", np.full((2, 3), np.nan))
    same = toy_corpus[64]
    with pytest.warns(UserWarning, match="1 of the inputs could not be predicted"):
        table = head.predict([toy_corpus[65], blind, same])
    assert table["id"].tolist() == ["p65", "p64"]
    assert set(head.failed) == {"blind"}
    with pytest.raises(DataError, match=r"position 2: two inputs have the same id; got 'p64'.*position 1"):
        head.predict([blind, same, same])
    with pytest.raises(DataError, match=r"nothing could be predicted; got blind: .*C-alpha"):
        head.predict([blind])
    with pytest.raises(DataError, match="the input is empty"):
        head.predict([])


def test_scores_that_are_not_finite_are_failures(heads, toy_corpus, monkeypatch):
    head = protclip.load_head(heads["ec"], device="cpu")
    real = type(head.network).predict

    def broken(self, items, **options):
        logits = real(self, items, **options)
        logits[0] = np.nan
        return logits

    monkeypatch.setattr(type(head.network), "predict", broken)
    with pytest.warns(UserWarning, match="1 of the inputs"):
        assert len(head.predict_proba({"a": "GAVLI", "b": "GAVLI"})) == 1
    assert head.failed == {"a": "the scores are not finite"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ec", {"propagate": "go.obo"}, "only GO terms have ancestors"),
        ("both", {"ec_consistent": True}, "only EC numbers have levels"),
        ("both", {"threshold": "fmax"}, "no such threshold"),
        ("ec", {"threshold": 1.5}, "out of range"),
        ("ec", {"threshold": float("nan")}, "out of range"),
        ("ec", {"top_k": 0}, "out of range"),
    ],
)
def test_options_that_do_not_fit(heads, fasta, name, options, message):
    with pytest.raises(ConfigError, match=message):
        protclip.load_head(heads[name], device="cpu").predict(fasta, **options)


def test_unknown_and_missing_labels(heads, fasta):
    head = protclip.load_head(heads["ec"], device="cpu")
    labels = {f"p{i}": ["1.1.1.1"] for i in range(64, 80)}
    with pytest.raises(DataError, match=r"p70: unknown label; got '7\.7\.7\.7'"):
        head.score(fasta, {**labels, "p70": ["7.7.7.7"]})
    with pytest.raises(DataError, match="p64: no label is given"):
        head.score(fasta, {})
    with pytest.raises(DataError, match="no protein has a label"):
        head.score(fasta, {id: [] for id in labels})


def test_files_agree(heads, fasta, tmp_path):
    head = protclip.load_head(heads["ec"], device="cpu")
    table = head.predict(fasta, top_k=3)
    for suffix in (".tsv", ".json", ".parquet"):
        report = predict_to_file(head, fasta, tmp_path / f"out{suffix}", top_k=3)
        assert (report.predicted, report.failed, report.failed_list) == (16, 0, None)
    tsv = pd.read_csv(tmp_path / "out.tsv", sep="\t", keep_default_na=False)
    assert tsv["class"].tolist() == table["class"].tolist()
    np.testing.assert_allclose(tsv["score"], table["score"], rtol=1e-5)
    parquet = pd.read_parquet(tmp_path / "out.parquet")
    assert parquet["score"].tolist() == table["score"].tolist()
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["calibration"] == head.calibrator.method
    flat = [c["class"] for row in found["predictions"] for c in row["classes"]]
    assert flat == table["class"].tolist()
    with pytest.raises(ConfigError, match="unknown format"):
        predict_to_file(head, fasta, tmp_path / "out.xlsx")


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result, result.exception


def test_the_command(heads, fasta, tmp_path, cath_dir):
    folder = tmp_path / "in"
    folder.mkdir()
    for file in sorted((cath_dir / "dompdb").iterdir())[:2]:
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "broken.pdb").write_text("nothing\n")
    out = tmp_path / "out.tsv"
    # A head on sequences takes those of structures.
    result, error = invoke("predict", heads["ec"], "-i", folder, "-o", out, "--top-k", "2", "--device", "cpu")
    assert error is None, error
    assert "3 inputs: 2 predicted, 0 skipped, 1 failed" in result.output
    assert len(out.read_text().splitlines()) == 1 + 2 * 2
    failed = (tmp_path / "out.tsv.failed.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in failed] == ["id", "broken.pdb"]
    result, error = invoke("predict", heads["both"], "-i", fasta, "-o", out, "--device", "cpu")
    assert error is None, error
    assert "classifier for sequences alone" in " ".join(result.output.split())
    _, error = invoke("predict", heads["ec"], "-i", fasta, "-o", out, "--threshold", "high")
    assert "neither a number nor fmax" in str(error)
    _, error = invoke("predict", tmp_path, "-i", fasta, "-o", out)
    assert "no head here" in str(error)
    _, error = invoke("predict", heads["ec"], "-i", tmp_path / "none.fasta", "-o", out)
    assert "no such file" in str(error)


def test_demonstration_files_say_so(heads, toy_corpus, tmp_path):
    head = protclip.load_head(heads["both"], device="cpu")
    predict_to_file(head, toy_corpus.proteins([64]), tmp_path / "out.tsv")
    assert (tmp_path / "out.tsv").read_text().startswith("# demonstration, no benchmark\nid\trank\t")


def test_finetune_command_errors(tmp_path):
    for arguments, message in (
        (
            ["finetune", "ec", "--data", "benchmark", "--out", tmp_path / "a"],
            "`protclip data download ec` and `protclip data build ec`",
        ),
        (
            ["finetune", "go-bp", "--data", "benchmark", "--out", tmp_path / "a"],
            "`protclip data download go`",
        ),
        (["finetune", "ec", "--data", tmp_path / "no.h5", "--out", tmp_path / "a"], "no such file"),
        (["finetune", "ecc"], "unknown task"),
        (["finetune"], "no task is named"),
        (["finetune", "ec", "--towers", "all"], "unknown choice"),
    ):
        _, error = invoke(*arguments)
        assert isinstance(error, ProtclipError), arguments
        assert message in str(error)
    assert not (tmp_path / "a").exists()


def test_a_head_of_structures_and_vectors_finds_the_vectors_by_id(run_task, toy_corpus, tmp_path):
    rows = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
    for name, keep in (("all", 80), ("some", 5)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["ids"] = toy_corpus.ids[:keep]
            file["embeddings"] = rows[:keep]
    with h5py.File(tmp_path / "wide.h5", "w") as file:
        file["ids"], file["embeddings"] = toy_corpus.ids[:2], np.ones((2, 7), np.float32)
    options = {"towers": "both", "mode": "probe", "epochs": 3, "vectors": str(tmp_path / "all.h5")}
    _, out = run_task("reaction", **options)
    proteins = toy_corpus.proteins(np.arange(8))
    with pytest.raises(ConfigError, match=r"needs a structure and a precomputed vector.*--vectors FILE"):
        load_head(out).predict_proba(proteins)
    whole = load_head(out, vectors=tmp_path / "all.h5").predict_proba(proteins)
    assert whole.shape == (8, 5)
    head = load_head(out, vectors=tmp_path / "some.h5")
    with pytest.warns(UserWarning, match="3 of the inputs could not be predicted"):
        found = head.predict_proba(proteins)
    np.testing.assert_allclose(found, whole[:5], atol=1e-6)
    assert all("no vector of this protein" in reason for reason in head.failed.values())
    with pytest.raises(ConfigError, match=r"of another kind.*got 7 dimensions, expected 6"):
        load_head(out, vectors=tmp_path / "wide.h5")
    _, alone = run_task("reaction", folder="alone", **{**options, "towers": "sequence"})
    with pytest.raises(ConfigError, match=r"does not see structures and vectors together.*as the input"):
        load_head(alone, vectors=tmp_path / "all.h5")
    assert load_head(alone).predict_proba(tmp_path / "some.h5").shape == (5, 5)
