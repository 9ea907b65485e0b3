"""What a run tells its user: the closing table and the model card."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from protclip.scoring.galleries import Evaluation, Gallery


def metrics_table(metrics: Mapping[str, Any], title: str) -> Table:
    """Retrieval (percent, chance beside it) and k-nearest-neighbour accuracy as a table for the terminal."""
    retrieval = metrics["retrieval"]
    n = retrieval["gallery"]
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in ("R@1 %", "R@5 %", "R@10 %", "median rank"):
        table.add_column(column, justify="right")
    for name, row in retrieval.items():
        if isinstance(row, Mapping):
            recalls = [f"{100 * row[f'R@{k}']:.1f}" for k in (1, 5, 10)]
            table.add_row(name.replace("_", " "), *recalls, f"{row['median_rank']:.1f}")
    chance = [f"{100 * min(1.0, k / n):.1f}" for k in (1, 5, 10)]
    table.add_row("chance", *chance, f"{(n + 1) / 2:.1f}", style="dim")
    return table


def metrics_lines(metrics: Mapping[str, Any]) -> list[str]:
    """The other numbers, one sentence each."""
    lines = []
    rank = metrics["retrieval"].get("length_matched_rank")
    if rank is not None:
        lines.append(f"length-matched rank {rank:.1f} % (chance 50)")
    left = next(key for key in metrics["retrieval"] if "_to_" in key).split("_to_")[0]
    for key, values in metrics.items():
        scheme, found, side = key.partition("_knn")
        if found:
            parts = [f"{level} {100 * value:.1f}" for level, value in values.items() if value is not None]
            lines.append(
                f"nearest neighbour shares the {scheme.upper()} class, {side.strip('_') or left} side (%): "
                + ", ".join(parts)
            )
    return lines


def retrieval_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Retrieval in one sentence for each direction."""
    return [
        f"{key.replace('_', ' ')} R@1 {row['R@1']:.1%}, R@10 {row['R@10']:.1%}, "
        f"median rank {row['median_rank']:.0f}"
        for key, row in metrics["retrieval"].items()
        if isinstance(row, Mapping)
    ]


def zero_shot_table(metrics: Mapping[str, Any], title: str) -> Table:
    """Zero-shot accuracy in percent, in all and by class, with what guessing gives."""
    table = Table(title=title, title_justify="left")
    for column in ("", "items", "top-1 %", "top-5 %"):
        table.add_column(column, justify="right" if column else "left")
    for name, row in metrics["per_class"].items():
        table.add_row(name, str(row["items"]), f"{100 * row['top1']:.1f}", "")
    percent = {key: f"{100 * value:.1f}" for key, value in metrics.items() if isinstance(value, float)}
    table.add_section()
    table.add_row("all items", str(metrics["items"]), percent["top1"], percent["top5"])
    table.add_row("chance", "", percent["chance_top1"], percent["chance_top5"], style="dim")
    table.add_row("always the largest class", "", percent["largest_class"], "", style="dim")
    return table


def ranks_table(gallery: Gallery, evaluation: Evaluation, names: tuple[str, str]) -> str:
    """``ranks.csv``: how each held-out item fared as a query, for tests that pair queries of two runs.

    ``ahead`` counts the items nearer to the query than its partner, ``tied`` others at its distance; the
    group is the item's class.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ways = [f"{names[0]}_to_{names[1]}", f"{names[1]}_to_{names[0]}"]
    writer.writerow(["id", "group", *(f"{way}_{what}" for way in ways for what in ("ahead", "tied"))])
    groups = gallery.labels or [""] * len(gallery)
    counts = [column for way in evaluation.directions for column in (way.ahead, way.tied)]
    writer.writerows(zip(gallery.ids, groups, *counts, strict=True))
    return text.getvalue()


def model_card(
    *,
    names: tuple[str, str],
    objective: str,
    facts: Mapping[str, Any],
    sides: Mapping[str, Mapping[str, Any]],
    metrics: Mapping[str, Any] | None,
    loss: Mapping[str, Any],
    before: Mapping[str, Any] | None = None,
) -> str:
    """The README.md of a model folder: data, pairs, objective, metrics, weight provenance.

    ``before`` holds the metrics of the heads that a refit replaced; the refit itself is ``facts["refit"]``.
    """
    lines = [f"# protclip model: {names[0]} and {names[1]} in one space", ""]
    lines += [f"Objective `{objective}`.", "", "## Data", ""]
    lines += [
        f"- {key.replace('_', ' ')}: {value}"
        for key, value in facts.items()
        if not isinstance(value, (list, dict))
    ]
    lines += ["", "## Towers", ""]
    for name, described in sides.items():
        lines.append(f"- **{name}**")
        lines += [
            f"  - {key.replace('_', ' ')}: {value}"
            for key, value in described.items()
            if value not in (None, "")
        ]
    lines += ["", "## Loss", "", *(f"- {key}: {value}" for key, value in loss.items())]
    if "refit" in facts:
        lines += ["", "## Refit", "", "The heads are linear maps fitted in closed form after training.", ""]
        lines += [f"- {key.replace('_', ' ')}: {value}" for key, value in facts["refit"].items()]
        lines += [f"- before: {line}" for line in retrieval_lines(before)] if before else []
    lines += ["", "## Evaluation", ""]
    if metrics is None:
        lines.append("No held-out items were left to evaluate on.")
    else:
        lines += [f"Held-out items only, full gallery of {metrics['retrieval']['gallery']} items.", ""]
        lines += ["| | R@1 % | R@5 % | R@10 % | median rank |", "|---|---|---|---|---|"]
        n = metrics["retrieval"]["gallery"]
        for key, row in metrics["retrieval"].items():
            if isinstance(row, Mapping):
                recalls = " | ".join(f"{100 * row[f'R@{k}']:.1f}" for k in (1, 5, 10))
                lines.append(f"| {key.replace('_', ' ')} | {recalls} | {row['median_rank']:.1f} |")
        chance = " | ".join(f"{100 * min(1.0, k / n):.1f}" for k in (1, 5, 10))
        lines += [
            f"| chance | {chance} | {(n + 1) / 2:.1f} |",
            "",
            *(f"- {line}" for line in metrics_lines(metrics)),
        ]
    lines += [
        "",
        "## Use",
        "",
        "```python",
        "import protclip",
        'model = protclip.load("this folder")',
        "```",
        "",
    ]
    return "\n".join(lines)
