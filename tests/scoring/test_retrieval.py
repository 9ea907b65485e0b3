"""Retrieval and nearest-neighbour scores against slow loops, closed forms, ties and bad input."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import protclip.scoring.knn
import protclip.scoring.retrieval
from protclip.errors import DataError, ProtclipError
from protclip.scoring.retrieval import knn_accuracy, retrieval_metrics, score_knn, score_retrieval


def whole_number_points(rng, n, dim=4):
    """Rows of equal norm with few distinct cosines, so that ties abound and are exact."""
    return rng.choice([-1.0, 1.0], size=(n, dim))


def slow_direction(queries, gallery, lengths=None):
    """(R@k over all tie orders, median mid-rank, peer shares), exact for whole numbers."""
    n = len(queries)
    recalls, ranks, shares = {1: [], 5: [], 10: []}, [], []
    for i in range(n):
        scores = [int(queries[i] @ gallery[j]) for j in range(n)]
        others = [j for j in range(n) if j != i]
        ahead = sum(scores[j] > scores[i] for j in others)
        tied = sum(scores[j] == scores[i] for j in others)
        for k, hits in recalls.items():
            places = range(ahead + 1, ahead + tied + 2)  # each is equally likely for the partner
            hits.append(Fraction(sum(place <= k for place in places), tied + 1))
        ranks.append(ahead + 1 + Fraction(tied, 2))
        if lengths is not None:
            peers = [j for j in others if 20 * abs(int(lengths[j]) - int(lengths[i])) <= int(lengths[i])]
            if peers:
                below = sum(scores[j] < scores[i] for j in peers)
                level = sum(scores[j] == scores[i] for j in peers)
                shares.append((below + Fraction(level, 2)) / len(peers))
    summary = {f"R@{k}": float(sum(hits) / n) for k, hits in recalls.items()}
    summary["median_rank"] = float(np.median([float(rank) for rank in ranks]))
    return summary, shares


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(0, 10_000), st.sampled_from([np.float32, np.float64]))
def test_equals_the_slow_definition_with_ties(n, seed, dtype):
    rng = np.random.default_rng(seed)
    left, right = whole_number_points(rng, n), whole_number_points(rng, n)
    lengths = rng.integers(30, 60, size=n)
    found = retrieval_metrics(left.astype(dtype), right.astype(dtype), lengths=lengths)
    forward, shares = slow_direction(left, right, lengths)
    backward, more = slow_direction(right, left, lengths)
    assert found["left_to_right"] == pytest.approx(forward)
    assert found["right_to_left"] == pytest.approx(backward)
    shares += more
    if shares:
        assert found["length_matched_rank"] == pytest.approx(100 * float(sum(shares) / len(shares)))
    else:
        assert found["length_matched_rank"] is None
    scored = score_retrieval(left, right, lengths=lengths)
    assert scored.without_peers == n - len(shares) // 2


def test_has_the_keys_of_metrics_json():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(12, 3))
    found = retrieval_metrics(points, points, lengths=np.full(12, 90))
    assert list(found) == [
        "gallery",
        "chance_R@1",
        "left_to_right",
        "right_to_left",
        "length_matched_rank",
    ]
    for direction in ("left_to_right", "right_to_left"):
        assert list(found[direction]) == ["R@1", "R@5", "R@10", "median_rank"]
        assert found[direction] == {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "median_rank": 1.0}
    assert found["gallery"] == 12
    assert found["chance_R@1"] == pytest.approx(1 / 12)
    assert found["length_matched_rank"] == 100.0
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    named = retrieval_metrics(points, points, left_name="image", right_name="text")
    assert {"image_to_text", "text_to_image"} <= set(named)
    assert named["length_matched_rank"] is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 7, 256, 4096])
def test_collapsed_embeddings_are_at_chance(dtype, dim):
    rng = np.random.default_rng(dim)
    n = 60
    point = rng.normal(size=dim).astype(dtype)
    # Scaled copies: the same direction, but not the same bits once they have been normalised.
    left = point * rng.uniform(0.5, 2.0, size=(n, 1))
    found = retrieval_metrics(left, np.tile(point, (n, 1)), lengths=np.full(n, 100))
    if dtype == np.float16:  # coarse input really has several directions; it must not reach R@1 = 1 either
        assert found["left_to_right"]["R@1"] < 0.2
        return
    expected = {"R@1": 1 / n, "R@5": 5 / n, "R@10": 10 / n, "median_rank": (n + 1) / 2}
    assert found["left_to_right"] == pytest.approx(expected)
    assert found["right_to_left"] == pytest.approx(expected)
    assert found["length_matched_rank"] == pytest.approx(50.0)


def test_zero_rows_are_at_chance():
    found = retrieval_metrics(np.zeros((8, 4)), np.eye(8)[:, :4])
    assert found["left_to_right"]["R@1"] == pytest.approx(1 / 8)


def test_unrelated_embeddings_are_at_chance():
    rng = np.random.default_rng(3)
    n = 2000
    found = retrieval_metrics(
        rng.normal(size=(n, 32)), rng.normal(size=(n, 32)), lengths=rng.integers(40, 400, size=n)
    )
    for direction in ("left_to_right", "right_to_left"):
        assert found[direction]["median_rank"] == pytest.approx(n / 2, rel=0.08)
        assert found[direction]["R@10"] < 0.015
    assert found["length_matched_rank"] == pytest.approx(50, abs=2)


def test_length_alone_gives_no_length_matched_rank():
    """An encoder that knows length and nothing else looks good by rank and is exposed by the matched rank."""
    rng = np.random.default_rng(0)
    n = 1500
    lengths = rng.integers(40, 400, size=n)
    angle = lengths / 400
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    noisy = [points + 0.02 * rng.normal(size=points.shape) for _ in range(2)]
    found = retrieval_metrics(*noisy, lengths=lengths)
    assert found["left_to_right"]["median_rank"] < 0.2 * n
    assert found["length_matched_rank"] < 62


def test_scale_order_and_dtype_do_not_matter():
    rng = np.random.default_rng(5)
    left, right = rng.normal(size=(2, 90, 8))
    lengths = rng.integers(50, 80, size=90)
    found = retrieval_metrics(left, right, lengths=lengths)
    order = rng.permutation(90)
    scaled = retrieval_metrics(
        1e200 * left[order], 1e-200 * right[order] * rng.uniform(1, 9, (90, 1)), lengths=lengths[order]
    )
    assert scaled == found
    swapped = retrieval_metrics(right, left, lengths=lengths)
    assert swapped["left_to_right"] == found["right_to_left"]
    single = retrieval_metrics(left.astype(np.float32), right.astype(np.float32), lengths=lengths)
    assert single["left_to_right"] == pytest.approx(found["left_to_right"])


def test_tiles_do_not_show(monkeypatch):
    rng = np.random.default_rng(6)
    left, right = whole_number_points(rng, 53, 6), whole_number_points(rng, 53, 6)
    lengths = rng.integers(30, 300, size=53)
    codes = [f"{rng.integers(1, 3)}.{rng.integers(1, 3)}.1.1" for _ in range(53)]
    whole = retrieval_metrics(left, right, lengths=lengths), score_knn(left, codes)
    monkeypatch.setattr(protclip.scoring.retrieval, "_TILE", 10)
    monkeypatch.setattr(protclip.scoring.knn, "_SCORE_BUDGET", 53 * 4)
    parts = retrieval_metrics(left, right, lengths=lengths), score_knn(left, codes)
    assert parts == whole


def test_memory_does_not_grow_with_the_square(monkeypatch):
    monkeypatch.setattr(protclip.scoring.retrieval, "_TILE", 256)
    monkeypatch.setattr(protclip.scoring.knn, "_SCORE_BUDGET", 256 * 256)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4000, 4)).astype(np.float32)
    codes = [f"{c}.1.1.1" for c in rng.integers(1, 4, size=4000)]
    tracemalloc.start()
    retrieval_metrics(points, points, lengths=rng.integers(50, 300, size=4000))
    score_knn(points, codes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000 * 4000 / 2, "less than one byte for every second pair"


def test_block_scores_within_random_blocks():
    rng = np.random.default_rng(7)
    n, block = 47, 10
    left, right = whole_number_points(rng, n, 8), whole_number_points(rng, n, 8)
    scores = score_retrieval(left, right, block=block, seed=3)
    assert scores.gallery == block
    assert scores.metrics()["chance_R@1"] == pytest.approx(0.1)
    order = np.random.default_rng(3).permutation(n)
    galleries = [order[start : start + block] for start in range(0, 40, block)]
    for place, query in enumerate(order):
        members = galleries[place // block] if place < 40 else order[-block:]
        own = left[query] @ right[query]
        rest = [left[query] @ right[j] for j in members if j != query]
        assert len(rest) == block - 1
        assert scores.forward.ahead[query] == sum(s > own for s in rest)
        assert scores.forward.tied[query] == sum(s == own for s in rest)
    assert score_retrieval(left, right, block=block, seed=3).metrics() == scores.metrics()
    assert score_retrieval(left, right, block=block, seed=4).metrics() != scores.metrics()


def test_block_as_large_as_the_data_is_the_full_gallery():
    rng = np.random.default_rng(8)
    left, right = rng.normal(size=(2, 20, 4))
    assert retrieval_metrics(left, right, block=50) == retrieval_metrics(left, right)


def test_one_item():
    found = retrieval_metrics([[1.0, 2.0]], [[2.0, -1.0]], lengths=[10])
    assert found["gallery"] == 1
    assert found["chance_R@1"] == 1.0
    assert found["left_to_right"] == {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "median_rank": 1.0}
    assert found["length_matched_rank"] is None


GOOD = np.eye(3)


@pytest.mark.parametrize(
    ("left", "right", "options", "words"),
    [
        (np.zeros((0, 4)), np.zeros((0, 4)), {}, "left: there is nothing to compare; got 0 items"),
        (GOOD, np.eye(4), {}, r"got left \(3, 3\) and right \(4, 4\)"),
        (GOOD, np.full((3, 3), np.nan), {}, "right: .*not finite; got 3 such rows, the first is row 0"),
        (np.diag([1, 1, np.inf]), GOOD, {}, "left: .*the first is row 2"),
        (np.ones(3), GOOD, {}, r"got \(3,\), expected \(n, D\)"),
        (np.ones((3, 0)), GOOD, {}, "wrong shape"),
        ([["a", "b"]], GOOD, {}, "no array of numbers"),
        ([[1.0], [1.0, 2.0]], GOOD, {}, "no array of numbers"),
        (GOOD + 1j, GOOD, {}, "no array of numbers"),
        (GOOD, GOOD, {"lengths": [1, 2]}, r"lengths: one length per item.*got \(2,\), expected \(3,\)"),
        (GOOD, GOOD, {"lengths": [1, 2, 0]}, "positive whole numbers"),
        (GOOD, GOOD, {"lengths": [1.5, 2, 3]}, "positive whole numbers; got float64"),
        (GOOD, GOOD, {"block": 1}, "a block needs at least two items; got 1"),
        (GOOD, GOOD, {"left_name": "x", "right_name": "x"}, "different names"),
    ],
)
def test_bad_input_is_named(left, right, options, words):
    with pytest.raises(DataError, match=words):
        retrieval_metrics(left, right, **options)


def test_input_is_left_alone():
    points = np.arange(1.0, 13.0).reshape(4, 3)
    kept = points.copy()
    retrieval_metrics(points, points)
    knn_accuracy(points, ["1.1.1.1"] * 4)
    np.testing.assert_array_equal(points, kept)


# nearest neighbours


def slow_knn(points, codes, clusters, k):
    """Accuracy, chance and count per level by loops; scores must be untied for k > 1."""
    hits, chances = ({level: [] for level in "CATH"} for _ in range(2))
    for i, code in enumerate(codes):
        if not code:
            continue
        eligible = [
            j
            for j, other in enumerate(codes)
            if other and j != i and not (clusters and clusters[i] and clusters[i] == clusters[j])
        ]
        for depth, level in enumerate("CATH", start=1):
            cut = [".".join(other.split(".")[:depth]) for other in codes]
            mates = [j for j in eligible if cut[j] == cut[i]]
            if not mates:
                continue
            chances[level].append(len(mates) / len(eligible))
            near = sorted(eligible, key=lambda j: -points[i] @ points[j])
            if k == 1:
                best = [j for j in near if points[i] @ points[j] == points[i] @ points[near[0]]]
                hits[level].append(sum(cut[j] == cut[i] for j in best) / len(best))
            else:
                votes = Counter(
                    cut[j] for j in near[:k]
                )  # insertion order: the nearer class wins an even vote
                hits[level].append(float(votes.most_common(1)[0][0] == cut[i]))
    mean = {level: float(np.mean(h)) if h else None for level, h in hits.items()}
    chance = {level: float(np.mean(c)) if c else None for level, c in chances.items()}
    return mean, chance, {level: len(h) for level, h in hits.items()}


def approx_levels(values):
    return {level: None if value is None else pytest.approx(value) for level, value in values.items()}


@settings(max_examples=60)
@given(st.integers(1, 30), st.integers(0, 10_000), st.booleans(), st.sampled_from([1, 2, 3, 5, 40]))
def test_knn_equals_the_slow_definition(n, seed, with_clusters, k):
    rng = np.random.default_rng(seed)
    if k == 1:
        points = whole_number_points(rng, n)
    else:
        points = rng.normal(size=(n, 4))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    codes = [
        ".".join(str(x) for x in rng.integers(1, 3, size=4)) if rng.random() > 0.1 else "" for _ in range(n)
    ]
    clusters = [str(rng.choice(["a", "b", "c", ""])) for _ in range(n)] if with_clusters else None
    found = score_knn(points, codes, clusters, k=k)
    accuracy, chance, counts = slow_knn(points, codes, clusters, k)
    assert found.accuracy == approx_levels(accuracy)
    assert found.chance == approx_levels(chance)
    assert found.n == counts
    assert found.unlabelled == sum(not code for code in codes)
    assert knn_accuracy(points, codes, clusters, k=k) == found.accuracy


def test_knn_keys_are_those_of_metrics_json():
    assert list(knn_accuracy(GOOD, ["1.1.1.1"] * 3)) == ["C", "A", "T", "H"]


def test_knn_does_not_count_sequence_relatives():
    """Two near-copies of one cluster must not vouch for each other."""
    points = np.array([[1, 0], [1, 0.001], [0, 1], [0.5, 0.6]])
    codes = ["1.10.8.10", "1.10.8.10", "2.60.40.10", "1.10.8.10"]
    assert knn_accuracy(points, codes)["H"] == pytest.approx(2 / 3)
    assert knn_accuracy(points, codes, ["x", "x", "y", "z"])["H"] == pytest.approx(2 / 3)
    assert score_knn(points[:3], codes[:3], ["x", "x", "y"]).n == {"C": 0, "A": 0, "T": 0, "H": 0}


@pytest.mark.parametrize("k", [1, 3])
def test_knn_of_collapsed_embeddings_is_at_chance(k):
    rng = np.random.default_rng(1)
    codes = [f"{c}.1.1.1" for c in rng.integers(1, 5, size=600)]
    found = score_knn(np.ones((600, 8)), codes, k=k)
    if k == 1:
        assert found.accuracy == approx_levels(found.chance)
    else:
        assert found.accuracy["C"] == pytest.approx(found.chance["C"], abs=0.06)
    assert found == score_knn(np.ones((600, 8)), codes, k=k)


@pytest.mark.parametrize("n", [1, 2])
def test_knn_of_few_items_is_defined(n):
    found = score_knn(np.eye(2)[:n], ["1.1.1.1", "2.1.1.1"][:n])
    assert found.accuracy == dict.fromkeys("CATH")
    assert found.n == dict.fromkeys("CATH", 0)
    assert score_knn(np.eye(2), ["", ""]).unlabelled == 2


@pytest.mark.parametrize(
    ("points", "codes", "options", "words"),
    [
        (GOOD, ["1.1.1.1"] * 2, {}, "codes: one entry per embedding.*got 2, expected 3"),
        (GOOD, ["1.1.1.1"] * 3, {"clusters": ["a"]}, "clusters: one entry"),
        (GOOD, ["1.1.1.1", "1.10", "1.1.1.1"], {}, "codes: malformed CATH code; got '1.10'"),
        (GOOD, ["1.1.1.x"] * 3, {}, "malformed"),
        (GOOD * np.nan, ["1.1.1.1"] * 3, {}, "not finite"),
        (GOOD, ["1.1.1.1"] * 3, {"k": 0}, "k: at least one neighbour"),
        (np.zeros((0, 3)), [], {}, "nothing to compare"),
    ],
)
def test_knn_names_bad_input(points, codes, options, words):
    with pytest.raises(ProtclipError, match=words):
        knn_accuracy(points, codes, **options)
