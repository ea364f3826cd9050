"""A run killed at random instants and continued ends like one that was not (the long form: ``make kills``)."""

from __future__ import annotations

import kills
import pytest


@pytest.mark.slow
def test_killed_runs_end_with_the_bits_of_one_never_killed(tmp_path):
    """Where no kill of a seed's fell after the first checkpoint, which depends on the machine's speed, another seed is tried."""
    for seed in (1, 2, 3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        tally = kills.try_kills(3, seed=seed, folder=folder)
        assert tally.lost == [] and tally.kills == 3
        if tally.after_checkpoint:
            return
    pytest.fail("no kill fell after a checkpoint")


def test_a_run_that_ends_differently_is_told(tmp_path):
    same = {"weights": b"1", "predictions": b"2"}
    assert kills.differing(same, dict(same)) == [] and kills.differing(same, {**same, "weights": b"0"}) == ["weights"]
