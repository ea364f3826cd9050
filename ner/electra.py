"""ELECTRA (Clark et al., 2020): BERT's layers; the embeddings may be narrower than the layers, with a projection between."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ner import bert, shape
from ner.bert import number_of_weights as number_of_weights

ARCHITECTURES = {"electra": "ElectraForTokenClassification"}
UNUSED = ("discriminator_predictions.", "generator_predictions.", "generator_lm_head.")
WORDS = "electra.embeddings.word_embeddings.weight"


@dataclasses.dataclass(frozen=True)
class ElectraConfig(bert.BertConfig):
    """The keys of a ``model_type: electra`` config.json that shape the encoder."""

    embedding_size: int = shape.number(1, 2**16, 128)  # type: ignore[assignment]


def read_config(config: dict, path: Path) -> ElectraConfig:
    """The encoder's shape from the content of a config.json; InputError for one that these layers do not compute."""
    found = shape.read(ElectraConfig, config, path)
    shape.check_heads(found.hidden_size, found.num_attention_heads, path)
    return found


def current_name(name: str) -> str:
    """A tensor's name in ElectraForTokenClassification, for names of a bare encoder."""
    return name if name.startswith("electra.") else f"electra.{name}"


class Encoder(bert.Encoder):
    """BERT's, under ELECTRA's names."""

    names = bert.Names(model="electra")
