"""Report what is in an annotated file before training on it: python check.py --help"""

from __future__ import annotations

import collections
import dataclasses
import sys

from ner.config import Config, Format
from ner.errors import run_main
from ner.flags import REQUIRED, key, parse


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Report what an annotated file holds: sentences, entities, tag scheme, copies, and what the encoder's word pieces make of it."""

    file: str = key(REQUIRED, "The annotated file.", path=True, positional=True)
    format: Format | None = key(None, "Format of the file. Without it: told from its suffix.")
    encoding: str | None = key(None, "Character encoding of the file. Without it: UTF-8, or cp1252 if it is not UTF-8.")
    encoder: str = key(Config.encoder, "The checkpoint whose word pieces are counted: a folder, or a name on the Hugging Face hub.")
    row_length: int | None = key(None, "Word pieces per row. Without it: chosen from the file as in training.", low=8, high=512)


def main(arguments: list[str]) -> int:
    given = parse(Arguments, arguments)
    import numpy as np

    from ner.strategy import import_tensorflow

    import_tensorflow()
    from ner import corpus, pretrained, tagset
    from ner.progress import say
    from ner.scoring import spans
    from ner.wordpieces import WordPieces

    raw = corpus.read(given.file, format=given.format, encoding=given.encoding)
    sentences, scheme = tagset.to_iob2(raw, given.file)
    say(f"{given.file}: {len(sentences):,} sentences, {sum(len(s.words) for s in sentences):,} words, tags in {scheme}")

    entities = [(kind, sentence, a, b) for sentence in sentences for kind, a, b in spans(sentence.tags)]
    names = collections.defaultdict(set)
    for kind, sentence, a, b in entities:
        names[kind].add(" ".join(sentence.words[a:b]))
    counts = collections.Counter(kind for kind, *_ in entities)
    say(f"entities: {len(entities):,}")
    for kind, count in counts.most_common():
        say(f"  {kind:<12} {count:>8,}   {len(names[kind]):,} distinct")

    copies = len(sentences) - len({tuple(s.words) for s in sentences})
    say(f"copies of a sentence: {copies:,}; sentences that occur more than once with different tags: {corpus.conflicts(sentences):,}")

    folder = pretrained.find(given.encoder)
    shape = pretrained.encoder_config(folder)
    pieces = WordPieces.load(folder, shape.vocab_size)
    windows = pieces.encode([s.words for s in sentences], given.row_length, shape.max_position_embeddings)
    real = windows.words >= 0
    unknown = np.unique(windows.words[real & (windows.pieces == pieces.unk)])
    flat = [word for sentence in sentences for word in sentence.words]
    shown = ", ".join(repr(word) for word in dict.fromkeys(flat[i] for i in unknown[:1000].tolist()) if len(word) < 40)
    say(f"word pieces of {given.encoder}: {np.count_nonzero(real):,}, {np.count_nonzero(real) / max(1, windows.num_words):.2f} a word")
    say(f"words with an unknown piece: {len(unknown):,}{f' ({shown[:200]})' if len(unknown) else ''}")
    cut = len(windows.sentences) - len(np.unique(windows.sentences))
    say(f"rows of {windows.row_length}: sentences cut into overlapping windows add {cut:,} windows; words cut short: {windows.cut_words:,}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
