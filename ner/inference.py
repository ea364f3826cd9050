"""Rows through the predict step and back to the words; and a saved model as one object, from texts to tags and entities."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ner import batches, corpus, onnx_model
from ner.errors import InputError, RunStopped
from ner.scoring import entity_score
from ner.sentences import entity_spans
from ner.windows import CONTEXT_ROW, Windows
from ner.wordpieces import WordPieces
from ner.words import pre_split, tokenize

ROWS = 32  # rows per replica and predict step, whatever the training's were: one shape, and the same numerics everywhere
FEW_ROWS = 4
BLOCK = 20_000  # sentences whose scores are held at a time


def predict_words(predict, strategy, windows: Windows, num_tags: int) -> np.ndarray:
    """What the head decodes, for every word: float32 [words, tags], each from the window that owns the word.

    predict: of ``ner.step.make_predict``, or without a strategy of ``ner.onnx_model``. A single short text uses a small batch, to answer
    quickly. So does int8: what a product takes has one scale a call, and the fewer rows share it the less they lose.
    """
    found = np.zeros([windows.num_words, num_tags], np.float32)
    if not len(windows.sentences):
        return found
    rows = ROWS if strategy and windows.lengths.sum() > FEW_ROWS * windows.row_length else FEW_ROWS
    rows_per_step = rows * (strategy.num_replicas_in_sync if strategy else 1)
    packed = batches.make_rows(windows, "packed", batches.UNKNOWN, np.arange(len(windows.sentences)))[0]
    packed = batches.pad_rows(packed, rows_per_step)
    iterator = iter(batches.distribute(strategy, packed, rows_per_step)) if strategy else packed.split(rows_per_step)
    assert np.count_nonzero(packed.words >= 0) == windows.num_words, "a word was left without a tag"
    for words in np.split(packed.words, len(packed.words) // rows_per_step):
        asked = words >= 0
        found[words[asked]] = np.asarray(predict(iterator))[asked]  # step by step: memory holds the words' numbers once
    if not np.isfinite(found).all():
        raise RunStopped("the model gives NaN or infinite scores: training diverged; train again with a lower --learning-rate")
    return found


def tag(
    predict,
    strategy,
    windows: Windows,
    head,
    sentences: Sequence[Sequence[str]],
    *,
    gold: Sequence[list[str]] | None = None,
    iob2: bool = True,
    block: int = BLOCK,
):
    """One tag and one score for every word of the sentences, lists of lists: see ``head.decode``.

    Block by block, so that memory holds the scores of ``block`` sentences at a time, or of one document where that is longer.
    windows: of all the sentences, in their order. gold: their tags, if the head is to be tuned by those of the first block
    (``head.tune``).
    """
    tags: list[list[str]] = []
    confidence: list[list[float]] = []
    for first, end, found in in_blocks(predict, strategy, windows, len(head.tags), block):
        if gold is not None and first == 0:
            head.tune(found, sentences[:end], gold[:end])
        more = head.decode(found, sentences[first:end], iob2=iob2)
        tags += more[0]
        confidence += more[1]
    return tags, confidence


def in_blocks(predict, strategy, windows: Windows, num_tags: int, block: int = BLOCK) -> Iterator[tuple[int, int, np.ndarray]]:
    """The sentences [first, end) of each block, and what the head decodes for their words (``predict_words``)."""
    units = windows.units
    for first_unit, end_unit in corpus.blocks(np.diff(units), block):  # sentences that share windows stay together
        first, end = int(units[first_unit]), int(units[end_unit])
        yield first, end, predict_words(predict, strategy, windows.of_sentences(first, end), num_tags)


@dataclasses.dataclass(frozen=True)
class Entity:
    """An entity of a text: characters ``[start, end)`` of it, its type, and the mean probability of its words' tags."""

    start: int
    end: int
    text: str
    type: str
    score: float


@dataclasses.dataclass(frozen=True)
class Tagged:
    """A text, its words, one IOB2 tag and one score per word, and the entities."""

    text: str
    words: list[str]
    tags: list[str]
    scores: list[float]
    entities: list[Entity]


class Tagger:
    """A trained model: ``Tagger.load("runs/x")(["alex lives in london"])``."""

    def __init__(self, predict, strategy, word_pieces: WordPieces, head, row_length: int, *, trained_here: bool, context: str):
        self.predict, self.strategy = predict, strategy
        self.word_pieces, self.head, self.row_length, self.trained_here, self.context = word_pieces, head, row_length, trained_here, context
        self.cut_words = 0  # distinct words so far that were truncated
        self.neighbours = 0  # sentences so far that were read together with the one before them

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags the model gives, by id."""
        return self.head.tags

    @classmethod
    def load(cls, path: str | Path, *, compute_dtype: str = "auto", context: str | None = None, engine: str | None = None) -> Tagger:
        """From a run folder, its ``model/``, any Hugging Face token-classification folder of a supported family, or one of ``ner.int8``.

        context: ``document`` reads a sentence with its neighbours, ``sentence`` alone, None as the model was trained. engine: ``onnx``
        for a folder of ``ner.int8``, where compute_dtype has no effect; ``tensorflow`` for any other; None for what ``path`` is.

        Raises InputError if ``path`` is none of these.
        """
        from ner import pretrained, step, strategy

        strategy.import_tensorflow()
        folder = model_folder(path)
        as_int8 = onnx_model.is_ours(folder, engine)
        source = pretrained.read(folder, onnx_model.FILE if as_int8 else None)
        devices = strategy.choose("none", workers=False)  # with TF_CONFIG left set it would wait for the others for ever
        word_pieces = WordPieces.load(source)
        if as_int8:
            head = onnx_model.load_head(source)
            predict = onnx_model.make_predict(folder / onnx_model.FILE, head)
        else:
            if compute_dtype == "auto" and source.notes.get("compute_dtype") == "float32":
                compute_dtype = "float32"
            dtype = strategy.compute_dtype(compute_dtype, devices.kind)
            with devices.strategy.scope():
                model = pretrained.build(source, source.tags, head=source.head, compute_dtype=dtype)
                pretrained.load(model, source, head=True)
            head = model.head
            predict = step.make_predict(devices.strategy, model, jit=devices.kind == "gpu")
        context = context or source.context
        row_length = source.row_length
        if context != source.context == "sentence":  # rows for sentences would show little of a document
            row_length = max(row_length, min(CONTEXT_ROW, source.shape.longest_row))
        distributed = None if as_int8 else devices.strategy
        return cls(predict, distributed, word_pieces, head, row_length, trained_here=bool(source.notes), context=context)

    def tag(self, sentences: Sequence[Sequence[str]], documents: Sequence[str] | None = None) -> tuple[list[list[str]], list[list[float]]]:
        """Sentences as lists of words -> one tag and one score (probability, in [0, 1]) for every word.

        documents: the document of each sentence, "" where it is not known. With ``context`` document a sentence is read with the adjacent
        ones of its document; else this is not used.

        Tags of a model trained here are legal IOB2 (ner.decoding). A model from elsewhere may be otherwise: each word has its
        likeliest.
        """
        return tag(self.predict, self.strategy, self._windows(sentences, documents), self.head, sentences, iob2=self.trained_here)

    def scores(self, sentences: Sequence[Sequence[str]], documents: Sequence[str] | None = None) -> Iterator[tuple[int, int, np.ndarray]]:
        """Sentences as in ``tag`` -> block by block, the sentences [first, end) and what the head decodes: float32 [words, tags]."""
        return in_blocks(self.predict, self.strategy, self._windows(sentences, documents), len(self.tags))

    def _windows(self, sentences: Sequence[Sequence[str]], documents: Sequence[str] | None) -> Windows:
        windows = self.word_pieces.encode(sentences, self.row_length, documents=documents if self.context == "document" else None)
        if not self.trained_here:  # it does not say what rows it was trained in, so no sentence that fits its places is cut
            windows = windows.tightened()
        self.cut_words += windows.cut_words
        self.neighbours += len(windows.bounds) - len(windows.units)
        return windows

    def __call__(self, texts: Sequence[str], *, split_at_white_space: bool = False, documents: Sequence[str] | None = None) -> list[Tagged]:
        """Tag running texts. Words are split as the corpus is (punctuation apart), or at white space only. documents: as in ``tag``."""
        split = pre_split if split_at_white_space else tokenize
        offsets = [split(text) for text in texts]
        tags, scores = self.tag([[word for word, _, _ in words] for words in offsets], documents)
        return [_tagged(*parts) for parts in zip(texts, offsets, tags, scores, strict=True)]


def _tagged(text: str, offsets: list[tuple[str, int, int]], tags: list[str], scores: list[float]) -> Tagged:
    entities = []
    for span in entity_spans(tags):
        kind, first, end = span
        start, stop = offsets[first][1], offsets[end - 1][2]
        entities.append(Entity(start, stop, text[start:stop], kind, entity_score(scores, span)))
    return Tagged(text, [word for word, _, _ in offsets], tags, scores, entities)


def model_folder(path: str | Path) -> Path:
    """The folder that holds config.json: ``path`` itself or ``path/model``; InputError where neither does."""
    path = Path(path)
    if not path.is_dir():
        hint = "give --ckpt a run folder or a model folder" + _runs_in(path.parent)
        raise InputError("no such folder" if not path.exists() else "not a folder", path=path, hint=hint)
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    hint = "give --ckpt a run folder whose training saved a model" + _runs_in(path)
    raise InputError("not a trained model: no config.json here or in model/", path=path, hint=hint)


def _runs_in(folder: Path) -> str:
    """The newest runs in a folder, to be named in a hint; "" if there is none."""
    models = sorted(folder.glob("*/model/config.json"), key=lambda file: -file.stat().st_mtime)
    return f", such as {', '.join(str(file.parent.parent) for file in models[:3])}" if models else ""
