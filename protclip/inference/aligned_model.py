"""Use a trained model: items of either modality in, vectors out."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protclip.config.checks import check_choice
from protclip.config.pretraining import PRECISIONS
from protclip.data.files.pipes import exists
from protclip.errors import ConfigError, DataError, ProtclipError
from protclip.inference.containers import brief
from protclip.inference.embeddings import Embeddings
from protclip.inference.encode import embed_items, in_batches, pick_device
from protclip.inference.inputs import Recognised, recognise
from protclip.inference.progress import showing
from protclip.inference.shortcuts import Shortcuts
from protclip.inference.windows import readable_windows
from protclip.model.folder import find_model, newest_run
from protclip.model.two_tower import TwoTower
from protclip.typing import Display, Done
from protclip.work.fingerprint import file_digest

WINDOW = 2048
"""Items that are sorted by length and embedded together; bounds the memory of a stream."""


@dataclass
class Window:
    """Results of one window of a stream.

    ``seen`` counts its inputs, those that are passed over included, and ``repeated`` those of ``failed``
    whose id came before.
    """

    ids: list[str] = field(default_factory=list)
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    digests: list[bytes] = field(default_factory=list)
    residues: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, int] = field(default_factory=dict)
    seen: int = 0
    repeated: int = 0


NOT_FINITE = "its vector is not finite (NaN or infinity)"
"""Why an item that was read is not embedded."""


class AlignedModel(Shortcuts):
    """A trained two-tower model, ready to embed.

    Made by :func:`protclip.load`.

    Attributes
    ----------
    towers : TwoTower
        The network, in evaluation mode.
    facts : dict
        What it was trained on and how.
    path : Path
        Model folder.
    """

    def __init__(
        self, towers: TwoTower, facts: Mapping[str, Any], path: Path, precision: str = "auto"
    ) -> None:
        self.towers, self.facts, self.path, self.precision = towers, dict(facts), path, precision

    def __repr__(self) -> str:
        left, right = self.towers.names
        device = self.towers.log_scale.device
        made = f"{self.dim} dimensions, {self.facts.get('objective')}"
        return f"AlignedModel({left} and {right}, {made}, on {device}, from {self.path})"

    @property
    def dim(self) -> int:
        """Width of the shared space."""
        return self.towers.dim

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights."""
        return file_digest(self.path / "model.safetensors")

    def embed(
        self,
        *source: Any,
        modality: str | None = None,
        per_residue: bool = False,
        progress: bool | Display | None = None,
        id_column: str | None = None,
        **columns: str | None,
    ) -> Embeddings:
        """Embed what you have; its kind tells the modality.

        Text is the name of a file where there is one, else an item. Ids are the keys of a mapping, the index
        of a pandas object, the first of a pair, or what a file or object calls its items; else the positions.

        Parameters
        ----------
        source : object
            One item, a path or folder, or a list, generator, array, mapping, Series or DataFrame of these.
            Objects of Biopython, gemmi and biotite are items too. With two arguments the first names the
            modality; where it is named, whatever its adapter reads will do.
        modality : str, optional
            One of ``towers.names``, where it cannot be told from the input.
        per_residue : bool
            Also keep the tower's features of the parts of each item.
        progress : bool or Display, optional
            True shows a bar, False none; by default one is shown where work takes longer than a second or two
            and somebody watches: in a notebook or on a terminal.
        id_column : str, optional
            Column of a DataFrame with the ids; by default ``id``, or the index where there is none.
        **columns : str
            ``<modality>_column``: column of a DataFrame with the items; by default the one that is called as
            a modality.

        Returns
        -------
        Embeddings
            Inputs that cannot be read are listed in ``failed``, with a warning.

        Raises
        ------
        ProtclipError
            If the input can be read in two ways, is none that can be embedded, holds an id twice, or nothing
            of it can be read.

        Examples
        --------
        >>> model = protclip.load()  # doctest: +SKIP
        >>> model.embed({"insulin A": "GIVEQCCTSICSLYQLENYCN"})  # doctest: +SKIP
        Embeddings(1 x 256, sequence: insulin A)
        """
        found = self._recognised(source, modality, id_column, columns)
        parts = []
        with showing(progress, f"embed {found.side}", found.total) as count:
            for part in self.stream(found.side, found, per_residue=per_residue, done=count.done):
                parts.append(part)
                count.window(len(part.ids) + len(part.failed))
        failed = {id: reason for part in parts for id, reason in part.failed.items()}
        ids = [id for part in parts for id in part.ids]
        if not ids:
            first = next(iter(failed.items()), None)
            raise DataError(
                "nothing could be embedded" if first else "nothing to embed: the input is empty",
                where=f"{found.side} input",
                got=f"{first[0]}: {first[1]}" if first else None,
            )
        if failed:
            warnings.warn(f"{len(failed)} of the inputs could not be embedded; see .failed", stacklevel=2)
        for remark, times in sum((Counter(part.remarks) for part in parts), Counter[str]()).items():
            warnings.warn(f"{times} of the inputs: {remark}", stacklevel=2)
        vectors = np.concatenate([part.vectors for part in parts if part.ids])
        residues = {id: rows for part in parts for id, rows in part.residues.items()}
        return Embeddings(ids, vectors, found.side, residues, failed)

    def _recognised(
        self,
        source: tuple[Any, ...],
        modality: str | None,
        id_column: str | None,
        columns: Mapping[str, str | None],
    ) -> Recognised:
        names = self.towers.names
        if len(source) == 2 and modality is None:
            modality, source = source[0], source[1:]
        if len(source) != 1 or (isinstance(source[0], str) and source[0] in names):
            raise ConfigError(
                "embed takes one input, and before it the modality where you name it",
                where="embed()",
                got=", ".join(map(brief, source)) or "nothing",
                expected=f"model.embed(x) or model.embed({names[0]!r}, x)",
            )
        by_side = {f"{name}_column": name for name in names}
        unknown = [key for key in columns if key not in by_side]
        if unknown:
            expected = ", ".join(["modality", "per_residue", "progress", "id_column", *by_side])
            raise ConfigError("unknown option", where="embed()", got=", ".join(unknown), expected=expected)
        return recognise(
            source[0],
            self.towers.sides,
            modality=modality,
            id_column=id_column,
            columns={by_side[key]: column for key, column in columns.items()},
        )

    def stream(
        self,
        name: str,
        source: Any,
        *,
        per_residue: bool = False,
        skip: Callable[[str], bool] = lambda id: False,
        window: int = WINDOW,
        done: Done = lambda n: None,
    ) -> Iterator[Window]:
        """Embed a stream of any length, window by window, in input order and constant memory.

        Equal items of a window are computed once. Ids must be unique; a repeated one is listed as failed.

        Parameters
        ----------
        source : object
            What the adapter reads, a shard of files, or an input that was recognised.
        skip : callable
            Ids for which it is True are passed over (done before).
        done : callable
            Told the number of items of each finished batch.
        """
        items = source.items() if isinstance(source, Recognised) else self._side(name).stream(source)
        for readable in readable_windows(items, window, skip=skip):
            result = Window(
                ids=readable.ids,
                failed=readable.failed,
                seen=readable.seen,
                repeated=readable.repeated,
            )
            self._compute(name, readable.items, result, per_residue, done)
            yield result

    def side_of(self, path: Path) -> str:
        """Name of the side that a file, folder or pipe (``-``: standard input) belongs to, by what it holds.

        Raises
        ------
        ConfigError
            If the path does not exist, or no side or both sides accept it.
        """
        if not exists(path):
            raise DataError("no such file or folder", where=str(path))
        found = [name for name, side in self.towers.sides.items() if side.accepts(path)]
        if len(found) != 1:
            raise ConfigError(
                "cannot tell which modality this is",
                where=str(path),
                got=" or ".join(found) or "neither",
                hint=f"Say it with --modality {' or '.join(self.towers.names)}",
            )
        return found[0]

    def _side(self, name: str) -> Any:
        if name not in self.towers.sides:
            raise ConfigError(
                "the model has no such side",
                where=str(self.path),
                got=repr(name),
                expected=" or ".join(map(repr, self.towers.names)),
            )
        return self.towers.sides[name]

    def _compute(self, name: str, items: list[Any], result: Window, per_residue: bool, done: Done) -> None:
        side = self._side(name)
        result.digests = [side.digest(item) for item in items]
        result.remarks = side.remarks(items)
        first: dict[bytes, int] = {}
        for i, digest in enumerate(result.digests):
            first.setdefault(digest, i)
        unique = {digest: k for k, digest in enumerate(first)}
        kept = [items[i] for i in first.values()]
        try:
            vectors = embed_items(self.towers, name, kept, precision=self.precision, done=done)
        except ProtclipError:
            self._one_by_one(name, items, result, per_residue, done)
            return
        if not items:
            return
        residues = self._residues(name, kept) if per_residue else []
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(vectors).all(1))
        for k, rows in enumerate(residues):
            finite[k] &= np.isfinite(rows).all()
        places = [unique[digest] for digest in result.digests]
        good = [i for i, k in enumerate(places) if finite[k]]
        result.failed |= {id: NOT_FINITE for id, k in zip(result.ids, places, strict=True) if not finite[k]}
        result.ids = [result.ids[i] for i in good]
        result.digests = [result.digests[i] for i in good]
        result.vectors = vectors[[places[i] for i in good]]
        if per_residue:
            result.residues = {id: residues[places[i]] for id, i in zip(result.ids, good, strict=True)}

    def _one_by_one(self, name: str, items: list[Any], result: Window, per_residue: bool, done: Done) -> None:
        """Find the items that the encoder refuses and embed the others."""
        good: list[int] = []
        side = self._side(name)
        for i, item in enumerate(items):
            try:
                side.collate([item])
            except ProtclipError as error:
                result.failed[result.ids[i]] = str(error)
            else:
                good.append(i)
        if len(good) == len(items):
            raise DataError("a batch failed although each of its items is fine", where=f"{name} input")
        result.ids = [result.ids[i] for i in good]
        self._compute(name, [items[i] for i in good], result, per_residue, done)

    def _residues(self, name: str, items: list[Any]) -> list[NDArray[np.float32]]:
        side = self._side(name)
        rows: dict[int, NDArray[np.float32]] = {}
        batches = in_batches(
            [side],
            [items],
            side.encode_residues,
            device=self.towers.log_scale.device,
            precision=self.precision,
            budget=side.budget,
        )
        for index, parts in batches:
            for i, part in zip(index, parts, strict=True):
                rows[i] = part.float().cpu().numpy()
        return [rows[i] for i in range(len(items))]


def load(path: str | Path | None = None, device: str = "auto", *, precision: str = "auto") -> AlignedModel:
    """Load a trained model.

    Parameters
    ----------
    path : str or Path, optional
        Model folder, or the run folder that holds it. Without it the newest finished run in ``runs/`` of the
        current folder is taken, and named on stderr.
    device : str
        ``"auto"`` (CUDA where present), ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    precision : {"auto", "fp32", "bf16"}
        ``"auto"`` is bf16 autocast on CUDA and fp32 elsewhere.

    Raises
    ------
    WeightsError, ConfigError
        If there is no (readable) model, no such device or no such precision.
    """
    check_choice("--precision", precision, PRECISIONS)
    if path is None:
        found = newest_run()
        path = found.required()
        print(f"protclip.load(): {found.sentence()}", file=sys.stderr)
    folder = find_model(Path(path))
    towers, facts = TwoTower.load(folder, pick_device(device))
    return AlignedModel(towers, facts, folder, precision)
