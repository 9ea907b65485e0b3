"""Imports point one way, floor by floor, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import protclip
import protclip.data
import protclip.structure
import protclip.tasks

ROOT = Path(__file__).resolve().parent.parent

# From the roof down. A part may import what stands on lower floors, never its neighbours on the same floor.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("experiments",),
    ("tasks",),
    ("training", "describe"),
    ("inference",),
    ("sources",),
    ("relations", "model"),
    ("modalities",),
    ("alignment", "data", "losses"),
    ("structure",),
    ("parallel", "scoring"),
    ("config",),
    ("work",),
    ("compression", "files"),
    ("errors", "typing", "lazy"),
)
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}

# Parts that know even less than their floor allows.
KNOWS_ONLY = {
    "structure": {"compression", "errors", "typing", "lazy"},
    "losses": {"config", "parallel", "errors", "typing"},
    "alignment": {"errors", "typing"},
    "scoring": {"errors", "typing"},
    "parallel": {"errors", "typing"},
    "config": {"files", "errors", "typing"},
    "work": {"files", "errors", "typing"},
    "compression": {"errors"},
    "files": {"errors", "typing"},
    "errors": set(),
    "typing": set(),
    "lazy": set(),
}

HEAVY = {
    *("torch", "torch_geometric", "lightning_fabric", "peft", "transformers", "esm"),
    *("pandas", "pyarrow", "scipy", "sklearn", "matplotlib", "gemmi", "Bio", "biotite", "ray"),
    *("torchdrug", "rdkit"),
}


def sources() -> dict[str, Path]:
    """Module name -> file, of the package as it is installed."""
    found = {}
    for top in ("protclip", "structure", "data", "tasks"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if top == "protclip" else ("protclip", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = sources()


def imports(module: str, *, types_too: bool = True) -> Iterator[tuple[str, int]]:
    """Every imported module with its line, wherever in the file the import stands."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    skipped = set()
    if not types_too:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                skipped |= {child for part in node.body for child in ast.walk(part)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole if whole in MODULES else str(node.module)), node.lineno


def names_of_the_face(module: str) -> set[str]:
    """What a module takes from ``protclip`` itself: ``from protclip import x`` and ``protclip.x``."""
    taken = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "protclip":
            taken |= {alias.name for alias in node.names}
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "protclip"
        ):
            taken.add(node.attr)
    return {name for name in taken if f"protclip.{name}" not in MODULES}


def part(module: str) -> str:
    """``protclip.data.corpus.store`` -> ``data``; the root itself is ``""``."""
    return module.split(".")[1] if "." in module else ""


def test_every_part_has_a_floor():
    parts = {part(module) for module in MODULES} - {""}
    assert parts - set(FLOOR) == set(), "say in FLOORS where this part stands"
    assert set(FLOOR) - parts == set(), "FLOORS names a part that is gone"


def faults(module: str) -> Iterator[str]:
    """Imports of a module that do not point down, or further than its part may look."""
    mine = part(module)
    for target, line in imports(module):
        if not target.startswith("protclip"):
            continue
        other = part(target)
        where = f"{module}:{line} imports {target}"
        if other == "":  # the package itself is the roof's face; the floors below may read its version
            if mine != "cli" and not names_of_the_face(module) <= {"__version__"}:
                yield where
        elif other != mine and FLOOR[other] <= FLOOR[mine]:
            yield f"{where}, which is no lower floor"
        elif other not in {mine, *KNOWS_ONLY.get(mine, FLOOR)}:
            yield f"{where}, but {mine} knows only {KNOWS_ONLY[mine]}"


def test_imports_point_down():
    assert [fault for module in MODULES if part(module) for fault in faults(module)] == []


def test_no_circles():
    """Imports inside functions count; imports for annotations alone do not."""
    graph = {
        module: {
            t for t, _ in imports(module, types_too=False) if t in MODULES and t not in ("protclip", module)
        }
        for module in MODULES
        if module != "protclip"
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for target in sorted(graph[module]):
                visit(target, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_metrics_on_arrays_need_numpy_alone():
    scoring = [module for module in MODULES if part(module) == "scoring"]
    tops = {target.split(".")[0] for module in scoring for target, _ in imports(module)}
    assert tops - set(sys.stdlib_module_names) <= {"numpy", "protclip"}


def test_two_files_know_torch_distributed():
    users = {
        module
        for module in MODULES
        for target, _ in imports(module)
        if target == "torch.distributed" or target.startswith("torch.distributed.")
    }
    users |= {m for m, path in MODULES.items() if "torch.distributed." in path.read_text(encoding="utf-8")}
    assert users <= {"protclip.parallel.processes", "protclip.parallel.fsdp"}


@pytest.mark.parametrize(
    "arguments",
    [None, ["--help"], ["--version"], ["pretrain", "--help"], ["embed", "--help"], ["data", "--help"]],
    ids=lambda arguments: " ".join(arguments) if arguments else "import protclip",
)
def test_nothing_heavy_is_imported_early(arguments):
    call = (
        ""
        if arguments is None
        else f"sys.argv = ['protclip', *{arguments!r}]\nfrom protclip.cli import main\nmain()"
    )
    code = f"""
import atexit, sys
heavy = {sorted(HEAVY)!r}
atexit.register(lambda: print("heavy:", *(m for m in heavy if m in sys.modules), file=sys.stderr))
import protclip
{call}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "heavy:"


def test_the_face_is_complete():
    assert {"load", "Embeddings", "ProtclipError", "__version__"} <= set(protclip.__all__)
    for face in (protclip, protclip.structure, protclip.data, protclip.tasks):
        exported = getattr(face, "__all__", [])
        assert [name for name in exported if not hasattr(face, name)] == []
        assert set(exported) <= set(dir(face))
