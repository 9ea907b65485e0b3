"""A downstream run: from options to a run folder with scores, figures and a head for prediction."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_fabric import Fabric

from protclip.config.resolve import resolve
from protclip.data.files.vector_file import VectorFile
from protclip.errors import ConfigError
from protclip.inference.encode import pick_device
from protclip.parallel.processes import gather_objects
from protclip.tasks.config import AUTO, BENCHMARK, FinetuneConfig
from protclip.tasks.dataset import TaskData, demonstration_note
from protclip.tasks.definitions import Recipe, find_recipe, find_task
from protclip.tasks.find_benchmark import choose_data, open_benchmark
from protclip.tasks.find_parent import choose_model
from protclip.tasks.report import demonstration_warning
from protclip.tasks.results import Results, read_metrics, summarise
from protclip.tasks.seed_training import SeedTraining
from protclip.training.run_folder import open_run_folder
from protclip.training.running import make_fabric
from protclip.typing import Display, Say, Silent
from protclip.work.locks import claim

if TYPE_CHECKING:
    from protclip.data.benchmarks.build_benchmark import Benchmark


class Finetuning:
    """One run in one folder.

    Parameters
    ----------
    config : FinetuneConfig
    folder : Path
        Run folder, created where needed.
    benchmark : callable
        Opens the benchmark.
    display : Display
    """

    def __init__(
        self,
        config: FinetuneConfig,
        folder: Path,
        benchmark: Callable[[], Benchmark],
        display: Display | None = None,
    ) -> None:
        self.config, self.folder, self.open = config, folder, benchmark
        self.display: Display = display or Silent()
        self.task = find_task(config.task)
        self.is_main = True

    def run(self, *, resume: bool = False) -> dict[str, Any]:
        """Train, score the test sets once and write the run folder.

        Returns
        -------
        dict
            The object of ``metrics.json`` (empty on processes other than the main one).

        Raises
        ------
        ConfigError
            If the folder holds another run, or options, towers and benchmark do not fit together.
        DataError
            If the benchmark cannot be used.
        """
        config = self.config
        data = self._data()
        recipe = self._recipe(data)
        fabric = make_fabric(
            device=config.device,
            devices=config.devices,
            num_nodes=config.num_nodes,
            precision=config.precision,
            batch_size=min(recipe.batch_size, len(data.splits["train"])),
        )
        fabric.launch()
        self.is_main = fabric.is_global_zero
        self._agree()
        with claim(self.folder) if self.is_main else nullcontext():
            return self._train(data, recipe, fabric, resume=resume)

    def _train(self, data: TaskData, recipe: Recipe, fabric: Fabric, *, resume: bool) -> dict[str, Any]:
        """All seeds, one after the other."""
        config = self.config
        display: Display = self.display if self.is_main else Silent()
        if self.is_main:
            open_run_folder(self.folder, self.config.save, resume=resume)
        for notice in data.notices:
            display.say(notice)
        training = SeedTraining(config, self.folder, data, fabric, display)
        results: list[dict[str, Any]] = []
        for number in range(config.seeds):
            seed = config.seed + number
            folder = self.folder if config.seeds == 1 else self.folder / f"seed-{seed}"
            finished = folder / "metrics.json"
            if resume and finished.exists() and (folder / "head").exists():
                results.append(read_metrics(finished))
                continue
            folder.mkdir(parents=True, exist_ok=True)
            trained = training.run(recipe, seed, folder, resume)
            if self.is_main:
                results.append(Results(config, data).finish(recipe, trained, seed, folder))
            fabric.barrier()
        if not self.is_main:
            return {}
        if config.seeds == 1:
            return results[0]
        return summarise(self.folder, results)

    def _agree(self) -> None:
        """Refuse to train where the processes found different data or models, each for itself."""
        found = [(config.data, config.model) for config in gather_objects(self.config)]
        if len(set(found)) > 1:
            raise ConfigError(
                "the processes of this run found different data or models",
                where="--data, --model",
                got=" and ".join(sorted({f"{data} with {model or 'none'}" for data, model in found})),
                hint="Name both with --data and --model",
            )

    def _data(self) -> TaskData:
        vectors = VectorFile.open(self.config.vectors) if self.config.vectors else None
        return TaskData(self.open(), self.config.uses, vectors)

    def _recipe(self, data: TaskData) -> Recipe:
        config = self.config
        # The recipe from scratch is CDConv's; its rates are for no other network.
        other = config.structure_encoder != "cdconv" and not data.demonstration
        recipe = find_recipe(
            config.recipe,
            self.task,
            pretrained=bool(config.model) or config.towers == "sequence" or other,
            probe=config.mode == "probe",
            demonstration=data.demonstration,
        )
        names = ("epochs", "batch_size", "lr", "tower_lr", "weight_decay", "noise", "patience")
        given = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
        return dataclasses.replace(recipe, **given)


def prepare(
    config: FinetuneConfig,
    folder: Path,
    *,
    resume: bool,
    say: Say,
    warn: Say,
    progress: bool = False,
) -> tuple[FinetuneConfig, Benchmark]:
    """Find what ``auto`` stands for, fetching the benchmark where that is needed, and open the data.

    Parameters
    ----------
    config : FinetuneConfig
    folder : Path
        Run folder.
    resume : bool
        Take what the run in the folder used, where there is one.
    say : callable
        Told in a sentence what goes on.
    warn : callable
        Told first of all that the data are the demonstration, where they are.
    progress : bool
        Show bars on stderr.

    Returns
    -------
    FinetuneConfig
        With ``data`` and ``model`` resolved, so that it repeats the run.
    Benchmark

    Raises
    ------
    DataError
        If there is no such file, or ``benchmark`` is asked for and not built.
    """
    if resume and (folder / "config.toml").exists():
        config = _as_before(config, FinetuneConfig.load(folder / "config.toml"))
    data, reason = choose_data(config.task, config.data, say=say, progress=progress)
    benchmark = open_benchmark(config.task, data)
    fallback = (reason or config.fallback) if benchmark.is_demonstration else None
    if benchmark.is_demonstration:
        warn(demonstration_warning(config.task, demonstration_note(fallback)))
    config = dataclasses.replace(config, data=data, fallback=fallback)
    return dataclasses.replace(config, model=choose_model(config, say=say)), benchmark


def _as_before(config: FinetuneConfig, before: FinetuneConfig) -> FinetuneConfig:
    """What ``auto`` stood for when the run began; a run never changes its data or its model under way."""
    if config.data == AUTO:
        # Runs from before `auto` was a word used the built benchmark, or ended.
        data = BENCHMARK if before.data == AUTO else before.data
        config = dataclasses.replace(config, data=data, fallback=before.fallback)
    if config.model == AUTO:
        config = dataclasses.replace(config, model=before.model)
    return config


def finetune(
    task: str,
    out: Path | str,
    *,
    resume: bool = False,
    display: Display | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train and score a head for a task, as ``protclip finetune`` does.

    Parameters
    ----------
    task : str
        ``fold``, ``reaction``, ``go-mf``, ``go-bp``, ``go-cc`` or ``ec``.
    out : path
        Run folder.
    resume : bool
        Go on with the run in ``out``.
    **options
        Of :class:`protclip.tasks.config.FinetuneConfig`. Without ``model`` towers start from scratch; without
        ``data`` the benchmark is fetched where it has to be, and where it cannot be, a warning says that the
        demonstration takes its place.

    Returns
    -------
    dict
        The object of ``metrics.json``.
    """
    options = {"task": task, **options}
    config = resolve(FinetuneConfig, options, resume=Path(out) if resume else None, place=str)
    pick_device(config.device)
    shown = display or Silent()

    def warn(text: str) -> None:
        shown.say(text)
        if config.data == AUTO or config.fallback:
            warnings.warn(text, stacklevel=4)

    resolved, benchmark = prepare(config, Path(out), resume=resume, say=shown.say, warn=warn)
    return Finetuning(resolved, Path(out), lambda: benchmark, shown).run(resume=resume)
