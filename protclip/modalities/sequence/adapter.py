"""Amino acid sequences as a modality: FASTA files or strings -> packed tokens -> ESM-2."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from protclip.compression import without_suffix
from protclip.data.corpus.store import Corpus
from protclip.data.files.fasta import GappedSequence, looks_like_fasta, read_fasta, read_fasta_span
from protclip.data.files.folder_listing import FolderListing, list_folder
from protclip.data.files.pipes import is_pipe, look_into
from protclip.data.files.spans import Span, corpus_rows, is_corpus
from protclip.errors import ConfigError, DataError, ProtclipError
from protclip.modalities.base import Encoder, Modality, call_with_options
from protclip.modalities.sequence.esm2 import ESM2, ESM2Shape, empty_esm2
from protclip.modalities.sequence.esm_weights import EsmInit, Provenance, initial_esm2
from protclip.modalities.sequence.lora import add_lora
from protclip.modalities.sequence.tokens import MASK_LETTER, TokenBatch, collate_sequences, tokenize, windows
from protclip.structure.protein import Protein
from protclip.structure.reading.objects import is_instance_of

Tune = Literal["frozen", "lora", "full"]

FASTA_SUFFIXES = (".fasta", ".fa", ".faa", ".fas", ".fsa", ".pep", ".seq")

WINDOW = 1022
"""Residues per window: what ESM-2 was trained on."""


class SequenceEncoder(Encoder):
    """ESM-2 followed by the mean over residues; ``<cls>`` and ``<eos>`` do not count.

    Parameters
    ----------
    net : ESM2

    Attributes
    ----------
    out_dim : int
        Width of the network.
    """

    def __init__(self, net: ESM2) -> None:
        super().__init__()
        self.net = net
        self.out_dim = net.shape.width

    def residues(self, batch: TokenBatch) -> Tensor:
        """Features [R, out_dim] of all residues of the batch; the mean over windows where they overlap."""
        found: Tensor = self.net(batch.tokens, batch.packing)[batch.residues]
        if batch.rows is None:
            return found
        total = found.new_zeros(sum(batch.sizes), self.out_dim).index_add(0, batch.rows, found)
        times = found.new_zeros(len(total)).index_add(0, batch.rows, found.new_ones(len(found)))
        return total / times[:, None]

    def forward(self, batch: TokenBatch) -> Tensor:
        """Mean residue features [n, out_dim]."""
        residues = self.residues(batch)
        if residues.is_cuda:  # one kernel, without atomics: the same sum every time
            sizes = torch.tensor(batch.sizes, device=residues.device)
            mean: Tensor = torch.segment_reduce(residues, "mean", lengths=sizes, axis=0, unsafe=True)
            return mean
        if not batch.sizes:
            return residues
        return torch.stack([part.mean(0) for part in torch.split(residues, list(batch.sizes))])


class SequenceModality(Modality[str]):
    """Amino acid sequences seen by ESM-2.

    Chains of more than ``max_length`` residues are embedded in evenly spaced windows of that length which
    overlap by at least a quarter; a residue in several windows gets the mean of its features.

    Parameters
    ----------
    net : ESM2
        Network with its starting weights; :meth:`create` finds them.
    provenance : Provenance
        Where these are from.
    tune : {"frozen", "lora", "full"}
        Train nothing, low-rank updates of the attention projections, or everything.
    lora_rank, lora_alpha
        Of the updates.
    max_length : int
        Longest window in residues.
    mask, crop : float
        Augmented view: share of residues masked, smallest share kept by contiguous cropping.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Examples
    --------
    >>> side = SequenceModality.create("scratch", init="random")
    >>> batch = side.collate(["MKTAYIAKQR", "GG"])
    >>> side.encoder.eval()(batch).shape, [len(part) for part in side.encode_residues(batch)]
    (torch.Size([2, 128]), [10, 2])
    """

    name = "sequence"
    budget: ClassVar[int] = 4096
    takes: ClassVar[str] = "a sequence as text, a Bio.Seq or a SeqRecord"

    def __init__(
        self,
        net: ESM2,
        provenance: Provenance,
        *,
        tune: Tune = "full",
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        max_length: int = WINDOW,
        mask: float = 0.15,
        crop: float = 0.7,
    ) -> None:
        for option, value in (("mask", mask), ("crop", crop)):
            if not 0 <= value <= 1:
                raise ConfigError("out of range", where=option, got=str(value), expected="0 to 1")
        if max_length < 2:
            raise ConfigError("out of range", where="max_length", got=str(max_length), expected="2 or more")
        if tune not in ("frozen", "lora", "full"):
            raise ConfigError(
                "unknown choice", where="--tune", got=repr(tune), expected="frozen, lora or full"
            )
        self.provenance = provenance
        self.tune: Tune = tune
        self.lora_rank, self.lora_alpha = lora_rank, lora_alpha
        self.max_length = max_length
        self.mask, self.crop = mask, crop
        self.frozen = tune == "frozen"
        # Low-rank updates start from nothing and want the rate of new weights.
        self.pretrained = provenance.kind == "pretrained" and tune != "lora"
        if tune == "frozen":
            net.requires_grad_(False)
        elif tune == "lora":
            add_lora(net, lora_rank, lora_alpha)
        self.encoder: SequenceEncoder = SequenceEncoder(net)

    @classmethod
    def create(
        cls,
        size: str = "esm2_t6_8M_UR50D",
        *,
        weights: Path | str | None = None,
        init: EsmInit = "auto",
        tune: Tune | Literal["auto"] = "auto",
        dropout: float | None = None,
        checkpointing: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> SequenceModality:
        """Find or make starting weights and build the modality on them.

        Parameters
        ----------
        size, weights, init, seed
            See :func:`protclip.modalities.sequence.esm_weights.initial_esm2`.
        tune : {"auto", "frozen", "lora", "full"}
            ``auto`` freezes pretrained weights and trains random ones. A network that falls back to random
            weights is trained in full whatever was asked for, and the provenance's message says so.
        dropout : float, optional
            In training; by default 0.1 for random weights and 0, as published, for pretrained ones.
        checkpointing : bool
            Save memory in the backward pass for time.
        **options
            Of the constructor.

        Returns
        -------
        SequenceModality
            Print its ``provenance.message``, loudly where ``provenance.fallback``.

        Raises
        ------
        WeightsError, ConfigError
        """
        net, provenance = initial_esm2(size, init, weights, seed=seed)
        pretrained = provenance.kind == "pretrained"
        if tune == "auto" or provenance.fallback:
            tune = "frozen" if pretrained else "full"
        net.set_training(
            dropout=dropout if dropout is not None else 0.0 if pretrained else 0.1,
            checkpointing=checkpointing,
        )
        return cls(net, provenance, tune=tune, **options)

    @classmethod
    def from_options(
        cls, options: Mapping[str, Any], *, source: Any = None, seed: int = 0
    ) -> SequenceModality:
        """Options of :meth:`create`, and those of the constructor that go through it."""
        side: SequenceModality = call_with_options(
            cls.create, options, where=f"options of {cls.name}", passes_on=_passed_on, seed=seed
        )
        return side

    def resolved(self) -> dict[str, Any]:
        """Size, start and tuning."""
        return {"size": self.provenance.name, "init": self.provenance.kind, "tune": self.tune}

    def config(self) -> dict[str, Any]:
        """Architecture, tuning, augmentation and provenance as plain values."""
        net = self.encoder.net
        return {
            "size": self.provenance.name,
            "layers": net.shape.layers,
            "width": net.shape.width,
            "heads": net.shape.heads,
            "token_dropout": net.shape.token_dropout,
            "dropout": net.dropout,
            "checkpointing": net.checkpointing,
            "tune": self.tune,
            "lora_rank": self.lora_rank,
            "lora_alpha": self.lora_alpha,
            "max_length": self.max_length,
            "mask": self.mask,
            "crop": self.crop,
            "provenance": self.provenance.to_dict(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SequenceModality:
        """Rebuild from :meth:`config`; the weights have no values until they are loaded."""
        options = dict(config)
        del options["size"]
        shape = ESM2Shape(*(options.pop(key) for key in ("layers", "width", "heads", "token_dropout")))
        net = empty_esm2(shape)
        net.set_training(dropout=options.pop("dropout"), checkpointing=options.pop("checkpointing"))
        return cls(net, Provenance.from_dict(options.pop("provenance")), **options)

    def accepts(self, path: Path) -> bool:
        """A file with a FASTA name, plain or compressed, a folder that holds one, or a pipe of FASTA."""
        if path.is_dir():
            return any(is_fasta(file) for file in self._listing(path).files)
        return is_fasta(path) or _holds_fasta(path)

    def recognises(self, value: object, *, named: bool = False) -> bool:
        """Letters, Bio.Seq and SeqRecord objects.

        Where sequences are asked for, also proteins for their sequences, and text with other characters,
        which reading then refuses by residue.
        """
        if isinstance(value, str):
            return not is_file_name(value) if named else _LETTERS.fullmatch(value) is not None
        return is_biopython_sequence(value) or (named and isinstance(value, Protein))

    def own_id(self, value: Any) -> str:
        """The id of a SeqRecord or protein."""
        id = getattr(value, "id", None)
        return id if isinstance(id, str) and not id.startswith("<unknown") else ""

    def files(self, path: Path) -> list[Path]:
        """FASTA files and corpus files in a folder and below it; any other path is a file.

        What else stands in the folder is counted in a warning.
        """
        if not path.is_dir():
            return [path]
        listing = self._listing(path)
        listing.warn(path)
        return listing.files

    def _listing(self, folder: Path) -> FolderListing:
        return list_folder(folder, lambda file: is_fasta(file) or is_corpus(file), "not named like sequences")

    def read_span(self, span: Span) -> Iterable[tuple[str, str | Exception]]:
        """Records of a FASTA file, or sequences of a corpus file."""
        if not is_corpus(span.path):
            return self.read(read_fasta_span(span))
        return self._read_corpus(span)

    def _read_corpus(self, span: Span) -> Iterable[tuple[str, str | Exception]]:
        with Corpus.open(span.path) as corpus:
            ids = corpus.ids
            for rows in corpus_rows(corpus, span):
                yield from self.read(zip(ids[rows.start : rows.stop], corpus.sequences(rows), strict=True))

    def collate(self, items: Sequence[str]) -> TokenBatch:
        """Packed token windows."""
        return collate_sequences(items, longest=self.max_length)

    def augment(self, item: str, rng: np.random.Generator) -> str:
        """A contiguous piece of the sequence with some residues masked; at least one stays."""
        keep = max(1, round(len(item) * rng.uniform(self.crop, 1.0)))
        start = int(rng.integers(len(item) - keep + 1))
        letters = np.array(list(item[start : start + keep]))
        hidden = rng.random(keep) < self.mask
        hidden[rng.integers(keep)] = False
        letters[hidden] = MASK_LETTER
        return "".join(letters)

    def cost(self, item: str) -> int:
        """Tokens, over all windows."""
        return sum(stop - start + 2 for start, stop in windows(len(item), self.max_length))

    def remarks(self, items: Iterable[str]) -> dict[str, int]:
        """How many sequences are longer than one window, look like nucleotides, or had gaps."""
        found: Counter[str] = Counter()
        for item in items:
            if len(item) > self.max_length:
                found[f"longer than {self.max_length} residues, embedded in overlapping windows"] += 1
            if looks_like_nucleotides(item):
                found[NUCLEOTIDES] += 1
            if isinstance(item, GappedSequence):
                found["with gaps or a stop, which were left out"] += 1
        return dict(found)

    def digest(self, item: str) -> bytes:
        """Hash of the tokens: J and X, upper and lower case are the same."""
        return hashlib.sha256(tokenize(item, masks=True).astype(np.uint8).tobytes()).digest()

    def encode_residues(self, batch: Any) -> list[Tensor]:
        """Residue features, one [L, out_dim] tensor per sequence."""
        return list(torch.split(self.encoder.residues(batch), list(batch.sizes)))

    def read(self, source: Any) -> Iterable[tuple[str, str | Exception]]:
        """Sequences from a FASTA or corpus file, folders of these, strings, (id, string) pairs or proteins.

        Strings in a list are numbered from 0. Blanks, gaps and one closing stop (``*``) are removed, as in
        FASTA files; an item that holds another character, and a record of a FASTA file without id or
        sequence, comes as its :class:`DataError`. Ids may repeat: a file is read in constant memory.

        Raises
        ------
        DataError
            If the file cannot be read or is no FASTA file, or ``source`` is of another type.
        """
        pairs: Iterable[tuple[str, Any]]
        if isinstance(source, (str, Path)):
            path = Path(source)
            if path.is_dir() or is_corpus(path):
                for file in self.files(path):
                    yield from self.read_span(Span.whole(file))
                return
            pairs = read_fasta(path, unique=False, on_error="yield")
        elif isinstance(source, Protein):
            pairs = [(source.id, source.sequence)]
        elif isinstance(source, Mapping):
            pairs = itertools.chain.from_iterable(
                self._read_as(str(id), value) for id, value in source.items()
            )
        elif is_biopython_sequence(source):
            pairs = [(self.own_id(source) or "0", source)]
        elif isinstance(source, Iterable):
            pairs = (_named(i, part) for i, part in enumerate(source))
        else:
            raise DataError("cannot be read as sequences", got=type(source).__name__, expected=SOURCES)
        for id, value in pairs:
            if isinstance(value, DataError):
                yield id, value
                continue
            sequence = value.sequence if isinstance(value, Protein) else value
            try:
                yield id, _clean(sequence, id)
            except DataError as error:
                yield id, error

    def _read_as(self, id: str, value: Any) -> Iterable[tuple[str, Any]]:
        """What stands under an id of the user's: a sequence, or a file whose records take the id in front."""
        if not isinstance(value, Path):
            return [(id, value)]
        found = list(self.read(value))
        return [(f"{id}_{own}" if len(found) > 1 else id, item) for own, item in found]

    def describe(self) -> dict[str, Any]:
        """Size, weights, tuning and the policy for long chains."""
        origin = self.provenance
        trained = sum(p.numel() for p in self.encoder.parameters() if p.requires_grad)
        facts = {
            "tower": "ESM-2",
            "size": origin.name,
            "pretrained": origin.kind == "pretrained",
            "starting weights": f"{origin.kind} ({origin.source})",
            "weights file": origin.path,
            "weights SHA-256": origin.sha256,
            "note": origin.message if origin.fallback else "",
            "tune": self.tune,
            "trained parameters": trained,
            "long chains": f"windows of {self.max_length} residues, features averaged where they overlap",
        }
        return {key: value for key, value in facts.items() if value != ""} | super().describe()


def _passed_on(*, mask: float, crop: float, max_length: int, lora_rank: int, lora_alpha: float) -> None:
    """Names of the constructor's options that a user may give."""


def is_fasta(path: Path) -> bool:
    """Whether this is a file with a FASTA name, plain or compressed."""
    return Path(without_suffix(path.name)).suffix.lower() in FASTA_SUFFIXES and path.is_file()


def _holds_fasta(path: Path) -> bool:
    """Whether a pipe, or a file whose name has no ending, begins like a FASTA file."""
    if not (is_pipe(path) or (path.is_file() and not Path(without_suffix(path.name)).suffix)):
        return False
    try:
        return looks_like_fasta(look_into(path))
    except ProtclipError:
        return False


NUCLEOTIDES = "looks like nucleotides, embedded as amino acids"
_BASES = frozenset("ACGTUN")
_FEWEST, _FEWEST_KINDS = 20, 3


def looks_like_nucleotides(sequence: str) -> bool:
    """Whether a sequence of some length has the letters of DNA or RNA alone.

    Examples
    --------
    >>> looks_like_nucleotides("ATGGCCATTGTAATGGGCCGCTG"), looks_like_nucleotides("GAGAGAGAGAGAGAGAGAGAGAG")
    (True, False)
    """
    letters = set(sequence.upper()) if len(sequence) >= _FEWEST else set()
    return letters <= _BASES and len(letters) >= _FEWEST_KINDS


_OTHER_FILES = (
    *(".pdb", ".ent", ".cif", ".mmcif", ".bcif", ".gz", ".zip", ".tar", ".tgz"),
    *(".h5", ".hdf5", ".txt", ".csv", ".tsv"),
)

_LETTERS = re.compile(r"[A-Za-z\s-]*[A-Za-z][A-Za-z\s-]*\*?\s*")


def is_file_name(text: str) -> bool:
    """Whether this can only be the name of a file, with or without such a file.

    Examples
    --------
    >>> is_file_name("two.fasta"), is_file_name("mkv/gav"), is_file_name("MK..V")
    (True, True, False)
    """
    return "/" in text or "\\" in text or text.lower().endswith((*FASTA_SUFFIXES, *_OTHER_FILES))


def is_biopython_sequence(value: object) -> bool:
    """Whether this is a Bio.Seq or SeqRecord, without importing Biopython."""
    return is_instance_of(value, "Bio.Seq", "Bio.MutableSeq", "Bio.SeqRecord")


SOURCES = "a FASTA path, a mapping of ids to sequences, Protein objects, strings, or (id, sequence) pairs"


def _biopython_letters(value: Any, id: str) -> str:
    try:
        return str(getattr(value, "seq", value))
    except Exception as error:  # Biopython's own, for a sequence of which only the length is known
        raise DataError("a sequence without letters", where=id, got=str(error)) from None


def _named(number: int, part: Any) -> tuple[str, Any]:
    if isinstance(part, Protein):
        return part.id, part
    if isinstance(part, tuple) and len(part) == 2:
        return str(part[0]), part[1]
    return str(number), part


def _clean(sequence: Any, id: str) -> str:
    if is_biopython_sequence(sequence):
        sequence = _biopython_letters(sequence, id)
    if not isinstance(sequence, str):
        raise DataError(
            "not a sequence", where=id, got=type(sequence).__name__, expected="a string of letters"
        )
    whole = "".join(sequence.split()).upper()
    text = whole.removesuffix("*")
    # Checked before gaps go, so that the position in the message is the user's.
    tokenize(text, id)
    gapped = isinstance(sequence, GappedSequence)
    cleaned = text.translate(str.maketrans("", "", "-."))
    if not cleaned:
        raise DataError("empty sequence", where=id, got="gaps only", expected="at least 1 residue")
    return GappedSequence(cleaned) if gapped or len(cleaned) < len(whole) else cleaned
