"""Options as command lines: what a user would type for each run of an experiment."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from protclip.config.pretraining import PretrainConfig
from protclip.config.resolve import machine_options, resolve
from protclip.config.spelling import as_arguments, flag, flat_options, toml_text
from protclip.errors import ConfigError
from protclip.experiments.definitions import Arm, Experiment
from protclip.tasks.config import BENCHMARK, NONE, SCRATCH_TOWERS, FinetuneConfig
from protclip.tasks.definitions import find_task


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
        What a user types behind ``protclip`` to start it, and to go on with what it left.
    results : tuple of str
        Files and folders in ``folder`` that a finished one has.
    output : str
        File in ``folder`` that gets what it prints; empty where it writes its results itself.
    settings : PretrainConfig, optional
        What the ``arguments`` mean, where :meth:`prepare` writes it to a file that the command reads.
    """

    name: str
    folder: Path
    arguments: tuple[str, ...]
    resume: tuple[str, ...]
    results: tuple[str, ...]
    output: str = ""
    settings: PretrainConfig | None = None

    @property
    def file(self) -> Path:
        """TOML file of the settings, beside the folder: what is in there is the run's own."""
        return self.folder.with_name(f"{self.folder.name}.toml")

    @property
    def started(self) -> bool:
        """Whether there is something to go on with."""
        return (self.folder / "config.toml").exists()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return all((self.folder / name).exists() for name in self.results)

    @property
    def command(self) -> tuple[str, ...]:
        """What has to be run now, behind ``protclip``."""
        if self.started:
            return self.resume
        if self.settings is None:
            return self.arguments
        return ("pretrain", "--config", str(self.file), "--out", str(self.folder))

    def prepare(self) -> None:
        """Write the settings that the command reads."""
        if self.settings is not None and not self.started:
            self.settings.save(self.file)


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
                where=", ".join(_flags(own)),
                hint=f"See `protclip experiment {name} --list`; --arms chooses among them",
            )
        if missing := [entry for entry in experiment.needs if not self.given.get(entry)]:
            raise ConfigError("this experiment needs them", where=", ".join(_flags(missing)))
        if self.zero_shot and not experiment.zero_shot:
            raise ConfigError("this experiment classifies nothing", where="--zero-shot")
        for arm in self.experiment.chosen(self.arms):
            resolve(PretrainConfig, self.options(arm, self.first_seed))
        for task in self.downstream:
            options = {"task": task, **self.task_options}
            resolve(FinetuneConfig, options, place=lambda name: f"--task-option {name}")

    @property
    def first_seed(self) -> int:
        """Of the repetitions."""
        return resolve(PretrainConfig, {k: v for k, v in self.given.items() if k == "seed"}).train.seed

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
        first = self.first_seed
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
        own = [
            "experiment",
            self.experiment.name,
            *as_arguments(self.given, PretrainConfig),
            "--seeds",
            str(self.seeds),
        ]
        own += [part for pattern in self.arms for part in ("--arms", pattern)]
        if self.tasks is not None:
            own += ["--tasks", ",".join(self.tasks) or "none"]
        own += [
            part for k, v in self.task_options.items() for part in ("--task-option", f"{k}={toml_text(v)}")
        ]
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
        allowed = machine_options(PretrainConfig)
        machine = as_arguments({k: v for k, v in options.items() if k in allowed}, PretrainConfig)
        return Stage(
            "pretrain",
            folder,
            ("pretrain", *as_arguments(options, PretrainConfig), "--out", str(folder)),
            ("pretrain", *machine, "--out", str(folder), "--resume"),
            ("metrics.json", "model"),
            settings=resolve(PretrainConfig, options),
        )

    def _refit(self, parent: Arm, arm: Arm, seed: int) -> Stage:
        folder, options = self._folder(arm, seed), self.options(arm, seed)
        command = ["refit", str(self._folder(parent, seed)), "--method", str(options["refit"])]
        if "pools" in arm.options:
            command += ["--pools", str(arm.options["pools"])]
        command += ["--device", str(options["device"])] if "device" in options else []
        command += ["--out", str(folder / "model")]
        return Stage("refit", folder, tuple(command), tuple(command), ("model/metrics.json",))

    def _task(self, task: str, arm: Arm, run: Path, options: Mapping[str, Any]) -> Stage:
        folder = run / "tasks" / find_task(task).name
        allowed = machine_options(FinetuneConfig)
        machine = {k: v for k, v in options.items() if k in allowed}
        # Named, so that no comparison picks up another run, or the demonstration where the benchmark lacks.
        given: dict[str, Any] = {"model": str(run) if arm.pretrained else NONE, "data": BENCHMARK}
        if not arm.pretrained:  # the same towers, as far as they are told
            given |= {k: v for k, v in options.items() if k in SCRATCH_TOWERS}
        shared = {k: v for k, v in options.items() if k in allowed | {"seed", "precision"}}
        chosen = as_arguments({**given, **shared, **self.task_options}, FinetuneConfig)
        return Stage(
            task,
            folder,
            ("finetune", task, *chosen, "--out", str(folder)),
            ("finetune", *as_arguments(machine, FinetuneConfig), "--out", str(folder), "--resume"),
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


def shown(arguments: Sequence[str], *, program: str = "protclip") -> str:
    """Arguments as a line for a shell.

    Examples
    --------
    >>> shown(["embed", "my model"])
    "protclip embed 'my model'"
    """
    return shlex.join([program, *arguments])


def _flags(names: Sequence[str]) -> list[str]:
    known = flat_options(PretrainConfig)
    return [flag(name, known) for name in names]
