"""Make tests/fixtures/tiny_bert, in an environment with PyTorch and transformers: a tiny random BERT and what PyTorch computes with it.

python tests/make_fixture.py
"""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "fixtures" / "tiny_bert"
LENGTHS = (3, 17, 9, 32)
TAGS = ("B-geo", "B-per", "I-geo", "I-per", "O")


def main() -> None:
    import torch
    from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

    torch.manual_seed(0)
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    words = ["the", "in", "at", "lives", "alex", "london", "##s", "##ed", "##ing", "of", "and"]
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{c}" for c in string.ascii_lowercase + string.digits),
        *words,
    ]
    vocabulary = list(dict.fromkeys(vocabulary))
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        id2label=dict(enumerate(TAGS)),
        label2id={tag: i for i, tag in enumerate(TAGS)},
        initializer_range=0.4,  # wide, so that a mistake anywhere shows in the outputs
    )
    model = BertForTokenClassification(config).eval()
    for parameter in model.parameters():  # biases and LayerNorm start at 0 and 1, which would hide a swapped pair
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=float(parameter[0]), std=0.2)
    model.save_pretrained(FOLDER)
    BertTokenizerFast(vocab=str(FOLDER / "vocab.txt"), do_lower_case=True).save_pretrained(FOLDER)
    (FOLDER / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    rng = np.random.default_rng(0)
    pieces = rng.integers(5, len(vocabulary), (len(LENGTHS), max(LENGTHS)))
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    pieces = np.where(mask, pieces, 0)
    with torch.no_grad():
        ids, attention = torch.tensor(pieces), torch.tensor(mask.astype(int))
        hidden = model.bert(ids, attention_mask=attention).last_hidden_state
        logits = model(ids, attention_mask=attention).logits
    np.savez(FOLDER / "expected.npz", pieces=pieces, lengths=LENGTHS, hidden=hidden.numpy(), logits=logits.numpy())


if __name__ == "__main__":
    main()
