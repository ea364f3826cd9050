"""RoBERTa (Liu et al., 2019), XLM-RoBERTa (Conneau et al., 2020), CamemBERT (Martin et al., 2020): BERT's layers, other names and places.

A sentence's positions begin behind the padding piece's number, so a table of 514 has places for 512 word pieces.
"""

from __future__ import annotations

import dataclasses
import functools

from ner import bert, shape

ARCHITECTURES = {
    "roberta": "RobertaForTokenClassification",
    "xlm-roberta": "XLMRobertaForTokenClassification",
    "camembert": "CamembertForTokenClassification",
}
PREFIXES = ("roberta.",)
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


read_config = functools.partial(bert.read_config, kind=RobertaConfig)


class Encoder(bert.Encoder):
    """BERT's, under RoBERTa's names."""

    names = bert.Names(model="roberta")
