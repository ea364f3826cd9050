"""Does check.py find wrong annotations? Damage a corpus on purpose and count how many of the damaged places stand first in its list.

    python benchmarks/annotation.py CORPUS.conll [--folds 3]

5 % of the entities are damaged, as many of each kind: an entity is deleted (missed), one is invented (spurious), its type is changed, or a
border moves by a word. Compared are three rankings of the same models: check.py's; cleanlab's self-confidence, the probability of a word's
given tag, the lowest first, over words; and chance over words.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import check
from ner import annotation, dataset
from ner.config import Config
from ner.sentences import Sentence, entity_spans

Place = tuple[int, int, int, str]  # sentence, first word, one past the last, kind
FIRST = 100


def damage(sentences: list[Sentence], share: float = 0.05, seed: int = 0) -> tuple[list[Sentence], list[Place]]:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--folds", type=int, default=3)
    given = parser.parse_args()
    sentences, places = damage(dataset.read(given.corpus, Config(), print))
    found, words = [], []
    for tagger, part in check.fold_models(check.Arguments(given.corpus, folds=given.folds), sentences, print):
        mine = [sentences[number] for number in part]
        found += annotation.check(tagger, mine, part, print)
        for first, last, scores in tagger.scores([sentence.words for sentence in mine]):
            tags = [tagger.tags.index(tag) for sentence in mine[first:last] for tag in sentence.tags]
            where = [(part[i], word) for i in range(first, last) for word in range(len(mine[i].words))]
            words += [(p, number, word) for p, (number, word) in zip(scores[np.arange(len(tags)), tags].tolist(), where, strict=True)]
    chance = random.Random(0).sample(words, len(words))
    rankings = {
        "check.py": [span_of(record) for record in annotation.records(found, sentences)],
        "lowest word probability": [(number, word, word + 1) for _, number, word in sorted(words)],
        "chance": [(number, word, word + 1) for _, number, word in chance],
    }
    print(json.dumps({"damaged": len(places), **{name: hits(ranked, places) for name, ranked in rankings.items()}}, indent=2))


if __name__ == "__main__":
    main()
