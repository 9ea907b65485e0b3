"""What every test shares: the real corpus, a private cache, a web server that fails on demand."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
def sample_file(cath_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped corpus, built once."""
    from protclip.data.corpus.build import build_corpus  # only where it is asked for

    out = tmp_path_factory.mktemp("corpus") / "sample.h5"
    build_corpus(cath_dir, out, workers=1)
    return out


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


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Starts a web server whose GET and HEAD requests ``answer(request)`` deals with; gives its address.

    ``released`` is set at the end, so that answers that are still waiting on it stop.
    """
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running: list[tuple[ThreadingHTTPServer, threading.Thread, threading.Event]] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None], released: threading.Event) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                answer(self)
                self.close_connection = True

            do_HEAD = do_GET

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        http.daemon_threads = True
        http.block_on_close = False
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((http, thread, released))
        return f"http://127.0.0.1:{http.server_address[1]}"

    yield start
    for http, thread, released in running:
        released.set()
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.fixture(scope="session")
def send_range() -> Callable[..., bytes]:
    """Status and headers for the part of ``body`` that a request asks for; gives that part."""

    def send(
        request: BaseHTTPRequestHandler,
        body: bytes,
        *,
        etag: str = '"1"',
        ranges: bool = True,
        length: int | None = None,
        no_length: bool = False,
    ) -> bytes:
        start = 0
        wanted = request.headers.get("Range")
        if wanted and ranges and request.headers.get("If-Range", etag) == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(body)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return b""
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            request.send_response(200)
        rest = body[start:]
        if not no_length:
            request.send_header("Content-Length", str(len(rest) if length is None else length))
        if etag:
            request.send_header("ETag", etag)
        request.end_headers()
        return rest

    return send


CHAINS = {"1UBI-A": "1ubiA00", "1LCD-A": "1lcdA00", "5PTI-A": "5ptiA00", "1EJG-A": "1ejgA00"}
SPLIT_OF = {"1UBI-A": "train", "1LCD-A": "train", "5PTI-A": "valid", "1EJG-A": "test"}


class Server:
    """Serves files by name; `faults` are what happens to the next requests of a name, in order."""

    def __init__(self, send_range: Callable[..., bytes]) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.asked: Counter[str] = Counter()
        self.ranges: list[str | None] = []
        self.released = threading.Event()
        self.send_range = send_range
        self.base = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Send the file that is asked for, or a part of it, or what the next fault says."""
        name = request.path.rsplit("/", 1)[1]
        body = self.files.get(name)
        if request.command == "HEAD":
            request.send_response(404 if body is None else 200)
            request.send_header("Content-Length", str(len(body or b"")))
            request.end_headers()
            return
        self.asked[name] += 1
        self.ranges.append(request.headers.get("Range"))
        fault = self.faults[name].pop(0) if self.faults.get(name) else ""
        if body is None or fault.isdigit():
            request.send_error(404 if body is None else int(fault))
            return
        middle = len(body) // 2
        if fault == "corrupt":
            body = body[:middle] + bytes([body[middle] ^ 255]) + body[middle + 1 :]
        rest = self.send_range(request, body)
        if fault in ("cut", "stall"):
            request.wfile.write(rest[: len(rest) // 2])
            request.wfile.flush()
            if fault == "stall":
                self.released.wait(10)
        else:
            request.wfile.write(rest)


@pytest.fixture
def server(serve: Callable[..., str], send_range: Callable[..., bytes]) -> Server:
    """A running :class:`Server`; ``base`` is its address."""
    server = Server(send_range)
    server.base = serve(server.answer, server.released) + "/files"
    return server


def torchdrug_zip(cath_dir: Path) -> bytes:
    """A small archive of four real chains, packed as torchdrug packs its own."""
    buffer = io.BytesIO()
    rows = "\n".join(f"{chain}\t{('1.1.1.-', '3.4.21.-')[i % 2]}" for i, chain in enumerate(CHAINS))
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as outer:
        for split in ("train", "valid", "test"):
            part = io.BytesIO()
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as inner:
                for chain, domain in CHAINS.items():
                    if SPLIT_OF[chain] == split:
                        inner.writestr(
                            f"{split}/{chain}_{chain[:4]}.pdb", (cath_dir / "dompdb" / domain).read_bytes()
                        )
            outer.writestr(f"EnzymeCommission/{split}.zip", part.getvalue())
        table = f"### EC-numbers\n1.1.1.-\t3.4.21.-\n### PDB-chain\tEC-numbers\n{rows}"
        outer.writestr("EnzymeCommission/nrPDB-EC_annot.tsv", table)
        outer.writestr("EnzymeCommission/nrPDB-EC_test.csv", "PDB-chain,<30%,<95%\n1EJG-A,0,1")
    return buffer.getvalue()


@pytest.fixture
def ec(server: Server, cath_dir: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The EC archive on the server, with its checksum as the published one."""
    from protclip.data.benchmarks.addresses import SOURCES, find_source

    body = torchdrug_zip(cath_dir)
    server.files["EnzymeCommission.zip"] = body
    source = dataclasses.replace(find_source("ec"), md5=hashlib.md5(body).hexdigest())
    monkeypatch.setitem(SOURCES, ("ec", "torchdrug"), source)
    return body
