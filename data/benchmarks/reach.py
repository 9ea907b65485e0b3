"""Whether a source answers at all: one short question to each address, before anything is fetched."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from protclip.errors import DownloadError

SECONDS = 5.0
"""Longest wait for a first answer; the retries of a download would take minutes to say the same."""

SLOW = "no answer in time from"


class Answer(NamedTuple):
    """What a server said: HTTP status, and the length of the file in bytes where it told that."""

    url: str
    status: int
    size: int | None


def ask(urls: Sequence[str], *, seconds: float = SECONDS) -> Answer:
    """The first good answer to a HEAD request among several addresses, else any answer.

    Refusals are answers too: why a server refuses, the download itself says best.

    Raises
    ------
    DownloadError
        If none answers in time, or ``PROTCLIP_OFFLINE`` is set.
    """
    hosts = " and ".join(dict.fromkeys(urlsplit(url).netloc for url in urls))
    if os.environ.get("PROTCLIP_OFFLINE"):
        raise DownloadError("no network: downloads are switched off by PROTCLIP_OFFLINE")
    answers: queue.Queue[Answer | str] = queue.Queue()
    for url in urls:
        # Looking up a name cannot be cut short; a daemon does not keep the program waiting for it.
        threading.Thread(target=_ask, args=(url, seconds, answers), daemon=True).start()
    refused: Answer | None = None
    reason = SLOW
    end = time.monotonic() + seconds
    for _ in urls:
        try:
            answer = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        if isinstance(answer, str):
            reason = answer
        elif answer.status == 200:
            return answer
        else:
            refused = refused or answer
    if refused is None:
        raise DownloadError(f"no network: {reason} {hosts}")
    return refused


def _ask(url: str, seconds: float, answers: queue.Queue[Answer | str]) -> None:
    import requests  # lazy: only people who fetch need it

    try:
        with requests.head(url, allow_redirects=True, timeout=seconds) as response:
            length = response.headers.get("Content-Length", "")
            told = length.isdigit() and response.status_code == 200
            answers.put(Answer(url, response.status_code, int(length) if told else None))
    except requests.exceptions.ProxyError:
        answers.put("the proxy gives no connection to")
    except requests.exceptions.SSLError:
        answers.put("no trusted certificate from")
    except requests.exceptions.Timeout:
        answers.put(SLOW)
    except requests.RequestException:
        answers.put("no connection to")
