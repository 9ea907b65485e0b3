"""Downstream tasks: fold, enzyme reaction, GO and EC, from benchmark to prediction."""

from typing import TYPE_CHECKING

from protclip.lazy import attach

if TYPE_CHECKING:
    from protclip.tasks.definitions import TASKS as TASKS
    from protclip.tasks.definitions import Task as Task
    from protclip.tasks.predict import Head as Head
    from protclip.tasks.predict import load_head as load_head
    from protclip.tasks.probe import Probe as Probe

__getattr__, __dir__, __all__ = attach(__name__)
