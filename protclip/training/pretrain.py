"""Pretraining from options to a model folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from protclip.config.loss import LossConfig
from protclip.config.pretraining import PretrainConfig, merge
from protclip.config.sources import SourceOptions
from protclip.files import atomic_write
from protclip.modalities.base import Modality
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import Setup, Source
from protclip.scoring.galleries import Evaluation
from protclip.training.batch_size import choose_batch_size, training_vectors
from protclip.training.closed_form import fit_closed_form
from protclip.training.finish import finish_run
from protclip.training.refit import Refit, refit_heads
from protclip.training.run_folder import open_run_folder
from protclip.training.running import make_fabric
from protclip.training.tower_features import Features, standardise_heads, tower_features
from protclip.training.towers import train_towers
from protclip.typing import Display, Silent


class Pretraining:
    """One run in one folder.

    Parameters
    ----------
    config : PretrainConfig
    folder : Path
        Run folder, created where needed.
    display : Display
    setup : Setup, optional
        Both sides and the data, where they do not come from ``config.source``.
    """

    def __init__(
        self,
        config: PretrainConfig,
        folder: Path,
        display: Display | None = None,
        setup: Setup | None = None,
    ) -> None:
        if setup is not None:
            config = dataclasses.replace(config, source=SourceOptions())
        self.config, self.folder, self.setup = config, folder, setup
        self.display: Display = display or Silent()
        self.is_main = True
        self.losses: dict[str, float] = {}

    def run(self, *, resume: bool = False) -> Evaluation | None:
        """Train, evaluate on held-out items and write the model folder.

        Returns
        -------
        Evaluation or None
            Scores on the test gallery; None where no item was held out.

        Raises
        ------
        ConfigError
            If the folder holds another run, or the options contradict each other.
        """
        train = self.config.train
        fabric = make_fabric(
            device=train.device,
            devices=train.devices,
            num_nodes=train.num_nodes,
            precision=train.precision,
            batch_size=train.batch_size
            if isinstance(train.batch_size, int)
            else 2 * train.devices * train.num_nodes,
        )
        fabric.launch()
        self.is_main = fabric.is_global_zero
        display: Display = self.display if fabric.is_global_zero else Silent()
        with fabric.rank_zero_first():
            if fabric.is_global_zero:
                open_run_folder(self.folder, self.config.save, resume=resume)
            torch.manual_seed(train.seed)
            setup = self.setup or self._build(display)
        for notice in setup.data.notices:
            display.say(notice)
        source = dataclasses.replace(self.config.source, **setup.resolved)
        self.config = dataclasses.replace(self.config, source=source)
        if fabric.is_global_zero:
            self.config.save(self.folder / "config.toml", setup.remarks)
            atomic_write(self.folder / "split.json", json.dumps(setup.data.split, indent=1) + "\n")
        model = TwoTower(
            setup.left,
            setup.right,
            dim=self.config.model.dim,
            head="linear" if train.objective == "cca" else "mlp",
            temperature=self.config.loss.temperature,
            learn_temperature=self.config.loss.learn_temperature,
            max_scale=self.config.loss.max_scale,
        )
        for side in (setup.left, setup.right):
            if side.frozen or train.objective == "cca":
                side.encoder.requires_grad_(False)
        left, right = (
            self._features(side, items, fabric, display) if side.frozen or train.objective == "cca" else None
            for side, items in ((setup.left, setup.data.left), (setup.right, setup.data.right))
        )
        features = (left, right)
        standardise_heads(model, setup.data, features)
        progress = None
        if train.objective == "cca":
            fit_closed_form(model, setup.data, features)
            model.to(fabric.device)
        else:
            if train.init_heads == "cca":
                fit_closed_form(model, setup.data, self._all_features(features, setup, fabric, display))
            if train.batch_size == "auto":
                self._choose_batch_size(fabric, model, setup, features, display)
            progress = train_towers(
                fabric,
                model,
                setup,
                features,
                config=self.config,
                folder=self.folder,
                display=display,
                resume=resume,
            )
            self.losses = progress.losses
        evaluation = None
        if fabric.is_global_zero:
            refit = self._refit(model.eval(), setup, features, fabric, display)
            evaluation = finish_run(
                model,
                setup,
                features,
                config=self.config,
                folder=self.folder,
                progress=progress,
                refit=refit,
            )
        fabric.barrier()
        return evaluation

    def _refit(
        self,
        model: TwoTower,
        setup: Setup,
        features: Features,
        fabric: Fabric,
        display: Display,
    ) -> Refit | None:
        """Linear heads for the trained towers, where asked for."""
        method = self.config.train.refit
        # Closed-form heads have been chosen in the same way already.
        if method == "none" or (method == "auto" and self.config.train.objective == "cca"):
            return None
        return refit_heads(
            model,
            setup.data,
            self._all_features(features, setup, fabric, display),
            method=method,
            seed=self.config.train.seed,
            say=display.say,
        )

    def _build(self, display: Display) -> Setup:
        config = self.config
        config.source.validate()
        source: Source = config.source.open()
        return source.setup(
            config.data,
            all_paired=config.train.objective == "clip-all",
            seed=config.train.seed,
            say=display.say,
        )

    def _features(
        self, side: Modality[Any], items: Sequence[Any], fabric: Fabric, display: Display
    ) -> Tensor:
        return tower_features(
            side, items, device=fabric.device, precision=self.config.train.precision, display=display
        )

    def _all_features(
        self, features: Features, setup: Setup, fabric: Fabric, display: Display
    ) -> tuple[Tensor, Tensor]:
        """Features of both towers, computed where a tower is trained and has none."""
        left, right = (
            own if own is not None else self._features(side, items, fabric, display)
            for own, side, items in zip(
                features, (setup.left, setup.right), (setup.data.left, setup.data.right), strict=True
            )
        )
        return left, right

    def _choose_batch_size(
        self,
        fabric: Fabric,
        model: TwoTower,
        setup: Setup,
        features: Features,
        display: Display,
    ) -> None:
        """Resolve ``batch_size="auto"`` from the vectors of the towers as they start."""
        train, data, size = self.config.train, setup.data, 0
        if fabric.is_global_zero:
            vectors = training_vectors(
                model.to(fabric.device), data, features, precision=train.precision, seed=train.seed
            )
            choice = choose_batch_size(
                vectors,
                available=len(data.pairs) + max(len(data.left_pool), len(data.right_pool)),
                least=2 * fabric.world_size,
                seed=train.seed,
            )
            size = choice.size
            display.say(choice.reason)
        # One process decides for all: rounding must not make them differ.
        size = fabric.broadcast(size)
        self.config = dataclasses.replace(self.config, train=dataclasses.replace(train, batch_size=size))
        if fabric.is_global_zero:
            self.config.save(self.folder / "config.toml", [*setup.remarks, choice.reason])


def pretrain(
    out: Path | str,
    *,
    setup: Setup | None = None,
    resume: bool = False,
    display: Display | None = None,
    **options: Any,
) -> Evaluation | None:
    """Align two modalities from partly paired data, as ``protclip pretrain`` does.

    Parameters
    ----------
    out : path
        Run folder; the model is in its folder ``model``.
    setup : Setup, optional
        Both sides and their items, for items that are Python objects; else they come from the source that
        the options describe.
    resume : bool
        Go on with the run in ``out``.
    **options
        Options of :class:`protclip.config.pretraining.PretrainConfig` by name, and entries of its loss.

    Returns
    -------
    Evaluation or None
        Scores on the held-out test items; None where none were held out.

    Raises
    ------
    ConfigError, DataError
        If options or data cannot be used.
    """
    known = {f.name for f in dataclasses.fields(LossConfig)}
    loss = LossConfig.from_dict({key: value for key, value in options.items() if key in known})
    rest = {key: value for key, value in options.items() if key not in known}
    config = merge(PretrainConfig(loss=loss), rest)
    return Pretraining(config, Path(out), display, setup).run(resume=resume)
