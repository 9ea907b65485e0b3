"""Progress of work in Python: a bar in a notebook or on a terminal, nothing where nobody watches."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from protclip.typing import Display, Silent

PATIENCE = 1.5
"""Seconds of work before a bar is shown by itself."""


class Bar:
    """A :class:`protclip.typing.Display` for notebooks and terminals.

    Parameters
    ----------
    always : bool
        Show it at once and wherever the output goes; else after :data:`PATIENCE` seconds and only where
        somebody can watch.
    """

    def __init__(self, always: bool = False) -> None:
        self.always = always
        self.bar: Any = None

    def say(self, text: str) -> None:
        """One sentence for the user, on stderr."""
        print(text, file=sys.stderr)

    def begin(self, label: str, total: int) -> None:
        """A piece of work starts; a total of 0 is one that is not known."""
        self.end()
        shown = self.always or in_notebook()
        # None leaves it to tqdm, which is silent where stderr is no terminal.
        self.bar = _bar_class()(
            total=total or None,
            desc=label,
            delay=0 if self.always else PATIENCE,
            disable=False if shown else None,
            leave=self.always,
        )

    def advance(self, done: int, losses: dict[str, float] | None = None) -> None:
        """``done`` of the total is finished."""
        if self.bar is None:
            return
        if losses:
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()}, refresh=False)
        self.bar.update(done - self.bar.n)

    def end(self) -> None:
        """The piece of work is over."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class ItemCount:
    """Counts the items of a stream, of which some need no work: equal ones, and those that cannot be read.

    Parameters
    ----------
    display : Display
        Is told how many are finished.
    """

    def __init__(self, display: Display) -> None:
        self.display = display
        self.finished = self.settled = 0

    def done(self, count: int) -> None:
        """So many more were computed."""
        self.finished += count
        self.display.advance(self.finished)

    def window(self, count: int) -> None:
        """A window of so many items is over, whatever was computed for it."""
        self.settled += count
        self.finished = self.settled
        self.display.advance(self.finished)


@contextmanager
def showing(progress: bool | Display | None, label: str, total: int | None) -> Iterator[ItemCount]:
    """Show the progress of a block of work.

    Parameters
    ----------
    progress : bool, Display or None
        True for a bar, False for nothing, None for a bar where somebody watches and the work takes long.
    label : str
    total : int or None
        Number of items, where it is known.
    """
    display: Display
    if isinstance(progress, bool) or progress is None:
        display = Silent() if progress is False else Bar(always=progress is True)
    else:
        display = progress
    display.begin(label, total or 0)
    try:
        yield ItemCount(display)
    finally:
        display.end()


def in_notebook() -> bool:
    """Whether this code runs in the kernel of a notebook."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def _bar_class() -> Any:
    if in_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as notebook_bar  # lazy: only where a bar is wanted

        return notebook_bar
    from tqdm import tqdm

    return tqdm
