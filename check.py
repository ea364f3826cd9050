"""Report what is in an annotated file before training on it: python check.py --help"""

from __future__ import annotations

import dataclasses
import sys

from ner.config import READING_KEYS, Config
from ner.errors import run_main
from ner.flags import REQUIRED, key, parse
from ner.formats import Documents, Format, read
from ner.sentences import Sentence, conflicts, entity_spans


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Report what an annotated file holds: sentences, entities, the tagging scheme, copies, and how an encoder's tokenizer
    splits its words."""

    file: str = key(REQUIRED, "The annotated file.", path=True, positional=True)
    format: Format | None = key(None, "Format of the file. Without it: told from its suffix.")
    encoding: str | None = key(None, "Character encoding of the file. Without it: UTF-8, or cp1252 if it is not UTF-8.")
    documents: Documents = key("marked", "Which sentences of the file are of one document: those that it marks so, or all of the file.")
    word_column: int | None = key(None, "Column of the words, if the file is conll. Without it: the first.", low=1, high=1000)
    tag_column: int | None = key(None, "Column of the tags, if the file is conll. Without it: the last.", low=1, high=1000)
    encoder: str = key(Config.encoder, "The checkpoint whose word pieces are counted: a folder, or a name on the Hugging Face hub.")
    row_length: int | None = key(None, "Word pieces per row. Without it: chosen from the file as in training.", low=8, high=2**15)


def main(arguments: list[str]) -> int:
    given = parse(Arguments, arguments)
    from ner import tagset
    from ner.progress import say

    reading = {name: getattr(given, name) for name in READING_KEYS}
    sentences, scheme = tagset.to_iob2(read(given.file, **reading), given.file)
    say(f"{given.file}: {len(sentences):,} sentences, {sum(len(s.words) for s in sentences):,} words, tags in {scheme}")
    for line in entity_lines(sentences):
        say(line)
    say(copies_line(sentences))
    for line in word_piece_lines(sentences, given):
        say(line)
    return 0


def entity_lines(sentences: list[Sentence]) -> list[str]:
    """A table of the entity types: how many entities each has, and how many distinct names."""
    import pandas as pd

    found = [(kind, " ".join(s.words[start:end])) for s in sentences for kind, start, end in entity_spans(s.tags)]
    if not found:
        return ["entities: 0"]
    names = pd.DataFrame(found, columns=["type", "name"]).groupby("type")["name"]
    table = names.agg(entities="size", distinct="nunique").sort_values("entities", ascending=False, kind="stable").reset_index()
    shown = table.to_string(index=False, formatters=dict.fromkeys(("entities", "distinct"), "{:,}".format)).split("\n")
    return [f"entities: {len(found):,}", *(f"  {row}" for row in shown)]


def copies_line(sentences: list[Sentence]) -> str:
    """How often a sentence occurs again, and how often with other tags."""
    import pandas as pd

    copies = pd.Series(["\0".join(s.words) for s in sentences]).duplicated().sum()
    return f"copies of a sentence: {copies:,}; sentences that occur more than once with different tags: {conflicts(sentences):,}"


def word_piece_lines(sentences: list[Sentence], given: Arguments) -> list[str]:
    """What the encoder's tokenizer makes of the words, and how many sentences and words are too long for a row."""
    import numpy as np

    from ner.strategy import import_tensorflow

    import_tensorflow()
    from ner import pretrained
    from ner.wordpieces import WordPieces

    encoder = pretrained.find(given.encoder)
    pieces = WordPieces.load(encoder)
    windows = pieces.encode([s.words for s in sentences], given.row_length, encoder.shape.longest_row)
    real = windows.words >= 0
    unknown = np.unique(windows.words[real & (windows.pieces == pieces.unk)])
    flat = [word for sentence in sentences for word in sentence.words]
    shown = ", ".join(repr(word) for word in dict.fromkeys(flat[i] for i in unknown[:1000].tolist()) if len(word) < 40)
    added = len(windows.sentences) - len(np.unique(windows.sentences))
    count = np.count_nonzero(real)
    return [
        f"word pieces of {given.encoder}: {count:,}, {count / max(1, windows.num_words):.2f} per word",
        f"words with an unknown piece: {len(unknown):,}{f' ({shown[:200]})' if shown else ''}",
        f"rows of {windows.row_length}: long sentences are cut into overlapping windows, which adds {added:,}; "
        f"words truncated: {windows.cut_words:,}",
    ]


if __name__ == "__main__":
    sys.exit(run_main(main))
