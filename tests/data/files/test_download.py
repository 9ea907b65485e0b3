"""Downloads against a server that breaks off, stalls, lies and forgets."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import socket
import tarfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner

from protclip.cli.data import app
from protclip.data.corpus.cath import find_cath
from protclip.data.corpus.releases import RECORD, fetch_cath
from protclip.data.files.archive import extract_tar
from protclip.data.files.download import download
from protclip.errors import ConfigError, DataError, DownloadError

BODY = bytes(range(256)) * 2000
SHA = hashlib.sha256(BODY).hexdigest()


@dataclass
class Served:
    """One path of the server: what it holds and how it misbehaves, request by request."""

    body: bytes = BODY
    cut: list[int] = field(default_factory=list)  # bytes after which request k breaks off
    stall: list[int] = field(default_factory=list)  # bytes after which request k falls silent
    status: list[int] = field(default_factory=list)  # answer of request k, 0 for the file
    ranges: bool = True
    etag: str = '"v1"'
    claim: int | None = None  # Content-Length, where it is a lie
    no_length: bool = False
    requests: list[str] = field(default_factory=list)  # the Range header of each request


class Server:
    def __init__(self, send_range: Callable[..., bytes]) -> None:
        self.files: dict[str, Served] = {}
        self.released = threading.Event()
        self.send_range = send_range
        self.base = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        served = self.files.get(request.path)
        if served is None:
            request.send_error(404)
            return
        turn = len(served.requests)
        served.requests.append(request.headers.get("Range", ""))
        status = served.status[turn] if turn < len(served.status) else 0
        if status:
            request.send_error(status)
            return
        rest = self.send_range(
            request,
            served.body,
            etag=served.etag,
            ranges=served.ranges,
            length=served.claim,
            no_length=served.no_length,
        )
        if turn < len(served.cut) and served.cut[turn] < len(rest):
            request.wfile.write(rest[: served.cut[turn]])
        elif turn < len(served.stall):
            request.wfile.write(rest[: served.stall[turn]])
            request.wfile.flush()
            self.released.wait(30)
        else:
            request.wfile.write(rest)

    def put(self, path: str, served: Served) -> str:
        self.files[path] = served
        return self.base + path


@pytest.fixture
def server(serve: Callable[..., str], send_range: Callable[..., bytes]) -> Server:
    server = Server(send_range)
    server.base = serve(server.answer, server.released)
    return server


FAST = {"backoff": 0.001, "timeout": (2.0, 0.3)}


def test_plain_and_again(server: Server, tmp_path: Path) -> None:
    served = Served()
    url = server.put("/f", served)
    path = download(url, tmp_path / "deep" / "f", sha256=SHA, size=len(BODY), **FAST)  # type: ignore[arg-type]
    assert path.read_bytes() == BODY
    assert [file.name for file in path.parent.iterdir()] == ["f"]
    download(url, path, md5=hashlib.md5(BODY, usedforsecurity=False).hexdigest())
    assert len(served.requests) == 1
    path.write_bytes(b"changed")
    download(url, path, sha256=SHA)
    assert path.read_bytes() == BODY


def test_broken_connections_are_continued(server: Server, tmp_path: Path) -> None:
    served = Served(cut=[200_000, 0, 150_000, 100_000])
    path = download(server.put("/f", served), tmp_path / "f", **FAST)  # type: ignore[arg-type]
    assert path.read_bytes() == BODY
    starts = [int(text[6:-1]) if text else 0 for text in served.requests]
    assert starts == sorted(starts)
    assert starts[0] == 0
    assert 0 < starts[1] <= 200_000
    assert starts[-1] > starts[1]


def test_a_later_call_continues(server: Server, tmp_path: Path) -> None:
    served = Served(cut=[200_000], status=[0, 503, 503, 503, 503, 503, 503])
    url = server.put("/f", served)
    with pytest.raises(DownloadError, match="HTTP 503"):
        download(url, tmp_path / "f", **FAST)  # type: ignore[arg-type]
    assert not (tmp_path / "f").exists()
    had = (tmp_path / "f.partial").stat().st_size
    assert had > 0
    served.status.clear()
    assert download(url, tmp_path / "f").read_bytes() == BODY
    assert served.requests[-1] == f"bytes={had}-"
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


def test_a_stalled_connection_is_given_up_and_continued(server: Server, tmp_path: Path) -> None:
    served = Served(stall=[200_000])
    path = download(server.put("/f", served), tmp_path / "f", **FAST)  # type: ignore[arg-type]
    assert path.read_bytes() == BODY
    assert len(served.requests) == 2


def test_without_range_support_it_begins_again(server: Server, tmp_path: Path) -> None:
    served = Served(cut=[200_000, 300_000], ranges=False)
    assert download(server.put("/f", served), tmp_path / "f", **FAST).read_bytes() == BODY  # type: ignore[arg-type]


def test_a_file_that_changed_meanwhile_is_not_mixed(server: Server, tmp_path: Path) -> None:
    served = Served(cut=[200_000], status=[0] + [503] * 9)
    url = server.put("/f", served)
    with pytest.raises(DownloadError):
        download(url, tmp_path / "f", **FAST)  # type: ignore[arg-type]
    other = BODY[::-1]
    server.files["/f"] = Served(body=other, etag='"v2"')
    assert download(url, tmp_path / "f").read_bytes() == other


def test_a_piece_from_elsewhere_that_spoils_the_checksum_is_thrown_away(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "f.partial").write_bytes(b"x" * 1000)
    served = Served()
    path = download(server.put("/f", served), tmp_path / "f", sha256=SHA, **FAST)  # type: ignore[arg-type]
    assert path.read_bytes() == BODY
    assert served.requests == ["bytes=1000-", ""]


def test_without_checksum_an_unknown_piece_is_not_trusted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.partial").write_bytes(b"x" * 1000)
    served = Served()
    assert download(server.put("/f", served), tmp_path / "f").read_bytes() == BODY
    assert served.requests == [""]


def test_mirrors_in_order(server: Server, tmp_path: Path) -> None:
    gone = f"{server.base}/gone"
    corrupt = server.put("/corrupt", Served(body=BODY[:-1] + b"!"))
    good = server.put("/good", Served())
    path = download([gone, corrupt, good], tmp_path / "f", sha256=SHA, **FAST)  # type: ignore[arg-type]
    assert path.read_bytes() == BODY
    with pytest.raises(DownloadError, match=r"gone: HTTP 404.*corrupt: wrong sha256: .* instead of"):
        download([gone, corrupt], tmp_path / "g", sha256=SHA, **FAST)  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


def test_length_that_lies(server: Server, tmp_path: Path) -> None:
    longer = server.put("/long", Served(claim=len(BODY) + 1000, ranges=False))
    with pytest.raises(DownloadError, match="broke off"):
        download(longer, tmp_path / "f", **FAST)  # type: ignore[arg-type]
    shorter = server.put("/short", Served(claim=1000))
    with pytest.raises(DownloadError, match="wrong sha256"):
        download(shorter, tmp_path / "g", sha256=SHA, **FAST)  # type: ignore[arg-type]
    with pytest.raises(DownloadError, match=r"the server offers 512000 bytes, expected 7"):
        download(server.put("/f", Served()), tmp_path / "h", size=7, **FAST)  # type: ignore[arg-type]
    assert not any((tmp_path / name).exists() for name in "fgh")
    unknown = server.put("/unknown", Served(no_length=True))
    assert download(unknown, tmp_path / "i", **FAST).read_bytes() == BODY  # type: ignore[arg-type]


def test_mirrors_that_fail_alike_are_told_once(server: Server, tmp_path: Path) -> None:
    addresses = [f"{server.base}/one/f", f"{server.base}/two/f"]
    with pytest.raises(DownloadError) as caught:
        download(addresses, tmp_path / "f", by_hand="Fetch it elsewhere", **FAST)  # type: ignore[arg-type]
    host = addresses[0].split("/")[2]
    expected = f"f: could not be fetched; got HTTP 404 Not Found at {host}. Fetch it elsewhere"
    assert str(caught.value) == expected


def test_a_full_disk_is_noticed_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))  # type: ignore[attr-defined]
    with pytest.raises(DownloadError, match=r"not enough room on the disk; got 0.00 GB free"):
        download(server.put("/f", Served()), tmp_path / "f")


def test_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/f"
    with pytest.raises(DownloadError) as caught:
        download(url, tmp_path / "f", **FAST)  # type: ignore[arg-type]
    assert str(caught.value).startswith(
        f"{url}: could not be fetched; got no connection (is this machine online?)"
    )
    assert str(tmp_path / "f") in str(caught.value)

    def no_dns(*args: object, **options: object) -> None:
        raise requests.exceptions.ConnectionError("name resolution")

    monkeypatch.setattr(requests, "get", no_dns)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(DownloadError) as caught:
        fetch_cath(tmp_path / "cath")
    text = str(caught.value)
    assert "is this machine online" in text
    assert "cath-dataset-nonredundant-S40-v4_3_0.pdb.tgz" in text
    assert "--from-file" in text


def _tar(files: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _link(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_tar({"dompdb/a": b"x", "../evil": b"x"}), "unsafe archive; got a name that leads outside"),
        (_tar({"/evil": b"x"}), "unsafe archive"),
        (_tar({"a/../../evil": b"x"}), "unsafe archive"),
        (_tar({"l": _link("l", tarfile.SYMTYPE)}), "unsafe archive; got a link or device"),
        (_tar({"l": _link("l", tarfile.LNKTYPE, "../x")}), "unsafe archive; got a link or device"),
        (_tar({"l": _link("l", tarfile.FIFOTYPE)}), "unsafe archive; got a link or device"),
        (_tar({"dompdb/a": b"x" * 5000})[:-30], "damaged or cut off"),
        (_tar({}), "an empty archive"),
        (b"<html>not found</html>", "damaged or cut off"),
        (b"", "damaged or cut off"),
    ],
    # Not the bytes, which hold the time: processes that share the tests must know them by one name.
    ids=["above", "absolute", "detour", "symlink", "hardlink", "pipe", "cut", "empty", "page", "nothing"],
)
def test_bad_archives_leave_nothing(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tgz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        extract_tar(tmp_path / "in" / "a.tgz", tmp_path / "in" / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tgz", "in"]


LIST = "/all-releases/v4_3_0/cath-classification-data/cath-domain-list-v4_3_0.txt"
ARCHIVE = "/all-releases/v4_3_0/non-redundant-data-sets/cath-dataset-nonredundant-S40-v4_3_0.pdb.tgz"


@pytest.fixture(scope="module")
def release(cath_dir: Path) -> tuple[bytes, bytes]:
    """A release as CATH publishes it: list and archive."""
    files = {f"dompdb/{path.name}": path.read_bytes() for path in sorted((cath_dir / "dompdb").iterdir())[:6]}
    return (cath_dir / "cath-domain-list.txt").read_bytes(), _tar(dict(files))


def test_cath_from_a_server_that_breaks_off(
    server: Server, tmp_path: Path, release: tuple[bytes, bytes]
) -> None:
    domain_list, archive = release
    server.put(LIST, Served(body=domain_list, cut=[100]))
    served = Served(body=archive, cut=[len(archive) - 20_000])
    server.put(ARCHIVE, served)
    out = tmp_path / "cath"
    command = ["download", "cath", "--out", str(out), "--mirror", server.base]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert f"Next: protclip pretrain --cath {out}" in result.output
    assert len(served.requests) == 2
    folder = find_cath(out)
    assert len(folder.files) == 6
    assert folder.list_path == out / "cath-domain-list-v4_3_0.txt"
    record = json.loads((out / RECORD).read_text())
    assert record["files"][0]["sha256"] == hashlib.sha256(archive).hexdigest()
    assert record["files"][0]["from"] == server.base + ARCHIVE
    assert sorted(path.name for path in out.iterdir()) == [RECORD, "cath-domain-list-v4_3_0.txt", "dompdb"]
    again = CliRunner().invoke(app, command)
    assert "is complete" in again.output
    assert len(served.requests) == 2


def test_a_bad_archive_is_fetched_again_next_time(
    server: Server, tmp_path: Path, release: tuple[bytes, bytes]
) -> None:
    domain_list, archive = release
    server.put(LIST, Served(body=domain_list))
    bad = bytearray(archive)
    bad[len(bad) // 2] ^= 0xFF
    server.put(ARCHIVE, Served(body=bytes(bad)))
    with pytest.raises(DataError, match="damaged or cut off"):
        fetch_cath(tmp_path / "cath", base=server.base)
    assert not (tmp_path / "cath" / "dompdb").exists()
    server.put(ARCHIVE, Served(body=archive))
    assert len(find_cath(fetch_cath(tmp_path / "cath", base=server.base)).files) == 6


def test_a_wrong_list_is_not_kept(server: Server, tmp_path: Path, release: tuple[bytes, bytes]) -> None:
    server.put(LIST, Served(body=b"<html>login</html>"))
    server.put(ARCHIVE, Served(body=release[1]))
    with pytest.raises(DataError, match="malformed line"):
        fetch_cath(tmp_path / "cath", base=server.base)
    assert not list((tmp_path / "cath").glob("cath-domain-list*"))


def test_cath_by_hand(tmp_path: Path, release: tuple[bytes, bytes]) -> None:
    domain_list, archive = release
    (tmp_path / "S40.pdb.tgz").write_bytes(archive)
    (tmp_path / "cath-domain-list.txt").write_bytes(domain_list)
    told: list[str] = []
    out = fetch_cath(tmp_path / "a" / "out", from_files=[tmp_path / "S40.pdb.tgz"], say=told.append)
    assert len(find_cath(out).files) == 6
    assert any("no domain list given" in text for text in told)
    both = CliRunner().invoke(
        app,
        ["download", "cath", "-o", str(tmp_path / "b")]
        + [
            part
            for name in ("S40.pdb.tgz", "cath-domain-list.txt")
            for part in ("--from-file", str(tmp_path / name))
        ],
    )
    assert both.exit_code == 0, both.output
    assert find_cath(tmp_path / "b").list_path == tmp_path / "b" / "cath-domain-list.txt"
    assert (tmp_path / "S40.pdb.tgz").exists()
    with pytest.raises(DataError, match=r"--from-file .*none: no such file"):
        fetch_cath(tmp_path / "c", from_files=[tmp_path / "none"])
    with pytest.raises(DataError, match="expected one archive"):
        fetch_cath(tmp_path / "c", from_files=[tmp_path / "cath-domain-list.txt"])


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--release: unknown release; got '4.3'"):
        fetch_cath(tmp_path, release="4.3")
    with pytest.raises(ConfigError, match="--set: unknown set"):
        fetch_cath(tmp_path, subset="S35")  # type: ignore[arg-type]


def test_downloads_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTCLIP_OFFLINE", "1")
    with pytest.raises(DownloadError, match="switched off by PROTCLIP_OFFLINE"):
        download("http://127.0.0.1:9/file", tmp_path / "file")
