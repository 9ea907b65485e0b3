"""Corpora and proteins for the tests of the data package."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from protclip.structure.protein import Protein


@pytest.fixture(scope="session")
def random_protein() -> Callable[..., Protein]:
    """A protein of PDB-precision coordinates with whatever can be missing missing here and there."""

    def make(id: str, n: int = 12, seed: int = 0, *, plddt: bool = False, ca_only: bool = False) -> Protein:
        rng = np.random.default_rng([seed, n])
        coords = (rng.integers(-999_999, 999_999, (n, 4, 3)) / 1000).astype(np.float32)
        coords[rng.random((n, 4)) < 0.1] = np.nan
        if ca_only:
            coords[:, [0, 2, 3]] = np.nan
        return Protein(
            id,
            "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWYBZUOJX"), n)),
            coords,
            rng.integers(-20, 2000, n).astype(np.int32),
            rng.choice(np.array([b"", b"A", b"Z"], "S1"), n),
            rng.uniform(0, 100, n).astype(np.float32) if plddt else None,
            {"water": int(rng.integers(1, 9)), "altloc": 1} if seed % 2 else {},
        )

    return make


@pytest.fixture(scope="session")
def assert_same() -> Callable[[Protein, Protein], None]:
    """Bit for bit the same protein."""

    def check(a: Protein, b: Protein) -> None:
        assert (a.id, a.sequence, dict(a.dropped)) == (b.id, b.sequence, dict(b.dropped))
        np.testing.assert_array_equal(a.coords, b.coords)
        np.testing.assert_array_equal(a.residue_number, b.residue_number)
        np.testing.assert_array_equal(a.insertion_code, b.insertion_code)
        assert (a.plddt is None) == (b.plddt is None)
        if a.plddt is not None:
            np.testing.assert_array_equal(a.plddt, b.plddt)

    return check
