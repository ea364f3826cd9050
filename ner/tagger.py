"""The model: encoder, dropout, and a dense layer of num_tags + 1 units over the last hidden state."""

from __future__ import annotations

import keras
import tensorflow as tf

from ner.encoder import Encoder, EncoderConfig
from ner.fused import dropout, fold


class TaggingModel(keras.layers.Layer):
    """Logits for every word piece. The last unit is the padding label's: nothing is ever trained on it or predicted by it."""

    def __init__(
        self,
        config: EncoderConfig,
        num_tags: int,
        *,
        dropout_rate: float = 0.3,
        encoder_dropout: float | None = None,
        compute_dtype: tf.DType = tf.float32,
        seed: int = 0,
    ):
        super().__init__(autocast=False, dtype="float32", name="tagging_model")
        self.num_tags, self.dropout_rate = num_tags, dropout_rate
        self.encoder = Encoder(config, compute_dtype, encoder_dropout, name="encoder")
        normal = keras.initializers.TruncatedNormal(stddev=config.initializer_range, seed=seed)
        self.tag_kernel = self.add_weight(name="tag_kernel", shape=(config.hidden_size, num_tags + 1), initializer=normal)
        self.tag_bias = self.add_weight(name="tag_bias", shape=(num_tags + 1,), initializer="zeros")

    def call(self, pieces, types, positions, segments, seed: tf.Tensor, training: bool) -> tf.Tensor:
        """int32 [rows, length] each, seed uint32 scalar -> logits float32 [rows, length, num_tags + 1]."""
        hidden = self.encoder(pieces, types, positions, segments, fold(seed, 0), training=training)
        hidden = dropout(tf.cast(hidden, tf.float32), self.dropout_rate if training else 0.0, fold(seed, 1))
        logits = tf.matmul(hidden, self.tag_kernel.value) + self.tag_bias.value
        return tf.reshape(logits, [*pieces.shape, self.num_tags + 1])
