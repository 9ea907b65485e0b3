"""What training leaves behind: runs, models, heads, experiments."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protclip.describe.description import Description, command, json_table, made, toml, version


def weights_config(path: Path) -> dict[str, Any]:
    """``config.toml`` of a folder with weights; empty for any other folder."""
    return toml(path / "config.toml") if (path / "model.safetensors").is_file() else {}


def run_config(path: Path) -> dict[str, Any]:
    """Options of a run folder; empty for any other folder."""
    found = toml(path / "config.toml") if (path / "config.toml").is_file() else {}
    return found if "task" in found or "train" in found or "source" in found else {}


def is_finished(path: Path) -> bool:
    """Whether a run folder has its result."""
    return (path / ("head" if "task" in run_config(path) else "model")).is_dir()


def is_run(path: Path, entry: str, *, finished: bool = False) -> bool:
    """Whether a folder is a run whose options have this entry, and, where that is asked, has its result."""
    config = run_config(path)
    kind = "task" if "task" in config else "train" if config else ""
    return kind == entry and (is_finished(path) or not finished)


def is_refit(path: Path) -> bool:
    """Whether new heads were fitted to the towers of an earlier model."""
    return "parent" in weights_config(path).get("training", {}).get("refit", {})


def is_aligned(path: Path) -> bool:
    """Whether both sides are ready embeddings, joined by linear maps."""
    config = weights_config(path)
    sides = config.get("model", {}).get("sides", [])
    return bool(sides) and all(s["modality"] == "vectors" for s in sides) and "sources" in config["training"]


def _name(side: Mapping[str, Any]) -> str:
    return str(side.get("stands_for") or side["modality"])


def _sides(sides: list[Mapping[str, Any]]) -> str:
    return " and ".join(_name(side) + (" (vectors)" if "stands_for" in side else "") for side in sides)


def _source(training: Mapping[str, Any]) -> tuple[str, str]:
    """Option and value that name the items a model was trained on."""
    if "pairs_from" in training:
        return "--pairs", str(training["pairs_from"])
    return "--cath", str(training.get("corpus", "CATH"))


def _model_uses(path: Path, config: Mapping[str, Any]) -> list[str]:
    sides, training = config["model"]["sides"], config.get("training", {})
    name = _name(sides[0])
    uses = [command("embed", path, "--modality", name, "-i", name.upper(), "-o", "out.h5")]
    vectors = ["--vectors", "VECTORS.h5"] if any("stands_for" in side for side in sides) else []
    uses.append(command("evaluate", path, *_source(training), *vectors))
    if training.get("source") == "proteins":
        uses.append(command("finetune", "TASK", "--model", path))
    return uses


def describe_model(path: Path) -> Description:
    """A model of two towers."""
    config = weights_config(path)
    model, training = config["model"], config.get("training", {})
    held = [f"{training[f'{name}_{kind}']} {name}" for name in ("train", "valid", "test")
            for kind in ("domains", "items") if f"{name}_{kind}" in training]  # fmt: skip
    facts = {
        "sides": _sides(model["sides"]),
        "dim": model.get("dim"),
        "objective": training.get("objective"),
        "trained on": " ".join(_source(training)[1:]),
        "items": ", ".join(held),
        "pairs": f"{training['pairs']} ({training.get('paired_fraction', 1):.0%} of the training items)"
        if "pairs" in training
        else None,
    }
    refit = training.get("refit", {})
    how = f"refit by {refit['method']}" if refit.get("method", "none") != "none" else ""
    how += f" from {refit['parent']}" if "parent" in refit else ""
    seed = f"seed {training['seed']}" if "seed" in training else ""
    return Description(
        facts,
        made(version(config), seed, how, at=path / "model.safetensors"),
        _model_uses(path, config),
    )


def describe_aligned(path: Path) -> Description:
    """Two linear maps of ready embeddings."""
    config = weights_config(path)
    model, training = config["model"], config["training"]
    sources = training["sources"]
    names = [side["stands_for"] for side in model["sides"]]
    facts = {
        "sides": _sides(model["sides"]),
        "dim": model.get("dim"),
        "method": training.get("objective"),
        "pairs": training.get("pairs"),
        "R@10": training.get("scores", {}).get("R@10"),
    }
    # The files are noted by their place, whatever the sides are called.
    files = [sources["left"], sources["right"]]
    names_given = ["--left-name", names[0], "--right-name", names[1]] if names != ["left", "right"] else []
    again = command("align-vectors", *files, "--pairs", sources["pairs"], *names_given)
    return Description(
        facts,
        made(again, version(config), at=path / "model.safetensors"),
        [
            command("embed", path, "--modality", name, "-i", file, "-o", f"{name}.h5")
            for name, file in zip(names, files, strict=True)
        ],
    )


def describe_head(path: Path) -> Description:
    """A classifier with its towers."""
    config = weights_config(path)
    head, training = config["head"], config.get("training", {})
    sides = config.get("network", {}).get("sides", [])
    facts = {
        "task": head.get("task"),
        "benchmark": head.get("benchmark"),
        "warning": "trained on the demonstration, no benchmark" if head.get("demonstration") else None,
        "classes": len(head.get("classes", [])),
        "towers": _sides(sides),
        "valid": training.get("valid"),
        "test": training.get("test"),
        "parent": training.get("parent", {}).get("path", "none"),
    }
    first = _name(sides[0]).upper() if sides else "INPUT"
    seed = f"protclip finetune {head.get('task')} --mode {training.get('mode')} --seed {training.get('seed')}"
    return Description(
        facts,
        made(seed, version(config), at=path / "model.safetensors"),
        [command("predict", path, "-i", first, "-o", "out.tsv")],
    )


def _progress(path: Path) -> str:
    """How far the log of a run goes."""
    logs = sorted(path.glob("log.csv")) + sorted(path.glob("seed-*/log.csv"))
    if not logs:
        return "not begun"
    with logs[-1].open(newline="") as stream:
        last = list(csv.DictReader(stream))[-1:]
    if not last:
        return "not begun"
    counted, value = next(iter(last[0].items()))
    return f"{counted} {value} in {logs[-1].relative_to(path)}"


def describe_run(path: Path) -> Description:
    """A pretraining, finished or not."""
    config = run_config(path)
    source, train, data = (config.get(name, {}) for name in ("source", "train", "data"))
    finished = is_finished(path)
    metrics = json_table(path / "metrics.json")
    facts: dict[str, Any] = {
        "finished": "yes" if finished else f"no ({_progress(path)})",
        "objective": train.get("objective"),
        "trained on": source.get("cath") or source.get("pairs") or source.get("kind"),
        "paired": data.get("paired"),
        "seed": train.get("seed"),
    }
    found = metrics.get("retrieval", {})
    if isinstance(found, dict):
        for name, scores in found.items():
            if isinstance(scores, dict) and "R@10" in scores:
                facts[name] = f"R@10 {scores['R@10']:.1%} of {found.get('gallery')}"
    if not finished:
        return Description(facts, _made_run(path), [command("pretrain", "--out", path, "--resume")])
    return Description(facts, _made_run(path), _model_uses(path, weights_config(path / "model")))


def _made_run(path: Path) -> str:
    verb = "finetune" if "task" in run_config(path) else "pretrain"
    saved = [path / name / "config.toml" for name in ("model", "head")]
    known = next((version(toml(file)) for file in saved if file.is_file()), "")
    return made(command(verb, "--config", path / "config.toml"), known, at=path / "config.toml")


def describe_task_run(path: Path) -> Description:
    """A downstream run, finished or not."""
    config = run_config(path)
    finished, metrics = is_finished(path), json_table(path / "metrics.json")
    headline, benchmark = metrics.get("headline", {}), metrics.get("benchmark", {})
    value = headline.get("value", headline.get("mean"))
    facts = {
        "finished": "yes" if finished else f"no ({_progress(path)})",
        "task": config.get("task"),
        "benchmark": benchmark.get("version") or config.get("data"),
        "warning": benchmark.get("note"),
        "towers": config.get("towers"),
        "mode": config.get("mode"),
        "model": config.get("model") or "none: towers from scratch",
        "headline": f"{headline['metric']} {value:.3f} on {headline['set']}" if value is not None else "",
    }
    sides = weights_config(path / "head").get("network", {}).get("sides", [])
    first = _name(sides[0]).upper() if sides else "INPUT"
    use = command("predict", path / "head", "-i", first, "-o", "out.tsv")
    again = command("finetune", "--out", path, "--resume")
    return Description(facts, _made_run(path), [use if finished else again])


def describe_experiment(path: Path) -> Description:
    """A comparison: arms, seeds, and how much of it is finished."""
    plan = toml(path / "experiment.toml")
    runs = sorted(path.glob("runs/*/seed-*"))
    done = [run for run in runs if (run / "metrics.json").is_file() or (run / "model").is_dir()]
    name = str(plan.get("experiment"))
    facts = {
        "experiment": name,
        "seeds": plan.get("seeds"),
        "arms begun": len({run.parent for run in runs}),
        "runs finished": f"{len(done)} of {len(runs)} begun",
        "options": plan.get("options"),
        "results": path / "results.md" if (path / "results.md").is_file() else "none written yet",
    }
    again = command("experiment", name, "--out", path)
    return Description(facts, made(again, at=path / "experiment.toml"), [again, f"{again} --report"])


def runs_in(path: Path) -> list[Path]:
    """Run folders that lie directly in a folder."""
    return sorted(found.parent for found in path.glob("*/config.toml") if run_config(found.parent))


def describe_runs(path: Path) -> Description:
    """A folder of runs."""
    found = sorted(runs_in(path), key=lambda run: (run / "config.toml").stat().st_mtime)
    facts = {
        "runs": len(found),
        "finished": sum(map(is_finished, found)),
        "newest": found[-1].name,
    }
    return Description(facts, made(at=found[-1] / "config.toml"), [command("info", found[-1])])
