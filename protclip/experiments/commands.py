"""Options as command lines: what a user would type for each run of an experiment."""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from protclip.config.loss import LossConfig
from protclip.config.pretraining import (
    MACHINE_OPTIONS,
    DataConfig,
    ModelConfig,
    PretrainConfig,
    TrainConfig,
    merge,
    named_config,
)
from protclip.config.sources import source_kinds
from protclip.errors import ConfigError
from protclip.experiments.definitions import Arm, Experiment
from protclip.tasks.config import MACHINE_OPTIONS as TASK_MACHINE_OPTIONS
from protclip.tasks.config import TOWERS, FinetuneConfig
from protclip.tasks.definitions import find_task

LOSS_ENTRIES = frozenset(f.name for f in dataclasses.fields(LossConfig))


@dataclass(frozen=True)
class Stage:
    """One command of a run.

    Attributes
    ----------
    name : str
        ``pretrain`` or ``refit``, which make the model; ``towers``, which trains that of another run; the
        name of a task; or ``zero-shot`` and the name of a set.
    folder : Path
        What it writes into.
    arguments, resume : tuple of str
        What stands behind ``protclip`` to start it, and to go on with what it left.
    results : tuple of str
        Files and folders in ``folder`` that a finished one has.
    output : str
        File in ``folder`` that gets what it prints; empty where it writes its results itself.
    """

    name: str
    folder: Path
    arguments: tuple[str, ...]
    resume: tuple[str, ...]
    results: tuple[str, ...]
    output: str = ""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return all((self.folder / name).exists() for name in self.results)

    @property
    def command(self) -> tuple[str, ...]:
        """What has to be run now, behind ``protclip``."""
        return self.resume if (self.folder / "config.toml").exists() else self.arguments


@dataclass(frozen=True)
class Run:
    """An arm with one seed, and its commands in order."""

    arm: Arm
    seed: int
    folder: Path
    stages: tuple[Stage, ...]

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.arm.name}, seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether all its stages are."""
        return all(stage.finished for stage in self.stages)


@dataclass(frozen=True)
class Plan:
    """Which runs of an experiment are wanted, and what the user gave.

    Attributes
    ----------
    experiment : Experiment
    out : Path
        Result folder.
    given : mapping
        Options of pretraining (with loss entries, ``preset`` and ``config``) for every arm.
    seeds : int
        Repetitions from ``given["seed"]`` on.
    arms : tuple of str
        Patterns of names; all arms without any.
    tasks : tuple of str or None
        Downstream tasks in place of the experiment's own.
    task_options : mapping
        Options of :class:`protclip.tasks.config.FinetuneConfig`.
    zero_shot : tuple of str
        Folders of labelled items.
    prompts : tuple of str
        In place of the experiment's own.

    Raises
    ------
    ConfigError
        Options that an arm does not take, that every arm decides for itself, or that are missing.
    """

    experiment: Experiment
    out: Path
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seeds: int = 3
    arms: tuple[str, ...] = ()
    tasks: tuple[str, ...] | None = None
    task_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    zero_shot: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        experiment, name = self.experiment, self.experiment.name
        if self.seeds < 1:
            raise ConfigError("too few", where="--seeds", got=str(self.seeds), expected="1 or more")
        if own := sorted(experiment.varied() & set(self.given)):
            raise ConfigError(
                "the arms of this experiment decide this themselves",
                where=", ".join(_flag(entry) for entry in own),
                hint=f"See `protclip experiment {name} --list`; --arms chooses among them",
            )
        if missing := [entry for entry in experiment.needs if not self.given.get(entry)]:
            raise ConfigError("this experiment needs them", where=", ".join(map(_flag, missing)))
        if self.zero_shot and not experiment.zero_shot:
            raise ConfigError("this experiment classifies nothing", where="--zero-shot")
        for arm in self.experiment.chosen(self.arms):
            checked(self.options(arm, int(self.given.get("seed", 0))))
        for task in self.downstream:
            FinetuneConfig().merged(task=task, **self.task_options)

    @property
    def downstream(self) -> tuple[str, ...]:
        """Names of the tasks that follow each run."""
        return self.experiment.tasks if self.tasks is None else self.tasks

    def options(self, arm: Arm, seed: int) -> dict[str, Any]:
        """All options of one run; heads stay as trained unless an option says otherwise."""
        return {"refit": "none", **self.experiment.options, **self.given, **arm.options, "seed": seed}

    def runs(self) -> list[Run]:
        """Every wanted run; the first seed of all arms comes before the second.

        Arms that take the towers of others come last, so that these are there.
        """
        first = int(self.given.get("seed", 0))
        arms = sorted(self.experiment.chosen(self.arms), key=lambda arm: bool(arm.towers_of))
        return [self._run(arm, seed) for seed in range(first, first + self.seeds) for arm in arms]

    def reported(self) -> list[Run]:
        """The wanted runs, and those that earlier calls have left in the folder."""
        wanted = {run.folder for run in self.runs()}
        found = dataclasses.replace(self, arms=()).runs()
        return [run for run in found if run.folder in wanted or run.folder.exists()]

    @property
    def command(self) -> str:
        """What a user types for all of it."""
        own = ["experiment", self.experiment.name, *flags(self.given), "--seeds", str(self.seeds)]
        own += [part for pattern in self.arms for part in ("--arms", pattern)]
        if self.tasks is not None:
            own += ["--tasks", ",".join(self.tasks) or "none"]
        own += [part for k, v in self.task_options.items() for part in ("--task-option", f"{k}={_toml(v)}")]
        own += [part for source in self.zero_shot for part in ("--zero-shot", source)]
        own += [part for prompt in self.prompts for part in ("--prompt", prompt)]
        return shown([*own, "--out", str(self.out)])

    def _run(self, arm: Arm, seed: int) -> Run:
        folder = self._folder(arm, seed)
        options = self.options(arm, seed)
        stages = []
        if (parent := self.experiment.parent(arm)) is not None:
            stages.append(replace(self._pretrain(parent, seed), name="towers"))
            stages.append(self._refit(parent, arm, seed))
        elif arm.pretrained:
            stages.append(self._pretrain(arm, seed))
        stages += [self._task(task, arm, folder, options) for task in self.downstream]
        if arm.pretrained:
            stages += [self._zero_shot(Path(source), folder, options) for source in self.zero_shot]
        return Run(arm, seed, folder, tuple(stages))

    def _folder(self, arm: Arm, seed: int) -> Path:
        return self.out / "runs" / arm.slug / f"seed-{seed}"

    def _pretrain(self, arm: Arm, seed: int) -> Stage:
        folder, options = self._folder(arm, seed), self.options(arm, seed)
        machine = flags({k: v for k, v in options.items() if k in MACHINE_OPTIONS})
        return Stage(
            "pretrain",
            folder,
            ("pretrain", *flags(options), "--out", str(folder)),
            ("pretrain", *machine, "--out", str(folder), "--resume"),
            ("metrics.json", "model"),
        )

    def _refit(self, parent: Arm, arm: Arm, seed: int) -> Stage:
        folder, options = self._folder(arm, seed), self.options(arm, seed)
        command = ["refit", str(self._folder(parent, seed)), "--method", str(options["refit"])]
        if "pools" in arm.options:
            command += flags({"pools": arm.options["pools"]})
        command += flags({k: v for k, v in options.items() if k == "device"})
        command += ["--out", str(folder / "model")]
        return Stage("refit", folder, tuple(command), tuple(command), ("model/metrics.json",))

    def _task(self, task: str, arm: Arm, run: Path, options: Mapping[str, Any]) -> Stage:
        folder = run / "tasks" / find_task(task).name
        own = {f.name: f for f in dataclasses.fields(FinetuneConfig)}
        given: dict[str, Any] = {}
        if arm.pretrained:
            given["model"] = str(run)
        else:  # the same towers, as far as they are told
            given = {k: v for k, v in options.items() if k in own and own[k].metadata.get("panel") == TOWERS}
        shared = {k: v for k, v in options.items() if k in TASK_MACHINE_OPTIONS | {"seed", "precision"}}
        machine = _task_flags({k: v for k, v in options.items() if k in TASK_MACHINE_OPTIONS})
        chosen = _task_flags({**given, **shared, **self.task_options})
        return Stage(
            task,
            folder,
            ("finetune", task, *chosen, "--out", str(folder)),
            ("finetune", *machine, "--out", str(folder), "--resume"),
            ("metrics.json", "head"),
        )

    def _zero_shot(self, source: Path, run: Path, options: Mapping[str, Any]) -> Stage:
        prompts = self.prompts or self.experiment.prompts
        more = [part for prompt in prompts for part in ("--prompt", prompt)]
        if "device" in options:
            more += ["--device", str(options["device"])]
        command = ("evaluate", str(run), "--zero-shot", str(source), *more, "--json")
        file = f"{source.name}.json"
        return Stage(f"zero-shot {source.name}", run / "zero-shot", command, command, (file,), file)


def checked(options: Mapping[str, Any]) -> PretrainConfig:
    """The configuration that the command line makes of flat options.

    Raises
    ------
    ConfigError
        If it would refuse them.
    """
    from protclip.config.presets import loss_preset

    rest = dict(options)
    config, preset = rest.pop("config", None), rest.pop("preset", None)
    base = PretrainConfig.load(named_config(Path(config))) if config else PretrainConfig()
    loss = loss_preset(preset) if preset else base.loss
    entries = {key: rest.pop(key) for key in LOSS_ENTRIES & set(rest)}
    loss = LossConfig.from_dict({**loss.to_dict(), **entries})
    return merge(dataclasses.replace(base, loss=loss), rest)


def flags(options: Mapping[str, Any]) -> list[str]:
    """Options of ``protclip pretrain`` as its arguments; those that are None are left out.

    Examples
    --------
    >>> flags({"objective": "setclip", "paired": 0.1, "ssl_weight": 0.0, "preset": "paper"})
    ['--preset', 'paper', '--loss', 'ssl_weight=0.0', '--objective', 'setclip', '--paired', '0.1']
    """
    rest = dict(options)
    made: list[str] = []
    for name in ("config", "preset"):
        if name in rest:
            made += [f"--{name}", str(rest.pop(name))]
    for name in sorted(LOSS_ENTRIES & set(rest)):
        made += ["--loss", f"{name}={_toml(rest.pop(name))}"]
    return made + _field_flags(rest, _pretrain_fields())


def shown(arguments: Sequence[str], *, program: str = "protclip") -> str:
    """Arguments as a line for a shell.

    Examples
    --------
    >>> shown(["embed", "my model"])
    "protclip embed 'my model'"
    """
    return shlex.join([program, *arguments])


def _task_flags(options: Mapping[str, Any]) -> list[str]:
    return _field_flags(options, {f.name: f for f in dataclasses.fields(FinetuneConfig)})


@functools.cache
def _pretrain_fields() -> Mapping[str, dataclasses.Field[Any]]:
    configs = (*source_kinds().values(), DataConfig, ModelConfig, TrainConfig)
    return {f.name: f for config in configs for f in dataclasses.fields(config)}


def _flag(name: str) -> str:
    known = _pretrain_fields()
    if name in LOSS_ENTRIES:
        return f"--loss {name}"
    return (known[name].metadata.get("flag") if name in known else "") or "--" + name.replace("_", "-")


def _field_flags(options: Mapping[str, Any], known: Mapping[str, dataclasses.Field[Any]]) -> list[str]:
    made: list[str] = []
    for name, value in options.items():
        flag = (known[name].metadata.get("flag") if name in known else "") or "--" + name.replace("_", "-")
        if isinstance(value, bool):
            made.append(flag if value else "--no-" + flag.removeprefix("--"))
        elif isinstance(value, Mapping):
            for key, entry in value.items():
                made += [flag, f"{key}={_toml(entry)}"]
        elif value is not None:
            made += [flag, str(value)]
    return made


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value)
