"""Downstream training: learning, choice of the epoch, exact resume, modes, fusion, outputs, errors."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from protclip.config.resolve import resolve
from protclip.errors import ConfigError, DataError, ProtclipError, WeightsError
from protclip.files import read_toml
from protclip.modalities.sequence.adapter import SequenceModality
from protclip.modalities.structure import StructureModality
from protclip.model.two_tower import TwoTower
from protclip.structure.encoders.encoder import CDConvConfig
from protclip.tasks.classifier import Classifier
from protclip.tasks.config import FinetuneConfig
from protclip.tasks.dataset import TaskData
from protclip.tasks.definitions import FINETUNE, TASKS, find_recipe
from protclip.tasks.network import TaskNetwork
from protclip.tasks.saved_head import read_head
from protclip.tasks.serial import WIDTH, widen
from protclip.tasks.supervision import Supervision
from protclip.training.checkpoint import load_state
from protclip.training.loop import Validation
from protclip.training.running import Interrupted


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A saved, untrained two-tower model."""
    torch.manual_seed(0)
    sides = [
        StructureModality(CDConvConfig.sized("tiny")),
        SequenceModality.create("scratch", init="random", tune="full"),
    ]
    folder = tmp_path_factory.mktemp("parent") / "model"
    TwoTower(*sides, dim=16).save(folder, facts={"objective": "setclip"}, card="# toy\n")
    return folder


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("ec", {"towers": "structure"}),
        ("fold", {"towers": "sequence", "class_weights": True}),
        ("go-bp", {"towers": "both", "fusion": "serial"}),
    ],
)
def test_it_learns_a_toy_task(run_task, task, options):
    metrics, out = run_task(task, epochs=4, **options)
    assert metrics["headline"]["value"] > 0.9
    assert metrics["headline"]["definition"] == TASKS[task].definition
    losses = np.genfromtxt(out / "log.csv", delimiter=",", names=True)["loss"]
    assert losses[-1] < losses[0] / 2


def test_it_can_overfit_random_labels(run_task, make_benchmark):
    rng = np.random.default_rng(1)
    labels = np.eye(4, dtype=bool)[rng.integers(4, size=80)]
    benchmark = make_benchmark("reaction", matrix=labels, classes=list("abcd"), class_names=[""] * 4)
    # Validation proteins are new; the loss on training ones must fall all the same.
    _, out = run_task(
        "reaction", benchmark=benchmark, towers="sequence", epochs=25, dropout=0.0, patience=0, batch_size=48
    )
    losses = np.genfromtxt(out / "log.csv", delimiter=",", names=True)["loss"]
    assert losses[-1] < 0.2


def test_every_output_is_there(run_task):
    metrics, out = run_task("go-mf", towers="sequence", epochs=2)
    names = {path.name for path in out.iterdir()}
    assert names == {
        "config.toml", "log.csv", "state.pt", "metrics.json", "per_class.tsv", "curves.svg",
        "precision_recall.svg", "reliability.svg", "head",
    }  # fmt: skip
    assert json.loads((out / "metrics.json").read_text()) == metrics
    cutoffs = [f"test <{c}%" for c in (30, 40, 50, 70, 95)]
    assert list(metrics["test"]) == ["test", *cutoffs]
    assert metrics["test"]["test <95%"] == metrics["test"]["test"]
    assert [metrics["test"][c]["proteins"] for c in cutoffs] == [6, 8, 10, 14, 16]
    assert metrics["benchmark"]["version"] == "toy 1"
    assert metrics["benchmark"]["splits"]["test"] == {"used": 16, "found": 16, "published": 1000}
    assert set(metrics["definitions"]) == {"fmax", "aupr_micro", "aupr_macro"}
    lines = (out / "per_class.tsv").read_text().splitlines()
    assert lines[1].split("\t") == ["class", "name", "train", "test", "test_average_precision"]
    assert lines[-1].split("\t")[2:] == ["0", "0", ""]  # the class without a protein
    assert FinetuneConfig.load(out / "config.toml").towers == "sequence"
    assert "0 of" not in (out / "head" / "README.md").read_text()


def test_fold_has_three_tests_and_a_confusion_plot(run_task):
    metrics, out = run_task("fold", towers="sequence", epochs=1)
    assert list(metrics["test"]) == ["test_fold", "test_superfamily", "test_family"]
    assert (out / "confusion.svg").exists()


def test_demonstrations_say_so_everywhere(run_task, make_benchmark):
    benchmark = make_benchmark("ec", is_demonstration=True, version="sample")
    metrics, out = run_task("ec", benchmark=benchmark, towers="sequence", epochs=1)
    note = "demonstration, no benchmark"
    assert metrics["benchmark"]["note"] == note
    assert metrics["comparison"][0].startswith(note)
    for name in (
        "metrics.json",
        "per_class.tsv",
        "head/README.md",
        "precision_recall.svg",
        "reliability.svg",
    ):
        assert note in (out / name).read_text(), name
    assert read_toml(out / "head" / "config.toml")["head"]["demonstration"] is True


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    "options", [{"towers": "both", "fusion": "serial"}, {"towers": "both", "mode": "probe"}]
)
@pytest.mark.parametrize(
    ("stop_at", "checkpoint_seconds"),
    [*(pytest.param(at, -1.0, marks=pytest.mark.slow) for at in (3, 5)), (5, 1e9)],
)
def test_a_resumed_run_ends_with_the_same_bytes(run_task, monkeypatch, options, stop_at, checkpoint_seconds):
    """Three steps make an epoch; a crash loses what came after the last checkpoint, a resume redoes it."""
    monkeypatch.setattr("protclip.tasks.seed_training.CHECKPOINT_SECONDS", checkpoint_seconds)
    _, whole = run_task("ec", folder="whole", epochs=3, **options)
    step = Supervision.gradients

    def crash(self, number, batch):
        if number == stop_at:
            raise Stop
        return step(self, number, batch)

    monkeypatch.setattr(Supervision, "gradients", crash)
    with pytest.raises(Stop):
        run_task("ec", folder="parts", epochs=3, **options)
    monkeypatch.setattr(Supervision, "gradients", step)
    _, parts = run_task("ec", folder="parts", epochs=3, resume=True, **options)
    for name in ("log.csv", "head/model.safetensors", "per_class.tsv"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


def test_an_interrupted_run_saves_its_step_and_goes_on(run_task, monkeypatch):
    options = {"towers": "sequence", "mode": "probe", "epochs": 3}
    _, whole = run_task("ec", folder="whole", **options)
    step = Supervision.gradients

    def interrupt(self, number, batch):
        if number == 4:  # in the middle of an epoch
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, number, batch)

    monkeypatch.setattr(Supervision, "gradients", interrupt)
    with pytest.raises(Interrupted, match=r"stopped after step 5 of 9; everything is saved.*--resume"):
        run_task("ec", folder="parts", **options)
    monkeypatch.setattr(Supervision, "gradients", step)
    assert load_state(whole.parent / "parts" / "state.pt")["step"] == 5
    _, parts = run_task("ec", folder="parts", resume=True, **options)
    for name in ("log.csv", "head/model.safetensors"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


def test_the_best_epoch_is_copied_not_referenced(run_task, monkeypatch):
    """Validation is made to prefer the first epoch: its weights must be in the head, not the last ones."""
    states = []

    def falling(self):
        states.append({k: v.clone() for k, v in self.network.state_dict().items()})
        return Validation((-len(states), 0.0), {"valid_score": -len(states), "valid_loss": 0.0})

    monkeypatch.setattr(Supervision, "validate", falling)
    metrics, out = run_task("ec", towers="sequence", epochs=3)
    assert metrics["training"]["kept_epoch"] == 1
    saved = load_file(out / "head" / "model.safetensors")
    assert all(torch.equal(saved[name], value) for name, value in states[0].items())
    last = load_state(out / "state.pt")["model"]
    assert not torch.equal(last["head.layers.0.weight"], saved["head.layers.0.weight"])


def test_early_stopping(run_task, monkeypatch):
    monkeypatch.setattr("protclip.tasks.seed_training.validation_score", lambda *a: (0.5, 0.0))
    metrics, out = run_task("ec", towers="sequence", epochs=9, patience=2)
    assert metrics["training"]["stopped_early"]
    assert metrics["training"]["kept_epoch"] == 1
    assert len((out / "log.csv").read_text().splitlines()) == 1 + 3


def test_the_test_set_is_scored_once(run_task, monkeypatch):
    from protclip.tasks import results

    scored = []
    real = results.score_set
    monkeypatch.setattr(results, "score_set", lambda *a: scored.append(len(a[2])) or real(*a))
    run_task("fold", towers="sequence", epochs=2)
    assert scored == [8, 4, 4, 16]  # three tests, then validation for the report


def test_three_seeds_give_mean_and_spread(run_task):
    metrics, out = run_task("reaction", towers="sequence", mode="probe", epochs=2, seeds=3, seed=5)
    assert metrics["seeds"] == [5, 6, 7]
    values = [
        json.loads((out / f"seed-{s}" / "metrics.json").read_text())["headline"]["value"] for s in (5, 6, 7)
    ]
    assert metrics["headline"]["mean"] == pytest.approx(np.mean(values))
    assert metrics["headline"]["sd"] == pytest.approx(np.std(values, ddof=1))
    best = metrics["head_of_seed"]
    assert (out / "head" / "model.safetensors").read_bytes() == (
        out / f"seed-{best}" / "head" / "model.safetensors"
    ).read_bytes()


def test_a_probe_leaves_the_towers_alone(run_task, parent):
    metrics, out = run_task("reaction", model=str(parent), towers="both", mode="probe", epochs=2)
    before, after = load_file(parent / "model.safetensors"), load_file(out / "head" / "model.safetensors")
    for name, value in before.items():
        if name.startswith("encoders."):
            assert torch.equal(after[name.replace("encoders.", "towers.", 1)], value), name
    assert metrics["training"]["trained_parameters"] == 5 * (96 + 128) + 5
    assert metrics["parent"]["fingerprint"] in (out / "head" / "README.md").read_text()


def test_a_probe_gives_what_the_whole_network_gives(run_task, parent, make_benchmark):
    """Scores from cached features equal scores of the saved head, which runs the towers."""
    _, out = run_task("reaction", model=str(parent), towers="both", mode="probe", features="shared", epochs=2)
    network, config = read_head(out)
    data = TaskData(make_benchmark("reaction"), ("structure", "sequence"))
    rows = data.splits["test"]
    logits = network.predict(data.items(rows, network.names), device=torch.device("cpu"))
    right = (logits.argmax(1) == data.targets(rows)).mean()
    assert config["training"]["test"]["test"] == pytest.approx(right)


def test_lora_trains_updates_and_head_alone(run_task, parent):
    _, out = run_task("ec", model=str(parent), towers="sequence", mode="lora", lora_rank=2, epochs=1)
    before, after = load_file(parent / "model.safetensors"), load_file(out / "head" / "model.safetensors")
    same = [
        torch.equal(after[k.replace("encoders.", "towers.", 1)], v)
        for k, v in before.items()
        if "sequence.net" in k and k.startswith("enc")
    ]
    assert same
    assert all(same)
    assert any(v.abs().max() > 0 for k, v in after.items() if k.endswith("lora_b"))
    assert read_head(out)[0].sides["sequence"].tune == "lora"


def test_full_mode_trains_every_tower_and_freeze_keeps_one(run_task, parent):
    _, out = run_task("ec", model=str(parent), towers="both", freeze="sequence", epochs=1)
    before, after = load_file(parent / "model.safetensors"), load_file(out / "head" / "model.safetensors")
    changed = {
        side: any(
            not torch.equal(after[k.replace("encoders.", "towers.", 1)], v)
            for k, v in before.items()
            if k.startswith(f"encoders.{side}.") and k.endswith("weight")
        )
        for side in ("structure", "sequence")
    }
    assert changed == {"structure": True, "sequence": False}


def test_widening_keeps_the_pretrained_outputs(make_benchmark):
    side = StructureModality(CDConvConfig.sized("tiny"))
    side.encoder.eval()
    wide = widen(side)
    wide.encoder.eval()
    batch = side.collate(make_benchmark().corpus.proteins([0, 1]))
    torch.testing.assert_close(wide.encoder(batch), side.encoder(batch))
    entering = torch.randn(len(batch.residue_type), side.architecture.embedding_dim + WIDTH)
    assert not torch.allclose(wide.encoder(batch, entering), side.encoder(batch))


def test_serial_fusion_uses_the_sequence(make_benchmark):
    torch.manual_seed(0)
    config = CDConvConfig.sized("tiny", embedding_dim=16 + WIDTH, input="geometry")
    sides = [StructureModality(config), SequenceModality.create("scratch", init="random", tune="full")]
    network = TaskNetwork(sides, 3, fusion="serial").eval()
    proteins = make_benchmark().corpus.proteins([0, 1, 2])
    whole = [p.sequence for p in proteins]

    def logits(sequences):
        return network.predict({"structure": proteins, "sequence": sequences}, device=torch.device("cpu"))

    a = logits(whole)
    changed = logits([whole[0], "W" * len(whole[1]), whole[2]])
    np.testing.assert_allclose(changed[[0, 2]], a[[0, 2]], atol=1e-5)
    assert np.abs(changed[1] - a[1]).max() > 1e-3
    with pytest.raises(DataError, match="differ in length"):
        logits([whole[0] + "A", *whole[1:]])


def test_rows_do_not_depend_on_their_neighbours(make_benchmark):
    torch.manual_seed(0)
    sides = [
        StructureModality(CDConvConfig.sized("tiny")),
        SequenceModality.create("scratch", init="random", tune="full"),
    ]
    network = TaskNetwork(sides, 3)
    data = TaskData(make_benchmark("reaction"), network.names)
    rows = data.splits["test"]
    cpu = torch.device("cpu")
    together = network.predict(data.items(rows, network.names), device=cpu)
    alone = np.concatenate(
        [network.predict(data.items(rows[[i]], network.names), device=cpu) for i in range(4)]
    )
    np.testing.assert_allclose(alone, together[:4], atol=1e-5)


def test_the_published_recipe():
    task = TASKS["ec"]
    recipe = find_recipe("auto", task, pretrained=False, probe=False, demonstration=False)
    assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 1e-3, 0.9, 5e-4)
    assert (recipe.batch_size, recipe.epochs, recipe.clip_gradient, recipe.noise) == (64, 500, 10.0, 0.05)
    built = CDConvConfig.from_dict(recipe.cdconv)
    assert (built.window, built.kernel_channels, built.base_width) == (21, 32, 16.0)
    assert built.channels == (256, 512, 1024, 2048)
    assert find_recipe("auto", task, pretrained=True, probe=False, demonstration=False) is FINETUNE
    sizes = {n: (t.cdconv.batch_size, t.cdconv.epochs, t.cdconv.cdconv["window"]) for n, t in TASKS.items()}
    assert sizes["fold"] == (8, 400, 5)
    assert sizes["reaction"] == (8, 400, 21)
    assert sizes["go-cc"] == (24, 500, 21)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "folding"}, "unknown task"),
        ({"fusion": "serial"}, "needs both"),
        ({"fusion": "serial", "towers": "both", "mode": "probe"}, "must then be trained"),
        ({"mode": "lora"}, "none to train"),
        ({"features": "shared"}, "no shared space"),
        ({"freeze": "sequence"}, "freezes one of two"),
        ({"vectors": "x.h5"}, "take the sequence tower's place"),
        ({"task": "fold", "calibration": "platt"}, "one class per protein"),
        ({"calibration": "temperature"}, "several classes"),
        ({"batch_size": 1}, "out of range"),
        ({"towers": "none"}, "unknown choice"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=message):
        resolve(FinetuneConfig, options)


def test_a_model_without_the_tower(run_task, tmp_path):
    from protclip.modalities.vectors import VectorsModality

    torch.manual_seed(0)
    sides = [StructureModality(CDConvConfig.sized("tiny")), VectorsModality(8)]
    TwoTower(*sides, dim=4).save(tmp_path / "m", facts={}, card="x")
    with pytest.raises(ConfigError, match=r"precomputed vectors.*--vectors FILE"):
        run_task("ec", model=str(tmp_path / "m"), towers="sequence")
    with pytest.raises(WeightsError, match="no model here"):
        run_task("ec", model=str(tmp_path / "nothing"), folder="b")


def test_vectors_take_the_sequence_towers_place(run_task, toy_corpus, tmp_path):
    import h5py

    group = np.arange(80) % 4
    vectors = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32) + 4 * np.eye(4, 6)[group]
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("ids", data=toy_corpus.ids[:70])
        file["embeddings"] = vectors[:70]
    metrics, _ = run_task(
        "reaction", vectors=str(tmp_path / "v.h5"), towers="sequence", mode="probe", epochs=20
    )
    assert metrics["headline"]["value"] > 0.8
    assert metrics["test"]["test"]["proteins"] == 6
    assert "10 of 16 proteins of test without a vector are left out" in metrics["benchmark"]["left_out"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.splits.update(train=np.zeros(0, int)), "the split 'train' is empty"),
        (lambda b: b.splits.update(valid=np.zeros(0, int)), "the split 'valid' is empty"),
        (lambda b: b.splits.update(test=np.array([0, 70])), "in two splits.*p0 in train and test"),
        (lambda b: b.splits.update(test=np.array([70, 70])), "in two splits"),
        (lambda b: b.splits.update(test=np.array([99])), "points outside"),
        (lambda b: setattr(b, "ids", ["p0", *b.ids[:-1]]), "ids stand twice.*p0"),
        (lambda b: b.matrix.__setitem__((3, slice(None)), False), "one class per protein"),
        (lambda b: b.matrix.__setitem__((3, slice(None)), True), "one class per protein"),
    ],
)
def test_unusable_benchmarks(make_benchmark, change, message):
    benchmark = make_benchmark("reaction")
    change(benchmark)
    with pytest.raises(DataError, match=message):
        TaskData(benchmark, ("sequence",))


def test_defined_results_for_odd_benchmarks(run_task, make_benchmark):
    """No test protein, validation proteins without label, classes without positives: noted, not fatal."""
    benchmark = make_benchmark("ec")
    benchmark.splits["test"] = np.zeros(0, int)
    benchmark.matrix[benchmark.splits["valid"][:3]] = False
    metrics, _ = run_task("ec", benchmark=benchmark, towers="sequence", epochs=1)
    assert metrics["test"]["test"] == {"value": None, "proteins": 0, "note": "no proteins"}
    assert "3 proteins of valid have no label and are not scored" in metrics["benchmark"]["left_out"]
    assert any("1 of 5 classes have no training protein" in n for n in metrics["benchmark"]["left_out"])
    benchmark.matrix[benchmark.splits["valid"]] = False
    with pytest.raises(DataError, match="no validation protein has a label"):
        TaskData(benchmark, ("sequence",))


def test_proteins_without_ca_are_left_out(make_benchmark, tmp_path):
    from protclip.data.corpus.store import Corpus, write_corpus

    proteins = make_benchmark().corpus.proteins(range(80))
    proteins[2].coords[:, 1] = np.nan
    write_corpus(tmp_path / "c.h5", proteins)
    benchmark = make_benchmark(corpus=Corpus.open(tmp_path / "c.h5"))
    assert len(TaskData(benchmark, ("sequence",)).splits["train"]) == 48
    data = TaskData(benchmark, ("structure",))
    assert len(data.splits["train"]) == 47
    assert data.notices[0] == "1 of 48 proteins of train without any C-alpha are left out"


def test_a_loss_that_is_not_finite_ends_with_a_sentence(run_task, monkeypatch):
    monkeypatch.setattr(Classifier, "forward", lambda self, x: x[:, :5] * float("nan") + self.layers[-1].bias)
    with pytest.raises(ProtclipError, match=r"the loss is nan at step 1.*Lower the learning rates"):
        run_task("ec", towers="sequence", epochs=1)


def test_a_folder_is_not_overwritten(run_task):
    run_task("ec", towers="sequence", mode="probe", epochs=1)
    with pytest.raises(ConfigError, match="there is a run in this folder already"):
        run_task("ec", towers="sequence", mode="probe", epochs=1)


def test_a_start_that_failed_at_once_does_not_block_the_folder(run_task, tmp_path):
    with pytest.raises(WeightsError, match="no model here"):
        run_task("ec", model=str(tmp_path / "none"), folder="again")
    metrics, out = run_task("ec", towers="sequence", mode="probe", epochs=1, folder="again")
    assert metrics["towers_used"] == "sequence"
    assert 'model = ""' in (out / "config.toml").read_text()


def test_checkpoints_hold_no_code(run_task):
    _, out = run_task("ec", towers="sequence", epochs=1)
    state = torch.load(out / "state.pt", weights_only=True)
    assert state["step"] == 3


def test_a_head_is_no_model_and_a_model_no_head(run_task, parent, tmp_path):
    _, out = run_task("ec", towers="sequence", mode="probe", epochs=1)
    with pytest.raises(WeightsError, match="not a model folder"):
        TwoTower.load(out / "head")
    with pytest.raises(WeightsError, match=r"run of a downstream task.*`protclip predict .*` uses the head"):
        TwoTower.load(out)
    with pytest.raises(WeightsError, match=r"not a head for a task.*protclip finetune TASK --model"):
        read_head(parent)
    with pytest.raises(WeightsError, match="no such folder"):
        read_head(Path(tmp_path / "nothing"))


def test_copies_of_training_proteins_are_counted_and_the_split_stays(run_task, make_benchmark, tmp_path):
    import dataclasses

    from protclip.data.corpus.store import Corpus, write_corpus

    proteins = make_benchmark().corpus.proteins(range(80))
    for copy, of in ((50, 2), (64, 0), (68, 0), (72, 8), (76, 60)):
        proteins[copy] = dataclasses.replace(proteins[of], id=proteins[copy].id)
    write_corpus(tmp_path / "c.h5", proteins)
    benchmark = make_benchmark("reaction", corpus=Corpus.open(tmp_path / "c.h5"))
    metrics, _ = run_task("reaction", benchmark=benchmark, towers="sequence", epochs=1)
    found = metrics["benchmark"]
    # That of 76 is a copy of a validation protein.
    assert found["sequence_in_training"] == {"valid": 1, "test": 3}
    text = "3 of 16 proteins of test have the sequence of a training protein (the split stays as it is)"
    assert text in found["left_out"]
    assert metrics["test"]["test"]["proteins"] == 16
    alone, _ = run_task("reaction", towers="sequence", epochs=1, folder="alone")
    assert "sequence_in_training" not in alone["benchmark"]
