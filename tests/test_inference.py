"""Tags of a saved model: IOB2 of one trained here, each word's likeliest of one from elsewhere."""

import numpy as np
import pytest

from ner import inference, pretrained
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


@pytest.mark.parametrize("block", [1, 2, 7])
def test_tags_are_the_same_block_by_block_and_no_more_scores_are_held(tiny, tmp_path, monkeypatch, toy_sentences, block):
    """Over sentences of several windows and without words; the model's weights are random."""
    source = pretrained.read(tiny)
    model = pretrained.build(source, TAGS, seed=5)
    pretrained.load(model, source, head=False)
    pretrained.save(model, tmp_path / "model", source=source, notes={"row_length": 32})
    tagger = Tagger.load(tmp_path / "model", compute_dtype="float32")
    sentences = [[], *(s.words for s in toy_sentences[:20]), [], ["in"] * 100, []]
    held = []
    whole = inference.predict_words

    def recorded(*arguments):
        found = whole(*arguments)
        held.append(len(found))
        return found

    monkeypatch.setattr(inference, "predict_words", recorded)
    expected = tagger.tag(sentences)
    assert held == [sum(map(len, sentences))]
    windows = tagger.word_pieces.encode(sentences, tagger.row_length)
    tags, scores = inference.tag(tagger.predict, tagger.strategy, windows, tagger.head, sentences, block=block)
    assert tags == expected[0] and sum(held[1:]) == held[0] and len(held) == 1 + -(-len(sentences) // block)
    np.testing.assert_allclose(np.concatenate(scores), np.concatenate(expected[1]), atol=1e-5)


def test_no_words_no_tags(tiny, tmp_path):
    tagger = saved(tiny, tmp_path / "here", [0.0] * 3, row_length=32)
    assert tagger.tag([]) == ([], []) and tagger.tag([[], []]) == ([[], []], [[], []])
    (tagged,) = tagger([""])
    assert tagged.words == tagged.tags == tagged.entities == []
