"""Faces of packages: names that are imported when they are first used, and written down once."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.abc import InspectLoader
from typing import Any


def attach(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package that imports its names at first use.

    The names stand in one place, the imports under ``if TYPE_CHECKING:`` of its ``__init__``: type checkers
    follow them, Python skips them, and this function reads them. So ``import protclip`` loads no torch.

    Parameters
    ----------
    package : str
        ``__name__`` of the package that calls.

    Raises
    ------
    ImportError
        If the source of the package is not there to be read.

    Examples
    --------
    >>> getattr_, dir_, names = attach("protclip.structure")
    >>> getattr_("Protein").__module__, "read_chains" in names
    ('protclip.structure.protein', True)
    """
    spec = sys.modules[package].__spec__
    loader = spec.loader if spec else None
    source = loader.get_source(package) if isinstance(loader, InspectLoader) else None
    if source is None:
        raise ImportError(f"no source of {package} to read its names from; install protclip again")
    homes = {
        alias.asname or alias.name: str(statement.module)
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }

    def lazy_getattr(name: str) -> Any:
        if name in homes:
            return getattr(import_module(homes[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def lazy_dir() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return lazy_getattr, lazy_dir, sorted(homes)
