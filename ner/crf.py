"""A linear-chain conditional random field (Lafferty et al., 2001) as the head: tags are scored together with what stands before them.

The score of a sentence's tags is the sum of each word's score (those of the linear head, at its first piece), a learnt transition for each
pair of neighbours, and a learnt score for the first and the last tag. Training maximises the probability of the annotated tags among all
sequences; decoding finds the likeliest sequence that keeps to IOB2.

In training a chain is the labelled pieces of one sentence in one window. So a window over a document holds several chains, and a sentence
that is cut is several chains. In prediction each word's scores come from the window that owns it, and the chain is the whole sentence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ner import decoding
from ner.batches import Batch
from ner.fused import fused
from ner.tagger import LinearHead
from ner.tensors import Tensor

IMPOSSIBLE = -1e30


class CRFHead(LinearHead):
    """The linear head's scores and variables, and transitions between tags."""

    FILE = "crf.safetensors"

    def __init__(self, hidden_size: int, tags: Sequence[str], **options):
        super().__init__(hidden_size, tags, **options)
        count = len(self.tags)
        self.transitions = self.add_weight(name="transitions", shape=(count, count), initializer="zeros")  # [from, to]
        self.start = self.add_weight(name="start", shape=(count,), initializer="zeros")
        self.end = self.add_weight(name="end", shape=(count,), initializer="zeros")
        self.log_likelihood = fused(log_likelihood)

    def loss(self, scores: tf.Tensor, batch: Batch) -> tf.Tensor:
        """The negative log-likelihood of all chains of the batch, float32 scalar; ner.step divides it by the labelled pieces."""
        weights = self.transitions.value, self.start.value, self.end.value
        length = batch.segments.shape[1]  # no window holds as many sentences, so this numbers each sentence of each window differently
        chains = batch.segments * length + batch.sentences % length
        return -tf.reduce_sum(self.log_likelihood(scores, *weights, batch.labels, chains))

    def to_decode(self, scores: tf.Tensor) -> tf.Tensor:
        """The scores themselves: a chain weighs them against its transitions before anything becomes a probability."""
        return scores

    def decode(self, found: np.ndarray, sentences: Sequence[Sequence], *, iob2: bool = True) -> tuple[list[list[str]], list[list[float]]]:
        """The likeliest tags of each sentence that keep to IOB2, and of each word the probability of its tag over all sequences."""
        transitions, start, end = (weight.numpy() for weight in (self.transitions, self.start, self.end))
        steps = np.concatenate([transitions, start[None]])
        legal = decoding.legal_steps(self.tags) if iob2 else np.ones(steps.shape, bool)
        costs = np.where(legal, steps, -np.inf)
        lengths, scores = np.array([len(sentence) for sentence in sentences], np.int64), found.astype(np.float64)
        best = decoding.viterbi(scores, lengths, costs, end)
        confidence = marginals(scores, lengths, transitions, start, end)[np.arange(len(best)), best]
        return decoding.by_sentence([self.tags[i] for i in best.tolist()], lengths), decoding.by_sentence(confidence.tolist(), lengths)

    def chain(self) -> tuple[np.ndarray, np.ndarray]:
        """The learnt transitions, as ``LinearHead.chain``."""
        legal, _ = super().chain()
        return legal + np.concatenate([self.transitions.numpy(), self.start.numpy()[None]]), self.end.numpy()

    def tensors(self) -> list[Tensor]:
        """The linear head's, and the transitions in a file of their own, since Hugging Face's class has no place for them."""
        own = {"crf.transitions": self.transitions, "crf.start": self.start, "crf.end": self.end}
        return super().tensors() + [Tensor([name], variable, file=self.FILE) for name, variable in own.items()]


def log_likelihood(scores, transitions, start, end, labels, chains) -> tf.Tensor:
    """log p(annotated tags), summed over the chains of each row: float32 [rows].

    scores float32 [rows, length, tags]; transitions [from, to]; labels, chains int32 [rows, length].

    The annotated sequence is the only one that is left when every other tag is impossible, so its score is a partition function too.
    """
    annotated = tf.one_hot(labels, scores.shape[2], on_value=True, off_value=False, dtype=tf.bool)
    both = tf.concat([tf.where(annotated, scores, IMPOSSIBLE), scores], axis=0)
    chained, numbers = (tf.concat([field, field], axis=0) for field in (labels >= 0, chains))
    gold, everything = tf.split(log_partition(both, transitions, start, end, chained, numbers), 2)
    return gold - everything


def log_partition(scores, transitions, start, end, chained, chains) -> tf.Tensor:
    """The log-sum over all tag sequences of exp(score), summed over the chains of each row: float32 [rows].

    chained bool, chains int32 [rows, length]: the pieces with True are linked to the one before them with the same number.
    """

    def step(state, here):
        total, alpha, is_open, chain = state  # alpha [rows, tags]: the log-sum of the paths so far that end in each tag
        score, inside, number = here
        continues = inside & is_open & (number == chain)
        begins = inside & ~continues
        total += tf.where(begins & is_open, tf.reduce_logsumexp(alpha + end, axis=1), 0.0)
        longer = tf.reduce_logsumexp(alpha[:, :, None] + transitions, axis=1) + score
        alpha = tf.where(continues[:, None], longer, tf.where(begins[:, None], start + score, alpha))
        # Kept near 0, or float32 would lose the small differences of a long row.
        shift = tf.stop_gradient(tf.where(inside, tf.reduce_max(alpha, axis=1), 0.0))
        return total + shift, alpha - shift[:, None], is_open | inside, tf.where(inside, number, chain)

    rows, _, tags = scores.shape
    state = tf.zeros([rows]), tf.zeros([rows, tags]), tf.zeros([rows], tf.bool), tf.zeros([rows], tf.int32)
    by_position = tf.transpose(scores, [1, 0, 2]), tf.transpose(chained), tf.transpose(chains)
    total, alpha, is_open, _ = (history[-1] for history in tf.scan(step, by_position, state))
    return total + tf.where(is_open, tf.reduce_logsumexp(alpha + end, axis=1), 0.0)


def marginals(scores: np.ndarray, lengths: np.ndarray, transitions: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The probability of each tag of each word over all sequences of its sentence (forward-backward): float64 [words, tags].

    scores: float64 [words of all sentences, tags]; lengths: int64 [sentences], words of each.
    """
    places = decoding.words_by_place(lengths)
    forward, backward = np.zeros(scores.shape), np.zeros(scores.shape)
    for place, words in enumerate(places):
        before = _log_product(forward[words - 1], transitions) if place else start
        forward[words] = before + scores[words]
    backward[np.cumsum(lengths)[lengths > 0] - 1] = end
    for words in reversed(places[1:]):
        backward[words - 1] = _log_product(scores[words] + backward[words], transitions.T)
    together = forward + backward
    return np.exp(together - np.logaddexp.reduce(together, axis=1, keepdims=True))


def _log_product(vectors: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """log(exp(vector) @ exp(matrix)) of each of the vectors; both shifted by their maximum so that nothing overflows."""
    high, top = vectors.max(axis=1, keepdims=True), matrix.max()
    with np.errstate(divide="ignore"):  # what is less than e-300 of the rest is 0
        return np.log(np.exp(vectors - high) @ np.exp(matrix - top)) + high + top
