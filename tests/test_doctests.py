"""Every example in a docstring runs and gives what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

# In an editable install these stand beside the package's own folder.
PARTS = ("protclip.structure", "protclip.data", "protclip.tasks")


def module_names() -> list[str]:
    """All modules of the installed package."""
    names = {"protclip"}
    for package in ("protclip", *PARTS):
        names.add(package)
        folder = importlib.import_module(package).__path__
        names |= {found.name for found in pkgutil.walk_packages(folder, f"{package}.")}
    return sorted(name for name in names if not name.endswith("__main__"))


MODULES = module_names()


def test_all_four_folders_are_found():
    for expected in (
        "protclip.scoring.retrieval",
        "protclip.losses.clip",
        "protclip.structure.protein",
        "protclip.data.corpus.store",
    ):
        assert expected in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch, repository):
    # Examples read the shipped corpus as data/cath, and what they write is thrown away.
    (tmp_path / "data").symlink_to(repository / "data")
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS, report=True)
    assert result.failed == 0, "see the captured output"
