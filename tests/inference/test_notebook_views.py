"""What a person sees: one-line reprs, tables that a notebook shows, and bars where somebody watches."""

from __future__ import annotations

import importlib.util
import io
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import gemmi
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from protclip.data.benchmarks.benchmark_file import Benchmark
from protclip.data.benchmarks.benchmark_writer import write_benchmark
from protclip.data.corpus.store import Corpus
from protclip.inference.align_files import AlignReport
from protclip.inference.aligned_model import AlignedModel
from protclip.inference.embeddings import Embeddings
from protclip.inference.progress import Bar
from protclip.inference.zero_shot import ZeroShot
from protclip.scoring.galleries import Gallery, score
from protclip.structure import Protein


class Cells(HTMLParser):
    """Rows of a table as a browser reads them: text and title of each cell."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.titles: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.titles += [value or "" for key, value in attrs if key == "title"]
        else:
            assert tag in ("p", "table", "thead", "tbody"), tag

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def test_embeddings_as_a_table() -> None:
    long = "x" * 50 + '<script>"'
    vectors = np.eye(8, 6, dtype=np.float32)
    found = Embeddings(
        [long, "a&b", *map(str, range(6))], vectors, "sequence", failed={"<bad>": "no"}
    )._repr_html_()
    assert "<script>" not in found
    assert "8 embeddings of 6 dimensions, sequence; 1 inputs failed" in found
    table = Cells(found)
    assert table.titles == [long]
    assert table.rows[0] == ["id", "0", "1", "2", "3", ""]
    assert table.rows[1] == [f"{'x' * 37}...", "1.000", "0.000", "0.000", "0.000", "..."]
    assert table.rows[2][0] == "a&b"
    assert [row[0] for row in table.rows[3:]] == ["0", "1", "2", "... 3 more"]
    narrow = Cells(Embeddings(["a"], vectors[:1, :2], "sequence")._repr_html_())
    assert narrow.rows == [["id", "0", "1"], ["a", "1.000", "0.000"]]


def test_scores_as_a_table() -> None:
    rows = np.eye(4, dtype=np.float32)
    n = np.arange(4)
    found = score([rows, rows[[1, 0, 2, 3]]], Gallery(list("abcd"), np.stack([n, n], 1)), ("left", "right"))
    assert repr(found) == (
        "Evaluation(left_to_right R@1 0.500, right_to_left R@1 0.500; chance 0.250, gallery 4)"
    )
    table = Cells(found._repr_html_())
    assert table.rows[0] == ["", "R@1", "R@5", "R@10", "median_rank"]
    assert table.rows[1][:3] == ["left_to_right", "0.500", "1.000"]
    assert table.rows[3][:2] == ["chance", "0.250"]


def test_reprs_are_one_short_line(tiny_model: AlignedModel, tmp_path: Path) -> None:
    proteins = [Protein.from_ca(id, "GA", np.eye(3)[:2] * 3.8) for id in "abc"]
    file = write_benchmark(
        tmp_path / "ec.h5", task="ec", version="tiny", proteins=proteins, classes=["1.1.1.-", "3.4.21.-"],
        labels={"a": [0], "b": [1], "c": []}, splits={"train": ["a"], "valid": ["b"], "test": ["c"]},
    )  # fmt: skip
    many, n = np.random.default_rng(0).normal(size=(500, 32)).astype(np.float32), np.arange(500)
    gallery = Gallery([str(i) for i in n], np.stack([n, n], 1), labels=["1.2.3.4"] * 500)
    evaluation = score([many, many], gallery, ("left", "right"))
    zeros = ZeroShot([f"class {i}" for i in n], n, n, n, n, failed=2)
    scores = {"gallery": 500.0, "R@1": 0.5, "R@10": 0.7, "median_rank": 2.0}
    align = AlignReport(tmp_path, 10, 20, 30, scores, True, object())
    with Corpus.open(file) as corpus, Benchmark.open(file) as benchmark:
        assert f"{file}', ec, 3 proteins, 2 classes)" in repr(benchmark)
        for value in (
            tiny_model, Embeddings(["x" * 500] * 500, many, "sequence"), corpus, benchmark, proteins[0],
            gallery, evaluation, *evaluation.directions, zeros, align,
        ):  # fmt: skip
            assert re.fullmatch(r".{5,300}", repr(value)), repr(value)
            assert " at 0x" not in repr(value)


class Told:
    """A display that remembers."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def say(self, text: str) -> None:
        self.events.append(text)

    def begin(self, label: str, total: int) -> None:
        self.events.append((label, total))

    def advance(self, done: int, losses: dict[str, float] | None = None) -> None:
        self.events.append(done)

    def end(self) -> None:
        self.events.append("end")


def test_a_display_is_told_of_every_item(tiny_model: AlignedModel) -> None:
    told = Told()
    with pytest.warns(UserWarning, match="1 of the inputs"):
        tiny_model.embed(["MKV", "MKV", "MK!V", "GA"], progress=told)
    assert told.events[0] == ("embed sequence", 4)
    assert told.events[-2:] == [4, "end"]
    numbers = [event for event in told.events if isinstance(event, int)]
    assert numbers == sorted(numbers)
    told = Told()
    with pytest.raises(Exception, match="no atoms"):
        tiny_model.embed(gemmi.Structure(), progress=told)
    assert told.events[-1] == "end"


class Terminal(io.StringIO):
    """A stderr that somebody watches."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("progress", [None, False, True])
@pytest.mark.parametrize("terminal", [False, True])
def test_bars_are_shown_where_somebody_watches(
    tiny_model: AlignedModel, progress: bool | None, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protclip.inference.progress.PATIENCE", 0)
    stderr = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    tiny_model.embed(["MKV", "GA"], progress=progress)
    shown = progress or (progress is None and terminal)
    assert ("embed sequence" in stderr.getvalue()) == shown


def test_short_work_shows_nothing_by_itself(
    tiny_model: AlignedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protclip.inference.progress.PATIENCE", 1000)
    monkeypatch.setattr(sys, "stderr", Terminal())
    tiny_model.embed(["MKV"])
    assert "embed" not in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_a_bar_says_and_ends_twice(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar()
    bar.say("one thing")
    bar.advance(1)
    bar.end()
    assert capsys.readouterr().err == "one thing\n"


def test_a_notebook_shows_a_bar_of_its_own() -> None:
    cell = "from protclip.inference.progress import Bar\nbar = Bar(always=True)\nbar.begin('embed', 10)\n"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell + "bar.advance(10)\nbar.end()")]
    )
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(notebook, timeout=100).execute()
    outputs = notebook.cells[0].outputs
    if importlib.util.find_spec("ipywidgets"):
        assert any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs)
    else:
        assert "embed: 100%" in "".join(output.get("text", "") for output in outputs)
