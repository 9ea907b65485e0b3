"""Run the commands of an experiment as processes: side by side, resumable, one failure stopping nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from protclip.errors import ConfigError
from protclip.experiments.commands import Run, Stage, shown

if TYPE_CHECKING:
    from protclip.typing import Display

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
INTERRUPTED = 130
"""Exit status of a command that was stopped and has saved its state."""

OUTPUT = "output.txt"
"""What the commands of a run printed, in its folder."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    run : Run
    state : {"finished", "failed", "interrupted", "busy"}
        ``busy``: another process is at work in its folder.
    reason : str
        For a failure: stage, and the last line that it printed.
    """

    run: Run
    state: Literal["finished", "failed", "interrupted", "busy"]
    reason: str = ""


class Runner:
    """Runs in parallel processes.

    Parameters
    ----------
    runs : sequence of Run
        Finished ones are passed over, others are started or resumed.
    jobs : int
        Processes at a time.
    display : Display
        Gets a bar over the runs and a sentence for each failure.
    threads : int, optional
        Of each process; None divides the processors, unless ``OMP_NUM_THREADS`` is set.
    gpus : sequence of str
        Devices for ``CUDA_VISIBLE_DEVICES``, dealt out to the processes in turn; none leaves it alone.
    program : sequence of str
        What the arguments of a stage are given to.

    Raises
    ------
    ConfigError
        If ``jobs`` is less than 1.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        *,
        display: Display,
        jobs: int = 1,
        threads: int | None = None,
        gpus: Sequence[str] = (),
        program: Sequence[str] = (sys.executable, "-m", "protclip"),
    ) -> None:
        if jobs < 1:
            raise ConfigError("too few", where="--jobs", got=str(jobs), expected="1 or more")
        self.runs, self.jobs, self.display, self.program = list(runs), jobs, display, tuple(program)
        self.slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(jobs):
            self.slots.put(slot)
        self.environments = [environment(os.environ, jobs, threads, gpus, slot) for slot in range(jobs)]
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.lock = threading.Lock()
        self.folders: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
        self.stopping = threading.Event()

    def run(self, label: str) -> list[Outcome]:
        """Work through all runs; after a signal, those that were not finished are ``interrupted``."""
        self.display.begin(label, len(self.runs))
        outcomes: dict[int, Outcome] = {}
        try:
            with self._signals(), ThreadPoolExecutor(self.jobs) as pool:
                pending: dict[Future[Outcome], int] = {
                    pool.submit(self._work, run): number for number, run in enumerate(self.runs)
                }
                while pending:
                    # A short wait lets the main thread see signals.
                    for future in wait(pending, timeout=0.2, return_when=FIRST_COMPLETED).done:
                        outcome = future.result()
                        outcomes[pending.pop(future)] = outcome
                        if outcome.state in ("failed", "busy"):
                            self.display.say(f"{outcome.run.name}: {outcome.state}: {outcome.reason}")
                        ended = sum(o.state != "interrupted" for o in outcomes.values())
                        self.display.advance(ended)
        finally:
            self.display.end()
        return [outcomes[number] for number in sorted(outcomes)]

    def _work(self, run: Run) -> Outcome:
        slot = self.slots.get()
        try:
            for stage in [stage for stage in run.stages if not stage.finished]:
                if self.stopping.is_set():
                    return Outcome(run, "interrupted")
                with self.folders[stage.folder]:  # towers that several runs share are trained once
                    done = stage.finished
                    code, reason = (0, "") if done else self._call(run, stage, self.environments[slot])
                if code == INTERRUPTED or (code != 0 and self.stopping.is_set()):
                    return Outcome(run, "interrupted")
                if code is None:
                    return Outcome(run, "busy", reason)
                if code != 0 or not stage.finished:
                    return Outcome(run, "failed", f"{stage.name}: {reason}")
                # A finished stage is not resumed; checkpoints of many runs would fill the disk.
                (stage.folder / "state.pt").unlink(missing_ok=True)
            return Outcome(run, "finished")
        except OSError as error:  # no space, no rights: a failure of this run
            return Outcome(run, "failed", str(error))
        finally:
            self.slots.put(slot)

    def _call(self, run: Run, stage: Stage, variables: Mapping[str, str]) -> tuple[int | None, str]:
        """Exit status (None: another process has the folder) and the last line printed."""
        stage.folder.mkdir(parents=True, exist_ok=True)
        path = run.folder / OUTPUT
        run.folder.mkdir(parents=True, exist_ok=True)
        home = stage.folder if stage.name == "towers" else run.folder
        with _claim(home) as claim:
            if claim is None:
                return None, f"another process is at work in {home}"
            stage.prepare()
            printed = stage.folder / f"{stage.output}.part" if stage.output else path
            with path.open("ab") as output, printed.open("wb" if stage.output else "ab") as results:
                output.write(f"$ {shown(stage.command)}\n".encode())
                output.flush()
                begin = output.tell()
                # A session of its own: a Ctrl-C reaches the command once, through us.
                process = subprocess.Popen(
                    [*self.program, *stage.command],
                    stdin=subprocess.DEVNULL,
                    stdout=results,
                    stderr=output,
                    env=dict(variables),
                    start_new_session=True,
                    pass_fds=(claim,),  # the claim lives as long as the command, also without us
                )
            with self.lock:
                self.processes.add(process)
                if self.stopping.is_set():
                    _signal(process, signal.SIGINT)
            code = process.wait()
            with self.lock:
                self.processes.discard(process)
            if stage.output and code == 0:
                printed.replace(stage.folder / stage.output)
        return code, _last_line(path.read_bytes()[begin:], code)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Hand SIGINT and SIGTERM on to the commands, which save and stop; again, and they stop at once."""

        def request(number: int, frame: FrameType | None) -> None:
            self.stopping.set()
            # Without the lock, which the interrupted code may hold.
            for process in list(self.processes):
                _signal(process, signal.SIGINT)

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        old: dict[int, Any] = {n: signal.signal(n, request) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def environment(
    base: Mapping[str, str], jobs: int, threads: int | None, gpus: Sequence[str], slot: int
) -> dict[str, str]:
    """Environment of the processes of one slot: threads and devices divided over the slots.

    Examples
    --------
    >>> environment({}, 2, 3, ["0", "1"], 1)["OMP_NUM_THREADS"]
    '3'
    >>> environment({}, 4, None, ["0", "1"], 3)["CUDA_VISIBLE_DEVICES"]
    '1'
    """
    made = dict(base)
    if threads is not None or THREADS[0] not in base:
        share = threads if threads is not None else max(1, _processors() // jobs)
        made |= {name: str(share) for name in THREADS}
    if gpus:
        made["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return made


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


@contextlib.contextmanager
def _claim(folder: Path) -> Iterator[int | None]:
    """Open file whose lock says that somebody is at work in the folder of a run; None where another is."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield descriptor
    finally:
        os.close(descriptor)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To the command and the processes that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _last_line(printed: bytes, code: int) -> str:
    lines = [line.strip() for line in printed.decode(errors="replace").splitlines() if line.strip()]
    if code < 0:
        return f"killed by signal {-code}" + (" (out of memory?)" if code == -signal.SIGKILL else "")
    return lines[-1] if lines else f"exit status {code}"
