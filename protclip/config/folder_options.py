"""Options of the general source: matched items of any two adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from protclip.config.schema import DATA, MODEL, option
from protclip.config.sources import SourceOptions
from protclip.errors import ConfigError


@dataclass(frozen=True)
class PairsOptions(SourceOptions):
    """Matched items of two adapters, from folders.

    Attributes
    ----------
    pairs : str
        Folder that holds ``left`` and ``right`` or a dataset that a reader knows, or a file that one knows;
        several of them, separated by commas; or the name of a sample.
    left, right : str
        Adapters, by their entry point names.
    left_option, right_option : mapping
        Options of the adapters, as their ``from_options`` takes them.
    captions : {"first", "random", "all"}
        Which partners of a left item with several are used.
    limit : int
        Only so many entries of each dataset; 0 takes all.
    """

    kind: ClassVar[str] = "pairs"
    implementation: ClassVar[str] = "protclip.sources.folders:PairsSource"

    pairs: str = option(
        "",
        "Folder of matched items of any two adapters, several separated by commas, or the name of a sample",
        panel=DATA,
        evaluation=True,
    )
    left: str = option("", "Adapter of the left side, e.g. image", panel=DATA)
    right: str = option("", "Adapter of the right side, e.g. text", panel=DATA)
    captions: Literal["first", "random", "all"] = option(
        "first",
        "Which partners of a left item with several (captions of an image): first, random or all",
        panel=DATA,
        evaluation=True,
        advanced=True,
    )
    limit: int = option(
        0,
        "Only the first so many entries of each dataset; 0 takes all",
        panel=DATA,
        evaluation=True,
        advanced=True,
        low=0,
        high=10**12,
    )
    left_option: Mapping[str, Any] = option(
        {},
        "Option of the left adapter, repeatable, e.g. encoder=resnet50",
        panel=MODEL,
        advanced=True,
    )
    right_option: Mapping[str, Any] = option(
        {}, "Option of the right adapter, repeatable", panel=MODEL, advanced=True
    )

    def validate(self) -> None:
        """The folder and both adapters have to be named."""
        for name in ("pairs", "left", "right"):
            if not getattr(self, name):
                raise ConfigError(
                    "missing option",
                    where=f"--{name}",
                    expected="--pairs DIR --left ADAPTER --right ADAPTER",
                )
