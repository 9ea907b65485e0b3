"""Predictions of a large input into a file: constant memory, failures listed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protclip.errors import ConfigError, DataError
from protclip.files import atomic_write
from protclip.tasks.dataset import DEMONSTRATION
from protclip.tasks.predict import Head
from protclip.tasks.selection import Threshold
from protclip.typing import Done

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".tsv", ".json", ".parquet")


@dataclass(frozen=True)
class PredictReport:
    """What was written.

    Attributes
    ----------
    out : Path
    predicted, failed : int
        Proteins with and without a prediction.
    failed_list : Path or None
        Ids and reasons of the latter.
    """

    out: Path
    predicted: int
    failed: int
    failed_list: Path | None


def predict_to_file(
    head: Head,
    source: Any,
    out: Path,
    *,
    top_k: int | None = None,
    threshold: Threshold = None,
    propagate: str | Path | None = None,
    ec_consistent: bool = False,
    done: Done = lambda n: None,
) -> PredictReport:
    """Write the predictions of :meth:`Head.predict` as ``.tsv``, ``.json`` or ``.parquet``, atomically.

    A TSV of a demonstration head begins with a comment line that says so; JSON and Parquet carry a note.

    Raises
    ------
    ConfigError
        If the file name has another ending, or an option does not fit the task.
    ProtclipError
        If nothing can be predicted.
    """
    if out.suffix not in FORMATS:
        raise ConfigError(
            "unknown format of the output", where=f"-o {out}", expected=f"a name with {', '.join(FORMATS)}"
        )
    if not out.parent.is_dir():
        raise DataError("no such folder", where=str(out.parent))
    given = head.inputs.recognise(source)
    alone = head.sequences_alone(given)
    select = head.selection(
        top_k=top_k, threshold=threshold, propagate=propagate, ec_consistent=ec_consistent, alone=alone
    )
    rows: list[tuple[str, int, str, str, float]] = []
    ids: list[str] = []
    failed: dict[str, str] = {}
    for part in head.stream(given, done=done):
        rows += select.rows(part.ids, part.probabilities)
        ids += part.ids
        failed |= part.failed
    failed_list = _list_failures(out, failed)
    if not ids:
        first = next(iter(failed.items()), None)
        raise DataError(
            "nothing could be predicted" if first else "nothing to predict: the input is empty",
            where=str(source),
            got=f"{first[0]}: {first[1]}" if first else None,
        )
    applied = "GO ancestors" if propagate is not None else "EC levels" if ec_consistent else "none"
    table = head.table(rows, alone=alone)
    table.attrs["propagated"] = applied
    _write(table, ids, out)
    return PredictReport(out, len(ids), len(failed), failed_list)


def _list_failures(out: Path, failed: dict[str, str]) -> Path | None:
    path = out.with_name(f"{out.stem}.failed.tsv")
    if not failed:
        path.unlink(missing_ok=True)  # of an earlier call
        return None
    lines = [f"{id}\t{' '.join(reason.split())}" for id, reason in failed.items()]
    atomic_write(path, "id\treason\n" + "\n".join(lines) + "\n")
    return path


def _write(table: pd.DataFrame, ids: list[str], out: Path) -> None:
    facts = {key: str(value) for key, value in table.attrs.items()}
    if out.suffix == ".tsv":
        note = f"# {DEMONSTRATION}\n" if "note" in facts else ""
        text = table.to_csv(sep="\t", index=False, float_format="%.6g", lineterminator="\n")
        atomic_write(out, note + text)
    elif out.suffix == ".json":
        by_id: dict[str, list[dict[str, Any]]] = {id: [] for id in ids}
        for id, _, name, title, score in table.itertuples(index=False):
            by_id[id].append({"class": name, "name": title, "score": score})
        predictions = [{"id": id, "classes": found} for id, found in by_id.items()]
        atomic_write(out, json.dumps({**facts, "predictions": predictions}, indent=1) + "\n")
    else:
        import pyarrow as pa  # kept out of start-up
        import pyarrow.parquet as pq

        made = pa.Table.from_pandas(table.assign(), preserve_index=False)
        made = made.replace_schema_metadata({**facts, **(made.schema.metadata or {})})
        partial = out.with_name(f".{out.name}.partial")
        pq.write_table(made, partial)
        partial.replace(out)
