"""Fetching files: mirrors, resume, checksum, atomic appearance, and a clear word when there is no network."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from protclip import __version__
from protclip.errors import DownloadError
from protclip.files import sync
from protclip.work.fingerprint import file_digest
from protclip.work.locks import claim, tidy
from protclip.work.outputs import check_output
from protclip.work.unfinished import is_full

if TYPE_CHECKING:
    import requests

BLOCK = 1 << 16
SPARE = 64 << 20
"""Bytes that have to stay free on the disk."""

ROOM_CHECK = 64 << 20
"""Bytes after which the room on the disk is looked at again."""

ATTEMPTS = 4
"""Fruitless attempts at one address; one that brought bytes does not count."""

MOST_ATTEMPTS = 100
FINAL = {400, 401, 403, 404, 405, 410, 451}
"""HTTP answers after which asking the same server again is pointless."""


class _Retry(Exception):
    """Worth another attempt at the same address."""


def download(
    urls: str | Sequence[str],
    dest: str | Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    progress: bool = False,
    by_hand: str | None = None,
    timeout: tuple[float, float] = (10.0, 30.0),
    backoff: float = 1.0,
) -> Path:
    """Fetch a file from the first address that gives it.

    What has arrived is kept in ``<dest>.partial`` and continued, also by a later call, if the server
    vouches that the file is still the same or a checksum will tell. `dest` appears whole or not at all;
    if it is there already and fits the checksum, nothing is fetched.

    Parameters
    ----------
    urls
        One address, or several mirrors in order.
    dest
        File to write.
    sha256, md5
        Checksums in hexadecimal.
    size
        Length in bytes.
    progress
        Show a bar on stderr.
    by_hand
        What a user without network should do; appended to the error.
    timeout
        Seconds to connect and seconds without a byte.
    backoff
        Seconds before the second attempt, doubled for each further one.

    Raises
    ------
    DownloadError
        If no address gives the file, it fails its checksum, the disk is too full, or ``PROTCLIP_OFFLINE`` is
        set.
    DataError
        If `dest` cannot be written, or another process is fetching it.
    """
    addresses = [urls] if isinstance(urls, str) else list(urls)
    dest = Path(dest)
    expected = {"sha256": sha256, "md5": md5}
    if dest.is_file() and _mismatch(dest, expected, size) is None:
        tidy_download(dest)
        return dest
    if os.environ.get("PROTCLIP_OFFLINE"):
        raise DownloadError("downloads are switched off by PROTCLIP_OFFLINE", where=str(dest), hint=by_hand)
    check_output(dest)
    with claim(dest):
        return _fetch(addresses, dest, expected, size, progress, by_hand, timeout, backoff)


def tidy_download(dest: Path) -> None:
    """Remove what a killed call left beside a file that is complete."""
    tidy(dest)
    partial = dest.with_name(dest.name + ".partial")
    if not partial.exists():
        with suppress(OSError):
            partial.with_name(partial.name + ".json").unlink()


def _fetch(
    addresses: Sequence[str],
    dest: Path,
    expected: dict[str, str | None],
    size: int | None,
    progress: bool,
    by_hand: str | None,
    timeout: tuple[float, float],
    backoff: float,
) -> Path:
    partial = dest.with_name(dest.name + ".partial")
    reasons = []
    with _bar(progress, dest.name) as advance:
        for url in addresses:
            transfer = _Transfer(url, partial, any(expected.values()), size, timeout, advance)
            reason = transfer.run(backoff)
            if reason is None and (reason := _mismatch(partial, expected, size)) is not None:
                transfer.discard()
                if transfer.resumed:  # the earlier piece may have been the bad one
                    reason = transfer.run(backoff) or _mismatch(partial, expected, size)
                    if reason is not None:
                        transfer.discard()
            if reason is None:
                try:
                    sync(partial)
                    partial.replace(dest)
                    transfer.state.unlink(missing_ok=True)
                except OSError as error:
                    raise _not_written(partial, error) from error
                return dest
            reasons.append(reason)
    raise DownloadError(
        "could not be fetched",
        where=addresses[0] if len(addresses) == 1 else dest.name,
        got=_told_once(addresses, reasons),
        hint=by_hand or f"Without internet access here: fetch it elsewhere and save it as {dest}",
    )


def _told_once(addresses: Sequence[str], reasons: Sequence[str]) -> str:
    """Why each address failed; by the names of the servers alone where all failed alike."""
    if len(addresses) < 2:
        return reasons[0] if reasons else "no address"
    if len(set(reasons)) == 1:
        return f"{reasons[0]} at {' and '.join(dict.fromkeys(urlsplit(url).netloc for url in addresses))}"
    return "; ".join(f"{url}: {reason}" for url, reason in zip(addresses, reasons, strict=True))


def _mismatch(path: Path, expected: dict[str, str | None], size: int | None) -> str | None:
    """Why a complete file is not the one wanted; None if it is."""
    if size is not None and path.stat().st_size != size:
        return f"{path.stat().st_size} bytes instead of {size}"
    for kind, wanted in expected.items():
        if wanted is not None and (found := file_digest(path, kind)) != wanted.lower():
            return f"wrong {kind}: {found} instead of {wanted.lower()}"
    return None


def _not_written(partial: Path, error: OSError) -> DownloadError:
    return DownloadError(
        "the disk is full" if is_full(error) else "cannot be written",
        where=str(partial),
        got=error.strerror or str(error),
        hint="What has arrived is kept: make room and give the same command again"
        if is_full(error)
        else None,
    )


class _Transfer:
    """One address and the partial file that grows from it."""

    def __init__(
        self,
        url: str,
        partial: Path,
        checked: bool,
        size: int | None,
        timeout: tuple[float, float],
        advance: Callable[[int, int | None], None],
    ) -> None:
        self.url, self.partial, self.checked, self.size = url, partial, checked, size
        self.timeout, self.advance = timeout, advance
        self.state = partial.with_name(partial.name + ".json")
        self.resumed = False

    @property
    def have(self) -> int:
        return self.partial.stat().st_size if self.partial.is_file() else 0

    def discard(self) -> None:
        self.partial.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)

    def run(self, backoff: float) -> str | None:
        """Fetch until the file is complete; None then, else why it cannot be."""
        import requests  # lazy: only people who fetch need it

        fruitless = 0
        reason = ""
        for _ in range(MOST_ATTEMPTS):
            before = self.have
            try:
                return self._attempt(requests)
            except _Retry as error:
                reason = str(error)
            except requests.exceptions.ConnectTimeout:
                fruitless, reason = fruitless + 1, "no answer (is this machine online?)"
            except requests.exceptions.ReadTimeout:
                reason = f"no data for {self.timeout[1]:g} s"
            except requests.exceptions.ConnectionError as error:
                if "timed out" in str(error):
                    reason = f"no data for {self.timeout[1]:g} s"
                elif self.have > before or "aborted" in str(error) or "reset" in str(error):
                    reason = "the connection broke off"
                else:
                    fruitless, reason = fruitless + 1, "no connection (is this machine online?)"
            except requests.exceptions.ChunkedEncodingError:
                reason = "the connection broke off"
            except requests.RequestException as error:
                return f"{type(error).__name__}: {error}"
            except OSError as error:
                raise _not_written(self.partial, error) from error
            fruitless = 0 if self.have > before else fruitless + 1
            if fruitless >= ATTEMPTS:
                break
            # A connection that brought something may be tried again almost at once.
            time.sleep(min(30.0, backoff * 2 ** (fruitless - 1)) if fruitless else backoff / 10)
        return reason

    def _attempt(self, requests: Any) -> str | None:
        have, validator = self.have, self._validator()
        headers = {"User-Agent": f"protclip/{__version__}", "Accept-Encoding": "identity"}
        if have and (validator or self.checked):
            headers["Range"] = f"bytes={have}-"
            if validator:
                headers["If-Range"] = validator
        with requests.get(self.url, headers=headers, stream=True, timeout=self.timeout) as response:
            if response.status_code in FINAL:
                return f"HTTP {response.status_code} {response.reason}"
            if response.status_code == 416:
                whole = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
                if whole and int(whole[1]) == have:
                    return None
                self.discard()
                raise _Retry("the server holds another version of the file")
            if response.status_code not in (200, 206):
                raise _Retry(f"HTTP {response.status_code} {response.reason}")
            return self._receive(response, have)

    def _validator(self) -> str:
        """What the server said to recognise the file by, if the partial file came from this address."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            state = json.loads(self.state.read_text())
            if state["url"] == self.url:
                return str(state["validator"])
        return ""

    def _receive(self, response: requests.Response, have: int) -> str | None:
        total: int | None
        if response.status_code == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if span is None or int(span[1]) != have:
                self.discard()
                raise _Retry("the server sent another part than asked for")
            total = int(span[2])
            self.resumed = True
        else:
            have = 0
            length = response.headers.get("Content-Length", "")
            total = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
            etag = response.headers.get("ETag", "")
            # A weak ETag does not promise equal bytes, and may not be used to continue.
            validator = (
                etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
            )
            self.state.write_text(json.dumps({"url": self.url, "validator": validator}))
        if self.size is not None and total is not None and total != self.size:
            self.discard()
            return f"the server offers {total} bytes, expected {self.size}"
        self._refuse_full((total or self.size or 0) - have)
        most = total if total is not None else self.size
        self.advance(have, total)
        with self.partial.open("ab" if have else "wb") as stream:
            for block in response.iter_content(BLOCK):
                stream.write(block)
                have += len(block)
                self.advance(have, total)
                if most is not None and have > most:
                    break
                if have // ROOM_CHECK != (have - len(block)) // ROOM_CHECK:
                    self._refuse_full()
        if total is not None and have < total:
            raise _Retry(f"the connection broke off after {have} of {total} bytes")
        if most is not None and have > most:
            self.discard()
            return f"{have} bytes or more instead of {most}"
        return None

    def _refuse_full(self, needed: int = 0) -> None:
        """Stop before the disk is full: a body of unknown length may have no end."""
        free = shutil.disk_usage(self.partial.parent).free
        if needed + SPARE > free:
            raise DownloadError(
                "not enough room on the disk",
                where=str(self.partial.parent),
                got=f"{free / 1e9:.2f} GB free",
                expected=f"{(needed + SPARE) / 1e9:.2f} GB",
            )


@contextmanager
def _bar(show: bool, name: str) -> Iterator[Callable[[int, int | None], None]]:
    if not show:
        yield lambda have, total: None
        return
    from rich.console import Console  # lazy: only for people who watch
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        yield lambda have, total: bar.update(task, completed=have, total=total)
