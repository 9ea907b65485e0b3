"""No megabyte takes long to be read or refused: forty of them in a process with a limit of half a minute."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("hard_files.py")
SECONDS = 30
"""Of processor time, for all files and the imports: about two on a slow machine, where nothing takes longer
than it should. The comments alone took minutes, doubling with each line."""


def test_every_file_is_read_or_refused_in_time() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)),
    )
    assert done.stdout.endswith("done\n"), f"ended at: {done.stdout[-40:]} {done.stderr[-500:]}"
