"""Predict for new proteins with a trained head."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protclip.config.checks import check_choice
from protclip.config.pretraining import PRECISIONS
from protclip.data.files.vector_file import VectorFile
from protclip.errors import DataError, ProtclipError
from protclip.inference.encode import pick_device
from protclip.inference.progress import showing
from protclip.inference.windows import readable_windows
from protclip.structure.protein import Protein
from protclip.tasks.calibration import Calibrator
from protclip.tasks.dataset import DEMONSTRATION, align_labels
from protclip.tasks.definitions import Task, find_task
from protclip.tasks.evaluation import score_set
from protclip.tasks.inputs import HeadInputs
from protclip.tasks.network import TaskNetwork
from protclip.tasks.saved_head import find_head, read_head
from protclip.tasks.selection import Selection, Threshold, choose_selection
from protclip.typing import Display, Done

if TYPE_CHECKING:
    import pandas as pd

WINDOW = 1024
"""Proteins that are read, sorted by length and computed together; bounds the memory of a stream."""


@dataclass
class Predicted:
    """Probabilities of one window of a stream.

    Attributes
    ----------
    ids : list of str
    probabilities : float64 array [n, classes]
    failed : dict
        Id -> why there is no prediction.
    seen, repeated : int
        Inputs of the window, those that are passed over included; those of ``failed`` whose id came before.
    """

    ids: list[str] = field(default_factory=list)
    probabilities: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    failed: dict[str, str] = field(default_factory=dict)
    seen: int = 0
    repeated: int = 0


class Head:
    """A trained head with its towers, ready to predict.

    Made by :func:`load_head`. Sources are what :meth:`protclip.AlignedModel.embed` takes. A sequence tower
    alone sees sequences, those of structures included; a structure tower sees structures. Both together see
    structures, whose residues give the sequences; a head with concatenated towers also takes sequences alone,
    by a classifier of its own, and says so. A head trained on structures and precomputed vectors reads
    structures and finds their vectors by id.

    Attributes
    ----------
    network : TaskNetwork
    task : Task
    classes_ : array of str
        Classes in the order of the columns of :meth:`predict_proba`.
    class_names_ : list of str
        Human names, empty where unknown.
    threshold_fmax : float or None
        Probability of the highest F1 on validation (multi-label tasks).
    facts : dict
        How it was trained, and the fingerprint of the pretrained parent.
    demonstration : bool
        True for heads trained on the sample that ships with protclip.
    failed : dict
        Id -> reason of the inputs of the last call that could not be predicted.
    """

    def __init__(
        self,
        network: TaskNetwork,
        config: Mapping[str, Any],
        path: Path,
        precision: str = "auto",
        vectors: VectorFile | None = None,
    ) -> None:
        head = config["head"]
        self.network, self.path, self.precision = network, path, precision
        self.task: Task = find_task(head["task"])
        self.classes_: NDArray[np.str_] = np.array(head["classes"], dtype=np.str_)
        self.class_names_: list[str] = list(head["class_names"])
        self.calibrator = Calibrator.from_config(head["calibration"])
        self.threshold_fmax: float | None = head.get("threshold_fmax")
        self.benchmark, self.demonstration = str(head["benchmark"]), bool(head["demonstration"])
        self.facts: dict[str, Any] = dict(config.get("training", {}))
        self.sequence_only: dict[str, Any] = dict(head.get("sequence_only", {}))
        self.failed: dict[str, str] = {}
        self.inputs = HeadInputs(network, self.task.name, path, vectors)

    def __repr__(self) -> str:
        note = f", {DEMONSTRATION}" if self.demonstration else ""
        towers = " and ".join(self.network.names)
        return f"Head({self.task.name}, {len(self.classes_)} classes, {towers}{note})"

    @property
    def needs(self) -> str:
        """What the inputs must be: ``sequence``, ``structure`` or ``vectors``."""
        return self.inputs.needs

    def stream(
        self,
        source: Any,
        *,
        skip: Callable[[str], bool] = lambda id: False,
        done: Done = lambda n: None,
    ) -> Iterator[Predicted]:
        """Probabilities window by window, in input order and constant memory.

        Parameters
        ----------
        skip : callable
            Ids for which it is True are passed over (done before).
        done : callable
            Told the number of inputs of each finished window.

        Raises
        ------
        ProtclipError
            If the source is of a kind that the towers cannot see.
        """
        source = self.inputs.recognise(source)
        alone = self.sequences_alone(source)
        for readable in readable_windows(self.inputs.read(source, alone), WINDOW, skip=skip):
            result = Predicted(
                ids=readable.ids,
                failed=readable.failed,
                seen=readable.seen,
                repeated=readable.repeated,
            )
            self._compute(readable.items, result, alone)
            done(readable.seen)
            yield result

    def predict_proba(self, source: Any, *, progress: bool | Display | None = None) -> NDArray[np.float64]:
        """Calibrated probabilities [n, classes] of the readable inputs, in input order.

        Rows of single-label tasks sum to 1. Unreadable inputs are listed in :attr:`failed`, with a warning.

        Parameters
        ----------
        source
            See the class.
        progress : bool or Display, optional
            See :meth:`protclip.AlignedModel.embed`.

        Raises
        ------
        ProtclipError
            If nothing can be predicted.
        """
        return self._all(source, progress)[1]

    def predict(
        self,
        source: Any,
        *,
        top_k: int | None = None,
        threshold: Threshold = None,
        propagate: str | Path | None = None,
        ec_consistent: bool = False,
        progress: bool | Display | None = None,
    ) -> pd.DataFrame:
        """The likeliest classes of every input.

        Parameters
        ----------
        source
            See the class.
        top_k : int, optional
            At most so many classes per protein; by default 1 for tasks with one class per protein, else 5
            without a threshold and all with one.
        threshold : float or "fmax", optional
            Least probability; ``"fmax"`` is the threshold of the highest F1 on validation.
        propagate : path, optional
            ``go-basic.obo``: every GO term gets at least the highest score of its descendants.
        ec_consistent : bool
            Every EC class gets at least the highest score of the classes that it contains.
        progress : bool or Display, optional
            See :meth:`protclip.AlignedModel.embed`.

        Returns
        -------
        pandas.DataFrame
            Columns ``id``, ``rank``, ``class``, ``name``, ``score``. ``attrs`` says what was applied.

        Raises
        ------
        ConfigError
            If an option does not fit the task.
        ProtclipError
            If nothing can be predicted.
        """
        source = self.inputs.recognise(source)
        alone = self.sequences_alone(source)
        select = self.selection(
            top_k=top_k,
            threshold=threshold,
            propagate=propagate,
            ec_consistent=ec_consistent,
            alone=alone,
        )
        ids, probabilities = self._all(source, progress)
        return self.table(select.rows(ids, probabilities), alone=alone)

    def score(self, source: Any, labels: Mapping[str, Any]) -> float:
        """Headline metric of the task on labelled proteins.

        Parameters
        ----------
        source
            See the class.
        labels : mapping
            Id -> class, or list of classes for tasks with several.

        Raises
        ------
        DataError
            If an id has no label, or a label is not among :attr:`classes_`.
        """
        ids, probabilities = self._all(source)
        truth = align_labels(labels, ids, self.classes_.tolist(), self.task.kind)
        value = score_set(self.task, probabilities, truth)["value"]
        if value is None:
            raise DataError("no protein has a label, so there is nothing to score", where=self.task.name)
        return float(value)

    def selection(
        self,
        *,
        top_k: int | None = None,
        threshold: Threshold = None,
        propagate: str | Path | None = None,
        ec_consistent: bool = False,
        alone: bool = False,
    ) -> Selection:
        """Which classes of each protein are reported; see :meth:`predict`.

        ``alone`` takes the threshold of the classifier for sequences alone.
        """
        fmax = self.sequence_only.get("threshold_fmax") if alone else self.threshold_fmax
        return choose_selection(
            self.task,
            self.classes_.tolist(),
            self.class_names_,
            top_k=top_k,
            threshold=threshold,
            threshold_fmax=fmax,
            propagate=propagate,
            ec_consistent=ec_consistent,
        )

    def table(self, rows: Sequence[tuple[str, int, str, str, float]], *, alone: bool = False) -> pd.DataFrame:
        """Rows of :class:`Selection` as a table that carries what it is."""
        import pandas as pd  # kept out of start-up

        table = pd.DataFrame(list(rows), columns=["id", "rank", "class", "name", "score"])
        table.attrs = {
            "task": self.task.name,
            "benchmark": self.benchmark,
            "calibration": self._calibrator(alone).method,
            "input": "sequences alone" if alone else "all that the head was trained on",
        }
        if self.demonstration:
            table.attrs["note"] = DEMONSTRATION
        return table

    def _all(
        self, source: Any, progress: bool | Display | None = None
    ) -> tuple[list[str], NDArray[np.float64]]:
        found = self.inputs.recognise(source)
        with showing(progress, f"predict {self.task.name}", found.total) as count:
            parts = list(self.stream(found, done=count.window))
        self.failed = {id: reason for part in parts for id, reason in part.failed.items()}
        ids = [id for part in parts for id in part.ids]
        if not ids:
            first = next(iter(self.failed.items()), None)
            raise DataError(
                "nothing could be predicted" if first else "nothing to predict: the input is empty",
                where="input",
                got=f"{first[0]}: {first[1]}" if first else None,
            )
        if self.failed:
            warnings.warn(
                f"{len(self.failed)} of the inputs could not be predicted; see .failed", stacklevel=3
            )
        return ids, np.concatenate([part.probabilities for part in parts if part.ids])

    def sequences_alone(self, source: Any) -> bool:
        """Whether ``source`` holds sequences although the head was trained on structures too.

        Raises
        ------
        ConfigError
            If the head cannot do without structures.
        """
        return self.inputs.sequences_alone(source)

    def _calibrator(self, alone: bool) -> Calibrator:
        return Calibrator.from_config(self.sequence_only["calibration"]) if alone else self.calibrator

    def _compute(self, items: list[Any], result: Predicted, alone: bool) -> None:
        if not items:
            return
        try:
            logits = self._logits(items, alone)
        except ProtclipError:
            good: list[int] = []
            rows: list[NDArray[np.float32]] = []
            for i, item in enumerate(items):
                try:
                    rows.append(self._logits([item], alone))
                except ProtclipError as error:
                    result.failed[result.ids[i]] = str(error)
                else:
                    good.append(i)
            result.ids = [result.ids[i] for i in good]
            if not rows:
                return
            logits = np.concatenate(rows)
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(logits).all(axis=1))
        for i in np.flatnonzero(~finite).tolist():
            result.failed[result.ids[i]] = "the scores are not finite"
        result.ids = [result.ids[i] for i in np.flatnonzero(finite).tolist()]
        result.probabilities = self._calibrator(alone)(logits[finite])

    def _logits(self, items: list[Any], alone: bool) -> NDArray[np.float32]:
        parts: dict[str, Any] = {name: [_part(name, item) for item in items] for name in self.network.names}
        device = next(self.network.parameters()).device
        return self.network.predict(parts, device=device, precision=self.precision, alone=alone)


def _part(name: str, item: Any) -> Any:
    """What one tower sees of an item: a protein, its sequence, or one of a (protein, vector)."""
    if isinstance(item, tuple):
        return item[name == "sequence"]
    return item.sequence if name == "sequence" and isinstance(item, Protein) else item


def load_head(
    path: str | Path, device: str = "auto", *, precision: str = "auto", vectors: str | Path | None = None
) -> Head:
    """Load a head that ``protclip finetune`` trained.

    Parameters
    ----------
    path : str or Path
        Head folder, or the run folder that holds it.
    device : str
        ``"auto"`` (CUDA where present), ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    precision : {"auto", "fp32", "bf16"}
    vectors : str or Path, optional
        HDF5 embeddings by protein id, for a head trained with ``--towers both --vectors``.

    Raises
    ------
    WeightsError, ConfigError
        If there is no (readable) head, no such device, or the vectors do not fit the head.
    """
    check_choice("--precision", precision, PRECISIONS)
    where = pick_device(device)
    network, config = read_head(Path(path))
    given = VectorFile.open(vectors) if vectors is not None else None
    return Head(network.to(where).eval(), config, find_head(Path(path)), precision, vectors=given)
