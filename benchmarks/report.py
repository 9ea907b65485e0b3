"""What all benchmarks share: turns, peak memory, growth exponents, and tables as text and JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

DOMPDB = Path(__file__).parents[1] / "data" / "cath" / "dompdb"


class Report:
    """Tables and remarks of one benchmark, printed last and kept as JSON.

    Parameters
    ----------
    name : str
        Names the block of docs/benchmarks.md that shows it.
    path : Path or None
        Where to write the JSON.
    device : str
        What it was measured on.
    """

    def __init__(self, name: str, path: Path | None = None, *, device: str = "cpu") -> None:
        self.name, self.path, self.device = name, path, device
        self.remarks: list[str] = []
        self.tables: list[dict[str, Any]] = []
        self.figures: dict[str, Any] = {}

    def say(self, text: str) -> None:
        """A sentence that stands over the tables."""
        self.remarks.append(text)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
        """A table; cells are written as they are."""
        cells = [[str(cell) for cell in row] for row in rows]
        self.tables.append({"title": title, "head": list(head), "rows": cells})

    def content(self) -> dict[str, Any]:
        """Everything so far, as it is written."""
        return {
            "name": self.name,
            "device": self.device,
            "date": date.today().isoformat(),
            "machine": machine(self.device),
            "remarks": self.remarks,
            "figures": self.figures,
            "tables": self.tables,
        }

    def save(self) -> None:
        """Write the JSON, where a file was named; between parts too, so that a stop loses one part only."""
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_name(self.path.name + ".partial")
            partial.write_text(json.dumps(self.content(), indent=1) + "\n")
            partial.replace(self.path)

    def finish(self) -> None:
        """Print everything and write the JSON."""
        self.save()
        print(markdown(self.content()))


def markdown(content: dict[str, Any]) -> str:
    """Remarks and tables of a result as Markdown."""
    lines = [*content["remarks"], ""] if content["remarks"] else []
    for table in content["tables"]:
        if table["title"]:
            lines += [table["title"], ""]
        rows = [table["head"], ["---"] * len(table["head"]), *table["rows"]]
        lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    return "\n".join(lines).rstrip("\n")


def machine(device: str = "cpu") -> str:
    """Processor or GPU, cores, memory and versions, in one line."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    model = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
        model = names[0] if names else model
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    text = f"{model}, {cores} cores, {memory:.0f} GB, {versions}"
    if device.startswith("cuda"):
        text = f"{torch.cuda.get_device_name()}; {text}"
    return text


def take_turns(
    arms: dict[str, Callable[[], Any]],
    rounds: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    settle: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of every arm in every round, the arms one after the other, after one round that does not count.

    A machine that other work slows down slows all arms of a round.
    """
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds + 1):
        for name, run in arms.items():
            start = clock()
            run()
            settle()
            if turn:
                times[name].append(clock() - start)
    return times


def status(key: str, pid: str | int = "self") -> int:
    """Bytes of a memory entry (VmRSS, VmHWM) of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def peak_growth(run: Callable[[], Any]) -> int:
    """Bytes by which ``run`` raises the resident set of this process at most."""
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


def in_new_process(script: str, *arguments: object) -> Any:
    """What ``script --child ARGUMENTS`` prints as JSON on its last line."""
    command = [sys.executable, script, "--child", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of log(value) over log(size) through the larger half of the points, where constants fade."""
    half = max(0, min(len(sizes) // 2, len(sizes) - 2))
    x = [math.log(size) for size in sizes[half:]]
    y = [math.log(max(value, 1e-12)) for value in values[half:]]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)


def many_domains(folder: Path, count: int) -> Path:
    """``count`` structure files with CATH names, copies of the shipped domains in turn."""
    originals = sorted(DOMPDB.iterdir())
    letters = "abcdefghijklmnopqrstuvwxyz"
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        code = "".join(letters[i // 26**k % 26] for k in (2, 1, 0))
        target = folder / f"{1 + i // 26**3}{code}A00"
        target.write_bytes(originals[i % len(originals)].read_bytes())
    return folder
