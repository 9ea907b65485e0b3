"""Progress bars and sentences of long commands, on stderr."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SHOWN = ("loss", "clip", "mmd", "sdd", "valid_R@10")


class TerminalDisplay:
    """A progress bar with the latest losses; plain lines where stderr is not a terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.progress: Progress | None = None
        self.task: TaskID | None = None
        self.total = 0
        self.label = ""
        self.valid = ""
        self.printed = 0

    def say(self, text: str) -> None:
        """One sentence for the user."""
        self.console.print(f"[bold]note:[/bold] {text}", highlight=False)

    def begin(self, label: str, total: int) -> None:
        """A piece of long work starts."""
        self.total, self.label, self.printed, self.valid = total, label, 0, ""
        if self.console.is_terminal:
            self.progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[losses]}"),
                console=self.console,
            )
            self.progress.start()
            self.task = self.progress.add_task(label, total=total, losses="")

    def advance(self, done: int, losses: dict[str, float] | None = None) -> None:
        """``done`` of the total is finished."""
        if losses and "valid_R@10" in losses:
            self.valid = f" valid R@10 {100 * losses['valid_R@10']:.1f} %"
        text = " ".join(f"{k} {losses[k]:.3f}" for k in SHOWN[:-1] if k in losses) if losses else ""
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done, losses=text + self.valid)
        elif self.total and (done >= self.total or 10 * done // self.total > self.printed):
            # A log file gets ten lines for each piece of work instead of a redrawn bar.
            self.printed = 10 * done // self.total
            self.console.print(f"{self.label}: {done}/{self.total} {text}{self.valid}", highlight=False)

    def count(self, done: int) -> None:
        """``done`` items of a stream of unknown length are finished."""
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done)
        elif done >= 10 * max(self.printed, 100):
            self.printed = done
            self.console.print(f"{self.label}: {done}", highlight=False)

    def begin_stream(self, label: str) -> None:
        """Work on a stream of unknown length starts."""
        self.label, self.printed = label, 0
        if self.console.is_terminal:
            self.progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description} {task.completed}"),
                TimeElapsedColumn(),
                console=self.console,
            )
            self.progress.start()
            self.task = self.progress.add_task(label, total=None)

    def end(self) -> None:
        """The piece of work is over."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
