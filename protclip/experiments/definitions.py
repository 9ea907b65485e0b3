"""What an experiment is: named arms, each a set of options, and the numbers that count."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any, Literal

from protclip.errors import ConfigError


@dataclass(frozen=True)
class Arm:
    """One set of options, run once for each seed.

    Attributes
    ----------
    method : str
        What is compared; arms of one method differ in their condition.
    options : mapping
        Options of :class:`protclip.config.pretraining.PretrainConfig` by name, entries of its loss,
        ``preset`` and ``config``. They go before everything that the user gives.
    condition : mapping
        Under what circumstances; arms are compared with the baseline in the same condition.
    pretrained : bool
        False for towers that go into the downstream tasks from scratch.
    towers_of : str
        Method whose model, in the same condition, gets new heads by ``refit`` of the options instead of a
        training of its own; its other options are the same, but for ``pools``.
    """

    method: str
    options: Mapping[str, Any]
    condition: Mapping[str, float | str] = field(default_factory=dict)
    pretrained: bool = True
    towers_of: str = ""

    @property
    def name(self) -> str:
        """Unique within the experiment.

        Examples
        --------
        >>> Arm("clip", {}, {"paired": 0.1}).name
        'clip, paired 0.1'
        """
        return ", ".join([self.method, *(f"{key} {_short(value)}" for key, value in self.condition.items())])

    @property
    def slug(self) -> str:
        """The name as a folder.

        Examples
        --------
        >>> Arm("setclip+s-clip, disjoint", {}, {"paired": 0.1}).slug
        'setclip+s-clip-disjoint-paired-0.1'
        """
        return re.sub(r"[^A-Za-z0-9.+]+", "-", self.name).strip("-").lower()


@dataclass(frozen=True)
class Metric:
    """A number that the report shows.

    Attributes
    ----------
    key : str
        Name among the numbers of a run, see :func:`protclip.experiments.results.run_numbers`.
    label : str
    factor : float
        100 shows a fraction in percent.
    higher_is_better : bool
    """

    key: str
    label: str
    factor: float = 1.0
    higher_is_better: bool = True


METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric("R@1", "R@1 %", 100.0),
        Metric("R@5", "R@5 %", 100.0),
        Metric("R@10", "R@10 %", 100.0),
        Metric("median_rank", "median rank", higher_is_better=False),
        Metric("length_matched_rank", "length-matched rank %"),
        Metric("knn_C", "k-NN C %", 100.0),
        Metric("knn_T", "k-NN T %", 100.0),
    )
}
"""Metrics of retrieval (means over both directions) and of nearest neighbours (left side)."""

RETRIEVAL = ("R@10", "R@1", "median_rank", "length_matched_rank", "knn_C", "knn_T")


@dataclass(frozen=True)
class Experiment:
    """Named arms that answer one question.

    Attributes
    ----------
    name, title, about : str
    arms : tuple of Arm
    baseline : str
        Method that the others are compared with; empty for none.
    ceiling : str
        Method that shows what all pairs give; the share of the gap that is closed is reported.
    options : mapping
        Options of every arm that the user may change.
    tasks : tuple of str
        Downstream tasks that follow each run.
    zero_shot : bool
        Whether sets of labelled items can be classified by each run.
    prompts : tuple of str
        For these classes; the default of ``protclip evaluate`` without any.
    metrics : tuple of str
        Metrics of the report; the first is the headline and is drawn and tested.
    needs : tuple of str
        Options that the user has to give.
    kind : {"runs", "sampling-size"}
        ``sampling-size`` is an analysis of features and has no arms.
    """

    name: str
    title: str
    about: str
    arms: tuple[Arm, ...]
    baseline: str = ""
    ceiling: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    zero_shot: bool = False
    prompts: tuple[str, ...] = ()
    metrics: tuple[str, ...] = RETRIEVAL
    needs: tuple[str, ...] = ()
    kind: Literal["runs", "sampling-size"] = "runs"

    def __post_init__(self) -> None:
        slugs = [arm.slug for arm in self.arms]
        if len(set(slugs)) < len(slugs):
            raise ConfigError("two arms share a name", where=self.name)
        for arm in self.arms:
            self.parent(arm)

    def parent(self, arm: Arm) -> Arm | None:
        """The arm whose towers ``arm`` takes; None where it trains its own.

        Raises
        ------
        ConfigError
            If there is none of that name in the same condition.
        """
        if not arm.towers_of:
            return None
        for other in self.arms:
            if other.method == arm.towers_of and other.condition == arm.condition:
                return other
        raise ConfigError("no arm whose towers it could take", where=arm.name, got=arm.towers_of)

    def chosen(self, patterns: Iterable[str]) -> tuple[Arm, ...]:
        """Arms whose name or folder name matches one of the patterns (``*`` and ``?``); all without any.

        Raises
        ------
        ConfigError
            If a pattern matches none.

        Examples
        --------
        >>> e = Experiment("e", "", "", (Arm("clip", {}), Arm("clip-all", {}), Arm("cca", {})))
        >>> [arm.method for arm in e.chosen(["clip*"])]
        ['clip', 'clip-all']
        """
        wanted = list(patterns)
        for pattern in wanted:
            if not any(_matches(arm, pattern) for arm in self.arms):
                raise ConfigError(
                    "no such arm",
                    where=f"--arms {pattern}",
                    expected=", ".join(arm.slug for arm in self.arms),
                )
        return tuple(arm for arm in self.arms if not wanted or any(_matches(arm, p) for p in wanted))

    def varied(self) -> frozenset[str]:
        """Options that every arm decides for itself, so that a user's value would have no effect."""
        sets = [frozenset(arm.options) for arm in self.arms]
        return frozenset.intersection(*sets) if sets else frozenset()


def _matches(arm: Arm, pattern: str) -> bool:
    return any(fnmatch(text, pattern) for text in (arm.name, arm.slug, arm.method))


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
