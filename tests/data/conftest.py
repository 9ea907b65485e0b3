"""Corpora and proteins for the tests of the data package."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from protclip.data.corpus.build import build_corpus
from protclip.structure.protein import Protein


@pytest.fixture(scope="session")
def sample_file(cath_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped corpus, built once."""
    out = tmp_path_factory.mktemp("corpus") / "sample.h5"
    build_corpus(cath_dir, out, workers=1)
    return out


@pytest.fixture(scope="session")
def random_protein() -> Callable[..., Protein]:
    """A protein of PDB-precision coordinates with whatever can be missing missing here and there."""

    def make(id: str, n: int = 12, seed: int = 0, *, plddt: bool = False, ca_only: bool = False) -> Protein:
        rng = np.random.default_rng([seed, n])
        coords = (rng.integers(-999_999, 999_999, (n, 4, 3)) / 1000).astype(np.float32)
        coords[rng.random((n, 4)) < 0.1] = np.nan
        if ca_only:
            coords[:, [0, 2, 3]] = np.nan
        return Protein(
            id,
            "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWYBZUOJX"), n)),
            coords,
            rng.integers(-20, 2000, n).astype(np.int32),
            rng.choice(np.array([b"", b"A", b"Z"], "S1"), n),
            rng.uniform(0, 100, n).astype(np.float32) if plddt else None,
            {"water": int(rng.integers(1, 9)), "altloc": 1} if seed % 2 else {},
        )

    return make


@pytest.fixture(scope="session")
def assert_same() -> Callable[[Protein, Protein], None]:
    """Bit for bit the same protein."""

    def check(a: Protein, b: Protein) -> None:
        assert (a.id, a.sequence, dict(a.dropped)) == (b.id, b.sequence, dict(b.dropped))
        np.testing.assert_array_equal(a.coords, b.coords)
        np.testing.assert_array_equal(a.residue_number, b.residue_number)
        np.testing.assert_array_equal(a.insertion_code, b.insertion_code)
        assert (a.plddt is None) == (b.plddt is None)
        if a.plddt is not None:
            np.testing.assert_array_equal(a.plddt, b.plddt)

    return check


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Starts a web server whose GET requests ``answer(request)`` deals with; gives its address.

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
