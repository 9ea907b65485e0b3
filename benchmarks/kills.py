"""Kill long commands at random moments, give the same command again, and compare with a run left alone.

    python benchmarks/kills.py --kills 100

prints a table, a row a command: kills that hit it, runs that were finished afterwards, and how many of their
outputs differ in any byte (or left something behind).  The moments are drawn from a seed, evenly over the
time that an undisturbed run takes.  A command is a copy of a process that has imported everything already, so
that kills hit the work rather than the start of the program.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data" / "cath"
PAIRS = ROOT / "tests" / "golden" / "v0.1" / "pairs"
QUICK = [
    *("--structure-size", "tiny", "--sequence-encoder", "scratch", "--esm-init", "random", "--dim", "32"),
    *("--batch-size", "16", "--steps", "1", "--refit", "none", "--device", "cpu", "--no-plots"),
]


PIECE = 256
"""Items of a piece of work that a kill cannot take away."""


class Commands:
    """Runs commands of protclip as copies of a process that has imported everything."""

    def __init__(self, log: Path) -> None:
        self.log = log
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, arguments: Sequence[object], kill_after: float | None = None) -> tuple[int, float]:
        """Exit status (-9 if it was killed) and seconds of a command."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {
            "arguments": [str(argument) for argument in arguments],
            "kill_after": kill_after,
            "log": str(self.log),
        }
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        status, seconds = json.loads(self.process.stdout.readline())
        return status, seconds

    def must(self, *arguments: object) -> None:
        """Run a command that has to succeed."""
        status, _ = self.run(arguments)
        if status != 0:
            raise RuntimeError(f"{arguments} ended with {status}:\n{self.said()}")

    def said(self) -> str:
        """What the last command printed, with all white space as blanks."""
        return " ".join(self.log.read_text(errors="replace").split())

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    """Read orders from stdin, one JSON a line; start a copy for each."""
    import protclip.data.corpus.build
    import protclip.data.corpus.releases
    import protclip.inference.shards
    import protclip.tasks.finetune
    import protclip.tasks.predict
    import protclip.tasks.predict_files
    import protclip.tasks.seed_training
    import protclip.training.pretrain
    from protclip.cli import main as command
    from protclip.inference.aligned_model import AlignedModel

    # Small pieces, so that a small input has many.
    AlignedModel.stream.__kwdefaults__["window"] = PIECE
    protclip.tasks.predict.WINDOW = PIECE
    # A checkpoint after every step or so, so that a short run goes on from one.
    protclip.tasks.seed_training.CHECKPOINT_SECONDS = 0.0
    for line in sys.stdin:
        order = json.loads(line)
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            os.setsid()
            log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            status = 1
            try:
                sys.argv = ["protclip", *order["arguments"]]
                command()
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        status = _wait(child, start, order["kill_after"])
        print(json.dumps([status, time.monotonic() - start]), flush=True)


def _wait(child: int, start: float, kill_after: float | None) -> int:
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if kill_after is not None and time.monotonic() - start >= kill_after:
            os.kill(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.001)


def snapshot(folder: Path) -> dict[str, str]:
    """Relative name and checksum of all files below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def run_results(folder: Path) -> dict[str, str]:
    """:func:`snapshot` of a run: contents of weights, log and metrics without seconds, names of all else."""
    found = dict.fromkeys(snapshot(folder), "")
    for name in found:
        path = folder / name
        if path.name in ("model.safetensors", "log.csv"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "metrics.json":
            metrics = json.loads(path.read_text())
            metrics["training"].pop("seconds", None)
            found[name] = json.dumps(metrics, sort_keys=True)
    return found


@dataclass
class Verb:
    """A command that writes into a folder.

    Attributes
    ----------
    name : str
    arguments : callable
        Folder to write into -> command line.
    results : callable
        Folder -> what has to be equal in the end, by relative name.
    growing : callable
        Whether the file of a relative name may be unfinished while the command is.
    """

    name: str
    arguments: Callable[[Path], list[object]]
    results: Callable[[Path], dict[str, str]] = snapshot
    growing: Callable[[str], bool] = lambda name: False


@dataclass
class Tally:
    """What came of killing a command."""

    name: str
    seconds: float
    kills: int = 0
    finished: int = 0
    different: int = 0
    trouble: str = ""

    def row(self) -> str:
        """A row of the table."""
        return f"| {self.name} | {self.seconds:.1f} | {self.kills} | {self.finished} | {self.different} |"


def kill_and_resume(commands: Commands, verb: Verb, root: Path, kills: int, seed: int = 0) -> Tally:
    """Kill a command until ``kills`` have hit it; about every second time it is then left to finish."""
    rng = np.random.default_rng([seed, *verb.name.encode()])
    whole, place = root / f"{verb.name}-whole", root / f"{verb.name}-killed"
    for folder in (whole, place):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    commands.must(*verb.arguments(whole))  # caches are filled now
    shutil.rmtree(whole)
    whole.mkdir()
    status, seconds = commands.run(verb.arguments(whole))
    tally = Tally(verb.name, seconds)
    expected = verb.results(whole)
    assert status == 0, commands.said()
    assert expected
    while tally.kills < kills or any(place.iterdir()):
        again = tally.kills < kills and rng.random() < 0.75
        status, _ = commands.run(verb.arguments(place), rng.uniform(0, seconds) if again else None)
        if status == -signal.SIGKILL:
            tally.kills += 1
            # What stands under the final name is never anything but the whole.
            half = [
                name
                for name, digest in verb.results(place).items()
                if expected.get(name, digest) != digest and not verb.growing(name)
            ]
            if half:
                tally.different += 1
                tally.trouble = f"unfinished under its final name: {half}"
            continue
        found = verb.results(place)
        tally.finished += 1
        if status != 0 or found != expected:
            tally.different += 1
            names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            tally.trouble = f"exit {status}, other files: {names}; {commands.said()[-2000:]}"
        for path in place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return tally


def write_fasta(path: Path, count: int, seed: int = 0) -> Path:
    """Random sequences; every hundredth cannot be read, and one comes twice."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    records = [f">s{i}\n{''.join(rng.choice(letters, int(rng.integers(8, 20))))}\n" for i in range(count)]
    records[50::100] = [record.replace("\n", "\nM1", 1) for record in records[50::100]]
    path.write_text("".join([*records, records[0]]))
    return path


@contextmanager
def slow_server(pause: float = 0.01) -> Iterator[str]:
    """A mirror of a small CATH release that sends a few kilobytes at a time; gives its address."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for path in sorted((SAMPLE / "dompdb").iterdir())[:12]:
            info = tarfile.TarInfo(f"dompdb/{path.name}")
            info.size = path.stat().st_size
            tar.addfile(info, io.BytesIO(path.read_bytes()))
    bodies = {"pdb.tgz": stream.getvalue(), ".txt": (SAMPLE / "cath-domain-list.txt").read_bytes()}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            body = next((body for ending, body in bodies.items() if self.path.endswith(ending)), None)
            if body is None:
                self.send_error(404)
                return
            wanted = self.headers.get("Range")
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            if start >= len(body) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if wanted else 200)
            self.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')
            self.send_header("Content-Length", str(len(body) - start))
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.end_headers()
            for place in range(start, len(body), 1 << 13):
                try:
                    self.wfile.write(body[place : place + (1 << 13)])
                except OSError:  # the other side was killed
                    return
                time.sleep(pause)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def prepare(commands: Commands, root: Path, mirror: str, sequences: int = 1500) -> dict[str, Verb]:
    """Train a small model and a head, and say which commands there are."""
    run, head = root / "run", root / "head"
    commands.must("pretrain", "--cath", SAMPLE, "--paired", 0.5, "--out", run, *QUICK)
    task = ["go-mf", "--data", "sample", "--model", run, "--towers", "sequence", "--mode", "probe"]
    commands.must("finetune", *task, "--epochs", 1, "--device", "cpu", "--out", head)
    fasta = write_fasta(root / "many.fasta", sequences)
    embed: list[object] = ["embed", run, "--device", "cpu", "-i", fasta]
    verbs = [
        Verb("embed", lambda to: [*embed, "-o", to / "vectors.h5", "--per-residue"]),
        Verb("embed to Parquet", lambda to: [*embed, "-o", to / "vectors.parquet"]),
        Verb("shards", lambda to: [*embed, "-o", to, "--shards", 4]),
        Verb("predict", lambda to: ["predict", head, "--device", "cpu", "-i", fasta, "-o", to / "go.tsv"]),
        Verb("data build", lambda to: ["data", "build", "--cath", SAMPLE, "-o", to / "corpus.h5"]),
        Verb(
            "data build, 2 workers",
            lambda to: ["data", "build", "--cath", SAMPLE, "-o", to / "corpus.h5", "--workers", 2],
        ),
        Verb(
            "download",
            lambda to: ["data", "download", "cath", "--out", to / "cath", "--mirror", mirror],
            growing=lambda name: True,  # the name is that of a folder
        ),
        *training_verbs(),
    ]
    return {verb.name: verb for verb in verbs}


def training_verbs() -> list[Verb]:
    """Runs that are taken up with ``--resume`` once their folder is there."""

    def run(*arguments: object) -> Callable[[Path], list[object]]:
        def line(to: Path) -> list[object]:
            begun = (to / "run" / "config.toml").exists()
            return [*arguments, "--out", to / "run", *(["--resume"] if begun else [])]

        return line

    vectors = ("--left", "vectors", "--right", "vectors", "--dim", 8, "--batch-size", 12, "--steps", 200)
    meaning = ("--left-option", "stands_for=one", "--right-option", "stands_for=two")
    machine = ("--device", "cpu", "--precision", "fp32")
    pretrain = run(
        "pretrain", "--pairs", PAIRS, *vectors, *meaning, *machine, "--refit", "none", "--no-plots"
    )
    finetune = run("finetune", "ec", "--data", "sample", "--model", "none", "--epochs", 4, *machine)
    return [
        Verb(name, arguments, run_results, lambda file: file.endswith("log.csv"))
        for name, arguments in (("pretrain", pretrain), ("finetune", finetune))
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="a command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="names of commands")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    root = Path(tempfile.mkdtemp(prefix="kills-"))
    os.environ |= {"PROTCLIP_CACHE": str(root / "cache"), "NO_PROXY": "127.0.0.1"}
    commands = Commands(root / "log.txt")
    troubles: list[Any] = []
    try:
        with slow_server() as mirror:
            verbs = prepare(commands, root, mirror)
            print("| command | seconds undisturbed | kills | finished afterwards | different |")
            print("|---|---:|---:|---:|---:|")
            for name in options.only or verbs:
                tally = kill_and_resume(commands, verbs[name], root, options.kills, options.seed)
                print(tally.row(), flush=True)
                troubles += [tally] if tally.different else []
    finally:
        commands.close()
        shutil.rmtree(root, ignore_errors=True)
    for tally in troubles:
        print(f"{tally.name}: {tally.trouble}")
    sys.exit(bool(troubles))


if __name__ == "__main__":
    main()
