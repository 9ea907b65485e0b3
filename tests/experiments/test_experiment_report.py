"""Reports of runs whose scores are known."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from protclip.experiments.commands import Plan, Run
from protclip.experiments.definitions import METRICS, Arm, Experiment
from protclip.experiments.plots import plot_metric
from protclip.experiments.report import summary_table, write_report
from protclip.experiments.results import RunResult, read_ranks, read_results
from protclip.experiments.runner import Outcome
from protclip.experiments.statistics import compare

R10 = {  # method, fraction -> one value for each seed
    ("base", 0.1): (0.10, 0.12, 0.11),
    ("new", 0.1): (0.14, 0.18, 0.13),
    ("base", 0.5): (0.20, 0.22, 0.21),
    ("new", 0.5): (0.19, 0.22, 0.23),
    ("all", None): (0.30, 0.32, 0.31),
}


def experiment(**more: Any) -> Experiment:
    arms = tuple(
        Arm(m, {"objective": "clip", "paired": f or 1.0}, {} if f is None else {"paired": f}) for m, f in R10
    )
    return Experiment(
        "toy", "A toy", "What it asks.", arms, "base", "all", metrics=("R@10", "median_rank"), **more
    )


def finish(run: Run, r10: float, *, ranks: bool = True, knn: bool = False) -> None:
    run.folder.mkdir(parents=True)
    row = {"R@1": r10 / 10, "R@5": r10 / 2, "R@10": r10, "median_rank": 100 * (1 - r10)}
    other = {**row, "R@10": r10 + 0.02}
    metrics: dict[str, Any] = {
        "retrieval": {
            "gallery": 50,
            "chance_R@1": 0.02,
            "a_to_b": row,
            "b_to_a": other,
            "length_matched_rank": None,
        }
    }
    if knn:
        metrics["cath_knn"] = {"C": 0.5, "T": None}
    (run.folder / "metrics.json").write_text(json.dumps(metrics))
    (run.folder / "model").mkdir()
    if ranks:
        n = 50
        ahead = np.where(np.arange(n) < round(r10 * n), 0, 30)
        lines = ["id,group,a,b,c,d", *(f"i{k},g{k // 5},{v},0,{v},0" for k, v in enumerate(ahead))]
        (run.folder / "ranks.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def finished(tmp_path: Path) -> Plan:
    plan = Plan(experiment(), tmp_path)
    for run in plan.runs():
        finish(run, R10[run.arm.method, run.arm.condition.get("paired")][run.seed])  # type: ignore[index]
    return plan


def table(text: str, heading: str) -> list[list[str]]:
    """Rows of the first table below a heading."""
    lines = text[text.index(heading) :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_report_has_means_differences_and_chance(finished: Plan) -> None:
    text = write_report(finished)
    scores = {row[0]: row[1:] for row in table(text, "## Scores")}
    assert scores["base, paired 0.1"][:2] == ["3", "12.0 ± 1.0"]  # mean over both directions, in percent
    assert scores["*chance*"][1:] == ["20.0", "25.5"]
    rows = {row[0]: row[1:] for row in table(text, "### R@10 %: difference")}
    assert set(rows) == {"arm", "---", "new, paired 0.1", "new, paired 0.5"}
    ours, theirs = (100 * np.array(R10[m, 0.1]) for m in ("new", "base"))
    known = compare(ours, theirs)
    found = rows["new, paired 0.1"]
    assert found[:5] == [
        "3",
        f"{known.difference:+.1f} ± {known.sd:.1f}",
        f"{known.low:+.1f} to {known.high:+.1f}",
        f"{known.p_t:.3f}",
        "0.250",
    ]
    assert found[6] == f"{100 * (ours.mean() - theirs.mean()) / (31 - theirs.mean()):.0f} %"
    assert "With 3 seeds p (sign flips) cannot be below 0.25; 6 seeds are the fewest" in text
    assert "15 of 15 runs are finished" in text


def test_queries_are_paired_item_by_item(finished: Plan) -> None:
    rows = {row[0]: row for row in table(write_report(finished), "### R@10 %: difference")}
    low, _, high = rows["new, paired 0.1"][6].partition(" to ")
    assert -0.01 <= float(low) <= 4.0 <= float(high)


def test_every_number_is_in_the_csv(finished: Plan) -> None:
    write_report(finished)
    rows = list(csv.DictReader((finished.out / "results.csv").open()))
    found = [
        float(row["value"])
        for row in rows
        if (row["arm"], row["metric"]) == ("new-paired-0.1", "retrieval.b_to_a.R@10")
    ]
    assert found == pytest.approx([0.16, 0.20, 0.15])
    assert {row["paired"] for row in rows} == {"0.1", "0.5", ""}


def test_a_condition_of_few_methods_is_on_the_axis(tmp_path: Path) -> None:
    arms = [Arm(f"m{n}", {}, {"paired": fraction}) for n in range(9) for fraction in (0.02, 0.1)]
    arms.append(Arm("m0", {}, {"paired": 0.5}))  # whose dots stand left of the tick
    metric = METRICS["R@10"]
    results = [RunResult(Run(arm, 0, tmp_path, ()), {metric.key: 0.1}, None) for arm in arms]
    plot_metric(results, metric, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert all(f">{fraction}<" in text for fraction in ("0.02", "0.1", "0.5"))


def test_plots_and_commands_are_whole(finished: Plan) -> None:
    write_report(finished)
    for name in ("r-10.svg", "median-rank.svg"):
        text = (finished.out / name).read_text()
        assert ElementTree.fromstring(text).tag.endswith("svg")
        for word in ("base", "new", "all", "chance"):
            assert f">{word}<" in text
    lines = (finished.out / "commands.txt").read_text().splitlines()
    assert sum(line.startswith("protclip pretrain ") for line in lines) == 15
    before = (finished.out / "r-10.svg").read_bytes()
    write_report(finished)
    assert (finished.out / "r-10.svg").read_bytes() == before


def test_failures_and_gaps_are_shown(tmp_path: Path) -> None:
    plan = Plan(experiment(), tmp_path)
    runs = plan.runs()
    finish(runs[0], 0.1, ranks=False, knn=True)
    finish(runs[1], 0.2, ranks=False)
    text = write_report(plan, [Outcome(runs[2], "failed", "pretrain: no room")])
    assert "2 of 15 runs are finished" in text
    assert {row[0] for row in table(text, "## Scores")} & {"new, paired 0.5", "all"} == set()
    assert "Without a finished run: base, paired 0.5; new, paired 0.5; all." in text
    assert "base, paired 0.5, seed 0: failed: pretrain: no room" in text
    row = {row[0]: row for row in table(text, "### R@10 %: difference")}["new, paired 0.1"]
    assert row[1:] == ["1", "+10.0", "-", "-", "1.000", "-", "-"]
    shown = summary_table(plan)
    assert shown is not None
    assert shown.row_count == 6


def test_nothing_finished_is_a_report_too(tmp_path: Path) -> None:
    plan = Plan(experiment(), tmp_path)
    assert "0 of 15 runs are finished" in write_report(plan)
    assert summary_table(plan) is None


def test_arms_of_earlier_calls_stay_in_the_report(finished: Plan) -> None:
    later = Plan(finished.experiment, finished.out, arms=("new*",))
    assert len(later.runs()) == 6
    assert "15 of 15 runs are finished" in write_report(later)


def test_downstream_and_zero_shot_scores_become_metrics(tmp_path: Path) -> None:
    arms = (Arm("base", {"objective": "clip"}), Arm("new", {"objective": "setclip"}))
    made = Experiment("toy", "", "", arms, "base", tasks=("fold",), zero_shot=True, metrics=("R@10",))
    plan = Plan(made, tmp_path, seeds=1, zero_shot=("data/set7",))
    for run, value in zip(plan.runs(), (0.2, 0.3), strict=True):
        finish(run, 0.1, ranks=False)
        _, task, zero = run.stages
        (task.folder / "head").mkdir(parents=True)
        sets: Mapping[str, Any] = {"test_fold": {"value": value}, "test_family": {"value": None}}
        (task.folder / "metrics.json").write_text(json.dumps({"test": sets}))
        zero.folder.mkdir()
        scores = {"zero_shot": {"top1": value / 2, "chance_top1": 1 / 7}}
        (zero.folder / zero.results[0]).write_text(json.dumps(scores))
    numbers = read_results(plan.runs())[1].numbers
    assert numbers["fold/test_fold"] == 0.3
    assert numbers["fold.test.test_fold.value"] == 0.3
    text = write_report(plan)
    header = table(text, "## Scores")[0]
    assert header[2:] == ["fold fold acc. %", "zero-shot set7 %", "R@10 %"]
    assert "### fold fold acc. %: difference" in text
    assert (tmp_path / "zero-shot-set7-top1.svg").exists()


def test_ranks_give_the_recall_of_the_metrics(run_ranks: Path) -> None:
    ranks = read_ranks(run_ranks)
    assert ranks.recall(1).tolist() == [1.0, 0.25]
    assert ranks.ids == ["x", "y"]


@pytest.fixture
def run_ranks(tmp_path: Path) -> Path:
    path = tmp_path / "ranks.csv"
    path.write_text("id,group,a,b,c,d\nx,1.1,0,0,0,0\ny,,3,0,0,1\n")
    return path
