"""Does check.py find wrong annotations? Damage a corpus on purpose and count how many of the damaged places stand first in its list.

    python benchmarks/annotation.py CORPUS.conll --output DIR [--folds 3] [--f1 VALIDATION.conll TEST.conll]

5 % of the entities are damaged, as many of each kind: an entity is deleted (missed), one is invented (spurious), its type is changed, or a
border moves by a word. Compared are three rankings of the same models: check.py's; cleanlab's self-confidence, the probability of a word's
given tag, the lowest first, over words; and chance over words. DIR gets the corpus clean, damaged, and corrected in two
ways. The model's reading is taken, unseen, at the first places of check.py's list, as many as were damaged; or at those places of the whole
list that touch a damaged one, as if a person told them apart. --f1 trains on each of the four by the rule of train.py and scores it on
clean test data. What DIR has is not made again. The figures go into results/annotation.json and RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import check
from benchmarks import results, worker
from ner import annotation, dataset, decisions, files, formats
from ner.config import Config
from ner.errors import InputError
from ner.sentences import Sentence, entity_spans

Place = tuple[int, int, int, str]  # sentence, first word, one past the last, kind
FIRST = 100
STATES = {"damaged": "damaged", "first": "first places corrected", "told": "damaged places corrected", "clean": "clean"}


def damage(sentences: Sequence[Sentence], share: float = 0.05, seed: int = 0) -> tuple[list[Sentence], list[Place]]:
    """The sentences in IOB2 with so many of their entities damaged, no two in touch; and where."""
    rng = random.Random(seed)
    tags = [list(sentence.tags) for sentence in sentences]
    entities = [(number, *span) for number, sentence in enumerate(sentences) for span in entity_spans(sentence.tags)]
    types = sorted({type_ for _, type_, _, _ in entities})
    kinds = ["missed", "spurious", "border", *(["type"] if len(types) > 1 else [])]
    used: set[tuple[int, int]] = set()  # sentence, word

    def write(number: int, type_: str | None, first: int, end: int) -> None:
        tags[number][first:end] = [f"{'I' if i else 'B'}-{type_}" if type_ else "O" for i in range(end - first)]

    def is_free(number: int, first: int, end: int) -> bool:
        inside = 0 <= first < end <= len(tags[number])
        return inside and {"O"}.issuperset(tags[number][first:end]) and not any((number, i) in used for i in range(first - 1, end + 1))

    wanted, places = round(share * len(entities)), []
    rng.shuffle(entities)
    while len(places) < wanted:
        kind = kinds[len(places) % len(kinds)]
        number, type_, first, end = entities.pop()
        low, high = first, end
        if any((number, i) in used for i in range(first - 1, end + 1)):
            continue
        if kind == "missed":
            write(number, None, first, end)
        elif kind == "type":
            write(number, rng.choice([other for other in types if other != type_]), first, end)
        elif kind == "border":
            longer = [(a, b) for a, b, word in ((first - 1, end, first - 1), (first, end + 1, end)) if is_free(number, word, word + 1)]
            moved = longer + ([(first + 1, end), (first, end - 1)] if end - first > 1 else [])
            if not moved:
                continue
            a, b = rng.choice(moved)
            low, high = min(a, first), max(b, end)
            write(number, None, first, end)
            write(number, type_, a, b)
        else:  # as long as this entity and of its type, at words that are of none
            while True:
                number = rng.randrange(len(tags))
                low = rng.randrange(len(tags[number]))
                high = low + end - first
                if is_free(number, low, high):
                    break
            write(number, type_, low, high)
        used |= {(number, i) for i in range(low, high)}
        places.append((number, low, high, kind))
    return [sentence._replace(tags=new) for sentence, new in zip(sentences, tags, strict=True)], places


def hits(ranked: list[tuple[int, int, int]], places: list[Place]) -> dict:
    """Of a ranking of (sentence, first word, one past the last): precision among the first 100, and recall at as many as were damaged."""
    at = {(number, word): index for index, (number, low, high, _) in enumerate(places) for word in range(low, high)}
    found = [{at[number, word] for word in range(low, high) if (number, word) in at} for number, low, high in ranked[: len(places)]]
    whole = set().union(*found)
    kinds = {kind: [i for i, place in enumerate(places) if place[3] == kind] for kind in dict.fromkeys(place[3] for place in places)}
    return {
        f"precision at {FIRST}": sum(map(bool, found[:FIRST])) / FIRST,
        f"damaged places at {FIRST}": len(set().union(*found[:FIRST])),
        "recall": len(whole) / len(places),
        **{f"recall of {kind}": len(whole.intersection(some)) / len(some) for kind, some in kinds.items()},
    }


def span_of(record: dict) -> tuple[int, int, int]:
    """The words of the annotated and of the predicted entity."""
    both = [entity for entity in (record["gold"], record["predicted"]) if entity]
    return record["sentence"], min(entity["start_word"] for entity in both), max(entity["end_word"] for entity in both)


def touches(span: tuple[int, int, int], words: set[tuple[int, int]]) -> bool:
    number, first, end = span
    return any((number, word) in words for word in range(first, end))


def corrected(sentences: list[Sentence], records: list[dict]) -> list[Sentence]:
    """The sentences with the model's reading at each of these places, but for those that contradict one before them."""
    taken: list[decisions.Decision] = []
    tags: dict[int, list[str]] = {}
    for line, record in enumerate(records, 1):
        try:
            tags, _ = decisions.applied(sentences, [*taken, (line, record | {"decision": "model"})], Path("list"))
        except InputError as error:
            print(f"not taken: {error}")
        else:
            taken.append((line, record | {"decision": "model"}))
    return [sentence._replace(tags=tags.get(number, sentence.tags)) for number, sentence in enumerate(sentences)]


def rank(corpus: str, folds: int, folder: Path) -> dict:
    """The figures of the three rankings; the corpus as it was, damaged and corrected goes into the folder."""
    clean = dataset.read(corpus, Config(), print)
    sentences, places = damage(clean)
    found, words = [], []
    began = time.monotonic()
    for tagger, part in check.fold_models(check.Arguments(corpus, folds=folds), sentences, print):
        mine = [sentences[number] for number in part]
        found += annotation.check(tagger, mine, part, print)
        for first, last, scores in tagger.scores([sentence.words for sentence in mine]):
            tags = [tagger.tags.index(tag) for sentence in mine[first:last] for tag in sentence.tags]
            where = [(part[i], word) for i in range(first, last) for word in range(len(mine[i].words))]
            words += [(p, number, word) for p, (number, word) in zip(scores[np.arange(len(tags)), tags].tolist(), where, strict=True)]
    minutes = (time.monotonic() - began) / 60
    records = annotation.records(found, sentences)
    chance = random.Random(0).sample(words, len(words))
    rankings = {
        "check.py": [span_of(record) for record in records],
        "lowest word probability": [(number, word, word + 1) for _, number, word in sorted(words)],
        "chance": [(number, word, word + 1) for _, number, word in chance],
    }
    wrong = {(number, word) for number, low, high, _ in places for word in range(low, high)}
    told = [record for record in records if touches(span_of(record), wrong)]
    states = (sentences, corrected(sentences, records[: len(places)]), corrected(sentences, told), clean)
    for state, corpus_then in zip(STATES, states, strict=True):
        formats.write(folder / f"{state}.jsonl", corpus_then)
    about = {"sentences": len(clean), "damaged": len(places), "in doubt": len(records), "folds": folds, "minutes": minutes}
    return about | {"rankings": {name: hits(ranked, places) for name, ranked in rankings.items()}}


def trained_f1(folder: Path, state: str, validation: str, test: str) -> float:
    """F1 on the test file of a model that train.py makes without a setting from this state of the corpus."""
    import evaluate
    import train

    run, scores = folder / f"{state}-run", folder / f"{state}.json"
    if not scores.exists():
        train.main(["--train", f"{folder / state}.jsonl", "--validation", validation, "--output", str(run), "--overwrite"])
        evaluate.main(["--ckpt", str(run), "--data", test, "--json", str(scores)])
    return json.loads(scores.read_text())["f1"]


def tables(corpora: dict[str, dict]) -> list[results.Table]:
    """The rankings of all corpora, and F1 before and after the correction."""
    names = dict.fromkeys(name for record in corpora.values() for name in record["rankings"]["check.py"])

    def cell(name: str, value: float | None) -> str:
        return "-" if value is None else f"{value:.0f}" if name.startswith("damaged") else f"{value:.3f}"

    rows, notes, trained = [], [], []
    for corpus, record in corpora.items():
        for ranking, figures in record["rankings"].items():
            rows.append([f"{corpus}: {ranking}", *(cell(name, figures.get(name)) for name in names)])
        notes.append(
            f"{corpus}: {record['sentences']:,} sentences, {record['damaged']:,} places damaged, {record['in doubt']:,} in doubt; "
            f"{record['folds']} folds in about {record['minutes']:.0f} minutes; commit {record['commit']}."
        )
        if "f1" in record:
            trained.append([corpus, *(f"{record['f1'][state]:.4f}" for state in STATES)])
    caption = f"Of the first {FIRST} places of a list, and of as many as were damaged, how many were damaged."
    found = [results.Table(caption, ["ranking", *names], rows, notes)]
    if trained:
        caption = "F1 on clean test data of a model trained on each state of the corpus, one seed."
        found.append(results.Table(caption, ["corpus", *STATES.values()], trained))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--f1", nargs=2, metavar=("VALIDATION", "TEST"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    figures = given.output / "figures.json"
    if figures.exists():
        record = json.loads(figures.read_text())
    else:
        record = rank(given.corpus, given.folds, given.output) | {"commit": results.commit(Path(__file__).parent)}
        files.write(figures, json.dumps(record, indent=1))
    if given.f1:
        record["f1"] = {state: trained_f1(given.output, state, *given.f1) for state in STATES}
        files.write(figures, json.dumps(record, indent=1))
    path = given.results / "annotation.json"
    corpora = json.loads(path.read_text())["raw"] if path.exists() else {}
    corpora[Path(given.corpus).name.split(".")[0]] = record
    command = "python benchmarks/annotation.py CORPUS.train.conll --output DIR --f1 CORPUS.validation.conll CORPUS.test.conll"
    results.write(given.results, "annotation", command, tables(corpora), worker.versions(), corpora, {})
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
