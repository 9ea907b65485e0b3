"""The result folder: which options it was started with, so that one folder never holds two experiments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protclip.config.pretraining import PretrainConfig
from protclip.config.resolve import machine_options
from protclip.errors import ConfigError
from protclip.experiments.catalogue import find_experiment
from protclip.experiments.commands import Plan
from protclip.files import read_toml, write_toml

FILE = "experiment.toml"


def open_plan(wished: Plan) -> Plan:
    """The plan together with what its folder says of earlier calls.

    A folder keeps the options of its first call: options that are left out are taken from there. What
    decides no number may change: seeds and zero-shot sets may be added, arms chosen, devices changed.

    Raises
    ------
    ConfigError
        If the folder holds another experiment or was started with other options.
    """
    path = wished.out / FILE
    if not path.exists():
        return wished
    saved = read_toml(path)
    if saved.get("experiment") != wished.experiment.name:
        raise ConfigError(
            "there is another experiment in this folder",
            where=f"--out {wished.out}",
            got=str(saved.get("experiment")),
            hint="Choose another folder",
        )
    allowed = machine_options(PretrainConfig)
    given = {k: v for k, v in saved.get("options", {}).items() if k not in allowed}
    machine = {k: v for k, v in wished.given.items() if k in allowed}
    _same(wished, "options", given, {k: v for k, v in wished.given.items() if k not in machine})
    tasks = saved.get("task_options", {})
    _same(wished, "task options", tasks, wished.task_options)
    return dataclasses.replace(
        wished,
        seeds=max(wished.seeds, int(saved.get("seeds", 1))),
        given={**given, **machine},
        task_options=tasks,
        tasks=wished.tasks if wished.tasks is not None else _tuple(saved.get("tasks")),
        zero_shot=tuple(dict.fromkeys((*saved.get("zero_shot", ()), *wished.zero_shot))),
        prompts=wished.prompts or tuple(saved.get("prompts", ())),
    )


def save_plan(plan: Plan) -> None:
    """Write ``experiment.toml``."""
    plan.out.mkdir(parents=True, exist_ok=True)
    machine = machine_options(PretrainConfig)
    values: dict[str, Any] = {
        "experiment": plan.experiment.name,
        "seeds": plan.seeds,
        "options": {k: v for k, v in plan.given.items() if k not in machine},
        "task_options": dict(plan.task_options),
        "zero_shot": list(plan.zero_shot),
        "prompts": list(plan.prompts),
    }
    if plan.tasks is not None:
        values["tasks"] = list(plan.tasks)
    write_toml(plan.out / FILE, values)


def load_plan(out: Path) -> Plan:
    """The plan of a result folder, for all its arms and seeds.

    Raises
    ------
    ConfigError
        If there is none.
    """
    saved = read_toml(out / FILE)
    return Plan(
        find_experiment(str(saved.get("experiment"))),
        out,
        given=saved.get("options", {}),
        seeds=int(saved.get("seeds", 1)),
        tasks=_tuple(saved.get("tasks")),
        task_options=saved.get("task_options", {}),
        zero_shot=tuple(saved.get("zero_shot", ())),
        prompts=tuple(saved.get("prompts", ())),
    )


def _same(plan: Plan, what: str, saved: Mapping[str, Any], wished: Mapping[str, Any]) -> None:
    changed = [key for key, value in wished.items() if key not in saved or saved[key] != value]
    if changed:
        raise ConfigError(
            f"the experiment in this folder was started with other {what}",
            where=f"--out {plan.out}",
            got=", ".join(f"{key} = {wished[key]}" for key in changed),
            expected=", ".join(f"{key} = {saved.get(key, 'its default')}" for key in changed),
            hint="Leave them out to go on, or choose another folder",
        )


def _tuple(value: Any) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)
