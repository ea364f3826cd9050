"""Make tests/fixtures/tiny_*, in an environment with PyTorch and transformers: tiny random encoders, and what PyTorch computes with them.

    .venv-bench/bin/python tests/make_fixture.py [FAMILY ...]

Each folder is a model as transformers saves it, with expected.npz: ``pieces`` [4, longest], ``lengths``, ``labels`` (-100 where none),
``hidden`` (what the classifier takes), ``logits``, and of the mean loss over labelled pieces the gradients ``gradient:NAME``; and
words.json: words, and the pieces of each by ``is_split_into_words=True``, with the space before it.
"""

from __future__ import annotations

import csv
import json
import string
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import pre_tokenizers

sys.path.insert(0, str(Path(__file__).parent.parent))

from tools import small_tokenizers  # noqa: E402

FIXTURES = Path(__file__).parent / "fixtures"
SAMPLE = Path(__file__).parent.parent / "sample" / "train.csv"
LENGTHS = (3, 17, 9, 32)
TAGS = ("B-geo", "B-per", "I-geo", "I-per", "O")
WORDS = [
    "London",
    "'s",
    "élan",
    "3.5",
    "U.S.",
    "東京",
    "don't",
    "McDonald",
    "🙂",
    "naïve",
    "\u200b",
    "\x07",
    "ﬁne",
    "A",
    "İzmir",
    "e\u0301t\u00e9",
]


def texts() -> list[str]:
    """The sample's words, to train tokenizers on."""
    with SAMPLE.open(encoding="utf-8") as file:
        return [row["Word"] for row in csv.DictReader(file)]


def letters() -> list[str]:
    """A vocabulary of letters and a few words, for WordPiece."""
    characters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    words = ["the", "in", "at", "lives", "alex", "london", "##s", "##ed", "##ing", "of", "and"]
    inside = [f"##{c}" for c in string.ascii_lowercase + string.digits]
    return list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *inside, *words]))


def word_piece(folder: Path) -> int:
    transformers.BertTokenizerFast(vocab={piece: i for i, piece in enumerate(letters())}, do_lower_case=True).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(letters()) + "\n")
    return len(letters())


def byte_level(folder: Path) -> int:
    """RoBERTa's; the number of pieces."""
    model = json.loads(small_tokenizers.byte_level([" ".join(texts())], 400, ["<s>", "<pad>", "</s>", "<unk>"]).to_str())["model"]
    transformers.RobertaTokenizer(vocab=model["vocab"], merges=list(map(tuple, model["merges"]))).save_pretrained(folder)
    return len(model["vocab"]) + 1  # and <mask>


def modern_byte_level(folder: Path) -> int:
    tokenizer = small_tokenizers.byte_level([" ".join(texts())], 400, ["[CLS]", "[PAD]", "[SEP]", "[UNK]"])
    small_tokenizers.with_ends(tokenizer, "[CLS]", "[SEP]", unk_token="[UNK]", pad_token="[PAD]").save_pretrained(folder)
    return tokenizer.get_vocab_size()


def unigram(folder: Path) -> int:
    tokenizer = small_tokenizers.unigram([" ".join(texts())], 300, ["<s>", "<pad>", "</s>", "<unk>"])
    small_tokenizers.with_ends(tokenizer, "<s>", "</s>", unk_token="<unk>", pad_token="<pad>").save_pretrained(folder)
    return tokenizer.get_vocab_size()


BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 64}
ROBERTA = BERT | {"max_position_embeddings": 66, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}
# Six layers have both kinds of attention twice; a reach of 4 pieces is far shorter than the sentences.
MODERN = {"hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 256}
FAMILIES = {
    "bert": (transformers.BertConfig, BERT, word_piece),
    "roberta": (transformers.RobertaConfig, ROBERTA, byte_level),
    "xlm-roberta": (transformers.XLMRobertaConfig, ROBERTA, unigram),
    "camembert": (transformers.CamembertConfig, ROBERTA, unigram),
    "distilbert": (
        transformers.DistilBertConfig,
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64},
        word_piece,
    ),
    "electra": (transformers.ElectraConfig, BERT | {"embedding_size": 16}, word_piece),
    "modernbert": (
        transformers.ModernBertConfig,
        MODERN | {"local_attention": 8, "pad_token_id": 1, "cls_token_id": 0, "sep_token_id": 2, "bos_token_id": 0, "eos_token_id": 2},
        modern_byte_level,
    ),
}


def make(family: str) -> None:
    torch.manual_seed(0)
    folder = FIXTURES / f"tiny_{family.replace('-', '_')}"
    folder.mkdir(parents=True, exist_ok=True)
    kind, shape, tokenizer = FAMILIES[family]
    vocab_size = tokenizer(folder)
    tags = {"id2label": dict(enumerate(TAGS)), "label2id": {tag: i for i, tag in enumerate(TAGS)}}
    # Weights are wide, so that a mistake anywhere shows in the outputs.
    config = kind(vocab_size=vocab_size, initializer_range=0.4 if family != "modernbert" else 0.2, **shape, **tags)
    model = transformers.AutoModelForTokenClassification.from_config(config, attn_implementation="sdpa").eval()
    for parameter in model.parameters():  # biases and LayerNorm start at 0 and 1, which would hide a swapped pair
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=float(parameter[0]), std=0.2)
    model.save_pretrained(folder)
    (folder / "words.json").write_text(json.dumps(pieces_of_words(folder)) + "\n")
    arrays = computed(model, vocab_size).items()
    np.savez(folder / "expected.npz", **{name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in arrays})


def pieces_of_words(folder: Path) -> dict:
    """WORDS and some of the sample's, and the pieces of each, none for a word that the tokenizer makes nothing of."""
    words = [*WORDS, *dict.fromkeys(texts())][:300]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
    if isinstance(tokenizer.backend_tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel):  # some classes forget the setting
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    encoded = tokenizer(words, is_split_into_words=True, add_special_tokens=False)
    pieces: list[list[int]] = [[] for _ in words]
    for piece, word in zip(encoded["input_ids"], encoded.word_ids(), strict=True):
        pieces[word].append(piece)
    return {"words": words, "pieces": pieces}


def computed(model, vocab_size: int) -> dict[str, np.ndarray]:
    """What PyTorch makes of random sentences, in float64: its own rounding is no part of a difference."""
    model = model.double()
    rng = np.random.default_rng(0)
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    pieces = np.where(mask, rng.integers(5, vocab_size, mask.shape), getattr(model.config, "pad_token_id", 0) or 0)
    labels = np.where(mask & (rng.random(mask.shape) < 0.7), rng.integers(0, len(TAGS), mask.shape), -100)
    taken: list[torch.Tensor] = []
    model.classifier.register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0]))
    given = {"input_ids": torch.tensor(pieces), "attention_mask": torch.tensor(mask.astype(int)), "labels": torch.tensor(labels)}
    found = model(**given)
    found.loss.backward()
    gradients = {f"gradient:{name}": value.grad.numpy() for name, value in model.named_parameters() if value.grad is not None}
    arrays = {"hidden": taken[0].detach().numpy(), "logits": found.logits.detach().numpy()}
    return {"pieces": pieces, "lengths": np.array(LENGTHS), "labels": labels, "loss": found.loss.detach().numpy(), **arrays, **gradients}


if __name__ == "__main__":
    for name in sys.argv[1:] or FAMILIES:
        make(name)
