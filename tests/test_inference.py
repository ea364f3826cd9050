"""Tags of a saved model: IOB2 of one trained here, each word's likeliest of one from elsewhere."""

import numpy as np

from ner import pretrained
from ner.inference import Tagger

TAGS = ("B-per", "I-per", "O")


def saved(tiny, folder, bias, **notes):
    """A model that gives each word these log-odds of TAGS; trained here if there are ``notes``."""
    source = pretrained.read(tiny)
    model = pretrained.build(source, TAGS)
    model.head.tag_kernel.assign(np.zeros(model.head.tag_kernel.shape, np.float32))
    model.head.tag_bias.assign(np.resize(np.array(bias, np.float32), model.head.tag_bias.shape))
    pretrained.save(model, folder, source=source, notes=notes)
    return Tagger.load(folder, compute_dtype="float32")


def test_tags_of_a_model_trained_here_keep_to_iob2_and_others_are_left_as_they_are(tiny, tmp_path):
    bias, words = [1.0, 2.0, 0.0], [["a", "b", "c"], ["d"]]
    odds = np.exp(bias) / np.exp(bias).sum()
    tags, scores = saved(tiny, tmp_path / "here", bias, row_length=32).tag(words)
    assert tags == [["B-per", "I-per", "I-per"], ["B-per"]]
    np.testing.assert_allclose(np.concatenate(scores), odds[[0, 1, 1, 0]], rtol=1e-5)
    long, _ = saved(tiny, tmp_path / "here", bias, row_length=32).tag([["a"] * 200])  # over several windows
    assert long == [["B-per"] + ["I-per"] * 199]
    tags, scores = saved(tiny, tmp_path / "elsewhere", bias).tag(words)
    assert tags == [["I-per"] * 3, ["I-per"]]
    np.testing.assert_allclose(np.concatenate(scores), odds[[1] * 4], rtol=1e-5)


def test_no_words_no_tags(tiny, tmp_path):
    tagger = saved(tiny, tmp_path / "here", [0.0] * 3, row_length=32)
    assert tagger.tag([]) == ([], []) and tagger.tag([[], []]) == ([[], []], [[], []])
    (tagged,) = tagger([""])
    assert tagged.words == tagged.tags == tagged.entities == []
