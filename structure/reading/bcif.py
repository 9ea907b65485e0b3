"""BinaryCIF, through biotite (the optional extra ``protclip[bcif]``)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protclip.errors import StructureError
from protclip.structure.reading.atoms import ATOM, HETATM, POLYMER, UNKNOWN, WATER, AtomTable
from protclip.structure.reading.confidence import names_experiment, names_predictor
from protclip.structure.reading.residues import name_key

_MOST_ATOMS = 50_000_000
_NOT_POLYMER = 2
_ENTITY = {
    "polymer": POLYMER,
    "water": WATER,
    "non-polymer": _NOT_POLYMER,
    "branched": 3,
    "macrolide": _NOT_POLYMER,
}


def table_from_bcif(data: bytes, where: str, chain_ids: str) -> AtomTable:
    """Flat atoms of the first model of the first block that has atoms.

    Raises
    ------
    StructureError
        If biotite is not installed or the content is damaged.
    """
    try:
        import msgpack  # type: ignore[import-untyped]  # lazy: comes with biotite, the optional extra
        from biotite.structure.io.pdbx import BinaryCIFFile
    except ImportError:
        raise StructureError(
            "BinaryCIF needs biotite",
            where=where,
            got="biotite is not installed",
            expected="the extra 'bcif'",
            hint="pip install 'protclip[bcif]', or convert the file to mmCIF",
        ) from None
    try:
        content = msgpack.unpackb(data, use_list=True, raw=False)
        for block in content["dataBlocks"]:
            for category in block["categories"]:
                _check_sizes(category)
        file = BinaryCIFFile.deserialize(content)
        for name in file:
            if "atom_site" in file[name]:
                return _table(file[name], chain_ids)
    except StructureError as error:
        raise StructureError(error.message, where=where, got=error.got, expected=error.expected) from None
    except Exception as error:  # msgpack and biotite let any built-in exception through on damaged input
        raise StructureError(
            "cannot parse this BinaryCIF file",
            where=where,
            got=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            expected="a complete, well-formed file",
        ) from None
    raise StructureError("no atoms", where=where, got="no atom_site category", expected="a protein structure")


def _check_sizes(category: dict[str, Any]) -> None:
    """Refuse a category whose decoded size does not fit its row count.

    A damaged size field would otherwise allocate gigabytes.
    """
    rows = int(category["rowCount"])
    # Run-length codes hold two numbers for a run; a string column has no more strings than rows.
    limit = 2 * rows + 2
    pending: list[Any] = [category["columns"]]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            pending.extend(v for v in item.values() if isinstance(v, list | dict))
            size = item.get("srcSize", None if item.get("kind") == "RunLength" else 0)
            if not isinstance(size, int) or not 0 <= size <= limit or rows > _MOST_ATOMS:
                raise StructureError(
                    "BinaryCIF sizes contradict each other",
                    got=f"{size!r} values in a table of {rows} rows",
                    expected=f"at most {limit}",
                )


def _table(block: Any, chain_ids: str) -> AtomTable:
    site = block["atom_site"]
    n = site.row_count

    def text(name: str, *fallback: str) -> NDArray[np.str_]:
        for key in (name, *fallback):
            if key in site:
                column: NDArray[np.str_] = site[key].as_array(str, masked_value="")
                return np.where((column == ".") | (column == "?"), "", column)
        return np.full(n, "")

    def number(name: str, default: float) -> NDArray[np.float64]:
        if name not in site:
            return np.full(n, default)
        return np.asarray(site[name].as_array(np.float64, masked_value=default))

    model = text("pdbx_PDB_model_num")
    labels = text("label_asym_id") if chain_ids == "label" else text("auth_asym_id", "label_asym_id")
    kinds, entity_names = _entities(block), text("label_entity_id")
    chain, long_names = chain_keys(labels)
    residue_number = text("auth_seq_id", "label_seq_id")
    table = AtomTable(
        chain=chain,
        residue=name_keys(text("label_comp_id", "auth_comp_id")),
        atom=name_keys(text("label_atom_id", "auth_atom_id")),
        number=np.where(residue_number == "", str(-(2**31)), residue_number).astype(np.int32),
        icode=characters(text("pdbx_PDB_ins_code")),
        altloc=characters(text("label_alt_id")),
        occupancy=number("occupancy", 1.0).astype(np.float32),
        b_factor=number("B_iso_or_equiv", np.nan).astype(np.float32),
        xyz=np.stack([number(f"Cartn_{axis}", np.nan) for axis in "xyz"], 1),
        record=np.where(text("group_PDB") == "HETATM", HETATM, ATOM).astype(np.uint8),
        hydrogen=np.zeros(0, np.intp),
        entity=np.array([kinds.get(e, UNKNOWN) for e in entity_names.tolist()], np.uint8),
        long_names=long_names,
        models=len(np.unique(model)) if n else 1,
    )
    _declare(table, block, text("label_asym_id"), text("label_seq_id"))
    rows = grouped(table, model)
    table.hydrogen = np.flatnonzero(np.isin(text("type_symbol"), ["H", "D"])[rows])
    return table


def grouped(table: AtomTable, model: NDArray[np.str_]) -> NDArray[np.intp]:
    """Keep (in place) the first model, and give the rows that stay, in their order.

    The atoms of each chain and residue come side by side, as gemmi has them.
    """
    rows = np.flatnonzero(model == model[0]) if len(model) else np.zeros(0, np.intp)
    place: dict[tuple[int, ...], int] = {}
    chains: dict[int, int] = {}
    columns = (table.chain, table.number, table.icode, table.residue)
    order = []
    for key in zip(*(c[rows].tolist() for c in columns), strict=True):
        order.append((chains.setdefault(key[0], len(chains)), place.setdefault(key, len(place))))
    rows = rows[np.lexsort(np.array(order, np.intp).reshape(-1, 2).T[::-1])]
    for name in (
        "chain", "residue", "atom", "number", "icode", "altloc", "occupancy", "b_factor", "xyz", "record",
        "entity",
    ):  # fmt: skip
        setattr(table, name, getattr(table, name)[rows])
    return rows


def name_keys(names: NDArray[np.str_]) -> NDArray[np.uint64]:
    """:func:`protclip.structure.reading.residues.name_key` of many names [n]."""
    return np.char.encode(names, "ascii", "replace").astype("S8").view(np.uint64)


def characters(text: NDArray[np.str_]) -> NDArray[np.uint8]:
    """The first character of each text [n]; 0 for none."""
    return np.char.encode(text, "ascii", "replace").astype("S1").view(np.uint8)


def chain_keys(labels: NDArray[np.str_]) -> tuple[NDArray[np.uint64], dict[int, str]]:
    """Keys [n] of chain names, and the names behind the keys where they do not fit in."""
    names, inverse = np.unique(labels, return_inverse=True)
    if max((len(name) for name in names), default=0) <= 8:
        return name_keys(labels), {}
    short = np.array([name_key(f"~{i:x}") for i in range(len(names))], np.uint64)
    return short[inverse], {int(key): str(name) for key, name in zip(short, names, strict=True)}


def _entities(block: Any) -> dict[str, int]:
    if "entity" not in block or "type" not in block["entity"]:
        return {}
    ids = block["entity"]["id"].as_array(str)
    kinds = block["entity"]["type"].as_array(str)
    return {str(i): _ENTITY.get(str(k), UNKNOWN) for i, k in zip(ids, kinds, strict=True)}


def _column(block: Any, category: str, column: str) -> list[str]:
    if category not in block or column not in block[category]:
        return []
    return [str(value) for value in block[category][column].as_array(str, masked_value="")]


def _declare(table: AtomTable, block: Any, asym: NDArray[np.str_], seq: NDArray[np.str_]) -> None:
    """Set ``predicted``, and pLDDT from ``ma_qa_metric_local`` where it is there."""
    names = zip(_column(block, "ma_qa_metric", "id"), _column(block, "ma_qa_metric", "name"), strict=True)
    wanted = {i for i, name in names if "plddt" in name.lower()}
    columns = [
        _column(block, "ma_qa_metric_local", c)
        for c in ("metric_id", "label_asym_id", "label_seq_id", "metric_value")
    ]
    value = {(a, s): float(v) for i, a, s, v in zip(*columns, strict=True) if i in wanted}
    if value:
        pairs = zip(asym.tolist(), seq.tolist(), strict=True)
        table.b_factor = np.array([value.get(p, np.nan) for p in pairs], np.float32)
        table.predicted = True
        return
    if names_experiment(" ".join(_column(block, "exptl", "method"))):
        table.predicted = False
        return
    text = (
        _column(block, "software", "name") + _column(block, "entry", "id") + _column(block, "struct", "title")
    )
    table.predicted = True if names_predictor(" ".join(text)) else None
