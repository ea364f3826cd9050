"""DistilBERT (Sanh et al., 2019): BERT's layers without token types, under its own names and keys."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ner import bert, layers, shape

ARCHITECTURES = {"distilbert": "DistilBertForTokenClassification"}
PREFIXES = ("distilbert.",)
UNUSED = ("vocab_transform.", "vocab_layer_norm.", "vocab_projector.")
WORDS = "distilbert.embeddings.word_embeddings.weight"


@dataclasses.dataclass(frozen=True)
class DistilBertConfig:
    """The keys of a ``model_type: distilbert`` config.json that shape the encoder."""

    vocab_size: int = shape.size()
    dim: int = shape.number(1, 2**16)
    n_layers: int = shape.number(1, 1000)
    n_heads: int = shape.number(1, 2**10)
    hidden_dim: int = shape.size()
    max_position_embeddings: int = shape.size()
    activation: str = shape.choice(layers.ACTIVATIONS, "gelu")
    dropout: float = shape.rate(0.1)
    attention_dropout: float = shape.rate(0.1)
    initializer_range: float = shape.number(0.0, 10.0, 0.02)

    @property
    def as_bert(self) -> bert.BertConfig:
        """The same under BERT's keys."""
        return bert.BertConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.dim,
            num_hidden_layers=self.n_layers,
            num_attention_heads=self.n_heads,
            intermediate_size=self.hidden_dim,
            max_position_embeddings=self.max_position_embeddings,
            hidden_act=self.activation,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.attention_dropout,
            initializer_range=self.initializer_range,
        )


def read_config(config: dict, path: Path) -> bert.BertConfig:
    """The encoder's shape from the content of a config.json; InputError for one that these layers do not compute."""
    found = shape.read(DistilBertConfig, config, path)
    shape.check_heads(found.dim, found.n_heads, path)
    return found.as_bert


class Encoder(bert.Encoder):
    """BERT's without token types, under DistilBERT's names."""

    token_types = False
    names = bert.Names(
        model="distilbert",
        layer="transformer.layer",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        mix="attention.out_lin",
        attention_norm="sa_layer_norm",
        inner="ffn.lin1",
        outer="ffn.lin2",
        output_norm="output_layer_norm",
    )
