"""What every training loop needs: the log, stopping on a signal, random numbers by step, rates, fabric."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import math
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from protclip.errors import ConfigError, DataError, ProtclipError
from protclip.inference.encode import pick_device


class Interrupted(ProtclipError):
    """Training was stopped by the user after saving its state."""

    exit_code = 130


@dataclass
class Stopping:
    """Whether the user has asked to stop."""

    asked: bool = False


@contextlib.contextmanager
def catch_signals() -> Iterator[Stopping]:
    """Finish the step and save at the first Ctrl-C or SIGTERM; a second one stops at once.

    Only the main thread of a program hears of signals: in another one, nothing is caught.
    """
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def request(number: int, frame: FrameType | None) -> None:
        if stopping.asked:
            raise KeyboardInterrupt
        stopping.asked = True

    old = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def seed_step(seed: int, step: int, chunk: int = 0, rank: int = 0) -> None:
    """Seed torch by (seed, step, chunk, rank) alone, so that a resumed run repeats dropout bit by bit."""
    words = [seed, step, chunk, rank]
    torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1))


def agree(fabric: Fabric, stop: bool, due: bool) -> tuple[bool, bool]:
    """Two flags that hold on all processes as soon as they hold on one."""
    if fabric.world_size == 1:
        return stop, due
    flags = torch.tensor([stop, due], dtype=torch.float32, device=fabric.device)
    reduced = fabric.all_reduce(flags, reduce_op="sum")
    return bool(reduced[0] > 0), bool(reduced[1] > 0)


class Log:
    """``log.csv``: a header, then rows; byte-equal however often the run was interrupted.

    Parameters
    ----------
    path : Path
    enabled : bool
        False writes nothing (all processes but the main one).
    late : sequence of str
        Columns that the first row may not have yet.
    """

    def __init__(self, path: Path, *, enabled: bool, late: Sequence[str] = ()) -> None:
        self.path, self.enabled, self.late = path, enabled, tuple(late)
        self.columns: list[str] = []
        self.buffer = io.StringIO()

    def start(self) -> None:
        """Begin an empty log."""
        if self.enabled:
            self.path.write_text("")

    def resume(self, size: int) -> None:
        """Cut off what was written after the checkpoint.

        Raises
        ------
        DataError
            If there is no such log, or it is shorter than at the checkpoint.
        """
        if not self.enabled:
            return
        try:
            with self.path.open("r+b") as stream:
                found = stream.seek(0, os.SEEK_END)
                if found < size:
                    raise ValueError(f"{found} bytes")
                stream.truncate(size)
            with self.path.open() as stream:
                self.columns = next(csv.reader(stream), [])
        except (OSError, ValueError, csv.Error) as error:
            raise DataError(
                "the log of the run is damaged, and cannot be gone on with",
                where=str(self.path),
                got=(error.strerror if isinstance(error, OSError) else "") or str(error),
                expected=f"the {size} bytes of the last checkpoint",
                hint="Start a new run in another folder",
            ) from error

    def add(self, row: dict[str, float]) -> None:
        """Append a row; columns that it lacks are blank."""
        if not self.columns:
            self.columns = [*row, *(c for c in self.late if c not in row)]
            self.buffer.write(",".join(self.columns) + "\n")
        values = (f"{row[c]:.9g}" if c in row else "" for c in self.columns)
        self.buffer.write(",".join(values) + "\n")

    def sync(self) -> int:
        """Write out; returns the size of the file in bytes."""
        with self.path.open("a") as stream:
            stream.write(self.buffer.getvalue())
            self.buffer = io.StringIO()
            return stream.tell()


def learning_rate_factor(step: int, steps: int, warmup_fraction: float) -> float:
    """Linear warm-up, then half a cosine to zero; a function of the step alone.

    Examples
    --------
    >>> [round(learning_rate_factor(s, 10, 0.2), 2) for s in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    warmup = max(1, round(steps * warmup_fraction)) if warmup_fraction else 0
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def make_fabric(*, device: str, devices: int, num_nodes: int, precision: str, batch_size: int) -> Fabric:
    """Device, precision and processes of a run.

    Raises
    ------
    ConfigError
        If the device does not exist or the batch does not divide over the processes.
    """
    chosen = pick_device(device)
    world = devices * num_nodes
    if world > 1 and batch_size < 2 * world:
        raise ConfigError(
            "too small for the number of processes",
            where="--batch-size",
            got=str(batch_size),
            expected=f"at least {2 * world}",
        )
    bf16 = precision == "bf16" or (precision == "auto" and chosen.type == "cuda")
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning_fabric")
    count: Any = [chosen.index] if chosen.index is not None and world == 1 else devices
    return Fabric(
        accelerator=chosen.type,
        devices=count,
        num_nodes=num_nodes,
        strategy=DDPStrategy() if world > 1 else "auto",
        precision="bf16-mixed" if bf16 else "32-true",
    )
