"""ELECTRA (Clark et al., 2020): BERT's layers; the embeddings may be narrower than the layers, with a projection between."""

from __future__ import annotations

import dataclasses
import functools

from ner import bert, shape

ARCHITECTURES = {"electra": "ElectraForTokenClassification"}
PREFIXES = ("electra.",)
UNUSED = ("discriminator_predictions.", "generator_predictions.", "generator_lm_head.")
WORDS = "electra.embeddings.word_embeddings.weight"


@dataclasses.dataclass(frozen=True)
class ElectraConfig(bert.BertConfig):
    """The keys of a ``model_type: electra`` config.json that shape the encoder."""

    embedding_size: int = shape.number(1, 2**16, 128)  # type: ignore[assignment]


read_config = functools.partial(bert.read_config, kind=ElectraConfig)


class Encoder(bert.Encoder):
    """BERT's, under ELECTRA's names."""

    names = bert.Names(model="electra")
