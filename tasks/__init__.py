"""Downstream tasks: fold, enzyme reaction, GO and EC, from benchmark to prediction."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protclip.tasks.definitions import TASKS, Task
    from protclip.tasks.predict import Head, load_head
    from protclip.tasks.probe import Probe

# Name -> module, imported on first use: torch and scikit-learn stay out of the start-up.
_EXPORTS = {
    "TASKS": "definitions",
    "Head": "predict",
    "Probe": "probe",
    "Task": "definitions",
    "load_head": "predict",
}

__all__ = ["TASKS", "Head", "Probe", "Task", "load_head"]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"protclip.tasks.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
