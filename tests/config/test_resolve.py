"""Flat options from every entrance: the same checks, the same configuration."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import protclip
from protclip.cli import pretrain as pretrain_module
from protclip.cli.app import app
from protclip.config.presets import LOSS_PRESETS, loss_preset
from protclip.config.pretraining import PretrainConfig
from protclip.config.resolve import machine_options, resolve
from protclip.config.schema import Options, type_hints
from protclip.config.spelling import LOSS_ENTRIES, as_arguments, flat_options
from protclip.errors import ConfigError
from protclip.experiments.catalogue import find_experiment
from protclip.experiments.commands import Plan
from protclip.files import write_toml
from protclip.tasks.config import FinetuneConfig
from protclip.tasks.finetune import finetune


def words(hint: Any) -> tuple[str, ...]:
    """Choices of a closed set; none for other types."""
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(word for part in typing.get_args(hint) for word in words(part))
    return ()


def closed_sets(cls: type[Options]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, option in flat_options(cls).items():
        if choices := words(type_hints(option.owner)[name]):
            yield name, choices
    yield "device", ("auto", "cpu", "cuda")


def sections(cls: type[Options], name: str, value: Any) -> dict[str, Any]:
    """An option as a file holds it."""
    option = flat_options(cls)[name]
    table = {name: value}
    if option.section == "source":
        table = {"kind": option.owner.kind, **table}  # type: ignore[attr-defined]
    return {option.section: table} if option.section else table


def from_command(cls: type[Options], name: str, value: str, folder: Path) -> None:
    verb = ["pretrain"] if cls is PretrainConfig else ["finetune", "ec"]
    command = [*verb, *as_arguments({name: value}, cls), "--out", str(folder / "run")]
    CliRunner().invoke(app, command, catch_exceptions=False)


def from_python(cls: type[Options], name: str, value: str, folder: Path) -> None:
    if cls is PretrainConfig:
        protclip.pretrain(folder / "run", **{name: value})
    else:
        finetune("ec", folder / "run", **{name: value})


def from_file(cls: type[Options], name: str, value: str, folder: Path) -> None:
    write_toml(folder / "c.toml", sections(cls, name, value))
    resolve(cls, {"config": folder / "c.toml"})


def from_experiment(cls: type[Options], name: str, value: str, folder: Path) -> None:
    # An experiment none of whose arms decides anything itself.
    experiment = dataclasses.replace(
        find_experiment("table4"),
        arms=(dataclasses.replace(find_experiment("table4").arms[0], options={}),),
        baseline="",
        ceiling="",
    )
    chosen = {"given": {name: value}} if cls is PretrainConfig else {"task_options": {name: value}}
    Plan(experiment, folder, tasks=("ec",), **chosen)  # type: ignore[arg-type]


def from_resume(cls: type[Options], name: str, value: str, folder: Path) -> None:
    cls().save(folder / "config.toml")
    resolve(cls, {name: value}, resume=folder)


def from_class(cls: type[Options], name: str, value: str, folder: Path) -> None:
    flat_options(cls)[name].owner(**{name: value})


ENTRANCES = (from_command, from_python, from_file, from_experiment, from_resume, from_class)


@pytest.mark.parametrize("entrance", ENTRANCES, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("cls", "name", "choices"),
    [(cls, *found) for cls in (PretrainConfig, FinetuneConfig) for found in closed_sets(cls)],
    ids=lambda value: value.__name__ if isinstance(value, type) else value if isinstance(value, str) else "",
)
def test_a_typo_is_refused_with_the_choices_and_the_nearest_one(
    entrance: Callable[..., None], cls: type[Options], name: str, choices: tuple[str, ...], tmp_path: Path
) -> None:
    meant = max(choices, key=len)
    with pytest.raises(ConfigError) as caught:
        entrance(cls, name, meant[:-1], tmp_path)
    error = caught.value
    assert error.where is not None
    assert error.where.removeprefix("--loss ").replace("-", "_").endswith(name)
    assert error.got == repr(meant[:-1])
    assert all(word in str(error.expected) for word in choices)
    assert error.hint == f"Did you mean {meant}?"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["embed", "model", "-i", "x", "-o", "y.h5", "--precision", "fp23"],
        ["predict", "head", "-i", "x", "-o", "y.tsv", "--precision", "fp23"],
        ["evaluate", "model", "--precision", "fp23"],
        ["evaluate", "model", "--split", "al"],
        ["refit", "model", "--out", "x", "--method", "transprt"],
        ["pretrain", "--preset", "papper"],
        ["experiment", "table4", "--dry-run", "--preset", "papper"],
        ["experiment", "table4", "--dry-run", "--precision", "fp23"],
        ["experiment", "sampling-size", "--out", "x", "--precision", "fp23"],
    ],
    ids=" ".join,
)
def test_every_verb_refuses_typos(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"unknown choice; got .*, expected .* or .*\. Did you mean"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def numbers(cls: type[Options]) -> Iterator[tuple[str, float, bool]]:
    """Options with a smallest value: name, that value, whether it is out of range itself."""
    for name, option in flat_options(cls).items():
        limits = option.field.metadata.get("range", {})
        if limits.get("low", float("-inf")) > float("-inf"):
            yield name, limits["low"], limits["above"]


@pytest.mark.parametrize("entrance", [from_file, from_resume, from_class], ids=lambda f: f.__name__)
@pytest.mark.parametrize("cls", [PretrainConfig, FinetuneConfig])
def test_numbers_out_of_range_and_of_the_wrong_type_are_refused(
    entrance: Callable[..., None], cls: type[Options], tmp_path: Path
) -> None:
    found = list(numbers(cls))
    assert len(found) >= 14
    for name, low, above in found:
        listed = type(getattr(flat_options(cls)[name].owner(), name)) is tuple
        for value in (low if above else low - 1, "many", True, float("nan"), float("inf")):
            if value == "many" and words(type_hints(flat_options(cls)[name].owner)[name]):
                continue  # a number or a word; above
            with pytest.raises(ConfigError, match=rf"{name.replace('_', '.')}.*: (out of range|wrong type)"):
                entrance(cls, name, [value] if listed else value, tmp_path)


def test_no_two_options_share_a_name() -> None:
    """Sources may: only one is in a run."""
    seen: dict[str, str] = {}
    for name, option in flat_options(PretrainConfig).items():
        assert seen.setdefault(name, option.section) == option.section
    parts = {f.name: getattr(PretrainConfig(), f.name) for f in dataclasses.fields(PretrainConfig)}
    names = [f.name for part in parts.values() for f in dataclasses.fields(part)]
    assert len(set(names)) == len(names)


def test_unknown_names_are_told_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--stepps: unknown option. Did you mean steps\?"):
        resolve(PretrainConfig, {"stepps": 3})
    with pytest.raises(ConfigError, match=r"^paird: unknown option. Did you mean paired\?"):
        protclip.pretrain(tmp_path / "run", paird=0.1)
    with pytest.raises(ConfigError, match=r"--config: no such file .*got flickr9k.*Did you mean flickr8k\?"):
        resolve(PretrainConfig, {"config": "flickr9k"})
    with pytest.raises(ConfigError, match="--paired: unknown option"):
        resolve(FinetuneConfig, {"paired": 0.1})


@pytest.mark.parametrize("verb", ["pretrain", "experiment table4 --dry-run"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sdd_weight=much", r"--loss sdd_weight: wrong type; got 'much', expected a number >= 0"),
        ("mmd_bandwidths=1", r"--loss mmd_bandwidths: not a list"),
        ("sdd_wieght=1", r"--loss sdd_wieght: unknown entry.*Did you mean sdd_weight\?"),
        ("paired=0.1", r"--loss paired: unknown entry"),
        ("sdd_weight", r"--loss sdd_weight: not NAME=VALUE"),
    ],
)
def test_entries_of_the_objective_are_named_as_typed(verb: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(app, [*verb.split(), "--loss", text], catch_exceptions=False)


def test_paths_stay_as_they_were_given(tmp_path: Path) -> None:
    config = resolve(PretrainConfig, {"cath": Path("data/cath"), "vectors": "./v.h5"})
    assert config.to_dict()["source"]["cath"] == "data/cath"
    assert config.to_dict()["source"]["vectors"] == "./v.h5"
    config.save(tmp_path / "c.toml")
    assert resolve(PretrainConfig, {"config": tmp_path / "c.toml"}) == config


@pytest.mark.parametrize("preset", LOSS_PRESETS)
def test_a_preset_keeps_heads_as_trained_unless_told(preset: str) -> None:
    config = resolve(PretrainConfig, {"preset": preset, "ssl_weight": 0.25})
    assert config.loss == loss_preset(preset, ssl_weight=0.25)
    assert config.train.refit == ("auto" if preset == "default" else "none")
    assert resolve(PretrainConfig, {"preset": preset, "refit": "cca"}).train.refit == "cca"


def test_python_takes_presets_and_files_as_the_command_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[PretrainConfig] = []

    def run(config: PretrainConfig, *others: Any, resume: bool) -> SimpleNamespace:
        seen.append(config)
        return SimpleNamespace(evaluation=None)

    monkeypatch.setattr("protclip.training.pretrain.run_pretraining", run)
    monkeypatch.setattr(pretrain_module, "_run", lambda settings, folder, resume: seen.append(settings))
    protclip.pretrain(tmp_path, config="flickr8k", preset="released-vit", pairs="x", sdd_weight=0.5)
    command = ["pretrain", "--config", "flickr8k", "--preset", "released-vit", "--pairs", "x"]
    CliRunner().invoke(app, [*command, "--loss", "sdd_weight=0.5"], catch_exceptions=False)
    assert seen[0] == seen[1]
    assert (seen[0].source.kind, seen[0].data.paired, seen[0].loss.sdd_weight) == ("pairs", 0.3333, 0.5)


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "paired": st.floats(0, 1),
    "pools": st.sampled_from(["shuffled", "disjoint"]),
    "dim": st.integers(2, 512),
    "steps": st.integers(0, 9),
    "batch_size": st.one_of(st.just("auto"), st.integers(2, 512)),
    "head_lr": st.floats(1e-9, 10),
    "objective": st.sampled_from(["setclip", "clip", "setclip+s-clip"]),
    "plots": st.booleans(),
    "device": st.sampled_from(["cpu", "cuda:1"]),
    "cath": st.text("ab/. -", min_size=1).filter(lambda text: not text.startswith("-")),
    "tune": st.sampled_from(["auto", "lora"]),
    "sdd_weight": st.floats(0, 5),
    "mmd_bandwidths": st.lists(st.floats(0.1, 9), min_size=1).map(tuple),
    "sdd_rescale": st.booleans(),
    "negatives": st.sampled_from(["paired", "all"]),
    "preset": st.sampled_from(LOSS_PRESETS),
}


@settings(max_examples=40)
@given(options=st.fixed_dictionaries({}, optional=VALUES))
def test_options_survive_the_command_line_and_a_file(
    options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = resolve(PretrainConfig, options)
    seen: list[PretrainConfig] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain_module, "_run", lambda settings, folder, resume: seen.append(settings))
        command = ["pretrain", *as_arguments(options, PretrainConfig), "--out", "nowhere"]
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert seen == [config]
    path = tmp_path_factory.mktemp("config") / "c.toml"
    config.save(path)
    assert resolve(PretrainConfig, {"config": path}) == config


@given(options=st.fixed_dictionaries({}, optional=VALUES), data=st.data())
def test_a_resumed_run_takes_the_same_options_again_and_no_others(
    options: dict[str, Any], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("run")
    assert resolve(PretrainConfig, options, resume=folder) == resolve(PretrainConfig, options)
    started = resolve(PretrainConfig, options)
    # What a run writes in place of `auto`.
    size = 16 if started.train.batch_size == "auto" else started.train.batch_size
    settled = dataclasses.replace(
        started,
        train=dataclasses.replace(started.train, batch_size=size),
        source=dataclasses.replace(started.source, esm_init="random", tune="full"),  # type: ignore[call-arg]
    )
    settled.save(folder / "config.toml")
    again = {name: value for name, value in options.items() if name != "tune" or value == "auto"}
    assert resolve(PretrainConfig, again, resume=folder) == settled
    name = data.draw(st.sampled_from(sorted(set(VALUES) - {"preset", "batch_size", "tune"})))
    value = data.draw(VALUES[name])
    kept = next(v for part in vars(settled).values() for k, v in vars(part).items() if k == name)
    if name in machine_options(PretrainConfig):
        changed = resolve(PretrainConfig, {name: value}, resume=folder)
        assert changed == resolve(PretrainConfig, {name: value}, base=settled)
    elif value != kept:
        with pytest.raises(ConfigError, match="keeps the options that it was started with") as caught:
            resolve(PretrainConfig, {name: value}, resume=folder)
        assert str(value) in str(caught.value.got)
        assert str(kept) in str(caught.value.expected)


def test_a_resumed_task_keeps_its_options(tmp_path: Path) -> None:
    resolve(FinetuneConfig, {"task": "fold", "epochs": 3}).save(tmp_path / "config.toml")
    again = resolve(FinetuneConfig, {"task": "fold", "device": "cpu"}, resume=tmp_path)
    assert (again.epochs, again.device) == (3, "cpu")
    with pytest.raises(ConfigError, match=r"got --epochs 4, expected --epochs 3\. Give only --device"):
        resolve(FinetuneConfig, {"epochs": 4}, resume=tmp_path)


def test_python_resumes_with_the_options_of_the_run(tmp_path: Path) -> None:
    resolve(PretrainConfig, {"steps": 3}).save(tmp_path / "config.toml")
    with pytest.raises(ConfigError, match="got steps 4, expected steps 3"):
        protclip.pretrain(tmp_path, resume=True, steps=4)
    FinetuneConfig(task="fold").save(tmp_path / "config.toml")
    with pytest.raises(ConfigError, match="got task ec, expected task fold"):
        finetune("ec", tmp_path, resume=True)


def test_files_of_earlier_versions_load(tmp_path: Path) -> None:
    """Whole numbers for fractions, and options that came later left out."""
    (tmp_path / "c.toml").write_text(
        '[source]\nkind = "proteins"\ncath = "x"\n[data]\npaired = 1\n[loss]\nsdd_weight = 1\n'
        'mmd_bandwidths = [1, 2]\n[train]\nobjective = "clip"\nbatch_size = 8\n'
    )
    config = resolve(PretrainConfig, {"config": tmp_path / "c.toml"})
    assert (config.data.paired, config.loss.mmd_bandwidths, config.train.batch_size) == (1.0, (1.0, 2.0), 8)
    assert config.train.device == "auto"
    assert set(config.to_dict()["loss"]) == set(LOSS_ENTRIES)
