"""Commands that can be killed, and a small model and head for them; see ``benchmarks/kills.py``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def harness(repository: Path) -> ModuleType:
    """The script that kills commands."""
    spec = importlib.util.spec_from_file_location("kills", repository / "benchmarks" / "kills.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kills"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the model, the head and the outputs."""
    return tmp_path_factory.mktemp("kills")


@pytest.fixture(scope="session")
def commands(harness: ModuleType, place: Path) -> Iterator[Any]:
    """Runs commands as copies of a process that has imported everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        running = harness.Commands(place / "log.txt")
    yield running
    running.close()


@pytest.fixture(scope="session")
def verbs(harness: ModuleType, commands: Any, place: Path) -> Iterator[dict[str, Any]]:
    """Commands by name, on a small model and head."""
    with harness.slow_server() as mirror:
        yield harness.prepare(commands, place, mirror, sequences=900)
