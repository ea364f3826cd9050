"""--dry-run times the updates that a run would make, and changes no weight."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf

from ner import dataset, pretrained, rehearsal, step
from ner.config import Config
from ner.optimizer import AdamW


@pytest.mark.parametrize(("batching", "row_lengths"), [("packed", 1), ("buckets", 3)])
def test_every_row_length_is_timed_and_no_weight_changes(corpus, tiny, capsys, batching, row_lengths):
    files = {"train": str(corpus / "train.conll"), "validation": str(corpus / "validation.conll")}
    config = Config(**files, encoder=str(tiny), batching=batching, rows=4, row_length=64, epochs=7, steps_per_call=2)
    encoder = pretrained.read(tiny)
    data = dataset.prepare(config, encoder, lambda line: None)
    model = pretrained.build(encoder, data.tags.names)
    pretrained.load(model, encoder, head=False)
    optimizer = AdamW(model.trained, weight_decay=0.01)
    strategy = tf.distribute.get_strategy()
    update = step.make_update(strategy, model, optimizer, model.head.loss, seed=0, clip_norm=1.0)
    before = {name: variable.numpy().copy() for name, variable in model.trained.items()}

    rehearsal.rehearse(config, strategy, update, data)

    for name, variable in model.trained.items():
        np.testing.assert_array_equal(variable.numpy(), before[name], err_msg=name)
    assert update.experimental_get_tracing_count() == row_lengths
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    found = re.search(r"dry run: (\d+) updates an epoch of (\d+) real word pieces .* 7 epochs: about .* no run folder was written", said)
    updates, pieces = map(int, found.groups())
    assert updates * pieces == pytest.approx(data.train.lengths.sum(), abs=updates)
