"""Draw the rooms of the code and who imports whom, from the imports themselves.

    python docs/map.py          # writes docs/map.svg

A room is a folder or file directly inside the package; they stand on the floors of ``tests/test_imports.py``.
An arrow says "imports"; one that a longer way says already is left out. What nearly every room uses is the
ground at the bottom, without arrows.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DRAWING = ROOT / "docs" / "map.svg"
GROUND = ("config", "files", "work", "compression", "errors", "typing", "lazy")
ROOF = "__main__"

# Where a room stands from left to right, in boxes; others are spread over their floor.
PLACE = {
    "cli": 1.5,
    "experiments": 1.0,
    "tasks": 1.0,
    "training": 1.0,
    "describe": 3.0,
    "inference": 2.0,
    "sources": 3.6,
    "relations": 3.2,
    "model": 2.2,
    "modalities": 2.6,
    "losses": 0.2,
    "alignment": 1.1,
    "data": 2.8,
    "structure": 2.8,
    "parallel": 0.2,
    "scoring": 3.9,
}
OWN_FOLDER = ("structure", "data", "tasks")
COLUMN, ROW, BOX, TALL, MARGIN = 150, 62, 118, 30, 78


def floors() -> list[tuple[str, ...]]:
    """The floors from the roof down, as the test of the imports lists them."""
    tree = ast.parse((ROOT / "tests" / "test_imports.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "FLOORS" and node.value:
            return [tuple(floor) for floor in ast.literal_eval(node.value)]
    raise ValueError("tests/test_imports.py has no FLOORS")


def room_imports() -> dict[str, set[str]]:
    """Room -> rooms that any of its modules imports, also inside functions."""
    rooms = {room for floor in floors() for room in floor}
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for top in ("protclip", "structure", "data", "tasks"):
        for path in sorted((ROOT / top).rglob("*.py")):
            inside = path.relative_to(ROOT / "protclip") if top == "protclip" else path.relative_to(ROOT)
            room = inside.parts[0].removesuffix(".py")
            for name in re.findall(r"^\s*(?:from|import) protclip\.(\w+)", path.read_text("utf-8"), re.M):
                if room in rooms and name in rooms and name != room:
                    found[room].add(name)
    return found


def arrows(imports: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Imports that no longer way says already."""

    def below(room: str) -> set[str]:
        return set().union(*({other} | below(other) for other in imports[room]))

    return sorted(
        (room, other)
        for room, others in imports.items()
        for other in others
        if not any(other in below(between) for between in others - {other})
    )


def drawing() -> str:
    """The drawing, as SVG."""
    imports = {
        room: {other for other in others if other not in GROUND}
        for room, others in room_imports().items()
        if room not in (*GROUND, ROOF)
    }
    rows = [[room for room in floor if room in imports] for floor in floors()]
    rows = [row for row in rows if row]
    centre = {}
    for number, row in enumerate(rows):
        for place, room in enumerate(row):
            column = PLACE.get(room, 4 * (place + 1) / (len(row) + 1))
            centre[room] = (round(MARGIN + COLUMN * column), 30 + ROW * number)
    drawn = arrows(imports)
    reached = {other for _, other in drawn}
    width, bottom = 2 * MARGIN + 4 * COLUMN, 30 + ROW * len(rows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{bottom + 40}"'
        ' font-family="sans-serif" font-size="14">',
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#555"/></marker></defs>',
        f'<rect width="{width}" height="{bottom + 40}" fill="white"/>',
    ]
    for room, other in drawn:
        (x, y), (to_x, to_y) = centre[room], centre[other]
        lines.append(
            f'<line x1="{x}" y1="{y + TALL // 2}" x2="{to_x}" y2="{to_y - TALL // 2}"'
            ' stroke="#555" marker-end="url(#tip)"/>'
        )
    for room, (x, y) in centre.items():
        lines += _box(room, x, y, BOX, "#e3f0e3" if room in OWN_FOLDER else "#e8eef7")
        if room not in reached and room != rows[0][0]:
            lines.append(
                f'<text x="{x}" y="{y - 20}" text-anchor="middle" font-size="11" fill="#555">'
                "found by name</text>"
            )
    ground = [room for floor in floors() for room in floor if room in GROUND]
    lines += _box("used by all: " + ", ".join(ground), width // 2, bottom + 10, width - 40, "#f3eee0")
    return "\n".join([*lines, "</svg>"]) + "\n"


def _box(text: str, x: int, y: int, wide: int, colour: str) -> list[str]:
    return [
        f'<rect x="{x - wide // 2}" y="{y - TALL // 2}" width="{wide}" height="{TALL}" rx="5"'
        f' fill="{colour}" stroke="#888"/>',
        f'<text x="{x}" y="{y + 5}" text-anchor="middle">{text}</text>',
    ]


if __name__ == "__main__":
    DRAWING.write_text(drawing(), encoding="utf-8")
