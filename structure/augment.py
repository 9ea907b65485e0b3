"""Random views of a protein structure for the self-supervised losses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from protclip.errors import ConfigError
from protclip.structure.protein import Protein


def augment_structure(
    protein: Protein, rng: np.random.Generator, *, noise: float = 0.05, drop: float = 0.1, crop: float = 0.7
) -> Protein:
    """A view of a protein: a contiguous crop, some of its residues left out, atoms moved.

    The view is numbered by the protein's sequence coordinate (:attr:`Protein.position`), so that the offsets
    between its residues are those in the protein, with gaps where residues were left out.  A view has at
    least one residue, and at least one with a C-alpha if the protein has one.

    Parameters
    ----------
    protein : Protein
    rng : numpy.random.Generator
        Source of all randomness: equal states give equal views.
    noise : float
        Standard deviation in Angstrom of the normal displacement of every coordinate.
    drop : float
        Probability of leaving a residue out, 0 to below 1.
    crop : float
        Smallest fraction of the residues kept by cropping, above 0 to 1; the fraction is drawn evenly from
        there to 1.  1 never crops.

    Raises
    ------
    ConfigError
        If a parameter is out of range.

    Examples
    --------
    >>> chain = Protein.from_ca("a", "GAVLIMFP", np.arange(24.0).reshape(8, 3))
    >>> view = augment_structure(chain, np.random.default_rng(1), drop=0.4, crop=1.0)
    >>> view.sequence, view.position.tolist()
    ('GVIMFP', [0, 2, 4, 5, 6, 7])
    """
    _check("noise", noise, noise >= 0, "0 or more Angstrom")
    _check("drop", drop, 0 <= drop < 1, "0 to below 1")
    _check("crop", crop, 0 < crop <= 1, "above 0 to 1")
    length = len(protein)
    # The same draws whatever the parameters, so that switching one off leaves the others' outcome alone.
    kept = max(1, round(length * float(rng.uniform(crop, 1.0))))
    start = int(rng.integers(length - kept + 1))
    keep = rng.random(length) >= drop
    keep[:start] = False
    keep[start + kept :] = False
    has_ca = protein.has_ca
    if not (keep & has_ca).any():
        keep[rng.choice(np.flatnonzero(has_ca) if has_ca.any() else length)] = True
    moved = protein.coords + rng.normal(0.0, noise, protein.coords.shape).astype(np.float32)
    view = replace(
        protein,
        coords=moved,
        residue_number=protein.position + 1,
        insertion_code=np.zeros(length, protein.insertion_code.dtype),
    )
    return view.select(keep)


def _check(name: str, value: float, good: bool, expected: str) -> None:
    if not good:
        raise ConfigError(
            "value out of range",
            where=f"augmentation of structures, {name}",
            got=str(value),
            expected=expected,
        )
