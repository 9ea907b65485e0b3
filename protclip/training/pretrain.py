"""Pretraining from options to a model folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from protclip.config import LossConfig, cache_dir
from protclip.distributed import convert_sync_batchnorm
from protclip.errors import ConfigError
from protclip.evaluation import Evaluation, gallery_vectors, score, validation_scores
from protclip.files import atomic_write
from protclip.inference import encode
from protclip.losses import Objective, Term
from protclip.modalities.base import Modality
from protclip.modalities.features import frozen_features
from protclip.modalities.pairs import AlignmentData, Setup, Source
from protclip.model import TwoTower
from protclip.options import PretrainConfig, merge
from protclip.source_options import SourceOptions
from protclip.training.batch_size import choose_batch_size, training_vectors
from protclip.training.closed_form import fit_closed_form
from protclip.training.folders import open_run_folder
from protclip.training.loop import Loop, Progress
from protclip.training.plots import plot_curves, plot_embedding
from protclip.training.refit import Refit, refit_heads
from protclip.training.report import model_card, ranks_table
from protclip.training.running import Display, Silent, make_fabric
from protclip.training.sampler import PairedUnpairedSampler
from protclip.training.steps import Side, StepDataset
from protclip.training.transport import TransportTargets, frozen_vectors


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
        features = tuple(
            self._features(side, items, fabric, display) if side.frozen or train.objective == "cca" else None
            for side, items in ((setup.left, setup.data.left), (setup.right, setup.data.right))
        )
        pair_features = (features[0], features[1])
        self._standardise(model, setup.data, pair_features)
        progress = None
        if train.objective == "cca":
            fit_closed_form(model, setup.data, pair_features)
            model.to(fabric.device)
        else:
            if train.init_heads == "cca":
                ready = tuple(
                    f if f is not None else self._features(side, items, fabric, display)
                    for f, side, items in zip(
                        pair_features,
                        (setup.left, setup.right),
                        (setup.data.left, setup.data.right),
                        strict=True,
                    )
                )
                fit_closed_form(model, setup.data, (ready[0], ready[1]))
            if train.batch_size == "auto":
                self._choose_batch_size(fabric, model, setup, pair_features, display)
            progress = self._train(fabric, model, setup, pair_features, display, resume)
        evaluation = None
        if fabric.is_global_zero:
            refit = self._refit(model.eval(), setup, pair_features, fabric, display)
            evaluation = self._finish(model, setup, pair_features, progress, refit)
        fabric.barrier()
        return evaluation

    def _refit(
        self,
        model: TwoTower,
        setup: Setup,
        features: tuple[Tensor | None, Tensor | None],
        fabric: Fabric,
        display: Display,
    ) -> Refit | None:
        """Linear heads for the trained towers, where asked for."""
        method, data = self.config.train.refit, setup.data
        # Closed-form heads have been chosen in the same way already.
        if method == "none" or (method == "auto" and self.config.train.objective == "cca"):
            return None
        left, right = (
            own if own is not None else self._features(side, items, fabric, display)
            for own, side, items in zip(
                features, (setup.left, setup.right), (data.left, data.right), strict=True
            )
        )
        return refit_heads(
            model, data, (left, right), method=method, seed=self.config.train.seed, say=display.say
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

    def _features(self, side: Modality[Any], items: Any, fabric: Fabric, display: Display) -> Tensor:
        """Features of a tower that is not trained; those of a pretrained one are kept in the cache."""
        display.begin(f"{side.name} features", len(items))
        done = 0

        def advance(n: int) -> None:
            nonlocal done
            done += n
            display.advance(done)

        device = fabric.device
        side.encoder.to(device).eval()
        if side.frozen:
            ids = [str(i) for i in range(len(items))]
            rows = frozen_features(
                side,
                ids,
                items,
                device=device,
                precision=self.config.train.precision,
                cache=cache_dir() / "features",
                progress=advance,
            )
        else:
            rows = encode(
                side, items, side.encoder, device=device, precision=self.config.train.precision, done=advance
            )
        display.end()
        return torch.from_numpy(np.ascontiguousarray(rows))

    def _standardise(
        self, model: TwoTower, data: AlignmentData, features: tuple[Tensor | None, Tensor | None]
    ) -> None:
        for name, own, column, pool in zip(
            model.names, features, (0, 1), (data.left_pool, data.right_pool), strict=True
        ):
            if own is not None:
                rows = own[np.concatenate([data.pairs[:, column], pool])]
                model.heads[name].standardise.fit(rows)  # type: ignore[union-attr, operator]

    def _choose_batch_size(
        self,
        fabric: Fabric,
        model: TwoTower,
        setup: Setup,
        features: tuple[Tensor | None, Tensor | None],
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

    def _train(
        self,
        fabric: Fabric,
        model: TwoTower,
        setup: Setup,
        features: tuple[Tensor | None, Tensor | None],
        display: Display,
        resume: bool,
    ) -> Progress:
        train, data = self.config.train, setup.data
        if not isinstance(train.batch_size, int):
            raise ConfigError("not decided yet", where="--batch-size", got=str(train.batch_size))
        sampler = PairedUnpairedSampler(
            data.pairs,
            data.left_pool,
            data.right_pool,
            batch_size=train.batch_size,
            pairs_per_batch=train.pairs_per_batch,
            use_unpaired=train.objective not in ("clip", "clip-all"),
            seed=train.seed,
        )
        loss = self.config.loss.for_objective(train.objective)
        if not any(side.has_keywords for side in (setup.left, setup.right)):
            loss = dataclasses.replace(loss, keyword_weight=0.0)
        dataset = StepDataset(
            sampler,
            Side(setup.left, data.left, features[0]),
            Side(setup.right, data.right, features[1]),
            views=loss.ssl_weight > 0 and loss.clip_weight > 0,
            micro_batch_size=train.micro_batch_size,
            keywords=loss.pseudo_labels == "s-clip" and loss.keyword_weight > 0,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
        )
        steps = train.steps if train.steps is not None else train.epochs * sampler.epoch_steps

        def validate(current: TwoTower) -> dict[str, float]:
            if len(data.valid) < 2:
                return {}
            vectors = gallery_vectors(
                current, data.valid, (data.left, data.right), features, precision=train.precision
            )
            return validation_scores(*vectors, data.valid, current.names)

        if fabric.world_size > 1:
            convert_sync_batchnorm(model)
        extra = {}
        if loss.transport_weight:
            targets = TransportTargets(
                loss,
                data,
                model.dim,
                steps=steps,
                seed=train.seed,
                recompute=frozen_vectors(model, features),
            )
            extra["transport"] = Term(loss.transport_weight, targets)
        display.begin(f"{train.objective}", steps)
        loop = Loop(
            fabric,
            model,
            Objective(loss, extra),
            dataset,
            train,
            steps=steps,
            epoch_steps=max(sampler.epoch_steps, -(-steps // 50)),
            folder=self.folder,
            scratch=(not setup.left.pretrained, not setup.right.pretrained),
            validate=validate,
            on_step=display.advance,
        )
        progress = loop.run(resume=resume)
        self.losses = progress.losses
        display.end()
        return progress

    def _finish(
        self,
        model: TwoTower,
        setup: Setup,
        features: tuple[Tensor | None, Tensor | None],
        progress: Progress | None,
        refit: Refit | None = None,
    ) -> Evaluation | None:
        data, train = setup.data, self.config.train
        evaluation = before = None

        def evaluate(current: TwoTower) -> Evaluation:
            left, right = gallery_vectors(
                current, data.test, (data.left, data.right), features, precision=train.precision
            )
            return score(left, right, data.test, current.names)

        if refit is not None and refit.model is not model:
            before = evaluate(model) if len(data.test) >= 2 else None
            model = refit.model
        if len(data.test) >= 2:
            evaluation = evaluate(model)
            atomic_write(self.folder / "ranks.csv", ranks_table(data.test, evaluation, model.names))
            if train.plots:
                plot_embedding(
                    evaluation.left,
                    evaluation.right,
                    data.test.labels or [""] * len(data.test),
                    self.folder / "embedding.svg",
                    left_name=model.names[0],
                    right_name=model.names[1],
                )
        metrics: dict[str, Any] = dict(evaluation.metrics) if evaluation else {}
        metrics["objective"] = train.objective
        metrics["gallery_from"] = self.config.source.title()
        metrics["sides"] = {side.name: side.describe() for side in (setup.left, setup.right)}
        if refit is not None:
            metrics["refit"] = refit.facts
            metrics["before_refit"] = before.metrics if before else None
        if progress is not None:
            metrics["training"] = {"steps": progress.step, "kept_step": progress.best_step, **progress.last}
            if progress.step and train.plots:
                plot_curves(self.folder / "log.csv", self.folder / "curves.svg")
        atomic_write(self.folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
        facts = {
            "source": self.config.source.kind,
            "objective": train.objective,
            "seed": train.seed,
            "split_seed": self.config.data.split_seed,
            "valid_fraction": self.config.data.valid_fraction,
            "test_fraction": self.config.data.test_fraction,
            **data.facts,
            **({"refit": refit.facts} if refit is not None else {}),
        }
        card = model_card(
            names=model.names,
            objective=train.objective,
            facts=facts,
            sides=metrics["sides"],
            metrics=evaluation.metrics if evaluation else None,
            loss=self.config.loss.for_objective(train.objective).to_dict()
            if train.objective != "cca"
            else {},
            before=before.metrics if before else None,
        )
        model.save(self.folder / "model", facts=facts, card=card)
        return evaluation


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
        Options of :class:`protclip.options.PretrainConfig` by name, and entries of its loss.

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
