"""What an experiment leaves for its reader: all numbers, a table with differences, plots, commands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import protclip
from protclip.experiments.commands import Plan, Run, shown
from protclip.experiments.definitions import Arm, Metric
from protclip.experiments.plots import plot_metric
from protclip.experiments.results import RunResult, metrics_of, read_results, write_csv
from protclip.experiments.runner import OUTPUT, Outcome
from protclip.experiments.statistics import Comparison, Interval, bootstrap, compare, spread
from protclip.files import atomic_write

if TYPE_CHECKING:
    from rich.table import Table

By = Mapping[str, Mapping[int, RunResult]]
"""Results by arm (folder name) and seed."""

FEWEST_FOR_T = 3
"""Seeds below which no t-test is shown."""

QUERY_METRICS = {"R@1": 1, "R@5": 5, "R@10": 10}


def write_report(plan: Plan, outcomes: Sequence[Outcome] = ()) -> str:
    """Write ``results.csv``, ``results.md``, ``commands.txt`` and the plots; returns the Markdown.

    Parameters
    ----------
    plan : Plan
        Whatever is finished of its runs, and of others in its folder, is reported.
    outcomes : sequence of Outcome
        For the list of failures.
    """
    runs = plan.reported()
    plan.out.mkdir(parents=True, exist_ok=True)
    atomic_write(plan.out / "commands.txt", commands_text(plan, runs))
    results = read_results(runs)
    write_csv(plan.out / "results.csv", results)
    metrics = metrics_of(plan.experiment.metrics, plan.downstream, results)
    plots = []
    for metric in metrics if results else []:
        path = plan.out / f"{_file_name(metric)}.svg"
        plot_metric(results, metric, path, title=plan.experiment.title, ceiling=plan.experiment.ceiling)
        plots.append(path)
    text = markdown(plan, runs, results, metrics, outcomes, plots=plots)
    atomic_write(plan.out / "results.md", text)
    return text


def commands_text(plan: Plan, runs: Sequence[Run]) -> str:
    """Every command of every run, to be run in the folder from which the experiment was started."""
    lines = [f"# protclip {protclip.__version__}, experiment {plan.experiment.name}"]
    lines += [f"# all of it: {plan.command}"]
    lines += ["# Each line can be run alone; change --out to keep what is there."]
    for run in runs:
        lines += ["", f"# {run.name}"]
        for stage in run.stages:
            target = f" > {stage.folder / stage.output}" if stage.output else ""
            lines.append(shown(stage.arguments) + target)
    return "\n".join(lines) + "\n"


def markdown(
    plan: Plan,
    runs: Sequence[Run],
    results: Sequence[RunResult],
    metrics: Sequence[Metric],
    outcomes: Sequence[Outcome] = (),
    *,
    plots: Sequence[Path] = (),
) -> str:
    """The report as text."""
    experiment = plan.experiment
    arms = list(dict.fromkeys(run.arm.slug for run in runs))
    by_slug = {run.arm.slug: run.arm for run in runs}
    by = _by_arm(arms, results)
    finished = sum(run.finished for run in runs)
    lines = [f"# {experiment.name}: {experiment.title}", "", experiment.about, ""]
    lines.append(f"{finished} of {len(runs)} runs are finished ({len(arms)} arms, {plan.seeds} seeds).")
    lines += ["", "```bash", plan.command, "```"]
    if results:
        lines += ["", "## Scores", "", "Mean ± standard deviation over seeds.", ""]
        lines += _scores([by_slug[slug] for slug in arms if by[slug]], by, metrics)
        waiting = [by_slug[slug].name for slug in arms if not by[slug]]
        lines += ["", f"Without a finished run: {'; '.join(waiting)}."] if waiting else []
        lines += _differences(plan, [by_slug[slug] for slug in arms], by, metrics)
        lines += ["", "## Plots", "", *(f"![{path.stem}]({path.name})" for path in plots)]
    troubles = [o for o in outcomes if o.state in ("failed", "busy")]
    if troubles:
        lines += ["", "## Not finished", ""]
        lines += [f"- {o.run.name}: {o.state}: {o.reason} (see {o.run.folder / OUTPUT})" for o in troubles]
    lines += [
        "",
        "Numbers of every run: `results.csv`. The command of every run: `commands.txt`; its resolved",
    ]
    lines += ["configuration: `runs/<arm>/seed-<n>/config.toml`.", ""]
    return "\n".join(lines)


def summary_table(plan: Plan) -> Table | None:
    """Headline metric of every arm beside the baseline, for the terminal; None where nothing is finished."""
    from rich import box  # kept out of start-up
    from rich.table import Table

    runs = plan.reported()
    results = read_results(runs)
    metrics = metrics_of(plan.experiment.metrics, plan.downstream, results)
    if not metrics:
        return None
    metric = metrics[0]
    arms = list({run.arm.slug: run.arm for run in runs}.values())
    by = _by_arm([arm.slug for arm in arms], results)
    table = Table(title=f"{plan.experiment.name}: {metric.label}", title_justify="left", box=box.SIMPLE)
    table.add_column("arm")
    for column in ("n", "mean ± sd", f"to {plan.experiment.baseline}", "p (t)", "p (flips)"):
        table.add_column(column, justify="right", no_wrap=True)
    for arm in arms:
        values = [r.numbers[metric.key] for r in by[arm.slug].values() if metric.key in r.numbers]
        base = _baseline(arm, arms, plan.experiment.baseline)
        pairs = _pairs(by, arm, base, metric) if base else []
        found = compare([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None
        cells = ["", "", ""] if found is None else _tested(found)
        table.add_row(arm.name, str(len(values)), _cell(values, metric), cells[0], *cells[-2:])
    chance = _chance(by, [metric])[0]
    if chance:
        table.add_row("chance", "", chance, "", "", "", style="dim")
    return table


def _by_arm(slugs: Sequence[str], results: Sequence[RunResult]) -> dict[str, dict[int, RunResult]]:
    by: dict[str, dict[int, RunResult]] = {slug: {} for slug in slugs}
    for result in results:
        by[result.run.arm.slug][result.run.seed] = result
    return by


def _scores(arms: Sequence[Arm], by: By, metrics: Sequence[Metric]) -> list[str]:
    lines = [
        "| arm | seeds | " + " | ".join(m.label for m in metrics) + " |",
        "|---" * (len(metrics) + 2) + "|",
    ]
    for arm in arms:
        found = by[arm.slug]
        cells = [_cell([r.numbers[m.key] for r in found.values() if m.key in r.numbers], m) for m in metrics]
        lines.append(f"| {arm.name} | {len(found)} | " + " | ".join(cells) + " |")
    chance = _chance(by, metrics)
    if any(chance):
        lines.append("| *chance* | | " + " | ".join(chance) + " |")
    return lines


def _cell(values: Sequence[float], metric: Metric) -> str:
    if not values:
        return "-"
    found = spread(np.array(values) * metric.factor)
    return f"{found.mean:.1f}" + ("" if math.isnan(found.sd) else f" ± {found.sd:.1f}")


def _chance(by: By, metrics: Sequence[Metric]) -> list[str]:
    cells = []
    for metric in metrics:
        key = f"chance {metric.key}"
        values = {
            r.numbers[key] * metric.factor
            for seeds in by.values()
            for r in seeds.values()
            if key in r.numbers
        }
        cells.append(" to ".join(f"{v:.1f}" for v in sorted({min(values), max(values)})) if values else "")
    return cells


def _differences(plan: Plan, arms: Sequence[Arm], by: By, metrics: Sequence[Metric]) -> list[str]:
    """Tables of differences to the baseline: the headline metric, and those of tasks and zero-shot sets."""
    experiment = plan.experiment
    if not experiment.baseline or not metrics:
        return []
    headline = [m for m in metrics if m.key == experiment.metrics[0] or "/" in m.key]
    lines: list[str] = []
    for metric in headline:
        rows, found_n = [], []
        for arm in arms:
            base = _baseline(arm, arms, experiment.baseline)
            pairs = _pairs(by, arm, base, metric) if base else []
            if base is None or not pairs:
                continue
            found = compare([a for a, _ in pairs], [b for _, b in pairs])
            interval = _over_queries(by, arm, base, metric)
            share = _gap_closed(by, arm, base, experiment.ceiling, metric)
            rows.append(_row(arm, found, interval, share))
            found_n.append(found.n)
        if rows:
            lines += ["", f"### {metric.label}: difference to `{experiment.baseline}`", ""]
            lines += [
                "| arm | seeds | difference | 95 % CI | p (t) | p (sign flips) | 95 % CI over queries | "
                "share of the gap closed |",
                "|---|---|---|---|---|---|---|---|",
                *rows,
            ]
            lines += ["", _how_small(min(found_n), max(found_n))]
    if not lines:
        return []
    explained = (
        "Differences are seed by seed. p (t) is the paired t-test, which takes the differences of seeds as "
        "normal; p (sign flips) the exact permutation test, which needs only their symmetry. The interval "
        "over queries resamples the held-out items, whole classes together, with the seeds held fixed: it "
        "says whether the difference would hold on other items, not on other seeds. p values are not "
        "corrected for the number of rows."
    )
    if experiment.ceiling:
        explained += f" The gap is that from `{experiment.baseline}` to `{experiment.ceiling}`."
    return ["", "## Differences", "", explained, *lines]


def _row(arm: Arm, found: Comparison, interval: Interval | None, share: float | None) -> str:
    cells = [
        arm.name,
        str(found.n),
        *_tested(found),
        "-" if interval is None else f"{interval.low:+.1f} to {interval.high:+.1f}",
        "-" if share is None else f"{100 * share:.0f} %",
    ]
    return "| " + " | ".join(cells) + " |"


def _tested(found: Comparison) -> list[str]:
    """Difference, its interval, and both p; Student's t says little of two seeds that happen to agree."""
    enough = found.n >= FEWEST_FOR_T
    return [
        f"{found.difference:+.1f}" + ("" if math.isnan(found.sd) else f" ± {found.sd:.1f}"),
        f"{found.low:+.1f} to {found.high:+.1f}" if enough else "-",
        _p(found.p_t) if enough else "-",
        _p(found.p_flip),
    ]


def _how_small(low: int, high: int) -> str:
    """What the number of seeds allows."""
    least = 2 / 2**high
    seeds = f"{high} seed{'s' * (high != 1)}" if low == high else f"{low} to {high} seeds"
    text = f"With {seeds} p (sign flips) cannot be below {min(1.0, least):.3g}"
    return text + ("; 6 seeds are the fewest that can reach 0.05." if least > 0.05 else ".")


def _baseline(arm: Arm, arms: Sequence[Arm], method: str) -> Arm | None:
    """The arm of the baseline's method in the same condition; None for that arm itself."""
    found = next((a for a in arms if a.method == method and a.condition == arm.condition), None)
    return None if found is None or found.slug == arm.slug else found


def _pairs(by: By, arm: Arm, base: Arm, metric: Metric) -> list[tuple[float, float]]:
    ours, theirs = by[arm.slug], by[base.slug]
    return [
        (ours[seed].numbers[metric.key] * metric.factor, theirs[seed].numbers[metric.key] * metric.factor)
        for seed in sorted(set(ours) & set(theirs))
        if metric.key in ours[seed].numbers and metric.key in theirs[seed].numbers
    ]


def _over_queries(by: By, arm: Arm, base: Arm, metric: Metric) -> Interval | None:
    """Bootstrap over the held-out items that all runs of both arms share."""
    if metric.key not in QUERY_METRICS:
        return None
    k = QUERY_METRICS[metric.key]
    ours, theirs = by[arm.slug], by[base.slug]
    pairs = [(ours[s].ranks, theirs[s].ranks) for s in sorted(set(ours) & set(theirs))]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(known) < len(pairs) or not known or any(r.ids != known[0][0].ids for pair in known for r in pair):
        return None
    differences = np.mean([a.recall(k) - b.recall(k) for a, b in known], 0)
    found = bootstrap(differences * metric.factor, known[0][0].groups)
    return found if len(differences) > 1 else None


def _gap_closed(by: By, arm: Arm, base: Arm, ceiling: str, metric: Metric) -> float | None:
    """How far an arm gets from the baseline's mean to the ceiling's; None where that gap is nothing."""
    top = next((list(seeds.values()) for seeds in by.values() if _method(seeds) == ceiling), [])

    def mean(found: Sequence[RunResult]) -> float:
        values = [r.numbers[metric.key] for r in found if metric.key in r.numbers]
        return float(np.mean(values)) if values else math.nan

    low, own, high = mean([*by[base.slug].values()]), mean([*by[arm.slug].values()]), mean(top)
    gap = (high - low) * (1 if metric.higher_is_better else -1)
    if not ceiling or not gap > 0 or arm.method == ceiling or math.isnan(own):
        return None
    return (own - low) / (high - low)


def _method(seeds: Mapping[int, RunResult]) -> str:
    return next((result.run.arm.method for result in seeds.values()), "")


def _p(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _file_name(metric: Metric) -> str:
    return "".join(c if c.isalnum() else "-" for c in metric.key).strip("-").lower()
