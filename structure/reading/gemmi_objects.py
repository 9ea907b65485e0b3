"""gemmi structures, models and chains as flat atoms."""

from __future__ import annotations

import gemmi

from protclip.structure.reading.atoms import AtomTable, table_from_gemmi
from protclip.structure.reading.confidence import names_experiment, names_predictor


def table_from_gemmi_object(
    source: gemmi.Structure | gemmi.Model | gemmi.Chain, chain_ids: str
) -> tuple[AtomTable, str]:
    """Flat atoms of the first model, and the name of the structure or chain; ``source`` stays as it is.

    Predictions are known by the title and the software that the structure names; their confidence is taken
    from the B-factors, since gemmi keeps no other.
    """
    structure = _structure(source)
    name = "" if isinstance(source, gemmi.Model) else source.name.strip()
    predicted = _declares_prediction(structure)
    parents = {m.res_id.name: m.parent_comp_id for m in structure.mod_residues}
    table = table_from_gemmi(structure, chain_ids)
    table.predicted, table.parents = predicted, parents
    return table, name


def _structure(source: gemmi.Structure | gemmi.Model | gemmi.Chain) -> gemmi.Structure:
    """A copy: flattening takes models away and renames long chains."""
    if isinstance(source, gemmi.Structure):
        return source.clone()
    if isinstance(source, gemmi.Chain):
        model = gemmi.Model(1)
        model.add_chain(source)
    else:
        model = source
    structure = gemmi.Structure()
    structure.add_model(model)
    return structure


def _declares_prediction(structure: gemmi.Structure) -> bool | None:
    info = dict(structure.info)
    if names_experiment(info.get("_exptl.method", "")):
        return False
    named = [info.get("_struct.title", ""), structure.name, *structure.raw_remarks]
    named += [software.name for software in structure.meta.software]
    return True if names_predictor(" ".join(named)) else None
