"""``protclip align``: align any two adapters from folders of matched items."""

from __future__ import annotations

from typing import Any

from protclip.cli.option_fields import with_options
from protclip.cli.pretrain import train
from protclip.config.folder_options import PairsOptions
from protclip.config.pretraining import DataConfig, ModelConfig, TrainConfig
from protclip.errors import ConfigError

_train = with_options(PairsOptions, DataConfig, ModelConfig, TrainConfig)(train)


def align(**given: Any) -> None:
    """Align items of any two adapters, by --pairs DIR --left ADAPTER --right ADAPTER.

    DIR holds left and right (folders or files that the adapters read) with pairs.tsv or equal ids, or a
    dataset that a reader knows.
    """
    if not given["config"] and not given["resume"]:
        for name in ("pairs", "left", "right"):
            if not given[name]:
                raise ConfigError("missing option", where=f"--{name}", hint="See protclip align --help")
    _train(**given)


align.__signature__ = _train.__signature__  # type: ignore[attr-defined]
align.__annotations__ = dict(_train.__annotations__)
