"""The core knows no modality by name: what is particular to one stands in adapters and sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "protclip"

# Adapters and sources; and the verbs of the downstream tasks and corpora, which are about proteins.
PARTICULAR = {
    *("modalities", "sources", "config/protein_options.py", "config/folder_options.py"),
    *("errors.py", "inference/shortcuts.py"),
    *("cli/finetune.py", "cli/predict.py", "cli/data.py", "cli/benchmarks.py"),
    *("describe/datasets.py", "describe/protein_files.py"),
}

IDENTIFIER = re.compile(r"structures?|sequences?|images?|captions?|photos?|residue_types?|esm2?", re.I)
WORD = re.compile(r"\b(structures?|sequences?|images?|captions?|photos?|esm2?|esm-2)\b", re.I)

# Lists of Python and seeds of numpy.
OTHER_MEANINGS = {"Sequence", "SeedSequence"}

CORE = [
    path
    for path in sorted(ROOT.rglob("*.py"))
    if not {path.relative_to(ROOT).as_posix(), path.relative_to(ROOT).parts[0]} & PARTICULAR
]


def documentation(tree: ast.AST) -> set[int]:
    """Identities of the constants that are docstrings."""
    found = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            for part in body:
                if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
                    found.add(id(part.value))
    return found


def mentions(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    docs = documentation(tree)
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            if WORD.search(node.value) or node.value == "text":
                yield f"line {line}: {node.value!r}"
            continue
        for name in (getattr(node, key, None) for key in ("id", "attr", "arg", "name")):
            if isinstance(name, str) and IDENTIFIER.search(name) and name not in OTHER_MEANINGS:
                yield f"line {line}: {name}"


def test_no_modality_is_named() -> None:
    found = {path.relative_to(ROOT).as_posix(): list(mentions(path)) for path in CORE}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_names_are_found_where_they_are() -> None:
    found = " ".join(mentions(ROOT / "sources" / "proteins.py"))
    assert "'sequence'" in found
    assert "StructureModality" in found
