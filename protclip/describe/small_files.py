"""Small files that protclip writes: predictions, options, lists of failures, what lies in a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from protclip.describe.description import (
    Description,
    command,
    first_line,
    head,
    json_table,
    made,
    rows,
    toml,
    version,
)
from protclip.describe.embedding_files import is_parquet, parquet_columns
from protclip.describe.runs import run_config, weights_config

PREDICTION = ("id", "rank", "class", "name", "score")

OF_A_RUN = {
    "config.toml": "options, or of a model its networks",
    "log.csv": "losses and scores, step by step",
    "metrics.json": "scores on the test set",
    "split.json": "which items were held out",
    "ranks.csv": "rank of the partner of every test item",
    "per_class.tsv": "scores of every class",
    "state.pt": "state of an unfinished training, from which it goes on",
    "model.safetensors": "weights",
    "README.md": "card",
    "curves.svg": "losses and scores, drawn",
}
"""Files of runs, models and heads by name; other pictures are known by their ending."""


def is_prediction_table(path: Path) -> bool:
    """Whether a TSV or Parquet file has the columns of predictions."""
    if is_parquet(path):
        return set(PREDICTION) <= set(parquet_columns(path))
    return path.is_file() and tuple(first_line(path).split("\t")) == PREDICTION


def is_prediction_json(path: Path) -> bool:
    """Whether a JSON file holds predictions."""
    return head(path, 1) == b"{" and isinstance(json_table(path).get("predictions"), list)


def describe_prediction_table(path: Path) -> Description:
    """Predicted classes, in TSV or Parquet."""
    facts: dict[str, Any] = {}
    if is_parquet(path):
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            facts["rows"] = file.metadata.num_rows
            for key, value in (file.schema_arrow.metadata or {}).items():
                if key not in (b"pandas", b"ARROW:schema"):
                    facts[key.decode(errors="replace")] = value.decode(errors="replace")
    else:
        facts["rows"] = rows(path)
        begin = head(path).split(b"\n", 1)[0].decode(errors="replace")
        facts["warning"] = begin[1:].strip() if begin.startswith("#") else None
    return Description(
        {**facts, "columns": ", ".join(PREDICTION)},
        made("protclip predict HEAD -i INPUT", at=path),
        _reading(path),
    )


def describe_prediction_json(path: Path) -> Description:
    """Predicted classes in JSON."""
    found = json_table(path)
    facts = {key: value for key, value in found.items() if key != "predictions"}
    return Description(
        {"proteins": len(found["predictions"]), **facts},
        made("protclip predict HEAD -i INPUT", at=path),
        _reading(path),
    )


def _reading(path: Path) -> list[str]:
    reader = {".tsv": "read_csv({!r}, sep='\\t', comment='#')", ".parquet": "read_parquet({!r})"}
    call = reader.get(path.suffix, "read_json({!r})").format(str(path))
    return [f'python -c "import pandas; print(pandas.{call})"']


def is_failure_list(path: Path) -> bool:
    """Whether a file lists inputs with the reasons why they failed or are missing."""
    return path.is_file() and first_line(path) == "id\treason"


def describe_failure_list(path: Path) -> Description:
    """Inputs that failed, or chains that are missing from a benchmark."""
    with path.open(encoding="utf-8") as stream:
        next(stream, "")
        first = next(stream, "").strip().replace("\t", ": ")
    of = path.name.removesuffix(".failed.tsv").removesuffix(".missing.tsv")
    return Description({"inputs": rows(path), "first": first}, made(f"beside {of}", at=path), [])


def is_config(path: Path) -> bool:
    """Whether a TOML file holds options of pretraining, of a task or of an experiment."""
    found = toml(path) if path.suffix == ".toml" else {}
    return bool({"task", "train", "source", "experiment", "loss"} & set(found))


def describe_config(path: Path) -> Description:
    """Options, and the command that repeats the run they are of."""
    found = toml(path)
    train, source = found.get("train", {}), found.get("source", {})
    facts: dict[str, Any]
    if "experiment" in found:
        again = command("experiment", found["experiment"], "--out", path.parent)
        kind, facts = "an experiment", {k: found[k] for k in ("experiment", "seeds") if k in found}
    elif "task" in found:
        again = command("finetune", "--config", path)
        kind = "a fine-tuning"
        facts = {name: found.get(name) for name in ("task", "data", "model", "towers", "mode", "seed")}
    else:
        again = command("pretrain", "--config", path)
        kind = "a pretraining"
        facts = {"objective": train.get("objective"), "data": source.get("cath") or source.get("pairs")}
        facts |= {"paired": found.get("data", {}).get("paired"), "seed": train.get("seed")}
    return Description({"of": kind, **facts}, made(version(found), at=path), [again])


def is_file_of_a_run(path: Path) -> bool:
    """Whether a file lies in the folder of a run, model or head, and is one that protclip writes there."""
    if not path.is_file() or not (path.name in OF_A_RUN or path.suffix == ".svg"):
        return False
    return any(run_config(folder) or weights_config(folder) for folder in (path.parent, path.parent.parent))


def describe_file_of_a_run(path: Path) -> Description:
    """A file of a run, and the folder that says more."""
    folder = path.parent
    facts = {"holds": OF_A_RUN.get(path.name, "a picture"), "belongs to": folder}
    return Description(facts, made(at=path), [command("info", folder)])
