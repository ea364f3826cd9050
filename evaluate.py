"""Score a trained model on annotated sentences: python evaluate.py --help"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ner.config import READING_KEYS, Config, DataType, load_toml
from ner.errors import InputError, run_main
from ner.flags import REQUIRED, key, parse
from ner.formats import Documents, Format
from ner.sentences import SPLITS

if TYPE_CHECKING:
    from ner.inference import Tagger
    from ner.scoring import Evaluation
    from ner.sentences import Sentence


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Score a trained model by entity precision, recall and F1 (seqeval) over whole words and whole sentences."""

    ckpt: str = key(REQUIRED, "A run folder, its model/, or any Hugging Face folder for token classification.", path=True)
    data: str | None = key(
        None,
        "An annotated file to score, or a folder or hub dataset as in training. Without it: the corpus that the run was trained on.",
        path=True,
    )
    split: Literal["train", "validation", "test", "all"] | None = key(
        None, "Which part of the corpus to score. Without it: all of --data, or the run's validation part."
    )
    format: Format | None = key(None, "Format of --data. Without it: told from the file's suffix.")
    encoding: str | None = key(None, "Character encoding of --data. Without it: UTF-8, or cp1252 for a file that is not UTF-8.")
    documents: Documents = key("marked", "Which sentences of --data are of one document: those that it marks so, or all of the file.")
    word_column: int | None = key(None, "Column of the words, if --data is conll. Without it: the first.", low=1, high=1000)
    tag_column: int | None = key(None, "Column of the tags, if --data is conll. Without it: the last.", low=1, high=1000)
    json: str | None = key(None, "Write the scores to this JSON file.", path=True)
    html: str | None = key(None, "Write a self-contained page: scores, errors and every sentence, to filter and search.", path=True)
    predictions: str | None = key(
        None, "Write one line `word gold predicted` per word to this file, as the conlleval script reads it.", path=True
    )
    compare: str | None = key(
        None, "Another model: test whether the two differ on the same sentences (approximate randomisation).", path=True
    )
    precision: float | None = key(
        None, "Find the lowest entity score from which on this precision is reached, for --min-score.", low=0, high=1
    )
    min_score: float | None = key(None, "Score without the predicted entities of a lower score.", low=0, high=1)
    context: Literal["sentence", "document"] | None = key(
        None, "sentence: read each sentence alone; document: with its neighbours in the document. Without it: as the model was trained."
    )
    compute_dtype: DataType = key("auto", "Number type of the matrix products. auto: what training used, if the device has it.")


def main(arguments: list[str]) -> int:
    given = parse(Arguments, arguments)
    if not given.data and any(getattr(given, name) != getattr(Config, name) for name in READING_KEYS):
        flags = ", ".join("--" + name.replace("_", "-") for name in READING_KEYS)
        raise InputError(f"{flags} say how to read --data, which is not given", hint="give --data FILE, or leave them out")
    from ner.inference import Tagger, model_folder
    from ner.strategy import import_tensorflow

    model_folder(given.ckpt)  # a wrong --ckpt is refused before TensorFlow is imported
    if given.compare:
        model_folder(given.compare)
    from ner import report

    for path in (given.json, given.html, given.predictions):
        report.check_target(path)
    import_tensorflow()
    from ner.progress import console, say, table

    sentences, corpus = corpus_of(given, say)
    words, gold, documents = [s.words for s in sentences], [s.tags for s in sentences], [s.document for s in sentences]
    tagger = Tagger.load(given.ckpt, compute_dtype=given.compute_dtype, context=given.context)
    evaluation = scored(given, tagger, words, gold, documents)
    warn_of_lacking_context(given.ckpt, tagger, say)
    if tagger.cut_words:
        say(f"warning: of {tagger.cut_words} long words only the first word pieces were read")
    warn_of_lacking_types(given.ckpt, tagger, gold, say)
    details = {"model": given.ckpt, "corpus": corpus}
    result = result_of(given, evaluation) | details
    if given.compare:
        result["compare"] = compare(given, tagger, evaluation, documents, say)
    if given.json:
        report.write_json(given.json, result)
    if given.predictions:
        report.write_predictions(given.predictions, words, gold, evaluation.predicted)
    if given.html:
        report.write_html(given.html, evaluation, title="Entity report", details=details)
    console.print(table(evaluation.scores))
    for line in lines_of(given, result):
        say(line)
    return 0


def result_of(given: Arguments, evaluation: Evaluation) -> dict:
    """The scores as the JSON file shows them."""
    from ner import scoring

    result: dict = {
        **evaluation.scores.as_dict(),
        "f1_interval_95": [*scoring.bootstrap_f1(evaluation.counts)],
        "errors": evaluation.errors,
    }
    if not given.min_score:  # the scores of entities that were left out say nothing of the O in their place
        result["calibration_error"] = {"words": evaluation.word_calibration_error(), "entities": evaluation.entity_calibration_error()}
    if given.precision is not None and (cut := evaluation.cut_for(given.precision)):
        result["cut"] = dict(zip(("min_score", "precision", "recall"), cut, strict=True))
    return result


def lines_of(given: Arguments, result: dict) -> Iterator[str]:
    """The scores in words."""
    from ner.scoring import MODE

    errors = ", ".join(f"{number:,} {name}" for name, number in result["errors"].items() if name != "correct")
    yield f"errors: {errors}; {given.html or '--html FILE'} shows each"
    interval = "95 % bootstrap interval {:.4f} to {:.4f}".format(*result["f1_interval_95"])
    yield f"{result['corpus']}: F1 {result['f1']} ({MODE}; {interval}), strict {result['f1_strict']}"
    if given.precision is not None:
        found = "entities with a score of {min_score} or more: precision {precision:.4f}, recall {recall:.4f}"
        yield f"precision {given.precision}: {found.format(**result['cut']) if 'cut' in result else 'no score reaches it'}"
    if given.compare:
        other = result["compare"]
        yield f"{given.compare}: F1 {other['f1']} ({MODE}); p = {other['p']:.4g} (two-sided, approximate randomisation)"


def scored(given: Arguments, tagger: Tagger, words: Sequence[list[str]], gold: Sequence[list[str]], documents: list[str]) -> Evaluation:
    """The model's tags beside the gold ones, without entities below --min-score."""
    from ner import scoring

    tags, confidence = tagger.tag(words, documents)
    if given.min_score:
        tags = [scoring.confident(*sentence, given.min_score) for sentence in zip(tags, confidence, strict=True)]
    return scoring.Evaluation(words, gold, tags, confidence)


def compare(given: Arguments, tagger: Tagger, evaluation: Evaluation, documents: list[str], say: Callable[[str], None]) -> dict:
    """The other model on the same sentences, as the JSON file shows it: its F1, and the p-value of "both have the same F1"."""
    from ner import scoring
    from ner.inference import Tagger

    other = Tagger.load(str(given.compare), compute_dtype=given.compute_dtype, context=given.context)
    warn_of_lacking_types(str(given.compare), other, evaluation.gold, say)
    theirs = scored(given, other, evaluation.words, evaluation.gold, documents)
    warn_of_lacking_context(str(given.compare), other, say)
    decoding, other_decoding = ("Viterbi" if model.trained_here else "word by word" for model in (tagger, other))
    if decoding != other_decoding:
        ways = f"{given.ckpt}: {decoding}, {given.compare}: {other_decoding}"
        say(f"warning: the two models choose tags in different ways ({ways}); part of the difference in F1 may come from that")
    return {
        "model": given.compare,
        "f1": theirs.scores.f1,
        "p": scoring.paired_test(evaluation.counts, theirs.counts),
        "decoding": [decoding, other_decoding],
    }


def warn_of_lacking_context(path: str, tagger: Tagger, say: Callable[[str], None]) -> None:
    """Say so where a model that reads neighbouring sentences was given none."""
    if tagger.context == "document" and not tagger.neighbours:
        say(f"warning: {path} reads neighbouring sentences, and the corpus does not say which belong together: each was read alone")


def warn_of_lacking_types(path: str, tagger: Tagger, gold: Sequence[list[str]], say: Callable[[str], None]) -> None:
    """Say which annotated types a model cannot predict: all their entities count as missed."""
    lacking = {tag[2:] for sentence in gold for tag in sentence if tag != "O"} - {tag[2:] for tag in tagger.tags}
    if lacking:
        has = sorted({tag[2:] for tag in tagger.tags if tag != "O"})
        say(f"warning: {path} cannot predict {', '.join(sorted(lacking))}: these entities count as missed; it predicts {', '.join(has)}")


def corpus_of(given: Arguments, say: Callable[[str], None]) -> tuple[Sequence[Sentence], str]:
    """The sentences to score and what to call them: --data, or the corpus in the run's config.toml."""
    from ner import dataset, hub

    part = given.split or ("all" if given.data else "validation")
    if given.data:
        data = hub.pinned(given.data) if hub.is_name(given.data) else given.data
        config = Config(data=data, **{name: getattr(given, name) for name in READING_KEYS})
        if part == "all" and not dataset.has_splits(data):
            return dataset.read(given.data, config, say), given.data
        trained = run_config(given.ckpt)
        if trained:
            config = dataclasses.replace(config, split_seed=trained.split_seed)
    else:
        trained = run_config(given.ckpt)
        if trained is None:
            raise InputError("not a run folder, so it names no corpus", path=given.ckpt, hint="give --data FILE")
        config = trained
    splits = dataset.load(config, say, SPLITS if part == "all" else (part,))
    named = f" of {config.data}" if hub.is_name(config.data) else ""
    if part == "all":
        # Each file may number its documents from 1, and the last of one split is not the first of the next.
        apart = ((s, f"{name} {s.document}" if s.document else "") for name in splits for s in splits[name])
        return [s._replace(document=document) for s, document in apart], f"all splits{named}"
    if part not in splits:
        hint = f"give --split {' or '.join(splits) or 'all'}, or --data FILE"
        raise InputError(f"the {'corpus' if given.data else 'run'} has no {part} split", path=given.data or given.ckpt, hint=hint)
    return splits[part], f"{part} split{named}"


def run_config(ckpt: str) -> Config | None:
    """The settings of the run that ``ckpt``, its folder or the model/ in it, belongs to; None where it is no run's.

    Raises:
        InputError: the run's config.toml has a key that this version of the project does not know, or is damaged.
    """
    folder = Path(os.path.abspath(ckpt))
    for candidate in (folder, *([folder.parent] if folder.name == "model" else [])):
        if (candidate / "config.toml").is_file():
            config = load_toml(candidate / "config.toml")
            return config if config.output else None
    return None


if __name__ == "__main__":
    sys.exit(run_main(main))
