"""A run killed at random instants and continued ends like one that was not (the long form: ``make kills``)."""

from __future__ import annotations

import kills


def test_killed_runs_end_with_the_bits_of_one_never_killed(tmp_path):
    tally = kills.try_kills(4, seed=1, folder=tmp_path)
    assert tally.lost == [] and tally.kills == 4 and tally.after_checkpoint >= 1


def test_a_run_that_ends_differently_is_told(tmp_path):
    same = {"weights": b"1", "predictions": b"2"}
    assert kills.differing(same, dict(same)) == [] and kills.differing(same, {**same, "weights": b"0"}) == ["weights"]
