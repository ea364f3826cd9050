"""Score a trained model on annotated sentences: python evaluate.py --help"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Literal

from ner.config import Config, DataType, Format, load_toml
from ner.errors import InputError, run_main
from ner.flags import REQUIRED, key, parse


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Score a trained model by entity precision, recall and F1 (seqeval) over whole words and whole sentences."""

    ckpt: str = key(REQUIRED, "A run folder, its model/, or any Hugging Face token-classification folder of a BERT.", path=True)
    data: str | None = key(None, "An annotated file to score. Without it: the corpus that the run was trained on.", path=True)
    split: Literal["train", "validation", "test", "all"] | None = key(
        None, "Which part of the corpus to score. Without it: all of --data, or the run's validation part."
    )
    format: Format | None = key(None, "Format of --data. Without it: told from the file's suffix.")
    encoding: str | None = key(None, "Character encoding of --data. Without it: UTF-8, or cp1252 for a file that is not UTF-8.")
    json: str | None = key(None, "Write the scores to this JSON file.", path=True)
    html: str | None = key(None, "Write a self-contained page: scores, errors and every sentence, to filter and search.", path=True)
    predictions: str | None = key(
        None, "Write one line `word gold predicted` per word to this file, as the conlleval script reads it.", path=True
    )
    compare: str | None = key(
        None, "Another model: test whether the two differ on the same sentences (approximate randomisation).", path=True
    )
    compute_dtype: DataType = key("auto", "Number type of the matrix products. auto: what training used, if the device has it.")


def main(arguments: list[str]) -> int:
    given = parse(Arguments, arguments)
    if not given.data and (given.format or given.encoding):
        raise InputError("--format and --encoding say how to read --data, which is not given", hint="give --data FILE, or leave them out")
    from ner.inference import Tagger, model_folder
    from ner.strategy import import_tensorflow

    model_folder(given.ckpt)  # a wrong --ckpt is refused before TensorFlow is imported
    if given.compare:
        model_folder(given.compare)
    from ner import report

    for path in (given.json, given.html, given.predictions):
        report.check_target(path)
    import_tensorflow()
    from ner import scoring
    from ner.progress import console, say

    sentences, name = corpus_of(given, say)
    words, gold = [s.words for s in sentences], [s.tags for s in sentences]
    tagger = Tagger.load(given.ckpt, compute_dtype=given.compute_dtype)
    predicted, confidence = tagger.tag(words)
    if tagger.cut_words:
        say(f"warning: of {tagger.cut_words} long words only the first word pieces were read")
    scores = scoring.score(gold, predicted)
    counts = scoring.sentence_counts(gold, predicted)
    low, high = scoring.bootstrap_f1(counts)
    details = {"model": given.ckpt, "corpus": name}
    result: dict = {**scores.as_dict(), "f1_interval_95": [low, high], "errors": scoring.error_counts(gold, predicted), **details}
    if given.compare:
        other, _ = Tagger.load(given.compare, compute_dtype=given.compute_dtype).tag(words)
        p = scoring.paired_test(counts, scoring.sentence_counts(gold, other))
        result["compare"] = {"model": given.compare, "f1": scoring.score(gold, other).f1, "p": p}

    if given.json:
        report.write_json(given.json, result)
    if given.predictions:
        report.write_predictions(given.predictions, words, gold, predicted)
    if given.html:
        report.write_html(
            given.html,
            title="Entity report",
            words=words,
            gold=gold,
            predicted=predicted,
            scores=scores,
            confidence=confidence,
            details=details,
        )
    console.print(scoring.table(scores))
    say(f"{name}: F1 {scores.f1} (seqeval default mode; 95 % bootstrap interval {low:.4f} to {high:.4f}), strict {scores.f1_strict}")
    if given.compare:
        say(f"{given.compare}: F1 {result['compare']['f1']}; p = {result['compare']['p']:.4g} (two-sided, approximate randomisation)")
    return 0


def corpus_of(given: Arguments, say) -> tuple[list, str]:
    """The sentences to score and what to call them: --data, or the corpus in the run's config.toml."""
    from ner import dataset
    from ner.run_folder import is_run

    run = next((p for p in (Path(given.ckpt), Path(given.ckpt).parent) if is_run(p)), None)
    trained = load_toml(run / "config.toml") if run else Config()
    if given.data:
        config = Config(data=given.data, format=given.format, encoding=given.encoding, split_seed=trained.split_seed)
        part = given.split or "all"
        if part == "all":
            return dataset.read(given.data, config, say), given.data
    else:
        if run is None:
            raise InputError("not a run folder, so it names no corpus", path=given.ckpt, hint="give --data FILE")
        config, part = trained, given.split or "validation"
    splits = dataset.load(config, say)
    if part == "all":
        return [s for name in splits for s in splits[name]], "all splits"
    if part not in splits:
        raise InputError(f"the run has no {part} split", path=given.ckpt, hint=f"give --split {' or '.join(splits)}, or --data FILE")
    return splits[part], f"{part} split"


if __name__ == "__main__":
    sys.exit(run_main(main))
