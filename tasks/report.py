"""What a downstream run tells its user: closing table, per-class table, model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from protclip.tasks.dataset import version_note

if TYPE_CHECKING:
    from rich.table import Table


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}"


def _spread(row: Mapping[str, Any]) -> str:
    """``0.812`` of one seed, ``0.812 +- 0.004`` of several."""
    if "mean" not in row:
        return _number(row.get("value"))
    return _number(row["mean"]) + (f" +- {row['sd']:.3f}" if row.get("sd") is not None else "")


def results_table(metrics: Mapping[str, Any]) -> Table:
    """Headline metric of every test set and identity cut-off, for the terminal."""
    from rich.table import Table  # kept out of start-up

    benchmark = metrics["benchmark"]
    title = f"{metrics['task']}: {version_note(benchmark['version'], benchmark['demonstration'])}"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column(metrics["headline"]["metric"], justify="right")
    extra = [
        c for c in ("aupr_micro", "aupr_macro", "proteins") if any(c in r for r in metrics["test"].values())
    ]
    for column in extra:
        table.add_column(column, justify="right")
    rows = {"valid": metrics["valid"], **metrics["test"]}
    for name, row in rows.items():
        more = [str(row[c]) if c == "proteins" and c in row else _number(row.get(c)) for c in extra]
        table.add_row(name, _spread(row), *more)
    return table


def results_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Definitions and what the numbers may be compared with."""
    lines = [f"{name}: {text}" for name, text in metrics["definitions"].items()]
    alone = metrics.get("sequence_only")
    if alone:
        found = ", ".join(f"{name} {_spread(row)}" for name, row in alone["test"].items())
        lines.append(f"for sequences alone, without structures: {found} (valid {_spread(alone['valid'])})")
    lines.append("labels and predictions as given, not propagated to ancestors")
    return [*lines, *metrics["comparison"]]


def demonstration_warning(task: str, note: str) -> str:
    """What stands first and last on the screen of a run on the demonstration.

    Parameters
    ----------
    task : str
    note : str
        Of :func:`protclip.tasks.dataset.demonstration_note`.
    """
    return (
        f"WARNING: {note}. {task} is trained and scored on a few real proteins that ship with protclip: "
        "these numbers compare with nothing published"
    )


def class_table(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """``per_class.tsv``: a comment line with the title, a header, one line per class."""
    columns = list(rows[0])
    lines = [f"# {title}", "\t".join(columns)]
    for row in rows:
        cells = (f"{v:.4f}" if isinstance(v, float) else str(v) for v in (row[c] for c in columns))
        lines.append("\t".join(cell.replace("\t", " ") for cell in cells))
    return "\n".join(lines) + "\n"


def head_card(metrics: Mapping[str, Any]) -> str:
    """The README.md of a head folder."""
    benchmark, parent = metrics["benchmark"], metrics["parent"]
    lines = [f"# protclip head: {metrics['task']}", ""]
    if benchmark["demonstration"]:
        lines += [f"**{benchmark['note']}**: trained on the sample that ships with protclip.", ""]
    lines += [
        f"- benchmark: {benchmark['version']}, {benchmark['classes']} classes",
        f"- towers: {metrics['towers_used']}; mode: {metrics['mode']}; fusion: {metrics['fusion']}; "
        f"features: {metrics['features']}",
        f"- seed: {metrics['seed']}; kept epoch: {metrics['training']['kept_epoch']} (chosen on validation)",
        f"- class weights: {metrics['class_weights']}",
        f"- calibration: {metrics['calibration']['method']}, fitted on validation",
    ]
    if parent:
        lines += [
            f"- pretrained parent: {parent['path']}",
            f"- SHA-256 of the parent's weights: {parent['fingerprint']}",
        ]
    else:
        lines.append("- no pretrained parent: towers started from scratch or from their own weights")
    lines += ["", "## Towers", ""]
    for name, facts in metrics["towers"].items():
        described = "; ".join(f"{k}: {v}" for k, v in facts.items() if v not in (None, ""))
        lines.append(f"- **{name}**: {described}")
    lines += ["", "## Proteins", "", "| split | used | found | published |", "|---|---|---|---|"]
    for name, row in benchmark["splits"].items():
        cells = [str(row.get(key, "")) for key in ("used", "found", "published")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    metric = metrics["headline"]["metric"]
    lines += ["", "## Scores", "", f"| set | {metric} | proteins |", "|---|---|---|"]
    for name, row in {"valid": metrics["valid"], **metrics["test"]}.items():
        lines.append(f"| {name} | {_number(row['value'])} | {row['proteins']} |")
    lines += ["", *(f"- {name}: {text}" for name, text in metrics["definitions"].items())]
    lines += [f"- {line.strip()}" for line in metrics["comparison"]]
    lines += [
        "",
        "## Use",
        "",
        "```python",
        "import protclip",
        'head = protclip.load_head("this folder")',
        'head.predict("proteins")',
        "```",
        "",
    ]
    return "\n".join(lines)
