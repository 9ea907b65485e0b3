"""Find the benchmark of a task: built already, fetched now, or the demonstration in its place."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from protclip.data.benchmarks.addresses import by_hand, find_source, source_name
from protclip.data.benchmarks.build_benchmark import (
    Benchmark,
    build_benchmark,
    default_path,
    sample_benchmark,
)
from protclip.data.benchmarks.fetch import fetch_benchmark, found_sources, is_fetched
from protclip.data.benchmarks.reach import ask
from protclip.errors import ConfigError, DataError, DownloadError
from protclip.tasks.config import AUTO, BENCHMARK, SAMPLE
from protclip.tasks.definitions import find_task
from protclip.typing import Say
from protclip.work.locks import file_lock


class ChosenData(NamedTuple):
    """Data of a run.

    Attributes
    ----------
    data : str
        ``benchmark``, ``sample`` or a file; never ``auto``.
    fallback : str or None
        Why the demonstration takes the benchmark's place; None where it does not.
    """

    data: str
    fallback: str | None = None


def choose_data(
    task: str, data: str = AUTO, *, say: Say = lambda text: None, progress: bool = False
) -> ChosenData:
    """Which data a run uses: for ``auto`` the built benchmark, else a fetched one, else the demonstration.

    What has to be fetched is announced first, with source, size and licence; an interrupted download or
    build goes on where it stopped. A machine without network is recognised within seconds.

    Parameters
    ----------
    task, data : str
        See :func:`open_benchmark`; only ``auto`` is resolved, all else comes back as it is.
    say : callable
        Told in a sentence what goes on.
    progress : bool
        Show bars on stderr.

    Raises
    ------
    DataError
        If files that were fetched completely cannot be built into a benchmark, or the cache cannot be
        written.
    """
    if data != AUTO:
        return ChosenData(data)
    out = default_path(find_task(task).name)
    # The three tasks of GO come from one download.
    with file_lock(out.with_name(f"{source_name(task)}.fetch.lock")):
        if out.exists():
            return ChosenData(BENCHMARK)
        if not is_fetched(task):
            try:
                _fetch(task, say, progress)
            except (DownloadError, DataError) as error:
                return ChosenData(SAMPLE, _reason(error))
        found = found_sources(task)
        report = build_benchmark(
            task,
            lists=found.get("lists"),
            structures=found.get("structures"),
            archive=found.get("archive"),
            progress=progress,
        )
        say(str(report))
    return ChosenData(BENCHMARK)


def _fetch(task: str, say: Say, progress: bool) -> None:
    name = source_name(task)
    source = find_source(name)
    answer = ask(source.first_files())
    say(
        f"the benchmark of {task} is not on this machine and is fetched now: {source.announce(answer.size)}; "
        "may be interrupted, the same command goes on"
    )
    fetch_benchmark(name, progress=progress, say=say)


def get_by_hand(task: str) -> str:
    """What to do for the benchmark of a task where there is no network."""
    return by_hand(source_name(task), find_source(source_name(task)), None)


def _reason(error: DownloadError | DataError) -> str:
    """An error as a clause: what went wrong, and where."""
    text = f"{error.message}, {error.got}" if error.got else error.message
    return " ".join(f"{text} ({error.where})".split() if error.where else text.split())


def open_benchmark(task: str, data: str = BENCHMARK) -> Benchmark:
    """The benchmark of a task.

    Parameters
    ----------
    task : str
    data : str
        ``benchmark`` for the one that was built into the cache, ``sample`` for the demonstration that ships
        with protclip, or a benchmark file.

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
        built = data == BENCHMARK
        path = default_path(task) if built else Path(data)
        if not path.exists():
            raise DataError(
                "the benchmark is not on disk" if built else "no such file",
                where=task if built else str(path),
                got=f"no {path}" if built else None,
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
