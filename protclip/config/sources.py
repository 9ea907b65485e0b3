"""Options of the data sources: their base class, those that are registered, and which one is meant."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from protclip.config.checks import near
from protclip.config.schema import Options
from protclip.errors import ConfigError

SOURCES = "protclip.sources"
"""Entry-point group of the data sources' options."""

DEFAULT_SOURCE = "proteins"


@dataclass(frozen=True)
class SourceOptions(Options):
    """Options of a data source; derive from it and register the class under ``protclip.sources``.

    The module must be quick to import (no torch): the command line is made from it.

    Attributes
    ----------
    kind : str
        Name of the source, the entry point's too.
    implementation : str
        ``"package.module:Class"`` of its :class:`protclip.relations.pairs.Source`.
    """

    kind: ClassVar[str] = ""
    implementation: ClassVar[str] = ""

    def open(self) -> Any:
        """The source that these options describe.

        Raises
        ------
        ConfigError
            If there is none, since the items were given as Python objects.
        """
        if not self.implementation:
            raise ConfigError("the items of this run were Python objects, which cannot be opened again")
        return pkgutil.resolve_name(self.implementation)(self)

    def validate(self) -> None:
        """Check what can only be said of the options of a run that starts, such as missing entries."""

    def title(self) -> str:
        """What to say beside the scores of a run on this source."""
        return "held-out items"

    @classmethod
    def of_table(cls, values: dict[str, Any], where: str) -> type[Options]:
        """The class that ``kind`` names; the default source without it."""
        if cls is not SourceOptions:
            return cls
        return source_options(values.pop("kind", DEFAULT_SOURCE), f"{where}: kind")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the ``kind`` of the source in front.

        Returns
        -------
        dict
        """
        return {"kind": self.kind, **super().to_dict()}


@functools.cache
def source_kinds() -> dict[str, type[SourceOptions]]:
    """Registered sources by name, the default first; those that cannot be imported are left out."""
    found: dict[str, type[SourceOptions]] = {}
    points = importlib.metadata.entry_points(group=SOURCES)
    for point in sorted(points, key=lambda point: point.name != DEFAULT_SOURCE):
        try:
            found[point.name] = point.load()
        except ImportError:
            if point.value.startswith("protclip."):
                raise
    return found


def source_options(kind: str, where: str = "--source") -> type[SourceOptions]:
    """Options class of the source called ``kind``; of no name where the items came from Python objects.

    Raises
    ------
    ConfigError
        If no such source is registered.
    """
    if kind == "":
        return SourceOptions
    kinds = source_kinds()
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(
            "no such source",
            where=where,
            got=repr(kind),
            expected=", ".join(sorted(kinds)),
            hint=near(kind, kinds),
        )
    return kinds[kind]


def source_for(source: SourceOptions, given: Mapping[str, Any]) -> SourceOptions:
    """The source that the options ``given`` by name are of; ``source`` unless they name one of another.

    Raises
    ------
    ConfigError
        Options of two sources at once, or of another one where ``source`` has options of its own.
    """
    names = {
        kind: {f.name for f in dataclasses.fields(options)} & set(given)
        for kind, options in {source.kind: type(source), **source_kinds()}.items()
    }
    own = {kind: found - names[source.kind] for kind, found in names.items()}
    others = sorted(kind for kind, found in own.items() if found)
    if not others:
        return source
    flags = [", ".join(sorted(f"--{n.replace('_', '-')}" for n in own[kind])) for kind in others]
    if len(others) > 1 or names[source.kind] - names[others[0]] or source != type(source)():
        raise ConfigError(
            "options of different data sources cannot be mixed",
            where="; ".join(flags),
            got=f"{' and '.join(others)} beside {source.kind}",
        )
    return source_options(others[0])()
