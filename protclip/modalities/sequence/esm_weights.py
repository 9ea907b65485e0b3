"""Where ESM-2 weights come from, and what happens where there are none."""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import torch

from protclip.data.files.download import download
from protclip.errors import ConfigError, DownloadError, ProtclipError, WeightsError
from protclip.files import cache_dir
from protclip.modalities.sequence.esm2 import ESM2, SHAPES, ESM2Shape, empty_esm2, esm2_name, random_esm2
from protclip.modalities.sequence.esm_checkpoint import file_sha256, read_checkpoint
from protclip.work.locks import file_lock

URL = "https://dl.fbaipublicfiles.com/fair-esm/models/{name}.pt"
CONNECT_SECONDS = 5.0
"""Time after which a machine counts as offline."""

EsmInit = Literal["auto", "pretrained", "random"]


@dataclass(frozen=True)
class Provenance:
    """Where a sequence encoder's starting weights are from.

    Attributes
    ----------
    kind : {"pretrained", "random"}
    name : str
        Size: a published name, ``scratch`` or ``custom``.
    source : str
        ``--esm-weights``, ``protclip's cache``, ``torch hub's cache``, a URL, or ``seed N``.
    path, sha256 : str
        File (or folder) and its checksum; empty for random weights.
    message : str
        One sentence for the user.
    fallback : bool
        True where pretrained weights were wished for but could not be had; say so loudly.
    """

    kind: Literal["pretrained", "random"]
    name: str
    source: str
    path: str = ""
    sha256: str = ""
    message: str = ""
    fallback: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Provenance:
        """From :meth:`to_dict`."""
        return cls(**values)


def initial_esm2(
    size: str,
    init: EsmInit = "auto",
    weights: Path | str | None = None,
    *,
    seed: int = 0,
) -> tuple[ESM2, Provenance]:
    """Make an ESM-2 network with its starting weights.

    Parameters
    ----------
    size : str
        Published name or short form (``8M``), or ``scratch``.
    init : {"auto", "pretrained", "random"}
        ``pretrained`` insists on published weights, on disk or fetched; ``random`` never looks for them;
        ``auto`` prefers them and otherwise makes the ``scratch`` network, marked as a fallback.
    weights : path, optional
        File or folder to take them from; then it must be good, whatever ``init`` says.
    seed : int
        Of random weights.

    Returns
    -------
    ESM2, Provenance

    Raises
    ------
    WeightsError
        If the given or found file is damaged or of another size, or ``pretrained`` finds none.
    ConfigError
        If the size or ``init`` is unknown, or ``weights`` is given with ``init="random"``.

    Examples
    --------
    >>> net, origin = initial_esm2("scratch", "random", seed=1)
    >>> net.shape.width, origin.kind, origin.source
    (128, 'random', 'seed 1')
    """
    name = esm2_name(size)
    if init not in ("auto", "pretrained", "random"):
        raise ConfigError(
            "unknown choice", where="--esm-init", got=repr(init), expected="auto, pretrained or random"
        )
    if init == "random":
        if weights:
            raise ConfigError("--esm-weights contradicts --esm-init random", hint="Leave one of them out")
        return _random(name, seed, f"{name} starts from random weights, as asked for")
    if name == "scratch" and not weights:
        if init == "pretrained":
            raise WeightsError(
                "there are no published weights of this size", where="--sequence-encoder", got="scratch"
            )
        return _random(name, seed, "the sequence encoder is trained from scratch, as asked for")
    found = (Path(weights).expanduser(), "--esm-weights") if weights else find_weights(name)
    if found is None:
        try:
            found = fetch_weights(name), URL.format(name=name)
        except DownloadError as error:
            if init == "pretrained":
                raise _missing(name, error) from error
            message = (
                f"No pretrained {name} weights on disk and none could be fetched ({_why(error)}): training "
                "a small ESM-2-shaped network FROM SCRATCH instead. Expect weaker sequence features. "
                + how_to_get(name)
            )
            return _random("scratch", seed, message, fallback=True)
    path, source = found
    return load_esm2(path, None if name == "scratch" else name, source=source)


def load_esm2(
    path: Path, size: str | None = None, *, source: str = "--esm-weights"
) -> tuple[ESM2, Provenance]:
    """Load weights from a fair-esm file or a Hugging Face folder.

    Parameters
    ----------
    path : Path
    size : str, optional
        Expected size; None takes what is there.
    source : str
        For the provenance.

    Raises
    ------
    WeightsError
        If they cannot be read, are damaged, or are of another size.
    """
    checkpoint = read_checkpoint(path)
    if size is not None and checkpoint.shape != SHAPES[size]:
        raise WeightsError(
            "weights of another size",
            where=str(path),
            got=f"{checkpoint.name} ({_words(checkpoint.shape)})",
            expected=f"{size} ({_words(SHAPES[size])})",
            hint=f"Say --sequence-encoder {checkpoint.name}, or give the other file"
            if checkpoint.name in SHAPES
            else "Give the file of that size",
        )
    net = empty_esm2(checkpoint.shape)
    net.load_state_dict(checkpoint.weights)
    sha256 = file_sha256(path)
    message = f"{checkpoint.name} with pretrained weights from {path} ({source}, SHA-256 {sha256[:12]}...)"
    return net, Provenance("pretrained", checkpoint.name, source, str(path), sha256, message)


def find_weights(name: str) -> tuple[Path, str] | None:
    """The checkpoint in protclip's cache or torch hub's, and which of them it is."""
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    for folder, source in ((cache_dir() / "esm2", "protclip's cache"), (hub, "torch hub's cache")):
        if (path := folder / f"{name}.pt").is_file():
            return path, source
    return None


def fetch_weights(name: str) -> Path:
    """Download a published checkpoint into protclip's cache; the file appears whole or not at all.

    Raises
    ------
    DownloadError
        If the machine is offline (within seconds) or the transfer fails.
    WeightsError
        If what arrived is not the checkpoint.
    """
    url = URL.format(name=name)
    path = cache_dir() / "esm2" / f"{name}.pt"
    size = remote_size(url)
    with file_lock(path.with_suffix(".lock")):  # the processes of one run ask at the same time
        if path.is_file():
            return path
        download(url, path, size=size, progress=True, by_hand=how_to_get(name))
        try:
            read_checkpoint(path)
        except WeightsError:
            path.unlink()
            raise
    return path


def remote_size(url: str, seconds: float = CONNECT_SECONDS) -> int | None:
    """Bytes behind ``url`` (None where the server does not say).

    Raises
    ------
    DownloadError
        If no answer came within ``seconds``, or ``PROTCLIP_OFFLINE`` is set.
    """
    if os.environ.get("PROTCLIP_OFFLINE"):
        raise DownloadError("PROTCLIP_OFFLINE is set", where=url)
    answer: list[int | None] = []
    trouble: list[str] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=seconds) as response:
                length = response.headers.get("Content-Length")
            answer.append(int(length) if length else None)
        except (OSError, ValueError) as error:
            trouble.append(str(getattr(error, "reason", error)))

    # Name resolution ignores socket timeouts and may hang for minutes; a thread can be left behind.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds + 1)
    if not answer:
        reason = trouble[0] if trouble else f"no answer in {seconds:.0f} s"
        raise DownloadError(f"cannot reach {urlparse(url).netloc}: {reason}", where=url)
    return answer[0]


def how_to_get(name: str) -> str:
    """Instruction for a machine without network."""
    return (
        f"To use pretrained weights, download {URL.format(name=name)} and give it with --esm-weights, "
        f"or put it into {cache_dir() / 'esm2'}"
    )


def _missing(name: str, error: ProtclipError) -> WeightsError:
    return WeightsError(
        f"no pretrained {name} weights on disk, and they could not be fetched ({_why(error)})",
        where="--esm-init pretrained",
        hint=how_to_get(name),
    )


def _why(error: ProtclipError) -> str:
    return f"{error.message}: {error.got}" if error.got else error.message


def _random(name: str, seed: int, message: str, fallback: bool = False) -> tuple[ESM2, Provenance]:
    return random_esm2(SHAPES[name], seed), Provenance(
        "random", name, f"seed {seed}", "", "", message, fallback
    )


def _words(shape: ESM2Shape) -> str:
    return f"{shape.layers} layers, width {shape.width}, {shape.heads} heads"
