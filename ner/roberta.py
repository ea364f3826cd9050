"""RoBERTa (Liu et al., 2019), XLM-RoBERTa (Conneau et al., 2020), CamemBERT (Martin et al., 2020): BERT's layers, other names and places.

A sentence's positions begin behind the padding piece's number, so a table of 514 has places for 512 word pieces.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ner import bert, shape
from ner.bert import number_of_weights as number_of_weights

ARCHITECTURES = {
    "roberta": "RobertaForTokenClassification",
    "xlm-roberta": "XLMRobertaForTokenClassification",
    "camembert": "CamembertForTokenClassification",
}
UNUSED = ("lm_head.", "pooler.", "roberta.pooler.")
WORDS = "roberta.embeddings.word_embeddings.weight"


@dataclasses.dataclass(frozen=True)
class RobertaConfig(bert.BertConfig):
    """The keys of such a config.json that shape the encoder."""

    pad_token_id: int = shape.number(0, 10**6, 1)

    @property
    def first_position(self) -> int:
        """The number of a sentence's first position."""
        return self.pad_token_id + 1


def read_config(config: dict, path: Path) -> RobertaConfig:
    """The encoder's shape from the content of a config.json; InputError for one that these layers do not compute."""
    found = shape.read(RobertaConfig, config, path)
    shape.check_heads(found.hidden_size, found.num_attention_heads, path)
    shape.check_places(found.longest_row, path)
    return found


def current_name(name: str) -> str:
    """A tensor's name in the class for token classification, for names of a bare encoder."""
    return name if name.startswith("roberta.") else f"roberta.{name}"


class Encoder(bert.Encoder):
    """BERT's, under RoBERTa's names."""

    names = bert.Names(model="roberta")
