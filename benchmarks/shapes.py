"""A checkpoint with the published shape of NAME and random weights: run by run.py in the peers' environment.

    python benchmarks/shapes.py NAME FOLDER UNCASED TRAIN TEST

UNCASED: a folder with the tokenizer of the uncased BERTs, which is copied. RoBERTa's and ModernBERT's come with their checkpoints only: in
their place a byte-level BPE is trained on TRAIN; the table of embeddings has its published size. Prints how many word pieces TEST has.
"""

from __future__ import annotations

import itertools
import sys

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from benchmarks import worker

PLACES = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
SPECIAL = {"cls_token_id": 0, "bos_token_id": 0, "pad_token_id": 1, "sep_token_id": 2, "eos_token_id": 2}  # the trained tokenizer's
SHAPES = {  # what is not the default of transformers
    "bert-base-uncased": (transformers.BertConfig, {}),
    "roberta-base": (transformers.RobertaConfig, PLACES),
    "distilbert-base-uncased": (transformers.DistilBertConfig, {}),
    "electra-small": (transformers.ElectraConfig, {}),
    "ModernBERT-base": (transformers.ModernBertConfig, SPECIAL),
}
PIECES = 8000  # of the trained tokenizer: 1.22 a word on the last 10 % of GMB, where the uncased BERTs' has 1.12


def byte_level(sentences: list[dict]):
    """Byte-level BPE that reads each word with the space before it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=PIECES, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator((" ".join(s["tokens"]) for s in sentences), trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    special = {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, add_prefix_space=True, **special)


def main(name: str, folder: str, uncased: str, train: str, test: str) -> None:
    sentences = worker.read(train)
    kind, options = SHAPES[name]
    plain = name in ("roberta-base", "ModernBERT-base")
    tokenizer = byte_level(sentences) if plain else transformers.AutoTokenizer.from_pretrained(uncased)
    tags = dict(enumerate(sorted(set(itertools.chain.from_iterable(s["tags"] for s in sentences)))))
    # The row length is what train.py chooses and notes for GMB.
    config = kind(id2label=tags, label2id={tag: i for i, tag in tags.items()}, ner={"row_length": 64}, **options)
    transformers.AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(sum(map(len, tokenizer([s["tokens"] for s in worker.read(test)], is_split_into_words=True)["input_ids"])))


if __name__ == "__main__":
    main(*sys.argv[1:])
