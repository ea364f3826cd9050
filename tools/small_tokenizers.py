"""A small tokenizer of each family's kind, trained on given sentences; needs tokenizers and transformers, not PyTorch."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

UNCASED = ("bert", "distilbert", "electra")


def word_piece(sentences: Iterable[str], size: int) -> Tokenizer:
    """WordPiece that makes letters small, as BERT's."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(sentences, trainers.WordPieceTrainer(vocab_size=size, special_tokens=special))
    return tokenizer


def byte_level(sentences: Iterable[str], size: int, special: list[str]) -> Tokenizer:
    """Byte-level BPE that reads no space before a word, as roberta-base's and ModernBERT's tokenizers do unless they are told."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(sentences, trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet))
    return tokenizer


def unigram(sentences: Iterable[str], size: int, special: list[str]) -> Tokenizer:
    """Unigram over the sign for a space, as XLM-RoBERTa's and CamemBERT's tokenizers."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(sentences, trainers.UnigramTrainer(vocab_size=size, special_tokens=special, unk_token="<unk>"))
    return tokenizer


def with_ends(tokenizer: Tokenizer, first: str, last: str, **named: str):
    """As transformers keeps a tokenizer that has no class of its own, with a piece before each sentence and one behind it."""
    import transformers

    special = {first: tokenizer.token_to_id(first), last: tokenizer.token_to_id(last)}
    tokenizer.post_processor = processors.TemplateProcessing(f"{first} $A {last}", special_tokens=list(special.items()))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, cls_token=first, sep_token=last, **named)


def of_family(family: str, sentences: Iterable[str], size: int):
    """A tokenizer of transformers, of the class that the family's checkpoints have."""
    import transformers

    if family in UNCASED:
        return transformers.BertTokenizer(vocab=word_piece(sentences, size).get_vocab(), do_lower_case=True)
    if family == "modernbert":
        names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
        tokenizer = byte_level(sentences, size, ["[CLS]", "[PAD]", "[SEP]", *names.values()])
        return with_ends(tokenizer, "[CLS]", "[SEP]", **names)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    if family == "roberta":
        model = json.loads(byte_level(sentences, size, special).to_str())["model"]
        return transformers.RobertaTokenizer(vocab=model["vocab"], merges=list(map(tuple, model["merges"])))
    model = json.loads(unigram(sentences, size, special).to_str())["model"]
    kind = {"xlm-roberta": transformers.XLMRobertaTokenizer, "camembert": transformers.CamembertTokenizer}[family]
    # tokenizers reads long numbers from tokenizer.json one unit in the last place off, and Python does not: that would decide ties.
    return kind(vocab=[(piece, round(score, 6)) for piece, score in model["vocab"]])
