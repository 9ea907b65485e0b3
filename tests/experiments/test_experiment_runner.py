"""The runner on a small program in place of protclip: parallel, resumable, one failure stops nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from protclip.errors import ConfigError
from protclip.experiments.commands import Run, Stage
from protclip.experiments.definitions import Arm
from protclip.experiments.runner import Outcome, Runner

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
kind, folder = sys.argv[1], Path(sys.argv[2])
with (folder / "calls.txt").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + " " + os.environ["OMP_NUM_THREADS"] + "\\n")
print("began", kind, flush=True)
if kind == "fail":
    sys.exit("error: it cannot be")
if kind == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if kind == "slow" and sys.argv[-1] != "resume":
    (folder / "config.toml").touch()
    def stop(number, frame):
        print("saved", flush=True)
        sys.exit(130)
    signal.signal(signal.SIGINT, stop)
    (folder / "ready").touch()
    time.sleep(60)
if kind == "print":
    print("to stdout")
    print("to stderr", file=sys.stderr)
(folder / "state.pt").touch()
(folder / "result").touch()
"""


class Heard:
    """A display that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.done: list[int] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def begin(self, label: str, total: int) -> None:
        pass

    def advance(self, done: int, losses: dict[str, float] | None = None) -> None:
        self.done.append(done)

    def end(self) -> None:
        pass


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return [sys.executable, str(path)]


def make(tmp_path: Path, *kinds: str, name: str = "") -> Run:
    folder = tmp_path / "runs" / (name or kinds[0])
    stages = []
    for number, kind in enumerate(kinds):
        place = folder if number == 0 else folder / "tasks" / kind
        output = "out.json" if kind == "print" else ""
        results = ("out.json",) if output else ("result",)
        stages.append(Stage(kind, place, (kind, str(place)), (kind, str(place), "resume"), results, output))
    return Run(Arm(name or kinds[0], {}), 0, folder, tuple(stages))


def states(outcomes: list[Outcome]) -> list[str]:
    return [outcome.state for outcome in outcomes]


def test_runs_side_by_side_and_a_failure_stops_nothing(tmp_path: Path, program: list[str]) -> None:
    display = Heard()
    runs = [make(tmp_path, "fail"), make(tmp_path, "ok"), make(tmp_path, "die"), make(tmp_path, "good")]
    outcomes = Runner(runs, jobs=2, threads=3, display=display, program=program).run("test")
    assert states(outcomes) == ["failed", "finished", "failed", "finished"]
    assert outcomes[0].reason == "fail: error: it cannot be"
    assert "killed by signal 9" in outcomes[2].reason
    assert display.done[-1] == 4
    assert any("fail, seed 0: failed" in text for text in display.said)
    assert (runs[1].folder / "calls.txt").read_text().split()[-1] == "3"
    assert "error: it cannot be" in (runs[0].folder / "output.txt").read_text()


def test_stages_follow_each_other_and_finished_ones_are_left_alone(
    tmp_path: Path, program: list[str]
) -> None:
    run = make(tmp_path, "ok", "task", "print")
    assert states(Runner([run], display=Heard(), program=program).run("test")) == ["finished"]
    assert (run.stages[2].folder / "out.json").read_text() == "began print\nto stdout\n"
    assert "to stderr" in (run.folder / "output.txt").read_text()
    assert not (run.folder / "state.pt").exists()  # a finished run is not resumed
    Runner([run], display=Heard(), program=program).run("test")
    assert len((run.folder / "calls.txt").read_text().splitlines()) == 1


def test_a_failed_stage_ends_its_run_and_is_tried_again(tmp_path: Path, program: list[str]) -> None:
    run = make(tmp_path, "ok", "fail", "later")
    assert states(Runner([run], display=Heard(), program=program).run("test")) == ["failed"]
    assert not run.stages[2].folder.exists()
    Runner([run], display=Heard(), program=program).run("test")
    assert len((run.stages[1].folder / "calls.txt").read_text().splitlines()) == 2
    assert len((run.folder / "calls.txt").read_text().splitlines()) == 1


def test_an_interrupt_saves_and_the_same_again_resumes(tmp_path: Path, program: list[str]) -> None:
    runs = [make(tmp_path, "slow", "task"), make(tmp_path, "ok", name="waiting")]

    def interrupt() -> None:
        while not (runs[0].folder / "ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    outcomes = Runner(runs, display=Heard(), program=program).run("test")
    thread.join()
    assert states(outcomes) == ["interrupted", "interrupted"]
    assert "saved" in (runs[0].folder / "output.txt").read_text()
    assert not runs[1].folder.exists()
    outcomes = Runner(runs, display=Heard(), program=program).run("test")
    assert states(outcomes) == ["finished", "finished"]
    assert (runs[0].folder / "calls.txt").read_text().splitlines()[1].split()[2] == "resume"


def test_a_folder_where_another_process_works_is_left_alone(tmp_path: Path, program: list[str]) -> None:
    """Also where the runner that started it is gone: the command itself holds the claim."""
    run = make(tmp_path, "slow")
    code = (
        "import sys, os, threading\n"
        "from pathlib import Path\n"
        "from protclip.experiments.commands import Run, Stage\n"
        "from protclip.experiments.definitions import Arm\n"
        "from protclip.experiments.runner import Runner\n"
        f"folder = Path({str(run.folder)!r})\n"
        "stage = Stage('slow', folder, ('slow', str(folder)), (), ('result',))\n"
        "class Silent:\n"
        "    say = begin = end = advance = lambda *a: None\n"
        "run = Run(Arm('slow', {}), 0, folder, (stage,))\n"
        f"runner = Runner([run], display=Silent(), program={program!r})\n"
        "threading.Thread(target=runner.run, args=('x',), daemon=True).start()\n"
        "while not (folder / 'ready').exists(): pass\n"
        "print(next(iter(runner.processes)).pid, flush=True)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    orphan = int(done.stdout)
    try:
        outcomes = Runner([run], display=Heard(), program=program).run("test")
        assert states(outcomes) == ["busy"]
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_towers_that_runs_share_are_trained_once(tmp_path: Path, program: list[str]) -> None:
    base = make(tmp_path, "ok")
    towers = replace(base.stages[0], name="towers")
    runs = [base]
    for name in ("one", "two", "three"):
        own = make(tmp_path, name)
        runs.append(replace(own, stages=(towers, *own.stages)))
    outcomes = Runner(runs, jobs=4, display=Heard(), program=program).run("test")
    assert states(outcomes) == ["finished"] * 4
    assert len((base.folder / "calls.txt").read_text().splitlines()) == 1
    assert (runs[1].folder / "result").exists()


def test_fewer_than_one_job_is_refused() -> None:
    with pytest.raises(ConfigError, match="--jobs"):
        Runner([], jobs=0, display=Heard())
