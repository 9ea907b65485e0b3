"""Find the benchmark of a task."""

from __future__ import annotations

from pathlib import Path

from protclip.data.benchmarks.build_benchmark import Benchmark, default_path, sample_benchmark
from protclip.errors import ConfigError, DataError
from protclip.tasks.definitions import find_task

SAMPLE = "sample"


def open_benchmark(task: str, data: str = "") -> Benchmark:
    """The benchmark of a task.

    Parameters
    ----------
    task : str
    data : str
        A benchmark file, ``sample`` for the demonstration that ships with protclip, or empty for the one that
        was built into the cache.

    Raises
    ------
    DataError
        If there is none; says which command makes it.
    ConfigError
        If the file belongs to another task.
    """
    task_ = find_task(task)
    if data == SAMPLE:
        benchmark = Benchmark.open(sample_benchmark(task))
    else:
        path = Path(data) if data else default_path(task)
        if not path.exists():
            raise DataError(
                "the benchmark is not on disk" if not data else "no such file",
                where=str(path) if data else task,
                got=None if data else f"no {path}",
                hint=f"Run `protclip data download {task_.download}` and `protclip data build {task}`, or "
                "name its file with --data FILE; `--data sample` is a small demonstration that ships with "
                "protclip",
            )
        benchmark = Benchmark.open(path)
    if benchmark.task != task:
        raise ConfigError(
            "the file holds the benchmark of another task",
            where=f"--data {data}",
            got=str(benchmark.task),
            expected=task,
            hint=f"Use `protclip finetune {benchmark.task}`, or another file",
        )
    return benchmark
