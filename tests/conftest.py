"""What every test shares: the real corpus, a private cache, few threads, reproducible random examples."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parent.parent

# Same examples in every run: a failure seen once is seen again.
settings.register_profile(
    "protclip", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("protclip")


def pytest_configure(config: pytest.Config) -> None:
    """Few threads, and one where tests run side by side: waiting threads cost more than they give."""
    # Read by OpenMP when torch or numpy first start threads; workers and the commands of tests inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1" if config.getoption("numprocesses") else "2")


def _cuda() -> bool:
    import torch  # heavy: only where a GPU test was collected

    return bool(torch.cuda.is_available())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave slow tests out unless they were asked for, and skip GPU tests where there is no GPU."""
    asked = "slow" in config.getoption("-m") or any("::" in argument for argument in config.args)
    if not asked:
        slow = [item for item in items if "slow" in item.keywords]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if "slow" not in item.keywords]
    on_gpu = [item for item in items if "gpu" in item.keywords]
    if on_gpu and not _cuda():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="gpu: no CUDA device here"))


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Cache folder of this test session: no test reads or writes the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROTCLIP_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def cath_dir(repository: Path) -> Path:
    """The CATH folder of real domains that ships with the project."""
    return repository / "data" / "cath"


@pytest.fixture(scope="session")
def run_on_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], list[Any]]:
    """Runs ``python WORKER rank 2 init out`` twice over gloo; gives what each saved to ``out.rank``."""

    def run(worker: Path) -> list[Any]:
        import torch  # heavy: only where such a test was collected

        folder = tmp_path_factory.mktemp("gloo")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        command = [sys.executable, str(worker)]
        processes = [
            subprocess.Popen(
                [*command, str(rank), "2", str(folder / "init"), str(folder / "out")],
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        try:
            errors = [process.communicate(timeout=120)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
        return [torch.load(folder / f"out.{rank}", weights_only=True) for rank in range(2)]

    return run
