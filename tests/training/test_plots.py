"""Pictures of a run: what is drawn, reproducibly, and without touching matplotlib's global state."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from protclip.errors import ConfigError, DataError
from protclip.training.plots import plot_curves, plot_embedding

LOG = """step,rate,loss,clip,valid_R@1,valid_loss,note
1,0.1,2.0,1.0,,,x
2,0.2,1.5,nan,0.25,1.9,y
3,0.1,1.4,0.7,,,z
"""


def words(path):
    """All texts of an SVG file, which must be well-formed."""
    return [e.text for e in ET.fromstring(path.read_bytes()).iter() if e.tag.endswith("text") and e.text]


def test_curves_have_a_panel_for_each_quantity(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    plot_curves(tmp_path / "log.csv", tmp_path / "curves.svg")
    drawn = words(tmp_path / "curves.svg")
    for title in ("loss", "clip", "rate", "validation R@1", "train", "valid", "step"):
        assert title in drawn, title
    assert "note" not in drawn, "a column without numbers has no panel"
    assert "validation loss" not in drawn, "it shares the panel of the training loss"


@pytest.mark.parametrize("body", ["", "1,2.0\n", "1,\n2,\n", "1,nan\n", "1,2.0\n2\n"])
def test_curves_of_short_logs(tmp_path, body):
    (tmp_path / "log.csv").write_text("step,loss\n" + body)
    plot_curves(tmp_path / "log.csv", tmp_path / "curves.svg")
    assert words(tmp_path / "curves.svg")


def test_long_curves_are_smoothed_within_their_range(tmp_path):
    values = np.random.default_rng(0).uniform(1, 2, size=500)
    (tmp_path / "log.csv").write_text("step,loss\n" + "".join(f"{i},{v}\n" for i, v in enumerate(values)))
    plot_curves(tmp_path / "log.csv", tmp_path / "curves.svg")
    from protclip.training.plots import _smooth

    smooth = _smooth(values)
    assert smooth.std() < 0.3 * values.std()
    assert smooth[250] == pytest.approx(values[250 - 12 : 250 + 13].mean())


def test_a_missing_or_empty_log_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"log.csv: cannot read the log"):
        plot_curves(tmp_path / "log.csv", tmp_path / "curves.svg")
    (tmp_path / "log.csv").write_text("")
    with pytest.raises(DataError, match="no header"):
        plot_curves(tmp_path / "log.csv", tmp_path / "curves.svg")
    assert not (tmp_path / "curves.svg").exists()


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    codes = [f"{c}.10.8.{h}" for c, h in zip(rng.choice([1, 2, 3], 30), rng.integers(1, 4, 30), strict=True)]
    left = rng.normal(size=(30, 8))
    return left, left + 0.1, [*codes[:-1], ""]


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_map_names_classes_and_modalities(tmp_path, vectors, method):
    left, right, codes = vectors
    out = tmp_path / "embedding.svg"
    plot_embedding((left, right), codes, out, ("image", "text"), method=method)
    drawn = words(out)
    counts = {c: sum(code.startswith(c) for code in codes) for c in "123"}
    for expected in (
        "image",
        "text",
        "same item",
        "unlabelled (1)",
        *(f"{c} {name} ({counts[c]})" for c, name in zip("123", CLASSES, strict=True)),
    ):
        assert drawn.count(expected) == 1, expected
    first = out.read_bytes()
    plot_embedding((left, right), codes, out, ("image", "text"), method=method)
    assert out.read_bytes() == first


CLASSES = ("mainly alpha", "mainly beta", "alpha beta")


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("dim", [1, 4])
def test_map_of_few_items(tmp_path, n, dim):
    plot_embedding(
        (np.ones((n, dim)), -np.ones((n, dim))), ["1.1.1.1"] * n, tmp_path / "x.svg", method="tsne"
    )
    assert words(tmp_path / "x.svg")


def test_map_of_a_collapsed_space_and_of_other_labels(tmp_path):
    labels = [f"kind {i % 12}" for i in range(36)]
    plot_embedding((np.ones((36, 4)), np.ones((36, 4))), labels, tmp_path / "x.svg")
    drawn = words(tmp_path / "x.svg")
    assert "kind 0 (3)" in drawn
    assert "other (15)" in drawn, "seven labels have a colour of their own"


def test_large_maps_are_thinned_and_say_so(tmp_path):
    points = np.random.default_rng(0).normal(size=(1100, 3))
    plot_embedding((points, points), ["1.1.1.1"] * 1100, tmp_path / "x.svg", method="pca")
    assert any("1000 of 1100 items" in text for text in words(tmp_path / "x.svg"))


def test_map_names_bad_input(tmp_path):
    out = tmp_path / "x.svg"
    with pytest.raises(DataError, match="same items"):
        plot_embedding((np.eye(3), np.eye(3)), ["1.1.1.1"], out)
    with pytest.raises(DataError, match="same items"):
        plot_embedding((np.eye(3), np.eye(4)), [""] * 3, out)
    with pytest.raises(DataError, match="not finite"):
        plot_embedding((np.eye(3) * np.nan, np.eye(3)), [""] * 3, out)
    with pytest.raises(ConfigError, match="'umap', expected auto, pca or tsne"):
        plot_embedding((np.eye(3), np.eye(3)), [""] * 3, out, method="umap")


def test_no_global_state_of_matplotlib_is_touched(tmp_path):
    code = (
        "import sys, matplotlib, numpy as np\n"
        "before = matplotlib.rcParams.copy()  # unlike dict(...), this does not choose a back-end\n"
        "from protclip.training.plots import plot_embedding\n"
        "plot_embedding((np.eye(3), np.eye(3)), ['1.1.1.1'] * 3, sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert matplotlib.rcParams.copy() == before\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.svg")], check=True)
