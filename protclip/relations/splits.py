"""Who trains, who tests, and which domains keep their partner: seeded, by cluster, JSON-able."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protclip.errors import ConfigError, DataError
from protclip.relations.equal_contents import join_equal, own_names
from protclip.typing import Indices

Pools = Literal["shuffled", "disjoint"]


@dataclass(frozen=True, eq=False)
class Splits:
    """Corpus indices of the three parts, int64, each sorted; together every protein once."""

    train: Indices
    valid: Indices
    test: Indices

    def to_dict(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """The parts as ids, to be stored with a run."""
        return {name: [ids[i] for i in getattr(self, name)] for name in ("train", "valid", "test")}


class Pairing(NamedTuple):
    """Which training domains are matched pairs and which are not; corpus indices, int64.

    Attributes
    ----------
    paired
        Domains whose structure and sequence are shown together, sorted.
    unpaired
        For each side the domains of which it alone is given, in a random order of its own. The same domains
        for both with ``pools="shuffled"``, others with ``pools="disjoint"``.
    """

    paired: Indices
    unpaired: tuple[Indices, Indices]


def split_by_superfamily(
    codes: Sequence[str] | NDArray[np.str_],
    ids: Sequence[str],
    *,
    valid: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    contents: Sequence[str] | None = None,
) -> Splits:
    """Hold out whole superfamilies for validation and test.

    Superfamilies are drawn in random order; each goes to the test part if it still has room for all of
    it, else to the validation part, else to training. Parts so come within one small superfamily of
    the fractions asked for, and a superfamily larger than a part always trains. A domain without a
    code counts as a superfamily of its own: nothing is known about its relatives. Superfamilies that share
    a domain's content count as one, where `contents` are given: a copy of a training domain tests nothing.

    Parameters
    ----------
    codes
        ``C.A.T.H`` of each domain, n of them, empty where unknown.
    ids
        Domain ids, n of them.
    valid, test
        Fractions of the domains, at least 0, together less than 1.
    seed
        Of the draw; the result does not depend on the order of the domains.
    contents
        What makes two domains copies where it is equal, such as their sequences; n of them.

    Raises
    ------
    ConfigError
        If a fraction is out of range.
    DataError
        If there are too few superfamilies to fill every part asked for.

    Examples
    --------
    >>> codes = ["1.1.1.1"] * 6 + ["1.1.1.2", "2.1.1.1", "2.1.1.1", "3.1.1.1"]
    >>> parts = split_by_superfamily(codes, [f"d{i}" for i in range(10)], valid=0.1, test=0.2, seed=0)
    >>> [len(part) for part in (parts.train, parts.valid, parts.test)]
    [7, 1, 2]
    """
    for name, value in (("valid", valid), ("test", test)):
        if not 0 <= value < 1:
            raise ConfigError("fraction out of range", where=name, got=str(value), expected="0 to 1")
    if valid + test >= 1:
        raise ConfigError(
            "nothing left for training", where="valid + test", got=f"{valid + test:g}", expected="less than 1"
        )
    if contents is not None:
        codes = join_equal(codes, ids, contents)
    groups = _groups(own_names(codes, ids), ids)
    wanted = {"test": test, "valid": valid}
    wanted = {name: fraction for name, fraction in wanted.items() if fraction > 0}
    if len(groups) <= len(wanted):
        raise DataError(
            "too few superfamilies to hold some out",
            got=f"{len(groups)} over {len(ids)} domains",
            expected=f"at least {len(wanted) + 1}",
            hint="Use a larger corpus or set the held-out fractions to 0",
        )
    rest = _shuffled(groups, seed)
    parts: dict[str, list[Indices]] = {}
    for left, (name, fraction) in enumerate(wanted.items(), 1):
        target = max(1, round(fraction * len(ids)))
        # One superfamily at least for every part still to come, training among them.
        taken, rest = _fill(rest, target, at_least_one=True, leave=len(wanted) + 1 - left)
        parts[name] = taken
    parts["train"] = rest
    return Splits(*(_join(parts.get(name, [])) for name in ("train", "valid", "test")))


def assign_pairs(
    clusters: Sequence[str] | NDArray[np.str_],
    paired: float,
    seed: int,
    pools: Pools = "shuffled",
    *,
    ids: Sequence[str] | None = None,
    index: Sequence[int] | Indices | None = None,
) -> Pairing:
    """Decide which training domains keep their structure-sequence pairing, by whole clusters.

    Near-duplicates of a pair would be pairs by the back door, so a cluster is paired as a whole or not
    at all; the number of pairs comes within one cluster of the target. With ``pools="disjoint"`` the
    unpaired clusters are dealt into two halves, so that no partner, nor a near-duplicate of it, exists
    on the other side.

    Parameters
    ----------
    clusters
        Cluster of each domain of the corpus, see :func:`pairing_clusters`; an empty name is a cluster
        of its own.
    paired
        Share of the domains that stays paired, 0 to 1, both included.
    seed
        Of the draw; with `ids` the result does not depend on the order of the domains.
    pools
        ``"shuffled"`` (every unpaired structure has its partner among the unpaired sequences) or
        ``"disjoint"`` (none has).
    ids
        Id of each domain; its place in `clusters` by default.
    index
        The domains to assign (the training part); all by default. The result holds these numbers.

    Raises
    ------
    ConfigError
        If `paired` or `pools` is not one of the above.

    Examples
    --------
    >>> pairs = assign_pairs(["a", "a", "b", "b"], 0.5, seed=1)
    >>> len(pairs.paired), sorted(pairs.unpaired[0]) == sorted(pairs.unpaired[1])
    (2, True)
    """
    if not 0 <= paired <= 1:
        raise ConfigError("fraction out of range", where="--paired", got=str(paired), expected="0 to 1")
    if pools not in ("shuffled", "disjoint"):
        raise ConfigError("unknown pools", where="--pools", got=repr(pools), expected="shuffled or disjoint")
    if ids is None:
        ids = [f"{i:012d}" for i in range(len(clusters))]
    chosen = np.arange(len(ids)) if index is None else np.asarray(index, np.int64)
    names = own_names([clusters[i] for i in chosen], own := [ids[i] for i in chosen])
    groups = [chosen[group] for group in _groups(names, own)]
    rng = np.random.default_rng([seed, 1])
    target = max(round(paired * len(chosen)), int(paired > 0))
    kept, rest = _fill(_shuffled(groups, seed), target, at_least_one=paired > 0)
    halves = (rest, rest)
    if pools == "disjoint":
        n_rest = sum(map(len, rest))
        halves = _fill(rest, (n_rest + 1) // 2, at_least_one=n_rest > 0)
    first, second = (rng.permutation(_join(half)) for half in halves)
    return Pairing(_join(kept), (first, second))


def pairing_clusters(codes: NDArray[np.str_], clusters: NDArray[np.str_]) -> NDArray[np.str_]:
    """Cluster of each domain for :func:`assign_pairs`: S35 where known, else the superfamily.

    Examples
    --------
    >>> pairing_clusters(np.array(["1.10.8.10", "2.30.30.40"]), np.array(["1.10.8.10.1", ""])).tolist()
    ['1.10.8.10.1', '2.30.30.40']
    """
    return np.where(clusters == "", codes, clusters)


def _groups(names: list[str], ids: Sequence[str]) -> list[Indices]:
    """Positions of equal names; in the order of names and ids, so that file order does not matter."""
    members: dict[str, list[int]] = {}
    for i in sorted(range(len(ids)), key=lambda i: (names[i], ids[i])):
        members.setdefault(names[i], []).append(i)
    return [np.array(member, np.int64) for member in members.values()]


def _shuffled(groups: list[Indices], seed: int) -> list[Indices]:
    return [groups[i] for i in np.random.default_rng([seed, 0]).permutation(len(groups))]


def _fill(
    groups: list[Indices], target: int, *, at_least_one: bool, leave: int = 0
) -> tuple[list[Indices], list[Indices]]:
    """Take groups in order while they fit, then one more if that comes nearer to the target."""
    most = len(groups) - leave
    taken: list[Indices] = []
    rest: list[Indices] = []
    room = target
    for group in groups:
        if len(group) <= room and len(taken) < most:
            taken.append(group)
            room -= len(group)
        else:
            rest.append(group)
    if rest and room > 0 and len(taken) < most:
        k = min(range(len(rest)), key=lambda k: len(rest[k]))
        if abs(len(rest[k]) - room) < room or (at_least_one and not taken):
            taken.append(rest.pop(k))
    return taken, rest


def _join(groups: list[Indices]) -> Indices:
    return np.sort(np.concatenate(groups)) if groups else np.zeros(0, np.int64)


_PDB_CODE = re.compile(
    r"(?:pdb|[degm])?([0-9][a-z0-9]{3})"  # SCOP's d1abca_ and the archive's pdb1abc.ent
    r"(?:[a-z0-9]|[a-z0-9][0-9]{2}|[a-z0-9._][a-z0-9_]|[-_.].*)?"  # chain, domain, or after a separator
)


def pdb_code(id: str) -> str | None:
    """PDB code in a domain or chain id (``1oaiA00``, ``1abc_A``, ``4fae.B``, ``d1abca_``), lower case.

    Examples
    --------
    >>> [pdb_code(id) for id in ("1oaiA00", "1ABC-A", "4fae.B", "d1abca_", "pdb1abc", "AF-P12345-F1")]
    ['1oai', '1abc', '4fae', '1abc', '1abc', None]
    """
    match = _PDB_CODE.fullmatch(id.lower())
    return match[1] if match else None


def overlap_by_pdb(known: Sequence[str], asked: Sequence[str]) -> list[str]:
    """The ids ``asked`` whose PDB entry also occurs among those ``known`` (test set and training, say).

    Ids without a PDB code cannot be compared and are never reported.

    Examples
    --------
    >>> overlap_by_pdb(["1oaiA00", "1oaiB01", "2abcA00"], ["1OAI_C", "3xyz_A"])
    ['1OAI_C']
    """
    codes = {code for code in map(pdb_code, known) if code}
    return [id for id in asked if pdb_code(id) in codes]
