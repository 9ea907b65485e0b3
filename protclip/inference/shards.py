"""Embed an input of any size in shards: by any scheduler, or all of them on Ray.

Every shard goes to a Parquet file of its own, ``shard-00003-of-00016.parquet``, with its failures beside it.
A finished shard is never made again, and an unfinished one goes on where it stopped.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protclip.data.files.spans import FileList
from protclip.errors import ConfigError, DataError, ProtclipError
from protclip.inference.aligned_model import AlignedModel, load
from protclip.inference.to_file import EmbedReport, embed_to_file, origin
from protclip.inference.windows import REPEATED
from protclip.typing import Done
from protclip.work.outputs import failed_path
from protclip.work.unfinished import differences, tidy_finished

COUNTS = ("inputs", "embedded", "skipped", "failed", "resumed")
"""What is counted of every shard."""


def shard_path(folder: Path, number: int, count: int) -> Path:
    """Where a shard goes.

    Examples
    --------
    >>> shard_path(Path("out"), 3, 16).name
    'shard-00003-of-00016.parquet'
    """
    return folder / f"shard-{number:05d}-of-{count:05d}.parquet"


def list_files(model: AlignedModel, name: str, source: Path) -> FileList:
    """The files that side ``name`` of a model reads of an input."""
    return FileList(source, model.towers.sides[name].files(source))


def embed_shard(
    model: AlignedModel,
    name: str,
    files: FileList,
    number: int,
    count: int,
    folder: Path,
    *,
    done: Done = lambda n: None,
) -> EmbedReport:
    """Embed shard ``number`` (from 1) of ``count`` into its file in ``folder``, unless that is done already.

    Raises
    ------
    ConfigError
        If there is no such shard, or its file was made by another model or from another input.
    """
    shard = files.shard(number, count)
    out = shard_path(folder, number, count)
    if out.exists():
        made_by, rows, _ = shard_facts(out)
        changes = _changes(made_by, origin(model, name, shard))
        if changes:
            raise ConfigError(
                "a shard of another model or input is in the way",
                where=str(out),
                got="another " + ", another ".join(changes),
                hint="Delete it, or choose another output folder",
            )
        tidy_finished(out)
        done(rows)
        failures = shard_failures(out)
        skipped = sum(reason.startswith(REPEATED) for _, reason in failures)
        inputs = rows + len(failures)
        failed = len(failures) - skipped
        return EmbedReport(inputs, rows, skipped, failed, rows, out, failed_path(out), Counter())
    return embed_to_file(model, name, shard, out, may_be_empty=True, done=done)


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Differences that matter: content before place, which is all that older files noted."""
    if "content" in before:
        before, now = ({key: facts[key] for key in facts if key != "input"} for facts in (before, now))
    else:
        now = {key: now[key] for key in before if key in now}
    return differences(before, now)


@dataclass(frozen=True)
class RayJob:
    """All that a worker needs to know; pickled to every one of them."""

    model: Path
    name: str
    files: FileList
    count: int
    folder: Path
    device: str
    precision: str


class RayWorker:
    """Holds one loaded model and embeds one shard after the other."""

    def __init__(self, job: RayJob) -> None:
        self.job = job
        self.model = load(job.model, job.device, precision=job.precision)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Embed the shards of a batch; a shard that fails is reported, and stops no other."""
        rows: dict[str, list[Any]] = {key: [] for key in ("shard", *COUNTS, "error")}
        for number in batch["shard"].tolist():
            job, error, report = self.job, "", None
            try:
                report = embed_shard(self.model, job.name, job.files, number, job.count, job.folder)
            except ProtclipError as reason:
                error = str(reason)
            rows["shard"].append(number)
            for key in COUNTS:
                rows[key].append(getattr(report, key) if report else 0)
            rows["error"].append(error)
        return rows


@dataclass
class ShardsReport:
    """What became of many shards.

    Attributes
    ----------
    shards, inputs, embedded, skipped, failed, resumed : int
        Shards finished, and their items as of :class:`protclip.inference.to_file.EmbedReport`.
    errors : dict of int to str
        Shards that could not be made, with the reason.
    """

    shards: int = 0
    inputs: int = 0
    embedded: int = 0
    skipped: int = 0
    failed: int = 0
    resumed: int = 0
    errors: dict[int, str] = field(default_factory=dict)

    def add(self, counts: Mapping[str, int]) -> None:
        """Count a finished shard."""
        self.shards += 1
        for key in COUNTS:
            setattr(self, key, getattr(self, key) + int(counts[key]))


def embed_on_ray(
    job: RayJob, *, workers: int | None = None, gpu_share: float = 1.0, done: Done = lambda n: None
) -> ShardsReport:
    """Embed all shards on Ray Data: workers with one model each get a shard whenever they are free.

    Joins the cluster that ``RAY_ADDRESS`` names, or starts Ray on this machine. Folders must be the same on
    all machines. A worker that dies is replaced, and its shard goes on where it stopped.

    Parameters
    ----------
    job : RayJob
    workers : int, optional
        Number of workers; by default as many as the GPUs (or, without any, the cores) take.
    gpu_share : float
        Part of a GPU for each worker: 0.25 lets four workers share one, so that some of them read while
        others compute.

    Raises
    ------
    ConfigError
        If Ray is not installed.
    """
    try:
        import ray  # an extra; kept out of start-up
    except ImportError:
        raise ConfigError(
            "Ray is not installed",
            where="--engine ray",
            hint="pip install 'protclip[ray]', or run `--shard i/n` for every i under any scheduler",
        ) from None
    if not 0 < gpu_share <= 1:
        raise ConfigError(
            "out of range", where="--gpu-share", got=str(gpu_share), expected="over 0, at most 1"
        )
    mine = not ray.is_initialized()
    if mine:
        ray.init(log_to_driver=False, include_dashboard=False)
    try:
        return _on_ray(ray, job, workers, gpu_share, done)
    finally:
        if mine:
            ray.shutdown()


def _on_ray(ray: Any, job: RayJob, workers: int | None, gpu_share: float, done: Done) -> ShardsReport:
    resources = ray.cluster_resources()
    gpus = resources.get("GPU", 0) if job.device != "cpu" else 0
    if workers is None:
        workers = int(gpus / gpu_share) if gpus else int(resources.get("CPU", 1))
    workers = max(1, min(workers, job.count))
    needs = {"num_gpus": gpu_share} if gpus else {"num_cpus": 1}
    ray.data.DataContext.get_current().enable_progress_bars = False
    shards = ray.data.from_items(
        [{"shard": number} for number in range(1, job.count + 1)], override_num_blocks=job.count
    )
    results = shards.map_batches(
        RayWorker, batch_size=1, concurrency=workers, fn_constructor_kwargs={"job": job}, **needs
    )
    report = ShardsReport()
    for row in results.iter_rows():
        if row["error"]:
            report.errors[int(row["shard"])] = str(row["error"])
            continue
        report.add(row)
        done(int(row["embedded"]))
    return report


def shard_facts(path: Path) -> tuple[dict[str, Any], int, int]:
    """What a shard was made from, its number of rows, and the width of its vectors.

    Raises
    ------
    DataError
        If it is no shard, or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            facts = json.loads((file.schema_arrow.metadata or {})[b"made_by"])
            width = file.schema_arrow.field("embedding").type.list_size
            return dict(facts), int(file.metadata.num_rows), int(width)
    except (pa.ArrowException, KeyError, ValueError, AttributeError, OSError) as error:
        raise DataError(
            "not a shard, or a damaged one",
            where=str(path),
            got=" ".join(str(error).split())[:200],
            hint="Delete it and make it again",
        ) from None


def shard_failures(shard: Path) -> list[tuple[str, str]]:
    """What a shard lacks, with the reason; older lists do not have its ending in their name."""
    for path in (failed_path(shard), failed_path(shard.with_suffix(""))):
        if path.exists():
            rows = path.read_text(encoding="utf-8").splitlines()[1:]
            return [(id, reason) for id, _, reason in (row.partition("\t") for row in rows)]
    return []
