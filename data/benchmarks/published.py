"""The benchmarks as they were published: how many chains, classes and cut-offs, and under which name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from protclip.errors import ConfigError

TaskName = Literal["fold", "reaction", "go-mf", "go-bp", "go-cc", "ec"]
TASK_NAMES: tuple[str, ...] = get_args(TaskName)
SINGLE_LABEL = ("fold", "reaction")
"""Tasks with exactly one class for each protein; the others have any number."""


@dataclass(frozen=True)
class Published:
    """One version of a benchmark.

    Attributes
    ----------
    version : str
        Name under which results are reported.
    counts : mapping of str to int
        Chains of each split.
    classes : int
        Number of classes.
    subsets : mapping of str to int
        Test chains at each identity cut-off, in percent.
    """

    version: str
    counts: Mapping[str, int]
    classes: int
    subsets: Mapping[str, int] = field(default_factory=dict)


_EC_CUTOFFS = {"30": 720, "40": 902, "50": 1117, "70": 1476, "95": 1919}
_GO_CUTOFFS = {"30": 1717, "40": 1937, "50": 2199, "70": 2733, "95": 3416}


def _three(train: int, valid: int, test: int) -> dict[str, int]:
    return {"train": train, "valid": valid, "test": test}


def _go(classes: int) -> tuple[Published, ...]:
    return (
        Published("DeepFRI nrPDB-GO 2019.06.18", _three(29902, 3323, 3416), classes, _GO_CUTOFFS),
        Published("torchdrug GeneOntology", _three(27496, 3053, 2991), classes),
    )


PUBLISHED: dict[str, tuple[Published, ...]] = {
    "fold": (
        Published(
            "HomologyTAPE SCOP 1.75",
            {"train": 12312, "valid": 736, "test_fold": 718, "test_superfamily": 1254, "test_family": 1272},
            1195,
        ),
    ),
    "reaction": (Published("ProtFunct", _three(29215, 2562, 5651), 384),),
    "go-mf": _go(489),
    "go-bp": _go(1943),
    "go-cc": _go(320),
    "ec": (
        Published("DeepFRI nrPDB-EC 2020.04", _three(15551, 1729, 1919), 538, _EC_CUTOFFS),
        Published("torchdrug EnzymeCommission", _three(15011, 1664, 1840), 538),
    ),
}
"""Versions in circulation, by task."""


def check_task(task: str) -> None:
    """Refuse anything but the name of a task.

    Raises
    ------
    ConfigError
        The name is unknown.
    """
    if task not in TASK_NAMES:
        raise ConfigError("unknown task", where="task", got=repr(task), expected=", ".join(TASK_NAMES))


def recognise(
    task: str, counts: Mapping[str, int], classes: int, *, packaged: bool = False
) -> tuple[str, Published | None]:
    """Name the version that lists belong to, by what they contain.

    Parameters
    ----------
    task
    counts
        Listed chains of each split.
    classes
        Number of classes.
    packaged
        Whether the splits are the folders of a torchdrug archive.  Its published numbers count the chains
        that torchdrug could read, so that the archive holds at least as many.

    Returns
    -------
    version : str
    published : Published or None
        What the counts are compared with; None for lists that no publication knows.

    Examples
    --------
    >>> recognise("ec", {"train": 15551, "valid": 1729, "test": 1919}, 538)[0]
    'DeepFRI nrPDB-EC 2020.04'
    >>> recognise("ec", {"train": 3, "valid": 1, "test": 1}, 2)[0]
    'unpublished lists (3 train, 1 valid, 1 test; 2 classes)'
    """
    check_task(task)
    named = ", ".join(f"{n} {name}" for name, n in counts.items())
    for published in PUBLISHED[task]:
        if published.classes != classes:
            continue
        exact = dict(counts) == dict(published.counts)
        if exact:
            return published.version, published
        if packaged and published.version.startswith("torchdrug"):
            near = all(n <= counts.get(name, 0) <= 1.1 * n for name, n in published.counts.items())
            if near:
                return published.version, published
    kind = "unpublished torchdrug archive" if packaged else "unpublished lists"
    return f"{kind} ({named}; {classes} classes)", None
