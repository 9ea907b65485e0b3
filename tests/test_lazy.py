"""Faces of packages: every name is the thing itself, unknown names are errors, nothing is loaded early."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

FACES = ("protclip", "protclip.structure", "protclip.data", "protclip.tasks")


@pytest.mark.parametrize("name", FACES)
def test_every_name_of_a_face_is_the_thing_itself(name: str) -> None:
    face = importlib.import_module(name)
    assert 4 <= len(face.__all__) <= 12
    assert set(face.__all__) <= set(dir(face))
    for key in face.__all__:
        value = getattr(face, key)
        home = getattr(value, "__module__", name)
        assert home.startswith(name.split(".")[0])
        if home != name and isinstance(value, type):
            assert getattr(importlib.import_module(home), key) is value
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        face.nothing  # noqa: B018
    assert not hasattr(face, "__wrapped__")  # what inspect and doctest ask of any object


@pytest.mark.parametrize("name", FACES)
def test_a_face_loads_none_of_its_rooms(name: str) -> None:
    code = f"import sys, {name}; print(*sorted(m for m in sys.modules if m.startswith('protclip')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"protclip", "protclip.errors", "protclip.lazy", name}
