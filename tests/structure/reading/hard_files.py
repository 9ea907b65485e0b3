"""Files of a megabyte that are meant to take long; run as a script with a time limit."""

from __future__ import annotations

import gzip
import random
import sys

from protclip.errors import ProtclipError
from protclip.structure import read_chains
from protclip.structure.reading.source import Content

SIZE = 1 << 20
CHAINS = [bytes([a, b]) for a in range(48, 123) for b in range(48, 123)]


def record(
    i: int, *, name: bytes = b" CA ", residue: bytes = b"GLY", chain: bytes = b" A", number: int = 1,
    icode: bytes = b" ", x: bytes = b"   1.000", kind: bytes = b"ATOM  ", element: bytes = b" C",
) -> bytes:  # fmt: skip
    front = (
        kind + b"%5d " % (i % 100_000) + name + b" " + residue + chain + b"%4d" % (number % 10_000) + icode
    )
    return front + b"   " + x + b"   2.000   3.000  1.00 10.00          " + element + b"\n"


def fill(text: bytes) -> bytes:
    return text * (SIZE // len(text))


def files() -> dict[str, bytes]:
    """Repetitions of what a reader has to look at twice, and tables without end."""
    rng = random.Random(0)
    count = SIZE // 80
    name = [bytes(rng.choices(range(65, 91), k=3)) for _ in range(count)]
    axes = b"".join(b"_atom_site.%s\n" % c for c in (b"Cartn_x", b"Cartn_y", b"Cartn_z", b"label_atom_id",
                                                     b"label_comp_id", b"label_seq_id"))  # fmt: skip
    many = range(count)
    return {
        "comments": fill(b"# \n"), "comments, then words": fill(b"# x\n") + b"word", "one comment":
        fill(b"#"), "blanks": fill(b" "), "line feeds": fill(b"\n"), "carriage returns": fill(b"\r"),
        "comment of blanks": b"#" + fill(b" "), "indented comments": fill(b" #\n") + b"word",
        "blocks": fill(b"data_x\n"), "different blocks": b"".join(b"data_%d\n_entry.id x\n" % i for i in
        many), "loops": b"data_x\n" + fill(b"loop_\n"), "text fields": b"data_x\n_a\n;" + fill(b"x\n"),
        "quotes": b"data_x\n_a '" + fill(b"' "),
        "atoms of no kind": b"data_x\nloop_\n" + axes + fill(b"1 2 ? CA GLY 1\n"),
        "models": fill(b"MODEL     \n"), "ends": fill(b"END\n"), "ters": fill(b"TER\n"), "remarks":
        fill(b"REMARK\n"), "models with an atom": fill(b"MODEL     \n" + record(1) + b"ENDMDL\n"),
        "entries with an atom": fill(b"END\n" + record(1)), "cut records": b"ATOM  \n" + fill(b"ATOM\n"),
        "one atom": fill(record(1)), "one residue": b"".join(record(i, residue=name[i]) for i in many),
        "residues": b"".join(record(i, number=i, residue=name[i]) for i in many),
        "insertion codes": b"".join(record(i, number=i % 9, icode=bytes([65 + i % 26])) for i in many),
        "odd numbers": b"".join(record(i, number=i, x=b"   %-5s" % (b"%.2f" % (i % 99))) for i in many),
        "chains": b"".join(
            record(i, chain=CHAINS[i % len(CHAINS)], kind=(b"ATOM  ", b"HETATM")[i % 2]) for i in many
        ),
        "modified residues": b"".join(
            record(i, chain=CHAINS[i // 2 % len(CHAINS)], number=i % 7, residue=b"MSE", kind=(b"ATOM  ",
            b"HETATM")[i % 2]) for i in many
        ),
        "far residues": b"".join(
            record(i, number=i, x=b"%8.3f" % (i * 7 % 9999), kind=(b"ATOM  ", b"HETATM")[i % 3 > 0]) for i in
            many
        ),
        "calcium": b"".join(record(i, name=b"CA  ", residue=name[i], number=i, element=b"") for i in many),
        "conformers": b"".join(record(i, number=i // 20).replace(b"CA  ", b"CA " + bytes([65 + i % 26])) for
        i in many), "wide serials": b"".join(b"ATOM  %7d " % (10**6 + i) + record(i)[12:] for i in many),
        "modified names": fill(b"MODRES 1ABC MSE A    1  MET  X\n") + record(1),
        "a web page": b"<html" + fill(b"<"), "maps": b"\x8fdataBlocks" + fill(b"\x91"),
        "noise": rng.randbytes(SIZE), "packed noise": b"\x1f\x8b\x08\0" + rng.randbytes(SIZE),
        "packed nothings": fill(gzip.compress(b"")),
    }  # fmt: skip


if __name__ == "__main__":
    for name, data in files().items():
        print(name, flush=True)
        try:
            read_chains(Content(name, data))
        except ProtclipError as error:
            print(" ", str(error)[:70].encode("ascii", "replace").decode(), file=sys.stderr)
    print("done")
