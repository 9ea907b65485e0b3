"""Every experiment as the commands that a user could type."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from protclip.cli import finetune as finetune_module
from protclip.cli import pretrain as pretrain_module
from protclip.cli.app import app
from protclip.config.pretraining import PretrainConfig
from protclip.config.resolve import resolve
from protclip.config.spelling import as_arguments
from protclip.errors import ConfigError
from protclip.experiments.catalogue import EXPERIMENTS, find_experiment
from protclip.experiments.commands import Plan
from protclip.experiments.definitions import Arm, Experiment
from protclip.experiments.plan_folder import load_plan, open_plan, save_plan
from protclip.files import read_toml, write_toml
from protclip.tasks.config import FinetuneConfig

RUNS = [e for e in EXPERIMENTS.values() if e.kind == "runs"]


def plan(experiment: Experiment | str, **given: Any) -> Plan:
    found = find_experiment(experiment) if isinstance(experiment, str) else experiment
    needed = dict.fromkeys(found.needs, "somewhere")
    return Plan(found, Path("out"), given={**needed, **given})


@pytest.mark.parametrize("experiment", RUNS, ids=lambda e: e.name)
def test_the_options_of_every_arm_are_accepted(experiment: Experiment) -> None:
    made = plan(experiment)
    for arm in experiment.arms:
        config = resolve(PretrainConfig, made.options(arm, 3))
        assert config.train.seed == 3
        for name, value in arm.options.items():
            places = [config.source, config.data, config.model, config.loss, config.train]
            found = [getattr(place, name) for place in places if hasattr(place, name)]
            assert found == [value] or name == "preset", (arm.name, name)
    methods = {arm.method for arm in experiment.arms}
    assert experiment.baseline in methods
    assert not experiment.ceiling or experiment.ceiling in methods


@pytest.mark.parametrize("experiment", RUNS, ids=lambda e: e.name)
def test_every_arm_has_a_baseline_in_its_condition(experiment: Experiment) -> None:
    bases = [arm.condition for arm in experiment.arms if arm.method == experiment.baseline]
    for arm in experiment.arms:
        assert arm.condition in bases or not arm.condition or arm.method == experiment.ceiling


@pytest.mark.parametrize("experiment", RUNS, ids=lambda e: e.name)
def test_commands_mean_the_options(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both command lines of a run, parsed by the real commands, give the configuration of the plan.

    One says everything with flags and is what a reader copies; the other reads the file beside the run.
    """
    monkeypatch.chdir(tmp_path)
    seen: list[tuple[Any, Path]] = []
    for module in (pretrain_module, finetune_module):
        monkeypatch.setattr(module, "_run", lambda settings, folder, resume: seen.append((settings, folder)))
    each = {run.arm.method: run for run in plan(experiment).runs()}
    for run in each.values():
        for stage in run.stages:
            if stage.name == "refit":  # its own test below
                continue
            stage.prepare()
            for command in (stage.arguments, stage.command):
                result = CliRunner().invoke(app, list(command), catch_exceptions=False)
                assert result.exit_code == 0, result.output
            (settings, folder), again = seen.pop(), seen.pop()
            assert again == (settings, folder)
            assert folder == stage.folder
            assert not folder.exists()
            if stage.name in ("pretrain", "towers"):
                arm = experiment.parent(run.arm) or run.arm
                assert settings == resolve(PretrainConfig, plan(experiment).options(arm, run.seed))
            else:
                assert settings.task == stage.name
                assert settings.model == (str(run.folder) if run.arm.pretrained else "")
                assert settings.seed == run.seed


def test_arms_that_share_towers_refit_the_model_of_the_other_arm() -> None:
    made = plan("alignment", device="cpu", steps=5)
    runs = {run.arm.name: run for run in made.runs() if run.seed == 0}
    parent = runs["transport, disjoint, paired 0.1"]
    towers, refit = runs["transport, disjoint, transport refit, paired 0.1"].stages
    assert (towers.folder, towers.arguments) == (parent.folder, parent.stages[0].arguments)
    assert refit.arguments == (
        *("refit", str(parent.folder), "--method", "transport", "--pools", "disjoint", "--device", "cpu"),
        *("--out", str(refit.folder / "model")),
    )
    names = [run.arm.name for run in made.runs()]
    assert names.index(parent.arm.name) < names.index("clip, CCA refit, paired 0.02")


def test_a_refit_repeats_the_options_of_its_towers() -> None:
    for experiment in RUNS:
        for arm in experiment.arms:
            if (parent := experiment.parent(arm)) is not None:
                own = {k: v for k, v in arm.options.items() if k not in ("refit", "pools")}
                assert own == {k: v for k, v in parent.options.items() if k != "pools"}, arm.name
    with pytest.raises(ConfigError, match="no arm whose towers it could take"):
        Experiment("e", "", "", (Arm("a", {"refit": "cca"}, towers_of="b"),))


def test_users_options_override_those_of_the_experiment_but_not_of_an_arm() -> None:
    made = plan("no-pairs", steps=50, preset="released")
    steps = {run.arm.method: made.options(run.arm, 0)["steps"] for run in made.runs()}
    assert steps["untrained"] == 0
    assert steps["setclip"] == 50
    assert plan("table4", paired=0.2).options(find_experiment("table4").arms[0], 0)["paired"] == 0.2


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("paired-fraction", {"objective": "clip"}, "--objective: the arms .* decide this themselves"),
        ("temperature", {"temperature": 0.2}, "--loss temperature: the arms"),
        ("table4", {"stepps": 3}, "stepps: unknown option"),
        ("table4", {"paired": 1.5}, "--paired: out of range"),
    ],
)
def test_options_without_effect_or_sense_are_refused(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(name, **given)


def test_what_an_experiment_needs_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="--pairs: this experiment needs"):
        Plan(find_experiment("table3"), Path("out"))
    with pytest.raises(ConfigError, match="classifies nothing"):
        Plan(find_experiment("table4"), Path("out"), zero_shot=("x",))
    with pytest.raises(ConfigError, match="folds"):
        Plan(find_experiment("table4"), Path("out"), tasks=("folds",))
    with pytest.raises(ConfigError, match="no such experiment"):
        find_experiment("table6")


def test_seeds_come_round_by_round_and_arms_by_pattern() -> None:
    made = dataclasses.replace(plan("paired-fraction", seed=5), seeds=2, arms=("clip-paired-0.1", "cca*0.1"))
    assert [(r.arm.method, r.seed) for r in made.runs()] == [("clip", 5), ("cca", 5), ("clip", 6), ("cca", 6)]
    with pytest.raises(ConfigError, match="--arms siglip"):
        dataclasses.replace(made, arms=("siglip",))


def test_stages_start_resume_and_end(tmp_path: Path) -> None:
    made = dataclasses.replace(plan("table4", device="cpu", steps=2), out=tmp_path, zero_shot=())
    pretrain, fold, _ = made.runs()[0].stages
    assert pretrain.command == (
        *("pretrain", "--config", str(pretrain.folder.parent / "seed-0.toml")),
        *("--out", str(pretrain.folder)),
    )
    pretrain.folder.mkdir(parents=True)
    (pretrain.folder / "config.toml").touch()
    assert pretrain.command == ("pretrain", "--device", "cpu", "--out", str(pretrain.folder), "--resume")
    assert not pretrain.finished
    (pretrain.folder / "metrics.json").touch()
    (pretrain.folder / "model").mkdir()
    assert pretrain.finished
    assert not fold.finished
    assert fold.arguments[:4] == ("finetune", "fold", "--model", str(pretrain.folder))


def test_towers_from_scratch_are_those_of_the_other_arms() -> None:
    made = dataclasses.replace(
        plan("table1", structure_size="tiny", batch_size=8), task_options={"data": "sample"}
    )
    (stage, *_) = made.runs()[0].stages
    given = dict(zip(stage.arguments[2::2], stage.arguments[3::2], strict=True))
    assert given["--structure-size"] == "tiny"
    assert given["--data"] == "sample"
    assert given["--model"] == "none"  # and no run that happens to lie in runs/
    assert "--batch-size" not in given


def test_flags_survive_the_command_line() -> None:
    options = {"left_option": {"size": 64, "encoder": "small"}, "sdd_relative_distance": False, "steps": None}
    assert as_arguments({"left": "a", **options}, PretrainConfig) == [
        *("--loss", "sdd_relative_distance=false", "--left", "a"),
        *("--left-option", "size=64", "--left-option", "encoder=small"),
    ]


def test_a_folder_keeps_the_options_it_was_started_with(tmp_path: Path) -> None:
    first = Plan(find_experiment("table4"), tmp_path, {"steps": 5, "device": "cpu"}, seeds=2, tasks=())
    save_plan(first)
    again = open_plan(Plan(find_experiment("table4"), tmp_path, {"device": "cuda"}, seeds=3))
    assert again.given == {"steps": 5, "device": "cuda"}
    assert (again.seeds, again.tasks) == (3, ())
    assert load_plan(tmp_path).given == {"steps": 5}
    with pytest.raises(ConfigError, match="other options; got steps = 6, expected steps = 5"):
        open_plan(Plan(find_experiment("table4"), tmp_path, {"steps": 6}))
    with pytest.raises(ConfigError, match="other options; got dim = 8, expected dim = its default"):
        open_plan(Plan(find_experiment("table4"), tmp_path, {"dim": 8}))
    with pytest.raises(ConfigError, match="another experiment"):
        open_plan(Plan(find_experiment("table5"), tmp_path))


def test_the_command_of_a_plan_is_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from protclip.cli import experiment as module

    seen: list[Plan] = []
    monkeypatch.setattr(module, "_run", lambda plan, **options: seen.append(plan))
    made = Plan(
        find_experiment("no-pairs"),
        tmp_path / "a b",
        {"steps": 4, "ssl_weight": 0.5, "preset": "paper", "dim": 8},
        seeds=2,
        arms=("setclip*", "clip-all"),
        tasks=("ec",),
        task_options={"data": "sample", "epochs": 2},
        zero_shot=("x",),
        prompts=("a view of {}",),
    )
    import shlex

    result = CliRunner().invoke(app, shlex.split(made.command)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert seen == [made]


def test_batch_size_takes_a_number_or_a_word(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    for value in (64, "auto"):
        config = resolve(PretrainConfig, {"batch_size": value})
        config.save(path)
        assert PretrainConfig.load(path).train.batch_size == value
    with pytest.raises(ConfigError, match="--batch-size: unknown choice"):
        resolve(PretrainConfig, {"batch_size": "many"})
    with pytest.raises(ConfigError, match="--batch-size: out of range"):
        resolve(PretrainConfig, {"batch_size": 1})


def test_list_and_dry_run_show_and_start_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, expected in (
        (["--list"], "paired-fraction"),
        (["table5", "--list"], "sdd_divergence"),
        (["sampling-size", "--dry-run"], "protclip experiment sampling-size"),
        (["table5", "--dry-run", "--tasks", "none"], "protclip pretrain --preset paper"),
    ):
        result = CliRunner().invoke(app, ["experiment", *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert expected in result.output
    assert list(tmp_path.iterdir()) == []


def test_names_of_tasks_exist() -> None:
    for experiment in RUNS:
        for task in experiment.tasks:
            assert resolve(FinetuneConfig, {"task": task}).task == task


def test_experiment_files_are_plain_toml(tmp_path: Path) -> None:
    write_toml(tmp_path / "experiment.toml", {"experiment": "table4"})
    assert read_toml(tmp_path / "experiment.toml") == {"experiment": "table4"}
    assert load_plan(tmp_path).seeds == 1
