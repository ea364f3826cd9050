"""What export.py writes and refuses. That its tags are those of predict.py, without this package, is in test_train.py."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf

from ner import pretrained, saved_model
from ner.errors import InputError
from ner.wordpieces import WordPieces

TAGS = ("B-per", "I-per", "O")


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A model folder as training writes it, of a tiny encoder, with rows of 16 word pieces."""
    source = pretrained.read(tiny)
    model = pretrained.build(source, TAGS)
    pretrained.load(model, source, head=False)
    folder = tmp_path_factory.mktemp("run") / "model"
    pretrained.save(model, folder, source=source, pieces=WordPieces.load(source), notes={"row_length": 16})
    return folder


@pytest.fixture
def output(tmp_path):
    return tmp_path / "ner" / "1"


@pytest.mark.parametrize(("length", "expected"), [(None, 16), (5, 5)])
def test_rows_are_as_long_as_in_training_or_as_asked(trained, output, length, expected):
    assert saved_model.write(trained, output, length=length) == expected
    signature = tf.saved_model.load(str(output)).signatures["serving_default"]
    inputs = signature.structured_input_signature[1]
    assert {name: spec.shape.as_list() for name, spec in inputs.items()} == {n: [None, expected] for n in ("input_ids", "attention_mask")}
    ids = tf.ones([9, expected], tf.int32)  # a block of eight sentences and one more
    found = signature(input_ids=ids, attention_mask=ids)
    assert found["tags"].shape == found["scores"].shape == (9, expected)
    assert json.loads((output / "assets.extra" / "tags.json").read_text()) == list(TAGS)
    assert (output / "assets.extra" / "tokenizer.json").is_file()


@pytest.mark.parametrize("length", [2, 65])
def test_a_length_that_the_encoder_cannot_read_is_refused(trained, output, length):
    with pytest.raises(InputError, match=f"--length {length} is not from 3 to the encoder's 64 positions"):
        saved_model.write(trained, output, length=length)
    assert not output.exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_left_alone(trained, output, overwrite):
    output.mkdir(parents=True)
    (output / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        saved_model.write(trained, output, overwrite=overwrite)
    assert [path.name for path in output.iterdir()] == ["thesis.txt"]


def test_only_a_saved_model_that_does_not_hold_the_model_itself_is_overwritten(trained, output):
    output.mkdir(parents=True)
    (output / "saved_model.pb").write_text("old")
    (trained.parent / "saved_model.pb").write_text("old")
    with pytest.raises(InputError, match="holds the model itself"):
        saved_model.write(trained, trained.parent, overwrite=True)
    assert (trained / "config.json").is_file()
    saved_model.write(trained, output, overwrite=True)
    assert (output / "saved_model.pb").read_bytes() != b"old"
