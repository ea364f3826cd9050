"""Report what is in an annotated corpus before training on it, and which of its annotations may be wrong: python check.py --help"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ner.config import READING_KEYS, Config
from ner.errors import InputError, RunStopped, run_main
from ner.flags import REQUIRED, key, parse
from ner.formats import Documents, Format
from ner.sentences import conflicts, entity_spans, joined

if TYPE_CHECKING:
    from ner.corpus import Sentences
    from ner.inference import Tagger

FEW = 20  # training entities of a type that are too few to learn it well
SHOWN = 20  # annotations in doubt on the terminal

Splits = dict[str, "Sentences"]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Report what an annotated corpus holds and what training on it will take: entity types, documents, copies, the encoder's word
    pieces, and the updates and the time of train.py without a setting. Or, with --ckpt or --folds, list the annotations of a file that are
    most likely to be wrong; and with --apply, write the file with the corrections that were decided."""

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
    ckpt: str | None = key(None, "List the annotations that this trained model doubts.", group="annotations that may be wrong", path=True)
    folds: int | None = key(
        None, "The same with this many models, trained here: each judges the part of the file that it has not seen.", low=2, high=20
    )
    json: str | None = key(None, "Write all of the list to this file, a JSON object a line.", path=True)
    html: str | None = key(None, "Write a self-contained page: the list, to filter, to decide and to export the decisions.", path=True)
    apply: str | None = key(None, "Decisions that the page exported: write the corpus with them to --output.", path=True)
    output: str | None = key(None, "The corrected file, in the format of FILE. All else in it stays as it was.", path=True)


def main(arguments: list[str]) -> int:
    given = parse(Arguments, arguments)
    refuse_combinations(given)
    from ner.progress import say

    if given.apply:
        return apply(given, say)
    if given.ckpt or given.folds:
        return list_doubts(given, say)
    config = config_of(given)
    splits = load(config, say)
    for line in (*corpus_lines(splits), *split_lines(splits)):
        say(line)
    from ner import dataset

    try:
        dataset.check_trainable(splits, config, lambda note: None)
    except InputError as error:
        say(f"train.py refuses it: {error.what}")
        return 0
    for line in encoder_lines(splits, config):
        say(line)
    return 0


def config_of(given: Arguments) -> Config:
    """The settings of a run that trains on these files, all else as without a setting."""
    from ner import dataset

    reading = {name: getattr(given, name) for name in READING_KEYS}
    if given.validation or given.test:
        files: dict[str, Any] = {"train": given.file, "validation": given.validation, "test": given.test}
    else:
        files = {"data": given.file}
    return dataset.resolve(Config(**files, **reading, encoder=given.encoder, row_length=given.row_length))


def load(config: Config, say) -> Splits:
    """The corpus in its splits; a file that is too small to be split is all training."""
    from ner import dataset

    if config.data and not dataset.has_splits(config.data):
        sentences = dataset.read(config.data, config, say)
        try:
            return dict(dataset.split_file(sentences, config))
        except InputError as error:
            say(f"train.py cannot split it: {error.what}")
            return {"train": sentences}
    splits = dataset.load(config, say)
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
    words = [joined(s.words) for s in everything]
    differing = conflicts(zip(words, (joined(s.tags) for s in everything), strict=True))
    copies = pd.Series(words).duplicated().sum()
    yield f"copies of a sentence: {copies:,}; sentences that occur more than once with different tags: {differing:,}"
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
    from ner import dataset

    count = {name: Counter(kind for s in some for kind, _, _ in entity_spans(s.tags)) for name, some in splits.items()}
    few = [f"{kind} {number}" for kind, number in sorted(count["train"].items()) if number < FEW]
    if warning := dataset.scarcity(splits):
        yield warning
    if few:
        yield f"warning: fewer than {FEW} training entities, too few to learn a type well: {', '.join(few)}"
    trained = {"\0".join(s.words) for s in splits["train"]}
    for name, sentences in list(splits.items())[1:]:
        if lacking := sorted(count[name].keys() - count["train"].keys()):
            yield f"warning: {name} has types that training lacks: {', '.join(lacking)}; their entities count as missed"
        copies = sum("\0".join(s.words) in trained for s in sentences)
        if copies:
            much = "warning: " if copies > len(sentences) / 2 else ""
            yield f"{much}{name} sentences that training has too: {copies:,} of {len(sentences):,}"


def encoder_lines(splits: Splits, config: Config) -> Iterator[str]:
    """What the encoder's tokenizer makes of the words, and the updates and the time of a training."""
    import numpy as np

    from ner.strategy import import_tensorflow

    import_tensorflow()
    from ner import budget, dataset, pretrained, strategy, throughput
    from ner.wordpieces import WordPieces

    encoder = pretrained.find(config.encoder)
    dataset.check_row_length(config, encoder)
    words = {name: [s.words for s in splits.get(name, [])] for name in ("train", "validation")}
    pieces = dataset.told_of_case(WordPieces.load(encoder), None, encoder, splits["train"], print)
    train = pieces.encode(words["train"], config.row_length)
    validation = pieces.encode(words["validation"], train.row_length)
    count, unknown = train.count_pieces(), train.words_with(pieces.unk)
    flat = [word for sentence in words["train"] for word in sentence]
    shown = ", ".join(repr(word) for word in dict.fromkeys(flat[i] for i in unknown[:1000].tolist()) if len(word) < 40)
    yield f"word pieces of {config.encoder} in training: {count:,}, {count / len(flat):.2f} per word"
    yield f"words with an unknown piece: {len(unknown):,}, {len(unknown) / len(flat):.1%}{f' ({shown[:200]})' if shown else ''}"
    if warning := dataset.misfit(train, pieces.unk):
        yield warning
    added = len(train.sentences) - len(np.unique(train.sentences))
    yield (
        f"rows of {train.row_length}: long sentences are cut into overlapping windows, which adds {added:,} windows; "
        f"words truncated: {train.cut_words:,}"
    )
    config = budget.filled(dataclasses.replace(config, case=pieces.cased is not None), train, validation, encoder.shape.hidden_size)
    yield budget.line(config, train)
    devices = strategy.choose("none", workers=False)
    seconds = throughput.guess(devices, encoder, config.rows * train.row_length)
    yield f"time: roughly {budget.in_words(budget.seconds(config, train, validation, seconds))} here, by the speed of matrix products"


# --- annotations that may be wrong ------------------------------------------------------------------------------------


def refuse_combinations(given: Arguments) -> None:
    """Refuse flags that do not go together."""
    asked = [f"--{name}" for name in ("ckpt", "folds", "apply") if getattr(given, name)]
    if len(asked) > 1:
        raise InputError(f"{' and '.join(asked)} do not go together", hint="give one of them")
    if (given.json or given.html) and asked not in (["--ckpt"], ["--folds"]):
        raise InputError("--json and --html hold the annotations in doubt", hint="give --ckpt DIR or --folds K too")
    if bool(given.apply) != bool(given.output):
        raise InputError("--apply and --output go together", hint="give both: the decisions, and the corrected file to write")
    if asked and (given.validation or given.test):
        raise InputError(f"--validation and --test do not go with {asked[0]}", hint="check one file at a time")
    if given.output and os.path.realpath(given.output) == os.path.realpath(given.file):
        raise InputError("--output is the file itself", hint="name another file: the decisions are about this one", path=given.output)


def one_file(given: Arguments, say) -> Sentences:
    """The sentences of FILE, in IOB2."""
    from ner import dataset

    if dataset.has_splits(given.file):
        raise InputError("the annotations of one file are checked at a time", hint="give a file that exists", path=given.file)
    return dataset.read(given.file, Config(**{name: getattr(given, name) for name in READING_KEYS}), say)


def list_doubts(given: Arguments, say) -> int:
    """The annotations that are most likely to be wrong, on the terminal and in files."""
    from ner import report
    from ner.inference import Tagger, model_folder
    from ner.strategy import import_tensorflow

    if given.ckpt:
        model_folder(given.ckpt)
    for path in (given.json, given.html):
        report.check_target(path)
    import_tensorflow()
    sentences = one_file(given, say)
    from ner import annotation

    if given.ckpt:
        found = annotation.check(Tagger.load(given.ckpt), sentences, range(len(sentences)), say)
        judge = given.ckpt
    else:
        found = [
            doubt
            for tagger, part in fold_models(given, sentences, say)
            for doubt in annotation.check(tagger, [sentences[i] for i in part], part, say)
        ]
        judge = f"{given.folds} models, each on sentences that it has not seen"
    records = annotation.records(found, sentences)
    entities = sum(len(entity_spans(sentence.tags)) for sentence in sentences)
    kinds = Counter(record["kind"] for record in records)
    numbers = ", ".join(f"{kind} {kinds[kind]:,}" for kind in annotation.KINDS)
    details = {"corpus": given.file, "model": judge, "annotated entities": f"{entities:,}", "in doubt": f"{len(records):,} ({numbers})"}
    if given.json:
        report.write_jsonl(given.json, [{key: value for key, value in record.items() if key != "evidence"} for record in records])
    if given.html:
        report.write_annotation_html(given.html, records, sentences, details)
    for record in records[:SHOWN]:
        say(line_of(record))
    shown = f"; the first {SHOWN} are shown, --html or --json has all" if len(records) > SHOWN else ""
    say(f"{given.file}: {len(records):,} places in doubt ({numbers}) of {entities:,} annotated entities; the likeliest errors first{shown}")
    return 0


def line_of(record: dict) -> str:
    """A doubt in a line."""
    annotated, read = ("no entity" if e is None else f"{e['text']!r} {e['type']}" for e in (record["gold"], record["predicted"]))
    counts = [
        f"{e['name']}: {', '.join(f'{t} {n:,}' for t, n in e['counts'].items())}" for e in record["evidence"]["elsewhere"] if e["counts"]
    ]
    elsewhere = f"  (elsewhere {'; '.join(counts)})" if counts else ""
    return f"{record['score']:6.2f}  sentence {record['sentence']:<6} {record['kind']:<9} {annotated} -> {read}{elsewhere}"


def fold_models(given: Arguments, sentences: Sentences, say) -> Iterator[tuple[Tagger, list[int]]]:
    """K models, each trained by the rule of train.py on all of the corpus but a part; and the numbers of the sentences of this part."""
    from ner.strategy import import_tensorflow

    import_tensorflow()
    import train
    from ner import annotation, formats
    from ner.inference import Tagger

    parts = annotation.folds(sentences, given.folds or 0)
    if not all(parts):
        what = f"{sum(map(bool, parts))} documents or different sentences, fewer than --folds {given.folds}"
        raise InputError(what, hint="give a smaller number", path=given.file)
    for number, part in enumerate(parts, 1):
        judged = set(part)
        say(f"fold {number} of {len(parts)}: trains on {len(sentences) - len(part):,} sentences and judges {len(part):,}")
        with tempfile.TemporaryDirectory(prefix="ner-fold-") as folder:
            files = {"train": f"{folder}/train.jsonl", "validation": f"{folder}/judged.jsonl"}
            formats.write(files["train"], [sentence for i, sentence in enumerate(sentences) if i not in judged])
            formats.write(files["validation"], [sentences[i] for i in part])
            flags = {**files, "encoder": given.encoder, "output": f"{folder}/run", "row-length": given.row_length}
            # One validation, after the last update, and a head that tunes nothing there: the sentences to be judged choose nothing.
            flags |= {"validate-every": 10**9, "head": "linear"}
            try:
                train.main([text for name, value in flags.items() if value for text in (f"--{name}", str(value))])
            except InputError as error:
                raise InputError(f"fold {number}: {error.what}", hint=error.hint, path=given.file) from None
            except RunStopped as stop:  # whose hint is to resume a run that is deleted here
                raise RunStopped(f"fold {number}: {str(stop).split(';')[0]}; start again") from None
            yield Tagger.load(f"{folder}/run"), part


def apply(given: Arguments, say) -> int:
    """Write the corpus as it was decided, and say each change."""
    from pathlib import Path

    from ner import decisions, report
    from ner.retag import retag

    report.check_target(given.output)
    sentences, path = one_file(given, say), Path(str(given.apply))
    wanted, lines = decisions.applied(sentences, decisions.read(path), path)
    columns = given.word_column, given.tag_column
    retag(Path(given.file), Path(str(given.output)), wanted, format=given.format, encoding=given.encoding, columns=columns)
    for line in lines:
        say(line)
    say(f"{given.output}: {len(lines):,} changes in {len(wanted):,} sentences; all else is as in {given.file}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
