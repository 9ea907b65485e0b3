"""A command that is killed at any moment and given again ends with the same bytes as one left alone."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are copies of a process")

VERBS = (
    *("embed", "embed to Parquet", "shards", "predict", "data build", "data build, 2 workers", "download"),
    *("pretrain", "finetune"),
)
SLOW = ("embed to Parquet", "shards", "predict", "data build", "data build, 2 workers", "finetune")


@pytest.mark.parametrize("name", [v for v in VERBS if v not in SLOW])
def test_a_few_kills(harness, commands, verbs, place, name):
    tally = harness.kill_and_resume(commands, verbs[name], place, kills=2)
    assert tally.kills == 2
    assert tally.finished > 0
    assert not tally.different, tally.trouble


@pytest.mark.slow
@pytest.mark.parametrize("name", VERBS)
def test_many_kills(harness, commands, verbs, place, name):
    tally = harness.kill_and_resume(commands, verbs[name], place, kills=12, seed=1)
    assert tally.kills == 12
    assert not tally.different, tally.trouble
