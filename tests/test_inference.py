"""Tags of a saved model: IOB2 of one trained here, each word's likeliest of one from elsewhere."""

from types import SimpleNamespace

import numpy as np
import pytest

import predict
from ner import inference, pretrained
from ner.inference import Entity, Tagged, Tagger
from ner.wordpieces import WordPieces

TAGS = ("B-per", "I-per", "O")


def saved(tiny, folder, bias, **notes):
    """A model that gives each word these log-odds of TAGS; trained here if there are ``notes``."""
    source = pretrained.read(tiny)
    model = pretrained.build(source, TAGS)
    model.head.tag_kernel.assign(np.zeros(model.head.tag_kernel.shape, np.float32))
    model.head.tag_bias.assign(np.resize(np.array(bias, np.float32), model.head.tag_bias.shape))
    pretrained.save(model, folder, source=source, pieces=WordPieces.load(source), notes=notes)
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


def test_entities_of_a_low_score_are_left_out_and_their_words_become_o():
    entities = [Entity(0, 1, "a", "x", 0.9), Entity(2, 5, "b c", "x", 0.5)]
    tagged = Tagged("a b c", ["a", "b", "c"], ["B-x", "B-x", "I-x"], [0.9, 0.4, 0.6], entities)
    assert predict.confident(tagged, 0.5) == tagged
    assert predict.confident(tagged, 0.51) == Tagged("a b c", ["a", "b", "c"], ["B-x", "O", "O"], [0.9, 0.4, 0.6], entities[:1])


@pytest.mark.parametrize("block", [1, 2, 7])
def test_tags_are_the_same_block_by_block_and_no_more_scores_are_held(tiny, tmp_path, monkeypatch, toy_sentences, block):
    """Over sentences of several windows and without words; the model's weights are random."""
    source = pretrained.read(tiny)
    model = pretrained.build(source, TAGS, seed=5)
    pretrained.load(model, source, head=False)
    pretrained.save(model, tmp_path / "model", source=source, pieces=WordPieces.load(source), notes={"row_length": 32})
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


@pytest.fixture(scope="module")
def reader(tiny, tmp_path_factory):
    """The folder of a model with random weights that wants document context."""
    source = pretrained.read(tiny)
    model = pretrained.build(source, TAGS, seed=5)
    pretrained.load(model, source, head=False)
    folder = tmp_path_factory.mktemp("reader") / "model"
    pretrained.save(model, folder, source=source, pieces=WordPieces.load(source), notes={"row_length": 32, "context": "document"})
    return folder


def test_documents_in_another_order_have_the_same_tags(reader, toy_sentences):
    """A sentence's tags depend on its own document alone. Some documents are one window, some are many."""
    sentences = [s.words for s in toy_sentences]
    names = [str(min(number // 2, 20)) for number in range(len(sentences))]
    tagger = Tagger.load(reader, compute_dtype="float32")
    assert tagger.context == "document"
    tags, scores = tagger.tag(sentences, names)
    assert tagger.neighbours == len(sentences) - 21
    order = np.argsort([-int(name) for name in names], kind="stable")
    again, their_scores = tagger.tag([sentences[i] for i in order], [names[i] for i in order])
    assert again == [tags[i] for i in order]
    np.testing.assert_allclose(np.concatenate(their_scores), np.concatenate([scores[i] for i in order]), atol=1e-5)
    alone, own_scores = tagger.tag(sentences)
    assert any(not np.allclose(a, b, atol=1e-3) for a, b in zip(scores, own_scores, strict=True))  # neighbours are read
    switched_off = Tagger.load(reader, compute_dtype="float32", context="sentence")
    assert switched_off.tag(sentences, names) == (alone, own_scores) and switched_off.neighbours == 0


def test_block_by_block_a_document_has_the_tags_of_the_whole(reader, toy_sentences):
    tagger, sentences = Tagger.load(reader, compute_dtype="float32"), [s.words for s in toy_sentences[:20]]
    names = [*"aaaaabb", *[""] * 6, *"ccccccc"]
    expected = tagger.tag(sentences, names)
    windows = tagger.word_pieces.encode(sentences, tagger.row_length, documents=names)
    tags, scores = inference.tag(tagger.predict, tagger.strategy, windows, tagger.head, sentences, block=3)
    assert tags == expected[0]
    np.testing.assert_allclose(np.concatenate(scores), np.concatenate(expected[1]), atol=1e-5)


def test_a_block_is_whole_documents(monkeypatch):
    monkeypatch.setattr(inference, "predict_words", lambda predict, strategy, windows, num_tags: windows)

    def found(*units):
        windows = SimpleNamespace(units=np.array(units), of_sentences=lambda first, end: (first, end))
        return list(inference.in_blocks(None, None, windows, 0, block=3))

    assert found(0, 2, 3, 10, 11, 12) == [(0, 3, (0, 3)), (3, 10, (3, 10)), (10, 12, (10, 12))]
    assert found(0) == []


def test_any_model_may_read_documents_and_then_in_longer_rows(tiny, tmp_path):
    saved(tiny, tmp_path / "here", [0.0] * 3, row_length=32)
    assert [(t.context, t.row_length) for t in (Tagger.load(tmp_path / "here", context=c) for c in (None, "sentence", "document"))] == [
        ("sentence", 32),
        ("sentence", 32),
        ("document", 64),  # all that this encoder has positions for
    ]


def test_no_words_no_tags(tiny, tmp_path):
    tagger = saved(tiny, tmp_path / "here", [0.0] * 3, row_length=32)
    assert tagger.tag([]) == ([], []) and tagger.tag([[], []]) == ([[], []], [[], []])
    (tagged,) = tagger([""])
    assert tagged.words == tagged.tags == tagged.entities == []
