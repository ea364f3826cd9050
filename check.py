"""Report what is in an annotated corpus before training on it: python check.py --help"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator

from ner.config import READING_KEYS, Config
from ner.errors import InputError, run_main
from ner.flags import REQUIRED, key, parse
from ner.formats import Documents, Format
from ner.sentences import Sentence, conflicts, entity_spans

FEW = 20  # training entities of a type that are too few to learn it well

Splits = dict[str, list[Sentence]]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Report what an annotated corpus holds and what training on it will take: entity types, documents, copies, the encoder's word
    pieces, and the updates and the time of train.py without a setting."""

    file: str = key(REQUIRED, "The annotated file: the training file if --validation is given, else one that is split.", positional=True)
    validation: str | None = key(None, "Validation file.", path=True)
    test: str | None = key(None, "Test file.", path=True)
    format: Format | None = key(None, "Format of the file. Without it: told from its suffix.")
    encoding: str | None = key(None, "Character encoding of the file. Without it: UTF-8, or cp1252 if it is not UTF-8.")
    documents: Documents = key("marked", "Which sentences of the file are of one document: those that it marks so, or all of the file.")
    word_column: int | None = key(None, "Column of the words, if the file is conll. Without it: the first.", low=1, high=1000)
    tag_column: int | None = key(None, "Column of the tags, if the file is conll. Without it: the last.", low=1, high=1000)
    encoder: str = key(Config.encoder, "The checkpoint whose word pieces are counted: a folder, or a name on the Hugging Face hub.")
    row_length: int | None = key(None, "Word pieces per row. Without it: chosen from the file as in training.", low=8, high=2**15)


def main(arguments: list[str]) -> int:
    given = parse(Arguments, arguments)
    from ner.progress import say

    config = config_of(given)
    splits = load(config, say)
    for line in (*corpus_lines(splits), *split_lines(splits), *encoder_lines(splits, config)):
        say(line)
    return 0


def config_of(given: Arguments) -> Config:
    """The settings of a run that trains on these files, all else as without a setting."""
    from ner import dataset

    reading = {name: getattr(given, name) for name in READING_KEYS}
    if given.validation or given.test:
        files = {"train": given.file, "validation": given.validation, "test": given.test}
    else:
        files = {"data": given.file}
    return dataset.resolve(Config(**files, **reading, encoder=given.encoder, row_length=given.row_length))


def load(config: Config, say) -> Splits:
    """The corpus in its splits; a file that is too small to be split is all training."""
    from ner import dataset

    try:
        splits = dataset.load(config, say)
    except InputError as error:
        if not config.data or dataset.has_splits(config.data) or "split" not in error.what:
            raise
        say(f"train.py cannot split it: {error.what}")
        return {"train": dataset.read(config.data, config, lambda note: None)}
    if "train" not in splits:
        raise InputError(f"has no training split, only {', '.join(splits)}", hint="give a file of it", path=config.data)
    return splits


def corpus_lines(splits: Splits) -> Iterator[str]:
    """Sizes, documents, copies, and a table of the entity types."""
    import pandas as pd

    everything = [sentence for sentences in splits.values() for sentence in sentences]
    sizes = ", ".join(f"{len(sentences):,} {name}" for name, sentences in splits.items())
    yield f"sentences: {len(everything):,} ({sizes}); words: {sum(len(s.words) for s in everything):,}"
    documents = {(name, s.document) for name, sentences in splits.items() for s in sentences if s.document}
    mean = f", {len(everything) / len(documents):.1f} sentences each" if documents else ""
    yield f"documents: {f'{len(documents):,}' if documents else 'not known'}{mean}"
    copies = pd.Series(["\0".join(s.words) for s in everything]).duplicated().sum()
    yield f"copies of a sentence: {copies:,}; sentences that occur more than once with different tags: {conflicts(everything):,}"
    found = [(kind, " ".join(s.words[a:b]), name) for name, some in splits.items() for s in some for kind, a, b in entity_spans(s.tags)]
    yield f"entities: {len(found):,}"
    if found:
        rows = pd.DataFrame(found, columns=["type", "name", "split"])
        table = rows.groupby("type")["name"].agg(entities="size", distinct="nunique")
        table = table.join(pd.crosstab(rows["type"], rows["split"]).reindex(columns=list(splits), fill_value=0))
        table = table.sort_values("entities", ascending=False, kind="stable").reset_index()
        for row in table.to_string(index=False, formatters=dict.fromkeys(table.columns[1:], "{:,}".format)).split("\n"):
            yield f"  {row}"


def split_lines(splits: Splits) -> Iterator[str]:
    """What training has too little of, and what the other splits share with it."""
    count = {name: Counter(kind for s in some for kind, _, _ in entity_spans(s.tags)) for name, some in splits.items()}
    few = [f"{kind} {number}" for kind, number in sorted(count["train"].items()) if number < FEW]
    if few:
        yield f"warning: fewer than {FEW} training entities, too few to learn a type well: {', '.join(few)}"
    trained = {"\0".join(s.words) for s in splits["train"]}
    for name, sentences in list(splits.items())[1:]:
        if lacking := sorted(count[name].keys() - count["train"].keys()):
            yield f"warning: {name} has types that training lacks: {', '.join(lacking)}; their entities count as missed"
        copies = sum("\0".join(s.words) in trained for s in sentences)
        if copies:
            yield f"{name} sentences that training has too: {copies:,} of {len(sentences):,}"


def encoder_lines(splits: Splits, config: Config) -> Iterator[str]:
    """What the encoder's tokenizer makes of the words, and the updates and the time of a training."""
    import numpy as np

    from ner.strategy import import_tensorflow

    import_tensorflow()
    from ner import budget, dataset, pretrained, strategy, throughput
    from ner.wordpieces import WordPieces

    encoder = pretrained.find(config.encoder)
    words = {name: [s.words for s in splits.get(name, [])] for name in ("train", "validation")}
    pieces = dataset.told_of_case(WordPieces.load(encoder), None, encoder, splits.get("train", []), print)
    train = pieces.encode(words["train"], config.row_length, encoder.shape.longest_row)
    validation = pieces.encode(words["validation"], train.row_length)
    real = train.words >= 0
    unknown = np.unique(train.words[real & (train.pieces == pieces.unk)])
    flat = [word for sentence in words["train"] for word in sentence]
    shown = ", ".join(repr(word) for word in dict.fromkeys(flat[i] for i in unknown[:1000].tolist()) if len(word) < 40)
    yield f"word pieces of {config.encoder} in training: {np.count_nonzero(real):,}, {np.count_nonzero(real) / len(flat):.2f} per word"
    yield f"words with an unknown piece: {len(unknown):,}, {len(unknown) / len(flat):.1%}{f' ({shown[:200]})' if shown else ''}"
    if warning := dataset.misfit(train, pieces.unk):
        yield warning
    added = len(train.sentences) - len(np.unique(train.sentences))
    yield (
        f"rows of {train.row_length}: long sentences are cut into overlapping windows, which adds {added:,}; "
        f"words truncated: {train.cut_words:,}"
    )
    config = budget.filled(dataclasses.replace(config, case=pieces.cased is not None), train, validation, encoder.shape.hidden_size)
    yield budget.line(config, train)
    devices = strategy.choose("none", workers=False)
    seconds = throughput.guess(devices, encoder, config.rows * train.row_length)
    yield f"time: roughly {budget.in_words(budget.seconds(config, train, validation, seconds))} here, by the speed of matrix products"


if __name__ == "__main__":
    sys.exit(run_main(main))
