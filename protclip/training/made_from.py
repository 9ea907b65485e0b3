"""What a run is made from, by content, so that it is resumed on nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from protclip.config.sources import SourceOptions
from protclip.relations.pairs import AlignmentData
from protclip.training.run import Run
from protclip.work.fingerprint import fingerprint

PLACES = ("corpus", "pairs_from", "datasets")
"""Facts that say where things are: equal contents in another place are the same."""

KNOWN_BY_FACTS = ("cath", "pairs")
"""Options whose content the facts of the data have a fingerprint of."""


def run_made_from(run: Run) -> dict[str, Any]:
    """Contents that decide a pretraining run beside its options, by names that a user knows."""
    facts = {
        name: value
        for name, value in run.data.facts.items()
        if name not in PLACES and isinstance(value, (str, int, float, bool))
    }
    return {
        **facts,
        "split of the items": _split(run.data),
        **_files(run.config.source),
        "precision": str(run.fabric.strategy.precision.precision),
    }


def _split(data: AlignmentData) -> str:
    """Fingerprint of who is paired, pooled and held out."""
    galleries = [(gallery.ids, gallery.rows) for gallery in (data.valid, data.test)]
    sides = [(side.name, len(side.items), side.pool) for side in data.sides]
    return fingerprint(sides, data.pairs, galleries)


def _files(source: SourceOptions) -> dict[str, str]:
    """Fingerprints of the files and folders that the options of the source name."""
    found = {}
    for field in dataclasses.fields(source):
        value = getattr(source, field.name)
        if isinstance(value, str) and value and field.name not in KNOWN_BY_FACTS and Path(value).exists():
            found["--" + field.name.replace("_", "-")] = fingerprint(Path(value))
    return found
