"""The linear head, decoded with transitions that are counted on the training tags. The loss and the updates know nothing of them.

``ner.decoding`` adds to the scores of a sentence's tags, for each pair of neighbours, w log(P(tag | tag before) / P(tag)). Each validation
sets w to the best of ``WEIGHTS`` on its sentences. At w = 0 it is the linear head. experiments/RESULTS.md has what this gains, by corpus.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ner import corpus, decoding, scoring
from ner.tagger import LinearHead
from ner.tensors import Tensor

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)  # 0: the scores alone; 1: the counts in full


class CountedHead(LinearHead):
    """The linear head's scores, variables and loss, and a table of transitions for decoding."""

    FILE = "transitions.safetensors"

    def __init__(self, hidden_size: int, tags: Sequence[str], **options):
        super().__init__(hidden_size, tags, **options)
        shape = (len(self.tags) + 1, len(self.tags))
        self.transitions = self.add_weight(name="transitions", shape=shape, initializer="zeros", trainable=False)  # times w

    def count(self, tag_ids: np.ndarray, lengths: np.ndarray) -> None:
        """Count the pairs of neighbouring tags: see ``log_ratios``."""
        self.ratios = log_ratios(tag_ids, lengths, len(self.tags))

    def tune(self, found: np.ndarray, sentences: Sequence[Sequence], gold: Sequence[list[str]]) -> None:
        """Set w by the F1 of ``decode(found, sentences)``; of equals the smallest."""

        def f1(weight: float) -> float:
            self.transitions.assign(weight * self.ratios)
            predicted, _ = self.decode(found, sentences)
            right, there, wanted = scoring.Evaluation(gold, gold, predicted).counts.sum(axis=0).tolist()
            return 2 * right / max(there + wanted, 1)

        self.transitions.assign(max(WEIGHTS, key=f1) * self.ratios)

    def decode(self, found: np.ndarray, sentences: Sequence[Sequence], *, iob2: bool = True) -> tuple[list[list[str]], list[list[float]]]:
        """As ``LinearHead.decode``, with the transitions. A word's score stays its tag's probability by the word's own scores."""
        return decoding.decode(found, sentences, self.tags, iob2=iob2, transitions=self.transitions.numpy())

    def chain(self) -> tuple[np.ndarray, np.ndarray]:
        """The transitions, as ``LinearHead.chain``."""
        legal, end = super().chain()
        return legal + self.transitions.numpy(), end

    def tensors(self) -> list[Tensor]:
        """The linear head's, and the transitions in a file of their own, since Hugging Face's class has no place for them."""
        return [*super().tensors(), Tensor(["transitions"], self.transitions, file=self.FILE)]


def log_ratios(tag_ids: np.ndarray, lengths: np.ndarray, num_tags: int) -> np.ndarray:
    """log(P(tag | tag before) / P(tag)): float32 [tags + 1, tags]. The last row: of a sentence's first tag.

    tag_ids: integers [words of all sentences]; lengths: int64 [sentences], words of each.

    P(tag) is of all words, each tag counted once more than it occurs. To the pairs with each tag before, one more is added, shared out as
    P(tag): so what follows a rare tag is near P(tag), and a pair that never occurs is always below it.
    """
    pairs = np.zeros(((num_tags + 1) * num_tags,), np.int64)
    begin = 0
    for first, end in corpus.blocks(lengths):
        ends = begin + np.cumsum(lengths[first:end])
        here = tag_ids[begin : ends[-1]].astype(np.int64)
        before = np.roll(here, 1)
        starts = ends - lengths[first:end] - begin
        before[starts[lengths[first:end] > 0]] = num_tags
        pairs += np.bincount(before * num_tags + here, minlength=pairs.size)
        begin = ends[-1]
    counts = pairs.reshape(num_tags + 1, num_tags)
    alone = (counts.sum(axis=0) + 1) / (counts.sum() + num_tags)
    return np.log((counts / alone + 1) / (counts.sum(axis=1, keepdims=True) + 1)).astype(np.float32)
