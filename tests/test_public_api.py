"""What is public is documented, and what is exported exists."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import protclip


def module_names() -> list[str]:
    """All modules of the installed package, those of its sister folders included."""
    names = {"protclip"}
    for package in ("protclip", "protclip.structure", "protclip.data", "protclip.tasks"):
        names.add(package)
        folder = importlib.import_module(package).__path__
        names |= {found.name for found in pkgutil.walk_packages(folder, f"{package}.")}
    return sorted(name for name in names if not name.endswith("__main__"))


MODULES = module_names()


def public(module: object) -> Iterator[tuple[str, object]]:
    """Public functions and classes that the module defines or exports, and the classes' own methods."""
    name = module.__name__  # type: ignore[attr-defined]
    exported = getattr(module, "__all__", [])
    for key in sorted({*vars(module), *exported}):
        value = getattr(module, key)
        if key.startswith("_") or not (inspect.isfunction(value) or inspect.isclass(value)):
            continue
        if key not in exported and value.__module__ != name:
            continue
        yield key, value
        if inspect.isclass(value) and value.__module__ == name:
            for method, function in vars(value).items():
                if not method.startswith("_") and (
                    inspect.isfunction(function) or isinstance(function, property)
                ):
                    yield f"{key}.{method}", getattr(value, method)


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_documented(name):
    module = importlib.import_module(name)
    assert inspect.getdoc(module), f"{name} has no docstring"
    bare = [key for key, value in public(module) if not (inspect.getdoc(value) or "").strip()]
    assert bare == [], f"{name}: public without a docstring"


@pytest.mark.parametrize("name", MODULES)
def test_everything_exported_exists(name):
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert [key for key in exported if not hasattr(module, key)] == []
    assert len(set(exported)) == len(exported)


def test_the_face_is_complete():
    assert {"load", "Embeddings", "ProtclipError", "__version__"} <= set(protclip.__all__)
    assert set(protclip.__all__) <= set(dir(protclip))
