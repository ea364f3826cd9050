"""The rule that gives a corpus its number of updates, and what a filled configuration says of it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner import budget
from ner.config import Config
from ner.windows import Windows


def windows(pieces: int, row_length: int = 64) -> Windows:
    """Windows of 16 pieces, with what the rule looks at: their pieces and bounds, and the row length."""
    none, starts = np.zeros(0, np.int32), np.append(np.arange(0, pieces, 16), pieces)
    return Windows(np.zeros(pieces, np.int8), none, none, starts, none, none, none, cut_words=0, row_length=row_length)


def test_what_is_given_stays():
    config = Config(rows=7, epochs=5, validate_every=3, learning_rate=1e-3)
    assert budget.filled(config, windows(10_000), windows(1000), 384) == config
    assert budget.filled(Config(validate_every=0), windows(10_000), windows(1000), 384).validate_every == 0  # after each epoch


@settings(deadline=None)
@given(st.integers(20, 3_000_000), st.integers(20, 3_000_000), st.sampled_from([32, 64, 128, 512]))
def test_every_corpus_gets_a_budget(train, validation, row_length):
    config = budget.filled(Config(), windows(train, row_length), windows(validation, row_length), 384)
    count = budget.updates(config, windows(train, row_length))
    assert config.rows >= 1 and config.epochs >= 2 and 1 <= config.validate_every <= count and 0 < config.learning_rate <= 4e-4
    times = count / config.validate_every
    assert times <= budget.MOST_VALIDATIONS
    assert times <= 1 or times * validation <= budget.VALIDATION_SHARE * budget.UPDATE_COST * config.epochs * train


@pytest.mark.parametrize("size", [1000, 10_000, 100_000, 1_000_000])
def test_a_larger_corpus_gets_more_updates_in_fewer_epochs(size):
    small, large = (budget.filled(Config(), windows(n), windows(size), 384) for n in (size, 4 * size))
    assert large.epochs <= small.epochs and large.rows >= small.rows
    assert budget.updates(large, windows(4 * size)) > 0.98 * budget.updates(small, windows(size))  # all whole numbers


@pytest.mark.parametrize("batching", ["padded", "buckets"])
def test_rows_of_one_sentence_each_are_counted_by_their_pieces(batching):
    short = dataclasses.replace(windows(10_000), starts=np.arange(0, 10_001, 16))  # 625 sentences of 16 pieces
    config = budget.filled(Config(batching=batching), short, windows(100), 384)
    assert config.rows == 16 and config.learning_rate == budget.learning_rate(256, 384)
    count = config.epochs * math.ceil(625 / 16)
    assert budget.updates(config, short) == count and count / config.validate_every <= budget.MOST_VALIDATIONS
    whole = dataclasses.replace(windows(10_000), starts=np.array([0, 10_000]))  # a document, to be cut into 157 windows
    assert budget.filled(Config(batching=batching), whole, windows(100), 384).rows == 4


@pytest.mark.parametrize(
    ("length", "count", "row_length", "rows"),
    [(20, 3, 64, 1), (300, 50, 512, 50), (25, 5000, 64, 2500), (1000, 2, 64, 32)],  # the last ones are whole documents, to be cut
)
def test_an_epoch_has_as_many_rows_as_packing_makes_and_a_whole_number_of_updates(length, count, row_length, rows):
    some = dataclasses.replace(windows(length * count, row_length), starts=np.arange(count + 1) * length)
    config = Config(rows=4, epochs=10)
    found = budget.rows_per_epoch(config, some)  # of many windows some are packed, so it is about right
    assert found == pytest.approx(rows, rel=0.002) and budget.updates(config, some) == 10 * math.ceil(found / 4)


def test_wider_encoders_get_smaller_rates():
    rates = [budget.filled(Config(), windows(10**6), windows(100), width).learning_rate for width in (256, 384, 768, 1024)]
    assert rates == pytest.approx([4e-4, 4e-4, 1e-4, 5.625e-5], rel=1e-3)


def test_more_micro_batches_than_rows_make_more_rows():
    assert budget.filled(Config(rows=None, accumulate=9), windows(1000), windows(1000), 384).rows == 9


def test_a_configuration_that_leaves_nothing_open_is_described_in_a_line():
    config = dataclasses.replace(budget.filled(Config(rows=4, epochs=3), windows(2560), windows(256), 384), case=True)
    line = budget.line(config, windows(2560))
    assert (
        line
        == "budget: 3 epochs of 2,560 word pieces, about 30 updates of 4 x 64; learning rate 0.0002; validation every 2 updates; case on"
    )
    assert "after each epoch; case off" in budget.line(dataclasses.replace(config, validate_every=0, case=False), windows(2560))


def test_the_time_of_a_run_is_that_of_its_updates_and_validations():
    config = Config(rows=4, epochs=3, validate_every=10)  # 30 updates; 3 validations, each of the cost of one update of 256 pieces / 3
    assert budget.seconds(config, windows(2560), windows(256), 0.5) == pytest.approx(0.5 * (30 + 3 / 3))
    assert [budget.in_words(s) for s in (7.2, 130, 9000)] == ["7 s", "2 min", "2.5 h"]
