"""Predictions of a large input into a file: constant memory, failures listed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protclip import __version__
from protclip.errors import ConfigError, DataError
from protclip.files import atomic_path, atomic_write
from protclip.inference.encode import resolved_precision
from protclip.inference.input_content import input_fingerprint, reads_once
from protclip.inference.windows import SeenIds
from protclip.tasks.dataset import DEMONSTRATION
from protclip.tasks.predict import Head
from protclip.tasks.selection import Selection, Threshold
from protclip.typing import Done
from protclip.work.fingerprint import fingerprint
from protclip.work.locks import claim
from protclip.work.outputs import check_output, list_failures
from protclip.work.unfinished import Unfinished

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".tsv", ".json", ".parquet")


@dataclass(frozen=True)
class PredictReport:
    """What was written.

    Attributes
    ----------
    out : Path
    inputs, predicted, skipped, failed : int
        Proteins of the input; of these, those with a prediction, those whose id came before, and those
        without a prediction.
    resumed : int
        Of the predicted ones, those taken over from an interrupted run.
    failed_list : Path or None
        Ids and reasons of those that were skipped or failed.
    """

    out: Path
    inputs: int
    predicted: int
    skipped: int
    failed: int
    resumed: int
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

    Every finished window is kept in ``<out>.parts`` until the end, so that a killed run goes on where it
    stopped when the same call is made again. A TSV of a demonstration head begins with a comment line that
    says so; JSON and Parquet carry a note.

    Raises
    ------
    ConfigError
        If the file name has another ending, an option does not fit the task, ``out`` is or lies in the
        input, or ``<out>.parts`` was made from something else.
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
    check_output(out, inputs=[source, propagate])
    content = input_fingerprint(None, source)
    facts = {
        "input content": content,
        **({"input name": source.name} if isinstance(source, Path) else {}),
        "head": fingerprint(head.path),
        "precision": resolved_precision(next(head.network.parameters()).device, head.precision),
        "vectors": fingerprint(head.inputs.vectors.path) if head.inputs.vectors is not None else None,
        "choice of --top-k": top_k,
        "choice of --threshold": threshold,
        "content of --propagate": None if propagate is None else fingerprint(Path(propagate)),
        "choice of --ec-consistent": ec_consistent,
        "version of protclip": __version__,
    }
    applied = "GO ancestors" if propagate is not None else "EC levels" if ec_consistent else "none"
    with claim(out), Unfinished(out, facts, keep=not reads_once(content)) as parts:
        report = _predict(head, given, str(source), out, parts, select, done)
        ids, rows = [], []
        for path in parts.pieces("*.json"):
            piece = json.loads(path.read_bytes())
            ids += piece["ids"]
            rows += piece["rows"]
        table = head.table(rows, alone=alone)
        table.attrs["propagated"] = applied
        _write(table, ids, out)
    return report


def _predict(
    head: Head, given: Any, named: str, out: Path, parts: Unfinished, select: Selection, done: Done
) -> PredictReport:
    """Predict what is not in a piece yet, window by window."""
    seen = SeenIds()
    for path in parts.pieces("*.json"):
        try:
            for id in json.loads(path.read_bytes())["ids"]:
                seen.add(id)
        except (ValueError, KeyError, TypeError):
            path.unlink()  # damaged: made again, in its place
    resumed = predicted = len(seen)
    inputs = skipped = 0
    failed: dict[str, str] = {}
    for number, part in enumerate(head.stream(given, skip=seen.__contains__, done=done), 1):
        inputs += part.seen
        skipped += part.repeated
        predicted += len(part.ids)
        failed |= part.failed
        if part.ids:
            piece = {"ids": part.ids, "rows": select.rows(part.ids, part.probabilities)}
            atomic_write(parts.folder / f"{number:07d}.json", json.dumps(piece))
    failed_list = list_failures(out, failed.items())
    if not predicted:
        first = next(iter(failed.items()), None)
        raise DataError(
            "nothing could be predicted" if first else "nothing to predict: the input is empty",
            where=named,
            got=f"{first[0]}: {first[1]}" if first else None,
        )
    return PredictReport(out, inputs, predicted, skipped, len(failed) - skipped, resumed, failed_list)


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
        with atomic_path(out) as partial:
            pq.write_table(made, partial)
