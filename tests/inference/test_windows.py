"""The ids of a stream, kept small: as a set of them would answer."""

from __future__ import annotations

import numpy as np
import pytest

from protclip.inference.windows import SeenIds, readable_windows


def test_it_answers_as_a_set_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SeenIds, "RECENT", 8)  # so that many runs are sorted and merged
    seen, slow = SeenIds(), set()
    for number in np.random.default_rng(0).integers(0, 3000, 4000).tolist():
        id = f"id {number}" if number % 3 else f"\N{GREEK SMALL LETTER ALPHA}{number}\udcff"
        assert (id in seen) == (id in slow)
        seen.add(id)
        slow.add(id)
        assert id in seen
    assert len(seen) == len(slow)


def test_digests_that_end_with_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SeenIds, "RECENT", 4)
    ends = [id for id in map(str, range(4000)) if len(SeenIds._digest(id)) < 16]
    assert ends  # one of 256
    seen = SeenIds()
    for id in ends:
        seen.add(id)
    assert all(id in seen for id in ends)
    assert "4000" not in seen


def test_an_id_is_found_again_in_a_later_window() -> None:
    stream = ((str(i % 90), i) for i in range(100))
    windows = list(readable_windows(stream, 20))
    assert [len(window.ids) for window in windows] == [20, 20, 20, 20, 10]
    assert list(windows[-1].failed) == [f"{i} (again)" for i in range(10)]
