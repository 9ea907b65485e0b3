"""How busy a GPU is while something runs, as its driver counts it."""

from __future__ import annotations

import subprocess
import threading
import time
from types import TracebackType

QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits")


class GPUUse:
    """Reads the driver's counters every tenth of a second in a thread; a context manager.

    *Busy* is the driver's own figure: the share of its last sample period in which any kernel ran.

    Parameters
    ----------
    query : tuple of str
        Command that prints "busy percent, memory in MB" for each GPU; the first line counts.
    every_seconds : float
        Pause between two readings.
    """

    def __init__(self, query: tuple[str, ...] = QUERY, *, every_seconds: float = 0.1) -> None:
        self.query, self.every_seconds = query, every_seconds
        self.samples: list[tuple[float, float, float]] = []
        self.error = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> GPUUse:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                done = subprocess.run(self.query, capture_output=True, text=True, check=True, timeout=10)
                busy, used = done.stdout.splitlines()[0].split(",")
                self.samples.append((time.perf_counter(), float(busy), float(used)))
            except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
                self.error = f"{type(error).__name__}: {error}"
                return
            self._stop.wait(self.every_seconds)

    def between(self, start: float, end: float) -> tuple[float, float, int]:
        """Mean share busy (0 to 1), most memory in MB, number of readings, between two times.

        Times are of ``time.perf_counter``.

        Examples
        --------
        >>> use = GPUUse()
        >>> use.samples = [(0.0, 10.0, 900.0), (1.0, 90.0, 1000.0), (2.0, 100.0, 1200.0)]
        >>> use.between(0.5, 3.0)
        (0.95, 1200.0, 2)
        """
        inside = [(busy, used) for when, busy, used in self.samples if start <= when <= end]
        if not inside:
            return 0.0, 0.0, 0
        mean = sum(busy for busy, _ in inside) / len(inside) / 100
        return mean, max(used for _, used in inside), len(inside)
